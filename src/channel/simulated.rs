//! A provider inside the process that behaves like a real one, for all kinds, and reaches nobody: it takes its time,
//! throttles, refuses, loses answers, reports late, twice, early or never, and its recipients write back.
//!
//! What it does with a job is drawn from the job's id, the attempt, how often that was throttled, and the seed alone, so that
//! a run can be repeated whatever the timing. It lives on the service's clock.

mod desk;
mod log;
mod mail;
pub(crate) mod plan;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::mpsc;

use self::desk::{Desk, Slip};
use self::mail::Mail;
use super::sms::text;
use super::{Answer, Answered, Channel, Handover, Health, Inbound, Profile};
use crate::config;
use crate::domain::job::{Content, Kind};
use crate::domain::rate::Rate;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// What a simulated provider is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its id, kinds and response time-out.
    pub profile: Profile,
    /// Window units in flight; beyond them it throttles.
    pub window: u32,
    /// Beyond this it throttles; `None`: as fast as it answers.
    pub rate: Option<Rate>,
    /// What it does with what it gets.
    pub behaviour: Behaviour,
    /// Makes chance repeatable.
    pub seed: u64,
    /// A file that gets one line for each hand-over that would reach its recipient, `job attempt`, on disk before the
    /// answer: what crash tests count.
    pub log: Option<PathBuf>,
}

/// How a simulated provider behaves. Shares are between 0 and 1; times are averages, spread evenly from half to one and
/// a half times.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Behaviour {
    /// Whether it can be reached.
    pub up: bool,
    /// Time to its answer.
    pub latency: Duration,
    /// Share of hand-overs that are throttled.
    pub throttled: f64,
    /// Share of hand-overs that are refused for good.
    pub refused: f64,
    /// Share of hand-overs that fail before they are taken.
    pub not_sent: f64,
    /// Share of hand-overs that are taken and never answered.
    pub unanswered: f64,
    /// What it reports later; `None`: nothing.
    pub receipts: Option<Receipts>,
    /// Who writes back.
    pub replies: Replies,
    /// How its calls go.
    pub calls: Calls,
}

/// What a simulated provider reports.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Receipts {
    /// Time from the answer to the receipt.
    pub after: Duration,
    /// Share that say `undelivered`.
    pub undelivered: f64,
    /// Share that come ten times later.
    pub late: f64,
    /// Share that come twice.
    pub doubled: f64,
    /// Share that come before the answer.
    pub early: f64,
    /// Share that never come.
    pub missing: f64,
}

/// Who writes back to a simulated provider.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Replies {
    /// Share of recipients that answer a text with STOP.
    pub stop: f64,
    /// Share of texts that are answered with something else.
    pub other: f64,
    /// Time from the answer to the reply.
    pub after: Duration,
}

/// How the calls of a simulated provider go.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Calls {
    /// Share that find the line busy.
    pub busy: f64,
    /// Share that nobody answers.
    pub no_answer: f64,
    /// Time the phone rings.
    pub ring: Duration,
    /// Time people talk.
    pub talk: Duration,
}

/// A simulated provider. It runs until its group of tasks stops and what is in flight is answered.
pub struct Simulated {
    shared: Arc<Shared>,
    desk: mpsc::Sender<Slip>,
    clock: Clock,
}

struct Shared {
    settings: Settings,
    behaviour: RwLock<Behaviour>,
    /// Window units in flight.
    in_flight: AtomicU32,
    /// When the next hand-over would be due if they came at exactly the rate, in microseconds.
    due: AtomicI64,
}

// === impl Behaviour ===

impl Default for Behaviour {
    /// Returns the behaviour of a provider on a good day.
    fn default() -> Self {
        Self {
            up: true,
            latency: Duration::from_millis(20),
            throttled: 0.0,
            refused: 0.0,
            not_sent: 0.0,
            unanswered: 0.0,
            receipts: Some(Receipts::default()),
            replies: Replies { stop: 0.0, other: 0.0, after: Duration::from_secs(2) },
            calls: Calls {
                busy: 0.05,
                no_answer: 0.2,
                ring: Duration::from_millis(300),
                talk: Duration::from_millis(700),
            },
        }
    }
}

impl Default for Receipts {
    /// Returns receipts that all come, once, after half a second, and say `delivered`.
    fn default() -> Self {
        let after = Duration::from_millis(500);
        Self { after, undelivered: 0.0, late: 0.0, doubled: 0.0, early: 0.0, missing: 0.0 }
    }
}

impl Settings {
    /// Returns what the settings file says of a provider.
    pub fn of(provider: &config::Provider, simulated: &config::Simulated) -> Self {
        let receipts =
            Receipts { after: simulated.receipt_after, undelivered: simulated.undelivered, ..Receipts::default() };
        let behaviour = Behaviour {
            latency: simulated.latency,
            throttled: simulated.throttled,
            refused: simulated.refused,
            unanswered: simulated.unanswered,
            receipts: provider.receipts.then_some(receipts),
            replies: Replies { stop: simulated.stop_replies, ..Behaviour::default().replies },
            ..Behaviour::default()
        };
        let profile = Profile {
            id: provider.id.clone(),
            kinds: provider.kinds.clone(),
            response_timeout: provider.response_timeout,
            price: provider.price,
            confirmed: false,
        };
        Self { profile, window: simulated.window.get(), rate: None, behaviour, seed: 0, log: None }
    }
}

// === impl Simulated ===

impl Simulated {
    /// Starts a provider that says what it has to say into `inbox`.
    pub fn spawn(settings: Settings, clock: &Clock, tasks: &Tasks, inbox: mpsc::Sender<Inbound>) -> Self {
        let window = settings.window.max(1);
        let (to_desk, slips) = mpsc::channel(usize::try_from(window).unwrap_or(usize::MAX).min(desk::SLIPS_MAX));
        let (to_mail, letters) = mpsc::channel(mail::LETTERS_MAX);
        let shared = Arc::new(Shared {
            behaviour: RwLock::new(settings.behaviour),
            in_flight: AtomicU32::new(0),
            due: AtomicI64::new(0),
            settings,
        });
        let desk = Desk::new(Arc::clone(&shared), clock.clone(), slips, to_mail);
        tasks.spawn("simulated provider", desk.run(tasks.stop().clone()));
        tasks.spawn("simulated receipts", Mail::new(clock.clone(), letters, inbox).run(tasks.stop().clone()));
        Self { shared, desk: to_desk, clock: clock.clone() }
    }

    /// Changes how it behaves, from the next hand-over on.
    pub fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.write().unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    /// Takes a hand-over to the desk, or answers it at the door.
    fn admit(&self, index: usize, handover: Handover, behaviour: Behaviour, answers: &mpsc::UnboundedSender<Answered>) {
        let units = self.cost(&handover);
        let refusal = if !behaviour.up {
            Some(Answer::NotSent { code: "no_connection".into(), retry_after: None })
        } else if !self.shared.enter(units) {
            Some(Answer::Throttled { retry_after: None })
        } else if let Some(wait) = self.shared.over_rate(self.clock.now().0) {
            self.shared.leave(units);
            Some(Answer::Throttled { retry_after: Some(wait) })
        } else {
            let slip = Slip { index, handover, units, behaviour, answers: answers.clone() };
            self.desk.try_send(slip).err().map(|_full_or_gone| {
                self.shared.leave(units);
                Answer::NotSent { code: "stopped".into(), retry_after: None }
            })
        };
        if let Some(refusal) = refusal {
            // Whoever asked may be gone; then nobody waits for this.
            let _gone = answers.send((index, refusal));
        }
    }
}

impl Channel for Simulated {
    fn cost(&self, handover: &Handover) -> u32 {
        segments(handover).into()
    }

    fn submit(&self, handovers: Vec<Handover>, answers: mpsc::UnboundedSender<Answered>) {
        let behaviour = *self.shared.behaviour.read().unwrap_or_else(PoisonError::into_inner);
        for (index, handover) in handovers.into_iter().enumerate() {
            self.admit(index, handover, behaviour, &answers);
        }
    }

    fn health(&self) -> Health {
        let Settings { window, rate, .. } = self.shared.settings;
        Health {
            up: self.shared.behaviour.read().unwrap_or_else(PoisonError::into_inner).up,
            rate_per_s: rate.map_or_else(|| f64::from(window), |rate| f64::from(rate.per_s.get())),
            in_flight: self.shared.in_flight.load(Ordering::Relaxed),
            window,
        }
    }
}

/// Returns how many messages a hand-over becomes.
fn segments(handover: &Handover) -> u8 {
    match (&handover.kind, &handover.content) {
        (Kind::Sms, Content::Text(text)) => {
            u8::try_from(text::segments(text, text::Counting::GsmIntl).max(1)).unwrap_or(u8::MAX)
        }
        (Kind::Sms, Content::Template { .. } | Content::Call { .. }) | (Kind::Template | Kind::Call, _) => 1,
    }
}

// === impl Shared ===

impl Shared {
    /// Takes a place in the window, if there is one.
    fn enter(&self, units: u32) -> bool {
        let within = |in_flight: u32| {
            // A hand-over larger than the whole window goes alone.
            let after = in_flight.saturating_add(units);
            (in_flight == 0 || after <= self.settings.window).then_some(after)
        };
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    fn leave(&self, units: u32) {
        self.in_flight.fetch_sub(units, Ordering::Relaxed);
    }

    /// Counts a hand-over against the rate; returns how long to wait where it is one too many.
    fn over_rate(&self, now: i64) -> Option<Duration> {
        let rate = self.settings.rate?;
        let each = 1_000_000 / i64::from(rate.per_s.get());
        let ahead = each.saturating_mul(i64::from(rate.burst.get()));
        let next = |due: i64| {
            let due = due.max(now).saturating_add(each);
            (due - now <= ahead).then_some(due)
        };
        let full = self.due.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).err()?;
        Some(Duration::from_micros(u64::try_from(full.saturating_add(each) - now - ahead).unwrap_or(0)))
    }
}

#[cfg(test)]
mod tests;
