//! Whose jobs they are, and who may ask: tenants and their keys.

use std::sync::Arc;

use crate::domain::cap::CapRule;
use crate::domain::ids::TenantId;
use crate::domain::rate::Rate;
use crate::domain::time::UnixMicros;
use crate::domain::window::WindowRule;

/// A tenant with its settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tenant {
    /// Its id.
    pub id: TenantId,
    /// A name for people.
    pub name: Box<str>,
    /// How fast its jobs leave; `None`: as fast as providers allow.
    pub rate: Option<Rate>,
    /// How fast it may submit, in jobs; `None`: as fast as the service allows.
    pub ingress_rate: Option<Rate>,
    /// Most jobs accepted and not settled; `None`: no limit.
    pub outstanding_max: Option<u64>,
    /// Its caps, at most [`crate::domain::cap::CAP_RULES_MAX`].
    pub caps: Vec<CapRule>,
    /// Its send windows instead of the service's, at most [`crate::domain::window::WINDOW_RULES_MAX`]; none: the
    /// service's.
    pub windows: Vec<Arc<WindowRule>>,
    /// When it was created.
    pub created_at: UnixMicros,
}

crate::domain::job::words! {
    /// What a key may do.
    Role {
        /// Submit, cancel and read its tenant's jobs.
        Submitter = "submitter",
        /// Read its tenant's jobs.
        Viewer = "viewer",
        /// Everything of its tenant, and its suppressions.
        Admin = "admin",
        /// Everything of every tenant: tenants, keys, providers.
        Operator = "operator",
    }
}

/// An API key, as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ApiKey {
    /// The public part, in front of the secret.
    pub id: Box<str>,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it may do.
    pub role: Role,
    /// Peppered HMAC-SHA256 of the secret.
    pub mac: [u8; 32],
    /// When it was created.
    pub created_at: UnixMicros,
    /// When it was revoked.
    pub revoked_at: Option<UnixMicros>,
}
