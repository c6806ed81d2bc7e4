//! Routes: which pool carries which jobs.

use std::str::FromStr;

use super::ids::PoolId;
use super::job::{Class, Kind, words};
use super::recipient::Msisdn;

/// Most routes of a tenant, and of the settings.
pub const ROUTES_MAX: usize = 64;
/// Most entries of one field of a route.
pub const ROUTE_WORDS_MAX: usize = 64;
/// Most labels of a route.
pub const ROUTE_LABELS_MAX: usize = 16;

words! {
    /// China's carriers.
    Carrier {
        /// China Mobile, and the virtual carriers on its network.
        ChinaMobile = "china-mobile",
        /// China Unicom, and the virtual carriers on its network.
        ChinaUnicom = "china-unicom",
        /// China Telecom, and the virtual carriers on its network.
        ChinaTelecom = "china-telecom",
        /// China Broadnet.
        ChinaBroadnet = "china-broadnet",
    }
}

/// The beginning of numbers in E.164 form: `+`, then 1 to 15 digits, the first not zero.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prefix(Box<str>);

/// A country, as two capital letters (ISO 3166-1 alpha-2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Country([u8; 2]);

/// The text is no beginning of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write '+' and the first digits of the numbers, as in +86138")]
pub struct InvalidPrefix;

/// The text is no country.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write the two capital letters of ISO 3166, as in CN")]
pub struct InvalidCountry;

/// Which pool carries some jobs. Empty fields match every job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RouteRule {
    /// Of these kinds.
    pub kinds: Vec<Kind>,
    /// Of these classes.
    pub classes: Vec<Class>,
    /// About these topics.
    pub topics: Vec<Box<str>>,
    /// With one of these as their sender or signature.
    pub senders: Vec<Box<str>>,
    /// To numbers of these countries.
    pub countries: Vec<Country>,
    /// To numbers that begin so.
    pub prefixes: Vec<Prefix>,
    /// To numbers of these carriers.
    pub carriers: Vec<Carrier>,
    /// With all of these labels.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// The pool.
    pub pool: PoolId,
    /// Whom those leave from that name no sender: a sender, or a pool of senders of their tenant. Empty: nobody is named.
    pub sender: Box<str>,
}

/// What a route looks at, apart from the number.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'a> {
    /// The kind.
    pub kind: Kind,
    /// The class.
    pub class: Class,
    /// The topic; empty: none.
    pub topic: &'a str,
    /// The sender; empty: the provider's own.
    pub sender: &'a str,
    /// The signature; empty: none.
    pub signature: &'a str,
    /// The labels.
    pub labels: &'a [(Box<str>, Box<str>)],
}

// === impl RouteRule ===

impl RouteRule {
    /// Returns a rule that sends everything to `pool`.
    pub fn to(pool: PoolId) -> Self {
        Self {
            kinds: vec![],
            classes: vec![],
            topics: vec![],
            senders: vec![],
            countries: vec![],
            prefixes: vec![],
            carriers: vec![],
            labels: vec![],
            pool,
            sender: "".into(),
        }
    }

    /// Returns whether it matches a job, whatever its number.
    pub fn matches(&self, job: &Routed<'_>) -> bool {
        let sender = || self.senders.iter().any(|word| **word == *job.sender || **word == *job.signature);
        fits(&self.kinds, &job.kind)
            && fits(&self.classes, &job.class)
            && (self.topics.is_empty() || self.topics.iter().any(|word| **word == *job.topic))
            && (self.senders.is_empty() || sender())
            && self.labels.iter().all(|label| job.labels.contains(label))
    }

    /// Returns whether it matches every job of a kind.
    pub fn takes_all_of(&self, kind: Kind) -> bool {
        let asks_more =
            !(self.classes.is_empty() && self.topics.is_empty() && self.senders.is_empty() && self.labels.is_empty())
                || self.asks_number();
        fits(&self.kinds, &kind) && !asks_more
    }

    /// Returns whether it looks at the number.
    pub fn asks_number(&self) -> bool {
        !(self.countries.is_empty() && self.prefixes.is_empty() && self.carriers.is_empty())
    }
}

fn fits<T: PartialEq>(among: &[T], one: &T) -> bool {
    among.is_empty() || among.contains(one)
}

// === impl Prefix, Country ===

impl Prefix {
    /// Returns whether a number begins so.
    pub fn begins(&self, number: &Msisdn) -> bool {
        number.as_str().starts_with(&*self.0)
    }

    /// Returns it as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;
    fn from_str(raw: &str) -> Result<Self, InvalidPrefix> {
        match raw.strip_prefix('+').map(str::as_bytes) {
            Some([b'1'..=b'9', rest @ ..]) if rest.len() < 15 && rest.iter().all(u8::is_ascii_digit) => {
                Ok(Self(raw.into()))
            }
            Some(_) | None => Err(InvalidPrefix),
        }
    }
}

impl Country {
    /// Returns it as two letters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for Country {
    type Err = InvalidCountry;
    fn from_str(raw: &str) -> Result<Self, InvalidCountry> {
        match *raw.as_bytes() {
            [a @ b'A'..=b'Z', b @ b'A'..=b'Z'] => Ok(Self([a, b])),
            _ => Err(InvalidCountry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_matches_by_everything_it_names() {
        let labels = [("shop".into(), "42".into())];
        let job = Routed {
            kind: Kind::Sms,
            class: Class::Marketing,
            topic: "sale",
            sender: "",
            signature: "品牌",
            labels: &labels,
        };
        let all = RouteRule::to("p".parse().unwrap());
        assert!(all.matches(&job) && !all.asks_number());
        let check = |rule: RouteRule, expected: bool| assert_eq!(rule.matches(&job), expected, "{rule:?}");
        check(RouteRule { kinds: vec![Kind::Call], ..all.clone() }, false);
        check(RouteRule { classes: vec![Class::Otp, Class::Marketing], ..all.clone() }, true);
        check(RouteRule { topics: vec!["news".into()], ..all.clone() }, false);
        check(RouteRule { senders: vec!["品牌".into()], ..all.clone() }, true);
        check(RouteRule { senders: vec!["10690000".into()], ..all.clone() }, false);
        check(RouteRule { labels: vec![("shop".into(), "42".into())], ..all.clone() }, true);
        check(RouteRule { labels: vec![("shop".into(), "43".into())], ..all.clone() }, false);
        let takes_all = |rule: RouteRule| rule.takes_all_of(Kind::Sms);
        assert!(takes_all(all.clone()) && takes_all(RouteRule { kinds: vec![Kind::Sms], ..all.clone() }));
        for asks in [
            RouteRule { kinds: vec![Kind::Call], ..all.clone() },
            RouteRule { classes: vec![Class::Marketing], ..all.clone() },
            RouteRule { topics: vec!["sale".into()], ..all.clone() },
            RouteRule { senders: vec!["品牌".into()], ..all.clone() },
            RouteRule { countries: vec!["CN".parse().unwrap()], ..all.clone() },
            RouteRule { labels: labels.to_vec(), ..all },
        ] {
            assert!(!takes_all(asks.clone()), "{asks:?}");
        }
    }

    #[test]
    fn prefixes_and_countries_are_checked_when_they_are_set() {
        for wrong in ["", "+", "86", "+0", "+86 138", "+1234567890123456"] {
            assert_eq!(wrong.parse::<Prefix>(), Err(InvalidPrefix), "{wrong}");
        }
        let prefix: Prefix = "+86138".parse().unwrap();
        assert!(
            prefix.begins(&"+8613800000000".parse().unwrap()) && !prefix.begins(&"+8613900000000".parse().unwrap())
        );
        for wrong in ["", "cn", "CHN", "C1"] {
            assert_eq!(wrong.parse::<Country>(), Err(InvalidCountry), "{wrong}");
        }
    }
}
