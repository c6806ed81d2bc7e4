//! Releases strays: jobs of which nothing was heard long after they were due. Their frame is lost, though no way is known
//! in which it can be. Harmless where it is not: a second copy meets the claim of the first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::meters::Meters;
use super::resend::Resender;
use crate::domain::job::{Envelope, Job};
use crate::domain::time::{Clock, UnixMicros};
use crate::ledger::{JobRow, Ledger, LedgerError};
use crate::queue::frame::open_job;
use crate::queue::{Queue, QueueName};
use crate::seal::Sealer;

/// How often to look.
const EVERY: Duration = Duration::from_secs(60);
/// How far back to look after a start.
const BACK: Duration = Duration::from_secs(24 * 3600);
/// The longest stretch of due times that is looked at in one look: after a start a day is caught up in hours.
const STRETCH: Duration = Duration::from_secs(600);
/// Most strays that are released in one look.
const MOST: u32 = 500;
/// A released envelope may leave its queue this long before its time, so a copy is not older than that.
const AHEAD: Duration = Duration::from_secs(60);
/// More frames than this in the record queue, and what is not heard of may be in them.
const BEHIND: u64 = 16;

/// Looks for strays.
pub(super) struct Strays<Q, L> {
    pub(super) queue: Q,
    pub(super) ledger: L,
    pub(super) sealer: Sealer,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    pub(super) after: Duration,
    /// Whether this process holds the pen: one looks, not all.
    pub(super) current: Arc<AtomicBool>,
}

impl<Q: Queue, L: Ledger> Strays<Q, L> {
    /// Looks until it is told to stop.
    pub(super) async fn run(self) {
        let meters = Meters::new();
        let mut from = self.clock.now().minus(BACK);
        while self.stop.run_until_cancelled(self.clock.sleep(EVERY)).await.is_some() {
            let to = self.clock.now().minus(self.after).min(from.plus(STRETCH));
            if to <= from || !self.current.load(Ordering::Relaxed) {
                continue;
            }
            match self.look(from, to).await {
                Ok((next, released)) => {
                    from = next;
                    if released > 0 {
                        meters.strays(released);
                        error!(jobs = released, "jobs of which nothing was heard were released again");
                    }
                }
                Err(problem) => warn!(%problem, "cannot look for strays"),
            }
        }
    }

    /// Releases the strays of a stretch of time, unless they may be on their way. Returns from where to look next, and
    /// how many were released.
    pub(super) async fn look(&self, from: UnixMicros, to: UnixMicros) -> Result<(UnixMicros, u64), LedgerError> {
        if self.waiting(&QueueName::Record).await > BEHIND {
            return Ok((from, 0));
        }
        let strays = self.ledger.strays(from, to, MOST).await?;
        let full = strays.len() >= MOST as usize;
        let next = if full { strays.last().map_or(to, |row| row.due_at) } else { to };
        let mut released = 0;
        for row in strays {
            let Some(envelope) = self.open(&row) else { continue };
            let lane = envelope.lane();
            if self.waiting(&QueueName::Lane(lane)).await > 0 {
                // It may well be among what waits there; it is looked at again.
                return Ok((row.due_at, released));
            }
            let resender = Resender { queue: &self.queue, ledger: &self.ledger, sealer: &self.sealer };
            resender.resend(vec![envelope], self.clock.now()).await?;
            released += 1;
        }
        Ok((next, released))
    }

    async fn waiting(&self, queue: &QueueName) -> u64 {
        self.queue.depth(queue).await.unwrap_or(u64::MAX)
    }

    fn open(&self, row: &JobRow) -> Option<Envelope> {
        let envelope = open_job(&row.sealed, &self.sealer)
            .inspect_err(|problem| error!(%problem, job = %row.id, "a stray cannot be opened"))
            .ok()?;
        // Nothing can have been handed over before the earliest time at which it can have been released.
        let earliest = row.accepted_at.max(row.due_at.minus(AHEAD));
        let seen = |job: &Job| Job { seen: Some(job.seen.unwrap_or(earliest)), ..job.clone() };
        Some(envelope.with_jobs(envelope.jobs.iter().map(seen).collect()))
    }
}
