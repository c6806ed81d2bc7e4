//! The first start: a tenant to begin with.

use super::{Base, StartError};
use crate::api;
use crate::ledger::{Role, Tenant};

/// The key of the tenant that the first start created: shown once.
#[derive(Clone, PartialEq, Eq)]
pub struct FirstKey(pub String);

/// Creates the tenant `default` with an operator's key, where there is no tenant yet.
pub(super) async fn tenant(base: &Base) -> Result<Option<FirstKey>, StartError> {
    if !base.directory.tenants().is_empty() {
        return Ok(None);
    }
    let Ok(id) = "default".parse() else { return Ok(None) };
    let now = base.clock.now();
    let (key, text) = api::mint(&base.sealer, &id, Role::Operator, now)?;
    let tenant = Tenant { name: "Default".into(), ..Tenant::new(id, now) };
    base.directory.put_tenant(&base.ledger, &tenant).await?;
    base.directory.put_api_key(&base.ledger, &key).await?;
    Ok(Some(FirstKey(text)))
}
