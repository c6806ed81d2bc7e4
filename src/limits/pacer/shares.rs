//! Who takes more than its share of a bucket that many draw from. Pure: time is an argument.

use hashbrown::HashMap;

use crate::domain::ids::TenantId;
use crate::domain::time::UnixMicros;

/// Names remembered of one second; more count as one.
const TENANTS_MAX: usize = 10_000;

/// What each tenant took of one bucket, in this second and the one before.
#[derive(Clone, Debug, Default)]
pub(super) struct Shares {
    second: i64,
    now: HashMap<TenantId, u64>,
    before: HashMap<TenantId, u64>,
}

// === impl Shares ===

impl Shares {
    /// Notes that a tenant wants `jobs` more, and returns whether all it wanted lately is within its share of `per_s`:
    /// the same for everybody who wanted something.
    pub(super) fn within(&mut self, tenant: &TenantId, jobs: u32, per_s: u32, now: UnixMicros) -> bool {
        let second = now.as_secs();
        if second > self.second {
            let last = std::mem::take(&mut self.now);
            self.before = if second == self.second + 1 { last } else { HashMap::new() };
            self.second = second;
        }
        if self.now.len() >= TENANTS_MAX && !self.now.contains_key(tenant) {
            return true;
        }
        let wanted = self.now.entry(tenant.clone()).or_insert(0);
        *wanted += u64::from(jobs);
        let most = (*wanted).max(self.before.get(tenant).copied().unwrap_or(0));
        // Who is alone has no one to leave anything to.
        let others = self.before.len().max(self.now.len()).max(2);
        most <= u64::from(per_s) / others as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_wants_more_than_its_share_is_told_apart_from_who_does_not() {
        let (quiet, noisy): (TenantId, TenantId) = ("quiet".parse().unwrap(), "noisy".parse().unwrap());
        let (mut shares, at) = (Shares::default(), UnixMicros::from_secs);
        assert!(shares.within(&noisy, 400, 1_000, at(1)));
        assert!(!shares.within(&noisy, 400, 1_000, at(1)));
        assert!(shares.within(&quiet, 10, 1_000, at(1)));
        assert!(!shares.within(&noisy, 1, 1_000, at(2)), "what it took a second ago still counts");
        assert!(shares.within(&noisy, 1, 1_000, at(4)));
    }
}
