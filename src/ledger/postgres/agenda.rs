//! The agenda: what waits for its time or its turn.

use tokio_postgres::Row;
use uuid::Uuid;

use super::pool::Conn;
use super::recording::column;
use super::rows::{self, ENTRY, Micros};
use super::shards::SHARD;
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code};
use crate::ledger::{AgendaDepth, Entry, Group, LedgerError, Release, Shards, Sort, turns};

/// The groups of entries (tenant, lane, sort, sender) that wait, each found by a single probe after the one before.
const GROUPS: &str = "recursive groups as (
    (select a.tenant, a.class, a.pool, a.sort, a.sender, a.turn from agenda a where a.releasing_since is null
     order by a.tenant, a.class, a.pool, a.sort, a.sender, a.turn limit 1)
    union all
    select n.* from groups g cross join lateral (
      select a.tenant, a.class, a.pool, a.sort, a.sender, a.turn from agenda a
      where a.releasing_since is null
        and (a.tenant, a.class, a.pool, a.sort, a.sender) > (g.tenant, g.class, g.pool, g.sort, g.sender)
      order by a.tenant, a.class, a.pool, a.sort, a.sender, a.turn limit 1) n
  )";

/// Adds to the depth what a statement before says as `more (entries, jobs)`.
const ADD: &str = "update agenda_sum s set entries = s.entries + more.entries, jobs = s.jobs + more.jobs \
                   from more where s.slot = pg_backend_pid() % 16 and (more.entries <> 0 or more.jobs <> 0)";

// === Entries ===

/// Inserts entries, and moves timers that are there.
pub(super) async fn put(conn: &Conn, entries: &[Entry]) -> Result<(), LedgerError> {
    if !entries.iter().any(|entry| entry.tag.sort() == Sort::Timer) {
        return put_within(conn, entries).await;
    }
    conn.batch("begin").await?;
    put_within(conn, entries).await?;
    Ok(conn.batch("commit").await?)
}

/// The same within a transaction; without timers it needs none.
pub(super) async fn put_within(conn: &Conn, entries: &[Entry]) -> Result<(), LedgerError> {
    let entries = turns::distinct(entries);
    if entries.is_empty() {
        return Ok(());
    }
    if !entries.iter().any(|entry| entry.tag.sort() == Sort::Timer) {
        return insert(conn, &entries).await;
    }
    let sql = format!(
        "with gone as (delete from agenda where id = any (array(
             select a.id from unnest($1::text[], $2::text[], $3::text[]) as w (kind, owner, key) cross join lateral (
               select id from agenda where sort = 3 and timer_kind = w.kind and timer_owner = w.owner
                 and timer_key = w.key offset 0) a))
           returning jobs),
         more as (select -count(*) as entries, -coalesce(sum(jobs), 0) as jobs from gone) {ADD}"
    );
    let timers: Vec<[&str; 3]> = entries.iter().filter_map(|entry| turns::tag_columns(&entry.tag).1).collect();
    let [kinds, owners, keys] = [0, 1, 2].map(|part| column(&timers, |timer| timer[part]));
    conn.execute(&sql, &[&kinds, &owners, &keys]).await?;
    insert(conn, &entries).await
}

async fn insert(conn: &Conn, entries: &[&Entry]) -> Result<(), LedgerError> {
    let sql = format!(
        "with new as (
           insert into agenda (id, due_at, first_due, releasing_since, jobs, turn, sender, class, sort, tenant, pool,
                               timer_kind, timer_owner, timer_key, payload, accepted_at)
           select id, due_at, due_at, releasing_since, jobs, turn, sender, class, sort, tenant, pool, timer_kind,
                  timer_owner, timer_key, payload, accepted_at
           from unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::bigint[], $6::bigint[],
                       $7::smallint[], $8::smallint[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[],
                       $14::bytea[], $15::timestamptz[])
             as w (id, due_at, releasing_since, jobs, turn, sender, class, sort, tenant, pool, timer_kind, timer_owner,
                   timer_key, payload, accepted_at)
           on conflict do nothing returning jobs),
         more as (select count(*) as entries, coalesce(sum(jobs), 0) as jobs from new) {ADD}"
    );
    let timer = |part: usize| column(entries, move |entry| turns::tag_columns(&entry.tag).1.map(|timer| timer[part]));
    conn.execute(
        &sql,
        &[
            &column(entries, |entry| entry.id),
            &column(entries, |entry| Micros(entry.due_at)),
            &column(entries, |entry| entry.releasing_since.map(Micros)),
            &column(entries, |entry| i64::from(entry.jobs)),
            &column(entries, |entry| turns::turn(entry.due_at, entry.priority)),
            &column(entries, |entry| i64::from(entry.sender)),
            &column(entries, |entry| entry.lane.class.code()),
            &column(entries, |entry| turns::tag_columns(&entry.tag).0.code()),
            &column(entries, |entry| entry.tenant.as_str()),
            &column(entries, |entry| entry.lane.pool.as_str()),
            &timer(0),
            &timer(1),
            &timer(2),
            &column(entries, |entry| &entry.payload[..]),
            &column(entries, |entry| entry.accepted_at.map(Micros)),
        ],
    )
    .await?;
    Ok(())
}

/// Returns every group of entries of these shards that wait.
pub(super) async fn groups(conn: &Conn, shards: Shards) -> Result<Vec<Group>, LedgerError> {
    let sql = format!(
        "with {GROUPS} select tenant, class, pool, sort, sender, turn from groups where ($1 >> {SHARD}) & 1 = 1"
    );
    let read = |row: &Row| {
        Ok(Group {
            tenant: rows::tenant(row, 0)?,
            lane: columns::lane(rows::get(row, 1)?, rows::get(row, 2)?)?,
            sort: Sort::from_code(rows::get(row, 3)?)?,
            sender: u32::try_from(rows::get::<i64>(row, 4)?).map_err(|_| columns::missing("sender"))?,
            first_due: turns::second(rows::get(row, 5)?),
        })
    };
    conn.query(&sql, &[&i32::from(shards.bits())]).await?.iter().map(read).collect()
}

/// Returns due entries of some groups. Of what is due in this very second, some may have to be passed over.
pub(super) async fn due(conn: &Conn, groups: &[(Group, u32)], due_to: UnixMicros) -> Result<Vec<Entry>, LedgerError> {
    let sql = format!(
        "select {ENTRY} from unnest($1::text[], $2::smallint[], $3::text[], $4::smallint[], $5::bigint[],
             $6::bigint[])
           with ordinality as g (tenant, class, pool, sort, sender, most, number) cross join lateral (
             select * from agenda a
             where a.releasing_since is null and a.tenant = g.tenant collate \"C\" and a.class = g.class
               and a.pool = g.pool collate \"C\" and a.sort = g.sort and a.sender = g.sender and a.turn < $7
               and a.due_at <= $8
             order by a.turn, a.due_at, a.id limit g.most) a
         order by g.number, a.turn, a.due_at, a.id"
    );
    let found = conn
        .query(
            &sql,
            &[
                &column(groups, |(group, _)| group.tenant.as_str()),
                &column(groups, |(group, _)| group.lane.class.code()),
                &column(groups, |(group, _)| group.lane.pool.as_str()),
                &column(groups, |(group, _)| group.sort.code()),
                &column(groups, |(group, _)| i64::from(group.sender)),
                &column(groups, |(_, most)| i64::from(*most)),
                &turns::turns_to(due_to),
                &Micros(due_to),
            ],
        )
        .await?;
    found.iter().map(rows::entry).collect()
}

/// Marks entries as releasing.
pub(super) async fn releasing(conn: &Conn, ids: &[Uuid], at: UnixMicros) -> Result<(), LedgerError> {
    conn.execute("update agenda set releasing_since = $2 where id = any ($1)", &[&ids, &Micros(at)]).await?;
    Ok(())
}

/// Ends the release of entries.
pub(super) async fn released(conn: &Conn, releases: &[Release]) -> Result<(), LedgerError> {
    let mut done: Vec<Uuid> = vec![];
    let mut left = vec![];
    for release in releases {
        match release {
            Release::Done(id) => done.push(*id),
            Release::Left { id, payload, jobs, due_at, sender } => {
                left.push((*id, &payload[..], *jobs, *due_at, *sender))
            }
        }
    }
    conn.batch("begin").await?;
    if !left.is_empty() {
        let sql = format!(
            "with kept as (
               update agenda a set payload = w.payload, jobs = w.jobs, due_at = w.due_at, releasing_since = null,
                 turn = w.second | (a.turn & 255), sender = w.sender
               from unnest($1::uuid[], $2::bytea[], $3::bigint[], $4::timestamptz[], $5::bigint[], $6::bigint[])
                 as w (id, payload, jobs, due_at, second, sender) join agenda b on b.id = w.id
               where a.id = w.id returning w.jobs - b.jobs as jobs),
             more as (select 0 as entries, coalesce(sum(jobs), 0) as jobs from kept) {ADD}"
        );
        let (ids, payloads) = (column(&left, |left| left.0), column(&left, |left| left.1));
        let (jobs, due_at) = (column(&left, |left| i64::from(left.2)), column(&left, |left| Micros(left.3)));
        let (seconds, senders) =
            (column(&left, |left| turns::turn(left.3, 100)), column(&left, |left| i64::from(left.4)));
        conn.execute(&sql, &[&ids, &payloads, &jobs, &due_at, &seconds, &senders]).await?;
    }
    if !done.is_empty() {
        let sql = format!(
            "with gone as (delete from agenda where id = any ($1) returning jobs),
             more as (select -count(*) as entries, -coalesce(sum(jobs), 0) as jobs from gone) {ADD}"
        );
        conn.execute(&sql, &[&done]).await?;
    }
    Ok(conn.batch("commit").await?)
}

/// Returns entries of these shards that were releasing when their feeder died.
pub(super) async fn left_releasing(conn: &Conn, shards: Shards, most: u32) -> Result<Vec<Entry>, LedgerError> {
    let sql = format!(
        "select {ENTRY} from agenda a where a.releasing_since is not null and ($2 >> {SHARD}) & 1 = 1 \
         order by a.releasing_since, a.id limit $1"
    );
    conn.query(&sql, &[&i64::from(most), &i32::from(shards.bits())]).await?.iter().map(rows::entry).collect()
}

/// Returns how the agenda stands, without reading it.
pub(super) async fn depth(conn: &Conn) -> Result<AgendaDepth, LedgerError> {
    let sql = format!(
        "with {GROUPS} select sum(entries)::bigint, sum(jobs)::bigint, (select min(turn) from groups) from agenda_sum"
    );
    let rows = conn.query(&sql, &[]).await?;
    let row = rows.first().ok_or_else(|| columns::missing("depth"))?;
    Ok(AgendaDepth {
        entries: columns::unsigned(rows::get(row, 0)?),
        jobs: columns::unsigned(rows::get(row, 1)?),
        oldest_due: rows::get::<Option<i64>>(row, 2)?.map(turns::second),
    })
}
