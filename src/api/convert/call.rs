//! What call jobs ask for, and how calls went.

use std::sync::Arc;
use std::time::Duration;

use super::flow::{document_to_pb, flow};
use super::item::PARAM_CHARS_MAX;
use super::{Invalid, Lines, Problem, check_count, check_text, duration, duration_to_pb};
use crate::channel::call::flow::{Act, Flow, Form, OptOut, parse};
use crate::domain::call::{
    AFTER_MAX, After, AfterAct, CallReport, CallResult, Plan, RETRIES_MAX, RING_DEFAULT, Retry, When,
};
use crate::domain::job::{Content, Kind};
use crate::domain::template::{Template, VARIABLES_MAX};
use crate::domain::text::{is_name, placeholders};
use crate::pb;

/// Shortest and longest ring time.
const RING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));
/// Shortest and longest wait before another try.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(7 * 24 * 3600));
/// Longest document of a flow that a request brings: with names and parameters it fits a frame.
const DOCUMENT_LEN_MAX: usize = 24 * 1024;
/// Most characters of a tag.
const TAG_CHARS_MAX: usize = 64;

/// Checks what a call job asks for; returns it with the parameters that every item must have.
pub(super) fn call(raw: pb::CallContent) -> Result<(Content, Vec<Box<str>>), Invalid> {
    let ring_max = match raw.ring_max {
        Some(ring) => within("ring_max", duration("ring_max", ring)?, RING)?,
        None => RING_DEFAULT,
    };
    let plan = Plan { ring_max, retries: retries(raw.retries)?, after: after(raw.after)?, ..Plan::default() };
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
    let mut names: Vec<Box<str>> = flow.variables().into_iter().map(Box::from).collect();
    names.extend(unasked(&plan, &flow).map(Box::from));
    names.sort_unstable();
    names.dedup();
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
    let result = match result("result", raw.result)? {
        CallResult::Completed => {
            let what = "is `completed`: nobody is called again for that";
            return Err(Invalid::new("result", Problem::Flow(what.into())));
        }
        result => result,
    };
    Ok(Retry { result, after, times })
}

fn after(raw: Vec<pb::AfterCall>) -> Result<Vec<After>, Invalid> {
    check_count("after", raw.len(), AFTER_MAX)?;
    raw.into_iter().enumerate().map(|(index, raw)| follows(raw).map_err(|e| e.at("after", index))).collect()
}

fn follows(raw: pb::AfterCall) -> Result<After, Invalid> {
    use pb::after_call::{Act as RawAct, When as RawWhen};
    let when = match raw.when {
        None => return Err(Invalid::new("when", Problem::Missing)),
        Some(RawWhen::Result(result)) => When::Result(self::result("result", result)?),
        Some(RawWhen::Tag(tag)) => When::Tag(super::required("tag", tag, TAG_CHARS_MAX)?),
    };
    let act = match raw.act {
        None => return Err(Invalid::new("act", Problem::Missing)),
        Some(RawAct::Submit(submit)) => self::submit(submit).map_err(|e| e.within("submit"))?,
        Some(RawAct::OptOut(opt_out)) => {
            AfterAct::OptOut { everything: super::flow::scope(opt_out.scope)? == OptOut::Everything.as_str() }
        }
        Some(RawAct::NextStep(pb::NextStepNode {})) => AfterAct::NextStep,
    };
    Ok(After { when, act })
}

fn submit(raw: pb::SubmitNode) -> Result<AfterAct, Invalid> {
    let kind = match pb::Kind::try_from(raw.kind) {
        Ok(pb::Kind::Sms) => Kind::Sms,
        Ok(pb::Kind::Template) => Kind::Template,
        Ok(pb::Kind::Call) => Kind::Call,
        Ok(pb::Kind::Unspecified) => return Err(Invalid::new("kind", Problem::Missing)),
        Err(_) => return Err(Invalid::new("kind", Problem::UnknownValue(raw.kind))),
    };
    check_count("params", raw.params.len(), VARIABLES_MAX)?;
    let param = |(name, value): (String, String)| {
        if !is_name(&name) {
            return Err(Invalid::new("params", Problem::ParamName));
        }
        check_text(&format!("params[{name}]"), &value, PARAM_CHARS_MAX, Lines::Many)?;
        Ok((name.into_boxed_str(), value.into_boxed_str()))
    };
    let params = raw.params.into_iter().map(param).collect::<Result<_, Invalid>>()?;
    Ok(AfterAct::Submit { kind, template: super::spec::named("template", raw.template)?, params })
}

/// Returns the parameters that what follows a call uses and that nobody is asked for in it.
fn unasked<'a>(plan: &'a Plan, flow: &Flow) -> impl Iterator<Item = &'a str> {
    let asked = |name: &str| matches!(flow.node(name).map(|node| &node.act), Some(Act::Gather { .. }));
    used(plan).filter(move |name| !asked(name)).collect::<Vec<_>>().into_iter()
}

fn used(plan: &Plan) -> impl Iterator<Item = &str> {
    let values = plan.after.iter().flat_map(|after| match &after.act {
        AfterAct::Submit { params, .. } => &params[..],
        AfterAct::OptOut { .. } | AfterAct::NextStep => &[],
    });
    values.flat_map(|(_, value)| placeholders(value))
}

/// Checks that what follows a call uses what its template has: its variables, and what its flow asks for.
///
/// # Errors
/// The first parameter that it does not have.
pub(super) fn after_fits(plan: &Plan, template: &Template) -> Result<(), Invalid> {
    let known = |name: &str| template.variables.iter().any(|variable| *variable.name == *name);
    if used(plan).all(known) {
        return Ok(());
    }
    let flows: Vec<_> = template.bodies.iter().filter_map(|body| parse(&body.call_flow, Form::Json).ok()).collect();
    let asks = |flow: &Flow, name: &str| matches!(flow.node(name).map(|node| &node.act), Some(Act::Gather { .. }));
    // Whichever of them the recipient's locale takes.
    let asked = |name: &str| !flows.is_empty() && flows.iter().all(|flow| asks(flow, name));
    match used(plan).find(|name| !known(name) && !asked(name)) {
        Some(name) => Err(Invalid::new("call.after", Problem::Undeclared(name.into()))),
        None => Ok(()),
    }
}

/// Checks that a step follows where a call's end is to lead to one.
pub(super) fn leads_somewhere(content: &Content, step_follows: bool) -> Result<(), Invalid> {
    let leads = |after: &After| after.act == AfterAct::NextStep;
    match content.plan().after.iter().position(leads) {
        Some(place) if !step_follows => {
            let what = "has no step to lead to: give the job a `fallback` with one more step";
            Err(Invalid::new("next_step", Problem::Flow(what.into())).at("after", place).within("call"))
        }
        Some(_) | None => Ok(()),
    }
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

fn result(field: &str, raw: i32) -> Result<CallResult, Invalid> {
    use pb::CallResult as Raw;
    match Raw::try_from(raw) {
        Ok(Raw::Unspecified) => Err(Invalid::new(field, Problem::Missing)),
        Ok(Raw::Completed) => Ok(CallResult::Completed),
        Ok(Raw::Busy) => Ok(CallResult::Busy),
        Ok(Raw::NoAnswer) => Ok(CallResult::NoAnswer),
        Ok(Raw::Declined) => Ok(CallResult::Declined),
        Ok(Raw::InvalidNumber) => Ok(CallResult::InvalidNumber),
        Ok(Raw::Unreachable) => Ok(CallResult::Unreachable),
        Ok(Raw::Machine) => Ok(CallResult::Machine),
        Ok(Raw::Network) => Ok(CallResult::Network),
        Err(_) => Err(Invalid::new(field, Problem::UnknownValue(raw))),
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
        after: plan.after.iter().map(after_to_pb).collect(),
    }
}

fn after_to_pb(after: &After) -> pb::AfterCall {
    use pb::after_call::{Act as RawAct, When as RawWhen};
    pb::AfterCall {
        when: Some(match &after.when {
            When::Result(result) => RawWhen::Result(result_to_pb(*result).into()),
            When::Tag(tag) => RawWhen::Tag(tag.to_string()),
        }),
        act: Some(match &after.act {
            AfterAct::Submit { kind, template, params } => RawAct::Submit(pb::SubmitNode {
                template: template.to_string(),
                kind: super::kind_to_pb(*kind).into(),
                params: params.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect(),
            }),
            AfterAct::NextStep => RawAct::NextStep(pb::NextStepNode {}),
            AfterAct::OptOut { everything } => RawAct::OptOut(pb::OptOutNode {
                scope: if *everything { pb::SuppressionScope::Everything } else { pb::SuppressionScope::Brand }.into(),
            }),
        }),
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
