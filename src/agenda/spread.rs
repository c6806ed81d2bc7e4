//! When each of those goes that are released together. Pure.
//!
//! A look at the agenda releases what its rates allow until the next one. Handed on at once, all of that would keep the
//! machine and the provider's window busy for a moment, and an urgent job that comes in it would wait for the moment's
//! end. So each is reserved the time at which its rates would have let it go alone.

use std::time::Duration;

use hashbrown::HashMap;

use crate::limits::rates::Bucket;

/// How far ahead at most: until the next look, so that nothing is the later for it.
pub(super) const SPREAD_MAX: Duration = Duration::from_millis(100);

/// What is released together, by what paces it.
#[derive(Debug, Default)]
pub(super) struct Spread {
    jobs: HashMap<Box<str>, u32>,
}

impl Spread {
    /// Returns how long after the first an envelope of `jobs` jobs goes that is paced by `buckets`.
    pub(super) fn place(&mut self, buckets: &[Bucket], jobs: usize) -> Duration {
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        let mut longest = Duration::ZERO;
        for bucket in buckets {
            let before = self.jobs.entry(bucket.name.clone()).or_default();
            longest = longest.max(Duration::from_secs(1) * *before / bucket.rate.per_s.get());
            *before = before.saturating_add(jobs);
        }
        longest.min(SPREAD_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bucket(name: &str, rate: &str) -> Bucket {
        Bucket { name: name.into(), ..crate::limits::rates::pool(&"p".parse().unwrap(), rate.parse().unwrap()) }
    }

    #[test]
    fn each_goes_when_the_slowest_of_its_rates_would_have_let_it() {
        let (tenant, other, pool) = (bucket("t", "1000/s"), bucket("o", "100000/s"), bucket("p", "10000/s"));
        let mut spread = Spread::default();
        let ms = Duration::from_millis;
        assert_eq!(spread.place(&[tenant.clone(), pool.clone()], 20), ms(0));
        assert_eq!(spread.place(&[tenant.clone(), pool.clone()], 20), ms(20), "behind its own");
        assert_eq!(spread.place(&[other, pool.clone()], 60), ms(4), "the tenant's rate holds up no other");
        assert_eq!(spread.place(&[pool], 5_000), ms(10));
        assert_eq!(spread.place(&[tenant], 1_000), ms(40));
        assert_eq!(spread.place(&[], 1_000), ms(0), "without a rate at once");
    }

    #[test]
    fn nothing_waits_beyond_the_next_look() {
        let mut spread = Spread::default();
        spread.place(&[bucket("t", "1/s")], usize::MAX);
        assert_eq!(spread.place(&[bucket("t", "1/s")], usize::MAX), SPREAD_MAX);
    }
}
