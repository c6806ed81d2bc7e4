//! Hands out tokens of shared buckets: leased from limits in small lots, given out locally, never kept for longer than
//! a second. So N nodes never mean N times the rate, and a job costs no call of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use super::{Granted, Lease, LeaseMode, Limits, LimitsError};
use crate::domain::rate::Rate;
use crate::domain::time::{Clock, UnixMicros};

/// How long leased tokens may be held: what a crashed node can lose, and what a changed rate lags behind.
const LEASE_LIFE: Duration = Duration::from_secs(1);
/// A lot is this part of a second's tokens: ten calls a second and bucket at most, where little is wanted at a time.
const LOTS_PER_SECOND: u32 = 10;

/// Gives out tokens of shared buckets on one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pacer<L> {
    limits: L,
    clock: Clock,
    purses: Arc<Mutex<HashMap<Box<str>, Purse>>>,
}

/// Tokens leased and not given out.
#[derive(Clone, Copy, Debug)]
struct Purse {
    tokens: u32,
    until: UnixMicros,
}

// === impl Pacer ===

impl<L: Limits> Pacer<L> {
    /// Returns a pacer over `limits`.
    pub fn new(limits: L, clock: Clock) -> Self {
        Self { limits, clock, purses: Arc::default() }
    }

    /// Takes up to `want` tokens of a bucket that refills at `rate`.
    ///
    /// # Errors
    /// When limits do not answer; nothing was given out then.
    pub async fn take(&self, bucket: &str, rate: Rate, want: u32, mode: LeaseMode) -> Result<Granted, LimitsError> {
        let now = self.clock.now();
        let held = self.draw(bucket, want, now);
        if held == want {
            return Ok(Granted { tokens: held, next_at: now });
        }
        let missing = want - held;
        let lot = missing.max(rate.per_s.get() / LOTS_PER_SECOND).min(rate.burst.get()).max(missing);
        // A lot larger than what is missing is taken as far as it goes; what must be whole is asked for exactly.
        let (ask, ask_mode) = match mode {
            LeaseMode::UpTo => (lot, LeaseMode::UpTo),
            LeaseMode::Whole | LeaseMode::Force => (missing, mode),
        };
        let lease = Lease { bucket: bucket.into(), rate, want: ask, mode: ask_mode };
        let granted = match self.limits.lease(now, std::slice::from_ref(&lease)).await {
            Ok(granted) => granted.first().copied().unwrap_or(Granted { tokens: 0, next_at: now }),
            Err(error) => {
                self.put_back(bucket, held, now);
                return Err(error);
            }
        };
        let total = held + granted.tokens;
        if total < want && mode == LeaseMode::Whole {
            self.put_back(bucket, total, now);
            return Ok(Granted { tokens: 0, next_at: granted.next_at });
        }
        self.put_back(bucket, total.saturating_sub(want), now);
        Ok(Granted { tokens: total.min(want), next_at: granted.next_at })
    }

    /// Gives unused tokens back: to this node's next taker, for up to a second.
    pub fn credit(&self, bucket: &str, tokens: u32) {
        self.put_back(bucket, tokens, self.clock.now());
    }

    fn draw(&self, bucket: &str, want: u32, now: UnixMicros) -> u32 {
        let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        match purses.get_mut(bucket) {
            Some(purse) if now < purse.until => {
                let drawn = purse.tokens.min(want);
                purse.tokens -= drawn;
                drawn
            }
            Some(purse) => {
                purse.tokens = 0;
                0
            }
            None => 0,
        }
    }

    fn put_back(&self, bucket: &str, tokens: u32, now: UnixMicros) {
        if tokens == 0 {
            return;
        }
        let mut purses = self.purses.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = Purse { tokens: 0, until: now.plus(LEASE_LIFE) };
        let purse = purses.entry(bucket.into()).or_insert(fresh);
        if purse.until <= now || purse.tokens == 0 {
            *purse = fresh;
        }
        purse.tokens = purse.tokens.saturating_add(tokens);
    }
}
