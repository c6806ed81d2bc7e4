//! One simulated call: it rings, somebody answers or not, hears the documents and presses keys; callbacks tell how it goes.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use form_urlencoded::Serializer;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::super::post::sent;
use super::twiml::{self, Verb};
use super::{Seen, Shared};
use crate::channel::http::{Bytes, Response};
use crate::domain::time::Stopwatch;

/// Until a callback is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// Most documents of a call.
const DOCUMENTS_MAX: usize = 100;

/// A call, from its request on.
pub(super) struct Call {
    pub(super) id: String,
    pub(super) to: String,
    pub(super) from: String,
    pub(super) url: String,
    pub(super) callback: Option<String>,
    events: Vec<String>,
    timeout: Duration,
    longest: Duration,
    detect: bool,
    state: Mutex<State>,
    sequence: AtomicU32,
    /// Told to hang up.
    told: CancellationToken,
}

struct State {
    status: &'static str,
    seconds: Option<u64>,
    answered_by: Option<&'static str>,
    heard: Vec<String>,
}

/// What a callee does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Does {
    Rings,
    Presses(char),
    Fails(&'static str, u16),
    IsAway,
    IsMachine,
    Listens,
    Leaves,
}

/// How a call goes on behind a document.
enum Next {
    /// The next one is asked for, with this besides.
    Ask(String, Vec<(&'static str, String)>),
    /// The callee has hung up; this is asked for all the same.
    LastWord(String, Vec<(&'static str, String)>),
    /// It is over.
    Over,
}

impl Call {
    pub(super) fn new(
        (id, to, from): (&str, &str, &str),
        (url, callback, events): (String, Option<String>, Vec<String>),
        (timeout, longest): (Duration, Duration),
        detect: bool,
    ) -> Self {
        Self {
            id: id.to_owned(),
            to: to.to_owned(),
            from: from.to_owned(),
            url,
            callback,
            events,
            timeout,
            longest,
            detect,
            state: Mutex::new(State { status: "queued", seconds: None, answered_by: None, heard: vec![] }),
            sequence: AtomicU32::new(0),
            told: CancellationToken::new(),
        }
    }

    pub(super) fn seen(&self) -> Seen {
        let state = self.state();
        let (id, to) = (self.id.clone(), self.to.clone());
        Seen { id, to, status: state.status.to_owned(), heard: state.heard.clone() }
    }

    /// Returns the call as the API shows it.
    pub(super) fn resource(&self) -> Value {
        let state = self.state();
        json!({
            "sid": self.id, "api_version": "2010-04-01", "to": self.to, "from": self.from, "status": state.status,
            "direction": "outbound-api", "duration": state.seconds.map(|seconds| seconds.to_string()),
            "answered_by": state.answered_by, "date_created": null, "date_updated": null, "start_time": null,
            "end_time": null, "price": null, "price_unit": "USD", "parent_call_sid": null, "phone_number_sid": null,
            "forwarded_from": null, "caller_name": null, "group_sid": null, "queue_time": "0", "trunk_sid": null,
            "annotation": null, "subresource_uris": {}, "to_formatted": self.to, "from_formatted": self.from,
        })
    }

    /// Ends it if nobody has answered; returns whether it does.
    pub(super) fn cancel(&self) -> bool {
        let rings = matches!(self.state().status, "queued" | "initiated" | "ringing");
        if rings {
            self.told.cancel();
        }
        rings
    }

    /// Ends it; returns whether it was there.
    pub(super) fn hang_up(&self) -> bool {
        let there = matches!(self.state().status, "queued" | "initiated" | "ringing" | "in-progress");
        if there {
            self.told.cancel();
        }
        there
    }

    fn does(&self) -> Does {
        match self.to.as_bytes().last() {
            Some(b'0') => Does::Rings,
            Some(b'1') => Does::Presses('1'),
            Some(b'2') => Does::Presses('2'),
            Some(b'3') => Does::Fails("busy", 486),
            Some(b'4') => Does::IsAway,
            Some(b'5') => Does::Fails("failed", 404),
            Some(b'6') => Does::Fails("failed", 480),
            Some(b'7') => Does::IsMachine,
            Some(b'9') => Does::Leaves,
            _ => Does::Listens,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hears(&self, what: String) {
        self.state().heard.push(what);
    }
}

/// Runs a call to its end.
pub(super) async fn run(shared: Arc<Shared>, call: Arc<Call>) {
    let stop = shared.tasks.stop().clone();
    let _stopped = stop.run_until_cancelled(lives(&shared, &call)).await;
}

async fn lives(shared: &Arc<Shared>, call: &Arc<Call>) {
    let manners = shared.manners;
    tell(shared, call, "initiated", "initiated", &[]);
    let does = call.does();
    if let Does::Fails(status, sip) = does {
        shared.clock.sleep(manners.ring / 4).await;
        return tell(shared, call, "completed", status, &[("SipResponseCode", sip.to_string())]);
    }
    tell(shared, call, "ringing", "ringing", &[]);
    let (rings, answers) = match does {
        Does::Rings => (call.timeout, false),
        Does::IsAway => (call.timeout.min(manners.ring * 2), false),
        _ => (manners.ring.min(call.timeout), manners.ring < call.timeout),
    };
    tokio::select! {
        () = shared.clock.sleep(rings) => {}
        () = call.told.cancelled() => return tell(shared, call, "completed", "canceled", &[]),
    }
    if !answers {
        return tell(shared, call, "completed", "no-answer", &[("SipResponseCode", "487".into())]);
    }
    let watch = shared.clock.stopwatch();
    if call.detect {
        call.state().answered_by = Some(if does == Does::IsMachine { "machine_start" } else { "human" });
    }
    tell(shared, call, "answered", "in-progress", &[]);
    let last = tokio::select! {
        last = talks(shared, call, does) => last,
        () = shared.clock.sleep(call.longest) => {
            call.hears("time is up".into());
            None
        }
        () = call.told.cancelled() => {
            call.hears("told to hang up".into());
            None
        }
    };
    let Some((url, more)) = last else { return ends(shared, call, watch) };
    // Which of the two comes first, nobody promises.
    let before = fastrand::bool();
    if before {
        ends(shared, call, watch);
        shared.clock.sleep(shared.manners.thinks).await;
    }
    if let Err(problem) = document(shared, call, &url, &more).await {
        call.hears(format!("error {problem}"));
    }
    if !before {
        ends(shared, call, watch);
    }
}

fn ends(shared: &Arc<Shared>, call: &Arc<Call>, watch: Stopwatch) {
    let seconds = watch.elapsed().as_secs().max(1);
    call.state().seconds = Some(seconds);
    let more = [("CallDuration", seconds.to_string()), ("Duration", "1".into()), ("SipResponseCode", "200".into())];
    tell(shared, call, "completed", "completed", &more);
}

/// Something that is asked for, with this besides.
type Ask = (String, Vec<(&'static str, String)>);

/// Asks for one document after the other, and does what they say; returns what is asked for after the callee has hung up.
async fn talks(shared: &Shared, call: &Call, does: Does) -> Option<Ask> {
    let (mut url, mut more) = (call.url.clone(), vec![]);
    for _ in 0..DOCUMENTS_MAX {
        let verbs = match document(shared, call, &url, &more).await {
            Ok(verbs) => verbs,
            Err(problem) => {
                call.hears(format!("error {problem}"));
                return None;
            }
        };
        match obeys(shared, call, does, verbs).await {
            Next::Ask(next, with) => (url, more) = (next, with),
            Next::LastWord(next, with) => return Some((next, with)),
            Next::Over => return None,
        }
    }
    call.hears("error too many documents".into());
    None
}

async fn obeys(shared: &Shared, call: &Call, does: Does, verbs: Vec<Verb>) -> Next {
    for verb in verbs {
        match verb {
            Verb::Say(_) | Verb::Play(_) => {
                if listens(shared, call, does, &verb).await {
                    return Next::Over;
                }
            }
            Verb::Gather { action, most, wait, finish, empty, prompts } => {
                for prompt in &prompts {
                    if listens(shared, call, does, prompt).await {
                        return Next::Over;
                    }
                }
                call.hears("gather".into());
                if let Does::Presses(key) = does {
                    shared.clock.sleep(shared.manners.thinks).await;
                    let pressed: String = [key].into_iter().filter(|key| Some(*key) != finish).take(most).collect();
                    return Next::Ask(action, vec![("Digits", pressed), ("msg", "Gather End".into())]);
                }
                shared.clock.sleep(wait).await;
                if empty {
                    return Next::Ask(action, vec![("msg", "Gather End".into())]);
                }
            }
            Verb::Record { action } => {
                call.hears("record".into());
                shared.clock.sleep(shared.manners.heard).await;
                let account = &shared.account.account_sid;
                let url =
                    format!("https://api.twilio.com/2010-04-01/Accounts/{account}/Recordings/RE{}", &call.id[2..]);
                let mut more = vec![("RecordingUrl", url), ("RecordingDuration", "1".into())];
                if does == Does::Leaves {
                    more.push(("Digits", "hangup".into()));
                    return Next::LastWord(action, more);
                }
                return Next::Ask(action, more);
            }
            Verb::Dial { number, action } => {
                call.hears(format!("dial {number}"));
                shared.clock.sleep(shared.manners.heard).await;
                return Next::Ask(action, vec![("DialCallStatus", "completed".into())]);
            }
            Verb::Redirect(url) => return Next::Ask(url, vec![]),
            Verb::Hangup => {
                call.hears("hangup".into());
                return Next::Over;
            }
        }
    }
    Next::Over
}

/// Hears a prompt; returns whether the callee hangs up after it.
async fn listens(shared: &Shared, call: &Call, does: Does, prompt: &Verb) -> bool {
    match prompt {
        Verb::Say(text) => call.hears(format!("say {text}")),
        Verb::Play(url) => call.hears(format!("play {url}")),
        _ => {}
    }
    shared.clock.sleep(shared.manners.heard).await;
    does == Does::Leaves
}

/// Asks for a document, twice if chance has it.
async fn document(shared: &Shared, call: &Call, url: &str, more: &[(&str, String)]) -> Result<Vec<Verb>, String> {
    let form = form(shared, call, "in-progress", more);
    let ask = async || {
        let answer = calls_back(shared, url, &form).await.ok_or("11200 no answer")?;
        if !answer.status().is_success() {
            return Err(format!("11200 {}", answer.status()));
        }
        Ok::<Bytes, String>(answer.into_body())
    };
    let mut text = ask().await?;
    if fastrand::f64() < shared.manners.repeated {
        let again = ask().await?;
        if again != text {
            call.hears("error another document".into());
        }
        text = again;
    }
    twiml::read(std::str::from_utf8(&text).map_err(|_| "12100 not UTF-8")?)
}

/// Notes a status, and calls back with it if that was asked for.
fn tell(shared: &Arc<Shared>, call: &Arc<Call>, event: &str, status: &'static str, more: &[(&str, String)]) {
    call.state().status = status;
    let Some(url) = call.callback.clone().filter(|_| call.events.iter().any(|wanted| wanted == event)) else { return };
    let number = call.sequence.fetch_add(1, Ordering::Relaxed).to_string();
    let mut said = vec![("CallbackSource", "call-progress-events".to_owned()), ("SequenceNumber", number)];
    said.extend(more.iter().map(|(name, value)| (*name, value.clone())));
    let said = form(shared, call, status, &said);
    let manners = shared.manners;
    if fastrand::f64() < manners.missing {
        return;
    }
    let after = if fastrand::f64() < manners.late { manners.ring * 2 } else { Duration::ZERO };
    let times = if fastrand::f64() < manners.doubled { 2 } else { 1 };
    let here = Arc::clone(shared);
    shared.tasks.spawn("simulated_callback", async move {
        here.clock.sleep(after).await;
        for _ in 0..times {
            if calls_back(&here, &url, &said).await.is_some_and(|answer| answer.status().is_success()) {
                here.taken.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
}

/// Posts a form; again, where it could not, as often as the fragment of the URL says, which is not sent; by itself Twilio
/// does so once, and only if it cannot connect.
async fn calls_back(shared: &Shared, url: &str, form: &str) -> Option<Response<Bytes>> {
    let (url, again) = url.split_once('#').unwrap_or((url, ""));
    let of = |name: &str| again.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let tries = 1 + of("rc").and_then(|count| count.parse().ok()).unwrap_or(1);
    let refused_too = matches!(of("rp"), Some("all" | "5xx"));
    let post = shared.account.signed(url, form.to_owned());
    let (client, target) = shared.clients.of(url)?;
    let mut answer = None;
    for _ in 0..tries {
        answer = sent(&client, &post, &target).await;
        let again = answer.as_ref().is_none_or(|answer| refused_too && answer.status().is_server_error());
        if !again {
            break;
        }
        shared.clock.pause(AGAIN_AFTER).await;
    }
    answer
}

fn form(shared: &Shared, call: &Call, status: &str, more: &[(&str, String)]) -> String {
    let mut form = Serializer::new(String::new());
    for (name, value) in [
        ("AccountSid", &*shared.account.account_sid),
        ("ApiVersion", "2010-04-01"),
        ("CallSid", &*call.id),
        ("CallStatus", status),
        ("Called", &*call.to),
        ("Caller", &*call.from),
        ("Direction", "outbound-api"),
        ("From", &*call.from),
        ("To", &*call.to),
    ] {
        form.append_pair(name, value);
    }
    if let Some(who) = call.state().answered_by {
        form.append_pair("AnsweredBy", who);
    }
    for (name, value) in more {
        form.append_pair(name, value);
    }
    form.finish()
}
