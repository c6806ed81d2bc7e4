//! Opt-outs: who must not be reached any more.

use std::fmt;

use super::ids::TenantId;
use super::job::{Kind, words};
use super::keys::{AddressKey, WordKey};
use super::time::UnixMicros;

/// How far an opt-out reaches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// What this sender sends.
    Sender(WordKey),
    /// What carries this signature.
    Signature(WordKey),
    /// What is about this topic.
    Topic(WordKey),
    /// The tenant's marketing and notification, in every kind that uses the address: what STOP means.
    Brand,
    /// Everything of the tenant, one-time passwords included.
    Everything,
    /// Marketing and notification of every tenant: an operator's word.
    Global,
}

words! {
    /// Where an opt-out came from.
    Source {
        /// A reply with an opt-out word.
        Keyword = "keyword",
        /// A call of the API.
        Api = "api",
        /// A provider's report.
        Provider = "provider",
        /// An import.
        Import = "import",
    }
}

/// An opt-out of an address from what a tenant sends, or of what all tenants send. It is the same opt-out again where
/// address, scope, kind and source are the same, and the tenant unless the scope is [`Scope::Global`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suppression {
    /// Whose jobs it binds; who said so where it binds every tenant's.
    pub tenant: TenantId,
    /// The address.
    pub address: AddressKey,
    /// How far it reaches.
    pub scope: Scope,
    /// The kind of jobs that it binds; `None`: every kind that uses the address.
    pub kind: Option<Kind>,
    /// Where it came from.
    pub source: Source,
    /// When it was acknowledged.
    pub at: UnixMicros,
}

/// What the keys of an opt-out stand for, so that its owner can see it again. Sealed wherever it is stored.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Plain {
    /// The address, in the form that its key was made of.
    pub address: Box<str>,
    /// The sender, signature or topic; empty where the scope has none.
    pub word: Box<str>,
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the address: this ends in logs and panics.
        f.write_str("Plain(..)")
    }
}

impl Scope {
    /// Returns how wide it is compared with others; the widest that binds a job is the reason that is given.
    pub const fn width(self) -> u8 {
        match self {
            Self::Sender(_) => 0,
            Self::Signature(_) => 1,
            Self::Topic(_) => 2,
            Self::Brand => 3,
            Self::Everything => 4,
            Self::Global => 5,
        }
    }

    /// Returns the word that it names, if it names one.
    pub const fn word(self) -> Option<WordKey> {
        match self {
            Self::Sender(word) | Self::Signature(word) | Self::Topic(word) => Some(word),
            Self::Brand | Self::Everything | Self::Global => None,
        }
    }

    /// Returns the scope of that width, with the word where it names one.
    pub const fn of_width(width: u8, word: WordKey) -> Option<Self> {
        Some(match width {
            0 => Self::Sender(word),
            1 => Self::Signature(word),
            2 => Self::Topic(word),
            3 => Self::Brand,
            4 => Self::Everything,
            5 => Self::Global,
            _ => return None,
        })
    }
}
