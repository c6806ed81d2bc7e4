//! Carries rules out in the agenda: ends or moves the jobs that wait there, so that they need not come up first. A job
//! that is moved to an earlier time is released then. What binds a job is asked of limits, job by job; the ledger only
//! says where such jobs may be.
//!
//! The ledger learns of a rule after all jobs that were accepted before it, so their rows are there when the rule is.
//! Their envelopes may still be on their way to the agenda: each rule is swept twice.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use hashbrown::HashMap;
use uuid::Uuid;

use super::{Context, later};
use crate::domain::event::{Change, Event, Fact, Fate, Outcome};
use crate::domain::job::{Envelope, Job, Shared};
use crate::domain::rule::JobRule;
use crate::domain::time::{Stopwatch, UnixMicros};
use crate::ledger::{Entry, Filter, Ledger, Place, RULE_SWEEPS, Release, Shards};
use crate::limits::{Claim, Decision, Limits, Words};
use crate::queue::frame::Frame;
use crate::queue::{Queue, QueueName, Route};

/// How often new rules are looked for while there are none.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Rules read in one go.
const RULES_MAX: u32 = 64;
/// Entries read and rewritten in one go: 2 MiB at most, and a moment's work.
const ENTRIES_MAX: u32 = 32;
/// While jobs are being released, sweeping rests so many times as long as it took: rules bind whether it has come to a
/// job or not, and what is due must leave in time.
const REST_TIMES: u32 = 3;
/// Then it also rests so long for each job it ended or moved: recording that takes what recording a job that leaves takes.
const REST_PER_JOB: Duration = Duration::from_micros(250);
/// Entries that limits are asked about at the same time: claims must not wait long behind them.
const ASKED_MAX: usize = 4;
/// The second sweep comes this long after the rule: what was on its way to the agenda has arrived.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Where the sweep of rules stands.
#[derive(Default)]
pub(super) struct Sweep {
    rules: Vec<JobRule>,
    /// Where the last of them goes on.
    place: Option<Place>,
    look_at: UnixMicros,
    /// Jobs are being released.
    pub(super) releasing: bool,
    /// Since when it rests, and for how long.
    rest: Option<(Stopwatch, Duration)>,
}

/// What a part of a sweep came to.
#[derive(Default)]
struct Swept {
    /// Entries looked at; at least one where there was a rule.
    entries: usize,
    /// Jobs ended or moved.
    jobs: u32,
}

/// What becomes of the jobs of an entry.
#[derive(Default)]
struct Outcomes {
    facts: Vec<Fact>,
    kept: Vec<Job>,
    moved: Vec<Envelope>,
}

/// Why a sweep did not get on: it goes on from the same place.
#[derive(Debug, thiserror::Error)]
pub(super) enum Stuck {
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    #[error(transparent)]
    Limits(#[from] crate::limits::LimitsError),
    #[error(transparent)]
    Publish(#[from] crate::queue::PublishError),
    #[error(transparent)]
    Queue(#[from] crate::queue::QueueError),
}

impl Sweep {
    /// Returns how long it still rests, if there is anything to sweep.
    pub(super) fn rests_for(&self) -> Option<Duration> {
        let (since, rest) = self.rest.filter(|_| !self.rules.is_empty())?;
        Some(rest.saturating_sub(since.elapsed()))
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Sweeps a part of what a rule may bind in these shards; returns how many entries were looked at.
    ///
    /// # Errors
    /// [`Stuck`].
    pub(super) async fn sweep(&self, sweep: &mut Sweep, shards: Shards) -> Result<usize, Stuck> {
        if sweep.releasing && sweep.rest.as_ref().is_some_and(|(since, rest)| since.elapsed() < *rest) {
            return Ok(0);
        }
        let watch = self.clock.stopwatch();
        let swept = self.sweep_on(sweep, shards).await;
        sweep.rest = swept.as_ref().ok().map(|swept| (self.clock.stopwatch(), rest(watch.elapsed(), swept.jobs)));
        Ok(swept?.entries)
    }

    async fn sweep_on(&self, sweep: &mut Sweep, shards: Shards) -> Result<Swept, Stuck> {
        let now = self.clock.now();
        if sweep.rules.is_empty() {
            if now < sweep.look_at {
                return Ok(Swept::default());
            }
            sweep.look_at = now.plus(LOOK_EVERY);
            let mut rules = self.ledger.open_rules(shards, 1, UnixMicros::MAX, RULES_MAX).await?;
            if rules.is_empty() {
                rules = self.ledger.open_rules(shards, RULE_SWEEPS, now.minus(AGAIN_AFTER), RULES_MAX).await?;
            }
            rules.reverse();
            (sweep.rules, sweep.place) = (rules, None);
        }
        let Some(rule) = sweep.rules.last() else { return Ok(Swept::default()) };
        let after = sweep.place.unwrap_or((UnixMicros(i64::MIN), Uuid::nil()));
        let (entries, next) =
            self.ledger.entries_of(&rule.tenant, &Filter::bound(&rule.names, rule.at), after, ENTRIES_MAX).await?;
        let looked_at = entries.len();
        let jobs = self.carry_out(entries).await?;
        sweep.place = next;
        if next.is_none() {
            self.ledger.swept(rule).await?;
            sweep.rules.pop();
        }
        Ok(Swept { entries: looked_at.max(1), jobs })
    }

    /// Carries out what binds the jobs of entries; returns how many jobs it ended or moved.
    async fn carry_out(&self, entries: Vec<Entry>) -> Result<u32, Stuck> {
        let opened = |entry: Entry| match Frame::decode(&entry.payload, &self.sealer) {
            Ok(Frame::Jobs(mut envelopes)) => envelopes.pop().filter(|_| envelopes.is_empty()).map(|of| (entry, of)),
            Ok(Frame::Checks(_) | Frame::Facts(_)) | Err(_) => None,
        };
        let entries: Vec<_> = entries.into_iter().filter_map(opened).collect();
        let mut outcomes = Vec::with_capacity(entries.len());
        for asked in entries.chunks(ASKED_MAX) {
            outcomes.extend(try_join_all(asked.iter().map(|(_, envelope)| self.outcomes(envelope))).await?);
        }
        let (mut put, mut releases, mut facts) = (Vec::new(), Vec::new(), Vec::new());
        for ((entry, envelope), outcomes) in entries.into_iter().zip(outcomes) {
            if outcomes.facts.is_empty() {
                continue;
            }
            facts.extend(outcomes.facts);
            // What stays has its place; else the first of what was moved takes it.
            let mut left = outcomes.moved;
            if !outcomes.kept.is_empty() {
                left.insert(0, Envelope { due_at: entry.due_at, ..envelope.with_jobs(outcomes.kept) });
            }
            let mut left = left.into_iter();
            releases
                .push(left.next().map_or(Some(Release::Done(entry.id)), |envelope| self.rewritten(&entry, envelope)));
            put.extend(left.filter_map(|envelope| {
                let (id, due_at) = (part_id(&entry, &envelope), envelope.due_at);
                later::jobs_entry(self, id, envelope, due_at)
            }));
        }
        if facts.is_empty() {
            return Ok(0);
        }
        let jobs = u32::try_from(facts.len()).unwrap_or(u32::MAX);
        // In this order a crash in between leaves a job twice, and never nowhere: the second copy meets the first one's
        // claim, and the same events again are no news.
        self.ledger.put_entries(&put).await?;
        self.facts.publish(facts, Route::To(QueueName::Record)).await?;
        let releases: Vec<Release> = releases.into_iter().flatten().collect();
        self.ledger.released(&releases).await?;
        Ok(jobs)
    }

    /// Asks what becomes of the jobs of an envelope.
    async fn outcomes(&self, envelope: &Envelope) -> Result<Outcomes, Stuck> {
        let (now, shared) = (self.clock.now(), &envelope.shared);
        let words = Words::new(shared, &self.sealer);
        let claims: Vec<Option<Claim>> = envelope
            .jobs
            .iter()
            .map(|job| Some(Claim::question(shared, job, words.against(shared, job, &self.sealer)?, &self.sealer)))
            .collect();
        let asked: Vec<Claim> = claims.iter().flatten().cloned().collect();
        let mut decisions = self.limits.peek(now, &asked).await?.into_iter();
        let mut outcomes = Outcomes::default();
        let mut moved: HashMap<(UnixMicros, UnixMicros), Envelope> = HashMap::new();
        for (job, claim) in envelope.jobs.iter().zip(claims) {
            let decision = claim.and_then(|_| decisions.next());
            let change = match decision {
                Some(Decision::Cancelled) => Change::Settled(Outcome::new(Fate::Cancelled, "request")),
                Some(Decision::Collapsed) => Change::Settled(Outcome::new(Fate::Cancelled, "collapsed")),
                Some(Decision::Moved { at, due_at, expires_at }) => {
                    let new = || {
                        let shared = Arc::new(shared.moved(at, due_at, expires_at, &self.lives));
                        Envelope { shared, due_at, jobs: vec![] }
                    };
                    moved.entry((at, due_at)).or_insert_with(new).jobs.push(job.clone());
                    Change::Deferred { reason: "rescheduled".into(), until: due_at }
                }
                Some(_) | None => {
                    outcomes.kept.push(job.clone());
                    continue;
                }
            };
            outcomes.facts.push(Fact::Event(event(shared, job, change, now)));
        }
        outcomes.moved = moved.into_values().collect();
        Ok(outcomes)
    }

    /// Returns the entry's release as what it holds now; `None` where that cannot be written, and the entry stays.
    fn rewritten(&self, entry: &Entry, envelope: Envelope) -> Option<Release> {
        let (due_at, jobs) = (envelope.due_at, u32::try_from(envelope.jobs.len()).ok()?);
        let payload = Frame::Jobs(vec![envelope]).encode(&self.sealer).ok()?;
        Some(Release::Left { id: entry.id, payload, jobs, due_at, sender: entry.sender })
    }
}

/// Returns how long to rest after a part of a sweep that took so long and ended or moved so many jobs.
fn rest(took: Duration, jobs: u32) -> Duration {
    (took * REST_TIMES).max(REST_PER_JOB * jobs)
}

/// Returns the id of a part of an entry that goes its own way: the same if it must be put again.
fn part_id(entry: &Entry, envelope: &Envelope) -> Uuid {
    let moved_at = envelope.shared.moved_at.unwrap_or_default();
    Uuid::new_v5(&entry.id, &moved_at.0.to_be_bytes())
}

/// Returns what happened to a job before its next attempt.
pub(super) fn event(shared: &Shared, job: &Job, change: Change, at: UnixMicros) -> Event {
    let Shared { tenant, kind, class, .. } = shared;
    Event { job: job.id, tenant: tenant.clone(), kind: *kind, class: *class, at, attempt: job.attempt, change }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sweeping_rests_for_what_it_took_and_for_what_it_gave_others_to_record() {
        let millis = Duration::from_millis;
        assert_eq!(rest(millis(10), 0), millis(30));
        assert_eq!(rest(millis(10), 100), millis(30));
        assert_eq!(rest(millis(10), 4_000), millis(1_000), "4 000 jobs a second at most");
    }
}
