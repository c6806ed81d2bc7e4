//! Sends out again what record decided to: to its lane or, for later, to the feeder; to the agenda where neither takes it.

use std::time::Duration;

use tracing::warn;
use uuid::Uuid;

use crate::domain::job::Envelope;
use crate::domain::time::UnixMicros;
use crate::ledger::{Entry, Ledger, LedgerError, Tag};
use crate::queue::frame::{Frame, FrameError};
use crate::queue::{Queue, QueueName, Route};
use crate::seal::Sealer;

/// What is due within this time goes to the feeder's timing wheel instead of the agenda.
const SOON: Duration = Duration::from_secs(30);

/// What a resend needs.
pub(super) struct Resender<'a, Q, L> {
    pub(super) queue: &'a Q,
    pub(super) ledger: &'a L,
    pub(super) sealer: &'a Sealer,
}

impl<Q: Queue, L: Ledger> Resender<'_, Q, L> {
    /// Returns once every envelope is durable on its way.
    ///
    /// # Errors
    /// When neither its lane nor the agenda takes one.
    pub(super) async fn resend(&self, envelopes: Vec<Envelope>, now: UnixMicros) -> Result<(), LedgerError> {
        for envelope in envelopes {
            self.one(envelope, now).await?;
        }
        Ok(())
    }

    async fn one(&self, envelope: Envelope, now: UnixMicros) -> Result<(), LedgerError> {
        let (tenant, lane) = (envelope.shared.tenant.clone(), envelope.lane());
        let accepted_at = Some(envelope.shared.accepted_at);
        let jobs = u32::try_from(envelope.jobs.len()).unwrap_or(u32::MAX);
        let (id, priority) = (id_of(&envelope), envelope.shared.priority);
        let due_at = envelope.due_at.max(now);
        let to = match due_at {
            _ if due_at == now => QueueName::Lane(lane.clone()),
            _ if due_at <= now.plus(SOON) => QueueName::Soon,
            _ => QueueName::Later,
        };
        let payload = Frame::Jobs(vec![envelope]).encode(self.sealer).map_err(|problem| unwritable(&problem))?;
        let Err(problem) = self.queue.publish(Uuid::new_v4(), payload.clone(), Route::To(to)).await else {
            return Ok(());
        };
        warn!(%problem, %lane, "a queue does not take what goes out again; the agenda does");
        // A sender with a rate of its own is found out when it is released.
        let (tag, sender, releasing_since) = (Tag::Send, 0, None);
        let entry =
            Entry { id, tag, tenant, lane, sender, priority, due_at, accepted_at, jobs, releasing_since, payload };
        self.ledger.put_entries(&[entry]).await
    }
}

/// The same job and attempt give the same entry: deciding twice inserts once.
fn id_of(envelope: &Envelope) -> Uuid {
    let (job, attempt) = envelope.jobs.first().map_or_else(Default::default, |job| (job.id.0, job.attempt));
    Uuid::new_v5(&job, &attempt.to_be_bytes())
}

/// It came out of a frame, so it fits into one.
fn unwritable(problem: &FrameError) -> LedgerError {
    LedgerError::Corrupt(problem.to_string().into())
}
