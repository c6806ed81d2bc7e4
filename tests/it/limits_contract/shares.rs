//! Whole places that nodes share: never more in all than there are.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::UnixMicros;
use postrider::limits::{Limits as _, SHARE_LIFE, Share};

use super::{NOW, Store, embedded, redis, whole};

fn share(who: u64, total: u16, holds: u16) -> Share {
    Share { what: "binds:carrier".into(), who, total, holds, leaves: false }
}

async fn ask(store: &Store, at: UnixMicros, who: u64, holds: u16) -> u16 {
    store.limits.share(at, &share(who, 4, holds)).await.unwrap()
}

fn secs(secs: u64) -> UnixMicros {
    NOW.plus(Duration::from_secs(secs))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_has_all_of_them() {
    let store = whole(embedded()).await;
    assert_eq!(store.limits.share(NOW, &share(1, 4, 0)).await, Ok(4));
    assert_eq!(store.limits.share(NOW, &Share { leaves: true, ..share(1, 4, 0) }).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_evenly_once_the_others_have_let_go() {
    let store = whole(redis()).await;
    assert_eq!(ask(&store, secs(0), 1, 0).await, 4);
    assert_eq!(ask(&store, secs(1), 2, 0).await, 0, "the first holds all");
    assert_eq!(ask(&store, secs(2), 1, 4).await, 2);
    assert_eq!(ask(&store, secs(3), 2, 0).await, 0, "it has not let go yet");
    assert_eq!(ask(&store, secs(4), 1, 3).await, 2);
    assert_eq!(ask(&store, secs(4), 2, 0).await, 1);
    assert_eq!(ask(&store, secs(5), 1, 2).await, 2);
    assert_eq!(ask(&store, secs(5), 2, 1).await, 2);
    let other = Share { what: "binds:other".into(), ..share(2, 4, 0) };
    assert_eq!(store.limits.share(secs(5), &other).await, Ok(4), "of something else");
    // One that leaves makes room at once, one that dies when nobody believes in it any more.
    assert_eq!(store.limits.share(secs(6), &Share { leaves: true, ..share(2, 4, 0) }).await, Ok(0));
    assert_eq!(ask(&store, secs(6), 1, 2).await, 4);
    assert_eq!(ask(&store, secs(7), 3, 0).await, 0);
    for at in [10, 14, 18, 20] {
        assert_eq!(ask(&store, secs(at), 3, 0).await, 0, "at {at}");
    }
    assert_eq!(ask(&store, secs(21), 3, 0).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_are_too_few_those_that_came_first_keep_them() {
    let store = whole(redis()).await;
    let mut granted: HashMap<u64, u16> = HashMap::new();
    for step in 0..5 {
        for who in [9, 3, 5, 1] {
            let holds = granted.get(&who).copied().unwrap_or(0);
            granted.insert(who, store.limits.share(secs(step), &share(who, 2, holds)).await.unwrap());
            assert!(granted.values().sum::<u16>() <= 2, "step {step}: {granted:?}");
        }
    }
    assert_eq!(granted, HashMap::from([(9, 1), (3, 1), (5, 0), (1, 0)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobodys_time_runs_while_nobody_can_ask() {
    let store = whole(redis()).await;
    assert_eq!(ask(&store, secs(0), 1, 0).await, 4);
    let later = secs(600);
    assert_eq!(ask(&store, later, 2, 0).await, 0, "nobody could ask for ten minutes");
    assert_eq!(ask(&store, later.plus(Duration::from_secs(1)), 1, 4).await, 2);
    assert_eq!(ask(&store, later.plus(SHARE_LIFE / 4), 2, 0).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_memory_gives_nobody_more_than_they_hold() {
    let store = redis();
    assert_eq!(ask(&store, secs(0), 1, 0).await, 0);
    assert_eq!(ask(&store, secs(0), 2, 3).await, 2);
    assert_eq!(ask(&store, secs(1), 3, 1).await, 1);
    let identity = store.limits.identity().await.unwrap();
    assert!(store.limits.recovered(&identity).await.unwrap());
    assert_eq!(ask(&store, secs(1), 1, 0).await, 0, "three and one are held");
    assert_eq!(ask(&store, secs(2), 2, 2).await, 1);
    assert_eq!(ask(&store, secs(3), 2, 1).await, 1);
    assert_eq!(ask(&store, secs(3), 1, 0).await, 2);
}

/// Nodes come, hold on, let go, leave and die; all together they never hold more than there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_together_never_hold_more_than_there_are() {
    const TOTAL: u16 = 7;
    let store = whole(redis()).await;
    let mut random = fastrand::Rng::with_seed(5);
    // What each node holds, and when it asked last.
    let mut nodes: HashMap<u64, (u16, UnixMicros)> = HashMap::new();
    let (mut now, mut full) = (NOW, 0);
    for step in 0..2_000 {
        now = now.plus(Duration::from_millis(random.u64(..800)));
        // A node that may be forgotten has noticed that, or is dead.
        nodes.retain(|_, (_, at)| now.since(*at) < SHARE_LIFE - Duration::from_secs(1));
        let who = random.u64(1..6);
        let known = nodes.get(&who).map_or(0, |(holds, _)| *holds);
        if random.u8(..30) == 0 {
            store.limits.share(now, &Share { leaves: true, ..share(who, TOTAL, 0) }).await.unwrap();
            nodes.remove(&who);
            continue;
        }
        let granted = store.limits.share(now, &share(who, TOTAL, known)).await.unwrap();
        // What is taken back is let go of sooner or later.
        let holds = if granted < known && random.bool() { known } else { granted };
        nodes.insert(who, (holds, now));
        let held: u16 = nodes.values().map(|(holds, _)| holds).sum();
        assert!(held <= TOTAL, "step {step}: {held} of {TOTAL} held, {nodes:?}");
        full += u32::from(held == TOTAL);
    }
    assert!(full > 500, "all were held in {full} of 2000 steps: nothing was tried");
}
