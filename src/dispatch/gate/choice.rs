//! Which provider of a pool is asked first: the earliest in order that works, by weight, and of two by how they answer.
//! Pure: chance is an argument.
//!
//! Power of two choices: a favourite and a challenger are drawn by weight; the challenger is taken where the favourite is
//! clearly slower or fuller. So weights hold while all answer alike, and a slow provider loses work before it fails.

use std::time::Duration;

/// How much worse the favourite must be before the challenger is taken: noise does not count against weights.
const CLEARLY: f64 = 2.0;
/// One answer moves the mean by this part: some twenty answers make it new.
const MOVES: f64 = 0.1;

/// A provider that may be asked.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Candidate {
    /// Which one.
    pub(super) place: usize,
    /// Its place in the order of failover: the lowest is asked first.
    pub(super) order: u16,
    /// Its share among those of its order, from 1.
    pub(super) weight: u16,
    /// How long its answers take, on average; `None`: not known.
    pub(super) latency: Option<Duration>,
    /// How much of its window is in use, from 0 to 1.
    pub(super) load: f64,
}

impl Candidate {
    /// Returns how long a job would wait for its answer, as far as the mean and the load tell.
    fn cost(&self) -> f64 {
        self.latency.map_or(0.0, |latency| latency.as_secs_f64()) * (1.0 + self.load)
    }
}

/// Returns the places of the first order there is, the one to ask first in front. `draws` in 0..1 are chance.
pub(super) fn rank(mut candidates: Vec<Candidate>, draws: [f64; 2]) -> Vec<usize> {
    let Some(first) = candidates.iter().map(|candidate| candidate.order).min() else { return vec![] };
    candidates.retain(|candidate| candidate.order == first);
    let [favourite, challenger] = draws.map(|draw| drawn(&candidates, draw));
    let better = |a: usize, b: usize| candidates[a].cost() > CLEARLY * candidates[b].cost() && known(&candidates[b]);
    let chosen = if better(favourite, challenger) { challenger } else { favourite };
    let chosen = candidates.swap_remove(chosen);
    // Those that are asked only when the first has no room: the emptiest first.
    candidates.sort_by(|a, b| a.load.total_cmp(&b.load));
    std::iter::once(chosen).chain(candidates).map(|candidate| candidate.place).collect()
}

/// Returns the mean after one more answer.
pub(super) fn mean(mean: Option<Duration>, answer: Duration) -> Duration {
    match mean {
        Some(mean) => mean.mul_f64(1.0 - MOVES) + answer.mul_f64(MOVES),
        None => answer,
    }
}

fn known(candidate: &Candidate) -> bool {
    candidate.latency.is_some()
}

/// Returns the candidate that a draw by weight falls on.
fn drawn(candidates: &[Candidate], draw: f64) -> usize {
    let weight = |candidate: &Candidate| f64::from(candidate.weight.max(1));
    let mut left = draw.clamp(0.0, 1.0) * candidates.iter().map(weight).sum::<f64>();
    for (index, candidate) in candidates.iter().enumerate() {
        left -= weight(candidate);
        if left < 0.0 {
            return index;
        }
    }
    candidates.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(place: usize, order: u16, weight: u16, millis: u64) -> Candidate {
        Candidate { place, order, weight, latency: Some(Duration::from_millis(millis)), load: 0.0 }
    }

    /// Returns how many of 10 000 jobs each of two is asked first for.
    fn shares(candidates: [Candidate; 2]) -> [usize; 2] {
        let mut chance = fastrand::Rng::with_seed(7);
        let mut shares = [0; 2];
        (0..10_000).for_each(|_| shares[rank(candidates.to_vec(), [chance.f64(), chance.f64()])[0]] += 1);
        shares
    }

    #[test]
    fn while_all_answer_alike_weights_hold() {
        let [a, b] = shares([candidate(0, 0, 70, 40), candidate(1, 0, 30, 25)]);
        assert!((6_800..7_200).contains(&a) && a + b == 10_000, "{a} {b}");
    }

    #[test]
    fn a_slow_one_loses_work_and_is_not_forgotten() {
        let [a, b] = shares([candidate(0, 0, 1, 20), candidate(1, 0, 1, 200)]);
        assert!((7_200..7_800).contains(&a) && b > 2_200, "{a} {b}");
        // A full window is as bad as an answer that takes as long.
        let full = Candidate { load: 1.0, ..candidate(1, 0, 1, 30) };
        let [a, _] = shares([candidate(0, 0, 1, 20), full]);
        assert!(a > 7_200, "{a}");
    }

    #[test]
    fn the_next_in_order_is_asked_only_when_nobody_before_it_is_there() {
        let three = vec![candidate(0, 1, 100, 1), candidate(1, 0, 1, 900), candidate(2, 0, 1, 900)];
        let mut first = rank(three, [0.0, 0.0]);
        first.sort_unstable();
        assert_eq!(first, [1, 2]);
        assert_eq!(rank(vec![candidate(0, 1, 100, 1)], [0.9, 0.9]), [0]);
        assert_eq!(rank(vec![], [0.0, 0.0]), Vec::<usize>::new());
    }

    #[test]
    fn one_that_never_answered_is_tried_by_its_weight() {
        let new = Candidate { latency: None, ..candidate(1, 0, 1, 0) };
        let [a, b] = shares([candidate(0, 0, 1, 20), new]);
        assert!((4_700..5_300).contains(&a) && a + b == 10_000, "{a} {b}");
    }

    #[test]
    fn the_mean_follows_answers() {
        let mut latency = None;
        (0..60).for_each(|_| latency = Some(mean(latency, Duration::from_millis(10))));
        (0..30).for_each(|_| latency = Some(mean(latency, Duration::from_millis(100))));
        assert!(latency.unwrap() > Duration::from_millis(90));
    }
}
