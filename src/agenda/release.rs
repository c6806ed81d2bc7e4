//! Releases due entries of the agenda, as each round plans it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tracing::{error, warn};

use super::round::{Memory, Plan};
use super::sweep::Sweep;
use super::{Context, RETRY_EVERY};
use crate::domain::job::{Envelope, Job};
use crate::domain::time::UnixMicros;
use crate::ledger::{Entry, Ledger, LedgerError, Release, Tag};
use crate::limits::Limits;
use crate::queue::frame::Frame;
use crate::queue::{Queue, QueueName, Route};

/// Entries taken back in one go after their feeder has died.
const TAKEN_BACK_MAX: u32 = 256;
/// How often the agenda is looked at while not much is due. Real time: entries come in real time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The shortest pause between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(2);
/// However many wait, looking takes no more than one part in so many of the time; but what is due must leave within a
/// second, so that the pause leaves room for a look that takes long.
const LOOK_PARTS: u32 = 5;
const PAUSE_MAX: Duration = Duration::from_millis(400);
/// How often the agenda's depth is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// A part that could not be published is due again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is released of an entry.
pub(super) struct Portion {
    entry: Entry,
    /// The jobs that go now.
    pub(super) now: Envelope,
    /// What stays.
    left: Vec<Job>,
}

/// What follows a turn of the feeder.
enum Turn {
    /// More is due: at once another.
    Again,
    /// A pause.
    Rest,
}

/// Starts the release of due entries, of the shards that this feeder leads.
pub(super) fn spawn<Q: Queue, L: Limits, B: Ledger>(context: &Arc<Context<Q, L, B>>) {
    let (feeder, measuring) = (Arc::clone(context), Arc::clone(context));
    context.tasks.spawn("agenda", async move {
        let stop = feeder.tasks.stop().clone();
        let (mut memory, mut sweep) = (None, Sweep::default());
        while !stop.is_cancelled() {
            let watch = feeder.clock.stopwatch();
            let wait = match feeder.turn(&mut memory, &mut sweep).await {
                Ok(Turn::Again) => continue,
                Ok(Turn::Rest) => pause(watch.elapsed(), (memory.as_ref(), sweep.rests_for()), feeder.clock.now()),
                Err(error) => {
                    warn!(%error, "the agenda cannot be read, waiting");
                    // Others may lead meanwhile, and what they leave is taken back when this one leads again.
                    memory = None;
                    RETRY_EVERY * 5
                }
            };
            stop.run_until_cancelled(feeder.clock.pause(wait)).await;
        }
    });
    context.tasks.spawn("agenda_depth", async move {
        let stop = measuring.tasks.stop().clone();
        while stop.run_until_cancelled(measuring.clock.pause(MEASURE_EVERY)).await.is_some() {
            if let Ok(depth) = measuring.ledger.agenda_depth().await {
                let now = measuring.clock.now();
                measuring.metrics.depth(depth.jobs, depth.oldest_due.map_or(Duration::ZERO, |due| now.since(due)));
            }
        }
    });
}

/// Returns how long to pause after a look that `took` so long.
pub(super) fn pause(
    took: Duration,
    (memory, sweep_rests): (Option<&Memory>, Option<Duration>),
    now: UnixMicros,
) -> Duration {
    let looked = took * LOOK_PARTS;
    // Who may go when a bucket has rested waits for nothing else.
    let rests = memory.and_then(Memory::rests_until).map(|until| until.since(now).max(looked).max(LOOK_AGAIN));
    [sweep_rests, rests].into_iter().flatten().fold(looked.clamp(LOOK_EVERY, PAUSE_MAX), Duration::min)
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// One turn of the feeder; it has a memory while it leads.
    async fn turn(&self, memory: &mut Option<Memory>, sweep: &mut Sweep) -> Result<Turn, LedgerError> {
        let shards = self.ledger.lead_agenda().await?;
        if shards.is_empty() {
            *memory = None;
            return Ok(Turn::Rest);
        }
        let memory = memory.get_or_insert_default();
        if shards != memory.shards {
            memory.shards = memory.shards.among(shards);
            *sweep = Sweep::default();
            let left = self.ledger.left_releasing(shards.without(memory.shards), TAKEN_BACK_MAX).await?;
            if !left.is_empty() {
                self.release_again(left).await?;
                return Ok(Turn::Again);
            }
            memory.shards = shards;
        }
        // In the same task as the release: an entry is never rewritten while it is being released.
        let swept = self.sweep(sweep, shards).await.unwrap_or_else(|stuck| {
            warn!(error = %stuck, "rules cannot be carried out in the agenda; they bind all the same");
            0
        });
        let plan = self.plan(memory).await?;
        let more = plan.more;
        let released = self.publish(plan).await? > 0;
        sweep.releasing = released;
        Ok(if released && more || swept > 0 { Turn::Again } else { Turn::Rest })
    }

    /// Takes entries back that were being released when a feeder died: their jobs may be in a lane.
    async fn release_again(&self, left: Vec<Entry>) -> Result<(), LedgerError> {
        let now = self.clock.now();
        let mut releases = Vec::with_capacity(left.len());
        for entry in left {
            let since = entry.releasing_since.unwrap_or(now);
            releases.push(match (&entry.tag, Frame::decode(&entry.payload, &self.sealer)) {
                (Tag::Send, Ok(Frame::Jobs(envelopes))) => self.seen_again(&entry, envelopes, since, now),
                (Tag::Check | Tag::Timer { .. }, Ok(_)) => stays(&entry, entry.payload.clone(), entry.jobs, now),
                (Tag::Send | Tag::Check | Tag::Timer { .. }, Ok(_) | Err(_)) => unreadable(&entry, now),
            });
        }
        self.ledger.released(&releases).await
    }

    fn seen_again(&self, entry: &Entry, mut envelopes: Vec<Envelope>, since: UnixMicros, now: UnixMicros) -> Release {
        let jobs = envelopes.iter_mut().flat_map(|envelope| &mut envelope.jobs);
        jobs.for_each(|job| job.seen = Some(job.seen.map_or(since, |seen| seen.min(since))));
        match Frame::Jobs(envelopes).encode(&self.sealer) {
            Ok(payload) => stays(entry, payload, entry.jobs, now),
            Err(_) => unreadable(entry, now),
        }
    }

    /// Divides an entry into what goes now and what stays; or returns how it stays where nothing of it can go.
    pub(super) fn divide(&self, entry: Entry, granted: u32) -> Result<Portion, Release> {
        let now = self.clock.now();
        let Ok(Frame::Jobs(mut envelopes)) = Frame::decode(&entry.payload, &self.sealer) else {
            return Err(unreadable(&entry, now));
        };
        let (Some(mut envelope), true) = (envelopes.pop(), envelopes.is_empty()) else {
            return Err(unreadable(&entry, now));
        };
        // Since it was inserted its sender may have got a rate of its own, or lost it.
        let mark = self
            .directory
            .tenant(&entry.tenant)
            .map_or(0, |tenant| tenant.mark(tenant.sender_of(&envelope.shared, UnixMicros::MAX)));
        if mark != entry.sender {
            let Entry { id, payload, jobs, due_at, .. } = entry;
            return Err(Release::Left { id, payload, jobs, due_at, sender: mark });
        }
        let split = usize::try_from(granted).unwrap_or(usize::MAX).min(envelope.jobs.len());
        let left = envelope.jobs.split_off(split);
        Ok(Portion { entry, now: envelope, left })
    }

    /// Marks, publishes, and ends the release of entries.
    pub(super) async fn publish(&self, plan: Plan) -> Result<usize, LedgerError> {
        let Plan { parts, checks, ended: mut releases, more: _ } = plan;
        let now = self.clock.now();
        let ids: Vec<_> = parts.iter().map(|part| part.entry.id).chain(checks.iter().map(|entry| entry.id)).collect();
        if ids.is_empty() && releases.is_empty() {
            return Ok(0);
        }
        if !ids.is_empty() {
            self.ledger.releasing(&ids, now).await?;
        }
        let reserved = self.reserve(parts.iter().map(|part| part.now.clone()).collect());
        let publish = |(part, envelopes): (Portion, Vec<Envelope>)| async move {
            let (lane, jobs) = (part.entry.lane.clone(), part.now.jobs.len());
            let done = self.work.publish(envelopes, Route::To(QueueName::Lane(lane.clone()))).await.is_ok();
            if done {
                self.metrics.released(lane.class, jobs);
                self.depths.released(&lane, jobs);
            }
            self.after(part.entry, part.now, part.left, (!done).then_some(now))
        };
        let publish_check = |entry: Entry| async move {
            let published = match Frame::decode(&entry.payload, &self.sealer) {
                Ok(Frame::Checks(checks)) => self.checks.publish(checks, Route::To(QueueName::Record)).await,
                // A timer: what it tells record.
                Ok(Frame::Facts(facts)) => self.facts.publish(facts, Route::To(QueueName::Record)).await,
                Ok(Frame::Jobs(_)) | Err(_) => return unreadable(&entry, now),
            };
            match published {
                Ok(()) => Release::Done(entry.id),
                // A check or a timer that comes twice is decided the same way twice.
                Err(_) => {
                    let payload = entry.payload.clone();
                    stays(&entry, payload, entry.jobs, now.plus(AGAIN_AFTER))
                }
            }
        };
        let (sent, checked) = tokio::join!(
            futures_util::future::join_all(parts.into_iter().zip(reserved).map(publish)),
            futures_util::future::join_all(checks.into_iter().map(publish_check)),
        );
        releases.extend(sent);
        releases.extend(checked);
        while let Err(error) = self.ledger.released(&releases).await {
            if self.tasks.stopping() {
                return Err(error); // The marks stand: the next leader releases them again, as seen.
            }
            self.clock.pause(RETRY_EVERY).await;
        }
        Ok(releases.len())
    }

    /// Returns how an entry ends after its part was published, or may have been (`unsure_since`).
    fn after(&self, entry: Entry, mut sent: Envelope, left: Vec<Job>, unsure_since: Option<UnixMicros>) -> Release {
        let (jobs, due_at) = match unsure_since {
            None if left.is_empty() => return Release::Done(entry.id),
            None => (left, entry.due_at),
            Some(since) => {
                sent.jobs.iter_mut().for_each(|job| job.seen = Some(job.seen.unwrap_or(since)));
                (sent.jobs.drain(..).chain(left).collect(), since.plus(AGAIN_AFTER))
            }
        };
        let count = u32::try_from(jobs.len()).unwrap_or(u32::MAX);
        match Frame::Jobs(vec![sent.with_jobs(jobs)]).encode(&self.sealer) {
            Ok(payload) => stays(&entry, payload, count, due_at),
            Err(_) => unreadable(&entry, due_at),
        }
    }
}

/// Leaves something of an entry in the agenda.
fn stays(entry: &Entry, payload: Bytes, jobs: u32, due_at: UnixMicros) -> Release {
    Release::Left { id: entry.id, payload, jobs, due_at, sender: entry.sender }
}

/// Leaves an entry that cannot be read, for a day: a key file may be missing its newest key.
fn unreadable(entry: &Entry, now: UnixMicros) -> Release {
    error!(entry = %entry.id, "agenda entry cannot be read, left for a day");
    stays(entry, entry.payload.clone(), entry.jobs, now.plus(Duration::from_secs(24 * 3600)))
}
