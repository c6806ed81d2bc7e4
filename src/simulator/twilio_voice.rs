//! Twilio's calls, simulated: the requests about calls with their checks and errors, callees who hear what the documents say
//! and press keys, and signed callbacks.
//!
//! Callees do by the last digit of their number: 0 lets it ring until the end, 1 and 2 answer and press that key when they
//! are asked, 3 is busy, 4 does not answer, 5 does not exist, 6 is out of reach, 7 is a machine, 8 listens and presses
//! nothing, 9 hangs up after the first words.

mod call;
mod twiml;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use serde_json::{Value, json};

use self::call::Call;
use super::post::Clients;
use super::twilio::{Twilio, by_code, error, json_answer, wrong};
use super::{Fared, Message, Post, REMEMBERED, Vendor, Wrong};
use crate::channel::http::{Bytes, Method, Parts, Response, StatusCode};
use crate::domain::event::Fate;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// Ring time, in seconds, where the request names none, and the longest.
const TIMEOUT: u64 = 60;
const TIMEOUT_MAX: u64 = 600;
/// Longest call, in seconds.
const TIME_LIMIT: u64 = 14_400;

/// A simulated account. Clones are the same account.
#[derive(Clone)]
pub struct TwilioVoice {
    shared: Arc<Shared>,
}

/// How callees and callbacks behave. Shares are between 0 and 1.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Manners {
    /// How long it rings until somebody answers.
    pub ring: Duration,
    /// How long a prompt takes to be heard.
    pub heard: Duration,
    /// How long callees think before they press a key.
    pub thinks: Duration,
    /// Share of callbacks that come twice.
    pub doubled: f64,
    /// Share of callbacks that come after the next ones.
    pub late: f64,
    /// Share of callbacks that never come.
    pub missing: f64,
    /// Share of documents that are asked for twice, as if the first answer were lost.
    pub repeated: f64,
}

/// A call as it went so far.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Seen {
    /// Its id.
    pub id: String,
    /// Who was called.
    pub to: String,
    /// Its status.
    pub status: String,
    /// What the callee heard and what was done, in order: `say ...`, `play ...`, `gather`, `record`, `dial ...`, `hangup`,
    /// and `error ...` where a document could not be had, or differs from what was answered before.
    pub heard: Vec<String>,
}

struct Shared {
    account: Twilio,
    manners: Manners,
    clients: Clients,
    tasks: Tasks,
    clock: Clock,
    calls: Mutex<Calls>,
    /// Callbacks that were taken.
    taken: AtomicU64,
}

#[derive(Default)]
struct Calls {
    /// Those whose requests are not answered yet.
    asked: HashMap<String, Arc<Call>>,
    made: HashMap<String, Arc<Call>>,
}

// === impl Manners ===

impl Default for Manners {
    fn default() -> Self {
        Self {
            ring: Duration::from_secs(3),
            heard: Duration::from_secs(2),
            thinks: Duration::from_secs(1),
            doubled: 0.0,
            late: 0.0,
            missing: 0.0,
            repeated: 0.0,
        }
    }
}

// === impl TwilioVoice ===

impl TwilioVoice {
    /// Returns an account that has made no calls yet.
    pub fn new((account_sid, auth_token): (String, String), manners: Manners, tasks: &Tasks, clock: &Clock) -> Self {
        let account = Twilio { account_sid, auth_token, inbound: None };
        let (clients, calls) = (Clients::new(tasks, clock), Mutex::default());
        let shared = Shared {
            account,
            manners,
            clients,
            tasks: tasks.clone(),
            clock: clock.clone(),
            calls,
            taken: AtomicU64::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Returns the calls that were made, in order of their ids.
    pub fn calls(&self) -> Vec<Seen> {
        let mut calls: Vec<_> = self.shared.calls().made.values().map(|call| call.seen()).collect();
        calls.sort_by(|one, other| one.id.cmp(&other.id));
        calls
    }

    fn path(&self, rest: &str) -> String {
        format!("/2010-04-01/Accounts/{}{rest}", self.shared.account.account_sid)
    }

    fn resource(&self, call: &Call) -> Value {
        let mut said = call.resource();
        said["account_sid"] = self.shared.account.account_sid.as_str().into();
        said["uri"] = self.path(&format!("/Calls/{}.json", call.id)).into();
        said
    }

    /// Answers what is asked about calls that there are.
    fn about(&self, head: &Parts, body: &Bytes) -> Option<Response<Bytes>> {
        let path = head.uri.path();
        let calls = self.path("/Calls");
        if head.method == Method::GET && path == format!("{calls}.json") {
            let made = self.shared.calls().made.values().cloned().collect::<Vec<_>>();
            let list: Vec<_> = made.iter().map(|call| self.resource(call)).collect();
            let page = json!({
                "calls": list, "page": 0, "page_size": 50, "next_page_uri": null, "previous_page_uri": null,
                "first_page_uri": format!("{calls}.json"), "uri": format!("{calls}.json"), "start": 0, "end": 0,
            });
            return Some(json_answer(StatusCode::OK, &page));
        }
        let id = path.strip_prefix(&calls)?.strip_prefix('/')?.strip_suffix(".json")?;
        let Some(call) = self.shared.calls().made.get(id).cloned() else {
            return Some(error(StatusCode::NOT_FOUND, 20_404, "The requested resource was not found"));
        };
        if head.method == Method::POST {
            let wanted = form_urlencoded::parse(body).find(|(name, _)| name == "Status").map(|(_, value)| value);
            let done = match wanted.as_deref() {
                Some("canceled") => call.cancel(),
                Some("completed") => call.hang_up(),
                _ => return Some(error(StatusCode::BAD_REQUEST, 20_001, "Invalid status")),
            };
            if !done {
                return Some(error(StatusCode::BAD_REQUEST, 21_220, "Call is not in a state for that"));
            }
        }
        Some(json_answer(StatusCode::OK, &self.resource(&call)))
    }
}

impl Vendor for TwilioVoice {
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong> {
        let account = &self.shared.account;
        if !account.authentic(head) {
            return Err(wrong(StatusCode::UNAUTHORIZED, 20_003, "Authenticate"));
        }
        if let Some(said) = account.asked_about(head) {
            return Err(said);
        }
        if head.method != Method::POST || head.uri.path() != self.path("/Calls.json") {
            let unknown = || error(StatusCode::NOT_FOUND, 20_404, "The requested resource was not found");
            return Err(Box::new(self.about(head, body).unwrap_or_else(unknown)));
        }
        let call = wanted(&format!("CA{:032x}", number()), body)?;
        let message = Message {
            id: call.id.clone(),
            from: call.from.clone(),
            to: call.to.clone(),
            text: call.url.clone(),
            reference: call.callback.clone().unwrap_or_default(),
        };
        let mut calls = self.shared.calls();
        if calls.made.len() >= REMEMBERED {
            calls.made.clear();
        }
        calls.asked.insert(call.id.clone(), Arc::new(call));
        Ok(vec![message])
    }

    fn is_code(&self, code: &str) -> bool {
        code.parse::<u32>().is_ok_and(|code| code > 0)
    }

    fn taken(&self, message: &Message) {
        let mut calls = self.shared.calls();
        let Some(call) = calls.asked.remove(&message.id) else { return };
        calls.made.insert(call.id.clone(), Arc::clone(&call));
        drop(calls);
        let shared = Arc::clone(&self.shared);
        self.shared.tasks.spawn("simulated_call", async move { call::run(shared, call).await });
    }

    fn called(&self) -> u64 {
        self.shared.taken.load(Ordering::Relaxed)
    }

    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes> {
        let [(message, fared), ..] = messages else {
            return error(StatusCode::INTERNAL_SERVER_ERROR, 20_500, "An internal server error has occurred");
        };
        self.shared.calls().asked.remove(&message.id);
        match fared {
            Fared::Taken(_) => {
                let made = self.shared.calls().made.get(&message.id).cloned();
                let mut said = made.map(|call| self.resource(&call)).unwrap_or_default();
                said["status"] = "queued".into();
                json_answer(StatusCode::CREATED, &said)
            }
            Fared::Error(code) => by_code(code.parse().unwrap_or(20_500)),
            Fared::Throttled => error(StatusCode::TOO_MANY_REQUESTS, 20_429, "Too Many Requests"),
            Fared::Refused => error(StatusCode::BAD_REQUEST, 21_216, "Account not allowed to call this number"),
            Fared::Failed => error(StatusCode::INTERNAL_SERVER_ERROR, 20_500, "An internal server error has occurred"),
        }
    }

    fn receipt(&self, _message: &Message, _fate: Fate) -> Option<Post> {
        // A call tells how it goes by itself.
        None
    }

    fn reply(&self, _from: &str, _to: &str, _text: &str) -> Option<Post> {
        None
    }
}

impl std::fmt::Debug for TwilioVoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TwilioVoice").field("manners", &self.shared.manners).finish_non_exhaustive()
    }
}

impl Shared {
    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the call that a request asks for, or the error that it gets (twilio.com/docs/api/errors).
fn wanted(id: &str, body: &Bytes) -> Result<Call, Wrong> {
    let fields: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
    let all = |name: &str| -> Vec<String> {
        fields.iter().filter(|(found, _)| found == name).map(|(_, value)| value.clone()).collect()
    };
    let field = |name: &str| all(name).into_iter().next().unwrap_or_default();
    let bad = |code, what: &str| Err(wrong(StatusCode::BAD_REQUEST, code, what));
    let number = |name: &str, usual: u64, most: u64| match field(name).as_str() {
        "" => Some(usual),
        text => text.parse().ok().filter(|number| (1..=most).contains(number)),
    };
    let dialled = |number: &str| number.strip_prefix('+').is_some_and(|digits| (7..=15).contains(&digits.len()));
    let (to, from, url) = (field("To"), field("From"), field("Url"));
    if to.is_empty() {
        return bad(21_201, "No 'To' number is specified");
    }
    if !dialled(&to) {
        return bad(21_211, "Invalid 'To' Phone Number");
    }
    if !dialled(&from) {
        return bad(21_212, "Invalid 'From' Phone Number");
    }
    if !url.starts_with("http") {
        return bad(21_205, "Url is not a valid URL");
    }
    let (Some(timeout), Some(longest)) =
        (number("Timeout", TIMEOUT, TIMEOUT_MAX), number("TimeLimit", TIME_LIMIT, TIME_LIMIT))
    else {
        return bad(20_001, "Invalid parameter");
    };
    let detect = match field("MachineDetection").as_str() {
        "" => false,
        "Enable" | "DetectMessageEnd" => true,
        _ => return bad(21_218, "Invalid parameter 'MachineDetection'"),
    };
    let mut events = all("StatusCallbackEvent");
    if events.is_empty() {
        events.push("completed".into());
    }
    if events.iter().any(|event| !matches!(event.as_str(), "initiated" | "ringing" | "answered" | "completed")) {
        return bad(21_626, "Invalid statusCallbackEvents");
    }
    let callback = Some(field("StatusCallback")).filter(|url| !url.is_empty());
    let (timeout, longest) = (Duration::from_secs(timeout), Duration::from_secs(longest));
    Ok(Call::new((id, &to, &from), (url, callback, events), (timeout, longest), detect))
}
