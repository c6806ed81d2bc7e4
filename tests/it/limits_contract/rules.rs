//! Rules about jobs that wait bind every claim asked after they returned, and nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postrider::domain::job::{Class, Kind};
use postrider::domain::keys::WordKey;
use postrider::domain::rule::{Act, JobRule, Names};
use postrider::domain::time::{Clock, UnixMicros};
use postrider::limits::{Against, Claim, Decision, FILTER_RULES_MAX, Limits, LimitsError};
use uuid::Uuid;

use super::{DAY, HOUR, NOW, Store, acme, ask, capped, claim, give_back, on_every_backend, take};

on_every_backend! {
    points_bind_what_was_accepted_before
    filters_bind_where_all_that_they_say_holds
    a_later_move_binds_what_obeys_an_earlier_one
    cancelled_before_collapsed_before_moved
    the_newest_of_a_collapse_key_stays
    a_chain_is_ruled_by_its_first_job
    a_chain_does_not_replace_itself
    a_moved_claim_takes_nothing
    rules_by_filter_are_few
    a_peek_says_what_the_claim_is_told
    rules_bind_while_jobs_are_claimed
}

const KEEP: UnixMicros = UnixMicros::from_secs(1_800_000_000 + 86_400);

fn word(byte: u8) -> WordKey {
    WordKey([byte; 16])
}

/// Returns a claim of a job that every sort of name names.
fn named(recipient: u8, job: u64) -> Claim {
    let plain = claim(recipient, job);
    let against = Against {
        cancel_key: Some(word(21)),
        batch: Some(Uuid::from_u128(22)),
        campaign: Some(word(23)),
        run: Some(word(24)),
        ..plain.against
    };
    Claim { against, ..plain }
}

fn points(claim: &Claim) -> [Names; 6] {
    let none = Names::default;
    [
        Names::job(claim.job),
        Names { cancel_key: Some(word(21)), ..none() },
        Names { recipient: Some(claim.recipient), ..none() },
        Names { batch: Some(Uuid::from_u128(22)), ..none() },
        Names { campaign: Some(word(23)), ..none() },
        Names { run: Some(word(24)), ..none() },
    ]
}

fn cancel(names: &Names, at: UnixMicros) -> JobRule {
    JobRule { tenant: acme(), names: names.clone(), at, act: Act::Cancel }
}

fn moved(names: &Names, at: UnixMicros, due_at: UnixMicros) -> JobRule {
    JobRule { act: Act::Move { due_at, expires_at: Some(due_at.plus(HOUR)) }, ..cancel(names, at) }
}

fn told(at: UnixMicros, due_at: UnixMicros) -> Decision {
    Decision::Moved { at, due_at, expires_at: Some(due_at.plus(HOUR)) }
}

async fn add(store: &Store, rules: &[JobRule]) {
    store.limits.rule(rules, KEEP).await.unwrap();
}

async fn points_bind_what_was_accepted_before(store: Store) {
    let plain = named(1, 1);
    let none = Names::default;
    // Names of one form are no names of another.
    let strangers = [
        Names { cancel_key: Some(word(23)), ..none() },
        Names { campaign: Some(word(21)), ..none() },
        Names { run: Some(word(22)), ..none() },
        Names::job(claim(1, 2).job),
    ];
    for (index, names) in (1..).zip(points(&plain).into_iter().chain(strangers)) {
        // Each under a tenant of its own, so that one rule stands alone.
        let tenant: postrider::domain::ids::TenantId = format!("tenant-{index}").parse().unwrap();
        let asked = Claim { tenant: tenant.clone(), ..plain.clone() };
        let of = |rule: JobRule| JobRule { tenant: tenant.clone(), ..rule };
        add(&store, &[of(cancel(&names, UnixMicros(NOW.0 - 1)))]).await;
        assert_eq!(ask(&store, NOW, &asked).await, Decision::Claimed, "{names:?} before it was accepted");
        give_back(&store, &asked).await;
        let rule = of(cancel(&names, NOW));
        add(&store, &[rule.clone(), rule.clone()]).await;
        let shorter = JobRule { at: UnixMicros(NOW.0 - 9), ..rule };
        store.limits.rule(&[shorter], NOW.plus(HOUR)).await.unwrap();
        let expected = if index <= 6 { Decision::Cancelled } else { Decision::Claimed };
        assert_eq!(ask(&store, NOW.plus(HOUR), &asked).await, expected, "{names:?}");
        for other in [
            Claim { tenant: acme(), ..asked.clone() },
            Claim { against: Against { accepted_at: UnixMicros(NOW.0 + 1), ..asked.against.clone() }, ..asked.clone() },
        ] {
            give_back(&store, &asked).await;
            assert_eq!(ask(&store, NOW, &other).await, Decision::Claimed, "{names:?}");
            give_back(&store, &other).await;
        }
        give_back(&store, &asked).await;
    }
    let again = Claim { tenant: "tenant-1".parse().unwrap(), ..plain };
    assert_eq!(ask(&store, KEEP, &again).await, Decision::Claimed, "kept no longer than asked");
}

async fn filters_bind_where_all_that_they_say_holds(store: Store) {
    let asked = named(1, 1);
    let whole = Names {
        campaign: Some(word(23)),
        kind: Some(Kind::Sms),
        class: Some(Class::Marketing),
        from: Some(NOW),
        to: Some(UnixMicros(NOW.0 + 1)),
        recipient: Some(asked.recipient),
        ..Names::default()
    };
    let misses = [
        Names { campaign: Some(word(24)), ..whole.clone() },
        Names { kind: Some(Kind::Call), ..whole.clone() },
        Names { class: Some(Class::Otp), ..whole.clone() },
        Names { from: Some(UnixMicros(NOW.0 + 1)), ..whole.clone() },
        Names { to: Some(NOW), ..whole.clone() },
        Names { cancel_key: Some(word(99)), ..whole.clone() },
    ];
    for (index, (names, binds)) in misses.map(|names| (names, false)).into_iter().chain([(whole, true)]).enumerate() {
        let of = |rule: JobRule| JobRule { tenant: format!("tenant-{index}").parse().unwrap(), ..rule };
        let asked = Claim { tenant: of(cancel(&names, NOW)).tenant, ..asked.clone() };
        add(&store, &[of(moved(&names, NOW, NOW.plus(HOUR)))]).await;
        let expected = if binds { told(NOW, NOW.plus(HOUR)) } else { Decision::Claimed };
        assert_eq!(ask(&store, NOW, &asked).await, expected, "{names:?}");
        give_back(&store, &asked).await;
        add(&store, &[of(cancel(&names, NOW))]).await;
        let expected = if binds { Decision::Cancelled } else { Decision::Claimed };
        assert_eq!(ask(&store, NOW, &asked).await, expected, "{names:?}");
    }
    let everything = cancel(&Names::default(), NOW);
    assert_eq!(ask(&store, NOW, &asked).await, Decision::Claimed, "another tenant's rules");
    give_back(&store, &asked).await;
    add(&store, &[everything]).await;
    assert_eq!(ask(&store, NOW, &asked).await, Decision::Cancelled, "an empty filter names every job");
    assert_eq!(ask(&store, KEEP, &asked).await, Decision::Claimed, "kept no longer than asked");
}

async fn a_later_move_binds_what_obeys_an_earlier_one(store: Store) {
    let [at, later, latest] = [1, 2, 3].map(|n| UnixMicros(NOW.0 + n));
    let asked = named(1, 1);
    let obeying = |at| {
        let against = Against { moved_at: Some(at), ..asked.against.clone() };
        Claim { against, ..asked.clone() }
    };
    let [by_job, by_key, _, by_batch, ..] = points(&asked);
    add(&store, &[moved(&by_batch, at, NOW.plus(HOUR))]).await;
    assert_eq!(ask(&store, NOW, &asked).await, told(at, NOW.plus(HOUR)));
    // Of several the latest counts, whatever names it and in whatever order they come.
    add(&store, &[moved(&by_job, latest, NOW), moved(&by_key, later, NOW.plus(DAY))]).await;
    for claim in [&asked, &obeying(at), &obeying(later)] {
        assert_eq!(ask(&store, NOW, claim).await, told(latest, NOW));
    }
    let by_class = JobRule {
        act: Act::Move { due_at: NOW, expires_at: None },
        ..cancel(&Names { kind: Some(Kind::Sms), ..Names::default() }, UnixMicros(NOW.0 + 4))
    };
    add(&store, std::slice::from_ref(&by_class)).await;
    let by_class_told = Decision::Moved { at: by_class.at, due_at: NOW, expires_at: None };
    assert_eq!(ask(&store, NOW, &obeying(latest)).await, by_class_told);
    assert_eq!(ask(&store, NOW, &obeying(by_class.at)).await, Decision::Claimed, "it obeys");
}

async fn cancelled_before_collapsed_before_moved(store: Store) {
    let plain = named(1, 1);
    let asked = Claim { against: Against { collapse_key: Some(word(7)), ..plain.against.clone() }, ..plain };
    let all = Names { campaign: Some(word(23)), kind: Some(Kind::Sms), ..Names::default() };
    add(&store, &[moved(&all, NOW, NOW.plus(DAY))]).await;
    assert_eq!(ask(&store, NOW, &asked).await, told(NOW, NOW.plus(DAY)));
    let newest = Names { collapse_key: Some(word(7)), ..Names::default() };
    add(&store, &[JobRule { act: Act::Collapse { into: claim(1, 2).job }, ..cancel(&newest, NOW) }]).await;
    assert_eq!(ask(&store, NOW, &asked).await, Decision::Collapsed);
    add(&store, &[cancel(&all, NOW)]).await;
    assert_eq!(ask(&store, NOW, &asked).await, Decision::Cancelled);
}

async fn the_newest_of_a_collapse_key_stays(store: Store) {
    let job = |n: u64, accepted: i64| {
        let plain = claim(u8::try_from(n).unwrap(), n);
        let accepted_at = UnixMicros(NOW.0 + accepted);
        Claim { against: Against { collapse_key: Some(word(7)), accepted_at, ..plain.against.clone() }, ..plain }
    };
    let names = Names { collapse_key: Some(word(7)), ..Names::default() };
    let newest =
        |claim: &Claim| JobRule { act: Act::Collapse { into: claim.job }, ..cancel(&names, claim.against.accepted_at) };
    // Three and four share their microsecond; the notes come out of order.
    let jobs = [job(1, 0), job(2, 5), job(3, 9), job(4, 9)];
    assert_eq!(ask(&store, NOW, &jobs[0]).await, Decision::Claimed, "alone");
    give_back(&store, &jobs[0]).await;
    for index in [1, 3, 0, 2] {
        add(&store, &[newest(&jobs[index])]).await;
    }
    for claim in &jobs[..3] {
        assert_eq!(ask(&store, NOW, claim).await, Decision::Collapsed, "{claim:?}");
    }
    // The same job, published a second time with a later acceptance noted, does not replace itself.
    add(&store, &[newest(&job(4, 30))]).await;
    assert_eq!(ask(&store, NOW, &jobs[3]).await, Decision::Claimed);
    let other_key = Against { collapse_key: Some(word(8)), ..jobs[0].against.clone() };
    assert_eq!(ask(&store, NOW, &Claim { against: other_key, ..jobs[0].clone() }).await, Decision::Claimed);
    assert_eq!(
        ask(&store, NOW, &Claim { tenant: "other".parse().unwrap(), ..jobs[1].clone() }).await,
        Decision::Claimed
    );
    assert_eq!(ask(&store, KEEP, &jobs[1]).await, Decision::Claimed, "kept no longer than asked");
}

async fn a_chain_is_ruled_by_its_first_job(store: Store) {
    let step = |recipient, first: &Claim, job| Claim { touch: first.job.0, ..claim(recipient, job) };
    let at = claim(1, 1).against.accepted_at;
    let first = claim(1, 1);
    add(&store, &[cancel(&Names::job(first.job), at)]).await;
    assert_eq!(ask(&store, NOW, &step(1, &first, 2)).await, Decision::Cancelled, "what follows is taken back with it");
    assert_eq!(ask(&store, NOW, &claim(1, 3)).await, Decision::Claimed);
    let first = claim(2, 4);
    add(&store, &[cancel(&Names { kind: Some(Kind::Sms), ..Names::job(first.job) }, at)]).await;
    assert_eq!(ask(&store, NOW, &step(2, &first, 5)).await, Decision::Cancelled, "by a filter, too");
    let (first, second) = (claim(3, 6), step(3, &claim(3, 6), 7));
    add(&store, &[cancel(&Names::job(second.job), at)]).await;
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed, "a step's own id names it alone");
    assert_eq!(ask(&store, NOW, &second).await, Decision::Cancelled);
    let first = claim(4, 8);
    add(&store, &[moved(&Names::job(first.job), at, NOW.plus(HOUR))]).await;
    assert_eq!(ask(&store, NOW, &step(4, &first, 9)).await, told(at, NOW.plus(HOUR)), "whichever waits is moved");
}

async fn a_chain_does_not_replace_itself(store: Store) {
    let job = |n: u64, accepted: i64| {
        let plain = claim(u8::try_from(n).unwrap(), n);
        let accepted_at = UnixMicros(NOW.0 + accepted);
        Claim { against: Against { collapse_key: Some(word(7)), accepted_at, ..plain.against.clone() }, ..plain }
    };
    let names = Names { collapse_key: Some(word(7)), ..Names::default() };
    let newest =
        |claim: &Claim| JobRule { act: Act::Collapse { into: claim.job }, ..cancel(&names, claim.against.accepted_at) };
    let first = job(1, 5);
    let step = |n| Claim { touch: first.job.0, ..job(n, 5) };
    add(&store, &[newest(&first)]).await;
    assert_eq!(ask(&store, NOW, &step(2)).await, Decision::Claimed);
    add(&store, &[newest(&job(9, 9))]).await;
    assert_eq!(ask(&store, NOW, &step(3)).await, Decision::Collapsed, "a newer job replaces the step that waits");
}

async fn a_moved_claim_takes_nothing(store: Store) {
    let caps = [take(1, 1, DAY)];
    let first = capped(1, 1, &caps);
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    add(&store, &[moved(&Names::job(first.job), NOW, NOW.plus(HOUR))]).await;
    let held = Decision::Held { attempt: 1, deadline: first.deadline };
    assert_eq!(ask(&store, NOW, &Claim { token: 9, ..first.clone() }).await, held, "it may be out already");
    // The first answer was lost, say: nothing went out for it, so the repeated asking is moved and undone.
    assert_eq!(ask(&store, NOW, &first).await, told(NOW, NOW.plus(HOUR)));
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps)).await, Decision::Claimed, "the place is free");
}

async fn rules_by_filter_are_few(store: Store) {
    let filter = |n: i64| Names { from: Some(UnixMicros(n)), ..Names::default() };
    let count = i64::try_from(FILTER_RULES_MAX).unwrap();
    let rules: Vec<JobRule> = (0..count).map(|n| cancel(&filter(n), NOW)).collect();
    store.limits.rule(&rules, NOW.plus(HOUR)).await.unwrap();
    assert_eq!(store.limits.rule(&[cancel(&filter(-1), NOW)], KEEP).await, Err(LimitsError::TooManyRules));
    store.limits.rule(&[cancel(&filter(5), NOW)], KEEP).await.unwrap();
    let other = JobRule { tenant: "other".parse().unwrap(), ..cancel(&filter(-1), NOW) };
    store.limits.rule(&[other], KEEP).await.unwrap();
    assert_eq!(ask(&store, NOW, &claim(1, 1)).await, Decision::Cancelled);
}

async fn a_peek_says_what_the_claim_is_told(store: Store) {
    let caps = [take(1, 2, DAY)];
    let jobs: Vec<Claim> = (1..=5).map(|job| capped(1, job, &caps)).collect();
    add(&store, &[cancel(&Names::job(jobs[0].job), NOW), moved(&Names::job(jobs[1].job), NOW, KEEP)]).await;
    let peek = async || store.limits.peek(NOW, &jobs).await.unwrap();
    let expected = [Decision::Cancelled, told(NOW, KEEP), Decision::Claimed, Decision::Claimed, Decision::Claimed];
    for _ in 0..3 {
        assert_eq!(peek().await, expected, "nothing is taken");
    }
    for claim in &jobs {
        let said = store.limits.peek(NOW, std::slice::from_ref(claim)).await.unwrap().remove(0);
        assert_eq!(ask(&store, NOW, claim).await, said, "{claim:?}");
    }
    let over = Decision::OverCap { take: 0, open_at: NOW.plus(DAY), turn_at: NOW.plus(DAY) };
    assert_eq!(peek().await[4], over);
    let stranger = Claim { token: 99, ..jobs[2].clone() };
    let held = Decision::Held { attempt: 1, deadline: stranger.deadline };
    assert_eq!(store.limits.peek(NOW, &[stranger]).await.unwrap(), [held]);
}

async fn rules_bind_while_jobs_are_claimed(store: Store) {
    let bound = AtomicBool::new(false);
    let due_at = NOW.plus(DAY);
    let claiming = async |worker: u64| {
        let mut refused = 0;
        for step in 0..150 {
            let must = bound.load(Ordering::SeqCst);
            let decision = ask(&store, NOW, &named(1, worker << 32 | step)).await;
            assert!(!must || decision == told(NOW, due_at), "asked after the rule: {decision:?}");
            refused += u64::from(decision != Decision::Claimed);
        }
        refused
    };
    let moving = async {
        Clock::system().pause(Duration::from_millis(5)).await;
        let names = Names { campaign: Some(word(23)), ..Names::default() };
        add(&store, &[moved(&names, NOW, due_at)]).await;
        bound.store(true, Ordering::SeqCst);
    };
    let (a, b, c, ()) = tokio::join!(claiming(1), claiming(2), claiming(3), moving);
    assert!(a + b + c > 0, "the rule came after everything");
}
