//! Caps: how often one recipient may be reached in a window. Exact, never approximate.

pub mod presets;

use std::time::Duration;

use super::ids::RuleName;
use super::job::{Class, Kind, words};

/// A window that a cap counts in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// At most so many in *any* stretch of this length.
    Rolling(Duration),
    /// Per calendar day, week or month in the recipient's zone, else the tenant's.
    Calendar(CalendarUnit),
    /// Per natural clock window at a fixed offset, in minutes east of UTC.
    Clock(ClockUnit, i16),
    /// From the first job on, for this long; the next job after that opens the next window.
    FromFirst(Duration),
    /// At least this long between two; the limit is 1.
    Gap(Duration),
    /// A token bucket: the limit is its size, and one place comes back in this time.
    Bucket(Duration),
}

words! {
    /// A calendar window.
    CalendarUnit {
        /// From midnight.
        Day = "day",
        /// From Monday.
        Week = "week",
        /// From its first day.
        Month = "month",
    }
}

words! {
    /// A clock window.
    ClockUnit {
        /// A minute.
        Minute = "minute",
        /// An hour.
        Hour = "hour",
    }
}

words! {
    /// What happens to a job that a cap has no room for.
    OnLimit {
        /// It waits for the exact next instant with room.
        Defer = "defer",
        /// It ends as suppressed, with the rule's name.
        Drop = "drop",
    }
}

words! {
    /// Per what a cap counts.
    Per {
        /// Per recipient.
        Recipient = "recipient",
        /// Per recipient and topic: each topic has a budget of its own.
        RecipientTopic = "recipient+topic",
        /// Per recipient and sender: each number or signature has a budget of its own.
        RecipientSender = "recipient+sender",
        /// Per sender, over all its recipients.
        Sender = "sender",
        /// Per recipient and campaign: each campaign has a budget of its own, and all jobs without one have one together.
        RecipientCampaign = "recipient+campaign",
    }
}

words! {
    /// What a cap counts.
    Unit {
        /// Jobs.
        Jobs = "jobs",
        /// Segments of texts; any other job is one.
        Segments = "segments",
    }
}

words! {
    /// When a cap counts.
    Count {
        /// What was handed over, whatever its receipt says.
        Submitted = "submitted",
        /// What arrived: a job holds its places from its hand-over on, and gives them back once it is known that it
        /// reached nobody.
        Delivered = "delivered",
        /// Each attempt by itself, whatever came of it: a job that is tried again, and each step of a fallback chain, take
        /// places of their own. What a provider turned away was no attempt.
        Attempted = "attempted",
    }
}

words! {
    /// Whether a rule binds.
    Mode {
        /// It binds.
        Enforce = "enforce",
        /// It only counts what it would have done.
        Shadow = "shadow",
    }
}

/// One cap of a tenant. Empty filters match every job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CapRule {
    /// Its name, unique within the tenant; shown in outcomes and explanations.
    pub name: RuleName,
    /// The classes it counts.
    pub classes: Vec<Class>,
    /// The kinds it counts.
    pub kinds: Vec<Kind>,
    /// The topics it counts.
    pub topics: Vec<Box<str>>,
    /// The senders it counts.
    pub senders: Vec<Box<str>>,
    /// How many it lets through in a window, at most [`CAP_LIMIT_MAX`]; 0 means never.
    pub limit: u32,
    /// The window.
    pub window: Window,
    /// What happens over it.
    pub on_limit: OnLimit,
    /// Per what it counts.
    pub per: Per,
    /// What it counts.
    pub unit: Unit,
    /// When it counts.
    pub count: Count,
    /// Places that the lowest class it counts leaves to the higher ones; less than the limit.
    pub reserve: u32,
    /// Whether it binds.
    pub mode: Mode,
}

/// Most rules that one tenant may have.
pub const CAP_RULES_MAX: usize = 16;
/// Highest limit of a rule: the exact log of its takes is kept.
pub const CAP_LIMIT_MAX: u32 = 200;
/// Shortest length of a window that has one.
pub const CAP_WINDOW_MIN: Duration = Duration::from_secs(1);
/// Longest length of a window that has one.
pub const CAP_WINDOW_MAX: Duration = Duration::from_secs(31 * 24 * 3600);
/// Farthest offset of a clock window from UTC, in minutes: the zones of the world lie between -12 and +14 hours.
pub const CLOCK_OFFSET_MAX: i16 = 14 * 60;

/// Words that stand for other reasons where a rule's name is shown: no cap is called so.
pub const RESERVED_NAMES: &[&str] = &[
    "collapsed",
    "dead_letter",
    "expires_at",
    "limits_recovering",
    "no_provider",
    "rate",
    "request",
    "rescheduled",
    "retry",
    "send_at",
    "vendor_limit",
    "window",
    "zone_unknown",
];
/// In front of a scope, where a reason names an opt-out: no cap's name begins so.
const OPT_OUT: &str = "opt_out";

/// Why a rule cannot be: each sentence follows the name of the field that [`BadCap::field`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadCap {
    /// Outcomes and explanations could be read in two ways.
    #[error("is a word that stands for another reason in outcomes; use another name")]
    Name,
    /// Too many to keep the exact log of.
    #[error("is {0}, must be between 0 and 200; 0 means never")]
    Limit(u32),
    /// Two within a gap contradict it.
    #[error("is {0}, must be 1 in a gap window, or 0 for never")]
    GapLimit(u32),
    /// Too short or too long.
    #[error("must be between 1 second and 31 days long, in whole milliseconds")]
    Length,
    /// No place of the world.
    #[error("has an offset of {0} minutes from UTC, must be between -840 and 840")]
    Offset(i16),
    /// The lowest class could never pass.
    #[error("is {0}, must be less than the limit; the lowest class of the rule could never pass")]
    Reserve(u32),
    /// Nobody to keep places for.
    #[error("keeps places for higher classes, but the rule counts one class only; name more classes, or reserve 0")]
    ReserveAlone,
    /// Only texts have segments.
    #[error("is segments, but none of the rule's kinds has any; add kind sms, or count jobs")]
    NoSegments,
}

// === impl Window ===

impl Window {
    /// Returns its length, where that does not depend on the calendar; the time to refill one place for a bucket.
    pub fn length(self) -> Option<Duration> {
        match self {
            Self::Rolling(length) | Self::FromFirst(length) | Self::Gap(length) | Self::Bucket(length) => Some(length),
            Self::Clock(ClockUnit::Minute, _) => Some(Duration::from_secs(60)),
            Self::Clock(ClockUnit::Hour, _) => Some(Duration::from_secs(3600)),
            Self::Calendar(_) => None,
        }
    }

    /// Checks its length or offset.
    ///
    /// # Errors
    /// [`BadCap::Length`] or [`BadCap::Offset`].
    pub fn check(self) -> Result<(), BadCap> {
        match self {
            Self::Rolling(length) | Self::FromFirst(length) | Self::Gap(length) | Self::Bucket(length) => {
                let whole = length.subsec_nanos() % 1_000_000 == 0;
                let fits = (CAP_WINDOW_MIN..=CAP_WINDOW_MAX).contains(&length);
                if whole && fits { Ok(()) } else { Err(BadCap::Length) }
            }
            Self::Clock(_, offset) if offset.abs() > CLOCK_OFFSET_MAX => Err(BadCap::Offset(offset)),
            Self::Clock(..) | Self::Calendar(_) => Ok(()),
        }
    }
}

// === impl BadCap ===

impl BadCap {
    /// Returns the field of the rule that is wrong.
    pub const fn field(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Limit(_) | Self::GapLimit(_) => "limit",
            Self::Length | Self::Offset(_) => "window",
            Self::Reserve(_) | Self::ReserveAlone => "reserve",
            Self::NoSegments => "unit",
        }
    }
}

// === impl CapRule ===

impl CapRule {
    /// Returns a rule that counts every job per recipient, binds, and defers.
    pub fn new(name: RuleName, limit: u32, window: Window) -> Self {
        Self {
            name,
            classes: vec![],
            kinds: vec![],
            topics: vec![],
            senders: vec![],
            limit,
            window,
            on_limit: OnLimit::Defer,
            per: Per::Recipient,
            unit: Unit::Jobs,
            count: Count::Submitted,
            reserve: 0,
            mode: Mode::Enforce,
        }
    }

    /// Checks what its fields say about each other.
    ///
    /// # Errors
    /// The first that is wrong.
    pub fn check(&self) -> Result<(), BadCap> {
        let name = self.name.as_str();
        if RESERVED_NAMES.contains(&name) || name.starts_with(OPT_OUT) {
            return Err(BadCap::Name);
        }
        if self.limit > CAP_LIMIT_MAX {
            return Err(BadCap::Limit(self.limit));
        }
        if matches!(self.window, Window::Gap(_)) && self.limit > 1 {
            return Err(BadCap::GapLimit(self.limit));
        }
        self.window.check()?;
        if self.reserve > 0 && self.reserve >= self.limit {
            return Err(BadCap::Reserve(self.reserve));
        }
        if self.reserve > 0 && self.lowest() == self.highest() {
            return Err(BadCap::ReserveAlone);
        }
        if self.unit == Unit::Segments && !matches(&self.kinds, &Kind::Sms) {
            return Err(BadCap::NoSegments);
        }
        Ok(())
    }

    /// Returns whether the rule counts jobs like this one.
    pub fn counts(&self, kind: Kind, class: Class, topic: &str, sender: &str) -> bool {
        matches(&self.kinds, &kind)
            && matches(&self.classes, &class)
            && matches_word(&self.topics, topic)
            && matches_word(&self.senders, sender)
    }

    /// Returns how many a window lets through for a class: the lowest that the rule counts leaves the reserve alone.
    pub fn limit_for(&self, class: Class) -> u32 {
        if class == self.lowest() { self.limit - self.reserve.min(self.limit) } else { self.limit }
    }

    fn lowest(&self) -> Class {
        self.classes.iter().copied().max().unwrap_or(Class::Marketing)
    }

    fn highest(&self) -> Class {
        self.classes.iter().copied().min().unwrap_or(Class::Otp)
    }
}

fn matches<T: PartialEq>(filter: &[T], value: &T) -> bool {
    filter.is_empty() || filter.contains(value)
}

fn matches_word(filter: &[Box<str>], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|word| &**word == value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn daily(limit: u32) -> CapRule {
        CapRule::new("daily".parse().unwrap(), limit, Window::Rolling(DAY))
    }

    #[test]
    fn empty_filters_match_everything() {
        let mut rule = daily(3);
        assert!(rule.counts(Kind::Sms, Class::Otp, "", ""));
        rule.classes = vec![Class::Marketing];
        rule.topics = vec!["sale".into()];
        assert!(rule.counts(Kind::Call, Class::Marketing, "sale", "x"));
        assert!(!rule.counts(Kind::Call, Class::Marketing, "news", "x"));
        assert!(!rule.counts(Kind::Call, Class::Otp, "sale", "x"));
    }

    #[test]
    fn the_lowest_class_leaves_the_reserve_alone() {
        let reserving = |classes: &[Class]| CapRule { reserve: 2, classes: classes.to_vec(), ..daily(5) };
        let all = reserving(&[]);
        assert_eq!(Class::ALL.iter().map(|&class| all.limit_for(class)).collect::<Vec<_>>(), [5, 5, 5, 3]);
        let upper = reserving(&[Class::Notification, Class::Otp]);
        assert_eq!((upper.limit_for(Class::Otp), upper.limit_for(Class::Notification)), (5, 3));
    }

    #[track_caller]
    fn says(expected: Result<(), BadCap>, change: impl FnOnce(&mut CapRule)) {
        let mut rule = daily(5);
        change(&mut rule);
        assert_eq!(rule.check(), expected, "{rule:?}");
    }

    #[test]
    fn rules_that_cannot_be_are_named() {
        says(Ok(()), |_| {});
        says(Err(BadCap::Name), |rule| rule.name = "retry".parse().unwrap());
        says(Err(BadCap::Name), |rule| rule.name = "opt_out_sender".parse().unwrap());
        says(Ok(()), |rule| rule.limit = 0);
        says(Ok(()), |rule| rule.limit = 200);
        says(Err(BadCap::Limit(201)), |rule| rule.limit = 201);
        says(Err(BadCap::GapLimit(5)), |rule| rule.window = Window::Gap(DAY));
        says(Ok(()), |rule| (rule.window, rule.limit) = (Window::Gap(DAY), 1));
        says(Err(BadCap::Length), |rule| rule.window = Window::Rolling(Duration::from_millis(999)));
        says(Err(BadCap::Length), |rule| rule.window = Window::FromFirst(DAY * 31 + Duration::from_secs(1)));
        says(Err(BadCap::Length), |rule| rule.window = Window::Bucket(Duration::from_micros(1_000_001)));
        says(Ok(()), |rule| rule.window = Window::Rolling(DAY * 31));
        says(Ok(()), |rule| rule.window = Window::Calendar(CalendarUnit::Month));
        says(Ok(()), |rule| rule.window = Window::Clock(ClockUnit::Hour, -570));
        says(Err(BadCap::Offset(841)), |rule| rule.window = Window::Clock(ClockUnit::Minute, 841));
        says(Ok(()), |rule| rule.reserve = 4);
        says(Err(BadCap::Reserve(5)), |rule| rule.reserve = 5);
        says(Err(BadCap::Reserve(1)), |rule| (rule.limit, rule.reserve) = (0, 1));
        says(Err(BadCap::ReserveAlone), |rule| (rule.reserve, rule.classes) = (1, vec![Class::Otp, Class::Otp]));
        says(Ok(()), |rule| (rule.unit, rule.kinds) = (Unit::Segments, vec![Kind::Call, Kind::Sms]));
        says(Err(BadCap::NoSegments), |rule| (rule.unit, rule.kinds) = (Unit::Segments, vec![Kind::Call]));
    }
}
