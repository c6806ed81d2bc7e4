//! What processes use, and what other machines take, from `/proc`.

use std::collections::BTreeMap;
use std::fs;

use serde::Serialize;

/// Clock ticks per second in `/proc/*/stat`: 100 on every Linux that we know.
const TICKS_PER_S: f64 = 100.0;

/// What a process, or all processes of one name, used.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub(crate) struct Usage {
    /// Memory now, in MiB. Shared memory counts once for each process.
    pub(crate) rss_mib: f64,
    /// Memory at its highest, in MiB.
    pub(crate) rss_peak_mib: f64,
    /// Processor seconds.
    pub(crate) cpu_s: f64,
}

/// Which processes are watched.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// By id.
    pub(crate) ids: Vec<(&'static str, u32)>,
    /// Every process of the machine with this name, as `ps` shows it.
    pub(crate) names: &'static [&'static str],
}

impl Watched {
    /// Returns what each uses; what has ended is left out.
    pub(crate) fn read(&self) -> BTreeMap<String, Usage> {
        let mut usages = BTreeMap::new();
        for (name, id) in &self.ids {
            if let Some((_, usage)) = read(*id) {
                usages.insert((*name).to_owned(), usage);
            }
        }
        if self.names.is_empty() {
            return usages;
        }
        let ids = fs::read_dir("/proc").into_iter().flatten().flatten();
        for id in ids.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
            let Some((name, usage)) = read(id) else { continue };
            if self.names.contains(&name.as_str()) {
                let sum: &mut Usage = usages.entry(name).or_default();
                sum.rss_mib += usage.rss_mib;
                sum.rss_peak_mib += usage.rss_peak_mib;
                sum.cpu_s += usage.cpu_s;
            }
        }
        usages
    }
}

/// Returns for how long, in processor seconds since the machine started, it had work and its host ran others instead.
pub(crate) fn stolen_s() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    // The first line sums all processors: user, nice, system, idle, iowait, irq, softirq, steal.
    let stolen = stat.lines().next().and_then(|cpu| cpu.split_whitespace().nth(8)?.parse::<f64>().ok());
    stolen.unwrap_or_default() / TICKS_PER_S
}

fn read(id: u32) -> Option<(String, Usage)> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mib = |name| Some(field(name)?.split(' ').next()?.parse::<f64>().ok()? / 1024.0);
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in parentheses may hold anything; what follows it is numbers. User and system time are 14 and 15.
    let mut times = stat.rsplit_once(')')?.1.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().ok());
    let ticks = times.next()?? + times.next()??;
    let usage = Usage { rss_mib: mib("VmRSS:")?, rss_peak_mib: mib("VmHWM:")?, cpu_s: ticks / TICKS_PER_S };
    Some((field("Name:")?.to_owned(), usage))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_finds_itself() {
        let watched = Watched { ids: vec![("self", std::process::id())], names: &[] };
        let usage = watched.read()["self"];
        assert!(usage.rss_mib > 0.5 && usage.rss_peak_mib >= usage.rss_mib);
    }
}
