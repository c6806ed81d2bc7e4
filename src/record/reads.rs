//! Asks the ledger for what a batch needs and memory does not hold, in bulk.

use hashbrown::{HashMap, HashSet};
use uuid::Uuid;

use super::intake::{Body, Work};
use super::merge::Merger;
use crate::domain::event::{Change, Fact, Report};
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::keys::AddressKey;
use crate::domain::time::UnixMicros;
use crate::ledger::{Ledger, LedgerError};
use crate::seal::Sealer;

/// What a batch asks for.
#[derive(Default)]
struct Wants {
    /// Jobs whose events are not in memory.
    jobs: HashSet<JobId>,
    /// Messages that receipts of this batch are about, and that are not in memory.
    reported: HashSet<(ProviderId, Box<str>)>,
    /// Jobs with more than one segment whose fates are not all in memory.
    partial: HashSet<JobId>,
    /// Messages that were sent: receipts may wait for them.
    sent: Vec<(ProviderId, Box<str>)>,
    /// Signals, which may be told for the second time.
    signals: Vec<Uuid>,
}

/// Brings into memory all that merging `batch` needs.
pub(super) async fn load<L: Ledger>(
    ledger: &L,
    merger: &mut Merger,
    batch: &[Work],
    now: UnixMicros,
) -> Result<(), LedgerError> {
    let mut wants = Wants::of(merger, batch);
    if !wants.sent.is_empty() {
        ledger.parked(&wants.sent).await?.into_iter().for_each(|receipt| merger.learn_parked(receipt));
    }
    if !wants.reported.is_empty() {
        let ids: Vec<_> = wants.reported.drain().collect();
        let (whole, parts): (Vec<_>, Vec<_>) =
            ledger.segments(now, &ids).await?.into_iter().flatten().partition(|segment| segment.of == 1);
        let found = whole.iter().chain(&parts).map(|segment| segment.job);
        wants.jobs.extend(found.filter(|job| !merger.knows(*job)));
        wants.partial.extend(parts.iter().map(|segment| segment.job));
        merger.learn_segments(whole);
    }
    if !wants.partial.is_empty() {
        let jobs: Vec<_> = wants.partial.into_iter().collect();
        merger.learn_segments(ledger.segments_of(&jobs).await?);
    }
    if !wants.signals.is_empty() {
        merger.learn_signals(ledger.heard(&wants.signals).await?);
    }
    trails(ledger, merger, wants.jobs.into_iter().collect()).await
}

/// Brings the events of jobs into memory; jobs that the ledger has never heard of stay unknown.
pub(super) async fn trails<L: Ledger>(ledger: &L, merger: &mut Merger, jobs: Vec<JobId>) -> Result<(), LedgerError> {
    if jobs.is_empty() {
        return Ok(());
    }
    for (job, trail) in jobs.iter().zip(ledger.trails(&jobs).await?) {
        if let Some(trail) = trail {
            merger.learn(*job, trail);
        }
    }
    Ok(())
}

/// Says whose job a reply answers: the last one accepted for the address it came from, of this batch or before.
pub(super) async fn attribute<L: Ledger>(ledger: &L, sealer: &Sealer, batch: &mut [Work]) -> Result<(), LedgerError> {
    let replies = |work: &Work| matches!(&work.body, Some(Body::Facts(facts)) if facts.iter().any(|fact| matches!(fact, Fact::Reply(_))));
    if !batch.iter().any(replies) {
        return Ok(());
    }
    // Of this batch, rows that come after the reply do not matter: whoever replies was written to before.
    let newest: HashMap<AddressKey, (TenantId, JobId)> = batch
        .iter()
        .filter_map(|work| if let Some(Body::Jobs(jobs)) = &work.body { Some(jobs) } else { None })
        .flatten()
        .map(|job| (job.row.address, (job.row.tenant.clone(), job.row.id)))
        .collect();
    for work in batch {
        let Some(Body::Facts(facts)) = &mut work.body else { continue };
        for fact in facts {
            let Fact::Reply(reply) = fact else { continue };
            if reply.in_reply_to.is_some() {
                continue;
            }
            let address = sealer.address_key(&reply.from);
            let found = match newest.get(&address) {
                Some(found) => Some(found.clone()),
                None => ledger.last_job_to(address, reply.at).await?,
            };
            // A tenant that is known already stands: the number they wrote to is its own.
            if let Some((tenant, job)) = found
                && reply.tenant.as_ref().is_none_or(|known| *known == tenant)
            {
                (reply.tenant, reply.in_reply_to) = (Some(tenant), Some(job));
            }
        }
    }
    Ok(())
}

// === impl Wants ===

impl Wants {
    fn of(merger: &Merger, batch: &[Work]) -> Self {
        let mut wants = Self::default();
        for work in batch {
            match &work.body {
                Some(Body::Jobs(jobs)) => {
                    let asked = jobs.iter().filter(|job| !job.fresh).map(|job| job.row.id);
                    asked.for_each(|job| wants.job(merger, job));
                }
                Some(Body::Checks(checks)) => {
                    let jobs = checks.iter().flat_map(|check| &check.envelope.jobs).map(|job| job.id);
                    jobs.for_each(|job| wants.job(merger, job));
                }
                Some(Body::Facts(facts)) => facts.iter().for_each(|fact| wants.fact(merger, fact)),
                Some(Body::Unreadable(_)) | None => {}
            }
        }
        wants.without_own(batch);
        wants
    }

    fn job(&mut self, merger: &Merger, job: JobId) {
        if !merger.knows(job) {
            self.jobs.insert(job);
        }
    }

    fn fact(&mut self, merger: &Merger, fact: &Fact) {
        match fact {
            Fact::Event(event) => {
                if !merger.waits(event.job) {
                    self.job(merger, event.job);
                }
                if let Change::Sent { provider, message_ids, receipt_expected: true, .. } = &event.change {
                    self.sent.extend(message_ids.iter().map(|id| (provider.clone(), id.clone())));
                }
            }
            Fact::Receipt(receipt) if receipt.report == Report::Pending => {}
            Fact::Receipt(receipt) => match (receipt.job, merger.message(&receipt.provider, &receipt.message_id)) {
                (Some(job), _) => self.job(merger, job),
                (None, Some(place)) => {
                    self.job(merger, place.job);
                    if !place.whole {
                        self.partial.insert(place.job);
                    }
                }
                (None, None) => _ = self.reported.insert((receipt.provider.clone(), receipt.message_id.clone())),
            },
            Fact::Elapsed(_, job) => self.job(merger, *job),
            Fact::Called(called) => self.job(merger, called.job),
            Fact::Signal(signal) => self.signals.push(signal.id),
            Fact::Reply(_) | Fact::Suppressed(..) | Fact::Unsuppressed(..) | Fact::Ruled(_) | Fact::Owed(_) => {}
        }
    }

    /// Does not ask for fresh jobs that the batch itself brings. Messages that are sent in it are asked for all the same:
    /// their sending may be told for the second time.
    fn without_own(&mut self, batch: &[Work]) {
        if self.jobs.is_empty() {
            return;
        }
        for work in batch {
            let Some(Body::Jobs(jobs)) = &work.body else { continue };
            for job in jobs.iter().filter(|job| job.fresh) {
                self.jobs.remove(&job.row.id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::rows;
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::job::{Class, Envelope, Kind, samples};
    use crate::domain::recipient::Recipient;

    const NOW: UnixMicros = UnixMicros::from_secs(1_000_000);

    fn ids(numbers: Range<u128>) -> impl Iterator<Item = JobId> {
        numbers.map(|number| JobId(Uuid::from_u128(number)))
    }

    /// Accepts jobs that wait for an hour, each in a batch of its own.
    fn accept(merger: &mut Merger, numbers: Range<u128>) {
        let recipient = Recipient { phone: Some("+15550001111".parse().unwrap()), ..Recipient::default() };
        let envelope = Envelope {
            shared: Arc::new(samples::shared(Class::Marketing, NOW)),
            due_at: NOW.plus(Duration::from_secs(3_600)),
            jobs: ids(numbers).map(|id| samples::job(id, recipient.clone())).collect(),
        };
        let mut accepted = Vec::new();
        rows::accepted(&envelope, &Sealer::ephemeral().unwrap(), &mut accepted);
        for accepted in accepted {
            merger.accept(accepted);
            merger.finish();
        }
    }

    fn deferred(job: JobId) -> Fact {
        let (tenant, kind, class) = ("acme".parse().unwrap(), Kind::Sms, Class::Marketing);
        let change = Change::Deferred { reason: "cap".into(), until: NOW };
        Fact::Event(Event { job, tenant, kind, class, at: NOW, attempt: 0, change })
    }

    fn asked(merger: &Merger, numbers: Range<u128>) -> HashSet<JobId> {
        let mut wants = Wants::default();
        ids(numbers).for_each(|id| wants.fact(merger, &deferred(id)));
        wants.jobs
    }

    #[test]
    fn the_ledger_is_asked_for_events_of_jobs_but_not_for_the_first_of_one_that_waited() {
        let mut merger = Merger::new(0, 2);
        accept(&mut merger, 0..10);
        assert!(!merger.knows(JobId(Uuid::from_u128(0))), "or it would not be asked for anyway");
        assert_eq!(asked(&merger, 0..11), ids(10..11).collect::<HashSet<_>>());
        ids(0..3).for_each(|id| merger.fact(deferred(id)));
        merger.finish();
        accept(&mut merger, 10..20);
        assert_eq!(asked(&merger, 0..20), ids(0..3).collect::<HashSet<_>>());
    }
}
