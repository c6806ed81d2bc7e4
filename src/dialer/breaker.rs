//! Stops to dial over a trunk that fails, and tries it with single calls until it carries one. Pure.

use std::time::Duration;

use crate::domain::call::CallResult;
use crate::domain::time::UnixMicros;

/// So many calls are judged at a time.
const JUDGED: u32 = 20;
/// The trunk is broken when so many of them failed in the network.
const FAILED: u32 = 10;
/// How long it rests at first, and at most; the rest doubles with each try that fails.
const REST: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(300));
/// A try that nobody has heard of for so long is another's turn.
const TRY_MAX: Duration = Duration::from_secs(90);

/// Whether a trunk works.
#[derive(Clone, Copy, Debug)]
pub(super) enum Breaker {
    /// It does; so many calls have ended of those that are judged together, and so many of them failed.
    Closed { ended: u32, failed: u32 },
    /// It does not; one call tries it at that time.
    Open { until: UnixMicros, rest: Duration },
}

// === impl Breaker ===

impl Default for Breaker {
    fn default() -> Self {
        Self::Closed { ended: 0, failed: 0 }
    }
}

impl Breaker {
    /// Says whether a call may be started, or when the next may.
    pub(super) fn check(&self, now: UnixMicros) -> Result<(), UnixMicros> {
        match self {
            Self::Open { until, .. } if now < *until => Err(*until),
            Self::Open { .. } | Self::Closed { .. } => Ok(()),
        }
    }

    /// Notes that a call is started: of an open breaker the one that tries it; others wait for what becomes of it.
    pub(super) fn trying(&mut self, now: UnixMicros) {
        if let Self::Open { until, .. } = self {
            *until = now.plus(TRY_MAX);
        }
    }

    /// Notes how a call ended.
    pub(super) fn ended(&mut self, result: Option<CallResult>, now: UnixMicros) {
        let Some(result) = result else {
            // Perhaps the one that tried it, and never dialled: another's turn comes after a rest, not after a call's time.
            if let Self::Open { until, rest } = self {
                *until = (*until).min(now.plus(*rest));
            }
            return;
        };
        let fails = result == CallResult::Network;
        *self = match *self {
            Self::Closed { ended, failed } => {
                let (ended, failed) = (ended + 1, failed + u32::from(fails));
                match (ended, failed) {
                    (_, FAILED..) => Self::Open { until: now.plus(REST.0), rest: REST.0 },
                    (JUDGED.., _) => Self::default(),
                    _ => Self::Closed { ended, failed },
                }
            }
            Self::Open { rest, .. } if fails => {
                let rest = (rest * 2).min(REST.1);
                Self::Open { until: now.plus(rest), rest }
            }
            Self::Open { .. } => Self::default(),
        };
    }
}
