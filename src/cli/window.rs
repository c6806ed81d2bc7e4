//! Send windows and local times as people write them.

use std::str::FromStr;

use clap::ValueEnum;
use jiff::civil::{DateTime, Weekday};

use super::args::{self, InvalidArg};
use super::tenant::filter_text;
use crate::domain::window::{self, Weekdays};
use crate::pb;

/// Hours as they are written: `[DAYS] FROM-TO [CALENDAR]`, such as `mon-fri 09:00-18:00 CN`.
#[derive(Clone, Debug)]
pub(super) struct Hours(pub(super) pb::SendWindow);

/// A rule as it is written: `NAME=HOURS;HOURS`, then options: `day=08:00-20:00,drop,class=marketing,pool=fast`.
#[derive(Clone, Debug)]
pub(super) struct Window(pub(super) pb::WindowRule);

/// A time of day on a date, without a zone: `2026-12-24T10:00`.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalTime(pub(super) pb::LocalTime);

/// What follows when a job's turn comes outside its windows.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum OnMissed {
    /// It waits for the next moment that is in all of them
    Defer,
    /// It ends as expired
    Drop,
}

impl FromStr for Hours {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        let hours: window::Hours = raw.parse()?;
        let day = |day: Weekday| i32::from(day.to_monday_one_offset());
        Ok(Self(pb::SendWindow {
            weekdays: if hours.days() == Weekdays::EVERY { vec![] } else { hours.days().iter().map(day).collect() },
            from_minute: hours.from().into(),
            to_minute: hours.to().into(),
            holidays: hours.calendar().unwrap_or_default().into(),
        }))
    }
}

impl FromStr for Window {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        let (name, rest) = raw.split_once('=').ok_or(InvalidArg::Window)?;
        // Days have commas too: options follow the last hours.
        let (first, last) = rest.rsplit_once(';').map_or((None, rest), |(first, last)| (Some(first), last));
        let (mut last, mut options) = (last, vec![]);
        while let Some((before, option)) = last.rsplit_once(',') {
            if last.parse::<window::Hours>().is_ok() {
                break;
            }
            options.push(option);
            last = before;
        }
        let hours = first.into_iter().flat_map(|first| first.split(';')).chain([last]);
        let windows = hours.map(|hours| hours.parse::<Hours>().map(|Hours(hours)| hours)).collect::<Result<_, _>>()?;
        let mut rule = pb::WindowRule { name: name.to_owned(), windows, ..pb::WindowRule::default() };
        let mut filter = pb::RuleFilter::default();
        for option in options.into_iter().rev() {
            match option {
                "defer" => rule.on_missed = pb::OnMissed::Defer.into(),
                "drop" => rule.on_missed = pb::OnMissed::Drop.into(),
                option if args::narrow(&mut filter, option) => {}
                option => match option.split_once('=') {
                    Some(("pool", pool)) => rule.pools.push(pool.to_owned()),
                    Some(_) | None => return Err(InvalidArg::WindowOption(option.to_owned())),
                },
            }
        }
        rule.filter = Some(filter);
        Ok(Self(rule))
    }
}

/// Returns a rule as `--window` takes it.
pub(super) fn text(rule: &pb::WindowRule) -> String {
    let hours: Vec<_> = rule.windows.iter().map(hours_text).collect();
    let drop = if rule.on_missed() == pb::OnMissed::Drop { ",drop" } else { "" };
    let pools: String = rule.pools.iter().map(|pool| format!(",pool={pool}")).collect();
    format!("{}={}{drop}{}{pools}", rule.name, hours.join(";"), filter_text(rule.filter.as_ref()))
}

fn hours_text(raw: &pb::SendWindow) -> String {
    let days = raw.weekdays().filter_map(|day| Weekday::from_monday_one_offset(i8::try_from(day as i32).ok()?).ok());
    let minute = |minute: u32| u16::try_from(minute).unwrap_or(u16::MAX);
    let calendar = (!raw.holidays.is_empty()).then(|| raw.holidays.as_str().into());
    let days = Weekdays::new(days).unwrap_or(Weekdays::EVERY);
    match window::Hours::new(days, minute(raw.from_minute), minute(raw.to_minute), calendar) {
        Ok(hours) => hours.to_string(),
        Err(_) => "?".into(),
    }
}

impl FromStr for LocalTime {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        let time: DateTime = raw.parse().map_err(|_| InvalidArg::LocalTime)?;
        // jiff reads past an offset, and nobody who writes one means the recipient's own time.
        if raw.ends_with(['Z', 'z', ']']) || raw.rsplit('T').next().is_some_and(|time| time.contains(['+', '-'])) {
            return Err(InvalidArg::LocalTime);
        }
        Ok(Self(pb::LocalTime {
            year: time.year().into(),
            month: time.month().into(),
            day: time.day().into(),
            hour: time.hour().into(),
            minute: time.minute().into(),
            second: time.second().into(),
        }))
    }
}

impl OnMissed {
    /// Returns it for the API.
    pub(super) fn to_pb(self) -> pb::OnMissed {
        match self {
            Self::Defer => pb::OnMissed::Defer,
            Self::Drop => pb::OnMissed::Drop,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn shown(raw: &str, expected: &str) {
        let Window(rule) = raw.parse().unwrap();
        assert_eq!(text(&rule), expected);
    }

    #[test]
    fn windows_are_shown_as_they_are_written() {
        shown("day=08:00-20:00", "day=08:00-20:00");
        shown("day=mon,tue 08:00-20:00", "day=mon,tue 08:00-20:00");
        shown(
            "call=mon-fri 09:00-12:00 CN;14:00-20:00,drop,pool=a,class=marketing,kind=call,topic=t",
            "call=mon-fri 09:00-12:00 CN;14:00-20:00,drop,class=marketing,kind=call,topic=t,pool=a",
        );
        shown("x=sat,sun 10:00-12:00,sender=10690", "x=sat,sun 10:00-12:00,sender=10690");
        let refused = |raw: &str| raw.parse::<Window>().unwrap_err();
        assert_eq!(refused("08:00-20:00"), InvalidArg::Window);
        assert_eq!(refused("day=08:00-20:00,often"), InvalidArg::WindowOption("often".into()));
        assert_eq!(refused("day=20:00-08:00"), InvalidArg::Hours(window::InvalidHours::Empty));
    }

    #[test]
    fn a_local_time_has_no_offset() {
        let LocalTime(time) = "2026-12-24T10:30".parse().unwrap();
        assert_eq!((time.year, time.month, time.day, time.hour, time.minute, time.second), (2026, 12, 24, 10, 30, 0));
        for raw in ["2026-02-30T10:00", "2026-12-24T10:00Z", "2026-12-24T10:00+08:00", "10:00", "tomorrow"] {
            assert_eq!(raw.parse::<LocalTime>().unwrap_err(), InvalidArg::LocalTime, "{raw}");
        }
    }
}
