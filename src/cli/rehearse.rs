//! `postrider rehearse`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::connect::Failure;
use super::print;
use super::submit::{self, Asked};
use super::{To, print::word};
use crate::pb;

pub(super) const EXAMPLES: &str =
    "What each job would meet if it were submitted now: send, defer (until when, by which \
rule), suppress, or refused. Nothing is sent, kept or spent. Every flag of `postrider submit` means the same here.

Examples:
  postrider rehearse sms --class marketing --to +8613800000000 --text 'Sale'
  postrider rehearse sms --class marketing --to-file numbers.txt --text 'Sale' --at 2026-12-24T10:00:00+08:00
  postrider rehearse call --flow confirm-order --to +8613800000000 --each --json";

/// Jobs that are shown one by one unless asked otherwise.
const EACH_MAX: usize = 20;

/// Asks what jobs would meet, and prints it: one by one, or how many meet what.
pub(super) async fn run(what: submit::Command, each: bool, to: To) -> Result<(), Failure> {
    let Asked { spec, items, .. } = what.asked()?;
    let recipients: Vec<String> = items.iter().filter_map(|item| item.recipient.as_ref()).map(print::address).collect();
    let request = pb::RehearseRequest { spec: Some(spec), items };
    let response = to.service.jobs().rehearse(request).await?.into_inner();
    let shown = response.items.iter().map(|item| {
        let recipient = recipients.get(usize::try_from(item.index).unwrap_or(usize::MAX));
        show(item, recipient.map(String::as_str).unwrap_or_default())
    });
    let shown: Vec<Value> = shown.collect();
    if each || to.out.is_json() || shown.len() <= EACH_MAX {
        to.out.list(&["to", "verdict", "rule", "until", "segments", "cost", "message"], &shown)?;
    } else {
        to.out.list(&["jobs", "verdict", "rule", "until", "segments", "message"], &together(&shown))?;
    }
    Ok(())
}

fn show(item: &pb::RehearsedItem, recipient: &str) -> Value {
    let verdict = match (&item.refusal, item.verdict()) {
        (Some(_), _) => "refused".into(),
        (None, pb::RuleVerdict::Pass) => "send".into(),
        (None, verdict) => word(verdict.as_str_name(), "RULE_VERDICT_"),
    };
    let refusal = item.refusal.as_ref();
    json!({
        "index": item.index,
        "to": recipient,
        "verdict": verdict,
        "rule": Some(&item.rule).filter(|rule| !rule.is_empty()),
        "until": print::time(item.until.as_ref()),
        "cost": item.cost.as_ref().map(print::money),
        "segments": Some(item.segments).filter(|segments| *segments > 0),
        "reason": refusal.map(|refusal| &refusal.reason),
        "field": refusal.map(|refusal| &refusal.field),
        "message": refusal.map(|refusal| &refusal.message),
    })
}

/// Returns how many jobs meet the same, and the first and last of the times until which they wait.
fn together(shown: &[Value]) -> Vec<Value> {
    let mut groups: BTreeMap<[String; 3], (u64, u64, Vec<&str>)> = BTreeMap::new();
    for item in shown {
        let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
        let key = [text("verdict"), text("rule"), text("reason")];
        let (jobs, segments, times) = groups.entry(key).or_default();
        *jobs += 1;
        *segments += item["segments"].as_u64().unwrap_or_default();
        times.extend(item["until"].as_str());
    }
    let group = |([verdict, rule, reason], (jobs, segments, mut times)): ([String; 3], (u64, u64, Vec<&str>))| {
        times.sort_unstable();
        let until = match (times.first(), times.last()) {
            (Some(first), Some(last)) if first != last => json!(format!("{first} to {last}")),
            (first, _) => json!(first),
        };
        // Messages name the item: the first stands for all.
        let first = shown.iter().find(|item| item["reason"].as_str() == Some(&reason));
        json!({
            "jobs": jobs,
            "verdict": verdict,
            "rule": Some(rule).filter(|rule| !rule.is_empty()),
            "until": until,
            "segments": Some(segments).filter(|segments| *segments > 0),
            "message": first.map(|item| item["message"].clone()),
        })
    };
    groups.into_iter().map(group).collect()
}
