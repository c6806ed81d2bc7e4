//! Which places are taken in caps: told without taking any, and as full as a claim is told.

use std::time::Duration;

use postrider::domain::keys::RecipientKey;
use postrider::domain::time::UnixMicros;
use postrider::limits::{Claim, Decision, Limits as _, Span, Take, opens_at, short};
use uuid::Uuid;

use super::{DAY, HOUR, NOW, Store, ask, capped, give_back, on_every_backend, spanning, take};

on_every_backend! {
    places_are_told_with_their_jobs
    what_is_told_is_what_a_claim_meets
}

fn takes() -> Vec<Take> {
    let day = NOW.0.div_euclid(86_400_000_000) * 86_400_000_000;
    let fixed = Span::Fixed { start: UnixMicros(day), end: UnixMicros(day).plus(DAY) };
    let sender = Take { log: Some(RecipientKey([77; 16])), ..take(5, 3, HOUR) };
    vec![
        take(1, 2, HOUR),
        Take { need: 2, ..spanning(2, 5, fixed) },
        spanning(3, 2, Span::FromFirst(HOUR * 2)),
        spanning(4, 2, Span::Bucket(HOUR)),
        sender,
    ]
}

async fn places_are_told_with_their_jobs(store: Store) {
    let (first, second) = (capped(1, 1, &takes()), capped(1, 2, &takes()));
    let later = NOW.plus(Duration::from_secs(60));
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    assert_eq!(ask(&store, later, &second).await, Decision::Claimed);
    let asked = capped(1, 3, &takes());
    let places = store.limits.places(later, &asked).await.unwrap();
    assert_eq!(places.len(), 5);
    for (index, held) in places.iter().enumerate() {
        let jobs: Vec<_> = held.iter().map(|held| (held.at, held.job, held.touch)).collect();
        let expected = [(later, 2), (NOW, 1)].map(|(at, job)| {
            let short = short(Uuid::from_u128(job));
            (at, short, short)
        });
        assert_eq!(jobs, expected, "take {index}, newest first");
    }
    let used: Vec<_> = takes().iter().zip(&places).map(|(take, held)| take.used(held, later)).collect();
    assert_eq!(used, [2, 4, 2, 2, 2]);
    let until = |index: usize| places[index].iter().map(|held| held.until).collect::<Vec<_>>();
    assert_eq!(until(0), [later.plus(HOUR), NOW.plus(HOUR)]);
    assert_eq!(until(2), [NOW.plus(HOUR * 2); 2]);
    // Nobody else's, and none of a rule that counts something else.
    let other = store.limits.places(later, &capped(2, 3, &[take(1, 2, HOUR), take(9, 2, HOUR)])).await.unwrap();
    assert_eq!(other, [vec![], vec![]]);
    assert_eq!(store.limits.places(later, &asked).await.unwrap(), places, "asking takes nothing");
    give_back(&store, &second).await;
    let left = store.limits.places(later, &asked).await.unwrap();
    assert!(left.iter().all(|held| held.len() == 1), "{left:?}");
    assert_eq!(store.limits.places(NOW.plus(DAY * 2), &asked).await.unwrap()[0], [], "what has ended is not told");
}

async fn what_is_told_is_what_a_claim_meets(store: Store) {
    let mut random = fastrand::Rng::with_seed(20);
    let (mut now, mut taken, mut claimed, mut full) = (NOW, Vec::new(), 0, 0);
    for job in 1..400 {
        now = now.plus(Duration::from_secs(random.u64(..1_200)));
        let day = UnixMicros(now.0.div_euclid(86_400_000_000) * 86_400_000_000);
        let mut takes = takes();
        takes[1].span = Span::Fixed { start: day, end: day.plus(DAY) };
        let claim = capped(random.u8(..2), job, &takes);
        let places = store.limits.places(now, &claim).await.unwrap();
        for (take, held) in takes.iter().zip(&places) {
            let alone = Claim { takes: vec![take.clone()], ..claim.clone() };
            let told = store.limits.peek(now, std::slice::from_ref(&alone)).await.unwrap().remove(0);
            let opens = match told {
                Decision::OverCap { open_at, .. } => Some(open_at),
                Decision::Claimed => None,
                other => panic!("{other:?}"),
            };
            assert_eq!(opens_at(take, held, claim.touch, now), opens, "job {job}, {take:?}, {held:?}");
            assert_eq!(take.used(held, now) + take.need > take.limit, opens.is_some(), "job {job}, {take:?}, {held:?}");
            full += u32::from(opens.is_some());
        }
        // Each takes places in some of them.
        let some = takes.iter().filter(|_| random.u8(..3) == 0).cloned().collect();
        let claim = Claim { takes: some, ..claim };
        if ask(&store, now, &claim).await == Decision::Claimed {
            claimed += 1;
            taken.push(claim);
        }
        if random.u8(..8) == 0 && !taken.is_empty() {
            give_back(&store, &taken.swap_remove(random.usize(..taken.len()))).await;
        }
    }
    assert!(full > 50 && claimed > 50, "{full} full, {claimed} claimed: nothing was tried");
}
