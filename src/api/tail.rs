//! Tells watchers that the ledger has grown: one look for all of a process's watchers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::status::Error;
use crate::domain::time::Clock;
use crate::ledger::Ledger;
use crate::shutdown::Tasks;

/// Between two looks: a twentieth of a second is as good as at once to a watcher, and nothing to a ledger.
const LOOK: Duration = Duration::from_millis(50);
/// Most watchers of a process: each may hold two pages of events.
const WATCHERS_MAX: usize = 256;

/// Where watchers wait. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Tail {
    places: Arc<Semaphore>,
    last: watch::Sender<i64>,
}

/// A watcher's place.
#[derive(Debug)]
pub(super) struct Place {
    last: watch::Receiver<i64>,
    _held: OwnedSemaphorePermit,
}

impl Tail {
    /// Starts to look at the ledger, as long as anybody watches, until `tasks` stop.
    pub(super) fn start(ledger: impl Ledger, clock: Clock, tasks: &Tasks) -> Self {
        let tail = Self { places: Arc::new(Semaphore::new(WATCHERS_MAX)), last: watch::Sender::new(0) };
        let (last, stop) = (tail.last.clone(), tasks.stop().clone());
        tasks.spawn("tail", async move {
            while stop.run_until_cancelled(clock.pause(LOOK)).await.is_some() {
                if last.receiver_count() == 0 {
                    continue;
                }
                // A ledger that is away has nothing new; the watchers' own reads say so.
                if let Ok((seq, _)) = ledger.last_seq().await {
                    last.send_if_modified(|known| std::mem::replace(known, seq) != seq);
                }
            }
        });
        tail
    }

    /// Takes a place among the watchers.
    ///
    /// # Errors
    /// [`Error::TooManyWatchers`].
    pub(super) fn place(&self) -> Result<Place, Error> {
        let held = Arc::clone(&self.places).try_acquire_owned().map_err(|_| Error::TooManyWatchers(WATCHERS_MAX))?;
        Ok(Place { last: self.last.subscribe(), _held: held })
    }
}

impl Place {
    /// Waits until the ledger holds an event after `seq`, for at most `limit`.
    pub(super) async fn grown(&mut self, seq: i64, clock: &Clock, limit: Duration) {
        let _quiet = clock.timeout(limit, self.last.wait_for(|last| *last > seq)).await;
    }
}
