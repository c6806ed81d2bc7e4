//! The result: JSON for machines, a table for people.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use comfy_table::Table;
use postrider::telemetry::metrics as names;
use serde::Serialize;

use super::Verdict;
use super::account::Account;
use super::calls::Calls;
use super::lags::{self, Lags};
use super::plot::{self, Chart, Series};
use super::watch::{Sight, Watch};
use crate::generator::{Counts, LoadCounts};
use crate::scenario::{Backends, Scenario};

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    scenario: String,
    backends: &'static str,
    machine: Machine,
    measured_s: f64,
    /// Jobs per second in the measured time.
    offered_per_s: f64,
    accepted_per_s: f64,
    handed_over_per_s: f64,
    /// Jobs in a frame, on average, in the measured time.
    jobs_per_frame: f64,
    /// From the end of the load until the ledger had every outcome; absent: not within the time allowed.
    drain_s: Option<f64>,
    loads: BTreeMap<String, Counts>,
    processes: BTreeMap<String, Process>,
    account: Account,
    lags: Lags,
    /// What phone calls came to; absent: there were none.
    calls: Option<Calls>,
    /// What does not balance.
    faults: Vec<String>,
    /// Targets that are missed.
    missed: Vec<String>,
    timeline: Vec<Sight>,
}

/// What a process used.
#[derive(Clone, Copy, Debug, Serialize)]
struct Process {
    /// Memory at its highest; shared memory counts once for each process.
    rss_peak_mib: f64,
    /// Processors in use on average, in the measured time.
    cores: f64,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
struct Machine {
    cpus: usize,
    model: String,
    memory_gib: f64,
}

impl Report {
    pub(crate) fn new(
        scenario: &Scenario,
        counts: &[Arc<LoadCounts>],
        watch: &Watch,
        drain: Option<Duration>,
        (account, lags, calls): (Account, Lags, Option<Calls>),
    ) -> Self {
        let seconds = scenario.duration.as_secs_f64();
        let counts: Vec<_> = counts.iter().map(|counts| counts.read()).collect();
        let grown = |name| watch.to.metrics.sum(name) - watch.from.metrics.sum(name);
        let accepted: u64 = counts.iter().map(|counts| counts.accepted_measured).sum();
        let mut report = Self {
            scenario: scenario.name.clone(),
            backends: match scenario.backends {
                Backends::Embedded => "embedded",
                Backends::Production => "production",
            },
            machine: Machine::read(),
            measured_s: seconds,
            offered_per_s: scenario.loads.iter().map(|load| f64::from(load.rate)).sum(),
            accepted_per_s: accepted as f64 / seconds,
            handed_over_per_s: (watch.to.handed_over - watch.from.handed_over) as f64 / seconds,
            jobs_per_frame: grown(names::JOBS_ACCEPTED) / grown(names::FRAMES_ACCEPTED).max(1.0),
            drain_s: drain.map(|drain| drain.as_secs_f64()),
            loads: scenario.loads.iter().map(|load| load.name.clone()).zip(counts).collect(),
            processes: processes(watch, seconds),
            faults: account.faults().into_iter().chain(calls.iter().flat_map(Calls::faults)).collect(),
            account,
            lags,
            calls,
            missed: vec![],
            timeline: watch.timeline.clone(),
        };
        report.missed = report.missed(scenario);
        report
    }

    fn missed(&self, scenario: &Scenario) -> Vec<String> {
        let targets = &scenario.targets;
        let rss = self.processes.get("postrider").map(|process| process.rss_peak_mib);
        let p99 = self.loads.values().map(|load| load.accept_ms.p99).fold(0.0, f64::max);
        let drain = self.drain_s.unwrap_or(f64::INFINITY);
        let least = [
            ("jobs/s accepted", self.accepted_per_s, targets.jobs_per_s_min),
            ("jobs/s handed over", self.handed_over_per_s, targets.jobs_per_s_min),
        ];
        let most = [
            ("s until the ledger was complete", drain, targets.drain_s_max),
            ("MiB of the service", rss.unwrap_or(f64::INFINITY), targets.rss_mib_max),
            ("ms accept p99", p99, targets.accept_p99_ms_max),
        ];
        let least = least.into_iter().filter_map(|(what, is, min)| {
            min.filter(|min| is < *min).map(|min| format!("{is:.1} {what}, at least {min} wanted"))
        });
        let most = most.into_iter().filter_map(|(what, is, max)| {
            max.filter(|max| is > *max).map(|max| format!("{is:.1} {what}, at most {max} wanted"))
        });
        let calls = self.calls.iter().flat_map(|calls| calls.missed(targets));
        least.chain(most).chain(self.lags.missed(scenario)).chain(calls).collect()
    }

    /// Returns how the run ended; `stopped` says whether the service ended well.
    pub(crate) fn verdict(&self, stopped: bool) -> Verdict {
        match (self.faults.is_empty() && stopped, self.missed.is_empty()) {
            (false, _) => Verdict::Broken,
            (true, false) => Verdict::Slow,
            (true, true) => Verdict::Good,
        }
    }

    /// Returns the result as JSON.
    pub(crate) fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_else(|error| error.to_string())
    }

    /// Prints the result.
    pub(crate) fn print(&self, stopped: bool) {
        let Machine { cpus, model, memory_gib } = &self.machine;
        println!("{} on {} backends; {cpus} x {model}, {memory_gib:.1} GiB", self.scenario, self.backends);
        println!("{}\n{}\n{}", self.rates(), self.latencies(), self.usage());
        println!("{}\n{}", self.late(), self.sides());
        self.calls.iter().flat_map(Calls::tables).for_each(|table| println!("{table}"));
        for fault in &self.faults {
            println!("BROKEN  {fault}");
        }
        if !stopped {
            println!("BROKEN  the service did not end well");
        }
        for missed in &self.missed {
            println!("MISSED  {missed}");
        }
        if self.verdict(stopped) == Verdict::Good {
            println!("GOOD    the account balances and every target is reached");
        }
    }

    fn rates(&self) -> Table {
        let mut table = table(["jobs/s offered", "accepted", "handed over", "jobs a frame", "ledger complete after"]);
        table.add_row([
            format!("{:.0}", self.offered_per_s),
            format!("{:.0}", self.accepted_per_s),
            format!("{:.0}", self.handed_over_per_s),
            format!("{:.1}", self.jobs_per_frame),
            self.drain_s.map_or_else(|| "not in time".to_owned(), |drain| format!("{drain:.1} s")),
        ]);
        table
    }

    fn latencies(&self) -> Table {
        let mut table = table(["load", "calls", "accept p50 ms", "p90", "p99", "p99.9", "max", "refused", "unknown"]);
        for (name, counts) in &self.loads {
            let ms = &counts.accept_ms;
            let refused = counts.refused.iter().map(|(code, jobs)| format!("{code} {jobs}")).collect::<Vec<_>>();
            let mut row = vec![name.clone(), counts.calls_measured.to_string()];
            row.extend([ms.p50, ms.p90, ms.p99, ms.p999, ms.max].map(|ms| format!("{ms:.1}")));
            row.extend([refused.join(", "), counts.unknown.to_string()]);
            table.add_row(row);
        }
        table
    }

    fn late(&self) -> Table {
        let mut table = table(["due to hand-over", "load", "jobs", "p50 ms", "p99", "max"]);
        let parts = self.lags.parts.iter().map(|(name, lags)| (name.clone(), lags));
        let disturbed = self.lags.calm.iter().filter(|(_, calm)| calm.seconds < calm.of);
        let calm =
            disturbed.map(|(name, calm)| (format!("{name}, {} calm s of {}", calm.seconds, calm.of), &calm.lags));
        for (part, lags) in std::iter::once(("whole run".to_owned(), &self.lags.whole)).chain(parts).chain(calm) {
            for (load, lag) in lags {
                let mut row = vec![part.clone(), load.clone(), lag.count.to_string()];
                row.extend([lag.p50_ms, lag.p99_ms, lag.max_ms].map(|ms| format!("{ms:.1}")));
                table.add_row(row);
            }
        }
        for cancel in &self.lags.cancels {
            let said = format!("cancelled in {:.3} s, effective {:.3} s after", cancel.call_s, cancel.effective_s);
            table.add_row([said, cancel.load.clone()]);
        }
        table
    }

    /// Returns the plots, over seconds since the measured time began at `begin`.
    pub(crate) fn svg(&self, scenario: &Scenario, begin: i64) -> String {
        let per_s = |of: fn(&Sight) -> u64| -> Vec<(f64, f64)> {
            let pairs = self.timeline.iter().zip(self.timeline.iter().skip(1));
            pairs
                .map(|(a, b)| (b.second, of(b).saturating_sub(of(a)) as f64 / (b.second - a.second).max(0.001)))
                .collect()
        };
        let series = |name: &str, points| Series { name: name.to_owned(), points };
        let waiting = self.timeline.iter().map(|sight| (sight.second, sight.waiting as f64)).collect();
        let memory = self.timeline.iter().map(|sight| (sight.second, sight.rss_mib)).collect();
        let stolen = self.timeline.iter().map(|sight| (sight.second, sight.stolen_cores)).collect();
        let rates = vec![
            series("accepted", per_s(|sight| sight.accepted)),
            series("handed over", per_s(|sight| sight.handed_over)),
        ];
        let chart = |title: &str, unit, series| Chart { title: title.to_owned(), unit, log: false, series };
        let mut charts = vec![
            chart("jobs per second", "", rates),
            self.lags.chart(scenario, begin, "due to hand-over, p50, by when jobs were due", |lag| lag.p50_ms),
            self.lags.chart(scenario, begin, "due to hand-over, p99", |lag| lag.p99_ms),
            chart("jobs that wait in the agenda", "", vec![series("waiting", waiting)]),
            chart("memory of the service", "MiB", vec![series("resident", memory)]),
            chart("processors that other machines on the host had", "", vec![series("stolen", stolen)]),
        ];
        charts.extend(self.calls.iter().map(Calls::chart));
        plot::svg(&format!("{} on {} backends", self.scenario, self.backends), &charts, &lags::spans(scenario))
    }

    fn usage(&self) -> Table {
        let mut table = table(["process", "cores", "memory MiB, peak"]);
        for (name, used) in &self.processes {
            table.add_row([name.clone(), format!("{:.2}", used.cores), format!("{:.0}", used.rss_peak_mib)]);
        }
        table
    }

    fn sides(&self) -> Table {
        let account = &self.account;
        let mut table = table(["account", "jobs"]);
        let mut row = |name: &str, jobs: u64| {
            table.add_row([name.to_owned(), jobs.to_string()]);
        };
        row("attempted", account.attempted);
        row("accepted", account.accepted);
        row("refused", account.refused);
        row("unknown", account.unknown);
        row("in the ledger", account.ledger.accepted);
        for (fate, jobs) in &account.ledger.outcomes {
            row(&format!("  {fate}"), *jobs);
        }
        row("  waiting", account.waiting);
        row("at the sink", account.sink.distinct);
        row("  doubles", account.sink.doubles);
        row("  early", account.sink.early);
        row("  over a cap", account.sink.over_cap);
        row("  refused as too fast", account.sink.stats.throttled);
        table
    }
}

fn processes(watch: &Watch, seconds: f64) -> BTreeMap<String, Process> {
    let process = |(name, last): (&String, &super::processes::Usage)| {
        let used = |mark: &super::watch::Mark| mark.usage.get(name).map_or(0.0, |usage| usage.cpu_s);
        let cores = (used(&watch.to) - used(&watch.from)) / seconds;
        (name.clone(), Process { rss_peak_mib: last.rss_peak_mib, cores })
    };
    watch.last.usage.iter().map(process).collect()
}

impl Machine {
    fn read() -> Self {
        let field = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':').map(|(_, value)| value));
            value.unwrap_or_default().trim().to_owned()
        };
        let kib = field("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse::<f64>().unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            model: field("/proc/cpuinfo", "model name"),
            memory_gib: kib / 1024.0 / 1024.0,
        }
    }
}

pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(comfy_table::presets::UTF8_BORDERS_ONLY).set_header(header);
    table
}
