//! Rates: a bucket that all share never gives more than its burst and its rate.

use std::time::Duration;

use postrider::domain::time::UnixMicros;
use postrider::limits::{Granted, Lease, LeaseMode, Limits};

use super::{DAY, NOW, Store, on_every_backend};

on_every_backend! {
    a_wish_is_met_as_its_mode_says
    a_changed_rate_binds_at_once
    what_is_given_back_is_there_again
    the_next_token_is_there_when_it_was_said
    time_never_steps_back
    no_window_holds_more_than_burst_and_rate
}

fn wish(rate: &str, want: u32, mode: LeaseMode) -> Lease {
    Lease { bucket: "provider:carrier-a".into(), rate: rate.parse().unwrap(), keep: 0, want, mode }
}

async fn lease(store: &Store, now: UnixMicros, wish: Lease) -> (u32, UnixMicros) {
    let Granted { tokens, next_at } = store.limits.lease(now, &[wish]).await.unwrap().remove(0);
    (tokens, next_at)
}

fn millis(millis: u64) -> UnixMicros {
    NOW.plus(Duration::from_millis(millis))
}

async fn a_wish_is_met_as_its_mode_says(store: Store) {
    use LeaseMode::{Force, UpTo, Whole};
    assert_eq!(lease(&store, NOW, wish("10/s:20", 15, UpTo)).await, (15, NOW));
    assert_eq!(lease(&store, NOW, wish("10/s:20", 15, UpTo)).await, (5, millis(100)));
    assert_eq!(lease(&store, NOW, wish("10/s:20", 15, UpTo)).await, (0, millis(100)));
    assert_eq!(lease(&store, NOW, wish("10/s:20", 7, Whole)).await, (0, millis(700)));
    assert_eq!(lease(&store, UnixMicros(millis(700).0 - 1), wish("10/s:20", 7, Whole)).await, (0, millis(700)));
    assert_eq!(lease(&store, millis(700), wish("10/s:20", 7, Whole)).await, (7, millis(700)));
    assert_eq!(lease(&store, millis(700), wish("10/s:20", 5, Force)).await, (5, millis(700)));
    assert_eq!(lease(&store, millis(700), wish("10/s:20", 1, UpTo)).await, (0, millis(1_300)), "others wait for it");
    assert_eq!(lease(&store, millis(700), wish("10/s:20", 50, Whole)).await, (0, millis(3_200)));
    assert_eq!(lease(&store, millis(3_200), wish("10/s:20", 50, Whole)).await, (20, millis(3_200)), "a full bucket");
    let two = [wish("10/s:20", 1, UpTo), Lease { bucket: "tenant:acme".into(), ..wish("10/s:20", 1, UpTo) }];
    let granted = store.limits.lease(millis(3_200), &two).await.unwrap();
    assert_eq!(granted.iter().map(|granted| granted.tokens).collect::<Vec<_>>(), [0, 1], "each its own");
    assert_eq!(lease(&store, NOW.plus(DAY), wish("10/s:20", 50, UpTo)).await.0, 20, "never more than the burst");
}

async fn a_changed_rate_binds_at_once(store: Store) {
    use LeaseMode::UpTo;
    assert_eq!(lease(&store, NOW, wish("10/s:10", 10, UpTo)).await, (10, NOW));
    assert_eq!(
        lease(&store, millis(500), wish("1000/s:10", 100, UpTo)).await,
        (5, millis(501)),
        "so far at ten a second"
    );
    assert_eq!(lease(&store, millis(503), wish("1000/s:10", 100, UpTo)).await, (3, millis(504)));
    assert_eq!(lease(&store, millis(9_000), wish("1/s:2", 100, UpTo)).await, (2, millis(10_000)));
}

async fn what_is_given_back_is_there_again(store: Store) {
    use LeaseMode::UpTo;
    store.limits.unlease("provider:carrier-a", 5).await.unwrap();
    assert_eq!(lease(&store, NOW, wish("10/s:10", 8, UpTo)).await, (8, NOW));
    store.limits.unlease("provider:carrier-a", 3).await.unwrap();
    assert_eq!(lease(&store, NOW, wish("10/s:10", 10, UpTo)).await, (5, millis(100)));
    store.limits.unlease("provider:carrier-a", 1_000).await.unwrap();
    assert_eq!(lease(&store, NOW, wish("10/s:10", 100, UpTo)).await, (10, millis(100)), "no more than the burst");
}

async fn the_next_token_is_there_when_it_was_said(store: Store) {
    for mode in [LeaseMode::UpTo, LeaseMode::Whole] {
        let now = if mode == LeaseMode::UpTo { NOW } else { NOW.plus(DAY) };
        assert_eq!(lease(&store, now, wish("3/s:3", 3, mode)).await, (3, now));
        let next_at = now.plus(Duration::from_micros(333_334));
        assert_eq!(lease(&store, now, wish("3/s:3", 1, mode)).await, (0, next_at), "a third of a second, rounded up");
        assert_eq!(lease(&store, UnixMicros(next_at.0 - 1), wish("3/s:3", 1, mode)).await, (0, next_at));
        assert_eq!(lease(&store, next_at, wish("3/s:3", 1, mode)).await, (1, next_at));
    }
}

async fn time_never_steps_back(store: Store) {
    use LeaseMode::UpTo;
    assert_eq!(lease(&store, millis(1_000), wish("10/s:10", 10, UpTo)).await.0, 10);
    assert_eq!(lease(&store, NOW, wish("10/s:10", 10, UpTo)).await, (0, millis(1_100)));
    assert_eq!(lease(&store, millis(1_000), wish("10/s:10", 10, UpTo)).await, (0, millis(1_100)));
    assert_eq!(lease(&store, millis(1_100), wish("10/s:10", 10, UpTo)).await.0, 1);
}

async fn no_window_holds_more_than_burst_and_rate(store: Store) {
    let (rate, burst) = (50, 20);
    let mut random = fastrand::Rng::with_seed(7);
    let (mut now, mut taken) = (NOW, Vec::new());
    for _ in 0..600 {
        now = now.plus(Duration::from_micros(random.u64(0..60_000)));
        let mode = if random.bool() { LeaseMode::UpTo } else { LeaseMode::Whole };
        let (tokens, next_at) = lease(&store, now, wish("50/s:20", random.u32(1..12), mode)).await;
        assert!(next_at >= now);
        taken.push((now, u64::from(tokens)));
    }
    let total: u64 = taken.iter().map(|(_, tokens)| tokens).sum();
    let length = now.since(NOW).as_micros() as u64;
    for start in 0..taken.len() {
        let mut sum = 0;
        for &(at, tokens) in &taken[start..] {
            sum += tokens;
            let window = at.since(taken[start].0).as_micros() as u64;
            assert!(sum * 1_000_000 <= burst * 1_000_000 + rate * window, "{sum} tokens in {window} us");
        }
    }
    assert!(total * 1_000_000 > rate * length * 9 / 10, "{total} tokens in {length} us: the rate is used");
}
