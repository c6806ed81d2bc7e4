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
use crate::domain::time::UnixMicros;
use crate::ledger::{History, JobRow, Ledger};
use crate::limits::{Claim, Decision, Limits, Words};
use crate::pb;
use crate::queue::Queue;
use crate::queue::frame::open_job;
use crate::seal::Sealer;

/// How long an answer waits for a job that was accepted a moment ago.
const FRESH_WAIT: Duration = Duration::from_secs(2);
/// Between two looks for such a job.
const FRESH_LOOK: Duration = Duration::from_millis(50);
/// An id that tells its time and is older than this is not waited for.
const FRESH: Duration = Duration::from_secs(60);
/// What a page token of the job list is for, before the filter's bytes.
const JOBS: &[u8] = b"jobs\0";

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Shows a job of `tenant`.
    pub(super) async fn get(&self, tenant: &TenantId, raw: &pb::GetJobRequest) -> Result<pb::GetJobResponse, Error> {
        let id = convert::job_id("job_id", &raw.job_id)?;
        let view = view(raw.view)?.unwrap_or(pb::JobView::Full);
        let history = self.find(tenant, id).await?.ok_or(Error::NotFound("job"))?;
        let mut jobs = self.show(&[history], view).await?;
        Ok(pb::GetJobResponse { job: Some(jobs.pop().ok_or(Error::NotFound("job"))?) })
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
        let full = usize::try_from(most).is_ok_and(|most| histories.len() >= most);
        let next = histories.last().and_then(|history| history.row.as_ref()).filter(|_| full);
        let next_page_token = next.map(|row| tokens::give(&self.ports.sealer, tenant, &purpose, &place(row)));
        let jobs = self.show(&histories, view).await?;
        Ok(pb::ListJobsResponse { jobs, next_page_token: next_page_token.unwrap_or_default() })
    }

    /// Finds a job, waiting for the ledger where it may have been accepted a moment ago.
    pub(super) async fn find(&self, tenant: &TenantId, id: JobId) -> Result<Option<History>, Error> {
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

    /// Shows jobs as the rules that bind them leave them; not those of which only events have come.
    pub(super) async fn show(&self, histories: &[History], view: pb::JobView) -> Result<Vec<pb::Job>, Error> {
        let Ports { limits, sealer, clock, .. } = &*self.ports;
        let mut shown = Vec::with_capacity(histories.len());
        let mut questions = Vec::new();
        for history in histories {
            let Some(row) = &history.row else { continue };
            let waits = waits(history);
            let envelope = if waits || view == pb::JobView::Full { Some(self.open(row)?) } else { None };
            let question = envelope.as_ref().filter(|_| waits).and_then(|envelope| question(envelope, sealer));
            let asked = question.is_some();
            questions.extend(question);
            shown.push((row, history, envelope, asked));
        }
        // With limits away a job is shown as the ledger knows it.
        let mut decisions = limits.peek(clock.now(), &questions).await.unwrap_or_default().into_iter();
        let show = |(row, history, envelope, asked): (&JobRow, &History, Option<Envelope>, bool)| {
            let mut job = convert::job_to_pb(row, &history.events, clock.now());
            if let (Some(envelope), pb::JobView::Full) = (&envelope, view) {
                convert::show_whole(&mut job, envelope, &history.events);
            }
            convert::show_call(&mut job, &history.events, sealer);
            if asked && let Some(decision) = decisions.next() {
                self.apply(&mut job, &decision, row);
            }
            job
        };
        Ok(shown.into_iter().map(show).collect())
    }

    /// Shows what a rule makes of a job that waits.
    fn apply(&self, job: &mut pb::Job, decision: &Decision, row: &JobRow) {
        let mut cancelled = |reason| {
            job.state = pb::State::Settled.into();
            job.outcome = Some(convert::outcome_to_pb(&Outcome::new(Fate::Cancelled, reason)));
        };
        match *decision {
            Decision::Cancelled => cancelled("request"),
            Decision::Collapsed => cancelled("collapsed"),
            Decision::Moved { due_at, expires_at, .. } => {
                let expires_at = expires_at.unwrap_or_else(|| due_at.plus(self.ports.admission.life(row.class)));
                job.due_at = Some(convert::moment_to_pb(due_at));
                job.expires_at = Some(convert::moment_to_pb(expires_at));
            }
            Decision::Claimed
            | Decision::Overshadowed(_)
            | Decision::Held { .. }
            | Decision::Forgotten
            | Decision::Recovering { .. }
            | Decision::Suppressed(_)
            | Decision::OverCap { .. } => {}
        }
    }

    pub(super) fn open(&self, row: &JobRow) -> Result<Envelope, Error> {
        open_job(&row.sealed, &self.ports.sealer).map_err(|error| {
            tracing::error!(job = %row.id, %error, "cannot open a stored job");
            Error::Unreadable
        })
    }
}

/// Returns what asks which rules bind a job.
fn question(envelope: &Envelope, sealer: &Sealer) -> Option<Claim> {
    let (shared, job) = (&envelope.shared, envelope.jobs.first()?);
    let against = Words::new(shared, sealer).against(shared, job, sealer)?;
    Some(Claim::question(shared, job, against, sealer))
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

/// Returns whether a job waits, as far as the ledger knows.
pub(super) fn waits(history: &History) -> bool {
    // That a call was recorded may be told when the next one is waited for.
    let mut moved = history.events.iter().rev().map(|numbered| &numbered.event.change);
    let last = moved.find(|change| !matches!(change, Change::Recorded { .. }));
    last.is_none_or(|change| matches!(change, Change::Deferred { .. }))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::Event;
    use crate::domain::job::{Class, Kind};
    use crate::ledger::NumberedEvent;

    #[test]
    fn a_job_waits_for_its_next_call_whatever_is_told_of_the_last_one_meanwhile() {
        let history = |changes: &[Change]| {
            let numbered = |change: &Change| {
                let (job, tenant, kind, class) =
                    (JobId(uuid::Uuid::nil()), "acme".parse().unwrap(), Kind::Call, Class::Notification);
                let event = Event { job, tenant, kind, class, at: UnixMicros(0), attempt: 1, change: change.clone() };
                NumberedEvent { seq: 1, event }
            };
            History { row: None, events: changes.iter().map(numbered).collect() }
        };
        let recorded = Change::Recorded { report: "".into() };
        let later = Change::Deferred { reason: "machine".into(), until: UnixMicros(1) };
        let ended = Change::Settled(Outcome::new(Fate::Completed, ""));
        assert!(waits(&history(&[])) && waits(&history(std::slice::from_ref(&later))));
        assert!(waits(&history(&[later.clone(), recorded.clone()])));
        assert!(waits(&history(&[recorded.clone(), later.clone()])));
        assert!(!waits(&history(&[later, ended, recorded])));
    }
}
