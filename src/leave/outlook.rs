//! What comes next of a job, as far as is known: what dispatch would do with it at some moment, told beforehand. Pure.

use super::ground::{Ground, Next, over};
use super::{RECOVERING, RESCHEDULED};
use crate::domain::event::{Fate, Outcome};
use crate::domain::job::{Job, Shared};
use crate::domain::time::UnixMicros;
use crate::limits::Decision;

/// What comes next of a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outlook {
    /// Nothing holds it: it goes.
    Goes,
    /// It waits.
    Waits {
        /// The cap's name, or the window's with `window:` in front.
        rule: Box<str>,
        /// Until when; `None`: nobody knows.
        until: Option<UnixMicros>,
    },
    /// It has this outcome.
    Ends(Outcome),
    /// A copy of it was claimed: it is being handed over, or nobody answered.
    Claimed {
        /// That copy's attempt.
        attempt: u16,
        /// When record decides, if no answer comes.
        deadline: UnixMicros,
    },
}

impl Ground {
    /// Returns what becomes of a job of so many `units` that is to leave at `at`, where limits say `decision` of its claim.
    /// What takes it back comes first: it binds whatever windows say.
    pub fn outlook(&self, (shared, job): (&Shared, &Job), at: UnixMicros, units: u32, decision: Decision) -> Outlook {
        let next = self.next(shared, decision);
        if matches!(next, Next::Check { .. } | Next::Settle(Outcome { fate: Fate::Suppressed | Fate::Cancelled, .. })) {
            return self.follow(shared, job, next);
        }
        if at >= shared.expires_at {
            return Outlook::Ends(Outcome::new(Fate::Expired, "expires_at"));
        }
        let never = || self.caps().never(units).map(|rule| over(rule, shared, UnixMicros::MAX, UnixMicros::MAX));
        let next = self.closed(shared, job, at).or_else(never).unwrap_or(next);
        self.follow(shared, job, next)
    }

    fn follow(&self, shared: &Shared, job: &Job, next: Next) -> Outlook {
        match next {
            Next::Go | Next::AskUnseen => Outlook::Goes,
            Next::Settle(outcome) => Outlook::Ends(outcome),
            Next::Defer { rule, until, open_at } => match self.put_off(shared, job, (until, open_at)) {
                Ok(until) => Outlook::Waits { rule, until: Some(until) },
                Err(outcome) => Outlook::Ends(outcome),
            },
            Next::Move { due_at, .. } => Outlook::Waits { rule: RESCHEDULED.into(), until: Some(due_at) },
            Next::Check { attempt, deadline } => Outlook::Claimed { attempt, deadline },
            Next::Unresolved => Outlook::Ends(Outcome::new(Fate::Unknown, "")),
            Next::Wait => Outlook::Waits { rule: RECOVERING.into(), until: None },
        }
    }
}
