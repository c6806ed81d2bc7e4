//! `postrider provider`, `postrider stats`, `postrider dead-letter` and `postrider clock`.

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::To;
use super::args;
use super::connect::Failure;
use super::print::{self, word};
use crate::pb;

/// What to do with providers.
#[derive(Subcommand, Debug)]
pub enum ProviderCommand {
    /// List providers with their health
    List,
    /// Hand nothing more to a provider, on any node, until it is resumed
    Pause {
        /// Its id
        provider: String,
    },
    /// Let a paused or drained provider work again
    Resume {
        /// Its id
        provider: String,
    },
    /// Let what is in flight finish, then pause
    Drain {
        /// Its id
        provider: String,
    },
    /// Let one sender of your tenant take over from another: its waiting jobs, its places in pools, and whoever keeps to it
    ReassignSender {
        /// The sender that goes
        from: String,
        /// The one that takes over
        to: String,
    },
}

/// Which counts.
#[derive(Args, Debug)]
pub struct Range {
    /// From the hour of this time on, such as 2026-12-24T00:00:00Z; without it, the last 24 hours
    #[arg(long)]
    from: Option<jiff::Timestamp>,
    /// Up to the hour of this time; without it, now
    #[arg(long)]
    to: Option<jiff::Timestamp>,
    /// Another tenant's, for operators
    #[arg(long, default_value = "", hide_default_value = true)]
    tenant: String,
}

pub(super) const DEAD_EXAMPLES: &str = "Examples:
  postrider dead-letter inspect
  postrider dead-letter redrive 0193b1c2-7d0e-7c11-9a55-3f0c1f6a2b10
  postrider dead-letter redrive --all";

/// What to do with dead letters.
#[derive(Subcommand, Debug)]
pub enum DeadCommand {
    /// List them: since when, where from, why, and which jobs; never numbers or texts
    Inspect,
    /// Put some back to work, or all
    Redrive {
        /// Their frame ids
        #[arg(required_unless_present = "all", conflicts_with = "all")]
        frame_ids: Vec<String>,
        /// Every one
        #[arg(long)]
        all: bool,
    },
}

/// What to do with the clock.
#[derive(Subcommand, Debug)]
pub enum ClockCommand {
    /// Move it forward
    Advance {
        /// How far, such as 90m or 30d
        #[arg(value_parser = humantime::parse_duration)]
        by: Duration,
    },
}

impl ProviderCommand {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        let mut client = to.service.providers();
        let shown = match self {
            Self::List => return list(to).await,
            Self::ReassignSender { from, to: into } => return reassign(&to, from, into).await,
            Self::Pause { provider: provider_id } => {
                client.pause(pb::ProviderServicePauseRequest { provider_id }).await?.into_inner().provider
            }
            Self::Resume { provider: provider_id } => {
                client.resume(pb::ProviderServiceResumeRequest { provider_id }).await?.into_inner().provider
            }
            Self::Drain { provider: provider_id } => {
                client.drain(pb::ProviderServiceDrainRequest { provider_id }).await?.into_inner().provider
            }
        };
        let row = provider(&shown.unwrap_or_default());
        to.out.object(&row, || format!("{} is {}", text(&row["provider_id"]), text(&row["state"])))?;
        Ok(())
    }
}

async fn reassign(to: &To, from: String, into: String) -> Result<(), Failure> {
    let request = pb::ReassignSenderRequest { from: from.clone(), to: into.clone() };
    let moved = to.service.providers().reassign_sender(request).await?.into_inner();
    let pb::ReassignSenderResponse { jobs, recipients } = moved;
    let words = || format!("{into} has what {from} had: {jobs} waiting jobs and {recipients} recipients");
    to.out.object(&json!({"from": from, "to": into, "jobs": jobs, "recipients": recipients}), words)?;
    Ok(())
}

async fn list(to: To) -> Result<(), Failure> {
    let request = pb::ProviderServiceListRequest { page_size: 1000, page_token: String::new() };
    let page = to.service.providers().list(request).await?.into_inner();
    let rows: Vec<_> = page.providers.iter().map(provider).collect();
    let columns =
        ["provider_id", "state", "protocol", "kinds", "pools", "rate_per_second", "in_flight", "window", "price"];
    to.out.list(&columns, &rows)?;
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

impl Range {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        let at = |at: jiff::Timestamp| prost_types::Timestamp {
            seconds: at.as_second(),
            nanos: at.subsec_nanosecond().max(0),
        };
        let request = pb::GetStatsRequest {
            from: self.from.map(at),
            to: self.to.map(at),
            tenant_id: self.tenant,
            campaign_id: String::new(),
        };
        let stats = to.service.jobs().get_stats(request).await?.into_inner();
        let rows: Vec<_> = stats.rows.iter().map(row).collect();
        to.out.list(&["kind", "class", "what", "reason", "jobs", "cost"], &rows)?;
        Ok(())
    }
}

impl ClockCommand {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        let Self::Advance { by } = self;
        let request = pb::AdvanceClockRequest { by: Some(args::duration(by)) };
        let now = to.service.admin().advance_clock(request).await?.into_inner().now;
        let now = print::time(now.as_ref());
        to.out.object(&json!({"now": now}), || now.as_str().unwrap_or("-").to_owned())?;
        Ok(())
    }
}

impl DeadCommand {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        match self {
            Self::Inspect => Self::inspect(to).await,
            // Without names it is all.
            Self::Redrive { frame_ids, all: _ } => {
                let asked = frame_ids.len();
                let request = pb::RedriveRequest { frame_ids };
                let frames = to.service.admin().redrive(request).await?.into_inner().frames;
                let of = if asked == 0 { String::new() } else { format!(" of {asked}") };
                to.out.object(&json!({"frames": frames}), || format!("{frames}{of} back to work"))?;
                Ok(())
            }
        }
    }

    async fn inspect(to: To) -> Result<(), Failure> {
        let (mut rows, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListDeadLettersRequest { page_size: 1000, page_token };
            let page = to.service.admin().list_dead_letters(request).await?.into_inner();
            rows.extend(page.letters.iter().map(letter));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        to.out.list(&["frame_id", "at", "queue", "reason", "expires_at", "job_ids"], &rows)?;
        Ok(())
    }
}

fn letter(letter: &pb::DeadLetter) -> Value {
    json!({
        "frame_id": letter.frame_id,
        "at": print::time(letter.at.as_ref()),
        "queue": if letter.queue.is_empty() { Value::Null } else { json!(letter.queue) },
        "reason": letter.reason,
        "expires_at": print::time(letter.expires_at.as_ref()),
        "job_ids": letter.job_ids,
    })
}

fn provider(provider: &pb::Provider) -> Value {
    json!({
        "provider_id": provider.provider_id,
        "state": word(provider.state().as_str_name(), "PROVIDER_STATE_"),
        "protocol": provider.protocol,
        "kinds": provider.kinds().map(|kind| word(kind.as_str_name(), "KIND_")).collect::<Vec<_>>(),
        "pools": provider.pools,
        "rate_per_second": provider.rate_per_second,
        "in_flight": provider.in_flight,
        "window": provider.window,
        "price": provider.price.as_ref().map(print::money),
    })
}

fn row(row: &pb::StatsRow) -> Value {
    json!({
        "kind": word(row.kind().as_str_name(), "KIND_"),
        "class": word(row.class().as_str_name(), "CLASS_"),
        "what": row.what,
        "reason": row.reason,
        "jobs": row.jobs,
        "cost": row.cost.as_ref().map(print::money),
    })
}
