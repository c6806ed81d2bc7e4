//! In which time zone a recipient lives: the zone that was given, else the one of the number where one time holds in
//! all of its country, else unknown. Nothing is guessed: half of a wrong guess are calls before breakfast.

use std::sync::LazyLock;

use hashbrown::HashMap;
use jiff::tz::TimeZone;

use crate::domain::recipient::{Msisdn, Recipient};

/// Countries with one time, by the beginning of their numbers.
const NUMBERS: &str = include_str!("zones/numbers.txt");
/// The most digits that a country is known by.
const DIGITS_MAX: usize = 5;

/// The zones of [`NUMBERS`]. No number begins with a zero, so digits are the same as their value.
static BY_DIGITS: LazyLock<HashMap<u32, TimeZone>> = LazyLock::new(|| {
    let known = |(digits, name)| Some((value(digits), named(name)?));
    rows(NUMBERS).filter_map(known).collect()
});

/// Returns the zone of a recipient; `None` where it is unknown.
pub fn of(recipient: &Recipient) -> Option<TimeZone> {
    match &recipient.time_zone {
        Some(name) => named(name),
        None => recipient.phone.as_ref().and_then(of_number),
    }
}

/// Returns the zone of a number, where one time holds in all of its country.
pub fn of_number(number: &Msisdn) -> Option<TimeZone> {
    let digits = number.digits();
    (1..=DIGITS_MAX).rev().find_map(|length| BY_DIGITS.get(&value(digits.get(..length)?)).cloned())
}

/// Returns the zone with an IANA name such as `Asia/Shanghai`, from the database in the binary.
pub fn named(name: &str) -> Option<TimeZone> {
    // "Etc/Unknown" is the database's own word for no zone.
    TimeZone::get(name).ok().filter(|zone| !zone.is_unknown())
}

/// Returns the countries with one time, by the digits that their numbers begin with.
pub(super) fn countries() -> impl Iterator<Item = (&'static str, &'static str)> {
    NUMBERS.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.nth(1)?))
    })
}

fn rows(table: &str) -> impl Iterator<Item = (&str, &str)> {
    table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.next()?))
    })
}

fn value(digits: &str) -> u32 {
    digits.bytes().fold(0, |value, digit| value * 10 + u32::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(number: &str, zone: Option<&str>) {
        let found = of_number(&number.parse().unwrap());
        assert_eq!(found.as_ref().and_then(TimeZone::iana_name), zone, "number: {number}");
    }

    #[test]
    fn a_number_has_a_zone_where_its_country_has_one_time() {
        check("+8613800000000", Some("Asia/Shanghai"));
        check("+85212345678", Some("Asia/Hong_Kong"));
        check("+886912345678", Some("Asia/Taipei"));
        check("+4915112345678", Some("Europe/Berlin"));
        check("+919812345678", Some("Asia/Kolkata"));
        check("+9779812345678", Some("Asia/Kathmandu"));
        check("+60123456789", Some("Asia/Kuala_Lumpur"));
        check("+77011234567", Some("Asia/Almaty"));
        check("+18761234567", Some("America/Jamaica"));
        check("+902121234567", Some("Europe/Istanbul"));
        check("+903921234567", Some("Asia/Famagusta"));
    }

    #[test]
    fn a_number_has_none_where_times_differ() {
        for number in ["+12025550100", "+79161234567", "+61412345678", "+5511912345678", "+5215512345678"] {
            check(number, None);
        }
        for number in ["+628123456789", "+34612345678", "+351912345678", "+97688123456", "+243812345678"] {
            check(number, None);
        }
        // Networks of no country.
        check("+8821612345678", None);
        check("+18005550100", None);
    }

    #[test]
    fn the_zone_that_is_given_wins() {
        let at = |zone: Option<&str>, phone: &str| Recipient {
            time_zone: zone.map(Into::into),
            phone: Some(phone.parse().unwrap()),
            ..Recipient::default()
        };
        let name = |recipient| of(&recipient).and_then(|zone| zone.iana_name().map(str::to_owned));
        assert_eq!(name(at(Some("America/Chicago"), "+8613800000000")).as_deref(), Some("America/Chicago"));
        assert_eq!(name(at(None, "+8613800000000")).as_deref(), Some("Asia/Shanghai"));
        assert_eq!(name(at(None, "+12025550100")), None);
        assert_eq!(of(&Recipient::default()), None);
        // What admission lets in is known; a zone that a later database dropped is not guessed at.
        assert_eq!(of(&at(Some("Mars/Olympus"), "+8613800000000")), None);
        assert_eq!(named("Etc/Unknown"), None);
    }

    #[test]
    fn the_table_is_in_order_and_its_zones_exist() {
        let rows: Vec<_> = rows(NUMBERS).collect();
        assert!(rows.windows(2).all(|pair| pair[0].0 < pair[1].0), "digits in order, none twice");
        for (digits, zone) in &rows {
            assert!((1..=DIGITS_MAX).contains(&digits.len()) && !digits.starts_with('0'), "{digits}");
            assert!(named(zone).is_some(), "{zone}");
        }
        assert_eq!(BY_DIGITS.len(), rows.len());
    }
}
