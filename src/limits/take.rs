//! What a claim takes of a cap, and what it is told where there is no room.

use std::time::Duration;

use uuid::Uuid;

use crate::domain::cap::{Mode, OnLimit};
use crate::domain::ids::TenantId;
use crate::domain::keys::RecipientKey;
use crate::domain::time::UnixMicros;

/// One cap that a claim needs room in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Take {
    /// Stands for the rule within its log; changes with what the rule counts and with its window.
    pub rule: u32,
    /// Whose log it is in, where that is not the recipient's own: a sender's.
    pub log: Option<RecipientKey>,
    /// How many the window holds; never 0 (that needs no store).
    pub limit: u32,
    /// How many of them the job takes, 1 to 255.
    pub need: u32,
    /// The window.
    pub span: Span,
    /// What takes its place once.
    pub once: Once,
    /// What happens without room; the first rule that drops wins over those that defer.
    pub on_limit: OnLimit,
    /// Whether it binds. A shadow takes a place where it has one, and never stands in the way.
    pub mode: Mode,
}

/// What takes a place in a cap once, however often it is claimed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Once {
    /// A touch: while its place is in the window, another attempt of the job, or step of its chain, takes none.
    Touch,
    /// An attempt: the next one of the same touch takes a place of its own.
    Attempt,
}

/// A cap's window as a store sees it: without zones and calendars.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Span {
    /// Any stretch of this length.
    Rolling(Duration),
    /// This stretch, which the claim's `now` lies in. Where the store's time is past it, the answer is to ask again at
    /// that time: what is taken then counts in the next one.
    Fixed {
        /// Its first instant.
        start: UnixMicros,
        /// The first instant after it.
        end: UnixMicros,
    },
    /// From the first place on, for this long; while one of its places stands, the window does.
    FromFirst(Duration),
    /// A token bucket, which one place comes back to in this time. A place that is given back before later ones comes
    /// back with them: too strict for a moment, never too lax.
    Bucket(Duration),
}

/// A place in a cap that is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// When it was taken.
    pub at: UnixMicros,
    /// How many of the limit it takes.
    pub weight: u32,
    /// When it is free again.
    pub until: UnixMicros,
    /// The job that took it, as [`short`](super::short) makes it.
    pub job: u64,
    /// What counts as one touch, as [`short`](super::short) makes it.
    pub touch: u64,
}

/// Frees the places that a touch holds in some caps: it turned out not to count there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vacate {
    /// Whose caps.
    pub tenant: TenantId,
    /// The recipient.
    pub recipient: RecipientKey,
    /// The touch, as in [`Claim::touch`](super::Claim::touch).
    pub touch: Uuid,
    /// The caps, as in [`Take::rule`]; at most [`TAKES_MAX`](super::TAKES_MAX).
    pub rules: Vec<u32>,
    /// The logs of those that are not the recipient's own.
    pub logs: Vec<RecipientKey>,
}

/// How many jobs are told to come at an opening, for each place that opens: some were cancelled meanwhile.
pub(super) const TOLD_PER_PLACE: u64 = 2;
/// Instants that a log keeps of what it told waiting jobs; more jobs are told the last of them.
pub(super) const TOLD_MAX: usize = 32;

/// How long a place is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Until {
    /// So many µs after it was taken: the same for all places of a rule.
    After(i64),
    /// Up to an instant.
    At(UnixMicros),
}

// === impl Until ===

impl Until {
    /// Returns the first instant at which a place taken at `at` has no meaning.
    pub fn end(self, at: UnixMicros) -> UnixMicros {
        match self {
            Self::After(life) => UnixMicros(at.0.saturating_add(life)),
            Self::At(end) => end,
        }
    }
}

// === impl Take ===

impl Take {
    /// Returns how many of its cap's places are taken at `now` by what is held.
    pub fn used(&self, held: &[Held], now: UnixMicros) -> u32 {
        match self.span {
            Span::Rolling(_) | Span::Fixed { .. } | Span::FromFirst(_) => held.iter().map(|held| held.weight).sum(),
            // What has not come back yet, as whole places.
            Span::Bucket(refill) => {
                let full_at = held.iter().map(|held| held.until).max().unwrap_or(now);
                let missing = i64::try_from(full_at.since(now).as_micros()).unwrap_or(i64::MAX);
                let places = missing.saturating_add(micros(refill) - 1) / micros(refill).max(1);
                u32::try_from(places).unwrap_or(u32::MAX)
            }
        }
    }
}

/// Returns a length of time in µs.
pub(super) fn micros(length: Duration) -> i64 {
    UnixMicros(0).plus(length).0
}
