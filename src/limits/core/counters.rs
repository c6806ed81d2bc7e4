//! Counters of quotas: what was taken in each window.

use std::collections::HashMap;
use std::time::Duration;

use super::Key;
use super::change::Change;
use super::key_of;
use super::memos::Memos;
use crate::domain::time::UnixMicros;
use crate::limits::spend::ALL_ITEMS;
use crate::limits::{Remembered, Spend, Spent};

/// How long after its window's end a counter is kept: for callers whose clock is behind.
const GRACE: Duration = Duration::from_secs(3_600);
/// Counters below this number are never pruned.
const PRUNE_MIN: usize = 1024;

/// What was taken in one window of a quota.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counter {
    /// How much.
    pub used: u64,
    /// When it is forgotten.
    pub until: UnixMicros,
}

/// The counters by key of tenant, quota and window.
#[derive(Debug, Default)]
pub struct Counters {
    counters: HashMap<Key, Counter>,
    prune_at: usize,
}

impl Counters {
    /// Takes what a submit needs, unless its key is known; returns what it meets, and the change that makes it last.
    pub fn spend(&mut self, memos: &mut Memos, now: UnixMicros, spend: &Spend) -> (Spent, Option<Change>) {
        if let Some((met, items)) = spend.key.as_ref().and_then(|key| memos.met(now, key)) {
            return (Spent { met, items: spend.at_most(items), full: None }, None);
        }
        self.prune(now);
        let keys: Vec<Key> = spend.from.iter().map(|allowance| key_of(&spend.tenant, allowance.key.0)).collect();
        let before: Vec<u64> = keys.iter().map(|key| self.used(*key)).collect();
        let (items, used, full) = let_in(spend, &before);
        if items == 0 {
            return (Spent { met: Remembered::New, items, full }, None);
        }
        let counters: Vec<_> = spend
            .from
            .iter()
            .zip(keys.into_iter().zip(used))
            .map(|(allowance, (key, used))| (key, Counter { used, until: allowance.ends_at.plus(GRACE) }))
            .collect();
        counters.iter().for_each(|(key, counter)| self.set(*key, *counter));
        let cut = if full.is_some() { items } else { ALL_ITEMS };
        let memo = spend.key.as_ref().map(|key| memos.put(now, key, cut));
        (Spent { met: Remembered::New, items, full }, Some(Change::Spent { counters, memo }))
    }

    /// Returns how much was taken of an allowance.
    pub fn used(&self, key: Key) -> u64 {
        self.counters.get(&key).map_or(0, |counter| counter.used)
    }

    /// Sets a counter to what the log says.
    pub fn set(&mut self, key: Key, counter: Counter) {
        self.counters.insert(key, counter);
    }

    /// Calls `each` with a change for every counter that has a meaning at `now`.
    pub fn each(&self, now: UnixMicros, mut each: impl FnMut(Change)) {
        for (&key, &counter) in self.counters.iter().filter(|(_, counter)| counter.until > now) {
            each(Change::Spent { counters: vec![(key, counter)], memo: None });
        }
    }

    fn prune(&mut self, now: UnixMicros) {
        if self.counters.len() >= self.prune_at.max(PRUNE_MIN) {
            self.counters.retain(|_, counter| counter.until > now);
            self.prune_at = self.counters.len() * 2;
        }
    }
}

/// Returns how many items of a submit are let in by allowances of which so much was used `before`; how much is used
/// then; and which one has no room for the next.
fn let_in(spend: &Spend, before: &[u64]) -> (u32, Vec<u64>, Option<usize>) {
    let (mut items, mut used) = (0_u32, before.to_vec());
    for (count, need) in spend.runs() {
        let fits = |(index, used): (usize, &u64)| {
            let allowance = &spend.from[index];
            let left = allowance.most.saturating_sub(*used);
            // What needs nothing fits even where more was taken than the quota is by now.
            let fits = left.checked_div(need.of(allowance.counts)).unwrap_or(u64::MAX);
            (u32::try_from(fits).unwrap_or(u32::MAX), index)
        };
        // Of those that have no room the first.
        let least = used.iter().enumerate().map(fits).min().filter(|(fits, _)| *fits < count);
        let taken = least.map_or(count, |(fits, _)| fits);
        for (used, allowance) in used.iter_mut().zip(&spend.from) {
            *used = used.saturating_add(need.of(allowance.counts).saturating_mul(taken.into()));
        }
        items = items.saturating_add(taken);
        if let Some((_, index)) = least {
            return (items, used, Some(index));
        }
    }
    (items, used, None)
}
