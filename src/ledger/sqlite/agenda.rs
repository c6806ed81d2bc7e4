//! The agenda: what waits for its time or its turn.

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::rows::{self, ENTRY};
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code};
use crate::ledger::{AgendaDepth, Entry, LedgerError, Release};

const FIRST_GROUP: &str = "select tenant, class, pool, sort from agenda where releasing_since is null \
                           order by tenant, class, pool, sort limit 1";
const NEXT_GROUP: &str = "select tenant, class, pool, sort from agenda where releasing_since is null \
                          and (tenant, class, pool, sort) > (?1, ?2, ?3, ?4) \
                          order by tenant, class, pool, sort limit 1";

/// Entries of one tenant, lane and sort; they are read in turn.
struct Group {
    tenant: String,
    class: i16,
    pool: String,
    sort: i16,
}

/// Inserts entries, and moves timers that are there.
pub(super) fn put(tx: &Transaction<'_>, entries: &[Entry]) -> Result<(), LedgerError> {
    let mut old_timer = tx.prepare_cached(
        "delete from agenda where sort = 3 and timer_kind = ?1 and timer_owner = ?2 and timer_key = ?3 returning jobs",
    )?;
    let mut insert = tx.prepare_cached(
        "insert or ignore into agenda values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?10, ?11, ?12)",
    )?;
    let (mut more, mut more_jobs) = (0_i64, 0_i64);
    for entry in columns::distinct(entries) {
        let (sort, timer) = columns::tag_columns(&entry.tag);
        if let Some(timer) = timer
            && let Some(jobs) = rows::first(old_timer.query(timer)?, |row| Ok(row.get::<_, i64>(0)?))?
        {
            more -= 1;
            more_jobs -= jobs;
        }
        let [kind, owner, key] = timer.map_or([None; 3], |timer| timer.map(Some));
        let inserted = insert.execute(params![
            entry.id.as_bytes(),
            sort.code(),
            kind,
            owner,
            key,
            entry.tenant.as_str(),
            entry.lane.class.code(),
            entry.lane.pool.as_str(),
            entry.due_at.0,
            entry.jobs,
            entry.releasing_since.map(|since| since.0),
            &entry.payload[..],
        ])?;
        if inserted == 1 {
            more += 1;
            more_jobs += i64::from(entry.jobs);
        }
    }
    add(tx, more, more_jobs)
}

/// Returns due entries, of each tenant, lane and sort in turn.
pub(super) fn due(
    conn: &Connection,
    due_to: UnixMicros,
    per_tenant: u32,
    most: u32,
) -> Result<Vec<Entry>, LedgerError> {
    // Payloads are read of those only that are returned.
    let mut of_group = conn.prepare_cached(
        "select due_at, id from agenda where releasing_since is null and tenant = ?1 and class = ?2 and pool = ?3 \
         and sort = ?4 and due_at <= ?5 order by due_at, id limit ?6",
    )?;
    let mut ranked: Vec<(usize, i64, [u8; 16])> = vec![];
    let mut group = next_group(conn, None)?;
    while let Some(current) = group {
        let Group { tenant, class, pool, sort } = &current;
        let mut due = of_group.query(params![tenant, class, pool, sort, due_to.0, per_tenant])?;
        let mut rank = 0;
        while let Some(row) = due.next()? {
            ranked.push((rank, row.get(0)?, row.get(1)?));
            rank += 1;
        }
        group = next_group(conn, Some(&current))?;
    }
    // The first of every group goes before the second of any.
    ranked.sort_unstable();
    ranked.truncate(most as usize);
    let mut by_id = conn.prepare_cached(&format!("select {ENTRY} from agenda where id = ?1"))?;
    let entry = |(_, _, id)| rows::first(by_id.query([id])?, rows::entry);
    ranked.into_iter().map(entry).filter_map(Result::transpose).collect()
}

/// Marks entries as releasing.
pub(super) fn releasing(tx: &Transaction<'_>, ids: &[Uuid], at: UnixMicros) -> Result<(), LedgerError> {
    let mut mark = tx.prepare_cached("update agenda set releasing_since = ?2 where id = ?1")?;
    for id in ids {
        mark.execute(params![id.as_bytes(), at.0])?;
    }
    Ok(())
}

/// Ends the release of entries.
pub(super) fn released(tx: &Transaction<'_>, releases: &[Release]) -> Result<(), LedgerError> {
    let mut delete = tx.prepare_cached("delete from agenda where id = ?1 returning jobs")?;
    let mut find = tx.prepare_cached("select jobs from agenda where id = ?1")?;
    let mut leave = tx.prepare_cached(
        "update agenda set payload = ?2, jobs = ?3, due_at = ?4, releasing_since = null where id = ?1",
    )?;
    let (mut more, mut more_jobs) = (0, 0);
    for release in releases {
        match release {
            Release::Done(id) => {
                if let Some(jobs) = rows::first(delete.query([id.as_bytes()])?, |row| Ok(row.get::<_, i64>(0)?))? {
                    more -= 1;
                    more_jobs -= jobs;
                }
            }
            Release::Left { id, payload, jobs, due_at } => {
                if let Some(before) = rows::first(find.query([id.as_bytes()])?, |row| Ok(row.get::<_, i64>(0)?))? {
                    leave.execute(params![id.as_bytes(), &payload[..], jobs, due_at.0])?;
                    more_jobs += i64::from(*jobs) - before;
                }
            }
        }
    }
    add(tx, more, more_jobs)
}

/// Returns entries that were releasing when a feeder died.
pub(super) fn left_releasing(conn: &Connection, most: u32) -> Result<Vec<Entry>, LedgerError> {
    let sql =
        format!("select {ENTRY} from agenda where releasing_since is not null order by releasing_since, id limit ?1");
    rows::all(conn.prepare_cached(&sql)?.query([most])?, rows::entry)
}

/// Returns how the agenda stands, without reading it.
pub(super) fn depth(conn: &Connection) -> Result<AgendaDepth, LedgerError> {
    let (entries, jobs) = conn
        .prepare_cached("select entries, jobs from agenda_sum")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut first_due = conn.prepare_cached(
        "select min(due_at) from agenda where releasing_since is null and tenant = ?1 and class = ?2 and pool = ?3 \
         and sort = ?4",
    )?;
    let mut oldest_due = None;
    let mut group = next_group(conn, None)?;
    while let Some(current) = group {
        let Group { tenant, class, pool, sort } = &current;
        let due: Option<i64> = first_due.query_row(params![tenant, class, pool, sort], |row| row.get(0))?;
        oldest_due = oldest_due.into_iter().chain(due).min();
        group = next_group(conn, Some(&current))?;
    }
    Ok(AgendaDepth {
        entries: columns::unsigned(entries),
        jobs: columns::unsigned(jobs),
        oldest_due: oldest_due.map(UnixMicros),
    })
}

/// Returns the group after another one by a single probe of the index.
fn next_group(conn: &Connection, after: Option<&Group>) -> Result<Option<Group>, LedgerError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Group { tenant: row.get(0)?, class: row.get(1)?, pool: row.get(2)?, sort: row.get(3)? })
    };
    match after {
        None => rows::first(conn.prepare_cached(FIRST_GROUP)?.query([])?, read),
        Some(Group { tenant, class, pool, sort }) => {
            rows::first(conn.prepare_cached(NEXT_GROUP)?.query(params![tenant, class, pool, sort])?, read)
        }
    }
}

fn add(tx: &Transaction<'_>, entries: i64, jobs: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("update agenda_sum set entries = entries + ?1, jobs = jobs + ?2")?.execute([entries, jobs])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_group_is_one_probe_away() {
        let conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(include_str!("schema.sql")).unwrap();
        let mut plan = conn.prepare(&format!("explain query plan {NEXT_GROUP}")).unwrap();
        let plan: Vec<String> =
            plan.query_map(params!["", 0, "", 0], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        // All four columns bound the search; with fewer, it would walk through a group's backlog.
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(plan[0].contains("agenda_due ((tenant,class,pool,sort)>(?,?,?,?))"), "{plan:?}");
    }
}
