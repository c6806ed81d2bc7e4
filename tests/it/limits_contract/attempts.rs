//! Caps that count attempts: each takes a place of its own, whatever came of it, and only what never went out comes back.

use postrider::domain::cap::Mode;
use postrider::domain::keys::RecipientKey;
use postrider::domain::time::UnixMicros;
use postrider::limits::{Claim, Decision, Limits as _, Once, Span, Take, Touch, Vacate};
use uuid::Uuid;

use super::{DAY, HOUR, NOW, Store, ask, ask_all, capped, embedded, full, give_back, on_every_backend, redis, take};

on_every_backend! {
    each_attempt_takes_a_place_and_each_asking_once
    only_what_did_not_go_out_comes_back
    each_step_of_a_chain_counts
    a_gap_stands_between_the_attempts_of_a_job
    every_window_counts_attempts
    a_shadow_and_a_log_that_recipients_share_count_attempts_too
}

/// A cap that counts attempts.
fn tries(rule: u32, limit: u32, window: std::time::Duration) -> Take {
    Take { once: Once::Attempt, ..take(rule, limit, window) }
}

/// The claim of a job's attempt, which follows the one before.
fn attempt(job: u64, attempt: u16, takes: &[Take]) -> Claim {
    let token = job * 100 + u64::from(attempt);
    Claim { attempt, supersedes: attempt - 1, token, ..capped(1, job, takes) }
}

async fn each_attempt_takes_a_place_and_each_asking_once(store: Store) {
    let caps = [tries(1, 3, DAY), take(2, 2, DAY)];
    let at = |hours: u32| NOW.plus(HOUR * hours);
    for (number, hours) in [(1, 0), (2, 1)] {
        for _ in 0..2 {
            let claim = attempt(1, number, &caps);
            assert_eq!(ask(&store, at(hours), &claim).await, Decision::Claimed, "attempt {number}");
        }
    }
    // Another job has the third place; of jobs there is room for two all the same.
    assert_eq!(ask(&store, at(2), &attempt(2, 1, &caps)).await, Decision::Claimed);
    let third = attempt(1, 3, &caps);
    let over = full(0, at(24));
    assert_eq!(store.limits.peek(at(3), std::slice::from_ref(&third)).await.unwrap(), std::slice::from_ref(&over));
    assert_eq!(ask(&store, at(3), &third).await, over, "when the first leaves the window, not the second");
    assert_eq!(ask(&store, at(3), &attempt(3, 1, &caps)).await, over, "nor anybody else");
    let held = store.limits.places(at(3), &third).await.unwrap();
    let whose: Vec<_> = held.iter().map(|held| held.iter().map(|held| held.job).collect::<Vec<_>>()).collect();
    let [one, two] = [1, 2].map(|job| postrider::limits::short(Uuid::from_u128(job)));
    assert_eq!(whose, [vec![two, one, one], vec![two, one]]);
    assert_eq!(ask(&store, at(24), &third).await, Decision::Claimed);
    assert_eq!(ask(&store, at(24), &attempt(4, 1, &caps[..1])).await, full(0, at(25)));
    // In one call, too: what a claim takes the next one sees.
    let more = [attempt(9, 1, &[tries(9, 1, DAY)]), attempt(9, 2, &[tries(9, 1, DAY)])];
    assert_eq!(ask_all(&store, at(24), &more).await, [Decision::Claimed, full(0, at(48))]);
}

async fn only_what_did_not_go_out_comes_back(store: Store) {
    let caps = [tries(1, 2, DAY), take(2, 1, DAY)];
    let (first, second) = (attempt(1, 1, &caps), attempt(1, 2, &caps));
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    for _ in 0..3 {
        assert_eq!(ask(&store, NOW, &second).await, Decision::Claimed);
        assert_eq!(ask(&store, NOW, &attempt(2, 1, &caps[..1])).await, full(0, NOW.plus(DAY)));
        // Nobody was there to take it: that was no attempt, and the one before was.
        give_back(&store, &second).await;
    }
    assert_eq!(ask(&store, NOW, &attempt(2, 1, &caps)).await, full(1, NOW.plus(DAY)), "the job's place stands");
    assert_eq!(ask(&store, NOW, &attempt(2, 1, &caps[..1])).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &second).await, full(0, NOW.plus(DAY)));
    // Whom it did not reach is known later: that frees what counts what arrived, and no attempt.
    let Claim { tenant, recipient, touch, .. } = first;
    let vacate = Vacate { tenant, recipient, touch, rules: vec![2], logs: vec![] };
    store.limits.vacate(&[vacate]).await.unwrap();
    assert_eq!(ask(&store, NOW, &attempt(3, 1, &caps)).await, full(0, NOW.plus(DAY)));
    assert_eq!(ask(&store, NOW, &attempt(3, 1, &caps[1..])).await, Decision::Claimed);
}

async fn each_step_of_a_chain_counts(store: Store) {
    let (attempts, touches) = (tries(1, 3, DAY), take(2, 1, DAY));
    let chain = Uuid::from_u128(77);
    let step = |job, number| Claim { touch: chain, ..attempt(job, number, &[attempts.clone(), touches.clone()]) };
    for (job, number) in [(1, 1), (2, 1), (2, 2)] {
        assert_eq!(ask(&store, NOW, &step(job, number)).await, Decision::Claimed, "step {job}, attempt {number}");
    }
    assert_eq!(ask(&store, NOW, &step(3, 1)).await, full(0, NOW.plus(DAY)));
}

async fn a_gap_stands_between_the_attempts_of_a_job(store: Store) {
    let gap = [tries(1, 1, HOUR * 4)];
    assert_eq!(ask(&store, NOW, &attempt(1, 1, &gap)).await, Decision::Claimed);
    let soon = NOW.plus(HOUR);
    assert_eq!(ask(&store, soon, &attempt(1, 2, &gap)).await, full(0, NOW.plus(HOUR * 4)));
    assert_eq!(ask(&store, NOW.plus(HOUR * 4), &attempt(1, 2, &gap)).await, Decision::Claimed);
}

async fn every_window_counts_attempts(store: Store) {
    let fixed = Span::Fixed { start: NOW.minus(HOUR), end: NOW.plus(HOUR) };
    // When the third has room after two at once.
    let spans = [
        (Span::Rolling(DAY), NOW.plus(DAY)),
        (fixed, NOW.plus(HOUR)),
        (Span::FromFirst(DAY), NOW.plus(DAY)),
        (Span::Bucket(HOUR * 5), NOW.plus(HOUR * 5)),
    ];
    for (rule, (span, open_at)) in (10..).zip(spans) {
        let caps = [Take { span, ..tries(rule, 2, DAY) }];
        let job = u64::from(rule);
        for number in [1, 2] {
            assert_eq!(ask(&store, NOW, &attempt(job, number, &caps)).await, Decision::Claimed, "{span:?}");
        }
        assert_eq!(ask(&store, NOW, &attempt(job, 3, &caps)).await, full(0, open_at), "{span:?}");
    }
}

async fn a_shadow_and_a_log_that_recipients_share_count_attempts_too(store: Store) {
    let shadow = Take { mode: Mode::Shadow, ..tries(1, 1, DAY) };
    let sender = Take { log: Some(RecipientKey([77; 16])), ..tries(2, 3, DAY) };
    let caps = [shadow, sender];
    assert_eq!(ask(&store, NOW, &attempt(1, 1, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &attempt(1, 2, &caps)).await, Decision::Overshadowed(1));
    let elsewhere = Claim { recipient: RecipientKey([2; 16]), ..attempt(2, 1, &caps) };
    assert_eq!(ask(&store, NOW, &elsewhere).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &attempt(1, 3, &caps)).await, full(1, NOW.plus(DAY)));
    give_back(&store, &elsewhere).await;
    assert_eq!(ask(&store, NOW, &attempt(1, 3, &caps)).await, Decision::Overshadowed(1));
}

mod after_a_loss {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn attempts_are_restored_each_once_embedded() {
        attempts_are_restored_each_once(embedded()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn attempts_are_restored_each_once_redis() {
        attempts_are_restored_each_once(redis()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_attempt_whose_claim_is_forgotten_is_known_by_its_time_embedded() {
        an_attempt_whose_claim_is_forgotten_is_known_by_its_time(embedded()).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_attempt_whose_claim_is_forgotten_is_known_by_its_time_redis() {
        an_attempt_whose_claim_is_forgotten_is_known_by_its_time(redis()).await;
    }

    /// What the ledger tells has the time of the provider's answer, not of the claim.
    async fn an_attempt_whose_claim_is_forgotten_is_known_by_its_time(store: Store) {
        let caps = [tries(1, 3, DAY * 7)];
        let told = |at| Touch { claim: Claim { deadline: at, ..attempt(1, 1, &caps) }, at };
        let (first, second) = (NOW.minus(HOUR * 50), NOW.minus(HOUR * 20));
        let answered = |at: UnixMicros| told(at.plus(std::time::Duration::from_secs(2)));
        store.limits.restore(&[told(first)]).await.unwrap();
        // Another job of the same recipient comes after a claim's life: the first is now known by its touch alone.
        let other = attempt(2, 1, &caps);
        store.limits.restore(&[Touch { claim: Claim { deadline: second, ..other }, at: second }]).await.unwrap();
        let identity = store.limits.identity().await.unwrap();
        assert!(store.limits.recovered(&identity).await.unwrap());
        assert_eq!(ask(&store, NOW, &attempt(3, 1, &caps)).await, Decision::Claimed);
        store.limits.restore(&[answered(first)]).await.unwrap();
        let held = store.limits.places(NOW, &attempt(4, 1, &caps)).await.unwrap();
        let times: Vec<_> = held[0].iter().map(|held| held.at).collect();
        assert_eq!(times, [NOW, second, first], "the first is not counted again");
    }

    async fn attempts_are_restored_each_once(store: Store) {
        let caps = [tries(1, 3, DAY * 7), take(2, 2, DAY * 7)];
        // The first is so long ago that its claim is forgotten once what came later is restored.
        let hours = [(1, 6 * 24), (2, 50), (2, 49), (3, 2)];
        let touch = |(number, hours): (u16, u32)| {
            let at = NOW.minus(HOUR * hours);
            // Each time the ledger is read they are asked for by other tokens.
            let token = fastrand::u64(..);
            Touch { claim: Claim { deadline: at, token, ..attempt(1, number, &caps) }, at }
        };
        for _ in 0..2 {
            let touches: Vec<_> = hours.into_iter().map(touch).collect();
            store.limits.restore(&touches[..2]).await.unwrap();
            store.limits.restore(&touches[2..]).await.unwrap();
        }
        let identity = store.limits.identity().await.unwrap();
        assert!(store.limits.recovered(&identity).await.unwrap());
        let held = store.limits.places(NOW, &attempt(1, 4, &caps)).await.unwrap();
        let at = |hours: &[u32]| hours.iter().map(|&hours| NOW.minus(HOUR * hours)).collect::<Vec<_>>();
        let times: Vec<Vec<_>> = held.iter().map(|held| held.iter().map(|held| held.at).collect()).collect();
        assert_eq!(times, [at(&[2, 50, 144]), at(&[144])], "three attempts, of which one was told of twice; one job");
        assert_eq!(ask(&store, NOW, &attempt(2, 1, &caps)).await, full(0, NOW.minus(HOUR * 144).plus(DAY * 7)));
        assert_eq!(ask(&store, NOW, &attempt(2, 1, &caps[1..])).await, Decision::Claimed);
        let copy = Claim { supersedes: 0, token: 7, ..attempt(1, 1, &caps[1..]) };
        let held = Decision::Held { attempt: 3, deadline: NOW.minus(HOUR * 2) };
        assert_eq!(ask(&store, NOW, &copy).await, held, "the last attempt's claim stands");
    }
}
