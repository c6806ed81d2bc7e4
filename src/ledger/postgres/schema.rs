//! Brings the schema up to date, and opens the spans that events go to.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicI32, Ordering};

use super::checkup::OLDEST;
use super::pool::Conn;
use crate::domain::checkup;
use crate::domain::event::{Fate, State};
use crate::domain::job::{Class, Kind};
use crate::ledger::LedgerError;
use crate::ledger::columns::{Code, WHATS};

/// What each version of the schema adds to the one before, the first to an empty database.
const SCHEMA: &[&str] = &[
    include_str!("schema.sql"),
    include_str!("schema/tenant_further.sql"),
    include_str!("schema/routing.sql"),
    include_str!("schema/templates.sql"),
    include_str!("schema/bookmark.sql"),
    include_str!("schema/key_expiry.sql"),
    include_str!("schema/chains.sql"),
    include_str!("schema/cost.sql"),
    include_str!("schema/signals.sql"),
];
/// Version of the schema that this program writes.
pub(super) const VERSION: i32 = SCHEMA.len() as i32;

/// Parts of the job table: smaller indexes, and vacuums that run side by side.
const JOB_PARTS: u32 = 8;

/// One process at a time brings the schema up to date.
const MIGRATING: i64 = 0x706f_7374_7269_6401;

/// Which span the next partition is needed for; a switch goes one further at most, so one ahead is enough.
#[derive(Debug)]
pub(super) struct Spans {
    current: AtomicI32,
    opened: AtomicI32,
}

/// Brings the schema up to date.
pub(super) async fn migrate(conn: &Conn) -> Result<(), LedgerError> {
    if let Some(why) = checkup::too_old("PostgreSQL", &conn.version, OLDEST) {
        return Err(LedgerError::Refused(why));
    }
    conn.batch("begin").await?;
    conn.client.execute("select pg_advisory_xact_lock($1)", &[&MIGRATING]).await?;
    conn.batch("create schema if not exists postrider; create table if not exists schema_version (version integer)")
        .await?;
    let version = stored(conn).await?;
    let from = usize::try_from(version).ok().filter(|from| *from <= SCHEMA.len());
    for (index, more) in SCHEMA.iter().enumerate().skip(from.ok_or_else(|| LedgerError::Refused(unknown(version)))?) {
        conn.batch(more).await?;
        if index == 0 {
            conn.batch(&parts()).await?;
        }
    }
    if version < VERSION {
        conn.batch(&format!("insert into schema_version values ({VERSION})")).await?;
    }
    conn.batch(&words()).await?;
    Ok(conn.batch("commit").await?)
}

/// Returns the version of the schema that is there already.
pub(super) async fn stored(conn: &Conn) -> Result<i32, LedgerError> {
    let row = conn.client.query_one("select coalesce(max(version), 0) from schema_version", &[]).await?;
    Ok(row.get(0))
}

/// Says that this program must not use a schema.
pub(super) fn unknown(version: i32) -> Box<str> {
    format!("the database has schema version {version}, this program knows {VERSION}").into()
}

impl Spans {
    pub(super) fn new() -> Self {
        Self { current: AtomicI32::new(-1), opened: AtomicI32::new(-1) }
    }

    /// Remembers which span the last recording went to.
    pub(super) fn came_to(&self, span: i32) {
        self.current.store(span, Ordering::Relaxed);
    }

    /// Makes sure that the span after the current one has its partition.
    pub(super) async fn open_next(&self, conn: &Conn) -> Result<(), LedgerError> {
        if self.current.load(Ordering::Relaxed) < 0 {
            let row = conn.client.query_one("select span from progress", &[]).await?;
            self.came_to(row.get(0));
        }
        let next = self.current.load(Ordering::Relaxed) + 1;
        if self.opened.load(Ordering::Relaxed) < next {
            // Attaching does not lock readers out, as creating it in place would.
            conn.batch(&format!(
                "begin; select pg_advisory_xact_lock({MIGRATING}); \
                 create table if not exists event_{next} (like event including defaults); \
                 do $$ begin if not exists (select from pg_inherits where inhrelid = 'event_{next}'::regclass) then \
                 alter table event attach partition event_{next} for values from ({next}) to ({}); \
                 end if; end $$; commit",
                next + 1
            ))
            .await?;
            self.opened.store(next, Ordering::Relaxed);
        }
        Ok(())
    }
}

fn parts() -> String {
    let mut sql = String::new();
    for part in 0..JOB_PARTS {
        // Writing into a string cannot fail.
        let _never = write!(
            sql,
            "create table job_{part} partition of job for values with (modulus {JOB_PARTS}, remainder {part});"
        );
    }
    sql.push_str("create table event_0 partition of event for values from (0) to (1);");
    sql
}

/// Returns views that spell out the numbers, for people who read the ledger with SQL.
fn words() -> String {
    let kind = case("kind", Kind::ALL, Kind::as_str);
    let class = case("class", Class::ALL, Class::as_str);
    let state = case("state", State::ALL, State::as_str);
    let fate = case("fate", Fate::ALL, Fate::as_str);
    let what = case("what", WHATS, |what| what.as_str());
    format!(
        "create or replace view event_words as select seq, at, tenant, job, attempt, {kind}, {class}, {what}, {state}, \
         {fate}, reason, provider, until, message_ids, receipt_expected, cost from event; \
         create or replace view job_words as select id, tenant, {kind}, {class}, accepted_at, due_at, expires_at, \
         address, recipient, batch, campaign, run, cancel_key from job;"
    )
}

fn case<T: Code>(column: &str, all: &[T], word: impl Fn(T) -> &'static str) -> String {
    let mut sql = format!("case {column}");
    for &value in all {
        let _never = write!(sql, " when {} then '{}'", value.code(), word(value));
    }
    format!("{sql} end as {column}")
}
