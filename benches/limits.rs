//! What limits spend on a claim and on a rate: the embedded backend's decisions in memory, the commit wait aside; and Redis,
//! where `POSTRIDER_BENCH_REDIS` names one, as `redis://127.0.0.1:6379/0` (its database is emptied). Run it with
//! `cargo bench --bench limits`.
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
use postrider::domain::time::{Clock, UnixMicros};
use postrider::limits::core::{self, Buckets, People, Refusals, When};
use postrider::limits::redis::{Redis, Settings};
use postrider::limits::{Against, Claim, Decision, Lease, LeaseMode, Limits, Once, Span, Take};
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
        once: Once::Touch,
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
            collapse_key: None,
            accepted_at: NOW,
            moved_at: None,
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

/// The same in Redis, in calls as a dispatcher makes them: many at once, over one connection. Divided by the server's own
/// time, this is what one of its cores carries.
fn claims_in_redis(c: &mut Criterion) {
    let Ok(url) = std::env::var("POSTRIDER_BENCH_REDIS") else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut server = runtime.block_on(async {
        let client = deadpool_redis::redis::Client::open(&*url).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    });
    let mut group = c.benchmark_group("claim in redis");
    group.throughput(Throughput::Elements(CLAIMS)).sample_size(10);
    for rules in [1, 3, 8] {
        runtime.block_on(async { deadpool_redis::redis::cmd("FLUSHDB").query_async::<()>(&mut server).await.unwrap() });
        let limits = Redis::new(&Settings::new(&url), &Clock::virtual_at(NOW)).unwrap();
        let whole = runtime.block_on(async { limits.recovered(&limits.identity().await.unwrap()).await.unwrap() });
        assert!(whole, "what recovers decides nothing");
        let mut random = 0_u64;
        let mut job = 0;
        let mut ask = || {
            job += 1;
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            claim((random >> 33) % RECIPIENTS, job, rules)
        };
        let known: Vec<Claim> = (0..RECIPIENTS).map(|_| ask()).collect();
        let ask_all = async |claims: &[Claim]| {
            for claims in claims.chunks(64 * 16) {
                let decisions = black_box(limits.claim(NOW, claims).await.unwrap());
                assert!(!decisions.iter().any(|decision| matches!(decision, Decision::Recovering { .. })));
            }
        };
        runtime.block_on(ask_all(&known));
        let before = runtime.block_on(busy(&mut server));
        let mut asked = 0;
        group.bench_function(format!("{rules} rules"), |b| {
            let setup = || (0..CLAIMS).map(|_| ask()).collect::<Vec<_>>();
            b.iter_batched_ref(
                setup,
                |claims| {
                    asked += claims.len();
                    runtime.block_on(ask_all(claims));
                },
                BatchSize::LargeInput,
            );
        });
        let spent = runtime.block_on(busy(&mut server)) - before;
        let (each, rate) = (spent * 1e6 / asked as f64, asked as f64 / spent);
        println!("{rules} rules: {each:.1} us of the server for each of {asked} claims, {rate:.0} recipients/s a core");
    }
    group.finish();
}

/// Returns the processor time that the server has spent, in s.
async fn busy(server: &mut deadpool_redis::redis::aio::MultiplexedConnection) -> f64 {
    let info: String = deadpool_redis::redis::cmd("INFO").arg("cpu").query_async(server).await.unwrap();
    let spent = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    };
    spent("used_cpu_sys_main_thread:") + spent("used_cpu_user_main_thread:")
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

criterion_group!(benches, claims, claims_in_redis, rates);
criterion_main!(benches);
