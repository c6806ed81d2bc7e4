//! What the next write to the log holds.

use std::ops::Range;

use bytes::Bytes;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::record::{self, Mark, Number, Target};
use crate::queue::PublishError;

/// Frames and marks that are written together.
#[derive(Default)]
pub(super) struct Batch {
    /// The frames' records.
    pub(super) bytes: Vec<u8>,
    /// The frames, in order of their records, with where those are in `bytes`.
    pub(super) staged: Vec<(Staged, Range<usize>)>,
    /// Written after the frames. They stay until a write of them succeeded.
    pub(super) marks: Vec<Mark>,
}

/// A frame whose record is part of the batch.
pub(super) struct Staged {
    pub(super) seq: u64,
    pub(super) id: Uuid,
    pub(super) frame: Bytes,
    pub(super) targets: Vec<Target>,
    pub(super) then: Then,
}

/// What follows once a frame is durable, or is known not to be.
pub(super) enum Then {
    /// The publisher is told.
    Reply(oneshot::Sender<Result<(), PublishError>>),
    /// It was moved from this queue, where it has another sequence.
    Leave { queue: Number, seq: u64 },
}

// === impl Batch ===

impl Batch {
    /// Adds a frame.
    pub(super) fn stage(&mut self, staged: Staged) {
        let start = self.bytes.len();
        record::encode_frame(&mut self.bytes, staged.seq, staged.id, &staged.targets, &staged.frame);
        self.staged.push((staged, start..self.bytes.len()));
    }

    /// Returns whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.staged.is_empty() && self.marks.is_empty()
    }
}
