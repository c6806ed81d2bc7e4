//! The backends answer alike: what the properties of the embedded core show holds in Redis too.

use std::time::Duration;

use postrider::domain::cap::{Mode, OnLimit};
use postrider::domain::keys::RecipientKey;
use postrider::domain::time::UnixMicros;
use postrider::limits::{Claim, Limits, Once, Span, Take, Vacate};
use uuid::Uuid;

use super::{DAY, HOUR, NOW, acme, capped, embedded, redis, whole};

const STEPS: usize = 800;
const DAY_US: i64 = 86_400_000_000;

fn takes(random: &mut fastrand::Rng, now: UnixMicros) -> Vec<Take> {
    let start = UnixMicros(now.0 - now.0 % DAY_US);
    let spans = [
        (Span::Rolling(HOUR), 2),
        (Span::Rolling(DAY), 6),
        (Span::Fixed { start, end: UnixMicros(start.0 + DAY_US) }, 4),
        (Span::FromFirst(Duration::from_secs(100_000)), 3),
        (Span::Bucket(HOUR * 5), 3),
        (Span::Rolling(DAY * 31), 40),
        (Span::Rolling(HOUR * 4), 3),
        (Span::Rolling(HOUR * 3), 9),
        (Span::Rolling(DAY), 5),
        (Span::FromFirst(DAY), 6),
        (Span::Rolling(HOUR * 3), 9),
    ];
    let mut takes = Vec::new();
    for (rule, (span, limit)) in (0..).zip(spans) {
        if random.u8(0..3) == 0 {
            let shared = rule == 7 || rule == 10;
            takes.push(Take {
                rule,
                log: shared.then_some(RecipientKey([200; 16])),
                limit,
                need: if rule == 1 { random.u32(1..4) } else { 1 },
                span,
                once: if rule < 8 { Once::Touch } else { Once::Attempt },
                on_limit: if rule == 5 { OnLimit::Drop } else { OnLimit::Defer },
                mode: if rule == 6 { Mode::Shadow } else { Mode::Enforce },
            });
        }
    }
    takes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_backends_decide_alike() {
    let (here, there) = (whole(embedded()).await, whole(redis()).await);
    let seed = 20_261_122;
    let mut random = fastrand::Rng::with_seed(seed);
    let (mut now, mut asked, mut touched): (_, Vec<Claim>, _) = (NOW, vec![], vec![]);
    for step in 0..STEPS {
        match random.u8(0..10) {
            0 | 1 => {
                let most = [600, 20_000, 100_000][random.usize(0..3)];
                now = now.plus(Duration::from_micros(random.u64(0..most * 1_000_000)));
                // An asking is repeated and given back while its claim lives.
                asked.retain(|claim| claim.deadline > now);
            }
            2 if !asked.is_empty() => {
                let back = asked[random.usize(0..asked.len())].give_back();
                here.limits.give_back(std::slice::from_ref(&back)).await.unwrap();
                there.limits.give_back(&[back]).await.unwrap();
            }
            3 if !touched.is_empty() => {
                let (recipient, touch): (RecipientKey, Uuid) = touched[random.usize(0..touched.len())];
                let rules = takes(&mut random, now).iter().map(|take| take.rule).collect();
                let vacate = Vacate { tenant: acme(), recipient, touch, rules, logs: vec![RecipientKey([200; 16])] };
                here.limits.vacate(std::slice::from_ref(&vacate)).await.unwrap();
                there.limits.vacate(&[vacate]).await.unwrap();
            }
            _ => {
                let mut claims = Vec::new();
                for item in 0..random.usize(1..6) {
                    if random.u8(0..8) == 0 && !asked.is_empty() {
                        claims.push(asked[random.usize(0..asked.len())].clone());
                        continue;
                    }
                    let (recipient, job) = (random.u8(1..5), random.u64(1..60));
                    let token = (step * 16 + item) as u64;
                    let mut claim = Claim { token, ..capped(recipient, job, &takes(&mut random, now)) };
                    claim.deadline = now.plus(HOUR);
                    claim.expires_at = now.plus(DAY * random.u32(1..5));
                    claim.attempt = random.u16(1..4);
                    claim.supersedes = random.u16(0..claim.attempt);
                    if random.bool() {
                        claim.touch = Uuid::from_u128(u128::from(random.u8(100..130)));
                    }
                    touched.push((claim.recipient, claim.touch));
                    asked.push(claim.clone());
                    claims.push(claim);
                }
                let decided = here.limits.claim(now, &claims).await.unwrap();
                assert_eq!(
                    there.limits.claim(now, &claims).await.unwrap(),
                    decided,
                    "seed {seed}, step {step}: {claims:?}"
                );
            }
        }
    }
}
