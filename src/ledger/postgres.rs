//! The ledger in PostgreSQL, for more than one process and for volume.
//!
//! A recording is one transaction of binary COPYs over a connection that nothing else uses; everything else shares a few
//! more. Each statement is a handful of index probes, so that no backlog, however long, slows another tenant down.

mod agenda;
mod checkup;
mod copy;
mod holds;
mod losses;
mod people;
mod pool;
mod reading;
mod recording;
mod rows;
mod rules;
mod schema;
mod shards;
mod templates;

use std::str::FromStr as _;
use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::Config;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

pub use self::checkup::checkup;
use self::pool::{Connector, Pool};
use self::schema::Spans;
use self::shards::Leader;
use super::{
    AgendaDepth, ApiKey, Count, Entry, Filter, Group, History, JobRow, Ledger, LedgerError, Loss, NewTemplate,
    NumberedEvent, Place, Recording, Release, SealedReply, SealedSuppression, Segment, Sent, Shards, Tally,
    TemplateRow, Tenant, Trail,
};
use crate::domain::event::Receipt;
use crate::domain::hold::Hold;
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::keys::AddressKey;
use crate::domain::rule::JobRule;
use crate::domain::suppression::Suppression;
use crate::domain::time::{Clock, UnixMicros};

/// Connections of one process, besides the recorder's and the leader's: more only wait for the same disks, and every
/// one costs the server memory.
const CONNECTIONS_MAX: usize = 8;

/// The ledger in a database. Cheap to clone.
#[derive(Clone)]
pub struct Postgres {
    inner: Arc<Inner>,
}

struct Inner {
    connector: Connector,
    recorder: Pool,
    others: Pool,
    leader: Leader,
    spans: Spans,
}

impl Postgres {
    /// Returns the ledger at `url` (`postgres://user:password@host:port/database`), without connecting yet.
    ///
    /// # Errors
    /// [`LedgerError::Refused`] when the URL is none.
    pub fn new(url: &str, clock: Clock) -> Result<Self, LedgerError> {
        let config = Config::from_str(url).map_err(|_| LedgerError::Refused("not a PostgreSQL URL".into()))?;
        let connector = Connector::new(config, clock);
        Ok(Self {
            inner: Arc::new(Inner {
                recorder: Pool::new(connector.clone(), 1),
                others: Pool::new(connector.clone(), CONNECTIONS_MAX),
                connector,
                leader: Leader::default(),
                spans: Spans::new(),
            }),
        })
    }
}

impl Ledger for Postgres {
    async fn migrate(&self) -> Result<(), LedgerError> {
        self.inner.recorder.call(|conn| async move { schema::migrate(&conn).await }).await
    }

    async fn record(&self, recording: &Recording) -> Result<(), LedgerError> {
        self.inner
            .recorder
            .call(|conn| async move { recording::record(&conn, &self.inner.spans, recording).await })
            .await
    }

    async fn recorded(&self, frames: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
        self.inner.recorder.call(|conn| async move { recording::recorded(&conn, frames).await }).await
    }

    async fn heard(&self, signals: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::heard(&conn, signals).await }).await
    }

    async fn last_seq(&self) -> Result<(i64, i64), LedgerError> {
        self.inner.others.call(|conn| async move { recording::last_seq(&conn).await }).await
    }

    async fn trails(&self, jobs: &[JobId]) -> Result<Vec<Option<Trail>>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::trails(&conn, jobs).await }).await
    }

    async fn sealed(&self, jobs: &[JobId]) -> Result<Vec<Option<Bytes>>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::sealed(&conn, jobs).await }).await
    }

    async fn segments(
        &self,
        now: UnixMicros,
        ids: &[(ProviderId, Box<str>)],
    ) -> Result<Vec<Option<Segment>>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::segments(&conn, now, ids).await }).await
    }

    async fn segments_of(&self, jobs: &[JobId]) -> Result<Vec<Segment>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::segments_of(&conn, jobs).await }).await
    }

    async fn segments_under(
        &self,
        now: UnixMicros,
        provider: &ProviderId,
        heads: &[Box<str>],
    ) -> Result<Vec<Vec<Segment>>, LedgerError> {
        let asked = (provider, heads);
        self.inner.others.call(|conn| async move { reading::segments_under(&conn, now, asked).await }).await
    }

    async fn parked(&self, ids: &[(ProviderId, Box<str>)]) -> Result<Vec<Receipt>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::parked(&conn, ids).await }).await
    }

    async fn last_job_to(&self, address: AddressKey, at: UnixMicros) -> Result<Option<(TenantId, JobId)>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::last_job_to(&conn, address, at).await }).await
    }

    async fn strays(&self, due_from: UnixMicros, due_to: UnixMicros, most: u32) -> Result<Vec<JobRow>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::strays(&conn, due_from, due_to, most).await }).await
    }

    async fn job(&self, tenant: &TenantId, job: JobId) -> Result<Option<History>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::job(&conn, tenant, job).await }).await
    }

    async fn jobs(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: Option<(UnixMicros, JobId)>,
        most: u32,
    ) -> Result<Vec<History>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::jobs(&conn, tenant, filter, page, most).await }).await
    }

    async fn events(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        most: u32,
    ) -> Result<(Vec<NumberedEvent>, i64), LedgerError> {
        self.inner.others.call(|conn| async move { reading::events(&conn, tenant, after, most).await }).await
    }

    async fn replies(&self, tenant: &TenantId, after: i64, most: u32) -> Result<Vec<SealedReply>, LedgerError> {
        self.inner.others.call(|conn| async move { reading::replies(&conn, tenant, after, most).await }).await
    }

    async fn counts(
        &self,
        tenant: Option<&TenantId>,
        from: UnixMicros,
        to: UnixMicros,
    ) -> Result<Vec<Count>, LedgerError> {
        self.inner.others.call(|conn| async move { people::counts(&conn, tenant, from, to).await }).await
    }

    async fn suppressions(&self, tenant: &TenantId, address: AddressKey) -> Result<Vec<Suppression>, LedgerError> {
        self.inner.others.call(|conn| async move { people::suppressions(&conn, tenant, address).await }).await
    }

    async fn suppressions_after(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&Suppression>,
        most: u32,
    ) -> Result<Vec<SealedSuppression>, LedgerError> {
        self.inner.others.call(|conn| async move { people::suppressions_after(&conn, tenant, after, most).await }).await
    }

    async fn rules(&self, tenant: &TenantId, most: u32) -> Result<Vec<JobRule>, LedgerError> {
        self.inner.others.call(|conn| async move { rules::of(&conn, tenant, most).await }).await
    }

    async fn open_rules(
        &self,
        shards: Shards,
        sweeps: u8,
        before: UnixMicros,
        most: u32,
    ) -> Result<Vec<JobRule>, LedgerError> {
        self.inner.others.call(|conn| async move { rules::open(&conn, shards, (sweeps, before), most).await }).await
    }

    async fn swept(&self, rule: &JobRule) -> Result<(), LedgerError> {
        self.inner.others.call(|conn| async move { rules::swept(&conn, rule).await }).await
    }

    async fn tally(&self, tenant: &TenantId, filter: &Filter, most: u32) -> Result<Tally, LedgerError> {
        self.inner.others.call(|conn| async move { rules::tally(&conn, tenant, filter, most).await }).await
    }

    async fn entries_of(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Place,
        most: u32,
    ) -> Result<(Vec<Entry>, Option<Place>), LedgerError> {
        self.inner.others.call(|conn| async move { rules::entries(&conn, tenant, filter, after, most).await }).await
    }

    async fn rules_after(&self, after: Option<&JobRule>, most: u32) -> Result<Vec<JobRule>, LedgerError> {
        self.inner.others.call(|conn| async move { rules::after(&conn, after, most).await }).await
    }

    async fn sent_since(
        &self,
        tenants: &[TenantId],
        since: UnixMicros,
        after: i64,
        most: u32,
    ) -> Result<(Vec<Sent>, Option<i64>), LedgerError> {
        self.inner
            .others
            .call(|conn| async move { reading::sent_since(&conn, tenants, since, after, most).await })
            .await
    }

    async fn losses(
        &self,
        tenants: &[TenantId],
        numbers: (i64, i64),
        most: u32,
    ) -> Result<(Vec<Loss>, i64), LedgerError> {
        self.inner.others.call(|conn| async move { losses::all(&conn, tenants, numbers, most).await }).await
    }

    async fn bookmark(&self, reader: &str) -> Result<i64, LedgerError> {
        self.inner.others.call(|conn| async move { losses::bookmark(&conn, reader).await }).await
    }

    async fn put_bookmark(&self, reader: &str, seq: i64) -> Result<(), LedgerError> {
        self.inner.others.call(|conn| async move { losses::put_bookmark(&conn, reader, seq).await }).await
    }

    async fn lead_agenda(&self) -> Result<Shards, LedgerError> {
        self.inner.leader.lead(&self.inner.connector).await
    }

    async fn put_entries(&self, entries: &[Entry]) -> Result<(), LedgerError> {
        self.inner.others.call(|conn| async move { agenda::put(&conn, entries).await }).await
    }

    async fn agenda_groups(&self, shards: Shards) -> Result<Vec<Group>, LedgerError> {
        self.inner.others.call(|conn| async move { agenda::groups(&conn, shards).await }).await
    }

    async fn due_entries(&self, groups: &[(Group, u32)], due_to: UnixMicros) -> Result<Vec<Entry>, LedgerError> {
        self.inner.others.call(|conn| async move { agenda::due(&conn, groups, due_to).await }).await
    }

    async fn releasing(&self, ids: &[Uuid], at: UnixMicros) -> Result<(), LedgerError> {
        self.inner.others.call(|conn| async move { agenda::releasing(&conn, ids, at).await }).await
    }

    async fn released(&self, releases: &[Release]) -> Result<(), LedgerError> {
        self.inner.others.call(|conn| async move { agenda::released(&conn, releases).await }).await
    }

    async fn left_releasing(&self, shards: Shards, most: u32) -> Result<Vec<Entry>, LedgerError> {
        self.inner.others.call(|conn| async move { agenda::left_releasing(&conn, shards, most).await }).await
    }

    async fn agenda_depth(&self) -> Result<AgendaDepth, LedgerError> {
        self.inner.others.call(|conn| async move { agenda::depth(&conn).await }).await
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, LedgerError> {
        self.inner.others.call(|conn| async move { people::tenants(&conn).await }).await
    }

    async fn put_tenant(&self, tenant: &Tenant) -> Result<(), LedgerError> {
        self.inner.others.call(|conn| async move { people::put_tenant(&conn, tenant).await }).await
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, LedgerError> {
        self.inner.others.call(|conn| async move { people::api_keys(&conn).await }).await
    }

    async fn put_api_key(&self, key: &ApiKey) -> Result<(), LedgerError> {
        self.inner.others.call(|conn| async move { people::put_api_key(&conn, key).await }).await
    }

    async fn holds(&self) -> Result<Vec<(ProviderId, Hold)>, LedgerError> {
        self.inner.others.call(|conn| async move { holds::all(&conn).await }).await
    }

    async fn put_hold(&self, provider: &ProviderId, hold: Option<Hold>) -> Result<(), LedgerError> {
        self.inner.others.call(|conn| async move { holds::put(&conn, provider, hold).await }).await
    }

    async fn put_template(&self, template: &NewTemplate) -> Result<u32, LedgerError> {
        self.inner.others.call(|conn| async move { templates::put(&conn, template).await }).await
    }

    async fn drop_template(&self, tenant: &TenantId, name: &str, at: UnixMicros) -> Result<bool, LedgerError> {
        self.inner.others.call(|conn| async move { templates::drop(&conn, tenant, name, at).await }).await
    }

    async fn template(&self, tenant: &TenantId, name: &str, version: u32) -> Result<Option<TemplateRow>, LedgerError> {
        self.inner.others.call(|conn| async move { templates::one(&conn, tenant, name, version).await }).await
    }

    async fn templates_since(&self, after: i64, most: u32) -> Result<Vec<TemplateRow>, LedgerError> {
        self.inner.others.call(|conn| async move { templates::since(&conn, after, most).await }).await
    }

    async fn close(&self) {
        self.inner.leader.close().await;
        self.inner.recorder.close();
        self.inner.others.close();
        self.inner.connector.close().await;
    }
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the URL: it holds a password.
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

/// Tells what a failure of PostgreSQL means to a caller.
impl From<tokio_postgres::Error> for LedgerError {
    fn from(error: tokio_postgres::Error) -> Self {
        let Some(refusal) = error.as_db_error() else {
            return Self::Unreachable(error.to_string().into());
        };
        // Only the message: details would name values.
        let text = format!("{} ({})", refusal.message(), refusal.code().code()).into();
        match *refusal.code() {
            SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => Self::Corrupt(text),
            // A standby is not the ledger until it is promoted.
            SqlState::READ_ONLY_SQL_TRANSACTION | SqlState::QUERY_CANCELED => Self::Unreachable(text),
            ref code if ["08", "53", "57", "58"].iter().any(|class| code.code().starts_with(class)) => {
                Self::Unreachable(text)
            }
            _ => Self::Refused(text),
        }
    }
}
