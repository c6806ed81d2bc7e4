//! Providers to rehearse with: servers that speak a provider's protocol, check what it checks, answer as it answers, and
//! reach nobody. They take their time, throttle, refuse, lose answers, report late, twice, early or never, and their
//! recipients write back, as [`Behaviour`] says; errors of the provider's own come as a [`Script`] says.
//!
//! What becomes of a message is drawn from the recipient, the text, how often it came, and the seed, so that a run can be
//! repeated whatever the timing. Tests, the demo and load tests use them, and `postrider simulate` starts them.

pub mod aliyun;
pub mod aliyun_voice;
mod command;
mod door;
pub mod plain;
mod post;
mod script;
pub mod smpp;
pub mod tencent;
pub mod twilio;
pub mod twilio_voice;
pub mod wechat;
pub mod wecom;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hashbrown::HashMap;
use uuid::Uuid;

pub use self::command::{Options, Problem, run};
use self::post::Postman;
pub use self::script::{InvalidScripted, Script, Scripted, Whose};
pub use crate::channel::simulated::{Behaviour, Receipts, Replies};

use crate::channel::http::server::{Bounds, Handler, NoBody, Server};
use crate::channel::http::{Bytes, Parts, Response};
use crate::channel::simulated::plan::{self, Later, Word};
use crate::channel::{Answer, Handover};
use crate::domain::event::{Fate, Report};
use crate::domain::ids::JobId;
use crate::domain::job::{Class, Content, Kind};
use crate::domain::recipient::Recipient;
use crate::domain::time::{Clock, UnixMicros};
use crate::shutdown::Tasks;

/// Longest request.
const BODY_LEN_MAX: usize = 4 * 1024 * 1024;
/// Most connections at a time.
const CONNECTIONS_MAX: usize = 4_096;
/// Most messages that are remembered; older ones are forgotten all at once.
const REMEMBERED: usize = 1_000_000;

/// A message as a simulated cloud reads it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The cloud's id for it.
    pub id: String,
    /// Who sends it.
    pub from: String,
    /// Whom it is to reach.
    pub to: String,
    /// What it says.
    pub text: String,
    /// What the sender wants to see again in its receipt: a URL, a reference.
    pub reference: String,
}

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fared {
    /// Taken, and reported so in the end, unless the receipt is lost.
    Taken(Fate),
    /// Too many at a time.
    Throttled,
    /// Never.
    Refused,
    /// The cloud failed before it took it.
    Failed,
    /// It was answered with that error of the vendor's own, as a script says.
    Error(Arc<str>),
}

/// A request that a simulated cloud makes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Post {
    /// Where it goes: a whole URL.
    pub url: String,
    /// Headers with their values.
    pub headers: Vec<(&'static str, String)>,
    /// What it says.
    pub body: String,
}

/// What makes one cloud: how its requests and answers read.
pub trait Vendor: Send + Sync + 'static {
    /// Returns the messages of a request. `number` returns another number each time.
    ///
    /// # Errors
    /// The answer, when the request has none.
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong>;

    /// Returns whether a code is one of the vendor's.
    fn is_code(&self, code: &str) -> bool;

    /// Returns whether all messages of a request fare alike.
    fn together(&self) -> bool {
        false
    }

    /// Returns whether an error says something of a request as a whole, and not of one of its messages.
    fn is_of_request(&self, _code: &str) -> bool {
        self.together()
    }

    /// Notes that a message was taken, whether or not its answer is lost.
    fn taken(&self, _message: &Message) {}

    /// Returns how many of the calls that it made by itself were taken.
    fn called(&self) -> u64 {
        0
    }

    /// Returns the answer to a request whose messages, never none, fared so.
    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes>;

    /// Returns the request that reports a message, if it is to be reported.
    fn receipt(&self, message: &Message, fate: Fate) -> Option<Post>;

    /// Returns the request that brings what a recipient writes to `to`, if there is somewhere to bring it.
    fn reply(&self, from: &str, to: &str, text: &str) -> Option<Post>;
}

/// The answer to a request that hands nothing over: a wrong one, or a question about the account.
pub type Wrong = Box<Response<Bytes>>;

/// A simulated cloud that serves.
pub struct Simulator {
    address: SocketAddr,
    core: Arc<Core>,
}

struct Core {
    vendor: Box<dyn Vendor>,
    behaviour: RwLock<Behaviour>,
    script: RwLock<Script>,
    seed: u64,
    numbers: AtomicU64,
    seen: Mutex<Seen>,
    postman: Postman,
    /// Requests that were taken and not answered.
    lost: AtomicU64,
    clock: Clock,
}

#[derive(Default)]
struct Seen {
    times: HashMap<Uuid, u16>,
    messages: Vec<(Message, Fared)>,
}

// === impl Simulator ===

impl Simulator {
    /// Starts a simulated cloud on `listen`; it ends when `tasks` are told to stop.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(
        vendor: Box<dyn Vendor>,
        listen: SocketAddr,
        (behaviour, seed): (Behaviour, u64),
        tasks: &Tasks,
        clock: &Clock,
    ) -> io::Result<Self> {
        let server = Server::bind(listen).await?;
        let core = Arc::new(Core {
            vendor,
            behaviour: RwLock::new(behaviour),
            script: RwLock::default(),
            seed,
            numbers: AtomicU64::new(1),
            seen: Mutex::default(),
            postman: Postman::new(tasks, clock),
            lost: AtomicU64::new(0),
            clock: clock.clone(),
        });
        let address = server.address();
        let bounds = Bounds { body_len: BODY_LEN_MAX, connections: CONNECTIONS_MAX };
        server.spawn(Arc::clone(&core), bounds, tasks, clock);
        Ok(Self { address, core })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves, from the next request on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.core.behaviour.write().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Answers some messages with errors of the vendor's own, from the next request on.
    pub fn follow(&self, script: Script) {
        *self.core.script.write().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// Returns every message that came so far, and what became of it.
    pub fn messages(&self) -> Vec<(Message, Fared)> {
        self.core.seen().messages.clone()
    }

    /// Lets somebody write to a number of ours, now.
    pub fn write(&self, from: &str, to: &str, text: &str) {
        self.core.say(self.core.vendor.reply(from, to, text), Duration::ZERO);
    }

    /// Makes a call of its vendor's, now.
    pub fn post(&self, post: Option<Post>) {
        self.core.say(post, Duration::ZERO);
    }

    /// Returns how many requests it took and did not answer.
    pub fn lost(&self) -> u64 {
        self.core.lost.load(Ordering::Relaxed)
    }

    /// Returns how many of its callbacks were taken so far, and how many it has given up on.
    pub fn callbacks(&self) -> (u64, u64) {
        let (taken, given_up) = self.core.postman.counts();
        (taken + self.core.vendor.called(), given_up)
    }
}

// === impl Core ===

impl Core {
    /// Draws what becomes of a message.
    fn draw(&self, message: &Message, behaviour: &Behaviour) -> Lot {
        let attempt = attempt(&mut self.seen().times, message);
        let script = self.script.read().unwrap_or_else(PoisonError::into_inner);
        draw(message, attempt, (behaviour, &script), self.seed)
    }

    /// Takes the messages of a request in; returns how each fares, and after how long the request is answered, if at all.
    fn take(&self, messages: Vec<Message>) -> (Vec<(Message, Fared)>, Option<Duration>) {
        let behaviour = *self.behaviour.read().unwrap_or_else(PoisonError::into_inner);
        let mut lots: Vec<_> = messages.iter().map(|message| self.draw(message, &behaviour)).collect();
        self.agree(&messages, &mut lots, behaviour);
        let lost = lots.iter().any(|lot| lot.plan.answer == Answer::NoAnswer);
        let after = lots.iter().map(|lot| lot.plan.answer_after).max().unwrap_or_default();
        let alike = lots.first().map_or(Fared::Failed, Lot::fared);
        let mut lots = lots.into_iter();
        let mut fates = Vec::with_capacity(messages.len());
        for message in messages {
            let fared = lots.next().map_or_else(
                || alike.clone(),
                |lot| {
                    let fared = lot.fared();
                    lot.plan.news.into_iter().for_each(|later| self.later(&message, later));
                    fared
                },
            );
            if matches!(fared, Fared::Taken(_)) {
                self.vendor.taken(&message);
            }
            fates.push((message, fared));
        }
        self.lost.fetch_add(lost.into(), Ordering::Relaxed);
        let mut seen = self.seen();
        if seen.messages.len() + fates.len() > REMEMBERED {
            *seen = Seen::default();
        }
        seen.messages.extend(fates.iter().cloned());
        (fates, (!lost).then_some(after))
    }

    /// Lets the messages of a request fare alike where they do: by an error of the script that is of the request as a whole,
    /// else as the first. One lot that is left stands for all.
    fn agree(&self, messages: &[Message], lots: &mut Vec<Lot>, behaviour: Behaviour) {
        let of_request = |lot: &Lot| lot.error.as_deref().is_some_and(|code| self.vendor.is_of_request(code));
        if let Some(scripted) = lots.iter().position(of_request) {
            lots.swap(0, scripted);
            lots.truncate(1);
        } else if self.vendor.together() {
            match lots.first().map(Lot::fared) {
                Some(Fared::Taken(_)) => {
                    // The first was taken, so all are.
                    let calm = Behaviour { throttled: 0.0, refused: 0.0, not_sent: 0.0, ..behaviour };
                    let others = messages.iter().zip(lots).skip(1);
                    others.filter(|(_, lot)| !lot.plan.reaches).for_each(|(message, lot)| {
                        *lot = self.draw(message, &calm);
                    });
                }
                Some(_) | None => lots.truncate(1),
            }
        }
    }

    fn later(&self, message: &Message, later: Later) {
        let post = match later.word {
            Word::Segment(_, Report::Final(fate)) | Word::Job(Report::Final(fate), _) => {
                self.vendor.receipt(message, fate)
            }
            Word::Segment(..) | Word::Job(..) => None,
            Word::Reply(text) => self.vendor.reply(&message.to, &message.from, text),
        };
        self.say(post, later.after);
    }

    fn say(&self, post: Option<Post>, after: Duration) {
        if let Some(post) = post {
            self.postman.send(post, after);
        }
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handler for Core {
    async fn handle(&self, head: Parts, body: Result<Bytes, NoBody>) -> Option<Response<Bytes>> {
        let mut number = || self.numbers.fetch_add(1, Ordering::Relaxed);
        let messages = match self.vendor.read(&head, &body.ok()?, &mut number) {
            Ok(messages) => messages,
            Err(wrong) => return Some(*wrong),
        };
        let (fates, after) = self.take(messages);
        self.clock.sleep(after.unwrap_or_default()).await;
        after.map(|_| self.vendor.answer(&fates))
    }
}

/// Counts a message; returns how often it has come.
fn attempt(times: &mut HashMap<Uuid, u16>, message: &Message) -> u16 {
    let times = times.entry(same(message)).or_insert(0);
    *times = times.saturating_add(1);
    *times
}

/// Returns what messages to the same number with the same text have in common.
fn same(message: &Message) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{} {}", message.to, message.text).as_bytes())
}

/// What becomes of a message.
struct Lot {
    plan: plan::Plan,
    /// An error that it is answered with instead.
    error: Option<Arc<str>>,
}

/// Draws what becomes of a message that comes for the nth time.
fn draw(message: &Message, attempt: u16, (behaviour, script): (&Behaviour, &Script), seed: u64) -> Lot {
    let number = if message.to.starts_with('+') { message.to.clone() } else { format!("+{}", message.to) };
    let same = same(message);
    let handover = Handover {
        job: JobId(same),
        attempt,
        kind: Kind::Sms,
        class: Class::Marketing,
        recipient: Arc::new(Recipient { phone: number.parse().ok(), ..Recipient::default() }),
        sender: message.from.as_str().into(),
        content: Content::Text(message.text.as_str().into()),
        params: Vec::new(),
        template: None,
        validity: Duration::ZERO,
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    };
    let mut plan = plan::draw(&handover, behaviour, seed, vec![message.id.as_str().into()]);
    let error = script.code(&message.to, (same, attempt), seed);
    if let Some(code) = &error {
        plan.answer = Answer::Refused { code: (&**code).into() };
        plan.reaches = false;
        plan.news.clear();
    }
    Lot { plan, error }
}

impl Lot {
    /// Returns how the message fares.
    fn fared(&self) -> Fared {
        if let Some(code) = &self.error {
            return Fared::Error(Arc::clone(code));
        }
        match &self.plan.answer {
            Answer::Throttled { .. } => Fared::Throttled,
            Answer::Refused { .. } => Fared::Refused,
            Answer::NotSent { .. } | Answer::Closed { .. } => Fared::Failed,
            Answer::Taken { .. } | Answer::NoAnswer => {
                let end = self.plan.news.iter().find_map(|later| match later.word {
                    Word::Segment(_, Report::Final(fate)) => Some(fate),
                    Word::Segment(..) | Word::Job(..) | Word::Reply(_) => None,
                });
                Fared::Taken(end.unwrap_or(Fate::Sent))
            }
        }
    }
}
