//! Places that turn out not to count: freed in some caps, whenever they were taken, while the claims stand.

use postrider::domain::keys::RecipientKey;
use postrider::limits::{Claim, Decision, Limits as _, LimitsError, Span, Take, Vacate};
use uuid::Uuid;

use super::{DAY, HOUR, NOW, Store, ask, capped, embedded, full, give_back, on_every_backend, redis, spanning, take};

on_every_backend! {
    places_are_freed_and_claims_stand
    what_is_freed_late_is_freed_all_the_same
    a_log_that_recipients_share_is_freed_too
    a_window_without_places_begins_anew
}

/// The sender's log.
const SENDER: RecipientKey = RecipientKey([77; 16]);

fn vacate(claim: &Claim, rules: &[u32]) -> Vacate {
    let Claim { tenant, recipient, touch, .. } = claim.clone();
    Vacate { tenant, recipient, touch, rules: rules.to_vec(), logs: vec![] }
}

async fn places_are_freed_and_claims_stand(store: Store) {
    let caps = [take(1, 1, DAY), take(2, 1, HOUR * 12), take(3, 9, DAY)];
    let lost = capped(1, 1, &caps);
    assert_eq!(ask(&store, NOW, &lost).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps[..1])).await, full(0, NOW.plus(DAY)));
    let others = [vacate(&capped(2, 1, &[]), &[1]), vacate(&capped(1, 9, &[]), &[1]), vacate(&lost, &[9])];
    store.limits.vacate(&others).await.unwrap();
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps[..1])).await, full(0, NOW.plus(DAY)), "nobody else's");
    for _ in 0..2 {
        store.limits.vacate(&[vacate(&lost, &[1, 3])]).await.unwrap();
    }
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps[..1])).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &capped(1, 3, &caps[..1])).await, full(0, NOW.plus(DAY)), "one place, once");
    assert_eq!(ask(&store, NOW, &capped(1, 4, &caps[1..2])).await, full(0, NOW.plus(HOUR * 12)), "of another rule");
    let held = Decision::Held { attempt: 1, deadline: lost.deadline };
    assert_eq!(ask(&store, NOW, &Claim { token: 99, ..lost.clone() }).await, held, "its claim stands");
    give_back(&store, &lost).await;
    assert_eq!(ask(&store, NOW, &capped(1, 4, &caps[1..2])).await, Decision::Claimed, "and is given back as ever");
}

async fn what_is_freed_late_is_freed_all_the_same(store: Store) {
    let caps = [take(1, 2, DAY * 7), take(2, 200, DAY * 9)];
    let chain = Uuid::from_u128(500);
    let steps = [capped(1, 1, &caps), Claim { touch: chain, ..capped(1, 2, &caps) }];
    for step in &steps {
        assert_eq!(ask(&store, NOW, step).await, Decision::Claimed);
    }
    // Three days later their claims are forgotten; the next claim sweeps what has no meaning.
    let later = NOW.plus(DAY * 3);
    assert_eq!(ask(&store, later, &capped(1, 3, &caps)).await, full(0, NOW.plus(DAY * 7)));
    assert_eq!(ask(&store, later, &capped(1, 4, &caps[1..])).await, Decision::Claimed);
    store.limits.vacate(&[vacate(&steps[1], &[1])]).await.unwrap();
    let again = Claim { deadline: later, ..capped(1, 3, &caps) };
    assert_eq!(ask(&store, later, &again).await, Decision::Claimed);
    assert_eq!(ask(&store, later, &capped(1, 5, &caps)).await, full(0, NOW.plus(DAY * 7)));
    let held = store.limits.places(later, &capped(1, 6, &caps)).await.unwrap();
    assert_eq!(held.iter().map(Vec::len).collect::<Vec<_>>(), [2, 4], "the other rule counts all of them");
}

async fn a_log_that_recipients_share_is_freed_too(store: Store) {
    let caps = [Take { log: Some(SENDER), ..take(1, 1, DAY) }, take(2, 1, DAY)];
    let lost = capped(1, 1, &caps);
    assert_eq!(ask(&store, NOW, &lost).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &capped(2, 2, &caps)).await, full(0, NOW.plus(DAY)));
    store.limits.vacate(&[Vacate { logs: vec![SENDER], ..vacate(&lost, &[1, 2]) }]).await.unwrap();
    assert_eq!(ask(&store, NOW, &capped(2, 2, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &capped(1, 3, &caps)).await, full(0, NOW.plus(DAY)));
    assert_eq!(ask(&store, NOW, &capped(1, 4, &caps[1..])).await, Decision::Claimed);
}

async fn a_window_without_places_begins_anew(store: Store) {
    let caps = [spanning(1, 1, Span::FromFirst(DAY))];
    let lost = capped(1, 1, &caps);
    assert_eq!(ask(&store, NOW, &lost).await, Decision::Claimed);
    store.limits.vacate(&[vacate(&lost, &[1])]).await.unwrap();
    let later = NOW.plus(HOUR * 20);
    assert_eq!(ask(&store, later, &capped(1, 2, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW.plus(HOUR * 30), &capped(1, 3, &caps)).await, full(0, later.plus(DAY)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_that_recovers_frees_nothing() {
    for store in [embedded(), redis()] {
        let places = [vacate(&capped(1, 1, &[]), &[1])];
        assert_eq!(store.limits.vacate(&places).await, Err(LimitsError::Recovering));
        let identity = store.limits.identity().await.unwrap();
        assert!(store.limits.recovered(&identity).await.unwrap());
        store.limits.vacate(&places).await.unwrap();
    }
}
