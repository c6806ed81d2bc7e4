//! Rows of SQLite as nouns.

use bytes::Bytes;
use rusqlite::Row;
use uuid::Uuid;

use crate::domain::event::{Event, Fate};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{AddressKey, RecipientKey, WordKey};
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code, ReadChange};
use crate::ledger::{Entry, JobRow, LedgerError, NumberedEvent, Segment, turns};

/// Columns of [`job`], in order.
pub(super) const JOB: &str = "j.id, j.tenant, j.kind, j.class, j.accepted_at, j.due_at, j.expires_at, j.address, \
                              j.recipient, j.batch, j.campaign, j.run, j.cancel_key, j.sealed, j.fallback_after";

/// Columns of [`event`], in order.
pub(super) const EVENT: &str = "seq, job, tenant, kind, class, at, attempt, what, state, fate, reason, provider, until, \
                                message_ids, receipt_expected, cost";

/// Columns of [`segment`], in order.
pub(super) const SEGMENT: &str = "provider, message_id, job, attempt, part, parts, fate, at";

/// Columns of [`entry`], in order.
pub(super) const ENTRY: &str = "id, sort, timer_kind, timer_owner, timer_key, tenant, class, pool, sender, turn, \
                                due_at, jobs, releasing_since, payload, accepted_at";

/// Reads a job.
pub(super) fn job(row: &Row<'_>) -> Result<JobRow, LedgerError> {
    Ok(JobRow {
        id: job_id(row, 0)?,
        tenant: name(row, 1)?,
        kind: Kind::from_code(row.get(2)?)?,
        class: Class::from_code(row.get(3)?)?,
        accepted_at: UnixMicros(row.get(4)?),
        due_at: UnixMicros(row.get(5)?),
        expires_at: UnixMicros(row.get(6)?),
        address: AddressKey(row.get(7)?),
        recipient: row.get::<_, Option<_>>(8)?.map(RecipientKey),
        batch: row.get::<_, Option<_>>(9)?.map(Uuid::from_bytes),
        campaign: row.get::<_, Option<_>>(10)?.map(WordKey),
        run: row.get::<_, Option<_>>(11)?.map(WordKey),
        cancel_key: row.get::<_, Option<_>>(12)?.map(WordKey),
        sealed: sealed(row, 13)?,
        fallback_after: row.get::<_, Option<i64>>(14)?.map(columns::length),
    })
}

/// Reads an event.
pub(super) fn event(row: &Row<'_>) -> Result<NumberedEvent, LedgerError> {
    let message_ids = match row.get_ref(13)?.as_str_or_null().map_err(|_| columns::missing("message_ids"))? {
        None => vec![],
        Some(text) => serde_json::from_str(text).map_err(|_| columns::missing("message_ids"))?,
    };
    let change = ReadChange {
        what: row.get(7)?,
        state: row.get(8)?,
        fate: row.get(9)?,
        reason: row.get(10)?,
        provider: row.get(11)?,
        until: row.get(12)?,
        message_ids,
        receipt_expected: row.get(14)?,
        cost: row.get(15)?,
    };
    let event = Event {
        job: job_id(row, 1)?,
        tenant: name(row, 2)?,
        kind: Kind::from_code(row.get(3)?)?,
        class: Class::from_code(row.get(4)?)?,
        at: UnixMicros(row.get(5)?),
        attempt: row.get(6)?,
        change: change.change()?,
    };
    Ok(NumberedEvent { seq: row.get(0)?, event })
}

/// Reads a segment.
pub(super) fn segment(row: &Row<'_>) -> Result<Segment, LedgerError> {
    Ok(Segment {
        provider: columns::name(row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?)?,
        message_id: row.get(1)?,
        job: job_id(row, 2)?,
        attempt: row.get(3)?,
        index: row.get(4)?,
        of: row.get(5)?,
        fate: row.get::<_, Option<_>>(6)?.map(Fate::from_code).transpose()?,
        at: UnixMicros(row.get(7)?),
    })
}

/// Reads an agenda entry.
pub(super) fn entry(row: &Row<'_>) -> Result<Entry, LedgerError> {
    Ok(Entry {
        id: Uuid::from_bytes(row.get(0)?),
        tag: turns::tag(row.get(1)?, [row.get(2)?, row.get(3)?, row.get(4)?])?,
        tenant: name(row, 5)?,
        lane: columns::lane(row.get(6)?, row.get_ref(7)?.as_str().map_err(rusqlite::Error::from)?)?,
        sender: row.get(8)?,
        priority: turns::priority(row.get(9)?),
        due_at: UnixMicros(row.get(10)?),
        jobs: row.get(11)?,
        releasing_since: row.get::<_, Option<_>>(12)?.map(UnixMicros),
        payload: sealed(row, 13)?,
        accepted_at: row.get::<_, Option<_>>(14)?.map(UnixMicros),
    })
}

/// Reads a job id.
pub(super) fn job_id(row: &Row<'_>, index: usize) -> Result<JobId, LedgerError> {
    Ok(JobId(Uuid::from_bytes(row.get(index)?)))
}

/// Reads a tenant's name.
pub(super) fn name(row: &Row<'_>, index: usize) -> Result<TenantId, LedgerError> {
    columns::name(row.get_ref(index)?.as_str().map_err(rusqlite::Error::from)?)
}

/// Reads sealed bytes.
pub(super) fn sealed(row: &Row<'_>, index: usize) -> Result<Bytes, LedgerError> {
    Ok(Bytes::copy_from_slice(row.get_ref(index)?.as_blob().map_err(rusqlite::Error::from)?))
}

/// Reads every row of an answer.
pub(super) fn all<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl Fn(&Row<'_>) -> Result<T, LedgerError>,
) -> Result<Vec<T>, LedgerError> {
    let mut read_rows = vec![];
    while let Some(row) = rows.next()? {
        read_rows.push(read(row)?);
    }
    Ok(read_rows)
}

/// Reads the one row of an answer, if there is one.
pub(super) fn first<T>(
    mut rows: rusqlite::Rows<'_>,
    read: impl Fn(&Row<'_>) -> Result<T, LedgerError>,
) -> Result<Option<T>, LedgerError> {
    rows.next()?.map(read).transpose()
}
