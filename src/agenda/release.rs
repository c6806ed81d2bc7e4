//! Releases due entries of the agenda: fairly over tenants, within rates, credit and the lanes' length.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;
use tracing::{error, warn};

use super::grant::Part;
use super::{Context, RETRY_EVERY, fair};
use crate::domain::ids::{Lane, TenantId};
use crate::domain::job::{Envelope, Job};
use crate::domain::time::UnixMicros;
use crate::ledger::{Entry, Ledger, LedgerError, Release, Tag};
use crate::limits::Limits;
use crate::queue::frame::Frame;
use crate::queue::{Queue, QueueName, Route};

/// Entries of one tenant and lane looked at in one round.
const PER_TENANT: u32 = 32;
/// Entries looked at in one round.
const ROUND_MAX: u32 = 1_024;
/// How often the agenda is looked at while nothing is released. Real time: entries come in real time.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often the agenda's depth is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(2);
/// A part that could not be published is due again after this.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is released of an entry.
struct Portion {
    entry: Entry,
    /// The jobs that go now.
    now: Envelope,
    /// What stays.
    left: Vec<Job>,
}

/// Starts the release of due entries; of all feeders only one, the leader, does it.
pub(super) fn spawn<Q: Queue, L: Limits, B: Ledger>(context: &Arc<Context<Q, L, B>>) {
    let (feeder, measuring) = (Arc::clone(context), Arc::clone(context));
    context.tasks.spawn("agenda", async move {
        let stop = feeder.tasks.stop().clone();
        let mut leading = false;
        while !stop.is_cancelled() {
            let wait = match feeder.turn(&mut leading).await {
                Ok(0) => LOOK_EVERY,
                Ok(_) => continue,
                Err(error) => {
                    warn!(%error, "the agenda cannot be read, waiting");
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

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// One turn of the feeder; returns how many entries it has moved.
    async fn turn(&self, leading: &mut bool) -> Result<usize, LedgerError> {
        if !self.ledger.lead_agenda().await? {
            *leading = false;
            return Ok(0);
        }
        if !*leading {
            let left = self.ledger.left_releasing(ROUND_MAX).await?;
            if !left.is_empty() {
                return self.release_again(left).await;
            }
            *leading = true;
        }
        let due = self.ledger.due_entries(self.clock.now(), PER_TENANT, ROUND_MAX).await?;
        self.release(due).await
    }

    /// Takes entries back that were being released when a feeder died: their jobs may be in a lane.
    async fn release_again(&self, left: Vec<Entry>) -> Result<usize, LedgerError> {
        let now = self.clock.now();
        let mut releases = Vec::with_capacity(left.len());
        for entry in left {
            let since = entry.releasing_since.unwrap_or(now);
            releases.push(match (&entry.tag, Frame::decode(&entry.payload, &self.sealer)) {
                (Tag::Send, Ok(Frame::Jobs(envelopes))) => self.seen_again(&entry, envelopes, since, now),
                (Tag::Check | Tag::Timer { .. }, Ok(_)) => {
                    Release::Left { id: entry.id, payload: entry.payload.clone(), jobs: entry.jobs, due_at: now }
                }
                (Tag::Send | Tag::Check | Tag::Timer { .. }, Ok(_) | Err(_)) => self.unreadable(&entry, now),
            });
        }
        let count = releases.len();
        self.ledger.released(&releases).await?;
        Ok(count)
    }

    fn seen_again(&self, entry: &Entry, mut envelopes: Vec<Envelope>, since: UnixMicros, now: UnixMicros) -> Release {
        let jobs = envelopes.iter_mut().flat_map(|envelope| &mut envelope.jobs);
        jobs.for_each(|job| job.seen = Some(job.seen.map_or(since, |seen| seen.min(since))));
        match Frame::Jobs(envelopes).encode(&self.sealer) {
            Ok(payload) => Release::Left { id: entry.id, payload, jobs: entry.jobs, due_at: now },
            Err(_) => self.unreadable(entry, now),
        }
    }

    /// Leaves an entry that cannot be read, for a day: a key file may be missing its newest key.
    fn unreadable(&self, entry: &Entry, now: UnixMicros) -> Release {
        error!(entry = %entry.id, "agenda entry cannot be read, left for a day");
        let due_at = now.plus(Duration::from_secs(24 * 3600));
        Release::Left { id: entry.id, payload: entry.payload.clone(), jobs: entry.jobs, due_at }
    }

    /// Releases what may go of due entries; returns how many were moved.
    async fn release(&self, due: Vec<Entry>) -> Result<usize, LedgerError> {
        let now = self.clock.now();
        let whose: Vec<_> = due.iter().map(|entry| (entry.tenant.clone(), entry.jobs)).collect();
        let mut due: Vec<Option<Entry>> = due.into_iter().map(Some).collect();
        let mut full: HashSet<(TenantId, Lane)> = HashSet::new();
        let (mut parts, mut checks, mut ended) = (Vec::new(), Vec::new(), Vec::new());
        for index in fair::order(&whose) {
            let Some(entry) = due[index].take() else { continue };
            match entry.tag {
                Tag::Check => checks.push(entry),
                Tag::Timer { ref kind, .. } => {
                    error!(kind, "no part of this version sets such a timer, dropped");
                    ended.push(Release::Done(entry.id));
                }
                Tag::Send => {
                    let place = (entry.tenant.clone(), entry.lane.clone());
                    if full.contains(&place) {
                        continue;
                    }
                    let granted = self.grant(&entry.tenant, &entry.lane, entry.jobs, Part::UpTo).await;
                    if granted < entry.jobs {
                        full.insert(place);
                    }
                    if granted > 0 {
                        match self.divide(entry, granted, now) {
                            Ok(portion) => parts.push(portion),
                            Err(release) => ended.push(release),
                        }
                    }
                }
            }
        }
        self.publish(parts, checks, ended, now).await
    }

    /// Divides an entry into what goes now and what stays.
    fn divide(&self, entry: Entry, granted: u32, now: UnixMicros) -> Result<Portion, Release> {
        let Ok(Frame::Jobs(mut envelopes)) = Frame::decode(&entry.payload, &self.sealer) else {
            return Err(self.unreadable(&entry, now));
        };
        let (Some(mut envelope), true) = (envelopes.pop(), envelopes.is_empty()) else {
            return Err(self.unreadable(&entry, now));
        };
        let split = usize::try_from(granted).unwrap_or(usize::MAX).min(envelope.jobs.len());
        let left = envelope.jobs.split_off(split);
        envelope.due_at = now;
        Ok(Portion { entry, now: envelope, left })
    }

    /// Marks, publishes, and ends the release of entries.
    async fn publish(
        &self,
        parts: Vec<Portion>,
        checks: Vec<Entry>,
        mut releases: Vec<Release>,
        now: UnixMicros,
    ) -> Result<usize, LedgerError> {
        let ids: Vec<_> = parts.iter().map(|part| part.entry.id).chain(checks.iter().map(|entry| entry.id)).collect();
        if ids.is_empty() && releases.is_empty() {
            return Ok(0);
        }
        if !ids.is_empty() {
            self.ledger.releasing(&ids, now).await?;
        }
        let publish = |part: Portion| async move {
            let (lane, jobs) = (part.entry.lane.clone(), part.now.jobs.len());
            let copy = part.now.clone();
            let done = self.work.publish(vec![part.now], Route::To(QueueName::Lane(lane.clone()))).await.is_ok();
            if done {
                self.metrics.released(lane.class, jobs);
            }
            self.after(part.entry, copy, part.left, (!done).then_some(now))
        };
        let publish_check = |entry: Entry| async move {
            let Ok(Frame::Checks(checks)) = Frame::decode(&entry.payload, &self.sealer) else {
                return self.unreadable(&entry, now);
            };
            match self.checks.publish(checks, Route::To(QueueName::Record)).await {
                Ok(()) => Release::Done(entry.id),
                // A check that comes twice is decided the same way twice.
                Err(_) => {
                    let due_at = now.plus(AGAIN_AFTER);
                    Release::Left { id: entry.id, payload: entry.payload, jobs: entry.jobs, due_at }
                }
            }
        };
        let (sent, checked) = tokio::join!(
            futures_util::future::join_all(parts.into_iter().map(publish)),
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
            Ok(payload) => Release::Left { id: entry.id, payload, jobs: count, due_at },
            Err(_) => self.unreadable(&entry, due_at),
        }
    }
}
