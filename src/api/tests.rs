//! What the tests of several parts share.

use crate::domain::time::UnixMicros;
use crate::ledger::Tenant;

/// Returns a tenant without settings.
pub(super) fn tenant(id: &str) -> Tenant {
    Tenant {
        id: id.parse().unwrap(),
        name: id.into(),
        rate: None,
        ingress_rate: None,
        outstanding_max: None,
        caps: vec![],
        windows: vec![],
        sender_rates: vec![],
        time_zone: None,
        created_at: UnixMicros(0),
    }
}
