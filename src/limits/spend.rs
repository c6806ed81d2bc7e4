//! What a submit takes of its tenant's quotas.

use super::{Remember, Remembered};
use crate::domain::ids::TenantId;
use crate::domain::keys::WordKey;
use crate::domain::time::UnixMicros;

/// Most allowances of one submit.
pub const ALLOWANCES_MAX: usize = crate::domain::quota::QUOTAS_MAX;

/// A submit, with what it needs of each quota. Its items are let in in their order, up to the first that some quota has
/// no room for: of what is let in all is taken, of the rest nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spend {
    /// Whose.
    pub tenant: TenantId,
    /// Its idempotency key, if it has one. It is remembered with what was taken under it, in one step: nothing is taken
    /// a second time, and the first answer is given again. It stays free where nothing is let in.
    pub key: Option<Remember>,
    /// The quotas, at most [`ALLOWANCES_MAX`]; none: everything is let in.
    pub from: Vec<Allowance>,
    /// What each item needs; none: nothing is taken or remembered, and what is known under the key is told.
    pub items: Vec<Need>,
}

/// What a quota has room for in one window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Allowance {
    /// Stands for the quota and its window within the tenant.
    pub key: WordKey,
    /// What it counts.
    pub counts: Counts,
    /// How much: at most [`crate::domain::quota::QUOTA_MAX`].
    pub most: u64,
    /// When its window ends; it is forgotten some time later.
    pub ends_at: UnixMicros,
}

/// What an allowance counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counts {
    /// [`Need::jobs`].
    Jobs,
    /// [`Need::micros`].
    Money,
}

/// What an item needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Need {
    /// 1, or 0 for an item that is refused anyway.
    pub jobs: u64,
    /// What it may cost, in millionths of a currency's unit.
    pub micros: u64,
}

/// What a submit was answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spent {
    /// Whether it was there before; without a key it never was.
    pub met: Remembered,
    /// So many items, from the first on, are let in, or were when it was there first; of what was let in whole, a submit
    /// without items is told `u32::MAX`.
    pub items: u32,
    /// Which allowance has no room for the next one; unknown of a submit that was there before.
    pub full: Option<usize>,
}

/// How many items a memo stands for that was written without a count: all of them.
pub(super) const ALL_ITEMS: u32 = u32::MAX;

// === impl Spend ===

impl Spend {
    /// Returns how many items are let in of a submit for which so many are remembered.
    pub(super) fn at_most(&self, items: u32) -> u32 {
        if self.items.is_empty() { items } else { items.min(u32::try_from(self.items.len()).unwrap_or(ALL_ITEMS)) }
    }

    /// Returns the items as runs of equal needs.
    pub(super) fn runs(&self) -> Vec<(u32, Need)> {
        let mut runs: Vec<(u32, Need)> = Vec::new();
        for &need in &self.items {
            match runs.last_mut() {
                Some((count, last)) if *last == need && *count < u32::MAX => *count += 1,
                _ => runs.push((1, need)),
            }
        }
        runs
    }
}

impl Need {
    /// Returns what of it an allowance counts.
    pub(super) fn of(self, counts: Counts) -> u64 {
        match counts {
            Counts::Jobs => self.jobs,
            Counts::Money => self.micros,
        }
    }
}
