//! What dispatch counts.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::bounded::Bounded;
use crate::domain::cap::Mode;
use crate::domain::job::{Class, words};

words! {
    /// What a cap said.
    CapDecision {
        /// There was room.
        Taken = "taken",
        /// The job waits for room.
        Deferred = "deferred",
        /// The job ends here.
        Dropped = "dropped",
    }
}

words! {
    /// Who was asked for opt-outs while limits were away.
    OptOutsAsked {
        /// The ledger.
        Ledger = "ledger",
        /// Nobody could be.
        Unknown = "unknown",
    }
}

/// What dispatch counts, apart from what each provider does.
#[derive(Debug)]
pub struct DispatchMetrics {
    deferred: Bounded<Counter>,
    suppressed: Bounded<Counter>,
    caps: Bounded<Vec<Vec<Counter>>>,
    time_in_queue: Vec<Histogram>,
    send_lag: Vec<Histogram>,
}

impl DispatchMetrics {
    /// Makes the handles.
    pub fn new() -> Self {
        let by_class =
            |name: &'static str| Class::ALL.iter().map(|class| histogram!(name, "class" => class.as_str())).collect();
        Self {
            deferred: Bounded::new(|reason| counter!(super::JOBS_DEFERRED, "reason" => String::from(reason))),
            suppressed: Bounded::new(|reason| counter!(super::JOBS_SUPPRESSED, "reason" => String::from(reason))),
            caps: Bounded::new(caps),
            time_in_queue: by_class(super::TIME_IN_QUEUE_SECONDS),
            send_lag: by_class(super::SEND_LAG_SECONDS),
        }
    }

    /// Counts a job that waits because of `reason`: a cap's name, `rate`, `retry`.
    pub fn deferred(&self, reason: &str) {
        self.deferred.get(reason).increment(1);
    }

    /// Counts a job that was stopped because of `reason`: a cap's name, `opt_out`.
    pub fn suppressed(&self, reason: &str) {
        self.suppressed.get(reason).increment(1);
    }

    /// Counts what a cap said about `jobs` jobs; a shadow, what it would have said.
    pub fn cap(&self, rule: &str, decision: CapDecision, mode: Mode, jobs: usize) {
        self.caps.get(rule)[mode as usize][decision as usize].increment(jobs as u64);
    }

    /// Counts a job that is handed over while limits are away or recovering.
    pub fn without_limits(&self, class: Class, asked: OptOutsAsked) {
        counter!(super::WITHOUT_LIMITS, "class" => class.as_str(), "opt_outs" => asked.as_str()).increment(1);
    }

    /// Measures how long a job waited before its hand-over.
    pub fn waited(&self, class: Class, waited: Duration) {
        self.time_in_queue[class as usize].record(waited);
    }

    /// Measures how late after its due time a job was sent.
    pub fn sent(&self, class: Class, lag: Duration) {
        self.send_lag[class as usize].record(lag);
    }
}

impl Default for DispatchMetrics {
    fn default() -> Self {
        Self::new()
    }
}

fn caps(rule: Box<str>) -> Vec<Vec<Counter>> {
    let rule = String::from(rule);
    let with = |mode: &Mode, decision: &CapDecision| counter!(super::CAPS_DECISIONS, "rule" => rule.clone(), "decision" => decision.as_str(), "mode" => mode.as_str());
    Mode::ALL.iter().map(|mode| CapDecision::ALL.iter().map(|decision| with(mode, decision)).collect()).collect()
}
