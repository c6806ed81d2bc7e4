//! What a route over SMPP needs to know, checked.

use std::fmt;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::Duration;

use super::ids::{IdForm, IdForms};
use crate::channel::sms::text::{Alphabet, Counting, Style};
pub use crate::channel::tls::{Tls, TlsError};
use crate::config;
use crate::domain::ids::ProviderId;

/// A route over SMPP.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider behind it.
    pub provider: ProviderId,
    /// Host and port of the SMSC, such as `smsc.example:2775`.
    pub address: Box<str>,
    /// Who binds.
    pub account: Account,
    /// How the connection is encrypted; `None`: not at all, as SMPP has it.
    pub tls: Option<Tls>,
    /// Connections held at once. Default 1.
    pub binds: NonZeroU32,
    /// Most segments without an answer on one bind. Default 10, what SMSCs usually grant.
    pub window: NonZeroU32,
    /// Segments per second that the route is known to carry, or 0; only said in the health. Default 0.
    pub rate_per_s: f64,
    /// How long a job may be without its answer. Default 60 s: SMSCs under load take tens of seconds, and an answer
    /// that is given up on is a job that nobody knows of.
    pub response_timeout: Duration,
    /// How long connecting, encrypting and binding may take together. Default 10 s.
    pub connect_timeout: Duration,
    /// How often the SMSC is asked whether it still lives. Default 30 s.
    pub enquire_link: Duration,
    /// The pauses between attempts to bind. Default 500 ms to 60 s.
    pub backoff: Backoff,
    /// How long an orderly end waits for answers before it unbinds. Default 10 s.
    pub drain: Duration,
    /// The sender of jobs that name none. Default: empty, the SMSC fills it in.
    pub source: Box<str>,
    /// Type and plan of senders. Default: told by their look.
    pub source_plan: Option<Plan>,
    /// Type and plan of recipients. Default international, ISDN.
    pub destination_plan: Plan,
    /// How texts are counted and written.
    pub style: Style,
    /// The `data_coding` of texts in the default alphabet. Default 0.
    pub data_coding: u8,
    /// Most segments of one text. Default 8.
    pub segments_max: NonZeroU8,
    /// How message ids are written in answers and in receipts.
    pub ids: IdForms,
    /// Whether receipts are asked for. Default yes.
    pub receipts: Receipts,
    /// Whether each submit carries a reference made of the job's id. Default yes; for SMSCs that refuse what they do not
    /// know.
    pub reference: Reference,
    /// Whether the SMSC is told how long it may try. Default yes.
    pub validity: Validity,
}

/// A provider's settings make no route.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRoute {
    /// Nobody could bind so.
    #[error(transparent)]
    Account(#[from] InvalidAccount),
    /// The encryption cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Who binds: checked against the lengths that SMPP allows.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    pub(super) system_id: Box<str>,
    pub(super) password: Box<str>,
    pub(super) system_type: Box<str>,
}

/// The SMSC would not understand who binds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAccount {
    /// More characters than the field holds.
    #[error("{field} has {len} characters, SMPP allows {max}")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// How long it is.
        len: usize,
        /// How long it may be.
        max: usize,
    },
    /// Something else than plain ASCII.
    #[error("{0} may hold only ASCII characters")]
    NotAscii(&'static str),
}

/// The pauses between attempts to bind: doubled from one to the next, with jitter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest one.
    pub max: Duration,
}

/// Type of number and numbering plan (SMPP 3.4, 5.2.5 and 5.2.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Plan {
    /// Type of number: 0 unknown, 1 international, 2 national, 3 network, 5 alphanumeric.
    pub ton: u8,
    /// Numbering plan: 0 unknown, 1 ISDN.
    pub npi: u8,
}

/// Whether receipts are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Receipts {
    /// One for each segment, when its fate is final.
    #[default]
    Final,
    /// None: sent is all that is known.
    None,
}

/// Whether a submit carries a reference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reference {
    /// As `user_message_reference`: the same for each attempt of a job.
    #[default]
    Sent,
    /// Not at all.
    Omitted,
}

/// Whether a submit says how long the SMSC may try.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Validity {
    /// As a relative time.
    #[default]
    Relative,
    /// Not at all: the SMSC decides.
    Omitted,
}

// === impl Settings ===

impl Settings {
    /// Returns a route with the default of everything else.
    pub fn new(provider: ProviderId, address: &str, account: Account) -> Self {
        Self {
            provider,
            address: address.into(),
            account,
            tls: None,
            binds: NonZeroU32::MIN,
            window: NonZeroU32::MIN.saturating_add(9),
            rate_per_s: 0.0,
            response_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(10),
            enquire_link: Duration::from_secs(30),
            backoff: Backoff { first: Duration::from_millis(500), max: Duration::from_secs(60) },
            drain: Duration::from_secs(10),
            source: "".into(),
            source_plan: None,
            destination_plan: Plan::INTERNATIONAL,
            style: Style::default(),
            data_coding: 0,
            segments_max: NonZeroU8::MIN.saturating_add(7),
            ids: IdForms::default(),
            receipts: Receipts::default(),
            reference: Reference::default(),
            validity: Validity::default(),
        }
    }

    /// Returns the route that a provider's settings describe.
    ///
    /// # Errors
    /// [`InvalidRoute`] when the account does not fit into a bind, or the encryption cannot be set up.
    pub fn of(provider: &config::Provider, smpp: &config::Smpp) -> Result<Self, InvalidRoute> {
        let account = Account::new(&smpp.system_id, smpp.password.reveal(), &smpp.system_type)?;
        let tls = smpp.tls.as_ref().map(|tls| Tls::new(&tls.name, tls.ca.as_deref())).transpose()?;
        let defaults = Self::new(provider.id.clone(), &smpp.address, account);
        let form = |form| match form {
            config::IdForm::Text => IdForm::Text,
            config::IdForm::Hex => IdForm::Hex,
            config::IdForm::Decimal => IdForm::Decimal,
        };
        Ok(Self {
            tls,
            binds: smpp.binds,
            window: smpp.window,
            rate_per_s: provider.rate.map_or(defaults.rate_per_s, |rate| f64::from(rate.per_s.get())),
            response_timeout: provider.response_timeout,
            enquire_link: smpp.enquire_link,
            backoff: Backoff { first: smpp.reconnect_delay, max: defaults.backoff.max.max(smpp.reconnect_delay) },
            source: smpp.sender.clone(),
            style: style(smpp),
            ids: IdForms { answer: form(smpp.submit_ids), receipt: form(smpp.receipt_ids) },
            receipts: if provider.receipts { Receipts::Final } else { Receipts::None },
            ..defaults
        })
    }
}

// === impl Account ===

impl Account {
    /// Returns an account.
    ///
    /// # Errors
    /// [`InvalidAccount`] for what does not fit into a bind: 15, 8 and 12 ASCII characters.
    pub fn new(system_id: &str, password: &str, system_type: &str) -> Result<Self, InvalidAccount> {
        check("system_id", system_id, 15)?;
        check("password", password, 8)?;
        check("system_type", system_type, 12)?;
        Ok(Self { system_id: system_id.into(), password: password.into(), system_type: system_type.into() })
    }
}

fn check(field: &'static str, text: &str, max: usize) -> Result<(), InvalidAccount> {
    if !text.bytes().all(|byte| byte.is_ascii() && byte != 0) {
        return Err(InvalidAccount::NotAscii(field));
    }
    if text.len() > max { Err(InvalidAccount::TooLong { field, len: text.len(), max }) } else { Ok(()) }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the password: this ends in logs.
        f.debug_struct("Account").field("system_id", &self.system_id).finish_non_exhaustive()
    }
}

// === impl Plan ===

impl Plan {
    /// A number with its country code.
    pub const INTERNATIONAL: Self = Self { ton: 1, npi: 1 };
    /// A name.
    pub const ALPHANUMERIC: Self = Self { ton: 5, npi: 0 };
    /// A short code.
    pub const SHORT_CODE: Self = Self { ton: 3, npi: 0 };
    /// The SMSC knows.
    pub const UNKNOWN: Self = Self { ton: 0, npi: 0 };

    /// Returns what `sender` looks like: a number, a short code, a name.
    pub fn of_sender(sender: &str) -> Self {
        let digits = sender.strip_prefix('+').unwrap_or(sender);
        if sender.is_empty() {
            Self::UNKNOWN
        } else if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            Self::ALPHANUMERIC
        } else if sender.len() == digits.len() && digits.len() <= 8 {
            Self::SHORT_CODE
        } else {
            Self::INTERNATIONAL
        }
    }
}

/// Returns how the texts of a provider's link are counted and written.
pub fn style(smpp: &config::Smpp) -> Style {
    Style {
        counting: match smpp.counting {
            config::Counting::GsmIntl => Counting::GsmIntl,
            config::Counting::CnDomestic => Counting::CnDomestic,
        },
        alphabet: match smpp.alphabet {
            config::Alphabet::Gsm7 => Alphabet::Gsm7,
            config::Alphabet::Latin1 => Alphabet::Latin1,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_fits_into_a_bind() {
        assert!(Account::new("postrider", "secret", "").is_ok());
        let long = Account::new("postrider", "ninechars", "");
        assert_eq!(long, Err(InvalidAccount::TooLong { field: "password", len: 9, max: 8 }));
        assert_eq!(Account::new("póstrider", "", ""), Err(InvalidAccount::NotAscii("system_id")));
    }

    #[test]
    fn passwords_stay_out_of_debug_output() {
        let account = Account::new("postrider", "hunter2", "").unwrap();
        let settings = Settings::new("carrier-a".parse().unwrap(), "localhost:2775", account);
        assert!(!format!("{settings:?}").contains("hunter2"));
    }

    #[test]
    fn senders_are_told_by_their_look() {
        assert_eq!(Plan::of_sender(""), Plan::UNKNOWN);
        assert_eq!(Plan::of_sender("ACME"), Plan::ALPHANUMERIC);
        assert_eq!(Plan::of_sender("10690"), Plan::SHORT_CODE);
        assert_eq!(Plan::of_sender("+4915112345678"), Plan::INTERNATIONAL);
        assert_eq!(Plan::of_sender("106900012345"), Plan::INTERNATIONAL);
    }
}
