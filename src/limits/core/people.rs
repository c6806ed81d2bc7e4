//! What is remembered of recipients: their claims, and the places that these hold in caps.
//!
//! A hundred bytes a recipient decide how many fit into a process, so recipients and entries lie in two arrays, linked
//! by number, and an entry serves as claim and as log of all its caps at once.

use hashbrown::{DefaultHashBuilder, HashTable};
use std::collections::HashMap;
use std::hash::BuildHasher;

use super::Key;
use super::places::Places;
use super::rulesets::{Kept, RuleSets, SetId};
use crate::domain::time::UnixMicros;
use crate::limits::CLAIM_LIFE;

/// One claim and the places it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// When it was taken.
    pub at: UnixMicros,
    /// When its hand-over may be checked.
    pub deadline: UnixMicros,
    /// The job, in short.
    pub job: u64,
    /// The asking.
    pub token: u64,
    /// What counts as one touch, in short.
    pub touch: u64,
    /// The attempt.
    pub attempt: u16,
}

/// The recipients of one shard.
#[derive(Default)]
pub struct People {
    hasher: DefaultHashBuilder,
    table: HashTable<u32>,
    people: Places<Person>,
    slots: Places<Slot>,
    pub(super) sets: RuleSets,
    /// What those who wait were told, by log: when so many of them come again. Only advice, so it is not kept on disk.
    pub(super) told: HashMap<Key, Vec<(UnixMicros, u32)>>,
    /// Where the sweep goes on.
    hand: usize,
}

struct Person {
    key: Key,
    /// The newest entry; a person without one is free.
    first: u32,
}

struct Slot {
    entry: Entry,
    set: SetId,
    /// The next older entry.
    next: u32,
}

/// Ends a list: the number of no place.
const NONE: u32 = u32::MAX;

// === impl Entry ===

impl Entry {
    /// Returns whether the claim still stands for its job.
    pub(super) fn claims_at(&self, now: UnixMicros) -> bool {
        self.deadline.plus(CLAIM_LIFE) > now
    }
}

// === impl People ===

impl People {
    /// Returns how many recipients are remembered.
    pub fn count(&self) -> usize {
        self.table.len()
    }

    /// Returns a recipient's entries with the rules that they hold places of, newest first.
    pub(super) fn entries(&self, key: &Key) -> impl Iterator<Item = (&Entry, &[Kept])> + Clone {
        let mut next = self.find(key).map_or(NONE, |person| self.people[person].first);
        std::iter::from_fn(move || {
            let slot = self.slots.get(next)?;
            next = slot.next;
            Some((&slot.entry, self.sets.get(slot.set)))
        })
    }

    /// Adds an entry. What the same asking took before is replaced, unless that was later: a log is replayed over what
    /// came after it, too.
    pub fn insert(&mut self, key: &Key, entry: Entry, kept: &[Kept]) {
        let person = self.find(key).unwrap_or_else(|| self.admit(*key));
        let mut newer = NONE;
        let mut older = self.people[person].first;
        while let Some(slot) = self.slots.get(older) {
            if slot.entry.job == entry.job && slot.entry.token == entry.token {
                if slot.entry.at <= entry.at {
                    // It has ended, or its places were vacated, and is only not swept yet; in a replay it never is.
                    self.remove(key, entry.job, entry.token);
                    return self.insert(key, entry, kept);
                }
                return;
            }
            if slot.entry.at <= entry.at {
                break;
            }
            (newer, older) = (older, slot.next);
        }
        let slot = Slot { entry, set: self.sets.take(kept), next: older };
        let slot = self.slots.put(slot);
        self.relink(person, newer, slot);
    }

    /// Removes the entry of a job that this token made, if it is there, and returns whether it was.
    pub fn remove(&mut self, key: &Key, job: u64, token: u64) -> bool {
        let Some(person) = self.find(key) else { return false };
        self.drop_entries(person, |entry, _| entry.job == job && entry.token == token)
    }

    /// Frees the places that entries of a touch hold in some rules, and returns whether there was one. The entries stay,
    /// for they are claims too.
    pub fn vacate(&mut self, key: &Key, touch: u64, rules: &[u32]) -> bool {
        let Some(person) = self.find(key) else { return false };
        let (mut next, mut any) = (self.people[person].first, false);
        while let Some(slot) = self.slots.get_mut(next) {
            next = slot.next;
            let kept = self.sets.get(slot.set);
            if slot.entry.touch == touch && kept.iter().any(|kept| rules.contains(&kept.rule)) {
                let left: Vec<Kept> = kept.iter().filter(|kept| !rules.contains(&kept.rule)).copied().collect();
                let before = std::mem::replace(&mut slot.set, self.sets.take(&left));
                self.sets.release(before);
                any = true;
            }
        }
        any
    }

    /// Forgets what has no meaning any more in the next `steps` places of the memory. Called with every claim, this
    /// keeps the memory within a small factor of what is live.
    pub(super) fn sweep(&mut self, now: UnixMicros, steps: usize) {
        for _ in 0..steps.min(self.people.len()) {
            self.hand = if self.hand + 1 < self.people.len() { self.hand + 1 } else { 0 };
            let person = u32::try_from(self.hand).unwrap_or(NONE);
            let Some(&Person { key, first }) = self.people.get(person) else { return };
            if first != NONE {
                self.drop_entries(person, |entry, end| !entry.claims_at(now) && end <= now);
                if self.told.get(&key).is_some_and(|told| told.last().is_none_or(|(at, _)| *at <= now)) {
                    self.told.remove(&key);
                }
            }
        }
    }

    /// Calls `each` with every entry that has a meaning at `now`, each recipient's oldest first.
    pub fn each(&self, now: UnixMicros, mut each: impl FnMut(&Key, &Entry, &[Kept])) {
        let mut list = Vec::new();
        for person in self.people.iter() {
            let mut next = person.first;
            while let Some(slot) = self.slots.get(next) {
                list.push(slot);
                next = slot.next;
            }
            for slot in list.drain(..).rev() {
                if slot.entry.claims_at(now) || self.sets.end(slot.set, slot.entry.at) > now {
                    each(&person.key, &slot.entry, self.sets.get(slot.set));
                }
            }
        }
    }

    /// Removes a person's entries for which `ends` (given the last end of their places) holds; a person without entries
    /// goes too.
    fn drop_entries(&mut self, person: u32, ends: impl Fn(&Entry, UnixMicros) -> bool) -> bool {
        let (mut newer, mut next, mut any) = (NONE, self.people[person].first, false);
        while let Some(slot) = self.slots.get(next) {
            let (this, older, set) = (next, slot.next, slot.set);
            if ends(&slot.entry, self.sets.end(set, slot.entry.at)) {
                any = true;
                self.relink(person, newer, older);
                self.sets.release(set);
                self.slots.free(this);
            } else {
                newer = this;
            }
            next = older;
        }
        if any && self.people[person].first == NONE {
            self.dismiss(person);
        }
        any
    }

    /// Makes `slot` follow `newer`, or come first.
    fn relink(&mut self, person: u32, newer: u32, slot: u32) {
        match self.slots.get_mut(newer) {
            Some(newer) => newer.next = slot,
            None => self.people[person].first = slot,
        }
    }

    fn find(&self, key: &Key) -> Option<u32> {
        let hash = self.hasher.hash_one(key);
        self.table.find(hash, |&person| self.people[person].key == *key).copied()
    }

    fn admit(&mut self, key: Key) -> u32 {
        let person = self.people.put(Person { key, first: NONE });
        let (hasher, people) = (&self.hasher, &self.people);
        let rehash = |&person: &u32| hasher.hash_one(people[person].key);
        self.table.insert_unique(hasher.hash_one(key), person, rehash);
        person
    }

    fn dismiss(&mut self, person: u32) {
        let key = self.people[person].key;
        if let Ok(found) = self.table.find_entry(self.hasher.hash_one(key), |&other| other == person) {
            found.remove();
        }
        self.people.free(person);
        self.told.remove(&key);
    }
}
