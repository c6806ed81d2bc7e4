//! What follows a job of a fallback chain: the next step, a timer, or the end of the steps that wait. Pure.
//!
//! Decided after a batch is merged, from how all jobs of the chain stand by then. A step is there once its row is, and its
//! row, its place in the agenda and what it follows from are committed together: it starts once, whenever that is decided.

use std::sync::Arc;
use std::time::Duration;

use super::{Known, Merger};
use crate::domain::chain::{Chain, Passes};
use crate::domain::event::{Change, Event};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::{Class, Envelope, Job, Shared};
use crate::domain::rule::{Act, JobRule, Names};
use crate::domain::time::UnixMicros;
use crate::ledger::JobRow;

/// How much longer than a step may wait limits are told that it is withdrawn: clocks differ, and a step may be moved.
const RULE_SPARE: Duration = Duration::from_secs(7 * 24 * 3600);

/// When record is to be told that a job has had its time to be delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::record) struct Timer {
    pub(in crate::record) tenant: TenantId,
    pub(in crate::record) class: Class,
    pub(in crate::record) job: JobId,
    pub(in crate::record) due_at: UnixMicros,
}

/// A step that is not to leave any more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::record) struct Withdrawal {
    /// What limits are to be told.
    pub(in crate::record) rule: JobRule,
    /// Until when.
    pub(in crate::record) keep_until: UnixMicros,
    /// By which limits are asked once more, where they cannot be told now; its time is to be set.
    pub(in crate::record) again: Timer,
}

impl Known {
    /// Notes that an event happened. Returns when that ends the job's time to be delivered, if its hand-over begins it.
    pub(super) fn note(&mut self, at: UnixMicros, change: &Change) -> Option<UnixMicros> {
        if !change.hands_over() || self.handed_over_at.is_some() {
            return None;
        }
        self.handed_over_at = Some(at);
        self.fallback_after.map(|after| at.plus(after))
    }
}

impl Merger {
    /// Takes in what an event that is news means to the chain of its job, if anything follows that.
    pub(super) fn chain_event(&mut self, event: &Event) {
        let Some(known) = self.known.get_mut(&event.job) else { return };
        let due_at = known.note(event.at, &event.change);
        if known.fallback_after.is_none() {
            return;
        }
        if event.change.outcome().is_some() {
            self.touched.insert(event.job);
        } else if let Some(due_at) = due_at {
            let Event { job, tenant, class, .. } = event;
            self.merged.timers.push(Timer { tenant: tenant.clone(), class: *class, job: *job, due_at });
        }
    }

    /// Takes the jobs of chains that something happened to in this batch.
    pub(in crate::record) fn take_touched(&mut self) -> Vec<JobId> {
        std::mem::take(&mut self.touched).into_iter().collect()
    }

    /// Returns those rows of this batch that are among `jobs`.
    pub(in crate::record) fn rows(&self, jobs: &[JobId]) -> impl Iterator<Item = &JobRow> {
        self.merged.recording.jobs.iter().filter(|row| jobs.contains(&row.id))
    }

    /// Decides what follows a job, and returns the step that starts. `envelope` holds the job alone, as it was accepted;
    /// what the ledger knows of all jobs of its chain is in memory.
    pub(in crate::record) fn follow(&mut self, envelope: &Envelope, now: UnixMicros) -> Option<Envelope> {
        let (chain, job) = (envelope.shared.chain.as_ref()?, envelope.jobs.first()?);
        let (mut reached, mut stopped, mut waiting) = (false, false, vec![]);
        for id in chain.ids(job.id) {
            let Some(known) = self.known.get_mut(&id) else { continue };
            match known.standing.passes() {
                Some(Passes::Reached) => reached = true,
                Some(Passes::Stopped) => stopped = true,
                Some(Passes::Failed) => {}
                None if known.standing.answered() > 0 => {}
                None => waiting.push(id),
            }
        }
        if reached {
            self.withdraw(&envelope.shared, job.id, waiting, now);
            return None;
        }
        let next = chain.next_id(job.id);
        if stopped || self.known.get_mut(&next).is_some_and(|known| known.accepted) {
            return None;
        }
        let known = self.known.get_mut(&job.id)?;
        let due_at = known.handed_over_at.and_then(|at| Some(at.plus(chain.next.first()?.after)));
        match (known.standing.passes(), due_at) {
            (Some(Passes::Failed), _) => start(&envelope.shared, (chain, job), now),
            // Whoever is asked may still let it go out, and then it would reach them twice. Its end is awaited: it has one,
            // be it by the deadline for receipts.
            (None, _) if known.standing.awaits_operator() => None,
            (None, Some(due_at)) if due_at <= now => start(&envelope.shared, (chain, job), now),
            // Its row came after its events, or the timer too early.
            (None, Some(due_at)) => {
                let Shared { tenant, class, .. } = &*envelope.shared;
                self.merged.timers.push(Timer { tenant: tenant.clone(), class: *class, job: job.id, due_at });
                None
            }
            (None, None) | (Some(Passes::Reached | Passes::Stopped), _) => None,
        }
    }

    /// Records a step that starts, with its row.
    pub(in crate::record) fn start(&mut self, step: Envelope, row: super::Accepted) {
        self.merged.tally.fallbacks.push((step.shared.kind, step.shared.class));
        self.accept(row);
        self.merged.starts.push(step);
    }

    /// Takes back the steps that wait, since `of` or another job of its chain came through. What is claimed stands.
    fn withdraw(&mut self, shared: &Shared, of: JobId, waiting: Vec<JobId>, now: UnixMicros) {
        for step in waiting {
            let tenant = shared.tenant.clone();
            let rule = JobRule { tenant: tenant.clone(), names: Names::job(step), at: now, act: Act::Cancel };
            self.merged.recording.ruled.push(rule.clone());
            let life = shared.chain.as_ref().and_then(|chain| chain.life);
            let keep_until = life.map_or(shared.expires_at, |life| now.plus(life)).plus(RULE_SPARE);
            let again = Timer { tenant, class: shared.class, job: of, due_at: now };
            self.merged.withdrawn.push(Withdrawal { rule, keep_until, again });
        }
    }
}

/// Returns the step that follows a job; `None` where there is none, or all of the chain has expired.
fn start(of: &Arc<Shared>, (chain, job): (&Chain, &Job), now: UnixMicros) -> Option<Envelope> {
    let expires_at = chain.life.map_or(of.expires_at, |life| now.plus(life));
    let (place, step) = chain.follow(job.id).filter(|_| expires_at > now)?;
    let shared = Shared {
        kind: step.kind,
        pool: step.pool.clone(),
        content: step.content.clone(),
        sender: step.sender.clone(),
        expires_at,
        chain: Some(Box::new(place)),
        // Accepted when the chain was: a rule that takes the chain back binds all of it.
        ..(**of).clone()
    };
    let job = Job { id: chain.next_id(job.id), attempt: 0, supersedes: 0, seen: None, ..job.clone() };
    Some(Envelope { shared: Arc::new(shared), due_at: now, jobs: vec![job] })
}
