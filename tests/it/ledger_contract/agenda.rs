//! The agenda: nothing comes early, nothing twice, nobody waits behind somebody else's backlog.

use std::time::Duration;

use bytes::Bytes;
use postrider::domain::ids::Lane;
use postrider::domain::job::Class;
use postrider::domain::time::Clock;
use postrider::ledger::postgres::Postgres;
use postrider::ledger::{AgendaDepth, Entry, Ledger, Release, Tag};
use uuid::Uuid;

use super::samples::{at, entry, tenant, uuid};
use super::{Fixture, on_every_backend};
use crate::support::servers;

on_every_backend! {
    entries_come_when_they_are_due
    an_entry_is_released_once
    what_is_left_of_an_entry_waits_again
    an_id_is_inserted_once
    a_timer_is_moved
    a_moved_timer_outlives_the_release_of_the_old_one
    every_tenant_lane_and_tag_has_its_turn
    a_backlog_hides_nobody
}

/// Returns the ids of what is due, in order.
async fn due(ledger: &impl Ledger, secs: i64, per_tenant: u32, most: u32) -> Vec<Uuid> {
    ledger.due_entries(at(secs), per_tenant, most).await.unwrap().iter().map(|entry| entry.id).collect()
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
    assert_eq!(due(&ledger, 9, 10, 10).await, Vec::<Uuid>::new());
    assert_eq!(due(&ledger, 10, 10, 10).await, vec![uuid(1)]);
    assert_eq!(due(&ledger, 20, 10, 10).await, vec![uuid(1), uuid(4), uuid(2)]);
    let mut all = ledger.due_entries(at(99), 10, 10).await.unwrap();
    all.sort_by_key(|entry| entry.due_at);
    assert_eq!(all, [&entries[1], &entries[3], &entries[0], &entries[2]].map(Clone::clone));
    let depth = AgendaDepth { entries: 4, jobs: 30, oldest_due: Some(at(10)) };
    assert_eq!(ledger.agenda_depth().await, Ok(depth));
}

async fn an_entry_is_released_once(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[entry(1, at(1)), entry(2, at(2)), entry(3, at(3))]).await.unwrap();
    ledger.releasing(&[uuid(2), uuid(1)], at(50)).await.unwrap();
    assert_eq!(due(&ledger, 99, 10, 10).await, vec![uuid(3)]);
    let left = ledger.left_releasing(10).await.unwrap();
    let mut expected = [1, 2].map(|n| Entry { releasing_since: Some(at(50)), ..entry(n, at(n.into())) });
    expected.sort_by_key(|entry| entry.id);
    assert_eq!(left, expected);
    assert_eq!(ledger.left_releasing(1).await.unwrap().len(), 1);
    let depth = AgendaDepth { entries: 3, jobs: 30, oldest_due: Some(at(3)) };
    assert_eq!(ledger.agenda_depth().await, Ok(depth));

    ledger.released(&[Release::Done(uuid(1)), Release::Done(uuid(2)), Release::Done(uuid(9))]).await.unwrap();
    ledger.released(&[Release::Done(uuid(1))]).await.unwrap();
    assert_eq!(ledger.left_releasing(10).await, Ok(vec![]));
    let depth = AgendaDepth { entries: 1, jobs: 10, oldest_due: Some(at(3)) };
    assert_eq!(ledger.agenda_depth().await, Ok(depth));
    // Settled without ever having been released.
    ledger.released(&[Release::Done(uuid(3))]).await.unwrap();
    assert_eq!(ledger.agenda_depth().await, Ok(AgendaDepth::default()));
}

async fn what_is_left_of_an_entry_waits_again(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[entry(1, at(1)), entry(2, at(2))]).await.unwrap();
    ledger.releasing(&[uuid(1)], at(5)).await.unwrap();
    let left = |id| Release::Left { id, payload: "rest".into(), jobs: 4, due_at: at(7) };
    ledger.released(&[left(uuid(1)), Release::Done(uuid(2)), left(uuid(9))]).await.unwrap();
    assert_eq!(due(&ledger, 6, 10, 10).await, Vec::<Uuid>::new());
    let rest = Entry { payload: "rest".into(), jobs: 4, due_at: at(7), ..entry(1, at(1)) };
    assert_eq!(ledger.due_entries(at(7), 10, 10).await, Ok(vec![rest]));
    let depth = AgendaDepth { entries: 1, jobs: 4, oldest_due: Some(at(7)) };
    assert_eq!(ledger.agenda_depth().await, Ok(depth));
}

async fn an_id_is_inserted_once(Fixture { ledger, .. }: Fixture) {
    let again = Entry { jobs: 99, payload: "again".into(), ..entry(1, at(9)) };
    ledger.put_entries(&[entry(1, at(1)), again.clone()]).await.unwrap();
    ledger.put_entries(&[again, entry(2, at(2))]).await.unwrap();
    assert_eq!(ledger.due_entries(at(99), 10, 10).await, Ok(vec![entry(1, at(1)), entry(2, at(2))]));
    assert_eq!(ledger.agenda_depth().await.unwrap().jobs, 20);
    ledger.put_entries(&[]).await.unwrap();
}

async fn a_timer_is_moved(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[timer(1, "x", 10), timer(2, "y", 10), timer(3, "x", 40)]).await.unwrap();
    assert_eq!(due(&ledger, 10, 10, 10).await, vec![uuid(2)]);
    let (later, sooner) = (Entry { jobs: 5, ..timer(4, "y", 60) }, timer(5, "x", 30));
    ledger.put_entries(&[later.clone(), sooner.clone(), entry(6, at(50))]).await.unwrap();
    assert_eq!(due(&ledger, 30, 10, 10).await, vec![uuid(5)]);
    let all = ledger.due_entries(at(99), 10, 10).await.unwrap();
    assert_eq!(all, vec![sooner, entry(6, at(50)), later]);
    assert_eq!(ledger.agenda_depth().await.unwrap(), AgendaDepth { entries: 3, jobs: 15, oldest_due: Some(at(30)) });
}

async fn a_moved_timer_outlives_the_release_of_the_old_one(Fixture { ledger, .. }: Fixture) {
    ledger.put_entries(&[timer(1, "x", 10)]).await.unwrap();
    ledger.releasing(&[uuid(1)], at(10)).await.unwrap();
    ledger.put_entries(&[timer(2, "x", 20)]).await.unwrap();
    assert_eq!(ledger.left_releasing(10).await, Ok(vec![]));
    ledger.released(&[Release::Done(uuid(1))]).await.unwrap();
    assert_eq!(ledger.due_entries(at(20), 10, 10).await, Ok(vec![timer(2, "x", 20)]));
    assert_eq!(ledger.agenda_depth().await.unwrap().entries, 1);
}

async fn every_tenant_lane_and_tag_has_its_turn(Fixture { ledger, .. }: Fixture) {
    let mut entries = vec![];
    for n in 0..20 {
        entries.push(of("acme", "sms", n, n.into()));
        entries.push(of("acme", "voice", 100 + n, i64::from(n) + 20));
        entries.push(of("bolt", "sms", 200 + n, i64::from(n) + 40));
    }
    entries.push(Entry { tag: Tag::Check, ..of("acme", "sms", 300, 80) });
    entries.push(of("zeta", "sms", 301, 90));
    ledger.put_entries(&entries).await.unwrap();
    let first = [0, 100, 200, 300, 301].map(uuid);
    let second = [1, 101, 201].map(uuid);
    assert_eq!(due(&ledger, 99, 10, 5).await, first, "the oldest of each");
    assert_eq!(due(&ledger, 99, 2, 99).await, [&first[..], &second].concat());
    assert_eq!(due(&ledger, 99, 99, 99).await.len(), 62);
    assert_eq!(due(&ledger, 59, 99, 99).await.len(), 60);
    assert_eq!(due(&ledger, 99, 0, 99).await, Vec::<Uuid>::new());
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
        let due = due(ledger, 5_000, 10, 11).await;
        assert_eq!(due.len(), 11);
        assert_eq!(due[1], uuid(200_000));
        let depth = AgendaDepth { entries: 100_001, jobs: 1_000_010, oldest_due: Some(at(0)) };
        assert_eq!(ledger.agenda_depth().await, Ok(depth));
    }
    if let (Some(before), Some(after)) = (before, fixture.touched().await) {
        assert_eq!(after.whole_reads, before.whole_reads, "the agenda was read from end to end");
        let entries = after.index_entries - before.index_entries;
        assert!((100..10_000).contains(&entries), "ten rounds read {entries} index entries of 100 000");
    }
}

#[tokio::test]
async fn one_process_leads_the_agenda() {
    let url = servers::postgres().database();
    let clock = Clock::system();
    let [one, other] = [(); 2].map(|()| Postgres::new(&url, clock.clone()).unwrap());
    one.migrate().await.unwrap();
    for _ in 0..3 {
        assert_eq!((one.lead_agenda().await, other.lead_agenda().await), (Ok(true), Ok(false)));
    }
    one.close().await;
    let mut patience = 50;
    while other.lead_agenda().await != Ok(true) {
        patience -= 1;
        assert!(patience > 0, "the lead was never given up");
        clock.pause(Duration::from_millis(100)).await;
    }
}
