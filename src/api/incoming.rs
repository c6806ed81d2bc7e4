//! Connections as they come in: a bounded number of them, and none that says nothing.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::domain::time::Clock;

/// Most connections at a time; more wait in the listener's backlog. A busy caller needs one, with 1024 calls in it.
const CONNECTIONS_MAX: usize = 1024;
/// How long a connection may be silent at first. Later silence is ended by keepalive.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// After a failed accept (no more file descriptors, mostly) the next is tried this much later.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// A connection that holds its place.
pub(super) struct Held {
    stream: TcpStream,
    /// Ends the connection unless a byte comes first.
    silence: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    _place: OwnedSemaphorePermit,
}

/// Returns the connections that come in on `listener`.
pub(super) fn incoming(listener: TcpListener, clock: Clock) -> impl Stream<Item = io::Result<Held>> {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    stream::unfold((listener, places, clock), |(listener, places, clock)| async move {
        // Place first, connection second. The semaphore is never closed.
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let (stream, _) = accept(&listener, &clock).await;
        let waiting = clock.clone();
        let silence = Box::pin(async move { waiting.pause(FIRST_BYTE).await });
        let held = Held { stream, silence: Some(silence), _place: place };
        Some((Ok(held), (listener, places, clock)))
    })
}

async fn accept(listener: &TcpListener, clock: &Clock) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                // A small answer must not wait for a full segment; without it, calls are slower and still right.
                let _slower = stream.set_nodelay(true);
                return (stream, peer);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                clock.pause(ACCEPT_AGAIN).await;
            }
        }
    }
}

impl Connected for Held {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Held {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_read(cx, buf) {
            Poll::Ready(read) => {
                self.silence = None;
                Poll::Ready(read)
            }
            Poll::Pending => {
                let Some(silence) = &mut self.silence else { return Poll::Pending };
                ready!(silence.as_mut().poll(cx));
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
        }
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_place_is_held_as_long_as_its_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = pin!(incoming(listener, Clock::system()));
        let mut caller = TcpStream::connect(address).await.unwrap();
        let mut held = incoming.next().await.unwrap().unwrap();
        caller.write_all(b"hi").await.unwrap();
        let mut heard = [0; 2];
        held.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hi");
        assert!(held.silence.is_none(), "whoever has spoken may be silent");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_is_shown_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut incoming = pin!(incoming(listener, Clock::system()));
        let _caller = TcpStream::connect(address).await.unwrap();
        let mut held = incoming.next().await.unwrap().unwrap();
        let error = held.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
