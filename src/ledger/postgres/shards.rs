//! Which feeder releases which shards of the agenda: each shard has a lock, and the feeders share them out.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::pool::{Conn, Connector};
use crate::domain::time::Stopwatch;
use crate::ledger::{LedgerError, SHARDS, Shards};

/// The shard of a row's `tenant`.
pub(super) const SHARD: &str = "(get_byte(sha256(convert_to(tenant, 'UTF8')), 0) & 15)";

/// Shared by all feeders, so that they can be counted. Versions without shards have it for themselves, and release alone.
const FEEDS: i64 = 0x706f_7374_7269_6402;
/// Held by the feeder that releases the first shard; that of the next is one more.
const FIRST: i64 = 0x706f_7374_7269_6500;
/// How often the feeders are counted.
const COUNT_EVERY: Duration = Duration::from_secs(1);
/// What the server is told of the session: of a machine that is gone it learns within 15 s, whether it has just answered it
/// or not, and ends the session, and with it the locks; by itself it would after two hours.
const ALIVE: &str = "set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 5; set tcp_keepalives_count = 2; \
                     set tcp_user_timeout = 15000";
/// Longest that taking and giving locks may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The session whose locks are this feeder's.
#[derive(Default)]
pub(super) struct Leader {
    session: Mutex<Option<Session>>,
}

struct Session {
    conn: Arc<Conn>,
    feeds: bool,
    held: Shards,
    /// Since the feeders were counted last.
    counted: Option<Stopwatch>,
}

// === impl Leader ===

impl Leader {
    /// Returns the shards that this feeder has now: its part of them.
    pub(super) async fn lead(&self, connector: &Connector) -> Result<Shards, LedgerError> {
        let mut kept = self.session.lock().await;
        // Whatever goes wrong, the session ends, and with it the lead.
        let mut session = match kept.take() {
            Some(session) => session,
            None => Session { conn: connector.connect().await?, feeds: false, held: Shards::default(), counted: None },
        };
        let ask = async {
            if session.counted.as_ref().is_none_or(|counted| counted.elapsed() >= COUNT_EVERY) {
                if session.counted.replace(connector.clock().stopwatch()).is_none() {
                    session.conn.batch(ALIVE).await?;
                }
                session.share_out().await?;
            } else {
                session.conn.query("select true", &[]).await?;
            }
            Ok(())
        };
        connector.limit(PATIENCE, ask).await?;
        let held = session.held;
        *kept = Some(session);
        Ok(held)
    }

    /// Gives all shards up.
    pub(super) async fn close(&self) {
        self.session.lock().await.take();
    }
}

// === impl Session ===

impl Session {
    /// Takes and gives locks until this feeder has its part.
    async fn share_out(&mut self) -> Result<(), tokio_postgres::Error> {
        self.feeds = self.feeds || self.locks("select pg_try_advisory_lock_shared($1)", FEEDS).await?;
        if !self.feeds {
            return Ok(());
        }
        let part = self.part().await?;
        for shard in self.held.each().skip(usize::from(part)) {
            self.locks("select pg_advisory_unlock($1)", FIRST + i64::from(shard)).await?;
            self.held = self.held.without(Shards::default().with(shard));
        }
        for shard in Shards::ALL.without(self.held).each() {
            if self.held.len() < u32::from(part)
                && self.locks("select pg_try_advisory_lock($1)", FIRST + i64::from(shard)).await?
            {
                self.held = self.held.with(shard);
            }
        }
        Ok(())
    }

    async fn locks(&self, sql: &str, key: i64) -> Result<bool, tokio_postgres::Error> {
        let rows = self.conn.query(sql, &[&key]).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Returns how many shards are this feeder's part: as many as each other's, or one more.
    async fn part(&self) -> Result<u8, tokio_postgres::Error> {
        let sql = "select count(distinct pid), count(distinct pid) filter (where pid < pg_backend_pid()) from pg_locks \
                   where locktype = 'advisory' and mode = 'ShareLock' and granted \
                   and database = (select oid from pg_database where datname = current_database()) \
                   and (classid::bigint << 32 | objid::bigint) = $1 and objsubid = 1";
        let rows = self.conn.query(sql, &[&FEEDS]).await?;
        let (feeders, before): (i64, i64) = rows.first().map_or((1, 0), |row| (row.get(0), row.get(1)));
        let shards = i64::from(SHARDS);
        let part = shards / feeders.max(1) + i64::from(before < shards % feeders.max(1));
        Ok(u8::try_from(part).unwrap_or(SHARDS))
    }
}
