//! What a load counts.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use postrider::domain::time::UnixMicros;
use serde::Serialize;
use tonic::{Code, Status};

use super::Schedule;

/// Longest latency that is told apart: a minute.
const LATENCY_MICROS_MAX: u64 = 60_000_000;

/// The counts of one load; shared by its calls.
pub(crate) struct LoadCounts {
    schedule: Schedule,
    inner: Mutex<Inner>,
}

struct Inner {
    counts: Counts,
    latency: Histogram<u64>,
}

/// Jobs by what was answered, and how fast.
#[derive(Clone, Default, Debug, Serialize)]
pub(crate) struct Counts {
    /// Jobs that were handed in.
    pub(crate) attempted: u64,
    /// Jobs that were answered with OK: durable.
    pub(crate) accepted: u64,
    /// Of these, those answered in the measured time.
    pub(crate) accepted_measured: u64,
    /// Jobs that were refused, by code.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Jobs without a clear answer: they may have been accepted.
    pub(crate) unknown: u64,
    /// Calls of the measured time.
    pub(crate) calls_measured: u64,
    /// From the intended start of a measured call to its answer.
    pub(crate) accept_ms: Latency,
}

/// Percentiles in milliseconds.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub(crate) struct Latency {
    pub(crate) mean: f64,
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl LoadCounts {
    pub(crate) fn new(schedule: Schedule) -> Self {
        let latency = Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3).expect("bounds that make sense");
        Self { schedule, inner: Mutex::new(Inner { counts: Counts::default(), latency }) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn attempted(&self, jobs: u64) {
        self.inner().counts.attempted += jobs;
    }

    /// Counts jobs that are durable.
    pub(crate) fn accepted(&self, jobs: u64, now: UnixMicros) {
        let inner = &mut *self.inner();
        inner.counts.accepted += jobs;
        if self.schedule.measures(now) {
            inner.counts.accepted_measured += jobs;
        }
    }

    /// Counts jobs that were refused.
    pub(crate) fn refused(&self, jobs: u64, code: Code) {
        *self.inner().counts.refused.entry(format!("{code:?}")).or_default() += jobs;
    }

    /// Counts jobs of which nobody knows whether they were accepted.
    pub(crate) fn unknown(&self, jobs: u64) {
        self.inner().counts.unknown += jobs;
    }

    /// Counts jobs whose call failed as a whole.
    pub(crate) fn failed(&self, jobs: u64, status: &Status) {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
                self.unknown(jobs);
            }
            code => self.refused(jobs, code),
        }
    }

    /// Notes how long after it was due a call was answered.
    pub(crate) fn answered(&self, due: UnixMicros, now: UnixMicros) {
        if self.schedule.measures(due) {
            let inner = &mut *self.inner();
            inner.counts.calls_measured += 1;
            let micros = u64::try_from(now.since(due).as_micros()).unwrap_or(u64::MAX);
            inner.latency.saturating_record(micros.max(1));
        }
    }

    /// Returns how it stands.
    pub(crate) fn read(&self) -> Counts {
        let inner = self.inner();
        let quantile = |at: f64| inner.latency.value_at_quantile(at) as f64 / 1e3;
        let accept_ms = Latency {
            mean: inner.latency.mean() / 1e3,
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: inner.latency.max() as f64 / 1e3,
        };
        Counts { accept_ms, ..inner.counts.clone() }
    }
}

impl Counts {
    /// Returns how many jobs were refused.
    pub(crate) fn refused_sum(&self) -> u64 {
        self.refused.values().sum()
    }
}
