//! The clock on a recipient's wall: whether hours are open on it, and when they open next.
//!
//! Hours are open at a moment when the wall shows a time that is in them. So what the wall never shows, because the
//! clocks are put forward, is never open, and what it shows twice is open twice.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;

use crate::domain::time::UnixMicros;
use crate::domain::window::{Calendars, Day, Hours};

/// How many days are looked through for the next opening: jobs live no longer.
const DAYS_MAX: usize = 432;

/// The clock of a zone, with the calendars that hours may keep.
pub(super) struct WallClock<'a> {
    zone: &'a TimeZone,
    calendars: &'a Calendars,
}

impl<'a> WallClock<'a> {
    pub(super) fn new(zone: &'a TimeZone, calendars: &'a Calendars) -> Self {
        Self { zone, calendars }
    }

    /// Returns whether any of `hours` is open at `at`.
    pub(super) fn open(&self, hours: &[Hours], at: UnixMicros) -> bool {
        timestamp(at).is_some_and(|at| self.shows(hours, at))
    }

    /// Returns the first moment from `from` on at which any of `hours` is open.
    pub(super) fn next(&self, hours: &[Hours], from: UnixMicros) -> Option<UnixMicros> {
        let at = timestamp(from)?;
        if self.shows(hours, at) {
            return Some(from);
        }
        let begins = self.begins(hours, at)?;
        // The wall can also jump into open hours.
        let changes = self.zone.following(at).map(|change| change.timestamp()).take_while(|&change| change < begins);
        let jumps = changes.into_iter().find(|&change| self.shows(hours, change));
        Some(UnixMicros(jumps.unwrap_or(begins).as_microsecond()))
    }

    /// Returns when the wall next shows the first minute of open hours, after `after`.
    fn begins(&self, hours: &[Hours], after: Timestamp) -> Option<Timestamp> {
        // From yesterday on, since clocks that are put back over midnight bring it back; and one day further than the
        // first find, for the same reason.
        let mut date = self.zone.to_datetime(after).date().yesterday().ok()?;
        let mut found: Option<Timestamp> = None;
        for _ in 0..DAYS_MAX {
            let enough = found.is_some();
            for hours in hours.iter().filter(|hours| self.on(hours, date)) {
                let moments = self.moments(date, hours.from()).into_iter().flatten().filter(|&at| at > after);
                found = found.into_iter().chain(moments).min();
            }
            if enough {
                break;
            }
            date = date.tomorrow().ok()?;
        }
        found
    }

    /// Returns the moments at which the wall begins to show a minute of a day: none, one or two.
    fn moments(&self, date: Date, minute: u16) -> [Option<Timestamp>; 2] {
        let Some(time) = time(minute) else { return [None, None] };
        let shown = self.zone.to_ambiguous_timestamp(date.to_datetime(time));
        match shown.offset() {
            jiff::tz::AmbiguousOffset::Unambiguous { .. } => [shown.unambiguous().ok(), None],
            jiff::tz::AmbiguousOffset::Gap { .. } => [None, None],
            jiff::tz::AmbiguousOffset::Fold { .. } => [shown.earlier().ok(), shown.later().ok()],
        }
    }

    fn shows(&self, hours: &[Hours], at: Timestamp) -> bool {
        let wall = self.zone.to_datetime(at);
        let minute = u16::from(wall.hour().unsigned_abs()) * 60 + u16::from(wall.minute().unsigned_abs());
        hours.iter().any(|hours| (hours.from()..hours.to()).contains(&minute) && self.on(hours, wall.date()))
    }

    fn on(&self, hours: &Hours, date: Date) -> bool {
        let day = hours.calendar().and_then(|name| self.calendars.get(name)).map(|calendar| calendar.day(date));
        match day {
            Some(Day::Holiday) => false,
            Some(Day::Worked) => true,
            Some(Day::Ordinary) | None => hours.days().contains(date.weekday()),
        }
    }
}

/// Returns the moment as jiff holds it; `None` beyond the year 9999.
fn timestamp(at: UnixMicros) -> Option<Timestamp> {
    Timestamp::from_microsecond(at.0).ok()
}

fn time(minute: u16) -> Option<Time> {
    Time::new(i8::try_from(minute / 60).ok()?, i8::try_from(minute % 60).ok()?, 0, 0).ok()
}
