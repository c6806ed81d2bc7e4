//! What the jobs of a request have in common.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::call::leads_somewhere;
use super::enums::class;
use super::item::{WORD_CHARS_MAX, locale};
use super::time::{When, schedule};
use super::{Invalid, Lines, Pairs, Problem, check_count, check_text, not_yet, text};
use crate::domain::chain::{AFTER, AFTER_RANGE, STEPS_MAX};
use crate::domain::job::{Class, Content, Kind, Origin};
use crate::domain::template::Template;
use crate::domain::text::placeholders;
use crate::domain::time::UnixMicros;
use crate::pb;

/// Most characters in an SMS text: what fits 30 segments of UCS-2.
pub(super) const TEXT_CHARS_MAX: usize = 2_000;
/// Most characters in a topic or sender.
pub(super) const LABEL_CHARS_MAX: usize = 64;
/// Most characters in a label's value.
const LABEL_VALUE_CHARS_MAX: usize = 256;
/// Most labels of a job.
const LABELS_MAX: usize = 16;

/// A checked job spec.
#[derive(Clone)]
pub(crate) struct Spec {
    /// By which means.
    pub(crate) kind: Kind,
    /// How much it matters.
    pub(crate) class: Class,
    /// What it says.
    pub(crate) content: Content,
    /// The parameters that every item must have.
    pub(crate) placeholders: Vec<Box<str>>,
    /// The stored template that it names, once it is found: it says which parameters items have.
    pub(crate) template: Option<Arc<Template>>,
    /// What follows where it does not get through.
    pub(crate) fallback: Vec<Fallback>,
    /// The sender shown.
    pub(crate) sender: Box<str>,
    /// What it is about.
    pub(crate) topic: Box<str>,
    /// The tenant's labels.
    pub(crate) labels: Vec<(Box<str>, Box<str>)>,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// -100 to 100.
    pub(crate) priority: i8,
    /// When it may be sent.
    pub(crate) when: When,
    /// As of when it was checked.
    pub(crate) now: UnixMicros,
}

/// A checked step of a fallback chain.
#[derive(Clone)]
pub(crate) struct Fallback {
    /// By which means.
    pub(crate) kind: Kind,
    /// What it says.
    pub(crate) content: Content,
    /// The parameters that every item must have.
    pub(crate) placeholders: Vec<Box<str>>,
    /// The stored template that it names, once it is found.
    pub(crate) template: Option<Arc<Template>>,
    /// The sender shown.
    pub(crate) sender: Box<str>,
    /// How long the job before it may take to be delivered.
    pub(crate) after: Duration,
}

/// Checks a job spec as of `now`.
///
/// # Errors
/// The first field that is wrong; its path starts at the spec.
pub(crate) fn spec(raw: Option<pb::JobSpec>, now: UnixMicros) -> Result<Spec, Invalid> {
    let raw = raw.ok_or_else(|| Invalid::new("", Problem::Missing))?;
    let (kind, content, placeholders) = content(raw.content)?;
    leads_somewhere(&content, !raw.fallback.is_empty())?;
    not_yet("links", raw.links.is_empty(), "links need link domains, which are")?;
    not_yet("require_link", !raw.require_link, "links need link domains, which are")?;
    Ok(Spec {
        kind,
        class: class("class", raw.class)?,
        content,
        placeholders,
        template: None,
        fallback: fallback(raw.fallback)?,
        sender: text("sender", raw.sender, LABEL_CHARS_MAX)?,
        topic: text("topic", raw.topic, LABEL_CHARS_MAX)?,
        labels: labels(raw.labels)?,
        origin: raw.origin.map_or_else(|| Ok(Origin::default()), origin).map_err(|e| e.within("origin"))?,
        priority: priority(raw.priority)?,
        when: schedule(raw.schedule, now).map_err(|e| e.within("schedule"))?,
        now,
    })
}

fn fallback(raw: Vec<pb::FallbackStep>) -> Result<Vec<Fallback>, Invalid> {
    check_count("fallback", raw.len(), STEPS_MAX)?;
    let last = raw.len().saturating_sub(1);
    let step = |(index, raw)| {
        let step = step(raw).and_then(|step| leads_somewhere(&step.content, index < last).map(|()| step));
        step.map_err(|e| e.at("fallback", index))
    };
    raw.into_iter().enumerate().map(step).collect()
}

fn step(raw: pb::FallbackStep) -> Result<Fallback, Invalid> {
    use pb::fallback_step::Content as Raw;
    use pb::job_spec::Content as Same;
    let said = raw.content.map(|said| match said {
        Raw::Sms(sms) => Same::Sms(sms),
        Raw::Template(template) => Same::Template(template),
        Raw::Call(call) => Same::Call(call),
    });
    let (kind, content, placeholders) = content(said)?;
    let after = raw.after.map_or(Ok(AFTER), |after| super::duration("after", after))?;
    let (least, most) = AFTER_RANGE;
    if !(least..=most).contains(&after) {
        let secs = |length: Duration| i64::try_from(length.as_secs()).unwrap_or(i64::MAX);
        let problem = Problem::OutOfRange { is: secs(after), least: secs(least), most: secs(most) };
        return Err(Invalid::new("after", problem));
    }
    let sender = text("sender", raw.sender, LABEL_CHARS_MAX)?;
    Ok(Fallback { kind, content, placeholders, template: None, sender, after })
}

type Parsed = (Kind, Content, Vec<Box<str>>);

fn content(raw: Option<pb::job_spec::Content>) -> Result<Parsed, Invalid> {
    use pb::job_spec::Content as Raw;
    match raw {
        None => Err(Invalid::new("content", Problem::Missing)),
        Some(Raw::Sms(raw)) => sms(raw).map_err(|e| e.within("sms")),
        Some(Raw::Template(raw)) => template(raw).map_err(|e| e.within("template")),
        Some(Raw::Call(raw)) => call(raw).map_err(|e| e.within("call")),
    }
}

fn sms(raw: pb::SmsContent) -> Result<Parsed, Invalid> {
    if !raw.template.is_empty() {
        if !raw.text.is_empty() {
            return Err(Invalid::new("text", Problem::Excludes("template")));
        }
        return Ok((Kind::Sms, stored(named("template", raw.template)?, "".into()), vec![]));
    }
    if raw.text.is_empty() {
        return Err(Invalid::new("text", Problem::Missing));
    }
    check_text("text", &raw.text, TEXT_CHARS_MAX, Lines::Many)?;
    let mut names: Vec<Box<str>> = placeholders(&raw.text).map(Into::into).collect();
    names.sort_unstable();
    names.dedup();
    Ok((Kind::Sms, Content::Text(raw.text.into_boxed_str()), names))
}

fn template(raw: pb::TemplateContent) -> Result<Parsed, Invalid> {
    not_yet("target", raw.target.is_empty(), "a target of its own for a template message is")?;
    let name = named("template", raw.template)?;
    Ok((Kind::Template, stored(name, locale("locale", raw.locale)?), vec![]))
}

/// Returns a template that is still to be looked up.
fn stored(name: Box<str>, locale: Box<str>) -> Content {
    Content::Template { name, version: 0, locale, signature: "".into(), plan: Arc::default() }
}

fn call(raw: pb::CallContent) -> Result<Parsed, Invalid> {
    let (content, placeholders) = super::call::call(raw)?;
    Ok((Kind::Call, content, placeholders))
}

/// Checks a template's or flow's name: it has the form of every other name.
pub(crate) fn named(field: &str, raw: String) -> Result<Box<str>, Invalid> {
    super::name::<crate::domain::ids::RuleName>(field, &raw)?;
    Ok(raw.into_boxed_str())
}

pub(super) fn labels(raw: BTreeMap<String, String>) -> Result<Pairs, Invalid> {
    check_count("labels", raw.len(), LABELS_MAX)?;
    raw.into_iter()
        .map(|(key, value)| {
            let key = super::required("labels", key, LABEL_CHARS_MAX)?;
            Ok((key, text("labels", value, LABEL_VALUE_CHARS_MAX)?))
        })
        .collect()
}

fn origin(raw: pb::Origin) -> Result<Origin, Invalid> {
    Ok(Origin {
        campaign_id: text("campaign_id", raw.campaign_id, WORD_CHARS_MAX)?,
        journey_id: text("journey_id", raw.journey_id, WORD_CHARS_MAX)?,
        version: text("version", raw.version, WORD_CHARS_MAX)?,
        run_id: text("run_id", raw.run_id, WORD_CHARS_MAX)?,
        step: text("step", raw.step, WORD_CHARS_MAX)?,
        visit: raw.visit,
        variant: text("variant", raw.variant, WORD_CHARS_MAX)?,
        touch_id: text("touch_id", raw.touch_id, WORD_CHARS_MAX)?,
    })
}

fn priority(raw: i32) -> Result<i8, Invalid> {
    let out_of_range = || Invalid::new("priority", Problem::OutOfRange { is: raw.into(), least: -100, most: 100 });
    i8::try_from(raw).ok().filter(|priority| (-100..=100).contains(priority)).ok_or_else(out_of_range)
}
