//! Gives back the places of jobs that reached nobody, in caps that count what was delivered.
//!
//! Whoever holds the pen follows the outcomes in the ledger, from a bookmark there. Nothing of it is on the way of a job:
//! while limits are away, or reload what they lost, the bookmark stays where it is and caps are too strict for a moment,
//! never too lax.
//!
//! # Crashes
//! The bookmark moves after limits have answered for good. A crash in between frees the same places again, which changes
//! nothing. What an outcome frees was taken before its job was handed over, so no claim comes after it.
//!
//! # Rules
//! A rule is in the ledger before it binds anywhere. Rules are read after the number up to which outcomes are looked
//! at, so whatever a rule counted up to that number was counted by a rule that is known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tracing::{error, warn};

use crate::domain::cap::Count;
use crate::domain::ids::TenantId;
use crate::domain::time::{Clock, UnixMicros};
use crate::leave::vacated;
use crate::ledger::{Directory, Ledger, LedgerError, Loss};
use crate::limits::{Limits, LimitsError, Vacate};
use crate::queue::frame::open_job;
use crate::seal::Sealer;
use crate::shutdown::Tasks;

/// How often to look.
const EVERY: Duration = Duration::from_millis(500);
/// Losses in a page: with their sealed jobs about a megabyte.
const PAGE: u32 = 1_000;
/// The name of the bookmark.
const READER: &str = "losses";
/// Numbers that are passed without a note, while no rule counts what was delivered.
const UNNOTED_MAX: i64 = 100_000;
/// How long the row of a job may come after its outcome.
const ROW_LATE_MAX: Duration = Duration::from_secs(600);

/// Whether this process is the one that records. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Pen(pub(super) Arc<AtomicBool>);

/// Follows the outcomes of jobs that reached nobody.
pub struct Losses<M, L> {
    /// Where places are given back.
    pub limits: M,
    /// Where outcomes are read.
    pub ledger: L,
    /// Whose rules count what was delivered.
    pub directory: Directory,
    /// Opens rows.
    pub sealer: Sealer,
    /// Time.
    pub clock: Clock,
    /// The group of its tasks.
    pub tasks: Tasks,
    /// The last number that this process has committed.
    pub committed: watch::Receiver<i64>,
    /// One process looks, not all.
    pub pen: Pen,
}

/// How far it has come.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// In memory.
    at: i64,
    /// In the ledger.
    noted: i64,
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stuck {
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl<M: Limits, L: Ledger> Losses<M, L> {
    /// Starts to follow, until the group of tasks is told to stop.
    pub fn spawn(self) {
        let tasks = self.tasks.clone();
        tasks.spawn("losses", self.run());
    }

    async fn run(self) {
        let (stop, mut place, mut stuck) = (self.tasks.stop().clone(), None, false);
        while stop.run_until_cancelled(self.clock.pause(EVERY)).await.is_some() {
            if !self.pen.0.load(Ordering::Relaxed) {
                // Whoever holds it now goes on from the bookmark.
                place = None;
                continue;
            }
            match self.catch_up(&mut place).await {
                Ok(()) | Err(Stuck::Limits(LimitsError::Recovering)) => stuck = false,
                Err(problem) if !stuck => {
                    warn!(%problem, "cannot give back the places of jobs that reached nobody; trying again");
                    stuck = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Goes on up to what is committed now.
    async fn catch_up(&self, place: &mut Option<Place>) -> Result<(), Stuck> {
        let last = *self.committed.borrow();
        let mut here = match *place {
            Some(here) => here,
            None => {
                let at = self.ledger.bookmark(READER).await?;
                Place { at, noted: at }
            }
        };
        while here.at < last && !self.tasks.stopping() {
            let before = here.at;
            here = self.look(here, last).await?;
            *place = Some(here);
            if here.at == before {
                break;
            }
        }
        *place = Some(here);
        Ok(())
    }

    /// Looks at one page of outcomes.
    async fn look(&self, here: Place, last: i64) -> Result<Place, Stuck> {
        self.directory.refresh(&self.ledger).await?;
        let tenants = self.tenants();
        if tenants.is_empty() {
            let noted = if last > here.noted + UNNOTED_MAX { last } else { here.noted };
            if noted > here.noted {
                self.ledger.put_bookmark(READER, noted).await?;
            }
            return Ok(Place { at: last, noted });
        }
        let (losses, complete) = self.ledger.losses(&tenants, (here.at, last), PAGE).await?;
        let (places, to) = self.places(&losses, complete);
        if !places.is_empty() {
            self.limits.vacate(&places).await?;
        }
        if to > here.noted {
            self.ledger.put_bookmark(READER, to).await?;
        }
        Ok(Place { at: to, noted: to })
    }

    /// Returns the tenants of whose caps one counts what was delivered.
    fn tenants(&self) -> Vec<TenantId> {
        let counts = |tenant: &TenantId| self.directory.caps(tenant).iter().any(|rule| rule.count == Count::Delivered);
        self.directory.tenants().iter().map(|tenant| tenant.id.clone()).filter(counts).collect()
    }

    /// Returns the places that losses give back, and up to which number that is all: a job whose row is still to come is
    /// waited for.
    fn places(&self, losses: &[Loss], complete: i64) -> (Vec<Vacate>, i64) {
        let (mut places, now) = (Vec::new(), self.clock.now());
        for loss in losses {
            match &loss.sealed {
                Some(sealed) => places.extend(self.place(sealed)),
                None if recent(loss, now) => return (places, loss.seq - 1),
                None => {}
            }
        }
        (places, complete)
    }

    fn place(&self, sealed: &[u8]) -> Option<Vacate> {
        let envelope = open_job(sealed, &self.sealer)
            .inspect_err(
                |problem| error!(%problem, "a job that reached nobody cannot be opened: its places stay taken"),
            )
            .ok()?;
        let (shared, job) = (&envelope.shared, envelope.jobs.first()?);
        if shared.chain.is_some() {
            // Another step of its chain may reach them, and has no place but this one.
            return None;
        }
        vacated(shared, job, &self.directory.caps(&shared.tenant), &self.sealer)
    }
}

fn recent(loss: &Loss, now: UnixMicros) -> bool {
    now.since(loss.at) < ROW_LATE_MAX
}
