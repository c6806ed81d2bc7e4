//! Templates, what fills them, and jobs that name one.

use std::collections::BTreeSet;

use prost::Message as _;

use super::item::locale;
use super::spec::TEXT_CHARS_MAX;
use super::{Invalid, Lines, Pairs, Problem, check_count, check_text, moment_to_pb, named, required};
use crate::domain::ids::ProviderId;
use crate::domain::job::{Content, Kind};
use crate::domain::template::{
    Approval, BODIES_MAX, BadValues, Body, Form, PROVIDERS_MAX, Template, VARIABLES_MAX, Variable,
};
use crate::domain::text::{self, is_name, placeholders};
use crate::ledger;
use crate::pb;

/// Most characters of what a call says.
const CALL_CHARS_MAX: usize = 1_000;
/// Most characters of a WeCom message.
const WECOM_CHARS_MAX: usize = 4_000;
/// Most characters of a vendor's id for a template.
const TEMPLATE_ID_CHARS_MAX: usize = 128;
/// Most bytes of a template: sixteen locales of a long text each.
const TEMPLATE_BYTES_MAX: usize = 64 * 1024;
/// Most characters of a default value.
const VALUE_CHARS_MAX: usize = 1_000;

/// Shows a stored template.
pub(crate) fn template_to_pb(template: &Template) -> pb::Template {
    let mut shown = ledger::template_to_pb(template);
    for (body, kept) in shown.bodies.iter_mut().zip(&template.bodies) {
        body.call_flow = super::flow::document_to_pb(&kept.call_flow);
    }
    pb::Template { stored_at: Some(moment_to_pb(template.stored_at)), ..shown }
}

/// Checks a template that is to be stored.
///
/// # Errors
/// The first field that is wrong; its path starts at the template.
pub(crate) fn template(raw: Option<pb::Template>) -> Result<Template, Invalid> {
    let raw = raw.ok_or_else(|| Invalid::new("", Problem::Missing))?;
    check_count("variables", raw.variables.len(), VARIABLES_MAX)?;
    check_count("bodies", raw.bodies.len(), BODIES_MAX)?;
    check_count("providers", raw.providers.len(), PROVIDERS_MAX)?;
    let has = raw.encoded_len();
    if has > TEMPLATE_BYTES_MAX {
        return Err(Invalid::new("", Problem::TooManyBytes { has, most: TEMPLATE_BYTES_MAX }));
    }
    named("name", raw.name.clone())?;
    if raw.bodies.is_empty() {
        return Err(Invalid::new("bodies", Problem::Missing));
    }
    let mut raw = pb::Template { version: 0, stored_at: None, ..raw };
    let mut seen = BTreeSet::new();
    for (index, variable) in raw.variables.iter_mut().enumerate() {
        self::variable(variable).map_err(|e| e.at("variables", index))?;
        once(&mut seen, &variable.name, "name").map_err(|e| e.at("variables", index))?;
    }
    let known = std::mem::take(&mut seen);
    let alone = raw.bodies.len() == 1;
    for (index, body) in raw.bodies.iter().enumerate() {
        self::body(body, &known, alone && raw.providers.is_empty()).map_err(|e| e.at("bodies", index))?;
        if !alone {
            required("locale", body.locale.clone(), usize::MAX).map_err(|e| e.at("bodies", index))?;
            once(&mut seen, &body.locale.to_ascii_lowercase(), "locale").map_err(|e| e.at("bodies", index))?;
        }
    }
    seen.clear();
    for (index, at) in raw.providers.iter().enumerate() {
        provider(at).map_err(|e| e.at("providers", index))?;
        once(&mut seen, &at.provider_id, "provider_id").map_err(|e| e.at("providers", index))?;
    }
    let flows: Vec<_> = raw.bodies.iter_mut().map(|body| body.call_flow.take()).collect();
    // All of it was checked above.
    let mut template = ledger::template_from_pb(raw).ok_or_else(|| Invalid::new("", Problem::Missing))?;
    for (body, flow) in template.bodies.iter_mut().zip(flows) {
        if let Some(flow) = flow {
            body.call_flow = super::flow::flow(flow)?.1;
        }
    }
    Ok(template)
}

fn once(seen: &mut BTreeSet<String>, word: &str, field: &str) -> Result<(), Invalid> {
    if seen.insert(word.to_owned()) { Ok(()) } else { Err(Invalid::new(field, Problem::Twice(word.into()))) }
}

/// Checks a variable, and gives it its type and length where it has none.
fn variable(raw: &mut pb::TemplateVariable) -> Result<(), Invalid> {
    if raw.name.is_empty() {
        return Err(Invalid::new("name", Problem::Missing));
    }
    if !is_name(&raw.name) {
        return Err(Invalid::new("name", Problem::ParamName));
    }
    if raw.r#type.is_empty() {
        raw.r#type = Form::Text.as_str().into();
    }
    let words = || Form::ALL.iter().map(|form| form.as_str()).collect();
    let form = Form::from_word(&raw.r#type).ok_or_else(|| Invalid::new("type", Problem::VariableType(words())))?;
    if raw.length_max == 0 {
        raw.length_max = form.length_max();
    }
    if raw.length_max > form.length_max() {
        let most = form.length_max().into();
        return Err(Invalid::new("length_max", Problem::OutOfRange { is: raw.length_max.into(), least: 0, most }));
    }
    check_text("default_value", &raw.default_value, VALUE_CHARS_MAX, Lines::Many)?;
    let variable = Variable { name: "".into(), form, length_max: raw.length_max, default_value: "".into() };
    match raw.default_value.as_str() {
        "" => Ok(()),
        value => variable.check(value).map_err(|bad| Invalid::new("default_value", Problem::Value(bad))),
    }
}

/// Checks what a template says in one locale. `must_speak`: it is useless without a text.
fn body(raw: &pb::TemplateBody, known: &BTreeSet<String>, must_speak: bool) -> Result<(), Invalid> {
    locale("locale", raw.locale.clone())?;
    if let Some(flow) = &raw.call_flow {
        if !raw.call_text.is_empty() {
            return Err(Invalid::new("call_flow", Problem::Excludes("call_text")));
        }
        self::flow(flow, known).map_err(|e| e.within("call_flow"))?;
    }
    let texts = [
        ("sms_text", &raw.sms_text, TEXT_CHARS_MAX),
        ("call_text", &raw.call_text, CALL_CHARS_MAX),
        ("wecom_text", &raw.wecom_text, WECOM_CHARS_MAX),
    ];
    for (field, text, most) in texts {
        check_text(field, text, most, Lines::Many)?;
        if let Some(name) = placeholders(text).find(|name| !known.contains(*name)) {
            return Err(Invalid::new(field, Problem::Undeclared(name.into())));
        }
    }
    if must_speak && raw.call_flow.is_none() && texts.iter().all(|(_, text, _)| text.is_empty()) {
        return Err(Invalid::new("sms_text", Problem::Missing));
    }
    Ok(())
}

/// Checks a flow that a template keeps: every parameter that it uses is a variable of the template.
fn flow(raw: &pb::CallFlow, known: &BTreeSet<String>) -> Result<(), Invalid> {
    let (flow, _) = super::flow::flow(raw.clone())?;
    match flow.variables().into_iter().find(|name| !known.contains(*name)) {
        Some(name) => Err(Invalid::new("nodes", Problem::Undeclared(name.into()))),
        None => Ok(()),
    }
}

fn provider(raw: &pb::ProviderTemplate) -> Result<(), Invalid> {
    super::name::<ProviderId>("provider_id", &raw.provider_id)?;
    required("template_id", raw.template_id.clone(), TEMPLATE_ID_CHARS_MAX)?;
    match pb::ApprovalState::try_from(raw.approval) {
        Ok(pb::ApprovalState::Unspecified) => Err(Invalid::new("approval", Problem::Missing)),
        Ok(_) => Ok(()),
        Err(_) => Err(Invalid::new("approval", Problem::UnknownValue(raw.approval))),
    }
}

/// Says which parameter does not fill a template.
pub(super) fn bad_values(bad: BadValues) -> Invalid {
    let of = |name: &str| format!("params[{name}]");
    match bad {
        BadValues::Missing(name) => Invalid::new("params", Problem::NoParam(name)),
        BadValues::Unknown { name, template, known } => {
            Invalid::new(of(&name), Problem::UnknownParam(template, known.join(", ").into()))
        }
        BadValues::Value(name, bad) => Invalid::new(of(&name), Problem::Value(bad)),
    }
}

/// Returns the content of jobs that name a template, pinned to this version.
///
/// # Errors
/// When the template says nothing by their means.
pub(crate) fn pinned(kind: Kind, content: &Content, template: &Template) -> Result<Content, Invalid> {
    let wanted = match content {
        Content::Template { locale, .. } => locale.clone(),
        Content::Text(_) | Content::Call { .. } => "".into(),
    };
    let field = match kind {
        Kind::Sms => "sms.template",
        Kind::Template => "template.template",
        Kind::Call => "call.flow",
    };
    let body = template.body(&wanted, kind).ok_or_else(|| Invalid::new(field, Problem::SaysNothing(kind)))?;
    if kind == Kind::Call {
        super::call::after_fits(&content.plan(), template)?;
    }
    let signature = text::signature(body.text(Kind::Sms)).filter(|_| kind == Kind::Sms).unwrap_or_default();
    Ok(Content::Template {
        name: template.name.clone(),
        version: template.version,
        locale: wanted,
        signature: signature.into(),
        plan: content.plan(),
    })
}

/// Returns whether vendors have a say in a template, and none of them lets it be used: nobody may carry it.
pub(crate) fn nowhere_approved(template: &Template) -> bool {
    !template.providers.is_empty() && template.providers.iter().all(|at| at.approval != Approval::Approved)
}

/// Returns what a template says, filled in.
///
/// # Errors
/// The first field of the request that is wrong.
pub(crate) fn preview(template: &Template, kind: Kind, raw: pb::PreviewTemplateRequest) -> Result<Box<str>, Invalid> {
    check_count("params", raw.params.len(), VARIABLES_MAX)?;
    let wanted = locale("locale", raw.locale)?;
    let given: Pairs = raw.params.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
    template.check(&given).map_err(bad_values)?;
    let body = template.body(&wanted, kind).ok_or_else(|| Invalid::new("kind", Problem::SaysNothing(kind)))?;
    let values = template.values(&given);
    Ok(match kind {
        // The vendor has the text; what it is given are the values.
        Kind::Template if body.text(kind).is_empty() => {
            values.iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n").into()
        }
        Kind::Sms | Kind::Template | Kind::Call => Body::filled(body, kind, &values),
    })
}
