//! What submits take of their tenant's quotas: exactly, once, all or nothing of an item.

use std::sync::Arc;
use std::time::Duration;

use postrider::domain::ids::JobId;
use postrider::domain::keys::{Fingerprint, WordKey};
use postrider::domain::time::UnixMicros;
use postrider::limits::{Allowance, Counts, Limits, Need, Remember, Remembered, Spend, Spent};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{DAY, NOW, Store, acme, on_every_backend, remember};

on_every_backend! {
    items_are_let_in_up_to_the_first_without_room
    each_quota_has_a_say
    money_is_counted_to_the_millionth
    a_key_takes_once_and_gets_its_first_answer
    a_key_that_nothing_was_let_in_under_stays_free
    many_at_once_take_exactly_what_there_is
    a_lower_quota_lets_nothing_in_and_takes_nothing_back
    windows_and_tenants_are_apart
    what_was_taken_is_told
}

const EACH: Need = Need { jobs: 1, micros: 0 };

fn jobs(quota: u8, most: u64) -> Allowance {
    Allowance { key: WordKey([quota; 16]), counts: Counts::Jobs, most, ends_at: NOW.plus(DAY) }
}

fn money(quota: u8, most: u64) -> Allowance {
    Allowance { counts: Counts::Money, ..jobs(quota, most) }
}

fn spend(from: &[Allowance], items: Vec<Need>) -> Spend {
    Spend { tenant: acme(), key: None, from: from.to_vec(), items }
}

fn keyed(id: u128, body: u8, spend: Spend) -> Spend {
    let until = NOW.plus(DAY * 2);
    Spend {
        key: Some(Remember { id: JobId(Uuid::from_u128(id)), fingerprint: Fingerprint([body; 16]), until }),
        ..spend
    }
}

async fn ask(store: &Store, spend: &Spend) -> Spent {
    store.limits.spend(NOW, std::slice::from_ref(spend)).await.unwrap().remove(0)
}

fn new(items: u32, full: Option<usize>) -> Spent {
    Spent { met: Remembered::New, items, full }
}

async fn items_are_let_in_up_to_the_first_without_room(store: Store) {
    let from = [jobs(1, 10)];
    assert_eq!(ask(&store, &spend(&from, vec![EACH; 7])).await, new(7, None));
    assert_eq!(ask(&store, &spend(&from, vec![EACH; 7])).await, new(3, Some(0)));
    assert_eq!(ask(&store, &spend(&from, vec![EACH])).await, new(0, Some(0)));
    // What is refused anyway takes nothing, and stands in nobody's way.
    let none = Need::default();
    assert_eq!(ask(&store, &spend(&from, vec![none, none])).await, new(2, None));
    assert_eq!(ask(&store, &spend(&from, vec![none, EACH, none])).await, new(1, Some(0)));
    assert_eq!(ask(&store, &spend(&[], vec![EACH; 10_000])).await, new(10_000, None));
}

async fn each_quota_has_a_say(store: Store) {
    let from = [jobs(1, 100), jobs(2, 5), jobs(3, 5)];
    assert_eq!(ask(&store, &spend(&from, vec![EACH; 8])).await, new(5, Some(1)), "the first of those that are full");
    // The others took as much as was let in, and no more.
    assert_eq!(ask(&store, &spend(&from[..1], vec![EACH; 100])).await, new(95, Some(0)));
    assert_eq!(ask(&store, &spend(&from[2..], vec![EACH])).await, new(0, Some(0)));
}

async fn money_is_counted_to_the_millionth(store: Store) {
    let from = [money(1, 100_001), jobs(2, 4)];
    let item = |micros| Need { jobs: 1, micros };
    let items = vec![item(45_000), item(45_000), item(10_001), item(1)];
    assert_eq!(ask(&store, &spend(&from, items)).await, new(3, Some(0)), "to the last millionth");
    assert_eq!(ask(&store, &spend(&from, vec![item(0), item(0)])).await, new(1, Some(1)), "what is free still counts");
    // Amounts beyond all that a quota may be.
    assert_eq!(ask(&store, &spend(&[money(3, 9_000_000_000_000_000)], vec![item(u64::MAX)])).await, new(0, Some(0)));
}

async fn a_key_takes_once_and_gets_its_first_answer(store: Store) {
    let from = [jobs(1, 10)];
    let batch = keyed(1, 1, spend(&from, vec![EACH; 6]));
    assert_eq!(ask(&store, &batch).await, new(6, None));
    let again = |met, items| Spent { met, items, full: None };
    assert_eq!(ask(&store, &batch).await, again(Remembered::Pending, 6));
    let cut = keyed(2, 1, spend(&from, vec![EACH; 6]));
    assert_eq!(ask(&store, &cut).await, new(4, Some(0)));
    assert_eq!(ask(&store, &cut).await, again(Remembered::Pending, 4));
    store.limits.accepted(&[JobId(Uuid::from_u128(2))]).await.unwrap();
    // Even where there is room again, or no quota at all: what was let in was let in.
    let later = Spend { from: vec![], ..cut.clone() };
    assert_eq!(ask(&store, &later).await, again(Remembered::Accepted, 4));
    // Without items it is only looked up.
    let look = |id| keyed(id, 1, spend(&[], vec![]));
    assert_eq!(ask(&store, &look(1)).await, again(Remembered::Pending, u32::MAX));
    assert_eq!(ask(&store, &look(2)).await, again(Remembered::Accepted, 4));
    assert_eq!([ask(&store, &look(3)).await, ask(&store, &look(3)).await], [new(0, None), new(0, None)]);
    let other = keyed(2, 9, spend(&from, vec![EACH; 6]));
    assert_eq!(ask(&store, &other).await.met, Remembered::Conflict);
    assert_eq!(ask(&store, &spend(&from, vec![EACH])).await, new(0, Some(0)), "ten were taken, once each");
    // It is the same memory that submits without quotas use.
    let met = remember(&store.limits, NOW, &[cut.key.unwrap(), batch.key.unwrap()]).await;
    assert_eq!(met, [Remembered::Accepted, Remembered::Pending]);
}

async fn a_key_that_nothing_was_let_in_under_stays_free(store: Store) {
    let full = keyed(1, 1, spend(&[jobs(1, 0)], vec![EACH]));
    assert_eq!(ask(&store, &full).await, new(0, Some(0)));
    let other = keyed(1, 2, spend(&[jobs(1, 5)], vec![EACH]));
    assert_eq!(ask(&store, &other).await, new(1, None));
}

async fn many_at_once_take_exactly_what_there_is(store: Store) {
    const WORKERS: u32 = 16;
    let store = Arc::new(store);
    let from = [jobs(1, 1_000), money(2, 700 * 3)];
    let mut workers = JoinSet::new();
    for worker in 0..WORKERS {
        let (store, from) = (Arc::clone(&store), from.to_vec());
        workers.spawn(async move {
            let (mut taken, mut rng) = (0, fastrand::Rng::with_seed(worker.into()));
            for _ in 0..200 {
                let items = vec![Need { jobs: 1, micros: 3 }; rng.usize(1..4)];
                taken += ask(&store, &spend(&from, items)).await.items;
            }
            taken
        });
    }
    let mut taken = 0;
    while let Some(worker) = workers.join_next().await {
        taken += worker.unwrap();
    }
    assert_eq!(taken, 700, "not one more, not one less");
    assert_eq!(ask(&store, &spend(&from[..1], vec![EACH; 1_000])).await, new(300, Some(0)));
}

async fn a_lower_quota_lets_nothing_in_and_takes_nothing_back(store: Store) {
    assert_eq!(ask(&store, &spend(&[jobs(1, 10)], vec![EACH; 8])).await, new(8, None));
    assert_eq!(ask(&store, &spend(&[jobs(1, 5)], vec![EACH])).await, new(0, Some(0)));
    assert_eq!(ask(&store, &spend(&[jobs(1, 5)], vec![Need::default()])).await, new(1, None));
    assert_eq!(ask(&store, &spend(&[jobs(1, 10)], vec![EACH; 8])).await, new(2, Some(0)));
}

async fn windows_and_tenants_are_apart(store: Store) {
    let today = jobs(1, 1);
    assert_eq!(ask(&store, &spend(&[today], vec![EACH])).await, new(1, None));
    let tomorrow = Allowance { ends_at: NOW.plus(DAY * 2), ..jobs(2, 1) };
    assert_eq!(ask(&store, &spend(&[tomorrow], vec![EACH])).await, new(1, None));
    let rival = Spend { tenant: "rival".parse().unwrap(), ..spend(&[today], vec![EACH]) };
    assert_eq!(ask(&store, &rival).await, new(1, None));
    // A caller whose clock is a moment behind counts in the window that has just ended.
    let late = UnixMicros(today.ends_at.0).plus(Duration::from_secs(60));
    assert_eq!(store.limits.spend(late, &[spend(&[today], vec![EACH])]).await.unwrap(), [new(0, Some(0))]);
}

async fn what_was_taken_is_told(store: Store) {
    let (jobs, money) = (jobs(1, 10), money(2, 1_000));
    let both = async |keys: &[WordKey]| store.limits.taken(&acme(), keys).await.unwrap();
    assert_eq!(both(&[jobs.key, money.key]).await, 0);
    let items = vec![Need { jobs: 1, micros: 30 }; 3];
    let keyed = keyed(1, 1, spend(&[jobs, money], items));
    for _again in 0..2 {
        ask(&store, &keyed).await;
        assert_eq!((both(&[jobs.key]).await, both(&[money.key]).await), (3, 90));
    }
    assert_eq!(both(&[jobs.key, WordKey([9; 16]), money.key]).await, 93);
    assert_eq!(store.limits.taken(&"other".parse().unwrap(), &[jobs.key]).await, Ok(0));
    assert_eq!(both(&[]).await, 0);
}
