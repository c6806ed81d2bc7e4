//! The connection over which Asterisk tells what happens: a web socket that is made again for as long as there are calls.
//!
//! A call is set up only while it is open, so no event of a call is missed from its beginning. What is missed in between,
//! the calls ask for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, Message};
use tracing::{info, warn};

use super::super::super::http::client::Stream;
use super::super::super::http::header;
use super::Shared;
use super::event::{self, EVENT_LEN_MAX, Told};
use crate::rate_limited;

/// How long connecting may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Waits between connections: the first, and the longest; it doubles.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// Without an event for so long Asterisk is asked whether it is there; after as long again it is not.
const QUIET_MAX: Duration = Duration::from_secs(15);

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Keeps the connection, until the service stops and the last call has ended.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut wait = AGAIN.0;
    while !shared.done() {
        match connect(&shared).await {
            Ok(socket) => {
                wait = AGAIN.0;
                shared.connected().await;
                let why = listen(&shared, socket).await;
                shared.disconnected();
                if !shared.done() {
                    warn!(provider = %shared.settings.provider, why, "the events of Asterisk have ended; connecting again");
                }
            }
            Err(problem) => {
                rate_limited!(per_min = 6, warn, provider = %shared.settings.provider, %problem, "no connection to Asterisk");
            }
        }
        let pause = shared.clock.pause(wait.mul_f64(0.5 + fastrand::f64() / 2.0));
        if shared.tasks.stop().run_until_cancelled(pause).await.is_none() && !shared.done() {
            // Stopping, with calls that go on.
            shared.clock.pause(wait).await;
        }
        wait = (wait * 2).min(AGAIN.1);
    }
    info!(provider = %shared.settings.provider, "no more calls; the connection to Asterisk is closed");
}

async fn connect(shared: &Shared) -> Result<Socket, Box<dyn std::error::Error + Send + Sync>> {
    let stream = shared.ari.client().dial(CONNECT_MAX).await?;
    let uri = format!("ws://{}{}", shared.ari.client().endpoint().authority(), shared.ari.events_path());
    let mut request = uri.into_client_request()?;
    request.headers_mut().insert(header::AUTHORIZATION, shared.ari.authorization().clone());
    let bounds = WebSocketConfig::default().max_message_size(Some(EVENT_LEN_MAX)).max_frame_size(Some(EVENT_LEN_MAX));
    let shaken = tokio_tungstenite::client_async_with_config(request, stream, Some(bounds));
    let (socket, _answer) = shared.clock.timeout(CONNECT_MAX, shaken).await??;
    Ok(socket)
}

/// Takes events until there are no more; returns why.
async fn listen(shared: &Shared, mut socket: Socket) -> &'static str {
    let mut asked = false;
    loop {
        let said = tokio::select! {
            said = shared.clock.timeout(QUIET_MAX, socket.next()) => said,
            () = shared.finished() => return "stopped",
        };
        match said {
            Ok(Some(Ok(Message::Text(text)))) => match event::read(&text) {
                Told::Channel(channel, signal) => shared.tell(&channel, signal),
                Told::Replaced => return "another process has taken the events: give each its own `app`",
                Told::Other => {}
            },
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::Protocol(_))) | None) => {
                return "closed";
            }
            Ok(Some(Err(_))) => return "broken",
            Err(_) if asked => return "silent",
            Err(_) => {
                asked = true;
                if socket.send(Message::Ping("there?".into())).await.is_err() {
                    return "broken";
                }
                continue;
            }
        }
        asked = false;
    }
}
