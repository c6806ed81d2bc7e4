//! What calls come to.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::domain::call::CallResult;
use crate::domain::ids::ProviderId;

/// What is shown of a trunk's lines.
#[derive(Debug)]
pub struct TrunkMetrics {
    in_progress: Gauge,
}

/// Counts calls that have ended.
#[derive(Debug)]
pub struct CallMetrics {
    results: Vec<Counter>,
    talk_seconds: Histogram,
    follow_up_seconds: Histogram,
}

// === impl TrunkMetrics ===

impl TrunkMetrics {
    /// Makes the handle of a trunk.
    pub fn new(trunk: &ProviderId) -> Self {
        Self { in_progress: gauge!(super::CALLS_IN_PROGRESS, "trunk" => trunk.to_string()) }
    }

    /// Sets how many lines are in use.
    pub fn in_progress(&self, lines: u32) {
        self.in_progress.set(f64::from(lines));
    }
}

// === impl CallMetrics ===

impl Default for CallMetrics {
    fn default() -> Self {
        let results = |result: &CallResult| counter!(super::CALL_RESULTS, "result" => result.as_str());
        Self {
            results: CallResult::ALL.iter().map(results).collect(),
            talk_seconds: histogram!(super::CALL_TALK_SECONDS),
            follow_up_seconds: histogram!(super::CALL_FOLLOW_UP_SECONDS),
        }
    }
}

impl CallMetrics {
    /// Counts a call that ended; how long was talked is not known.
    pub fn reported(&self, result: CallResult) {
        self.results[result as usize].increment(1);
    }

    /// Notes that a job which follows from a call was accepted so long after the call asked for it.
    pub fn followed(&self, after: Duration) {
        self.follow_up_seconds.record(after);
    }

    /// Counts a call that ended after so long a talk.
    pub fn ended(&self, result: CallResult, talk: Duration) {
        self.results[result as usize].increment(1);
        if result.reached() {
            self.talk_seconds.record(talk);
        }
    }
}
