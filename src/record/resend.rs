//! Sends out again what record decided to: to its lane or, for later, to the feeder; to the agenda where neither takes it.

use std::time::Duration;

use tracing::warn;
use uuid::Uuid;

use super::unwritable;
use crate::agenda::entry;
use crate::domain::job::Envelope;
use crate::domain::time::UnixMicros;
use crate::ledger::{Ledger, LedgerError};
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
        let due_at = envelope.due_at.max(now);
        let entry = entry::jobs(id_of(&envelope), (envelope, 0), due_at, self.sealer)
            .map_err(|problem| unwritable(&problem))?;
        let to = match due_at {
            _ if due_at == now => QueueName::Lane(entry.lane.clone()),
            _ if due_at <= now.plus(SOON) => QueueName::Soon,
            _ => QueueName::Later,
        };
        let Err(problem) = self.queue.publish(Uuid::new_v4(), entry.payload.clone(), Route::To(to)).await else {
            return Ok(());
        };
        warn!(%problem, lane = %entry.lane, "a queue does not take what goes out again; the agenda does");
        self.ledger.put_entries(&[entry]).await
    }
}

/// The same job and attempt give the same entry: deciding twice inserts once.
fn id_of(envelope: &Envelope) -> Uuid {
    let (job, attempt) = envelope.jobs.first().map_or_else(Default::default, |job| (job.id.0, job.attempt));
    Uuid::new_v5(&job, &attempt.to_be_bytes())
}
