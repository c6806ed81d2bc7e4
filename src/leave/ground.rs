//! What a job needs before it leaves, and what follows from each answer. Pure.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::takes::Caps;
use crate::domain::cap::{CapRule, OnLimit};
use crate::domain::event::{Fate, Outcome};
use crate::domain::job::{Job, Shared};
use crate::domain::suppression::Scope;
use crate::domain::time::UnixMicros;
use crate::domain::window::Means;
use crate::ledger::Tenant;
use crate::limits::{Claim, Decision, Words};
use crate::policy::windows::{Bound, Windows};
use crate::policy::zones;
use crate::seal::Sealer;

/// What the claims of an envelope have in common: its words' keys and the caps that count its jobs.
pub struct Ground {
    words: Words,
    pub(super) caps: Caps,
    pub(super) windows: Bound,
}

/// When and how one job is claimed.
#[derive(Clone, Copy)]
pub struct Asking {
    /// Now.
    pub now: UnixMicros,
    /// When its hand-over may be checked.
    pub deadline: UnixMicros,
    /// Its segments; 1 for what has none.
    pub units: u32,
}

/// What follows from a claim's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// Hand it over.
    Go,
    /// It has its outcome.
    Settle(Outcome),
    /// It waits for a cap or a send window.
    Defer {
        /// The cap's name, or the window's with `window:` in front.
        rule: Box<str>,
        /// Until when.
        until: UnixMicros,
        /// When it might go at the earliest, if not so many waited.
        open_at: UnixMicros,
    },
    /// It was moved to another time.
    Move {
        /// When the rule was given.
        at: UnixMicros,
        /// When it is due.
        due_at: UnixMicros,
        /// When it expires; `None`: by its class.
        expires_at: Option<UnixMicros>,
    },
    /// Another copy was claimed: record decides after the deadline.
    Check {
        /// That copy's attempt.
        attempt: u16,
        /// Its deadline.
        deadline: UnixMicros,
    },
    /// It may have been handed over before limits lost their memory, and must not go twice.
    Unresolved,
    /// It may have been handed over before limits lost their memory, and may go once more: ask again, unseen.
    AskUnseen,
    /// Nobody can say now whether it may go.
    Wait,
}

/// Returns what jobs have in common as of `at`: their sender may have gone, and another have taken over. What is written back
/// into queues keeps the sender that the jobs were accepted with: who took over since then is found from that one alone.
pub fn current(shared: &Arc<Shared>, tenant: Option<&Tenant>, at: UnixMicros) -> Arc<Shared> {
    match tenant.map(|tenant| tenant.sender_of(shared, at)) {
        Some(sender) if *sender != *shared.sender => {
            Arc::new(Shared { sender: sender.into(), ..Shared::clone(shared) })
        }
        Some(_) | None => Arc::clone(shared),
    }
}

// === impl Ground ===

impl Ground {
    /// Returns the ground of an envelope's claims, by the rules of now: the windows of `house` where `tenant` has none of its
    /// own, and `caps`, which are the tenant's and the house's.
    pub fn new(
        shared: &Shared,
        (tenant, caps): (Option<&Tenant>, &[CapRule]),
        house: &Windows,
        sealer: &Sealer,
    ) -> Self {
        let windows = tenant.map_or(&[][..], |tenant| &tenant.windows);
        let Shared { class, kind, topic, sender, pool, .. } = shared;
        let means = Means { class: *class, kind: *kind, topic, sender, pool };
        let windows = house.bind(windows, &means, &shared.windows);
        let zone = tenant.and_then(|tenant| zones::named(tenant.time_zone.as_deref()?)).unwrap_or(TimeZone::UTC);
        Self { windows, words: Words::new(shared, sealer), caps: Caps::new(shared, caps, zone, sealer) }
    }

    /// Returns the caps that count the envelope's jobs.
    pub fn caps(&self) -> &Caps {
        &self.caps
    }

    /// Returns the windows that bind the envelope's jobs.
    pub fn windows(&self) -> &Bound {
        &self.windows
    }

    /// Returns the claim of one job; `None` where its recipient has no address for its kind.
    pub fn claim(&self, shared: &Shared, job: &Job, asking: Asking, sealer: &Sealer) -> Option<Claim> {
        Some(Claim {
            tenant: shared.tenant.clone(),
            recipient: sealer.recipient_key(&shared.tenant, &job.recipient, shared.kind),
            job: job.id,
            attempt: job.attempt.saturating_add(1),
            supersedes: job.supersedes,
            token: fastrand::u64(..),
            deadline: asking.deadline,
            seen: job.seen,
            touch: shared.touch(job.id),
            takes: self.caps.takes(asking.now, asking.units, || zones::of(&job.recipient)),
            expires_at: shared.expires_at,
            against: self.words.against(shared, job, sealer)?,
        })
    }

    /// Returns what follows from the answer to a job's claim.
    pub fn next(&self, shared: &Shared, decision: Decision) -> Next {
        match decision {
            Decision::Claimed | Decision::Overshadowed(_) | Decision::Recovering { claimed: true } => Next::Go,
            Decision::Recovering { claimed: false } => Next::Wait,
            Decision::Held { attempt, deadline } => Next::Check { attempt, deadline },
            Decision::Forgotten if shared.class.at_most_once(shared.kind) => Next::Unresolved,
            Decision::Forgotten => Next::AskUnseen,
            Decision::Suppressed(scope) => Next::Settle(opted_out(scope)),
            Decision::Cancelled => Next::Settle(cancelled()),
            Decision::Collapsed => Next::Settle(Outcome::new(Fate::Cancelled, "collapsed")),
            Decision::Moved { at, due_at, expires_at } => Next::Move { at, due_at, expires_at },
            Decision::OverCap { take, open_at, turn_at } => match self.caps.rule(take) {
                Some(rule) => over(rule, shared, open_at, turn_at),
                None => Next::Defer { rule: "cap".into(), until: turn_at, open_at },
            },
        }
    }
}

/// Returns what happens to a job that `rule` has no room for before `open_at`, and whose turn comes then or later.
pub fn over(rule: &CapRule, shared: &Shared, open_at: UnixMicros, turn_at: UnixMicros) -> Next {
    match rule.on_limit {
        OnLimit::Drop => Next::Settle(Outcome::new(Fate::Suppressed, rule.name.as_str())),
        OnLimit::Defer if open_at >= shared.expires_at => Next::Settle(Outcome::new(Fate::Expired, rule.name.as_str())),
        OnLimit::Defer => Next::Defer { rule: rule.name.as_str().into(), until: turn_at, open_at },
    }
}

/// Returns the outcome of a job that its owner took back.
pub fn cancelled() -> Outcome {
    Outcome::new(Fate::Cancelled, "request")
}

/// Returns the outcome of a job that an opt-out binds.
pub fn opted_out(scope: Scope) -> Outcome {
    let reason = match scope {
        Scope::Sender(_) => "opt_out_sender",
        Scope::Signature(_) => "opt_out_signature",
        Scope::Topic(_) => "opt_out_topic",
        Scope::Brand => "opt_out",
        Scope::Everything => "opt_out_everything",
        Scope::Global => "opt_out_global",
    };
    Outcome::new(Fate::Suppressed, reason)
}
