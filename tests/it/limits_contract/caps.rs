//! Caps: exact, taken together or not at all.

use std::time::Duration;

use postrider::domain::cap::OnLimit;
use postrider::domain::time::UnixMicros;
use postrider::limits::{Claim, Decision, Take};
use uuid::Uuid;

use super::{DAY, HOUR, NOW, Store, ask, capped, full, give_back, on_every_backend, take};

on_every_backend! {
    all_or_nothing
    the_window_rolls_to_the_microsecond
    all_open_when_the_last_one_does
    dropping_wins_over_deferring
    a_touch_counts_once
    a_changed_rule
    a_chain_takes_one_place
    time_never_steps_back
    what_is_told_is_bounded
}

async fn all_or_nothing(store: Store) {
    let (wide, narrow) = (take(1, 5, DAY), take(2, 1, HOUR));
    assert_eq!(ask(&store, NOW, &capped(1, 1, &[wide.clone(), narrow.clone()])).await, Decision::Claimed);
    for job in 2..50 {
        let decision = ask(&store, NOW, &capped(1, job, &[wide.clone(), narrow.clone()])).await;
        assert_eq!(decision, full(1, NOW.plus(HOUR)));
    }
    for job in 50..54 {
        assert_eq!(ask(&store, NOW, &capped(1, job, std::slice::from_ref(&wide))).await, Decision::Claimed);
    }
    let over = full(0, NOW.plus(DAY));
    assert_eq!(ask(&store, NOW, &capped(1, 54, &[wide])).await, over);
}

async fn the_window_rolls_to_the_microsecond(store: Store) {
    let caps = [take(1, 2, DAY)];
    let later = NOW.plus(Duration::from_micros(1_234_567));
    assert_eq!(ask(&store, NOW, &capped(1, 1, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, later, &capped(1, 2, &caps)).await, Decision::Claimed);
    let open_at = NOW.plus(DAY);
    let over = full(0, open_at);
    assert_eq!(ask(&store, UnixMicros(open_at.0 - 1), &capped(1, 3, &caps)).await, over);
    assert_eq!(ask(&store, open_at, &capped(1, 3, &caps)).await, Decision::Claimed);
    let over = full(0, later.plus(DAY));
    assert_eq!(ask(&store, open_at, &capped(1, 4, &caps)).await, over);
}

async fn all_open_when_the_last_one_does(store: Store) {
    let caps = [take(1, 2, DAY), take(2, 3, DAY * 7), take(3, 1, HOUR)];
    let at = |hours: u32| NOW.plus(HOUR * hours);
    // (hour, claimed or the rule and the hour at which all have room)
    let steps = [
        (0, Ok(())),
        (0, Err((2, 1))),
        (1, Ok(())),
        (1, Err((0, 24))),
        (24, Ok(())),
        (24, Err((1, 7 * 24))),
        (7 * 24, Ok(())),
        (7 * 24, Err((1, 7 * 24 + 1))),
    ];
    for (job, (hour, expected)) in steps.into_iter().enumerate() {
        let expected = match expected {
            Ok(()) => Decision::Claimed,
            Err((take, hours)) => full(take, at(hours)),
        };
        let decision = ask(&store, at(hour), &capped(1, job as u64, &caps)).await;
        assert_eq!(decision, expected, "step {job}, hour {hour}");
    }
}

async fn dropping_wins_over_deferring(store: Store) {
    let dropping = |rule, limit, window| Take { on_limit: OnLimit::Drop, ..take(rule, limit, window) };
    let caps = [take(1, 1, DAY * 9), dropping(2, 1, HOUR), dropping(3, 1, DAY), take(4, 9, DAY)];
    assert_eq!(ask(&store, NOW, &capped(1, 1, &caps)).await, Decision::Claimed);
    let over = full(1, NOW.plus(DAY * 9));
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps)).await, over, "the first that drops");
    let over = full(0, NOW.plus(DAY * 9));
    assert_eq!(ask(&store, NOW.plus(DAY), &capped(1, 2, &caps)).await, over, "none that drops is full");
    let never = [take(5, 0, DAY), take(4, 9, DAY)];
    let over = full(0, UnixMicros::MAX);
    assert_eq!(ask(&store, NOW, &capped(1, 3, &never)).await, over, "a limit of 0 means never");
}

async fn a_touch_counts_once(store: Store) {
    let (sms, call) = (take(1, 1, DAY), take(2, 1, DAY));
    let step = |job, takes: &[Take]| Claim { touch: Uuid::from_u128(77), ..capped(1, job, takes) };
    assert_eq!(ask(&store, NOW, &step(1, std::slice::from_ref(&sms))).await, Decision::Claimed);
    let both = [sms.clone(), call.clone()];
    let second = step(2, &both);
    assert_eq!(ask(&store, NOW, &second).await, Decision::Claimed, "the chain's next step");
    let over = |take| full(take, NOW.plus(DAY));
    assert_eq!(ask(&store, NOW, &capped(1, 3, &both[1..])).await, over(0), "it took what the first had not");
    give_back(&store, &second).await;
    assert_eq!(ask(&store, NOW, &capped(1, 3, &both[1..])).await, Decision::Claimed, "and gives just that back");
    assert_eq!(ask(&store, NOW, &capped(1, 4, &both[..1])).await, over(0));
    let later = step(5, &both[..1]);
    assert_eq!(ask(&store, NOW.plus(DAY), &later).await, Decision::Claimed);
    assert_eq!(
        ask(&store, NOW.plus(DAY), &capped(1, 6, &both[..1])).await,
        full(0, NOW.plus(DAY * 2)),
        "a touch whose window has ended counts again"
    );
}

async fn a_chain_takes_one_place(store: Store) {
    let caps = [take(1, 2, DAY), take(2, 9, HOUR)];
    for step in 1..=3 {
        let step = Claim { touch: Uuid::from_u128(77), ..capped(1, step, &caps) };
        assert_eq!(ask(&store, NOW, &step).await, Decision::Claimed);
    }
    assert_eq!(ask(&store, NOW, &capped(1, 4, &caps)).await, Decision::Claimed, "the second place");
    let over = full(0, NOW.plus(DAY));
    assert_eq!(ask(&store, NOW, &capped(1, 5, &caps)).await, over);
    let fourth = Claim { touch: Uuid::from_u128(77), ..capped(1, 6, &caps) };
    assert_eq!(ask(&store, NOW, &fourth).await, Decision::Claimed, "it has its place, full or not");
}

async fn a_changed_rule(store: Store) {
    for job in 0..4 {
        let now = NOW.plus(HOUR * u32::try_from(job).unwrap());
        assert_eq!(ask(&store, now, &capped(1, job, &[take(1, 4, DAY)])).await, Decision::Claimed);
    }
    let now = NOW.plus(HOUR * 4);
    let lowered = full(0, NOW.plus(HOUR * 2 + DAY));
    assert_eq!(ask(&store, now, &capped(1, 9, &[take(1, 2, DAY)])).await, lowered, "three must leave first");
    assert_eq!(ask(&store, now, &capped(1, 9, &[take(2, 1, DAY)])).await, Decision::Claimed, "another rule is empty");
}

async fn time_never_steps_back(store: Store) {
    let caps = [take(1, 1, DAY)];
    assert_eq!(ask(&store, NOW, &capped(1, 1, &[])).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW.minus(HOUR * 5), &capped(1, 2, &caps)).await, Decision::Claimed);
    let over = full(0, NOW.plus(DAY));
    assert_eq!(ask(&store, NOW, &capped(1, 3, &caps)).await, over, "taken at the latest time known");
    assert_eq!(ask(&store, NOW.minus(DAY * 9), &capped(1, 3, &caps)).await, over);
}

/// Each who waits is told an earlier opening than all before, far more of them than a memory keeps.
async fn what_is_told_is_bounded(store: Store) {
    for rule in 0..300 {
        let caps = [take(rule, 1, HOUR * (400 - rule))];
        let job = u64::from(rule) * 2;
        assert_eq!(ask(&store, NOW, &capped(1, job, &caps)).await, Decision::Claimed);
        assert_eq!(ask(&store, NOW, &capped(1, job + 1, &caps)).await, full(0, NOW.plus(HOUR * (400 - rule))));
    }
    assert_eq!(ask(&store, NOW, &capped(1, 1_000, &[take(300, 1, HOUR)])).await, Decision::Claimed);
}
