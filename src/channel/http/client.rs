//! Requests to one server over connections that are kept. Says of each failure whether the request may have arrived.

use std::fmt;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::super::tls::{Tls, TlsError};
use crate::config::Endpoint;
use crate::domain::time::{Clock, Stopwatch, UnixMicros};
use crate::shutdown::Tasks;

/// Longest answer; clouds send some hundred bytes for each job.
const ANSWER_LEN_MAX: usize = 1024 * 1024;
/// A connection that was idle for longer is not used again: servers close theirs after a minute or so, and a request
/// that crosses such a close leaves everybody in doubt.
const IDLE_MAX: Duration = Duration::from_secs(15);
/// Waiting for a free connection and making one may each take one part in so many of a request's time. What is left is
/// the server's.
const WAIT_PARTS: u32 = 4;
/// Why what has expired is not sent.
pub const TOO_LATE: &str = "expires_at";

/// Why a request was not sent: the server cannot be reached.
pub const NO_CONNECTION: &str = "no_connection";

/// Sends requests to one server. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    endpoint: Endpoint,
    tls: Option<Tls>,
    /// One for each connection that there may be.
    places: Semaphore,
    idle: Mutex<Vec<Idle>>,
    clock: Clock,
    tasks: Tasks,
}

/// Why there is no answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Failure {
    /// Not a byte of the request was written, for this reason.
    #[error("not sent: {0}")]
    NotSent(&'static str),
    /// It may have arrived.
    #[error("no answer")]
    NoAnswer,
}

type Sender = SendRequest<Full<Bytes>>;

struct Idle {
    sender: Sender,
    since: Stopwatch,
}

/// A connection, encrypted or not.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

// === impl Client ===

impl Client {
    /// Returns a client with at most `connections` to `endpoint`; trusts `ca_file`, or without one what browsers trust.
    /// What it starts ends when `tasks` are told to stop and what is in flight is answered.
    ///
    /// # Errors
    /// [`TlsError`] when the certificates do not read.
    pub fn new(
        endpoint: &Endpoint,
        ca_file: Option<&Path>,
        connections: NonZeroU32,
        tasks: &Tasks,
        clock: &Clock,
    ) -> Result<Self, TlsError> {
        let tls = endpoint.secure().then(|| Tls::new(endpoint.host(), ca_file)).transpose()?;
        let shared = Arc::new(Shared {
            endpoint: endpoint.clone(),
            tls,
            places: Semaphore::new(connections.get() as usize),
            idle: Mutex::default(),
            clock: clock.clone(),
            tasks: tasks.clone(),
        });
        let (stop, idle) = (tasks.stop().clone(), Arc::clone(&shared));
        tasks.spawn("http_idle", async move {
            stop.cancelled().await;
            idle.idle().clear();
        });
        Ok(Self { shared })
    }

    /// Returns the server's base URL.
    pub fn endpoint(&self) -> &Endpoint {
        &self.shared.endpoint
    }

    /// Makes a connection that is not for requests: what it is for, the caller says on it.
    ///
    /// # Errors
    /// When there is none within `limit`.
    pub async fn dial(&self, limit: Duration) -> Result<Box<dyn Stream>, Failure> {
        let connected = self.shared.clock.timeout(limit, self.shared.connect()).await;
        let Ok(Ok(stream)) = connected else { return Err(Failure::NotSent(NO_CONNECTION)) };
        Ok(stream)
    }

    /// Sends a request, whose URI is a path with its query behind the endpoint's, and returns the answer. Takes at most
    /// `limit`. Adds `host`, unless it is there.
    ///
    /// # Errors
    /// [`Failure`], which says whether the request may have arrived. Nothing is sent twice.
    pub async fn send(&self, request: Request<Bytes>, limit: Duration) -> Result<Response<Bytes>, Failure> {
        self.send_before(UnixMicros::MAX, request, limit).await
    }

    /// The same, of what is not to be sent from `too_late` on, however long a connection is waited for.
    ///
    /// # Errors
    /// As [`Self::send`]; [`TOO_LATE`] is never sent.
    pub async fn send_before(
        &self,
        too_late: UnixMicros,
        mut request: Request<Bytes>,
        limit: Duration,
    ) -> Result<Response<Bytes>, Failure> {
        let watch = self.shared.clock.stopwatch();
        if !request.headers().contains_key(header::HOST) {
            let host = self.shared.endpoint.authority().parse().map_err(|_| Failure::NotSent("no_host"))?;
            request.headers_mut().insert(header::HOST, host);
        }
        let waited = self.shared.clock.timeout(limit / WAIT_PARTS, self.shared.places.acquire()).await;
        let Ok(Ok(_place)) = waited else { return Err(Failure::NotSent("no_free_connection")) };
        let mut request = request.map(Full::new);
        loop {
            let (mut sender, fresh) = match self.kept().await {
                Some(sender) => (sender, false),
                None => (self.connect(limit / WAIT_PARTS).await?, true),
            };
            if self.shared.clock.now() >= too_late {
                self.keep(sender);
                return Err(Failure::NotSent(TOO_LATE));
            }
            let left = limit.saturating_sub(watch.elapsed());
            let sent = self.shared.clock.timeout(left, async {
                match sender.try_send_request(request).await {
                    Ok(answer) => Ok(whole(answer).await),
                    Err(mut error) => Err(error.take_message()),
                }
            });
            match sent.await {
                Ok(Ok(Some(answer))) => {
                    self.keep(sender);
                    return Ok(answer);
                }
                // The connection had ended before the request was written.
                Ok(Err(Some(_unwritten))) if fresh => return Err(Failure::NotSent("connection_closed")),
                Ok(Err(Some(unwritten))) => request = unwritten,
                Ok(Ok(None) | Err(None)) | Err(_) => return Err(Failure::NoAnswer),
            }
        }
    }

    /// Connects, and sends nothing. Takes at most `limit`.
    ///
    /// # Errors
    /// [`Failure::NotSent`] when there is no connection.
    pub async fn reach(&self, limit: Duration) -> Result<(), Failure> {
        self.connect(limit).await.map(|sender| self.keep(sender))
    }

    /// Returns a kept connection that is still good, if there is one: the one that was used last.
    async fn kept(&self) -> Option<Sender> {
        loop {
            let Idle { mut sender, since } = self.shared.idle().pop()?;
            if since.elapsed() < IDLE_MAX && !sender.is_closed() && sender.ready().await.is_ok() {
                return Some(sender);
            }
        }
    }

    fn keep(&self, sender: Sender) {
        let mut idle = self.shared.idle();
        if !self.shared.tasks.stopping() && !sender.is_closed() {
            idle.push(Idle { sender, since: self.shared.clock.stopwatch() });
        }
    }

    async fn connect(&self, limit: Duration) -> Result<Sender, Failure> {
        let stream = self.dial(limit).await?;
        let shaken = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = shaken.map_err(|_| Failure::NotSent(NO_CONNECTION))?;
        self.shared.tasks.spawn("http_connection", async move {
            // Whoever waits on it is told.
            let _ended = connection.await;
        });
        sender.ready().await.map_err(|_| Failure::NotSent(NO_CONNECTION))?;
        Ok(sender)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.shared.endpoint).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect((self.endpoint.host(), self.endpoint.port())).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(tcp),
            Some(tls) => Box::new(tls.connector.connect(tls.server_name.clone(), tcp).await?),
        })
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Idle>> {
        // A push or a pop that panicked left the list good.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an answer to its end; `None` when it breaks off or is too long.
async fn whole(answer: Response<hyper::body::Incoming>) -> Option<Response<Bytes>> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_LEN_MAX).collect().await.ok()?;
    Some(Response::from_parts(head, body.to_bytes()))
}
