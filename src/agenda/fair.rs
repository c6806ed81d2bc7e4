//! Whose turn is it? Deficit round robin over tenants, the cost in jobs. Pure.

use std::collections::{BTreeMap, VecDeque};

/// What a tenant may release in one round, in jobs: one full envelope.
const QUANTUM: u32 = crate::domain::job::ENVELOPE_JOBS_MAX as u32;

/// Returns the order in which to release entries, each given as (whose, how many jobs), oldest first: in every prefix,
/// two tenants that both have more to release differ by less than two quanta.
pub(super) fn order<K: Ord + Clone>(entries: &[(K, u32)]) -> Vec<usize> {
    let mut queues: BTreeMap<&K, (u32, VecDeque<usize>)> = BTreeMap::new();
    for (index, (whose, _)) in entries.iter().enumerate() {
        queues.entry(whose).or_default().1.push_back(index);
    }
    let mut order = Vec::with_capacity(entries.len());
    while !queues.is_empty() {
        queues.retain(|_, (deficit, queue)| {
            *deficit += QUANTUM;
            while let Some(&next) = queue.front().filter(|&&next| entries[next].1 <= *deficit) {
                *deficit -= entries[next].1;
                order.push(next);
                queue.pop_front();
            }
            !queue.is_empty()
        });
    }
    order
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_tenant_with_one_job_does_not_wait_behind_a_thousand() {
        let mut entries = vec![("noisy", 128); 1_000];
        entries.push(("quiet", 1));
        let order = order(&entries);
        assert!(order.iter().position(|&index| index == 1_000).unwrap() <= 1);
        assert_eq!(order.len(), 1_001);
    }

    proptest! {
        #[test]
        fn every_entry_has_its_turn_and_no_tenant_runs_ahead(
            entries in prop::collection::vec((0_u8..4, 1_u32..=128), 1..200),
        ) {
            let order = order(&entries);
            let mut seen = order.clone();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..entries.len()).collect::<Vec<_>>());
            let mut left = [0_u32; 4];
            entries.iter().for_each(|(whose, jobs)| left[usize::from(*whose)] += jobs);
            let mut released = [0_u32; 4];
            for index in order {
                let (whose, jobs) = entries[index];
                released[usize::from(whose)] += jobs;
                left[usize::from(whose)] -= jobs;
                let busy = (0..4).filter(|&tenant| left[tenant] > 0).map(|tenant| released[tenant]);
                let (least, most) = busy.fold((u32::MAX, 0), |(least, most), jobs| (least.min(jobs), most.max(jobs)));
                prop_assert!(most.saturating_sub(least) <= 2 * QUANTUM || least == u32::MAX);
            }
        }
    }
}
