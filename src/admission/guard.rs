//! Guards a tenant's ingress rate on this node. The tenant's sending rate is no business of admission: it paces, it
//! never refuses.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hashbrown::HashMap;

use super::Refusal;
use crate::domain::ids::TenantId;
use crate::domain::rate::Rate;
use crate::ledger::Tenant;

/// Checks that so many jobs can enter in one request at all.
///
/// # Errors
/// [`Refusal::OverBurst`].
pub(super) fn fits(tenant: &Tenant, jobs: usize) -> Result<(), Refusal> {
    let burst = tenant.ingress_rate.map(|rate| rate.burst.get());
    match burst.filter(|&burst| u32::try_from(jobs).is_ok_and(|jobs| jobs > burst)) {
        Some(burst) => Err(Refusal::OverBurst(burst)),
        None => Ok(()),
    }
}

/// The ingress limiters of the tenants that have an ingress rate.
#[derive(Debug, Default)]
pub struct Guard {
    limiters: Mutex<HashMap<TenantId, (Rate, Arc<DefaultDirectRateLimiter>)>>,
}

impl Guard {
    /// Lets `jobs` of a tenant in, or says when to come back.
    ///
    /// # Errors
    /// [`Refusal::OverRate`], or [`Refusal::OverBurst`] for a request that can never pass.
    pub fn admit(&self, tenant: &Tenant, jobs: NonZeroU32) -> Result<(), Refusal> {
        let Some(rate) = tenant.ingress_rate else { return Ok(()) };
        let limiter = self.limiter(&tenant.id, rate);
        match limiter.check_n(jobs) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(not_until)) => {
                Err(Refusal::OverRate { retry_after: not_until.wait_time_from(DefaultClock::default().now()) })
            }
            Err(_insufficient) => Err(Refusal::OverBurst(rate.burst.get())),
        }
    }

    fn limiter(&self, tenant: &TenantId, rate: Rate) -> Arc<DefaultDirectRateLimiter> {
        let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
        match limiters.get(tenant) {
            Some((known, limiter)) if *known == rate => Arc::clone(limiter),
            _ => {
                let quota = Quota::per_second(rate.per_s).allow_burst(rate.burst);
                let limiter = Arc::new(RateLimiter::direct(quota));
                limiters.insert(tenant.clone(), (rate, Arc::clone(&limiter)));
                limiter
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::UnixMicros;

    fn tenant(ingress_rate: Option<&str>) -> Tenant {
        let ingress_rate = ingress_rate.map(|rate| rate.parse().unwrap());
        Tenant { ingress_rate, ..Tenant::new("acme".parse().unwrap(), UnixMicros(0)) }
    }

    #[test]
    fn a_rate_lets_its_burst_in_and_then_says_when_to_come_back() {
        let (guard, acme) = (Guard::default(), tenant(Some("1/s:10")));
        let jobs = |n| NonZeroU32::new(n).unwrap();
        assert_eq!(guard.admit(&acme, jobs(10)), Ok(()));
        assert!(
            matches!(guard.admit(&acme, jobs(2)), Err(Refusal::OverRate { retry_after }) if !retry_after.is_zero())
        );
        assert_eq!(guard.admit(&acme, jobs(11)), Err(Refusal::OverBurst(10)));
        assert_eq!(guard.admit(&tenant(None), jobs(1_000)), Ok(()));
    }
}
