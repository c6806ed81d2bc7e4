//! What a number tells of whom it reaches: its country, and in China its carrier. Pure.

use std::sync::LazyLock;

use hashbrown::HashMap;

use super::zones;
use crate::domain::recipient::Msisdn;
use crate::domain::route::{Carrier, Country};

/// Countries that share their digits or have more than one time; the others are in the table of zones.
const COUNTRIES: &str = include_str!("numbers/countries.txt");
/// China's carriers.
const CARRIERS: &str = include_str!("numbers/china.txt");
/// The most digits that a country is known by.
const COUNTRY_DIGITS_MAX: usize = 6;
/// The most digits behind +86 that a carrier is known by.
const CARRIER_DIGITS_MAX: usize = 4;

static COUNTRY_BY_DIGITS: LazyLock<HashMap<&str, Country>> = LazyLock::new(|| {
    let all = zones::countries().chain(rows(COUNTRIES).map(|(word, digits)| (digits, word)));
    all.filter_map(|(digits, word)| Some((digits, word.parse().ok()?))).collect()
});

static CARRIER_BY_DIGITS: LazyLock<HashMap<&str, Carrier>> =
    LazyLock::new(|| rows(CARRIERS).filter_map(|(word, digits)| Some((digits, Carrier::from_word(word)?))).collect());

/// Knows numbers that were ported to another carrier. The table of prefixes does not: since 2019 a number in China keeps
/// its digits when it changes its carrier, so who has a source of ported numbers has it asked here.
pub trait Ported: Send + Sync {
    /// Returns the carrier that a number was ported to; `None`: it was not, or nobody knows.
    fn carrier(&self, number: &Msisdn) -> Option<Carrier>;
}

/// Nobody knows of any ported number.
#[derive(Clone, Copy, Debug)]
pub struct NonePorted;

impl Ported for NonePorted {
    fn carrier(&self, _: &Msisdn) -> Option<Carrier> {
        None
    }
}

/// Returns the country of a number; `None` for networks of no country and digits that nobody has.
pub fn country(number: &Msisdn) -> Option<Country> {
    let digits = number.digits();
    (1..=COUNTRY_DIGITS_MAX).rev().find_map(|length| COUNTRY_BY_DIGITS.get(digits.get(..length)?).copied())
}

/// Returns the carrier of a mobile number in China: where it was ported to, else who was given its prefix.
pub fn carrier(number: &Msisdn, ported: &dyn Ported) -> Option<Carrier> {
    let digits = number.digits().strip_prefix("86").filter(|digits| digits.len() == 11)?;
    let given = || (3..=CARRIER_DIGITS_MAX).rev().find_map(|length| CARRIER_BY_DIGITS.get(&digits[..length]).copied());
    ported.carrier(number).or_else(given)
}

/// Returns each of the digits in a table with the word in front of its line.
fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(' '));
    lines.flat_map(|(word, digits)| digits.split(' ').map(move |digits| (word, digits)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_the_country_of_its_longest_known_digits() {
        for (number, expected) in [
            ("+8613800000000", Some("CN")),
            ("+12025550100", Some("US")),
            ("+14165550100", Some("CA")),
            ("+18765550100", Some("JM")),
            ("+79160000000", Some("RU")),
            ("+77010000000", Some("KZ")),
            ("+447700900000", Some("GB")),
            ("+4915112345678", Some("DE")),
            ("+34600000000", Some("ES")),
            ("+85261234567", Some("HK")),
            ("+262692000000", Some("RE")),
            ("+262639000000", Some("YT")),
            ("+870773000000", None),
        ] {
            let found = country(&number.parse().unwrap());
            assert_eq!(found.as_ref().map(Country::as_str), expected, "{number}");
        }
    }

    #[test]
    fn a_chinese_number_has_the_carrier_that_was_given_its_prefix_unless_it_was_ported() {
        for (number, expected) in [
            ("+8613400000000", Some(Carrier::ChinaMobile)),
            ("+8613490000000", Some(Carrier::ChinaTelecom)),
            ("+8613800000000", Some(Carrier::ChinaMobile)),
            ("+8613000000000", Some(Carrier::ChinaUnicom)),
            ("+8618900000000", Some(Carrier::ChinaTelecom)),
            ("+8619200000000", Some(Carrier::ChinaBroadnet)),
            ("+8617000000000", Some(Carrier::ChinaTelecom)),
            ("+8617030000000", Some(Carrier::ChinaMobile)),
            ("+8617090000000", Some(Carrier::ChinaUnicom)),
            ("+861012345678", None),
            ("+12025550100", None),
        ] {
            assert_eq!(carrier(&number.parse().unwrap(), &NonePorted), expected, "{number}");
        }
        struct To(Carrier);
        impl Ported for To {
            fn carrier(&self, _: &Msisdn) -> Option<Carrier> {
                Some(self.0)
            }
        }
        let moved = carrier(&"+8613800000000".parse().unwrap(), &To(Carrier::ChinaTelecom));
        assert_eq!(moved, Some(Carrier::ChinaTelecom));
    }
}
