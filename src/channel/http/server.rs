//! A small server: what comes is read whole, within bounds, and handed to one handler.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// How long the head of a request may take, and how long a connection may be idle.
const HEAD_MAX: Duration = Duration::from_secs(15);
/// How long the body of a request may take.
const BODY_MAX: Duration = Duration::from_secs(15);
/// Longest head of a request. Callbacks have some hundred bytes.
const HEAD_LEN_MAX: usize = 16 * 1024;

/// What a server allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Longest body, in bytes.
    pub body_len: usize,
    /// Most connections at a time; more wait to be accepted.
    pub connections: usize,
}

/// Why there is no body.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoBody {
    /// It is longer than allowed.
    #[error("too long")]
    TooLong,
    /// It broke off, or took too long.
    #[error("broken off")]
    Broken,
}

/// Answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Returns the answer; `None` closes the connection without one.
    fn handle(&self, head: Parts, body: Result<Bytes, NoBody>) -> impl Future<Output = Option<Response<Bytes>>> + Send;
}

/// A server that is bound and not serving yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

/// The handler closed the connection.
#[derive(Debug, thiserror::Error)]
#[error("closed without an answer")]
struct Closed;

// === impl Server ===

impl Server {
    /// Binds a server.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub async fn bind(listen: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        Ok(Self { address: listener.local_addr()?, listener })
    }

    /// Returns the address it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `tasks` are told to stop; what is being answered then is answered.
    pub fn spawn<H: Handler>(self, handler: Arc<H>, bounds: Bounds, tasks: &Tasks, clock: &Clock) {
        let (group, clock) = (tasks.clone(), clock.clone());
        tasks.spawn("http_listener", async move {
            let places = Arc::new(Semaphore::new(bounds.connections));
            while let Some(Ok(place)) = group.stop().run_until_cancelled(Arc::clone(&places).acquire_owned()).await {
                let Some(accepted) = group.stop().run_until_cancelled(self.listener.accept()).await else { return };
                let Ok((stream, _peer)) = accepted else {
                    // Out of file descriptors, most likely: others will close theirs.
                    clock.pause(Duration::from_millis(100)).await;
                    continue;
                };
                let (handler, clock, stop) = (Arc::clone(&handler), clock.clone(), group.stop().clone());
                group.spawn("http_peer", async move {
                    serve(stream, handler, bounds.body_len, (clock, stop)).await;
                    drop(place);
                });
            }
        });
    }
}

async fn serve<H: Handler>(
    stream: TcpStream,
    handler: Arc<H>,
    len_max: usize,
    (clock, stop): (Clock, CancellationToken),
) {
    let service = service_fn(move |request| {
        let (handler, clock) = (Arc::clone(&handler), clock.clone());
        async move {
            let (head, body) = read(request, len_max, &clock).await;
            handler.handle(head, body).await.map(|answer| answer.map(Full::new)).ok_or(Closed)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A caller that has said everything may still listen.
        .half_close(true)
        .header_read_timeout(HEAD_MAX)
        .max_buf_size(HEAD_LEN_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A peer that breaks off, or speaks something else, is its own problem.
    tokio::select! {
        _ended = connection.as_mut() => {}
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ended = connection.await;
        }
    }
}

async fn read(request: Request<Incoming>, len_max: usize, clock: &Clock) -> (Parts, Result<Bytes, NoBody>) {
    let (head, body) = request.into_parts();
    let body = match clock.timeout(BODY_MAX, Limited::new(body, len_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(NoBody::TooLong),
        Ok(Err(_)) | Err(_) => Err(NoBody::Broken),
    };
    (head, body)
}
