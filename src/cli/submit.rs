//! `postrider submit`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::To;
use super::args::{self, Address, Class, Fallback, Moment, Pair};
use super::connect::Failure;
use super::print::word;
use super::window::{Hours as HoursArg, LocalTime, OnMissed};
use crate::pb;

pub(super) const EXAMPLES: &str = "Examples:
  postrider submit sms --to +8613800000000 --text 'Your parcel is here'
  postrider submit sms --class otp --to +4915112345678 --text 'Your code is {code}' --param code=1234
  postrider submit sms --class marketing --to +491511 --to +491512 --text 'Sale' --at +2h --campaign spring
  postrider submit sms --class marketing --to +491511 --text 'Good morning' --local-time 2026-12-24T10:00
  postrider submit call --flow remind --to +8613800000000 --window 'mon-fri 10:00-11:30 CN' --on-missed drop
  postrider submit sms --template order-shipped --param order=42 --to +8613800000000
  postrider submit sms --class marketing --to-file numbers.txt --text 'Sale' --campaign spring --idempotency-key spring-1
  postrider submit template --template order-shipped --to wechat:wx1234/oABCD --param order=42
  postrider submit template --template order-shipped --param order=42 --to wechat:wx1234/oABCD,+8613800000000 \
      --fallback sms-template:10m=order-shipped --fallback call:30m=order-shipped
  postrider submit call --flow confirm-order --to +8613800000000 --json";

/// What to send.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// A text message
    Sms {
        /// The text; {name} is replaced by the parameter of that name
        #[arg(long, required_unless_present = "template", default_value = "", hide_default_value = true)]
        text: String,
        /// A stored template instead of a text
        #[arg(long, conflicts_with = "text", default_value = "", hide_default_value = true)]
        template: String,
        #[command(flatten)]
        job: Job,
    },
    /// A template message (WeChat, WeCom)
    Template {
        /// The template's name
        #[arg(long)]
        template: String,
        /// BCP 47 locale, such as zh-CN
        #[arg(long, default_value = "", hide_default_value = true)]
        locale: String,
        #[command(flatten)]
        job: Job,
    },
    /// A smart call
    Call {
        /// The name of a template with a call text, or of a call flow that the provider knows
        #[arg(long, required_unless_present = "flow_file", conflicts_with = "flow_file")]
        flow: Option<String>,
        /// A call flow as a document, TOML or JSON: see `postrider flow`
        #[arg(long, value_name = "FILE")]
        flow_file: Option<PathBuf>,
        #[command(flatten)]
        job: Job,
    },
}

/// What every kind of job has.
#[derive(Args, Debug)]
pub struct Job {
    /// Whom: +NUMBER, wechat:APPID/OPENID, wecom:CORP/USER, chat:ID or user:ID, or several of one recipient, with commas;
    /// more than one --to makes a batch
    #[arg(long, required_unless_present = "to_file")]
    to: Vec<Address>,
    /// A file with more of them, one a line; - reads standard input
    #[arg(long, value_name = "FILE")]
    to_file: Option<PathBuf>,
    /// How much it matters
    #[arg(long, value_enum, default_value = "notification")]
    class: Class,
    /// What follows where it is refused, or not delivered in this time: KIND:TIME=WHAT, such as 'sms:10m=Your parcel is
    /// here', sms-template:10m=NAME, template:1h=NAME or call:30m=FLOW; up to three, in order
    #[arg(long = "fallback", value_name = "KIND:TIME=WHAT")]
    fallback: Vec<Fallback>,
    /// A value for a placeholder: NAME=VALUE
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<Pair>,
    /// The sender shown: a number, a short code, a signature
    #[arg(long, default_value = "", hide_default_value = true)]
    sender: String,
    /// What it is about, for opt-outs and caps
    #[arg(long, default_value = "", hide_default_value = true)]
    topic: String,
    /// Not before: a time such as 2026-12-24T10:00:00+08:00, or a delay such as +90m
    #[arg(long)]
    at: Option<Moment>,
    /// At a time of day where each recipient is, such as 2026-12-24T10:00
    #[arg(long, value_name = "TIME", conflicts_with = "at")]
    local_time: Option<LocalTime>,
    /// Only in these hours, as '[DAYS] FROM-TO [CALENDAR]', such as 'mon-fri 10:00-12:00'; narrows the windows that hold
    /// anyway
    #[arg(long = "window", value_name = "HOURS")]
    windows: Vec<HoursArg>,
    /// What follows when its turn comes outside its windows
    #[arg(long, value_enum, default_value = "defer")]
    on_missed: OnMissed,
    /// Not after: a time or a delay
    #[arg(long)]
    expires: Option<Moment>,
    /// -100 to 100; within a class, who gets a scarce cap
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    priority: i32,
    /// Your own id for the recipient; with a single --to
    #[arg(long, default_value = "", hide_default_value = true)]
    recipient_id: String,
    /// The recipient's IANA time zone, such as Asia/Shanghai
    #[arg(long, default_value = "", hide_default_value = true)]
    time_zone: String,
    /// The campaign it belongs to
    #[arg(long, default_value = "", hide_default_value = true)]
    campaign: String,
    /// A key to cancel it by
    #[arg(long, default_value = "", hide_default_value = true)]
    cancel_key: String,
    /// A label: NAME=VALUE
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<Pair>,
    /// Repeating the command with the same key sends nothing twice
    #[arg(long, default_value = "", hide_default_value = true)]
    idempotency_key: String,
}

/// What a command line asks to submit.
pub(super) struct Asked {
    pub(super) idempotency_key: String,
    pub(super) spec: pb::JobSpec,
    pub(super) items: Vec<pb::BatchItem>,
}

/// Reads a flow from a file.
fn inline(path: &Path) -> Result<pb::CallFlow, Failure> {
    let wrong = |problem: String| Failure::Usage(format!("{}: {problem}", path.display()));
    super::flow::read(path).map(|flow| crate::api::flow_to_pb(&flow)).map_err(|bad| wrong(bad.problems().join("; ")))
}

impl Command {
    pub(super) async fn run(self, to: To) -> Result<(), Failure> {
        let Asked { idempotency_key, spec, mut items } = self.asked()?;
        match items.pop() {
            Some(item) if items.is_empty() => one(to, idempotency_key, spec, item).await,
            last => {
                items.extend(last);
                many(to, pb::SubmitBatchRequest { idempotency_key, spec: Some(spec), items }).await
            }
        }
    }

    /// Returns what is asked.
    pub(super) fn asked(self) -> Result<Asked, Failure> {
        use pb::job_spec::Content;
        let (content, job) = match self {
            Self::Sms { text, template, job } => (Content::Sms(pb::SmsContent { text, template }), job),
            Self::Template { template, locale, job } => {
                (Content::Template(pb::TemplateContent { template, locale, target: String::new() }), job)
            }
            Self::Call { flow, flow_file, job } => {
                let source = Some(match flow_file {
                    Some(path) => pb::call_content::Source::InlineFlow(inline(&path)?),
                    None => pb::call_content::Source::Flow(flow.unwrap_or_default()),
                });
                (Content::Call(pb::CallContent { source, ..pb::CallContent::default() }), job)
            }
        };
        let idempotency_key = job.idempotency_key.clone();
        let (spec, items) = job.into_pb(content)?;
        Ok(Asked { idempotency_key, spec, items })
    }
}

impl Job {
    fn into_pb(mut self, content: pb::job_spec::Content) -> Result<(pb::JobSpec, Vec<pb::BatchItem>), Failure> {
        if let Some(file) = self.to_file.take() {
            self.to.extend(addresses(&file)?);
        }
        if self.to.len() > 1 && !self.recipient_id.is_empty() {
            return Err(Failure::Usage("--recipient-id names one recipient; give one --to with it".into()));
        }
        let now = args::now();
        let pairs = |pairs: &[Pair]| pairs.iter().map(|Pair(name, value)| (name.clone(), value.clone())).collect();
        let spec = pb::JobSpec {
            content: Some(content),
            class: self.class.to_pb().into(),
            topic: self.topic,
            sender: self.sender,
            labels: pairs(&self.labels),
            fallback: self.fallback.into_iter().map(|Fallback(step)| step).collect(),
            priority: self.priority,
            schedule: Some(pb::Schedule {
                start: match self.local_time {
                    Some(LocalTime(time)) => Some(pb::schedule::Start::LocalTime(time)),
                    None => self.at.map(|at| pb::schedule::Start::SendAt(at.resolve(now))),
                },
                expires_at: self.expires.map(|at| at.resolve(now)),
                windows: self.windows.into_iter().map(|HoursArg(hours)| hours).collect(),
                on_missed: self.on_missed.to_pb().into(),
            }),
            origin: (!self.campaign.is_empty())
                .then(|| pb::Origin { campaign_id: self.campaign, ..pb::Origin::default() }),
            ..pb::JobSpec::default()
        };
        let params: std::collections::BTreeMap<_, _> = pairs(&self.params);
        let item = |Address(recipient): Address| pb::BatchItem {
            recipient: Some(pb::Recipient {
                recipient_id: self.recipient_id.clone(),
                time_zone: self.time_zone.clone(),
                ..recipient
            }),
            params: params.clone(),
            cancel_key: self.cancel_key.clone(),
            ..pb::BatchItem::default()
        };
        Ok((spec, self.to.into_iter().map(item).collect()))
    }
}

/// Reads addresses, one a line.
fn addresses(file: &Path) -> Result<Vec<Address>, Failure> {
    let unreadable = |error| Failure::Usage(format!("cannot read --to-file {}: {error}", file.display()));
    let text = match file.to_str() {
        Some("-") => std::io::read_to_string(std::io::stdin()),
        _ => std::fs::read_to_string(file),
    };
    let text = text.map_err(unreadable)?;
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let address = |(number, line): (u32, &str)| {
        let wrong = |error| Failure::Usage(format!("line {number} of --to-file: {error}"));
        line.trim().parse().map_err(wrong)
    };
    lines.map(address).collect()
}

async fn one(to: To, idempotency_key: String, spec: pb::JobSpec, item: pb::BatchItem) -> Result<(), Failure> {
    let request = pb::SubmitRequest {
        idempotency_key,
        spec: Some(spec),
        recipient: item.recipient,
        params: item.params,
        cancel_key: item.cancel_key,
        collapse_key: item.collapse_key,
    };
    let accepted = to.service.jobs().submit(request).await?.into_inner();
    let state = word(accepted.state().as_str_name(), "STATE_");
    to.out.object(&json!({"job_id": accepted.job_id, "state": state}), || format!("{} {state}", accepted.job_id))?;
    Ok(())
}

async fn many(to: To, request: pb::SubmitBatchRequest) -> Result<(), Failure> {
    use pb::batch_item_result::Result as Became;
    let response = to.service.jobs().submit_batch(request).await?.into_inner();
    for result in &response.results {
        let shown = match &result.result {
            Some(Became::JobId(id)) => json!({
                "index": result.index, "job_id": id, "state": "accepted", "batch_id": response.batch_id,
            }),
            Some(Became::Refusal(refusal)) => json!({
                "index": result.index, "job_id": Value::Null, "state": "refused", "batch_id": response.batch_id,
                "reason": refusal.reason, "field": refusal.field, "message": refusal.message,
            }),
            None => continue,
        };
        to.out.object(&shown, || match &result.result {
            Some(Became::JobId(id)) => format!("{id} accepted"),
            Some(Became::Refusal(refusal)) => format!("refused: {}", refusal.message),
            None => String::new(),
        })?;
    }
    if response.refused > 0 { Err(Failure::SomeRefused(response.refused)) } else { Ok(()) }
}
