//! One job, and lists of them.

use std::time::Duration;

use prost::Message as _;

use super::Jobs;
use crate::api::convert::{self, Invalid, Problem};
use crate::api::status::Error;
use crate::api::{Ports, tokens};
use crate::domain::event::{Change, Fate, Outcome};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::Envelope;
use crate::domain::keys::space;
use crate::domain::suppression::{CancelBy, CancelRule};
use crate::domain::time::UnixMicros;
use crate::ledger::{History, JobRow, Ledger};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;
use crate::queue::frame::open_job;

/// How long an answer waits for a job that was accepted a moment ago.
const FRESH_WAIT: Duration = Duration::from_secs(2);
/// Between two looks for such a job.
const FRESH_LOOK: Duration = Duration::from_millis(50);
/// An id that tells its time and is older than this is not waited for.
const FRESH: Duration = Duration::from_secs(60);
/// Most cancellations of a tenant that are looked at; as many as limits keep.
const RULES_MAX: u32 = 1_000;
/// What a page token of the job list is for, before the filter's bytes.
const JOBS: &[u8] = b"jobs\0";

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Shows a job of `tenant`.
    pub(super) async fn get(&self, tenant: &TenantId, raw: &pb::GetJobRequest) -> Result<pb::GetJobResponse, Error> {
        let id = convert::job_id("job_id", &raw.job_id)?;
        let view = view(raw.view)?.unwrap_or(pb::JobView::Full);
        let history = self.find(tenant, id).await?.ok_or(Error::NotFound("job"))?;
        let rules = self.rules(tenant, std::slice::from_ref(&history)).await?;
        let job = show(&self.ports, &history, &rules, view)?.ok_or(Error::NotFound("job"))?;
        Ok(pb::GetJobResponse { job: Some(job) })
    }

    /// Lists jobs of `tenant`.
    pub(super) async fn list(
        &self,
        tenant: &TenantId,
        raw: pb::ListJobsRequest,
    ) -> Result<pb::ListJobsResponse, Error> {
        let most = convert::page_size(raw.page_size)?;
        let view = view(raw.view)?.unwrap_or(pb::JobView::Basic);
        // A token holds for its filter alone.
        let purpose = [JOBS, &raw.filter.as_ref().map(pb::JobFilter::encode_to_vec).unwrap_or_default()].concat();
        let page = match raw.page_token.as_str() {
            "" => None,
            token => {
                let plain = tokens::take::<24>(&self.ports.sealer, tenant, &purpose, ("page_token", token))?;
                Some(position(&plain))
            }
        };
        let filter = convert::filter(raw.filter, tenant, &self.ports.sealer).map_err(|e| e.within("filter"))?;
        let histories = self.ports.ledger.jobs(tenant, &filter, page, most).await?;
        let rules = self.rules(tenant, &histories).await?;
        let full = usize::try_from(most).is_ok_and(|most| histories.len() >= most);
        let next = histories.last().and_then(|history| history.row.as_ref()).filter(|_| full);
        let next_page_token = next.map(|row| tokens::give(&self.ports.sealer, tenant, &purpose, &place(row)));
        let mut jobs = Vec::with_capacity(histories.len());
        for history in &histories {
            jobs.extend(show(&self.ports, history, &rules, view)?);
        }
        Ok(pb::ListJobsResponse { jobs, next_page_token: next_page_token.unwrap_or_default() })
    }

    /// Finds a job, waiting for the ledger where it may have been accepted a moment ago.
    async fn find(&self, tenant: &TenantId, id: JobId) -> Result<Option<History>, Error> {
        let Ports { ledger, clock, tasks, .. } = &*self.ports;
        let watch = clock.stopwatch();
        loop {
            let history = ledger.job(tenant, id).await?.filter(|history| history.row.is_some());
            let waited_enough = watch.elapsed() >= FRESH_WAIT || tasks.stopping() || !may_be_fresh(id, clock.now());
            if history.is_some() || waited_enough {
                return Ok(history);
            }
            clock.pause(FRESH_LOOK).await;
        }
    }

    /// Returns the tenant's live cancellations, where a job of these may wait under one.
    async fn rules(&self, tenant: &TenantId, histories: &[History]) -> Result<Vec<CancelRule>, Error> {
        if histories.iter().all(|history| waits_until(history).is_none()) {
            return Ok(vec![]);
        }
        Ok(self.ports.ledger.cancellations(tenant, RULES_MAX).await?)
    }
}

fn view(raw: i32) -> Result<Option<pb::JobView>, Invalid> {
    match pb::JobView::try_from(raw) {
        Ok(pb::JobView::Unspecified) => Ok(None),
        Ok(view) => Ok(Some(view)),
        Err(_) => Err(Invalid::new("view", Problem::UnknownValue(raw))),
    }
}

/// Returns whether the ledger may not have heard of the job yet. An id made from a key does not tell its time.
fn may_be_fresh(id: JobId, now: UnixMicros) -> bool {
    id.0.get_timestamp().is_none_or(|made_at| {
        let (secs, _) = made_at.to_unix();
        now.since(UnixMicros::from_secs(i64::try_from(secs).unwrap_or(i64::MAX))) < FRESH
    })
}

/// Shows a job; `None` while only its events have come.
fn show<Q, L, B>(
    ports: &Ports<Q, L, B>,
    history: &History,
    rules: &[CancelRule],
    view: pb::JobView,
) -> Result<Option<pb::Job>, Error> {
    let Some(row) = &history.row else { return Ok(None) };
    let mut job = convert::job_to_pb(row, &history.events, ports.clock.now());
    let waits_until = waits_until(history).filter(|_| !rules.is_empty());
    if waits_until.is_none() && view != pb::JobView::Full {
        return Ok(Some(job));
    }
    let envelope = open_job(&row.sealed, &ports.sealer).map_err(|error| {
        tracing::error!(job = %row.id, %error, "cannot open a stored job");
        Error::Unreadable
    })?;
    let binds = |rule: &&CancelRule| waits_until.is_some_and(|until| until > rule.at);
    if rules.iter().filter(binds).any(|rule| names(ports, rule, row, &envelope)) {
        job.state = pb::State::Settled.into();
        job.outcome = Some(convert::outcome_to_pb(&Outcome::new(Fate::Cancelled, "request")));
    }
    if view == pb::JobView::Full {
        convert::show_whole(&mut job, &envelope, &history.events);
    }
    Ok(Some(job))
}

/// Returns until when a job waits that has certainly not been handed over before; `None` for any other.
fn waits_until(history: &History) -> Option<UnixMicros> {
    let row = history.row.as_ref()?;
    match history.events.last().map(|numbered| &numbered.event.change) {
        None => Some(row.due_at),
        Some(Change::Deferred { until, .. }) => Some(*until),
        Some(Change::Sent { .. } | Change::Unresolved { .. } | Change::Progress(_) | Change::Settled(_)) => None,
    }
}

/// Returns whether a cancellation names a job.
fn names<Q, L, B>(ports: &Ports<Q, L, B>, rule: &CancelRule, row: &JobRow, envelope: &Envelope) -> bool {
    let Some(job) = envelope.jobs.first() else { return false };
    let recipient = || ports.sealer.recipient_key(&row.tenant, &job.recipient, row.kind);
    let run = || ports.sealer.word_key(&row.tenant, space::RUN, &envelope.shared.origin.run_id);
    row.accepted_at <= rule.at
        && match &rule.by {
            CancelBy::Job(id) => *id == row.id,
            CancelBy::Key(key) => row.cancel_key == Some(*key),
            CancelBy::Recipient(key) => *key == recipient(),
            CancelBy::Batch(batch) => row.batch == Some(*batch),
            CancelBy::Campaign(key) => row.campaign == Some(*key),
            CancelBy::Run(key) => *key == run(),
        }
}

fn place(row: &JobRow) -> [u8; 24] {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&row.accepted_at.0.to_be_bytes());
    place[8..].copy_from_slice(row.id.0.as_bytes());
    place
}

fn position(place: &[u8; 24]) -> (UnixMicros, JobId) {
    let (mut at, mut id) = ([0; 8], [0; 16]);
    at.copy_from_slice(&place[..8]);
    id.copy_from_slice(&place[8..]);
    (UnixMicros(i64::from_be_bytes(at)), JobId(uuid::Uuid::from_bytes(id)))
}
