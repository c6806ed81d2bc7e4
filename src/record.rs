//! Record: what was accepted and what became of it, from the record queue into the ledger.
//!
//! One recorder at a time consumes the queue, and signals ahead of it from one of their own (`ahead`). It opens frames (`intake`), reads what the ledger knows of their jobs
//! (`reads`), merges (`merge`, pure) and commits (`writer`), then acknowledges. Sending never waits for it.

mod ahead;
mod batches;
mod calls;
mod chains;
mod clean;
mod consents;
mod intake;
mod losses;
mod merge;
mod meters;
mod owed;
mod reads;
mod resend;
mod rows;
mod standing;
mod strays;
mod tally;
mod writer;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use self::ahead::{Ahead, Reading};
use self::batches::Batches;
pub use self::consents::Consents;
use self::intake::Intake;
pub use self::losses::{Losses, Pen};
use self::merge::Merger;
use self::meters::Meters;
use self::strays::Strays;
use self::writer::Writer;
use crate::domain::time::Clock;
use crate::ledger::{Ledger, LedgerError};
use crate::limits::Limits;
use crate::queue::{Queue, QueueName};
use crate::receipt::FollowUps;
use crate::seal::Sealer;
use crate::shutdown::Tasks;

/// How record works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// How long a sent or unresolved job waits for its receipt before its outcome is `unknown`.
    pub receipt_deadline: Duration,
    /// How long after its due time a job of which nothing was heard is released again.
    pub stray_after: Duration,
    /// About how many recent jobs are kept in memory, at 300 bytes each, so that their next event needs no read; and eighteen
    /// times as many that wait for their time, at 20 bytes each, so that their first event needs none.
    pub jobs_known: usize,
}

/// Everything that record needs.
pub struct Record<Q, L, M> {
    /// Where frames come from, and what goes out again goes to.
    pub queue: Q,
    /// Told which steps of fallback chains are not to leave any more, and who opts out at the end of a call.
    pub limits: M,
    /// Takes the jobs that follow calls.
    pub follow_ups: Arc<dyn FollowUps>,
    /// Where all is written.
    pub ledger: L,
    /// Opens frames, seals rows.
    pub sealer: Sealer,
    /// Time.
    pub clock: Clock,
    /// The group of its tasks.
    pub tasks: Tasks,
    /// How it works.
    pub settings: Settings,
    /// Told the last number in the ledger after each commit, so that those who wait for news in this process wake at
    /// once.
    pub committed: watch::Sender<i64>,
}

impl Default for Settings {
    fn default() -> Self {
        let hour = Duration::from_secs(3600);
        Self { receipt_deadline: 72 * hour, stray_after: hour / 6, jobs_known: 100_000 }
    }
}

impl<Q: Queue, L: Ledger, M: Limits> Record<Q, L, M> {
    /// Starts to record, until the group of tasks is told to stop. What is in hand then is still written, unless the
    /// ledger is away; it then stays in the queue. Returns who writes.
    pub fn spawn(self) -> Pen {
        let Self { queue, limits, follow_ups, ledger, sealer, clock, tasks, settings, committed } = self;
        let (stop, pen) = (tasks.stop().clone(), Pen::default());
        let current = Arc::clone(&pen.0);
        let reading = Reading::default();
        let intake = Intake {
            queue: queue.clone(),
            from: QueueName::Record,
            reading: reading.clone(),
            sealer: sealer.clone(),
            clock: clock.clone(),
            stop: stop.clone(),
        };
        let ahead = Ahead { intake: Intake { from: QueueName::Signals, ..intake.clone() } };
        let strays = Strays {
            queue: queue.clone(),
            ledger: ledger.clone(),
            sealer: sealer.clone(),
            clock: clock.clone(),
            stop: stop.clone(),
            after: settings.stray_after,
            current: Arc::clone(&current),
        };
        let (merger, meters) = (Merger::new(0, settings.jobs_known), Meters::new());
        let writer = Writer {
            queue,
            limits,
            follow_ups,
            ledger,
            sealer,
            clock,
            stop,
            settings,
            committed,
            meters,
            merger,
            current,
            reading,
        };
        let ((signals, from_signals), (others, from_others)) = (mpsc::channel(1), mpsc::channel(1));
        tasks.spawn("record intake", intake.run(others));
        tasks.spawn("record signals", ahead.run(signals));
        tasks.spawn("record writer", writer.run(Batches::new(from_signals, from_others)));
        tasks.spawn("strays", strays.run());
        pen
    }
}

/// Of what came out of frames, and so fits into one.
fn unwritable(problem: &impl fmt::Display) -> LedgerError {
    LedgerError::Corrupt(problem.to_string().into())
}

#[cfg(test)]
mod tests;
