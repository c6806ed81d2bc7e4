//! How entries of the agenda are spread over columns, and in which order they take turns.

use super::columns::{Code, missing};
use super::{Entry, LedgerError, Sort, Tag};
use crate::domain::time::UnixMicros;

/// Bits of a turn that are for the priority, which has 201 values.
const TURN_BITS: u32 = 8;

/// Returns a tag's sort, and a timer's kind, owner and key.
pub(super) fn tag_columns(tag: &Tag) -> (Sort, Option<[&str; 3]>) {
    let timer = match tag {
        Tag::Send | Tag::Check => None,
        Tag::Timer { kind, owner, key } => Some([&**kind, &**owner, &**key]),
    };
    (tag.sort(), timer)
}

/// Reads a tag.
pub(super) fn tag(sort: i16, timer: [Option<Box<str>>; 3]) -> Result<Tag, LedgerError> {
    match (Sort::from_code(sort)?, timer) {
        (Sort::Send, _) => Ok(Tag::Send),
        (Sort::Check, _) => Ok(Tag::Check),
        (Sort::Timer, [Some(kind), Some(owner), Some(key)]) => Ok(Tag::Timer { kind, owner, key }),
        (Sort::Timer, _) => Err(missing("timer")),
    }
}

/// Returns the entries that one call inserts: of two with one id the first, of two settings of one timer the last.
pub(super) fn distinct(entries: &[Entry]) -> Vec<&Entry> {
    let mut ids = std::collections::HashSet::new();
    let mut timers = std::collections::HashSet::new();
    let last_settings: Vec<&Entry> = entries
        .iter()
        .rev()
        .filter(|entry| matches!(entry.tag, Tag::Send | Tag::Check) || timers.insert(&entry.tag))
        .collect();
    last_settings.into_iter().rev().filter(|entry| ids.insert(entry.id)).collect()
}

/// Returns an entry's place in its group: the second it is due in, then its priority, the higher first.
pub(super) fn turn(due_at: UnixMicros, priority: i8) -> i64 {
    (due_at.as_secs() << TURN_BITS) | i64::from(100_i16 - i16::from(priority.clamp(-100, 100)))
}

/// Returns the first turn that is not due at `now`, whatever its priority.
pub(super) fn turns_to(now: UnixMicros) -> i64 {
    now.as_secs().saturating_add(1) << TURN_BITS
}

/// Returns the priority that a turn was made of.
pub(super) fn priority(turn: i64) -> i8 {
    i8::try_from(100 - (turn & ((1 << TURN_BITS) - 1))).unwrap_or_default()
}

/// Returns the second that a turn was made of.
pub(super) fn second(turn: i64) -> UnixMicros {
    UnixMicros::from_secs(turn >> TURN_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_go_by_second_then_by_priority() {
        let turn = |millis, by| turn(UnixMicros::from_millis(millis), by);
        assert!(turn(1_999, -100) < turn(2_000, 100), "an earlier second first");
        assert!(turn(1_999, 100) < turn(1_000, 99), "then the higher priority");
        assert_eq!(turn(1_000, 5), turn(1_999, 5));
        for by in -100..=100 {
            assert_eq!((priority(turn(7_000, by)), second(turn(7_000, by))), (by, UnixMicros::from_secs(7)));
            assert!(turn(7_000, by) < turns_to(UnixMicros::from_secs(7)));
            assert!(turn(8_000, by) >= turns_to(UnixMicros::from_secs(7)));
        }
    }
}
