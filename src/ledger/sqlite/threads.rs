//! Threads that own a connection each and take work from one bounded queue.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::domain::time::Clock;
use crate::ledger::LedgerError;

/// Calls that may wait for a thread: more only make every answer later.
const QUEUE: usize = 64;

/// How long a call may take in all. A disk that hangs for longer is out of order, and the caller decides what to do.
const CALL: Duration = Duration::from_secs(30);

/// How long closing waits for calls in hand and the last copy of the log into the file.
const CLOSE: Duration = Duration::from_secs(10);

type Work = Box<dyn FnOnce(&mut Connection) + Send>;

/// A few threads and the way to them.
pub(super) struct Threads {
    queue: Mutex<Option<mpsc::Sender<Work>>>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
    clock: Clock,
}

impl Threads {
    /// Starts a thread per connection.
    pub(super) fn start(name: &str, connections: Vec<Connection>, clock: Clock) -> Result<Self, LedgerError> {
        let (queue, work) = mpsc::channel::<Work>(QUEUE);
        let (alive, ended) = mpsc::channel(1);
        let work = Arc::new(Mutex::new(work));
        for mut connection in connections {
            let (work, alive) = (Arc::clone(&work), alive.clone());
            let serve = move || {
                let _alive = alive;
                while let Some(work) = next(&work) {
                    work(&mut connection);
                }
            };
            std::thread::Builder::new()
                .name(name.into())
                .spawn(serve)
                .map_err(|error| LedgerError::Unreachable(error.to_string().into()))?;
        }
        Ok(Self { queue: Mutex::new(Some(queue)), ended: tokio::sync::Mutex::new(ended), clock })
    }

    /// Runs `work` on the next free thread. After an error from here the work may still be carried out.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let queue = self.queue()?;
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            // Nobody waits any more when the call took too long.
            let _gone = answer.send(work(connection));
        });
        let call = async move {
            queue.send(work).await.map_err(|_| closed())?;
            answered.await.map_err(|_| closed())?
        };
        self.clock.timeout(CALL, call).await.map_err(|late| LedgerError::Unreachable(late.to_string().into()))?
    }

    /// Runs `work` on the next free thread, for a thread that may wait for it.
    pub(super) fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let (answer, answered) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let _gone = answer.send(work(connection));
        });
        self.queue()?.blocking_send(work).map_err(|_| closed())?;
        answered.blocking_recv().map_err(|_| closed())?
    }

    fn queue(&self) -> Result<mpsc::Sender<Work>, LedgerError> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(closed)
    }

    /// Takes no more work, and waits until the threads have ended.
    pub(super) async fn close(&self) {
        drop(self.queue.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut ended = self.ended.lock().await;
        if self.clock.timeout(CLOSE, ended.recv()).await.is_err() {
            tracing::warn!("the ledger file is still busy, leaving it");
        }
    }
}

fn next(work: &Mutex<mpsc::Receiver<Work>>) -> Option<Work> {
    work.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv()
}

fn closed() -> LedgerError {
    LedgerError::Unreachable("it is closed".into())
}
