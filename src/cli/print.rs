//! What commands print: tables and lines for people, JSON for scripts.

use std::io::{self, Write as _};

use comfy_table::{Table, presets};
use prost_types::Timestamp;
use serde_json::{Value, json};

use crate::domain::money::Money;
use crate::pb;

/// Where a command prints, and in which form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    /// Returns an output of JSON or of text.
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Returns whether it is JSON.
    pub(super) fn is_json(self) -> bool {
        self.json
    }

    /// Prints an object: as JSON on a line, or as what `text` says.
    pub(super) fn object(self, value: &Value, text: impl FnOnce() -> String) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if self.json {
            writeln!(out, "{value}")?
        } else {
            writeln!(out, "{}", text())?
        }
        // A pipe's reader is served at once.
        out.flush()
    }

    /// Prints a list: one JSON object a line, or a table with these columns of the objects.
    pub(super) fn list(self, columns: &[&str], rows: &[Value]) -> io::Result<()> {
        if self.json {
            return rows.iter().try_for_each(|row| self.object(row, String::new));
        }
        writeln!(io::stdout(), "{}", table(columns, rows))
    }
}

/// Returns a table with these columns of the objects.
pub(super) fn table(columns: &[&str], rows: &[Value]) -> String {
    if rows.is_empty() {
        return "none".into();
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(columns.iter().map(|column| column.to_uppercase()));
    for row in rows {
        table.add_row(columns.iter().map(|column| cell(&row[column])));
    }
    // What a table fills up with blanks is nothing to copy.
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

/// Returns an enum's value as people write it: `STATE_ACCEPTED` is `accepted`.
pub(super) fn word(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_ascii_lowercase()
}

/// Returns a time as RFC 3339 writes it, or null.
pub(super) fn time(at: Option<&Timestamp>) -> Value {
    at.and_then(|at| jiff::Timestamp::new(at.seconds, at.nanos).ok()).map_or(Value::Null, |at| json!(at.to_string()))
}

/// Returns an amount as people write it: `0.045 CNY`.
pub(super) fn money(money: &pb::Money) -> String {
    let amount = money.currency.parse().and_then(|currency| Money::new(currency, money.micros));
    amount.map_or_else(|_| format!("{} millionths of {}", money.micros, money.currency), |amount| amount.to_string())
}

/// Returns an address as the command line has it.
pub(super) fn address(recipient: &pb::Recipient) -> String {
    if let Some(at) = recipient.wechat.first() {
        return format!("wechat:{}/{}", at.appid, at.openid);
    }
    if let Some(at) = &recipient.wecom {
        return format!("wecom:{}/{}", at.corp_id, at.external_userid);
    }
    match (&*recipient.wecom_chat_id, &*recipient.wecom_userid) {
        ("", "") => recipient.phone.clone(),
        ("", user) => format!("user:{user}"),
        (chat, _) => format!("chat:{chat}"),
    }
}

/// Returns a job with what is known of it.
pub(super) fn job(job: &pb::Job) -> Value {
    let outcome = job.outcome.as_ref();
    let mut shown = json!({
        "job_id": job.job_id,
        "state": state(job),
        "outcome": outcome.map(fate),
        "reason": outcome.map(|outcome| outcome.reason.clone()),
        "cost": outcome.and_then(|outcome| outcome.cost.as_ref()).map(money),
        "kind": word(job.kind().as_str_name(), "KIND_"),
        "class": word(job.class().as_str_name(), "CLASS_"),
        "accepted_at": time(job.accepted_at.as_ref()),
        "due_at": time(job.due_at.as_ref()),
        "expires_at": time(job.expires_at.as_ref()),
        "batch_id": if job.batch_id.is_empty() { Value::Null } else { json!(job.batch_id) },
    });
    if !job.fallback_of.is_empty() {
        shown["fallback_of"] = json!(job.fallback_of);
    }
    if job.spec.is_some() {
        shown["events"] = job.events.iter().map(event).collect();
    }
    shown
}

/// Returns where a job stands; a settled one stands at its fate.
fn state(job: &pb::Job) -> String {
    match &job.outcome {
        Some(outcome) => fate(outcome),
        None => word(job.state().as_str_name(), "STATE_"),
    }
}

fn fate(outcome: &pb::Outcome) -> String {
    word(outcome.fate().as_str_name(), "FATE_")
}

/// Returns an event.
pub(super) fn event(event: &pb::Event) -> Value {
    let mut shown = json!({"at": time(event.at.as_ref()), "job_id": event.job_id});
    match &event.what {
        Some(pb::event::What::StateChange(change)) => {
            shown["state"] = match &change.outcome {
                Some(outcome) => json!(fate(outcome)),
                None => json!(word(change.state().as_str_name(), "STATE_")),
            };
            shown["outcome"] = change.outcome.as_ref().map(fate).into();
            shown["reason"] = json!(change.reason);
            shown["attempt"] = json!(change.attempt);
            shown["provider_id"] = json!(change.provider_id);
            shown["message_ids"] = json!(change.message_ids);
            shown["cost"] = change.cost.as_ref().map(money).into();
            shown["until"] = time(change.until.as_ref());
        }
        Some(pb::event::What::Engagement(engagement)) => {
            shown["engagement"] = json!(word(engagement.kind().as_str_name(), "ENGAGEMENT_KIND_"));
            shown["detail"] = json!(engagement.detail);
        }
        Some(pb::event::What::Signal(signal)) => {
            shown["signal"] = json!(word(signal.kind().as_str_name(), "SIGNAL_KIND_"));
            shown["in_reply_to_job"] = json!(signal.in_reply_to_job);
            shown["from"] = json!(signal.recipient.as_ref().map(|recipient| recipient.phone.clone()));
            shown["to"] = json!(signal.to);
            shown["text"] = json!(signal.text);
            shown["provider_id"] = json!(signal.provider_id);
        }
        None => {}
    }
    shown
}

/// Returns an event as one line of text.
pub(super) fn event_line(event: &pb::Event) -> String {
    let at = time(event.at.as_ref());
    let at = at.as_str().unwrap_or("-").to_owned();
    match &event.what {
        Some(pb::event::What::StateChange(change)) => {
            let state = match &change.outcome {
                Some(outcome) => fate(outcome),
                None => word(change.state().as_str_name(), "STATE_"),
            };
            let mut line = format!("{at}  {state}");
            let until = time(change.until.as_ref());
            let cost = change.cost.as_ref().map(money).unwrap_or_default();
            let details = [
                ("reason", change.reason.as_str()),
                ("provider", change.provider_id.as_str()),
                ("cost", cost.as_str()),
                ("until", until.as_str().unwrap_or_default()),
            ];
            for (name, value) in details.into_iter().filter(|(_, value)| !value.is_empty()) {
                line.push_str(&format!("  {name}={value}"));
            }
            line
        }
        Some(pb::event::What::Engagement(engagement)) => {
            format!("{at}  {}  {}", word(engagement.kind().as_str_name(), "ENGAGEMENT_KIND_"), engagement.detail)
        }
        Some(pb::event::What::Signal(signal)) => {
            format!("{at}  {}  {:?}", word(signal.kind().as_str_name(), "SIGNAL_KIND_"), signal.text)
        }
        None => at,
    }
}
