//! Tenants, keys, opt-outs and counts.

use bytes::Bytes;
use rusqlite::{Connection, Row, Transaction, params};

use super::rows;
use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};
use crate::domain::keys::AddressKey;
use crate::domain::rate::Rate;
use crate::domain::suppression::{Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code};
use crate::ledger::{ApiKey, Count, LedgerError, Role, SealedSuppression, Tenant, tenant};

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

/// Returns the opt-outs of an address: a tenant's own and those that bind every tenant.
pub(super) fn suppressions(
    conn: &Connection,
    tenant: &TenantId,
    address: AddressKey,
) -> Result<Vec<Suppression>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select ?1, address, scope, word, kind, source, at from suppression \
         where tenant = ?1 and address = ?2 and scope <> 6 union all \
         select ?1, address, scope, word, kind, source, at from suppression where scope = 6 and address = ?2 \
         order by scope, word, kind, source",
    )?;
    rows::all(statement.query(params![tenant.as_str(), address.0])?, suppression)
}

/// Returns opt-outs in the order of their keys.
pub(super) fn suppressions_after(
    conn: &Connection,
    tenant: Option<&TenantId>,
    after: Option<&Suppression>,
    most: u32,
) -> Result<Vec<SealedSuppression>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select tenant, address, scope, word, kind, source, at, sealed from suppression \
         where (tenant, address, scope, word, kind, source) > (?1, ?2, ?3, ?4, ?5, ?6) and tenant <= coalesce(?7, tenant) \
         order by tenant, address, scope, word, kind, source limit ?8",
    )?;
    // Before every tenant's first, or before the first of the one.
    let first = (tenant.map_or("", TenantId::as_str), [0; 16], 0, &[][..], 0, 0);
    let (from, address, sort, word, kind, source) = after.map_or(first, |after| {
        let (sort, word) = columns::scope_columns(&after.scope);
        let kind = columns::bound_kind_column(after.kind);
        (after.tenant.as_str(), after.address.0, sort, word, kind, after.source.code())
    });
    let last = tenant.map(TenantId::as_str);
    rows::all(statement.query(params![from, address, sort, word, kind, source, last, most])?, |row| {
        let sealed = row.get_ref(7)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok(SealedSuppression { suppression: suppression(row)?, sealed: Bytes::copy_from_slice(sealed) })
    })
}

fn suppression(row: &Row<'_>) -> Result<Suppression, LedgerError> {
    Ok(Suppression {
        tenant: rows::name(row, 0)?,
        address: AddressKey(row.get(1)?),
        scope: columns::scope(row.get(2)?, row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?)?,
        kind: columns::bound_kind(row.get(4)?)?,
        source: Source::from_code(row.get(5)?)?,
        at: UnixMicros(row.get(6)?),
    })
}

/// Returns every tenant.
pub(super) fn tenants(conn: &Connection) -> Result<Vec<Tenant>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select id, name, rate, ingress_rate, outstanding_max, caps, windows, created_at, sender_rates, time_zone, \
         further from tenant order by id",
    )?;
    let rate = |raw: Option<String>| raw.map(|raw| columns::name::<Rate>(&raw)).transpose();
    rows::all(statement.query([])?, |row| {
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let tenant = Tenant {
            id: rows::name(row, 0)?,
            name: row.get(1)?,
            rate: rate(row.get(2)?)?,
            ingress_rate: rate(row.get(3)?)?,
            outstanding_max: row.get::<_, Option<_>>(4)?.map(columns::unsigned),
            caps: columns::caps(&columns::json(text(5)?, "caps")?)?,
            windows: columns::windows(&columns::json(text(6)?, "windows")?)?,
            created_at: UnixMicros(row.get(7)?),
            sender_rates: tenant::sender_rates(text(8)?)?,
            time_zone: row.get(9)?,
            quotas: vec![],
            routes: vec![],
            stop_words: vec![],
            start_words: vec![],
            sender_pools: vec![],
            reassigned: vec![],
        };
        tenant::with_further(tenant, text(10)?)
    })
}

/// Creates or replaces a tenant.
pub(super) fn put_tenant(tx: &Transaction<'_>, tenant: &Tenant) -> Result<(), LedgerError> {
    tx.prepare_cached("insert or replace into tenant values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")?.execute(
        params![
            tenant.id.as_str(),
            tenant.name,
            tenant.rate.map(|rate| rate.to_string()),
            tenant.ingress_rate.map(|rate| rate.to_string()),
            columns::outstanding(tenant.outstanding_max),
            columns::caps_json(&tenant.caps).to_string(),
            columns::windows_json(&tenant.windows).to_string(),
            tenant.created_at.0,
            tenant::sender_rates_json(&tenant.sender_rates).to_string(),
            tenant.time_zone,
            tenant::further_json(tenant).to_string(),
        ],
    )?;
    Ok(())
}

/// Returns every key.
pub(super) fn api_keys(conn: &Connection) -> Result<Vec<ApiKey>, LedgerError> {
    let mut statement = conn
        .prepare_cached("select id, tenant, role, mac, created_at, revoked_at, expires_at from api_key order by id")?;
    rows::all(statement.query([])?, |row| {
        Ok(ApiKey {
            id: row.get(0)?,
            tenant: rows::name(row, 1)?,
            role: Role::from_code(row.get(2)?)?,
            mac: row.get(3)?,
            created_at: UnixMicros(row.get(4)?),
            revoked_at: row.get::<_, Option<_>>(5)?.map(UnixMicros),
            expires_at: row.get::<_, Option<_>>(6)?.map(UnixMicros),
        })
    })
}

/// Creates or replaces a key.
pub(super) fn put_api_key(tx: &Transaction<'_>, key: &ApiKey) -> Result<(), LedgerError> {
    tx.prepare_cached("insert or replace into api_key values (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?.execute(params![
        key.id,
        key.tenant.as_str(),
        key.role.code(),
        key.mac,
        key.created_at.0,
        key.revoked_at.map(|at| at.0),
        key.expires_at.map(|at| at.0),
    ])?;
    Ok(())
}
