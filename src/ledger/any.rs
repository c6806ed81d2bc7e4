//! One type for whichever ledger the settings name.

use bytes::Bytes;
use uuid::Uuid;

use super::postgres::Postgres;
use super::sqlite::Sqlite;
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
use crate::domain::time::UnixMicros;

/// The ledger that `app` chose. Cheap to clone.
#[derive(Clone, Debug)]
pub enum AnyLedger {
    /// In one file.
    Sqlite(Sqlite),
    /// In a database.
    Postgres(Postgres),
}

macro_rules! ask {
    ($self:ident, $ledger:ident => $call:expr) => {
        match $self {
            Self::Sqlite($ledger) => $call.await,
            Self::Postgres($ledger) => $call.await,
        }
    };
}

impl Ledger for AnyLedger {
    async fn migrate(&self) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.migrate())
    }

    async fn record(&self, recording: &Recording) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.record(recording))
    }

    async fn recorded(&self, frames: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
        ask!(self, ledger => ledger.recorded(frames))
    }

    async fn heard(&self, signals: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
        ask!(self, ledger => ledger.heard(signals))
    }

    async fn last_seq(&self) -> Result<(i64, i64), LedgerError> {
        ask!(self, ledger => ledger.last_seq())
    }

    async fn trails(&self, jobs: &[JobId]) -> Result<Vec<Option<Trail>>, LedgerError> {
        ask!(self, ledger => ledger.trails(jobs))
    }

    async fn sealed(&self, jobs: &[JobId]) -> Result<Vec<Option<Bytes>>, LedgerError> {
        ask!(self, ledger => ledger.sealed(jobs))
    }

    async fn segments(
        &self,
        now: UnixMicros,
        ids: &[(ProviderId, Box<str>)],
    ) -> Result<Vec<Option<Segment>>, LedgerError> {
        ask!(self, ledger => ledger.segments(now, ids))
    }

    async fn segments_of(&self, jobs: &[JobId]) -> Result<Vec<Segment>, LedgerError> {
        ask!(self, ledger => ledger.segments_of(jobs))
    }

    async fn segments_under(
        &self,
        now: UnixMicros,
        provider: &ProviderId,
        heads: &[Box<str>],
    ) -> Result<Vec<Vec<Segment>>, LedgerError> {
        ask!(self, ledger => ledger.segments_under(now, provider, heads))
    }

    async fn parked(&self, ids: &[(ProviderId, Box<str>)]) -> Result<Vec<Receipt>, LedgerError> {
        ask!(self, ledger => ledger.parked(ids))
    }

    async fn last_job_to(&self, address: AddressKey, at: UnixMicros) -> Result<Option<(TenantId, JobId)>, LedgerError> {
        ask!(self, ledger => ledger.last_job_to(address, at))
    }

    async fn strays(&self, due_from: UnixMicros, due_to: UnixMicros, most: u32) -> Result<Vec<JobRow>, LedgerError> {
        ask!(self, ledger => ledger.strays(due_from, due_to, most))
    }

    async fn job(&self, tenant: &TenantId, job: JobId) -> Result<Option<History>, LedgerError> {
        ask!(self, ledger => ledger.job(tenant, job))
    }

    async fn jobs(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: Option<(UnixMicros, JobId)>,
        most: u32,
    ) -> Result<Vec<History>, LedgerError> {
        ask!(self, ledger => ledger.jobs(tenant, filter, page, most))
    }

    async fn events(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        most: u32,
    ) -> Result<(Vec<NumberedEvent>, i64), LedgerError> {
        ask!(self, ledger => ledger.events(tenant, after, most))
    }

    async fn replies(&self, tenant: &TenantId, after: i64, most: u32) -> Result<Vec<SealedReply>, LedgerError> {
        ask!(self, ledger => ledger.replies(tenant, after, most))
    }

    async fn counts(
        &self,
        tenant: Option<&TenantId>,
        from: UnixMicros,
        to: UnixMicros,
    ) -> Result<Vec<Count>, LedgerError> {
        ask!(self, ledger => ledger.counts(tenant, from, to))
    }

    async fn suppressions(&self, tenant: &TenantId, address: AddressKey) -> Result<Vec<Suppression>, LedgerError> {
        ask!(self, ledger => ledger.suppressions(tenant, address))
    }

    async fn suppressions_after(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&Suppression>,
        most: u32,
    ) -> Result<Vec<SealedSuppression>, LedgerError> {
        ask!(self, ledger => ledger.suppressions_after(tenant, after, most))
    }

    async fn rules(&self, tenant: &TenantId, most: u32) -> Result<Vec<JobRule>, LedgerError> {
        ask!(self, ledger => ledger.rules(tenant, most))
    }

    async fn open_rules(
        &self,
        shards: Shards,
        sweeps: u8,
        before: UnixMicros,
        most: u32,
    ) -> Result<Vec<JobRule>, LedgerError> {
        ask!(self, ledger => ledger.open_rules(shards, sweeps, before, most))
    }

    async fn swept(&self, rule: &JobRule) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.swept(rule))
    }

    async fn tally(&self, tenant: &TenantId, filter: &Filter, most: u32) -> Result<Tally, LedgerError> {
        ask!(self, ledger => ledger.tally(tenant, filter, most))
    }

    async fn entries_of(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Place,
        most: u32,
    ) -> Result<(Vec<Entry>, Option<Place>), LedgerError> {
        ask!(self, ledger => ledger.entries_of(tenant, filter, after, most))
    }

    async fn rules_after(&self, after: Option<&JobRule>, most: u32) -> Result<Vec<JobRule>, LedgerError> {
        ask!(self, ledger => ledger.rules_after(after, most))
    }

    async fn sent_since(
        &self,
        tenants: &[TenantId],
        since: UnixMicros,
        after: i64,
        most: u32,
    ) -> Result<(Vec<Sent>, Option<i64>), LedgerError> {
        ask!(self, ledger => ledger.sent_since(tenants, since, after, most))
    }

    async fn losses(
        &self,
        tenants: &[TenantId],
        numbers: (i64, i64),
        most: u32,
    ) -> Result<(Vec<Loss>, i64), LedgerError> {
        ask!(self, ledger => ledger.losses(tenants, numbers, most))
    }

    async fn bookmark(&self, reader: &str) -> Result<i64, LedgerError> {
        ask!(self, ledger => ledger.bookmark(reader))
    }

    async fn put_bookmark(&self, reader: &str, seq: i64) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.put_bookmark(reader, seq))
    }

    async fn lead_agenda(&self) -> Result<Shards, LedgerError> {
        ask!(self, ledger => ledger.lead_agenda())
    }

    async fn put_entries(&self, entries: &[Entry]) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.put_entries(entries))
    }

    async fn agenda_groups(&self, shards: Shards) -> Result<Vec<Group>, LedgerError> {
        ask!(self, ledger => ledger.agenda_groups(shards))
    }

    async fn due_entries(&self, groups: &[(Group, u32)], due_to: UnixMicros) -> Result<Vec<Entry>, LedgerError> {
        ask!(self, ledger => ledger.due_entries(groups, due_to))
    }

    async fn releasing(&self, ids: &[Uuid], at: UnixMicros) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.releasing(ids, at))
    }

    async fn released(&self, releases: &[Release]) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.released(releases))
    }

    async fn left_releasing(&self, shards: Shards, most: u32) -> Result<Vec<Entry>, LedgerError> {
        ask!(self, ledger => ledger.left_releasing(shards, most))
    }

    async fn agenda_depth(&self) -> Result<AgendaDepth, LedgerError> {
        ask!(self, ledger => ledger.agenda_depth())
    }

    async fn tenants(&self) -> Result<Vec<Tenant>, LedgerError> {
        ask!(self, ledger => ledger.tenants())
    }

    async fn put_tenant(&self, tenant: &Tenant) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.put_tenant(tenant))
    }

    async fn api_keys(&self) -> Result<Vec<ApiKey>, LedgerError> {
        ask!(self, ledger => ledger.api_keys())
    }

    async fn put_api_key(&self, key: &ApiKey) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.put_api_key(key))
    }

    async fn holds(&self) -> Result<Vec<(ProviderId, Hold)>, LedgerError> {
        ask!(self, ledger => ledger.holds())
    }

    async fn put_hold(&self, provider: &ProviderId, hold: Option<Hold>) -> Result<(), LedgerError> {
        ask!(self, ledger => ledger.put_hold(provider, hold))
    }

    async fn put_template(&self, template: &NewTemplate) -> Result<u32, LedgerError> {
        ask!(self, ledger => ledger.put_template(template))
    }

    async fn drop_template(&self, tenant: &TenantId, name: &str, at: UnixMicros) -> Result<bool, LedgerError> {
        ask!(self, ledger => ledger.drop_template(tenant, name, at))
    }

    async fn template(&self, tenant: &TenantId, name: &str, version: u32) -> Result<Option<TemplateRow>, LedgerError> {
        ask!(self, ledger => ledger.template(tenant, name, version))
    }

    async fn templates_since(&self, after: i64, most: u32) -> Result<Vec<TemplateRow>, LedgerError> {
        ask!(self, ledger => ledger.templates_since(after, most))
    }

    async fn close(&self) {
        ask!(self, ledger => ledger.close())
    }
}
