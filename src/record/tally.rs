//! What a batch came to, for the metrics. Outcomes are not among it: they are in the recording's counts.

use std::time::Duration;

use crate::domain::ids::ProviderId;
use crate::domain::job::{Class, Kind};
use crate::domain::time::UnixMicros;

/// Sums of one batch.
#[derive(Default)]
pub(super) struct Tally {
    /// Changes, jobs and receipts that were there already.
    pub(super) doubled: u64,
    /// Changes that came after the outcome and say nothing any more.
    pub(super) late: u64,
    /// Receipts whose job is not known, or not yet.
    pub(super) unmatched: u64,
    /// Unanswered hand-overs that go out a second time.
    pub(super) resent: u64,
    /// Steps of fallback chains that started.
    pub(super) fallbacks: Vec<(Kind, Class)>,
    /// Jobs that became unresolved, less those that ceased to be.
    pub(super) unresolved: i64,
    /// How long after sending receipts came.
    pub(super) waits: Vec<(ProviderId, Duration)>,
    /// When the newest event happened.
    pub(super) newest: UnixMicros,
}
