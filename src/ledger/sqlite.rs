//! The embedded ledger: one SQLite file in WAL mode, written by one thread, read by a few.
//!
//! Every write is its own transaction and is synced before the call returns. SQLite blocks, so all of it happens on
//! threads of this module, behind bounded queues; no runtime worker ever waits for the disk.

mod agenda;
mod checkpoint;
mod errors;
mod holds;
mod losses;
mod people;
mod reading;
mod recording;
mod rows;
mod rules;
mod templates;
mod threads;

use std::cmp::Ordering;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use uuid::Uuid;

use self::checkpoint::Checkpoints;
use self::threads::Threads;
use super::tenant::keys;
use super::{
    AgendaDepth, ApiKey, Count, Entry, Filter, Group, History, JobRow, Ledger, LedgerError, Loss, NewTemplate,
    NumberedEvent, Place, Recording, Release, SealedReply, SealedSuppression, Segment, Sent, Shards, Tally,
    TemplateRow, Tenant, Trail,
};
use crate::domain::checkup::Finding;
use crate::domain::event::Receipt;
use crate::domain::hold::Hold;
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::keys::AddressKey;
use crate::domain::rule::JobRule;
use crate::domain::suppression::Suppression;
use crate::domain::time::{Clock, UnixMicros};

/// What each version of the schema adds to the one before; the first makes an empty file version 1.
const SCHEMA: &[&str] = &[
    include_str!("sqlite/schema.sql"),
    include_str!("sqlite/schema/tenant_further.sql"),
    include_str!("sqlite/schema/routing.sql"),
    include_str!("sqlite/schema/templates.sql"),
    include_str!("sqlite/schema/bookmark.sql"),
    include_str!("sqlite/schema/key_expiry.sql"),
    include_str!("sqlite/schema/chains.sql"),
    include_str!("sqlite/schema/cost.sql"),
    include_str!("sqlite/schema/signals.sql"),
    include_str!("sqlite/schema/parts.sql"),
    include_str!("sqlite/schema/sixteen_parts.sql"),
];
/// Version of the schema that this program writes.
const VERSION: i64 = SCHEMA.len() as i64;

/// Threads that read: on a small machine more of them only wait for the same disk.
const READERS: usize = 2;

/// Statements kept prepared per connection; there are fewer, but for the combinations of list filters.
const STATEMENTS: usize = 96;

/// Page cache of the writer and of a reader in KiB. The process has 300 MB in all, and the system caches the file, too.
const WRITER_CACHE_KIB: i64 = 32 * 1024;
const READER_CACHE_KIB: i64 = 4 * 1024;

/// Bytes of a page, of a file that is made new. A row of a job may land on a page of its own in an index, and the log
/// takes pages whole: a quarter of the usual size writes a quarter less in all.
const PAGE: i64 = 1024;

/// Bytes of the write-ahead log after which a write copies it into the file, should [`checkpoint`] not come to it.
const LOG_BYTES_MAX: i64 = 64 << 20;

/// Steps of SQLite's machine after which a thread lets others on its core go first, which is about a tenth of a
/// millisecond. A recording takes some ten, reading what it is about takes some, too, and a thread that wakes up waits for
/// up to three before the system takes the core from the one that has it. Queue and limits wake up for every sync, and
/// somebody waits for each.
const YIELD_EVERY: i32 = 1_000;

/// The ledger in one file. Cheap to clone.
#[derive(Clone)]
pub struct Sqlite {
    writer: Arc<Threads>,
    readers: Arc<Threads>,
    checkpoints: Arc<Checkpoints>,
}

impl Sqlite {
    /// Opens the file at `path`, or creates it.
    ///
    /// # Errors
    /// [`LedgerError::Unreachable`] when the file cannot be opened or the threads cannot be started.
    pub fn open(path: &Path, clock: Clock) -> Result<Self, LedgerError> {
        let writer = connect(path, WRITER_CACHE_KIB)?;
        let writer = Arc::new(Threads::start("ledger-writer", vec![writer], clock.clone())?);
        let reader = || connect(path, READER_CACHE_KIB);
        let readers = (0..READERS).map(|_| reader()).collect::<Result<_, _>>()?;
        let readers = Arc::new(Threads::start("ledger-reader", readers, clock.clone())?);
        let checkpoints = Arc::new(Checkpoints::start(path, [reader()?, reader()?], Arc::clone(&writer), clock)?);
        Ok(Self { writer, readers, checkpoints })
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.writer
            .run(move |conn| {
                let transaction = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
                let done = work(&transaction)?;
                transaction.commit()?;
                Ok(done)
            })
            .await
    }

    /// Runs reads in one transaction, so that they see one moment.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        self.readers
            .run(move |conn| {
                let transaction = conn.transaction_with_behavior(rusqlite::TransactionBehavior::Deferred)?;
                work(&transaction)
            })
            .await
    }
}

/// Lets others go first, and goes on.
fn give_way() -> bool {
    std::thread::yield_now();
    false
}

fn connect(path: &Path, cache_kib: i64) -> Result<Connection, LedgerError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(Duration::from_secs(5))?;
    conn.pragma_update(None, "page_size", PAGE)?;
    conn.pragma_update(None, "journal_mode", "wal")?;
    conn.pragma_update(None, "synchronous", "full")?;
    let page: i64 = conn.pragma_query_value(None, "page_size", |row| row.get(0))?;
    conn.pragma_update(None, "wal_autocheckpoint", LOG_BYTES_MAX / page)?;
    conn.pragma_update(None, "cache_size", -cache_kib)?;
    conn.pragma_update(None, "temp_store", "memory")?;
    // A plan must not depend on values: else some statements are prepared again for each, four times the work of running
    // them, and a third of what the process did at 10 000 jobs/s.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    conn.set_prepared_statement_cache_capacity(STATEMENTS);
    conn.progress_handler(YIELD_EVERY, Some(give_way))?;
    Ok(conn)
}

fn migrate(conn: &Connection) -> Result<(), LedgerError> {
    let version: i64 = conn.query_row("pragma user_version", [], |row| row.get(0))?;
    let from = usize::try_from(version).ok().filter(|from| *from <= SCHEMA.len()).ok_or_else(|| {
        LedgerError::Refused(format!("the file has schema version {version}, this program knows {VERSION}").into())
    })?;
    for more in &SCHEMA[from..] {
        conn.execute_batch(more)?;
    }
    Ok(conn.pragma_update(None, "user_version", VERSION)?)
}

/// Looks at the file from outside: changes nothing in it.
pub fn checkup(path: &Path, now: UnixMicros) -> Vec<Finding> {
    const ABOUT: &str = "ledger.url";
    if !path.exists() {
        return vec![Finding::fine(ABOUT, "embedded; the first start makes the file")];
    }
    let look = || {
        let conn = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let version = conn.query_row("pragma user_version", [], |row| row.get::<_, i64>(0))?;
        let fine = Finding::fine(ABOUT, format!("embedded, in {}", path.display()));
        Ok::<_, LedgerError>(match version.cmp(&VERSION) {
            // The next start brings it up to date.
            Ordering::Less => vec![fine],
            Ordering::Equal => vec![fine, keys::checkup(&people::api_keys(&conn)?, now)],
            Ordering::Greater => vec![Finding::fault(
                ABOUT,
                format!("{} has schema version {version}, this program knows {VERSION}", path.display()),
                "run the version of postrider that wrote it, or a newer one",
            )],
        })
    };
    look().unwrap_or_else(|error| {
        vec![Finding::fault(ABOUT, format!("{}: {error}", path.display()), "restore it from the backup")]
    })
}

impl Ledger for Sqlite {
    async fn migrate(&self) -> Result<(), LedgerError> {
        self.write(|tx| migrate(tx)).await
    }

    async fn record(&self, recording: &Recording) -> Result<(), LedgerError> {
        let recording = recording.clone();
        self.write(move |tx| recording::record(tx, &recording)).await
    }

    async fn recorded(&self, frames: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
        let frames = frames.to_vec();
        self.read(move |conn| recording::recorded(conn, &frames)).await
    }

    async fn heard(&self, signals: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
        let signals = signals.to_vec();
        self.read(move |conn| reading::heard(conn, &signals)).await
    }

    async fn last_seq(&self) -> Result<(i64, i64), LedgerError> {
        self.read(recording::last_seq).await
    }

    async fn trails(&self, jobs: &[JobId]) -> Result<Vec<Option<Trail>>, LedgerError> {
        let jobs = jobs.to_vec();
        self.read(move |conn| reading::trails(conn, &jobs)).await
    }

    async fn sealed(&self, jobs: &[JobId]) -> Result<Vec<Option<Bytes>>, LedgerError> {
        let jobs = jobs.to_vec();
        self.read(move |conn| reading::sealed(conn, &jobs)).await
    }

    async fn segments(
        &self,
        now: UnixMicros,
        ids: &[(ProviderId, Box<str>)],
    ) -> Result<Vec<Option<Segment>>, LedgerError> {
        let ids = ids.to_vec();
        self.read(move |conn| reading::segments(conn, now, &ids)).await
    }

    async fn segments_of(&self, jobs: &[JobId]) -> Result<Vec<Segment>, LedgerError> {
        let jobs = jobs.to_vec();
        self.read(move |conn| reading::segments_of(conn, &jobs)).await
    }

    async fn segments_under(
        &self,
        now: UnixMicros,
        provider: &ProviderId,
        heads: &[Box<str>],
    ) -> Result<Vec<Vec<Segment>>, LedgerError> {
        let (provider, heads) = (provider.clone(), heads.to_vec());
        self.read(move |conn| reading::segments_under(conn, now, &provider, &heads)).await
    }

    async fn parked(&self, ids: &[(ProviderId, Box<str>)]) -> Result<Vec<Receipt>, LedgerError> {
        let ids = ids.to_vec();
        self.read(move |conn| reading::parked(conn, &ids)).await
    }

    async fn last_job_to(&self, address: AddressKey, at: UnixMicros) -> Result<Option<(TenantId, JobId)>, LedgerError> {
        self.read(move |conn| reading::last_job_to(conn, address, at)).await
    }

    async fn strays(&self, due_from: UnixMicros, due_to: UnixMicros, most: u32) -> Result<Vec<JobRow>, LedgerError> {
        self.read(move |conn| reading::strays(conn, due_from, due_to, most)).await
    }

    async fn job(&self, tenant: &TenantId, job: JobId) -> Result<Option<History>, LedgerError> {
        let tenant = tenant.clone();
        self.read(move |conn| reading::job(conn, &tenant, job)).await
    }

    async fn jobs(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: Option<(UnixMicros, JobId)>,
        most: u32,
    ) -> Result<Vec<History>, LedgerError> {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.read(move |conn| reading::jobs(conn, &tenant, &filter, page, most)).await
    }

    async fn events(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        most: u32,
    ) -> Result<(Vec<NumberedEvent>, i64), LedgerError> {
        let tenant = tenant.cloned();
        self.read(move |conn| reading::events(conn, tenant.as_ref(), after, most)).await
    }

    async fn replies(&self, tenant: &TenantId, after: i64, most: u32) -> Result<Vec<SealedReply>, LedgerError> {
        let tenant = tenant.clone();
        self.read(move |conn| reading::replies(conn, &tenant, after, most)).await
    }

    async fn counts(
        &self,
        tenant: Option<&TenantId>,
        from: UnixMicros,
        to: UnixMicros,
    ) -> Result<Vec<Count>, LedgerError> {
        let tenant = tenant.cloned();
        self.read(move |conn| people::counts(conn, tenant.as_ref(), from, to)).await
    }

    async fn suppressions(&self, tenant: &TenantId, address: AddressKey) -> Result<Vec<Suppression>, LedgerError> {
        let tenant = tenant.clone();
        self.read(move |conn| people::suppressions(conn, &tenant, address)).await
    }

    async fn suppressions_after(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&Suppression>,
        most: u32,
    ) -> Result<Vec<SealedSuppression>, LedgerError> {
        let (tenant, after) = (tenant.cloned(), after.cloned());
        self.read(move |conn| people::suppressions_after(conn, tenant.as_ref(), after.as_ref(), most)).await
    }

    async fn rules(&self, tenant: &TenantId, most: u32) -> Result<Vec<JobRule>, LedgerError> {
        let tenant = tenant.clone();
        self.read(move |conn| rules::of(conn, &tenant, most)).await
    }

    async fn open_rules(
        &self,
        _all: Shards,
        sweeps: u8,
        before: UnixMicros,
        most: u32,
    ) -> Result<Vec<JobRule>, LedgerError> {
        self.read(move |conn| rules::open(conn, sweeps, before, most)).await
    }

    async fn swept(&self, rule: &JobRule) -> Result<(), LedgerError> {
        let rule = rule.clone();
        self.write(move |tx| rules::swept(tx, &rule)).await
    }

    async fn tally(&self, tenant: &TenantId, filter: &Filter, most: u32) -> Result<Tally, LedgerError> {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.read(move |conn| rules::tally(conn, &tenant, &filter, most)).await
    }

    async fn entries_of(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Place,
        most: u32,
    ) -> Result<(Vec<Entry>, Option<Place>), LedgerError> {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.read(move |conn| rules::entries(conn, &tenant, &filter, after, most)).await
    }

    async fn rules_after(&self, after: Option<&JobRule>, most: u32) -> Result<Vec<JobRule>, LedgerError> {
        let after = after.cloned();
        self.read(move |conn| rules::after(conn, after.as_ref(), most)).await
    }

    async fn sent_since(
        &self,
        tenants: &[TenantId],
        since: UnixMicros,
        after: i64,
        most: u32,
    ) -> Result<(Vec<Sent>, Option<i64>), LedgerError> {
        let tenants = tenants.to_vec();
        self.read(move |conn| reading::sent_since(conn, &tenants, since, after, most)).await
    }

    async fn losses(
        &self,
        tenants: &[TenantId],
        numbers: (i64, i64),
        most: u32,
    ) -> Result<(Vec<Loss>, i64), LedgerError> {
        let tenants = tenants.to_vec();
        self.read(move |conn| losses::all(conn, &tenants, numbers, most)).await
    }

    async fn bookmark(&self, reader: &str) -> Result<i64, LedgerError> {
        let reader = reader.to_owned();
        self.read(move |conn| losses::bookmark(conn, &reader)).await
    }

    async fn put_bookmark(&self, reader: &str, seq: i64) -> Result<(), LedgerError> {
        let reader = reader.to_owned();
        self.write(move |tx| losses::put_bookmark(tx, &reader, seq)).await
    }

    /// Always leads all of it: the file has one process.
    async fn lead_agenda(&self) -> Result<Shards, LedgerError> {
        Ok(Shards::ALL)
    }

    async fn put_entries(&self, entries: &[Entry]) -> Result<(), LedgerError> {
        let entries = entries.to_vec();
        self.write(move |tx| agenda::put(tx, &entries)).await
    }

    async fn agenda_groups(&self, _all: Shards) -> Result<Vec<Group>, LedgerError> {
        self.read(agenda::groups).await
    }

    async fn due_entries(&self, groups: &[(Group, u32)], due_to: UnixMicros) -> Result<Vec<Entry>, LedgerError> {
        let groups = groups.to_vec();
        self.read(move |conn| agenda::due(conn, &groups, due_to)).await
    }

    async fn releasing(&self, ids: &[Uuid], at: UnixMicros) -> Result<(), LedgerError> {
        let ids = ids.to_vec();
        self.write(move |tx| agenda::releasing(tx, &ids, at)).await
    }

    async fn released(&self, releases: &[Release]) -> Result<(), LedgerError> {
        let releases = releases.to_vec();
        self.write(move |tx| agenda::released(tx, &releases)).await
    }

    async fn left_releasing(&self, _all: Shards, most: u32) -> Result<Vec<Entry>, LedgerError> {
        self.read(move |conn| agenda::left_releasing(conn, most)).await
    }

    async fn agenda_depth(&self) -> Result<AgendaDepth, LedgerError> {
        self.read(agenda::depth).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, LedgerError> {
        self.read(people::tenants).await
    }

    async fn put_tenant(&self, tenant: &Tenant) -> Result<(), LedgerError> {
        let tenant = tenant.clone();
        self.write(move |tx| people::put_tenant(tx, &tenant)).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, LedgerError> {
        self.read(people::api_keys).await
    }

    async fn put_api_key(&self, key: &ApiKey) -> Result<(), LedgerError> {
        let key = key.clone();
        self.write(move |tx| people::put_api_key(tx, &key)).await
    }

    async fn holds(&self) -> Result<Vec<(ProviderId, Hold)>, LedgerError> {
        self.read(holds::all).await
    }

    async fn put_hold(&self, provider: &ProviderId, hold: Option<Hold>) -> Result<(), LedgerError> {
        let provider = provider.clone();
        self.write(move |tx| holds::put(tx, &provider, hold)).await
    }

    async fn put_template(&self, template: &NewTemplate) -> Result<u32, LedgerError> {
        let template = template.clone();
        self.write(move |tx| templates::put(tx, &template)).await
    }

    async fn drop_template(&self, tenant: &TenantId, name: &str, at: UnixMicros) -> Result<bool, LedgerError> {
        let (tenant, name) = (tenant.clone(), Box::<str>::from(name));
        self.write(move |tx| templates::drop(tx, &tenant, &name, at)).await
    }

    async fn template(&self, tenant: &TenantId, name: &str, version: u32) -> Result<Option<TemplateRow>, LedgerError> {
        let (tenant, name) = (tenant.clone(), Box::<str>::from(name));
        self.read(move |conn| templates::one(conn, &tenant, &name, version)).await
    }

    async fn templates_since(&self, after: i64, most: u32) -> Result<Vec<TemplateRow>, LedgerError> {
        self.read(move |conn| templates::since(conn, after, most)).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.checkpoints.close().await;
        self.writer.close().await;
    }
}

impl std::fmt::Debug for Sqlite {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sqlite").finish_non_exhaustive()
    }
}
