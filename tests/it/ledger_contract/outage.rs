//! PostgreSQL dies and comes back: callers are told, nothing is half written, and the same ledger works again.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::ledger::postgres::Postgres;
use postrider::ledger::{Directory, Ledger, LedgerError, Recording, Shards};

use super::people::customer;
use super::samples::{at, delivered, due_of_each, entry, events, id, job, sent, tenant, uuid};
use crate::support::servers;

#[tokio::test]
async fn a_ledger_that_comes_back_is_used_again() {
    let server = servers::Postgres::start();
    let clock = Clock::system();
    let ledger = Postgres::new(&server.database(), clock.clone()).unwrap();
    ledger.migrate().await.unwrap();
    ledger.put_tenant(&customer("acme")).await.unwrap();
    ledger.put_entries(&[entry(1, at(1))]).await.unwrap();
    let directory = Directory::load(&ledger).await.unwrap();
    let before = Recording { frames: vec![uuid(1)], jobs: vec![job(1)], ..events(0, vec![(1, sent())]) };
    ledger.record(&before).await.unwrap();
    assert_eq!(ledger.lead_agenda().await, Ok(Shards::ALL));
    // Many connections are open, and all of them die at once.
    let all = tokio::join!(ledger.last_seq(), ledger.tenants(), ledger.agenda_depth(), ledger.trails(&[]));
    assert!(all.0.is_ok() && all.1.is_ok() && all.2.is_ok() && all.3.is_ok());

    server.kill();
    let waiting = clock.stopwatch();
    let after = Recording { frames: vec![uuid(2)], ..events(1, vec![(1, delivered())]) };
    assert_eq!(unreachable(ledger.record(&after).await), "unreachable");
    assert_eq!(unreachable(ledger.last_seq().await), "unreachable");
    assert_eq!(unreachable(ledger.put_entries(&[entry(2, at(2))]).await), "unreachable");
    assert_eq!(unreachable(ledger.lead_agenda().await), "unreachable");
    assert_eq!(unreachable(directory.refresh(&ledger).await), "unreachable");
    assert!(directory.tenant(&tenant("acme")).is_some());
    assert!(waiting.elapsed() < Duration::from_secs(10), "a dead ledger is noticed at once");

    server.restart();
    assert_eq!(ledger.last_seq().await, Ok((1, 0)));
    assert_eq!(ledger.recorded(&[uuid(1), uuid(2)]).await, Ok(vec![uuid(1)]));
    ledger.record(&after).await.unwrap();
    let trail = ledger.trails(&[id(1)]).await.unwrap().pop().flatten().unwrap();
    assert_eq!(trail.events, [before.events, after.events].concat());
    assert_eq!(due_of_each(&ledger, at(9), 9).await, vec![entry(1, at(1))]);
    assert_eq!(ledger.lead_agenda().await, Ok(Shards::ALL));
    ledger.close().await;
    assert_eq!(unreachable(ledger.last_seq().await), "unreachable");
}

#[tokio::test]
async fn a_recording_cut_in_the_middle_is_not_there() {
    let server = servers::Postgres::start();
    let clock = Clock::system();
    let ledger = Postgres::new(&server.database(), clock.clone()).unwrap();
    ledger.migrate().await.unwrap();
    let large = Recording {
        frames: vec![uuid(1)],
        jobs: (0..40_000).map(job).collect(),
        ..events(0, (0..40_000).map(|n| (n, sent())).collect())
    };
    let (recorded, ()) = tokio::join!(ledger.record(&large), async {
        clock.pause(Duration::from_millis(150)).await;
        server.kill();
    });
    server.restart();
    // Whatever was answered, it is there as a whole or not at all.
    let (last, _) = ledger.last_seq().await.unwrap();
    let frames = ledger.recorded(&[uuid(1)]).await.unwrap();
    let trails = ledger.trails(&[id(0), id(39_999)]).await.unwrap();
    match last {
        0 => {
            assert!(recorded.is_err());
            assert_eq!((frames, trails), (vec![], vec![None, None]));
            ledger.record(&large).await.unwrap();
        }
        40_000 => {
            assert_eq!(frames, vec![uuid(1)]);
            assert!(trails.iter().all(|trail| trail.as_ref().is_some_and(|trail| trail.events.len() == 1)));
            assert_eq!(ledger.record(&large).await, Err(LedgerError::Overtaken));
        }
        other => panic!("{other} events of a recording of 40 000"),
    }
}

#[tokio::test]
async fn a_span_is_dropped_as_a_whole() {
    let url = servers::postgres().database();
    let ledger = Postgres::new(&url, Clock::system()).unwrap();
    ledger.migrate().await.unwrap();
    ledger.record(&Recording { jobs: vec![job(1)], ..Recording::default() }).await.unwrap();
    for day in 0..4 {
        let mut recording = events(day, vec![(1, sent())]);
        recording.events[0].event.at = at(day * 86_400);
        ledger.record(&recording).await.unwrap();
    }
    let spans = "select count(distinct span)::integer from postrider.event";
    assert_eq!(ask(&url, spans).await, 4, "every day has a span of its own");
    ask(&url, "drop table postrider.event_0").await;
    assert_eq!(ledger.trails(&[id(1)]).await.unwrap()[0].as_ref().unwrap().events.len(), 3);
    let (seen, complete) = ledger.events(None, 0, 10).await.unwrap();
    assert_eq!((seen.len(), seen[0].seq, complete), (3, 2, 4));
    ledger.record(&events(4, vec![(1, delivered())])).await.unwrap();
}

/// Runs a statement and returns its number, if it has an answer.
async fn ask(url: &str, sql: &str) -> i32 {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::select! {
        rows = client.query(sql, &[]) => rows.unwrap().first().map_or(0, |row| row.get(0)),
        ended = connection => panic!("the connection ended: {ended:?}"),
    }
}

fn unreachable<T: std::fmt::Debug>(answer: Result<T, LedgerError>) -> &'static str {
    match answer {
        Ok(_) => "answered",
        Err(LedgerError::Unreachable(_)) => "unreachable",
        Err(other) => panic!("{other:?}"),
    }
}
