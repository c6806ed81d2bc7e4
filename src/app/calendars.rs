//! Says which calendars that send windows keep know nothing of the year: its holidays pass for ordinary days.

use std::sync::Arc;
use std::time::Duration;

use jiff::{Span, Timestamp, tz::TimeZone};
use tracing::warn;

use crate::domain::time::{Clock, UnixMicros};
use crate::ledger::Directory;
use crate::policy::windows::Windows;
use crate::shutdown::Tasks;

/// How often it is said.
const EVERY: Duration = Duration::from_secs(24 * 3600);
/// How many days before it begins a year is looked for: holidays are published some weeks before.
const AHEAD_DAYS: i64 = 31;

/// Warns at the start and once a day of years that a calendar lacks.
pub(super) fn watch(windows: &Arc<Windows>, directory: &Directory, tasks: &Tasks, clock: &Clock) {
    let (windows, directory, clock, stop) =
        (Arc::clone(windows), directory.clone(), clock.clone(), tasks.stop().clone());
    tasks.spawn("calendars", async move {
        loop {
            let tenants = directory.tenants();
            for year in years(clock.now()) {
                for calendar in windows.unpublished(tenants.iter().flat_map(|tenant| &tenant.windows), year) {
                    warn!(calendar, year, "holidays of this year are unknown, its days count as ordinary ones");
                }
            }
            if stop.run_until_cancelled(clock.sleep(EVERY)).await.is_none() {
                return;
            }
        }
    });
}

/// Returns this year, and the next if it is near.
fn years(now: UnixMicros) -> Vec<i16> {
    let Ok(now) = Timestamp::from_microsecond(now.0) else { return vec![] };
    let today = now.to_zoned(TimeZone::UTC).date();
    let ahead = today.checked_add(Span::new().days(AHEAD_DAYS)).unwrap_or(today);
    let mut years = vec![today.year(), ahead.year()];
    years.dedup();
    years
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_year_is_looked_for_a_month_ahead() {
        let near = |text: &str| years(UnixMicros(text.parse::<Timestamp>().unwrap().as_microsecond()));
        assert_eq!(near("2026-06-01T00:00:00Z"), [2026]);
        assert_eq!(near("2026-11-30T23:59:59Z"), [2026]);
        assert_eq!(near("2026-12-01T00:00:00Z"), [2026, 2027]);
    }
}
