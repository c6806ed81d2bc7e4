//! Rules about jobs that wait, and the jobs and agenda entries that they may bind.

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::pool::Conn;
use super::reading::{FIRST_SPAN, conditions, typed};
use super::recording::column;
use super::rows::{self, ENTRY, Micros, get};
use super::shards::SHARD;
use crate::domain::ids::TenantId;
use crate::domain::rule::JobRule;
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code, REQUESTS_MAX, RULES_KEPT, What};
use crate::ledger::{Entry, Filter, LedgerError, Place, Shards, Tally};

/// Columns of [`read`], in order.
const RULE: &str = "tenant, act, names, at, detail";

/// Adds rules, and forgets those of their tenants that bind no job any more.
pub(super) async fn add(conn: &Conn, rules: &[JobRule]) -> Result<(), LedgerError> {
    if rules.is_empty() {
        return Ok(());
    }
    let put = "insert into rule select * from unnest($1::text[], $2::smallint[], $3::bytea[], $4::timestamptz[], \
               $5::bytea[], $6::smallint[]) on conflict (tenant, act, names) do update \
               set at = excluded.at, detail = excluded.detail, sweeps = excluded.sweeps \
               where (excluded.at, excluded.detail) > (rule.at, rule.detail)";
    let rules = columns::latest(rules);
    let acts = column(&rules, |rule| columns::act_columns(rule.act));
    conn.execute(
        put,
        &[
            &column(&rules, |rule| rule.tenant.as_str()),
            &column(&acts, |act| act.0),
            &column(&rules, |rule| rule.names.to_bytes()),
            &column(&rules, |rule| Micros(rule.at)),
            &column(&acts, |act| act.1.to_vec()),
            &column(&acts, |act| act.2),
        ],
    )
    .await?;
    let forget = "delete from rule r using unnest($1::text[], $2::timestamptz[]) as w (tenant, oldest) \
                  where r.tenant = w.tenant and r.at < w.oldest";
    let oldest = column(&rules, |rule| Micros(rule.at.minus(RULES_KEPT)));
    conn.execute(forget, &[&column(&rules, |rule| rule.tenant.as_str()), &oldest]).await?;
    Ok(())
}

/// Returns a tenant's rules, newest first.
pub(super) async fn of(conn: &Conn, tenant: &TenantId, most: u32) -> Result<Vec<JobRule>, LedgerError> {
    let sql = format!("select {RULE} from rule where tenant = $1 order by at desc, act, names limit $2");
    conn.query(&sql, &[&tenant.as_str(), &i64::from(most)]).await?.iter().map(read).collect()
}

/// Returns rules of all tenants in the order of their keys.
pub(super) async fn after(conn: &Conn, after: Option<&JobRule>, most: u32) -> Result<Vec<JobRule>, LedgerError> {
    let sql = format!(
        "select {RULE} from rule where (tenant, act, names) > ($1, $2, $3) order by tenant, act, names limit $4"
    );
    let (tenant, act) = after.map_or(("", -1_i16), |after| (after.tenant.as_str(), columns::act_columns(after.act).0));
    let names = after.map_or_else(Vec::new, |after| after.names.to_bytes());
    conn.query(&sql, &[&tenant, &act, &names, &i64::from(most)]).await?.iter().map(read).collect()
}

/// Returns rules of these shards that were swept fewer times than said and given before a time, oldest first.
pub(super) async fn open(
    conn: &Conn,
    shards: Shards,
    (sweeps, before): (u8, UnixMicros),
    most: u32,
) -> Result<Vec<JobRule>, LedgerError> {
    let sql = format!(
        "select {RULE} from rule where sweeps < $1 and sweeps < 2 and at < $2 and ($4 >> {SHARD}) & 1 = 1 \
         order by at limit $3"
    );
    let params: [&(dyn ToSql + Sync); 4] =
        [&i16::from(sweeps), &Micros(before), &i64::from(most), &i32::from(shards.bits())];
    let found = conn.query(&sql, &params).await?;
    found.iter().map(read).collect()
}

/// Notes that a rule was swept once more.
pub(super) async fn swept(conn: &Conn, rule: &JobRule) -> Result<(), LedgerError> {
    let sql = "update rule set sweeps = sweeps + 1 where tenant = $1 and act = $2 and names = $3 and at = $4";
    let (act, ..) = columns::act_columns(rule.act);
    conn.execute(sql, &[&rule.tenant.as_str(), &act, &rule.names.to_bytes(), &Micros(rule.at)]).await?;
    Ok(())
}

/// Counts jobs that match by whether they wait.
pub(super) async fn tally(conn: &Conn, tenant: &TenantId, filter: &Filter, most: u32) -> Result<Tally, LedgerError> {
    let (scanned, meant) = filter.scan();
    let (matching, values) = conditions(tenant, &scanned);
    // The number in place of a parameter tells the planner how few rows are wanted.
    let sql = format!(
        "select case when {meant} then \
           exists (select from event e where e.job = j.id and e.span >= f.span and e.what <> {} offset 0) end \
         from (select j.id, j.accepted_at, j.kind, j.class from job j where {matching} \
               order by j.accepted_at desc, j.id desc limit {}) j cross join lateral {FIRST_SPAN} f",
        What::Deferred.code(),
        u64::from(most) + 1,
    );
    let found = conn.client.query_typed(&sql, &typed(&values)).await?;
    Ok(Tally::of(found.iter().map(|row| row.get(0)), most))
}

/// Returns entries that may hold jobs that match, and from where to go on.
pub(super) async fn entries(
    conn: &Conn,
    tenant: &TenantId,
    filter: &Filter,
    after: Place,
    most: u32,
) -> Result<(Vec<Entry>, Option<Place>), LedgerError> {
    let requests = if filter.is_selective() { Some(requests(conn, tenant, filter, after.0).await?) } else { None };
    let sql = format!(
        "select {ENTRY} from agenda a where a.tenant = $1 and a.accepted_at is not null \
         and (a.accepted_at, a.id) > ($2, $3) and a.accepted_at < $4 \
         and ($5::timestamptz[] is null or a.accepted_at = any ($5)) and a.releasing_since is null \
         order by a.accepted_at, a.id limit $6"
    );
    let to = match &requests {
        Some(requests) => requests.last().map_or(UnixMicros(0), |at| UnixMicros(at.0 + 1)),
        None => filter.to.unwrap_or(UnixMicros::MAX),
    };
    let times = requests.as_ref().map(|requests| requests.iter().copied().map(Micros).collect::<Vec<_>>());
    let values: &[&(dyn ToSql + Sync)] =
        &[&tenant.as_str(), &Micros(after.0), &after.1, &Micros(to), &times, &i64::from(most)];
    let found = conn.query(&sql, values).await?;
    let found: Vec<Entry> = found.iter().map(rows::entry).collect::<Result<_, _>>()?;
    let more = requests.filter(|requests| requests.len() >= REQUESTS_MAX as usize);
    let more = more.and_then(|requests| requests.last().map(|&at| (at, Uuid::max())));
    let next = columns::next_place(&found, most).or(more);
    Ok((found, next))
}

/// Returns when requests were accepted that brought jobs that match, oldest first, each found by a probe after the one
/// before.
async fn requests(
    conn: &Conn,
    tenant: &TenantId,
    filter: &Filter,
    from: UnixMicros,
) -> Result<Vec<UnixMicros>, LedgerError> {
    let (matching, mut values) = conditions(tenant, filter);
    values.push((Box::new(Micros(from)), Type::TIMESTAMPTZ));
    let sql = format!(
        "with recursive request (at) as (
           (select j.accepted_at from job j where {matching} and j.accepted_at >= ${} order by j.accepted_at limit 1)
           union all
           select n.at from request r cross join lateral (
             select j.accepted_at as at from job j where {matching} and j.accepted_at > r.at
             order by j.accepted_at limit 1) n)
         select at from request limit {REQUESTS_MAX}",
        values.len()
    );
    let found = conn.client.query_typed(&sql, &typed(&values)).await?;
    found.iter().map(|row| rows::time(row, 0)).collect()
}

fn read(row: &Row) -> Result<JobRule, LedgerError> {
    columns::job_rule(rows::tenant(row, 0)?, get(row, 1)?, get(row, 2)?, rows::time(row, 3)?, get(row, 4)?)
}
