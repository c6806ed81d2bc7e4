//! A bounded map that forgets what was touched longest ago, in two generations.

use std::fmt;
use std::hash::Hash;

use hashbrown::{Equivalent, HashMap};

/// Remembers what was touched since [`Recent::age`] was called last, and before that at least the last `capacity / 2` and
/// at most about `capacity` keys.
///
/// Two maps: what is touched moves to the young one; when that is full it becomes the old one, and the old one is
/// dropped whole, but only when the owner says so: nothing vanishes in the middle of its work. No list, no clock, no
/// bookkeeping per entry.
pub struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Returns an empty map.
    pub fn new(capacity: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: (capacity / 2).max(1) }
    }

    /// Returns whether `key` is remembered, without touching it.
    pub fn contains<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        self.young.contains_key(key) || self.old.contains_key(key)
    }

    /// Returns what is remembered under `key`, without touching it.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> Option<&V> {
        self.young.get(key).or_else(|| self.old.get(key))
    }

    /// Returns what is remembered under `key`, and touches it.
    pub fn get_mut<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        self.young.get_mut(key)
    }

    /// Remembers `value`, in place of what was there.
    pub fn insert(&mut self, key: K, value: V) {
        // A copy in the old generation is shadowed, and never seen again unless this one is dropped first, which the
        // order of generations rules out.
        self.young.insert(key, value);
    }

    /// Forgets `key`, and returns what was remembered under it.
    pub fn take<Q: Hash + Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<V> {
        // Of two copies the young one counts, and the other must not come to light.
        let old = self.old.remove(key);
        self.young.remove(key).or(old)
    }

    /// Forgets what was touched longest ago, if there is too much.
    pub fn age(&mut self) {
        if self.young.len() >= self.half {
            // Swapped, so that both tables keep the memory they have grown to.
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.young.clear();
        self.old.clear();
    }
}

impl<K, V> fmt::Debug for Recent<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Counts only: keys and values may be about people.
        write!(f, "Recent({})", self.young.len() + self.old.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_half_at_least_and_all_at_most() {
        let mut recent = Recent::new(100);
        for key in 0..1_000_u32 {
            recent.insert(key, key);
            recent.age();
            assert!(recent.young.len() + recent.old.len() <= 100);
            for last in key.saturating_sub(49)..=key {
                assert!(recent.contains(&last), "{last} forgotten at {key}");
            }
        }
        assert!(!recent.contains(&899));
    }

    #[test]
    fn nothing_vanishes_before_it_may_age() {
        let mut recent = Recent::new(4);
        (0..100_u32).for_each(|key| recent.insert(key, key));
        assert!((0..100).all(|key| recent.contains(&key)));
        recent.age();
        recent.insert(100, 100);
        recent.insert(101, 101);
        recent.age();
        assert!(!recent.contains(&0) && recent.contains(&100));
    }

    #[test]
    fn what_is_touched_stays() {
        let mut recent = Recent::new(10);
        recent.insert(0, "kept");
        for key in 1..100_u32 {
            recent.insert(key, "new");
            assert_eq!(recent.get_mut(&0), Some(&mut "kept"), "after {key}");
            recent.age();
        }
    }

    #[test]
    fn the_newest_value_is_the_one_that_is_found() {
        let mut recent = Recent::new(4);
        for (key, value) in [(1, "a"), (2, "b"), (3, "c"), (1, "d")] {
            recent.insert(key, value);
            recent.age();
        }
        assert_eq!(recent.get_mut(&1), Some(&mut "d"));
        recent.insert(4, "e");
        recent.age();
        assert_eq!(recent.get_mut(&1), Some(&mut "d"));
    }

    #[test]
    fn what_is_taken_is_gone_from_both_generations() {
        let mut recent = Recent::new(2);
        for value in ["old", "young"] {
            recent.insert(1, value);
            recent.age();
            recent.insert(1, value);
        }
        assert_eq!((recent.take(&1), recent.take(&1)), (Some("young"), None));
        recent.age();
        assert!(!recent.contains(&1));
    }
}
