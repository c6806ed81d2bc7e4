//! Templates.

use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};

use super::rows;
use crate::domain::ids::TenantId;
use crate::domain::time::UnixMicros;
use crate::ledger::{LedgerError, NewTemplate, TemplateRow};

/// Columns of [`read`], in order.
const TEMPLATE: &str = "tenant, name, version, changed, stored_at, dropped_at, sealed";
/// The number of the next change.
const NEXT: &str = "(select coalesce(max(changed), 0) + 1 from template)";

/// Stores a new version.
pub(super) fn put(tx: &Transaction<'_>, template: &NewTemplate) -> Result<u32, LedgerError> {
    let NewTemplate { tenant, name, at, sealed } = template;
    let sql = format!(
        "insert into template ({TEMPLATE}) \
         select ?1, ?2, coalesce(max(version), 0) + 1, {NEXT}, ?3, null, ?4 from template \
         where tenant = ?1 and name = ?2 returning version"
    );
    let row = params![tenant.as_str(), name, at.0, &sealed[..]];
    Ok(tx.prepare_cached(&sql)?.query_row(row, |row| row.get(0))?)
}

/// Takes the newest version out of use.
pub(super) fn drop(tx: &Transaction<'_>, tenant: &TenantId, name: &str, at: UnixMicros) -> Result<bool, LedgerError> {
    let sql = format!(
        "update template set dropped_at = ?3, changed = {NEXT} where tenant = ?1 and name = ?2 and dropped_at is null \
         and version = (select max(version) from template where tenant = ?1 and name = ?2)"
    );
    Ok(tx.prepare_cached(&sql)?.execute(params![tenant.as_str(), name, at.0])? > 0)
}

/// Returns a version.
pub(super) fn one(
    conn: &Connection,
    tenant: &TenantId,
    name: &str,
    version: u32,
) -> Result<Option<TemplateRow>, LedgerError> {
    let sql = format!("select {TEMPLATE} from template where tenant = ?1 and name = ?2 and version = ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    let found = statement.query_row(params![tenant.as_str(), name, version], |row| Ok(read(row))).optional()?;
    found.transpose()
}

/// Returns versions in the order of their changes.
pub(super) fn since(conn: &Connection, after: i64, most: u32) -> Result<Vec<TemplateRow>, LedgerError> {
    let sql = format!("select {TEMPLATE} from template where changed > ?1 order by changed limit ?2");
    let mut statement = conn.prepare_cached(&sql)?;
    rows::all(statement.query(params![after, most])?, read)
}

fn read(row: &Row<'_>) -> Result<TemplateRow, LedgerError> {
    Ok(TemplateRow {
        tenant: rows::name(row, 0)?,
        name: row.get(1)?,
        version: row.get(2)?,
        changed: row.get(3)?,
        stored_at: UnixMicros(row.get(4)?),
        dropped_at: row.get::<_, Option<_>>(5)?.map(UnixMicros),
        sealed: rows::sealed(row, 6)?,
    })
}
