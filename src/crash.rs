//! Places where tests let the process die, to prove that a crash there loses nothing and doubles nothing.
//!
//! `POSTRIDER_CRASH_POINT=after_claim:500` ends the process at the 500th pass through [`Point::AfterClaim`], as abruptly as
//! `SIGKILL`: nothing is flushed, closed or dropped. Unset, as always outside tests, a point costs one load.
//! `POSTRIDER_POISON_JOB` names a job that ends the process in the same way whenever dispatch takes it in hand.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;

use crate::domain::ids::JobId;
use crate::domain::job::words;

/// The environment variable that arms a point.
pub const VARIABLE: &str = "POSTRIDER_CRASH_POINT";

/// The environment variable that makes a job poison.
pub const POISON: &str = "POSTRIDER_POISON_JOB";

words! {
    /// Where the process may be told to die.
    Point {
        /// Jobs are claimed; nothing went to a provider.
        AfterClaim = "after_claim",
        /// A part of a hand-over's bytes was written to a provider's connection.
        MidWrite = "mid_write",
        /// A provider answered; nobody was told.
        AfterAnswer = "after_answer",
        /// The event of an answer is durable; its frame is not acknowledged.
        AfterEvent = "after_event",
        /// A batch of the record queue is merged; none of it is in the ledger.
        BeforeRecord = "before_record",
        /// It is in the ledger; its frames are not acknowledged.
        AfterRecord = "after_record",
    }
}

/// A point that is armed, and how many passes are left.
#[derive(Debug)]
struct Armed {
    point: Point,
    left: AtomicU64,
}

/// Passes through a point: ends the process if it is armed and its pass has come.
pub fn point(point: Point) {
    if strikes(point) {
        die(point);
    }
}

/// Passes through a point, and returns whether its pass has come: for a caller that has something to leave half done
/// before it calls [`die`].
pub fn strikes(point: Point) -> bool {
    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| Armed::read(&std::env::var(VARIABLE).ok()?));
    ARMED.as_ref().is_some_and(|armed| armed.passed(point))
}

/// Ends the process if the poison job is among these.
pub fn taste(mut jobs: impl Iterator<Item = JobId>) {
    static POISONED: LazyLock<Option<Uuid>> = LazyLock::new(|| Uuid::try_parse(&std::env::var(POISON).ok()?).ok());
    if let Some(poison) = *POISONED
        && jobs.any(|job| job.0 == poison)
    {
        eprintln!("poison job");
        // A moment later, so that what others have in hand is done: this death costs nobody else a repetition.
        std::thread::sleep(Duration::from_millis(100));
        std::process::abort();
    }
}

/// Ends the process at once.
pub fn die(point: Point) -> ! {
    // The test reads this to know that the process died where it was told to.
    eprintln!("crash point {point}");
    std::process::abort();
}

// === impl Armed ===

impl Armed {
    fn read(text: &str) -> Option<Self> {
        let (word, passes) = text.split_once(':')?;
        let passes: u64 = passes.parse().ok().filter(|&passes| passes > 0)?;
        Some(Self { point: Point::from_word(word)?, left: AtomicU64::new(passes) })
    }

    fn passed(&self, point: Point) -> bool {
        // Passes beyond the last wrap around and never come to 1 again.
        self.point == point && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_armed_point_strikes_once_at_its_pass() {
        let armed = Armed::read("after_claim:2").unwrap();
        assert!(!armed.passed(Point::AfterAnswer));
        assert!(!armed.passed(Point::AfterClaim));
        assert!(armed.passed(Point::AfterClaim));
        assert!(!armed.passed(Point::AfterClaim));
    }

    #[test]
    fn what_is_no_point_arms_nothing() {
        for text in ["", "after_claim", "after_claim:0", "after_claim:x", "elsewhere:1"] {
            assert!(Armed::read(text).is_none(), "{text:?}");
        }
        assert!(!strikes(Point::AfterEvent));
    }
}
