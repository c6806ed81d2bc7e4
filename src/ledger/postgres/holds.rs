//! Providers that are held back.

use tokio_postgres::Row;

use super::pool::Conn;
use super::rows::get;
use crate::domain::hold::Hold;
use crate::domain::ids::ProviderId;
use crate::ledger::LedgerError;
use crate::ledger::columns::{self, missing};

/// Returns every provider that is held back.
pub(super) async fn all(conn: &Conn) -> Result<Vec<(ProviderId, Hold)>, LedgerError> {
    let read = |row: &Row| {
        let hold = Hold::from_word(get(row, 1)?).ok_or_else(|| missing("hold"))?;
        Ok((columns::name(get(row, 0)?)?, hold))
    };
    conn.query("select provider, hold from provider_hold order by provider", &[]).await?.iter().map(read).collect()
}

/// Holds a provider back, or lets it work.
pub(super) async fn put(conn: &Conn, provider: &ProviderId, hold: Option<Hold>) -> Result<(), LedgerError> {
    match hold {
        Some(hold) => {
            let sql = "insert into provider_hold (provider, hold) values ($1, $2) \
                       on conflict (provider) do update set hold = excluded.hold";
            conn.execute(sql, &[&provider.as_str(), &hold.as_str()]).await?;
        }
        None => {
            conn.execute("delete from provider_hold where provider = $1", &[&provider.as_str()]).await?;
        }
    }
    Ok(())
}
