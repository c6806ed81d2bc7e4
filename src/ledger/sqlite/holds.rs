//! Providers that are held back.

use rusqlite::{Connection, Transaction, params};

use super::rows;
use crate::domain::hold::Hold;
use crate::domain::ids::ProviderId;
use crate::ledger::LedgerError;
use crate::ledger::columns::{self, missing};

/// Returns every provider that is held back.
pub(super) fn all(conn: &Connection) -> Result<Vec<(ProviderId, Hold)>, LedgerError> {
    let mut statement = conn.prepare_cached("select provider, hold from provider_hold order by provider")?;
    rows::all(statement.query([])?, |row| {
        let text = |column| row.get_ref(column)?.as_str().map_err(rusqlite::Error::from);
        let hold = Hold::from_word(text(1)?).ok_or_else(|| missing("hold"))?;
        Ok((columns::name(text(0)?)?, hold))
    })
}

/// Holds a provider back, or lets it work.
pub(super) fn put(tx: &Transaction<'_>, provider: &ProviderId, hold: Option<Hold>) -> Result<(), LedgerError> {
    let provider = provider.as_str();
    match hold {
        Some(hold) => tx
            .prepare_cached("insert or replace into provider_hold (provider, hold) values (?1, ?2)")?
            .execute(params![provider, hold.as_str()])?,
        None => tx.prepare_cached("delete from provider_hold where provider = ?1")?.execute(params![provider])?,
    };
    Ok(())
}
