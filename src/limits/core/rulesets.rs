//! Interns the sets of rules that a claim took. Most claims of a tenant take the same few, so an entry names its set by
//! a number instead of carrying it.

use std::collections::HashMap;

use crate::domain::time::UnixMicros;
use crate::limits::Until;

/// One cap in which an entry holds a place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kept {
    /// Stands for the rule.
    pub rule: u32,
    /// How many of the rule's limit it takes.
    pub weight: u32,
    /// How long it can matter.
    pub until: Until,
}

/// The number of a set.
pub(super) type SetId = u32;

/// The sets in use, counted by their entries; a set without entries is forgotten.
#[derive(Debug)]
pub(super) struct RuleSets {
    sets: Vec<Set>,
    ids: HashMap<Box<[Kept]>, SetId>,
    free: Vec<SetId>,
    latest: SetId,
}

#[derive(Debug)]
struct Set {
    kept: Box<[Kept]>,
    /// The longest life among them, in µs.
    life_max: i64,
    /// The last end among those that have one of their own.
    end_max: UnixMicros,
    uses: u32,
}

impl Default for RuleSets {
    fn default() -> Self {
        // Set 0 is the empty one and stays.
        let empty = Set { uses: 1, ..Set::new(&[]) };
        Self { sets: vec![empty], ids: HashMap::new(), free: Vec::new(), latest: 0 }
    }
}

impl RuleSets {
    /// Returns the rules of a set.
    pub(super) fn get(&self, id: SetId) -> &[Kept] {
        &self.sets[id as usize].kept
    }

    /// Returns from when on an entry with this set that was taken at `at` matters to no cap.
    pub(super) fn end(&self, id: SetId, at: UnixMicros) -> UnixMicros {
        let set = &self.sets[id as usize];
        Until::After(set.life_max).end(at).max(set.end_max)
    }

    /// Counts one more use of a set of rules and returns its number.
    pub(super) fn take(&mut self, kept: &[Kept]) -> SetId {
        let id = self.find(kept);
        self.sets[id as usize].uses += 1;
        self.latest = id;
        id
    }

    /// Counts one use less.
    pub(super) fn release(&mut self, id: SetId) {
        let set = &mut self.sets[id as usize];
        set.uses -= 1;
        if set.uses == 0 {
            self.ids.remove(&set.kept);
            set.kept = Box::new([]);
            self.free.push(id);
        }
    }

    fn find(&mut self, kept: &[Kept]) -> SetId {
        if kept.is_empty() {
            return 0;
        }
        // Claims come in batches that take the same rules.
        if *self.get(self.latest) == *kept {
            return self.latest;
        }
        if let Some(&id) = self.ids.get(kept) {
            return id;
        }
        let set = Set::new(kept);
        let id = if let Some(id) = self.free.pop() {
            self.sets[id as usize] = set;
            id
        } else {
            self.sets.push(set);
            SetId::try_from(self.sets.len() - 1).unwrap_or(SetId::MAX)
        };
        self.ids.insert(kept.into(), id);
        id
    }
}

impl Set {
    fn new(kept: &[Kept]) -> Self {
        let mut set = Self { kept: kept.into(), life_max: 0, end_max: UnixMicros(i64::MIN), uses: 0 };
        for kept in kept {
            match kept.until {
                Until::After(life) => set.life_max = set.life_max.max(life),
                Until::At(end) => set.end_max = set.end_max.max(end),
            }
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lives_as_long_as_its_uses() {
        let mut sets = RuleSets::default();
        let kept = |rule, until| Kept { rule, weight: 1, until };
        let day = [kept(1, Until::After(86_400)), kept(2, Until::At(UnixMicros(99_000)))];
        let first = sets.take(&day);
        assert_eq!(sets.take(&day), first);
        assert_eq!(sets.get(first), &day[..]);
        assert_eq!([0, 99_000].map(|at| sets.end(first, UnixMicros(at)).0), [99_000, 185_400]);
        sets.release(first);
        assert_eq!(sets.get(first), &day[..]);
        sets.release(first);
        let other = sets.take(&day[1..]);
        assert_eq!(other, first, "the number is used again");
        assert_eq!(sets.get(other), &day[1..]);
        assert_eq!(sets.take(&[]), 0);
    }
}
