//! Reads jobs, events, segments, receipts and replies.

use std::fmt::Write as _;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::pool::Conn;
use super::recording::{column, last_seq};
use super::rows::{self, EVENT, JOB, Micros, SEGMENT, get};
use crate::domain::event::Receipt;
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::AddressKey;
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code, IMMEDIATE};
use crate::ledger::{
    Filter, History, JobRow, LedgerError, NumberedEvent, RECEIPT_MATCH, SealedReply, Segment, Sent, Trail, answers,
};

/// The first span that can hold an event of a job `j`: none from before its acceptance, give or take the clocks. Of a
/// job without a row, any. The `offset 0` here and below keeps the planner from taking a probe apart: only a value
/// that is there beforehand spares the spans before it.
pub(super) const FIRST_SPAN: &str = "(select coalesce((select s.span from event_span s
    where s.at_before < j.accepted_at - interval '1 h' order by s.span desc limit 1), 0) as span offset 0)";

/// Returns the trails of jobs.
pub(super) async fn trails(conn: &Conn, jobs: &[JobId]) -> Result<Vec<Option<Trail>>, LedgerError> {
    let sql = format!(
        "select w.n, j.tenant, j.kind, j.class, j.fallback_after, {EVENT} from unnest($1::uuid[]) with ordinality as w (id, n) \
         left join lateral (select tenant, kind, class, fallback_after, accepted_at from job where id = w.id offset 0) j on true \
         cross join lateral {FIRST_SPAN} f \
         left join lateral (select * from event where job = w.id and span >= f.span offset 0) e on true \
         order by w.n, e.seq"
    );
    let found = conn.query(&sql, &[&column(jobs, |job| job.0)]).await?;
    let mut trails: Vec<Option<Trail>> = vec![None; jobs.len()];
    for row in &found {
        let n = usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(0);
        let event = get::<Option<i64>>(row, 5)?.map(|_| rows::event(row, 5)).transpose()?;
        if let Some(trail) = &mut trails[n] {
            trail.events.extend(event);
            continue;
        }
        trails[n] = match get::<Option<i16>>(row, 2)? {
            None => Trail::of(event.into_iter().collect()),
            Some(kind) => Some(Trail {
                tenant: rows::tenant(row, 1)?,
                kind: Kind::from_code(kind)?,
                class: Class::from_code(get(row, 3)?)?,
                accepted: true,
                fallback_after: get::<Option<i64>>(row, 4)?.map(columns::length),
                events: event.into_iter().collect(),
            }),
        };
    }
    Ok(trails)
}

/// Returns the sealed rows of jobs.
pub(super) async fn sealed(conn: &Conn, jobs: &[JobId]) -> Result<Vec<Option<Bytes>>, LedgerError> {
    let sql = "select w.n, j.sealed from unnest($1::uuid[]) with ordinality as w (id, n) join job j on j.id = w.id";
    let mut found = vec![None; jobs.len()];
    for row in conn.query(sql, &[&column(jobs, |job| job.0)]).await? {
        found[usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(0)] = Some(rows::sealed(&row, 1)?);
    }
    Ok(found)
}

/// Returns the newest segments by provider and message id.
pub(super) async fn segments(
    conn: &Conn,
    now: UnixMicros,
    ids: &[(ProviderId, Box<str>)],
) -> Result<Vec<Option<Segment>>, LedgerError> {
    let sql = format!(
        "select w.n, {SEGMENT} from unnest($1::text[], $2::text[]) with ordinality as w (provider, message_id, n) \
         join segment s on s.provider = w.provider and s.message_id = w.message_id and s.at >= $3"
    );
    let (providers, message_ids) = messages(ids);
    let mut segments = vec![None; ids.len()];
    for row in conn.query(&sql, &[&providers, &message_ids, &Micros(now.minus(RECEIPT_MATCH))]).await? {
        segments[usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(0)] = Some(rows::segment(&row, 1)?);
    }
    Ok(segments)
}

/// Returns all segments of jobs.
pub(super) async fn segments_of(conn: &Conn, jobs: &[JobId]) -> Result<Vec<Segment>, LedgerError> {
    let sql = format!(
        "select {SEGMENT} from unnest($1::uuid[]) with ordinality as w (id, n) join segment s on s.job = w.id \
         order by w.n, s.attempt, s.part, s.provider, s.message_id"
    );
    conn.query(&sql, &[&column(jobs, |job| job.0)]).await?.iter().map(|row| rows::segment(row, 0)).collect()
}

/// Returns for each head the segments whose message ids are that head, `:` and something.
pub(super) async fn segments_under(
    conn: &Conn,
    now: UnixMicros,
    (provider, heads): (&ProviderId, &[Box<str>]),
) -> Result<Vec<Vec<Segment>>, LedgerError> {
    // `;` is what follows `:`.
    let sql = format!(
        "select w.n, {SEGMENT} from unnest($2::text[]) with ordinality as w (head, n) \
         join segment s on s.provider = $1 and s.message_id > w.head || ':' and s.message_id < w.head || ';' and s.at >= $3 \
         order by w.n, s.message_id"
    );
    let heads: Vec<&str> = heads.iter().map(|head| &**head).collect();
    let mut segments = vec![vec![]; heads.len()];
    for row in conn.query(&sql, &[&provider.as_str(), &heads, &Micros(now.minus(RECEIPT_MATCH))]).await? {
        segments[usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or(0)].push(rows::segment(&row, 1)?);
    }
    Ok(segments)
}

/// Returns receipts that wait for these messages.
pub(super) async fn parked(conn: &Conn, ids: &[(ProviderId, Box<str>)]) -> Result<Vec<Receipt>, LedgerError> {
    let sql = "select p.provider, p.message_id, p.job, p.report, p.detail, p.code, p.at \
               from unnest($1::text[], $2::text[]) with ordinality as w (provider, message_id, n) \
               join parked p on p.provider = w.provider and p.message_id = w.message_id order by w.n, p.at, p.id";
    let (providers, message_ids) = messages(ids);
    let read = |row: &Row| {
        Ok(Receipt {
            provider: columns::name(get(row, 0)?)?,
            message_id: get(row, 1)?,
            job: get::<Option<Uuid>>(row, 2)?.map(JobId),
            report: columns::report(get(row, 3)?, get(row, 4)?)?,
            code: get(row, 5)?,
            at: rows::time(row, 6)?,
        })
    };
    conn.query(sql, &[&providers, &message_ids]).await?.iter().map(read).collect()
}

/// Returns the last job accepted for an address up to `at`.
pub(super) async fn last_job_to(
    conn: &Conn,
    address: AddressKey,
    at: UnixMicros,
) -> Result<Option<(TenantId, JobId)>, LedgerError> {
    let sql = "select tenant, id from job where address = $1 and accepted_at <= $2 \
               order by accepted_at desc, id desc limit 1";
    let rows = conn.query(sql, &[&Uuid::from_bytes(address.0), &Micros(at)]).await?;
    rows.first().map(|row| Ok((rows::tenant(row, 0)?, JobId(get(row, 1)?)))).transpose()
}

/// Returns strays: scheduled jobs by their due time; immediate ones tenant by tenant, by when they were accepted.
pub(super) async fn strays(
    conn: &Conn,
    due_from: UnixMicros,
    due_to: UnixMicros,
    most: u32,
) -> Result<Vec<JobRow>, LedgerError> {
    let sql = format!(
        "with recursive owner (tenant) as (
           (select tenant from job order by tenant limit 1)
           union all
           select n.tenant from owner cross join lateral (
             select j.tenant from job j where j.tenant > owner.tenant order by j.tenant limit 1) n
         ), due (id) as (
           select id from job where due_at >= $1 and due_at < $2 and not immediate
           union all
           select n.id from owner cross join lateral (
             select j.id from job j
             where j.tenant = owner.tenant and j.accepted_at >= $4 and j.accepted_at < $5
               and j.due_at >= $1 and j.due_at < $2 and j.immediate offset 0) n
         )
         select {JOB} from due cross join lateral (select * from job where id = due.id offset 0) j
         cross join lateral {FIRST_SPAN} f
         where not exists (select from event e where e.job = j.id and e.span >= f.span offset 0)
           and not exists (select from agenda a
                           where a.tenant = j.tenant and a.class = j.class and a.first_due < $2 and a.sort <> 3)
         order by j.due_at, j.id limit $3"
    );
    let (accepted_from, accepted_to) = (Micros(due_from.minus(IMMEDIATE)), Micros(due_to.plus(IMMEDIATE)));
    let most = i64::from(most);
    let found = conn.query(&sql, &[&Micros(due_from), &Micros(due_to), &most, &accepted_from, &accepted_to]).await?;
    found.iter().map(|row| rows::job(row, 0)).collect()
}

/// Returns a job of a tenant with its events.
pub(super) async fn job(conn: &Conn, tenant: &TenantId, job: JobId) -> Result<Option<History>, LedgerError> {
    let found = conn.query(&format!("select {JOB} from job j where j.id = $1"), &[&job.0]).await?;
    let row = found.first().map(|row| rows::job(row, 0)).transpose()?;
    let events = trails(conn, &[job]).await?.pop().flatten().map(|trail| trail.events).unwrap_or_default();
    Ok(History { row, events }.of(tenant))
}

/// Returns a tenant's jobs that match, newest accepted first.
pub(super) async fn jobs(
    conn: &Conn,
    tenant: &TenantId,
    filter: &Filter,
    page: Option<(UnixMicros, JobId)>,
    most: u32,
) -> Result<Vec<History>, LedgerError> {
    let (matching, mut values) = conditions(tenant, filter);
    let mut sql = format!("select {JOB} from job j where {matching}");
    if let Some((accepted_at, id)) = page {
        values.push((Box::new(Micros(accepted_at)), Type::TIMESTAMPTZ));
        values.push((Box::new(id.0), Type::UUID));
        let _never = write!(sql, " and (j.accepted_at, j.id) < (${}, ${})", values.len() - 1, values.len());
    }
    // The number in place of a parameter tells the planner how few rows are wanted.
    let _never = write!(sql, " order by j.accepted_at desc, j.id desc limit {most}");
    let found = conn.client.query_typed(&sql, &typed(&values)).await?;
    let found: Vec<JobRow> = found.iter().map(|row| rows::job(row, 0)).collect::<Result<_, _>>()?;
    let trails = trails(conn, &column(&found, |row| row.id)).await?;
    let history = |(row, trail): (_, Option<Trail>)| History {
        row: Some(row),
        events: trail.map(|trail| trail.events).unwrap_or_default(),
    };
    Ok(found.into_iter().zip(trails).map(history).collect())
}

/// The value of a parameter, and its type.
type Parameter = (Box<dyn ToSql + Sync + Send>, Type);

/// Returns which jobs `j` of a tenant match, and the values of its parameters.
pub(super) fn conditions(tenant: &TenantId, filter: &Filter) -> (String, Vec<Parameter>) {
    // Any other index finds fewer rows than the tenant's; without statistics the planner would not know.
    let owner = if filter.is_selective() { "j.tenant || ''" } else { "j.tenant" };
    let mut sql = format!("{owner} = $1");
    let mut values: Vec<Parameter> = vec![(Box::new(tenant.as_str().to_owned()), Type::TEXT)];
    let mut add = |clause: &str, value: Option<Parameter>| {
        if let Some(value) = value {
            values.push(value);
            // Writing into a string cannot fail.
            let _never = write!(sql, " and {clause} ${}", values.len());
        }
    };
    let key = |key: [u8; 16]| -> Parameter { (Box::new(Uuid::from_bytes(key)), Type::UUID) };
    let time = |time| -> Parameter { (Box::new(Micros(time)), Type::TIMESTAMPTZ) };
    add("j.id =", filter.job.map(|job| key(job.0.into_bytes())));
    add("j.batch =", filter.batch.map(|batch| key(batch.into_bytes())));
    add("j.campaign =", filter.campaign.map(|word| key(word.0)));
    add("j.run =", filter.run.map(|word| key(word.0)));
    add("j.address =", filter.address.map(|address| key(address.0)));
    add("j.recipient =", filter.recipient.map(|recipient| key(recipient.0)));
    add("j.cancel_key =", filter.cancel_key.map(|word| key(word.0)));
    add("j.kind =", filter.kind.map(|kind| (Box::new(kind.code()) as _, Type::INT2)));
    add("j.class =", filter.class.map(|class| (Box::new(class.code()) as _, Type::INT2)));
    add("j.accepted_at >=", filter.from.map(time));
    add("j.accepted_at <", filter.to.map(time));
    (sql, values)
}

/// Returns parameters as the client takes them.
pub(super) fn typed(values: &[Parameter]) -> Vec<(&(dyn ToSql + Sync), Type)> {
    values.iter().map(|(value, of)| (&**value as &(dyn ToSql + Sync), of.clone())).collect()
}

/// Returns events after a number, and up to which number the answer is complete.
pub(super) async fn events(
    conn: &Conn,
    tenant: Option<&TenantId>,
    after: i64,
    most: u32,
) -> Result<(Vec<NumberedEvent>, i64), LedgerError> {
    // What is numbered up to here is there: numbers and events are committed together.
    let (last, _) = last_seq(conn).await?;
    let to = answers::watch_to(tenant, after, most, last);
    let sql = format!(
        "select {EVENT} from event e where e.seq > $1 and e.seq <= $2 and ($3::text is null or e.tenant = $3) \
         and e.span >= coalesce((select s.span from event_span s where s.first_seq <= $1 + 1 \
                                 order by s.span desc limit 1), 0) \
         and e.span <= coalesce((select s.span from event_span s where s.first_seq <= $2 \
                                 order by s.span desc limit 1), 0) \
         order by e.seq limit $4"
    );
    let found = conn.query(&sql, &[&after, &to, &tenant.map(TenantId::as_str), &i64::from(most)]).await?;
    let events = found.iter().map(|row| rows::event(row, 0)).collect::<Result<Vec<_>, _>>()?;
    let complete = answers::watch_complete(&events, most, to);
    Ok((events, complete))
}

/// Returns which of these signals were recorded before.
pub(super) async fn heard(conn: &Conn, signals: &[Uuid]) -> Result<Vec<Uuid>, LedgerError> {
    let sql = "select signal from reply where signal = any($1::uuid[])";
    Ok(conn.query(sql, &[&signals]).await?.iter().map(|row| row.get(0)).collect())
}

/// Returns replies after a number.
pub(super) async fn replies(
    conn: &Conn,
    tenant: &TenantId,
    after: i64,
    most: u32,
) -> Result<Vec<SealedReply>, LedgerError> {
    let sql =
        "select seq, in_reply_to, at, sealed, signal from reply where tenant = $1 and seq > $2 order by seq limit $3";
    let read = |row: &Row| {
        Ok(SealedReply {
            seq: get(row, 0)?,
            tenant: Some(tenant.clone()),
            in_reply_to: get::<Option<Uuid>>(row, 1)?.map(JobId),
            at: rows::time(row, 2)?,
            sealed: rows::sealed(row, 3)?,
            signal: get(row, 4)?,
        })
    };
    conn.query(sql, &[&tenant.as_str(), &after, &i64::from(most)]).await?.iter().map(read).collect()
}

fn messages(ids: &[(ProviderId, Box<str>)]) -> (Vec<&str>, Vec<&str>) {
    ids.iter().map(|(provider, message_id)| (provider.as_str(), &**message_id)).unzip()
}

/// Returns hand-overs, see [`crate::ledger::Ledger::sent_since`].
pub(super) async fn sent_since(
    conn: &Conn,
    tenants: &[TenantId],
    since: UnixMicros,
    after: i64,
    most: u32,
) -> Result<(Vec<Sent>, Option<i64>), LedgerError> {
    // No event before a span is later than its at_before: those before the last such span are all too old.
    let sql = "with beginning as (
          select coalesce(max(span), 0) as span, coalesce(max(first_seq), 0) as seq from event_span where at_before < $2
        )
        select e.seq, e.at, e.attempt, j.sealed from beginning b, event e join job j on j.id = e.job
        where e.span >= b.span and e.seq >= b.seq and e.seq > $3 and e.at >= $2 and e.tenant = any($1)
          and e.what = any($4)
        order by e.seq limit $5";
    let names: Vec<&str> = tenants.iter().map(TenantId::as_str).collect();
    let whats: Vec<i16> = columns::MAY_HAVE_REACHED.iter().map(|what| what.code()).collect();
    let found = conn.query(sql, &[&names, &Micros(since), &after, &&whats[..], &i64::from(most)]).await?;
    let read = |row: &Row| {
        Ok(Sent {
            seq: get(row, 0)?,
            at: rows::time(row, 1)?,
            attempt: columns::attempt(get(row, 2)?),
            sealed: Bytes::copy_from_slice(get(row, 3)?),
        })
    };
    let page = found.iter().map(read).collect::<Result<Vec<_>, LedgerError>>()?;
    let full = u32::try_from(page.len()).is_ok_and(|found| found == most);
    let next = page.last().filter(|_| full).map(|last| last.seq);
    Ok((page, next))
}
