//! How many calls may be started, and how fast. Pure.

use std::num::NonZeroU32;

use crate::domain::time::UnixMicros;

/// Returns how many calls may be started now.
///
/// Progressive pacing: a line is free for every call that is answered, so that nobody who picks up hears silence. Calls
/// that ring are at most the lines nobody talks on, times `lines_per_port`, since not every call is answered; and calls
/// altogether are never more than lines.
pub(super) fn may_dial(lines: u32, lines_per_port: u32, ringing: u32, answered: u32) -> u32 {
    let idle = lines.saturating_sub(answered);
    let ahead = idle.saturating_mul(lines_per_port).saturating_sub(ringing);
    ahead.min(idle.saturating_sub(ringing))
}

/// Starts calls evenly: never more than so many in any second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// From one call to the next.
    apart: i64,
    next: UnixMicros,
}

// === impl Pace ===

impl Pace {
    pub(super) fn new(per_s: NonZeroU32) -> Self {
        // Rounded up: rounded down, a second would hold one more.
        Self {
            apart: 1_000_000_i64.div_euclid(per_s.get().into()) + i64::from(1_000_000 % per_s.get() != 0),
            next: UnixMicros(i64::MIN),
        }
    }

    /// Takes a place, or says when there is one.
    pub(super) fn take(&mut self, now: UnixMicros) -> Result<(), UnixMicros> {
        if now < self.next {
            return Err(self.next);
        }
        self.next = UnixMicros(now.0.saturating_add(self.apart));
        Ok(())
    }
}
