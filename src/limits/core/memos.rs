//! Submits with idempotency keys, remembered until their time is over.

use std::collections::HashMap;

use super::Key;
use super::change::Change;
use crate::domain::ids::JobId;
use crate::domain::keys::Fingerprint;
use crate::domain::time::UnixMicros;
use crate::limits::{Remember, Remembered};

/// Memos below this number are never pruned.
const PRUNE_MIN: usize = 1024;

/// What is remembered of one submit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Memo {
    /// Eight bytes of the keyed hash of what was asked.
    pub fingerprint: u64,
    /// The second at which it is forgotten.
    pub until_s: u32,
    /// Whether it is known to be durable.
    pub accepted: bool,
    /// How many of its items, from the first on, are let in; `u32::MAX`: all.
    pub items: u32,
}

/// The memos of one shard, by job id.
#[derive(Debug, Default)]
pub struct Memos {
    memos: HashMap<Key, Memo>,
    prune_at: usize,
}

impl Memos {
    /// Returns what a submit meets that is known, and how many of its items are let in.
    pub(super) fn met(&self, now: UnixMicros, submit: &Remember) -> Option<(Remembered, u32)> {
        let memo = self.memos.get(&submit.id.0.into_bytes()).filter(|memo| lives(memo, now))?;
        let met = match memo {
            memo if memo.fingerprint != short(submit.fingerprint) => Remembered::Conflict,
            Memo { accepted: true, .. } => Remembered::Accepted,
            Memo { accepted: false, .. } => Remembered::Pending,
        };
        Some((met, memo.items))
    }

    /// Remembers a submit as pending, of which so many items are let in.
    pub(super) fn put(&mut self, now: UnixMicros, submit: &Remember, items: u32) -> (Key, Memo) {
        self.prune(now);
        // Rounded up: never forgotten early.
        let until_s = u32::try_from(submit.until.as_secs().saturating_add(1)).unwrap_or(u32::MAX);
        let memo = Memo { fingerprint: short(submit.fingerprint), until_s, accepted: false, items };
        let id = submit.id.0.into_bytes();
        self.memos.insert(id, memo);
        (id, memo)
    }

    /// Marks a submit as accepted.
    pub fn accept(&mut self, id: JobId) -> Option<Change> {
        let id = id.0.into_bytes();
        let memo = self.memos.get_mut(&id).filter(|memo| !memo.accepted)?;
        memo.accepted = true;
        Some(Change::Memo { id, memo: *memo })
    }

    /// Sets a memo to what the log says.
    pub fn set(&mut self, id: Key, memo: Memo) {
        self.memos.insert(id, memo);
    }

    /// Calls `each` with every memo that lives at `now`.
    pub fn each(&self, now: UnixMicros, mut each: impl FnMut(&Key, &Memo)) {
        self.memos.iter().filter(|(_, memo)| lives(memo, now)).for_each(|(id, memo)| each(id, memo));
    }

    fn prune(&mut self, now: UnixMicros) {
        // When it has doubled: each memo is looked at a constant number of times in its life.
        if self.memos.len() >= self.prune_at.max(PRUNE_MIN) {
            self.memos.retain(|_, memo| lives(memo, now));
            self.prune_at = self.memos.len() * 2;
        }
    }
}

fn lives(memo: &Memo, now: UnixMicros) -> bool {
    now.as_secs() < i64::from(memo.until_s)
}

fn short(fingerprint: Fingerprint) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&fingerprint.0[..8]);
    u64::from_le_bytes(bytes)
}
