//! Tenants, keys, opt-outs and counts.

use bytes::Bytes;
use tokio_postgres::Row;
use uuid::Uuid;

use super::pool::Conn;
use super::rows::{self, Micros, get};
use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind};
use crate::domain::keys::AddressKey;
use crate::domain::rate::Rate;
use crate::domain::suppression::{Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code};
use crate::ledger::{ApiKey, Count, LedgerError, Role, SealedSuppression, Tenant, tenant};

/// Returns the sums of counts between two hours.
pub(super) async fn counts(
    conn: &Conn,
    tenant: Option<&TenantId>,
    from: UnixMicros,
    to: UnixMicros,
) -> Result<Vec<Count>, LedgerError> {
    let sql = "select tenant, hour, kind, class, what, reason, jobs from count \
               where ($1::text is null or tenant = $1) and hour >= $2 and hour < $3 \
               order by tenant, hour, kind, class, what, reason";
    let read = |row: &Row| {
        Ok(Count {
            tenant: rows::tenant(row, 0)?,
            hour: rows::time(row, 1)?,
            kind: Kind::from_code(get(row, 2)?)?,
            class: Class::from_code(get(row, 3)?)?,
            what: get(row, 4)?,
            reason: get(row, 5)?,
            jobs: get(row, 6)?,
        })
    };
    conn.query(sql, &[&tenant.map(TenantId::as_str), &Micros(from), &Micros(to)]).await?.iter().map(read).collect()
}

/// Returns the opt-outs of an address: a tenant's own and those that bind every tenant.
pub(super) async fn suppressions(
    conn: &Conn,
    tenant: &TenantId,
    address: AddressKey,
) -> Result<Vec<Suppression>, LedgerError> {
    let sql = "select $1::text, address, scope, word, kind, source, at from suppression \
               where tenant = $1 and address = $2 and scope <> 6 union all \
               select $1::text, address, scope, word, kind, source, at from suppression \
               where scope = 6 and address = $2 order by scope, word, kind, source";
    conn.query(sql, &[&tenant.as_str(), &Uuid::from_bytes(address.0)]).await?.iter().map(suppression).collect()
}

/// Returns opt-outs in the order of their keys.
pub(super) async fn suppressions_after(
    conn: &Conn,
    tenant: Option<&TenantId>,
    after: Option<&Suppression>,
    most: u32,
) -> Result<Vec<SealedSuppression>, LedgerError> {
    let sql = "select tenant, address, scope, word, kind, source, at, sealed from suppression \
               where (tenant, address, scope, word, kind, source) > ($1, $2, $3, $4, $5, $6) \
               and ($7::text is null or tenant <= $7) \
               order by tenant, address, scope, word, kind, source limit $8";
    // Before every tenant's first, or before the first of the one.
    let first = (tenant.map_or("", TenantId::as_str), [0; 16], 0, &[][..], 0, 0);
    let (from, address, sort, word, kind, source) = after.map_or(first, |after| {
        let (sort, word) = columns::scope_columns(&after.scope);
        let kind = columns::bound_kind_column(after.kind);
        (after.tenant.as_str(), after.address.0, sort, word, kind, after.source.code())
    });
    let (address, last) = (Uuid::from_bytes(address), tenant.map(TenantId::as_str));
    let found = conn.query(sql, &[&from, &address, &sort, &word, &kind, &source, &last, &i64::from(most)]).await?;
    let read = |row: &Row| {
        let sealed = Bytes::copy_from_slice(get(row, 7)?);
        Ok(SealedSuppression { suppression: suppression(row)?, sealed })
    };
    found.iter().map(read).collect()
}

fn suppression(row: &Row) -> Result<Suppression, LedgerError> {
    Ok(Suppression {
        tenant: rows::tenant(row, 0)?,
        address: AddressKey(get::<Uuid>(row, 1)?.into_bytes()),
        scope: columns::scope(get(row, 2)?, get(row, 3)?)?,
        kind: columns::bound_kind(get(row, 4)?)?,
        source: Source::from_code(get(row, 5)?)?,
        at: rows::time(row, 6)?,
    })
}

/// Returns every tenant.
pub(super) async fn tenants(conn: &Conn) -> Result<Vec<Tenant>, LedgerError> {
    let sql = "select id, name, rate, ingress_rate, outstanding_max, caps::text, windows::text, created_at, \
               sender_rates::text, time_zone, further::text \
               from tenant order by id";
    let rate = |raw: Option<&str>| raw.map(columns::name::<Rate>).transpose();
    let read = |row: &Row| {
        let tenant = Tenant {
            id: rows::tenant(row, 0)?,
            name: get(row, 1)?,
            rate: rate(get(row, 2)?)?,
            ingress_rate: rate(get(row, 3)?)?,
            outstanding_max: get::<Option<_>>(row, 4)?.map(columns::unsigned),
            caps: columns::caps(&columns::json(get(row, 5)?, "caps")?)?,
            windows: columns::windows(&columns::json(get(row, 6)?, "windows")?)?,
            created_at: rows::time(row, 7)?,
            sender_rates: tenant::sender_rates(get(row, 8)?)?,
            time_zone: get(row, 9)?,
            quotas: vec![],
            routes: vec![],
            stop_words: vec![],
            start_words: vec![],
            sender_pools: vec![],
            reassigned: vec![],
        };
        tenant::with_further(tenant, get(row, 10)?)
    };
    conn.query(sql, &[]).await?.iter().map(read).collect()
}

/// Creates or replaces a tenant.
pub(super) async fn put_tenant(conn: &Conn, tenant: &Tenant) -> Result<(), LedgerError> {
    let sql = "insert into tenant \
               values ($1, $2, $3, $4, $5, $6::text::jsonb, $7::text::jsonb, $8, $9::text::jsonb, $10, $11::text::jsonb) \
               on conflict (id) do update \
               set name = excluded.name, rate = excluded.rate, ingress_rate = excluded.ingress_rate, \
               outstanding_max = excluded.outstanding_max, caps = excluded.caps, windows = excluded.windows, \
               created_at = excluded.created_at, sender_rates = excluded.sender_rates, \
               time_zone = excluded.time_zone, further = excluded.further";
    conn.execute(
        sql,
        &[
            &tenant.id.as_str(),
            &&*tenant.name,
            &tenant.rate.map(|rate| rate.to_string()),
            &tenant.ingress_rate.map(|rate| rate.to_string()),
            &columns::outstanding(tenant.outstanding_max),
            &columns::caps_json(&tenant.caps).to_string(),
            &columns::windows_json(&tenant.windows).to_string(),
            &Micros(tenant.created_at),
            &tenant::sender_rates_json(&tenant.sender_rates).to_string(),
            &tenant.time_zone.as_deref(),
            &tenant::further_json(tenant).to_string(),
        ],
    )
    .await?;
    Ok(())
}

/// Returns every key.
pub(super) async fn api_keys(conn: &Conn) -> Result<Vec<ApiKey>, LedgerError> {
    let sql = "select id, tenant, role, mac, created_at, revoked_at, expires_at from api_key order by id";
    let read = |row: &Row| {
        Ok(ApiKey {
            id: get(row, 0)?,
            tenant: rows::tenant(row, 1)?,
            role: Role::from_code(get(row, 2)?)?,
            mac: columns::key(get(row, 3)?)?,
            created_at: rows::time(row, 4)?,
            revoked_at: get::<Option<Micros>>(row, 5)?.map(|time| time.0),
            expires_at: get::<Option<Micros>>(row, 6)?.map(|time| time.0),
        })
    };
    conn.query(sql, &[]).await?.iter().map(read).collect()
}

/// Creates or replaces a key.
pub(super) async fn put_api_key(conn: &Conn, key: &ApiKey) -> Result<(), LedgerError> {
    let sql = "insert into api_key values ($1, $2, $3, $4, $5, $6, $7) on conflict (id) do update \
               set tenant = excluded.tenant, role = excluded.role, mac = excluded.mac, \
               created_at = excluded.created_at, revoked_at = excluded.revoked_at, expires_at = excluded.expires_at";
    let created_at = Micros(key.created_at);
    let (revoked_at, expires_at) = (key.revoked_at.map(Micros), key.expires_at.map(Micros));
    let (id, mac) = (&*key.id, &key.mac[..]);
    conn.execute(sql, &[&id, &key.tenant.as_str(), &key.role.code(), &mac, &created_at, &revoked_at, &expires_at])
        .await?;
    Ok(())
}
