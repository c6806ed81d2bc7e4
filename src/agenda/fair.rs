//! Whose turn is it? Start-time fair queueing over tenants, the cost in jobs. Pure.
//!
//! Like deficit round robin it is fair in jobs however large the entries are, and a tenant that was idle gains nothing by
//! it. Beyond that it keeps its place between rounds: credit that ends in the middle of one does not always end at the
//! same tenants.

use std::collections::BTreeSet;
use std::hash::Hash;

use hashbrown::HashMap;

/// How far each has come in one lane.
#[derive(Clone, Debug)]
pub(super) struct Fair<K> {
    /// The start of what was served last: nobody's next turn starts earlier.
    clock: u64,
    /// Where the next turn of each starts, for those beyond the clock.
    starts: HashMap<K, u64>,
}

/// Those who have something to release.
pub(super) struct Round<'a, K> {
    fair: &'a mut Fair<K>,
    line: BTreeSet<(u64, K)>,
}

impl<K> Default for Fair<K> {
    fn default() -> Self {
        Self { clock: 0, starts: HashMap::new() }
    }
}

impl<K: Ord + Clone + Hash> Fair<K> {
    /// Returns where the next turn of somebody starts: the smaller goes first.
    pub(super) fn start(&self, whose: &K) -> u64 {
        self.starts.get(whose).map_or(self.clock, |start| self.clock.max(*start))
    }

    /// Begins a round of those who have something to release.
    pub(super) fn round(&mut self, line: impl IntoIterator<Item = K>) -> Round<'_, K> {
        // To be at the clock is the same as to be unknown.
        let clock = self.clock;
        self.starts.retain(|_, start| *start > clock);
        let line = line.into_iter().map(|whose| (self.start(&whose), whose)).collect();
        Round { fair: self, line }
    }
}

impl<K: Ord + Clone + Hash> Round<'_, K> {
    /// Takes whoever's turn it is out of the line.
    pub(super) fn next(&mut self) -> Option<K> {
        let (start, whose) = self.line.pop_first()?;
        self.fair.clock = start;
        Some(whose)
    }

    /// Charges somebody for what was released, and lets those who have more stand in line again.
    pub(super) fn charge(&mut self, whose: K, jobs: u32, has_more: bool) {
        let start = self.fair.start(&whose) + u64::from(jobs);
        self.fair.starts.insert(whose.clone(), start);
        if has_more {
            self.line.insert((start, whose));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::job::ENVELOPE_JOBS_MAX;

    const LARGEST: u64 = ENVELOPE_JOBS_MAX as u64;

    /// Releases up to `credit` jobs of what waits, as rounds do.
    fn release(fair: &mut Fair<u8>, waits: &mut BTreeMap<u8, Vec<u32>>, mut credit: u32) -> BTreeMap<u8, u64> {
        let mut released = BTreeMap::new();
        waits.retain(|_, entries| !entries.is_empty());
        let mut round = fair.round(waits.keys().copied().collect::<Vec<_>>());
        while let Some(whose) = round.next().filter(|_| credit > 0) {
            let entries = waits.get_mut(&whose).unwrap();
            let now = entries[0].min(credit);
            credit -= now;
            *released.entry(whose).or_default() += u64::from(now);
            entries[0] -= now;
            if entries[0] == 0 {
                entries.remove(0);
            }
            round.charge(whose, now, !entries.is_empty());
        }
        released
    }

    #[test]
    fn one_job_does_not_wait_behind_a_thousand_entries() {
        let mut waits = BTreeMap::from([(0, vec![128; 1_000]), (9, vec![1])]);
        let released = release(&mut Fair::default(), &mut waits, 200);
        assert_eq!(released[&9], 1);
    }

    #[test]
    fn credit_that_ends_early_does_not_always_end_at_the_same_tenants() {
        let (mut fair, mut sums) = (Fair::default(), BTreeMap::<u8, u64>::new());
        let mut waits = (0..100).map(|tenant| (tenant, vec![128; 100])).collect();
        for _ in 0..200 {
            for (whose, jobs) in release(&mut fair, &mut waits, 256) {
                *sums.entry(whose).or_default() += jobs;
            }
        }
        assert_eq!(sums.len(), 100);
        let (least, most) = (sums.values().min().unwrap(), sums.values().max().unwrap());
        assert!(most - least <= 2 * LARGEST, "{least} to {most}");
    }

    #[test]
    fn who_was_away_gains_nothing_by_it() {
        let mut fair = Fair::default();
        let mut waits = BTreeMap::from([(0, vec![128; 1_000])]);
        release(&mut fair, &mut waits, 100_000);
        waits.insert(1, vec![128; 1_000]);
        let released = release(&mut fair, &mut waits, 10_000);
        assert!(released[&0].abs_diff(released[&1]) <= 2 * LARGEST, "{released:?}");
    }

    proptest! {
        #[test]
        fn whoever_has_more_gets_as_much_as_anybody_else(
            waits in prop::collection::btree_map(0_u8..8, prop::collection::vec(1_u32..=128, 1..60), 1..8),
            credits in prop::collection::vec(1_u32..2_000, 1..40),
        ) {
            let (mut fair, mut waits, mut sums) = (Fair::default(), waits, BTreeMap::<u8, u64>::new());
            for credit in credits {
                let before: u64 = waits.values().flatten().map(|jobs| u64::from(*jobs)).sum();
                let released = release(&mut fair, &mut waits, credit);
                prop_assert_eq!(released.values().sum::<u64>(), before.min(credit.into()), "nothing stays for nothing");
                for (whose, jobs) in released {
                    *sums.entry(whose).or_default() += jobs;
                }
                let most = sums.values().max().copied().unwrap_or(0);
                for whose in waits.iter().filter(|(_, entries)| !entries.is_empty()).map(|(whose, _)| whose) {
                    let mine = sums.get(whose).copied().unwrap_or(0);
                    prop_assert!(most - mine.min(most) <= 2 * LARGEST, "{} of {}: {:?}", mine, most, sums);
                }
            }
        }
    }
}
