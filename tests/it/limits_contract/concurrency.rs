//! Many workers at once against a naive model: never one too many (P6), never one too few.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use postrider::domain::job::Class;
use postrider::domain::time::UnixMicros;
use postrider::limits::{Claim, Decision, Limits, Span, Take};
use tokio::task::JoinSet;

use super::{DAY, HOUR, NOW, Store, capped, claim, give_back, on_every_backend, spanning, take};

on_every_backend! {
    caps_hold_under_concurrent_workers
}

const WORKERS: u64 = 16;
const CLAIMS: u64 = 40;
/// Recipients whose takes are never given back: they have a bucket too, whose level then depends on nothing but time.
const STEADY: u8 = 8;
const RECIPIENTS: u8 = 24;
const DAY_US: i64 = 86_400_000_000;

/// A million takes: with `cargo test --release --test it -- --ignored a_million_takes`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_million_takes_embedded() {
    hammer(&super::whole(super::embedded()).await, 1_000_000 / (WORKERS * CLAIMS)).await;
}

/// The same in Redis.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn a_million_takes_redis() {
    hammer(&super::whole(super::redis()).await, 1_000_000 / (WORKERS * CLAIMS)).await;
}

async fn caps_hold_under_concurrent_workers(store: Store) {
    hammer(&store, 30).await;
}

/// Frames of marketing wait in their process, and not at the server before everything that is asked after them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_waits_for_few_of_the_claims_that_were_asked_before_it() {
    const FRAMES: u64 = 100;
    const JOBS: u64 = 64;
    let limits = &super::whole(super::redis()).await.limits;
    let frame = |frame: u64| -> Vec<Claim> {
        (0..JOBS).map(|job| claim(u8::try_from(frame).unwrap(), frame * JOBS + job)).collect()
    };
    let frames: Vec<Vec<Claim>> = (0..FRAMES).map(frame).collect();
    let mut marketing: Vec<_> = frames.iter().map(|frame| Box::pin(limits.claim(NOW, frame))).collect();
    // Each is asked, and looked at again only after the password's answer.
    let asked = marketing.iter_mut().filter_map(|claimed| claimed.as_mut().now_or_never());
    assert_eq!(asked.count(), 0, "no answer can be there yet");
    let mut password = claim(200, FRAMES * JOBS);
    password.against.class = Class::Otp;
    assert_eq!(limits.claim(NOW, &[password]).await.unwrap(), [Decision::Claimed]);
    let (mut before, mut after) = (0, FuturesUnordered::new());
    for mut claimed in marketing {
        match claimed.as_mut().now_or_never() {
            Some(claimed) => {
                assert_eq!(claimed.unwrap().len(), frames[0].len());
                before += 1;
            }
            None => after.push(claimed),
        }
    }
    assert!(before <= 8, "{before} of {FRAMES} frames were claimed before the password");
    while let Some(claimed) = after.next().await {
        assert!(claimed.unwrap().iter().all(|decision| *decision == Decision::Claimed));
    }
}

/// The caps of a recipient, with the place of each in the model.
fn caps(recipient: u8, now: UnixMicros) -> Vec<Take> {
    let start = UnixMicros(now.0 - now.0 % DAY_US);
    let mut caps = vec![
        take(0, 2, HOUR),
        take(1, 9, HOUR * 6),
        spanning(2, 11, Span::Fixed { start, end: UnixMicros(start.0 + DAY_US) }),
        spanning(3, 14, Span::FromFirst(HOUR * 30)),
        take(4, 60, DAY * 7),
    ];
    if recipient < STEADY {
        caps.push(spanning(5, 4, Span::Bucket(HOUR * 2)));
    }
    caps
}

/// What the model knows of one recipient: claims with the ends of their places, by cap.
#[derive(Default)]
struct Known {
    taken: Vec<(Claim, Vec<UnixMicros>)>,
}

impl Known {
    fn ends(&self, cap: usize, now: UnixMicros) -> Vec<UnixMicros> {
        let mut ends: Vec<_> = self.taken.iter().map(|(_, ends)| ends[cap]).filter(|end| *end > now).collect();
        ends.sort_unstable();
        ends
    }

    /// Returns how many more the caps let through.
    fn room(&self, caps: &[Take], now: UnixMicros) -> usize {
        let free = |(cap, take): (usize, &Take)| (take.limit as usize).saturating_sub(self.ends(cap, now).len());
        caps.iter().enumerate().map(free).min().unwrap()
    }

    fn take(&mut self, claim: Claim, caps: &[Take], now: UnixMicros) {
        let end = |(cap, take): (usize, &Take)| {
            let last = self.ends(cap, now).last().copied();
            match take.span {
                Span::Rolling(length) => now.plus(length),
                Span::Fixed { end, .. } => end,
                Span::FromFirst(length) => last.unwrap_or_else(|| now.plus(length)),
                Span::Bucket(refill) => last.unwrap_or(now).plus(refill),
            }
        };
        let ends = caps.iter().enumerate().map(end).collect();
        self.taken.push((claim, ends));
    }
}

/// In each round all workers ask at the same time of the clock, some twice, some in batches, some with a clock that is
/// behind; then the clock moves, or a few claims are given back.
async fn hammer(store: &Store, rounds: u64) {
    let mut random = fastrand::Rng::with_seed(20_261_121);
    let mut now = NOW;
    let mut known: HashMap<u8, Known> = HashMap::new();
    let (mut claimed, mut refused) = (0, 0);
    for round in 0..rounds {
        // From here on no clock that is behind matters.
        store.limits.claim(now, &[claim(200, u64::MAX - round)]).await.unwrap();
        let mut workers = JoinSet::new();
        let mut wishes: HashMap<u8, usize> = HashMap::new();
        for worker in 0..WORKERS {
            let job = |item| round << 32 | worker << 16 | item;
            let claims: Vec<Claim> = (0..CLAIMS)
                .map(|item| {
                    let recipient = random.u8(0..RECIPIENTS);
                    *wishes.entry(recipient).or_default() += 1;
                    let deadline = now.plus(Duration::from_secs(30));
                    Claim { deadline, ..capped(recipient, job(item), &caps(recipient, now)) }
                })
                .collect();
            let behind = Duration::from_secs(if random.u8(0..4) == 0 { random.u64(0..90_000) } else { 0 });
            let (limits, batch, repeat) = (store.limits.clone(), random.usize(1..20), random.bool());
            workers.spawn(ask(limits, now.minus(behind), claims, batch, repeat));
        }
        let room = |recipient: u8| known.get(&recipient).map_or(usize::MAX, |k| k.room(&caps(recipient, now), now));
        let expected: HashMap<u8, usize> =
            wishes.iter().map(|(&to, &wishes)| (to, wishes.min(room(to)).min(2))).collect();
        let mut granted: HashMap<u8, usize> = HashMap::new();
        while let Some(decided) = workers.join_next().await {
            for (claim, decision) in decided.unwrap() {
                let recipient = claim.recipient.0[0];
                match decision {
                    Decision::Claimed => {
                        *granted.entry(recipient).or_default() += 1;
                        known.entry(recipient).or_default().take(claim, &caps(recipient, now), now);
                        claimed += 1;
                    }
                    Decision::OverCap { .. } => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        for (recipient, expected) in expected {
            let granted = granted.get(&recipient).copied().unwrap_or(0);
            assert_eq!(granted, expected, "round {round}, recipient {recipient}");
        }
        if random.u8(0..3) == 0 {
            for (_, known) in known.iter_mut().filter(|(recipient, _)| **recipient >= STEADY) {
                if let Some((claim, _)) = known.taken.pop() {
                    give_back(store, &claim).await;
                }
            }
        }
        now = now.plus(Duration::from_secs(random.u64(0..3 * 3_600)));
        for known in known.values_mut() {
            known.taken.retain(|(_, ends)| ends.iter().any(|end| *end > now));
        }
    }
    println!("{} takes asked: {claimed} claimed, {refused} refused, none too many", claimed + refused);
    assert!(claimed > 300 && refused > 300, "{claimed} claimed, {refused} refused: the test tests nothing");
}

async fn ask(
    limits: impl Limits,
    now: UnixMicros,
    claims: Vec<Claim>,
    batch: usize,
    repeat: bool,
) -> Vec<(Claim, Decision)> {
    let mut decided = Vec::new();
    for claims in claims.chunks(batch) {
        let decisions = limits.claim(now, claims).await.unwrap();
        if repeat {
            let again = limits.claim(now, claims).await.unwrap();
            let kept = |(first, second): (&_, &_)| *first != Decision::Claimed || *second == Decision::Claimed;
            assert!(decisions.iter().zip(&again).all(kept), "a repeated asking lost its claim");
        }
        decided.extend(claims.iter().cloned().zip(decisions));
    }
    decided
}
