//! Times and lengths of time.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use prost_types::Timestamp;

use super::enums::on_missed;
use super::window::hours;
use super::{Invalid, Problem, not_yet};
use crate::admission::{AHEAD_MAX, Start};
use crate::domain::job::OnMissed;
use crate::domain::time::UnixMicros;
use crate::domain::window::Hours;
use crate::pb;

/// 9999-12-31T23:59:59Z, the last second that a timestamp can hold.
const LAST_SECOND: i64 = 253_402_300_799;
/// How far ahead an expiry may lie: the farthest start, and 30 days to send in.
const EXPIRY_AHEAD_MAX: Duration = Duration::from_secs(430 * 24 * 3600);

/// When a job may be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct When {
    /// Not before.
    pub(crate) start: Start,
    /// Not after; `None`: the class's default.
    pub(crate) expires_at: Option<UnixMicros>,
    /// The windows that narrow the tenant's.
    pub(crate) windows: Vec<Hours>,
    /// What follows a missed window.
    pub(crate) on_missed: OnMissed,
}

/// Checks a schedule as of `now`.
pub(super) fn schedule(schedule: Option<pb::Schedule>, now: UnixMicros) -> Result<When, Invalid> {
    let schedule = schedule.unwrap_or_default();
    let start = match schedule.start {
        None => Start::Now,
        Some(pb::schedule::Start::SendAt(at)) => Start::At(start("send_at", &at, now)?),
        Some(pb::schedule::Start::LocalTime(at)) => local_time(at, now).map_err(|e| e.within("local_time"))?,
    };
    let expires_at = schedule.expires_at.map(|at| ahead("expires_at", &at, now, EXPIRY_AHEAD_MAX)).transpose()?;
    match expires_at {
        Some(at) if matches!(start, Start::At(start) if at <= start) => {
            return Err(Invalid::new("expires_at", Problem::ExpiresFirst));
        }
        Some(_) | None => {}
    }
    let (windows, on_missed) = (hours(schedule.windows)?, on_missed("on_missed", schedule.on_missed)?);
    Ok(When { start, expires_at, windows, on_missed })
}

/// Checks the moment at which a job starts.
pub(super) fn start(field: &str, at: &Timestamp, now: UnixMicros) -> Result<UnixMicros, Invalid> {
    ahead(field, at, now, AHEAD_MAX)
}

fn local_time(raw: pb::LocalTime, now: UnixMicros) -> Result<Start, Invalid> {
    let number = |field: &str, is: i32, least: i16, most: i16| {
        let out_of_range = Problem::OutOfRange { is: is.into(), least: least.into(), most: most.into() };
        let number = i16::try_from(is).ok().filter(|number| (least..=most).contains(number));
        number.ok_or_else(|| Invalid::new(field, out_of_range))
    };
    let small = |field: &str, is: i32, least: i8, most: i8| {
        number(field, is, least.into(), most.into()).map(|number| i8::try_from(number).unwrap_or(most))
    };
    let (year, month) = (number("year", raw.year, 2000, 9999)?, small("month", raw.month, 1, 12)?);
    let (day, hour) = (small("day", raw.day, 1, 31)?, small("hour", raw.hour, 0, 23)?);
    let (minute, second) = (small("minute", raw.minute, 0, 59)?, small("second", raw.second, 0, 59)?);
    let local = DateTime::new(year, month, day, hour, minute, second, 0).map_err(|_| {
        let days = Date::new(year, month, 1).map_or(0, Date::days_in_month);
        Invalid::new("day", Problem::NoSuchDay { year, month, day, days })
    })?;
    // Where it comes last is less than a day behind UTC; admission looks at each recipient.
    let in_utc = TimeZone::UTC.to_timestamp(local).map_or(i64::MAX, jiff::Timestamp::as_microsecond);
    if UnixMicros(in_utc) > now.plus(AHEAD_MAX) {
        return Err(Invalid::new("", Problem::TooFar { days: AHEAD_MAX.as_secs() / (24 * 3600) }));
    }
    Ok(Start::Local(local))
}

/// Checks the time that jobs are moved to as of `now`: when they are due, and when they expire if that is said.
pub(crate) fn new_time(
    raw: Option<pb::Schedule>,
    now: UnixMicros,
) -> Result<(UnixMicros, Option<UnixMicros>), Invalid> {
    let raw = raw.ok_or_else(|| Invalid::new("", Problem::Missing))?;
    not_yet("on_missed", raw.on_missed == 0, "another on_missed for jobs that are moved is")?;
    not_yet("windows", raw.windows.is_empty(), "other windows for jobs that are moved are")?;
    let local = matches!(raw.start, Some(pb::schedule::Start::LocalTime(_)));
    not_yet("local_time", !local, "a local time for jobs that are moved is")?;
    let When { start, expires_at, .. } = schedule(Some(raw), now)?;
    let due_at = match start {
        Start::At(due_at) => due_at.max(now),
        Start::Now | Start::Local(_) => now,
    };
    match expires_at {
        Some(at) if at <= due_at => Err(Invalid::new("expires_at", Problem::ExpiresFirst)),
        _ => Ok((due_at, expires_at)),
    }
}

fn ahead(field: &str, at: &Timestamp, now: UnixMicros, most: Duration) -> Result<UnixMicros, Invalid> {
    let at = moment(field, at)?;
    if at > now.plus(most) {
        return Err(Invalid::new(field, Problem::TooFar { days: most.as_secs() / (24 * 3600) }));
    }
    Ok(at)
}

/// Reads a time.
///
/// # Errors
/// One before 1970 or after 9999, or with nanoseconds out of range.
pub(crate) fn moment(field: &str, at: &Timestamp) -> Result<UnixMicros, Invalid> {
    let valid = (0..=LAST_SECOND).contains(&at.seconds) && (0..1_000_000_000).contains(&at.nanos);
    if !valid {
        return Err(Invalid::new(field, Problem::Time));
    }
    Ok(UnixMicros(at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000))
}

/// Reads a time that lies after `now`.
///
/// # Errors
/// One that is over, and what [`moment`] refuses.
pub(crate) fn future(field: &str, at: &Timestamp, now: UnixMicros) -> Result<UnixMicros, Invalid> {
    match moment(field, at)? {
        at if at > now => Ok(at),
        _ => Err(Invalid::new(field, Problem::Past)),
    }
}

/// Shows a time.
pub(crate) fn moment_to_pb(at: UnixMicros) -> Timestamp {
    let nanos = i32::try_from(at.0.rem_euclid(1_000_000) * 1_000).unwrap_or(0);
    Timestamp { seconds: at.as_secs(), nanos }
}

/// Reads a length of time.
///
/// # Errors
/// A negative one, or one with nanoseconds out of range.
pub(crate) fn duration(field: &str, length: prost_types::Duration) -> Result<Duration, Invalid> {
    let invalid = || Invalid::new(field, Problem::Duration);
    let secs = u64::try_from(length.seconds).map_err(|_| invalid())?;
    let nanos = u32::try_from(length.nanos).ok().filter(|nanos| *nanos < 1_000_000_000).ok_or_else(invalid)?;
    Ok(Duration::new(secs, nanos))
}

/// Shows a length of time.
pub(crate) fn duration_to_pb(length: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(length.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(length.subsec_nanos()).unwrap_or(0),
    }
}
