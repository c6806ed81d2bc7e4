//! May it leave at this hour? Send windows of the service, of a tenant and of a job, put together: all that bind a job
//! must be open. What is not known fails closed: marketing, calls and jobs with windows of their own need a zone.

mod clock;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::tz::TimeZone;

use self::clock::WallClock;
use crate::domain::job::{Class, Kind, OnMissed};
use crate::domain::time::UnixMicros;
use crate::domain::window::{Calendars, Hours, Means, WindowRule, meet};

/// In front of a window rule's name, where a reason names one.
pub const REASON: &str = "window:";
/// The reason where a job's own windows are closed.
pub const OWN_REASON: &str = "window";
/// The reason where a job needs a zone and has none.
pub const NO_ZONE_REASON: &str = "zone_unknown";

/// Rules that meet only now and then are tried this often: once or twice a day for more than a year.
const ROUNDS_MAX: usize = 1_000;

/// The send windows of the service: rules for tenants that have none of their own, and the calendars that any may keep.
#[derive(Clone, Debug, Default)]
pub struct Windows {
    rules: Vec<Arc<WindowRule>>,
    calendars: Arc<Calendars>,
}

/// The windows that bind a job.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    rules: Vec<Arc<WindowRule>>,
    own: Vec<Hours>,
    /// Without a zone it may not leave.
    needs_zone: bool,
    calendars: Arc<Calendars>,
}

/// A job may not leave at a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Why: `window:` and the rule's name, `window` for the job's own, or `zone_unknown`.
    pub reason: Box<str>,
    /// What the rule says of a missed window.
    pub on_missed: OnMissed,
}

/// What one of the windows that bind a job says at a moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Says {
    /// Which: as [`Closed::reason`].
    pub reason: Box<str>,
    /// What it says of a job that misses it.
    pub on_missed: OnMissed,
    /// The first moment from then on at which it is open by itself; `None`: there is none in more than a year, or the zone
    /// is needed and unknown.
    pub opens_at: Option<UnixMicros>,
}

/// Returns the reason that names a rule.
pub fn reason(rule: &WindowRule) -> Box<str> {
    format!("{REASON}{}", rule.name).into()
}

/// Returns what a reason names, as people read it.
pub fn words(reason: &str) -> String {
    match reason.strip_prefix(REASON) {
        Some(rule) => format!("the send window `{rule}`"),
        None => "the job's own window".to_owned(),
    }
}

/// Returns the first moment from `from` on that all rules allow together. `step` returns the first moment from a moment
/// on that each of them has allowed in turn; `None`: one of them never does.
pub fn earliest(from: UnixMicros, step: impl Fn(UnixMicros) -> Option<UnixMicros>) -> Option<UnixMicros> {
    let mut at = from;
    for _ in 0..ROUNDS_MAX {
        let next = step(at)?;
        if next == at {
            return Some(at);
        }
        at = next;
    }
    None
}

// === impl Windows ===

impl Windows {
    /// Returns the windows of a service.
    pub fn new(rules: Vec<WindowRule>, calendars: Calendars) -> Self {
        Self { rules: rules.into_iter().map(Arc::new).collect(), calendars: Arc::new(calendars) }
    }

    /// Returns the windows that bind a job of a tenant with the rules `tenant`, which narrows them to `own`.
    pub fn bind(&self, tenant: &[Arc<WindowRule>], job: &Means<'_>, own: &[Hours]) -> Bound {
        let rules = if tenant.is_empty() { &self.rules } else { tenant };
        let rules: Vec<_> = rules.iter().filter(|rule| rule.binds(job)).cloned().collect();
        let fails_closed = job.class == Class::Marketing || job.kind == Kind::Call;
        Bound {
            needs_zone: !own.is_empty() || (fails_closed && !rules.is_empty()),
            rules,
            own: own.to_vec(),
            calendars: Arc::clone(&self.calendars),
        }
    }

    /// Returns the calendars.
    pub fn calendars(&self) -> &Calendars {
        &self.calendars
    }

    /// Returns the calendars that rules of the service or of tenants keep and that know nothing of a year.
    pub fn unpublished<'a>(
        &'a self,
        tenants: impl IntoIterator<Item = &'a Arc<WindowRule>>,
        year: i16,
    ) -> Vec<&'a str> {
        let hours = self.rules.iter().chain(tenants).flat_map(|rule| &rule.hours);
        let missing = |name: &&str| !self.calendars.get(*name).is_some_and(|calendar| calendar.published(year));
        let mut names: Vec<_> = hours.filter_map(Hours::calendar).filter(missing).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

// === impl Bound ===

impl Bound {
    /// Returns whether nothing binds the job.
    pub fn is_free(&self) -> bool {
        self.rules.is_empty() && self.own.is_empty()
    }

    /// Returns the rule that the job's own windows never meet, if there is one.
    pub fn never_met(&self) -> Option<&WindowRule> {
        if self.own.is_empty() {
            return None;
        }
        self.rules.iter().map(AsRef::as_ref).find(|rule| !meet(&rule.hours, &self.own))
    }

    /// Returns whether the job may leave at `at`, or what holds it.
    pub fn check(&self, zone: Option<&TimeZone>, at: UnixMicros) -> Result<(), Closed> {
        if self.is_free() {
            return Ok(());
        }
        let Some(zone) = zone else {
            let closed = Closed { reason: NO_ZONE_REASON.into(), on_missed: OnMissed::Drop };
            return if self.needs_zone { Err(closed) } else { Ok(()) };
        };
        let clock = WallClock::new(zone, &self.calendars);
        let closed: Vec<_> = self.rules.iter().filter(|rule| !clock.open(&rule.hours, at)).collect();
        let drops = closed.iter().any(|rule| rule.on_missed == OnMissed::Drop);
        let reason: Box<str> = match closed.first() {
            Some(rule) => reason(rule),
            None if self.own.is_empty() || clock.open(&self.own, at) => return Ok(()),
            None => OWN_REASON.into(),
        };
        Err(Closed { reason, on_missed: if drops { OnMissed::Drop } else { OnMissed::Defer } })
    }

    /// Returns what each window that binds the job says at `at`; one answer where its zone is needed and unknown.
    pub fn each(&self, zone: Option<&TimeZone>, at: UnixMicros) -> Vec<Says> {
        if self.is_free() {
            return vec![];
        }
        let Some(zone) = zone else {
            let says = Says { reason: NO_ZONE_REASON.into(), on_missed: OnMissed::Drop, opens_at: None };
            return if self.needs_zone { vec![says] } else { vec![] };
        };
        let clock = WallClock::new(zone, &self.calendars);
        let says = |reason, on_missed, hours| Says { reason, on_missed, opens_at: clock.next(hours, at) };
        let rules = self.rules.iter().map(|rule| says(reason(rule), rule.on_missed, &rule.hours));
        let own = (!self.own.is_empty()).then(|| says(OWN_REASON.into(), OnMissed::Defer, &self.own));
        rules.chain(own).collect()
    }

    /// Returns the first moment from `from` on at which the job may leave; `None` if there is none in more than a year,
    /// or its zone is needed and unknown.
    pub fn next(&self, zone: Option<&TimeZone>, from: UnixMicros) -> Option<UnixMicros> {
        if self.is_free() {
            return Some(from);
        }
        let Some(zone) = zone else { return (!self.needs_zone).then_some(from) };
        let clock = WallClock::new(zone, &self.calendars);
        let own = (!self.own.is_empty()).then_some(&self.own);
        earliest(from, |at| {
            let mut all = self.rules.iter().map(|rule| &rule.hours).chain(own);
            all.try_fold(at, |at, hours| clock.next(hours, at))
        })
    }
}
