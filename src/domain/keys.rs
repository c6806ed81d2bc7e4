//! Keyed hashes that stand for people, addresses and words wherever the plain value must not be stored.

use std::fmt;

macro_rules! key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Long enough to tell two apart in a test, too short to look one up.
                write!(f, "{}({:02x}{:02x}..)", stringify!($name), self.0[0], self.0[1])
            }
        }
    };
}

key! {
    /// Stands for a recipient of one tenant: keyed hash of tenant and recipient id, or of the address without an id.
    RecipientKey
}
key! {
    /// Stands for an address (a number, an openid), the same for all tenants.
    AddressKey
}
key! {
    /// Stands for a tenant's word: a cancel key, a campaign, a topic, a sender.
    WordKey
}
key! {
    /// Stands for the body of a submit, to tell a repetition from a different request under the same key.
    Fingerprint
}

/// What a [`WordKey`] is a word of: equal words with different meanings have different keys.
pub mod space {
    /// A cancel key.
    pub const CANCEL_KEY: &str = "cancel_key";
    /// A collapse key.
    pub const COLLAPSE_KEY: &str = "collapse_key";
    /// A campaign.
    pub const CAMPAIGN: &str = "campaign";
    /// A run.
    pub const RUN: &str = "run";
    /// The consents of a person to a template.
    pub const CONSENT: &str = "consent";
    /// A quota with its window.
    pub const QUOTA: &str = "quota";
    /// A topic.
    pub const TOPIC: &str = "topic";
    /// A sender.
    pub const SENDER: &str = "sender";
    /// A signature.
    pub const SIGNATURE: &str = "signature";
}
