//! What changed between two looks at the processes: pure sums over their series.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sample::{Labels, Sample, label};
use super::scrape::Sweep;

/// The values of some labels, in the order in which they were asked for.
pub(super) type Key = Vec<String>;

/// Two looks, and the time between them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Change<'a> {
    /// `None`: since each process started.
    before: Option<&'a Sweep>,
    now: &'a Sweep,
    secs: f64,
}

/// A counter over all processes.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub(super) struct Counted {
    /// Since the processes started.
    pub(super) total: f64,
    /// Between the two looks.
    pub(super) grown: f64,
}

/// A histogram over all processes, of what fell between the two looks.
#[derive(Clone, PartialEq, Default, Debug)]
pub(super) struct Spread {
    /// By upper bound, as its bits: how many fell at or below it. Bounds are positive, so their bits are in their order.
    buckets: BTreeMap<u64, f64>,
}

impl<'a> Change<'a> {
    pub(super) fn new(before: Option<&'a Sweep>, now: &'a Sweep, elapsed: Duration) -> Self {
        Self { before, now, secs: elapsed.as_secs_f64() }
    }

    /// Returns how often per second, where there were two looks.
    pub(super) fn per_s(&self, counted: Counted) -> Option<f64> {
        (self.before.is_some() && self.secs > 0.0).then(|| counted.grown / self.secs)
    }

    /// Sums a counter by some of its labels.
    pub(super) fn counted(&self, name: &str, by: &[&str]) -> BTreeMap<Key, Counted> {
        let mut sums: BTreeMap<Key, Counted> = BTreeMap::new();
        for (before, now) in self.pairs() {
            for (labels, total) in now.of(name) {
                let sum = sums.entry(key(labels, by)).or_default();
                sum.total += total;
                sum.grown += grown(before, name, labels, *total);
            }
        }
        sums
    }

    /// Sums a counter.
    pub(super) fn sum(&self, name: &str) -> Counted {
        self.counted(name, &[]).remove(&Key::new()).unwrap_or_default()
    }

    /// Sums the buckets of a histogram by some of its labels.
    pub(super) fn spread(&self, name: &str, by: &[&str]) -> BTreeMap<Key, Spread> {
        let mut sums: BTreeMap<Key, Spread> = BTreeMap::new();
        let name = format!("{name}_bucket");
        for (before, now) in self.pairs() {
            for (labels, total) in now.of(&name) {
                let Ok(bound) = label(labels, "le").parse::<f64>() else { continue };
                let buckets = &mut sums.entry(key(labels, by)).or_default().buckets;
                *buckets.entry(bound.to_bits()).or_default() += grown(before, &name, labels, *total);
            }
        }
        sums
    }

    /// Folds a gauge over all processes by some of its labels.
    pub(super) fn gauge(&self, name: &str, by: &[&str], fold: fn(f64, f64) -> f64) -> BTreeMap<Key, f64> {
        let mut found: BTreeMap<Key, f64> = BTreeMap::new();
        for (_, now) in self.pairs() {
            for (labels, value) in now.of(name) {
                let entry = found.entry(key(labels, by));
                entry.and_modify(|known| *known = fold(*known, *value)).or_insert(*value);
            }
        }
        found
    }

    /// Folds a gauge without labels.
    pub(super) fn one(&self, name: &str, fold: fn(f64, f64) -> f64) -> Option<f64> {
        self.gauge(name, &[], fold).remove(&Key::new())
    }

    /// The processes that answer now, each with what it said before.
    fn pairs(&self) -> impl Iterator<Item = (Option<&'a Sample>, &'a Sample)> {
        let before = self.before;
        self.now.processes.iter().filter_map(move |process| {
            let known = before.and_then(|sweep| sweep.processes.iter().find(|known| known.at == process.at));
            Some((known.and_then(|known| known.said.as_ref().ok()), process.said.as_ref().ok()?))
        })
    }
}

/// Returns how far a counter grew. One that is smaller than before began anew with its process.
fn grown(before: Option<&Sample>, name: &str, labels: &Labels, total: f64) -> f64 {
    let known = before.and_then(|sample| sample.of(name).iter().find(|(known, _)| known == labels));
    match known {
        Some((_, known)) if *known <= total => total - known,
        Some(_) | None => total,
    }
}

fn key(labels: &Labels, by: &[&str]) -> Key {
    by.iter().map(|name| label(labels, name).to_owned()).collect()
}

impl Spread {
    /// Returns how many there are.
    pub(super) fn count(&self) -> f64 {
        self.buckets.values().next_back().copied().unwrap_or_default()
    }

    /// Returns the value below which this part of them lies, taken to lie evenly within their bucket, as Prometheus does;
    /// what lies beyond the last bound is at that bound. `None`: there are none.
    pub(super) fn quantile(&self, part: f64) -> Option<f64> {
        let rank = part * self.count();
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, count) in &self.buckets {
            let bound = f64::from_bits(*bound);
            if *count >= rank && *count > below {
                let within = (rank - below) / (count - below);
                return Some(if bound.is_finite() { low + (bound - low) * within } else { low });
            }
            (low, below) = (bound, *count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::scrape::Process;
    use super::*;

    fn sweep(texts: &[&str]) -> Sweep {
        let process = |(index, text): (usize, &&str)| Process {
            at: index.to_string().into(),
            said: if text.is_empty() { Err("away".into()) } else { Ok(Sample::parse(text)) },
        };
        Sweep { processes: texts.iter().enumerate().map(process).collect() }
    }

    #[test]
    fn counters_are_summed_over_processes_and_survive_their_restarts() {
        let before = sweep(&["a{x=\"1\",y=\"1\"} 10\na{x=\"2\",y=\"1\"} 5", "a{x=\"1\",y=\"1\"} 100", "a{x=\"1\"} 7"]);
        let now = sweep(&["a{x=\"1\",y=\"1\"} 14\na{x=\"2\",y=\"1\"} 5", "a{x=\"1\",y=\"1\"} 3", ""]);
        let change = Change::new(Some(&before), &now, Duration::from_secs(2));
        let counted = change.counted("a", &["x"]);
        assert_eq!(counted[&vec!["1".to_owned()]], Counted { total: 17.0, grown: 7.0 });
        assert_eq!(change.per_s(change.sum("a")), Some(3.5));
        assert_eq!(change.sum("b"), Counted::default());
        assert_eq!(Change::new(None, &now, Duration::ZERO).per_s(change.sum("a")), None);
    }

    #[test]
    fn quantiles_lie_within_their_bucket() {
        let before = sweep(&["h_bucket{le=\"1\"} 10\nh_bucket{le=\"2\"} 10\nh_bucket{le=\"+Inf\"} 10"]);
        let now = sweep(&["h_bucket{le=\"1\"} 15\nh_bucket{le=\"2\"} 20\nh_bucket{le=\"+Inf\"} 20"]);
        let change = Change::new(Some(&before), &now, Duration::from_secs(1));
        let spread = &change.spread("h", &[])[&Key::new()];
        assert_eq!((spread.count(), spread.quantile(0.25), spread.quantile(0.75)), (10.0, Some(0.5), Some(1.5)));
        let beyond = sweep(&["h_bucket{le=\"1\"} 0\nh_bucket{le=\"+Inf\"} 4"]);
        let beyond = Change::new(None, &beyond, Duration::ZERO);
        assert_eq!(beyond.spread("h", &[])[&Key::new()].quantile(0.99), Some(1.0), "no more is known");
        assert_eq!(Spread::default().quantile(0.5), None);
    }

    #[test]
    fn gauges_are_folded() {
        let now = sweep(&["g{x=\"1\"} 1\nu 3", "g{x=\"1\"} 0\nu 4"]);
        let change = Change::new(None, &now, Duration::ZERO);
        assert_eq!(change.gauge("g", &["x"], f64::min)[&vec!["1".to_owned()]], 0.0);
        assert_eq!((change.one("u", f64::max), change.one("v", f64::max)), (Some(4.0), None));
    }
}
