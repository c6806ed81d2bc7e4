//! Requests to the Asterisk REST Interface (ARI, version 8 and later; docs.asterisk.org).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use serde_json::json;

use super::super::super::Answer;
use super::super::super::http::client::{Client, Failure};
use super::super::super::http::{Bytes, HeaderValue, Method, Request, StatusCode, header};
use super::super::super::login::Login;
use crate::config::Asterisk as Link;

/// How long Asterisk may take to do something in a call that is up.
const COMMAND_MAX: Duration = Duration::from_secs(5);

/// One Asterisk.
#[derive(Clone)]
pub(super) struct Ari {
    client: Client,
    path: Box<str>,
    app: Box<str>,
    endpoint: Box<str>,
    authorization: HeaderValue,
    limit: Duration,
}

/// A call to be set up.
pub(super) struct Originate<'a> {
    /// The channel's id: our attempt.
    pub(super) channel: &'a str,
    /// The number, with `+`.
    pub(super) number: &'a str,
    /// Where it comes from; empty: as the trunk has it.
    pub(super) caller: &'a str,
    /// How long it rings.
    pub(super) ring: Duration,
    /// Asterisk ends it after so long even if nobody tells it to.
    pub(super) longest: Duration,
}

/// A channel that Asterisk has.
#[derive(Deserialize, Debug)]
pub(super) struct Found {
    /// Its id.
    pub(super) id: String,
    /// `Up` once somebody answered.
    pub(super) state: String,
}

/// Asterisk did not do it: the channel is gone, or Asterisk is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotDone;

/// Why nothing is recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unrecorded {
    /// The call is over, or leaves us, or Asterisk did not answer: nothing is wrong with its recordings.
    NotDone,
    /// Asterisk has the call, and cannot record it.
    Refused,
}

// === impl Ari ===

impl Ari {
    pub(super) fn new(link: &Link, client: Client, limit: Duration) -> Self {
        let credentials = BASE64.encode(format!("{}:{}", link.user, link.password.reveal()));
        // Base64 is always a header's value.
        let mut authorization =
            HeaderValue::from_str(&format!("Basic {credentials}")).unwrap_or_else(|_| HeaderValue::from_static(""));
        authorization.set_sensitive(true);
        let path = format!("{}/ari", client.endpoint().path()).into();
        Self { client, path, app: link.app.clone(), endpoint: link.trunk.clone(), authorization, limit }
    }

    /// Returns path and query of the events of our application.
    pub(super) fn events_path(&self) -> String {
        // Subscribed to what is ours alone: many processes may share an Asterisk, each with an application of its own.
        format!("{}/events?app={}", self.path, encoded(&self.app))
    }

    /// Returns what requests are authorized with.
    pub(super) fn authorization(&self) -> &HeaderValue {
        &self.authorization
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Asks what it is, which only users may.
    pub(super) async fn log_in(&self) -> Login {
        match self.send(Method::GET, "/asterisk/info", None, self.limit).await {
            Ok((StatusCode::OK, _)) => Login::Good,
            Ok((status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _)) => {
                Login::Refused(format!("http_{}", status.as_u16()).into())
            }
            Ok((status, _)) => Login::Unreachable(format!("it answers {status}: is ARI enabled?").into()),
            Err(failure) => Login::Unreachable(failure.to_string().into()),
        }
    }

    /// Sets a call up.
    pub(super) async fn originate(&self, call: &Originate<'_>) -> Answer {
        let digits = call.number.trim_start_matches('+');
        let endpoint = self.endpoint.replace("{number}", digits).replace("{e164}", call.number);
        let body = json!({
            "endpoint": endpoint,
            "app": &*self.app,
            "callerId": call.caller,
            "timeout": call.ring.as_secs(),
            "variables": { "TIMEOUT(absolute)": call.longest.as_secs().to_string() },
        });
        let path = format!("/channels/{}", encoded(call.channel));
        match self.send(Method::POST, &path, Some(&body), self.limit).await {
            Err(Failure::NotSent(code)) => not_sent(code),
            Err(Failure::NoAnswer) => Answer::NoAnswer,
            Ok((StatusCode::OK, _)) => Answer::Taken { message_ids: vec![], segments: 1, receipt_expected: true },
            // A channel with this id is there: this attempt was made before, and nobody knows how it goes.
            Ok((StatusCode::CONFLICT, _)) => Answer::NoAnswer,
            Ok((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _)) => not_sent("unauthorized"),
            // The endpoint is not there, or takes nothing: no channel was made.
            Ok((StatusCode::INTERNAL_SERVER_ERROR, _)) => not_sent("no_channel"),
            Ok((status, _)) if status.is_client_error() => not_sent(format!("http_{}", status.as_u16())),
            Ok(_) => Answer::NoAnswer,
        }
    }

    /// Calls whom a call is put through to, under an id of ours, for at most `ring`.
    pub(super) async fn dial(&self, leg: &Originate<'_>, endpoint: &str) -> Result<(), NotDone> {
        let digits = leg.number.trim_start_matches('+');
        let body = json!({
            "endpoint": endpoint.replace("{number}", digits).replace("{e164}", leg.number),
            "app": &*self.app,
            "callerId": leg.caller,
            "timeout": leg.ring.as_secs(),
            "variables": { "TIMEOUT(absolute)": leg.longest.as_secs().to_string() },
        });
        self.command(Method::POST, &format!("/channels/{}", encoded(leg.channel)), Some(&body)).await
    }

    /// Connects two channels by a bridge under an id of ours.
    pub(super) async fn connect(&self, bridge: &str, channels: [&str; 2]) -> Result<(), NotDone> {
        let bridge = format!("/bridges/{}", encoded(bridge));
        self.command(Method::POST, &bridge, Some(&json!({ "type": "mixing" }))).await?;
        let body = json!({ "channel": channels.join(",") });
        self.command(Method::POST, &format!("{bridge}/addChannel"), Some(&body)).await
    }

    /// Takes a bridge away.
    pub(super) async fn disconnect(&self, bridge: &str) -> Result<(), NotDone> {
        self.command(Method::DELETE, &format!("/bridges/{}", encoded(bridge)), None).await
    }

    /// Lets the dial plan listen to who has answered, in this context; it comes back with what it found.
    pub(super) async fn detect(&self, channel: &str, context: &str) -> Result<(), NotDone> {
        let body = json!({ "context": context, "extension": "s", "priority": 1 });
        self.command(Method::POST, &format!("/channels/{}/continue", encoded(channel)), Some(&body)).await
    }

    /// Returns a channel, `None` where there is none.
    pub(super) async fn channel(&self, channel: &str) -> Result<Option<Found>, NotDone> {
        match self.send(Method::GET, &format!("/channels/{}", encoded(channel)), None, COMMAND_MAX).await {
            Ok((StatusCode::NOT_FOUND, _)) => Ok(None),
            Ok((StatusCode::OK, body)) => serde_json::from_slice(&body).map(Some).map_err(|_| NotDone),
            Ok(_) | Err(_) => Err(NotDone),
        }
    }

    /// Returns every channel there is.
    pub(super) async fn channels(&self) -> Result<Vec<Found>, NotDone> {
        match self.send(Method::GET, "/channels", None, COMMAND_MAX).await {
            Ok((StatusCode::OK, body)) => serde_json::from_slice(&body).map_err(|_| NotDone),
            Ok(_) | Err(_) => Err(NotDone),
        }
    }

    /// Plays a recording under an id of ours.
    pub(super) async fn play(&self, channel: &str, playback: &str, media: &str) -> Result<(), NotDone> {
        let path = format!("/channels/{}/play/{}", encoded(channel), encoded(playback));
        self.command(Method::POST, &path, Some(&json!({ "media": media }))).await
    }

    /// Stops a playback.
    pub(super) async fn stop(&self, playback: &str) -> Result<(), NotDone> {
        self.command(Method::DELETE, &format!("/playbacks/{}", encoded(playback)), None).await
    }

    /// Records the far side under a name, until it is silent, presses `#` or has spoken for so long.
    pub(super) async fn record(&self, channel: &str, name: &str, longest: Duration) -> Result<(), Unrecorded> {
        let path = format!("/channels/{}/record", encoded(channel));
        let body = json!({
            "name": name, "format": "wav", "maxDurationSeconds": longest.as_secs(), "maxSilenceSeconds": 5,
            "ifExists": "fail", "beep": true, "terminateOn": "#",
        });
        match self.send(Method::POST, &path, Some(&body), COMMAND_MAX).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((StatusCode::NOT_FOUND | StatusCode::CONFLICT, _)) | Err(_) => Err(Unrecorded::NotDone),
            Ok(_) => Err(Unrecorded::Refused),
        }
    }

    /// Hangs up.
    pub(super) async fn hang_up(&self, channel: &str) -> Result<(), NotDone> {
        self.command(Method::DELETE, &format!("/channels/{}", encoded(channel)), None).await
    }

    async fn command(&self, method: Method, path: &str, body: Option<&serde_json::Value>) -> Result<(), NotDone> {
        match self.send(method, path, body, COMMAND_MAX).await {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok(_) | Err(_) => Err(NotDone),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        limit: Duration,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let body = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.path))
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body)
            .map_err(|_| Failure::NotSent("unwritable"))?;
        let answer = self.client.send(request, limit).await?;
        Ok((answer.status(), answer.into_body()))
    }
}

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

fn not_sent(code: impl Into<Box<str>>) -> Answer {
    Answer::NotSent { code: code.into(), retry_after: None }
}
