//! Outcomes that say that nobody was reached, and how far readers of the events have come.

use bytes::Bytes;
use tokio_postgres::Row;

use super::pool::Conn;
use super::rows::{self, get};
use crate::domain::event::Outcome;
use crate::domain::ids::TenantId;
use crate::ledger::columns::{self, Code, What};
use crate::ledger::{LedgerError, Loss, answers};

/// Returns losses, see [`crate::ledger::Ledger::losses`].
pub(super) async fn all(
    conn: &Conn,
    tenants: &[TenantId],
    (after, last): (i64, i64),
    most: u32,
) -> Result<(Vec<Loss>, i64), LedgerError> {
    let to = answers::loss_to(after, last);
    let sql = "select e.seq, e.at, e.fate, coalesce(e.reason, ''), j.sealed from event e left join job j on j.id = e.job \
               where e.seq > $1 and e.seq <= $2 and e.what = $3 and e.tenant = any($4) and e.fate = any($5) \
               and e.span >= coalesce((select s.span from event_span s where s.first_seq <= $1 + 1 \
                                       order by s.span desc limit 1), 0) \
               and e.span <= coalesce((select s.span from event_span s where s.first_seq <= $2 \
                                       order by s.span desc limit 1), 0) \
               order by e.seq limit $6";
    let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
    let fates = columns::loss_fates();
    let found = conn.query(sql, &[&after, &to, &What::Settled.code(), &names, &&fates[..], &i64::from(most)]).await?;
    let read = |row: &Row| {
        Ok(Loss {
            seq: get(row, 0)?,
            at: rows::time(row, 1)?,
            outcome: Outcome::new(Code::from_code(get(row, 2)?)?, get::<Box<str>>(row, 3)?),
            sealed: get::<Option<&[u8]>>(row, 4)?.map(Bytes::copy_from_slice),
        })
    };
    let losses = found.iter().map(read).collect::<Result<Vec<_>, LedgerError>>()?;
    Ok(answers::losses(losses, most, to))
}

/// Returns how far a reader has come.
pub(super) async fn bookmark(conn: &Conn, reader: &str) -> Result<i64, LedgerError> {
    let found = conn.query("select seq from bookmark where reader = $1", &[&reader]).await?;
    found.first().map_or(Ok(0), |row| get(row, 0))
}

/// Notes how far a reader has come.
pub(super) async fn put_bookmark(conn: &Conn, reader: &str, seq: i64) -> Result<(), LedgerError> {
    let sql = "insert into bookmark values ($1, $2) \
               on conflict (reader) do update set seq = greatest(bookmark.seq, excluded.seq)";
    conn.execute(sql, &[&reader, &seq]).await?;
    Ok(())
}
