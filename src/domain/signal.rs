//! Signals: facts about a recipient that come in by themselves. They answer no job and change no outcome.

use std::fmt;

use uuid::Uuid;

use super::ids::{ProviderId, TenantId};
use super::job::words;
use super::recipient::Recipient;
use super::time::UnixMicros;

/// Most details of a signal, and most bytes of one.
pub const DETAILS_MAX: usize = 8;
/// Most bytes of a detail.
pub const DETAIL_LEN_MAX: usize = 512;

words! {
    /// What a signal says.
    Told {
        /// Became a WeCom friend.
        FriendAdded = "friend_added",
        /// Is no WeCom friend any more.
        FriendRemoved = "friend_removed",
        /// Joined a customer group.
        GroupJoined = "group_joined",
        /// Left a customer group.
        GroupLeft = "group_left",
        /// Follows an official account.
        Subscribed = "subscribed",
        /// Follows an official account no more.
        Unsubscribed = "unsubscribed",
        /// Accepted a subscribe popup.
        PopupAccepted = "popup_accepted",
        /// Rejected a subscribe popup.
        PopupRejected = "popup_rejected",
        /// Shared a location.
        Location = "location",
    }
}

/// A fact about a recipient. Whom it is about, and its details, are sealed wherever it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Signal {
    /// The same however often the platform says it: it is kept once.
    pub id: Uuid,
    /// The provider it came through.
    pub provider: ProviderId,
    /// The tenant whose account it came to.
    pub tenant: TenantId,
    /// What it says.
    pub told: Told,
    /// Whom it is about.
    pub recipient: Recipient,
    /// The account it came to.
    pub to: Box<str>,
    /// What else is known, by name: at most [`DETAILS_MAX`], each of at most [`DETAIL_LEN_MAX`] bytes.
    pub details: Vec<(Box<str>, Box<str>)>,
    /// When it came.
    pub at: UnixMicros,
}

impl Signal {
    /// Returns the id of what `provider` says, made of all that makes it another than the rest: whom it is about, when
    /// it happened there, and what.
    pub fn id_of(provider: &ProviderId, parts: &[&str]) -> Uuid {
        let name = [&[provider.as_str()], parts].concat().join("\0");
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
    }
}

/// The detail of a popup's signal that names the template.
pub const TEMPLATE_ID: &str = "template_id";
/// The detail of a popup's signal that names where the user said it, and what it says of the account's settings.
pub const BY: &str = "by";
/// As [`BY`]: asked.
pub const BY_POPUP: &str = "popup";
/// As [`BY`]: not asked, in the account's settings.
pub const BY_SETTINGS: &str = "settings";

/// The detail of a popup's signal that names the platform's time of it, in seconds since the epoch.
pub const SAID_AT: &str = "said_at";

/// Returns what stands for the consents of a user of an account to a template.
pub fn consent(appid: &str, openid: &str, template_id: &str) -> String {
    [appid, openid, template_id].join("\0")
}

impl Signal {
    /// Returns the value of a detail.
    pub fn detail(&self, name: &str) -> Option<&str> {
        self.details.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }

    /// Returns when the platform says that it was, or else when it came.
    pub fn said_at(&self) -> UnixMicros {
        self.detail(SAID_AT).and_then(|second| second.parse().ok()).map_or(self.at, UnixMicros::from_secs)
    }
}

impl fmt::Debug for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the recipient or details: this ends in logs and panics.
        f.debug_struct("Signal").field("provider", &self.provider).field("told", &self.told).finish_non_exhaustive()
    }
}
