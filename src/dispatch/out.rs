//! What follows from the jobs of a delivery: facts for record, work for later, checks.

use std::sync::Arc;

use super::hand::Item;
use crate::channel::Profile;
use crate::domain::event::{Change, Event, Fact, Fate, Outcome, State};
use crate::domain::ids::ProviderId;
use crate::domain::job::{Check, ENVELOPE_JOBS_MAX, Envelope};
use crate::domain::time::UnixMicros;
use crate::telemetry::metrics::DispatchMetrics;

/// What is to be published before the delivery may be acknowledged.
pub(super) struct Out {
    metrics: Arc<DispatchMetrics>,
    pub(super) facts: Vec<Fact>,
    pub(super) waiting: Vec<(Item, UnixMicros)>,
    pub(super) checks: Vec<Check>,
    /// What record may learn once all of that is confirmed.
    pub(super) last: Vec<Fact>,
}

impl Out {
    /// Returns an empty one.
    pub(super) fn new(metrics: Arc<DispatchMetrics>) -> Self {
        Self { metrics, facts: vec![], waiting: vec![], checks: vec![], last: vec![] }
    }

    /// The job has its outcome.
    pub(super) fn settle(&mut self, item: &Item, outcome: Outcome, now: UnixMicros) {
        if outcome.fate == Fate::Suppressed {
            self.metrics.suppressed(&outcome.reason);
        }
        self.event(item, Change::Settled(outcome), now);
    }

    /// Something happened to the job before an attempt, or it is not known in which.
    pub(super) fn event(&mut self, item: &Item, change: Change, now: UnixMicros) {
        self.push(item, item.job.attempt, change, now);
    }

    /// Something came of the attempt in hand.
    pub(super) fn event_of_attempt(&mut self, item: &Item, change: Change, now: UnixMicros) {
        self.push(item, item.job.attempt.saturating_add(1), change, now);
    }

    /// A provider took the job, or ended it; where an employee is asked to let it go out, it waits for that.
    pub(super) fn answered(&mut self, item: &Item, change: Change, provider: &Profile, now: UnixMicros) {
        let waits = provider.confirmed && matches!(change, Change::Sent { .. });
        self.event_of_attempt(item, change, now);
        if waits {
            self.event_of_attempt(item, Change::Progress(State::AwaitingOperator), now);
        }
    }

    /// The job waits until a time, and its owner is told why.
    pub(super) fn defer(&mut self, item: Item, reason: Box<str>, until: UnixMicros, now: UnixMicros) {
        self.metrics.deferred(&reason);
        self.event(&item, Change::Deferred { reason, until }, now);
        self.waiting.push((item, until));
    }

    /// The job waits for a moment, for its turn.
    pub(super) fn wait(&mut self, item: Item, until: UnixMicros) {
        self.waiting.push((item, until));
    }

    /// The attempt in hand certainly did not go out, and its claim stands: the next one takes its place, in the caps too. Once
    /// that one is durable record is told, and no check asks any more what became of this one.
    pub(super) fn again(&mut self, mut item: Item, until: UnixMicros, now: UnixMicros) {
        let attempt = item.job.attempt.saturating_add(1);
        self.last.push(fact(&item, attempt, Change::Progress(State::Scheduled), now));
        (item.job.attempt, item.job.supersedes, item.job.seen) = (attempt, attempt, None);
        self.wait(item, until);
    }

    /// Record decides what became of another copy's attempt.
    pub(super) fn check(&mut self, item: Item, attempt: u16, due_at: UnixMicros) {
        self.checks.push(Check { envelope: alone(&item), attempt, provider: None, due_at, ends_call: false });
    }

    /// The attempt in hand was handed over, and nobody answered: record decides what follows.
    pub(super) fn check_unanswered(&mut self, item: &Item, provider: &ProviderId, due_at: UnixMicros) {
        self.check_claimed(item, Some(provider.clone()), due_at);
    }

    /// Record decides what became of the attempt in hand, of which nothing is known so far but its claim. To whom it was given
    /// is said only of what goes out at most once: of the rest that would mean that it did go out, and that it may be repeated
    /// once and no more.
    pub(super) fn check_open(&mut self, item: &Item, provider: &ProviderId, due_at: UnixMicros) {
        let once = item.shared.class.at_most_once(item.shared.kind);
        self.check_claimed(item, once.then(|| provider.clone()), due_at);
    }

    fn check_claimed(&mut self, item: &Item, provider: Option<ProviderId>, due_at: UnixMicros) {
        let attempt = item.job.attempt.saturating_add(1);
        self.checks.push(Check { envelope: alone(item), attempt, provider, due_at, ends_call: false });
    }

    /// Record settles a call that was taken, if nobody has said how it ended by the time it must have.
    pub(super) fn check_call(&mut self, item: &Item, provider: &Profile, now: UnixMicros) {
        if item.handover.call.is_some() {
            // A call may wait at its provider for as long as an answer may.
            let due_at = now.plus(item.shared.content.plan().over_after() + provider.response_timeout);
            self.check_claimed(item, Some(provider.id.clone()), due_at);
            self.checks.iter_mut().rev().take(1).for_each(|check| check.ends_call = true);
        }
    }

    /// Returns the waiting jobs in envelopes: those of one origin that are due in the same second share one, which is
    /// due when the last of them is.
    pub(super) fn envelopes(&mut self) -> Vec<Envelope> {
        let mut envelopes: Vec<Envelope> = Vec::new();
        for (item, until) in self.waiting.drain(..) {
            let fits = |envelope: &&mut Envelope| {
                Arc::ptr_eq(&envelope.shared, &item.shared)
                    && envelope.due_at.as_secs() == until.as_secs()
                    && envelope.jobs.len() < ENVELOPE_JOBS_MAX
            };
            match envelopes.iter_mut().rev().take(8).find(fits) {
                Some(envelope) => {
                    envelope.due_at = envelope.due_at.max(until);
                    envelope.jobs.push(item.job);
                }
                None => envelopes.push(Envelope { shared: item.shared, due_at: until, jobs: vec![item.job] }),
            }
        }
        envelopes
    }

    fn push(&mut self, item: &Item, attempt: u16, change: Change, at: UnixMicros) {
        self.facts.push(fact(item, attempt, change, at));
    }
}

fn fact(item: &Item, attempt: u16, change: Change, at: UnixMicros) -> Fact {
    Fact::Event(Event {
        job: item.job.id,
        tenant: item.shared.tenant.clone(),
        kind: item.shared.kind,
        class: item.shared.class,
        at,
        attempt,
        change,
    })
}

fn alone(item: &Item) -> Envelope {
    Envelope { shared: Arc::clone(&item.shared), due_at: item.due_at, jobs: vec![item.job.clone()] }
}
