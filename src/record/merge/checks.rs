//! Decides hand-overs without an answer, and jobs whose receipt never came.

use hashbrown::HashSet;

use super::Merger;
use crate::domain::event::{Change, Event, Fate, Outcome};
use crate::domain::ids::JobId;
use crate::domain::job::{Check, Job};
use crate::domain::time::UnixMicros;
use crate::ledger::NumberedEvent;
use crate::record::standing::Standing;

/// The reason of an outcome without a receipt.
const NO_RECEIPT: &str = "no_receipt";
/// How often a job may be claimed and not be heard of again before it has failed. Each time the process that held it
/// died; twenty in a row is what a queue lets a message do to its consumers, too.
const LOST_MAX: u16 = 20;

/// What follows for a job that goes out at least once, from a hand-over without an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// It goes out again.
    Resend,
    /// It went out twice: its receipt may still come.
    Wait,
    /// It could not be handed over.
    Fail,
}

impl Merger {
    /// Decides what became of a hand-over without an answer. Every event that was published before its claim's deadline
    /// is merged already, because the check came into the queue after it.
    ///
    /// A known result, or an outcome: nothing is left to do. Else the job is unresolved; and what must be handed over at
    /// least once goes out again. A hand-over that nobody answered is repeated once. A claim whose holder was never heard
    /// of may be no hand-over at all, so it is repeated until one is, or the job expires or has failed. Deciding the same
    /// check again finds the first decision.
    pub(in crate::record) fn check(&mut self, check: &Check, now: UnixMicros) {
        for job in &check.envelope.jobs {
            self.check_job(check, job, now);
        }
    }

    fn check_job(&mut self, check: &Check, job: &Job, now: UnixMicros) {
        if check.ends_call {
            return self.check_call(check, job, now);
        }
        let shared = &check.envelope.shared;
        let standing = self.known.get_mut(&job.id).map(|known| &known.standing);
        if standing.is_some_and(|standing| standing.fate().is_some() || standing.answered() >= check.attempt) {
            return self.check_again(check, job, now);
        }
        let next = next(check, standing);
        let change = if shared.class.at_most_once(shared.kind) {
            Change::Unresolved { provider: check.provider.clone() }
        } else if now >= shared.expires_at {
            Change::Settled(Outcome::new(Fate::Expired, Outcome::NO_ANSWER))
        } else if next == Next::Fail {
            Change::Settled(Outcome::new(Fate::Failed, Outcome::NO_ANSWER))
        } else {
            if next == Next::Resend {
                self.resend(check, job, now);
            }
            Change::Unresolved { provider: check.provider.clone() }
        };
        self.event(Event {
            job: job.id,
            tenant: shared.tenant.clone(),
            kind: shared.kind,
            class: shared.class,
            at: now,
            attempt: check.attempt,
            change,
        });
    }

    fn resend(&mut self, check: &Check, job: &Job, now: UnixMicros) {
        let again = Job { attempt: check.attempt, supersedes: check.attempt, seen: Some(now), ..job.clone() };
        let mut envelope = check.envelope.with_jobs(vec![again]);
        envelope.due_at = now;
        self.merged.resends.push(envelope);
        self.merged.tally.resent += 1;
    }

    /// Returns the jobs that [`Merger::sweep`] needs to know.
    pub(in crate::record) fn sweep_wants(&self, events: &[NumberedEvent], until: UnixMicros) -> Vec<JobId> {
        let events = events.iter().map(|numbered| &numbered.event).take_while(|event| event.at <= until);
        let waiting = events.filter(|event| awaits(&event.change).is_some() && !self.knows(event.job));
        let jobs: HashSet<JobId> = waiting.map(|event| event.job).collect();
        jobs.into_iter().collect()
    }

    /// Settles as unknown what an event up to `until` left open and nothing has closed since. Takes events in order,
    /// each once; returns the number of the last one it judged, `None` where the first is too young.
    pub(in crate::record) fn sweep(
        &mut self,
        events: &[NumberedEvent],
        until: UnixMicros,
        now: UnixMicros,
    ) -> Option<i64> {
        let mut judged = None;
        for NumberedEvent { seq, event } in events.iter().take_while(|numbered| numbered.event.at <= until) {
            judged = Some(*seq);
            if let Some(reason) = awaits(&event.change) {
                self.give_up(event, reason, now);
            }
        }
        judged
    }

    /// Records how far the sweep has come.
    pub(in crate::record) fn swept(&mut self, to: i64) {
        self.merged.recording.swept_to = Some(to);
    }

    fn give_up(&mut self, waiting: &Event, reason: &str, now: UnixMicros) {
        let standing = self.known.get_mut(&waiting.job).map(|known| &known.standing);
        // A later attempt is judged by its own event, in its own time.
        if standing.is_some_and(|standing| standing.fate().is_none() && standing.answered() <= waiting.attempt) {
            let change = Change::Settled(Outcome::new(Fate::Unknown, reason));
            self.event(Event { at: now, change, ..waiting.clone() });
        }
    }
}

/// Returns what follows from an attempt without an answer; `standing` is the job's, before it is known to have had none.
fn next(check: &Check, standing: Option<&Standing>) -> Next {
    let (lost, unanswered) = standing.map_or((0, 0), |standing| (standing.lost(), standing.unanswered()));
    match check.provider {
        Some(_) if unanswered == 0 => Next::Resend,
        Some(_) => Next::Wait,
        None if lost + 1 < LOST_MAX => Next::Resend,
        None => Next::Fail,
    }
}

/// Returns why a job has no outcome, if this was the last that was heard of it.
fn awaits(change: &Change) -> Option<&'static str> {
    match change {
        Change::Sent { receipt_expected: true, .. } => Some(NO_RECEIPT),
        Change::Unresolved { .. } => Some(Outcome::NO_ANSWER),
        Change::Sent { receipt_expected: false, .. }
        | Change::Deferred { .. }
        | Change::Progress(_)
        | Change::Called { .. }
        | Change::Recorded { .. }
        | Change::Settled(_) => None,
    }
}
