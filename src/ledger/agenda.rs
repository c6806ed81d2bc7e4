//! What waits in the agenda: entries, and the groups that they take turns in.

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::ids::{Lane, TenantId};
use crate::domain::time::UnixMicros;

/// A place among the agenda entries of a tenant: when their jobs were accepted, and the entry.
pub type Place = (UnixMicros, Uuid);

/// How often the agenda is looked through for the entries that a rule binds: at once, and again for what was on its way
/// to the agenda.
pub const RULE_SWEEPS: u8 = 2;

/// How many shards the agenda has. A tenant's entries are all in one of them, and one feeder at a time releases a shard's.
pub const SHARDS: u8 = 16;

/// Some shards of the agenda.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Shards(u16);

/// What an agenda entry is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Tag {
    /// An envelope to release; never claimed.
    Send,
    /// A hand-over without an answer, to decide by record; never in a lane.
    Check,
    /// A timer, unique by kind, owner and key: setting it again moves it.
    Timer {
        /// What it starts.
        kind: Box<str>,
        /// Whom it is for.
        owner: Box<str>,
        /// Which of the owner's.
        key: Box<str>,
    },
}

/// Which tag an entry has, without the timer's name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Sort {
    /// [`Tag::Send`].
    Send,
    /// [`Tag::Check`].
    Check,
    /// [`Tag::Timer`].
    Timer,
}

/// Entries that take turns: of one tenant, lane, sort and sender with a rate of its own. A group that must wait is not
/// read, so that its backlog hides nobody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Whose they are.
    pub tenant: TenantId,
    /// Where their jobs are sent from.
    pub lane: Lane,
    /// What they are for.
    pub sort: Sort,
    /// The mark of their sender; see [`Entry::sender`].
    pub sender: u32,
    /// When the first is due, to the second: nothing of the group is due in an earlier one.
    pub first_due: UnixMicros,
}

/// An entry of the agenda.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its id; inserting an id twice inserts it once.
    pub id: Uuid,
    /// What it is for.
    pub tag: Tag,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where its jobs are sent from.
    pub lane: Lane,
    /// The mark of its sender where that has a rate of its own, else 0.
    pub sender: u32,
    /// -100 to 100: among those due in the same second, the higher goes first.
    pub priority: i8,
    /// When it is due.
    pub due_at: UnixMicros,
    /// When its jobs were accepted, for one to send: a request's jobs have that in common, and few others have it.
    pub accepted_at: Option<UnixMicros>,
    /// How many jobs it holds.
    pub jobs: u32,
    /// When its release began, if it did: its jobs may be in a lane.
    pub releasing_since: Option<UnixMicros>,
    /// The sealed frame.
    pub payload: Bytes,
}

/// How a released entry ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Release {
    /// It is wholly released, or settled.
    Done(Uuid),
    /// A part is released; what is left stays, due when said, not releasing.
    Left {
        /// The entry.
        id: Uuid,
        /// What is left of it.
        payload: Bytes,
        /// How many jobs that is.
        jobs: u32,
        /// When it is due.
        due_at: UnixMicros,
        /// The mark of its sender, as it is known now.
        sender: u32,
    },
}

/// How the agenda stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct AgendaDepth {
    /// Entries.
    pub entries: u64,
    /// Jobs in them.
    pub jobs: u64,
    /// When the first is due that is not releasing, to the second.
    pub oldest_due: Option<UnixMicros>,
}

// === impl Group ===

impl Group {
    /// Returns whether an entry is one of it.
    pub fn holds(&self, entry: &Entry) -> bool {
        let Self { tenant, lane, sort, sender, first_due: _ } = self;
        (tenant, lane, *sort, *sender) == (&entry.tenant, &entry.lane, entry.tag.sort(), entry.sender)
    }
}

// === impl Tag ===

impl Tag {
    /// Returns its sort.
    pub fn sort(&self) -> Sort {
        match self {
            Self::Send => Sort::Send,
            Self::Check => Sort::Check,
            Self::Timer { .. } => Sort::Timer,
        }
    }
}

// === impl Shards ===

impl Shards {
    /// All of them.
    pub const ALL: Self = Self(u16::MAX);

    /// Returns whether these are none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns how many these are.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns these as bits, the first shard's lowest.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns each of them, as one of [`SHARDS`].
    pub fn each(self) -> impl Iterator<Item = u8> {
        (0..SHARDS).filter(move |shard| self.0 & (1 << shard) != 0)
    }

    /// Returns these with one more.
    #[must_use]
    pub const fn with(self, shard: u8) -> Self {
        Self(self.0 | 1 << shard)
    }

    /// Returns these but for `others`.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Returns those that are among `others`, too.
    #[must_use]
    pub const fn among(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }
}
