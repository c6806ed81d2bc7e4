//! Caps: what the API says and what rules are.

use std::collections::BTreeSet;
use std::time::Duration;

use super::enums::{self, class, class_to_pb, kind_to_pb, known, on_limit, on_limit_to_pb};
use super::spec::LABEL_CHARS_MAX;
use super::time::duration_to_pb;
use super::{Invalid, Problem, check_count, duration, name, required};
use crate::domain::cap::{
    BadCap, CAP_RULES_MAX, CalendarUnit, CapRule, ClockUnit, Count, Mode, Per, Unit, Window, presets,
};
use crate::domain::job::Kind;
use crate::pb;

/// Most topics or senders in a filter.
const FILTER_WORDS_MAX: usize = 64;

/// Checks the caps of a tenant; presets are replaced by their rules.
pub(super) fn caps(raw: Vec<pb::CapRule>) -> Result<Vec<CapRule>, Invalid> {
    check_count("caps", raw.len(), CAP_RULES_MAX)?;
    let mut names = BTreeSet::new();
    let mut caps = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let rules = if raw.preset.is_empty() { cap(raw).map(|rule| vec![rule]) } else { preset(raw) };
        for rule in rules.map_err(|invalid| invalid.at("caps", index))? {
            if !names.insert(rule.name.clone()) {
                return Err(Invalid::new("name", Problem::Twice(rule.name.as_str().into())).at("caps", index));
            }
            caps.push(rule);
        }
    }
    check_count("caps", caps.len(), CAP_RULES_MAX)?;
    Ok(caps)
}

fn cap(raw: pb::CapRule) -> Result<CapRule, Invalid> {
    let name = name("name", &raw.name)?;
    let offset = match raw.window.as_ref() {
        Some(window) => offset(window)?,
        None => 0,
    };
    let filter = raw.filter.unwrap_or_default();
    let rule = CapRule {
        classes: each("filter.classes", &filter.classes, class)?,
        kinds: each("filter.kinds", &filter.kinds, kind)?,
        topics: words("filter.topics", filter.topics)?,
        senders: words("filter.senders", filter.senders)?,
        on_limit: on_limit("on_limit", raw.on_limit)?,
        per: match known("per", raw.per)? {
            None | Some(pb::CapPer::Unspecified | pb::CapPer::Recipient) => Per::Recipient,
            Some(pb::CapPer::RecipientTopic) => Per::RecipientTopic,
            Some(pb::CapPer::RecipientSender) => Per::RecipientSender,
            Some(pb::CapPer::Sender) => Per::Sender,
            Some(pb::CapPer::RecipientCampaign) => Per::RecipientCampaign,
        },
        unit: match known("unit", raw.unit)? {
            None | Some(pb::CapUnit::Unspecified | pb::CapUnit::Jobs) => Unit::Jobs,
            Some(pb::CapUnit::Segments) => Unit::Segments,
        },
        count: match known("count", raw.count)? {
            None | Some(pb::CapCount::Unspecified | pb::CapCount::Submitted) => Count::Submitted,
            Some(pb::CapCount::Delivered) => Count::Delivered,
            Some(pb::CapCount::Attempted) => Count::Attempted,
        },
        reserve: raw.reserve,
        mode: mode(raw.mode)?,
        ..CapRule::new(name, raw.limit, window(raw.window, offset)?)
    };
    rule.check().map_err(bad)?;
    Ok(rule)
}

/// Says that the name of a tenant's cap is one of the settings'.
pub(crate) fn name_taken(cap: &CapRule, index: usize) -> Invalid {
    let name = cap.name.as_str().into();
    Invalid::new("name", Problem::HouseCap(name)).at("caps", index).within("tenant")
}

fn bad(bad: BadCap) -> Invalid {
    Invalid::new(bad.field(), Problem::Cap(bad))
}

/// Returns the rules of a preset, narrowed to topics and senders.
fn preset(raw: pb::CapRule) -> Result<Vec<CapRule>, Invalid> {
    let pb::CapRule { preset, filter, mode: raw_mode, .. } = raw.clone();
    let filter = filter.unwrap_or_default();
    let alone = pb::CapRule {
        preset: preset.clone(),
        mode: raw_mode,
        filter: raw.filter.as_ref().map(|filter| pb::RuleFilter { classes: vec![], kinds: vec![], ..filter.clone() }),
        ..pb::CapRule::default()
    };
    if raw != alone {
        let rest = "anything but mode, filter.topics and filter.senders";
        return Err(Invalid::new("preset", Problem::Excludes(rest)));
    }
    let rules = presets::rules(&preset).ok_or_else(|| Invalid::new("preset", Problem::Preset(presets::names())))?;
    let (mode, topics) = (mode(raw_mode)?, words("filter.topics", filter.topics)?);
    let senders = words("filter.senders", filter.senders)?;
    let narrowed = |rule| CapRule { mode, topics: topics.clone(), senders: senders.clone(), ..rule };
    Ok(rules.into_iter().map(narrowed).collect())
}

fn mode(raw: i32) -> Result<Mode, Invalid> {
    Ok(match known("mode", raw)? {
        None | Some(pb::RuleMode::Unspecified | pb::RuleMode::Enforce) => Mode::Enforce,
        Some(pb::RuleMode::Shadow) => Mode::Shadow,
    })
}

fn offset(window: &pb::CapWindow) -> Result<i16, Invalid> {
    let field = "window.clock_offset_minutes";
    match window.window {
        Some(pb::cap_window::Window::Clock(_)) => i16::try_from(window.clock_offset_minutes).map_err(|_| {
            let is = window.clock_offset_minutes.into();
            Invalid::new(field, Problem::OutOfRange { is, least: -840, most: 840 })
        }),
        _ if window.clock_offset_minutes != 0 => {
            Err(Invalid::new(field, Problem::Excludes("a window other than clock")))
        }
        _ => Ok(0),
    }
}

fn window(raw: Option<pb::CapWindow>, offset: i16) -> Result<Window, Invalid> {
    use pb::cap_window::Window as Raw;
    let missing = |field: &str| Invalid::new(field, Problem::Missing);
    Ok(match raw.and_then(|raw| raw.window).ok_or_else(|| missing("window"))? {
        Raw::Rolling(length) => Window::Rolling(whole("window.rolling", length)?),
        Raw::FromFirst(length) => Window::FromFirst(whole("window.from_first", length)?),
        Raw::Gap(length) => Window::Gap(whole("window.gap", length)?),
        Raw::Bucket(bucket) => {
            let refill = bucket.refill.ok_or_else(|| missing("window.bucket.refill"))?;
            Window::Bucket(whole("window.bucket.refill", refill)?)
        }
        Raw::Calendar(unit) => match known("window.calendar", unit)? {
            None | Some(pb::CalendarUnit::Unspecified) => return Err(missing("window.calendar")),
            Some(pb::CalendarUnit::Day) => Window::Calendar(CalendarUnit::Day),
            Some(pb::CalendarUnit::Week) => Window::Calendar(CalendarUnit::Week),
            Some(pb::CalendarUnit::Month) => Window::Calendar(CalendarUnit::Month),
        },
        Raw::Clock(unit) => match known("window.clock", unit)? {
            None | Some(pb::ClockUnit::Unspecified) => return Err(missing("window.clock")),
            Some(pb::ClockUnit::Minute) => Window::Clock(ClockUnit::Minute, offset),
            Some(pb::ClockUnit::Hour) => Window::Clock(ClockUnit::Hour, offset),
        },
    })
}

/// Reads the length of a window, which must be possible.
fn whole(field: &str, length: prost_types::Duration) -> Result<Duration, Invalid> {
    let length = duration(field, length)?;
    match Window::Rolling(length).check() {
        Ok(()) => Ok(length),
        Err(bad) => Err(Invalid::new(field, Problem::Cap(bad))),
    }
}

pub(super) fn kind(field: &str, raw: i32) -> Result<Kind, Invalid> {
    enums::kind_filter(field, raw)?.ok_or_else(|| Invalid::new(field, Problem::Missing))
}

pub(super) fn each<T>(field: &str, raw: &[i32], parse: fn(&str, i32) -> Result<T, Invalid>) -> Result<Vec<T>, Invalid> {
    check_count(field, raw.len(), 8)?;
    raw.iter().map(|&raw| parse(field, raw)).collect()
}

pub(super) fn words(field: &str, raw: Vec<String>) -> Result<Vec<Box<str>>, Invalid> {
    check_count(field, raw.len(), FILTER_WORDS_MAX)?;
    raw.into_iter().map(|word| required(field, word, LABEL_CHARS_MAX)).collect()
}

/// Shows a rule.
pub(super) fn cap_to_pb(cap: &CapRule) -> pb::CapRule {
    let owned = |words: &[Box<str>]| words.iter().map(|word| word.as_ref().into()).collect();
    pb::CapRule {
        name: cap.name.as_str().into(),
        filter: Some(pb::RuleFilter {
            classes: cap.classes.iter().map(|&class| class_to_pb(class).into()).collect(),
            kinds: cap.kinds.iter().map(|&kind| kind_to_pb(kind).into()).collect(),
            topics: owned(&cap.topics),
            senders: owned(&cap.senders),
        }),
        limit: cap.limit,
        window: Some(window_to_pb(cap.window)),
        on_limit: on_limit_to_pb(cap.on_limit).into(),
        per: match cap.per {
            Per::Recipient => pb::CapPer::Recipient,
            Per::RecipientTopic => pb::CapPer::RecipientTopic,
            Per::RecipientSender => pb::CapPer::RecipientSender,
            Per::Sender => pb::CapPer::Sender,
            Per::RecipientCampaign => pb::CapPer::RecipientCampaign,
        }
        .into(),
        unit: match cap.unit {
            Unit::Jobs => pb::CapUnit::Jobs,
            Unit::Segments => pb::CapUnit::Segments,
        }
        .into(),
        count: match cap.count {
            Count::Submitted => pb::CapCount::Submitted,
            Count::Delivered => pb::CapCount::Delivered,
            Count::Attempted => pb::CapCount::Attempted,
        }
        .into(),
        reserve: cap.reserve,
        mode: match cap.mode {
            Mode::Enforce => pb::RuleMode::Enforce,
            Mode::Shadow => pb::RuleMode::Shadow,
        }
        .into(),
        preset: String::new(),
    }
}

/// Reads a window that was shown.
pub(crate) fn window_from_pb(raw: &pb::CapWindow) -> Option<Window> {
    window(Some(*raw), offset(raw).ok()?).ok()
}

/// Shows a window.
pub(crate) fn window_to_pb(window: Window) -> pb::CapWindow {
    use pb::cap_window::Window as Raw;
    let mut clock_offset_minutes = 0;
    let window = match window {
        Window::Rolling(length) => Raw::Rolling(duration_to_pb(length)),
        Window::FromFirst(length) => Raw::FromFirst(duration_to_pb(length)),
        Window::Gap(length) => Raw::Gap(duration_to_pb(length)),
        Window::Bucket(refill) => Raw::Bucket(pb::BucketWindow { refill: Some(duration_to_pb(refill)) }),
        Window::Calendar(unit) => Raw::Calendar(
            match unit {
                CalendarUnit::Day => pb::CalendarUnit::Day,
                CalendarUnit::Week => pb::CalendarUnit::Week,
                CalendarUnit::Month => pb::CalendarUnit::Month,
            }
            .into(),
        ),
        Window::Clock(unit, offset) => {
            clock_offset_minutes = offset.into();
            let unit = match unit {
                ClockUnit::Minute => pb::ClockUnit::Minute,
                ClockUnit::Hour => pb::ClockUnit::Hour,
            };
            Raw::Clock(unit.into())
        }
    };
    pb::CapWindow { window: Some(window), clock_offset_minutes }
}
