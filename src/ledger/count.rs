//! How many jobs came to what, by the hour.

use crate::domain::event::Fate;
use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};
use crate::domain::time::UnixMicros;

/// So many more jobs of a tenant came to a state in an hour.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Count {
    /// Whose.
    pub tenant: TenantId,
    /// The hour's start.
    pub hour: UnixMicros,
    /// Of which kind.
    pub kind: Kind,
    /// Of which class.
    pub class: Class,
    /// `accepted`, `sent`, or a fate's word. `sent` is a fate where its reason is [`SENT_FINALLY`].
    pub what: Box<str>,
    /// The fate's reason; empty: none.
    pub reason: Box<str>,
    /// How many more.
    pub jobs: i64,
}

/// The reason under which jobs are counted whose outcome is `sent`: no receipt will follow.
pub const SENT_FINALLY: &str = "no_receipts";

impl Count {
    /// Returns the fate that was counted, if it is one.
    pub fn fate(&self) -> Option<Fate> {
        Fate::from_word(&self.what).filter(|fate| *fate != Fate::Sent || &*self.reason == SENT_FINALLY)
    }
}
