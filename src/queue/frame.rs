//! The frame: one queue message of at most [`FRAME_BYTES_MAX`] bytes, with jobs, checks or facts.
//!
//! It reads `version (1) | kind (1) | items (2, little-endian) | jobs (4, little-endian) | sealed body`. The header is
//! plain, so that a frame can be counted without a key; it is bound to the body by the seal. Everything personal is in
//! the body. Names, texts and counts are length-prefixed; a decoder allocates nothing that the bytes do not hold.

mod calls;
mod facts;
mod jobs;
mod signals;
mod single;
mod wire;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use self::facts::FACT_BYTES_MIN;
use self::jobs::{CHECK_BYTES_MIN, ENVELOPE_BYTES_MIN};
use self::wire::{Reader, Writer};
use super::FRAME_BYTES_MAX;
use crate::domain::event::Fact;
use crate::domain::job::{Check, Envelope, words};
use crate::seal::{FRONT_BYTES, OVERHEAD_BYTES, OpenError, Sealer};

pub(in crate::queue) use self::jobs::envelope_bytes;
pub(in crate::queue) use self::signals::signal_bytes;
pub use self::single::{
    Heard, open_heard, open_job, open_plain, open_report, seal_job, seal_jobs, seal_plain, seal_reply, seal_report,
    seal_signal,
};

/// The version that is written; others are refused.
const VERSION: u8 = 1;
/// Most jobs in a frame of the outbox: enough that the broker's cost per frame no longer shows, few enough that a
/// dispatcher at 1 000/s is done with it long before the 20 s that a frame may be held.
pub const FRAME_JOBS_MAX: usize = 512;
/// Bytes of the plain header.
pub const HEADER_BYTES: usize = 8;

/// What a queue message carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Frame {
    /// Work: to lanes, `soon`, `later`, record and the agenda.
    Jobs(Vec<Envelope>),
    /// Hand-overs without an answer, for the agenda and record.
    Checks(Vec<Check>),
    /// What the ledger learns.
    Facts(Vec<Fact>),
}

words! {
    /// What kind of frame it is.
    FrameKind {
        /// Envelopes.
        Jobs = "jobs",
        /// Checks.
        Checks = "checks",
        /// Facts.
        Facts = "facts",
    }
}

/// What a frame's plain header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Summary {
    /// What it carries.
    pub kind: FrameKind,
    /// Envelopes, checks or facts.
    pub items: u16,
    /// Jobs in its envelopes or checks; 0 for facts.
    pub jobs: u32,
}

/// Why bytes are no frame, or a frame cannot be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than a queue message may be.
    #[error("the frame has {0} bytes, at most {FRAME_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// More items than the header can count.
    #[error("the frame has {0} items, at most 65535 are allowed")]
    TooMany(usize),
    /// Written by another version.
    #[error("the frame has version {0}, this process reads version {VERSION}")]
    Version(u8),
    /// It ends too early.
    #[error("the frame is cut off")]
    Truncated,
    /// Something follows its end.
    #[error("{0} bytes follow the frame's end")]
    Trailing(usize),
    /// A field cannot have this value.
    #[error("the frame's {0} is out of its range")]
    Field(&'static str),
    /// The header does not fit the body.
    #[error("the frame's header does not fit its body")]
    Header,
    /// The body does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
}

// === impl Frame ===

impl Frame {
    /// Returns what the frame's header will say.
    ///
    /// # Errors
    /// [`FrameError::TooMany`] items or jobs.
    pub fn summary(&self) -> Result<Summary, FrameError> {
        let (kind, items, jobs) = match self {
            Self::Jobs(envelopes) => {
                (FrameKind::Jobs, envelopes.len(), envelopes.iter().map(|envelope| envelope.jobs.len()).sum())
            }
            Self::Checks(checks) => {
                (FrameKind::Checks, checks.len(), checks.iter().map(|check| check.envelope.jobs.len()).sum())
            }
            Self::Facts(facts) => (FrameKind::Facts, facts.len(), 0),
        };
        Ok(Summary {
            kind,
            items: u16::try_from(items).map_err(|_| FrameError::TooMany(items))?,
            jobs: u32::try_from(jobs).map_err(|_| FrameError::TooMany(jobs))?,
        })
    }

    /// Writes and seals the frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] or [`FrameError::TooMany`]; what the outbox fills is neither, unless a single
    /// job is larger than a frame.
    pub fn encode(&self, sealer: &Sealer) -> Result<Bytes, FrameError> {
        let header = self.summary()?.write();
        let mut out = Vec::with_capacity(self.bytes_bound());
        out.extend_from_slice(&header);
        out.extend_from_slice(&[0; FRONT_BYTES]);
        let mut writer = Writer { out: &mut out };
        match self {
            Self::Jobs(envelopes) => envelopes.iter().for_each(|envelope| writer.envelope(envelope)),
            Self::Checks(checks) => checks.iter().for_each(|check| writer.check(check)),
            Self::Facts(facts) => facts.iter().for_each(|fact| writer.fact(fact)),
        }
        sealer.seal_in_place(&mut out, HEADER_BYTES, &header);
        if out.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge(out.len()));
        }
        Ok(out.into())
    }

    /// Opens and reads a frame.
    ///
    /// # Errors
    /// [`FrameError`] when it is not whole, not ours, or not of this version.
    pub fn decode(bytes: &[u8], sealer: &Sealer) -> Result<Self, FrameError> {
        let summary = Summary::read(bytes)?;
        let (header, sealed) = bytes.split_at(HEADER_BYTES);
        let body = sealer.open(sealed, header)?;
        let mut reader = Reader::new(&body);
        let items = usize::from(summary.items);
        let frame = match summary.kind {
            FrameKind::Jobs => Self::Jobs(reader.items(items, ENVELOPE_BYTES_MIN, Reader::envelope)?),
            FrameKind::Checks => Self::Checks(reader.items(items, CHECK_BYTES_MIN, Reader::check)?),
            FrameKind::Facts => Self::Facts(reader.items(items, FACT_BYTES_MIN, Reader::fact)?),
        };
        reader.finish()?;
        if frame.summary()? == summary { Ok(frame) } else { Err(FrameError::Header) }
    }

    fn bytes_bound(&self) -> usize {
        let front = HEADER_BYTES + OVERHEAD_BYTES;
        match self {
            Self::Jobs(envelopes) => front + envelopes.iter().map(envelope_bytes).sum::<usize>(),
            Self::Checks(checks) => {
                front + checks.iter().map(|check| envelope_bytes(&check.envelope) + 80).sum::<usize>()
            }
            // Mostly events, of 60 bytes each; more grows the buffer.
            Self::Facts(facts) => front + facts.len() * 96,
        }
    }
}

// === impl Summary ===

impl Summary {
    /// Reads the plain header of a frame. The body may still be damaged.
    ///
    /// # Errors
    /// [`FrameError`] when the bytes cannot be a frame.
    pub fn read(frame: &[u8]) -> Result<Self, FrameError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(FrameError::TooLarge(frame.len()));
        }
        let Some((&[version, kind, i0, i1, j0, j1, j2, j3], _)) = frame.split_first_chunk::<HEADER_BYTES>() else {
            return Err(FrameError::Truncated);
        };
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = FrameKind::ALL.get(usize::from(kind)).ok_or(FrameError::Field("kind of frame"))?;
        Ok(Self { kind: *kind, items: u16::from_le_bytes([i0, i1]), jobs: u32::from_le_bytes([j0, j1, j2, j3]) })
    }

    fn write(self) -> [u8; HEADER_BYTES] {
        let ([i0, i1], [j0, j1, j2, j3]) = (self.items.to_le_bytes(), self.jobs.to_le_bytes());
        [VERSION, self.kind as u8, i0, i1, j0, j1, j2, j3]
    }
}
