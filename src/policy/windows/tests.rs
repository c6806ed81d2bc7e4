//! Windows against a naive reference that walks the clock minute by minute, and the days that are known to be hard.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday, date};
use proptest::prelude::*;

use super::*;
use crate::domain::ids::PoolId;
use crate::domain::window::{Calendar, Weekdays};

const MINUTE: i64 = 60_000_000;
/// Days with a change of the clocks or of the calendar, and ordinary ones.
const HARD: &[(&str, &str)] = &[
    ("Asia/Shanghai", "2026-02-13T00:00"), // A swapped Saturday, then the Spring Festival.
    ("Asia/Shanghai", "2024-02-27T12:00"), // Leap day.
    ("America/New_York", "2026-03-07T12:00"), // Spring forward.
    ("America/New_York", "2026-10-31T12:00"), // Fall back.
    ("Europe/Berlin", "2026-10-24T12:00"), // Fall back.
    ("Australia/Lord_Howe", "2026-04-04T12:00"), // Half an hour back.
    ("Australia/Lord_Howe", "2026-10-03T12:00"), // Half an hour forward.
    ("Pacific/Apia", "2011-12-28T12:00"),  // 30 December never was.
    ("America/Sao_Paulo", "2018-11-03T12:00"), // Forward at midnight: 4 November begins at 01:00.
    ("America/Sao_Paulo", "2018-02-17T12:00"), // Back at midnight: the last hour of 17 February comes twice.
    ("Africa/Casablanca", "2026-02-14T12:00"), // Back for Ramadan.
    ("Asia/Kathmandu", "2026-06-01T00:00"), // UTC+05:45, never changed.
];

fn calendars() -> Calendars {
    let mut calendar = Calendar::default();
    let festival = (15..=23).map(|day| date(2026, 2, day));
    calendar.publish(2026, festival, [date(2026, 2, 14), date(2026, 2, 28)]);
    [("CN".into(), calendar)].into()
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn at(zone: &TimeZone, local: &str) -> UnixMicros {
    let local: DateTime = local.parse().unwrap();
    UnixMicros(zone.to_timestamp(local).unwrap().as_microsecond())
}

fn rule(name: &str, hours: &[&str]) -> WindowRule {
    WindowRule {
        name: name.parse().unwrap(),
        classes: vec![],
        kinds: vec![],
        topics: vec![],
        senders: vec![],
        pools: vec![],
        hours: hours.iter().map(|hours| hours.parse().unwrap()).collect(),
        on_missed: OnMissed::Defer,
    }
}

fn bound(rules: Vec<WindowRule>, own: &[Hours], class: Class) -> Bound {
    let pool: PoolId = "default".parse().unwrap();
    let job = Means { class, kind: Kind::Sms, topic: "", sender: "", pool: &pool };
    Windows::new(rules, calendars()).bind(&[], &job, own)
}

// === The reference ===

/// Returns whether the wall shows a time that is in one of `hours`: from the offset alone, without jiff's own clock.
fn naive_open(hours: &[Hours], zone: &TimeZone, at: UnixMicros) -> bool {
    let offset = i64::from(zone.to_offset(Timestamp::from_microsecond(at.0).unwrap()).seconds());
    let wall = at.as_secs() + offset;
    let (day, minute) = (wall.div_euclid(86_400), wall.rem_euclid(86_400) / 60);
    // The first of January 1970 was a Thursday.
    let weekday = Weekday::from_monday_zero_offset(i8::try_from((day + 3).rem_euclid(7)).unwrap()).unwrap();
    let date = date(1970, 1, 1).checked_add(jiff::Span::new().days(day)).unwrap();
    hours.iter().any(|hours| {
        let on = match hours.calendar() {
            Some(_) if naive_holiday(date) => false,
            Some(_) if [date_of(14), date_of(28)].contains(&date) => true,
            Some(_) | None => hours.days().contains(weekday),
        };
        on && (i64::from(hours.from())..i64::from(hours.to())).contains(&minute)
    })
}

fn naive_holiday(date: Date) -> bool {
    (date_of(15)..=date_of(23)).contains(&date)
}

fn date_of(day: i8) -> Date {
    date(2026, 2, day)
}

/// Returns the first moment at which all are open, looked for at each whole minute.
fn naive_next(all: &[Vec<Hours>], zone: &TimeZone, from: UnixMicros, minutes: i64) -> Option<UnixMicros> {
    let whole = from.0.div_euclid(MINUTE) * MINUTE;
    let later = (1..minutes).map(|minute| UnixMicros(whole + minute * MINUTE));
    std::iter::once(from).chain(later).find(|&at| all.iter().all(|hours| naive_open(hours, zone, at)))
}

fn some_hours() -> impl Strategy<Value = Hours> {
    let days = prop_oneof![
        Just(Weekdays::EVERY),
        (1_u8..128).prop_map(|bits| {
            let days = Weekdays::EVERY.iter().enumerate().filter(move |(day, _)| bits & (1 << day) != 0);
            Weekdays::new(days.map(|(_, day)| day)).unwrap()
        }),
    ];
    // Ends that meet the changes of clocks more often than chance would.
    let minute = prop_oneof![0_u16..1440, Just(0), Just(60), Just(90), Just(120), Just(150), Just(180), Just(1380)];
    let calendar = prop_oneof![3 => Just(None), 1 => Just(Some(Box::from("CN")))];
    (days, minute.clone(), minute, calendar).prop_map(|(days, a, b, calendar)| {
        let (from, to) = (a.min(b), a.max(b).max(a.min(b) + 1));
        Hours::new(days, from, to, calendar).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_next_moment_is_the_one_that_walking_finds(
        rules in proptest::collection::vec(proptest::collection::vec(some_hours(), 1..4), 1..4),
        own in proptest::collection::vec(some_hours(), 0..3),
        (place, ahead, micros) in (0..HARD.len(), 0_i64..2_880, 0_i64..2 * MINUTE),
    ) {
        let (zone, day) = (zone(HARD[place].0), HARD[place].1);
        let from = UnixMicros(at(&zone, day).0 + ahead * MINUTE + micros);
        let mut all = rules.clone();
        all.extend((!own.is_empty()).then(|| own.clone()));
        let named = rules.iter().map(|hours| WindowRule { hours: hours.clone(), ..rule("some", &["00:00-24:00"]) });
        let bound = bound(named.collect(), &own, Class::Marketing);
        let minutes = 9 * 24 * 60;
        let expected = naive_next(&all, &zone, from, minutes);
        let found = bound.next(Some(&zone), from);
        match expected {
            Some(_) => prop_assert_eq!(found, expected),
            None => prop_assert!(found.is_none_or(|found| found.0 >= from.0 + (minutes - 1) * MINUTE)),
        }
        prop_assert_eq!(bound.check(Some(&zone), from).is_ok(), expected == Some(from));
    }
}

// === Days that are known to be hard ===

#[track_caller]
fn opens(zone_name: &str, hours: &[&str], from: &str, expected: &str) {
    let zone = zone(zone_name);
    let bound = bound(vec![rule("some", hours)], &[], Class::Marketing);
    let next = bound.next(Some(&zone), at(&zone, from)).unwrap();
    let shown = Timestamp::from_microsecond(next.0).unwrap().to_zoned(zone).to_string();
    assert_eq!(shown.split('[').next().unwrap(), expected, "{zone_name} {hours:?} from {from}");
}

#[test]
fn an_opening_that_the_clocks_jump_over_is_the_jump() {
    opens("America/New_York", &["02:30-05:00"], "2026-03-08T00:00", "2026-03-08T03:00:00-04:00");
    // What lies wholly in the gap does not open that day.
    opens("America/New_York", &["02:15-02:45"], "2026-03-08T00:00", "2026-03-09T02:15:00-04:00");
    opens("Australia/Lord_Howe", &["02:15-02:45"], "2026-10-04T00:00", "2026-10-04T02:30:00+11:00");
    opens("America/Sao_Paulo", &["sun 00:00-02:00"], "2018-11-03T12:00", "2018-11-04T01:00:00-02:00");
}

#[test]
fn hours_that_come_twice_open_twice() {
    opens("America/New_York", &["01:30-02:00"], "2026-11-01T00:00", "2026-11-01T01:30:00-04:00");
    // Between the two: from the second 01:00 on.
    let zone = zone("America/New_York");
    let bound = bound(vec![rule("some", &["01:30-02:00"])], &[], Class::Marketing);
    let second = UnixMicros("2026-11-01T01:10:00-05:00".parse::<Timestamp>().unwrap().as_microsecond());
    assert_eq!(bound.next(Some(&zone), second), Some(UnixMicros(second.0 + 20 * MINUTE)));
    // A window that was over is open again when the clocks go back into it.
    opens("America/New_York", &["00:30-01:30"], "2026-11-01T01:45", "2026-11-01T01:00:00-05:00");
}

#[test]
fn a_day_that_never_was_never_opens() {
    opens("Pacific/Apia", &["fri 09:00-10:00"], "2011-12-29T12:00", "2012-01-06T09:00:00+14:00");
    opens("Pacific/Apia", &["09:00-10:00"], "2011-12-29T12:00", "2011-12-31T09:00:00+14:00");
}

#[test]
fn holidays_close_and_swapped_days_open() {
    let office = &["mon-fri 09:00-18:00 CN"];
    opens("Asia/Shanghai", office, "2026-02-13T18:00", "2026-02-14T09:00:00+08:00");
    opens("Asia/Shanghai", office, "2026-02-14T18:00", "2026-02-24T09:00:00+08:00");
    // In a year that was not published, every day is an ordinary one.
    opens("Asia/Shanghai", office, "2027-02-13T00:00", "2027-02-15T09:00:00+08:00");
    opens("Asia/Shanghai", &["09:00-18:00 CN"], "2026-02-15T00:00", "2026-02-24T09:00:00+08:00");
}

#[test]
fn a_leap_day_is_a_day() {
    opens("Asia/Shanghai", &["thu 08:00-20:00"], "2024-02-28T21:00", "2024-02-29T08:00:00+08:00");
}

#[test]
fn the_last_moment_of_a_window_is_out() {
    let zone = zone("Asia/Shanghai");
    let bound = bound(vec![rule("day", &["08:00-20:00"])], &[], Class::Marketing);
    let end = at(&zone, "2026-06-01T20:00");
    assert!(bound.check(Some(&zone), UnixMicros(end.0 - 1)).is_ok());
    let closed = bound.check(Some(&zone), end).unwrap_err();
    assert_eq!((&*closed.reason, closed.on_missed), ("window:day", OnMissed::Defer));
    assert_eq!(bound.next(Some(&zone), end), Some(at(&zone, "2026-06-02T08:00")));
}

#[test]
fn without_a_zone_marketing_and_calls_stay() {
    let rules = || vec![rule("day", &["08:00-20:00"])];
    let (marketing, notice) = (bound(rules(), &[], Class::Marketing), bound(rules(), &[], Class::Notification));
    assert_eq!(&*marketing.check(None, UnixMicros(0)).unwrap_err().reason, NO_ZONE_REASON);
    assert_eq!(marketing.next(None, UnixMicros(0)), None);
    // A notice is rather sent at night than never.
    assert_eq!(notice.check(None, UnixMicros(0)), Ok(()));
    assert_eq!(notice.next(None, UnixMicros(5)), Some(UnixMicros(5)));
    // Whoever gives windows wants them kept.
    let own = ["08:00-20:00".parse().unwrap()];
    assert_eq!(bound(rules(), &own, Class::Notification).next(None, UnixMicros(0)), None);
    // What nothing binds needs no zone.
    assert!(bound(rules(), &[], Class::Otp).is_free());
    assert_eq!(bound(vec![], &[], Class::Marketing).next(None, UnixMicros(5)), Some(UnixMicros(5)));
    let pool: PoolId = "default".parse().unwrap();
    let call = Means { class: Class::Notification, kind: Kind::Call, topic: "", sender: "", pool: &pool };
    let call = Windows::new(rules(), Calendars::new()).bind(&[], &call, &[]);
    assert_eq!(call.next(None, UnixMicros(0)), None);
}

#[test]
fn a_job_narrows_and_never_widens() {
    let zone = zone("Asia/Shanghai");
    let day = || vec![rule("day", &["08:00-20:00"])];
    let next = |own: &[&str], from: &str| {
        let own: Vec<Hours> = own.iter().map(|hours| hours.parse().unwrap()).collect();
        bound(day(), &own, Class::Marketing).next(Some(&zone), at(&zone, from)).unwrap()
    };
    assert_eq!(next(&["10:00-11:00"], "2026-06-01T08:00"), at(&zone, "2026-06-01T10:00"));
    assert_eq!(next(&["00:00-24:00"], "2026-06-01T21:00"), at(&zone, "2026-06-02T08:00"));
    assert_eq!(next(&["06:00-09:00"], "2026-06-01T06:00"), at(&zone, "2026-06-01T08:00"));
    let never = ["21:00-22:00".parse().unwrap()];
    let never = bound(day(), &never, Class::Marketing);
    assert_eq!(never.never_met().map(|rule| rule.name.as_str()), Some("day"));
    assert_eq!(never.next(Some(&zone), UnixMicros(0)), None);
}

#[test]
fn a_tenants_own_rules_hold_instead_of_the_service_s() {
    let (zone, pool) = (zone("Asia/Shanghai"), "default".parse().unwrap());
    let windows = Windows::new(vec![rule("shipped", &["08:00-20:00"])], Calendars::new());
    let job = Means { class: Class::Marketing, kind: Kind::Sms, topic: "", sender: "", pool: &pool };
    let own = vec![Arc::new(rule("own", &["10:00-12:00"]))];
    let from = at(&zone, "2026-06-01T09:00");
    assert_eq!(windows.bind(&[], &job, &[]).next(Some(&zone), from), Some(from));
    assert_eq!(windows.bind(&own, &job, &[]).next(Some(&zone), from), Some(at(&zone, "2026-06-01T10:00")));
}

#[test]
fn a_cap_that_opens_outside_the_window_waits_for_it() {
    let zone = zone("Asia/Shanghai");
    let bound = bound(vec![rule("day", &["08:00-20:00"])], &[], Class::Marketing);
    let from = at(&zone, "2026-06-01T09:00");
    // A cap with places at night only in the first hour, and by day only from 19:30 on, every second day.
    let cap = |at: UnixMicros| {
        let open = |at: &UnixMicros| {
            let wall = zone.to_datetime(Timestamp::from_microsecond(at.0).unwrap());
            let evening = wall.day() % 2 == 0 && (wall.hour(), wall.minute()) >= (19, 30);
            evening || wall.hour() == 0
        };
        (0..10_000).map(|minute| UnixMicros(at.0 + minute * MINUTE)).find(open)
    };
    let joint = earliest(from, |at| bound.next(Some(&zone), at).and_then(cap));
    assert_eq!(joint, Some(at(&zone, "2026-06-02T19:30")));
    // Rules that never agree do not keep anybody busy.
    assert_eq!(earliest(from, |at| Some(UnixMicros(at.0 + MINUTE))), None);
}

#[test]
fn a_missing_year_is_named() {
    let windows = Windows::new(vec![rule("office", &["mon-fri 09:00-18:00 CN"])], calendars());
    assert!(windows.unpublished([], 2026).is_empty());
    assert_eq!(windows.unpublished([], 2027), ["CN"]);
    let own = [Arc::new(rule("own", &["09:00-18:00 DE"]))];
    assert_eq!(windows.unpublished(&own, 2026), ["DE"]);
}
