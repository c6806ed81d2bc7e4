//! The ledger port: what was accepted, what became of it, what waits; and who may ask.
//!
//! # Contract
//! - Writing is append-mostly: a job's row never changes after it was accepted; its state is the merge of its events.
//! - [`Ledger::record`] commits a whole [`Recording`] or nothing; frames that were recorded before are named by
//!   [`Ledger::recorded`], and a job that is there already is left as it is.
//! - One recorder at a time writes and numbers recordings (the record queue sees to it). Should two meet,
//!   [`Recording::after`] lets only the one through that has seen everything before: what it read still holds.
//! - Sealed bytes are opaque here; only keyed hashes are searched.

mod agenda;
mod answers;
mod any;
mod columns;
mod count;
mod directory;
mod kept;
pub mod postgres;
mod reply;
pub mod sqlite;
mod template;
mod templates;
mod tenant;
mod turns;

pub use agenda::{AgendaDepth, Entry, Group, Place, RULE_SWEEPS, Release, SHARDS, Shards, Sort, Tag};
pub use answers::{Filter, History, Tally, Trail};
pub use any::AnyLedger;
pub use count::{COST, COST_FINALLY, Count, SENT_FINALLY};
pub use directory::Directory;
pub use kept::{Loss, SealedSuppression, Sent};
pub use reply::SealedReply;
pub use template::{NewTemplate, TemplateRow, shown as template_to_pb, stored as template_from_pb};
pub use templates::Templates;
pub use tenant::{ApiKey, Role, SENDER_RATES_MAX, SenderRate, Tenant, WORDS_MAX};

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::event::{Event, Fate, Receipt};
use crate::domain::hold::Hold;
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{AddressKey, RecipientKey, WordKey};
use crate::domain::rule::JobRule;
use crate::domain::suppression::{Source, Suppression};
use crate::domain::time::UnixMicros;

/// How far back receipts are matched: providers reuse message ids.
pub const RECEIPT_MATCH: Duration = Duration::from_secs(96 * 3600);

/// Why the ledger gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// No connection, or no answer in time.
    #[error("cannot reach the ledger: {0}")]
    Unreachable(Box<str>),
    /// The store answered and refused.
    #[error("the ledger refused: {0}")]
    Refused(Box<str>),
    /// What is stored cannot be read.
    #[error("the ledger holds something unreadable: {0}")]
    Corrupt(Box<str>),
    /// Another recorder has written since; see [`Recording::after`].
    #[error("another recorder has written since")]
    Overtaken,
}

/// An accepted job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JobRow {
    /// The job.
    pub id: JobId,
    /// Its owner.
    pub tenant: TenantId,
    /// By which means it goes.
    pub kind: Kind,
    /// How much it matters.
    pub class: Class,
    /// When it was accepted.
    pub accepted_at: UnixMicros,
    /// When it was to be sent.
    pub due_at: UnixMicros,
    /// When it expires.
    pub expires_at: UnixMicros,
    /// The address it goes to; indexed, for replies and lists.
    pub address: AddressKey,
    /// Whom it reaches, where the tenant gave an id; indexed. `None`: the address is the recipient.
    pub recipient: Option<RecipientKey>,
    /// Its batch.
    pub batch: Option<Uuid>,
    /// Its campaign.
    pub campaign: Option<WordKey>,
    /// Its run.
    pub run: Option<WordKey>,
    /// Its cancel key.
    pub cancel_key: Option<WordKey>,
    /// How long it may take to be delivered, from its hand-over on, before the next step of its fallback chain starts;
    /// `None`: nothing follows it.
    pub fallback_after: Option<Duration>,
    /// The whole job, as a sealed single-job envelope.
    pub sealed: Bytes,
}

/// An event with its number in the watch order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NumberedEvent {
    /// 1, 2, 3 ...
    pub seq: i64,
    /// The event.
    pub event: Event,
}

/// One segment that a provider took, by the id the provider gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// The provider.
    pub provider: ProviderId,
    /// Its id for the segment.
    pub message_id: Box<str>,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u16,
    /// 0, 1, ...
    pub index: u8,
    /// Segments of the attempt.
    pub of: u8,
    /// What its final receipt said.
    pub fate: Option<Fate>,
    /// When it was taken.
    pub at: UnixMicros,
}

/// What one batch of the record queue writes, in one transaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recording {
    /// The last number before this recording. Unless it still is the last when the transaction begins, the recording is
    /// refused with [`LedgerError::Overtaken`] and nothing is written. A recording that changes segments or
    /// parks receipts and numbers nothing takes a number all the same: another recorder may believe to know them.
    pub after: i64,
    /// The queue frames it covers.
    pub frames: Vec<Uuid>,
    /// Newly accepted jobs.
    pub jobs: Vec<JobRow>,
    /// Events, numbered on from [`Ledger::last_seq`].
    pub events: Vec<NumberedEvent>,
    /// Segments to insert, or to overwrite by (provider, message id).
    pub segments: Vec<Segment>,
    /// Receipts whose job is not known yet.
    pub parked: Vec<Receipt>,
    /// Parked receipts that found their job, by provider and message id.
    pub unparked: Vec<(ProviderId, Box<str>)>,
    /// Replies and signals, their text and whom they are from sealed by the caller. No signal twice, ever: the caller asks
    /// [`Ledger::heard`] first.
    pub replies: Vec<SealedReply>,
    /// Opt-outs set, what their keys stand for sealed by the caller.
    pub suppressed: Vec<SealedSuppression>,
    /// Opt-outs taken back, with the source that takes them back; one that came later than its time stands.
    pub unsuppressed: Vec<(Suppression, Source)>,
    /// Agenda entries, as [`Ledger::put_entries`] takes them.
    pub entries: Vec<Entry>,
    /// Rules about jobs that wait.
    pub ruled: Vec<JobRule>,
    /// What it adds to the counts.
    pub counts: Vec<Count>,
    /// How far the deadline sweep has come: the number of the last event it has judged.
    pub swept_to: Option<i64>,
}

/// The book of record. See the module's contract.
pub trait Ledger: Clone + Send + Sync + 'static {
    /// Brings the schema up to date.
    fn migrate(&self) -> impl Future<Output = Result<(), LedgerError>> + Send;

    // Recording.

    /// Writes a recording in one transaction.
    fn record(&self, recording: &Recording) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Returns which of these frames were recorded before (remembered for at least 24 h).
    fn recorded(&self, frames: &[Uuid]) -> impl Future<Output = Result<Vec<Uuid>, LedgerError>> + Send;

    /// Returns the last number given to an event or a reply, and how far the deadline sweep has come.
    fn last_seq(&self) -> impl Future<Output = Result<(i64, i64), LedgerError>> + Send;

    /// Returns the trails of jobs; `None` for a job that has neither a row nor an event.
    fn trails(&self, jobs: &[JobId]) -> impl Future<Output = Result<Vec<Option<Trail>>, LedgerError>> + Send;

    /// Returns the sealed rows of jobs; `None` for a job that has none.
    fn sealed(&self, jobs: &[JobId]) -> impl Future<Output = Result<Vec<Option<Bytes>>, LedgerError>> + Send;

    /// Returns the newest segments by provider and message id, of the last [`RECEIPT_MATCH`] before `now`.
    fn segments(
        &self,
        now: UnixMicros,
        ids: &[(ProviderId, Box<str>)],
    ) -> impl Future<Output = Result<Vec<Option<Segment>>, LedgerError>> + Send;

    /// Returns all segments of these jobs.
    fn segments_of(&self, jobs: &[JobId]) -> impl Future<Output = Result<Vec<Segment>, LedgerError>> + Send;

    /// Returns for each head the segments of a provider whose message ids are that head, `:` and something, in their order,
    /// of the last [`RECEIPT_MATCH`] before `now`: where a vendor gives one id to many messages.
    fn segments_under(
        &self,
        now: UnixMicros,
        provider: &ProviderId,
        heads: &[Box<str>],
    ) -> impl Future<Output = Result<Vec<Vec<Segment>>, LedgerError>> + Send;

    /// Returns receipts that wait for these messages.
    fn parked(&self, ids: &[(ProviderId, Box<str>)]) -> impl Future<Output = Result<Vec<Receipt>, LedgerError>> + Send;

    /// Returns which of these signals were recorded before.
    fn heard(&self, signals: &[Uuid]) -> impl Future<Output = Result<Vec<Uuid>, LedgerError>> + Send;

    /// Returns the last job accepted for an address up to `at`, for replies.
    fn last_job_to(
        &self,
        address: AddressKey,
        at: UnixMicros,
    ) -> impl Future<Output = Result<Option<(TenantId, JobId)>, LedgerError>> + Send;

    /// Returns jobs without any event that were due from `due_from` on and before `due_to`, and that are in no agenda
    /// entry: strays. What entries hold is sealed, so a job counts as held while any entry of its tenant and class is
    /// there that was first due before `due_to`.
    fn strays(
        &self,
        due_from: UnixMicros,
        due_to: UnixMicros,
        most: u32,
    ) -> impl Future<Output = Result<Vec<JobRow>, LedgerError>> + Send;

    // Asking.

    /// Returns a job of a tenant with its events.
    fn job(&self, tenant: &TenantId, job: JobId) -> impl Future<Output = Result<Option<History>, LedgerError>> + Send;

    /// Returns a tenant's jobs that match, newest accepted first, from after `page` on (the last job's id of the page
    /// before).
    fn jobs(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        page: Option<(UnixMicros, JobId)>,
        most: u32,
    ) -> impl Future<Output = Result<Vec<History>, LedgerError>> + Send;

    /// Returns events after a number, of one tenant or of all, oldest first, and the number up to which this answer is
    /// complete.
    fn events(
        &self,
        tenant: Option<&TenantId>,
        after: i64,
        most: u32,
    ) -> impl Future<Output = Result<(Vec<NumberedEvent>, i64), LedgerError>> + Send;

    /// Returns replies after a number, like [`Ledger::events`].
    fn replies(
        &self,
        tenant: &TenantId,
        after: i64,
        most: u32,
    ) -> impl Future<Output = Result<Vec<SealedReply>, LedgerError>> + Send;

    /// Returns the sums of a tenant's counts, or of all, from an hour on and before another.
    fn counts(
        &self,
        tenant: Option<&TenantId>,
        from: UnixMicros,
        to: UnixMicros,
    ) -> impl Future<Output = Result<Vec<Count>, LedgerError>> + Send;

    /// Returns the opt-outs of an address: the tenant's own and those that bind every tenant.
    fn suppressions(
        &self,
        tenant: &TenantId,
        address: AddressKey,
    ) -> impl Future<Output = Result<Vec<Suppression>, LedgerError>> + Send;

    /// Returns the opt-outs of a tenant, or of all, in the order of their keys, from after `after` on.
    fn suppressions_after(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&Suppression>,
        most: u32,
    ) -> impl Future<Output = Result<Vec<SealedSuppression>, LedgerError>> + Send;

    // Rules.

    /// Returns a tenant's rules about jobs that wait, newest first, at most `most`. They are kept for 431 days.
    fn rules(&self, tenant: &TenantId, most: u32) -> impl Future<Output = Result<Vec<JobRule>, LedgerError>> + Send;

    /// Returns rules of all tenants that were given before `before` and for which the agenda was looked through fewer
    /// than `sweeps` times, at most [`RULE_SWEEPS`], oldest first; of tenants whose entries are in `shards`.
    fn open_rules(
        &self,
        shards: Shards,
        sweeps: u8,
        before: UnixMicros,
        most: u32,
    ) -> impl Future<Output = Result<Vec<JobRule>, LedgerError>> + Send;

    /// Notes that the agenda was looked through for a rule once more; of a later rule for the same names nothing is noted.
    fn swept(&self, rule: &JobRule) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Counts the newest `most` jobs that match; unless [`Filter::is_selective`], those among the tenant's newest `most`.
    fn tally(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        most: u32,
    ) -> impl Future<Output = Result<Tally, LedgerError>> + Send;

    /// Returns at most `most` entries to send, not releasing, from the place `after` on, among which are all that hold
    /// jobs that match: those of the requests that brought such jobs. And from where to go on; `None`: that was all.
    fn entries_of(
        &self,
        tenant: &TenantId,
        filter: &Filter,
        after: Place,
        most: u32,
    ) -> impl Future<Output = Result<(Vec<Entry>, Option<Place>), LedgerError>> + Send;

    /// Returns rules of all tenants in the order of their keys, from after `after` on.
    fn rules_after(
        &self,
        after: Option<&JobRule>,
        most: u32,
    ) -> impl Future<Output = Result<Vec<JobRule>, LedgerError>> + Send;

    /// Returns hand-overs of these tenants from `since` on, by their numbers from after `after` on; and the number to go
    /// on from, unless these were the last.
    fn sent_since(
        &self,
        tenants: &[TenantId],
        since: UnixMicros,
        after: i64,
        most: u32,
    ) -> impl Future<Output = Result<(Vec<Sent>, Option<i64>), LedgerError>> + Send;

    /// Returns outcomes of these tenants' jobs that say that nobody was reached, by their numbers from after the first to
    /// the second, and the number up to which this answer is complete.
    fn losses(
        &self,
        tenants: &[TenantId],
        numbers: (i64, i64),
        most: u32,
    ) -> impl Future<Output = Result<(Vec<Loss>, i64), LedgerError>> + Send;

    /// Returns the number of the last event that `reader` has done with; 0 where it never said so.
    fn bookmark(&self, reader: &str) -> impl Future<Output = Result<i64, LedgerError>> + Send;

    /// Notes how far `reader` has come; a bookmark never goes back.
    fn put_bookmark(&self, reader: &str, seq: i64) -> impl Future<Output = Result<(), LedgerError>> + Send;

    // The agenda.

    /// Returns the shards that this feeder releases from now on, until it asks again: its part of them among the feeders
    /// that ask, and no other's. They may be others each time. On an embedded ledger, whose file has one process, all.
    fn lead_agenda(&self) -> impl Future<Output = Result<Shards, LedgerError>> + Send;

    /// Inserts entries; an id that is there is left as it is. A timer that is there is moved and takes the new entry's
    /// id, so that ending the release of the old one does not touch it.
    fn put_entries(&self, entries: &[Entry]) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Returns every group of entries of `shards` that are not releasing. That takes a probe for each group, however long
    /// its backlog is.
    fn agenda_groups(&self, shards: Shards) -> impl Future<Output = Result<Vec<Group>, LedgerError>> + Send;

    /// Returns entries that are due up to `due_to` and not releasing, of each of these groups at most as many as said:
    /// the groups in the order given, and in each what is due in the same second by priority, the highest first.
    fn due_entries(
        &self,
        groups: &[(Group, u32)],
        due_to: UnixMicros,
    ) -> impl Future<Output = Result<Vec<Entry>, LedgerError>> + Send;

    /// Marks entries as releasing since `at`, before they are published.
    fn releasing(&self, ids: &[Uuid], at: UnixMicros) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Ends the release of entries.
    fn released(&self, releases: &[Release]) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Returns entries of `shards` that were releasing when their feeder died, for the next one.
    fn left_releasing(&self, shards: Shards, most: u32)
    -> impl Future<Output = Result<Vec<Entry>, LedgerError>> + Send;

    /// Returns how the agenda stands.
    fn agenda_depth(&self) -> impl Future<Output = Result<AgendaDepth, LedgerError>> + Send;

    // Tenants and keys.

    /// Returns every tenant.
    fn tenants(&self) -> impl Future<Output = Result<Vec<Tenant>, LedgerError>> + Send;

    /// Creates or replaces a tenant.
    fn put_tenant(&self, tenant: &Tenant) -> impl Future<Output = Result<(), LedgerError>> + Send;

    /// Returns every key, revoked ones included.
    fn api_keys(&self) -> impl Future<Output = Result<Vec<ApiKey>, LedgerError>> + Send;

    /// Creates or replaces a key.
    fn put_api_key(&self, key: &ApiKey) -> impl Future<Output = Result<(), LedgerError>> + Send;

    // Providers.

    /// Returns every provider that is held back.
    fn holds(&self) -> impl Future<Output = Result<Vec<(ProviderId, Hold)>, LedgerError>> + Send;

    /// Holds a provider back, or lets it work: `None`.
    fn put_hold(
        &self,
        provider: &ProviderId,
        hold: Option<Hold>,
    ) -> impl Future<Output = Result<(), LedgerError>> + Send;

    // Templates.

    /// Stores a new version of a template and returns its number: one more than the last of that name, in use or not.
    fn put_template(&self, template: &NewTemplate) -> impl Future<Output = Result<u32, LedgerError>> + Send;

    /// Takes a template out of use; returns whether it was in use. Its versions stay for jobs that wait.
    fn drop_template(
        &self,
        tenant: &TenantId,
        name: &str,
        at: UnixMicros,
    ) -> impl Future<Output = Result<bool, LedgerError>> + Send;

    /// Returns a version of a template, in use or not.
    fn template(
        &self,
        tenant: &TenantId,
        name: &str,
        version: u32,
    ) -> impl Future<Output = Result<Option<TemplateRow>, LedgerError>> + Send;

    /// Returns versions of all tenants' templates in the order of their changes, from after `after` on: stored, or taken
    /// out of use.
    fn templates_since(
        &self,
        after: i64,
        most: u32,
    ) -> impl Future<Output = Result<Vec<TemplateRow>, LedgerError>> + Send;

    /// Closes what is open.
    fn close(&self) -> impl Future<Output = ()> + Send;
}
