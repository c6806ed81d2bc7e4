//! Fallback chains: what follows a job that fails, or is not delivered in time.
//!
//! Each step is a job of its own, whose id follows from the first job's and the step's number. Every job carries the steps
//! that follow it, so that nothing else must be known to start the next.

use std::fmt;
use std::time::Duration;

use super::event::{Fate, Outcome};
use super::ids::{JobId, PoolId};
use super::job::{Content, Kind};

/// Most steps after the first job.
pub const STEPS_MAX: usize = 3;
/// How long a job may take to be delivered before the next step starts, unless that says so itself.
pub const AFTER: Duration = Duration::from_secs(10 * 60);
/// The least and the most that it may say.
pub const AFTER_RANGE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(72 * 3600));

/// A job's place in its chain.
#[derive(Clone, PartialEq, Eq)]
pub struct Chain {
    /// The first job; `None`: this is it.
    pub first: Option<JobId>,
    /// Which step this is; the first job is 0.
    pub step: u8,
    /// How long each step may be sent from its start on; `None`: all expire together.
    pub life: Option<Duration>,
    /// What follows, in order; at most [`STEPS_MAX`].
    pub next: Vec<Step>,
}

/// A step that follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// By which means it goes.
    pub kind: Kind,
    /// Which providers may carry it.
    pub pool: PoolId,
    /// What it says.
    pub content: Content,
    /// The sender shown; empty: the provider's default.
    pub sender: Box<str>,
    /// How long the job before it may take to be delivered, from its hand-over on.
    pub after: Duration,
}

/// What the outcome of a job means to its chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Passes {
    /// It reached the recipient, as far as anybody will ever know: nothing follows.
    Reached,
    /// It did not: the next step starts.
    Failed,
    /// It was not to reach them: its owner took it back, they opted out, a cap drops what is over it. Nothing follows.
    Stopped,
}

// === impl Passes ===

impl Passes {
    /// Returns what an outcome means.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome.fate {
            // They were talked to, and that called for another means.
            Fate::Completed if *outcome.reason == *Outcome::NEXT_STEP => Self::Failed,
            Fate::Delivered | Fate::Completed | Fate::Sent => Self::Reached,
            // What the vendor lets through, not what we keep: another means may still reach them.
            Fate::Suppressed if [Outcome::VENDOR_LIMIT, Outcome::NO_CONSENT].contains(&&*outcome.reason) => {
                Self::Failed
            }
            Fate::Cancelled | Fate::Suppressed => Self::Stopped,
            Fate::Undelivered | Fate::Expired | Fate::Rejected | Fate::Failed | Fate::Unknown => Self::Failed,
        }
    }
}

// === impl Chain ===

impl Chain {
    /// Returns the id of the first job, where this is the place of `job`.
    pub fn first(&self, job: JobId) -> JobId {
        self.first.unwrap_or(job)
    }

    /// Returns the id of the step that follows `job`, whether there is one or not.
    pub fn next_id(&self, job: JobId) -> JobId {
        self.first(job).step(self.step.saturating_add(1))
    }

    /// Returns the ids of all jobs that the chain of `job` may have, in order.
    pub fn ids(&self, job: JobId) -> impl Iterator<Item = JobId> + use<> {
        let first = self.first(job);
        let last = self.step.saturating_add(u8::try_from(self.next.len()).unwrap_or(u8::MAX));
        (0..=last).map(move |step| if step == 0 { first } else { first.step(step) })
    }

    /// Returns the place of the step that follows `job`, and what it is; `None` after the last.
    pub fn follow(&self, job: JobId) -> Option<(Self, &Step)> {
        let (step, rest) = self.next.split_first()?;
        let place = Self {
            first: Some(self.first(job)),
            step: self.step.saturating_add(1),
            life: self.life,
            next: rest.to_vec(),
        };
        Some((place, step))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never contents: this ends in logs and panics.
        f.debug_struct("Chain").field("step", &self.step).field("next", &self.next.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMicros;

    fn step(after: u64) -> Step {
        Step {
            kind: Kind::Sms,
            pool: "default".parse().unwrap(),
            content: Content::Text("hello".into()),
            sender: "".into(),
            after: Duration::from_secs(after),
        }
    }

    #[test]
    fn steps_follow_one_another_under_ids_that_the_first_job_gives() {
        let first = JobId::new(UnixMicros(7), 1);
        let chain = Chain { first: None, step: 0, life: None, next: vec![step(60), step(90)] };
        let ids: Vec<_> = chain.ids(first).collect();
        assert_eq!(ids, [first, first.step(1), first.step(2)]);
        let (one, what) = chain.follow(first).unwrap();
        assert_eq!((what.after, chain.next_id(first)), (Duration::from_secs(60), ids[1]));
        assert_eq!((one.first(ids[1]), one.step, one.ids(ids[1]).collect()), (first, 1, ids.clone()));
        let (two, _) = one.follow(ids[1]).unwrap();
        assert_eq!((two.ids(ids[2]).collect::<Vec<_>>(), two.follow(ids[2])), (ids, None));
    }
}
