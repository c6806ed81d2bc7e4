//! A slab whose keys count up, so that a key comes back only after 2³¹ others: a late answer finds nothing, never the
//! wrong job.

/// The largest key: the largest sequence number of SMPP.
const KEY_MAX: u32 = 0x7FFF_FFFF;

/// Slots of an empty ring.
const SLOTS_MIN: usize = 64;

/// At most so many values, found by keys that count up from 1.
#[derive(Debug)]
pub(super) struct Ring<T> {
    /// A power of two, and at least twice as many as there are values, so that the slot of the next key is nearly always
    /// free, however long one value stays.
    slots: Vec<Option<(u32, T)>>,
    next: u32,
    len: usize,
    len_max: usize,
}

// === impl Ring ===

impl<T> Ring<T> {
    /// Returns an empty ring for at most `len_max` values.
    pub(super) fn new(len_max: usize) -> Self {
        Self { slots: vacant(SLOTS_MIN), next: 1, len: 0, len_max: len_max.max(1) }
    }

    /// Returns how many values it holds.
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Returns whether it takes no more.
    pub(super) const fn is_full(&self) -> bool {
        self.len >= self.len_max
    }

    /// Returns a key that no value has or gets: for a request that is not kept here.
    pub(super) fn skip_key(&mut self) -> u32 {
        loop {
            let key = self.next;
            self.next = if key == KEY_MAX { 1 } else { key + 1 };
            if self.slots[self.slot(key)].is_none() {
                return key;
            }
        }
    }

    /// Puts a value in and returns its key.
    ///
    /// # Errors
    /// The value, if the ring is full.
    pub(super) fn insert(&mut self, value: T) -> Result<u32, T> {
        if self.is_full() {
            return Err(value);
        }
        if self.len * 2 >= self.slots.len() {
            self.grow();
        }
        let key = self.skip_key();
        let slot = self.slot(key);
        self.slots[slot] = Some((key, value));
        self.len += 1;
        Ok(key)
    }

    /// Returns the value with that key.
    pub(super) fn get_mut(&mut self, key: u32) -> Option<&mut T> {
        let slot = self.slot(key);
        self.slots[slot].as_mut().filter(|(holder, _)| *holder == key).map(|(_, value)| value)
    }

    /// Takes the value with that key out.
    pub(super) fn take(&mut self, key: u32) -> Option<T> {
        let slot = self.slot(key);
        let (_, value) = self.slots[slot].take_if(|(holder, _)| *holder == key)?;
        self.len -= 1;
        Some(value)
    }

    /// Takes every value out for which `is_done` says so. Looks at every slot.
    pub(super) fn take_where(&mut self, mut is_done: impl FnMut(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        if self.len > 0 {
            for slot in &mut self.slots {
                taken.extend(slot.take_if(|(_, value)| is_done(value)).map(|(_, value)| value));
            }
        }
        self.len -= taken.len();
        taken
    }

    /// Doubles the slots. Keys that differ in their lower bits still do so with one bit more.
    fn grow(&mut self) {
        let double = vacant(self.slots.len() * 2);
        for (key, value) in std::mem::replace(&mut self.slots, double).into_iter().flatten() {
            let slot = self.slot(key);
            self.slots[slot] = Some((key, value));
        }
    }

    fn slot(&self, key: u32) -> usize {
        key as usize & (self.slots.len() - 1)
    }
}

fn vacant<T>(slots: usize) -> Vec<Option<(u32, T)>> {
    (0..slots).map(|_| None).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_that_stays_is_stepped_over() {
        let mut ring = Ring::new(2);
        let stays = ring.insert("stays").unwrap();
        for _ in 0..100 {
            let key = ring.insert("goes").unwrap();
            assert_ne!(key, stays);
            assert_eq!(ring.take(key), Some("goes"));
            assert_eq!(ring.take(key), None);
        }
        assert_eq!(ring.get_mut(stays), Some(&mut "stays"));
    }

    #[test]
    fn keys_start_again_after_the_last_one() {
        let mut ring = Ring::new(4);
        ring.next = KEY_MAX;
        assert_eq!(ring.insert(0), Ok(KEY_MAX));
        assert_eq!(ring.insert(1), Ok(1));
    }

    proptest! {
        #[test]
        fn it_holds_what_was_put_in_and_not_taken(keep in proptest::collection::vec(proptest::bool::weighted(0.8), 0..400)) {
            let mut ring = Ring::new(100);
            let mut model = Vec::new();
            for (value, keep) in keep.into_iter().enumerate() {
                match ring.insert(value) {
                    Ok(key) if keep => model.push((key, value)),
                    Ok(key) => prop_assert_eq!(ring.take(key), Some(value)),
                    Err(refused) => {
                        prop_assert_eq!((refused, model.len()), (value, 100));
                        let (key, oldest) = model.remove(0);
                        prop_assert_eq!(ring.take(key), Some(oldest));
                    }
                }
                prop_assert_eq!(ring.len(), model.len());
            }
            let mut left = ring.take_where(|_| true);
            left.sort_unstable();
            prop_assert_eq!(left, model.into_iter().map(|(_, value)| value).collect::<Vec<_>>());
        }
    }
}
