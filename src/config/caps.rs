//! Caps: `[[cap]]` in the settings, and how windows are written here and on the command line.

use std::time::Duration;

use super::check::{invalid, parsed, required, word};
use super::error::{ConfigError, Contradiction, Reason};
use super::raw::RawCap;
use crate::domain::cap::{
    CAP_RULES_MAX, CalendarUnit, CapRule, ClockUnit, Count, Mode, OnLimit, Per, Unit, Window, presets,
};
use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};

/// Most characters in a topic or sender.
const WORD_CHARS_MAX: usize = 64;

/// A cap of the settings, which no tenant can change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HouseCap {
    /// Whose jobs it counts; `None`: those of every tenant, each by itself.
    pub tenant: Option<TenantId>,
    /// The rule.
    pub rule: CapRule,
}

/// Checks the caps; presets are replaced by their rules.
pub(super) fn caps(raw: &[RawCap]) -> Result<Vec<HouseCap>, ConfigError> {
    let mut caps: Vec<HouseCap> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let key = |field: &str| format!("cap[{index}].{field}");
        let tenant: Option<TenantId> = match &*raw.tenant {
            "" => None,
            name => Some(parsed(&key("tenant"), name)?),
        };
        for rule in rules(raw, &key)? {
            let meets = |known: &&HouseCap| known.tenant.is_none() || tenant.is_none() || known.tenant == tenant;
            if caps.iter().filter(meets).any(|known| known.rule.name == rule.name) {
                return Err(Contradiction::SameCap(rule.name.as_str().into()).into());
            }
            caps.push(HouseCap { tenant: tenant.clone(), rule });
        }
    }
    for tenant in caps.iter().map(|cap| &cap.tenant) {
        if caps.iter().filter(|cap| cap.tenant.is_none() || cap.tenant == *tenant).count() > CAP_RULES_MAX {
            return Err(Contradiction::TooManyCaps(CAP_RULES_MAX).into());
        }
    }
    Ok(caps)
}

fn rules(raw: &RawCap, key: &impl Fn(&str) -> String) -> Result<Vec<CapRule>, ConfigError> {
    let mode = word(&key("mode"), &raw.mode, Mode::ALL, Mode::as_str)?;
    let (topics, senders) = (words(&key("topics"), &raw.topics)?, words(&key("senders"), &raw.senders)?);
    if !raw.preset.is_empty() {
        let known = || Reason::Word { found: raw.preset.clone(), allowed: presets::names() };
        let rules = presets::rules(&raw.preset).ok_or_else(|| invalid(&key("preset"), known()))?;
        for (field, given) in
            [("name", !raw.name.is_empty()), ("limit", raw.limit >= 0), ("window", !raw.window.is_empty())]
        {
            if given {
                return Err(invalid(&key(field), Reason::WithPreset));
            }
        }
        let narrowed = |rule| CapRule { mode, topics: topics.clone(), senders: senders.clone(), ..rule };
        return Ok(rules.into_iter().map(narrowed).collect());
    }
    let limit = match raw.limit {
        ..0 => return Err(invalid(&key("limit"), Reason::Missing)),
        limit => u32::try_from(limit).unwrap_or(u32::MAX),
    };
    let written = required(&key("window"), &raw.window)?;
    let window = window(written).ok_or_else(|| invalid(&key("window"), Reason::CapWindow))?;
    let of = |field: &str, words: &[String]| words.iter().map(|word| (key(field), word.clone())).collect::<Vec<_>>();
    let classes = of("classes", &raw.classes);
    let kinds = of("kinds", &raw.kinds);
    let rule = CapRule {
        classes: classes
            .iter()
            .map(|(key, text)| word(key, text, Class::ALL, Class::as_str))
            .collect::<Result<_, _>>()?,
        kinds: kinds.iter().map(|(key, text)| word(key, text, Kind::ALL, Kind::as_str)).collect::<Result<_, _>>()?,
        topics,
        senders,
        on_limit: word(&key("on_limit"), &raw.on_limit, OnLimit::ALL, OnLimit::as_str)?,
        per: word(&key("per"), &raw.per, Per::ALL, Per::as_str)?,
        unit: word(&key("unit"), &raw.unit, Unit::ALL, Unit::as_str)?,
        count: word(&key("count"), &raw.count, Count::ALL, Count::as_str)?,
        reserve: u32::try_from(raw.reserve)
            .map_err(|_| invalid(&key("reserve"), Reason::Range { min: 0, max: u64::from(limit) }))?,
        mode,
        ..CapRule::new(parsed(&key("name"), &raw.name)?, limit, window)
    };
    rule.check().map_err(|bad| invalid(&key(bad.field()), Reason::Cap(bad)))?;
    Ok(vec![rule])
}

pub(super) fn words(key: &str, words: &[String]) -> Result<Vec<Box<str>>, ConfigError> {
    let too_long = |word: &&String| word.is_empty() || word.chars().count() > WORD_CHARS_MAX;
    match words.iter().find(too_long) {
        Some(_) => Err(invalid(key, Reason::Words(WORD_CHARS_MAX))),
        None => Ok(words.iter().map(|word| word.as_str().into()).collect()),
    }
}

/// Reads a window such as `24h`, `calendar day`, `clock hour +08:00`, `from_first 24h`, `gap 4h` or `bucket 8h`.
pub fn window(text: &str) -> Option<Window> {
    let mut words = text.split_whitespace();
    let (form, detail, offset) = (words.next()?, words.next(), words.next());
    if words.next().is_some() || offset.is_some() && form != "clock" {
        return None;
    }
    let length = |text: &str| humantime::parse_duration(text).ok();
    Some(match (form, detail) {
        ("calendar", Some(unit)) => Window::Calendar(CalendarUnit::from_word(unit)?),
        ("clock", Some(unit)) => Window::Clock(ClockUnit::from_word(unit)?, offset.map_or(Some(0), minutes_east)?),
        ("from_first", Some(of)) => Window::FromFirst(length(of)?),
        ("gap", Some(of)) => Window::Gap(length(of)?),
        ("bucket", Some(of)) => Window::Bucket(length(of)?),
        ("rolling", Some(of)) | (of, None) => Window::Rolling(length(of)?),
        (_, Some(_)) => return None,
    })
}

/// Writes a window as [`window`] reads it.
pub fn window_text(window: Window) -> String {
    let length = |length: Duration| humantime::format_duration(length).to_string().replace(' ', "");
    match window {
        Window::Rolling(of) => length(of),
        Window::Calendar(unit) => format!("calendar {unit}"),
        Window::Clock(unit, 0) => format!("clock {unit}"),
        Window::Clock(unit, offset) => {
            let sign = if offset < 0 { '-' } else { '+' };
            format!("clock {unit} {sign}{:02}:{:02}", offset.abs() / 60, offset.abs() % 60)
        }
        Window::FromFirst(of) => format!("from_first {}", length(of)),
        Window::Gap(of) => format!("gap {}", length(of)),
        Window::Bucket(refill) => format!("bucket {}", length(refill)),
    }
}

/// Reads an offset from UTC such as `+08:00` in minutes.
fn minutes_east(text: &str) -> Option<i16> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (u8, u8) = (hours.parse().ok()?, minutes.parse().ok()?);
    (minutes < 60).then(|| sign * (i16::from(hours) * 60 + i16::from(minutes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_read_as_they_are_written() {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let table = [
            ("1day", Window::Rolling(hours(24))),
            ("calendar week", Window::Calendar(CalendarUnit::Week)),
            ("clock minute", Window::Clock(ClockUnit::Minute, 0)),
            ("clock hour +05:45", Window::Clock(ClockUnit::Hour, 345)),
            ("clock hour -03:30", Window::Clock(ClockUnit::Hour, -210)),
            ("from_first 30h", Window::FromFirst(hours(30))),
            ("gap 4h", Window::Gap(hours(4))),
            ("bucket 8h", Window::Bucket(hours(8))),
        ];
        for (text, expected) in table {
            assert_eq!(window(text), Some(expected), "{text}");
            assert_eq!(window(&window_text(expected)), Some(expected), "{text}");
        }
        assert_eq!(window("24h"), window("rolling 24h"));
        for text in
            ["", "day", "calendar", "calendar year", "clock day", "clock hour 8", "gap", "gap 4h 5h", "24h +08:00"]
        {
            assert_eq!(window(text), None, "{text}");
        }
    }
}
