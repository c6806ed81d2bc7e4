//! Tenants, keys, opt-outs, cancellations and counts.

use rusqlite::{Connection, Transaction, params};

use super::rows;
use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};
use crate::domain::keys::AddressKey;
use crate::domain::rate::Rate;
use crate::domain::suppression::{CancelRule, Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code};
use crate::ledger::{ApiKey, Count, LedgerError, Role, Tenant};

/// Returns the sums of counts between two hours.
pub(super) fn counts(
    conn: &Connection,
    tenant: Option<&TenantId>,
    from: UnixMicros,
    to: UnixMicros,
) -> Result<Vec<Count>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select tenant, hour, kind, class, what, reason, jobs from count \
         where (?1 is null or tenant = ?1) and hour >= ?2 and hour < ?3 \
         order by tenant, hour, kind, class, what, reason",
    )?;
    rows::all(statement.query(params![tenant.map(TenantId::as_str), from.0, to.0])?, |row| {
        Ok(Count {
            tenant: rows::name(row, 0)?,
            hour: UnixMicros(row.get(1)?),
            kind: Kind::from_code(row.get(2)?)?,
            class: Class::from_code(row.get(3)?)?,
            what: row.get(4)?,
            reason: row.get(5)?,
            jobs: row.get(6)?,
        })
    })
}

/// Returns the opt-outs of an address.
pub(super) fn suppressions(
    conn: &Connection,
    tenant: &TenantId,
    address: AddressKey,
) -> Result<Vec<Suppression>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select scope, word, source, at from suppression where tenant = ?1 and address = ?2 \
         order by scope, word, source",
    )?;
    rows::all(statement.query(params![tenant.as_str(), address.0])?, |row| {
        Ok(Suppression {
            tenant: tenant.clone(),
            address,
            scope: columns::scope(row.get(0)?, row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?)?,
            source: Source::from_code(row.get(2)?)?,
            at: UnixMicros(row.get(3)?),
        })
    })
}

/// Returns cancellations of a tenant, newest first.
pub(super) fn cancellations(conn: &Connection, tenant: &TenantId, most: u32) -> Result<Vec<CancelRule>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select sort, value, at from cancellation where tenant = ?1 order by at desc, sort, value limit ?2",
    )?;
    rows::all(statement.query(params![tenant.as_str(), most])?, |row| {
        let value = row.get_ref(1)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok(CancelRule {
            tenant: tenant.clone(),
            by: columns::cancel_by(row.get(0)?, value)?,
            at: UnixMicros(row.get(2)?),
        })
    })
}

/// Returns every tenant.
pub(super) fn tenants(conn: &Connection) -> Result<Vec<Tenant>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select id, name, rate, ingress_rate, outstanding_max, caps, created_at from tenant order by id",
    )?;
    let rate = |raw: Option<String>| raw.map(|raw| columns::name::<Rate>(&raw)).transpose();
    rows::all(statement.query([])?, |row| {
        let caps = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
        Ok(Tenant {
            id: rows::name(row, 0)?,
            name: row.get(1)?,
            rate: rate(row.get(2)?)?,
            ingress_rate: rate(row.get(3)?)?,
            outstanding_max: row.get::<_, Option<_>>(4)?.map(columns::unsigned),
            caps: columns::caps(&serde_json::from_str(caps).map_err(|_| columns::missing("caps"))?)?,
            created_at: UnixMicros(row.get(6)?),
        })
    })
}

/// Creates or replaces a tenant.
pub(super) fn put_tenant(tx: &Transaction<'_>, tenant: &Tenant) -> Result<(), LedgerError> {
    tx.prepare_cached("insert or replace into tenant values (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
        tenant.id.as_str(),
        tenant.name,
        tenant.rate.map(|rate| rate.to_string()),
        tenant.ingress_rate.map(|rate| rate.to_string()),
        columns::outstanding(tenant.outstanding_max),
        columns::caps_json(&tenant.caps).to_string(),
        tenant.created_at.0,
    ])?;
    Ok(())
}

/// Returns every key.
pub(super) fn api_keys(conn: &Connection) -> Result<Vec<ApiKey>, LedgerError> {
    let mut statement =
        conn.prepare_cached("select id, tenant, role, mac, created_at, revoked_at from api_key order by id")?;
    rows::all(statement.query([])?, |row| {
        Ok(ApiKey {
            id: row.get(0)?,
            tenant: rows::name(row, 1)?,
            role: Role::from_code(row.get(2)?)?,
            mac: row.get(3)?,
            created_at: UnixMicros(row.get(4)?),
            revoked_at: row.get::<_, Option<_>>(5)?.map(UnixMicros),
        })
    })
}

/// Creates or replaces a key.
pub(super) fn put_api_key(tx: &Transaction<'_>, key: &ApiKey) -> Result<(), LedgerError> {
    tx.prepare_cached("insert or replace into api_key values (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
        key.id,
        key.tenant.as_str(),
        key.role.code(),
        key.mac,
        key.created_at.0,
        key.revoked_at.map(|at| at.0),
    ])?;
    Ok(())
}
