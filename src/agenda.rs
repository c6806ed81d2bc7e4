//! When is it due, whose turn is it? The feeder: keeps what is due soon un-acknowledged in memory, what is due later in
//! the ledger, and releases both into the lanes, fairly, as fast as rates and credit allow.
//!
//! An entry is marked as releasing before its jobs are published, and ends after they are confirmed. A feeder that dies
//! in between leaves a mark: the next one releases the entry again with its jobs `seen`, so that no copy is handed over
//! twice.

mod fair;
mod grant;
mod later;
mod release;
mod soon;
mod wheel;

use std::sync::Arc;
use std::time::Duration;

use crate::domain::job::{Check, Envelope};
use crate::domain::time::Clock;
use crate::ledger::{Directory, Ledger};
use crate::limits::Limits;
use crate::limits::pacer::Pacer;
use crate::policy::routes::Routes;
use crate::queue::depths::Depths;
use crate::queue::outbox::Outbox;
use crate::queue::{Queue, QueueError};
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::AgendaMetrics;

/// Between two tries of something that must succeed.
const RETRY_EVERY: Duration = Duration::from_millis(200);

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
    /// Time.
    pub clock: Clock,
    /// The group of its tasks.
    pub tasks: Tasks,
    /// Pools with their rates.
    pub routes: Arc<Routes>,
    /// Tokens of tenants' rates and of pools' credit.
    pub pacer: Pacer<L>,
    /// How long the lanes are.
    pub depths: Depths,
    /// Where released work goes.
    pub work: Outbox<Q, Envelope>,
    /// Where due checks go.
    pub checks: Outbox<Q, Check>,
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
    Ok(())
}
