//! `postrider job`.

use clap::{Args, Subcommand};
use serde_json::json;

use super::To;
use super::args::Address;
use super::connect::Failure;
use super::print;
use crate::pb;

pub(super) const EXAMPLES: &str = "Examples:
  postrider job get 0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11
  postrider job list --campaign spring --limit 20
  postrider job cancel --campaign spring
  postrider job watch --json --from-start";

/// What to do with jobs.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show a job and what happened to it
    Get {
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

/// Which jobs a list shows.
#[derive(Args, Debug)]
pub struct Filter {
    /// Of this batch
    #[arg(long, default_value = "", hide_default_value = true)]
    batch: String,
    /// Of this campaign
    #[arg(long, default_value = "", hide_default_value = true)]
    campaign: String,
    /// To this address
    #[arg(long)]
    to: Option<Address>,
    /// For this recipient
    #[arg(long, default_value = "", hide_default_value = true)]
    recipient_id: String,
    /// With this cancel key
    #[arg(long, default_value = "", hide_default_value = true)]
    cancel_key: String,
}

/// Which jobs are taken back: exactly one way to name them.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
pub struct Selector {
    /// These jobs
    #[arg(value_name = "JOB_ID")]
    job_ids: Vec<String>,
    /// Jobs with this cancel key
    #[arg(long)]
    cancel_key: Option<String>,
    /// Jobs of this batch
    #[arg(long)]
    batch: Option<String>,
    /// Jobs of this campaign
    #[arg(long)]
    campaign: Option<String>,
    /// Jobs of this run
    #[arg(long)]
    run: Option<String>,
    /// Jobs to this address
    #[arg(long)]
    to: Option<Address>,
    /// Jobs for this recipient
    #[arg(long)]
    recipient_id: Option<String>,
}

impl Command {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        match self {
            Self::Get { job_id } => get(to, job_id).await,
            Self::List { filter, limit } => list(to, filter.into_pb(), limit).await,
            Self::Cancel { selector } => cancel(to, selector.into_pb()).await,
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
        for name in ["reason", "kind", "class", "accepted_at", "due_at", "expires_at", "batch_id"] {
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
    let at = print::time(response.cancelled_at.as_ref());
    let text = || format!("cancelled what was accepted up to {}", at.as_str().unwrap_or("now"));
    to.out.object(&json!({"cancelled_at": at}), text)?;
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
        pb::JobFilter {
            batch_id: self.batch,
            campaign_id: self.campaign,
            recipient: recipient(self.to, self.recipient_id),
            cancel_key: self.cancel_key,
            ..pb::JobFilter::default()
        }
    }
}

impl Selector {
    fn into_pb(self) -> pb::JobSelector {
        use pb::job_selector::By;
        // The command line has seen to it that there is exactly one.
        let ways = [
            self.cancel_key.map(By::CancelKey),
            self.batch.map(By::BatchId),
            self.campaign.map(By::CampaignId),
            self.run.map(By::RunId),
            recipient(self.to, self.recipient_id.unwrap_or_default()).map(By::Recipient),
        ];
        let jobs = || By::Jobs(pb::JobIds { job_ids: self.job_ids });
        let by = ways.into_iter().flatten().next().unwrap_or_else(jobs);
        pb::JobSelector { by: Some(by) }
    }
}

fn recipient(to: Option<Address>, recipient_id: String) -> Option<pb::Recipient> {
    if to.is_none() && recipient_id.is_empty() {
        return None;
    }
    Some(pb::Recipient { recipient_id, ..to.map(|Address(recipient)| recipient).unwrap_or_default() })
}
