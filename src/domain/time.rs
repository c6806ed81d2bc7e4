//! Time is an argument: one [`Clock`], made by `app`, is the only source of "now" and the only way to sleep.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

/// A point in time: microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMicros(pub i64);

/// Where the service reads time and waits for it.
///
/// The system clock never steps back within a process. The virtual clock stands still until it is advanced, so that a
/// month of scheduling runs in seconds. Time limits on I/O ([`Clock::timeout`]) always run on real time: a hung peer
/// hangs in real time.
#[derive(Clone)]
pub struct Clock {
    source: Source,
}

/// The future did not finish within its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within the time limit")]
pub struct Elapsed;

/// A running measurement of real time, for latencies.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

#[derive(Clone)]
enum Source {
    System { latest: Arc<AtomicI64> },
    Virtual { now: Arc<watch::Sender<i64>> },
}

// === impl UnixMicros ===

impl UnixMicros {
    /// The latest time there is; sorts after every real one.
    pub const MAX: Self = Self(i64::MAX);

    /// Returns the time `millis` milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Returns the time `secs` seconds after the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000))
    }

    /// Returns the whole milliseconds since the epoch.
    pub const fn as_millis(self) -> i64 {
        self.0.div_euclid(1_000)
    }

    /// Returns the whole seconds since the epoch.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1_000_000)
    }

    /// Returns the time that is `duration` later, or [`UnixMicros::MAX`].
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(micros(duration)))
    }

    /// Returns the time that is `duration` earlier.
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(micros(duration)))
    }

    /// Returns how long `self` is after `earlier`; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl fmt::Debug for UnixMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.as_secs(), self.0.rem_euclid(1_000_000))
    }
}

// === impl Clock ===

impl Clock {
    /// Returns the clock of the machine.
    pub fn system() -> Self {
        Self { source: Source::System { latest: Arc::new(AtomicI64::new(0)) } }
    }

    /// Returns a clock that stands at `start` until it is advanced.
    pub fn virtual_at(start: UnixMicros) -> Self {
        Self { source: Source::Virtual { now: Arc::new(watch::Sender::new(start.0)) } }
    }

    /// Returns the time now. Never earlier than what this clock returned before.
    pub fn now(&self) -> UnixMicros {
        match &self.source {
            Source::System { latest } => {
                let now = system_micros();
                UnixMicros(latest.fetch_max(now, Ordering::Relaxed).max(now))
            }
            Source::Virtual { now } => UnixMicros(*now.borrow()),
        }
    }

    /// Waits until `deadline`, which may have passed already.
    pub async fn sleep_until(&self, deadline: UnixMicros) {
        match &self.source {
            Source::System { .. } => real_sleep(deadline.since(self.now())).await,
            Source::Virtual { now } => {
                let mut now = now.subscribe();
                // The sender lives in `self`, so the channel cannot close while this waits.
                let _closed = now.wait_for(|&now| now >= deadline.0).await;
            }
        }
    }

    /// Waits for `duration` of this clock's time.
    pub async fn sleep(&self, duration: Duration) {
        self.sleep_until(self.now().plus(duration)).await;
    }

    /// Waits for `duration` of real time, whatever this clock does: for polling and reconnecting.
    pub async fn pause(&self, duration: Duration) {
        real_sleep(duration).await;
    }

    /// Runs `future` for at most `limit` of real time.
    ///
    /// # Errors
    /// [`Elapsed`] when it did not finish; the future is dropped.
    pub async fn timeout<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that the rule points to")]
        tokio::time::timeout(limit, future).await.map_err(|_| Elapsed)
    }

    /// Starts a measurement of real time.
    pub fn stopwatch(&self) -> Stopwatch {
        #[expect(clippy::disallowed_methods, reason = "this is the clock that the rule points to")]
        Stopwatch(std::time::Instant::now())
    }

    /// Returns whether it moves only when it is told to.
    pub fn stands(&self) -> bool {
        matches!(self.source, Source::Virtual { .. })
    }

    /// Moves a virtual clock forward and returns its new time; the system clock refuses with `None`.
    pub fn advance(&self, by: Duration) -> Option<UnixMicros> {
        match &self.source {
            Source::System { .. } => None,
            Source::Virtual { now } => {
                now.send_modify(|now| *now = now.saturating_add(micros(by)));
                Some(self.now())
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::System { .. } => f.write_str("Clock::System"),
            Source::Virtual { .. } => write!(f, "Clock::Virtual({:?})", self.now()),
        }
    }
}

// === impl Stopwatch ===

impl Stopwatch {
    /// Returns the real time since the start.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that the rule points to")]
fn system_micros() -> i64 {
    micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

#[expect(clippy::disallowed_methods, reason = "this is the clock that the rule points to")]
async fn real_sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_between_times_never_underflow() {
        let (early, late) = (UnixMicros::from_secs(10), UnixMicros::from_secs(12));
        assert_eq!(late.since(early), Duration::from_secs(2));
        assert_eq!(early.since(late), Duration::ZERO);
        assert_eq!(UnixMicros::MAX.plus(Duration::from_secs(1)), UnixMicros::MAX);
    }

    #[tokio::test]
    async fn a_virtual_clock_wakes_sleepers_only_when_advanced() {
        let clock = Clock::virtual_at(UnixMicros::from_secs(100));
        let sleeper = {
            let clock = clock.clone();
            async move {
                clock.sleep(Duration::from_secs(30)).await;
                clock.now()
            }
        };
        let mut sleeper = std::pin::pin!(sleeper);
        assert!(clock.timeout(Duration::from_millis(5), &mut sleeper).await.is_err());
        clock.advance(Duration::from_secs(31));
        assert_eq!(sleeper.await, UnixMicros::from_secs(131));
    }
}
