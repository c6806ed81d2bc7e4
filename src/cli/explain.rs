//! `postrider job explain`.

use serde_json::{Value, json};

use super::To;
use super::connect::Failure;
use super::print::{self, word};
use crate::pb;

/// Columns of the table of decisions.
const COLUMNS: [&str; 8] = ["at", "rule", "verdict", "limit", "used", "left", "open_at", "holders"];

/// Asks why a job is where it is, and prints it.
pub(super) async fn run(to: To, job_id: String) -> Result<(), Failure> {
    let request = pb::ExplainJobRequest { job_id };
    let explained = to.service.jobs().explain_job(request).await?.into_inner();
    let job = explained.job.clone().unwrap_or_default();
    let mut shown = print::job(&job);
    shown["summary"] = json!(explained.summary);
    shown["held_by"] = explained.held_by.as_ref().map(decision).into();
    shown["next_at"] = print::time(explained.next_at.as_ref());
    shown["decisions"] = explained.decisions.iter().map(decision).collect();
    to.out.object(&shown, || {
        let mut text = format!("{}  {}", job.job_id, shown["state"].as_str().unwrap_or("-"));
        for name in ["kind", "class", "due_at", "expires_at", "next_at"] {
            if let Some(value) = shown[name].as_str() {
                text.push_str(&format!("\n  {name:<12} {value}"));
            }
        }
        text.push_str(&format!("\n\n{}", explained.summary));
        if !explained.decisions.is_empty() {
            let rows: Vec<Value> = explained.decisions.iter().map(row).collect();
            text.push_str(&format!("\n\n{}", print::table(&COLUMNS, &rows)));
        }
        text
    })?;
    Ok(())
}

/// Returns a decision.
fn decision(decision: &pb::RuleDecision) -> Value {
    json!({
        "at": print::time(decision.at.as_ref()),
        "rule": decision.rule,
        "verdict": word(decision.verdict().as_str_name(), "RULE_VERDICT_"),
        "reason_code": word(decision.reason_code().as_str_name(), "REASON_CODE_"),
        "limit": decision.limit,
        "used": decision.used,
        "left": decision.left,
        "open_at": print::time(decision.open_at.as_ref()),
        "holders": decision.holders,
        "shadow": decision.shadow,
    })
}

/// Returns a decision as people read it: what a rule has no places for is left out.
fn row(raw: &pb::RuleDecision) -> Value {
    let mut row = decision(raw);
    if raw.reason_code() != pb::ReasonCode::Cap {
        for name in ["limit", "used", "left"] {
            row[name] = Value::Null;
        }
    }
    if raw.holders.is_empty() {
        row["holders"] = Value::Null;
    }
    if raw.shadow {
        row["verdict"] = json!(format!("{} (shadow)", row["verdict"].as_str().unwrap_or_default()));
    }
    row
}
