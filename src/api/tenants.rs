//! The tenant service: tenants, their rates and caps, their keys.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::access::{Caller, caller};
use super::convert;
use super::status::Error;
use super::{Ports, keys, tokens};
use crate::domain::ids::TenantId;
use crate::domain::quota::Quota;
use crate::ledger::{ApiKey, Directory, Ledger, Role, Tenant};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// Live keys of one role that a tenant may have: the old and the new one, while it changes them.
const LIVE_KEYS_MAX: usize = 2;
/// The settings that a tenant's own admin may change.
const OWN_SETTINGS: &[&str] =
    &["display_name", "caps", "windows", "time_zone", "stop_words", "start_words", "sender_pools"];

/// Creates, shows and changes tenants and keys.
pub(super) struct Tenants<Q, L, B> {
    ports: Arc<Ports<Q, L, B>>,
}

/// Returns the tenant that a call means: the caller's own, or for operators the one it names. To anybody else, another
/// tenant does not exist.
///
/// # Errors
/// [`Error::NotFound`].
pub(super) fn named(directory: &Directory, caller: &Caller, named: &str) -> Result<Arc<Tenant>, Error> {
    if named.is_empty() || named == caller.tenant.id.as_str() {
        return Ok(directory.tenant(&caller.tenant.id).unwrap_or_else(|| Arc::clone(&caller.tenant)));
    }
    let id: TenantId = convert::name("tenant_id", named)?;
    match caller.role {
        Role::Operator => directory.tenant(&id).ok_or(Error::NotFound("tenant")),
        Role::Submitter | Role::Viewer | Role::Admin => Err(Error::NotFound("tenant")),
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Tenants<Q, L, B> {
    pub(super) fn new(ports: Arc<Ports<Q, L, B>>) -> Self {
        Self { ports }
    }

    fn checked(&self, raw: Option<pb::Tenant>) -> Result<Tenant, Error> {
        let tenant = convert::tenant(raw, self.ports.clock.now()).map_err(|e| e.within("tenant"))?;
        for (index, rule) in tenant.windows.iter().enumerate() {
            let checked = convert::calendars(&rule.hours, self.ports.windows.calendars());
            checked.map_err(|e| e.at("windows", index).within("tenant"))?;
        }
        let price = |currency| {
            let mut prices = self.ports.providers.iter().filter_map(|entry| entry.profile.price);
            prices.any(|price| price.currency == currency)
        };
        let unknown = |quota: &Quota| quota.most.money().is_some_and(|money| !price(money.currency));
        if let Some(index) = tenant.quotas.iter().position(unknown) {
            return Err(convert::no_such_price(index).into());
        }
        convert::pools(&tenant.routes, self.ports.admission.routes()).map_err(|e| e.within("tenant"))?;
        Ok(tenant)
    }

    async fn create(&self, raw: pb::CreateTenantRequest) -> Result<Tenant, Error> {
        let tenant = self.checked(raw.tenant)?;
        let Ports { directory, ledger, .. } = &*self.ports;
        if ledger.tenants().await?.iter().any(|known| known.id == tenant.id) {
            return Err(Error::Exists("tenant"));
        }
        self.check_names(&tenant)?;
        directory.put_tenant(ledger, &tenant).await?;
        tracing::info!(tenant = %tenant.id, "tenant created");
        Ok(tenant)
    }

    async fn update(&self, caller: &Caller, raw: pb::UpdateTenantRequest) -> Result<Tenant, Error> {
        let new = self.checked(raw.tenant)?;
        let mut tenant = named(&self.ports.directory, caller, new.id.as_str())?.as_ref().clone();
        let paths = raw.update_mask.iter().flat_map(|mask| &mask.paths);
        if caller.role != Role::Operator && paths.clone().any(|path| !OWN_SETTINGS.contains(&path.as_str())) {
            return Err(Error::Denied(
                "UpdateTenant with settings other than display_name, caps, windows, time_zone, stop_words, start_words and sender_pools",
            ));
        }
        convert::apply_mask(&mut tenant, new, raw.update_mask)?;
        self.check_names(&tenant)?;
        convert::apart(&tenant)?;
        self.ports.directory.put_tenant(&self.ports.ledger, &tenant).await?;
        tracing::info!(tenant = %tenant.id, "tenant changed");
        Ok(tenant)
    }

    /// Refuses caps under a name that the settings use for a cap of this tenant.
    fn check_names(&self, tenant: &Tenant) -> Result<(), Error> {
        let house = self.ports.directory.house_cap_names(&tenant.id);
        let taken = tenant.caps.iter().position(|cap| house.contains(&cap.name));
        match taken {
            Some(index) => Err(convert::name_taken(&tenant.caps[index], index).into()),
            None => Ok(()),
        }
    }

    async fn create_key(&self, caller: &Caller, raw: &pb::CreateApiKeyRequest) -> Result<(ApiKey, String), Error> {
        let role = convert::role_from_pb("role", raw.role)?;
        let Ports { directory, ledger, sealer, clock, .. } = &*self.ports;
        let tenant = named(directory, caller, &raw.tenant_id)?;
        if role == Role::Operator && caller.role != Role::Operator {
            return Err(Error::Denied("CreateApiKey for operator keys"));
        }
        let now = clock.now();
        let expires_at = raw.expires_at.map(|at| convert::future("expires_at", &at, now)).transpose()?;
        let live = |key: &&ApiKey| key.tenant == tenant.id && key.role == role && key.is_live(now);
        if ledger.api_keys().await?.iter().filter(live).count() >= LIVE_KEYS_MAX {
            return Err(Error::TooManyKeys);
        }
        let (key, secret) = keys::mint(sealer, &tenant.id, role, now).map_err(|_| Error::NoRandom)?;
        let key = ApiKey { expires_at, ..key };
        directory.put_api_key(ledger, &key).await?;
        tracing::info!(tenant = %tenant.id, %role, "key created");
        Ok((key, secret))
    }

    async fn revoke_key(&self, caller: &Caller, raw: pb::RevokeApiKeyRequest) -> Result<ApiKey, Error> {
        let id = convert::required("key_id", raw.key_id, 64)?;
        let Ports { directory, ledger, clock, .. } = &*self.ports;
        let mut key = directory.key(&id).ok_or(Error::NotFound("key"))?;
        named(directory, caller, key.tenant.as_str()).map_err(|_| Error::NotFound("key"))?;
        if key.role == Role::Operator && caller.role != Role::Operator {
            return Err(Error::Denied("RevokeApiKey for operator keys"));
        }
        if key.revoked_at.is_none() {
            key.revoked_at = Some(clock.now());
            directory.put_api_key(ledger, &key).await?;
            tracing::info!(tenant = %key.tenant, role = %key.role, "key revoked");
        }
        Ok(key)
    }

    async fn list_keys(&self, caller: &Caller, raw: &pb::ListApiKeysRequest) -> Result<Page<ApiKey>, Error> {
        let tenant = named(&self.ports.directory, caller, &raw.tenant_id)?;
        let mut keys = self.ports.ledger.api_keys().await?;
        keys.retain(|key| key.tenant == tenant.id);
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        self.page(caller, b"keys", (raw.page_size, &raw.page_token), keys)
    }

    /// Cuts a page out of what fits in memory anyway.
    fn page<T>(
        &self,
        caller: &Caller,
        purpose: &[u8],
        (size, token): (i32, &str),
        all: Vec<T>,
    ) -> Result<Page<T>, Error> {
        let size = usize::try_from(convert::page_size(size)?).unwrap_or(usize::MAX);
        let from = match token {
            "" => 0,
            token => tokens::take(&self.ports.sealer, &caller.tenant.id, purpose, ("page_token", token))
                .map(u64::from_be_bytes)?,
        };
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let to = from.saturating_add(size);
        let next = (to < all.len()).then(|| {
            let place = u64::try_from(to).unwrap_or(u64::MAX).to_be_bytes();
            tokens::give(&self.ports.sealer, &caller.tenant.id, purpose, &place)
        });
        Ok(Page { items: all.into_iter().skip(from).take(size).collect(), next: next.unwrap_or_default() })
    }
}

struct Page<T> {
    items: Vec<T>,
    next: String,
}

#[tonic::async_trait]
impl<Q: Queue, L: Limits, B: Ledger> pb::tenant_service_server::TenantService for Tenants<Q, L, B> {
    async fn create_tenant(
        &self,
        request: Request<pb::CreateTenantRequest>,
    ) -> Result<Response<pb::CreateTenantResponse>, Status> {
        let tenant = self.create(request.into_inner()).await?;
        Ok(Response::new(pb::CreateTenantResponse { tenant: Some(convert::tenant_to_pb(&tenant)) }))
    }

    async fn get_tenant(
        &self,
        request: Request<pb::GetTenantRequest>,
    ) -> Result<Response<pb::GetTenantResponse>, Status> {
        let tenant = named(&self.ports.directory, &caller(&request)?, &request.get_ref().tenant_id)?;
        Ok(Response::new(pb::GetTenantResponse { tenant: Some(convert::tenant_to_pb(&tenant)) }))
    }

    async fn list_tenants(
        &self,
        request: Request<pb::ListTenantsRequest>,
    ) -> Result<Response<pb::ListTenantsResponse>, Status> {
        let (caller, raw) = (caller(&request)?, request.get_ref());
        let all = self.ports.directory.tenants();
        let page = self.page(&caller, b"tenants", (raw.page_size, &raw.page_token), all)?;
        let tenants = page.items.iter().map(|tenant| convert::tenant_to_pb(tenant)).collect();
        Ok(Response::new(pb::ListTenantsResponse { tenants, next_page_token: page.next }))
    }

    async fn update_tenant(
        &self,
        request: Request<pb::UpdateTenantRequest>,
    ) -> Result<Response<pb::UpdateTenantResponse>, Status> {
        let tenant = self.update(&caller(&request)?, request.into_inner()).await?;
        Ok(Response::new(pb::UpdateTenantResponse { tenant: Some(convert::tenant_to_pb(&tenant)) }))
    }

    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        let (key, secret) = self.create_key(&caller(&request)?, request.get_ref()).await?;
        let api_key = Some(convert::api_key_to_pb(&key));
        Ok(Response::new(pb::CreateApiKeyResponse { api_key, secret }))
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        let page = self.list_keys(&caller(&request)?, request.get_ref()).await?;
        let api_keys = page.items.iter().map(convert::api_key_to_pb).collect();
        Ok(Response::new(pb::ListApiKeysResponse { api_keys, next_page_token: page.next }))
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Result<Response<pb::RevokeApiKeyResponse>, Status> {
        let key = self.revoke_key(&caller(&request)?, request.into_inner()).await?;
        Ok(Response::new(pb::RevokeApiKeyResponse { api_key: Some(convert::api_key_to_pb(&key)) }))
    }
}
