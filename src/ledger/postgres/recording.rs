//! Writes recordings: a transaction of a few COPYs.

use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::agenda;
use super::copy::{Row, copy_in};
use super::pool::Conn;
use super::rows::Micros;
use super::rules;
use super::schema::Spans;
use crate::domain::suppression::{Source, Suppression};
use crate::ledger::columns::{self, ChangeColumns, Code, FRAMES_KEPT_SECS};
use crate::ledger::{
    JobRow, LedgerError, NumberedEvent, RECEIPT_MATCH, Recording, SealedSuppression, Segment, answers,
};

/// Most events in one span; at 1 KiB for an event with its indexes, a span is not more than 64 GiB.
const SPAN_EVENTS: i64 = 1 << 26;

/// How new jobs are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Jobs {
    /// Straight into the table; one that is there already undoes the transaction.
    Unseen,
    /// Past those that are there already.
    SomeSeen,
}

/// What came of a try to write.
enum Written {
    /// All of it, in this span.
    All(i32),
    /// Nothing yet: a job is there already.
    NothingYet,
}

/// Writes a recording in one transaction.
pub(super) async fn record(conn: &Conn, spans: &Spans, recording: &Recording) -> Result<(), LedgerError> {
    let last = answers::last_seq(recording)?;
    spans.open_next(conn).await?;
    let mut written = write(conn, recording, last, Jobs::Unseen).await?;
    if matches!(written, Written::NothingYet) {
        // Rare: a publish whose confirm got lost was repeated.
        conn.batch("rollback").await?;
        written = write(conn, recording, last, Jobs::SomeSeen).await?;
    }
    match written {
        Written::All(span) => spans.came_to(span),
        Written::NothingYet => return Err(LedgerError::Refused("a job stands in its own way".into())),
    }
    Ok(())
}

/// Returns which of these frames were recorded before.
pub(super) async fn recorded(conn: &Conn, frames: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
    let sql = "select w.id from unnest($1::uuid[]) with ordinality as w (id, n) \
               where exists (select from frame f where f.id = w.id) order by w.n";
    Ok(conn.query(sql, &[&frames]).await?.iter().map(|row| row.get(0)).collect())
}

/// Returns the last number and how far the deadline sweep has come.
pub(super) async fn last_seq(conn: &Conn) -> Result<(i64, i64), LedgerError> {
    let rows = conn.query("select last_seq, swept_to from progress", &[]).await?;
    rows.first().map(|row| (row.get(0), row.get(1))).ok_or_else(|| columns::missing("progress"))
}

async fn write(conn: &Conn, recording: &Recording, last: i64, jobs: Jobs) -> Result<Written, LedgerError> {
    conn.batch("begin").await?;
    let span = take_turn(conn, recording, last).await?;
    remember_frames(conn, &recording.frames).await?;
    match insert_jobs(conn, &recording.jobs, jobs).await {
        Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => return Ok(Written::NothingYet),
        done => done?,
    }
    insert_events(conn, span, &recording.events).await?;
    put_segments(conn, &recording.segments).await?;
    park(conn, recording).await?;
    insert_replies(conn, recording).await?;
    suppress(conn, recording).await?;
    rules::add(conn, &recording.ruled).await?;
    agenda::put_within(conn, &recording.entries).await?;
    add_counts(conn, recording).await?;
    conn.batch("commit").await?;
    Ok(Written::All(span))
}

/// Lets the recorder through that has seen everything before, and returns the span that its events go to: the same as
/// before, or the next one after a day or [`SPAN_EVENTS`].
async fn take_turn(conn: &Conn, recording: &Recording, last: i64) -> Result<i32, LedgerError> {
    let sql = "with turn as (
          select at_max, coalesce(span_at > '-infinity'
            and (last_seq - span_first_seq >= $5 or $4 >= span_at + interval '1 day'), false) as over
          from progress where last_seq = $1 for update
        ), now as (
          update progress p set
            last_seq = $2,
            swept_to = coalesce($3, swept_to),
            at_max = greatest(p.at_max, $4),
            span = span + turn.over::integer,
            span_at = case when turn.over then greatest(p.at_max, $4)
                           when span_at = '-infinity' then coalesce($4, span_at) else span_at end,
            span_first_seq = case when turn.over then $1 + 1 else span_first_seq end
          from turn returning p.span, turn.over, turn.at_max as at_before
        ), opened as (
          insert into event_span select span, $1 + 1, at_before from now where over
        )
        select span from now";
    let newest = recording.events.iter().map(|event| Micros(event.event.at)).max_by_key(|at| at.0);
    let rows = conn.query(sql, &[&recording.after, &last, &recording.swept_to, &newest, &SPAN_EVENTS]).await?;
    rows.first().map(|row| row.get(0)).ok_or(LedgerError::Overtaken)
}

async fn remember_frames(conn: &Conn, frames: &[Uuid]) -> Result<(), LedgerError> {
    if frames.is_empty() {
        return Ok(());
    }
    let insert = "insert into frame select id, now() from unnest($1::uuid[]) as id on conflict do nothing";
    if conn.execute(insert, &[&frames]).await? != frames.len() as u64 {
        return Err(LedgerError::Overtaken);
    }
    // Twice as many are forgotten as are added, so that the old ones never pile up.
    let forget = "delete from frame where id = any (array(
        select id from frame where at < now() - $1 * interval '1 second' order by at limit $2))";
    let most = frames.len() as i64 * 2;
    conn.execute(forget, &[&(FRAMES_KEPT_SECS as f64), &most]).await?;
    Ok(())
}

async fn insert_jobs(conn: &Conn, jobs: &[JobRow], how: Jobs) -> Result<(), tokio_postgres::Error> {
    const COLUMNS: &str = "(id, accepted_at, due_at, expires_at, address, recipient, batch, campaign, run, cancel_key, \
                           kind, class, immediate, tenant, sealed, fallback_after)";
    let write = |job: &JobRow, row: &mut Row<'_>| {
        row.uuid(job.id.0).time(job.accepted_at).time(job.due_at).time(job.expires_at).key(job.address.0);
        row.maybe(job.recipient, |row, key| row.key(key.0)).maybe(job.batch, |row, batch| row.uuid(batch));
        row.maybe(job.campaign, |row, key| row.key(key.0)).maybe(job.run, |row, key| row.key(key.0));
        row.maybe(job.cancel_key, |row, key| row.key(key.0));
        row.small(job.kind.code())
            .small(job.class.code())
            .flag(columns::immediate(job))
            .text(job.tenant.as_str())
            .bytes(&job.sealed)
            .maybe(job.fallback_after.map(columns::micros), Row::big);
    };
    match how {
        Jobs::Unseen => copy_in(conn, &format!("job {COLUMNS}"), 16, jobs, write).await,
        Jobs::SomeSeen => {
            conn.batch("create temporary table if not exists job_in (like job) on commit delete rows").await?;
            copy_in(conn, &format!("job_in {COLUMNS}"), 16, jobs, write).await?;
            conn.execute("insert into job select * from job_in on conflict do nothing", &[]).await?;
            Ok(())
        }
    }
}

async fn insert_events(conn: &Conn, span: i32, events: &[NumberedEvent]) -> Result<(), LedgerError> {
    let target = "event (seq, at, until, job, span, attempt, kind, class, what, state, fate, receipt_expected, tenant, \
                  reason, provider, message_ids, cost)";
    let write = |NumberedEvent { seq, event }: &NumberedEvent, row: &mut Row<'_>| {
        let change = ChangeColumns::of(event);
        row.big(*seq).time(event.at).maybe(change.until, |row, until| row.time(until)).uuid(event.job.0).int(span);
        row.int(event.attempt.into()).small(event.kind.code()).small(event.class.code()).small(change.what.code());
        row.small(change.state.code()).maybe(change.fate, |row, fate| row.small(fate.code()));
        row.maybe(change.receipt_expected, |row, expected| row.flag(expected)).text(event.tenant.as_str());
        row.maybe(change.reason, |row, reason| row.text(reason));
        row.maybe(change.provider, |row, provider| row.text(provider)).texts(change.message_ids);
        row.maybe(change.cost, |row, cost| row.text(&cost.to_string()));
    };
    Ok(copy_in(conn, target, 17, events, write).await?)
}

async fn insert_replies(conn: &Conn, recording: &Recording) -> Result<(), LedgerError> {
    let target = "reply (seq, at, in_reply_to, tenant, sealed, signal)";
    copy_in(conn, target, 6, &recording.replies, |reply, row| {
        row.big(reply.seq).time(reply.at).maybe(reply.in_reply_to, |row, job| row.uuid(job.0));
        row.maybe(reply.tenant.as_ref(), |row, tenant| row.text(tenant.as_str())).bytes(&reply.sealed);
        row.maybe(reply.signal, |row, signal| row.uuid(signal));
    })
    .await?;
    Ok(())
}

async fn put_segments(conn: &Conn, segments: &[Segment]) -> Result<(), LedgerError> {
    if segments.is_empty() {
        return Ok(());
    }
    // One statement touches a row once: of several the last counts.
    let mut seen = std::collections::HashSet::with_capacity(segments.len());
    let mut last: Vec<&Segment> =
        segments.iter().rev().filter(|segment| seen.insert((&segment.provider, &*segment.message_id))).collect();
    last.reverse();
    let sql = "insert into segment (provider, message_id, job, attempt, part, parts, fate, at) \
               select * from unnest($1::text[], $2::text[], $3::uuid[], $4::integer[], $5::smallint[], $6::smallint[], \
               $7::smallint[], $8::timestamptz[]) \
               on conflict (provider, message_id) do update set job = excluded.job, attempt = excluded.attempt, \
               part = excluded.part, parts = excluded.parts, fate = excluded.fate, at = excluded.at";
    conn.execute(
        sql,
        &[
            &column(&last, |segment| segment.provider.as_str()),
            &column(&last, |segment| &*segment.message_id),
            &column(&last, |segment| segment.job.0),
            &column(&last, |segment| i32::from(segment.attempt)),
            &column(&last, |segment| i16::from(segment.index)),
            &column(&last, |segment| i16::from(segment.of)),
            &column(&last, |segment| segment.fate.map(Code::code)),
            &column(&last, |segment| Micros(segment.at)),
        ],
    )
    .await?;
    Ok(())
}

async fn park(conn: &Conn, recording: &Recording) -> Result<(), LedgerError> {
    let target = "parked (at, job, report, detail, provider, message_id, code)";
    copy_in(conn, target, 7, &recording.parked, |receipt, row| {
        let (report, detail) = columns::report_columns(receipt.report);
        row.time(receipt.at).maybe(receipt.job, |row, job| row.uuid(job.0)).small(report);
        row.maybe(detail, |row, detail| row.small(detail)).text(receipt.provider.as_str());
        row.text(&receipt.message_id).text(&receipt.code);
    })
    .await?;
    if !recording.unparked.is_empty() {
        let sql = "delete from parked p using unnest($1::text[], $2::text[]) as w (provider, message_id) \
                   where p.provider = w.provider and p.message_id = w.message_id";
        let providers = column(&recording.unparked, |(provider, _)| provider.as_str());
        let message_ids = column(&recording.unparked, |(_, message_id)| &**message_id);
        conn.execute(sql, &[&providers, &message_ids]).await?;
    }
    if let Some(newest) = recording.parked.iter().map(|receipt| receipt.at).max() {
        // A receipt that found no job for so long never will.
        conn.execute("delete from parked where at < $1", &[&Micros(newest.minus(RECEIPT_MATCH))]).await?;
    }
    Ok(())
}

async fn suppress(conn: &Conn, recording: &Recording) -> Result<(), LedgerError> {
    let put = "insert into suppression (tenant, address, scope, word, kind, source, at, sealed) \
               select * from unnest($1::text[], $2::uuid[], $3::smallint[], $4::bytea[], $5::smallint[], $6::smallint[], \
               $7::timestamptz[], $8::bytea[]) \
               on conflict (tenant, address, scope, word, kind, source) do update \
               set at = greatest(suppression.at, excluded.at), sealed = excluded.sealed";
    let rows = latest(&recording.suppressed);
    if !rows.is_empty() {
        conn.execute(
            put,
            &[
                &column(&rows, |row| row.suppression.tenant.as_str()),
                &column(&rows, |row| Uuid::from_bytes(row.suppression.address.0)),
                &column(&rows, |row| columns::scope_columns(&row.suppression.scope).0),
                &column(&rows, |row| columns::scope_columns(&row.suppression.scope).1),
                &column(&rows, |row| columns::bound_kind_column(row.suppression.kind)),
                &column(&rows, |row| row.suppression.source.code()),
                &column(&rows, |row| Micros(row.suppression.at)),
                &column(&rows, |row| &row.sealed[..]),
            ],
        )
        .await?;
    }
    // An opt-out that came after it was taken back stands, whatever the order they are recorded in. What binds every
    // tenant any operator takes back.
    let delete = "delete from suppression where scope = $3 and (tenant = $1 or scope = 6) and address = $2 and word = $4 \
                  and kind = $5 and (source = $6 or $6 = $7) and at <= $8";
    for (suppression, source) in &recording.unsuppressed {
        let (sort, word) = columns::scope_columns(&suppression.scope);
        let (tenant, address) = (suppression.tenant.as_str(), Uuid::from_bytes(suppression.address.0));
        let kind = columns::bound_kind_column(suppression.kind);
        let (source, every, at) = (source.code(), Source::Api.code(), Micros(suppression.at));
        conn.execute(delete, &[&tenant, &address, &sort, &word, &kind, &source, &every, &at]).await?;
    }
    Ok(())
}

/// Returns each opt-out once, as of its latest time: one statement touches a row once.
fn latest(suppressed: &[SealedSuppression]) -> Vec<&SealedSuppression> {
    let mut rows = std::collections::HashMap::with_capacity(suppressed.len());
    for row in suppressed {
        let Suppression { tenant, address, scope, kind, source, at } = &row.suppression;
        let slot = rows.entry((tenant, address, scope, kind, source)).or_insert(row);
        if *at >= slot.suppression.at {
            *slot = row;
        }
    }
    rows.into_values().collect()
}

async fn add_counts(conn: &Conn, recording: &Recording) -> Result<(), LedgerError> {
    let counts = &recording.counts;
    if counts.is_empty() {
        return Ok(());
    }
    let sql = "insert into count select tenant, hour, kind, class, what, reason, sum(jobs) \
               from unnest($1::text[], $2::timestamptz[], $3::smallint[], $4::smallint[], $5::text[], $6::text[], \
               $7::bigint[]) as c (tenant, hour, kind, class, what, reason, jobs) \
               group by tenant, hour, kind, class, what, reason \
               on conflict (tenant, hour, kind, class, what, reason) do update set jobs = count.jobs + excluded.jobs";
    conn.execute(
        sql,
        &[
            &column(counts, |count| count.tenant.as_str()),
            &column(counts, |count| Micros(count.hour)),
            &column(counts, |count| count.kind.code()),
            &column(counts, |count| count.class.code()),
            &column(counts, |count| &*count.what),
            &column(counts, |count| &*count.reason),
            &column(counts, |count| count.jobs),
        ],
    )
    .await?;
    Ok(())
}

/// Returns one column of many rows, as a statement takes them.
pub(super) fn column<'a, T, C>(rows: &'a [T], of: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}
