//! Fifty nodes with crashes on one set of buckets: what is sent in any window, over the same pure cores as the service.
//!
//! Tenants: a token may be given out as long as a lease lives after it was leased, and its job may be sent
//! [`SENT_WITHIN`] after that. Providers: a token given out is a message sent.

use std::time::Duration;

use fastrand::Rng;

use super::{LEASE_LIFE, Purses};
use crate::domain::job::Class;
use crate::domain::rate::Rate;
use crate::domain::time::UnixMicros;
use crate::limits::LeaseMode;
use crate::limits::core::Buckets;
use crate::limits::rates::{self, Bucket};

const NODES: usize = 50;
/// A released job is claimed this much later at most, or takes a new token: dispatch lets it be reserved ahead for
/// 0.5 s, late for 2.5 s, and waits up to 1 s for its permit.
const SENT_WITHIN: Duration = Duration::from_secs(4);
/// What a tenant's jobs may lag behind their tokens in all.
const TENANT_LAG: Duration = Duration::from_secs(5);

/// The nodes, the shared buckets, and what was sent.
struct World {
    random: Rng,
    now: UnixMicros,
    buckets: Buckets,
    nodes: Vec<Purses>,
    sent: Vec<(UnixMicros, u32)>,
    crashes: u32,
}

impl World {
    fn new(seed: u64) -> Self {
        let nodes = vec![Purses::default(); NODES];
        let now = UnixMicros::from_secs(1_000);
        Self { random: Rng::with_seed(seed), now, buckets: Buckets::default(), nodes, sent: vec![], crashes: 0 }
    }

    /// Moves time on: mostly a little, at times far enough for a bucket to fill; and at times a node crashes.
    fn step(&mut self) {
        let micros = if self.random.u32(0..500) == 0 { 3_000_000 } else { self.random.u64(0..4_000) };
        self.now = self.now.plus(Duration::from_micros(micros));
        if self.random.u32(0..200) == 0 {
            let node = self.random.usize(0..NODES);
            self.nodes[node] = Purses::default();
            self.crashes += 1;
        }
    }

    /// Some node takes tokens; returns how many it was given.
    fn take(&mut self, bucket: &Bucket, want: u32, mode: LeaseMode) -> u32 {
        let node = self.random.usize(0..NODES);
        let purse = &mut self.nodes[node];
        let want = purse.draw(bucket, want, mode, self.now);
        let leased = want.lease().map(|lease| self.buckets.lease(self.now, &lease).0);
        if leased.is_some() && self.random.u32(0..100) == 0 {
            // It dies with what it leased, before it has given any of it out.
            *purse = Purses::default();
            self.crashes += 1;
            return 0;
        }
        let nothing = crate::limits::Granted { tokens: 0, next_at: self.now };
        let given = purse.settle(want, Some(leased.unwrap_or(nothing)), self.now).tokens;
        // Some of it is not needed after all: the next job is smaller than the rest.
        let unused = if given > 1 && self.random.u32(0..4) == 0 { self.random.u32(0..given) } else { 0 };
        purse.put(bucket, unused, self.now);
        given - unused
    }

    /// Returns the most that was sent beyond `rate` in any window, as tokens.
    fn worst_burst(&mut self, rate: Rate) -> f64 {
        self.sent.sort_unstable_by_key(|(at, _)| *at);
        let per_micro = f64::from(rate.per_s.get()) / 1e6;
        let first = self.sent[0].0;
        // Sent up to a moment, less what the rate allows until then: a window's excess is a rise of that.
        let (mut sum, mut lowest, mut worst) = (0.0, f64::INFINITY, 0.0_f64);
        for (at, tokens) in &self.sent {
            let allowed = at.since(first).as_micros() as f64 * per_micro;
            lowest = lowest.min(sum - allowed);
            sum += f64::from(*tokens);
            worst = worst.max(sum - allowed - lowest);
        }
        worst
    }
}

fn rate(raw: &str) -> Rate {
    raw.parse().unwrap()
}

#[track_caller]
fn providers_keep_their_rate(raw: &str, largest: u32) {
    let rate = rate(raw);
    for seed in 0..8 {
        let mut world = World::new(seed);
        for _ in 0..20_000 {
            world.step();
            let class = if world.random.u32(0..4) == 0 { Class::Otp } else { Class::Marketing };
            let bucket = rates::provider(&"carrier-a".parse().unwrap(), rate, class);
            let want = world.random.u32(1..=largest);
            let given = world.take(&bucket, want, LeaseMode::UpTo);
            let now = world.now;
            world.sent.push((now, given));
        }
        assert!(world.crashes > 50);
        let lease = rate.per_s.get().div_ceil(10) + largest;
        let most = f64::from(rate.burst.get()) + (NODES as f64) * f64::from(lease);
        let worst = world.worst_burst(rate);
        assert!(worst <= most, "{raw}: {worst} tokens beyond the rate, at most {most}");
        let sent: u64 = world.sent.iter().map(|(_, tokens)| u64::from(*tokens)).sum();
        assert!(sent > 0);
    }
}

#[test]
fn fifty_nodes_with_crashes_never_exceed_a_providers_rate() {
    providers_keep_their_rate("5000/s", 64);
    providers_keep_their_rate("500/s:1000", 8);
    providers_keep_their_rate("10/s", 2);
}

#[test]
fn fifty_nodes_with_crashes_never_exceed_a_tenants_rate() {
    for (raw, largest) in [("2000/s", 128), ("100/s:1000", 128), ("1/s", 1)] {
        let rate = rate(raw);
        let bucket = rates::tenant(&"acme".parse().unwrap(), rate);
        for seed in 0..8 {
            let mut world = World::new(seed);
            for _ in 0..20_000 {
                world.step();
                let want = world.random.u32(1..=largest);
                let mode = if world.random.bool() { LeaseMode::UpTo } else { LeaseMode::Whole };
                let given = world.take(&bucket, want, mode);
                let lag = Duration::from_micros(world.random.u64(0..SENT_WITHIN.as_micros() as u64));
                let at = world.now.plus(lag);
                world.sent.push((at, given));
            }
            let most = f64::from(rate.burst.get()) + f64::from(rate.per_s.get()) * TENANT_LAG.as_secs_f64();
            let worst = world.worst_burst(rate);
            assert!(worst <= most, "{raw}: {worst} jobs beyond the rate, at most {most}");
        }
    }
    assert_eq!(SENT_WITHIN + LEASE_LIFE, TENANT_LAG);
}

#[test]
fn a_changed_rate_binds_within_a_leases_life() {
    let (fast, slow) = (rate("1000/s"), rate("10/s"));
    let of = |rate| rates::tenant(&"acme".parse().unwrap(), rate);
    let mut world = World::new(3);
    for _ in 0..2_000 {
        world.step();
        world.take(&of(fast), 8, LeaseMode::UpTo);
    }
    let changed = world.now;
    while world.now < changed.plus(Duration::from_secs(30)) {
        world.step();
        let given = world.take(&of(slow), 8, LeaseMode::UpTo);
        let now = world.now;
        if now > changed.plus(LEASE_LIFE) {
            world.sent.push((now, given));
        }
    }
    let worst = world.worst_burst(slow);
    assert!(worst <= 10.0 + NODES as f64 * 8.0, "{worst} jobs beyond the new rate");
}

#[test]
fn urgent_work_finds_what_is_kept_for_it_however_much_the_rest_takes() {
    let rate = rate("1000/s");
    let of = |class| rates::provider(&"carrier-a".parse().unwrap(), rate, class);
    let mut world = World::new(5);
    for _ in 0..20_000 {
        world.step();
        world.take(&of(Class::Marketing), 64, LeaseMode::UpTo);
        // Far below a tenth of the rate.
        if world.random.u32(0..100) == 0 {
            let node = world.random.usize(0..NODES);
            let (bucket, now) = (of(Class::Otp), world.now);
            let want = world.nodes[node].draw(&bucket, 1, LeaseMode::UpTo, now);
            let leased = want.lease().map(|lease| world.buckets.lease(now, &lease).0);
            let nothing = crate::limits::Granted { tokens: 0, next_at: now };
            let given = world.nodes[node].settle(want, Some(leased.unwrap_or(nothing)), now);
            assert_eq!(given.tokens, 1, "an urgent job waited for a provider that had a tenth left");
        }
    }
}
