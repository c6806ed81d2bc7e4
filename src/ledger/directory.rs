//! Who may ask, and what caps bind them: tenants and keys, from memory.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::tenant::keys;
use super::{ApiKey, Ledger, LedgerError, Tenant};
use crate::config::HouseCap;
use crate::domain::cap::CapRule;
use crate::domain::hold::Hold;
use crate::domain::ids::{ProviderId, RuleName, TenantId};
use crate::domain::time::{Clock, UnixMicros};
use crate::shutdown::Tasks;
use crate::telemetry::metrics::{self, Key};

/// How long a change that another process made may stay unseen: a revoked key works no longer than this.
const REFRESH: Duration = Duration::from_secs(2);

/// The last known tenants and keys. Cheap to clone; all clones see the same.
///
/// While the ledger is away, the last known copy is served.
#[derive(Clone, Default)]
pub struct Directory {
    known: Arc<RwLock<Arc<Known>>>,
}

#[derive(Clone, Default)]
struct Known {
    tenants: HashMap<TenantId, Arc<Tenant>>,
    keys: HashMap<Box<str>, ApiKey>,
    holds: HashMap<ProviderId, Hold>,
    /// The caps of the settings.
    house: Arc<[HouseCap]>,
    /// By tenant, its own caps and those of the settings.
    caps: HashMap<TenantId, Arc<[CapRule]>>,
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

    /// Starts the task that keeps the copy fresh, and shows when the first key expires, until `tasks` stop.
    pub fn keep_fresh(&self, ledger: impl Ledger, tasks: &Tasks, clock: Clock) {
        let (directory, stop) = (self.clone(), tasks.stop().clone());
        tasks.spawn("directory", async move {
            let mut away = false;
            metrics::key_expires(Key::Api, directory.first_expiry(clock.now()));
            while stop.run_until_cancelled(clock.pause(REFRESH)).await.is_some() {
                match directory.refresh(&ledger).await {
                    Ok(()) => away = false,
                    Err(error) if !away => {
                        tracing::warn!(%error, "cannot refresh tenants and keys, serving the last known copy");
                        away = true;
                    }
                    Err(_) => {}
                }
                metrics::key_expires(Key::Api, directory.first_expiry(clock.now()));
            }
        });
    }

    /// Reads every tenant and key again, or keeps the last copy.
    ///
    /// # Errors
    /// What the ledger says.
    pub async fn refresh(&self, ledger: &impl Ledger) -> Result<(), LedgerError> {
        let (tenants, keys, holds) = (ledger.tenants().await?, ledger.api_keys().await?, ledger.holds().await?);
        let tenants = tenants.into_iter().map(|tenant| (tenant.id.clone(), Arc::new(tenant))).collect();
        let keys = keys.into_iter().map(|key| (key.id.clone(), key)).collect();
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let house = Arc::clone(&known.house);
        *known = Arc::new(Known::new(tenants, keys, house).holding(holds));
        Ok(())
    }

    /// Replaces the caps of the settings; they bind from then on.
    pub fn set_house_caps(&self, house: Vec<HouseCap>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        *known =
            Arc::new(Known::new(known.tenants.clone(), known.keys.clone(), house.into()).holding(known.holds.clone()));
    }

    /// Returns the caps that bind a tenant's jobs: its own, and those of the settings.
    pub fn caps(&self, id: &TenantId) -> Arc<[CapRule]> {
        let known = self.known();
        known.caps.get(id).cloned().unwrap_or_else(|| known.house_of(id).cloned().collect())
    }

    /// Returns the names of the caps of the settings that bind a tenant's jobs.
    pub fn house_cap_names(&self, id: &TenantId) -> Vec<RuleName> {
        self.known().house_of(id).map(|rule| rule.name.clone()).collect()
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

    /// Holds a provider back, or lets it work, and knows it from then on; the other nodes within five seconds.
    ///
    /// # Errors
    /// What the ledger says; after an error it may have been written.
    pub async fn put_hold(
        &self,
        ledger: &impl Ledger,
        provider: &ProviderId,
        hold: Option<Hold>,
    ) -> Result<(), LedgerError> {
        ledger.put_hold(provider, hold).await?;
        self.refresh(ledger).await
    }

    /// Returns whether a provider is held back, and how.
    pub fn hold(&self, provider: &ProviderId) -> Option<Hold> {
        self.known().holds.get(provider).copied()
    }

    /// Returns a tenant.
    pub fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.known().tenants.get(id).cloned()
    }

    /// Returns a key by its public part, revoked or not.
    pub fn key(&self, id: &str) -> Option<ApiKey> {
        self.known().keys.get(id).cloned()
    }

    fn first_expiry(&self, now: UnixMicros) -> Option<UnixMicros> {
        keys::first_expiry(self.known().keys.values(), now)
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

impl Known {
    fn new(tenants: HashMap<TenantId, Arc<Tenant>>, keys: HashMap<Box<str>, ApiKey>, house: Arc<[HouseCap]>) -> Self {
        let mut known = Self { tenants, keys, holds: HashMap::new(), house, caps: HashMap::new() };
        let caps = |(id, tenant): (&TenantId, &Arc<Tenant>)| {
            (id.clone(), tenant.caps.iter().chain(known.house_of(id)).cloned().collect())
        };
        known.caps = known.tenants.iter().map(caps).collect();
        known
    }

    fn holding(self, holds: impl IntoIterator<Item = (ProviderId, Hold)>) -> Self {
        Self { holds: holds.into_iter().collect(), ..self }
    }

    /// Returns the rules of the settings that bind a tenant's jobs.
    fn house_of<'a>(&'a self, id: &'a TenantId) -> impl Iterator<Item = &'a CapRule> {
        let binds = move |cap: &&HouseCap| cap.tenant.as_ref().is_none_or(|tenant| tenant == id);
        self.house.iter().filter(binds).map(|cap| &cap.rule)
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known();
        write!(f, "Directory({} tenants, {} keys)", known.tenants.len(), known.keys.len())
    }
}
