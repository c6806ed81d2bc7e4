//! Tokens leased and not given out yet, of one node. Pure: time is an argument.

use std::time::Duration;

use hashbrown::HashMap;

use crate::domain::time::UnixMicros;
use crate::limits::rates::Bucket;
use crate::limits::{Granted, Lease, LeaseMode};

/// How long leased tokens may be held: what a crashed node can lose, and what a changed rate lags behind.
pub const LEASE_LIFE: Duration = Duration::from_secs(1);

/// What one node holds, by bucket. Those that must leave tokens in a bucket and those that need not have a purse each:
/// what is kept for the urgent stays with them.
#[derive(Clone, Debug, Default)]
pub struct Purses {
    purses: HashMap<(Box<str>, bool), Purse>,
}

#[derive(Clone, Copy, Debug)]
struct Purse {
    tokens: u32,
    until: UnixMicros,
}

/// A wish, and what the node's own purse gave for it.
#[derive(Clone, Debug)]
pub struct Want<'a> {
    bucket: &'a Bucket,
    tokens: u32,
    held: u32,
    mode: LeaseMode,
}

// === impl Purses ===

impl Purses {
    /// Draws what there is for a wish.
    pub fn draw<'a>(&mut self, bucket: &'a Bucket, tokens: u32, mode: LeaseMode, now: UnixMicros) -> Want<'a> {
        let held = match self.purses.get_mut(&key(bucket)) {
            Some(purse) if now < purse.until => {
                let drawn = purse.tokens.min(tokens);
                purse.tokens -= drawn;
                drawn
            }
            Some(purse) => {
                purse.tokens = 0;
                0
            }
            None => 0,
        };
        Want { bucket, tokens, held, mode }
    }

    /// Ends a wish with what was leased for it; what is left over stays for the next. `None`: nothing could be asked.
    pub fn settle(&mut self, want: Want<'_>, leased: Option<Granted>, now: UnixMicros) -> Granted {
        let Want { bucket, tokens, held, mode } = want;
        let Granted { tokens: more, next_at } = leased.unwrap_or(Granted { tokens: 0, next_at: now });
        let total = held.saturating_add(more);
        let short = total < tokens && (mode == LeaseMode::Whole || leased.is_none());
        let given = if short { 0 } else { total.min(tokens) };
        self.put(bucket, total - given, now);
        Granted { tokens: given, next_at }
    }

    /// Puts unused tokens in: for this node's next taker, for up to [`LEASE_LIFE`].
    pub fn put(&mut self, bucket: &Bucket, tokens: u32, now: UnixMicros) {
        if tokens == 0 {
            return;
        }
        let fresh = Purse { tokens: 0, until: now.plus(LEASE_LIFE) };
        let purse = self.purses.entry(key(bucket)).or_insert(fresh);
        if purse.until <= now || purse.tokens == 0 {
            *purse = fresh;
        }
        purse.tokens = purse.tokens.saturating_add(tokens);
    }
}

fn key(bucket: &Bucket) -> (Box<str>, bool) {
    (bucket.name.clone(), bucket.keep > 0)
}

// === impl Want ===

impl Want<'_> {
    /// Returns what must be leased for it; `None`: the purse had it all, or it can never be had.
    pub fn lease(&self) -> Option<Lease> {
        let Bucket { name, rate, keep, lot: _ } = self.bucket;
        let most = rate.burst.get() - keep.min(&(rate.burst.get() - 1));
        if self.mode == LeaseMode::Whole && self.tokens > most {
            return None; // So much is never there at once.
        }
        let missing = self.tokens - self.held;
        // A lot larger than what is missing is taken as far as it goes; what must be whole is asked for exactly.
        let want = match self.mode {
            LeaseMode::UpTo => missing.max(self.bucket.lot),
            LeaseMode::Whole | LeaseMode::Force => missing,
        };
        let lease = Lease { bucket: name.clone(), rate: *rate, keep: *keep, want, mode: self.mode };
        (missing > 0).then_some(lease)
    }
}
