//! A provider as dispatch sees it: its channel, what it has learned to carry, whether it works, how it answers.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use super::choice::{self, Candidate};
use super::fitting;
use crate::channel::{Answer, Channel, Profile};
use crate::config::InPool;
use crate::dialer::Lines;
use crate::dispatch::breaker::{Breaker, Flow};
use crate::dispatch::learn::Learned;
use crate::domain::event::Change;
use crate::domain::job::{Class, Kind};
use crate::domain::rate::Rate;
use crate::domain::time::UnixMicros;
use crate::ledger::Directory;
use crate::rate_limited;
use crate::telemetry::metrics::{Breaker as Shown, CostMetrics, ProviderMetrics};

/// One part in so many of every window is kept for one-time passwords and transactional work.
const URGENT_PARTS: u32 = 10;

/// A provider as dispatch sees it.
pub struct Provider {
    /// What it is.
    pub profile: Profile,
    /// Hands jobs over.
    pub channel: Arc<dyn Channel>,
    /// What it counts.
    pub metrics: ProviderMetrics,
    /// What hand-overs to it cost; `None`: it has no price.
    costs: Option<CostMetrics>,
    /// The lines that its calls need; `None`: it has none of ours.
    pub lines: Option<Lines>,
    in_pool: InPool,
    /// Knows who is held.
    directory: Directory,
    learned: Mutex<Learned>,
    answers: Mutex<Answers>,
    in_use: AtomicU32,
    /// This node's own share of the rate, for when limits are away.
    alone: Mutex<Option<(Rate, DefaultDirectRateLimiter)>>,
}

/// What its answers tell.
#[derive(Default)]
struct Answers {
    breaker: Breaker,
    latency: Option<Duration>,
}

impl Provider {
    /// Returns a provider that is believed to carry its configured rate.
    pub fn new(
        (profile, in_pool): (Profile, InPool),
        channel: Arc<dyn Channel>,
        rate: Option<Rate>,
        directory: Directory,
        now: UnixMicros,
    ) -> Self {
        let metrics = ProviderMetrics::new(&profile.id);
        let costs = profile.price.map(|price| CostMetrics::new(&profile.id, price.currency));
        Self {
            metrics,
            costs,
            lines: None,
            profile,
            channel,
            in_pool,
            directory,
            learned: Mutex::new(Learned::new(rate, now)),
            answers: Mutex::default(),
            in_use: AtomicU32::new(0),
            alone: Mutex::default(),
        }
    }

    /// Counts what a hand-over cost, if it had a cost.
    pub fn cost(&self, change: &Change) {
        if let (Some(costs), Some(cost)) = (&self.costs, change.cost()) {
            costs.spent(cost);
        }
    }

    /// Returns the same provider, whose calls need these lines.
    pub fn with_lines(self, lines: Option<Lines>) -> Self {
        Self { lines, ..self }
    }

    /// Notes a throttle reply: the provider is given less from now on.
    pub fn throttled(&self, retry_after: Option<Duration>, now: UnixMicros) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.throttled(retry_after, now);
    }

    /// Notes an answer that took so long: whether it works, and how fast.
    pub fn answered(&self, answer: &Answer, took: Duration, now: UnixMicros) {
        let mut answers = self.answers();
        if let Answer::Closed { code, opens } = answer {
            let (provider, until) = (&self.profile.id, opens.at(now));
            rate_limited!(per_min = 6, warn, %provider, %code, secs = until.since(now).as_secs(), "the account takes nothing");
            return answers.breaker.shut(until);
        }
        if answer.blames_provider() {
            return answers.breaker.failed(now, fastrand::f64());
        }
        answers.breaker.worked(now);
        answers.latency = Some(choice::mean(answers.latency, took));
    }

    /// Returns whether work flows to it.
    pub fn breaker(&self, now: UnixMicros) -> Shown {
        self.answers().breaker.shown(now)
    }

    /// Shows how it is.
    pub fn show(&self, now: UnixMicros) {
        let health = self.channel.health();
        let rate = match self.rate(now) {
            Ok(rate) => rate.map_or(health.rate_per_s, |rate| f64::from(rate.per_s.get())),
            Err(_) => 0.0,
        };
        self.metrics.health(health.up, rate, self.in_use.load(Ordering::Relaxed));
        self.metrics.breaker(self.breaker(now));
    }

    /// Returns whether it carries that kind, has a connection, and nobody holds it back.
    pub(super) fn works_for(&self, kind: Kind) -> bool {
        self.profile.kinds.contains(&kind)
            && self.channel.health().up
            && self.directory.hold(&self.profile.id).is_none()
    }

    pub(super) fn flow(&self, now: UnixMicros) -> Flow {
        self.answers().breaker.flow(now)
    }

    pub(super) fn probe(&self, now: UnixMicros) -> bool {
        self.answers().breaker.probe(now)
    }

    pub(super) fn probed(&self) {
        self.answers().breaker.probed();
    }

    pub(super) fn candidate(&self, place: usize) -> Candidate {
        let InPool { order, weight } = self.in_pool;
        let window = self.channel.health().window.max(1);
        let load = f64::from(self.in_use.load(Ordering::Relaxed)) / f64::from(window);
        Candidate { place, order, weight, latency: self.answers().latency, load: load.min(1.0) }
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rate(&self, now: UnixMicros) -> Result<Option<Rate>, UnixMicros> {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = learned.holding(now) {
            return Err(until);
        }
        learned.sending(0, now);
        Ok(learned.rate())
    }

    pub(super) fn sending(&self, units: u32, now: UnixMicros) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).sending(units, now);
    }

    /// Takes room for as many of the jobs as fit, in order; returns how many and their units.
    pub(super) fn take_room(&self, class: Class, costs: &[u32]) -> (usize, u32) {
        let window = self.channel.health().window;
        let kept = if class.urgent() { 0 } else { window / URGENT_PARTS };
        let most = window.saturating_sub(kept).max(1);
        let mut taken = (0, 0);
        let _none = self.in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, |in_use| {
            taken = fitting(costs, most.saturating_sub(in_use));
            // A job larger than the whole window still goes, alone.
            if taken.0 == 0 && in_use == 0 {
                taken = (1, costs.first().copied().unwrap_or(1));
            }
            (taken.0 > 0).then(|| in_use.saturating_add(taken.1))
        });
        taken
    }

    /// Takes leave for one job from this node's own share of the rate, a tenth: how many other nodes there are, nobody
    /// can tell without limits.
    pub(super) fn alone(&self, rate: Rate, units: u32) -> Result<u32, Duration> {
        let share = |whole: NonZeroU32| NonZeroU32::new(whole.get() / URGENT_PARTS).unwrap_or(NonZeroU32::MIN);
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, limiter) = match alone.take().filter(|(known, _)| *known == rate) {
            Some(known) => alone.insert(known),
            None => {
                let quota = Quota::per_second(share(rate.per_s)).allow_burst(share(rate.burst));
                alone.insert((rate, RateLimiter::direct(quota)))
            }
        };
        // A job of more segments than the burst goes like one of as many.
        let wanted = NonZeroU32::new(units.min(share(rate.burst).get())).unwrap_or(NonZeroU32::MIN);
        match limiter.check_n(wanted) {
            Ok(Err(not_until)) => Err(not_until.wait_time_from(DefaultClock::default().now())),
            Ok(Ok(())) | Err(_) => Ok(units),
        }
    }

    pub(super) fn free_room(&self, units: u32) {
        self.in_use.fetch_sub(units, Ordering::AcqRel);
    }
}
