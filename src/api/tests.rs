//! What the tests of several parts share.

use crate::domain::time::UnixMicros;
use crate::ledger::Tenant;

/// Returns a tenant without settings.
pub(super) fn tenant(id: &str) -> Tenant {
    Tenant::new(id.parse().unwrap(), UnixMicros(0))
}
