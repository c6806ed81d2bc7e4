//! The queue port: durable lanes that carry frames from admission to dispatch and facts to record.
//!
//! # Contract
//! - [`Queue::publish`] returns `Ok` only when the frame is durable in *every* queue of its route; anything else is an
//!   error within the publish timeout, after which the frame may or may not be there.
//! - Every frame is delivered at least once, in order of publishing as long as nothing is requeued; a delivery that is
//!   dropped without [`Delivery::ack`] comes back with a higher count.
//! - At most `prefetch` deliveries of a consumer are un-acknowledged.

pub mod amqp;
pub mod any;
pub mod dead;
pub mod depths;
pub mod embedded;
pub mod frame;
pub mod outbox;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::str::FromStr;

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::domain::ids::{Lane, PoolId};
use crate::domain::job::Class;

pub use any::AnyQueue;

/// Most bytes in a frame.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A queue of the service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum QueueName {
    /// Work that may be sent now.
    Lane(Lane),
    /// Single jobs out of a frame that failed three times.
    Suspect(PoolId),
    /// Work due within 30 s.
    Soon,
    /// Work due later, for the agenda.
    Later,
    /// Accepted frames and facts, for the ledger. One consumer at a time, over all processes.
    Record,
    /// Signals, for the ledger: apart, so that whoever waits for one does not wait for what was accepted before it. One
    /// consumer at a time, over all processes: whoever consumes [`QueueName::Record`].
    Signals,
    /// Frames that were delivered too often.
    Dead,
}

/// The text does not name a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a queue")]
pub struct InvalidQueueName;

/// Where a frame goes, with one confirm.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Route {
    /// To a work queue and to record: how a frame is accepted.
    Accept(QueueName),
    /// To one queue.
    To(QueueName),
}

/// Why a frame is not known to be durable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No answer within the publish timeout.
    #[error("the queue did not confirm within the publish timeout")]
    Timeout,
    /// A queue of the route does not exist.
    #[error("no queue takes this frame")]
    Unroutable,
    /// A queue of the route is at its maximum length.
    #[error("the queue is full")]
    Full,
    /// The server has an alarm and takes nothing.
    #[error("the queue server takes no work: {0}")]
    Blocked(Box<str>),
    /// No connection, or it was lost before the confirm.
    #[error("no connection to the queue server")]
    Disconnected,
    /// The frame is larger than [`FRAME_BYTES_MAX`].
    #[error("the frame has {0} bytes, at most {FRAME_BYTES_MAX} are allowed")]
    TooLarge(usize),
    /// The disk refused.
    #[error("cannot write: {0}")]
    Storage(Box<str>),
}

/// Why a queue cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No connection.
    #[error("cannot reach the queue server: {0}")]
    Unreachable(Box<str>),
    /// The server answered and refused.
    #[error("the queue server refused: {0}")]
    Refused(Box<str>),
    /// The files are not usable.
    #[error("cannot use the queue files: {0}")]
    Storage(Box<str>),
}

/// Carries frames durably between the parts of the service.
pub trait Queue: Clone + Send + Sync + 'static {
    /// Makes sure that every queue exists which `lanes` need, with its bindings; harmless when repeated.
    fn declare(&self, lanes: &[Lane]) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Publishes a frame under a unique `id`, and returns once it is durable in every queue of `route`.
    fn publish(&self, id: Uuid, frame: Bytes, route: Route) -> impl Future<Output = Result<(), PublishError>> + Send;

    /// Starts to consume a queue. The deliveries end when the receiver is dropped; a backend that reconnects goes on
    /// delivering into the same receiver.
    fn consume(
        &self,
        from: QueueName,
        prefetch: u16,
    ) -> impl Future<Output = Result<mpsc::Receiver<Delivery>, QueueError>> + Send;

    /// Returns how many frames wait in a queue, without the un-acknowledged ones.
    fn depth(&self, of: &QueueName) -> impl Future<Output = Result<u64, QueueError>> + Send;

    /// Takes no more publishes and closes what is open, after what is in flight is confirmed.
    fn close(&self) -> impl Future<Output = ()> + Send;
}

/// A frame in the hands of a consumer. Dropped without [`Delivery::ack`], it goes back to its queue.
pub struct Delivery {
    /// The id it was published under.
    pub id: Uuid,
    /// The frame.
    pub frame: Bytes,
    /// 1 for the first delivery.
    pub count: u32,
    settle: Settle,
}

/// What a consumer decided about a delivery; backends receive it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// It is done with.
    Acked(u64),
    /// It comes back.
    Requeued(u64),
}

/// Tells the backend once what became of a delivery.
struct Settle {
    tag: u64,
    // As long as the un-acknowledged deliveries are bounded by the prefetch, so is this channel.
    to: Option<mpsc::UnboundedSender<Settled>>,
}

// === impl PublishError ===

impl PublishError {
    /// Returns the word under which it is counted.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unroutable => "unroutable",
            Self::Full => "full",
            Self::Blocked(_) => "blocked",
            Self::Disconnected => "disconnected",
            Self::TooLarge(_) => "too_large",
            Self::Storage(_) => "storage",
        }
    }
}

// === impl QueueName ===

impl QueueName {
    /// How often a frame of a lane is delivered before it is set aside in [`QueueName::Dead`].
    ///
    /// A frame is split into single jobs at its third delivery, so in practice only suspects get there.
    pub const DELIVERIES_MAX: u32 = 20;

    /// Returns every queue that work in `lanes` needs.
    pub fn needed(lanes: &[Lane]) -> BTreeSet<Self> {
        let fixed = [Self::Soon, Self::Later, Self::Record, Self::Signals, Self::Dead];
        let suspects = lanes.iter().map(|lane| Self::Suspect(lane.pool.clone()));
        lanes.iter().cloned().map(Self::Lane).chain(suspects).chain(fixed).collect()
    }

    /// Returns how often a frame is delivered before it is set aside; `None`: as often as it takes.
    ///
    /// Waiting work and facts are never set aside: nothing in them can harm, and a series of crashes must not cost any.
    pub fn deliveries_max(&self) -> Option<u32> {
        match self {
            Self::Lane(_) | Self::Suspect(_) => Some(Self::DELIVERIES_MAX),
            Self::Soon | Self::Later | Self::Record | Self::Signals | Self::Dead => None,
        }
    }

    /// Returns whether one consumer at a time gets its frames, over all processes: the one that has been there longest.
    pub fn exclusive(&self) -> bool {
        match self {
            Self::Record | Self::Signals => true,
            Self::Lane(_) | Self::Suspect(_) | Self::Soon | Self::Later | Self::Dead => false,
        }
    }
}

impl FromStr for QueueName {
    type Err = InvalidQueueName;
    fn from_str(raw: &str) -> Result<Self, InvalidQueueName> {
        let name = raw.strip_prefix("postrider.").ok_or(InvalidQueueName)?;
        let mut words = name.split('.');
        let mut word = || words.next().ok_or(InvalidQueueName);
        match word()? {
            "lane" => {
                let class = Class::from_word(word()?).ok_or(InvalidQueueName)?;
                let pool = word()?.parse().map_err(|_| InvalidQueueName)?;
                Ok(Self::Lane(Lane { class, pool }))
            }
            "suspect" => Ok(Self::Suspect(word()?.parse().map_err(|_| InvalidQueueName)?)),
            "soon" => Ok(Self::Soon),
            "later" => Ok(Self::Later),
            "record" => Ok(Self::Record),
            "signals" => Ok(Self::Signals),
            "dead" => Ok(Self::Dead),
            _ => Err(InvalidQueueName),
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lane(lane) => write!(f, "postrider.lane.{lane}"),
            Self::Suspect(pool) => write!(f, "postrider.suspect.{pool}"),
            Self::Soon => f.write_str("postrider.soon"),
            Self::Later => f.write_str("postrider.later"),
            Self::Record => f.write_str("postrider.record"),
            Self::Signals => f.write_str("postrider.signals"),
            Self::Dead => f.write_str("postrider.dead"),
        }
    }
}

// === impl Route ===

impl Route {
    /// Returns the queues that take the frame.
    pub fn queues(&self) -> impl Iterator<Item = &QueueName> {
        match self {
            Self::Accept(work) => [Some(work), Some(&QueueName::Record)],
            Self::To(queue) => [Some(queue), None],
        }
        .into_iter()
        .flatten()
    }
}

// === impl Delivery ===

impl Delivery {
    /// Returns a delivery whose fate is told to `settled` under `tag`.
    pub fn new(id: Uuid, frame: Bytes, count: u32, tag: u64, settled: mpsc::UnboundedSender<Settled>) -> Self {
        Self { id, frame, count, settle: Settle { tag, to: Some(settled) } }
    }

    /// Removes the frame from its queue.
    pub fn ack(mut self) {
        self.settle.tell(Settled::Acked);
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, frame, count, settle: _ } = self;
        write!(f, "Delivery({id}, {} bytes, time {count})", frame.len())
    }
}

// === impl Settle ===

impl Settle {
    fn tell(&mut self, settled: fn(u64) -> Settled) {
        if let Some(to) = self.to.take() {
            // A backend that is gone delivers the frame again by itself.
            let _gone = to.send(settled(self.tag));
        }
    }
}

impl Drop for Settle {
    fn drop(&mut self) {
        self.tell(Settled::Requeued);
    }
}
