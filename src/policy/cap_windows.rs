//! The stretch of time that a calendar or clock window is at some instant. Pure.

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

use crate::domain::cap::{CalendarUnit, ClockUnit};
use crate::domain::time::UnixMicros;

/// Returns the first instant of the calendar window of a zone that holds `now`, and the first instant after it. Days that
/// the zone's clock makes longer or shorter are; a zone that skips midnight begins the day with its first instant.
pub fn calendar(unit: CalendarUnit, zone: &TimeZone, now: UnixMicros) -> (UnixMicros, UnixMicros) {
    let today = Timestamp::from_microsecond(now.0).unwrap_or_default().to_zoned(zone.clone()).date();
    let (first, length) = match unit {
        CalendarUnit::Day => (today, Span::new().days(1)),
        CalendarUnit::Week => {
            let past = Span::new().days(today.weekday().to_monday_zero_offset());
            (today.checked_sub(past).unwrap_or(today), Span::new().weeks(1))
        }
        CalendarUnit::Month => (today.first_of_month(), Span::new().months(1)),
    };
    let mut after = first;
    loop {
        after = after.checked_add(length).unwrap_or(Date::MAX);
        let end = begin(after, zone);
        // Always, but where a clock went back over midnight.
        if end > now || after == Date::MAX {
            return (begin(first, zone), end);
        }
    }
}

/// Returns the first instant of the clock window at an offset of so many minutes east of UTC that holds `now`, and the
/// first instant after it.
pub fn clock(unit: ClockUnit, offset_min: i16, now: UnixMicros) -> (UnixMicros, UnixMicros) {
    let length: i64 = match unit {
        ClockUnit::Minute => 60_000_000,
        ClockUnit::Hour => 3_600_000_000,
    };
    let past = (now.0 + i64::from(offset_min) * 60_000_000).rem_euclid(length);
    (UnixMicros(now.0 - past), UnixMicros(now.0 - past + length))
}

/// Returns the first instant of a day.
fn begin(day: Date, zone: &TimeZone) -> UnixMicros {
    let midnight = zone.to_ambiguous_timestamp(day.at(0, 0, 0, 0)).compatible();
    midnight.map_or(UnixMicros::MAX, |instant| UnixMicros(instant.as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use proptest::prelude::*;

    const ZONES: &[&str] = &[
        "UTC",
        "Asia/Shanghai",
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Sao_Paulo",
        "Asia/Beirut",
        "Africa/Cairo",
        "Asia/Kathmandu",
        "Pacific/Apia",
        "America/Santiago",
        "Antarctica/Troll",
    ];

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn at(instant: &str) -> UnixMicros {
        UnixMicros(instant.parse::<Timestamp>().unwrap().as_microsecond())
    }

    #[track_caller]
    fn check(unit: CalendarUnit, name: &str, now: &str, start: &str, end: &str) {
        assert_eq!(calendar(unit, &zone(name), at(now)), (at(start), at(end)), "{unit} in {name} at {now}");
    }

    #[test]
    fn days_follow_the_zones_clock() {
        use CalendarUnit::{Day, Month, Week};
        check(Day, "Asia/Shanghai", "2026-11-22T15:59:59.999999Z", "2026-11-21T16:00:00Z", "2026-11-22T16:00:00Z");
        check(Day, "Asia/Shanghai", "2026-11-22T16:00:00Z", "2026-11-22T16:00:00Z", "2026-11-23T16:00:00Z");
        // 23 and 25 hours.
        check(Day, "Europe/Berlin", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z");
        check(Day, "Europe/Berlin", "2026-10-25T12:00:00Z", "2026-10-24T22:00:00Z", "2026-10-25T23:00:00Z");
        // Beirut's clock skips midnight: the day begins at one o'clock.
        check(Day, "Asia/Beirut", "2026-03-29T12:00:00Z", "2026-03-28T22:00:00Z", "2026-03-29T21:00:00Z");
        // Samoa had no 30 December 2011.
        check(Day, "Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z");
        check(Week, "UTC", "2026-11-22T00:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z");
        check(Week, "UTC", "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z");
        check(Month, "UTC", "2028-02-29T23:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z");
        check(Month, "UTC", "2027-02-28T23:00:00Z", "2027-02-01T00:00:00Z", "2027-03-01T00:00:00Z");
        check(Month, "America/New_York", "2026-12-31T12:00:00Z", "2026-12-01T05:00:00Z", "2027-01-01T05:00:00Z");
    }

    #[test]
    fn clock_windows_stand_at_their_offset() {
        let hour = |offset, now| clock(ClockUnit::Hour, offset, at(now));
        assert_eq!(hour(480, "2026-11-22T15:59:59Z"), (at("2026-11-22T15:00:00Z"), at("2026-11-22T16:00:00Z")));
        assert_eq!(hour(345, "2026-11-22T15:14:59Z"), (at("2026-11-22T14:15:00Z"), at("2026-11-22T15:15:00Z")));
        assert_eq!(hour(-210, "2026-11-22T15:30:00Z"), (at("2026-11-22T15:30:00Z"), at("2026-11-22T16:30:00Z")));
        let minute = clock(ClockUnit::Minute, 480, at("2026-11-22T15:59:59.5Z"));
        assert_eq!(minute, (at("2026-11-22T15:59:00Z"), at("2026-11-22T16:00:00Z")));
    }

    /// The naive way: step back and forth until the name of the day, week or month changes.
    fn walked(unit: CalendarUnit, zone: &TimeZone, now: UnixMicros) -> (UnixMicros, UnixMicros) {
        const STEP: i64 = 15 * 60 * 1_000_000;
        let name = |at: i64| {
            let date = Timestamp::from_microsecond(at).unwrap().to_zoned(zone.clone()).date();
            match unit {
                CalendarUnit::Day => (date.year(), date.day_of_year()),
                CalendarUnit::Week => (date.iso_week_date().year(), i16::from(date.iso_week_date().week())),
                CalendarUnit::Month => (date.year(), i16::from(date.month())),
            }
        };
        // Every transition of these zones lies on a quarter of an hour.
        let quarter = now.0 - now.0.rem_euclid(STEP);
        let same = |at: &i64| name(*at) == name(now.0);
        let start = (0..).map(|steps| quarter - steps * STEP).take_while(same).last().unwrap();
        let end = (1..).map(|steps| quarter + steps * STEP).find(|at| !same(at)).unwrap();
        (UnixMicros(start), UnixMicros(end))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn windows_are_what_walking_finds_and_follow_each_other(
            zone_index in 0..ZONES.len(),
            unit in prop::sample::select(CalendarUnit::ALL),
            // 2012 to 2037: leap years, and every rule that the database knows ahead.
            secs in 1_325_376_000_i64..2_145_916_800,
        ) {
            let zone = zone(ZONES[zone_index]);
            let now = UnixMicros::from_secs(secs);
            let (start, end) = calendar(unit, &zone, now);
            prop_assert!(start <= now && now < end);
            prop_assert_eq!((start, end), walked(unit, &zone, now));
            prop_assert_eq!(calendar(unit, &zone, end).0, end);
            prop_assert_eq!(calendar(unit, &zone, start), (start, end));
            prop_assert_eq!(calendar(unit, &zone, end.minus(Duration::from_micros(1))), (start, end));
        }
    }
}
