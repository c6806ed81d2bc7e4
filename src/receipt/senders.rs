//! Who wrote to an address last, as far as this process knows: what an opt-out is attributed by when the ledger is away or
//! has not heard of the job yet.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::ids::TenantId;
use crate::domain::keys::AddressKey;
use crate::domain::recent::Recent;
use crate::domain::time::UnixMicros;

/// Addresses that are remembered, at about 80 bytes each.
const ADDRESSES: usize = 100_000;

/// Who wrote to whom lately. Cheap to clone; all clones are one memory.
#[derive(Clone)]
pub struct Senders {
    recent: Arc<Mutex<Recent<AddressKey, (TenantId, UnixMicros)>>>,
}

impl Senders {
    /// Returns an empty memory.
    pub fn new() -> Self {
        Self { recent: Arc::new(Mutex::new(Recent::new(ADDRESSES))) }
    }

    /// Notes that jobs of `tenant` are handed over to these addresses.
    pub fn note(&self, tenant: &TenantId, addresses: impl IntoIterator<Item = AddressKey>, now: UnixMicros) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        for address in addresses {
            recent.insert(address, (tenant.clone(), now));
        }
        recent.age();
    }

    /// Returns who wrote to an address last, and when.
    pub fn last(&self, address: AddressKey) -> Option<(TenantId, UnixMicros)> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }
}

impl Default for Senders {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Senders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Senders")
    }
}
