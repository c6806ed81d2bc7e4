//! When is it due, whose turn is it? The feeder: keeps what is due soon un-acknowledged in memory, what is due later in
//! the ledger, and releases both into the lanes, fairly, as fast as rates and credit allow.
//!
//! The opening of a window is paced by that alone: what waited for it is released at the credit of its pool, in turn with
//! whatever else comes due, and stays in the agenda until then.
//!
//! An entry is marked as releasing before its jobs are published, and ends after they are confirmed. A feeder that dies
//! in between leaves a mark: the next one releases the entry again with its jobs `seen`, so that no copy is handed over
//! twice.

mod dead;
pub mod entry;
mod fair;
mod grant;
mod later;
mod order;
mod release;
mod round;
mod soon;
mod spread;
mod sweep;
#[cfg(test)]
mod tests;
mod wheel;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use self::order::Order;
use self::spread::Spread;
use crate::domain::event::Fact;
use crate::domain::job::{Check, Class, Envelope, Job};
use crate::domain::time::Clock;
use crate::ledger::{Directory, Ledger};
use crate::limits::Limits;
use crate::limits::pacer::Pacer;
use crate::limits::rates::Bucket;
use crate::policy::routes::Routes;
use crate::queue::depths::Depths;
use crate::queue::outbox::Outbox;
use crate::queue::{Queue, QueueError};
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::AgendaMetrics;

/// Between two tries of something that must succeed.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// Keeps jobs for the same recipient apart that are released together.
#[derive(Debug)]
pub struct Sequence(Option<Mutex<Order>>);

/// What the feeder works with.
pub struct Context<Q, L, B> {
    /// Where due work comes from.
    pub queue: Q,
    /// The agenda.
    pub ledger: B,
    /// Tenants with their rates.
    pub directory: Directory,
    /// Opens frames.
    pub sealer: Sealer,
    /// How long a job of each class lives after the time it was moved to, in the order of [`Class::ALL`].
    pub lives: [Duration; Class::ALL.len()],
    /// Time.
    pub clock: Clock,
    /// The group of its tasks.
    pub tasks: Tasks,
    /// Pools with their rates.
    pub routes: Arc<Routes>,
    /// Rules about jobs that wait.
    pub limits: L,
    /// Tokens of tenants' rates and of pools' credit.
    pub pacer: Pacer<L>,
    /// How long the lanes are.
    pub depths: Depths,
    /// Who of those released together goes first.
    pub order: Sequence,
    /// Where released work goes.
    pub work: Outbox<Q, Envelope>,
    /// Where due checks go.
    pub checks: Outbox<Q, Check>,
    /// Where it is told what became of jobs that a rule ended or moved.
    pub facts: Outbox<Q, Fact>,
    /// What it counts.
    pub metrics: AgendaMetrics,
}

/// Starts the feeder.
///
/// # Errors
/// When its queues cannot be consumed.
pub async fn spawn<Q: Queue, L: Limits, B: Ledger>(context: Arc<Context<Q, L, B>>) -> Result<(), QueueError> {
    soon::spawn(&context).await?;
    later::spawn(&context).await?;
    release::spawn(&context);
    dead::spawn(&context);
    Ok(())
}

impl Sequence {
    /// Returns a sequence by `clock`. On a clock that stands until it is told to move nothing is kept apart: who goes
    /// second would never go.
    pub fn by(clock: &Clock) -> Self {
        Self((!clock.stands()).then(Mutex::default))
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Returns all that an envelope's jobs are paced by.
    fn buckets(&self, envelope: &Envelope) -> Vec<Bucket> {
        self.paced(&envelope.shared).into_iter().chain(self.credit(&envelope.lane())).collect()
    }

    /// Gives released envelopes their reserved times, in the order given. Only where caps bind does it matter who goes
    /// first.
    fn reserve(&self, released: Vec<Envelope>) -> Vec<Vec<Envelope>> {
        let now = self.clock.now();
        let mut by_rank: Vec<(usize, Envelope)> = released.into_iter().enumerate().collect();
        by_rank.sort_by_cached_key(|(_, envelope)| order::rank(envelope));
        let mut order = self.order.0.as_ref().map(|order| order.lock().unwrap_or_else(PoisonError::into_inner));
        let mut spread = Spread::default();
        let mut reserve = |mut envelope: Envelope| {
            let shared = Arc::clone(&envelope.shared);
            let Some(order) = order.as_mut().filter(|_| shared.class != Class::Otp) else {
                envelope.due_at = now;
                return vec![envelope];
            };
            let at = if shared.class.urgent() {
                now
            } else {
                now.plus(spread.place(&self.buckets(&envelope), envelope.jobs.len()))
            };
            let capped = self.directory.tenant(&shared.tenant).is_some_and(|tenant| !tenant.caps.is_empty());
            let recipient = |job: &Job| self.sealer.recipient_key(&shared.tenant, &job.recipient, shared.kind);
            if capped {
                return order.divide(envelope, recipient, at);
            }
            envelope.due_at = at;
            vec![envelope]
        };
        let mut reserved: Vec<_> = by_rank.into_iter().map(|(index, envelope)| (index, reserve(envelope))).collect();
        reserved.sort_by_key(|(index, _)| *index);
        reserved.into_iter().map(|(_, envelopes)| envelopes).collect()
    }
}
