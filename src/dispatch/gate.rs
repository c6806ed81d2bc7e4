//! Permits to hand jobs over: provider up, room in its window, tokens of its rate. Higher classes first.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Notify;

use super::learn::Learned;
use crate::channel::{Channel, Handover, Profile};
use crate::domain::ids::PoolId;
use crate::domain::job::{Class, Kind};
use crate::domain::rate::Rate;
use crate::domain::time::{Clock, UnixMicros};
use crate::limits::pacer::Pacer;
use crate::limits::rates::{self, Bucket};
use crate::limits::{LeaseMode, Limits};
use crate::telemetry::metrics::ProviderMetrics;

/// One part in so many of every window is kept for one-time passwords and transactional work.
const URGENT_PARTS: u32 = 10;
/// A waiter looks again at least this often: a provider that comes up or a hold that ends wakes nobody.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A provider as dispatch sees it.
pub struct Provider {
    /// What it is.
    pub profile: Profile,
    /// Hands jobs over.
    pub channel: Arc<dyn Channel>,
    /// What it counts.
    pub metrics: ProviderMetrics,
    learned: Mutex<Learned>,
    in_use: AtomicU32,
    /// This node's own share of the rate, for when limits are away.
    alone: Mutex<Option<(Rate, DefaultDirectRateLimiter)>>,
}

/// The providers of one pool.
pub struct Gate<L> {
    providers: Vec<Arc<Provider>>,
    pacer: Pacer<L>,
    clock: Clock,
    /// How many wait, by class.
    waiting: [AtomicUsize; Class::ALL.len()],
    freed: Arc<Notify>,
}

/// What is asked of a gate.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// The class of the jobs.
    pub class: Class,
    /// Their kind.
    pub kind: Kind,
    /// Returns what each of them, at least one, takes of a provider's window and rate.
    pub costs: &'a (dyn Fn(&dyn Channel) -> Vec<u32> + Sync),
}

/// Leave to hand over the first `jobs` of what was asked for, through `provider`. Dropped, its room is free again.
pub struct Permit {
    /// Through whom.
    pub provider: Arc<Provider>,
    /// How many jobs.
    pub jobs: usize,
    units: u32,
    freed: Arc<Notify>,
}

// === impl Provider ===

impl Provider {
    /// Returns a provider that is believed to carry its configured rate.
    pub fn new(profile: Profile, channel: Arc<dyn Channel>, rate: Option<Rate>, now: UnixMicros) -> Self {
        let metrics = ProviderMetrics::new(&profile.id);
        Self {
            metrics,
            profile,
            channel,
            learned: Mutex::new(Learned::new(rate, now)),
            in_use: AtomicU32::new(0),
            alone: Mutex::default(),
        }
    }

    /// Notes a throttle reply: the provider is given less from now on.
    pub fn throttled(&self, retry_after: Option<Duration>, now: UnixMicros) {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        learned.throttled(retry_after, now);
    }

    /// Shows how it is.
    pub fn show(&self, now: UnixMicros) {
        let health = self.channel.health();
        let rate = match self.rate(now) {
            Ok(rate) => rate.map_or(health.rate_per_s, |rate| f64::from(rate.per_s.get())),
            Err(_) => 0.0,
        };
        self.metrics.health(health.up, rate, self.in_use.load(Ordering::Relaxed));
    }

    fn rate(&self, now: UnixMicros) -> Result<Option<Rate>, UnixMicros> {
        let mut learned = self.learned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = learned.holding(now) {
            return Err(until);
        }
        learned.sending(0, now);
        Ok(learned.rate())
    }

    fn sending(&self, units: u32, now: UnixMicros) {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner).sending(units, now);
    }

    /// Takes room for as many of the jobs as fit, in order; returns how many and their units.
    fn take_room(&self, class: Class, costs: &[u32]) -> (usize, u32) {
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
    fn alone(&self, rate: Rate, units: u32) -> Result<u32, Duration> {
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

    fn free_room(&self, units: u32) {
        self.in_use.fetch_sub(units, Ordering::AcqRel);
    }
}

// === impl Gate ===

impl<L: Limits> Gate<L> {
    /// Returns the gate of a pool.
    pub fn new(providers: Vec<Arc<Provider>>, pacer: Pacer<L>, clock: Clock) -> Self {
        Self { providers, pacer, clock, waiting: Default::default(), freed: Arc::default() }
    }

    /// Waits for leave to hand over some jobs of one kind: the first of them, as many as there is room and rate for.
    /// `None` when there was none within `patience`, in real time.
    pub async fn acquire(&self, wish: Wish<'_>, patience: Duration) -> Option<Permit> {
        let watch = self.clock.stopwatch();
        let _waiting = Waiting::new(&self.waiting, wish.class);
        loop {
            let freed = self.freed.notified();
            let wait = match self.attempt(wish).await {
                Ok(permit) => return Some(permit),
                Err(wait) => wait.clamp(Duration::from_millis(1), LOOK_EVERY),
            };
            if watch.elapsed() >= patience {
                return None;
            }
            let _look = self.clock.timeout(wait, freed).await;
        }
    }

    /// Returns what a job takes of a provider's window, by the pool's first.
    pub(super) fn cost(&self, handover: &Handover) -> u32 {
        self.providers.first().map_or(1, |provider| provider.channel.cost(handover))
    }

    /// Returns how long the slowest of the pool's providers may take to answer.
    pub fn response_timeout_max(&self) -> Duration {
        self.providers.iter().map(|provider| provider.profile.response_timeout).max().unwrap_or_default()
    }

    /// Returns whether any provider of the pool is up.
    pub fn up(&self) -> bool {
        self.providers.iter().any(|provider| provider.channel.health().up)
    }

    async fn attempt(&self, wish: Wish<'_>) -> Result<Permit, Duration> {
        if self.higher_waits(wish.class) {
            return Err(LOOK_EVERY);
        }
        let mut wait = LOOK_EVERY;
        for provider in self.candidates(wish.kind) {
            match self.ask(&provider, wish).await {
                Ok(permit) => return Ok(permit),
                Err(longer) => wait = wait.min(longer),
            }
        }
        Err(wait)
    }

    async fn ask(&self, provider: &Arc<Provider>, wish: Wish<'_>) -> Result<Permit, Duration> {
        let now = self.clock.now();
        let rate = provider.rate(now).map_err(|until| until.since(now))?;
        let costs = (wish.costs)(&*provider.channel);
        let (jobs, units) = provider.take_room(wish.class, &costs);
        if jobs == 0 {
            return Err(LOOK_EVERY);
        }
        let mut permit = Permit { provider: Arc::clone(provider), jobs, units, freed: Arc::clone(&self.freed) };
        if let Some(rate) = rate {
            let bucket = rates::provider(&provider.profile.id, rate, wish.class);
            let tokens = self.tokens(provider, &bucket, (wish, &costs[..jobs]), now).await?;
            let (jobs, units) = fitting(&costs[..jobs], tokens);
            self.pacer.credit(std::slice::from_ref(&bucket), tokens - units);
            permit.shrink(jobs, units);
        }
        provider.sending(permit.units, now);
        Ok(permit)
    }

    /// Takes tokens for these jobs: at least for the first, or says how long to wait. With limits away, what is urgent
    /// goes on at this node's own rate, one job at a time; the rest waits.
    async fn tokens(
        &self,
        provider: &Provider,
        bucket: &Bucket,
        (wish, costs): (Wish<'_>, &[u32]),
        now: UnixMicros,
    ) -> Result<u32, Duration> {
        let (first, want) = (costs.first().copied().unwrap_or(1), costs.iter().sum());
        let Ok(granted) = self.pacer.take(bucket, want, LeaseMode::UpTo).await else {
            return if wish.class.urgent() { provider.alone(bucket.rate, first) } else { Err(LOOK_EVERY) };
        };
        if granted.tokens >= first {
            return Ok(granted.tokens);
        }
        if granted.tokens > 0 {
            // A job of several segments takes what is missing in advance: waiting for a full purse could last forever.
            let missing = first - granted.tokens;
            let forced = self.pacer.take(bucket, missing, LeaseMode::Force).await;
            return Ok(granted.tokens + forced.map_or(missing, |forced| forced.tokens));
        }
        Err(granted.next_at.since(now).max(Duration::from_millis(1)))
    }

    /// Returns the providers that carry `kind` and are up, the one with most room first.
    fn candidates(&self, kind: Kind) -> Vec<Arc<Provider>> {
        let fits = |provider: &&Arc<Provider>| provider.profile.kinds.contains(&kind) && provider.channel.health().up;
        let mut candidates: Vec<_> = self.providers.iter().filter(fits).cloned().collect();
        candidates.sort_by_key(|provider| {
            let window = provider.channel.health().window.max(1);
            u64::from(provider.in_use.load(Ordering::Relaxed)) * 1_000 / u64::from(window)
        });
        candidates
    }

    fn higher_waits(&self, class: Class) -> bool {
        let rank = class as usize;
        self.waiting[..rank].iter().any(|waiting| waiting.load(Ordering::Relaxed) > 0)
    }
}

// === impl Permit ===

impl Permit {
    /// Gives back room until `units` are left for `jobs`: of jobs that are not handed over after all, or are answered.
    pub fn shrink(&mut self, jobs: usize, units: u32) {
        let freed = self.units.saturating_sub(units);
        (self.jobs, self.units) = (jobs, self.units - freed);
        self.provider.free_room(freed);
        if freed > 0 {
            self.freed.notify_waiters();
        }
    }

    /// Returns the window units it holds.
    pub fn units(&self) -> u32 {
        self.units
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.provider.free_room(self.units);
        self.freed.notify_waiters();
    }
}

/// Counts a waiter of a class for as long as it waits.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(waiting: &'a [AtomicUsize], class: Class) -> Self {
        let mine = &waiting[class as usize];
        mine.fetch_add(1, Ordering::Relaxed);
        Self(mine)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns how many of the first jobs fit into `room`, and their units.
fn fitting(costs: &[u32], room: u32) -> (usize, u32) {
    let mut units = 0_u32;
    for (jobs, cost) in costs.iter().enumerate() {
        match units.checked_add(*cost).filter(|units| *units <= room) {
            Some(more) => units = more,
            None => return (jobs, units),
        }
    }
    (costs.len(), units)
}

/// A pool with its gate.
pub type Gates<L> = hashbrown::HashMap<PoolId, Arc<Gate<L>>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_fit_in_order_and_whole() {
        assert_eq!(fitting(&[1, 1, 1], 2), (2, 2));
        assert_eq!(fitting(&[3, 1], 2), (0, 0));
        assert_eq!(fitting(&[2, 2], 9), (2, 4));
    }
}
