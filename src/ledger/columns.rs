//! How nouns are spread over columns, the same in both stores: numbers for words, and a column for each part of a change.

mod caps;
mod changes;
mod routes;
mod windows;

pub(super) use self::caps::{caps, caps_json};
pub(super) use self::changes::{ChangeColumns, ReadChange};
pub(super) use self::routes::{routes, routes_json};
pub(super) use self::windows::{windows, windows_json};

use std::time::Duration;

use serde_json::Value;

use super::{Entry, JobRow, LedgerError, Place, RULE_SWEEPS, Role, Sort};
use crate::domain::call::CallResult;
use crate::domain::event::{Fate, Report, State};
use crate::domain::ids::{Lane, PoolId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::WordKey;
use crate::domain::rule::{Act, JobRule, Names};
use crate::domain::suppression::{Scope, Source};
use crate::domain::time::UnixMicros;

/// How long after its acceptance a job may be due and still count as immediate: strays among the immediate are found by
/// when they were accepted, and only the others need an index by due time. The feeder's `soon` is as long.
pub(super) const IMMEDIATE: Duration = Duration::from_secs(30);

/// How long a rule is kept: until the last job that it can bind has expired.
pub(super) const RULES_KEPT: Duration = Duration::from_secs(431 * 24 * 3600);

/// Requests whose entries are looked for at a time.
pub(super) const REQUESTS_MAX: u32 = 256;

/// How long a frame's id is remembered: the promised 24 h, and an hour to spare.
pub(super) const FRAMES_KEPT_SECS: i64 = 25 * 3600;

/// Returns a length of time in µs.
pub(super) fn micros(length: Duration) -> i64 {
    UnixMicros(0).plus(length).0
}

/// Returns the length of time of so many µs.
pub(super) fn length(micros: i64) -> Duration {
    UnixMicros(micros).since(UnixMicros(0))
}

/// A word that is stored as a small number. Once shipped, a number keeps its meaning.
pub(super) trait Code: Copy + Sized + 'static {
    /// Returns the number.
    fn code(self) -> i16;
    /// Reads a number from the store.
    fn from_code(code: i16) -> Result<Self, LedgerError>;
}

macro_rules! codes {
    ($($name:ident { $($variant:ident = $code:literal,)+ })+) => {$(
        impl Code for $name {
            fn code(self) -> i16 {
                match self { $(Self::$variant => $code,)+ }
            }
            fn from_code(code: i16) -> Result<Self, LedgerError> {
                match code {
                    $($code => Ok(Self::$variant),)+
                    other => Err(corrupt(concat!("an unknown ", stringify!($name)), &other)),
                }
            }
        }
    )+};
}

codes! {
    Kind { Sms = 1, Template = 2, Call = 3, }
    Class { Otp = 1, Transactional = 2, Notification = 3, Marketing = 4, }
    State {
        Accepted = 1, Scheduled = 2, Held = 3, Ready = 4, Sending = 5, Unresolved = 6, Sent = 7, AwaitingOperator = 8,
        Dialing = 9, Ringing = 10, Answered = 11, Settled = 12,
    }
    Fate {
        Delivered = 1, Undelivered = 2, Sent = 3, Completed = 4, Suppressed = 5, Expired = 6, Cancelled = 7,
        Rejected = 8, Failed = 9, Unknown = 10,
    }
    CallResult {
        Completed = 1, Busy = 2, NoAnswer = 3, Declined = 4, InvalidNumber = 5, Unreachable = 6, Machine = 7, Network = 8,
    }
    Source { Keyword = 1, Api = 2, Provider = 3, Import = 4, }
    Role { Submitter = 1, Viewer = 2, Admin = 3, Operator = 4, }
    What { Deferred = 1, Sent = 2, Unresolved = 3, Progress = 4, Settled = 5, Called = 6, Recorded = 7, }
    Sort { Send = 1, Check = 2, Timer = 3, }
}

/// Which change an event is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum What {
    Deferred,
    Sent,
    Unresolved,
    Progress,
    Settled,
    Called,
    Recorded,
}

/// Every change.
pub(super) const WHATS: &[What] =
    &[What::Deferred, What::Sent, What::Unresolved, What::Progress, What::Settled, What::Called, What::Recorded];

/// The changes after which somebody may have been reached.
pub(super) const MAY_HAVE_REACHED: [What; 2] = [What::Sent, What::Unresolved];

/// Returns the numbers of the fates that jobs may have that reached nobody.
pub(super) fn loss_fates() -> Vec<i16> {
    Fate::ALL.iter().filter(|fate| fate.may_be_a_loss()).map(|fate| fate.code()).collect()
}

// === impl What ===

impl What {
    /// Returns the word for people.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Deferred => "deferred",
            Self::Sent => "sent",
            Self::Unresolved => "unresolved",
            Self::Progress => "progress",
            Self::Settled => "settled",
            Self::Called => "called",
            Self::Recorded => "recorded",
        }
    }
}

// === Receipts, opt-outs, rules ===

/// Returns what a report says as (sort, state or fate): 1 pending, 2 progress, 3 final, 4 call, 5 recording.
pub(super) fn report_columns(report: Report) -> (i16, Option<i16>) {
    match report {
        Report::Pending => (1, None),
        Report::Progress(state) => (2, Some(state.code())),
        Report::Final(fate) => (3, Some(fate.code())),
        Report::Called(result) => (4, Some(result.code())),
        Report::Recorded => (5, None),
    }
}

/// Reads a report.
pub(super) fn report(sort: i16, detail: Option<i16>) -> Result<Report, LedgerError> {
    match (sort, detail) {
        (1, None) => Ok(Report::Pending),
        (2, Some(state)) => Ok(Report::Progress(State::from_code(state)?)),
        (3, Some(fate)) => Ok(Report::Final(Fate::from_code(fate)?)),
        (4, Some(result)) => Ok(Report::Called(CallResult::from_code(result)?)),
        (5, None) => Ok(Report::Recorded),
        other => Err(corrupt("an unknown report", &other)),
    }
}

/// The scope that binds every tenant, as [`scope_columns`] has it.
pub(super) const GLOBAL: i16 = 6;

/// Returns a scope as (sort, word), the word empty where there is none: 1 sender, 2 topic, 3 brand, 4 everything,
/// 5 signature, 6 global.
pub(super) fn scope_columns(scope: &Scope) -> (i16, &[u8]) {
    match scope {
        Scope::Sender(word) => (1, &word.0),
        Scope::Topic(word) => (2, &word.0),
        Scope::Brand => (3, &[]),
        Scope::Everything => (4, &[]),
        Scope::Signature(word) => (5, &word.0),
        Scope::Global => (GLOBAL, &[]),
    }
}

/// Returns a kind that an opt-out binds; 0: every one.
pub(super) fn bound_kind_column(kind: Option<Kind>) -> i16 {
    kind.map_or(0, Code::code)
}

/// Reads a kind that an opt-out binds.
pub(super) fn bound_kind(code: i16) -> Result<Option<Kind>, LedgerError> {
    if code == 0 { Ok(None) } else { Kind::from_code(code).map(Some) }
}

/// Reads a scope.
pub(super) fn scope(sort: i16, word: &[u8]) -> Result<Scope, LedgerError> {
    match sort {
        1 => Ok(Scope::Sender(WordKey(key(word)?))),
        2 => Ok(Scope::Topic(WordKey(key(word)?))),
        3 => Ok(Scope::Brand),
        4 => Ok(Scope::Everything),
        5 => Ok(Scope::Signature(WordKey(key(word)?))),
        GLOBAL => Ok(Scope::Global),
        other => Err(corrupt("an unknown scope", &other)),
    }
}

/// Returns an act's number, what else it says, and how often a rule that does this counts as swept from the start: what
/// was collapsed is found when its time comes, and not before.
pub(super) fn act_columns(act: Act) -> (i16, [u8; 16], i16) {
    let sweeps = match act {
        Act::Cancel | Act::Move { .. } => 0,
        Act::Collapse { .. } => i16::from(RULE_SWEEPS),
    };
    (act.number().into(), act.detail(), sweeps)
}

/// Returns the rules that one recording keeps: of those that say the same of the same names the latest.
pub(super) fn latest(rules: &[JobRule]) -> Vec<&JobRule> {
    let mut latest: std::collections::HashMap<_, &JobRule> = std::collections::HashMap::new();
    for rule in rules {
        let known = latest.entry((&rule.tenant, rule.act.number(), &rule.names)).or_insert(rule);
        if (rule.at, rule.act.detail()) >= (known.at, known.act.detail()) {
            *known = rule;
        }
    }
    latest.into_values().collect()
}

/// Reads a rule.
pub(super) fn job_rule(
    tenant: TenantId,
    act: i16,
    names: &[u8],
    at: UnixMicros,
    detail: &[u8],
) -> Result<JobRule, LedgerError> {
    let names = Names::from_bytes(names).map_err(|_| missing("names"))?;
    let act = u8::try_from(act).ok().and_then(|number| Act::of(number, key(detail).ok()?));
    Ok(JobRule { tenant, names, at, act: act.ok_or_else(|| missing("act"))? })
}

/// Returns from where on entries were not read, if the answer was filled.
pub(super) fn next_place(found: &[Entry], most: u32) -> Option<Place> {
    let last = found.last().filter(|_| found.len() >= most as usize)?;
    Some((last.accepted_at?, last.id))
}

// === Jobs ===

/// Returns whether a job is due about when it was accepted; see [`IMMEDIATE`].
pub(super) fn immediate(job: &JobRow) -> bool {
    job.due_at >= job.accepted_at.minus(IMMEDIATE) && job.due_at <= job.accepted_at.plus(IMMEDIATE)
}

/// Reads a lane.
pub(super) fn lane(class: i16, pool: &str) -> Result<Lane, LedgerError> {
    Ok(Lane { class: Class::from_code(class)?, pool: name::<PoolId>(pool)? })
}

/// Reads a column that holds JSON.
pub(super) fn json(text: &str, column: &str) -> Result<Value, LedgerError> {
    serde_json::from_str(text).map_err(|_| missing(column))
}

/// Returns a quota as the stores hold it: signed; what does not fit is no limit in practice.
pub(super) fn outstanding(most: Option<u64>) -> Option<i64> {
    most.map(|most| i64::try_from(most).unwrap_or(i64::MAX))
}

// === Reading ===

/// Reads the number of an attempt.
pub(super) fn attempt(number: i32) -> u16 {
    u16::try_from(number).unwrap_or(u16::MAX)
}

/// Reads a number that is never negative.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// Reads a name.
pub(super) fn name<T: std::str::FromStr>(raw: &str) -> Result<T, LedgerError> {
    raw.parse().map_err(|_| LedgerError::Corrupt("a name that is none".into()))
}

/// Reads a keyed hash.
pub(super) fn key<const N: usize>(raw: &[u8]) -> Result<[u8; N], LedgerError> {
    raw.try_into().map_err(|_| LedgerError::Corrupt("a key of the wrong length".into()))
}

/// Says that a column does not fit its row.
pub(super) fn missing(column: &str) -> LedgerError {
    LedgerError::Corrupt(format!("a row without its {column}").into())
}

fn corrupt(what: &str, value: &dyn std::fmt::Debug) -> LedgerError {
    LedgerError::Corrupt(format!("{what}: {value:?}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn check<T: Code + PartialEq + std::fmt::Debug>(all: &[T]) {
        let codes: HashSet<i16> = all.iter().map(|value| value.code()).collect();
        assert_eq!(codes.len(), all.len(), "every word has a number of its own");
        for &value in all {
            assert_eq!(T::from_code(value.code()), Ok(value));
        }
        assert!(matches!(T::from_code(0), Err(LedgerError::Corrupt(_))));
    }

    #[test]
    fn words_come_back_from_their_numbers() {
        check(Kind::ALL);
        check(Class::ALL);
        check(State::ALL);
        check(Fate::ALL);
        check(Source::ALL);
        check(Role::ALL);
    }
}
