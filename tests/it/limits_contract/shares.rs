//! Whole places that nodes share: never more in all than there are.

use std::collections::HashMap;
use std::time::Duration;

use deadpool_redis::redis;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::limits::redis::{Redis, Settings};
use postrider::limits::{AnyLimits, Limits as _, SHARE_LIFE, Share};

use super::{NOW, Store, embedded, whole};
use crate::support::servers;

fn share(at: UnixMicros, who: u64, total: u16, holds: u16) -> Share {
    Share { what: "binds:carrier".into(), who, turn: at, total, holds, leaves: false }
}

async fn ask(store: &Store, at: UnixMicros, who: u64, holds: u16) -> u16 {
    store.limits.share(at, &share(at, who, 4, holds)).await.unwrap()
}

async fn leave(store: &Store, at: UnixMicros, who: u64) {
    assert_eq!(store.limits.share(at, &Share { leaves: true, ..share(at, who, 4, 0) }).await, Ok(0));
}

/// Returns a store that somebody who has left had asked for long enough before.
async fn asked() -> Store {
    let store = whole(super::redis()).await;
    for secs in [8, 4] {
        leave(&store, NOW.minus(Duration::from_secs(secs)), 99).await;
    }
    store
}

fn secs(secs: u64) -> UnixMicros {
    NOW.plus(Duration::from_secs(secs))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_has_all_of_them() {
    let store = whole(embedded()).await;
    assert_eq!(ask(&store, NOW, 1, 0).await, 4);
    leave(&store, NOW, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_share_evenly_once_the_others_have_let_go() {
    let store = asked().await;
    assert_eq!(ask(&store, secs(0), 1, 0).await, 4);
    assert_eq!(ask(&store, secs(1), 2, 0).await, 0, "the first holds all");
    assert_eq!(ask(&store, secs(2), 1, 4).await, 2);
    assert_eq!(ask(&store, secs(3), 2, 0).await, 0, "it has not let go yet");
    assert_eq!(ask(&store, secs(4), 1, 3).await, 2);
    assert_eq!(ask(&store, secs(4), 2, 0).await, 1);
    assert_eq!(ask(&store, secs(5), 1, 2).await, 2);
    assert_eq!(ask(&store, secs(5), 2, 1).await, 2);
    // A third.
    assert_eq!(ask(&store, secs(6), 3, 0).await, 0);
    assert_eq!(ask(&store, secs(6), 1, 2).await, 2, "four by three leaves one over, for who is first in order");
    assert_eq!(ask(&store, secs(6), 2, 2).await, 1);
    assert_eq!(ask(&store, secs(7), 2, 1).await, 1);
    assert_eq!(ask(&store, secs(7), 3, 0).await, 1);
    leave(&store, secs(8), 3).await;
    // One that leaves makes room at once, one that dies when nobody believes in it any more.
    leave(&store, secs(8), 2).await;
    assert_eq!(ask(&store, secs(8), 1, 2).await, 4);
    for at in [9, 13, 17, 21, 22] {
        assert_eq!(ask(&store, secs(at), 4, 0).await, 0, "at {at}");
    }
    assert_eq!(ask(&store, secs(23), 4, 0).await, 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn something_else_is_shared_by_itself() {
    let store = asked().await;
    assert_eq!(ask(&store, secs(0), 1, 0).await, 4);
    let other = |at| Share { what: "binds:other".into(), ..share(at, 2, 4, 0) };
    assert_eq!(store.limits.share(secs(0), &other(secs(0))).await, Ok(0), "nobody has asked for it so far");
    assert_eq!(store.limits.share(secs(4), &other(secs(4))).await, Ok(0));
    assert_eq!(store.limits.share(secs(5), &other(secs(5))).await, Ok(4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_are_too_few_those_that_came_first_keep_them() {
    let store = asked().await;
    let mut granted: HashMap<u64, u16> = HashMap::new();
    for step in 0..5 {
        for who in [9, 3, 5, 1] {
            let holds = granted.get(&who).copied().unwrap_or(0);
            granted.insert(who, store.limits.share(secs(step), &share(secs(step), who, 2, holds)).await.unwrap());
            assert!(granted.values().sum::<u16>() <= 2, "step {step}: {granted:?}");
        }
    }
    assert_eq!(granted, HashMap::from([(9, 1), (3, 1), (5, 0), (1, 0)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobodys_time_runs_while_nobody_can_ask() {
    let store = asked().await;
    assert_eq!(ask(&store, secs(0), 1, 0).await, 4);
    let later = secs(600);
    assert_eq!(ask(&store, later, 2, 0).await, 0, "nobody could ask for ten minutes");
    assert_eq!(ask(&store, later.plus(Duration::from_secs(1)), 1, 4).await, 2);
    assert_eq!(ask(&store, later.plus(SHARE_LIFE / 4), 2, 0).await, 0);
}

/// A process that starts while limits recover, which may take minutes, has binds within seconds: one-time passwords go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_memory_gives_nobody_more_than_they_hold_until_everybody_has_had_the_time_to_ask() {
    for recovering in [true, false] {
        let store = if recovering { super::redis() } else { whole(super::redis()).await };
        assert_eq!(ask(&store, secs(0), 1, 0).await, 0);
        assert_eq!(ask(&store, secs(0), 2, 3).await, 2);
        assert_eq!(ask(&store, secs(1), 3, 1).await, 1);
        assert_eq!(ask(&store, secs(2), 1, 0).await, 0, "three and one are held");
        assert_eq!(ask(&store, secs(2), 2, 2).await, 1);
        assert_eq!(ask(&store, secs(4), 1, 0).await, 0, "one is free, and somebody may hold it");
        assert_eq!(ask(&store, secs(5), 2, 1).await, 1);
        assert_eq!(ask(&store, secs(5), 1, 0).await, 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_memory_does_not_count_the_time_in_which_nobody_could_ask() {
    let store = super::redis();
    assert_eq!(ask(&store, secs(0), 1, 0).await, 0);
    assert_eq!(ask(&store, secs(600), 1, 0).await, 0);
    assert_eq!(ask(&store, secs(602), 2, 3).await, 2);
    assert_eq!(ask(&store, secs(604), 1, 0).await, 0);
    assert_eq!(ask(&store, secs(605), 1, 0).await, 1, "the other holds three");
}

/// What was said last is in no replica that took over, and in no file that was not synced.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_that_may_lack_what_was_said_last_begins_anew() {
    let url = servers::redis().database();
    let limits = Redis::new(&Settings::new(&url), &Clock::virtual_at(NOW)).unwrap();
    let store = whole(Store { limits: AnyLimits::Redis(limits), _dir: None }).await;
    for secs in [8, 4] {
        leave(&store, NOW.minus(Duration::from_secs(secs)), 99).await;
    }
    // It lacks that the first was given all four.
    let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let () = redis::cmd("DEL").arg("pr:i").query_async(&mut connection).await.unwrap();
    assert_eq!(ask(&store, secs(0), 2, 0).await, 0);
    assert_eq!(ask(&store, secs(1), 1, 4).await, 2);
    assert_eq!(ask(&store, secs(5), 2, 0).await, 0, "four are held");
    assert_eq!(ask(&store, secs(5), 1, 2).await, 2);
    assert_eq!(ask(&store, secs(5), 2, 0).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_that_the_next_one_has_overtaken_counts_for_nothing() {
    let store = asked().await;
    assert_eq!(ask(&store, secs(0), 1, 0).await, 4);
    assert_eq!(ask(&store, secs(1), 2, 0).await, 0);
    let late = share(secs(2), 1, 4, 2);
    assert_eq!(ask(&store, secs(3), 1, 4).await, 2);
    assert_eq!(store.limits.share(secs(3), &late).await, Ok(0));
    assert_eq!(ask(&store, secs(4), 2, 0).await, 0, "four are held still");
    assert_eq!(ask(&store, secs(4), 1, 2).await, 2);
    assert_eq!(ask(&store, secs(4), 2, 0).await, 2);
    // A clock that was put back holds up nobody for long.
    let back = share(UnixMicros(1), 1, 4, 2);
    for at in [5, 9, 13, 17] {
        assert_eq!(store.limits.share(secs(at), &back).await, Ok(0));
        assert_eq!(ask(&store, secs(at), 2, 2).await, 2);
    }
    assert_eq!(store.limits.share(secs(20), &back).await, Ok(2));
}

/// Nodes come, hold on, let go, leave and die; all together they never hold more than there are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_together_never_hold_more_than_there_are() {
    const TOTAL: u16 = 7;
    let store = asked().await;
    let mut random = fastrand::Rng::with_seed(5);
    // What each node holds, and when it asked last.
    let mut nodes: HashMap<u64, (u16, UnixMicros)> = HashMap::new();
    let (mut now, mut full) = (NOW, 0);
    for step in 0..2_000 {
        now = now.plus(Duration::from_millis(random.u64(1..800)));
        // A node that may be forgotten has noticed that, or is dead.
        nodes.retain(|_, (_, at)| now.since(*at) < SHARE_LIFE - Duration::from_secs(1));
        let who = random.u64(1..6);
        let known = nodes.get(&who).map_or(0, |(holds, _)| *holds);
        if random.u8(..30) == 0 {
            leave(&store, now, who).await;
            nodes.remove(&who);
            continue;
        }
        let granted = store.limits.share(now, &share(now, who, TOTAL, known)).await.unwrap();
        // What is taken back is let go of sooner or later.
        let holds = if granted < known && random.bool() { known } else { granted };
        nodes.insert(who, (holds, now));
        let held: u16 = nodes.values().map(|(holds, _)| holds).sum();
        assert!(held <= TOTAL, "step {step}: {held} of {TOTAL} held, {nodes:?}");
        full += u32::from(held == TOTAL);
    }
    assert!(full > 500, "all were held in {full} of 2000 steps: nothing was tried");
}
