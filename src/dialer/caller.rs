//! The numbers that calls come from: which one a call gets. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

use super::Ask;
use crate::domain::call::CallResult;
use crate::domain::time::UnixMicros;

/// Calls in a row that were declined after which a number rests: phones may show it as spam.
const REFUSED_IN_A_ROW: u32 = 10;
/// A day, as numbers count it: from midnight UTC.
const DAY: i64 = 24 * 3600;

/// A number that calls come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CallerRule {
    /// The number, as the trunk wants it.
    pub number: Box<str>,
    /// Callees whose number begins so are called from it rather than from others; empty: it is no nearer to anybody.
    pub near: Box<str>,
    /// Calls at a time; `None`: as many as there are lines.
    pub lines: Option<NonZeroU32>,
    /// Calls a day, from midnight UTC; `None`: as many as it gets.
    pub day_max: Option<NonZeroU32>,
}

/// A number in use.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    rule: CallerRule,
    in_use: u32,
    day: i64,
    today: u32,
    last_turn: u64,
    refused: u32,
    rests_until: UnixMicros,
}

// === impl Caller ===

impl Caller {
    pub(super) fn new(rule: CallerRule) -> Self {
        Self { rule, in_use: 0, day: 0, today: 0, last_turn: 0, refused: 0, rests_until: UnixMicros(i64::MIN) }
    }

    pub(super) fn number(&self) -> &str {
        &self.rule.number
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> bool {
        self.in_use == 0
    }

    /// Says whether a call may come from it; if not, when, unless that depends on when others end.
    fn check(&self, now: UnixMicros) -> Result<(), Option<UnixMicros>> {
        let (day, today) = (day(now), if day(now) == self.day { self.today } else { 0 });
        if now < self.rests_until {
            Err(Some(self.rests_until))
        } else if self.rule.day_max.is_some_and(|most| today >= most.get()) {
            Err(Some(UnixMicros::from_secs((day + 1) * DAY)))
        } else if self.rule.lines.is_some_and(|most| self.in_use >= most.get()) {
            Err(None)
        } else {
            Ok(())
        }
    }

    /// Gives a call to it.
    pub(super) fn take(&mut self, turn: u64, now: UnixMicros) {
        if self.day != day(now) {
            (self.day, self.today) = (day(now), 0);
        }
        (self.in_use, self.today, self.last_turn) = (self.in_use + 1, self.today + 1, turn);
    }

    /// Notes how its call ended.
    pub(super) fn end(&mut self, result: Option<CallResult>, rest: Duration, now: UnixMicros) {
        self.in_use -= 1;
        match result {
            Some(CallResult::Declined) => self.refused += 1,
            // The callee's phone was not asked.
            Some(CallResult::Network) | None => {}
            Some(_) => self.refused = 0,
        }
        if self.refused >= REFUSED_IN_A_ROW {
            (self.refused, self.rests_until) = (0, now.plus(rest));
        }
    }
}

/// Returns the number that a call gets: the one it asks for, else one that is near the callee, else any; of those that are
/// free the one that was used longest ago. `Ok(None)`: the trunk has none of its own.
pub(super) fn choose(callers: &[Caller], ask: Ask<'_>, now: UnixMicros) -> Result<Option<usize>, Option<UnixMicros>> {
    if callers.is_empty() {
        return Ok(None);
    }
    let named = callers.iter().any(|caller| *caller.rule.number == *ask.sender);
    let mut best: Option<(usize, (usize, std::cmp::Reverse<u64>))> = None;
    let mut soonest: Option<UnixMicros> = None;
    for (place, caller) in callers.iter().enumerate().filter(|(_, caller)| !named || *caller.rule.number == *ask.sender)
    {
        match caller.check(now) {
            Ok(()) => {
                let near = if ask.callee.starts_with(&*caller.rule.near) { caller.rule.near.len() } else { 0 };
                let rank = (near, std::cmp::Reverse(caller.last_turn));
                if best.is_none_or(|(_, best)| rank > best) {
                    best = Some((place, rank));
                }
            }
            Err(until) => soonest = soonest.into_iter().chain(until).min(),
        }
    }
    best.map(|(place, _)| Some(place)).ok_or(soonest)
}

fn day(now: UnixMicros) -> i64 {
    now.as_secs().div_euclid(DAY)
}
