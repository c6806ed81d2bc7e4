//! Calls over an Asterisk, driven through its REST interface (ARI).
//!
//! # A call
//! Its prompts are spoken before it is dialled, so that nobody picks up to silence. Its channel has our attempt as its id,
//! and events are subscribed to before it is set up: nothing of it is missed, and a second copy of the attempt is refused
//! by Asterisk itself. It is handed over once Asterisk has the channel; from then on a task of its own runs its flow, holds
//! its line, and says how it ended.
//!
//! # After a crash
//! A channel whose id is ours and that nobody here drives is left from the process before. Its flow is lost with it, so it
//! is hung up; what is known of it is told: somebody answered, or nobody knows. A call that Asterisk has lost as well is
//! settled by its check.

mod ari;
mod cause;
mod conversation;
mod event;
mod orphan;
mod socket;
mod speech;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{Notify, mpsc};
use tracing::warn;

use self::ari::{Ari, Originate};
use self::conversation::Conversation;
use self::event::Signal;
use self::speech::Speech;
use super::flow::{Act, Flow};
use super::teller::Voice;
use super::{CallNews, Carried};
use crate::channel::http::client::{Client, NO_CONNECTION};
use crate::channel::login::Login;
use crate::channel::tls::TlsError;
use crate::channel::{Answer, Answered, Channel, Handover, Health, Inbound, News};
use crate::config;
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::job::Kind;
use crate::domain::text;
use crate::domain::time::Clock;
use crate::rate_limited;
use crate::shutdown::Tasks;

/// Signals of one call that wait for it: keys and ends of prompts, which come slowly.
const SIGNALS_MAX: usize = 256;
/// Behind the id of a call: the channel of whom it is put through to.
const LEG: &str = "-leg";

/// What an Asterisk is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider.
    pub provider: ProviderId,
    /// How it is reached, and what it carries.
    pub link: config::Asterisk,
    /// Where spoken texts are kept.
    pub speech_dir: PathBuf,
    /// How long it may take until it has a call.
    pub response_timeout: Duration,
}

/// An Asterisk that calls can be handed to.
pub struct Asterisk {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    ari: Ari,
    speech: Speech,
    clock: Clock,
    tasks: Tasks,
    voice: Voice,
    connected: AtomicBool,
    /// The calls that are driven here, by their channels.
    calls: Mutex<HashMap<Box<str>, mpsc::Sender<Signal>>>,
    /// Told when a call has ended.
    ended: Notify,
}

/// Our id of a channel: the application, the job and the attempt.
struct ChannelId<'a> {
    app: &'a str,
    job: JobId,
    attempt: u16,
}

// === impl Asterisk ===

impl Asterisk {
    /// Starts to listen to an Asterisk. Calls that go on when `tasks` are told to stop are driven to their end.
    ///
    /// # Errors
    /// When the certificates or the credentials do not read.
    pub fn start(
        settings: Settings,
        inbox: mpsc::Sender<Inbound>,
        tasks: &Tasks,
        clock: &Clock,
    ) -> Result<Arc<Self>, TlsError> {
        let shared = Arc::new(Shared::new(settings, inbox, tasks, clock)?);
        tasks.spawn("asterisk", socket::keep(Arc::clone(&shared)));
        Ok(Arc::new(Self { shared }))
    }
}

/// Asks an Asterisk whether it knows the user, and calls nobody. Takes at most `limit`.
pub async fn log_in(link: &config::Asterisk, client: Client, limit: Duration) -> Login {
    Ari::new(link, client, limit).log_in().await
}

impl Channel for Asterisk {
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
        let lines = self.shared.settings.link.carries.lines.get();
        let in_flight = u32::try_from(self.shared.calls().len()).unwrap_or(u32::MAX);
        let rate_per_s = f64::from(self.shared.settings.link.carries.calls_per_s.get());
        Health { up: self.shared.connected.load(Ordering::Acquire), rate_per_s, in_flight, window: lines }
    }
}

impl fmt::Debug for Asterisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asterisk").field("provider", &self.shared.settings.provider).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    fn new(settings: Settings, inbox: mpsc::Sender<Inbound>, tasks: &Tasks, clock: &Clock) -> Result<Self, TlsError> {
        let link = &settings.link;
        let client = Client::new(&link.api.endpoint, link.api.ca.as_deref(), link.api.connections, tasks, clock)?;
        Ok(Self {
            ari: Ari::new(link, client, settings.response_timeout / 2),
            speech: Speech::new(link.speech.clone(), settings.speech_dir.clone(), clock),
            clock: clock.clone(),
            tasks: tasks.clone(),
            voice: Voice { provider: settings.provider.clone(), inbox, clock: clock.clone(), tasks: tasks.clone() },
            connected: AtomicBool::new(false),
            calls: Mutex::default(),
            ended: Notify::new(),
            settings,
        })
    }

    /// Makes one call: answers once Asterisk has it, or has not, and drives it to its end.
    async fn call(self: Arc<Self>, handover: Handover, answer: impl FnOnce(Answer)) {
        let (flow, carried) = match self.check(&handover) {
            Ok(checked) => checked,
            Err(refusal) => return answer(refusal),
        };
        let plan = handover.content.plan();
        if let Err(problem) = self.prepare(&flow, &handover).await {
            rate_limited!(per_min = 6, warn, provider = %self.settings.provider, %problem, "a call is not made: its texts cannot be spoken");
            return answer(Answer::NotSent { code: "no_speech".into(), retry_after: None });
        }
        let id = ChannelId { app: &self.settings.link.app, job: handover.job, attempt: handover.attempt }.to_string();
        let signals = self.enter(&id);
        let number = handover.recipient.phone.as_ref().map_or("", |phone| phone.as_str());
        let call = Originate {
            channel: &id,
            number,
            caller: &handover.sender,
            ring: plan.ring_max,
            longest: plan.ring_max + flow.talk_max() + Duration::from_secs(10),
        };
        let answered = self.ari.originate(&call).await;
        let unsent = answered.definitely_not_sent();
        if unsent {
            self.leave(&id);
            // Its line is free before anybody asks for one again.
            carried.line.ended(None);
        }
        answer(answered);
        if !unsent {
            Conversation::new(Arc::clone(&self), &handover, carried, flow, signals).run(plan.ring_max).await;
            self.leave(&id);
        }
    }

    /// Checks whether a call can be made at all.
    fn check(&self, handover: &Handover) -> Result<(Arc<Flow>, Arc<Carried>), Answer> {
        let refused = |code: &str| Answer::Refused { code: code.into() };
        if self.tasks.stopping() {
            return Err(Answer::NotSent { code: "stopping".into(), retry_after: None });
        }
        if !self.connected.load(Ordering::Acquire) {
            return Err(Answer::NotSent { code: NO_CONNECTION.into(), retry_after: None });
        }
        if handover.recipient.phone.is_none() {
            return Err(refused("no_phone"));
        }
        let (Kind::Call, Some(carried)) = (handover.kind, &handover.call) else { return Err(refused("not_a_call")) };
        let flow = super::flow_of(handover).map_err(refused)?;
        let transfers = flow.nodes().any(|(_, node)| matches!(node.act, Act::Transfer(_)));
        if transfers && self.settings.link.transfer.is_empty() {
            return Err(refused("transfer_unsupported"));
        }
        Ok((flow, Arc::clone(carried)))
    }

    /// Speaks what is known of a flow's texts before anybody is called.
    async fn prepare(&self, flow: &Flow, handover: &Handover) -> Result<(), speech::Unspoken> {
        let watch = self.clock.stopwatch();
        let (limit, locale) = (self.settings.response_timeout / 2, locale(flow, handover));
        for (_, node) in flow.nodes() {
            let Act::Say { text, .. } = &node.act else { continue };
            let known = |name: &str| handover.params.iter().any(|(param, _)| **param == *name);
            if text::placeholders(text).all(known) {
                let said = text::fill(text, &handover.params);
                self.speech.file(&said, &locale, limit.saturating_sub(watch.elapsed())).await?;
            }
        }
        Ok(())
    }

    fn calls(&self) -> MutexGuard<'_, HashMap<Box<str>, mpsc::Sender<Signal>>> {
        // An insertion or removal that panicked left the map good.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, channel: &str) -> mpsc::Receiver<Signal> {
        let (tx, signals) = mpsc::channel(SIGNALS_MAX);
        self.calls().insert(channel.into(), tx);
        signals
    }

    fn leave(&self, channel: &str) {
        self.calls().remove(channel);
        self.ended.notify_waiters();
    }

    /// Tells a call what happened to it, or to whom it is put through. Of channels that are not ours nothing is wanted.
    fn tell(&self, channel: &str, signal: Signal) {
        let (channel, signal) = match (channel.strip_suffix(LEG), signal) {
            (None, signal) => (channel, signal),
            (Some(call), Signal::Started(_)) => (call, Signal::LegUp),
            (Some(call), Signal::Destroyed(_)) => (call, Signal::LegGone),
            (Some(_), _) => return,
        };
        if let Some(call) = self.calls().get(channel)
            && call.try_send(signal).is_err()
        {
            rate_limited!(per_min = 6, warn, provider = %self.settings.provider, "a call does not take what happens to it");
        }
    }

    /// Begins to listen: takes over what the process before has left, and lets calls ask for what they missed.
    async fn connected(self: &Arc<Self>) {
        self.connected.store(true, Ordering::Release);
        let driven: Vec<Box<str>> = self.calls().keys().cloned().collect();
        driven.iter().for_each(|channel| self.tell(channel, Signal::Missed));
        match self.ari.channels().await {
            Ok(channels) => orphan::adopt(self, channels),
            Err(ari::NotDone) => {
                warn!(provider = %self.settings.provider, "the exchange does not say which calls it has")
            }
        }
    }

    fn disconnected(&self) {
        self.connected.store(false, Ordering::Release);
    }

    /// Returns whether nothing is left to listen for.
    fn done(&self) -> bool {
        self.tasks.stopping() && self.calls().is_empty()
    }

    /// Waits until nothing is left to listen for.
    async fn finished(&self) {
        self.tasks.stop().cancelled().await;
        loop {
            let ended = self.ended.notified();
            if self.done() {
                return;
            }
            ended.await;
        }
    }
}

impl From<CallNews> for News {
    fn from(news: CallNews) -> Self {
        Self::Call(news)
    }
}

/// Returns the language of what is said: the flow's, else the recipient's.
fn locale(flow: &Flow, handover: &Handover) -> Box<str> {
    match flow.locale() {
        "" => handover.recipient.locale.clone().unwrap_or_default(),
        locale => locale.into(),
    }
}

// === impl ChannelId ===

impl fmt::Display for ChannelId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.app, self.job, self.attempt)
    }
}

impl<'a> ChannelId<'a> {
    /// Reads an id; `None` for a channel that is not ours.
    fn read(id: &'a str) -> Option<Self> {
        let (rest, attempt) = id.rsplit_once('.')?;
        let (app, job) = rest.rsplit_once('.')?;
        Some(Self { app, job: JobId::from_str(job).ok()?, attempt: attempt.parse().ok()? })
    }
}
