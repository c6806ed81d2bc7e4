//! Who may ask: tenants and keys, from memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::{ApiKey, Ledger, LedgerError, Tenant};
use crate::domain::ids::TenantId;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// How long a change that another process made may stay unseen: a revoked key works no longer than this.
const REFRESH: Duration = Duration::from_secs(2);

/// The last known tenants and keys. Cheap to clone; all clones see the same.
///
/// While the ledger is away, the last known copy is served.
#[derive(Clone, Default)]
pub struct Directory {
    known: Arc<RwLock<Arc<Known>>>,
}

#[derive(Default)]
struct Known {
    tenants: HashMap<TenantId, Arc<Tenant>>,
    keys: HashMap<Box<str>, ApiKey>,
}

impl Directory {
    /// Reads every tenant and key.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn load(ledger: &impl Ledger) -> Result<Self, LedgerError> {
        let directory = Self::default();
        directory.refresh(ledger).await?;
        Ok(directory)
    }

    /// Starts the task that keeps the copy fresh until `tasks` stop.
    pub fn keep_fresh(&self, ledger: impl Ledger, tasks: &Tasks, clock: Clock) {
        let (directory, stop) = (self.clone(), tasks.stop().clone());
        tasks.spawn("directory", async move {
            let mut away = false;
            while stop.run_until_cancelled(clock.pause(REFRESH)).await.is_some() {
                match directory.refresh(&ledger).await {
                    Ok(()) => away = false,
                    Err(error) if !away => {
                        tracing::warn!(%error, "cannot refresh tenants and keys, serving the last known copy");
                        away = true;
                    }
                    Err(_) => {}
                }
            }
        });
    }

    /// Reads every tenant and key again, or keeps the last copy.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn refresh(&self, ledger: &impl Ledger) -> Result<(), LedgerError> {
        let (tenants, keys) = (ledger.tenants().await?, ledger.api_keys().await?);
        let known = Known {
            tenants: tenants.into_iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant))).collect(),
            keys: keys.into_iter().map(|key| (key.id.clone(), key)).collect(),
        };
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
        Ok(())
    }

    /// Creates or replaces a tenant, and knows it from then on.
    ///
    /// # Errors
    /// What the ledger says; after an error the tenant may have been written.
    pub async fn put_tenant(&self, ledger: &impl Ledger, tenant: &Tenant) -> Result<(), LedgerError> {
        ledger.put_tenant(tenant).await?;
        self.refresh(ledger).await
    }

    /// Creates or replaces a key, and knows it from then on.
    ///
    /// # Errors
    /// What the ledger says; after an error the key may have been written.
    pub async fn put_api_key(&self, ledger: &impl Ledger, key: &ApiKey) -> Result<(), LedgerError> {
        ledger.put_api_key(key).await?;
        self.refresh(ledger).await
    }

    /// Returns a tenant.
    pub fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.known().tenants.get(id).cloned()
    }

    /// Returns a key by its public part, revoked or not.
    pub fn key(&self, id: &str) -> Option<ApiKey> {
        self.known().keys.get(id).cloned()
    }

    /// Returns every tenant, in order of their ids.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        let mut tenants: Vec<_> = self.known().tenants.values().cloned().collect();
        tenants.sort_by(|a, b| a.id.cmp(&b.id));
        tenants
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        write!(f, "Directory({} tenants, {} keys)", known.tenants.len(), known.keys.len())
    }
}
