//! Labels whose values others choose: the first so many get a series of their own, the rest share one.

use std::sync::{PoisonError, RwLock};

use hashbrown::HashMap;

/// Most values of such a label in a process.
pub const LABELS_MAX: usize = 200;
/// What the rest is counted under.
const OTHER: &str = "other";

/// Handles by label value.
pub(super) struct Bounded<T> {
    known: RwLock<HashMap<Box<str>, T>>,
    make: fn(Box<str>) -> T,
    other: T,
}

impl<T: Clone> Bounded<T> {
    /// Returns an empty set whose handles `make` makes from a label value.
    pub(super) fn new(make: fn(Box<str>) -> T) -> Self {
        Self { known: RwLock::default(), make, other: make(OTHER.into()) }
    }

    /// Returns the handle for `value`, or the shared one when there are too many.
    pub(super) fn get(&self, value: &str) -> T {
        if let Some(handle) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(value) {
            return handle.clone();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= LABELS_MAX && !known.contains_key(value) {
            return self.other.clone();
        }
        known.entry(value.into()).or_insert_with(|| (self.make)(value.into())).clone()
    }
}

impl<T> std::fmt::Debug for Bounded<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bounded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_values_get_their_own_and_the_rest_share_one() {
        let bounded = Bounded::new(|value| value);
        for number in 0..LABELS_MAX {
            assert_eq!(*bounded.get(&number.to_string()), number.to_string());
        }
        assert_eq!(&*bounded.get("late"), OTHER);
        assert_eq!(&*bounded.get("7"), "7");
    }
}
