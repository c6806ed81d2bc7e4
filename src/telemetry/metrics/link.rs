//! What the links to providers count: connections that come and go, and what comes over them that fits nothing.

use metrics::{Counter, counter};

use crate::domain::ids::ProviderId;
use crate::domain::job::words;

words! {
    /// What happened on a link.
    LinkEvent {
        /// A bind came about.
        Bound = "bound",
        /// A bind ended.
        Ended = "ended",
        /// An attempt to bind failed.
        BindFailed = "bind_failed",
        /// A connection was dropped because what came was not its protocol.
        Garbage = "garbage",
        /// A delivery did not read, and was refused.
        Unreadable = "unreadable",
        /// A delivery was of no use: an acknowledgement, a receipt about nothing.
        Meaningless = "meaningless",
        /// An answer belonged to nothing that waits: late or doubled.
        StrayAnswer = "stray_answer",
        /// Some segments of a job were taken and others not.
        TornJob = "torn_job",
        /// A job had no answer.
        UnansweredJob = "unanswered_job",
    }
}

/// What the links to one provider count.
#[derive(Debug)]
pub struct LinkMetrics(Vec<Counter>);

impl LinkMetrics {
    /// Makes the handles of a provider.
    pub fn new(provider: &ProviderId) -> Self {
        let id = provider.to_string();
        let handle =
            |event: &LinkEvent| counter!(super::LINK_EVENTS, "provider" => id.clone(), "event" => event.as_str());
        Self(LinkEvent::ALL.iter().map(handle).collect())
    }

    /// Counts so many events.
    pub fn note(&self, event: LinkEvent, times: u64) {
        self.0[event as usize].increment(times);
    }
}
