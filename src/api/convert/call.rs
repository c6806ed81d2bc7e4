//! What call jobs ask for, and how calls went.

use std::sync::Arc;
use std::time::Duration;

use super::flow::{document_to_pb, flow};
use super::{Invalid, Problem, check_count, duration, duration_to_pb, not_yet};
use crate::channel::call::flow::Act;
use crate::domain::call::{CallReport, CallResult, Plan, RETRIES_MAX, RING_DEFAULT, Retry};
use crate::domain::job::Content;
use crate::pb;

/// Shortest and longest ring time.
const RING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// Shortest and longest wait before another try.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(7 * 24 * 3600));
/// Longest document of a flow that a request brings: with names and parameters it fits a frame.
const DOCUMENT_LEN_MAX: usize = 24 * 1024;

/// Checks what a call job asks for; returns it with the parameters that every item must have.
pub(super) fn call(raw: pb::CallContent) -> Result<(Content, Vec<Box<str>>), Invalid> {
    not_yet("after", raw.after.is_empty(), "acts after a call are")?;
    let ring_max = match raw.ring_max {
        Some(ring) => within("ring_max", duration("ring_max", ring)?, RING)?,
        None => RING_DEFAULT,
    };
    let plan = Plan { ring_max, retries: retries(raw.retries)?, ..Plan::default() };
    match raw.source {
        None => Err(Invalid::new("flow", Problem::Missing)),
        Some(pb::call_content::Source::Flow(name)) => {
            Ok((Content::Call { flow: super::spec::named("flow", name)?, plan: Arc::new(plan) }, vec![]))
        }
        Some(pb::call_content::Source::InlineFlow(raw)) => {
            let (plan, names) = inline(raw, plan).map_err(|e| e.within("inline_flow"))?;
            Ok((Content::Call { flow: "".into(), plan: Arc::new(plan) }, names))
        }
    }
}

fn inline(raw: pb::CallFlow, plan: Plan) -> Result<(Plan, Vec<Box<str>>), Invalid> {
    let (flow, document) = flow(raw)?;
    if document.len() > DOCUMENT_LEN_MAX {
        let what = format!("takes {} bytes, at most {DOCUMENT_LEN_MAX} are allowed", document.len());
        return Err(Invalid::new("", Problem::Flow(what.into())));
    }
    if let Some((name, _)) = flow.nodes().find(|(_, node)| matches!(node.act, Act::Transfer(_))) {
        return Err(Invalid::new(format!("nodes.{name}.transfer"), Problem::NotYet("transfers are")));
    }
    let names = flow.variables().into_iter().map(Box::from).collect();
    Ok((Plan { talk_max: flow.talk_max(), document, ..plan }, names))
}

fn retries(raw: Vec<pb::CallRetry>) -> Result<Vec<Retry>, Invalid> {
    check_count("retries", raw.len(), CallResult::ALL.len())?;
    let mut retries: Vec<Retry> = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let retry = retry(raw).map_err(|e| e.at("retries", index))?;
        if retries.iter().any(|other| other.result == retry.result) {
            return Err(Invalid::new("retries", Problem::Twice(retry.result.as_str().into())));
        }
        retries.push(retry);
    }
    Ok(retries)
}

fn retry(raw: pb::CallRetry) -> Result<Retry, Invalid> {
    let times = u8::try_from(raw.times).ok().filter(|times| *times <= RETRIES_MAX).ok_or_else(|| {
        Invalid::new("times", Problem::OutOfRange { is: raw.times.into(), least: 0, most: RETRIES_MAX.into() })
    })?;
    let after = match raw.after {
        Some(after) => within("after", duration("after", after)?, RETRY_AFTER)?,
        None if times == 0 => RETRY_AFTER.0,
        None => return Err(Invalid::new("after", Problem::Missing)),
    };
    Ok(Retry { result: result(raw.result)?, after, times })
}

fn within(field: &str, is: Duration, (least, most): (Duration, Duration)) -> Result<Duration, Invalid> {
    let secs = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
    if (least..=most).contains(&is) {
        Ok(is)
    } else {
        let problem = Problem::SecondsOutOfRange { is: secs(is), least: secs(least), most: secs(most) };
        Err(Invalid::new(field, problem))
    }
}

fn result(raw: i32) -> Result<CallResult, Invalid> {
    use pb::CallResult as Raw;
    match Raw::try_from(raw) {
        Ok(Raw::Unspecified) => Err(Invalid::new("result", Problem::Missing)),
        Ok(Raw::Completed) => {
            Err(Invalid::new("result", Problem::Flow("is `completed`: nobody is called again for that".into())))
        }
        Ok(Raw::Busy) => Ok(CallResult::Busy),
        Ok(Raw::NoAnswer) => Ok(CallResult::NoAnswer),
        Ok(Raw::Declined) => Ok(CallResult::Declined),
        Ok(Raw::InvalidNumber) => Ok(CallResult::InvalidNumber),
        Ok(Raw::Unreachable) => Ok(CallResult::Unreachable),
        Ok(Raw::Machine) => Ok(CallResult::Machine),
        Ok(Raw::Network) => Ok(CallResult::Network),
        Err(_) => Err(Invalid::new("result", Problem::UnknownValue(raw))),
    }
}

fn result_to_pb(result: CallResult) -> pb::CallResult {
    match result {
        CallResult::Completed => pb::CallResult::Completed,
        CallResult::Busy => pb::CallResult::Busy,
        CallResult::NoAnswer => pb::CallResult::NoAnswer,
        CallResult::Declined => pb::CallResult::Declined,
        CallResult::InvalidNumber => pb::CallResult::InvalidNumber,
        CallResult::Unreachable => pb::CallResult::Unreachable,
        CallResult::Machine => pb::CallResult::Machine,
        CallResult::Network => pb::CallResult::Network,
    }
}

/// Shows what a call job asks for.
pub(super) fn call_to_pb(flow: &str, plan: &Plan) -> pb::CallContent {
    use pb::call_content::Source;
    let retry = |retry: &Retry| pb::CallRetry {
        result: result_to_pb(retry.result).into(),
        after: Some(duration_to_pb(retry.after)),
        times: retry.times.into(),
    };
    let source = match document_to_pb(&plan.document) {
        Some(inline) => Source::InlineFlow(inline),
        None => Source::Flow(flow.into()),
    };
    pb::CallContent {
        source: Some(source),
        ring_max: Some(duration_to_pb(plan.ring_max)),
        retries: plan.retries.iter().map(retry).collect(),
        after: vec![],
    }
}

/// Shows how a call went.
pub(super) fn report_to_pb(report: &CallReport) -> pb::CallReport {
    pb::CallReport {
        result: result_to_pb(report.result).into(),
        digits: report.digits.to_string(),
        tags: report.tags.iter().map(ToString::to_string).collect(),
        intent: report.intent.to_string(),
        answered_by: report.answered_by.to_string(),
        talk: Some(duration_to_pb(report.talk)),
        hung_up_by: report.hung_up_by.to_string(),
        transcript_ref: report.transcript.to_string(),
        recording_ref: report.recording.to_string(),
    }
}
