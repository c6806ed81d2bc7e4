//! Permits to hand jobs over: a provider of the pool that works, room in its window, tokens of its rate. Higher classes
//! first, and in one class tenants by turns.

mod choice;
mod line;
mod provider;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use self::choice::Candidate;
use self::line::{Line, Place};
pub use self::provider::Provider;
use super::breaker::Flow;
use crate::channel::{Channel, Handover};
use crate::domain::ids::{PoolId, ProviderId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::time::{Clock, UnixMicros};
use crate::limits::pacer::Pacer;
use crate::limits::rates::{self, Bucket};
use crate::limits::{LeaseMode, Limits};

/// A waiter looks again at least this often: a provider that comes up or a hold that ends wakes nobody.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Where tokens are scarce, what is not urgent takes those of so much time at once: a claim and a frame for each single
/// one would cost more than the hand-over.
const TOKENS_FOR: Duration = Duration::from_millis(5);

/// The providers of one pool.
pub struct Gate<L> {
    providers: Vec<Arc<Provider>>,
    pacer: Pacer<L>,
    clock: Clock,
    /// Those who wait.
    line: Mutex<Line>,
    freed: Arc<Notify>,
}

/// What is asked of a gate.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    /// Whose the first of the jobs is.
    pub tenant: &'a TenantId,
    /// The class of the jobs.
    pub class: Class,
    /// Their kind.
    pub kind: Kind,
    /// Who has failed to take the first of them already: asked again only where there is nobody else.
    pub avoid: &'a [ProviderId],
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
    /// It tries whether the provider works again.
    probe: bool,
    /// Whom to wake when its room is free again; `None`: it is not granted yet, so nobody has missed its room.
    freed: Option<Arc<Notify>>,
}

// === impl Gate ===

impl<L: Limits> Gate<L> {
    /// Returns the gate of a pool.
    pub fn new(providers: Vec<Arc<Provider>>, pacer: Pacer<L>, clock: Clock) -> Self {
        Self { providers, pacer, clock, line: Mutex::default(), freed: Arc::default() }
    }

    /// Waits for leave to hand over some jobs of one kind: the first of them, as many as there is room and rate for.
    /// `None` when there was none within `patience`, in real time.
    pub async fn acquire(&self, wish: Wish<'_>, patience: Duration) -> Option<Permit> {
        let watch = self.clock.stopwatch();
        let waiting = Waiting::new(&self.line, wish, patience, &self.freed);
        loop {
            let freed = self.freed.notified();
            let wait = match self.attempt(wish, &waiting).await {
                Ok(permit) => {
                    waiting.served();
                    return Some(permit);
                }
                Err(wait) => wait.clamp(Duration::from_millis(1), LOOK_EVERY),
            };
            if watch.elapsed() >= patience {
                return None;
            }
            let _look = self.clock.timeout(wait, freed).await;
        }
    }

    /// Returns whether this node may have a connection to one of them at all.
    pub(super) fn has_place(&self) -> bool {
        self.providers.iter().any(|provider| provider.channel.has_place())
    }

    /// Returns how many segments a job is, by the pool's first provider.
    pub(super) fn segments(&self, handover: &Handover) -> u32 {
        self.providers.first().map_or(1, |provider| provider.channel.segments(handover))
    }

    /// Returns how long the slowest of the pool's providers may take to answer.
    pub fn response_timeout_max(&self) -> Duration {
        self.providers.iter().map(|provider| provider.profile.response_timeout).max().unwrap_or_default()
    }

    /// Returns whether anybody but those might take a job of that kind now.
    pub(super) fn has_other(&self, kind: Kind, than: &[ProviderId]) -> bool {
        let now = self.clock.now();
        let other = |provider: &&Arc<Provider>| !than.contains(&provider.profile.id);
        self.providers.iter().filter(other).any(|provider| provider.works_for(kind) && provider.flow(now) == Flow::Free)
    }

    async fn attempt(&self, wish: Wish<'_>, waiting: &Waiting<'_>) -> Result<Permit, Duration> {
        if !waiting.is_next() {
            return Err(LOOK_EVERY);
        }
        let now = self.clock.now();
        if let Some(permit) = self.probe(wish, now).await {
            return Ok(permit);
        }
        let mut wait = LOOK_EVERY;
        for provider in self.candidates(wish, now) {
            match self.ask(&provider, wish).await {
                Ok(permit) => return Ok(permit),
                Err(longer) => wait = wait.min(longer),
            }
        }
        Err(wait)
    }

    /// Lets one job try whether a provider works again, if it is time to.
    async fn probe(&self, wish: Wish<'_>, now: UnixMicros) -> Option<Permit> {
        let due = |provider: &&Arc<Provider>| provider.works_for(wish.kind) && provider.flow(now) == Flow::Probe;
        let provider = self.providers.iter().filter(due).find(|provider| !wish.avoid.contains(&provider.profile.id))?;
        if !provider.probe(now) {
            return None;
        }
        let first = |channel: &dyn Channel| (wish.costs)(channel).into_iter().take(1).collect();
        match self.ask(provider, Wish { costs: &first, ..wish }).await {
            Ok(permit) => Some(permit.into_probe()),
            Err(_) => {
                provider.probed();
                None
            }
        }
    }

    async fn ask(&self, provider: &Arc<Provider>, wish: Wish<'_>) -> Result<Permit, Duration> {
        let now = self.clock.now();
        let rate = provider.rate(now).map_err(|until| until.since(now))?;
        let costs = (wish.costs)(&*provider.channel);
        let (jobs, units) = provider.take_room(wish.class, &costs);
        if jobs == 0 {
            return Err(LOOK_EVERY);
        }
        let mut permit = Permit { provider: Arc::clone(provider), jobs, units, probe: false, freed: None };
        if let Some(rate) = rate {
            let bucket = rates::provider(&provider.profile.id, rate, wish.class);
            let tokens = match self.tokens(provider, &bucket, (wish, &costs[..jobs]), now).await {
                Ok(tokens) => tokens,
                Err(wait) => {
                    drop(permit);
                    self.wake_higher(wish.class);
                    return Err(wait);
                }
            };
            let (jobs, units) = fitting(&costs[..jobs], tokens);
            self.pacer.credit(std::slice::from_ref(&bucket), tokens - units);
            permit.shrink(jobs, units);
        }
        provider.sending(permit.units, now);
        permit.freed = Some(Arc::clone(&self.freed));
        Ok(permit)
    }

    /// Wakes those of a higher class than `class`: they may have come meanwhile, and met the room that was held for an answer
    /// about tokens. Nobody else, or two without tokens would wake each other for ever.
    fn wake_higher(&self, class: Class) {
        if locked(&self.line).higher_waits(class) {
            self.freed.notify_waiters();
        }
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
        let next = granted.next_at.since(now);
        Err(next + if wish.class.urgent() { Duration::ZERO } else { worth_a_claim(bucket, want) })
    }

    /// Returns the providers to ask, in turn: see [`choice`].
    fn candidates(&self, wish: Wish<'_>, now: UnixMicros) -> Vec<Arc<Provider>> {
        let free =
            |(_, provider): &(usize, &Arc<Provider>)| provider.works_for(wish.kind) && provider.flow(now) == Flow::Free;
        let free = || self.providers.iter().enumerate().filter(free);
        let candidate = |(place, provider): (usize, &Arc<Provider>)| provider.candidate(place);
        let fresh = |(_, provider): &(usize, &Arc<Provider>)| !wish.avoid.contains(&provider.profile.id);
        let mut candidates: Vec<Candidate> = free().filter(fresh).map(candidate).collect();
        if candidates.is_empty() {
            candidates = free().map(candidate).collect();
        }
        let ranked = choice::rank(candidates, [fastrand::f64(), fastrand::f64()]);
        ranked.into_iter().filter_map(|place| self.providers.get(place)).cloned().collect()
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
            self.wake();
        }
    }

    fn wake(&self) {
        self.freed.iter().for_each(|freed| freed.notify_waiters());
    }

    fn into_probe(mut self) -> Self {
        self.probe = true;
        self
    }

    /// Returns the window units it holds.
    pub fn units(&self) -> u32 {
        self.units
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.provider.free_room(self.units);
        if self.probe {
            self.provider.probed();
        }
        self.wake();
    }
}

/// A place in the line, for as long as somebody waits.
struct Waiting<'a> {
    line: &'a Mutex<Line>,
    tenant: &'a TenantId,
    place: Place,
    freed: &'a Notify,
}

impl<'a> Waiting<'a> {
    fn new(line: &'a Mutex<Line>, wish: Wish<'a>, patience: Duration, freed: &'a Notify) -> Self {
        // Who avoids a provider may have to wait where others need not, and who has no time would never be the first.
        let in_turn = wish.avoid.is_empty() && patience > LOOK_EVERY;
        let kind = Some(wish.kind).filter(|_| in_turn);
        let place = locked(line).join(wish.tenant, wish.class, kind);
        Self { line, tenant: wish.tenant, place, freed }
    }

    fn served(&self) {
        locked(self.line).served(self.place);
    }

    fn is_next(&self) -> bool {
        locked(self.line).is_next(self.place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        locked(self.line).leave(self.tenant, self.place);
        self.freed.notify_waiters();
    }
}

fn locked(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how long after the first token there are enough for a claim by somebody who wants so many; a bucket is half
/// full by then at most, so that nothing is lost to a late look.
fn worth_a_claim(bucket: &Bucket, want: u32) -> Duration {
    let half = (bucket.rate.burst.get() - bucket.keep) / 2;
    let each = Duration::from_secs(1) / bucket.rate.per_s.get();
    (each * want.min(half).saturating_sub(1)).min(TOKENS_FOR)
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
