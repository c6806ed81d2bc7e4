//! What nodes share as a whole number of places each, such as the binds to a provider. Where there are fewer than nodes,
//! those that came first have one each.

use std::time::Duration;

use crate::domain::time::UnixMicros;

/// How long a node is believed to hold its places after it was heard of last.
pub const SHARE_LIFE: Duration = Duration::from_secs(15);

/// Asks how many places of something a node may hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// What is shared, such as `binds:carrier-a`.
    pub what: Box<str>,
    /// The node: no other has this number.
    pub who: u64,
    /// The place of this question among the node's: one that is overtaken by the next, on another connection, counts for
    /// nothing.
    pub turn: UnixMicros,
    /// How many there are for all nodes.
    pub total: u16,
    /// How many the node may hold by the last answer, or holds still if those are more.
    pub holds: u16,
    /// Whether the node wants no more of it.
    pub leaves: bool,
}
