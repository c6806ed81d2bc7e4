//! How a job stands: all that its events say, small enough to be kept for hundreds of thousands of jobs. Pure.

use crate::domain::call::Tries;
use crate::domain::chain::Passes;
use crate::domain::event::{Change, Fate, State};

/// Deferrals that are told apart; an older one that comes a second time is written again, which harms nobody.
const DEFERRALS_MAX: usize = 16;
/// Stands for a call that has ended, beside the numbers of states.
const CALLED: u32 = 64;
/// Stands for a call that was recorded.
const RECORDED: u32 = 65;
/// Set in the marks of deferrals.
const DEFERRAL: u32 = 1 << 31;

/// The merge of a job's events, in whatever order they came.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Standing {
    /// One for each change that was admitted: attempt and kind of change exactly, or the hash of a deferral.
    marks: Vec<u32>,
    fate: Option<Fate>,
    /// What the outcome means to its chain.
    passes: Option<Passes>,
    state: Option<State>,
    /// The last attempt that is known to have come to a result.
    answered: u16,
    /// Attempts of which all that is known is their claim: whoever held it was never heard of.
    lost: u16,
    /// Attempts that are known to have been handed over, and had no answer.
    unanswered: u16,
    sent: bool,
    /// Calls that have ended, by result.
    calls: Tries,
}

/// What a change is to a job.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// News: it is written.
    New,
    /// The same was written before.
    Doubled,
    /// It would be a second outcome, or says nothing once there is one.
    Late,
}

impl Standing {
    /// Takes a change in, or says why not.
    pub(super) fn admit(&mut self, attempt: u16, change: &Change) -> Admission {
        if let Some(admission) = self.refuses(attempt, change) {
            return admission;
        }
        match change {
            Change::Deferred { .. } => {}
            Change::Sent { .. } => self.sent = true,
            Change::Called { result, .. } => self.calls.count(*result),
            Change::Unresolved { provider: None } => self.lost = self.lost.saturating_add(1),
            Change::Unresolved { provider: Some(_) } => self.unanswered = self.unanswered.saturating_add(1),
            Change::Progress(_) | Change::Recorded { .. } | Change::Settled(_) => {}
        }
        if !matches!(change, Change::Deferred { .. }) {
            self.answered = self.answered.max(attempt);
        }
        match change.outcome() {
            Some(outcome) => (self.fate, self.passes) = (Some(outcome.fate), Some(Passes::of(&outcome))),
            None => self.remember(mark(attempt, change)),
        }
        self.state = self.state.max(Some(change.state()));
        Admission::New
    }

    fn refuses(&self, attempt: u16, change: &Change) -> Option<Admission> {
        let last_word = match change {
            Change::Settled(_) | Change::Sent { receipt_expected: false, .. } => true,
            Change::Deferred { .. } | Change::Unresolved { .. } => true,
            // Told even after the end: when it was sent is worth knowing however late that comes.
            Change::Sent { receipt_expected: true, .. }
            | Change::Progress(_)
            | Change::Called { .. }
            | Change::Recorded { .. } => false,
        };
        if self.fate.is_some() && last_word {
            return Some(Admission::Late);
        }
        let is_outcome = change.outcome().is_some();
        (!is_outcome && self.marks.contains(&mark(attempt, change))).then_some(Admission::Doubled)
    }

    fn remember(&mut self, mark: u32) {
        if mark & DEFERRAL != 0 && self.marks.iter().filter(|mark| **mark & DEFERRAL != 0).count() >= DEFERRALS_MAX {
            let oldest = self.marks.iter().position(|mark| mark & DEFERRAL != 0);
            oldest.map(|oldest| self.marks.remove(oldest));
        }
        self.marks.push(mark);
    }

    /// Returns the outcome's fate, once there is one.
    pub(super) fn fate(&self) -> Option<Fate> {
        self.fate
    }

    /// Returns what the outcome means to its fallback chain, once there is one.
    pub(super) fn passes(&self) -> Option<Passes> {
        self.passes
    }

    /// Returns whether it waits, as far as is known, for an employee's confirmation.
    pub(super) fn awaits_operator(&self) -> bool {
        self.state == Some(State::AwaitingOperator)
    }

    /// Returns whether a provider is known to have taken it.
    pub(super) fn sent(&self) -> bool {
        self.sent
    }

    /// Returns the last attempt that is known to have come to a result; 0: none.
    pub(super) fn answered(&self) -> u16 {
        self.answered
    }

    /// Returns of how many attempts all that is known is their claim.
    pub(super) fn lost(&self) -> u16 {
        self.lost
    }

    /// Returns how many attempts are known to have been handed over, and had no answer.
    pub(super) fn unanswered(&self) -> u16 {
        self.unanswered
    }

    /// Returns the calls that have ended, by result.
    pub(super) fn calls(&self) -> Tries {
        self.calls
    }

    /// Returns whether the call of an attempt is known to have ended.
    pub(super) fn call_ended(&self, attempt: u16) -> bool {
        self.marks.contains(&(u32::from(attempt) << 8 | CALLED))
    }

    /// Returns whether a driver has spoken of the call of an attempt, and not of its end.
    pub(super) fn in_call(&self, attempt: u16) -> bool {
        let moved =
            [State::Dialing, State::Ringing, State::Answered].map(|state| mark(attempt, &Change::Progress(state)));
        !self.call_ended(attempt) && self.marks.iter().any(|mark| moved.contains(mark))
    }

    /// Returns whether all that is known is that it was handed over.
    pub(super) fn unresolved(&self) -> bool {
        self.state == Some(State::Unresolved)
    }
}

fn mark(attempt: u16, change: &Change) -> u32 {
    let kind = match change {
        Change::Deferred { reason, until } => {
            let mut hasher = crc32fast::Hasher::new();
            hasher.update(&attempt.to_le_bytes());
            hasher.update(&until.0.to_le_bytes());
            hasher.update(reason.as_bytes());
            return DEFERRAL | hasher.finalize();
        }
        Change::Sent { .. } => 0,
        Change::Unresolved { .. } => 1,
        Change::Settled(_) => 2,
        Change::Called { .. } => CALLED,
        Change::Recorded { .. } => RECORDED,
        Change::Progress(state) => 3 + *state as u32,
    };
    u32::from(attempt) << 8 | kind
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Outcome;
    use crate::domain::time::UnixMicros;

    fn sent(receipt_expected: bool) -> Change {
        Change::Sent { provider: "p".parse().unwrap(), message_ids: vec!["m".into()], receipt_expected, cost: None }
    }

    fn settled(fate: Fate) -> Change {
        Change::Settled(Outcome::new(fate, ""))
    }

    fn deferred(until: i64) -> Change {
        Change::Deferred { reason: "rate".into(), until: UnixMicros(until) }
    }

    #[track_caller]
    fn check(changes: &[(u16, Change)], expected: &[Admission], fate: Option<Fate>) {
        let mut standing = Standing::default();
        let admitted: Vec<_> = changes.iter().map(|(attempt, change)| standing.admit(*attempt, change)).collect();
        assert_eq!(admitted, expected, "{changes:?}");
        assert_eq!(standing.fate(), fate, "{changes:?}");
    }

    #[test]
    fn the_first_outcome_is_the_only_one() {
        use Admission::{Doubled, Late, New};
        check(
            &[(1, sent(true)), (1, settled(Fate::Delivered)), (1, settled(Fate::Undelivered))],
            &[New, New, Late],
            Some(Fate::Delivered),
        );
        check(&[(1, settled(Fate::Delivered)), (1, sent(true))], &[New, New], Some(Fate::Delivered));
        check(&[(1, sent(false)), (1, sent(false))], &[New, Late], Some(Fate::Sent));
        check(&[(1, sent(true)), (1, sent(true)), (2, sent(true))], &[New, Doubled, New], None);
        check(&[(1, settled(Fate::Cancelled)), (1, deferred(5))], &[New, Late], Some(Fate::Cancelled));
        check(&[(1, deferred(5)), (1, deferred(6)), (1, deferred(5))], &[New, New, Doubled], None);
    }

    #[test]
    fn a_deferral_is_no_result() {
        let mut standing = Standing::default();
        standing.admit(3, &deferred(1));
        assert_eq!(standing.answered(), 0);
        standing.admit(2, &Change::Progress(State::Dialing));
        standing.admit(1, &sent(true));
        assert_eq!(standing.answered(), 2);
    }

    #[test]
    fn unresolved_is_outranked_by_sent_in_either_order() {
        let unresolved = Change::Unresolved { provider: None };
        for order in [[&unresolved, &sent(true)], [&sent(true), &unresolved]] {
            let mut standing = Standing::default();
            for change in order {
                standing.admit(1, change);
            }
            assert!(!standing.unresolved());
            assert_eq!((standing.lost(), standing.unanswered()), (1, 0));
        }
    }

    #[test]
    fn marks_stay_few_however_often_a_job_waits() {
        let mut standing = Standing::default();
        standing.admit(1, &sent(true));
        for until in 0..1_000 {
            assert_eq!(standing.admit(1, &deferred(until)), Admission::New);
        }
        assert_eq!(standing.marks.len(), DEFERRALS_MAX + 1);
        assert_eq!(standing.admit(1, &sent(true)), Admission::Doubled);
        assert_eq!(standing.admit(1, &deferred(999)), Admission::Doubled);
    }
}
