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
            unresolved: gauge!(super::UNRESOLVED_JOBS),
            lag: gauge!(super::LEDGER_LAG_SECONDS),
        }
    }

    /// Counts a job that reached its outcome.
    pub fn finished(&self, tenant: &TenantId, (kind, class): (Kind, Class), fate: Fate) {
        self.finished[kind as usize][class as usize][fate as usize].increment(1);
        self.finished_by_tenant.get(tenant.as_str()).increment(1);
    }

    /// Counts a receipt that waits for a hand-over it belongs to.
    pub fn receipt_unmatched(&self) {
        self.receipts_unmatched.increment(1);
    }

    /// Counts an opt-out.
    pub fn optout(&self, kind: Kind, source: Source) {
        counter!(super::OPTOUTS, "kind" => kind.as_str(), "source" => source.as_str()).increment(1);
    }

    /// Counts a hand-over without an answer.
    pub fn unresolved(&self) {
        self.unresolved.increment(1.0);
    }

    /// Counts one that found its answer.
    pub fn resolved(&self) {
        self.unresolved.decrement(1.0);
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
