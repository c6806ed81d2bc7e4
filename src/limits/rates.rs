//! The rate buckets that all nodes share: their names, and how tokens are leased from them.

use crate::domain::ids::{PoolId, ProviderId, TenantId};
use crate::domain::job::Class;
use crate::domain::rate::Rate;

/// A lot is this part of a second's tokens: ten calls a second and bucket at most, where little is wanted at a time.
const LOTS_PER_SECOND: u32 = 10;
/// One part in so many of a provider's burst is never leased below transactional.
const URGENT_PARTS: u32 = 10;
/// Urgent work leases from what is kept for it in small lots: what a lot leaves over is lost to the others, too.
const URGENT_LOTS_PER_SECOND: u32 = 100;

/// A bucket that tokens are taken from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: Box<str>,
    /// Its numbers as of now.
    pub rate: Rate,
    /// Tokens that stay in it, for others.
    pub keep: u32,
    /// How many tokens are leased at a time where fewer are wanted.
    pub lot: u32,
}

/// Returns the bucket of a tenant's rate.
pub fn tenant(tenant: &TenantId, rate: Rate) -> Bucket {
    Bucket::new(format!("tenant:{tenant}"), rate)
}

/// Returns the bucket of a rate that one sender of a tenant has.
pub fn sender(tenant: &TenantId, sender: &str, rate: Rate) -> Bucket {
    Bucket::new(format!("sender:{tenant}:{sender}"), rate)
}

/// Returns the bucket of a pool's credit: how much work may be released to it.
pub fn pool(pool: &PoolId, credit: Rate) -> Bucket {
    Bucket::new(format!("pool:{pool}"), credit)
}

/// Returns the bucket of a provider's rate, as jobs of a class may take from it.
pub fn provider(provider: &ProviderId, rate: Rate, class: Class) -> Bucket {
    let bucket = Bucket::new(format!("provider:{provider}"), rate);
    if class.urgent() {
        Bucket { lot: (rate.per_s.get() / URGENT_LOTS_PER_SECOND).min(bucket.lot), ..bucket }
    } else {
        bucket.keeping(URGENT_PARTS)
    }
}

/// Returns the buckets that jobs of a tenant and sender are paced by, the narrowest last.
pub fn of_jobs(id: &TenantId, rate: Option<Rate>, from: &str, from_rate: Option<Rate>) -> Vec<Bucket> {
    let tenant = rate.map(|rate| tenant(id, rate));
    tenant.into_iter().chain(from_rate.map(|rate| sender(id, from, rate))).collect()
}

// === impl Bucket ===

impl Bucket {
    /// Returns the same bucket for those who must leave one part in `parts` of its burst in it.
    pub fn keeping(self, parts: u32) -> Self {
        Self { keep: self.rate.burst.get() / parts, ..self }
    }

    fn new(name: String, rate: Rate) -> Self {
        let lot = (rate.per_s.get() / LOTS_PER_SECOND).min(rate.burst.get());
        Self { name: name.into(), rate, keep: 0, lot }
    }
}
