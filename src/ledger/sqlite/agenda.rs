//! The agenda: what waits for its time or its turn.

use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::rows::{self, ENTRY};
use crate::domain::time::UnixMicros;
use crate::ledger::columns::{self, Code};
use crate::ledger::{AgendaDepth, Entry, Group, LedgerError, Release, Sort, turns};

const FIRST_GROUP: &str = "select tenant, class, pool, sort, sender, turn from agenda indexed by agenda_due \
                           where releasing_since is null order by tenant, class, pool, sort, sender, turn limit 1";
const NEXT_GROUP: &str = "select tenant, class, pool, sort, sender, turn from agenda indexed by agenda_due \
                          where releasing_since is null \
                          and (tenant, class, pool, sort, sender, turn) > (?1, ?2, ?3, ?4, ?5, ?6) \
                          order by tenant, class, pool, sort, sender, turn limit 1";
/// What is due of a group. Of what is due in this very second, some may have to be passed over.
const DUE: &str = "from agenda indexed by agenda_due where releasing_since is null and tenant = ?1 and class = ?2 \
                   and pool = ?3 and sort = ?4 and sender = ?5 and turn < ?6 and due_at <= ?7 \
                   order by turn, due_at, id limit ?8";

/// Inserts entries, and moves timers that are there.
pub(super) fn put(tx: &Transaction<'_>, entries: &[Entry]) -> Result<(), LedgerError> {
    let mut old_timer = tx.prepare_cached(
        "delete from agenda where sort = 3 and timer_kind = ?1 and timer_owner = ?2 and timer_key = ?3 returning jobs",
    )?;
    let mut insert = tx.prepare_cached(
        "insert or ignore into agenda values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?11, ?12, ?13, ?14, ?15)",
    )?;
    let (mut more, mut more_jobs) = (0_i64, 0_i64);
    for entry in turns::distinct(entries) {
        let (sort, timer) = turns::tag_columns(&entry.tag);
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
            entry.sender,
            turns::turn(entry.due_at, entry.priority),
            entry.due_at.0,
            entry.jobs,
            entry.releasing_since.map(|since| since.0),
            &entry.payload[..],
            entry.accepted_at.map(|at| at.0),
        ])?;
        if inserted == 1 {
            more += 1;
            more_jobs += i64::from(entry.jobs);
        }
    }
    add(tx, more, more_jobs)
}

/// Returns every group of entries that wait.
pub(super) fn groups(conn: &Connection) -> Result<Vec<Group>, LedgerError> {
    let mut groups: Vec<Group> = vec![];
    while let Some(next) = next_group(conn, groups.last())? {
        groups.push(next);
    }
    Ok(groups)
}

/// Returns due entries of some groups.
pub(super) fn due(conn: &Connection, groups: &[(Group, u32)], due_to: UnixMicros) -> Result<Vec<Entry>, LedgerError> {
    let mut of_group = conn.prepare_cached(&format!("select {ENTRY} {DUE}"))?;
    let mut entries = vec![];
    for (Group { tenant, lane, sort, sender, first_due: _ }, most) in groups {
        let due = of_group.query(params![
            tenant.as_str(),
            lane.class.code(),
            lane.pool.as_str(),
            sort.code(),
            sender,
            turns::turns_to(due_to),
            due_to.0,
            most
        ])?;
        entries.append(&mut rows::all(due, rows::entry)?);
    }
    Ok(entries)
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
        "update agenda set payload = ?2, jobs = ?3, due_at = ?4, turn = ?5 | (turn & 255), sender = ?6, \
         releasing_since = null where id = ?1",
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
            Release::Left { id, payload, jobs, due_at, sender } => {
                let second = turns::turn(*due_at, 100);
                if let Some(before) = rows::first(find.query([id.as_bytes()])?, |row| Ok(row.get::<_, i64>(0)?))? {
                    leave.execute(params![id.as_bytes(), &payload[..], jobs, due_at.0, second, sender])?;
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
    let oldest_due = groups(conn)?.iter().map(|group| group.first_due).min();
    Ok(AgendaDepth { entries: columns::unsigned(entries), jobs: columns::unsigned(jobs), oldest_due })
}

/// Returns the group after another one by a single probe of the index.
fn next_group(conn: &Connection, after: Option<&Group>) -> Result<Option<Group>, LedgerError> {
    let read = |row: &rusqlite::Row<'_>| {
        Ok(Group {
            tenant: rows::name(row, 0)?,
            lane: columns::lane(row.get(1)?, row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?,
            sort: Sort::from_code(row.get(3)?)?,
            sender: row.get(4)?,
            first_due: turns::second(row.get(5)?),
        })
    };
    let Some(Group { tenant, lane, sort, sender, first_due: _ }) = after else {
        return rows::first(conn.prepare_cached(FIRST_GROUP)?.query([])?, read);
    };
    // SQLite looks for a row from the first that is not less on, and passes over those that are equal: without the last
    // of all turns these would be the whole backlog of a group.
    let after = params![tenant.as_str(), lane.class.code(), lane.pool.as_str(), sort.code(), sender, i64::MAX];
    rows::first(conn.prepare_cached(NEXT_GROUP)?.query(after)?, read)
}

fn add(tx: &Transaction<'_>, entries: i64, jobs: i64) -> Result<(), LedgerError> {
    tx.prepare_cached("update agenda_sum set entries = entries + ?1, jobs = jobs + ?2")?.execute([entries, jobs])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rusqlite::StatementStatus;

    use super::*;
    use crate::domain::ids::Lane;
    use crate::domain::job::Class;
    use crate::ledger::Tag;

    /// Returns the steps of SQLite's machine that a statement took so far; a row that is passed over takes several.
    fn steps(conn: &Connection, sql: &str) -> i32 {
        conn.prepare_cached(sql).unwrap().get_status(StatementStatus::VmStep)
    }

    fn entry(number: i64) -> Entry {
        let lane = Lane { class: Class::Marketing, pool: "sim".parse().unwrap() };
        Entry {
            id: Uuid::from_u128(number.unsigned_abs().into()),
            tag: Tag::Send,
            tenant: "crowd".parse().unwrap(),
            lane,
            sender: 0,
            priority: 0,
            due_at: UnixMicros::from_secs(number),
            accepted_at: Some(UnixMicros::from_secs(1)),
            jobs: 1,
            releasing_since: None,
            payload: vec![0; 8].into(),
        }
    }

    #[test]
    fn a_backlog_costs_no_look_anything() {
        let mut conn = super::super::connect(Path::new(":memory:"), 1024).unwrap();
        conn.execute_batch(include_str!("schema.sql")).unwrap();
        let entries: Vec<_> = (1..5_000).map(entry).collect();
        let tx = conn.transaction().unwrap();
        put(&tx, &entries).unwrap();
        tx.commit().unwrap();

        let groups = groups(&conn).unwrap();
        assert_eq!(groups.len(), 1, "{groups:?}");
        let (first, next) = (steps(&conn, FIRST_GROUP), steps(&conn, NEXT_GROUP));
        let of_group = [(groups[0].clone(), 4)];
        let of_due = format!("select {ENTRY} {DUE}");
        assert_eq!(due(&conn, &of_group, UnixMicros::from_secs(0)).unwrap(), []);
        let none_due = steps(&conn, &of_due);
        assert_eq!(due(&conn, &of_group, UnixMicros::from_secs(9_999)).unwrap(), entries[..4]);
        let four_due = steps(&conn, &of_due) - none_due;
        assert!([first, next, none_due].iter().all(|steps| (1..100).contains(steps)), "{first}, {next}, {none_due}");
        assert!((1..300).contains(&four_due), "{four_due}");
    }
}
