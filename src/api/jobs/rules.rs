//! Taking jobs back, and moving them to another time.

use std::time::Duration;

use super::Jobs;
use crate::admission::AHEAD_MAX;
use crate::api::convert;
use crate::api::status::Error;
use crate::domain::chain::STEPS_MAX;
use crate::domain::event::{Change, Fact};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::rule::{Act, JobRule, Names};
use crate::domain::time::UnixMicros;
use crate::ledger::{Filter, Ledger, LedgerError, NumberedEvent, Tally};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// How long a rule is kept: until the last job that it can bind has expired.
const KEPT: Duration = Duration::from_secs(AHEAD_MAX.as_secs() + 31 * 24 * 3600);
/// Most jobs that are counted for an answer: a few tenths of a second of the ledger's time.
const COUNTED_MAX: u32 = 20_000;

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Takes jobs of `tenant` back.
    pub(super) async fn cancel(
        &self,
        tenant: &TenantId,
        raw: pb::CancelJobsRequest,
    ) -> Result<pb::CancelJobsResponse, Error> {
        let named = convert::select(raw.selector, tenant, &self.ports.sealer).map_err(|e| e.within("selector"))?;
        let at = self.ports.clock.now();
        let tally = self.rule(tenant, named, at, Act::Cancel).await?;
        Ok(pb::CancelJobsResponse {
            cancelled_at: Some(convert::moment_to_pb(at)),
            waiting: tally.map(|tally| tally.waiting),
            claimed: tally.map(|tally| tally.claimed),
            more: tally.is_some_and(|tally| tally.more),
        })
    }

    /// Moves jobs of `tenant` to another time.
    pub(super) async fn reschedule(
        &self,
        tenant: &TenantId,
        raw: pb::RescheduleJobsRequest,
    ) -> Result<pb::RescheduleJobsResponse, Error> {
        let named = convert::select(raw.selector, tenant, &self.ports.sealer).map_err(|e| e.within("selector"))?;
        let at = self.ports.clock.now();
        let (due_at, expires_at) = convert::new_time(raw.schedule, at).map_err(|e| e.within("schedule"))?;
        let tally = self.rule(tenant, named, at, Act::Move { due_at, expires_at }).await?;
        Ok(pb::RescheduleJobsResponse {
            rescheduled_at: Some(convert::moment_to_pb(at)),
            waiting: tally.map(|tally| tally.waiting),
            claimed: tally.map(|tally| tally.claimed),
            more: tally.is_some_and(|tally| tally.more),
        })
    }

    /// Gives a rule for jobs: to limits first, since they bind claims; then to record, for the ledger, the agenda and a
    /// loss of limits. Returns how many jobs it found, where they were counted.
    async fn rule(
        &self,
        tenant: &TenantId,
        named: Vec<Names>,
        at: UnixMicros,
        act: Act,
    ) -> Result<Option<Tally>, Error> {
        let counted = self.count(tenant, &named, at);
        let rules = named.iter().map(|names| JobRule { tenant: tenant.clone(), names: names.clone(), at, act });
        let rules: Vec<JobRule> = rules.collect();
        let (ruled, counted) = tokio::join!(self.ports.limits.rule(&rules, at.plus(KEPT)), counted);
        ruled?;
        self.ports.record(rules.into_iter().map(Fact::Ruled).collect()).await.map_err(Error::NotDurable)?;
        // The rule holds whether or not the ledger can count.
        Ok(counted.unwrap_or_default())
    }

    async fn count(&self, tenant: &TenantId, named: &[Names], at: UnixMicros) -> Result<Option<Tally>, LedgerError> {
        let jobs: Vec<JobId> = named.iter().filter_map(|names| names.job).flat_map(of_chain).collect();
        if !jobs.is_empty() {
            let trails = self.ports.ledger.trails(&jobs).await?;
            let mut tally = Tally::default();
            for trail in trails.into_iter().flatten().filter(|trail| trail.tenant == *tenant) {
                let waits = |event: &NumberedEvent| matches!(event.event.change, Change::Deferred { .. });
                let waiting = trail.events.iter().all(waits);
                *(if waiting { &mut tally.waiting } else { &mut tally.claimed }) += 1;
            }
            return Ok(Some(tally));
        }
        let Some(names) = named.first() else { return Ok(None) };
        self.ports.ledger.tally(tenant, &Filter::bound(names, at), COUNTED_MAX).await.map(Some)
    }
}

/// Returns a job and the steps of the fallback chain that it may have begun: what names it names them.
fn of_chain(job: JobId) -> impl Iterator<Item = JobId> {
    std::iter::once(job).chain((1..).take(STEPS_MAX).map(move |step| job.step(step)))
}
