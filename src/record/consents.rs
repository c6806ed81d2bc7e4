//! Counts one-time consents from the ledger, so that what users said while limits were away is counted once they are back.
//!
//! Whoever holds the pen follows the signals of the tenants whose consents are counted, from a bookmark for each. What was
//! counted when it came is the same act again and changes nothing. Before limits have answered the bookmark stays where it
//! is: a crash in between tells a page again.

use std::sync::atomic::Ordering;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::watch;
use tracing::{error, warn};

use super::losses::{Pen, Stuck};
use crate::domain::ids::TenantId;
use crate::domain::time::Clock;
use crate::ledger::{Ledger, SealedReply};
use crate::limits::{ConsentAct, Counted, Limits, LimitsError};
use crate::queue::frame::{Heard, open_heard};
use crate::seal::Sealer;
use crate::shutdown::Tasks;

/// How often to look.
const EVERY: Duration = Duration::from_millis(500);
/// Replies and signals in a page.
const PAGE: u32 = 500;

/// Follows what users say of the messages they want.
pub struct Consents<M, L> {
    /// Where they are counted.
    pub limits: M,
    /// Where signals are read.
    pub ledger: L,
    /// The accounts whose consents are counted.
    pub counted: Counted,
    /// Opens signals.
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

impl<M: Limits, L: Ledger> Consents<M, L> {
    /// Starts to follow, until the group of tasks is told to stop; where no consents are counted there is nothing to do.
    pub fn spawn(self) {
        let tasks = self.tasks.clone();
        if self.counted.tenants().next().is_some() {
            tasks.spawn("consents", self.run());
        }
    }

    async fn run(mut self) {
        let (stop, mut places, mut stuck) = (self.tasks.stop().clone(), HashMap::new(), false);
        while stop.run_until_cancelled(self.clock.pause(EVERY)).await.is_some() {
            if !self.pen.0.load(Ordering::Relaxed) {
                // Whoever holds it now goes on from the bookmarks.
                places.clear();
                continue;
            }
            let last = *self.committed.borrow_and_update();
            match self.catch_up(&mut places, last).await {
                Ok(()) | Err(Stuck::Limits(LimitsError::Recovering)) => stuck = false,
                Err(problem) if !stuck => {
                    warn!(%problem, "cannot count consents; trying again");
                    stuck = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Goes on up to what is committed.
    async fn catch_up(&self, places: &mut HashMap<TenantId, i64>, last: i64) -> Result<(), Stuck> {
        for tenant in self.counted.tenants() {
            let reader = format!("consents:{tenant}");
            let mut at = match places.get(tenant) {
                Some(&at) => at,
                None => self.ledger.bookmark(&reader).await?,
            };
            while at < last && !self.tasks.stopping() {
                let page = self.ledger.replies(tenant, at, PAGE).await?;
                let acts: Vec<_> = page.iter().filter_map(|heard| self.act(heard)).collect();
                if !acts.is_empty() {
                    self.limits.consent(self.clock.now(), &acts).await?;
                }
                match page.last() {
                    Some(end) => {
                        at = end.seq;
                        self.ledger.put_bookmark(&reader, at).await?;
                    }
                    // Of all up to there none was theirs.
                    None => at = last,
                }
                places.insert(tenant.clone(), at);
            }
        }
        Ok(())
    }

    fn act(&self, heard: &SealedReply) -> Option<ConsentAct> {
        heard.signal?;
        match open_heard(&heard.sealed, &self.sealer) {
            Ok(Heard::Signal(signal)) => self.counted.act(&signal, &self.sealer),
            Ok(Heard::Reply(_)) => None,
            Err(problem) => {
                error!(%problem, "a signal cannot be opened: if it gave a consent, that is not counted");
                None
            }
        }
    }
}
