//! `postrider job`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::To;
use super::args::{self, Address, Class, Kind, Moment};
use super::connect::Failure;
use super::print;
use crate::pb;

pub(super) const EXAMPLES: &str = "Examples:
  postrider job get 0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11
  postrider job list --campaign spring --limit 20
  postrider job explain 0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11
  postrider job cancel --campaign spring
  postrider job cancel --campaign spring --class marketing --accepted-from 2026-12-24T00:00:00+08:00
  postrider job reschedule --cancel-key order-42 --at 2026-12-26T10:00:00+08:00
  postrider job reschedule --batch 0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11 --at +2h --expires +26h
  postrider job watch --json --from-start";

/// What to do with jobs.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show a job and what happened to it
    Get {
        /// The job's id
        job_id: String,
    },
    /// Say why a job is where it is: which rules decided, what holds it now, and when it goes
    Explain {
        /// The job's id
        job_id: String,
    },
    /// List jobs, newest first
    List {
        #[command(flatten)]
        filter: Filter,
        /// Most jobs to list
        #[arg(long, default_value_t = 100)]
        limit: u32,
    },
    /// Take jobs back that are not being handed over yet
    Cancel {
        #[command(flatten)]
        selector: Selector,
    },
    /// Move jobs to another time, earlier or later, that are not being handed over yet; of several moves the last counts
    Reschedule {
        #[command(flatten)]
        selector: Selector,
        /// When they are sent instead: a time such as 2026-12-24T10:00:00+08:00, a delay such as +90m, or +0s for now
        #[arg(long)]
        at: Moment,
        /// Not after: a time or a delay; without it, as long after their new time as their class's default says
        #[arg(long)]
        expires: Option<Moment>,
    },
    /// Print what happens to jobs, as it happens
    Watch {
        /// Go on after the events that came with this token
        #[arg(long, default_value = "", hide_default_value = true)]
        resume: String,
        /// Start with the oldest event that is kept
        #[arg(long, conflicts_with = "resume")]
        from_start: bool,
        /// Only this job's events; may be given more than once
        #[arg(long = "job", value_name = "JOB_ID")]
        jobs: Vec<String>,
    },
}

/// Which jobs a list shows: those of which everything that is said holds.
#[derive(Args, Debug)]
pub struct Filter {
    /// Of this batch
    #[arg(long)]
    batch: Option<String>,
    /// Of this campaign
    #[arg(long)]
    campaign: Option<String>,
    /// To this address
    #[arg(long)]
    to: Option<Address>,
    /// For this recipient
    #[arg(long, conflicts_with = "to")]
    recipient_id: Option<String>,
    /// With this cancel key
    #[arg(long)]
    cancel_key: Option<String>,
    /// Of this kind
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Of this class
    #[arg(long, value_enum)]
    class: Option<Class>,
    /// Accepted from then on: a time such as 2026-12-24T10:00:00+08:00
    #[arg(long, value_name = "TIME")]
    accepted_from: Option<jiff::Timestamp>,
    /// Accepted before then
    #[arg(long, value_name = "TIME")]
    accepted_to: Option<jiff::Timestamp>,
}

/// Which jobs are meant: some by their ids, or those of which everything that is said holds.
#[derive(Args, Debug)]
#[group(id = "which", required = true, multiple = true, args = [
    "job_ids", "all", "run", "batch", "campaign", "to", "recipient_id", "cancel_key", "kind", "class", "accepted_from",
    "accepted_to",
])]
pub struct Selector {
    /// These jobs
    #[arg(value_name = "JOB_ID", conflicts_with_all = [
        "all", "run", "batch", "campaign", "to", "recipient_id", "cancel_key", "kind", "class", "accepted_from",
        "accepted_to",
    ])]
    job_ids: Vec<String>,
    /// Every job of the tenant
    #[arg(long)]
    all: bool,
    /// Of this run
    #[arg(long)]
    run: Option<String>,
    #[command(flatten)]
    filter: Filter,
}

impl Command {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        match self {
            Self::Get { job_id } => get(to, job_id).await,
            Self::Explain { job_id } => super::explain::run(to, job_id).await,
            Self::List { filter, limit } => list(to, filter.into_pb(), limit).await,
            Self::Cancel { selector } => cancel(to, selector.into_pb()).await,
            Self::Reschedule { selector, at, expires } => {
                let now = args::now();
                let schedule = pb::Schedule {
                    start: Some(pb::schedule::Start::SendAt(at.resolve(now))),
                    expires_at: expires.map(|at| at.resolve(now)),
                    ..pb::Schedule::default()
                };
                reschedule(to, selector.into_pb(), schedule).await
            }
            Self::Watch { resume, from_start, jobs } => {
                let request = pb::WatchEventsRequest {
                    resume_token: resume,
                    from_start,
                    job_ids: jobs,
                    ..pb::WatchEventsRequest::default()
                };
                watch(to, request).await
            }
        }
    }
}

async fn get(to: To, job_id: String) -> Result<(), Failure> {
    let request = pb::GetJobRequest { job_id, view: pb::JobView::Full.into() };
    let job = to.service.jobs().get_job(request).await?.into_inner().job.unwrap_or_default();
    let shown = print::job(&job);
    to.out.object(&shown, || {
        let mut text = format!("{}  {}", job.job_id, shown["state"].as_str().unwrap_or("-"));
        for name in ["reason", "kind", "class", "accepted_at", "due_at", "expires_at", "batch_id", "fallback_of"] {
            if let Some(value) = shown[name].as_str().filter(|value| !value.is_empty()) {
                text.push_str(&format!("\n  {name:<12} {value}"));
            }
        }
        for event in &job.events {
            text.push_str(&format!("\n  {}", print::event_line(event)));
        }
        text
    })?;
    Ok(())
}

async fn list(to: To, filter: pb::JobFilter, limit: u32) -> Result<(), Failure> {
    let mut client = to.service.jobs();
    let (mut rows, mut page_token) = (Vec::new(), String::new());
    loop {
        let left = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(rows.len());
        let page_size = i32::try_from(left.min(1000)).unwrap_or(1000);
        if page_size == 0 {
            break;
        }
        let request = pb::ListJobsRequest { filter: Some(filter.clone()), page_size, page_token, view: 0 };
        let page = client.list_jobs(request).await?.into_inner();
        rows.extend(page.jobs.iter().map(print::job));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    to.out.list(&["job_id", "state", "reason", "kind", "class", "accepted_at", "due_at"], &rows)?;
    Ok(())
}

async fn cancel(to: To, selector: pb::JobSelector) -> Result<(), Failure> {
    let request = pb::CancelJobsRequest { selector: Some(selector) };
    let response = to.service.jobs().cancel_jobs(request).await?.into_inner();
    let pb::CancelJobsResponse { waiting, claimed, more, .. } = response;
    bound(to, ("cancelled", response.cancelled_at), (waiting, claimed, more))
}

async fn reschedule(to: To, selector: pb::JobSelector, schedule: pb::Schedule) -> Result<(), Failure> {
    let request = pb::RescheduleJobsRequest { selector: Some(selector), schedule: Some(schedule) };
    let response = to.service.jobs().reschedule_jobs(request).await?.into_inner();
    let pb::RescheduleJobsResponse { waiting, claimed, more, .. } = response;
    bound(to, ("rescheduled", response.rescheduled_at), (waiting, claimed, more))
}

/// Prints what a rule about jobs binds.
fn bound(
    to: To,
    (act, at): (&str, Option<prost_types::Timestamp>),
    (waiting, claimed, more): (Option<u64>, Option<u64>, bool),
) -> Result<(), Failure> {
    let at = print::time(at.as_ref());
    let mut shown = json!({"waiting": waiting, "claimed": claimed, "more": more});
    shown[format!("{act}_at")] = at.clone();
    to.out.object(&shown, || {
        let counted = waiting.zip(claimed).map(|(waiting, claimed)| {
            let more = if more { ", of the 20000 newest" } else { "" };
            format!(": {waiting} waited, {claimed} were being handed over or settled already{more}")
        });
        let at = at.as_str().unwrap_or("now");
        format!("{act} what was accepted up to {at}{}", counted.unwrap_or_default())
    })?;
    Ok(())
}

async fn watch(to: To, request: pb::WatchEventsRequest) -> Result<(), Failure> {
    let mut answers = to.service.jobs().watch_events(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        let last = answer.events.len().saturating_sub(1);
        for (index, event) in answer.events.iter().enumerate() {
            let mut shown = print::event(event);
            if index == last {
                // A script that stores it with the line before it misses nothing and sees nothing twice.
                shown["resume_token"] = json!(answer.resume_token);
            }
            to.out.object(&shown, || format!("{}  {}", event.job_id, print::event_line(event)))?;
        }
    }
    // The server stops; a script starts again with the last token.
    Err(tonic::Status::unavailable("the service ended the watch; watch again with the last resume token").into())
}

impl Filter {
    fn into_pb(self) -> pb::JobFilter {
        let time = |at: jiff::Timestamp| prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond().max(0),
        };
        pb::JobFilter {
            batch_id: self.batch.unwrap_or_default(),
            campaign_id: self.campaign.unwrap_or_default(),
            recipient: match (self.to, self.recipient_id) {
                (Some(Address(recipient)), _) => Some(recipient),
                (None, Some(recipient_id)) => Some(pb::Recipient { recipient_id, ..pb::Recipient::default() }),
                (None, None) => None,
            },
            cancel_key: self.cancel_key.unwrap_or_default(),
            kind: self.kind.map_or(0, |kind| kind.to_pb().into()),
            class: self.class.map_or(0, |class| class.to_pb().into()),
            accepted_from: self.accepted_from.map(time),
            accepted_to: self.accepted_to.map(time),
            ..pb::JobFilter::default()
        }
    }
}

impl Selector {
    /// Returns the jobs that are meant, by one name where there is only one: any number of such rules may live.
    fn into_pb(self) -> pb::JobSelector {
        use pb::job_selector::By;
        if !self.job_ids.is_empty() {
            return pb::JobSelector { by: Some(By::Jobs(pb::JobIds { job_ids: self.job_ids })) };
        }
        let filter = pb::JobFilter { run_id: self.run.unwrap_or_default(), ..self.filter.into_pb() };
        let one = pb::JobFilter::default();
        let points = [
            (
                pb::JobFilter { cancel_key: filter.cancel_key.clone(), ..one.clone() },
                By::CancelKey(filter.cancel_key.clone()),
            ),
            (pb::JobFilter { batch_id: filter.batch_id.clone(), ..one.clone() }, By::BatchId(filter.batch_id.clone())),
            (
                pb::JobFilter { campaign_id: filter.campaign_id.clone(), ..one.clone() },
                By::CampaignId(filter.campaign_id.clone()),
            ),
            (pb::JobFilter { run_id: filter.run_id.clone(), ..one.clone() }, By::RunId(filter.run_id.clone())),
            (
                pb::JobFilter { recipient: filter.recipient.clone(), ..one.clone() },
                By::Recipient(filter.recipient.clone().unwrap_or_default()),
            ),
        ];
        let point = points.into_iter().find(|(alone, _)| filter != one && *alone == filter).map(|(_, by)| by);
        pb::JobSelector { by: Some(point.unwrap_or(By::Filter(filter))) }
    }
}
