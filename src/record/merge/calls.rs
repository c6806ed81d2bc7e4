//! What follows from calls: the next try, or the outcome.

use super::{Known, Merger};
use crate::domain::call::{AfterAct, CallResult, retry_after};
use crate::domain::event::{CallStep, Called, Change, Event, Fate, Left, Outcome, Owed};
use crate::domain::ids::JobId;
use crate::domain::job::{Check, Envelope, Job};
use crate::domain::time::UnixMicros;

/// The reason of an outcome of a call that its driver lost, and of one that no driver has spoken of.
const LOST: &str = "call_lost";

impl Merger {
    /// Merges what a driver says of a call. A call that has ended has its consequence once: said again, it is no news.
    pub(super) fn called(&mut self, called: Called) {
        let Called { provider, job, attempt, at, step } = called;
        let Some(known) = self.known.get(&job) else {
            // No job of ours, or one that is no longer kept.
            self.merged.tally.unmatched += 1;
            return;
        };
        let (tenant, kind, class) = (known.tenant.clone(), known.kind, known.class);
        let event = |change| Event { job, tenant, kind, class, at, attempt, change };
        match step {
            CallStep::Moved(state) => _ = self.event(event(Change::Progress(state))),
            CallStep::Withdrawn(outcome) => _ = self.event(event(Change::Settled(outcome))),
            CallStep::Lost => _ = self.event(event(Change::Settled(Outcome::new(Fate::Unknown, LOST)))),
            CallStep::Ended { result, report, cost, left } => {
                let ended = event(Change::Called { provider, result, report, cost });
                match left {
                    Some(left) if self.event(ended.clone()) => self.after_call(ended, result, Some(*left)),
                    Some(_) => {}
                    // Its driver has nothing of the job any more.
                    None => self.call_reported(ended, result),
                }
            }
        }
    }

    /// Merges how a call went of whose job nobody has anything: what follows is decided once the job is brought.
    pub(super) fn call_reported(&mut self, ended: Event, result: CallResult) {
        if self.event(ended.clone()) {
            self.ended_calls.push((ended, result));
        }
    }

    /// Takes the calls of this batch that ended and whose jobs are to be brought.
    pub(in crate::record) fn take_ended_calls(&mut self) -> Vec<(Event, CallResult)> {
        std::mem::take(&mut self.ended_calls)
    }

    /// Brings what follows a call that ended; then it is made again later, or its job settled.
    pub(in crate::record) fn after_call(&mut self, ended: Event, result: CallResult, left: Option<Left>) {
        let goes_on = left.as_ref().is_some_and(|left| self.owe(left, ended.at));
        let Some(known) = self.known.get(&ended.job).filter(|known| known.standing.fate().is_none()) else { return };
        let tries = known.standing.calls();
        let next = left.filter(|_| !goes_on).and_then(|Left { again, .. }| {
            let plan = again.shared.content.plan();
            let after = retry_after(result, tries, &plan.retries, chance(ended.job, ended.attempt))?;
            next_call(again, ended.attempt, ended.at.plus(after))
        });
        let change = match next {
            Some(envelope) => {
                let until = envelope.due_at;
                self.merged.resends.push(envelope);
                Change::Deferred { reason: result.as_str().into(), until }
            }
            None => Change::Settled(match result {
                CallResult::Completed if goes_on => Outcome::new(Fate::Completed, Outcome::NEXT_STEP),
                CallResult::Completed => Outcome::new(Fate::Completed, ""),
                other => Outcome::new(Fate::Undelivered, other.as_str()),
            }),
        };
        self.event(Event { change, ..ended });
    }

    /// Notes what is to follow a call that ended; returns whether the next step of its chain is called for.
    fn owe(&mut self, left: &Left, at: UnixMicros) -> bool {
        let Left { again, follows, heard } = left;
        let mut goes_on = false;
        for &place in follows {
            match again.shared.content.plan().after.get(usize::from(place)).map(|after| &after.act) {
                Some(AfterAct::Submit { .. } | AfterAct::OptOut { .. }) => {
                    self.merged.owed.push(Owed { call: again.clone(), place, heard: heard.clone(), at });
                }
                Some(AfterAct::NextStep) => goes_on = true,
                None => {}
            }
        }
        goes_on
    }

    /// Looks again, once it must have ended, at a call that its driver has spoken of, and whose own check nobody has: a
    /// process that dies right after it has handed a call over takes that along.
    pub(super) fn check_again(&mut self, check: &Check, job: &Job, now: UnixMicros) {
        let known = self.known.get(&job.id);
        if known.is_some_and(|Known { standing, .. }| standing.fate().is_none() && standing.in_call(check.attempt)) {
            let due_at = now.plus(check.envelope.shared.content.plan().over_after());
            let envelope = check.envelope.with_jobs(vec![job.clone()]);
            self.merged.checks.push(Check { envelope, due_at, ends_call: true, ..check.clone() });
        }
    }

    /// Settles a call that has long ended, if nobody has said how: its driver lost it with its process.
    pub(super) fn check_call(&mut self, check: &Check, job: &Job, now: UnixMicros) {
        let Some(known) = self.known.get(&job.id) else { return };
        let standing = &known.standing;
        if standing.fate().is_some() || standing.call_ended(check.attempt) || standing.answered() > check.attempt {
            return;
        }
        let (tenant, kind, class) = (known.tenant.clone(), known.kind, known.class);
        let change = Change::Settled(Outcome::new(Fate::Unknown, LOST));
        self.event(Event { job: job.id, tenant, kind, class, at: now, attempt: check.attempt, change });
    }
}

/// Returns the job as it is called the next time at `due_at`; `None`: it has expired by then. The claim of the attempt
/// that ended gives way, and its place in the caps stands.
fn next_call(mut again: Envelope, attempt: u16, due_at: UnixMicros) -> Option<Envelope> {
    if due_at >= again.shared.expires_at {
        return None;
    }
    again.due_at = due_at;
    for job in &mut again.jobs {
        (job.attempt, job.supersedes, job.seen) = (attempt, attempt, None);
    }
    Some(again)
}

/// Returns a number in 0..1 that is the same whenever the same attempt is decided.
fn chance(job: JobId, attempt: u16) -> f64 {
    let mut hash = crc32fast::Hasher::new();
    hash.update(job.0.as_bytes());
    hash.update(&attempt.to_be_bytes());
    f64::from(hash.finalize()) / f64::from(u32::MAX)
}
