//! Times and lengths of time.

use std::time::Duration;

use prost_types::Timestamp;

use super::enums::on_missed;
use super::{Invalid, Problem, not_yet};
use crate::admission::AHEAD_MAX;
use crate::domain::job::OnMissed;
use crate::domain::time::UnixMicros;
use crate::pb;

/// 9999-12-31T23:59:59Z, the last second that a timestamp can hold.
const LAST_SECOND: i64 = 253_402_300_799;
/// How far ahead an expiry may lie: the farthest start, and 30 days to send in.
const EXPIRY_AHEAD_MAX: Duration = Duration::from_secs(430 * 24 * 3600);

/// When a job may be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct When {
    /// Not before; `None`: now.
    pub(crate) due_at: Option<UnixMicros>,
    /// Not after; `None`: the class's default.
    pub(crate) expires_at: Option<UnixMicros>,
    /// What follows a missed window.
    pub(crate) on_missed: Option<OnMissed>,
}

/// Checks a schedule as of `now`.
pub(super) fn schedule(schedule: Option<pb::Schedule>, now: UnixMicros) -> Result<When, Invalid> {
    let Some(schedule) = schedule else { return Ok(When::default()) };
    let due_at = match schedule.start {
        None => None,
        Some(pb::schedule::Start::SendAt(at)) => Some(ahead("send_at", &at, now, AHEAD_MAX)?),
        Some(pb::schedule::Start::LocalTime(_)) => {
            return Err(Invalid::new("local_time", Problem::NotYet("a local time per recipient is")));
        }
    };
    not_yet("windows", schedule.windows.is_empty(), "send windows of a job are")?;
    let on_missed = on_missed("on_missed", schedule.on_missed)?;
    let expires_at = schedule.expires_at.map(|at| ahead("expires_at", &at, now, EXPIRY_AHEAD_MAX)).transpose()?;
    match expires_at {
        Some(at) if at <= now => Err(Invalid::new("expires_at", Problem::Past)),
        Some(at) if due_at.is_some_and(|due_at| at <= due_at) => Err(Invalid::new("expires_at", Problem::ExpiresFirst)),
        _ => Ok(When { due_at, expires_at, on_missed: Some(on_missed) }),
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
