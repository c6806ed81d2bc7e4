//! The embedded queue: durable lanes in one append-only log, with one sync for each group of publishes.
//!
//! A frame is written once, however many queues its route has; in memory there are sequences and places only. One thread
//! owns the files and everything about them, so that no disk ever blocks a worker of the runtime. Acknowledgements and
//! delivery counts are written without a sync: a process that is killed loses none of them, a machine that stops may
//! lose the last ones, in which case every frame that waits counts as delivered once.

mod batch;
mod cache;
mod clean;
mod consumers;
mod index;
mod log;
mod record;
#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use self::consumers::Hand;
use self::writer::{Joined, Request, Writer};
use super::{Delivery, FRAME_BYTES_MAX, PublishError, Queue, QueueError, QueueName, Route, Settled};
use crate::domain::ids::Lane;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// Requests that wait for the thread. With frames of the largest size 64 MiB.
const INBOX_MAX: usize = 1_024;

/// Most settlements passed on in one request.
const SETTLED_MAX: usize = 1_024;

/// What may be set about an embedded queue.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long a publish may take.
    pub publish_timeout: Duration,
    /// Most frames in a lane or in a suspect queue.
    pub lane_length_max: usize,
    /// Most frames in each of the other queues, which must hold what a slow ledger leaves waiting.
    pub backlog_length_max: usize,
    /// Most bytes of the log, dead ones included; above it nothing is taken.
    pub bytes_max: u64,
    /// Size of one file of the log, in bytes; at most 1 GiB.
    pub segment_bytes: u64,
    /// Bytes of frames kept in memory for consumers that keep up.
    pub cache_bytes: usize,
}

/// Lanes on the local disk, for one process. Cheap to clone; all clones are one queue.
#[derive(Clone, Debug)]
pub struct Embedded {
    requests: mpsc::Sender<Request>,
    publish_timeout: Duration,
    relays: Relays,
    tasks: Tasks,
    clock: Clock,
}

/// The relays of all consumers: told to stop, and waited for, when the queue closes.
#[derive(Clone, Debug, Default)]
struct Relays {
    closing: CancellationToken,
    tracker: TaskTracker,
}

/// Passes on what became of the deliveries of one consumer.
struct Relay {
    joined: Joined,
    settlements: mpsc::UnboundedReceiver<Settled>,
    requests: mpsc::Sender<Request>,
    closing: CancellationToken,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            // Much longer than a sync takes, shorter than callers wait.
            publish_timeout: Duration::from_secs(5),
            lane_length_max: 50_000,
            // An hour of 500 frames/s.
            backlog_length_max: 2_000_000,
            bytes_max: 16 * 1024 * 1024 * 1024,
            segment_bytes: 32 * 1024 * 1024,
            cache_bytes: 16 * 1024 * 1024,
        }
    }
}

impl Options {
    fn length_max(&self, name: &QueueName) -> usize {
        match name {
            QueueName::Lane(_) | QueueName::Suspect(_) => self.lane_length_max,
            QueueName::Soon | QueueName::Later | QueueName::Record | QueueName::Signals | QueueName::Dead => {
                self.backlog_length_max
            }
        }
    }
}

// === impl Embedded ===

impl Embedded {
    /// Opens the queue in a directory of its own, which is made when it is missing, and replays its log.
    ///
    /// Its tasks end with [`Queue::close`], or when the last handle and the last consumer are gone.
    ///
    /// # Errors
    /// [`QueueError::Storage`] when the directory is in use by another process, damaged or not writable.
    pub async fn open(dir: &Path, options: Options, tasks: &Tasks, clock: &Clock) -> Result<Self, QueueError> {
        let (requests, inbox) = mpsc::channel(INBOX_MAX);
        let (opened, answer) = oneshot::channel();
        let publish_timeout = options.publish_timeout;
        let dir = dir.to_owned();
        std::thread::Builder::new()
            .name("postrider-queue".into())
            .spawn(move || own(&dir, options, opened, inbox))
            .map_err(|error| QueueError::Storage(error.to_string().into()))?;
        answer.await.unwrap_or_else(|_| Err(ended()))?;
        let relays = Relays::default();
        Ok(Self { requests, publish_timeout, relays, tasks: tasks.clone(), clock: clock.clone() })
    }

    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.ok()?;
        answer.await.ok()
    }
}

impl Queue for Embedded {
    async fn declare(&self, lanes: &[Lane]) -> Result<(), QueueError> {
        let names = QueueName::needed(lanes).into_iter().collect();
        self.ask(|reply| Request::Declare { names, reply }).await.unwrap_or_else(|| Err(ended()))
    }

    async fn publish(&self, id: Uuid, frame: Bytes, route: Route) -> Result<(), PublishError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(PublishError::TooLarge(frame.len()));
        }
        let answer = self.ask(|reply| Request::Publish { id, frame, route, reply });
        match self.clock.timeout(self.publish_timeout, answer).await {
            Ok(Some(result)) => result,
            Ok(None) => Err(PublishError::Disconnected),
            Err(_) => Err(PublishError::Timeout),
        }
    }

    async fn consume(&self, from: QueueName, prefetch: u16) -> Result<mpsc::Receiver<Delivery>, QueueError> {
        let credit = usize::from(prefetch.max(1));
        let (deliveries, receiver) = mpsc::channel(credit);
        let (settled, settlements) = mpsc::unbounded_channel();
        let left = CancellationToken::new();
        let hand = Hand { deliveries: deliveries.clone(), settled, _left: left.clone().drop_guard() };
        let joined =
            self.ask(|reply| Request::Consume { from, credit, hand, reply }).await.unwrap_or_else(|| Err(ended()))?;
        let relay =
            Relay { joined, settlements, requests: self.requests.clone(), closing: self.relays.closing.clone() };
        self.tasks.spawn("queue settlements", self.relays.tracker.track_future(relay.run(deliveries, left)));
        Ok(receiver)
    }

    async fn depth(&self, of: &QueueName) -> Result<u64, QueueError> {
        let of = of.clone();
        self.ask(|reply| Request::Depth { of, reply }).await.unwrap_or_else(|| Err(ended()))
    }

    async fn close(&self) {
        // What was acknowledged by now is passed on before the thread ends.
        self.relays.closing.cancel();
        self.relays.tracker.close();
        let _late = self.clock.timeout(self.publish_timeout, self.relays.tracker.wait()).await;
        // A thread that hangs in the disk is left behind; whatever it confirmed is there.
        let closed = self.ask(|reply| Request::Close { reply });
        let _closed_before = self.clock.timeout(self.publish_timeout, closed).await;
    }
}

// === impl Relay ===

impl Relay {
    /// Works until the consumer is gone and every delivery it had is settled, or the queue closes.
    async fn run(mut self, deliveries: mpsc::Sender<Delivery>, left: CancellationToken) {
        let mut settled = Vec::new();
        loop {
            tokio::select! {
                biased;
                count = self.settlements.recv_many(&mut settled, SETTLED_MAX) => {
                    if count == 0 || self.pass_on(&mut settled).await.is_err() {
                        return;
                    }
                }
                () = deliveries.closed() => break,
                () = left.cancelled() => break,
                () = self.closing.cancelled() => break,
            }
        }
        drop(deliveries);
        let _closed = self.requests.send(Request::Leave { consumer: self.joined.consumer }).await;
        loop {
            tokio::select! {
                biased;
                () = self.closing.cancelled(), if !self.settlements.is_closed() => self.settlements.close(),
                count = self.settlements.recv_many(&mut settled, SETTLED_MAX) => {
                    if count == 0 || self.pass_on(&mut settled).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    async fn pass_on(&self, settled: &mut Vec<Settled>) -> Result<(), mpsc::error::SendError<Request>> {
        self.requests.send(Request::Settle { by: self.joined, settled: std::mem::take(settled) }).await
    }
}

/// The thread: opens, says how that went, and works.
fn own(dir: &Path, options: Options, opened: oneshot::Sender<Result<(), QueueError>>, inbox: mpsc::Receiver<Request>) {
    match Writer::open(dir, options) {
        Ok(writer) => {
            let _gone = opened.send(Ok(()));
            writer.run(inbox);
        }
        Err(error) => {
            let _gone = opened.send(Err(QueueError::Storage(error.to_string().into())));
        }
    }
}

fn ended() -> QueueError {
    QueueError::Storage("the queue is closed".into())
}
