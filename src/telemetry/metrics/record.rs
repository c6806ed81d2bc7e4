//! What record counts.

use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};

use super::bounded::Bounded;
use crate::domain::event::Fate;
use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};
use crate::domain::suppression::Source;

/// What record counts.
#[derive(Debug)]
pub struct RecordMetrics {
    finished: Vec<Vec<Vec<Counter>>>,
    finished_by_tenant: Bounded<Counter>,
    receipts_unmatched: Counter,
    resent: Counter,
    strays: Counter,
    unresolved: Gauge,
    lag: Gauge,
}

impl RecordMetrics {
    /// Makes the handles.
    pub fn new() -> Self {
        let fates = |kind: Kind, class: Class| {
            let with = |fate: &Fate| {
                let (kind, class) = (kind.as_str(), class.as_str());
                counter!(super::JOBS_FINISHED, "kind" => kind, "class" => class, "outcome" => fate.as_str())
            };
            Fate::ALL.iter().map(with).collect()
        };
        let classes = |kind: &Kind| Class::ALL.iter().map(|&class| fates(*kind, class)).collect();
        Self {
            finished: Kind::ALL.iter().map(classes).collect(),
            finished_by_tenant: Bounded::new(
                |tenant| counter!(super::TENANT_JOBS_FINISHED, "tenant" => String::from(tenant)),
            ),
            receipts_unmatched: counter!(super::RECEIPTS_UNMATCHED),
            resent: counter!(super::JOBS_RESENT),
            strays: counter!(super::STRAYS),
            unresolved: gauge!(super::UNRESOLVED_JOBS),
            lag: gauge!(super::LEDGER_LAG_SECONDS),
        }
    }

    /// Counts `jobs` of a tenant that reached their outcome.
    pub fn finished(&self, tenant: &TenantId, (kind, class): (Kind, Class), fate: Fate, jobs: u64) {
        self.finished[kind as usize][class as usize][fate as usize].increment(jobs);
        self.finished_by_tenant.get(tenant.as_str()).increment(jobs);
    }

    /// Counts receipts that wait for the hand-overs they belong to.
    pub fn receipts_unmatched(&self, receipts: u64) {
        self.receipts_unmatched.increment(receipts);
    }

    /// Counts unanswered hand-overs that go out a second time.
    pub fn resent(&self, jobs: u64) {
        self.resent.increment(jobs);
    }

    /// Counts jobs that were released a second time because nothing was heard of them.
    pub fn strays(&self, jobs: u64) {
        self.strays.increment(jobs);
    }

    /// Counts jobs that became unresolved, less those that found their answer.
    pub fn unresolved(&self, more: i64) {
        #[expect(clippy::cast_precision_loss, reason = "a batch holds a few thousand jobs")]
        self.unresolved.increment(more as f64);
    }

    /// Sets the age of the last fact that was written.
    pub fn lag(&self, age: Duration) {
        self.lag.set(age.as_secs_f64());
    }
}

impl Default for RecordMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts a step of a fallback chain that started.
pub fn fallback_step(kind: Kind, class: Class) {
    counter!(super::FALLBACK_STEPS, "kind" => kind.as_str(), "class" => class.as_str()).increment(1);
}

/// Counts an opt-out.
pub fn opted_out(kind: Kind, source: Source) {
    counter!(super::OPTOUTS, "kind" => kind.as_str(), "source" => source.as_str()).increment(1);
}
