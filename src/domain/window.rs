//! Send windows: in which hours of a recipient's day some jobs may be sent, and the calendars of holidays they keep.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, Weekday};

use super::ids::{PoolId, RuleName};
use super::job::{Class, Kind, OnMissed};

/// Most rules that one tenant may have.
pub const WINDOW_RULES_MAX: usize = 32;
/// Most hours in a rule, and most that a job may narrow it to.
pub const HOURS_MAX: usize = 14;
/// Minutes of a day: where the last hour ends.
pub const DAY_MINUTES: u16 = 24 * 60;

const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Some days of the week, at least one. Written as `mon-fri` or `mon,wed,sat-sun`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Weekdays(u8);

/// Hours of the day on some days, on the clock of the recipient's zone. Half open: the first minute is in, the last is
/// out. Written as `[DAYS] FROM-TO [CALENDAR]`, such as `08:00-20:00` or `mon-fri 09:00-24:00 CN`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Hours {
    days: Weekdays,
    from: u16,
    to: u16,
    calendar: Option<Box<str>>,
}

/// Why hours cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHours {
    /// Not written like hours.
    #[error("is not written like \"08:00-20:00\" or \"mon-fri 09:00-18:00 CN\"")]
    Form,
    /// Nothing is between its two ends.
    #[error("has no hours: it closes at or before it opens; for hours over midnight write two windows")]
    Empty,
    /// Beyond the end of the day.
    #[error("ends beyond minute 1440 of the day")]
    BeyondDay,
}

/// In which hours some jobs may be sent. A job that several rules bind needs all of them open.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WindowRule {
    /// Its name, unique within its tenant; shown in outcomes and explanations.
    pub name: RuleName,
    /// The classes it binds; empty: notification and marketing.
    pub classes: Vec<Class>,
    /// The kinds it binds; empty: all.
    pub kinds: Vec<Kind>,
    /// The topics it binds; empty: all.
    pub topics: Vec<Box<str>>,
    /// The senders it binds; empty: all.
    pub senders: Vec<Box<str>>,
    /// The pools it binds; empty: all.
    pub pools: Vec<PoolId>,
    /// When it is open: never none, at most [`HOURS_MAX`].
    pub hours: Vec<Hours>,
    /// What follows when a job's time comes while it is closed.
    pub on_missed: OnMissed,
}

/// What a window rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    /// The job's class.
    pub class: Class,
    /// Its kind.
    pub kind: Kind,
    /// Its topic.
    pub topic: &'a str,
    /// Its sender.
    pub sender: &'a str,
    /// The pool that carries it.
    pub pool: &'a PoolId,
}

/// What a calendar says of a day.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Day {
    /// What the day of the week says.
    Ordinary,
    /// A holiday: closed.
    Holiday,
    /// A day that was swapped for a holiday and is worked: open.
    Worked,
}

/// The holidays of a country, for the years in which they were published.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Calendar {
    years: BTreeSet<i16>,
    holidays: BTreeSet<Date>,
    worked: BTreeSet<Date>,
}

/// Calendars by name, such as `CN`.
pub type Calendars = BTreeMap<Box<str>, Calendar>;

// === impl Weekdays ===

impl Weekdays {
    /// The whole week.
    pub const EVERY: Self = Self(0x7f);

    /// Returns these days; `None` if there are none.
    pub fn new(days: impl IntoIterator<Item = Weekday>) -> Option<Self> {
        let bits = days.into_iter().fold(0, |bits, day| bits | bit(day));
        (bits != 0).then_some(Self(bits))
    }

    /// Returns the days as bits, Monday the lowest.
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Returns the days of such bits; `None` if there are none, or more than seven.
    pub fn from_bits(bits: u8) -> Option<Self> {
        (1..0x80).contains(&bits).then_some(Self(bits))
    }

    /// Returns whether a day is one of them.
    pub fn contains(self, day: Weekday) -> bool {
        self.0 & bit(day) != 0
    }

    /// Returns whether any day is in both.
    pub fn meet(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the days, from Monday on.
    pub fn iter(self) -> impl Iterator<Item = Weekday> {
        DAYS.into_iter().map(|(_, day)| day).filter(move |&day| self.contains(day))
    }
}

fn bit(day: Weekday) -> u8 {
    1 << day.to_monday_zero_offset().cast_unsigned()
}

impl FromStr for Weekdays {
    type Err = InvalidHours;
    fn from_str(raw: &str) -> Result<Self, InvalidHours> {
        let place = |word: &str| DAYS.iter().position(|(name, _)| *name == word).ok_or(InvalidHours::Form);
        let mut bits = 0;
        for part in raw.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (place(first)?, place(last)?);
            // `fri-mon` runs over the end of the week.
            let length = (last + 7 - first) % 7;
            bits |= (0..=length).fold(0, |bits, step| bits | 1 << ((first + step) % 7));
        }
        Ok(Self(bits))
    }
}

impl fmt::Display for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut day, mut comma) = (0, "");
        while day < 7 {
            let run = (day..7).take_while(|&day| self.0 & (1 << day) != 0).count();
            match run {
                0 => day += 1,
                1 | 2 => {
                    write!(f, "{comma}{}", DAYS[day].0)?;
                    day += 1;
                    comma = ",";
                }
                _ => {
                    write!(f, "{comma}{}-{}", DAYS[day].0, DAYS[day + run - 1].0)?;
                    day += run;
                    comma = ",";
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Weekdays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl Hours ===

impl Hours {
    /// Returns the hours from minute `from` of the day up to minute `to`, on these days, keeping a calendar's holidays.
    ///
    /// # Errors
    /// [`InvalidHours`] when no minute is in them or they end after the day.
    pub fn new(days: Weekdays, from: u16, to: u16, calendar: Option<Box<str>>) -> Result<Self, InvalidHours> {
        if to > DAY_MINUTES {
            return Err(InvalidHours::BeyondDay);
        }
        if from >= to {
            return Err(InvalidHours::Empty);
        }
        Ok(Self { days, from, to, calendar })
    }

    /// Returns the days of the week.
    pub fn days(&self) -> Weekdays {
        self.days
    }

    /// Returns the minute of the day at which they begin.
    pub fn from(&self) -> u16 {
        self.from
    }

    /// Returns the minute of the day at which they are over.
    pub fn to(&self) -> u16 {
        self.to
    }

    /// Returns the name of the calendar whose holidays they keep.
    pub fn calendar(&self) -> Option<&str> {
        self.calendar.as_deref()
    }

    /// Returns whether they and others can ever be open at the same time. A calendar can open any day.
    pub fn meet(&self, other: &Self) -> bool {
        let days = self.calendar.is_some() || other.calendar.is_some() || self.days.meet(other.days);
        days && self.from < other.to && other.from < self.to
    }
}

impl FromStr for Hours {
    type Err = InvalidHours;
    fn from_str(raw: &str) -> Result<Self, InvalidHours> {
        let words: Vec<&str> = raw.split_ascii_whitespace().collect();
        let (days, times, calendar) = match words[..] {
            [times] => (Weekdays::EVERY, times, None),
            [first, second] if first.starts_with(|c: char| c.is_ascii_digit()) => {
                (Weekdays::EVERY, first, Some(second))
            }
            [days, times] => (days.parse()?, times, None),
            [days, times, calendar] => (days.parse()?, times, Some(calendar)),
            _ => return Err(InvalidHours::Form),
        };
        let (from, to) = times.split_once('-').ok_or(InvalidHours::Form)?;
        Self::new(days, minute(from)?, minute(to)?, calendar.map(Into::into))
    }
}

/// Reads a time of day such as `08:00`; `24:00` is the end of the day.
fn minute(raw: &str) -> Result<u16, InvalidHours> {
    let number = |text: &str, most: u16| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|&number: &u16| digits && number <= most).ok_or(InvalidHours::Form)
    };
    let (hours, minutes) = raw.split_once(':').ok_or(InvalidHours::Form)?;
    let minute = number(hours, 24)? * 60 + number(minutes, 59)?;
    if minute <= DAY_MINUTES { Ok(minute) } else { Err(InvalidHours::BeyondDay) }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != Weekdays::EVERY {
            write!(f, "{} ", self.days)?;
        }
        let Self { from, to, .. } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, to / 60, to % 60)?;
        match &self.calendar {
            Some(calendar) => write!(f, " {calendar}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// === impl WindowRule ===

impl WindowRule {
    /// Returns whether the rule binds jobs like this one. One-time passwords and transactional jobs only where it names
    /// them.
    pub fn binds(&self, job: &Means<'_>) -> bool {
        let class = if self.classes.is_empty() { !job.class.urgent() } else { self.classes.contains(&job.class) };
        class
            && matches(&self.kinds, &job.kind)
            && matches(&self.pools, job.pool)
            && matches_word(&self.topics, job.topic)
            && matches_word(&self.senders, job.sender)
    }

    /// Returns whether this rule and another can ever be open at the same time.
    pub fn meets(&self, other: &Self) -> bool {
        meet(&self.hours, &other.hours)
    }

    /// Returns whether some job could be bound by this rule and another.
    pub fn overlaps(&self, other: &Self) -> bool {
        let classes = |rule: &Self| match rule.classes.is_empty() {
            true => vec![Class::Notification, Class::Marketing],
            false => rule.classes.clone(),
        };
        overlap(&classes(self), &classes(other))
            && overlap(&self.kinds, &other.kinds)
            && overlap(&self.topics, &other.topics)
            && overlap(&self.senders, &other.senders)
            && overlap(&self.pools, &other.pools)
    }
}

/// Returns whether some hours and others can ever be open at the same time.
pub fn meet(some: &[Hours], others: &[Hours]) -> bool {
    some.iter().any(|hours| others.iter().any(|other| hours.meet(other)))
}

fn matches<T: PartialEq>(filter: &[T], value: &T) -> bool {
    filter.is_empty() || filter.contains(value)
}

fn matches_word(filter: &[Box<str>], value: &str) -> bool {
    filter.is_empty() || filter.iter().any(|word| &**word == value)
}

fn overlap<T: PartialEq>(some: &[T], others: &[T]) -> bool {
    some.is_empty() || others.is_empty() || some.iter().any(|value| others.contains(value))
}

// === impl Calendar ===

impl Calendar {
    /// Sets a year's holidays, and the days that are worked instead.
    pub fn publish(
        &mut self,
        year: i16,
        holidays: impl IntoIterator<Item = Date>,
        worked: impl IntoIterator<Item = Date>,
    ) {
        self.years.insert(year);
        self.holidays.retain(|day| day.year() != year);
        self.worked.retain(|day| day.year() != year);
        self.holidays.extend(holidays);
        self.worked.extend(worked);
    }

    /// Returns whether the holidays of a year are known. In other years, every day is an ordinary one.
    pub fn published(&self, year: i16) -> bool {
        self.years.contains(&year)
    }

    /// Returns what a day is.
    pub fn day(&self, date: Date) -> Day {
        if self.holidays.contains(&date) {
            Day::Holiday
        } else if self.worked.contains(&date) {
            Day::Worked
        } else {
            Day::Ordinary
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(raw: &str, shown: Result<&str, InvalidHours>) {
        let read = raw.parse::<Hours>();
        assert_eq!(read.as_ref().map(ToString::to_string).map_err(|error| *error), shown.map(Into::into), "{raw}");
        if let Ok(hours) = read {
            assert_eq!(hours.to_string().parse(), Ok(hours), "{raw} comes back as it was");
        }
    }

    #[test]
    fn hours_are_written_and_read() {
        check("08:00-20:00", Ok("08:00-20:00"));
        check("00:00-24:00", Ok("00:00-24:00"));
        check("mon-sun 09:00-12:00", Ok("09:00-12:00"));
        check("mon,tue,wed,fri 09:00-12:00 CN", Ok("mon-wed,fri 09:00-12:00 CN"));
        check("fri-mon 09:00-12:00", Ok("mon,fri-sun 09:00-12:00"));
        check("09:30-12:00 CN", Ok("09:30-12:00 CN"));
        check("sat,sun 23:59-24:00", Ok("sat,sun 23:59-24:00"));
        check("20:00-08:00", Err(InvalidHours::Empty));
        check("08:00-08:00", Err(InvalidHours::Empty));
        check("08:00-24:01", Err(InvalidHours::BeyondDay));
        for raw in ["", "8-20", "08:00", "8:00-20:00", "08:00-20:60", "xyz 08:00-20:00", "mon- 08:00-20:00", "a b c d"]
        {
            check(raw, Err(InvalidHours::Form));
        }
    }

    #[test]
    fn a_rule_without_classes_binds_what_is_not_urgent() {
        let pool: PoolId = "default".parse().unwrap();
        let job = |class, topic| Means { class, kind: Kind::Sms, topic, sender: "", pool: &pool };
        let mut rule = WindowRule {
            name: "day".parse().unwrap(),
            classes: vec![],
            kinds: vec![],
            topics: vec!["sale".into()],
            senders: vec![],
            pools: vec![],
            hours: vec!["08:00-20:00".parse().unwrap()],
            on_missed: OnMissed::Defer,
        };
        assert!(rule.binds(&job(Class::Marketing, "sale")) && rule.binds(&job(Class::Notification, "sale")));
        assert!(!rule.binds(&job(Class::Marketing, "news")) && !rule.binds(&job(Class::Otp, "sale")));
        rule.classes = vec![Class::Transactional];
        rule.pools = vec!["other".parse().unwrap()];
        assert!(!rule.binds(&job(Class::Transactional, "sale")), "another pool");
        rule.pools.push(pool.clone());
        assert!(rule.binds(&job(Class::Transactional, "sale")));
    }

    #[test]
    fn rules_that_bind_the_same_jobs_must_meet() {
        let rule = |classes: &[Class], hours: &str| WindowRule {
            name: "day".parse().unwrap(),
            classes: classes.to_vec(),
            kinds: vec![],
            topics: vec![],
            senders: vec![],
            pools: vec![],
            hours: vec![hours.parse().unwrap()],
            on_missed: OnMissed::Defer,
        };
        let (all, otp) = (rule(&[], "mon-fri 08:00-12:00"), rule(&[Class::Otp], "08:00-12:00"));
        assert!(!all.overlaps(&otp), "one-time passwords are bound where they are named");
        assert!(all.overlaps(&rule(&[Class::Marketing, Class::Otp], "08:00-12:00")));
        assert!(all.meets(&rule(&[], "fri-sat 11:59-13:00")));
        assert!(!all.meets(&rule(&[], "12:00-13:00")) && !all.meets(&rule(&[], "sat,sun 08:00-12:00")));
        assert!(all.meets(&rule(&[], "sat,sun 08:00-12:00 CN")), "a calendar can open a Monday");
    }
}
