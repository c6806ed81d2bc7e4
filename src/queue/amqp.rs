//! The queue on RabbitMQ, 3.10 to 4.x: quorum queues, confirmed publishes, two connections that are kept up.
//!
//! # How a frame gets into two queues
//! Not by bindings: with two of them, the server confirms a message that only one still matches, and `mandatory` is
//! silent as long as any queue matched. A frame of [`Route::Accept`] is published twice, once to each queue, through the
//! default exchange, whose routes are the queues themselves. Each copy is `mandatory` and has its own confirm, and only
//! both together are an `Ok`. So a queue that somebody removed, or that is full, can never hide behind the other one. It
//! costs the bytes of the second copy between us and the server; what the server does with it, a write and a sync in
//! each queue, is the same.

mod checkup;
mod link;
mod outlet;
mod subscription;
mod topology;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub use self::checkup::checkup;
use self::link::{Line, Link, Purpose, State};
use self::outlet::Job;
use self::subscription::Subscription;
use self::topology::Topology;
use super::{Delivery, FRAME_BYTES_MAX, PublishError, Queue, QueueError, QueueName, Route};
use crate::domain::ids::Lane;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// What may be set about a queue server.
#[derive(Clone)]
pub struct Options {
    /// `amqp://user:password@host:port/vhost`, or `amqps` for TLS.
    pub url: Box<str>,
    /// PEM certificates to trust besides the public ones.
    pub ca: Option<Box<str>>,
    /// The first word of every queue name; one per installation on a server.
    pub prefix: Box<str>,
    /// How long a publish may take, and any other question to the server.
    pub publish_timeout: Duration,
    /// Channels to publish on. A channel is one process on the server, so a few use its cores.
    pub channels: u16,
    /// Most messages in flight on one channel; 256 to 1024. What confirms cost grows with it.
    pub in_flight: u16,
    /// Most frames in a lane or in a suspect queue. The server refuses soon after, not at once.
    pub lane_length_max: u32,
    /// Most frames in each of the other queues, which must hold what a slow ledger leaves waiting.
    pub backlog_length_max: u32,
}

/// Queues on a RabbitMQ server. Cheap to clone; all clones share two connections.
#[derive(Clone)]
pub struct Amqp {
    shared: Arc<Shared>,
    publishing: Link,
    consuming: Link,
    /// The channel that the next publish takes.
    turn: Arc<AtomicUsize>,
}

/// What all tasks know.
struct Shared {
    options: Options,
    topology: Topology,
    /// The queues that are declared again at every reconnect.
    known: Mutex<BTreeSet<QueueName>>,
    /// No more publishes and deliveries.
    closing: CancellationToken,
    /// No more connections.
    closed: CancellationToken,
    subscriptions: TaskTracker,
    connections: TaskTracker,
    tasks: Tasks,
    clock: Clock,
}

// === impl Options ===

impl Options {
    /// Returns the defaults for a server.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.into(),
            ca: None,
            prefix: "postrider".into(),
            // Longer than a confirm takes on a busy cluster, shorter than callers wait.
            publish_timeout: Duration::from_secs(5),
            channels: 4,
            in_flight: 512,
            lane_length_max: 50_000,
            // An hour of 500 frames/s.
            backlog_length_max: 2_000_000,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL holds a password.
        f.debug_struct("Options").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

// === impl Amqp ===

impl Amqp {
    /// Connects to the server. From then on connections are made again whenever they are lost.
    ///
    /// The tasks end with [`Queue::close`], so `tasks` is not a group that is waited for before.
    ///
    /// # Errors
    /// [`QueueError`] when the server cannot be reached or refuses now.
    pub async fn connect(options: Options, tasks: &Tasks, clock: &Clock) -> Result<Self, QueueError> {
        let shared = Arc::new(Shared {
            topology: Topology::new(&options),
            options,
            known: Mutex::default(),
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
            subscriptions: TaskTracker::new(),
            connections: TaskTracker::new(),
            tasks: tasks.clone(),
            clock: clock.clone(),
        });
        checkup::refuse_old(&shared.options.url, clock).await?;
        let publishing = Link::connect(Purpose::Publish, &shared).await?;
        let consuming = match Link::connect(Purpose::Consume, &shared).await {
            Ok(consuming) => consuming,
            Err(error) => {
                shared.end().await;
                return Err(error);
            }
        };
        Ok(Self { shared, publishing, consuming, turn: Arc::default() })
    }

    /// Publishes one message to each queue, on one channel, and returns when all are confirmed.
    async fn publish_all(&self, line: &Line, id: Uuid, frame: Bytes, route: &Route) -> Result<(), PublishError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let outlet = line.outlets.get(turn % line.outlets.len().max(1)).ok_or(PublishError::Disconnected)?;
        let mut answers = Vec::with_capacity(2);
        let count = u32::try_from(route.queues().count()).unwrap_or(u32::MAX);
        let permits = Arc::clone(&outlet.permits).acquire_many_owned(count).await;
        let mut permits = permits.map_err(|_| PublishError::Disconnected)?;
        for queue in route.queues() {
            let (reply, answer) = oneshot::channel();
            let Some(permit) = permits.split(1) else { break };
            let queue = self.shared.topology.name(queue);
            outlet.send(Job { id, frame: frame.clone(), queue, reply, permit });
            answers.push(answer);
        }
        let mut result = Ok(());
        for answer in answers {
            // An answer that cannot come any more: the connection is gone.
            result = result.and(answer.await.unwrap_or(Err(PublishError::Disconnected)));
        }
        result
    }
}

impl Queue for Amqp {
    async fn declare(&self, lanes: &[Lane]) -> Result<(), QueueError> {
        let names = QueueName::needed(lanes);
        let line = self.consuming.line()?;
        for name in &names {
            // One answer each: a new quorum queue takes its time, and there may be many.
            self.shared.answer(self.shared.topology.declare(&line.connection, [name.clone()])).await?;
        }
        self.shared.known.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
        Ok(())
    }

    async fn publish(&self, id: Uuid, frame: Bytes, route: Route) -> Result<(), PublishError> {
        if frame.len() > FRAME_BYTES_MAX {
            return Err(PublishError::TooLarge(frame.len()));
        }
        let line = match &*self.publishing.state.borrow() {
            _ if self.shared.closing.is_cancelled() => return Err(PublishError::Disconnected),
            State::Up(line) => Arc::clone(line),
            State::Blocked(why) => return Err(PublishError::Blocked(why.clone())),
            State::Down => return Err(PublishError::Disconnected),
        };
        let published = self.publish_all(&line, id, frame, &route);
        let result = match self.shared.clock.timeout(self.shared.options.publish_timeout, published).await {
            Ok(result) => result,
            Err(_) => match &*self.publishing.state.borrow() {
                State::Blocked(why) => Err(PublishError::Blocked(why.clone())),
                State::Up(_) => Err(PublishError::Timeout),
                State::Down => Err(PublishError::Disconnected),
            },
        };
        if result == Err(PublishError::Unroutable) {
            self.publishing.heal();
        }
        result
    }

    async fn consume(&self, from: QueueName, prefetch: u16) -> Result<mpsc::Receiver<Delivery>, QueueError> {
        let queue = self.shared.topology.name(&from);
        let (subscription, receiver) = Subscription::new(&self.shared, &self.consuming, queue, prefetch.max(1));
        let stream = self.shared.answer(subscription.open()).await?;
        let run = self.shared.subscriptions.track_future(subscription.run(stream));
        self.shared.tasks.spawn("queue consumer", run);
        Ok(receiver)
    }

    async fn depth(&self, of: &QueueName) -> Result<u64, QueueError> {
        let line = self.consuming.line()?;
        self.shared.answer(self.shared.topology.depth(&line.connection, of)).await
    }

    async fn close(&self) {
        self.shared.closing.cancel();
        if let Ok(line) = self.publishing.line() {
            // Every message in flight holds a permit until it is confirmed.
            let all = u32::from(self.shared.options.in_flight);
            let confirmed = async {
                for outlet in &line.outlets {
                    let _closed = outlet.permits.acquire_many(all).await;
                }
            };
            let _late = self.shared.clock.timeout(self.shared.options.publish_timeout, confirmed).await;
        }
        self.shared.end().await;
    }
}

impl fmt::Debug for Amqp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Amqp").field("options", &self.shared.options).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn known(&self) -> BTreeSet<QueueName> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for an answer of the server, as long as a publish may take.
    async fn answer<T>(&self, question: impl Future<Output = Result<T, QueueError>>) -> Result<T, QueueError> {
        let answer = self.clock.timeout(self.options.publish_timeout, question).await;
        answer.unwrap_or_else(|_| Err(QueueError::Unreachable("no answer in time".into())))
    }

    /// Ends all tasks: first those that consume, then the connections.
    async fn end(&self) {
        self.closing.cancel();
        self.subscriptions.close();
        let _late = self.clock.timeout(self.options.publish_timeout, self.subscriptions.wait()).await;
        self.closed.cancel();
        self.connections.close();
        let _late = self.clock.timeout(self.options.publish_timeout, self.connections.wait()).await;
    }
}
