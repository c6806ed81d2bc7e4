//! What comes of asking providers about messages that they call nobody back about.

use metrics::{Counter, counter};

use crate::domain::ids::ProviderId;
use crate::domain::job::words;

words! {
    /// What came of asking about a message.
    PollResult {
        /// The provider said how it is.
        Looked = "looked",
        /// It is not ours: it was not asked about.
        Foreign = "foreign",
        /// The provider had no good answer about this one.
        Failed = "failed",
        /// It was not asked about: there was no time, or nothing could be asked.
        Left = "left",
    }
}

/// What one provider was asked.
#[derive(Debug)]
pub struct PollMetrics {
    results: Vec<Counter>,
}

impl PollMetrics {
    /// Makes the handles of a provider.
    pub fn new(provider: &ProviderId) -> Self {
        let handle = |result: &PollResult| counter!(super::POLLS, "provider" => provider.to_string(), "result" => result.as_str());
        Self { results: PollResult::ALL.iter().map(handle).collect() }
    }

    /// Counts messages that something came of.
    pub fn count(&self, result: PollResult, messages: usize) {
        self.results[result as usize].increment(messages.try_into().unwrap_or(u64::MAX));
    }
}
