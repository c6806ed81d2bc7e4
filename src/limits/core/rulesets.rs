//! Interns the sets of rules that a claim took. Most claims of a tenant take the same few, so an entry names its set by
//! a number instead of carrying it.

use std::collections::HashMap;

/// One cap in which an entry holds a place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Kept {
    /// Stands for the rule.
    pub rule: u32,
    /// How long after its time the place can matter, in µs: the window's length.
    pub life: i64,
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
    life_max: i64,
    uses: u32,
}

impl Default for RuleSets {
    fn default() -> Self {
        // Set 0 is the empty one and stays.
        let empty = Set { kept: Box::new([]), life_max: 0, uses: 1 };
        Self { sets: vec![empty], ids: HashMap::new(), free: Vec::new(), latest: 0 }
    }
}

impl RuleSets {
    /// Returns the rules of a set.
    pub(super) fn get(&self, id: SetId) -> &[Kept] {
        &self.sets[id as usize].kept
    }

    /// Returns how long an entry with this set can matter to a cap.
    pub(super) fn life_max(&self, id: SetId) -> i64 {
        self.sets[id as usize].life_max
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
        let life_max = kept.iter().map(|kept| kept.life).max().unwrap_or(0);
        let set = Set { kept: kept.into(), life_max, uses: 0 };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_lives_as_long_as_its_uses() {
        let mut sets = RuleSets::default();
        let day = [Kept { rule: 1, life: 86_400 }, Kept { rule: 2, life: 7 }];
        let first = sets.take(&day);
        assert_eq!(sets.take(&day), first);
        assert_eq!((sets.get(first), sets.life_max(first)), (&day[..], 86_400));
        sets.release(first);
        assert_eq!(sets.get(first), &day[..]);
        sets.release(first);
        let other = sets.take(&day[1..]);
        assert_eq!(other, first, "the number is used again");
        assert_eq!(sets.get(other), &day[1..]);
        assert_eq!(sets.take(&[]), 0);
    }
}
