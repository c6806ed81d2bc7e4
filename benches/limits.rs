//! What limits spend in memory on a claim and on a rate: the embedded backend's decisions, the commit wait aside. Run it
//! with `cargo bench --bench limits`.
//!
//! Modelled: 200 000 recipients met at random, up to three claims each, with 1, 3 or 8 rolling caps; a bucket of 5 000
//! jobs a second that is asked for one token and for a batch of 64. Figures are per claim and per lease.

#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use postrider::domain::cap::{Mode, OnLimit};
use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Kind};
use postrider::domain::keys::{AddressKey, RecipientKey};
use postrider::domain::time::UnixMicros;
use postrider::limits::core::{self, Buckets, People, Refusals, When};
use postrider::limits::{Against, Claim, Lease, LeaseMode, Span, Take};
use uuid::Uuid;

const RECIPIENTS: u64 = 200_000;
const CLAIMS: u64 = 50_000;
const NOW: UnixMicros = UnixMicros::from_secs(1_800_000_000);
const WHEN: When = When { now: NOW, changed_at: UnixMicros(0) };

fn claim(recipient: u64, job: u64, rules: u32) -> Claim {
    // Recipient keys are keyed hashes: evenly spread.
    let spread = u128::from(recipient).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let day = Duration::from_secs(86_400);
    let take = |rule| Take {
        rule,
        log: None,
        limit: 5 + rule,
        need: 1,
        span: Span::Rolling(day * (rule + 1)),
        on_limit: OnLimit::Defer,
        mode: Mode::Enforce,
    };
    let id = Uuid::from_u128(u128::from(job) << 64 | u128::from(job));
    Claim {
        tenant: "acme".parse().unwrap(),
        recipient: RecipientKey(spread.to_le_bytes()),
        job: JobId(id),
        attempt: 1,
        supersedes: 0,
        token: job,
        deadline: NOW.plus(Duration::from_secs(30)),
        seen: None,
        touch: id,
        expires_at: UnixMicros::MAX,
        takes: (0..rules).map(take).collect(),
        against: Against {
            kind: Kind::Sms,
            class: Class::Marketing,
            address: AddressKey(spread.to_le_bytes()),
            sender: None,
            signature: None,
            topic: None,
            cancel_key: None,
            batch: Some(Uuid::from_u128(7)),
            campaign: None,
            run: None,
            accepted_at: NOW,
        },
    }
}

/// Claims everything against one memory, refusals looked up first, changes written as the log would have them.
fn claim_all(people: &mut People, refusals: &Refusals, claims: &[Claim], log: &mut Vec<u8>) {
    log.clear();
    for claim in claims {
        let refusal = refusals.against(NOW, claim);
        black_box(core::claim(people, WHEN, claim, refusal, |change| change.write(log)));
    }
}

fn claims(c: &mut Criterion) {
    let mut group = c.benchmark_group("claim");
    group.throughput(Throughput::Elements(CLAIMS)).sample_size(10);
    for rules in [1, 3, 8] {
        let mut random = 0_u64;
        let mut ask = |job| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            claim((random >> 33) % RECIPIENTS, job, rules)
        };
        let known: Vec<Claim> = (0..RECIPIENTS).map(&mut ask).collect();
        let asked: Vec<Claim> = (RECIPIENTS..RECIPIENTS + CLAIMS).map(&mut ask).collect();
        let (refusals, mut log) = (Refusals::default(), Vec::new());
        let setup = || {
            let mut people = People::default();
            claim_all(&mut people, &Refusals::default(), &known, &mut Vec::new());
            people
        };
        group.bench_function(format!("{rules} rules"), |b| {
            b.iter_batched_ref(setup, |people| claim_all(people, &refusals, &asked, &mut log), BatchSize::LargeInput);
        });
    }
    group.finish();
}

fn rates(c: &mut Criterion) {
    let mut group = c.benchmark_group("rate");
    group.throughput(Throughput::Elements(1));
    for want in [1, 64] {
        let (mut buckets, mut now) = (Buckets::default(), NOW);
        let rate = "5000/s".parse().unwrap();
        let lease = Lease { bucket: "provider:carrier-a".into(), rate, keep: 0, want, mode: LeaseMode::UpTo };
        group.bench_function(format!("take {want}"), |b| {
            b.iter(|| {
                now = now.plus(Duration::from_micros(200));
                buckets.lease(now, black_box(&lease))
            });
        });
    }
    group.finish();
}

criterion_group!(benches, claims, rates);
criterion_main!(benches);
