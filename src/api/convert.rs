//! Parses requests into checked types, and shows what is stored. Every field of every request is checked here and
//! nowhere else; an error names the field's path and the way out.

mod call;
mod cap;
mod enums;
mod flow;
mod item;
mod money;
mod quota;
mod route;
mod ruling;
mod select;
mod sender_pool;
mod show;
mod spec;
mod suppression;
mod template;
mod tenant;
mod time;
mod window;

#[cfg(test)]
mod tests;

pub(crate) use self::cap::{name_taken, window_from_pb, window_to_pb};
pub(crate) use self::enums::{class_to_pb, fate_to_pb, kind_filter, kind_to_pb, role_from_pb};
pub(crate) use self::flow::flow_to_pb;
pub(crate) use self::item::item;
pub(crate) use self::money::money_to_pb;
pub(crate) use self::quota::no_such_price;
pub(crate) use self::route::pools;
pub(crate) use self::ruling::ruling_to_pb;
pub(crate) use self::select::{filter, job_id, job_ids, one_address, select};
pub(crate) use self::sender_pool::{reassignment, too_many_reassigned};
pub(crate) use self::show::{event_to_pb, job_to_pb, outcome_to_pb, reply_to_pb, show_call, show_whole, signal_to_pb};
pub(crate) use self::spec::{Fallback, named};
pub(crate) use self::spec::{Spec, spec};
pub(crate) use self::suppression::{address_to_pb, suppression, suppression_to_pb};
pub(crate) use self::template::{nowhere_approved, pinned, preview, template, template_to_pb};
pub(crate) use self::tenant::{apart, api_key_to_pb, apply_mask, tenant, tenant_to_pb};
pub(crate) use self::time::{duration, duration_to_pb, future, moment, moment_to_pb, new_time};
pub(crate) use self::window::calendars;

use crate::domain::cap::BadCap;
use crate::domain::ids::{InvalidJobId, InvalidName};
use crate::domain::job::Kind;
use crate::domain::money::InvalidMoney;
use crate::domain::quota::BadQuota;
use crate::domain::recipient::InvalidMsisdn;
use crate::domain::route::{InvalidCountry, InvalidPrefix};
use crate::domain::sender::REASSIGNED_MAX;
use crate::domain::template::BadValue;
use crate::domain::window::InvalidHours;

/// Which field of a request is wrong, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{problem}", if matches!(problem, Problem::NotYet(_)) { ": " } else { " " })]
pub struct Invalid {
    /// The field's path, such as `items[17].recipient.phone`.
    pub path: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a field. Each sentence follows the field's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Nothing given.
    #[error("must be given")]
    Missing,
    /// A text that is too long.
    #[error("has {has} characters, at most {most} are allowed")]
    TooLong {
        /// How many there are.
        has: usize,
        /// How many may be.
        most: usize,
    },
    /// A list that is too long.
    #[error("has {has} entries, at most {most} are allowed")]
    TooMany {
        /// How many there are.
        has: usize,
        /// How many may be.
        most: usize,
    },
    /// A control character in a text.
    #[error("holds a control character (U+{0:04X}); remove it")]
    Control(u32),
    /// A value that the enum does not have.
    #[error("has the unknown value {0}; see the enum's values in the API description")]
    UnknownValue(i32),
    /// A number out of its range.
    #[error("is {is}, must be between {least} and {most}")]
    OutOfRange {
        /// What it is.
        is: i64,
        /// The least it may be.
        least: i64,
        /// The most it may be.
        most: i64,
    },
    /// A number that is none.
    #[error("{0}")]
    Number(#[from] InvalidMsisdn),
    /// A name that is none.
    #[error("{0}")]
    Name(#[from] InvalidName),
    /// A job id that is none.
    #[error("is {0}")]
    JobId(#[from] InvalidJobId),
    /// A batch id that is none.
    #[error("is not a batch id: expected a UUID as SubmitBatch returned it")]
    BatchId,
    /// Not the id of a frame.
    #[error("is not the id of a frame")]
    FrameId,
    /// A token that was not given out for this request.
    #[error("is no token of this list; pass the last answer's token unchanged, with the same filter, or none")]
    Token,
    /// A time that does not exist.
    #[error("is not a valid time: seconds must lie in years 1970 to 9999 and nanos in 0 to 999999999")]
    Time,
    /// A length of time that does not exist.
    #[error("is not a valid duration: it must not be negative, and nanos must be 0 to 999999999")]
    Duration,
    /// Further ahead than scheduling goes.
    #[error("is more than {days} days ahead")]
    TooFar {
        /// How far it may be.
        days: u64,
    },
    /// A moment that is over.
    #[error("is not in the future")]
    Past,
    /// An expiry before the start.
    #[error("is not after the time at which the job may be sent")]
    ExpiresFirst,
    /// A range that ends before it begins.
    #[error("is not after `from`")]
    EndsFirst,
    /// A range that is too long.
    #[error("is more than {days} days after `from`")]
    RangeTooLong {
        /// How long it may be.
        days: u64,
    },
    /// A day that a month does not have.
    #[error("is {day}, but month {month} of {year} has {days} days")]
    NoSuchDay {
        /// The year.
        year: i16,
        /// The month.
        month: i8,
        /// The day that was given.
        day: i8,
        /// How many there are.
        days: i8,
    },
    /// Hours that cannot be.
    #[error("{0}")]
    Hours(#[from] InvalidHours),
    /// A calendar that nobody knows.
    #[error("is no calendar: \"CN\" is shipped, others are files that the setting `windows.calendars` names")]
    NoCalendar,
    /// What both bind could never be sent.
    #[error("binds some of the same jobs as {0:?}, and they are never open at the same time")]
    NeverMeets(Box<str>),
    /// A zone that nobody knows.
    #[error("is not an IANA time zone such as \"Asia/Shanghai\"")]
    Zone,
    /// A locale that is none.
    #[error("is not a BCP 47 locale such as \"zh-CN\"")]
    Locale,
    /// A parameter's name that is none.
    #[error("is not a parameter name: 1 to 64 letters, digits, '_', '-' or '.'")]
    ParamName,
    /// A parameter that the template has no placeholder for.
    #[error("is no variable of the template {0:?}; it has {1}")]
    UnknownParam(Box<str>, Box<str>),
    /// A value that its variable cannot have.
    #[error("{0}")]
    Value(BadValue),
    /// A placeholder in a text that is no variable.
    #[error("has the placeholder {{{0}}}, which is none of the template's variables; declare it")]
    Undeclared(Box<str>),
    /// A type of variable that is none.
    #[error("is no type of a variable; there are {}", .0.join(", "))]
    VariableType(Vec<&'static str>),
    /// A template that says nothing at all, or nothing by this means.
    #[error("names a template that has no text for {0}")]
    SaysNothing(Kind),
    /// A text that takes too many bytes.
    #[error("takes {has} bytes, at most {most} are allowed")]
    TooManyBytes {
        /// How many it takes.
        has: usize,
        /// How many it may take.
        most: usize,
    },
    /// A placeholder without a value.
    #[error("has no value for the placeholder {{{0}}}")]
    NoParam(Box<str>),
    /// The recipient lacks the address that the kind needs.
    #[error("has no {0}, which jobs of this kind need")]
    NoAddress(&'static str),
    /// The recipient lacks the address that a step of the fallback chain needs.
    #[error("has no {2}, which fallback[{0}] needs, a job by {1}")]
    NoAddressForStep(usize, Kind, &'static str),
    /// More or fewer than one address where one is meant.
    #[error("must name exactly one address: phone, wechat, wecom, wecom_chat_id or wecom_userid")]
    NotOneAddress,
    /// A word without a scope that uses it, or the other way round.
    #[error("must be given with the scopes sender, signature and topic, and only with them")]
    WordAndScope,
    /// A field of an update mask that cannot be changed.
    #[error(
        "names {0:?}, which cannot be changed; use display_name, rate, ingress_rate, outstanding_max, caps, windows, \
         routes, sender_rates or time_zone"
    )]
    Mask(Box<str>),
    /// A cap that cannot be.
    #[error("{0}")]
    Cap(BadCap),
    /// Nothing that a reply could be.
    #[error("holds neither a letter nor a digit")]
    NoWord,
    /// One word for two wishes.
    #[error("is one of stop_words too")]
    StopAndStart,
    /// A quota that cannot be.
    #[error("{0}")]
    Quota(BadQuota),
    /// A quota over money that no job costs.
    #[error("is a currency in which no provider has a price: set `price` in the settings of the providers first")]
    NoSuchPrice,
    /// Not an amount of money.
    #[error("is wrong: {0}")]
    Money(InvalidMoney),
    /// A preset that is none.
    #[error("is no preset; there are {}", .0.join(", "))]
    Preset(Vec<&'static str>),
    /// A name that the settings use.
    #[error("{0:?} is the name of a cap in the service's settings; use another")]
    HouseCap(Box<str>),
    /// A pool that is not there, or carries something else.
    #[error("is no pool that carries such jobs; there are {0}")]
    NoPool(Box<str>),
    /// No beginning of a number.
    #[error("is no beginning of a number: {0}")]
    Prefix(#[from] InvalidPrefix),
    /// No country.
    #[error("is no country: {0}")]
    Country(#[from] InvalidCountry),
    /// Many senders where there must be one.
    #[error("is a pool of senders; name one sender")]
    SenderPool,
    /// A sender that would take over from itself.
    #[error("is the sender that goes; name another")]
    SameSender,
    /// Too many senders that took over from others.
    #[error(
        "cannot be noted: {REASSIGNED_MAX} reassignments of the last 431 days are; take senders out of their pools instead"
    )]
    TooManyReassigned,
    /// Two things under one name.
    #[error("{0:?} is used twice")]
    Twice(Box<str>),
    /// Two settings that exclude each other.
    #[error("cannot be given together with {0}")]
    Excludes(&'static str),
    /// A length of time out of its range.
    #[error("is {is} s, must be between {least} and {most} s")]
    SecondsOutOfRange {
        /// What it is.
        is: i64,
        /// The least it may be.
        least: i64,
        /// The most it may be.
        most: i64,
    },
    /// A call flow that cannot be.
    #[error("{0}")]
    Flow(Box<str>),
    /// What will be possible later.
    #[error("{0} not available yet")]
    NotYet(&'static str),
}

// === impl Invalid ===

impl Invalid {
    /// Returns a problem of the field at `path`.
    pub(crate) fn new(path: impl Into<String>, problem: impl Into<Problem>) -> Self {
        Self { path: path.into(), problem: problem.into() }
    }

    /// Returns the same problem, seen from the message that holds the field's message as `parent`.
    pub(crate) fn within(mut self, parent: &str) -> Self {
        let join = if self.path.is_empty() || self.path.starts_with('[') { "" } else { "." };
        self.path.insert_str(0, join);
        self.path.insert_str(0, parent);
        self
    }

    /// Returns the same problem, seen from the message that holds the list `list`.
    pub(crate) fn at(self, list: &str, index: usize) -> Self {
        self.within(&format!("{list}[{index}]"))
    }
}

/// Names and values, in order.
pub(crate) type Pairs = Vec<(Box<str>, Box<str>)>;

/// Which control characters a text may hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Lines {
    /// None.
    One,
    /// Line breaks and tabs.
    Many,
}

/// Checks an optional text of at most `most` characters on one line.
pub(crate) fn text(field: &str, value: String, most: usize) -> Result<Box<str>, Invalid> {
    check_text(field, &value, most, Lines::One)?;
    Ok(value.into_boxed_str())
}

/// Checks a required text of at most `most` characters on one line.
pub(crate) fn required(field: &str, value: String, most: usize) -> Result<Box<str>, Invalid> {
    if value.is_empty() {
        return Err(Invalid::new(field, Problem::Missing));
    }
    text(field, value, most)
}

/// Checks a text's length and characters.
pub(crate) fn check_text(field: &str, value: &str, most: usize, lines: Lines) -> Result<(), Invalid> {
    // Characters are never more than bytes, so short texts need no counting.
    if value.len() > most {
        let has = value.chars().count();
        if has > most {
            return Err(Invalid::new(field, Problem::TooLong { has, most }));
        }
    }
    let refused = |c: &char| c.is_control() && !(lines == Lines::Many && matches!(c, '\n' | '\r' | '\t'));
    match value.chars().find(refused) {
        Some(c) => Err(Invalid::new(field, Problem::Control(u32::from(c)))),
        None => Ok(()),
    }
}

/// Checks a list's length.
pub(crate) fn check_count(field: &str, has: usize, most: usize) -> Result<(), Invalid> {
    if has > most { Err(Invalid::new(field, Problem::TooMany { has, most })) } else { Ok(()) }
}

/// Refuses a field whose behaviour does not exist yet, unless it is empty.
pub(crate) fn not_yet(field: &str, empty: bool, what: &'static str) -> Result<(), Invalid> {
    if empty { Ok(()) } else { Err(Invalid::new(field, Problem::NotYet(what))) }
}

/// Parses a name such as a tenant's or a rule's.
pub(crate) fn name<T: std::str::FromStr<Err = InvalidName>>(field: &str, value: &str) -> Result<T, Invalid> {
    if value.is_empty() {
        return Err(Invalid::new(field, Problem::Missing));
    }
    value.parse().map_err(|error: InvalidName| Invalid::new(field, error))
}

/// Returns how many entries a page has.
pub(crate) fn page_size(asked: i32) -> Result<u32, Invalid> {
    match asked {
        0 => Ok(100),
        1..=1000 => Ok(asked.unsigned_abs()),
        _ => Err(Invalid::new("page_size", Problem::OutOfRange { is: asked.into(), least: 0, most: 1000 })),
    }
}
