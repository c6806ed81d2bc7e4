//! Reads jobs, events, segments, receipts and replies.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};
use uuid::Uuid;

use super::recording;
use super::rows::{self, EVENT, JOB, SEGMENT};
use crate::domain::event::Receipt;
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::AddressKey;
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code, IMMEDIATE};
use crate::ledger::{
    Filter, History, JobRow, LedgerError, NumberedEvent, RECEIPT_MATCH, SealedReply, Segment, Sent, Trail, answers,
};

/// Returns the trails of jobs.
pub(super) fn trails(conn: &Connection, jobs: &[JobId]) -> Result<Vec<Option<Trail>>, LedgerError> {
    let mut owner = conn.prepare_cached("select tenant, kind, class, fallback_after from job where id = ?1")?;
    jobs.iter()
        .map(|job| {
            let events = job_events(conn, *job)?;
            let owned = rows::first(owner.query([job.0.as_bytes()])?, |row| {
                Ok(Trail {
                    tenant: rows::name(row, 0)?,
                    kind: Kind::from_code(row.get(1)?)?,
                    class: Class::from_code(row.get(2)?)?,
                    accepted: true,
                    fallback_after: row.get::<_, Option<i64>>(3)?.map(columns::length),
                    events: vec![],
                })
            })?;
            Ok(match owned {
                Some(trail) => Some(Trail { events, ..trail }),
                None => Trail::of(events),
            })
        })
        .collect()
}

/// Returns the sealed rows of jobs.
pub(super) fn sealed(conn: &Connection, jobs: &[JobId]) -> Result<Vec<Option<Bytes>>, LedgerError> {
    let mut find = conn.prepare_cached("select sealed from job where id = ?1")?;
    jobs.iter().map(|job| rows::first(find.query([job.0.as_bytes()])?, |row| rows::sealed(row, 0))).collect()
}

/// Returns the newest segments by provider and message id.
pub(super) fn segments(
    conn: &Connection,
    now: UnixMicros,
    ids: &[(ProviderId, Box<str>)],
) -> Result<Vec<Option<Segment>>, LedgerError> {
    let sql = format!("select {SEGMENT} from segment where provider = ?1 and message_id = ?2 and at >= ?3");
    let mut statement = conn.prepare_cached(&sql)?;
    let since = now.minus(RECEIPT_MATCH).0;
    ids.iter()
        .map(|(provider, id)| rows::first(statement.query(params![provider.as_str(), id, since])?, rows::segment))
        .collect()
}

fn segments_of_sql() -> String {
    format!("select {SEGMENT} from segment where job = ?1 order by attempt, part, provider, message_id")
}

/// Returns all segments of jobs.
pub(super) fn segments_of(conn: &Connection, jobs: &[JobId]) -> Result<Vec<Segment>, LedgerError> {
    let mut statement = conn.prepare_cached(&segments_of_sql())?;
    let mut segments = vec![];
    for job in jobs {
        segments.extend(rows::all(statement.query([job.0.as_bytes()])?, rows::segment)?);
    }
    Ok(segments)
}

/// Returns for each head the segments whose message ids are that head, `:` and something.
pub(super) fn segments_under(
    conn: &Connection,
    now: UnixMicros,
    provider: &ProviderId,
    heads: &[Box<str>],
) -> Result<Vec<Vec<Segment>>, LedgerError> {
    // `;` is what follows `:`.
    let sql = format!(
        "select {SEGMENT} from segment where provider = ?1 and message_id > ?2 || ':' and message_id < ?2 || ';' \
         and at >= ?3 order by message_id"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let since = now.minus(RECEIPT_MATCH).0;
    heads
        .iter()
        .map(|head| rows::all(statement.query(params![provider.as_str(), head, since])?, rows::segment))
        .collect()
}

/// Returns receipts that wait for these messages.
pub(super) fn parked(conn: &Connection, ids: &[(ProviderId, Box<str>)]) -> Result<Vec<Receipt>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select job, report, detail, code, at from parked where provider = ?1 and message_id = ?2 order by at, rowid",
    )?;
    let mut receipts = vec![];
    for (provider, message_id) in ids {
        receipts.extend(rows::all(statement.query(params![provider.as_str(), message_id])?, |row| {
            Ok(Receipt {
                provider: provider.clone(),
                message_id: message_id.clone(),
                job: row.get::<_, Option<_>>(0)?.map(|id| JobId(Uuid::from_bytes(id))),
                report: columns::report(row.get(1)?, row.get(2)?)?,
                code: row.get(3)?,
                at: UnixMicros(row.get(4)?),
            })
        })?);
    }
    Ok(receipts)
}

/// When comes first: an order by the id as well would read a whole part of the index before it knows the last of a moment.
const LAST_JOB_TO: &str = "select tenant, id from job where address_part = ?1 and address = ?3 and accepted_at = \
     (select accepted_at from job where address_part = ?1 and accepted_at <= ?2 and address = ?3 \
      order by accepted_at desc limit 1) \
     order by id desc limit 1";

/// Returns the last job accepted for an address up to `at`. Reads what is newer in the address's part of the index, and the
/// whole part for an address that has no job.
pub(super) fn last_job_to(
    conn: &Connection,
    address: AddressKey,
    at: UnixMicros,
) -> Result<Option<(TenantId, JobId)>, LedgerError> {
    let mut statement = conn.prepare_cached(LAST_JOB_TO)?;
    let found = statement.query(params![part(address.0), at.0, address.0])?;
    rows::first(found, |row| Ok((rows::name(row, 0)?, rows::job_id(row, 1)?)))
}

/// Returns the part of an index that a key's rows are in: its first four bits, as the schema's columns compute them.
fn part(key: [u8; 16]) -> i64 {
    i64::from(key[0] >> 4)
}

/// Returns strays: scheduled jobs by their due time; immediate ones tenant by tenant, by when they were accepted.
pub(super) fn strays(
    conn: &Connection,
    due_from: UnixMicros,
    due_to: UnixMicros,
    most: u32,
) -> Result<Vec<JobRow>, LedgerError> {
    let sql = format!(
        "with recursive owner (tenant) as (
           select min(tenant) from job
           union all
           select (select min(j.tenant) from job j where j.tenant > owner.tenant) from owner where owner.tenant is not null
         ), due (id) as (
           select id from job
           where due_at >= ?1 and due_at < ?2 and not immediate
           union all
           select j.id from owner cross join job j
           where j.tenant = owner.tenant and j.accepted_at >= ?1 - ?4 and j.accepted_at < ?2 + ?4
             and j.due_at >= ?1 and j.due_at < ?2
             and j.immediate
         )
         select {JOB} from due cross join job j on j.id = due.id
         where not exists (select 1 from event e where e.job = j.id)
           and not exists (select 1 from agenda a
                           where a.tenant = j.tenant and a.class = j.class and a.first_due < ?2 and a.sort <> 3)
         order by j.due_at, j.id limit ?3"
    );
    let slack = i64::try_from(IMMEDIATE.as_micros()).unwrap_or(i64::MAX);
    rows::all(conn.prepare_cached(&sql)?.query(params![due_from.0, due_to.0, most, slack])?, rows::job)
}

/// Returns a job of a tenant with its events.
pub(super) fn job(conn: &Connection, tenant: &TenantId, job: JobId) -> Result<Option<History>, LedgerError> {
    let sql = format!("select {JOB} from job j where j.id = ?1");
    let row = rows::first(conn.prepare_cached(&sql)?.query([job.0.as_bytes()])?, rows::job)?;
    Ok(History { row, events: job_events(conn, job)? }.of(tenant))
}

/// Returns a tenant's jobs that match, newest accepted first.
pub(super) fn jobs(
    conn: &Connection,
    tenant: &TenantId,
    filter: &Filter,
    page: Option<(UnixMicros, JobId)>,
    most: u32,
) -> Result<Vec<History>, LedgerError> {
    let (matching, mut values) = conditions(tenant, filter);
    let mut sql = format!("select {JOB} from job j where {matching}");
    if let Some((accepted_at, id)) = page {
        values.push(accepted_at.0.into());
        values.push(Value::from(id.0.into_bytes().to_vec()));
        let _never = write!(sql, " and (j.accepted_at, j.id) < (?{}, ?{})", values.len() - 1, values.len());
    }
    values.push(Value::from(i64::from(most)));
    let _never = write!(sql, " order by j.accepted_at desc, j.id desc limit ?{}", values.len());
    let found = rows::all(conn.prepare_cached(&sql)?.query(params_from_iter(values))?, rows::job)?;
    found.into_iter().map(|row| Ok(History { events: job_events(conn, row.id)?, row: Some(row) })).collect()
}

/// Returns which jobs `j` of a tenant match, and the values of its parameters.
pub(super) fn conditions(tenant: &TenantId, filter: &Filter) -> (String, Vec<Value>) {
    // Any other index finds fewer rows than the tenant's; the `+` keeps the planner from taking that one.
    let owner = if filter.is_selective() { "+j.tenant" } else { "j.tenant" };
    let mut sql = format!("{owner} = ?1");
    let mut values = vec![Value::from(tenant.as_str().to_owned())];
    let mut add = |clause: &str, value: Option<Value>| {
        if let Some(value) = value {
            values.push(value);
            // Writing into a string cannot fail.
            let _never = write!(sql, " and {clause} ?{}", values.len());
        }
    };
    let blob = |bytes: [u8; 16]| Value::from(bytes.to_vec());
    let in_part = |key: [u8; 16]| Value::from(part(key));
    add("j.id =", filter.job.map(|job| blob(job.0.into_bytes())));
    add("j.batch =", filter.batch.map(|batch| blob(batch.into_bytes())));
    add("j.campaign =", filter.campaign.map(|key| blob(key.0)));
    add("j.run =", filter.run.map(|key| blob(key.0)));
    add("j.address_part =", filter.address.map(|key| in_part(key.0)));
    add("j.address =", filter.address.map(|key| blob(key.0)));
    add("j.recipient_part =", filter.recipient.map(|key| in_part(key.0)));
    add("j.recipient =", filter.recipient.map(|key| blob(key.0)));
    add("j.cancel_key =", filter.cancel_key.map(|key| blob(key.0)));
    add("j.kind =", filter.kind.map(|kind| Value::from(i64::from(kind.code()))));
    add("j.class =", filter.class.map(|class| Value::from(i64::from(class.code()))));
    add("j.accepted_at >=", filter.from.map(|from| from.0.into()));
    add("j.accepted_at <", filter.to.map(|to| to.0.into()));
    (sql, values)
}

/// Returns events after a number, and up to which number the answer is complete.
pub(super) fn events(
    conn: &Connection,
    tenant: Option<&TenantId>,
    after: i64,
    most: u32,
) -> Result<(Vec<NumberedEvent>, i64), LedgerError> {
    let (last, _) = recording::last_seq(conn)?;
    let to = answers::watch_to(tenant, after, most, last);
    let sql = format!(
        "select {EVENT} from event where seq > ?1 and seq <= ?2 and (?3 is null or tenant = ?3) order by seq limit ?4"
    );
    let mut statement = conn.prepare_cached(&sql)?;
    let events = rows::all(statement.query(params![after, to, tenant.map(TenantId::as_str), most])?, rows::event)?;
    let complete = answers::watch_complete(&events, most, to);
    Ok((events, complete))
}

/// Returns which of these signals were recorded before.
pub(super) fn heard(conn: &Connection, signals: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
    let mut statement = conn.prepare_cached("select 1 from reply where signal = ?1")?;
    let mut known = vec![];
    for signal in signals {
        if statement.exists([signal.as_bytes()])? {
            known.push(*signal);
        }
    }
    Ok(known)
}

/// Returns replies after a number.
pub(super) fn replies(
    conn: &Connection,
    tenant: &TenantId,
    after: i64,
    most: u32,
) -> Result<Vec<SealedReply>, LedgerError> {
    let mut statement = conn.prepare_cached(
        "select seq, tenant, in_reply_to, at, sealed, signal from reply where tenant = ?1 and seq > ?2 order by seq limit ?3",
    )?;
    rows::all(statement.query(params![tenant.as_str(), after, most])?, |row| {
        Ok(SealedReply {
            seq: row.get(0)?,
            tenant: row.get_ref(1)?.as_str_or_null().map_err(rusqlite::Error::from)?.map(columns::name).transpose()?,
            in_reply_to: row.get::<_, Option<_>>(2)?.map(|id| JobId(Uuid::from_bytes(id))),
            at: UnixMicros(row.get(3)?),
            sealed: rows::sealed(row, 4)?,
            signal: row.get::<_, Option<_>>(5)?.map(Uuid::from_bytes),
        })
    })
}

fn job_events_sql() -> String {
    format!("select {EVENT} from event where job = ?1 order by seq")
}

fn job_events(conn: &Connection, job: JobId) -> Result<Vec<NumberedEvent>, LedgerError> {
    rows::all(conn.prepare_cached(&job_events_sql())?.query([job.0.as_bytes()])?, rows::event)
}

/// Returns hand-overs, see [`crate::ledger::Ledger::sent_since`].
pub(super) fn sent_since(
    conn: &Connection,
    tenants: &[TenantId],
    since: UnixMicros,
    after: i64,
    most: u32,
) -> Result<(Vec<Sent>, Option<i64>), LedgerError> {
    let names = serde_json::json!(tenants.iter().map(TenantId::as_str).collect::<Vec<_>>()).to_string();
    let mut statement = conn.prepare_cached(
        "select e.seq, e.at, e.attempt, j.sealed from event e join job j on j.id = e.job \
         where e.seq > ?1 and e.at >= ?2 and e.what in (?3, ?4) and e.tenant in (select value from json_each(?5)) \
         order by e.seq limit ?6",
    )?;
    let from = after.max(seq_before(conn, since.minus(OUT_OF_ORDER))?);
    let [sent, unresolved] = columns::MAY_HAVE_REACHED.map(Code::code);
    let page = rows::all(statement.query(params![from, since.0, sent, unresolved, names, most])?, |row| {
        let sealed = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
        Ok(Sent {
            seq: row.get(0)?,
            at: UnixMicros(row.get(1)?),
            attempt: columns::attempt(row.get(2)?),
            sealed: Bytes::copy_from_slice(sealed),
        })
    })?;
    let full = u32::try_from(page.len()).is_ok_and(|found| found == most);
    let next = page.last().filter(|_| full).map(|last| last.seq);
    Ok((page, next))
}

/// How far the times of events may step back from one number to the next: clocks differ, and what a broker's absence held
/// up comes late.
const OUT_OF_ORDER: Duration = Duration::from_secs(3600);

/// Returns a number before which all events are from before `at`, as far as times follow numbers.
fn seq_before(conn: &Connection, at: UnixMicros) -> Result<i64, LedgerError> {
    let mut statement = conn.prepare_cached("select seq, at from event where seq >= ?1 order by seq limit 1")?;
    let (mut low, mut high): (i64, i64) =
        (0, conn.query_row("select coalesce(max(seq), 0) from event", [], |row| row.get(0))?);
    while low < high {
        let middle = low + (high - low) / 2;
        let (seq, time): (i64, i64) = statement.query_row([middle + 1], |row| Ok((row.get(0)?, row.get(1)?)))?;
        if time < at.0 {
            low = seq;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::StatementStatus;

    use super::*;
    use crate::domain::keys::RecipientKey;

    #[test]
    fn a_statement_is_prepared_once_whatever_its_values() {
        let conn = super::super::connect(Path::new(":memory:"), 1024).unwrap();
        super::super::migrate(&conn).unwrap();
        for job in 0..3 {
            job_events(&conn, JobId(Uuid::from_u128(job))).unwrap();
            segments_of(&conn, &[JobId(Uuid::from_u128(job))]).unwrap();
        }
        for sql in [job_events_sql(), segments_of_sql()] {
            let statement = conn.prepare_cached(&sql).unwrap();
            assert!(statement.get_status(StatementStatus::Run) >= 3, "{sql}");
            assert_eq!(statement.get_status(StatementStatus::RePrepare), 0, "{sql}");
        }
    }

    fn insert_of_each_first_byte(conn: &Connection) {
        let insert =
            "insert into job values (randomblob(16), 't', 1, 1, 1, 1, 1, 1, ?1, ?1, null, null, null, null, x'', null)";
        for first in 0..=255_u8 {
            conn.execute(insert, [[first; 16]]).unwrap();
        }
    }

    #[test]
    fn jobs_that_were_kept_in_64_parts_are_found_in_16() {
        let conn = super::super::connect(Path::new(":memory:"), 1024).unwrap();
        let schema = super::super::SCHEMA;
        let before = schema.iter().position(|more| more.contains("In 16 parts")).unwrap();
        schema[..before].iter().for_each(|more| conn.execute_batch(more).unwrap());
        conn.pragma_update(None, "user_version", i64::try_from(before).unwrap()).unwrap();
        insert_of_each_first_byte(&conn);
        super::super::migrate(&conn).unwrap();
        for first in 0..=255_u8 {
            let found = last_job_to(&conn, AddressKey([first; 16]), UnixMicros(9)).unwrap();
            assert!(found.is_some(), "{first}");
        }
    }

    #[test]
    fn parts_are_as_the_schema_computes_them_and_have_an_index() {
        let conn = super::super::connect(Path::new(":memory:"), 1024).unwrap();
        super::super::migrate(&conn).unwrap();
        insert_of_each_first_byte(&conn);
        let mut read = conn.prepare("select address, address_part, recipient_part from job").unwrap();
        let rows = read.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)));
        let rows: Vec<([u8; 16], i64, i64)> = rows.unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), 256);
        for (key, address_part, recipient_part) in rows {
            assert_eq!((address_part, recipient_part), (part(key), part(key)), "{key:?}");
        }
        for (filter, index) in [
            (Filter { address: Some(AddressKey([7; 16])), ..Filter::default() }, "job_address_part (address_part=?"),
            (
                Filter { recipient: Some(RecipientKey([7; 16])), ..Filter::default() },
                "job_recipient_part (recipient_part=?",
            ),
        ] {
            let (sql, values) = conditions(&"shop".parse().unwrap(), &filter);
            let sql =
                format!("explain query plan select id from job j where {sql} order by j.accepted_at desc limit 9");
            let mut plan = conn.prepare(&sql).unwrap();
            let plan: String = plan.query_row(params_from_iter(values), |row| row.get(3)).unwrap();
            assert!(plan.contains(index), "{plan}");
        }
    }

    #[test]
    fn the_last_job_to_an_address_is_found_before_older_ones_are_read() {
        let conn = super::super::connect(Path::new(":memory:"), 1024).unwrap();
        super::super::migrate(&conn).unwrap();
        // Each has an address of its own, and all are in one part.
        conn.execute_batch(
            "with recursive n (at) as (values (1) union all select at + 1 from n where at < 2000)
             insert into job select randomblob(16), 't', 1, 1, at, 1, 1, 1, cast(printf('%016d', at) as blob), null, null,
                                    null, null, null, x'', null from n",
        )
        .unwrap();
        let steps = |number: i64| {
            let address: [u8; 16] = format!("{number:016}").into_bytes().try_into().unwrap();
            let mut find = conn.prepare(LAST_JOB_TO).unwrap();
            assert!(find.exists(params![part(address), 2000, address]).unwrap());
            find.get_status(StatementStatus::VmStep)
        };
        let (newest, oldest) = (steps(2000), steps(1));
        assert!(newest < 100 && oldest > 2000, "{newest} steps to the newest, {oldest} to the oldest");
    }
}
