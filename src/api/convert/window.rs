//! Send windows: of a tenant's rules, and those that a job narrows them to.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::civil::Weekday;

use super::cap::{each, kind, words};
use super::enums::{class, class_to_pb, kind_to_pb, known, on_missed, on_missed_to_pb};
use super::{Invalid, Problem, check_count, name};
use crate::domain::window::{Calendars, HOURS_MAX, Hours, WINDOW_RULES_MAX, Weekdays, WindowRule};
use crate::pb;

/// Most pools in a rule.
const POOLS_MAX: usize = 64;
/// Most characters in a calendar's name.
const CALENDAR_CHARS_MAX: usize = 63;

/// Checks a tenant's window rules. Whether their calendars exist is checked by [`calendars`].
pub(super) fn window_rules(raw: Vec<pb::WindowRule>) -> Result<Vec<Arc<WindowRule>>, Invalid> {
    check_count("windows", raw.len(), WINDOW_RULES_MAX)?;
    let mut names = BTreeSet::new();
    let mut rules: Vec<Arc<WindowRule>> = Vec::with_capacity(raw.len());
    for (index, raw) in raw.into_iter().enumerate() {
        let rule = window_rule(raw).map_err(|invalid| invalid.at("windows", index))?;
        let says = |problem| Err(Invalid::new("name", problem).at("windows", index));
        if !names.insert(rule.name.clone()) {
            return says(Problem::Twice(rule.name.as_str().into()));
        }
        if let Some(other) = rules.iter().find(|known| known.overlaps(&rule) && !known.meets(&rule)) {
            return says(Problem::NeverMeets(other.name.as_str().into()));
        }
        rules.push(Arc::new(rule));
    }
    Ok(rules)
}

fn window_rule(raw: pb::WindowRule) -> Result<WindowRule, Invalid> {
    let filter = raw.filter.unwrap_or_default();
    check_count("pools", raw.pools.len(), POOLS_MAX)?;
    if raw.windows.is_empty() {
        return Err(Invalid::new("windows", Problem::Missing));
    }
    Ok(WindowRule {
        name: name("name", &raw.name)?,
        classes: each("filter.classes", &filter.classes, class)?,
        kinds: each("filter.kinds", &filter.kinds, kind)?,
        topics: words("filter.topics", filter.topics)?,
        senders: words("filter.senders", filter.senders)?,
        pools: raw.pools.iter().map(|pool| name("pools", pool)).collect::<Result<_, _>>()?,
        hours: hours(raw.windows)?,
        on_missed: on_missed("on_missed", raw.on_missed)?,
    })
}

/// Checks the hours under `windows`.
pub(super) fn hours(raw: Vec<pb::SendWindow>) -> Result<Vec<Hours>, Invalid> {
    check_count("windows", raw.len(), HOURS_MAX)?;
    raw.into_iter().enumerate().map(|(index, raw)| one(raw).map_err(|invalid| invalid.at("windows", index))).collect()
}

fn one(raw: pb::SendWindow) -> Result<Hours, Invalid> {
    let days = raw.weekdays.iter().map(|&raw| weekday("weekdays", raw)).collect::<Result<Vec<_>, _>>()?;
    let minute = |field: &str, raw: u32, most: u16| {
        let out_of_range = Problem::OutOfRange { is: raw.into(), least: 0, most: most.into() };
        u16::try_from(raw).ok().filter(|minute| *minute <= most).ok_or_else(|| Invalid::new(field, out_of_range))
    };
    let (from, to) = (minute("from_minute", raw.from_minute, 1439)?, minute("to_minute", raw.to_minute, 1440)?);
    let well_formed =
        raw.holidays.len() <= CALENDAR_CHARS_MAX && raw.holidays.bytes().all(|b| b.is_ascii_alphanumeric());
    if !well_formed {
        return Err(Invalid::new("holidays", Problem::NoCalendar));
    }
    let calendar = (!raw.holidays.is_empty()).then(|| raw.holidays.into_boxed_str());
    Hours::new(Weekdays::new(days).unwrap_or(Weekdays::EVERY), from, to, calendar)
        .map_err(|invalid| Invalid::new("to_minute", invalid))
}

fn weekday(field: &str, raw: i32) -> Result<Weekday, Invalid> {
    match known::<pb::Weekday>(field, raw)? {
        None | Some(pb::Weekday::Unspecified) => Err(Invalid::new(field, Problem::Missing)),
        Some(pb::Weekday::Monday) => Ok(Weekday::Monday),
        Some(pb::Weekday::Tuesday) => Ok(Weekday::Tuesday),
        Some(pb::Weekday::Wednesday) => Ok(Weekday::Wednesday),
        Some(pb::Weekday::Thursday) => Ok(Weekday::Thursday),
        Some(pb::Weekday::Friday) => Ok(Weekday::Friday),
        Some(pb::Weekday::Saturday) => Ok(Weekday::Saturday),
        Some(pb::Weekday::Sunday) => Ok(Weekday::Sunday),
    }
}

/// Checks that the calendars that hours under `windows` keep are among `known`.
///
/// # Errors
/// The first that is not.
pub(crate) fn calendars<'a>(hours: impl IntoIterator<Item = &'a Hours>, known: &Calendars) -> Result<(), Invalid> {
    let unknown = |hours: &Hours| hours.calendar().is_some_and(|name| !known.contains_key(name));
    match hours.into_iter().position(unknown) {
        Some(index) => Err(Invalid::new("holidays", Problem::NoCalendar).at("windows", index)),
        None => Ok(()),
    }
}

/// Shows a window rule.
pub(super) fn window_rule_to_pb(rule: &WindowRule) -> pb::WindowRule {
    let owned = |words: &[Box<str>]| words.iter().map(|word| word.as_ref().into()).collect();
    pb::WindowRule {
        name: rule.name.as_str().into(),
        filter: Some(pb::RuleFilter {
            classes: rule.classes.iter().map(|&class| class_to_pb(class).into()).collect(),
            kinds: rule.kinds.iter().map(|&kind| kind_to_pb(kind).into()).collect(),
            topics: owned(&rule.topics),
            senders: owned(&rule.senders),
        }),
        windows: rule.hours.iter().map(hours_to_pb).collect(),
        on_missed: on_missed_to_pb(rule.on_missed).into(),
        pools: rule.pools.iter().map(|pool| pool.as_str().into()).collect(),
    }
}

/// Shows hours.
pub(super) fn hours_to_pb(hours: &Hours) -> pb::SendWindow {
    let day = |day: Weekday| i32::from(day.to_monday_one_offset());
    pb::SendWindow {
        weekdays: if hours.days() == Weekdays::EVERY { vec![] } else { hours.days().iter().map(day).collect() },
        from_minute: hours.from().into(),
        to_minute: hours.to().into(),
        holidays: hours.calendar().unwrap_or_default().into(),
    }
}
