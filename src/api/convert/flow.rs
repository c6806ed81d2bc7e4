//! Call flows of requests: into the document that is checked and stored, and back.

use std::collections::BTreeMap;

use prost_types::Duration as PbDuration;
use serde_json::{Map, Value, json};

use super::{Invalid, Problem, duration, duration_to_pb};
use crate::channel::call::flow::{Act, Flow, Form, Node, OptOut, node_field, parse};
use crate::pb;
use crate::pb::flow_node::Act as Raw;

/// Checks a flow; returns it with its document.
///
/// # Errors
/// What is wrong with it; the field is within the flow.
pub(crate) fn flow(raw: pb::CallFlow) -> Result<(Flow, Box<str>), Invalid> {
    let text = document(raw)?.to_string();
    let flow = parse(&text, Form::Json).map_err(|problems| match problems.into_iter().next() {
        Some(problem) => Invalid::new(problem.field, Problem::Flow(problem.what.into())),
        None => Invalid::new("", Problem::Missing),
    })?;
    Ok((flow, text.into()))
}

fn document(raw: pb::CallFlow) -> Result<Value, Invalid> {
    let mut nodes = Map::new();
    for (name, node) in raw.nodes {
        let within = node_field(&name);
        nodes.insert(name, written(node).map_err(|e| e.within(&within))?);
    }
    let mut document = json!({ "start": raw.start, "nodes": nodes, "locale": raw.locale });
    if let Some(longest) = length("talk_max", raw.talk_max)? {
        document["talk_max"] = longest;
    }
    Ok(document)
}

fn written(node: pb::FlowNode) -> Result<Value, Invalid> {
    let mut out = Map::new();
    if !node.next.is_empty() {
        out.insert("next".into(), node.next.into());
    }
    let Some(act) = node.act else { return Ok(out.into()) };
    let (word, value) = match act {
        Raw::Say(say) => ("say", given([("text", say.text.into()), ("repeats", unless_zero(say.repeats))])),
        Raw::Play(play) => ("play", given([("media", play.media.into()), ("repeats", unless_zero(play.repeats))])),
        Raw::Gather(gather) => {
            let wait = length("gather.wait", gather.wait)?.unwrap_or_default();
            let digits = unless_zero(gather.digits_max);
            let fields = [("menu", json!(gather.menu)), ("otherwise", named(gather.otherwise)), ("digits_max", digits)];
            let more = [("wait", wait), ("retries", unless_zero(gather.retries))];
            ("gather", given(fields.into_iter().chain(more)))
        }
        Raw::Branch(branch) => {
            let fields = [("variable", branch.variable.into()), ("cases", json!(branch.cases))];
            ("branch", given(fields.into_iter().chain([("otherwise", named(branch.otherwise))])))
        }
        Raw::Tag(tag) => ("tag", tag.tag.into()),
        Raw::OptOut(opt_out) => ("opt_out", scope(opt_out.scope)?.into()),
        Raw::Transfer(transfer) => ("transfer", transfer.target.into()),
        Raw::Record(record) => {
            ("record", given([("length_max", length("record.length_max", record.length_max)?.unwrap_or_default())]))
        }
        Raw::Submit(submit) => {
            let kind = match pb::Kind::try_from(submit.kind) {
                Ok(pb::Kind::Sms) => "sms",
                Ok(pb::Kind::Template) => "template",
                Ok(pb::Kind::Call) => "call",
                Ok(pb::Kind::Unspecified) => return Err(Invalid::new("submit.kind", Problem::Missing)),
                Err(_) => return Err(Invalid::new("submit.kind", Problem::UnknownValue(submit.kind))),
            };
            let fields =
                [("kind", kind.into()), ("template", submit.template.into()), ("params", json!(submit.params))];
            ("submit", given(fields))
        }
        Raw::HangUp(_) => ("hang_up", json!({})),
    };
    out.insert(word.into(), value);
    Ok(out.into())
}

/// Returns what of these is given.
fn given(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn unless_zero(number: u32) -> Value {
    if number == 0 { Value::Null } else { number.into() }
}

fn named(name: String) -> Value {
    if name.is_empty() { Value::Null } else { name.into() }
}

fn length(field: &str, length: Option<PbDuration>) -> Result<Option<Value>, Invalid> {
    let Some(length) = length else { return Ok(None) };
    Ok(Some(humantime::format_duration(duration(field, length)?).to_string().into()))
}

pub(super) fn scope(scope: i32) -> Result<&'static str, Invalid> {
    match pb::SuppressionScope::try_from(scope) {
        Ok(pb::SuppressionScope::Unspecified | pb::SuppressionScope::Brand) => Ok(OptOut::Brand.as_str()),
        Ok(pb::SuppressionScope::Everything) => Ok(OptOut::Everything.as_str()),
        Ok(_) => Err(Invalid::new("opt_out.scope", Problem::Flow("is `brand` or `everything` in a flow".into()))),
        Err(_) => Err(Invalid::new("opt_out.scope", Problem::UnknownValue(scope))),
    }
}

/// Shows a stored flow; one that does not read is shown as none.
pub(super) fn document_to_pb(document: &str) -> Option<pb::CallFlow> {
    parse(document, Form::Json).ok().as_ref().map(flow_to_pb)
}

/// Shows a flow.
pub(crate) fn flow_to_pb(flow: &Flow) -> pb::CallFlow {
    pb::CallFlow {
        start: flow.start().into(),
        nodes: flow.nodes().map(|(name, node)| (name.into(), node_to_pb(node))).collect(),
        talk_max: Some(duration_to_pb(flow.talk_max())),
        locale: flow.locale().into(),
    }
}

fn owned(words: &BTreeMap<Box<str>, Box<str>>) -> BTreeMap<String, String> {
    words.iter().map(|(word, meaning)| (word.to_string(), meaning.to_string())).collect()
}

fn node_to_pb(node: &Node) -> pb::FlowNode {
    let name = |name: &Option<Box<str>>| name.as_deref().unwrap_or_default().to_owned();
    let act = match &node.act {
        Act::Say { text, repeats } => Raw::Say(pb::SayNode { text: text.to_string(), repeats: (*repeats).into() }),
        Act::Play { media, repeats } => {
            Raw::Play(pb::PlayNode { media: media.to_string(), repeats: (*repeats).into() })
        }
        Act::Gather { menu, otherwise, digits_max, wait, retries } => Raw::Gather(pb::GatherNode {
            menu: owned(menu),
            otherwise: name(otherwise),
            digits_max: (*digits_max).into(),
            wait: Some(duration_to_pb(*wait)),
            retries: (*retries).into(),
        }),
        Act::Branch { variable, cases, otherwise } => Raw::Branch(pb::BranchNode {
            variable: variable.to_string(),
            cases: owned(cases),
            otherwise: name(otherwise),
        }),
        Act::Tag(tag) => Raw::Tag(pb::TagNode { tag: tag.to_string() }),
        Act::OptOut(scope) => Raw::OptOut(pb::OptOutNode {
            scope: match scope {
                OptOut::Brand => pb::SuppressionScope::Brand,
                OptOut::Everything => pb::SuppressionScope::Everything,
            }
            .into(),
        }),
        Act::Transfer(target) => Raw::Transfer(pb::TransferNode { target: target.to_string() }),
        Act::Record(longest) => Raw::Record(pb::RecordNode { length_max: Some(duration_to_pb(*longest)) }),
        Act::Submit { kind, template, params } => Raw::Submit(pb::SubmitNode {
            template: template.to_string(),
            kind: super::kind_to_pb(*kind).into(),
            params: owned(params),
        }),
        Act::HangUp => Raw::HangUp(pb::HangUpNode {}),
    };
    pb::FlowNode { act: Some(act), next: name(&node.next) }
}
