//! A simulated SMSC: SMPP 3.4 as [`Behaviour`] says, for any ESME.
//!
//! It checks account and password, answers late, throttles, refuses and loses answers; receipts and replies come on any of
//! the account's binds that receive, as on a real SMSC, late, twice, early or never, and are said again until they are
//! taken.

pub mod pdu;
mod post;
mod session;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::net::TcpListener;
use uuid::Uuid;

use self::pdu::Submit;
use self::post::{Letter, Post, Said};
use super::{Behaviour, Fared, Message, REMEMBERED, Script, attempt, draw};
use crate::channel::Answer;
use crate::channel::simulated::plan::{Later, Plan, Word};
use crate::channel::sms::gsm7;
use crate::domain::event::{Fate, Report};
use crate::domain::time::{Clock, UnixMicros};
use crate::shutdown::Tasks;

/// Most connections at a time; more are closed at once.
const CONNECTIONS_MAX: usize = 1_024;

/// What an account may do.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name; empty: any.
    pub system_id: String,
    /// Its password; empty: any.
    pub password: String,
    /// Most binds at a time; more are refused with `ESME_RBINDFAIL`.
    pub binds_max: usize,
    /// Messages a second; what comes faster gets `ESME_RTHROTTLED`. 0: as many as come.
    pub rate: u32,
    /// The `command_status` of what is refused for good.
    pub refusal: u32,
}

/// How the account stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Binds now.
    pub binds: usize,
    /// The most binds at a time so far.
    pub binds_peak: usize,
    /// Binds that were refused.
    pub binds_refused: u64,
    /// Messages refused because they came too fast.
    pub too_fast: u64,
    /// Most messages taken within one second of the clock.
    pub second_peak: u32,
    /// Answers that were lost on purpose.
    pub lost: u64,
    /// Receipts and replies that were taken.
    pub letters_taken: u64,
}

/// A simulated SMSC that serves.
pub struct Smsc {
    address: SocketAddr,
    core: Arc<Core>,
}

pub(super) struct Core {
    account: Account,
    behaviour: RwLock<Behaviour>,
    script: RwLock<Script>,
    seed: u64,
    next_id: AtomicU64,
    connections: AtomicUsize,
    seen: Mutex<Seen>,
    post: Post,
    clock: Clock,
}

#[derive(Default)]
struct Seen {
    times: HashMap<Uuid, u16>,
    messages: Vec<(Message, Fared)>,
    stats: Stats,
    /// The present second, and the messages taken in it.
    second: (i64, u32),
}

// === impl Account ===

impl Default for Account {
    /// Returns an account that anybody has, without limits.
    fn default() -> Self {
        let (system_id, password) = (String::new(), String::new());
        Self { system_id, password, binds_max: CONNECTIONS_MAX, rate: 0, refusal: pdu::status::INVALID_DESTINATION }
    }
}

// === impl Smsc ===

impl Smsc {
    /// Starts an SMSC on `listen`; it ends when `tasks` are told to stop.
    ///
    /// # Errors
    /// When the address cannot be listened on.
    pub async fn start(
        account: Account,
        listen: SocketAddr,
        (behaviour, seed): (Behaviour, u64),
        tasks: &Tasks,
        clock: &Clock,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let core = Arc::new(Core {
            account,
            behaviour: RwLock::new(behaviour),
            script: RwLock::default(),
            seed,
            next_id: AtomicU64::new(1),
            connections: AtomicUsize::new(0),
            seen: Mutex::default(),
            post: Post::spawn(tasks, clock),
            clock: clock.clone(),
        });
        let (serving, group) = (Arc::clone(&core), tasks.clone());
        tasks.spawn("simulated_smsc", async move {
            while let Some(Ok((stream, _))) = group.stop().run_until_cancelled(listener.accept()).await {
                let core = Arc::clone(&serving);
                if core.connections.fetch_add(1, Ordering::AcqRel) >= CONNECTIONS_MAX {
                    core.connections.fetch_sub(1, Ordering::AcqRel);
                    continue;
                }
                let stop = group.stop().clone();
                group.spawn("simulated_bind", async move {
                    // A client that vanishes is its own business.
                    let _gone = session::run(stream, &core, &stop).await;
                    core.connections.fetch_sub(1, Ordering::AcqRel);
                });
            }
        });
        Ok(Self { address, core })
    }

    /// Returns where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves, from the next message on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.core.behaviour.write().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Answers some messages with errors of the script, from the next message on; a code that [`pdu::status_of`] does not
    /// read is a system error.
    pub fn follow(&self, script: Script) {
        *self.core.script.write().unwrap_or_else(PoisonError::into_inner) = script;
    }

    /// Returns every message that came so far, a part of a long text as one, and what became of it.
    pub fn messages(&self) -> Vec<(Message, Fared)> {
        self.core.seen().messages.clone()
    }

    /// Lets somebody write to a number of ours, now.
    pub fn write(&self, from: &str, to: &str, text: &str) {
        let said = Said::Message { from: from.into(), to: to.into(), text: text.into() };
        self.core.post.send(Letter { at: self.core.clock.now(), said });
    }

    /// Returns how it stands.
    pub fn stats(&self) -> Stats {
        Stats { letters_taken: self.core.post.taken(), ..self.core.seen().stats }
    }
}

// === impl Core ===

/// What a message is answered, and when.
pub(super) struct Verdict {
    pub(super) after: Duration,
    /// `None`: never.
    pub(super) answer: Option<Result<u64, u32>>,
}

impl Core {
    /// Takes a message in.
    fn take(&self, submit: &Submit<'_>) -> Verdict {
        let now = self.clock.now();
        if self.too_fast(now) {
            return Verdict { after: Duration::ZERO, answer: Some(Err(pdu::status::THROTTLED)) };
        }
        let behaviour = *self.behaviour.read().unwrap_or_else(PoisonError::into_inner);
        let number = self.next_id.fetch_add(1, Ordering::Relaxed);
        let message = message(submit, number);
        let attempt = attempt(&mut self.seen().times, &message);
        let lot = {
            let script = self.script.read().unwrap_or_else(PoisonError::into_inner);
            draw(&message, attempt, (&behaviour, &script), self.seed)
        };
        let fared = lot.fared();
        let answer = match &lot.plan.answer {
            _ if lot.error.is_some() => {
                Some(Err(lot.error.as_deref().and_then(pdu::status_of).unwrap_or(pdu::status::SYSTEM_ERROR)))
            }
            Answer::Taken { .. } => Some(Ok(number)),
            Answer::Throttled { .. } => Some(Err(pdu::status::THROTTLED)),
            Answer::Refused { .. } => Some(Err(self.account.refusal)),
            Answer::NotSent { .. } | Answer::Closed { .. } => Some(Err(pdu::status::SYSTEM_ERROR)),
            Answer::NoAnswer => None,
        };
        let after = lot.plan.answer_after;
        self.report(&message, number, lot.plan, submit.wants_receipt);
        let mut seen = self.seen();
        seen.stats.lost += u64::from(answer.is_none());
        if seen.messages.len() >= REMEMBERED {
            (seen.messages, seen.times) = (vec![], HashMap::new());
        }
        seen.messages.push((message, fared));
        Verdict { after, answer }
    }

    fn report(&self, message: &Message, number: u64, plan: Plan, wanted: bool) {
        let now = self.clock.now();
        for Later { after, word } in plan.news {
            let said = match word {
                Word::Segment(_, Report::Final(fate)) if wanted => Said::Receipt {
                    number,
                    state: if fate == Fate::Delivered { pdu::State::Delivered } else { pdu::State::Undeliverable },
                    from: message.to.clone(),
                    to: message.from.clone(),
                },
                Word::Reply(text) => {
                    Said::Message { from: message.to.clone(), to: message.from.clone(), text: text.into() }
                }
                Word::Segment(..) | Word::Job(..) => continue,
            };
            self.post.send(Letter { at: now.plus(after), said });
        }
    }

    /// Counts a message; returns whether it comes too fast.
    fn too_fast(&self, now: UnixMicros) -> bool {
        let mut seen = self.seen();
        let second = now.as_secs();
        if seen.second.0 != second {
            seen.second = (second, 0);
        }
        if self.account.rate > 0 && seen.second.1 >= self.account.rate {
            seen.stats.too_fast += 1;
            return true;
        }
        seen.second.1 += 1;
        seen.stats.second_peak = seen.stats.second_peak.max(seen.second.1);
        false
    }

    /// Judges a wish to bind; `Ok`: it is counted until [`Core::unbound`].
    fn bound(&self, bind: &pdu::Bind<'_>) -> Result<(), u32> {
        let Account { system_id, password, binds_max, .. } = &self.account;
        let fits = |wanted: &str, given: &[u8]| wanted.is_empty() || wanted.as_bytes() == given;
        let mut seen = self.seen();
        let judged = if !fits(system_id, bind.system_id) {
            Err(pdu::status::INVALID_SYSTEM_ID)
        } else if !fits(password, bind.password) {
            Err(pdu::status::INVALID_PASSWORD)
        } else if seen.stats.binds >= *binds_max {
            Err(pdu::status::BIND_FAILED)
        } else {
            seen.stats.binds += 1;
            seen.stats.binds_peak = seen.stats.binds_peak.max(seen.stats.binds);
            Ok(())
        };
        seen.stats.binds_refused += u64::from(judged.is_err());
        judged
    }

    fn unbound(&self) {
        self.seen().stats.binds -= 1;
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn message(submit: &Submit<'_>, number: u64) -> Message {
    let plain = |bytes: &[u8]| bytes.iter().map(|&byte| char::from(byte)).collect::<String>();
    // A header of a part says its own length (3GPP TS 23.040, section 9.2.3.24).
    let header = match submit.text.first() {
        Some(&length) if submit.esm_class & 0x40 != 0 => usize::from(length) + 1,
        Some(_) | None => 0,
    };
    let text = submit.text.get(header..).unwrap_or_default();
    let text = match submit.data_coding {
        8 => {
            let units: Vec<u16> = text.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        0 => gsm7::decode(text),
        _ => plain(text),
    };
    Message {
        id: format!("{number:x}"),
        from: plain(submit.source),
        to: plain(submit.destination),
        text,
        reference: submit.reference.map(|reference| reference.to_string()).unwrap_or_default(),
    }
}
