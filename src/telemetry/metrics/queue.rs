//! What the queue and limits count.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::domain::job::words;

words! {
    /// A question to limits.
    LimitsOp {
        /// Which memory is this.
        Identity = "identity",
        /// Was this key used.
        Remember = "remember",
        /// This key was accepted.
        Accepted = "accepted",
        /// May these jobs be handed over.
        Claim = "claim",
        /// These were not.
        GiveBack = "give_back",
        /// Opt-outs: add, remove, read.
        Suppress = "suppress",
        /// Rule.
        Rule = "rule",
        /// Peek.
        Peek = "peek",
        /// One-time consents: given, taken, returned.
        Consent = "consent",
        /// Tokens of shared buckets.
        Lease = "lease",
        /// Reload what was lost.
        Recover = "recover",
    }
}

/// What the queue counts.
#[derive(Debug)]
pub struct QueueMetrics {
    publish_seconds: Histogram,
    frames_accepted: Counter,
}

/// How the queue server is, as this process sees it.
#[derive(Debug)]
pub struct QueueHealth {
    up: Gauge,
    dead_letters: Gauge,
}

/// What limits count.
#[derive(Debug)]
pub struct LimitsMetrics {
    seconds: Vec<Histogram>,
    failures: Vec<Counter>,
}

impl QueueMetrics {
    /// Makes the handles.
    pub fn new() -> Self {
        Self { publish_seconds: histogram!(super::PUBLISH_SECONDS), frames_accepted: counter!(super::FRAMES_ACCEPTED) }
    }

    /// Measures a publish that was confirmed; `accepts` when it made jobs accepted.
    pub fn published(&self, accepts: bool, elapsed: Duration) {
        self.publish_seconds.record(elapsed);
        if accepts {
            self.frames_accepted.increment(1);
        }
    }

    /// Counts a publish that was not confirmed, with a word for why.
    pub fn failed(&self, reason: &'static str) {
        counter!(super::PUBLISH_FAILURES, "reason" => reason).increment(1);
    }
}

impl QueueHealth {
    /// Makes the handles.
    pub fn new() -> Self {
        Self { up: gauge!(super::QUEUE_UP), dead_letters: gauge!(super::DEAD_LETTERS) }
    }

    /// Shows whether the queue server answers.
    pub fn up(&self, up: bool) {
        self.up.set(f64::from(u8::from(up)));
    }

    /// Shows how many frames are in the dead-letter queue.
    pub fn dead_letters(&self, frames: u64) {
        self.dead_letters.set(frames as f64);
    }
}

impl Default for QueueHealth {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for QueueMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl LimitsMetrics {
    /// Makes the handles.
    pub fn new() -> Self {
        Self {
            seconds: LimitsOp::ALL.iter().map(|op| histogram!(super::LIMITS_SECONDS, "op" => op.as_str())).collect(),
            failures: LimitsOp::ALL.iter().map(|op| counter!(super::LIMITS_FAILURES, "op" => op.as_str())).collect(),
        }
    }

    /// Measures a call that was answered.
    pub fn answered(&self, op: LimitsOp, elapsed: Duration) {
        self.seconds[op as usize].record(elapsed);
    }

    /// Counts a call that failed.
    pub fn failed(&self, op: LimitsOp) {
        self.failures[op as usize].increment(1);
    }
}

/// Sets whether limits reload what they lost.
pub fn limits_recovering(recovering: bool) {
    gauge!(super::LIMITS_RECOVERING).set(f64::from(u8::from(recovering)));
}

impl Default for LimitsMetrics {
    fn default() -> Self {
        Self::new()
    }
}
