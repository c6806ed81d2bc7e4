//! When an employee is reminded of what waits for a confirmation, and of what: one list of all of it, at most three in any
//! 24 hours. Pure: time is an argument.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::super::super::callback::clipped;
use crate::domain::time::UnixMicros;

/// Lists that an employee gets in [`A_DAY`], at most: as often as WeCom itself would remind.
const LISTS_MAX: usize = 3;
const A_DAY: i64 = 24 * 3_600;
/// A message is forgotten so long after it was handed over: then it is in no list of WeCom's that is asked for.
const KEPT: i64 = 4 * A_DAY;
/// Most messages that are remembered, of an employee or as stopped; one that is forgotten may be on a list once more.
const MESSAGES_MAX: usize = 1_000;
/// Most that are remembered of all employees: half a megabyte. The more employees, the fewer of each.
const ALL_MESSAGES_MAX: usize = 20_000;
/// Most employees: those who had a list last.
const EMPLOYEES_MAX: usize = 1_000;
/// Longest list, in bytes; WeCom cuts what is longer.
const LIST_LEN_MAX: usize = 2_048;
/// So much of what a message says stands in a list, in bytes.
const EXCERPT_LEN_MAX: usize = 60;
/// For this, in a list that has to end before all of it is told, room is kept.
const REST_LEN_MAX: usize = 32;

/// A message that waits for an employee, or was stopped because it waited too long.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// Stands for the message.
    pub(super) id: u64,
    /// When it was handed over, in seconds since the epoch.
    pub(super) created: i64,
    /// To how many customers or groups it is not sent.
    pub(super) targets: usize,
    /// How it begins.
    pub(super) text: Box<str>,
}

/// What employees were told, and when. All times in seconds since the epoch.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Memory {
    employees: BTreeMap<Box<str>, Told>,
    /// What was stopped, and somebody was told of it. Messages by what stands for them, with when they were handed over.
    escalated: BTreeMap<u64, i64>,
}

/// What an employee was told.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub(super) struct Told {
    /// When there were lists in the last day.
    at: Vec<i64>,
    /// What was on one, as `escalated` has it.
    listed: BTreeMap<u64, i64>,
}

// === impl Memory ===

impl Memory {
    /// Decides whether an employee gets a list of `waiting` now, and remembers it: when something has waited for `after`
    /// and was on no list yet. Returns what was known before.
    pub(super) fn remind(
        &mut self,
        employee: &str,
        waiting: &[Line],
        after: Duration,
        now: UnixMicros,
    ) -> Option<Told> {
        let now = now.as_secs();
        let after = i64::try_from(after.as_secs()).unwrap_or(i64::MAX);
        let told = self.employees.entry(employee.into()).or_default();
        told.at.retain(|at| now.saturating_sub(*at) < A_DAY);
        let is_news = |line: &Line| !told.listed.contains_key(&line.id) && now.saturating_sub(line.created) >= after;
        if told.at.len() >= LISTS_MAX || !waiting.iter().any(is_news) {
            return None;
        }
        let before = told.clone();
        told.at.push(now);
        told.listed.extend(waiting.iter().map(|line| (line.id, line.created)));
        Some(before)
    }

    /// Takes back a list that was definitely not sent: it is tried again.
    pub(super) fn unremind(&mut self, employee: &str, before: Told) {
        self.employees.insert(employee.into(), before);
    }

    /// Returns whether somebody is still to be told that a message was stopped.
    pub(super) fn escalates(&self, line: &Line) -> bool {
        !self.escalated.contains_key(&line.id)
    }

    /// Remembers that somebody was told so.
    pub(super) fn escalated(&mut self, lines: &[Line]) {
        self.escalated.extend(lines.iter().map(|line| (line.id, line.created)));
    }

    /// Takes in what is remembered elsewhere, and forgets what is long ago.
    pub(super) fn merge(&mut self, other: Self, now: UnixMicros) {
        for (employee, there) in other.employees {
            let here = self.employees.entry(employee).or_default();
            here.listed.extend(there.listed);
            here.at.extend(there.at);
            here.at.sort_unstable();
            here.at.dedup();
        }
        self.escalated.extend(other.escalated);
        let since = now.as_secs().saturating_sub(KEPT);
        newest(&mut self.escalated, since, MESSAGES_MAX);
        for told in self.employees.values_mut() {
            told.at.retain(|at| now.as_secs().saturating_sub(*at) < A_DAY);
        }
        self.bound(since);
        self.employees.retain(|_, told| *told != Told::default());
    }

    /// Forgets the employees whose last list is longest ago, and of the others what was handed over first.
    fn bound(&mut self, since: i64) {
        let mut told: Vec<_> =
            self.employees.iter().map(|(who, told)| (told.at.last().copied(), who.clone())).collect();
        told.sort_unstable();
        for (_, who) in told.iter().take(self.employees.len().saturating_sub(EMPLOYEES_MAX)) {
            self.employees.remove(who);
        }
        let most = (ALL_MESSAGES_MAX / self.employees.len().max(1)).min(MESSAGES_MAX);
        self.employees.values_mut().for_each(|told| newest(&mut told.listed, since, most));
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what it says: this ends in panics.
        f.debug_struct("Line").field("created", &self.created).field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never who.
        f.debug_struct("Memory").field("employees", &self.employees.len()).finish_non_exhaustive()
    }
}

/// Keeps what was handed over after `since`, and of that no more than is reasonable.
fn newest(messages: &mut BTreeMap<u64, i64>, since: i64, most: usize) {
    messages.retain(|_, created| *created > since);
    if messages.len() > most {
        let mut all: Vec<_> = messages.iter().map(|(id, created)| (*created, *id)).collect();
        all.sort_unstable();
        for (_, id) in &all[..all.len() - most] {
            messages.remove(id);
        }
    }
}

/// Returns how a message begins, for a list.
pub(super) fn excerpt(text: &str) -> Box<str> {
    clipped(text.lines().next().unwrap_or_default(), EXCERPT_LEN_MAX)
}

/// Writes a list: a line for each message, with the hour at which it was handed over by clocks `ahead` of UTC.
pub(super) fn list(heading: &str, lines: &[Line], ahead: Duration) -> String {
    let mut list = heading.to_owned();
    for (number, line) in lines.iter().enumerate() {
        let minutes = UnixMicros::from_secs(line.created).plus(ahead).as_secs().rem_euclid(A_DAY) / 60;
        let next = format!("\n{:02}:{:02} ×{} {}", minutes / 60, minutes % 60, line.targets, line.text);
        if list.len() + next.len() + REST_LEN_MAX > LIST_LEN_MAX {
            // Writing to a string cannot fail.
            let _infallible = write!(list, "\n… +{}", lines.len() - number);
            break;
        }
        list.push_str(&next);
    }
    list
}

/// Writes lists of several employees into one.
pub(super) fn joined(heading: &str, lists: &[String]) -> String {
    let whole = format!("{heading}\n{}", lists.join("\n"));
    if whole.len() <= LIST_LEN_MAX { whole } else { format!("{}\n…", clipped(&whole, LIST_LEN_MAX - REST_LEN_MAX)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF_AN_HOUR: Duration = Duration::from_secs(1_800);

    fn line(created: i64) -> Line {
        let id = u64::try_from(created).unwrap();
        Line { id, created, targets: 100, text: excerpt("今日会员日\n全场八折") }
    }

    #[test]
    fn what_is_remembered_is_bounded_and_the_latest_of_it_is_kept() {
        let mut memory = Memory::default();
        let lines: Vec<_> = (1..=2_000).map(line).collect();
        for number in 0..1_100 {
            let lines = if number % 2 == 0 { &lines[..] } else { &lines[1_990..] };
            memory.remind(&format!("e{number}"), lines, HALF_AN_HOUR, UnixMicros::from_secs(10_000 + number / 2));
        }
        memory.merge(Memory::default(), UnixMicros::from_secs(20_000));
        assert_eq!(memory.employees.len(), EMPLOYEES_MAX);
        assert!(!memory.employees.contains_key("e99") && memory.employees.contains_key("e100"));
        let listed = &memory.employees["e1098"].listed;
        assert!(listed.len() == ALL_MESSAGES_MAX / EMPLOYEES_MAX && listed.contains_key(&2_000), "{}", listed.len());
        assert!(serde_json::to_string(&memory).unwrap().len() < 500_000);
        assert!(
            !format!("{memory:?} {:?}", lines[0]).contains("e100") && !format!("{:?}", lines[0]).contains("会员日")
        );
    }

    #[test]
    fn an_employee_gets_one_list_for_all_that_waits_and_three_a_day() {
        let mut memory = Memory::default();
        let day = 1_764_288_000; // 2025-11-28T08:00+08:00
        let mut lists = Vec::new();
        let mut waiting = Vec::new();
        // A message every hour, looked at every minute, for two days.
        for minute in 0..48 * 60 {
            let now = day + minute * 60;
            if minute % 60 == 0 {
                waiting.push(line(now));
            }
            if memory.remind("zhang", &waiting, HALF_AN_HOUR, UnixMicros::from_secs(now)).is_some() {
                lists.push(minute);
            }
            memory.merge(Memory::default(), UnixMicros::from_secs(now));
        }
        assert_eq!(lists, [30, 90, 150, 24 * 60 + 30, 24 * 60 + 90, 24 * 60 + 150]);
    }

    #[test]
    fn what_was_on_a_list_or_is_young_brings_no_other() {
        let mut memory = Memory::default();
        let mut reminds = |employee: &str, lines: &[i64], now: i64| {
            let waiting: Vec<_> = lines.iter().copied().map(line).collect();
            memory.remind(employee, &waiting, HALF_AN_HOUR, UnixMicros::from_secs(now)).is_some()
        };
        assert!(!reminds("zhang", &[1_000], 2_799));
        // The younger one is on the list too.
        assert!(reminds("zhang", &[1_000, 2_000], 2_800));
        assert!(!reminds("zhang", &[1_000, 2_000], 9_000));
        assert!(reminds("li", &[1_000], 9_000), "each employee has lists of their own");
        assert!(!reminds("li", &[], 9_000));
        // One that is older than what was on a list, and became known later.
        assert!(reminds("zhang", &[500, 1_000, 2_000], 9_000));
    }

    #[test]
    fn a_list_that_was_not_sent_is_tried_again() {
        let (mut memory, now) = (Memory::default(), UnixMicros::from_secs(9_000));
        let before = memory.remind("zhang", &[line(1_000)], HALF_AN_HOUR, now).unwrap();
        assert_eq!(memory.remind("zhang", &[line(1_000)], HALF_AN_HOUR, now), None);
        memory.unremind("zhang", before);
        assert!(memory.remind("zhang", &[line(1_000)], HALF_AN_HOUR, now).is_some());
    }

    #[test]
    fn what_is_stopped_is_told_once_wherever_it_is_remembered() {
        let (mut one, mut other) = (Memory::default(), Memory::default());
        assert!(one.escalates(&line(2_000)));
        one.escalated(&[line(2_000)]);
        other.merge(one.clone(), UnixMicros::from_secs(5_000));
        assert!(!other.escalates(&line(2_000)));
        assert!(other.escalates(&line(1_000)), "an older one that was stopped later is told all the same");
        let text = serde_json::to_string(&other).unwrap();
        assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), other);
        other.merge(Memory::default(), UnixMicros::from_secs(2_000 + KEPT));
        assert_eq!(other, Memory::default());
    }

    #[test]
    fn no_more_is_remembered_than_is_reasonable() {
        let (mut memory, now) = (Memory::default(), UnixMicros::from_secs(9_000));
        let lines: Vec<_> = (1..=1_500).map(line).collect();
        memory.escalated(&lines);
        memory.merge(Memory::default(), now);
        assert!(memory.escalates(&line(500)) && !memory.escalates(&line(501)));
        assert!(serde_json::to_string(&memory).unwrap().len() < 64 * 1_024);
    }

    #[test]
    fn a_list_says_when_to_how_many_and_what_and_fits() {
        let ahead = Duration::from_secs(8 * 3_600);
        assert_eq!(list("待确认：", &[line(1_764_288_000)], ahead), "待确认：\n08:00 ×100 今日会员日");
        let many: Vec<_> = (0..300).map(|number| line(1_764_288_000 + number)).collect();
        let text = list("待确认：", &many, ahead);
        assert!(text.len() <= LIST_LEN_MAX);
        let told = text.lines().count() - 2;
        assert!(text.ends_with(&format!("\n… +{}", 300 - told)), "{text}");
    }
}
