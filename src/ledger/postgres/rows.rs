//! Rows of PostgreSQL as nouns.

use std::error::Error;

use bytes::{BufMut, Bytes, BytesMut};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked};
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
pub(super) const EVENT: &str = "e.seq, e.job, e.tenant, e.kind, e.class, e.at, e.attempt, e.what, e.state, e.fate, \
                                e.reason, e.provider, e.until, e.message_ids, e.receipt_expected, e.cost";

/// Columns of [`segment`], in order.
pub(super) const SEGMENT: &str = "s.provider, s.message_id, s.job, s.attempt, s.part, s.parts, s.fate, s.at";

/// Columns of [`entry`], in order.
pub(super) const ENTRY: &str = "a.id, a.sort, a.timer_kind, a.timer_owner, a.timer_key, a.tenant, a.class, a.pool, \
                                a.sender, a.turn, a.due_at, a.jobs, a.releasing_since, a.payload, a.accepted_at";

/// Microseconds between 1970 and 2000, where PostgreSQL's time begins.
const EPOCH: i64 = 946_684_800_000_000;

/// A time as PostgreSQL has it; the last one there is, is its infinity.
#[derive(Clone, Copy, Debug)]
pub(super) struct Micros(pub(super) UnixMicros);

// === impl Micros ===

impl Micros {
    /// Returns the time in PostgreSQL's binary form.
    pub(super) fn on_the_wire(self) -> i64 {
        if self.0 == UnixMicros::MAX { i64::MAX } else { self.0.0.saturating_sub(EPOCH) }
    }
}

impl From<UnixMicros> for Micros {
    fn from(time: UnixMicros) -> Self {
        Self(time)
    }
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.on_the_wire());
        Ok(IsNull::No)
    }
    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(if micros == i64::MAX { UnixMicros::MAX } else { UnixMicros(micros.saturating_add(EPOCH)) }))
    }
    accepts!(TIMESTAMPTZ);
}

// === Rows ===

/// Reads a column.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, LedgerError> {
    row.try_get(index).map_err(|error| LedgerError::Corrupt(error.to_string().into()))
}

/// Reads a job from the columns at `from`.
pub(super) fn job(row: &Row, from: usize) -> Result<JobRow, LedgerError> {
    let key = |index| -> Result<Option<[u8; 16]>, LedgerError> {
        Ok(get::<Option<Uuid>>(row, from + index)?.map(Uuid::into_bytes))
    };
    Ok(JobRow {
        id: JobId(get(row, from)?),
        tenant: tenant(row, from + 1)?,
        kind: Kind::from_code(get(row, from + 2)?)?,
        class: Class::from_code(get(row, from + 3)?)?,
        accepted_at: time(row, from + 4)?,
        due_at: time(row, from + 5)?,
        expires_at: time(row, from + 6)?,
        address: AddressKey(get::<Uuid>(row, from + 7)?.into_bytes()),
        recipient: key(8)?.map(RecipientKey),
        batch: get(row, from + 9)?,
        campaign: key(10)?.map(WordKey),
        run: key(11)?.map(WordKey),
        cancel_key: key(12)?.map(WordKey),
        sealed: sealed(row, from + 13)?,
        fallback_after: get::<Option<i64>>(row, from + 14)?.map(columns::length),
    })
}

/// Reads an event from the columns at `from`.
pub(super) fn event(row: &Row, from: usize) -> Result<NumberedEvent, LedgerError> {
    let change = ReadChange {
        what: get(row, from + 7)?,
        state: get(row, from + 8)?,
        fate: get(row, from + 9)?,
        reason: get(row, from + 10)?,
        provider: get(row, from + 11)?,
        until: get::<Option<Micros>>(row, from + 12)?.map(|time| time.0.0),
        message_ids: get::<Option<_>>(row, from + 13)?.unwrap_or_default(),
        receipt_expected: get(row, from + 14)?,
        cost: get(row, from + 15)?,
    };
    let event = Event {
        job: JobId(get(row, from + 1)?),
        tenant: tenant(row, from + 2)?,
        kind: Kind::from_code(get(row, from + 3)?)?,
        class: Class::from_code(get(row, from + 4)?)?,
        at: time(row, from + 5)?,
        attempt: narrow(get::<i32>(row, from + 6)?, "attempt")?,
        change: change.change()?,
    };
    Ok(NumberedEvent { seq: get(row, from)?, event })
}

/// Reads a segment from the columns at `from`.
pub(super) fn segment(row: &Row, from: usize) -> Result<Segment, LedgerError> {
    Ok(Segment {
        provider: columns::name(get(row, from)?)?,
        message_id: get(row, from + 1)?,
        job: JobId(get(row, from + 2)?),
        attempt: narrow(get::<i32>(row, from + 3)?, "attempt")?,
        index: narrow(get::<i16>(row, from + 4)?, "part")?,
        of: narrow(get::<i16>(row, from + 5)?, "parts")?,
        fate: get::<Option<i16>>(row, from + 6)?.map(Fate::from_code).transpose()?,
        at: time(row, from + 7)?,
    })
}

/// Reads an agenda entry.
pub(super) fn entry(row: &Row) -> Result<Entry, LedgerError> {
    Ok(Entry {
        id: get(row, 0)?,
        tag: turns::tag(get(row, 1)?, [get(row, 2)?, get(row, 3)?, get(row, 4)?])?,
        tenant: tenant(row, 5)?,
        lane: columns::lane(get(row, 6)?, get(row, 7)?)?,
        sender: narrow(get::<i64>(row, 8)?, "sender")?,
        priority: turns::priority(get(row, 9)?),
        due_at: time(row, 10)?,
        jobs: narrow(get::<i64>(row, 11)?, "jobs")?,
        releasing_since: get::<Option<Micros>>(row, 12)?.map(|time| time.0),
        payload: sealed(row, 13)?,
        accepted_at: get::<Option<Micros>>(row, 14)?.map(|time| time.0),
    })
}

/// Reads a time.
pub(super) fn time(row: &Row, index: usize) -> Result<UnixMicros, LedgerError> {
    Ok(get::<Micros>(row, index)?.0)
}

/// Reads a tenant's id.
pub(super) fn tenant(row: &Row, index: usize) -> Result<TenantId, LedgerError> {
    columns::name(get(row, index)?)
}

/// Reads sealed bytes.
pub(super) fn sealed(row: &Row, index: usize) -> Result<Bytes, LedgerError> {
    Ok(Bytes::copy_from_slice(get(row, index)?))
}

fn narrow<T, U: TryFrom<T>>(value: T, column: &str) -> Result<U, LedgerError> {
    U::try_from(value).map_err(|_| columns::missing(column))
}
