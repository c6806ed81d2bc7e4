//! Token buckets: rates that everybody shares.

use std::collections::HashMap;

use super::change::Change;
use crate::domain::rate::Rate;
use crate::domain::time::UnixMicros;
use crate::limits::{Granted, Lease, LeaseMode};

/// Millionths of a token, so that a bucket's level is exact to the microsecond at any whole rate per second.
type Micro = i64;

const TOKEN: Micro = 1_000_000;

/// Buckets below this number are never pruned.
const PRUNE_MIN: usize = 1024;

/// One bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bucket {
    /// What it held at `at`; below zero after a forced lease.
    pub level: Micro,
    /// When.
    pub at: UnixMicros,
    /// Its numbers since then.
    pub rate: Rate,
}

/// The buckets by name. A bucket that is full is the same as an unknown one, so it is forgotten in time.
#[derive(Debug, Default)]
pub struct Buckets {
    buckets: HashMap<Box<str>, Bucket>,
    prune_at: usize,
}

// === impl Bucket ===

impl Bucket {
    /// Returns a full bucket.
    fn full(rate: Rate, at: UnixMicros) -> Self {
        Self { level: capacity(rate), at, rate }
    }

    /// Moves the bucket on to `now`, at the rate it had, and gives it new numbers.
    fn step(&mut self, now: UnixMicros, rate: Rate) {
        if now > self.at {
            let grown = i128::from(now.0 - self.at.0) * i128::from(self.rate.per_s.get());
            let level = (i128::from(self.level) + grown).min(i128::from(capacity(self.rate)));
            self.level = Micro::try_from(level).unwrap_or(Micro::MAX);
            self.at = now;
        }
        self.rate = rate;
        self.level = self.level.min(capacity(rate));
    }

    /// Takes tokens, but for those that are kept. A wish for more than there can ever be is a wish for all of it.
    fn take(&mut self, want: u32, keep: u32, mode: LeaseMode) -> Granted {
        let burst = self.rate.burst.get();
        // What is kept can never be the whole bucket, or nobody who must leave it would ever have a token.
        let keep = keep.min(burst - 1);
        let want = match mode {
            LeaseMode::UpTo | LeaseMode::Force => want,
            LeaseMode::Whole => want.min(burst - keep),
        };
        let kept = Micro::from(keep) * TOKEN;
        let there = u32::try_from((self.level - kept).max(0) / TOKEN).unwrap_or(u32::MAX);
        let tokens = match mode {
            LeaseMode::UpTo => want.min(there),
            LeaseMode::Whole if want > there => 0,
            LeaseMode::Whole | LeaseMode::Force => want,
        };
        self.level -= Micro::from(tokens) * TOKEN;
        let missing = match mode {
            LeaseMode::UpTo if tokens < want => TOKEN + kept - self.level,
            LeaseMode::Whole if tokens < want => Micro::from(want) * TOKEN + kept - self.level,
            LeaseMode::UpTo | LeaseMode::Whole | LeaseMode::Force => 0,
        };
        let per_s = Micro::from(self.rate.per_s.get());
        // Rounded up: at that microsecond the token is there.
        let wait = missing.max(0).div_euclid(per_s) + Micro::from(missing.max(0).rem_euclid(per_s) > 0);
        Granted { tokens, next_at: UnixMicros(self.at.0.saturating_add(wait)) }
    }

    fn is_full(&self, now: UnixMicros) -> bool {
        let mut later = *self;
        later.step(now, self.rate);
        later.level >= capacity(self.rate)
    }
}

// === impl Buckets ===

impl Buckets {
    /// Leases tokens and returns the change that makes the lease last.
    pub fn lease(&mut self, now: UnixMicros, lease: &Lease) -> (Granted, Change) {
        self.prune(now);
        let bucket = match self.buckets.get_mut(&lease.bucket) {
            Some(bucket) => bucket,
            None => self.buckets.entry(lease.bucket.clone()).or_insert_with(|| Bucket::full(lease.rate, now)),
        };
        bucket.step(now, lease.rate);
        let granted = bucket.take(lease.want, lease.keep, lease.mode);
        (granted, Change::Bucket { name: lease.bucket.clone(), bucket: *bucket })
    }

    /// Puts tokens back, as far as the bucket holds them.
    pub fn unlease(&mut self, name: &str, tokens: u32) -> Option<Change> {
        let bucket = self.buckets.get_mut(name)?;
        bucket.level = (bucket.level + Micro::from(tokens) * TOKEN).min(capacity(bucket.rate));
        Some(Change::Bucket { name: name.into(), bucket: *bucket })
    }

    /// Sets a bucket to what the log says.
    pub fn set(&mut self, name: Box<str>, bucket: Bucket) {
        self.buckets.insert(name, bucket);
    }

    /// Calls `each` with every bucket that is not full at `now`.
    pub fn each(&self, now: UnixMicros, mut each: impl FnMut(&str, &Bucket)) {
        self.buckets.iter().filter(|(_, bucket)| !bucket.is_full(now)).for_each(|(name, bucket)| each(name, bucket));
    }

    fn prune(&mut self, now: UnixMicros) {
        if self.buckets.len() >= self.prune_at.max(PRUNE_MIN) {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            self.prune_at = self.buckets.len() * 2;
        }
    }
}

fn capacity(rate: Rate) -> Micro {
    Micro::from(rate.burst.get()) * TOKEN
}
