//! Rules about jobs that wait, and the jobs and agenda entries that they may bind.

use std::fmt::Write as _;

use rusqlite::types::Value;
use rusqlite::{Connection, Transaction, params, params_from_iter};
use uuid::Uuid;

use super::reading::conditions;
use super::rows::{self, ENTRY};
use crate::domain::ids::TenantId;
use crate::domain::rule::JobRule;
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code, REQUESTS_MAX, RULES_KEPT, What};
use crate::ledger::{Entry, Filter, LedgerError, Place, Tally};

/// Columns of [`read`], in order.
const RULE: &str = "tenant, act, names, at, detail";

/// Adds rules, and forgets those of their tenants that bind no job any more.
pub(super) fn add(tx: &Transaction<'_>, rules: &[JobRule]) -> Result<(), LedgerError> {
    let mut put = tx.prepare_cached(
        "insert into rule values (?1, ?2, ?3, ?4, ?5, ?6) on conflict do update \
         set at = excluded.at, detail = excluded.detail, sweeps = excluded.sweeps \
         where (excluded.at, excluded.detail) > (at, detail)",
    )?;
    let mut prune = tx.prepare_cached("delete from rule where tenant = ?1 and at < ?2")?;
    for JobRule { tenant, names, at, act } in columns::latest(rules) {
        let (act, detail, sweeps) = columns::act_columns(*act);
        put.execute(params![tenant.as_str(), act, names.to_bytes(), at.0, detail, sweeps])?;
        prune.execute(params![tenant.as_str(), at.minus(RULES_KEPT).0])?;
    }
    Ok(())
}

/// Returns a tenant's rules, newest first.
pub(super) fn of(conn: &Connection, tenant: &TenantId, most: u32) -> Result<Vec<JobRule>, LedgerError> {
    let sql = format!("select {RULE} from rule where tenant = ?1 order by at desc, act, names limit ?2");
    rows::all(conn.prepare_cached(&sql)?.query(params![tenant.as_str(), most])?, read)
}

/// Returns rules of all tenants in the order of their keys.
pub(super) fn after(conn: &Connection, after: Option<&JobRule>, most: u32) -> Result<Vec<JobRule>, LedgerError> {
    let sql = format!(
        "select {RULE} from rule where (tenant, act, names) > (?1, ?2, ?3) order by tenant, act, names limit ?4"
    );
    let (tenant, act) = after.map_or(("", -1), |after| (after.tenant.as_str(), columns::act_columns(after.act).0));
    let names = after.map_or_else(Vec::new, |after| after.names.to_bytes());
    rows::all(conn.prepare_cached(&sql)?.query(params![tenant, act, names, most])?, read)
}

/// Returns rules that were swept fewer than `sweeps` times and given before `before`, oldest first.
pub(super) fn open(conn: &Connection, sweeps: u8, before: UnixMicros, most: u32) -> Result<Vec<JobRule>, LedgerError> {
    let sql = format!("select {RULE} from rule where sweeps < ?1 and sweeps < 2 and at < ?2 order by at limit ?3");
    rows::all(conn.prepare_cached(&sql)?.query(params![sweeps, before.0, most])?, read)
}

/// Notes that a rule was swept once more.
pub(super) fn swept(tx: &Transaction<'_>, rule: &JobRule) -> Result<(), LedgerError> {
    let (act, ..) = columns::act_columns(rule.act);
    tx.prepare_cached("update rule set sweeps = sweeps + 1 where tenant = ?1 and act = ?2 and names = ?3 and at = ?4")?
        .execute(params![rule.tenant.as_str(), act, rule.names.to_bytes(), rule.at.0])?;
    Ok(())
}

/// Counts jobs that match by whether they wait.
pub(super) fn tally(conn: &Connection, tenant: &TenantId, filter: &Filter, most: u32) -> Result<Tally, LedgerError> {
    let (scanned, meant) = filter.scan();
    let (matching, mut values) = conditions(tenant, &scanned);
    values.push(i64::from(most).saturating_add(1).into());
    let sql = format!(
        "select case when {meant} then exists (select 1 from event e where e.job = j.id and e.what <> {}) end \
         from (select j.id, j.kind, j.class from job j where {matching} \
               order by j.accepted_at desc, j.id desc limit ?{}) j",
        What::Deferred.code(),
        values.len(),
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let handed: Vec<Option<bool>> = rows::all(statement.query(params_from_iter(values))?, |row| Ok(row.get(0)?))?;
    Ok(Tally::of(handed, most))
}

/// Returns entries that may hold jobs that match, and from where to go on.
pub(super) fn entries(
    conn: &Connection,
    tenant: &TenantId,
    filter: &Filter,
    after: Place,
    most: u32,
) -> Result<(Vec<Entry>, Option<Place>), LedgerError> {
    let mut found = vec![];
    if !filter.is_selective() {
        let to = filter.to.unwrap_or(UnixMicros::MAX);
        found = of_tenant(conn, tenant, after, to, most)?;
        return Ok((found.clone(), columns::next_place(&found, most)));
    }
    let requests = requests(conn, tenant, filter, after.0)?;
    for &at in &requests {
        let place = if at == after.0 { after } else { (at, Uuid::nil()) };
        let left = most.saturating_sub(u32::try_from(found.len()).unwrap_or(u32::MAX));
        found.append(&mut of_tenant(conn, tenant, place, UnixMicros(at.0 + 1), left)?);
        if found.len() >= most as usize {
            return Ok((found.clone(), columns::next_place(&found, most)));
        }
    }
    let more = requests.last().filter(|_| requests.len() >= REQUESTS_MAX as usize);
    Ok((found, more.map(|&at| (at, Uuid::max()))))
}

/// Returns entries of what was accepted from a place on and before `to`.
fn of_tenant(
    conn: &Connection,
    tenant: &TenantId,
    (at, id): Place,
    to: UnixMicros,
    most: u32,
) -> Result<Vec<Entry>, LedgerError> {
    let sql = format!(
        "select {ENTRY} from agenda where tenant = ?1 and accepted_at is not null and (accepted_at, id) > (?2, ?3) \
         and accepted_at < ?4 and releasing_since is null order by accepted_at, id limit ?5"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    rows::all(statement.query(params![tenant.as_str(), at.0, id.as_bytes(), to.0, most])?, rows::entry)
}

/// Returns when requests were accepted that brought jobs that match, oldest first.
fn requests(
    conn: &Connection,
    tenant: &TenantId,
    filter: &Filter,
    from: UnixMicros,
) -> Result<Vec<UnixMicros>, LedgerError> {
    let (mut sql, values) = conditions(tenant, filter);
    let _never = write!(sql, " and j.accepted_at >= ?{} order by j.accepted_at limit 1", values.len() + 1);
    let mut statement = conn.prepare_cached(&format!("select j.accepted_at from job j where {sql}"))?;
    let (mut requests, mut from) = (vec![], from);
    while requests.len() < REQUESTS_MAX as usize {
        let values = values.iter().cloned().chain([Value::from(from.0)]);
        let Some(at) = rows::first(statement.query(params_from_iter(values))?, |row| Ok(UnixMicros(row.get(0)?)))?
        else {
            break;
        };
        requests.push(at);
        from = UnixMicros(at.0 + 1);
    }
    Ok(requests)
}

fn read(row: &rusqlite::Row<'_>) -> Result<JobRule, LedgerError> {
    let blob = |column| row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from);
    columns::job_rule(rows::name(row, 0)?, row.get(1)?, blob(2)?, UnixMicros(row.get(3)?), blob(4)?)
}
