//! Who may be dialled now, over which trunk and from which number. The core is pure: time is an argument.
//!
//! A call needs a line of its trunk, of the number it comes from, of its tenant and of its campaign, all or none, and a
//! place in the trunk's rate. It holds them as a [`Permit`] for as long as it lasts; a permit is given back by value, so
//! no call can give back twice, and what a lost call held comes back when its shell drops it.

mod breaker;
mod caller;
mod line;
mod pacing;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::time::Duration;

use hashbrown::HashMap;

use self::breaker::Breaker;
use self::caller::Caller;
pub use self::caller::CallerRule;
pub use self::line::{Lines, Ticket};
use self::pacing::{Pace, may_dial};
use crate::domain::call::CallResult;
use crate::domain::ids::TenantId;
use crate::domain::time::UnixMicros;

/// What a trunk carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrunkRules {
    /// Calls at a time, ringing or answered.
    pub lines: NonZeroU32,
    /// Calls that ring at a time for each line that nobody talks on, 1 to 3. With more than one, somebody who answers may
    /// find no line free only where there are fewer lines than calls; so it is 1 unless that can be borne.
    pub lines_per_port: NonZeroU32,
    /// New calls per second.
    pub calls_per_s: NonZeroU32,
    /// Calls at a time for each tenant; `None`: as many as there are lines.
    pub tenant_lines: Option<NonZeroU32>,
    /// Calls at a time for each campaign of a tenant; `None`: as many as there are lines.
    pub campaign_lines: Option<NonZeroU32>,
    /// The numbers that calls come from; none: the trunk's own.
    pub callers: Vec<CallerRule>,
    /// How long a number rests after it was declined again and again.
    pub caller_rest: Duration,
}

/// One trunk's lines, and who holds them.
#[derive(Debug)]
pub struct Dialer {
    rules: TrunkRules,
    pace: Pace,
    breaker: Breaker,
    callers: Vec<Caller>,
    ringing: u32,
    answered: u32,
    tenants: HashMap<TenantId, u32>,
    campaigns: HashMap<(TenantId, Box<str>), u32>,
    turns: u64,
}

/// For whom a line is wanted.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The owner of the job.
    pub tenant: &'a TenantId,
    /// Its campaign; empty: none.
    pub campaign: &'a str,
    /// The number to be called, with `+`.
    pub callee: &'a str,
    /// The number that the job wants to come from; empty: any.
    pub sender: &'a str,
}

/// What a call holds. Not to be copied: [`Dialer::end`] takes it back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit is given back"]
pub struct Permit {
    tenant: TenantId,
    campaign: Box<str>,
    caller: Option<usize>,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Ringing,
    Answered,
}

/// Why there is no line, and when to ask again; without a time, when one has come free.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoLine {
    /// Every line of the trunk is taken, or rings.
    Trunk,
    /// The tenant has as many calls as it may.
    Tenant,
    /// The campaign has as many calls as it may.
    Campaign,
    /// The trunk has started as many calls as it may for now.
    Rate(UnixMicros),
    /// Every number is in use, resting, or done for the day.
    Caller(Option<UnixMicros>),
    /// The trunk fails: one call tries it at that time.
    Broken(UnixMicros),
}

// === impl Permit ===

impl Permit {
    fn rings(&self) -> bool {
        self.stage == Stage::Ringing
    }
}

// === impl Dialer ===

impl Dialer {
    /// Returns a trunk of which nothing is in use.
    pub fn new(rules: TrunkRules) -> Self {
        Self {
            pace: Pace::new(rules.calls_per_s),
            breaker: Breaker::default(),
            callers: rules.callers.iter().cloned().map(Caller::new).collect(),
            ringing: 0,
            answered: 0,
            tenants: HashMap::new(),
            campaigns: HashMap::new(),
            turns: 0,
            rules,
        }
    }

    /// Returns the lines in use.
    pub fn in_use(&self) -> u32 {
        self.ringing + self.answered
    }

    /// Returns how many calls the trunk would take now, whoever asks.
    pub fn free(&self) -> u32 {
        may_dial(self.rules.lines.get(), self.rules.lines_per_port.get(), self.ringing, self.answered)
    }

    /// Gives a call all that it needs, or nothing.
    ///
    /// # Errors
    /// [`NoLine`]: what is missing.
    pub fn dial(&mut self, ask: Ask<'_>, now: UnixMicros) -> Result<Permit, NoLine> {
        if self.free() == 0 {
            return Err(NoLine::Trunk);
        }
        let full = |used: Option<&u32>, most: Option<NonZeroU32>| {
            most.is_some_and(|most| used.is_some_and(|used| *used >= most.get()))
        };
        if full(self.tenants.get(ask.tenant), self.rules.tenant_lines) {
            return Err(NoLine::Tenant);
        }
        let campaign = (!ask.campaign.is_empty()).then(|| (ask.tenant.clone(), Box::from(ask.campaign)));
        if full(campaign.as_ref().and_then(|key| self.campaigns.get(key)), self.rules.campaign_lines) {
            return Err(NoLine::Campaign);
        }
        self.breaker.check(now).map_err(NoLine::Broken)?;
        let caller = caller::choose(&self.callers, ask, now).map_err(NoLine::Caller)?;
        self.pace.take(now).map_err(NoLine::Rate)?;
        self.breaker.trying(now);
        self.turns += 1;
        if let Some(caller) = caller.and_then(|caller| self.callers.get_mut(caller)) {
            caller.take(self.turns, now);
        }
        self.ringing += 1;
        *self.tenants.entry_ref(ask.tenant).or_default() += 1;
        if let Some(key) = campaign {
            *self.campaigns.entry(key).or_default() += 1;
        }
        Ok(Permit { tenant: ask.tenant.clone(), campaign: ask.campaign.into(), caller, stage: Stage::Ringing })
    }

    /// Returns the number that a call comes from; empty: the trunk's own.
    pub fn caller(&self, permit: &Permit) -> &str {
        permit.caller.and_then(|caller| self.callers.get(caller)).map_or("", |caller| caller.number())
    }

    /// Notes that somebody answered: the line is now talked on.
    pub fn answered(&mut self, permit: &mut Permit) {
        if permit.stage == Stage::Ringing {
            permit.stage = Stage::Answered;
            self.ringing -= 1;
            self.answered += 1;
        }
    }

    /// Takes back what a call held. `result` is how it ended; `None`: it was never dialled, or nobody knows.
    pub fn end(&mut self, permit: Permit, result: Option<CallResult>, now: UnixMicros) {
        match permit.stage {
            Stage::Ringing => self.ringing -= 1,
            Stage::Answered => self.answered -= 1,
        }
        free(&mut self.tenants, permit.tenant.clone());
        if !permit.campaign.is_empty() {
            free(&mut self.campaigns, (permit.tenant, permit.campaign));
        }
        if let Some(caller) = permit.caller.and_then(|caller| self.callers.get_mut(caller)) {
            caller.end(result, self.rules.caller_rest, now);
        }
        self.breaker.ended(result, now);
    }
}

/// Takes one off a count, and the count away once it is zero.
fn free<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: K) {
    if let hashbrown::hash_map::Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() -= 1;
        if *count.get() == 0 {
            count.remove();
        }
    }
}
