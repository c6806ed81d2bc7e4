//! How many jobs came to what, by the hour.

use crate::domain::event::Fate;
use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};
use crate::domain::money::Money;
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
    /// `accepted`, `sent`, or a fate's word. `sent` is a fate where its reason is [`SENT_FINALLY`]. Or [`COST`] or
    /// [`COST_FINALLY`].
    pub what: Box<str>,
    /// The fate's reason; empty: none. Of a cost its currency.
    pub reason: Box<str>,
    /// How many more. Of a cost millionths of the currency's unit.
    pub jobs: i64,
}

/// The reason under which jobs are counted whose outcome is `sent`: no receipt will follow.
pub const SENT_FINALLY: &str = "no_receipts";

/// What hand-overs cost that a receipt is expected for.
pub const COST: &str = "cost";
/// What hand-overs cost without receipts.
pub const COST_FINALLY: &str = "cost_no_receipts";

impl Count {
    /// Returns what was paid, and whether no receipt will follow, if that is what it says.
    pub fn cost(&self) -> Option<(Money, bool)> {
        let finally = match &*self.what {
            COST => false,
            COST_FINALLY => true,
            _ => return None,
        };
        let currency = self.reason.parse().ok()?;
        Some((Money::new(currency, self.jobs).ok()?, finally))
    }

    /// Returns the fate that was counted, if it is one.
    pub fn fate(&self) -> Option<Fate> {
        Fate::from_word(&self.what).filter(|fate| *fate != Fate::Sent || &*self.reason == SENT_FINALLY)
    }
}
