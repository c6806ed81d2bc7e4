//! What waits in memory until it is due. Pure: the caller owns the clock and the sleeping.

use std::collections::BTreeMap;

use crate::domain::time::UnixMicros;

/// What to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Step<T> {
    /// These are due.
    Ready(Vec<T>),
    /// Nothing is due before then.
    SleepUntil(UnixMicros),
    /// Nothing waits.
    Idle,
}

/// Things by due time. Its size is bounded by who fills it.
#[derive(Debug)]
pub(super) struct Wheel<T> {
    slots: BTreeMap<UnixMicros, Vec<T>>,
}

impl<T> Wheel<T> {
    /// Returns an empty wheel.
    pub(super) fn new() -> Self {
        Self { slots: BTreeMap::new() }
    }

    /// Keeps `thing` until `due`.
    pub(super) fn put(&mut self, due: UnixMicros, thing: T) {
        self.slots.entry(due).or_default().push(thing);
    }

    /// Takes what is due at `now`, at most about `most` things.
    pub(super) fn step(&mut self, now: UnixMicros, most: usize) -> Step<T> {
        let mut ready = Vec::new();
        while let Some(slot) = self.slots.first_entry().filter(|slot| *slot.key() <= now) {
            ready.append(&mut slot.remove());
            if ready.len() >= most {
                break;
            }
        }
        match (ready.is_empty(), self.slots.first_key_value()) {
            (false, _) => Step::Ready(ready),
            (true, Some((due, _))) => Step::SleepUntil(*due),
            (true, None) => Step::Idle,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn nothing_is_early_and_nothing_is_lost(dues in prop::collection::vec(0_i64..1_000, 0..200), most in 1_usize..20) {
            let mut wheel = Wheel::new();
            dues.iter().for_each(|&due| wheel.put(UnixMicros(due), due));
            let (mut now, mut taken) = (UnixMicros(0), Vec::new());
            loop {
                match wheel.step(now, most) {
                    Step::Ready(due) => {
                        prop_assert!(due.iter().all(|&due| due <= now.0));
                        taken.extend(due);
                    }
                    Step::SleepUntil(due) => {
                        prop_assert!(due > now);
                        now = due;
                    }
                    Step::Idle => break,
                }
            }
            let mut expected = dues;
            expected.sort_unstable();
            prop_assert_eq!(taken, expected);
        }
    }
}
