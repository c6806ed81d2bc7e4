//! Templates.

use bytes::Bytes;
use tokio_postgres::Row;

use super::pool::Conn;
use super::rows::{self, Micros, get};
use crate::domain::ids::TenantId;
use crate::domain::time::UnixMicros;
use crate::ledger::columns::missing;
use crate::ledger::{LedgerError, NewTemplate, TemplateRow};

/// Columns of [`read`], in order.
const TEMPLATE: &str = "tenant, name, version, changed, stored_at, dropped_at, sealed";
/// Numbers a change, and lets no other be numbered before this one is committed.
const NEXT: &str = "update template_change set last = last + 1 returning last";

/// Stores a new version.
pub(super) async fn put(conn: &Conn, template: &NewTemplate) -> Result<u32, LedgerError> {
    let NewTemplate { tenant, name, at, sealed } = template;
    conn.batch("begin").await?;
    let changed = next(conn).await?;
    // A statement of its own: it sees what was committed before the change was numbered.
    let sql = format!(
        "insert into template ({TEMPLATE}) \
         select $1, $2, coalesce(max(version), 0) + 1, $3, $4, null, $5 from template \
         where tenant = $1 and name = $2 returning version"
    );
    let row = conn.query(&sql, &[&tenant.as_str(), &&**name, &changed, &Micros(*at), &&sealed[..]]).await?;
    conn.batch("commit").await?;
    version(row.first().ok_or_else(|| missing("version"))?, 0)
}

/// Takes the newest version out of use.
pub(super) async fn drop(conn: &Conn, tenant: &TenantId, name: &str, at: UnixMicros) -> Result<bool, LedgerError> {
    conn.batch("begin").await?;
    let changed = next(conn).await?;
    let sql = "update template set dropped_at = $3, changed = $4 where tenant = $1 and name = $2 and dropped_at is null \
               and version = (select max(version) from template where tenant = $1 and name = $2) returning version";
    let dropped = conn.query(sql, &[&tenant.as_str(), &name, &Micros(at), &changed]).await?;
    conn.batch("commit").await?;
    Ok(!dropped.is_empty())
}

async fn next(conn: &Conn) -> Result<i64, LedgerError> {
    get(conn.query(NEXT, &[]).await?.first().ok_or_else(|| missing("template_change"))?, 0)
}

/// Returns a version.
pub(super) async fn one(
    conn: &Conn,
    tenant: &TenantId,
    name: &str,
    version: u32,
) -> Result<Option<TemplateRow>, LedgerError> {
    let sql = format!("select {TEMPLATE} from template where tenant = $1 and name = $2 and version = $3");
    let found = conn.query(&sql, &[&tenant.as_str(), &name, &i64::from(version)]).await?;
    found.first().map(read).transpose()
}

/// Returns versions in the order of their changes.
pub(super) async fn since(conn: &Conn, after: i64, most: u32) -> Result<Vec<TemplateRow>, LedgerError> {
    let sql = format!("select {TEMPLATE} from template where changed > $1 order by changed limit $2");
    conn.query(&sql, &[&after, &i64::from(most)]).await?.iter().map(read).collect()
}

fn read(row: &Row) -> Result<TemplateRow, LedgerError> {
    Ok(TemplateRow {
        tenant: rows::tenant(row, 0)?,
        name: get(row, 1)?,
        version: version(row, 2)?,
        changed: get(row, 3)?,
        stored_at: rows::time(row, 4)?,
        dropped_at: get::<Option<Micros>>(row, 5)?.map(|time| time.0),
        sealed: Bytes::copy_from_slice(get(row, 6)?),
    })
}

fn version(row: &Row, column: usize) -> Result<u32, LedgerError> {
    u32::try_from(get::<i64>(row, column)?).map_err(|_| missing("version"))
}
