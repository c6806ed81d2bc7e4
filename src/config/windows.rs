//! Send windows and the calendars of holidays that they keep: `[windows]` and `[[window]]` in the settings.

use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::Deserialize;

use super::check::{invalid, parsed, required, word};
use super::error::{ConfigError, Contradiction, Reason};
use super::raw::RawWindow;
use crate::domain::ids::PoolId;
use crate::domain::job::{Class, Kind, OnMissed};
use crate::domain::window::{Calendar, Calendars, HOURS_MAX, Hours, WINDOW_RULES_MAX, WindowRule};

/// The calendars in the program.
const SHIPPED: &[&str] = &[include_str!("calendars/CN.toml")];

/// Send windows as set.
#[derive(Clone, Debug)]
pub struct Windows {
    /// The rules of tenants that have none of their own.
    pub rules: Vec<WindowRule>,
    /// The calendars that rules may keep, by name.
    pub calendars: Calendars,
}

/// A file with a calendar.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCalendar {
    name: String,
    year: Vec<RawYear>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawYear {
    year: i16,
    /// Where the dates are from; for people.
    #[serde(rename = "source")]
    _source: String,
    holidays: Vec<String>,
    worked: Vec<String>,
}

/// Checks send windows and reads the files with calendars.
pub(super) fn windows(raw: Vec<RawWindow>, files: &[String]) -> Result<Windows, ConfigError> {
    let mut calendars = Calendars::new();
    for text in SHIPPED {
        calendar(text, &mut calendars).expect("the shipped calendars are right");
    }
    for file in files {
        let path = PathBuf::from(required("windows.calendars", file)?);
        let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::Read { path: path.clone(), error })?;
        calendar(&text, &mut calendars).map_err(|reason| of_file(&path, reason))?;
    }
    if raw.len() > WINDOW_RULES_MAX {
        return Err(invalid("window", Reason::Range { min: 0, max: WINDOW_RULES_MAX as u64 }));
    }
    let mut rules: Vec<WindowRule> = Vec::with_capacity(raw.len());
    for raw in raw {
        let rule = rule(raw, &calendars)?;
        let name = || Box::from(rule.name.as_str());
        if rules.iter().any(|known| known.name == rule.name) {
            return Err(Contradiction::SameWindow(name()).into());
        }
        if let Some(other) = rules.iter().find(|known| known.overlaps(&rule) && !known.meets(&rule)) {
            return Err(Contradiction::WindowsNeverMeet(other.name.as_str().into(), name()).into());
        }
        rules.push(rule);
    }
    Ok(Windows { rules, calendars })
}

fn rule(raw: RawWindow, calendars: &Calendars) -> Result<WindowRule, ConfigError> {
    let key = |field: &str| format!("window.{}.{field}", raw.name);
    let words = |words: &[String]| words.iter().map(|word| Box::from(word.as_str())).collect();
    if raw.hours.is_empty() {
        return Err(invalid(&key("hours"), Reason::NoHours));
    }
    if raw.hours.len() > HOURS_MAX {
        return Err(invalid(&key("hours"), Reason::Range { min: 1, max: HOURS_MAX as u64 }));
    }
    let hours = raw.hours.iter().map(|text| {
        let hours: Hours = parsed(&key("hours"), text)?;
        match hours.calendar() {
            Some(name) if !calendars.contains_key(name) => {
                Err(invalid(&key("hours"), Reason::NoCalendar(name.to_owned())))
            }
            Some(_) | None => Ok(hours),
        }
    });
    Ok(WindowRule {
        name: parsed("window.name", &raw.name)?,
        classes: each(&raw.classes, |text| word(&key("classes"), text, Class::ALL, Class::as_str))?,
        kinds: each(&raw.kinds, |text| word(&key("kinds"), text, Kind::ALL, Kind::as_str))?,
        topics: words(&raw.topics),
        senders: words(&raw.senders),
        pools: each(&raw.pools, |text| parsed::<PoolId>(&key("pools"), text))?,
        hours: hours.collect::<Result<_, _>>()?,
        on_missed: word(&key("on_missed"), &raw.on_missed, OnMissed::ALL, OnMissed::as_str)?,
    })
}

fn each<T>(raw: &[String], read: impl Fn(&str) -> Result<T, ConfigError>) -> Result<Vec<T>, ConfigError> {
    raw.iter().map(|text| read(text)).collect()
}

/// Adds the years of a file to the calendar that it names; they replace what was known of those years.
fn calendar(text: &str, calendars: &mut Calendars) -> Result<(), Reason> {
    let raw: RawCalendar = toml::from_str(text).map_err(|error| Reason::Type(error.to_string()))?;
    if raw.name.is_empty() || !raw.name.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Reason::Type("a calendar's name is letters and digits, such as \"CN\"".into()));
    }
    let mut calendar: Calendar = calendars.remove(raw.name.as_str()).unwrap_or_default();
    for raw in raw.year {
        let dates = |texts: &[String]| texts.iter().map(|text| days(text, raw.year)).collect::<Result<Vec<_>, _>>();
        let (holidays, worked) = (dates(&raw.holidays)?.concat(), dates(&raw.worked)?.concat());
        if let Some(both) = worked.iter().find(|day| holidays.contains(day)) {
            return Err(Reason::HolidayAndWorked(both.to_string()));
        }
        calendar.publish(raw.year, holidays, worked);
    }
    calendars.insert(raw.name.into_boxed_str(), calendar);
    Ok(())
}

/// Reads a day, or from one to another: `2026-02-15..2026-02-23`.
fn days(text: &str, year: i16) -> Result<Vec<Date>, Reason> {
    let date = |text: &str| {
        let date: Date = text.parse().map_err(|_| Reason::Date(text.to_owned()))?;
        if date.year() == year { Ok(date) } else { Err(Reason::OtherYear { date: text.to_owned(), year }) }
    };
    let (first, last) = text.split_once("..").unwrap_or((text, text));
    let (first, last) = (date(first)?, date(last)?);
    if first > last {
        return Err(Reason::Date(text.to_owned()));
    }
    Ok(first.series(jiff::Span::new().days(1)).take_while(|day| *day <= last).collect())
}

fn of_file(path: &Path, reason: Reason) -> ConfigError {
    invalid(&format!("windows.calendars ({})", path.display()), reason)
}

#[cfg(test)]
mod tests {
    use jiff::civil::{Weekday, date};

    use super::*;
    use crate::domain::window::Day;

    fn shipped() -> Calendar {
        windows(vec![], &[]).unwrap().calendars["CN"].clone()
    }

    #[test]
    fn china_s_years_are_whole() {
        // By law there are 11 days up to 2024 and 13 from 2025 on, none of them lost on a weekend, and every other free
        // weekday is worked on a weekend: free weekdays less worked days are the days of the law.
        let calendar = shipped();
        for (year, by_law) in [(2024, 11), (2025, 13), (2026, 13)] {
            assert!(calendar.published(year));
            let all: Vec<Date> =
                date(year, 1, 1).series(jiff::Span::new().days(1)).take_while(|d| d.year() == year).collect();
            let weekend = |day: &Date| matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
            let free = all.iter().filter(|day| calendar.day(**day) == Day::Holiday && !weekend(day)).count();
            let swapped: Vec<_> = all.iter().filter(|day| calendar.day(**day) == Day::Worked).collect();
            assert!(swapped.iter().all(|day| weekend(day)), "only days of a weekend are worked instead");
            assert_eq!(free - swapped.len(), by_law, "{year}");
        }
        assert!(!calendar.published(2027));
        assert_eq!(calendar.day(date(2026, 2, 28)), Day::Worked);
        assert_eq!(calendar.day(date(2026, 10, 8)), Day::Ordinary);
    }

    #[test]
    fn a_file_adds_years_to_a_calendar_and_replaces_them() {
        let mut calendars: Calendars = [("CN".into(), shipped())].into();
        let file = "name = \"CN\"\n[[year]]\nyear = 2027\nsource = \"-\"\nholidays = [\"2027-01-01..2027-01-03\"]\nworked = []\n\
                    [[year]]\nyear = 2026\nsource = \"-\"\nholidays = [\"2026-01-02\"]\nworked = []\n";
        calendar(file, &mut calendars).unwrap();
        let calendar = &calendars["CN"];
        assert!(calendar.published(2027) && calendar.published(2025));
        assert_eq!(calendar.day(date(2027, 1, 3)), Day::Holiday);
        assert_eq!((calendar.day(date(2026, 1, 1)), calendar.day(date(2026, 1, 2))), (Day::Ordinary, Day::Holiday));
    }

    #[test]
    fn a_file_that_is_wrong_says_where() {
        let refused = |year: &str, expected: &str| {
            let file = format!("name = \"X\"\n[[year]]\nyear = 2026\nsource = \"-\"\n{year}");
            let reason = calendar(&file, &mut Calendars::new()).unwrap_err().to_string();
            assert!(reason.contains(expected), "{reason:?} does not say {expected:?}");
        };
        refused("holidays = [\"2026-02-30\"]\nworked = []", "2026-02-30");
        refused("holidays = [\"2026-02-29\"]\nworked = []", "2026-02-29");
        refused("holidays = [\"2025-01-01\"]\nworked = []", "2026");
        refused("holidays = [\"2026-01-03..2026-01-01\"]\nworked = []", "2026-01-03..2026-01-01");
        refused("holidays = [\"2026-01-01\"]\nworked = [\"2026-01-01\"]", "2026-01-01");
        refused("holiday = []", "holiday");
    }
}
