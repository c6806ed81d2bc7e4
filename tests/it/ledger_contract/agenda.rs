//! The agenda: nothing comes early, nothing twice, nobody waits behind somebody else's backlog.

use std::time::Duration;

use bytes::Bytes;
use postrider::domain::ids::Lane;
use postrider::domain::job::Class;
use postrider::domain::time::Clock;
use postrider::ledger::postgres::Postgres;
use postrider::ledger::{AgendaDepth, Entry, Ledger, Release, Shards, Tag};
use uuid::Uuid;

use super::samples::{at, due_of_each, entry, tenant, uuid};
use super::{Fixture, on_every_backend};
use crate::support::servers;

on_every_backend! {
    entries_come_when_they_are_due
    an_entry_is_released_once
    what_is_left_of_an_entry_waits_again
    an_id_is_inserted_once
    a_timer_is_moved
    a_moved_timer_outlives_the_release_of_the_old_one
    every_tenant_lane_tag_and_sender_has_a_group
    what_is_due_in_the_same_second_goes_by_priority
    a_sender_that_gets_a_rate_moves_to_a_group_of_its_own
    a_backlog_hides_nobody
}

/// Returns what is due, by time.
async fn all_due(ledger: &impl Ledger, secs: i64) -> Vec<Entry> {
    let mut due = due_of_each(ledger, at(secs), 99).await;
    due.sort_by_key(|entry| (entry.due_at, entry.id));
    due
}

async fn due(ledger: &impl Ledger, secs: i64) -> Vec<Uuid> {
    all_due(ledger, secs).await.iter().map(|entry| entry.id).collect()
}

fn timer(n: u32, key: &str, secs: i64) -> Entry {
    let tag = Tag::Timer { kind: "fallback".into(), owner: "acme".into(), key: key.into() };
    Entry { tag, jobs: 0, ..entry(n, at(secs)) }
}

fn of(owner: &str, pool: &str, n: u32, secs: i64) -> Entry {
    let lane = Lane { class: Class::Notification, pool: pool.parse().unwrap() };
    Entry { tenant: tenant(owner), lane, ..entry(n, at(secs)) }
}

async fn entries_come_when_they_are_due(Fixture { ledger, .. }: Fixture) {
    assert_eq!(ledger.agenda_depth().await, Ok(AgendaDepth::default()));
    let check = Entry { tag: Tag::Check, payload: Bytes::from(vec![7; 60_000]), ..entry(3, at(30)) };
    let entries = [entry(2, at(20)), entry(1, at(10)), check, timer(4, "x", 15)];
    ledger.put_entries(&entries).await.unwrap();
    assert_eq!(due(&ledger, 9).await, Vec::<Uuid>::new());
    assert_eq!(due(&ledger, 10).await, vec![uuid(1)]);
    assert_eq!(due(&ledger, 20).await, vec![uuid(1), uuid(4), uuid(2)]);
    assert_eq!(all_due(&ledger, 99).await, [&entries[1], &entries[3], &entries[0], &entries[2]].map(Clone::clone));
    let depth = AgendaDepth { entries: 4, jobs: 30, oldest_due: Some(at(10)) };
    assert_eq!(ledger.agenda_depth().await, Ok(depth));
}

async fn an_entry_is_released_once(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[entry(1, at(1)), entry(2, at(2)), entry(3, at(3))]).await.unwrap();
    ledger.releasing(&[uuid(2), uuid(1)], at(50)).await.unwrap();
    assert_eq!(due(&ledger, 99).await, vec![uuid(3)]);
    let left = ledger.left_releasing(Shards::ALL, 10).await.unwrap();
    let mut expected = [1, 2].map(|n| Entry { releasing_since: Some(at(50)), ..entry(n, at(n.into())) });
    expected.sort_by_key(|entry| entry.id);
    assert_eq!(left, expected);
    assert_eq!(ledger.left_releasing(Shards::ALL, 1).await.unwrap().len(), 1);
    let depth = AgendaDepth { entries: 3, jobs: 30, oldest_due: Some(at(3)) };
    assert_eq!(ledger.agenda_depth().await, Ok(depth));

    ledger.released(&[Release::Done(uuid(1)), Release::Done(uuid(2)), Release::Done(uuid(9))]).await.unwrap();
    ledger.released(&[Release::Done(uuid(1))]).await.unwrap();
    assert_eq!(ledger.left_releasing(Shards::ALL, 10).await, Ok(vec![]));
    let depth = AgendaDepth { entries: 1, jobs: 10, oldest_due: Some(at(3)) };
    assert_eq!(ledger.agenda_depth().await, Ok(depth));
    // Settled without ever having been released.
    ledger.released(&[Release::Done(uuid(3))]).await.unwrap();
    assert_eq!(ledger.agenda_depth().await, Ok(AgendaDepth::default()));
}

async fn what_is_left_of_an_entry_waits_again(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[entry(1, at(1)), entry(2, at(2))]).await.unwrap();
    ledger.releasing(&[uuid(1)], at(5)).await.unwrap();
    let left = |id| Release::Left { id, payload: "rest".into(), jobs: 4, due_at: at(7), sender: 0 };
    ledger.released(&[left(uuid(1)), Release::Done(uuid(2)), left(uuid(9))]).await.unwrap();
    assert_eq!(due(&ledger, 6).await, Vec::<Uuid>::new());
    let rest = Entry { payload: "rest".into(), jobs: 4, due_at: at(7), ..entry(1, at(1)) };
    assert_eq!(all_due(&ledger, 7).await, [rest]);
    let depth = AgendaDepth { entries: 1, jobs: 4, oldest_due: Some(at(7)) };
    assert_eq!(ledger.agenda_depth().await, Ok(depth));
}

async fn an_id_is_inserted_once(Fixture { ledger, .. }: Fixture) {
    let again = Entry { jobs: 99, payload: "again".into(), ..entry(1, at(9)) };
    ledger.put_entries(&[entry(1, at(1)), again.clone()]).await.unwrap();
    ledger.put_entries(&[again, entry(2, at(2))]).await.unwrap();
    assert_eq!(all_due(&ledger, 99).await, [entry(1, at(1)), entry(2, at(2))]);
    assert_eq!(ledger.agenda_depth().await.unwrap().jobs, 20);
    ledger.put_entries(&[]).await.unwrap();
}

async fn a_timer_is_moved(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[timer(1, "x", 10), timer(2, "y", 10), timer(3, "x", 40)]).await.unwrap();
    assert_eq!(due(&ledger, 10).await, vec![uuid(2)]);
    let (later, sooner) = (Entry { jobs: 5, ..timer(4, "y", 60) }, timer(5, "x", 30));
    ledger.put_entries(&[later.clone(), sooner.clone(), entry(6, at(50))]).await.unwrap();
    assert_eq!(due(&ledger, 30).await, vec![uuid(5)]);
    assert_eq!(all_due(&ledger, 99).await, [sooner, entry(6, at(50)), later]);
    assert_eq!(ledger.agenda_depth().await.unwrap(), AgendaDepth { entries: 3, jobs: 15, oldest_due: Some(at(30)) });
}

async fn a_moved_timer_outlives_the_release_of_the_old_one(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[timer(1, "x", 10)]).await.unwrap();
    ledger.releasing(&[uuid(1)], at(10)).await.unwrap();
    ledger.put_entries(&[timer(2, "x", 20)]).await.unwrap();
    assert_eq!(ledger.left_releasing(Shards::ALL, 10).await, Ok(vec![]));
    ledger.released(&[Release::Done(uuid(1))]).await.unwrap();
    assert_eq!(all_due(&ledger, 20).await, [timer(2, "x", 20)]);
    assert_eq!(ledger.agenda_depth().await.unwrap().entries, 1);
}

async fn every_tenant_lane_tag_and_sender_has_a_group(Fixture { ledger, .. }: Fixture) {
    let mut entries = vec![];
    for n in 0..20 {
        entries.push(of("acme", "sms", n, n.into()));
        entries.push(of("acme", "voice", 100 + n, i64::from(n) + 20));
        entries.push(of("bolt", "sms", 200 + n, i64::from(n) + 40));
    }
    entries.push(Entry { tag: Tag::Check, ..of("acme", "sms", 300, 80) });
    entries.push(Entry { sender: u32::MAX, ..of("acme", "sms", 301, 85) });
    entries.push(of("zeta", "sms", 302, 90));
    ledger.put_entries(&entries).await.unwrap();
    let groups = ledger.agenda_groups(Shards::ALL).await.unwrap();
    let first_due: Vec<_> = groups.iter().map(|group| group.first_due).collect();
    assert_eq!(first_due, [0, 85, 80, 20, 40, 90].map(at));
    for entry in &entries {
        assert_eq!(groups.iter().filter(|group| group.holds(entry)).count(), 1);
    }
    let asked = [(groups[4].clone(), 3), (groups[0].clone(), 1), (groups[5].clone(), 9), (groups[3].clone(), 0)];
    let found = ledger.due_entries(&asked, at(89)).await.unwrap();
    let ids: Vec<_> = found.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [200, 201, 202, 0].map(uuid), "as many of each as was said, in the order asked, and none early");
    ledger.releasing(&[uuid(0), uuid(302)], at(90)).await.unwrap();
    let groups = ledger.agenda_groups(Shards::ALL).await.unwrap();
    assert_eq!(groups.iter().map(|group| group.first_due).collect::<Vec<_>>(), [1, 85, 80, 20, 40].map(at));
}

async fn what_is_due_in_the_same_second_goes_by_priority(Fixture { ledger, .. }: Fixture) {
    let entry = |n, millis: u64, priority| {
        let due_at = at(10).plus(Duration::from_millis(millis));
        Entry { priority, due_at, ..entry(n, due_at) }
    };
    let entries = [
        entry(1, 0, 0),
        entry(2, 900, 100),
        entry(3, 100, -100),
        entry(4, 500, 7),
        entry(5, 1_000, 100),
        entry(6, 0, 7),
    ];
    ledger.put_entries(&entries).await.unwrap();
    let order = async |millis| {
        let due_to = at(10).plus(Duration::from_millis(millis));
        due_of_each(&ledger, due_to, 9).await.iter().map(|entry| entry.id).collect::<Vec<_>>()
    };
    assert_eq!(order(500).await, [6, 4, 1, 3].map(uuid), "none early, however high");
    assert_eq!(order(2_000).await, [2, 6, 4, 1, 3, 5].map(uuid));
    ledger.releasing(&[uuid(3)], at(11)).await.unwrap();
    let left = Release::Left { id: uuid(3), payload: "rest".into(), jobs: 4, due_at: at(11), sender: 0 };
    ledger.released(&[left]).await.unwrap();
    assert_eq!(order(2_000).await, [2, 6, 4, 1, 5, 3].map(uuid), "what is left keeps its priority");
    assert_eq!(all_due(&ledger, 99).await.last().unwrap().priority, -100);
}

async fn a_sender_that_gets_a_rate_moves_to_a_group_of_its_own(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[entry(1, at(1)), entry(2, at(2))]).await.unwrap();
    let Entry { id, payload, jobs, due_at, .. } = entry(1, at(1));
    ledger.released(&[Release::Left { id, payload, jobs, due_at, sender: 77 }]).await.unwrap();
    let groups = ledger.agenda_groups(Shards::ALL).await.unwrap();
    assert_eq!(
        groups.iter().map(|group| (group.sender, group.first_due)).collect::<Vec<_>>(),
        [(0, at(2)), (77, at(1))]
    );
    assert_eq!(all_due(&ledger, 9).await[0], Entry { sender: 77, ..entry(1, at(1)) });
}

async fn a_backlog_hides_nobody(fixture: Fixture) {
    let ledger = &fixture.ledger;
    let backlog: Vec<Entry> =
        (0..100_000).map(|n| Entry { payload: "small".into(), ..of("acme", "sms", n, i64::from(n) / 100) }).collect();
    for entries in backlog.chunks(10_000) {
        ledger.put_entries(entries).await.unwrap();
    }
    ledger.put_entries(&[of("zeta", "sms", 200_000, 5_000)]).await.unwrap();
    let before = fixture.touched().await;
    for _ in 0..10 {
        let due = due_of_each(ledger, at(5_000), 10).await;
        assert_eq!(due.len(), 11);
        assert_eq!(due[10].id, uuid(200_000));
        let depth = AgendaDepth { entries: 100_001, jobs: 1_000_010, oldest_due: Some(at(0)) };
        assert_eq!(ledger.agenda_depth().await, Ok(depth));
    }
    if let (Some(before), Some(after)) = (before, fixture.touched().await) {
        assert_eq!(after.whole_reads, before.whole_reads, "the agenda was read from end to end");
        let entries = after.index_entries - before.index_entries;
        assert!((100..10_000).contains(&entries), "ten rounds read {entries} index entries of 100 000");
    }
}

/// Asks both until they have the shards as `told` says.
async fn led(clock: &Clock, feeders: [&Postgres; 2], told: impl Fn([Shards; 2]) -> bool) -> [Shards; 2] {
    for _ in 0..100 {
        let [one, other] = feeders;
        let led = [one.lead_agenda().await.unwrap(), other.lead_agenda().await.unwrap()];
        assert_eq!(led[0].among(led[1]), Shards::default(), "two lead the same");
        if told(led) {
            return led;
        }
        clock.pause(Duration::from_millis(100)).await;
    }
    panic!("the shards were not shared out");
}

#[tokio::test]
async fn feeders_share_the_agenda_out() {
    let url = servers::postgres().database();
    let clock = Clock::system();
    let [one, other] = [(); 2].map(|()| Postgres::new(&url, clock.clone()).unwrap());
    one.migrate().await.unwrap();
    // A tenant's entries are all in one shard, whatever they are for.
    let entries: Vec<Entry> = (0..60).map(|n| of(&format!("tenant-{}", n % 30), "sms", n, 1)).collect();
    one.put_entries(&entries).await.unwrap();
    one.releasing(&entries[30..].iter().map(|entry| entry.id).collect::<Vec<_>>(), at(2)).await.unwrap();
    assert_eq!(one.lead_agenda().await, Ok(Shards::ALL));
    assert_eq!(other.lead_agenda().await, Ok(Shards::default()));
    assert_eq!(other.agenda_groups(Shards::default()).await, Ok(vec![]));

    let halves = led(&clock, [&one, &other], |led| led.iter().all(|shards| shards.len() == 8)).await;
    let mut seen = vec![];
    for shards in halves {
        let groups = one.agenda_groups(shards).await.unwrap();
        let mut tenants: Vec<String> = groups.iter().map(|group| group.tenant.to_string()).collect();
        let left = one.left_releasing(shards, 99).await.unwrap();
        let mut left: Vec<String> = left.iter().map(|entry| entry.tenant.to_string()).collect();
        left.sort_unstable();
        tenants.sort_unstable();
        assert_eq!(left, tenants);
        assert!((1..30).contains(&tenants.len()), "{tenants:?}");
        seen.extend(tenants);
    }
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), 30, "each tenant has one feeder");

    one.close().await;
    for patience in (0..50).rev() {
        if other.lead_agenda().await == Ok(Shards::ALL) {
            return;
        }
        assert!(patience > 0, "what was led was never given up");
        clock.pause(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn as_many_feeders_as_there_are_have_even_parts() {
    let url = servers::postgres().database();
    let clock = Clock::system();
    let feeders = [(); 3].map(|()| Postgres::new(&url, clock.clone()).unwrap());
    feeders[0].migrate().await.unwrap();
    let mut parts = vec![];
    for _ in 0..100 {
        let mut all = Shards::default();
        parts.clear();
        for feeder in &feeders {
            let led = feeder.lead_agenda().await.unwrap();
            assert_eq!(all.among(led), Shards::default(), "two lead the same");
            led.each().for_each(|shard| all = all.with(shard));
            parts.push(led.len());
        }
        parts.sort_unstable();
        if parts == [5, 5, 6] {
            assert_eq!(all, Shards::ALL);
            return;
        }
        clock.pause(Duration::from_millis(100)).await;
    }
    panic!("the parts are not even: {parts:?}");
}

/// Returns in how many hundredths of a second the kernel asks the far end of the connection between two local ports whether
/// it is there, as the holder of the first one set it up; `None` while it waits for something else.
fn asks_in(ours: u16, theirs: i32) -> Option<u32> {
    let connections = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let ends = [format!(":{ours:04X}"), format!(":{theirs:04X}")];
    let ends_here = |words: &[&str]| words[1].ends_with(&*ends[0]) && words[2].ends_with(&*ends[1]);
    let connection = connections.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let connection = connection.skip(1).find(|words| ends_here(words)).expect("the connection");
    // Timer 2 is the one that keeps connections alive.
    let left = connection[5].strip_prefix("02:")?;
    Some(u32::from_str_radix(left, 16).unwrap())
}

#[tokio::test]
async fn the_server_soon_asks_whether_the_machine_of_a_feeder_is_there() {
    let (url, clock) = (servers::postgres().database(), Clock::system());
    let one = Postgres::new(&url, clock.clone()).unwrap();
    one.migrate().await.unwrap();
    assert_eq!(one.lead_agenda().await, Ok(Shards::ALL));
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let sql = "select client_port from pg_stat_activity where pid in (
                 select pid from pg_locks where locktype = 'advisory'
                   and database = (select oid from pg_database where datname = current_database()))";
    let port: i32 = client.query_one(sql, &[]).await.unwrap().get(0);
    let asks_in = async {
        loop {
            match asks_in(servers::postgres().port(), port) {
                Some(left) => return left,
                None => clock.pause(Duration::from_millis(10)).await,
            }
        }
    };
    let left = clock.timeout(Duration::from_secs(10), asks_in).await.unwrap();
    assert!(left <= 500, "it asks in {left} hundredths of a second");
}

#[tokio::test]
async fn a_feeder_that_knows_no_shards_leads_alone() {
    let url = servers::postgres().database();
    let one = Postgres::new(&url, Clock::system()).unwrap();
    one.migrate().await.unwrap();
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(connection);
    let lock = |sql: &'static str| client.query_one(sql, &[]);
    assert!(lock("select pg_try_advisory_lock(8101821198635721730)").await.unwrap().get::<_, bool>(0));
    assert_eq!(one.lead_agenda().await, Ok(Shards::default()));
    lock("select pg_advisory_unlock(8101821198635721730)").await.unwrap();
    Clock::system().pause(Duration::from_secs(1)).await;
    assert_eq!(one.lead_agenda().await, Ok(Shards::ALL));
    assert!(!lock("select pg_try_advisory_lock(8101821198635721730)").await.unwrap().get::<_, bool>(0));
}
