//! The names of the rate buckets that all nodes share.

use crate::domain::ids::{PoolId, ProviderId, TenantId};

/// Names the bucket of a tenant's rate.
pub fn tenant(tenant: &TenantId) -> Box<str> {
    format!("tenant:{tenant}").into()
}

/// Names the bucket of a pool's credit: how much work may be released to it.
pub fn pool(pool: &PoolId) -> Box<str> {
    format!("pool:{pool}").into()
}

/// Names the bucket of a provider's rate.
pub fn provider(provider: &ProviderId) -> Box<str> {
    format!("provider:{provider}").into()
}
