//! Money: what hand-overs cost, and what a tenant may spend.

use std::fmt;
use std::str::FromStr;

/// Millionths of a unit in one unit.
const MICROS: i64 = 1_000_000;
/// Digits behind the point that micros can hold.
const DIGITS: usize = 6;

/// A currency by its three letters (ISO 4217), such as `CNY`. The letters are checked, the list of currencies is not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// An amount of money in a currency. Not negative.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Money {
    /// The currency.
    pub currency: Currency,
    /// Millionths of its unit, zero or more: 45 000 is 0.045.
    micros: i64,
}

/// The text is not an amount of money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMoney {
    /// Not an amount and a currency.
    #[error("an amount of money reads like \"0.045 CNY\"")]
    Shape,
    /// Not three capital letters.
    #[error("a currency has three capital letters (ISO 4217), such as CNY")]
    Currency,
    /// More digits behind the point than are kept.
    #[error("an amount of money has at most 6 digits behind its point")]
    TooFine,
    /// Below zero.
    #[error("an amount of money must not be negative")]
    Negative,
    /// More than can be counted.
    #[error("the amount of money is too large")]
    TooLarge,
}

// === impl Currency ===

impl Currency {
    /// Returns its letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Currency {
    type Err = InvalidMoney;
    fn from_str(raw: &str) -> Result<Self, InvalidMoney> {
        let letters: [u8; 3] = raw.as_bytes().try_into().map_err(|_| InvalidMoney::Currency)?;
        if letters.iter().all(u8::is_ascii_uppercase) { Ok(Self(letters)) } else { Err(InvalidMoney::Currency) }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// === impl Money ===

impl Money {
    /// Returns so many millionths of the currency's unit.
    pub fn new(currency: Currency, micros: i64) -> Result<Self, InvalidMoney> {
        if micros < 0 { Err(InvalidMoney::Negative) } else { Ok(Self { currency, micros }) }
    }

    /// Returns how many millionths of the currency's unit it is.
    pub fn micros(self) -> i64 {
        self.micros
    }

    /// Returns what so many cost, such as the segments of a text; the largest amount where that is more.
    #[must_use]
    pub fn times(self, count: u32) -> Self {
        Self { micros: self.micros.saturating_mul(i64::from(count)), ..self }
    }

    /// Returns the sum, the largest amount where that is more; `None` where the currencies differ.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        let same = self.currency == other.currency;
        same.then(|| Self { micros: self.micros.saturating_add(other.micros), ..self })
    }
}

impl FromStr for Money {
    type Err = InvalidMoney;
    fn from_str(raw: &str) -> Result<Self, InvalidMoney> {
        let (amount, currency) = raw.trim().split_once(' ').ok_or(InvalidMoney::Shape)?;
        if amount.starts_with('-') {
            return Err(InvalidMoney::Negative);
        }
        let (units, fraction) = amount.split_once('.').unwrap_or((amount, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(units) || !digits(fraction) {
            return Err(InvalidMoney::Shape);
        }
        if fraction.len() > DIGITS {
            return Err(InvalidMoney::TooFine);
        }
        let number = |text: &str| text.parse::<i64>().map_err(|_| InvalidMoney::TooLarge);
        let micros = number(&format!("{fraction:0<DIGITS$}"))?;
        let whole = number(units)?.checked_mul(MICROS).and_then(|whole| whole.checked_add(micros));
        Self::new(currency.trim_start().parse()?, whole.ok_or(InvalidMoney::TooLarge)?)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fraction = format!("{:06}", self.micros % MICROS);
        // As many digits as it needs, and as few as two: "0.045", "1.50".
        let needed = fraction.trim_end_matches('0').len().max(2);
        write!(f, "{}.{} {}", self.micros / MICROS, &fraction[..needed], self.currency)
    }
}

impl fmt::Debug for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<(&str, i64), InvalidMoney>) {
        let read = raw.parse::<Money>().map(|money| (money.to_string(), money.micros()));
        assert_eq!(read, expected.map(|(text, micros)| (text.to_owned(), micros)), "input: {raw:?}");
    }

    #[test]
    fn money_reads_like_people_write_it() {
        check("0.045 CNY", Ok(("0.045 CNY", 45_000)));
        check("1.5 USD", Ok(("1.50 USD", 1_500_000)));
        check("12 EUR", Ok(("12.00 EUR", 12_000_000)));
        check("0.000001 CNY", Ok(("0.000001 CNY", 1)));
        check(" 0  CNY ", Ok(("0.00 CNY", 0)));
        check("9223372036854.775807 CNY", Ok(("9223372036854.775807 CNY", i64::MAX)));
    }

    #[test]
    fn what_is_no_money_says_why() {
        check("0.045", Err(InvalidMoney::Shape));
        check(". CNY", Err(InvalidMoney::Shape));
        check("1. CNY", Err(InvalidMoney::Shape));
        check("1,5 CNY", Err(InvalidMoney::Shape));
        check("+1 CNY", Err(InvalidMoney::Shape));
        check("-1 CNY", Err(InvalidMoney::Negative));
        check("0.0000001 CNY", Err(InvalidMoney::TooFine));
        check("1 cny", Err(InvalidMoney::Currency));
        check("1 RMB yuan", Err(InvalidMoney::Currency));
        check("1 元", Err(InvalidMoney::Currency));
        check("9223372036854.775808 CNY", Err(InvalidMoney::TooLarge));
        check("99999999999999999999 CNY", Err(InvalidMoney::TooLarge));
    }

    #[test]
    fn sums_stay_in_their_currency_and_never_wrap() {
        let price: Money = "0.045 CNY".parse().unwrap();
        assert_eq!(price.times(3).to_string(), "0.135 CNY");
        assert_eq!(price.plus(price.times(3)).unwrap().to_string(), "0.18 CNY");
        assert_eq!(price.plus("1 USD".parse().unwrap()), None);
        let most = Money::new(price.currency, i64::MAX).unwrap();
        assert_eq!((most.times(2), most.plus(price)), (most, Some(most)));
        assert_eq!(Money::new(price.currency, -1), Err(InvalidMoney::Negative));
    }
}
