//! Callbacks: what providers tell us over HTTP. One router for all of them; each provider's parser says what a request
//! means and whether it is the provider's. The provider is thanked once what it said is durable.
//!
//! A request that is sent a second time, byte for byte, is thanked for and taken no second time: whoever has listened in
//! on a START must not be able to take back the STOP that came after it.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, join_all};
use hashbrown::HashMap;
use ring::digest::{Context, SHA256};
use tokio::sync::{mpsc, oneshot};

use crate::channel::callback::{Call, Callbacks, Refused};
use crate::channel::http::server::{Bounds, Handler, NoBody, Server};
use crate::channel::http::{Bytes, Method, Parts, Response, StatusCode, answer};
use crate::channel::{Inbound, News};
use crate::domain::ids::ProviderId;
use crate::domain::recent::Recent;
use crate::domain::time::Clock;
use crate::rate_limited;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::{CallbackMetrics, CallbackResult};

/// What stands in front of the provider's id.
const PREFIX: &str = "/callback/";
/// Longest body: a batch of some thousand receipts.
const BODY_LEN_MAX: usize = 1024 * 1024;
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 256;
/// How long a provider waits for our thanks at most; then it says everything again. Providers give up after 10 to 15 s.
const PATIENCE: Duration = Duration::from_secs(9);
/// Requests that are remembered, at about 50 bytes each.
const REMEMBERED: usize = 200_000;

/// The providers that call back, each with its parser.
pub type Desks = HashMap<ProviderId, Box<dyn Callbacks>>;

/// Takes callbacks of all providers.
pub struct Router {
    desks: Desks,
    inbox: mpsc::Sender<Inbound>,
    clock: Clock,
    metrics: CallbackMetrics,
    taken: Mutex<Recent<[u8; 32], ()>>,
}

/// It is not known to be durable.
struct NotDurable;

// === impl Router ===

impl Router {
    /// Returns a router that hands what is said to `inbox`.
    pub fn new(desks: Desks, inbox: mpsc::Sender<Inbound>, clock: Clock) -> Self {
        let metrics = CallbackMetrics::new(desks.keys());
        Self { desks, inbox, clock, metrics, taken: Mutex::new(Recent::new(REMEMBERED)) }
    }

    /// Serves on `server` until `tasks` stop.
    pub fn spawn(self, server: Server, tasks: &Tasks) {
        let clock = self.clock.clone();
        let bounds = Bounds { body_len: BODY_LEN_MAX, connections: CONNECTIONS_MAX };
        server.spawn(Arc::new(self), bounds, tasks, &clock);
    }

    async fn take(&self, desk: &dyn Callbacks, call: &Call<'_>) -> Result<CallbackResult, Refused> {
        let news = desk.read(call, self.clock.now())?;
        let print = fingerprint(call);
        if self.taken().contains(&print) {
            return Ok(CallbackResult::Replayed);
        }
        match self.clock.timeout(PATIENCE, self.say(news)).await {
            Ok(Ok(())) => {
                let mut taken = self.taken();
                taken.insert(print, ());
                taken.age();
                Ok(CallbackResult::Taken)
            }
            Ok(Err(NotDurable)) | Err(_) => Ok(CallbackResult::NotDurable),
        }
    }

    /// Lets a call that somebody drives take a request; returns its answer.
    async fn converse(
        &self,
        provider: &ProviderId,
        conversing: BoxFuture<'static, Option<Response<Bytes>>>,
    ) -> Response<Bytes> {
        match self.clock.timeout(PATIENCE, conversing).await {
            Ok(Some(answer)) => {
                self.metrics.count(provider, CallbackResult::Taken);
                answer
            }
            Ok(None) | Err(_) => {
                self.metrics.count(provider, CallbackResult::NotDurable);
                say(StatusCode::SERVICE_UNAVAILABLE, "not durable yet, say it again\n")
            }
        }
    }

    /// Counts what comes by another method than callbacks do; returns the answer.
    fn greet(&self, provider: &ProviderId, greeted: Option<Result<Response<Bytes>, Refused>>) -> Response<Bytes> {
        match greeted {
            Some(Ok(answer)) => {
                self.metrics.count(provider, CallbackResult::Taken);
                answer
            }
            Some(Err(why)) => self.refuse(provider, why),
            None => {
                self.metrics.count(provider, CallbackResult::Unreadable);
                say(StatusCode::METHOD_NOT_ALLOWED, "callbacks of this provider come by another method\n")
            }
        }
    }

    /// Counts what is refused; returns the answer.
    fn refuse(&self, provider: &ProviderId, why: Refused) -> Response<Bytes> {
        let (result, status, text) = match why {
            Refused::Signature => (CallbackResult::Signature, StatusCode::FORBIDDEN, "not signed by the provider\n"),
            Refused::Stale => (CallbackResult::Stale, StatusCode::FORBIDDEN, "signed at another time\n"),
            Refused::Unreadable => (CallbackResult::Unreadable, StatusCode::BAD_REQUEST, "not understood\n"),
        };
        self.metrics.count(provider, result);
        rate_limited!(per_min = 6, warn, %provider, %why, "a callback is refused");
        say(status, text)
    }

    /// Hands everything on; returns once it is durable.
    async fn say(&self, news: Vec<News>) -> Result<(), NotDurable> {
        let mut durable = Vec::with_capacity(news.len());
        for news in news {
            let (done, told) = oneshot::channel();
            self.inbox.send(Inbound { news, done }).await.map_err(|_| NotDurable)?;
            durable.push(told);
        }
        let told = join_all(durable).await;
        if told.iter().all(Result::is_ok) { Ok(()) } else { Err(NotDurable) }
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Recent<[u8; 32], ()>> {
        // A panic between two statements loses a memory, no meaning.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Router {
    async fn handle(&self, head: Parts, body: Result<Bytes, NoBody>) -> Option<Response<Bytes>> {
        let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
        let rest = head.uri.path().strip_prefix(PREFIX).unwrap_or_default();
        let (id, token) = rest.split_once('/').unwrap_or((rest, ""));
        let found = id.parse::<ProviderId>().ok().and_then(|id| self.desks.get_key_value(&id));
        let Some((provider, desk)) = found else {
            self.metrics.unknown();
            return Some(say(StatusCode::NOT_FOUND, "no provider calls back here\n"));
        };
        let count = |result| self.metrics.count(provider, result);
        if head.method != desk.method() {
            let call = Call { token, target, headers: &head.headers, body: &Bytes::new() };
            let greeted = if head.method == Method::GET { desk.greet(&call, self.clock.now()) } else { None };
            return Some(self.greet(provider, greeted));
        }
        let body = match body {
            Ok(body) => body,
            Err(NoBody::TooLong) => {
                count(CallbackResult::Body);
                return Some(say(StatusCode::PAYLOAD_TOO_LARGE, "at most 1 MiB is read\n"));
            }
            Err(NoBody::Broken) => {
                count(CallbackResult::Body);
                return None;
            }
        };
        let call = Call { token, target, headers: &head.headers, body: &body };
        if let Some(conversing) = desk.converse(&call) {
            return Some(self.converse(provider, conversing).await);
        }
        match self.take(&**desk, &call).await {
            Ok(result) => {
                count(result);
                Some(match result {
                    CallbackResult::Taken | CallbackResult::Replayed => desk.thanks(),
                    _ => say(StatusCode::SERVICE_UNAVAILABLE, "not durable yet, say it again\n"),
                })
            }
            Err(why) => Some(self.refuse(provider, why)),
        }
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").field("providers", &self.desks.len()).finish_non_exhaustive()
    }
}

fn say(status: StatusCode, text: &'static str) -> Response<Bytes> {
    answer(status, "text/plain; charset=utf-8", text)
}

fn fingerprint(call: &Call<'_>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    context.update(call.target.as_bytes());
    context.update(b"\0");
    context.update(call.body);
    let mut print = [0; 32];
    print.copy_from_slice(context.finish().as_ref());
    print
}
