//! Calls over Twilio (Programmable Voice, API 2010-04-01): a request makes the call, Twilio asks us by callbacks what to say
//! and do (TwiML), and tells how it goes. Source: twilio.com/docs/voice/api/call-resource, /docs/voice/twiml.
//!
//! # A call
//! It carries our attempt in the URLs of its callbacks, and a task of its own takes them: it runs the flow, one document at
//! a time, holds the line, and says how it ended. A document has a number; whoever asks for the same one again, because the
//! answer was lost, gets the same one, and nothing happens twice. Status callbacks come in any order, twice or never, so a
//! call that is silent for long is asked for.
//!
//! # A lost answer
//! The request that makes a call is never sent twice. If its answer is lost, a callback that carries the attempt proves the
//! call; if none comes, nobody knows, and what callbacks say later still counts.
//!
//! # After a crash
//! Callbacks of calls that nobody here drives are from the process before: who has answered is hung up on, since the flow is
//! lost, and how the call ended is told by its last callback. A call of which nothing more is heard is settled by its check.

pub mod callback;
mod conversation;
mod ended;
mod line;
mod rest;
mod script;
mod twiml;
mod word;

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::mpsc;

use self::conversation::{Conversation, Over};
use self::line::Heard;
use self::rest::Rest;
use self::script::Manner;
use super::flow::{Act, Flow};
use super::teller::Voice;
use super::{Carried, flow_of};
use crate::channel::http::client::{Client, NO_CONNECTION};
use crate::channel::login::Login;
use crate::channel::sms::cloud;
use crate::channel::sms::twilio::Twilio as Account;
use crate::channel::{Answer, Answered, Channel, Handover, Health, Inbound};
use crate::config;
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::job::Kind;
use crate::domain::recent::Recent;
use crate::domain::time::{Clock, UnixMicros};
use crate::shutdown::Tasks;

/// What one call is told that waits for it: a few callbacks, and their doubles.
const HEARD_MAX: usize = 64;
/// Calls that are remembered after their end, for callbacks that come late.
const ENDED_MAX: usize = 20_000;
/// Behind the URLs that Twilio is given: how often it asks again, and after what (twilio.com/docs/usage/webhooks,
/// "connection overrides"; by itself it does so once, and only if it cannot connect).
const AGAIN: &str = "#rc=5&rp=all";
/// How long no call is made after Twilio could not be reached.
const DOWN: Duration = Duration::from_secs(5);

/// What an account is that calls.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider.
    pub provider: ProviderId,
    /// How it is reached, and what it carries.
    pub link: config::TwilioVoice,
    /// Where its callbacks come: a whole URL.
    pub callback: Box<str>,
    /// How long an answer may take.
    pub response_timeout: Duration,
}

/// An account that calls can be handed to.
pub struct Twilio {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    rest: Rest,
    board: Switchboard,
    clock: Clock,
    tasks: Tasks,
    voice: Voice,
    /// Until when nothing is tried, in microseconds.
    down_until: AtomicI64,
}

/// One attempt to call somebody: what the URLs of its callbacks carry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Attempt {
    pub(super) job: JobId,
    pub(super) number: u16,
}

/// The calls of an account that this process drives, between the driver that makes them and the desk where callbacks
/// arrive. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Switchboard(Arc<Mutex<Board>>);

struct Board {
    calls: HashMap<Attempt, mpsc::Sender<Heard>>,
    ended: Recent<Attempt, Known>,
}

/// What is known of a call that is driven here no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Known {
    /// How it ended.
    Ended,
    /// Nothing: what callbacks still say of it is news.
    Lost,
}

/// Who is to hear of a callback.
enum Reached {
    /// The call that it is about.
    Call(mpsc::Sender<Heard>),
    /// That call has ended here.
    Ended,
    /// Nobody here knows it.
    Nobody,
}

// === impl Twilio ===

impl Twilio {
    /// Returns an account whose callbacks come over `board`. Calls that go on when `tasks` are told to stop are driven to
    /// their end.
    pub fn new(
        settings: Settings,
        client: Client,
        board: Switchboard,
        inbox: mpsc::Sender<Inbound>,
        (tasks, clock): (&Tasks, &Clock),
    ) -> Self {
        let rest = Rest::new(&settings.link.account, client, settings.response_timeout / 2);
        let voice = Voice { provider: settings.provider.clone(), inbox, clock: clock.clone(), tasks: tasks.clone() };
        let (clock, tasks, down_until) = (clock.clone(), tasks.clone(), AtomicI64::new(i64::MIN));
        Self { shared: Arc::new(Shared { settings, rest, board, clock, tasks, voice, down_until }) }
    }
}

/// Asks Twilio whether it knows the account, and calls nobody. Takes at most `limit`.
pub async fn log_in(link: &config::TwilioVoice, client: &Client, limit: Duration, clock: &Clock) -> Login {
    cloud::log_in(&Account::new(&link.account, None), client, limit, clock).await
}

impl Channel for Twilio {
    fn cost(&self, _handover: &Handover) -> u32 {
        1
    }

    fn submit(&self, handovers: Vec<Handover>, answers: mpsc::UnboundedSender<Answered>) {
        for (place, handover) in handovers.into_iter().enumerate() {
            let (shared, answers) = (Arc::clone(&self.shared), answers.clone());
            self.shared.tasks.spawn(
                "call",
                shared.call(handover, move |answer| {
                    // Whoever asked may be gone: then nobody waits for this.
                    let _gone = answers.send((place, answer));
                }),
            );
        }
    }

    fn health(&self) -> Health {
        let carries = &self.shared.settings.link.carries;
        Health {
            up: self.shared.up(),
            rate_per_s: f64::from(carries.calls_per_s.get()),
            in_flight: self.shared.board.calls(),
            window: carries.lines.get(),
        }
    }
}

impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Twilio").field("provider", &self.shared.settings.provider).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// Makes one call: answers once Twilio has it, or has not, and drives it to its end.
    async fn call(self: Arc<Self>, handover: Handover, answer: impl FnOnce(Answer) + Send) {
        let (flow, carried) = match self.check(&handover) {
            Ok(checked) => checked,
            Err(refusal) => return answer(refusal),
        };
        let attempt = Attempt { job: handover.job, number: handover.attempt };
        let Some(heard) = self.board.enter(attempt) else {
            // This attempt is driven here already: whoever hands it over again gets no second call.
            return answer(Answer::NoAnswer);
        };
        let conversation = Conversation::new(Arc::clone(&self), &handover, carried, flow, heard);
        match conversation.run(answer).await {
            Over::Told => self.board.leave(attempt, Some(Known::Ended)),
            Over::Lost => self.board.leave(attempt, Some(Known::Lost)),
            Over::NotMade(found, answer) => {
                // It may be tried again under the same number as soon as this is answered.
                self.board.leave(attempt, None);
                answer(found);
            }
        }
    }

    /// Checks whether a call can be made at all.
    fn check(&self, handover: &Handover) -> Result<(Arc<Flow>, Arc<Carried>), Answer> {
        let refused = |code: &str| Answer::Refused { code: code.into() };
        if self.tasks.stopping() {
            return Err(Answer::NotSent { code: "stopping".into(), retry_after: None });
        }
        if handover.recipient.phone.is_none() {
            return Err(refused("no_phone"));
        }
        if handover.sender.is_empty() {
            return Err(refused("no_sender"));
        }
        let (Kind::Call, Some(carried)) = (handover.kind, &handover.call) else { return Err(refused("not_a_call")) };
        let flow = flow_of(handover).map_err(refused)?;
        let does = |wanted: fn(&Act) -> bool| flow.nodes().any(|(_, node)| wanted(&node.act));
        if does(|act| matches!(act, Act::Transfer(_))) && !self.settings.link.transfer {
            return Err(refused("transfer_unsupported"));
        }
        if does(|act| matches!(act, Act::Play { .. })) && self.settings.link.media_url.is_empty() {
            return Err(refused("play_unsupported"));
        }
        Ok((flow, Arc::clone(carried)))
    }

    /// Returns how a call is written.
    fn manner(&self, flow: &Flow, handover: &Handover) -> Manner {
        let link = &self.settings.link;
        let locale = match flow.locale() {
            "" => handover.recipient.locale.as_deref().unwrap_or_default(),
            locale => locale,
        };
        let language = twiml::language(locale).into();
        let (voice, media, caller) = (link.voice.clone(), link.media_url.clone(), handover.sender.clone());
        Manner { language, voice, media, caller, transcribe: link.transcribe }
    }

    /// Returns where the callbacks of an attempt come, without [`AGAIN`].
    fn url(&self, attempt: Attempt) -> String {
        format!("{}?job={}&attempt={}", self.settings.callback, attempt.job, attempt.number)
    }

    fn up(&self) -> bool {
        self.clock.now() >= UnixMicros(self.down_until.load(Ordering::Relaxed))
    }

    /// Notes what the answer to a request says of Twilio itself.
    fn note(&self, answer: &Answer) {
        if matches!(answer, Answer::NotSent { code, .. } if **code == *NO_CONNECTION) {
            self.down_until.store(self.clock.now().plus(DOWN).0, Ordering::Relaxed);
        }
    }
}

// === impl Switchboard ===

impl Default for Switchboard {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Board { calls: HashMap::new(), ended: Recent::new(ENDED_MAX) })))
    }
}

impl Switchboard {
    fn board(&self) -> MutexGuard<'_, Board> {
        // An insertion or removal that panicked left the maps good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to take what an attempt is told; `None`: it is driven already.
    fn enter(&self, attempt: Attempt) -> Option<mpsc::Receiver<Heard>> {
        let (tx, heard) = mpsc::channel(HEARD_MAX);
        let mut board = self.board();
        if board.calls.contains_key(&attempt) || board.ended.contains(&attempt) {
            return None;
        }
        board.calls.insert(attempt, tx);
        Some(heard)
    }

    /// Takes no more for an attempt. What was not made, and so is not `known`, may be tried again under the same number.
    fn leave(&self, attempt: Attempt, known: Option<Known>) {
        let mut board = self.board();
        board.calls.remove(&attempt);
        if let Some(known) = known {
            board.ended.insert(attempt, known);
            board.ended.age();
        }
    }

    fn calls(&self) -> u32 {
        u32::try_from(self.board().calls.len()).unwrap_or(u32::MAX)
    }

    fn reach(&self, attempt: Attempt) -> Reached {
        let board = self.board();
        match board.calls.get(&attempt) {
            Some(call) => Reached::Call(call.clone()),
            None => match board.ended.get(&attempt) {
                Some(Known::Ended) => Reached::Ended,
                Some(Known::Lost) | None => Reached::Nobody,
            },
        }
    }
}

impl fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switchboard").field("calls", &self.calls()).finish_non_exhaustive()
    }
}
