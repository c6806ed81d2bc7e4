//! One connection that is kept up by a task of its own: connected again after every loss, with all queues verified
//! before anybody may use it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use lapin::tcp::OwnedTLSConfig;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties, Event};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::Shared;
use super::outlet::Outlet;
use super::topology::describe;
use crate::queue::QueueError;

/// Longest wait for TCP, TLS, log-in and the queues.
const CONNECT_MS_MAX: u64 = 10_000;

/// First and longest pause between two tries to connect.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// Silence, in seconds, after which either side takes a connection for dead.
const HEARTBEAT_S: u16 = 10;

/// How often a connection is looked at besides its events, and queues are declared again at most.
const TICK: Duration = Duration::from_secs(1);

/// How long a connection may take to say good-bye.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// What a connection is for. Never both: an alarm blocks everything on a connection that publishes, also acks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Publish,
    Consume,
}

/// Whether the connection can be used.
#[derive(Clone)]
pub(super) enum State {
    /// It is being connected.
    Down,
    /// All queues are there.
    Up(Arc<Line>),
    /// The server has an alarm and reads nothing.
    Blocked(Box<str>),
}

/// A connection that is up.
pub(super) struct Line {
    pub(super) connection: Connection,
    /// Where frames are published; empty for a connection that consumes.
    pub(super) outlets: Box<[Outlet]>,
    /// Cancelled when it is over with this connection.
    pub(super) over: CancellationToken,
}

/// Pauses between tries, longer each time.
#[derive(Default)]
pub(super) struct Backoff {
    limit: Duration,
    random: fastrand::Rng,
}

/// What everybody has who uses the connection.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) state: watch::Receiver<State>,
    heal: Arc<Notify>,
}

/// The task.
struct Keeper {
    purpose: Purpose,
    uri: AMQPUri,
    shared: Arc<Shared>,
    state: watch::Sender<State>,
    heal: Arc<Notify>,
}

// === impl Link ===

impl Link {
    /// Connects once, and keeps it up from then on.
    pub(super) async fn connect(purpose: Purpose, shared: &Arc<Shared>) -> Result<Self, QueueError> {
        let mut uri: AMQPUri = shared
            .options
            .url
            .parse()
            .map_err(|error: String| QueueError::Refused(format!("the URL: {error}").into()))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_S);
        uri.query.connection_timeout.get_or_insert(CONNECT_MS_MAX);
        let (state, receiver) = watch::channel(State::Down);
        let heal = Arc::new(Notify::new());
        let keeper = Keeper { purpose, uri, shared: Arc::clone(shared), state, heal: Arc::clone(&heal) };
        let line = keeper.connect().await?;
        keeper.state.send_replace(State::Up(Arc::clone(&line)));
        let run = shared.connections.track_future(keeper.run(line));
        shared.tasks.spawn("queue connection", run);
        Ok(Self { state: receiver, heal })
    }

    /// Returns the connection, when it is up.
    pub(super) fn line(&self) -> Result<Arc<Line>, QueueError> {
        match &*self.state.borrow() {
            State::Up(line) => Ok(Arc::clone(line)),
            State::Blocked(why) => Err(QueueError::Refused(why.clone())),
            State::Down => Err(QueueError::Unreachable("not connected".into())),
        }
    }

    /// Waits until the connection is up.
    pub(super) async fn up(&self) -> Option<Arc<Line>> {
        let mut state = self.state.clone();
        let up = state.wait_for(|state| matches!(state, State::Up(_))).await.ok()?;
        match &*up {
            State::Up(line) => Some(Arc::clone(line)),
            State::Down | State::Blocked(_) => None,
        }
    }

    /// Asks for all queues to be declared again, soon.
    pub(super) fn heal(&self) {
        self.heal.notify_one();
    }
}

// === impl Keeper ===

impl Keeper {
    /// Works until the queue is closed.
    async fn run(self, first: Arc<Line>) {
        let mut next = Some(first);
        let mut pause = Backoff::default();
        loop {
            let line = match next.take() {
                Some(line) => line,
                None => {
                    tokio::select! {
                        () = self.shared.closing.cancelled() => return,
                        () = self.shared.clock.pause(pause.next()) => {}
                    }
                    match self.connect().await {
                        Ok(line) => line,
                        Err(error) => {
                            warn!(%error, purpose = self.purpose.as_str(), "no connection to the queue server");
                            continue;
                        }
                    }
                }
            };
            pause = Backoff::default();
            info!(purpose = self.purpose.as_str(), "connected to the queue server");
            self.state.send_replace(State::Up(Arc::clone(&line)));
            self.watch(&line).await;
            self.state.send_replace(State::Down);
            self.leave(&line).await;
        }
    }

    /// Connects, verifies the queues and opens what is needed for publishing.
    async fn connect(&self) -> Result<Arc<Line>, QueueError> {
        let connected = self.shared.clock.timeout(Duration::from_millis(CONNECT_MS_MAX), self.try_connect()).await;
        connected.unwrap_or_else(|_| Err(QueueError::Unreachable("no answer".into())))
    }

    async fn try_connect(&self) -> Result<Arc<Line>, QueueError> {
        let name = format!("postrider {}", self.purpose.as_str());
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let tls = OwnedTLSConfig { identity: None, cert_chain: self.shared.options.ca.as_deref().map(str::to_owned) };
        let runtime = lapin::runtime::default_runtime().map_err(describe)?;
        let connection = Connection::connect_uri_with_config(self.uri.clone(), properties, tls, runtime);
        let connection = connection.await.map_err(describe)?;
        self.shared.topology.declare(&connection, self.shared.known()).await?;
        let over = CancellationToken::new();
        let mut outlets = Vec::new();
        if let Purpose::Publish = self.purpose {
            for _ in 0..self.shared.options.channels {
                outlets.push(Outlet::open(&connection, &self.shared, &over).await.map_err(describe)?);
            }
        }
        Ok(Arc::new(Line { connection, outlets: outlets.into(), over }))
    }

    /// Returns when the connection is lost, broken or no longer wanted.
    async fn watch(&self, line: &Arc<Line>) {
        let mut events = Box::pin(line.connection.events_listener());
        let mut heal_next = false;
        while line.connection.status().connected() {
            tokio::select! {
                event = events.next() => match event {
                    Some(Event::ConnectionBlocked(why)) => {
                        warn!(%why, purpose = self.purpose.as_str(), "the queue server takes no work");
                        self.state.send_replace(State::Blocked(why.into()));
                    }
                    Some(Event::ConnectionUnblocked) => {
                        info!(purpose = self.purpose.as_str(), "the queue server takes work again");
                        self.state.send_replace(State::Up(Arc::clone(line)));
                    }
                    Some(_) => {}
                    None => return,
                },
                () = self.heal.notified() => heal_next = true,
                () = line.over.cancelled() => return,
                () = self.shared.closed.cancelled() => return,
                () = self.shared.clock.pause(TICK) => {
                    if std::mem::take(&mut heal_next) && !self.declare_again(line).await {
                        return;
                    }
                }
            }
        }
    }

    /// Declares all queues again. Returns whether the server answered: one that does not, may never do so on this
    /// connection.
    async fn declare_again(&self, line: &Line) -> bool {
        let declared = self.shared.topology.declare(&line.connection, self.shared.known());
        let declared = self.shared.clock.timeout(Duration::from_millis(CONNECT_MS_MAX), declared);
        match line.over.run_until_cancelled(declared).await {
            Some(Ok(Ok(()))) => true,
            Some(Ok(Err(error))) => {
                warn!(%error, "cannot declare the queues again");
                true
            }
            Some(Err(_)) => {
                warn!("the queue server does not answer: connecting again");
                false
            }
            None => false,
        }
    }

    /// Says good-bye where anybody listens, and lets go of the connection.
    async fn leave(&self, line: &Line) {
        line.over.cancel();
        let _lost = self.shared.clock.timeout(GOODBYE_MAX, line.connection.close(200, "done".into())).await;
    }
}

// === impl Purpose ===

impl Purpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Consume => "consume",
        }
    }
}

// === impl Backoff ===

impl Backoff {
    /// Returns the next pause: at random up to a limit that doubles.
    pub(super) fn next(&mut self) -> Duration {
        self.limit = (self.limit * 2).clamp(BACKOFF_MIN, BACKOFF_MAX);
        self.limit.mul_f64(0.5 + 0.5 * self.random.f64())
    }
}
