//! Many workers at once against a naive model: never one too many (P6), never one too few.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::UnixMicros;
use postrider::limits::{Claim, Decision, Limits};
use tokio::task::JoinSet;

use super::{DAY, HOUR, NOW, Store, capped, give_back, on_every_backend, take};

on_every_backend! {
    caps_hold_under_concurrent_workers
}

const WORKERS: u64 = 16;
const ROUNDS: u64 = 30;
const CLAIMS: u64 = 40;
const RECIPIENTS: u64 = 24;
const RULES: [(u32, Duration); 3] = [(2, HOUR), (9, Duration::from_secs(6 * 3_600)), (14, DAY)];

/// In each round all workers ask at the same time of the clock, some twice, some in batches; then the clock moves, or a
/// few claims are given back.
async fn caps_hold_under_concurrent_workers(store: Store) {
    let caps: Vec<_> = (1..).zip(RULES).map(|(rule, (limit, window))| take(rule, limit, window)).collect();
    let mut random = fastrand::Rng::with_seed(20_261_121);
    let mut now = NOW;
    let mut taken: HashMap<u8, Vec<(UnixMicros, Claim)>> = HashMap::new();
    let (mut claimed, mut refused) = (0, 0);
    for round in 0..ROUNDS {
        let mut workers = JoinSet::new();
        let mut wishes: HashMap<u8, usize> = HashMap::new();
        for worker in 0..WORKERS {
            let job = |item| round << 32 | worker << 16 | item;
            let claims: Vec<Claim> = (0..CLAIMS)
                .map(|item| {
                    let recipient = u8::try_from(random.u64(0..RECIPIENTS)).unwrap();
                    *wishes.entry(recipient).or_default() += 1;
                    let mut claim = capped(recipient, job(item), &caps);
                    claim.deadline = now.plus(Duration::from_secs(30));
                    claim
                })
                .collect();
            let (limits, batch, repeat) = (store.limits.clone(), random.usize(1..20), random.bool());
            workers.spawn(async move {
                let mut decided = Vec::new();
                for claims in claims.chunks(batch) {
                    let decisions = limits.claim(now, claims).await.unwrap();
                    if repeat {
                        let again = limits.claim(now, claims).await.unwrap();
                        let kept =
                            |(first, second): (&_, &_)| *first != Decision::Claimed || *second == Decision::Claimed;
                        assert!(decisions.iter().zip(&again).all(kept), "a repeated asking lost its claim");
                    }
                    decided.extend(claims.iter().cloned().zip(decisions));
                }
                decided
            });
        }
        let before: HashMap<u8, usize> = wishes.keys().map(|&to| (to, room(taken.get(&to), now))).collect();
        let mut granted: HashMap<u8, usize> = HashMap::new();
        while let Some(decided) = workers.join_next().await {
            for (claim, decision) in decided.unwrap() {
                let recipient = claim.recipient.0[0];
                match decision {
                    Decision::Claimed => {
                        *granted.entry(recipient).or_default() += 1;
                        taken.entry(recipient).or_default().push((now, claim));
                        claimed += 1;
                    }
                    Decision::OverCap { .. } => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        for (recipient, wishes) in wishes {
            let expected = wishes.min(before[&recipient]);
            let granted = granted.get(&recipient).copied().unwrap_or(0);
            assert_eq!(granted, expected, "round {round}, recipient {recipient}");
        }
        if random.u8(0..3) == 0 {
            for entries in taken.values_mut() {
                if let Some((_, claim)) = entries.pop() {
                    give_back(&store, &claim).await;
                }
            }
        }
        now = now.plus(Duration::from_secs(random.u64(0..3 * 3_600)));
    }
    assert!(claimed > 500 && refused > 500, "{claimed} claimed, {refused} refused: the test tests nothing");
}

/// Returns how many more the model lets through.
fn room(taken: Option<&Vec<(UnixMicros, Claim)>>, now: UnixMicros) -> usize {
    let inside = |window| taken.map_or(0, |taken| taken.iter().filter(|(at, _)| at.plus(window) > now).count());
    RULES.iter().map(|&(limit, window)| (limit as usize).saturating_sub(inside(window))).min().unwrap()
}
