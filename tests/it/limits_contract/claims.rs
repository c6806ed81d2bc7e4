//! Claims: one copy of a job goes out, and a missing memory never means "not done".

use std::time::Duration;

use postrider::domain::time::UnixMicros;
use postrider::limits::{CLAIM_LIFE, Claim, Decision, Limits};

use super::{DAY, HOUR, NOW, Store, ask, ask_all, capped, claim, full, give_back, on_every_backend, take};

on_every_backend! {
    another_copy_is_held
    a_repeated_asking_is_the_same_asking
    record_decides_what_gives_way
    a_claim_lives_a_day_after_its_deadline
    what_was_seen_too_early_is_forgotten
    only_the_own_token_is_given_back
    a_call_answers_each_in_order
}

async fn another_copy_is_held(store: Store) {
    let first = Claim { attempt: 3, ..claim(1, 1) };
    let held = Decision::Held { attempt: 3, deadline: first.deadline };
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    for attempt in [1, 3, 4] {
        assert_eq!(ask(&store, NOW, &Claim { token: 99, attempt, ..first.clone() }).await, held);
    }
    assert_eq!(ask(&store, NOW, &claim(1, 2)).await, Decision::Claimed, "another job of the same recipient");
    let other = Claim { tenant: "other".parse().unwrap(), token: 99, ..first };
    assert_eq!(ask(&store, NOW, &other).await, Decision::Claimed, "another tenant's job of the same id");
}

async fn a_repeated_asking_is_the_same_asking(store: Store) {
    let caps = [take(1, 2, DAY)];
    for _ in 0..3 {
        assert_eq!(ask(&store, NOW, &capped(1, 1, &caps)).await, Decision::Claimed);
    }
    let twice = [capped(1, 2, &caps), capped(1, 2, &caps), capped(1, 3, &caps)];
    let over = full(0, NOW.plus(DAY));
    let decisions = ask_all(&store, NOW, &twice).await;
    assert_eq!(decisions, [Decision::Claimed, Decision::Claimed, over], "two places, each taken once");
}

async fn record_decides_what_gives_way(store: Store) {
    let first = claim(1, 1);
    let second = Claim { attempt: 2, supersedes: 1, token: 2, ..first.clone() };
    let third = Claim { attempt: 3, supersedes: 2, token: 3, ..first.clone() };
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &second).await, Decision::Claimed);
    let held = Decision::Held { attempt: 2, deadline: first.deadline };
    assert_eq!(ask(&store, NOW, &Claim { token: 9, ..first.clone() }).await, held, "a stray copy of the first");
    assert_eq!(ask(&store, NOW, &first).await, held, "its own token as well: it was superseded");
    assert_eq!(ask(&store, NOW, &third).await, Decision::Claimed);
    give_back(&store, &third).await;
    assert_eq!(ask(&store, NOW, &Claim { token: 9, ..first }).await, held, "the second stands again");
}

async fn a_claim_lives_a_day_after_its_deadline(store: Store) {
    let first = claim(1, 1);
    ask(&store, NOW, &first).await;
    let again = Claim { token: 2, ..first.clone() };
    let end = first.deadline.plus(CLAIM_LIFE);
    let held = Decision::Held { attempt: 1, deadline: first.deadline };
    let capped = capped(2, 2, &[take(1, 1, DAY * 7)]);
    ask(&store, NOW, &capped).await;
    assert_eq!(ask(&store, UnixMicros(end.0 - 1), &again).await, held);
    assert_eq!(ask(&store, end, &again).await, Decision::Claimed);
    let other = Claim { takes: vec![], token: 9, ..capped };
    assert_eq!(ask(&store, end, &other).await, Decision::Claimed, "its place in the cap lives on, it does not");
}

async fn what_was_seen_too_early_is_forgotten(store: Store) {
    let changed_at = store.limits.identity().await.unwrap().changed_at;
    let seen_at = |job, seen| Claim { seen: Some(seen), ..claim(1, job) };
    let before = seen_at(1, UnixMicros(changed_at.0 - 1));
    assert_eq!(ask(&store, changed_at.plus(HOUR), &before).await, Decision::Forgotten);
    let after = Claim { deadline: changed_at.plus(HOUR), ..seen_at(1, changed_at) };
    assert_eq!(ask(&store, changed_at.plus(HOUR), &after).await, Decision::Claimed);
    assert_eq!(
        ask(&store, NOW, &seen_at(2, NOW.minus(CLAIM_LIFE + Duration::from_micros(1)))).await,
        Decision::Forgotten
    );
    assert_eq!(ask(&store, NOW, &seen_at(2, NOW.minus(CLAIM_LIFE))).await, Decision::Claimed);
    let again = Claim { token: 9, ..seen_at(2, NOW.minus(DAY * 3)) };
    let held = Decision::Held { attempt: 1, deadline: again.deadline };
    assert_eq!(ask(&store, NOW, &again).await, held, "what is remembered is not forgotten");
}

async fn only_the_own_token_is_given_back(store: Store) {
    let caps = [take(1, 1, DAY)];
    let first = capped(1, 1, &caps);
    let over = full(0, NOW.plus(DAY));
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    give_back(&store, &Claim { token: 9, ..first.clone() }).await;
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps)).await, over, "another token gave nothing back");
    give_back(&store, &first).await;
    let newer = Claim { token: 3, ..first.clone() };
    assert_eq!(ask(&store, NOW, &newer).await, Decision::Claimed);
    give_back(&store, &first).await;
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps)).await, over, "the newer claim stands");
    let held = Decision::Held { attempt: 1, deadline: first.deadline };
    assert_eq!(ask(&store, NOW, &first).await, held);
    give_back(&store, &newer).await;
    give_back(&store, &newer).await;
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &capped(1, 4, &caps)).await, over, "giving back twice frees one place");
}

async fn a_call_answers_each_in_order(store: Store) {
    // More than one call to a server carries.
    let claims: Vec<Claim> =
        (0..1_000).map(|job| capped(u8::try_from(job % 250).unwrap(), job, &[take(1, 2, DAY)])).collect();
    let decisions = ask_all(&store, NOW, &claims).await;
    assert_eq!(decisions.len(), claims.len());
    let claimed = decisions.iter().filter(|&decision| *decision == Decision::Claimed).count();
    assert_eq!(claimed, 500);
    assert!(store.limits.claim(NOW, &[]).await.unwrap().is_empty());
    let again = ask_all(&store, NOW, &claims).await;
    assert_eq!(again, decisions);
}
