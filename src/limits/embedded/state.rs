//! The memory in shards, each behind its lock, and the log that every change of it goes to.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::domain::time::UnixMicros;
use crate::limits::LimitsError;
use crate::limits::core::{
    Buckets, Change, Consents, Counters, Key, Memory, Memos, People, Reader, Refusals, write_bucket, write_entry,
    write_memo,
};

/// Shards of recipients and memos: enough that 16 workers rarely meet, and that a snapshot holds each lock for a
/// millisecond or two at a million recipients.
const SHARDS: usize = 64;

/// Bytes that a snapshot gathers before it writes a block.
const DUMP_BYTES: usize = 1 << 20;

/// All that is remembered.
pub(super) struct State {
    shards: Box<[Mutex<Shard>]>,
    refusals: RwLock<Refusals>,
    buckets: Mutex<Buckets>,
    counters: Mutex<Counters>,
    latest: AtomicI64,
}

/// A part of it.
pub(super) struct Shard {
    /// Recipients.
    pub people: People,
    /// Submits.
    pub memos: Memos,
    /// One-time consents.
    pub consents: Consents,
}

/// The shards of some keys, all locked.
pub(super) struct Locked<'a> {
    shards: Vec<(usize, MutexGuard<'a, Shard>)>,
}

impl Memory for Locked<'_> {
    fn people(&mut self, log: &Key) -> &mut People {
        let shard = shard_of(log);
        let found = self.shards.iter().position(|(locked, _)| *locked == shard);
        &mut self.shards[found.unwrap_or_default()].1.people
    }
}

impl State {
    pub(super) fn new() -> Self {
        let shard =
            || Mutex::new(Shard { people: People::default(), memos: Memos::default(), consents: Consents::default() });
        Self {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            refusals: RwLock::default(),
            buckets: Mutex::default(),
            counters: Mutex::default(),
            latest: AtomicI64::new(i64::MIN),
        }
    }

    /// Returns `now`, or the latest time it was given before, whichever is later.
    pub(super) fn now(&self, now: UnixMicros) -> UnixMicros {
        UnixMicros(self.latest.fetch_max(now.0, Ordering::Relaxed).max(now.0))
    }

    /// Returns the latest time it was given.
    pub(super) fn latest(&self) -> UnixMicros {
        UnixMicros(self.latest.load(Ordering::Relaxed))
    }

    /// Locks the shard of a key.
    pub(super) fn shard(&self, key: &Key) -> MutexGuard<'_, Shard> {
        self.shards[shard_of(key)].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the shards of keys, at least one, each once and in their order, so that two callers never wait for each
    /// other.
    pub(super) fn lock(&self, keys: impl Iterator<Item = Key>) -> Locked<'_> {
        let mut shards: Vec<usize> = keys.map(|key| shard_of(&key)).collect();
        shards.sort_unstable();
        shards.dedup();
        let lock = |shard: usize| (shard, self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner));
        Locked { shards: shards.into_iter().map(lock).collect() }
    }

    pub(super) fn refusals(&self) -> RwLockReadGuard<'_, Refusals> {
        self.refusals.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refusals_mut(&self) -> RwLockWriteGuard<'_, Refusals> {
        self.refusals.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the counters of quotas; before any shard, where both are needed.
    pub(super) fn counters(&self) -> MutexGuard<'_, Counters> {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns how many recipients are remembered.
    pub(super) fn people(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).people.count()).sum()
    }

    /// Replays the changes of a block; returns whether it could be read to its end.
    pub(super) fn replay(&self, payload: &[u8]) -> bool {
        Reader::new(payload).all(|change| change.map(|change| self.apply(change)).is_ok())
    }

    fn apply(&self, change: Change) {
        match change {
            Change::Entry { person, entry, kept } => {
                self.latest.fetch_max(entry.at.0, Ordering::Relaxed);
                self.shard(&person).people.insert(&person, entry, &kept);
            }
            Change::Gone { person, job, token } => {
                self.shard(&person).people.remove(&person, job, token);
            }
            Change::Vacated { person, touch, rules } => {
                self.shard(&person).people.vacate(&person, touch, &rules);
            }
            Change::Memo { id, memo } => self.shard(&id).memos.set(id, memo),
            Change::Optout { address, optout } => self.refusals_mut().set_optout(address, optout),
            Change::Optin { address, scope, kind, source } => {
                self.refusals_mut().clear_optout(&address, scope, kind, source);
            }
            Change::Rule { target, bound } => {
                self.refusals_mut().rules.set_point(target, bound);
            }
            Change::Filter { tenant, filter } => {
                self.refusals_mut().rules.set_filter(tenant, filter);
            }
            Change::Spent { counters, memo } => {
                counters.into_iter().for_each(|(key, counter)| self.counters().set(key, counter));
                if let Some((id, memo)) = memo {
                    self.shard(&id).memos.set(id, memo);
                }
            }
            Change::Consent { of, consent } => self.shard(&of).consents.set(of, consent),
            Change::Bucket { name, bucket } => self.buckets().set(name, bucket),
        }
    }

    /// Hands everything that has a meaning now to `block`, in blocks. Changes go on meanwhile: the log has them.
    ///
    /// # Errors
    /// Those of `block`.
    pub(super) fn dump(&self, block: &mut dyn FnMut(&[u8]) -> Result<(), LimitsError>) -> Result<(), LimitsError> {
        let now = self.latest();
        let mut out = Vec::with_capacity(DUMP_BYTES);
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.people.each(now, |person, entry, kept| write_entry(&mut out, person, entry, kept));
            shard.memos.each(now, |id, memo| write_memo(&mut out, id, memo));
            shard.consents.each(now, |change| change.write(&mut out));
            drop(shard);
            if out.len() >= DUMP_BYTES {
                block(&out)?;
                out.clear();
            }
        }
        self.refusals().each(now, |change| change.write(&mut out));
        self.counters().each(now, |change| change.write(&mut out));
        self.buckets().each(now, |name, bucket| write_bucket(&mut out, name, bucket));
        if out.is_empty() { Ok(()) } else { block(&out) }
    }
}

fn shard_of(key: &Key) -> usize {
    // The keys of recipients are hashes; of job ids (version 7) only the last bytes are spread.
    usize::from(key[15] ^ key[0]) % SHARDS
}
