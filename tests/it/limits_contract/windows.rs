//! Windows of every kind, weights, shadows, logs that recipients share, and whose turn it is.

use std::time::Duration;

use postrider::domain::cap::{Mode, OnLimit};
use postrider::domain::keys::RecipientKey;
use postrider::domain::time::UnixMicros;
use postrider::limits::{Claim, Decision, Limits, Span, Take};

use super::{DAY, HOUR, NOW, Store, ask, ask_all, capped, claim, full, give_back, on_every_backend, spanning, take};

on_every_backend! {
    a_stretch_counts_what_lies_in_it
    a_window_from_the_first_place_ends_at_once
    a_bucket_fills_one_place_at_a_time
    a_job_may_take_several_places
    shadows_never_stand_in_the_way
    a_log_that_recipients_share
    logs_are_taken_together_or_not_at_all
    a_refusal_after_a_lost_answer_frees_every_log
    a_crowd_waits_its_turn
    a_turn_comes_before_the_expiry
    limits_of_two_hundred_over_a_month
}

fn at(hours: u32) -> UnixMicros {
    NOW.plus(HOUR * hours)
}

fn today(limit: u32) -> Take {
    spanning(1, limit, Span::Fixed { start: at(0), end: at(24) })
}

fn tomorrow(limit: u32) -> Take {
    spanning(1, limit, Span::Fixed { start: at(24), end: at(48) })
}

async fn a_stretch_counts_what_lies_in_it(store: Store) {
    assert_eq!(ask(&store, at(1), &capped(1, 1, &[today(2)])).await, Decision::Claimed);
    assert_eq!(ask(&store, at(23), &capped(1, 2, &[today(2)])).await, Decision::Claimed);
    assert_eq!(ask(&store, at(23), &capped(1, 3, &[today(2)])).await, full(0, at(24)));
    let last = UnixMicros(at(24).0 - 1);
    assert_eq!(ask(&store, last, &capped(1, 3, &[today(2)])).await, full(0, at(24)));
    assert_eq!(ask(&store, at(24), &capped(1, 3, &[tomorrow(2)])).await, Decision::Claimed);
    assert_eq!(ask(&store, at(24), &capped(1, 4, &[tomorrow(2)])).await, Decision::Claimed);
    assert_eq!(ask(&store, at(24), &capped(1, 5, &[tomorrow(2)])).await, full(0, at(48)));
    // Somebody whose clock is behind means a day that is over: what it would take is taken tomorrow.
    assert_eq!(ask(&store, at(23), &capped(1, 6, &[today(9)])).await, full(0, at(24)));
    assert_eq!(ask(&store, at(24), &capped(1, 6, &[tomorrow(9)])).await, Decision::Claimed);
}

async fn a_window_from_the_first_place_ends_at_once(store: Store) {
    let caps = [spanning(1, 2, Span::FromFirst(DAY))];
    let first = capped(1, 1, &caps);
    assert_eq!(ask(&store, at(0), &first).await, Decision::Claimed);
    assert_eq!(ask(&store, at(20), &capped(1, 2, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, at(20), &capped(1, 3, &caps)).await, full(0, at(24)));
    give_back(&store, &first).await;
    assert_eq!(ask(&store, at(21), &capped(1, 3, &caps)).await, Decision::Claimed, "room again, in the same window");
    assert_eq!(ask(&store, at(21), &capped(1, 4, &caps)).await, full(0, at(24)));
    assert_eq!(ask(&store, at(25), &capped(1, 4, &caps)).await, Decision::Claimed, "the next window opens here");
    assert_eq!(ask(&store, at(30), &capped(1, 5, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, at(48), &capped(1, 6, &caps)).await, full(0, at(49)));
    let alone = capped(2, 7, &caps);
    assert_eq!(ask(&store, at(50), &alone).await, Decision::Claimed);
    give_back(&store, &alone).await;
    assert_eq!(ask(&store, at(60), &capped(2, 8, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, at(60), &capped(2, 9, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, at(60), &capped(2, 10, &caps)).await, full(0, at(84)), "nothing stood, nothing was open");
}

async fn a_bucket_fills_one_place_at_a_time(store: Store) {
    let caps = [spanning(1, 3, Span::Bucket(HOUR * 8))];
    let claims: Vec<Claim> = (1..=4).map(|job| capped(1, job, &caps)).collect();
    let decisions = ask_all(&store, at(0), &claims).await;
    assert_eq!(decisions, [Decision::Claimed, Decision::Claimed, Decision::Claimed, full(0, at(8))]);
    assert_eq!(ask(&store, at(9), &claims[3]).await, Decision::Claimed);
    assert_eq!(ask(&store, at(9), &capped(1, 5, &caps)).await, full(0, at(16)), "the hour is not lost");
    give_back(&store, &claims[3]).await;
    assert_eq!(ask(&store, at(9), &capped(1, 5, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, at(100), &capped(1, 6, &caps)).await, Decision::Claimed);
    let twice = Take { need: 2, ..caps[0].clone() };
    assert_eq!(ask(&store, at(100), &capped(1, 7, std::slice::from_ref(&twice))).await, Decision::Claimed);
    assert_eq!(ask(&store, at(100), &capped(1, 8, &[twice])).await, full(0, at(116)), "full again, and no fuller");
}

async fn a_job_may_take_several_places(store: Store) {
    let need = |need| [Take { need, ..take(1, 5, DAY) }];
    assert_eq!(ask(&store, at(0), &capped(1, 1, &need(3))).await, Decision::Claimed);
    assert_eq!(ask(&store, at(1), &capped(1, 2, &need(1))).await, Decision::Claimed);
    assert_eq!(ask(&store, at(2), &capped(1, 3, &need(2))).await, full(0, at(24)));
    assert_eq!(ask(&store, at(2), &capped(1, 4, &need(1))).await, Decision::Claimed);
    assert_eq!(ask(&store, at(2), &capped(1, 5, &need(4))).await, full(0, at(25)));
    assert_eq!(ask(&store, at(2), &capped(1, 6, &need(6))).await, full(0, UnixMicros::MAX), "it never fits");
    assert_eq!(ask(&store, at(24), &capped(1, 7, &need(3))).await, Decision::Claimed);
}

async fn shadows_never_stand_in_the_way(store: Store) {
    let shadow = |rule, limit| Take { mode: Mode::Shadow, on_limit: OnLimit::Drop, ..take(rule, limit, DAY) };
    let caps = [shadow(1, 1), take(2, 3, DAY), shadow(3, 2)];
    let mut decisions = Vec::new();
    for job in 1..=4 {
        decisions.push(ask(&store, at(0), &capped(1, job, &caps)).await);
    }
    let expected = [Decision::Claimed, Decision::Overshadowed(0b001), Decision::Overshadowed(0b101), full(1, at(24))];
    assert_eq!(decisions, expected);
    assert_eq!(ask(&store, at(24), &capped(1, 5, &caps)).await, Decision::Claimed, "a shadow counts what it let pass");
}

/// Returns a cap in a log that is not the recipient's own.
fn shared(limit: u32) -> Take {
    Take { log: Some(RecipientKey([77; 16])), ..take(9, limit, DAY) }
}

async fn a_log_that_recipients_share(store: Store) {
    let caps = [take(1, 2, HOUR), shared(3)];
    for recipient in 1..=3_u8 {
        let asked = capped(recipient, recipient.into(), &caps);
        assert_eq!(ask(&store, at(0), &asked).await, Decision::Claimed);
        assert_eq!(ask(&store, at(0), &asked).await, Decision::Claimed, "the same asking takes nothing twice");
    }
    let over = full(1, at(24));
    assert_eq!(ask(&store, at(0), &capped(4, 4, &caps)).await, over);
    assert_eq!(ask(&store, at(0), &capped(4, 5, &caps[..1])).await, Decision::Claimed, "others do not need it");
    let second = capped(2, 2, &caps);
    give_back(&store, &Claim { token: 99, ..second.clone() }).await;
    assert_eq!(ask(&store, at(0), &capped(4, 4, &caps)).await, over, "another token gave nothing back");
    give_back(&store, &second).await;
    give_back(&store, &second).await;
    assert_eq!(ask(&store, at(0), &capped(4, 4, &caps)).await, Decision::Claimed);
    assert_eq!(ask(&store, at(0), &capped(5, 6, &caps)).await, over);
    let batch: Vec<Claim> = (10..20).map(|job| capped(u8::try_from(job).unwrap(), job, &caps)).collect();
    let decisions = ask_all(&store, at(24), &batch).await;
    assert_eq!(decisions.iter().filter(|&decision| *decision == Decision::Claimed).count(), 3);
}

async fn logs_are_taken_together_or_not_at_all(store: Store) {
    let caps = [take(1, 1, HOUR), shared(5)];
    assert_eq!(ask(&store, at(0), &capped(1, 1, &caps)).await, Decision::Claimed);
    for job in 2..20 {
        assert_eq!(ask(&store, at(0), &capped(1, job, &caps)).await, full(0, at(1)));
    }
    for job in 20..24 {
        assert_eq!(ask(&store, at(0), &capped(2, job, &[shared(5)])).await, Decision::Claimed, "four are left");
    }
    for job in 30..40 {
        assert_eq!(ask(&store, at(0), &capped(3, job, &caps)).await, full(1, at(24)));
    }
    assert_eq!(ask(&store, at(0), &capped(3, 40, &caps[..1])).await, Decision::Claimed, "its own place is free");
}

async fn a_refusal_after_a_lost_answer_frees_every_log(store: Store) {
    use postrider::domain::rule::{Act, JobRule, Names};
    let caps = [take(1, 1, DAY), shared(1)];
    let asked = capped(1, 1, &caps);
    assert_eq!(ask(&store, at(0), &asked).await, Decision::Claimed);
    let rule = JobRule { tenant: super::acme(), names: Names::job(asked.job), at: at(0), act: Act::Cancel };
    store.limits.rule(&[rule], at(99)).await.unwrap();
    assert_eq!(ask(&store, at(0), &asked).await, Decision::Cancelled);
    assert_eq!(ask(&store, at(0), &capped(1, 2, &caps)).await, Decision::Claimed);
}

/// A thousand jobs wait for one place a day. Each asks when its turn comes; nothing is asked a million times, and no day
/// goes by without one.
async fn a_crowd_waits_its_turn(store: Store) {
    const JOBS: u64 = 1_000;
    let caps = [take(1, 3, DAY), take(2, 5, DAY * 2)];
    let mut waiting: Vec<(UnixMicros, u64)> = (0..JOBS).map(|job| (NOW, job)).collect();
    let (mut decisions, mut last) = (0, NOW);
    while !waiting.is_empty() {
        waiting.sort_unstable();
        let now = waiting[0].0;
        let due: Vec<u64> = waiting.iter().filter(|(at, _)| *at == now).map(|(_, job)| *job).collect();
        waiting.retain(|(at, _)| *at > now);
        // Whoever comes late for the place comes a little after the others.
        let claims: Vec<Claim> =
            due.iter().map(|&job| Claim { deadline: now.plus(HOUR), ..capped(1, job, &caps) }).collect();
        decisions += claims.len();
        for (decision, job) in store.limits.claim(now, &claims).await.unwrap().into_iter().zip(due) {
            match decision {
                Decision::Claimed => last = now,
                Decision::OverCap { open_at, turn_at, .. } => {
                    assert!(turn_at >= open_at && open_at > now);
                    waiting.push((turn_at, job));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    println!("{JOBS} jobs took {decisions} decisions");
    assert!(decisions <= 8 * usize::try_from(JOBS).unwrap(), "{decisions} decisions for {JOBS} jobs");
    // Five in two days: the last of a thousand goes after 400 days at best.
    let days = last.since(NOW).as_secs() / DAY.as_secs();
    assert!((398..=420).contains(&days), "the last went after {days} days");
}

async fn a_turn_comes_before_the_expiry(store: Store) {
    let caps = [take(1, 1, DAY)];
    assert_eq!(ask(&store, at(0), &capped(1, 1, &caps)).await, Decision::Claimed);
    let expires_at = at(24 * 3 + 1);
    let mut turns = Vec::new();
    for job in 2..12 {
        let asked = Claim { expires_at, ..capped(1, job, &caps) };
        match store.limits.claim(at(0), &[asked]).await.unwrap()[..] {
            [Decision::OverCap { open_at, turn_at, .. }] => turns.push((open_at, turn_at)),
            ref other => panic!("{other:?}"),
        }
    }
    assert!(turns.iter().all(|(open_at, _)| *open_at == at(24)), "{turns:?}");
    let turns: Vec<_> = turns.into_iter().map(|(_, turn_at)| turn_at.since(NOW).as_secs() / 3600).collect();
    assert_eq!(turns, [24, 24, 48, 48, 72, 72, 72, 72, 72, 72], "those who must wait too long come last of all");
    let never = Claim { expires_at: at(23), ..capped(1, 20, &caps) };
    let told = store.limits.claim(at(0), &[never]).await.unwrap();
    assert_eq!(told, [Decision::OverCap { take: 0, open_at: at(24), turn_at: at(24) }]);
}

async fn limits_of_two_hundred_over_a_month(store: Store) {
    let caps = [take(1, 200, DAY * 31), spanning(2, 200, Span::FromFirst(DAY * 31)), take(3, 7, HOUR)];
    let step = Duration::from_secs(3 * 3600);
    for job in 0..200 {
        let now = NOW.plus(step * job);
        let asked = Claim { deadline: now, ..capped(1, job.into(), &caps) };
        assert_eq!(ask(&store, now, &asked).await, Decision::Claimed, "job {job}");
    }
    let now = NOW.plus(step * 200);
    assert_eq!(ask(&store, now, &capped(1, 999, &caps)).await, full(0, NOW.plus(DAY * 31)));
    let opens = NOW.plus(DAY * 31);
    let asked = Claim { deadline: opens, ..capped(1, 999, &caps) };
    assert_eq!(ask(&store, opens, &asked).await, Decision::Claimed);
    assert_eq!(ask(&store, opens, &claim(1, 5)).await, Decision::Claimed, "its old claim is long forgotten");
    assert_eq!(ask(&store, opens, &capped(1, 1_000, &caps)).await, full(0, opens.plus(step)));
}
