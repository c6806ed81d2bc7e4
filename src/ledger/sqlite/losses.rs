//! Outcomes that say that nobody was reached, and how far readers of the events have come.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

use super::rows;
use crate::domain::event::Outcome;
use crate::domain::ids::TenantId;
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code, What};
use crate::ledger::{LedgerError, Loss, answers};

/// Returns losses, see [`crate::ledger::Ledger::losses`].
pub(super) fn all(
    conn: &Connection,
    tenants: &[TenantId],
    (after, last): (i64, i64),
    most: u32,
) -> Result<(Vec<Loss>, i64), LedgerError> {
    let to = answers::loss_to(after, last);
    let mut statement = conn.prepare_cached(
        "select e.seq, e.at, e.fate, coalesce(e.reason, ''), j.sealed from event e left join job j on j.id = e.job \
         where e.seq > ?1 and e.seq <= ?2 and e.what = ?3 and e.tenant in (select value from json_each(?4)) \
         and e.fate in (select value from json_each(?5)) order by e.seq limit ?6",
    )?;
    let names = serde_json::json!(tenants.iter().map(TenantId::as_str).collect::<Vec<_>>()).to_string();
    let fates = serde_json::json!(columns::loss_fates()).to_string();
    let losses = rows::all(statement.query(params![after, to, What::Settled.code(), names, fates, most])?, |row| {
        let reason: Box<str> = row.get(3)?;
        let sealed = row.get_ref(4)?.as_blob_or_null().map_err(rusqlite::Error::from)?;
        Ok(Loss {
            seq: row.get(0)?,
            at: UnixMicros(row.get(1)?),
            outcome: Outcome::new(Code::from_code(row.get(2)?)?, reason),
            sealed: sealed.map(bytes::Bytes::copy_from_slice),
        })
    })?;
    Ok(answers::losses(losses, most, to))
}

/// Returns how far a reader has come.
pub(super) fn bookmark(conn: &Connection, reader: &str) -> Result<i64, LedgerError> {
    let mut statement = conn.prepare_cached("select seq from bookmark where reader = ?1")?;
    Ok(statement.query_row([reader], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Notes how far a reader has come.
pub(super) fn put_bookmark(tx: &Transaction<'_>, reader: &str, seq: i64) -> Result<(), LedgerError> {
    tx.prepare_cached(
        "insert into bookmark values (?1, ?2) on conflict (reader) do update set seq = max(seq, excluded.seq)",
    )?
    .execute(params![reader, seq])?;
    Ok(())
}
