//! How long messages took: from the time in their text, at which they were handed in or due, until they came.

use std::collections::BTreeMap;
use std::ops::Range;

use hdrhistogram::Histogram;
use postrider::domain::time::UnixMicros;
use serde::{Deserialize, Serialize};

/// Longest time that is told apart: an hour.
const LAG_MICROS_MAX: u64 = 3_600_000_000;
/// Two digits: a histogram of a second takes some kilobytes.
const DIGITS: u8 = 2;

/// What came of one load that was due in the same second, or in stretches of seconds.
#[derive(Clone, Copy, Default, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Lag {
    /// The load's number in the scenario.
    pub(crate) load: usize,
    /// The second, since 1970; of stretches the first.
    pub(crate) second: i64,
    /// Messages.
    pub(crate) count: u64,
    /// Percentiles of their times, in milliseconds.
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

/// Times by load and second. Some 10 KiB for each.
#[derive(Default)]
pub(crate) struct Lags {
    seconds: BTreeMap<(usize, i64), Histogram<u32>>,
    last: BTreeMap<usize, UnixMicros>,
}

impl Lags {
    /// Notes that a message of a load which was due at `due` came at `now`.
    pub(crate) fn note(&mut self, load: usize, due: UnixMicros, now: UnixMicros) {
        let histogram = || Histogram::new_with_bounds(1, LAG_MICROS_MAX, DIGITS).expect("bounds that make sense");
        let of_second = self.seconds.entry((load, due.as_secs())).or_insert_with(histogram);
        of_second.saturating_record(u64::try_from(now.since(due).as_micros()).unwrap_or(u64::MAX).max(1));
        self.last.insert(load, now);
    }

    /// Returns the lags of every load in each second.
    pub(crate) fn by_second(&self) -> Vec<Lag> {
        self.seconds.iter().map(|(&(load, second), histogram)| lag(load, second, histogram)).collect()
    }

    /// Returns the lags of every load over what was due in any of these stretches, in seconds.
    pub(crate) fn within(&self, stretches: &[Range<i64>]) -> Vec<Lag> {
        let within = |second: &i64| stretches.iter().any(|stretch| stretch.contains(second));
        let from = stretches.iter().map(|stretch| stretch.start).min().unwrap_or_default();
        let mut sums: BTreeMap<usize, Histogram<u32>> = BTreeMap::new();
        for ((load, _), histogram) in self.seconds.iter().filter(|((_, second), _)| within(second)) {
            match sums.get_mut(load) {
                Some(sum) => sum.add(histogram).expect("the same bounds"),
                None => {
                    sums.insert(*load, histogram.clone());
                }
            }
        }
        sums.iter().map(|(load, histogram)| lag(*load, from, histogram)).collect()
    }

    /// Returns when the last message of a load came, in microseconds since 1970.
    pub(crate) fn last(&self, load: usize) -> Option<i64> {
        self.last.get(&load).map(|last| last.0)
    }
}

fn lag(load: usize, second: i64, histogram: &Histogram<u32>) -> Lag {
    let quantile = |at: f64| histogram.value_at_quantile(at) as f64 / 1e3;
    let (p50_ms, p99_ms) = (quantile(0.5), quantile(0.99));
    Lag { load, second, count: histogram.len(), p50_ms, p99_ms, max_ms: histogram.max() as f64 / 1e3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_apart_by_load_and_by_when_they_were_due() {
        let mut lags = Lags::default();
        for (load, due, lag) in [(0, 1_000, 10), (0, 1_500, 30), (0, 2_000, 500), (1, 1_000, 7)] {
            lags.note(load, UnixMicros::from_millis(due), UnixMicros::from_millis(due + lag));
        }
        let seconds: Vec<_> = lags.by_second().iter().map(|lag| (lag.load, lag.second, lag.count)).collect();
        assert_eq!(seconds, [(0, 1, 2), (0, 2, 1), (1, 1, 1)]);
        let first = &lags.within(std::slice::from_ref(&(1..2)))[0];
        assert!(first.count == 2 && (29.0..31.0).contains(&first.p99_ms) && first.p50_ms < 11.0, "{first:?}");
        assert!(lags.within(std::slice::from_ref(&(0..9)))[0].max_ms >= 500.0);
        let apart: Vec<_> = lags.within(&[2..3, 5..9, 0..1]).iter().map(|lag| (lag.load, lag.count)).collect();
        assert_eq!((apart, lags.within(&[]).len()), (vec![(0, 1)], 0));
        assert_eq!((lags.last(1), lags.last(2)), (Some(1_007_000), None));
    }
}
