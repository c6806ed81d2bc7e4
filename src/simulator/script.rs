//! Errors of a provider's own, by choice: which code comes, how often, and for whom.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use fastrand::Rng;
use uuid::Uuid;

/// Which messages are answered with an error, and with which. The first that fits a message counts; it draws its lot among
/// the shares of those that fit all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Script {
    errors: Vec<Scripted>,
}

/// A code that some messages are answered with.
#[derive(Clone, PartialEq, Debug)]
pub struct Scripted {
    /// The code, as the provider writes it.
    pub code: Arc<str>,
    /// Whose messages.
    pub whose: Whose,
}

/// Whose messages are answered with a code.
#[derive(Clone, PartialEq, Debug)]
pub enum Whose {
    /// Such a share of all.
    Share(f64),
    /// One recipient's, each time; a number with or without its plus, one of mainland China without 86 as well.
    Recipient(Box<str>),
}

/// Why something is no [`Scripted`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidScripted;

// === impl Script ===

impl Script {
    /// Returns a script of such errors.
    pub fn new(errors: Vec<Scripted>) -> Self {
        Self { errors }
    }

    /// Returns the codes.
    pub fn codes(&self) -> impl Iterator<Item = &str> {
        self.errors.iter().map(|scripted| &*scripted.code)
    }

    /// Returns the code for a message to `to` that comes for the nth time; `message` is what its repetitions have in common.
    #[expect(clippy::cast_possible_truncation, reason = "both halves of the id go into the seed")]
    pub(super) fn code(&self, to: &str, (message, attempt): (Uuid, u16), seed: u64) -> Option<Arc<str>> {
        let id = message.as_u128();
        // Other chance than the rest of the plan has, so that a script changes nothing but what it names.
        let seed = seed.rotate_left(17) ^ (id as u64) ^ ((id >> 64) as u64) ^ (u64::from(attempt) << 48);
        let mut lot = Rng::with_seed(seed).f64();
        let mut fits = |whose: &Whose| match whose {
            Whose::Recipient(whom) => plain(whom) == plain(to),
            Whose::Share(share) => {
                lot -= share;
                lot < 0.0
            }
        };
        self.errors.iter().find(|scripted| fits(&scripted.whose)).map(|scripted| Arc::clone(&scripted.code))
    }
}

/// Returns a recipient without what vendors leave out.
fn plain(recipient: &str) -> &str {
    let digits = recipient.strip_prefix('+').unwrap_or(recipient);
    digits.strip_prefix("86").filter(|rest| rest.len() == 11 && rest.starts_with('1')).unwrap_or(digits)
}

// === impl Scripted ===

impl FromStr for Scripted {
    type Err = InvalidScripted;

    /// Reads `CODE=SHARE` or `CODE@RECIPIENT`.
    fn from_str(text: &str) -> Result<Self, InvalidScripted> {
        let (code, whose) = if let Some((code, whom)) = text.split_once('@').filter(|(_, whom)| !whom.is_empty()) {
            (code, Whose::Recipient(whom.into()))
        } else {
            let (code, share) = text.split_once('=').ok_or(InvalidScripted)?;
            let share = share.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or(InvalidScripted)?;
            (code, Whose::Share(share))
        };
        if code.is_empty() {
            return Err(InvalidScripted);
        }
        Ok(Self { code: code.into(), whose })
    }
}

impl fmt::Display for InvalidScripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CODE=SHARE, a share between 0 and 1, or CODE@RECIPIENT is expected")
    }
}

impl std::error::Error for InvalidScripted {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_code_with_a_share_or_a_recipient() {
        let check = |text: &str, expected: Option<(&str, Whose)>| {
            let read = text.parse::<Scripted>().ok();
            assert_eq!(read, expected.map(|(code, whose)| Scripted { code: code.into(), whose }), "{text}");
        };
        check("isv.DAY_LIMIT_CONTROL=0.25", Some(("isv.DAY_LIMIT_CONTROL", Whose::Share(0.25))));
        check("21211@+8613800000001", Some(("21211", Whose::Recipient("+8613800000001".into()))));
        for wrong in ["", "0x58", "=0.5", "@+86", "0x58=2", "0x58=-1", "0x58=often", "0x58@"] {
            check(wrong, None);
        }
    }

    #[test]
    fn so_many_messages_get_a_code_as_it_says_and_the_same_ones_each_time() {
        let share = |code: &str, share| Scripted { code: code.into(), whose: Whose::Share(share) };
        let named = Scripted { code: "named".into(), whose: Whose::Recipient("+1".into()) };
        let script = Script::new(vec![share("a", 0.1), named, share("b", 0.3)]);
        let count = |wanted: &str, to: &str| {
            let code = |n: u128| script.code(to, (Uuid::from_u128(n << 60), 1), 7);
            assert_eq!(code(1), code(1));
            (0..10_000).filter(|n| code(*n).as_deref() == Some(wanted)).count()
        };
        assert!((900..1_100).contains(&count("a", "+2")) && (2_800..3_200).contains(&count("b", "+2")));
        assert_eq!(count("a", "1") + count("named", "1"), 10_000);
    }
}
