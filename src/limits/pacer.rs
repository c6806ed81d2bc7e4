//! Hands out tokens of shared buckets: leased from limits in small lots, given out locally, never kept for longer than
//! a second. So N nodes never mean N times the rate, and a job costs no call of its own.

mod purses;
mod shares;
#[cfg(test)]
mod simulation;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;

pub use self::purses::{LEASE_LIFE, Purses, Want};
use self::shares::Shares;
use super::rates::Bucket;
use super::{Granted, LeaseMode, Limits, LimitsError};
use crate::domain::ids::TenantId;
use crate::domain::time::{Clock, UnixMicros};

/// Gives out tokens of shared buckets on one node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pacer<L> {
    limits: L,
    clock: Clock,
    purses: Arc<Mutex<Purses>>,
    shares: Arc<Mutex<HashMap<Box<str>, Shares>>>,
}

/// What several buckets gave together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Taken {
    /// Tokens of each.
    pub tokens: u32,
    /// The bucket that had fewer than were wanted, and when it has more.
    pub short: Option<(usize, UnixMicros)>,
}

// === impl Pacer ===

impl<L: Limits> Pacer<L> {
    /// Returns a pacer over `limits`.
    pub fn new(limits: L, clock: Clock) -> Self {
        Self { limits, clock, purses: Arc::default(), shares: Arc::default() }
    }

    /// Takes up to `want` tokens of a bucket.
    ///
    /// # Errors
    /// When limits do not answer; nothing was given out then.
    pub async fn take(&self, bucket: &Bucket, want: u32, mode: LeaseMode) -> Result<Granted, LimitsError> {
        let now = self.clock.now();
        let want = self.purses().draw(bucket, want, mode, now);
        let Some(lease) = want.lease() else {
            return Ok(self.purses().settle(want, Some(Granted { tokens: 0, next_at: now }), now));
        };
        match self.limits.lease(now, std::slice::from_ref(&lease)).await {
            Ok(granted) => {
                let granted = granted.first().copied().unwrap_or(Granted { tokens: 0, next_at: now });
                Ok(self.purses().settle(want, Some(granted), now))
            }
            Err(error) => {
                self.purses().settle(want, None, now);
                Err(error)
            }
        }
    }

    /// Takes as many tokens of each of some buckets as the poorest has, up to `want`.
    ///
    /// # Errors
    /// When limits do not answer; nothing was given out then.
    pub async fn take_all(&self, buckets: &[Bucket], want: u32, mode: LeaseMode) -> Result<Taken, LimitsError> {
        let mut taken = Taken { tokens: want, short: None };
        for (index, bucket) in buckets.iter().enumerate() {
            let granted = match self.take(bucket, taken.tokens, mode).await {
                Ok(granted) => granted,
                Err(error) => {
                    self.credit(&buckets[..index], taken.tokens);
                    return Err(error);
                }
            };
            if granted.tokens < taken.tokens {
                self.credit(&buckets[..index], taken.tokens - granted.tokens);
                taken = Taken { tokens: granted.tokens, short: Some((index, granted.next_at)) };
            }
            if taken.tokens == 0 {
                break;
            }
        }
        Ok(taken)
    }

    /// Returns a bucket as a tenant may draw from it that wants `jobs` more, past those who wait in the agenda: all of it
    /// for who stays within its share, so that it hardly feels the others; half of it for who does not.
    pub fn share(&self, bucket: Bucket, tenant: &TenantId, jobs: u32) -> Bucket {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let of_bucket = shares.entry(bucket.name.clone()).or_default();
        match of_bucket.within(tenant, jobs, bucket.rate.per_s.get(), self.clock.now()) {
            true => bucket,
            false => bucket.keeping(2),
        }
    }

    /// Gives unused tokens of each of some buckets back: to this node's next taker, for up to a second.
    pub fn credit(&self, buckets: &[Bucket], tokens: u32) {
        let (now, mut purses) = (self.clock.now(), self.purses());
        buckets.iter().for_each(|bucket| purses.put(bucket, tokens, now));
    }

    fn purses(&self) -> MutexGuard<'_, Purses> {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
