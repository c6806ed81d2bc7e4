//! Whom a job reaches, and under which addresses.

use std::fmt;
use std::str::FromStr;

/// A dialable number: `+`, then 7 to 15 digits, the first not zero (ITU-T E.164, section 6).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Msisdn(Box<str>);

/// The text is not a number in E.164 form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMsisdn {
    /// No text.
    #[error("must not be empty; write it as +8613800000000")]
    Empty,
    /// National or bare form.
    #[error("must start with '+' and the country code, as in +8613800000000")]
    MissingPlus,
    /// More than 15 digits.
    #[error("has {0} digits, E.164 allows 15")]
    TooLong(usize),
    /// Fewer than 7 digits.
    #[error("has {0} digits, too few for a number")]
    TooShort(usize),
    /// A character that is no digit, or a country code that starts with zero.
    #[error("may hold only digits after '+', the first not zero")]
    NotDialable,
}

/// What kind of party the recipient is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RecipientKind {
    /// A person: the default.
    #[default]
    Person,
    /// A WeCom customer group.
    Group,
    /// The tenant's employee.
    Operator,
}

/// An openid under one official account or mini-program.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Wechat {
    /// The account's app id.
    pub appid: Box<str>,
    /// The person's id under that account.
    pub openid: Box<str>,
}

/// A WeCom external contact.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Wecom {
    /// The tenant's corporation.
    pub corp_id: Box<str>,
    /// The person's id there.
    pub external_userid: Box<str>,
}

/// Whom a job reaches: an id of the tenant's choosing, and one address per channel.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Recipient {
    /// The tenant's own id for the recipient; without one, the address is the recipient.
    pub id: Option<Box<str>>,
    /// Person, group or operator.
    pub kind: RecipientKind,
    /// The number, for SMS and calls.
    pub phone: Option<Msisdn>,
    /// At most 8 openids, for template messages.
    pub wechat: Vec<Wechat>,
    /// The external contact, for WeCom messages.
    pub wecom: Option<Wecom>,
    /// The customer group, for group posts.
    pub wecom_chat_id: Option<Box<str>>,
    /// The employee, for application messages.
    pub wecom_userid: Option<Box<str>>,
    /// IANA time zone, such as `Asia/Shanghai`.
    pub time_zone: Option<Box<str>>,
    /// BCP 47 locale, such as `zh-CN`.
    pub locale: Option<Box<str>>,
}

// === impl Msisdn ===

impl Msisdn {
    /// Returns the number with its `+`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the digits without the `+`.
    pub fn digits(&self) -> &str {
        &self.0[1..]
    }
}

impl FromStr for Msisdn {
    type Err = InvalidMsisdn;
    fn from_str(raw: &str) -> Result<Self, InvalidMsisdn> {
        if raw.is_empty() {
            return Err(InvalidMsisdn::Empty);
        }
        let digits = raw.strip_prefix('+').ok_or(InvalidMsisdn::MissingPlus)?;
        match digits.as_bytes() {
            [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => match digits.len() {
                0..7 => Err(InvalidMsisdn::TooShort(digits.len())),
                7..=15 => Ok(Self(raw.into())),
                _ => Err(InvalidMsisdn::TooLong(digits.len())),
            },
            _ => Err(InvalidMsisdn::NotDialable),
        }
    }
}

impl fmt::Debug for Msisdn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Msisdn(..)")
    }
}

// === impl Recipient ===

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the addresses: this ends in logs and panics.
        f.debug_struct("Recipient").field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, expected: Result<(), InvalidMsisdn>) {
        assert_eq!(raw.parse::<Msisdn>().map(|_| ()), expected, "input: {raw:?}");
    }

    #[test]
    fn only_dialable_numbers_are_accepted() {
        check("+4915112345678", Ok(()));
        check("", Err(InvalidMsisdn::Empty));
        check("4915112345678", Err(InvalidMsisdn::MissingPlus));
        check("+0915112345678", Err(InvalidMsisdn::NotDialable));
        check("+49 151", Err(InvalidMsisdn::NotDialable));
        check("+123456", Err(InvalidMsisdn::TooShort(6)));
        check("+1234567890123456", Err(InvalidMsisdn::TooLong(16)));
    }

    #[test]
    fn numbers_stay_out_of_debug_output() {
        let recipient = Recipient { phone: Some("+4915112345678".parse().unwrap()), ..Recipient::default() };
        assert!(!format!("{recipient:?} {:?}", recipient.phone).contains("4915"));
    }
}
