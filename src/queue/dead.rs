//! The dead-letter queue: what could not be worked on, since when and why, and its way back to work.
//!
//! A frame that a part of the service puts aside is wrapped in a [`Letter`] that says so. A frame that the queue itself
//! moved, since it was delivered too often, comes bare.

#[cfg(test)]
mod tests;

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::frame::{Frame, FrameError};
use super::{Delivery, FRAME_BYTES_MAX, PublishError, Queue, QueueError, QueueName, Route};
use crate::domain::job::{Envelope, Job};
use crate::domain::time::{Clock, UnixMicros};
use crate::seal::Sealer;

/// The first byte of a letter; no frame begins with it.
const MARK: u8 = 0xde;
/// The version of letters that is written; one of another version is read as a bare frame, which it is not.
const VERSION: u8 = 1;
/// Longest reason; the rest is cut.
const REASON_BYTES_MAX: usize = 200;
/// Most letters that are looked at in one go, and most bytes of them: the oldest. What a person can do something about
/// is far less.
const LOOK_MAX: u64 = 10_000;
const LOOK_BYTES_MAX: usize = 64 * 1024 * 1024;
/// How long the next letter may take to come; somebody else may have it in hand.
const NEXT_WITHIN: Duration = Duration::from_secs(1);

/// A frame in the dead-letter queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// The id it has in the queue.
    pub id: Uuid,
    /// Where it came from; `None`: the queue moved it out of a lane or from among the suspects.
    pub from: Option<QueueName>,
    /// Why, without anything personal.
    pub reason: Box<str>,
    /// Since when; `None`: not noted yet.
    pub at: Option<UnixMicros>,
    /// Whether the owners of its jobs were told.
    pub told: bool,
    /// The frame as it was.
    pub frame: Bytes,
}

// === impl Letter ===

impl Letter {
    /// Returns the letter that a delivery of the dead-letter queue is.
    pub fn of(delivery: &Delivery) -> Self {
        Self::read(delivery.id, &delivery.frame).unwrap_or_else(|| Self {
            id: delivery.id,
            from: None,
            reason: "delivered too often".into(),
            at: None,
            told: false,
            frame: delivery.frame.clone(),
        })
    }

    /// Returns the queue message. A frame so large that nothing fits in front of it stays bare.
    pub fn write(&self) -> Bytes {
        let from = self.from.as_ref().map_or_else(String::new, QueueName::to_string);
        let reason = (0..=REASON_BYTES_MAX).rev().find_map(|end| self.reason.get(..end)).unwrap_or_default();
        let mut out = BytesMut::with_capacity(16 + from.len() + reason.len() + self.frame.len());
        out.put_slice(&[MARK, VERSION]);
        for text in [from.as_str(), reason] {
            out.put_u8(u8::try_from(text.len()).unwrap_or(0));
            out.put_slice(text.as_bytes());
        }
        out.put_i64_le(self.at.unwrap_or_default().0);
        out.put_u8(u8::from(self.told));
        out.put_slice(&self.frame);
        if out.len() > FRAME_BYTES_MAX { self.frame.clone() } else { out.freeze() }
    }

    fn read(id: Uuid, bytes: &Bytes) -> Option<Self> {
        let rest = bytes.strip_prefix(&[MARK, VERSION])?;
        let (from, rest) = text(rest)?;
        let (reason, rest) = text(rest)?;
        let (&at, rest) = rest.split_first_chunk::<8>()?;
        let (&told, rest) = rest.split_first()?;
        let from = if from.is_empty() { None } else { Some(from.parse().ok()?) };
        let at = Some(UnixMicros(i64::from_le_bytes(at)));
        Some(Self {
            id,
            from,
            reason: reason.into(),
            at,
            told: told == 1,
            frame: bytes.slice(bytes.len() - rest.len()..),
        })
    }

    /// Returns its work, if that is what dispatch could not do; `None` for anything else, and for what cannot be opened.
    pub fn work(&self, sealer: &Sealer) -> Option<Vec<Envelope>> {
        let dispatched = matches!(self.from, None | Some(QueueName::Lane(_) | QueueName::Suspect(_)));
        match Frame::decode(&self.frame, sealer) {
            Ok(Frame::Jobs(envelopes)) if dispatched => Some(envelopes),
            Ok(_) | Err(_) => None,
        }
    }

    /// Puts it back to work: jobs one by one among the suspects, so that a poison one harms nobody else; anything else to
    /// where it came from.
    ///
    /// # Errors
    /// [`PublishError`] when not all of it is known to be durable. Repeated, what was published before comes twice, and
    /// the second copies meet the claims of the first.
    pub async fn redrive<Q: Queue>(&self, queue: &Q, sealer: &Sealer) -> Result<(), PublishError> {
        if let Some(envelopes) = self.work(sealer) {
            for (index, envelope) in suspects(&envelopes).enumerate() {
                let to = QueueName::Suspect(envelope.shared.pool.clone());
                let frame = single(envelope, sealer)?;
                let id = Uuid::new_v5(&self.id, &index.to_be_bytes());
                queue.publish(id, frame, Route::To(to)).await?;
            }
            return Ok(());
        }
        let home = match Frame::decode(&self.frame, sealer) {
            Ok(Frame::Checks(_)) => QueueName::Soon,
            Ok(Frame::Jobs(_) | Frame::Facts(_)) | Err(_) => QueueName::Record,
        };
        let to = self.from.clone().unwrap_or(home);
        queue.publish(self.id, self.frame.clone(), Route::To(to)).await
    }
}

fn text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (&length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

/// Puts a frame aside, and acknowledges it once that is durable; else it goes back to where it came from.
///
/// # Errors
/// [`PublishError`].
pub async fn bury<Q: Queue>(queue: &Q, delivery: Delivery, why: Why<'_>) -> Result<(), PublishError> {
    let Why { from, reason, at } = why;
    let frame = delivery.frame.clone();
    let letter = Letter { id: delivery.id, from: Some(from), reason: reason.into(), at: Some(at), told: false, frame };
    queue.publish(letter.id, letter.write(), Route::To(QueueName::Dead)).await?;
    delivery.ack();
    Ok(())
}

/// Why a frame is put aside.
#[derive(Clone, Debug)]
pub struct Why<'a> {
    /// Where it came from.
    pub from: QueueName,
    /// Why, without anything personal.
    pub reason: &'a str,
    /// Now.
    pub at: UnixMicros,
}

/// Takes the letters in hand, oldest first, ten thousand at most. Dropped, they stay; acknowledged, they are gone. What
/// somebody else has in hand is missing.
///
/// # Errors
/// [`QueueError`].
pub async fn look<Q: Queue>(queue: &Q, clock: &Clock) -> Result<Vec<(Letter, Delivery)>, QueueError> {
    let depth = queue.depth(&QueueName::Dead).await?.min(LOOK_MAX);
    let Some(prefetch) = u16::try_from(depth).ok().filter(|&depth| depth > 0) else { return Ok(vec![]) };
    let mut deliveries = queue.consume(QueueName::Dead, prefetch).await?;
    let (mut letters, mut bytes) = (Vec::new(), 0);
    while letters.len() < usize::from(prefetch) && bytes < LOOK_BYTES_MAX {
        let Ok(Some(delivery)) = clock.timeout(NEXT_WITHIN, deliveries.recv()).await else { break };
        bytes += delivery.frame.len();
        letters.push((Letter::of(&delivery), delivery));
    }
    Ok(letters)
}

/// Returns each job of envelopes alone, marked as one of which a copy may have been handed over.
pub fn suspects(envelopes: &[Envelope]) -> impl Iterator<Item = Envelope> {
    envelopes.iter().flat_map(|envelope| {
        let seen = |job: &Job| Some(job.seen.map_or(envelope.due_at, |seen| seen.min(envelope.due_at)));
        envelope.jobs.iter().map(move |job| envelope.with_jobs(vec![Job { seen: seen(job), ..job.clone() }]))
    })
}

/// Seals an envelope in a frame of its own.
///
/// # Errors
/// [`PublishError::TooLarge`], though what came out of a frame fits into one.
pub fn single(envelope: Envelope, sealer: &Sealer) -> Result<Bytes, PublishError> {
    let too_large = |problem| match problem {
        FrameError::TooLarge(bytes) => PublishError::TooLarge(bytes),
        _ => PublishError::TooLarge(FRAME_BYTES_MAX),
    };
    Frame::Jobs(vec![envelope]).encode(sealer).map_err(too_large)
}
