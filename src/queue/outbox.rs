//! Publishes envelopes, checks and facts in shared frames: who publishes at the same time shares a frame, and an idle
//! service adds no wait.
//!
//! A few groups may be in flight per route. While a place is free, whatever waits goes out at once; while none is,
//! callers gather and the next frame is the fuller. So the linger is bounded by one confirm, and zero when idle.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::future::join_all;
use hashbrown::HashMap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::frame::{FRAME_JOBS_MAX, Frame, envelope_bytes, signal_bytes};
use super::{FRAME_BYTES_MAX, PublishError, Queue, Route};
use crate::domain::event::{CallStep, Called, Fact};
use crate::domain::ids::JobId;
use crate::domain::job::{Check, Envelope};
use crate::domain::rule::NAMES_BYTES_MAX;
use crate::domain::time::Clock;
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::QueueMetrics;

/// Groups in flight per route. Two keep the disk or the broker busy; more would only make the frames emptier.
const IN_FLIGHT: usize = 2;
/// Callers whose items share a group at most.
const GATHER_MAX: usize = 512;
/// What may wait per kind of item, in jobs; more waits in its callers. A job takes about 300 bytes here.
const WAITING_MAX: usize = 64 * 1024;
/// A frame is filled to about this, so that its seal and headers fit too.
const FILL_BYTES: usize = FRAME_BYTES_MAX - 8 * 1024;

/// What can share a frame with others of its kind.
pub trait Item: Sized + Send + 'static {
    /// Returns about how many bytes it takes in a frame.
    fn weight(&self) -> usize;
    /// Returns how many jobs it holds.
    fn jobs(&self) -> usize;
    /// Returns two that together are the same, or itself where it cannot be split.
    fn halves(self) -> Result<(Self, Self), Self>;
    /// Makes a frame of some.
    fn frame(items: Vec<Self>) -> Frame;
}

/// Publishes items of one kind. Cheap to clone.
pub struct Outbox<Q, T> {
    inner: Arc<Inner<Q, T>>,
}

struct Inner<Q, T> {
    queue: Q,
    sealer: Sealer,
    clock: Clock,
    tasks: Tasks,
    room: Arc<Semaphore>,
    metrics: QueueMetrics,
    lines: Mutex<HashMap<Route, mpsc::Sender<Waiting<T>>>>,
}

struct Waiting<T> {
    items: Vec<T>,
    told: oneshot::Sender<Result<(), PublishError>>,
    room: OwnedSemaphorePermit,
}

// === impl Outbox ===

impl<Q, T> Clone for Outbox<Q, T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<Q: Queue, T: Item> Outbox<Q, T> {
    /// Returns an outbox over `queue`; its tasks are of the group `tasks`.
    pub fn new(queue: Q, sealer: Sealer, clock: Clock, tasks: Tasks) -> Self {
        let room = Arc::new(Semaphore::new(WAITING_MAX));
        Self {
            inner: Arc::new(Inner {
                queue,
                sealer,
                clock,
                tasks,
                room,
                metrics: QueueMetrics::new(),
                lines: Mutex::default(),
            }),
        }
    }

    /// Publishes items, and returns once every frame that carries one of them is durable.
    ///
    /// # Errors
    /// The first error of those frames; the others may be durable all the same.
    pub async fn publish(&self, items: Vec<T>, route: Route) -> Result<(), PublishError> {
        if items.is_empty() {
            return Ok(());
        }
        let jobs = items.iter().map(T::jobs).sum::<usize>().clamp(1, WAITING_MAX);
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        let closed = |_| PublishError::Disconnected;
        let room = Arc::clone(&self.inner.room).acquire_many_owned(jobs).await.map_err(closed)?;
        let (told, answer) = oneshot::channel();
        let waiting = Waiting { items, told, room };
        self.line(route).send(waiting).await.map_err(|_| PublishError::Disconnected)?;
        answer.await.map_err(|_| PublishError::Disconnected)?
    }

    fn line(&self, route: Route) -> mpsc::Sender<Waiting<T>> {
        let mut lines = self.inner.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = lines.get(&route).filter(|line| !line.is_closed()) {
            return line.clone();
        }
        let (tx, rx) = mpsc::channel(GATHER_MAX);
        lines.insert(route.clone(), tx.clone());
        let inner = Arc::clone(&self.inner);
        self.inner.tasks.spawn("outbox", run_line(inner, route, rx));
        tx
    }
}

/// Publishes what comes in on one line, until the group of tasks stops and the line is empty.
async fn run_line<Q: Queue, T: Item>(inner: Arc<Inner<Q, T>>, route: Route, mut line: mpsc::Receiver<Waiting<T>>) {
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let mut group = Vec::new();
        tokio::select! {
            _ = line.recv_many(&mut group, GATHER_MAX) => {}
            () = inner.tasks.stop().cancelled() => {
                // What is in the line was sent before the stop: it is published, then the line ends.
                line.close();
                line.recv_many(&mut group, GATHER_MAX).await;
            }
        }
        if group.is_empty() {
            break;
        }
        let (sharing, route) = (Arc::clone(&inner), route.clone());
        inner.tasks.spawn("publish", async move {
            publish(&sharing, group, &route).await;
            drop(place); // Held for exactly as long as the frames are in flight.
        });
    }
}

/// Publishes the items of several callers, and tells each what became of the frames that carry its own.
async fn publish<Q: Queue, T: Item>(inner: &Inner<Q, T>, group: Vec<Waiting<T>>, route: &Route) {
    let mut items = Vec::new();
    let mut callers = Vec::with_capacity(group.len());
    for waiting in group {
        let first = items.len();
        items.extend(waiting.items);
        callers.push((first..items.len(), waiting.told, waiting.room));
    }
    let packed = pack(items, &inner.sealer);
    let publish = |packed: Packed| async move {
        let id = JobId::new(inner.clock.now(), fastrand::u128(..)).0;
        let watch = inner.clock.stopwatch();
        let answer = match packed.frame {
            Ok(frame) => inner.queue.publish(id, frame, route.clone()).await,
            Err(error) => Err(error),
        };
        match &answer {
            Ok(()) => inner.metrics.published(matches!(route, Route::Accept(_)), watch.elapsed()),
            Err(error) => inner.metrics.failed(error.word()),
        }
        (packed.items, answer)
    };
    let answers = join_all(packed.into_iter().map(publish)).await;
    for (range, told, room) in callers {
        let mut mine = answers.iter().filter(|(items, _)| items.start < range.end && range.start < items.end);
        let answer = mine.try_for_each(|(_, answer)| answer.clone());
        // A caller that went away learns it by its key.
        let _gone = told.send(answer);
        drop(room);
    }
}

/// A frame, and which of the items are in it, at least in part.
struct Packed {
    items: Range<usize>,
    frame: Result<Bytes, PublishError>,
}

/// Fills frames with items in order.
fn pack<T: Item>(items: Vec<T>, sealer: &Sealer) -> Vec<Packed> {
    let mut packed = Vec::new();
    let (mut fill, mut bytes, mut jobs, mut first) = (Vec::new(), 0, 0, 0);
    for item in items {
        let full = bytes + item.weight() > FILL_BYTES || jobs + item.jobs() > FRAME_JOBS_MAX;
        if full && !fill.is_empty() {
            let count = fill.len();
            seal_into(&mut packed, first, std::mem::take(&mut fill), sealer);
            (first, bytes, jobs) = (first + count, 0, 0);
        }
        bytes += item.weight();
        jobs += item.jobs();
        fill.push(item);
    }
    seal_into(&mut packed, first, fill, sealer);
    packed
}

/// Seals items as one frame, or as several where one is too small for them.
fn seal_into<T: Item>(packed: &mut Vec<Packed>, first: usize, mut items: Vec<T>, sealer: &Sealer) {
    let weight: usize = items.iter().map(T::weight).sum();
    let range = first..first + items.len();
    if weight > FILL_BYTES && items.len() > 1 {
        let rest = items.split_off(items.len() / 2);
        let middle = first + items.len();
        seal_into(packed, first, items, sealer);
        return seal_into(packed, middle, rest, sealer);
    }
    if weight > FILL_BYTES
        && let Some(item) = items.pop()
    {
        match item.halves() {
            Ok((one, other)) => {
                seal_into(packed, first, vec![one], sealer);
                return seal_into(packed, first, vec![other], sealer);
            }
            Err(whole) => items.push(whole),
        }
    }
    let frame = T::frame(items).encode(sealer).map_err(|_| PublishError::TooLarge(weight));
    packed.push(Packed { items: range, frame });
}

// === impl Item ===

impl Item for Envelope {
    fn weight(&self) -> usize {
        envelope_bytes(self)
    }

    fn jobs(&self) -> usize {
        self.jobs.len()
    }

    fn halves(mut self) -> Result<(Self, Self), Self> {
        if self.jobs.len() < 2 {
            return Err(self);
        }
        let rest = self.jobs.split_off(self.jobs.len() / 2);
        let rest = self.with_jobs(rest);
        Ok((self, rest))
    }

    fn frame(items: Vec<Self>) -> Frame {
        Frame::Jobs(items)
    }
}

impl Item for Check {
    fn weight(&self) -> usize {
        self.envelope.weight()
    }

    fn jobs(&self) -> usize {
        1
    }

    fn halves(self) -> Result<(Self, Self), Self> {
        Err(self)
    }

    fn frame(items: Vec<Self>) -> Frame {
        Frame::Checks(items)
    }
}

fn left_bytes(called: &Called) -> usize {
    match &called.step {
        CallStep::Ended { left: Some(left), .. } => {
            envelope_bytes(&left.again) + left.follows.len() + 1 + pairs_bytes(&left.heard)
        }
        CallStep::Ended { left: None, .. } | CallStep::Moved(_) | CallStep::Withdrawn(_) | CallStep::Lost => 0,
    }
}

fn pairs_bytes(pairs: &[(Box<str>, Box<str>)]) -> usize {
    pairs.iter().map(|(name, value)| name.len() + value.len() + 6).sum::<usize>() + 3
}

impl Item for Fact {
    fn weight(&self) -> usize {
        match self {
            Self::Event(event) => 96 + event.change.weight(),
            Self::Receipt(receipt) => 96 + receipt.message_id.len() + receipt.code.len(),
            Self::Reply(reply) => 160 + reply.text.len(),
            Self::Called(called) => 160 + called.report_len() + left_bytes(called),
            Self::Suppressed(_, plain) => 120 + plain.address.len() + plain.word.len(),
            Self::Unsuppressed(..) => 160,
            Self::Ruled(_) => 128 + NAMES_BYTES_MAX,
            Self::Elapsed(..) => 96,
            Self::Signal(signal) => 1 + signal_bytes(signal),
            Self::Owed(owed) => 32 + envelope_bytes(&owed.call) + pairs_bytes(&owed.heard),
        }
    }

    fn jobs(&self) -> usize {
        1
    }

    fn halves(self) -> Result<(Self, Self), Self> {
        Err(self)
    }

    fn frame(items: Vec<Self>) -> Frame {
        Frame::Facts(items)
    }
}
