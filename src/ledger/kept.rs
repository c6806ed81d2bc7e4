//! What the ledger keeps that limits are told: after a loss, and of jobs that reached nobody.

use bytes::Bytes;

use crate::domain::event::Outcome;
use crate::domain::suppression::Suppression;
use crate::domain::time::UnixMicros;

/// An opt-out with its personal part sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedSuppression {
    /// The opt-out.
    pub suppression: Suppression,
    /// What its keys stand for, sealed; empty: not known.
    pub sealed: Bytes,
}

/// A hand-over that may have reached somebody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// The number of its event.
    pub seq: i64,
    /// When that happened.
    pub at: UnixMicros,
    /// The attempt.
    pub attempt: u16,
    /// The job, sealed.
    pub sealed: Bytes,
}

/// An outcome that says that nobody was reached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loss {
    /// The number of its event.
    pub seq: i64,
    /// When that happened.
    pub at: UnixMicros,
    /// The outcome.
    pub outcome: Outcome,
    /// The job, sealed; `None` while only its events have come, and once its row is gone.
    pub sealed: Option<Bytes>,
}
