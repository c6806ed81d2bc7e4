//! May a job leave at this hour, and when may it next. Pure.

use super::ground::{Ground, Next};
use crate::domain::event::{Fate, Outcome};
use crate::domain::job::{Job, OnMissed, Shared};
use crate::domain::time::UnixMicros;
use crate::policy::windows::NO_ZONE_REASON;
use crate::policy::zones;

impl Ground {
    /// Returns what follows for a job that may not leave at `now`, because a window that binds it is closed.
    pub fn closed(&self, shared: &Shared, job: &Job, now: UnixMicros) -> Option<Next> {
        if self.windows.is_free() {
            return None;
        }
        let zone = zones::of(&job.recipient);
        let closed = self.windows.check(zone.as_ref(), now).err()?;
        if &*closed.reason == NO_ZONE_REASON {
            // A rule that came after the job was accepted.
            return Some(Next::Settle(Outcome::new(Fate::Suppressed, closed.reason)));
        }
        let expired = |reason| Some(Next::Settle(Outcome::new(Fate::Expired, reason)));
        if shared.on_missed == OnMissed::Drop || closed.on_missed == OnMissed::Drop {
            return expired(closed.reason);
        }
        match self.windows.next(zone.as_ref(), now) {
            Some(until) if until < shared.expires_at => {
                Some(Next::Defer { rule: closed.reason, until, open_at: until })
            }
            Some(_) | None => expired(closed.reason),
        }
    }

    /// Returns when a job goes that is put off until `until` and might go at `open_at` if not so many waited: the first
    /// moment after that its windows allow, or its outcome if there is none before it expires. A turn that comes too late
    /// for them gives way to the first opening.
    pub fn put_off(
        &self,
        shared: &Shared,
        job: &Job,
        (until, open_at): (UnixMicros, UnixMicros),
    ) -> Result<UnixMicros, Outcome> {
        self.legal(shared, job, until).or_else(|_| self.legal(shared, job, open_at))
    }

    /// Returns the first moment from `from` on at which a job that waits for something else may leave, or its outcome if
    /// there is none before it expires. Whatever has a place for it at `from` still has one later: caps open and stay
    /// open until somebody takes the place, and the claim asks again.
    pub fn legal(&self, shared: &Shared, job: &Job, from: UnixMicros) -> Result<UnixMicros, Outcome> {
        if self.windows.is_free() {
            return Ok(from);
        }
        let zone = zones::of(&job.recipient);
        let Err(closed) = self.windows.check(zone.as_ref(), from) else { return Ok(from) };
        let next = self.windows.next(zone.as_ref(), from);
        next.filter(|next| *next < shared.expires_at).ok_or_else(|| Outcome::new(Fate::Expired, closed.reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::JobId;
    use crate::domain::job::{Class, samples};
    use crate::domain::recipient::Recipient;
    use crate::domain::window::{Calendars, WindowRule};
    use crate::policy::windows::Windows;
    use crate::seal::Sealer;

    fn at(text: &str) -> UnixMicros {
        UnixMicros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond())
    }

    fn shared(on_missed: OnMissed) -> Shared {
        let from = samples::shared(Class::Marketing, UnixMicros(0));
        Shared { on_missed, expires_at: at("2026-06-03T00:00:00Z"), ..from }
    }

    fn job(number: &str) -> Job {
        let phone = Some(number.parse().unwrap());
        samples::job(JobId::new(UnixMicros(0), 1), Recipient { phone, ..Recipient::default() })
    }

    fn ground(shared: &Shared) -> Ground {
        let rule = WindowRule {
            name: "day".parse().unwrap(),
            classes: vec![],
            kinds: vec![],
            topics: vec![],
            senders: vec![],
            pools: vec![],
            hours: vec!["08:00-20:00".parse().unwrap()],
            on_missed: OnMissed::Defer,
        };
        let windows = Windows::new(vec![rule], Calendars::new());
        Ground::new(shared, (None, &[]), &windows, &Sealer::ephemeral().unwrap())
    }

    #[test]
    fn a_job_outside_its_window_waits_expires_or_is_dropped() {
        let defer = shared(OnMissed::Defer);
        let (china, unknown) = (job("+8613800000000"), job("+12025550100"));
        let (day, night) = (at("2026-06-01T10:00:00+08:00"), at("2026-06-01T20:00:00+08:00"));
        let until = at("2026-06-02T08:00:00+08:00");
        let settle = |fate, reason: &str| Some(Next::Settle(Outcome::new(fate, reason)));
        assert_eq!(ground(&defer).closed(&defer, &china, day), None);
        let next = ground(&defer).closed(&defer, &china, night);
        assert_eq!(next, Some(Next::Defer { rule: "window:day".into(), until, open_at: until }));
        assert_eq!(ground(&defer).closed(&defer, &unknown, day), settle(Fate::Suppressed, "zone_unknown"));
        let drop = shared(OnMissed::Drop);
        assert_eq!(ground(&drop).closed(&drop, &china, night), settle(Fate::Expired, "window:day"));
        let soon = Shared { expires_at: until, ..shared(OnMissed::Defer) };
        assert_eq!(ground(&soon).closed(&soon, &china, night), settle(Fate::Expired, "window:day"));
    }

    #[test]
    fn what_waits_for_a_cap_waits_for_the_window_too() {
        let (shared, china) = (shared(OnMissed::Defer), job("+8613800000000"));
        let ground = ground(&shared);
        let (day, night) = (at("2026-06-01T10:00:00+08:00"), at("2026-06-01T23:00:00+08:00"));
        assert_eq!(ground.legal(&shared, &china, day), Ok(day));
        assert_eq!(ground.legal(&shared, &china, night), Ok(at("2026-06-02T08:00:00+08:00")));
        let expired = Outcome::new(Fate::Expired, "window:day");
        assert_eq!(ground.legal(&shared, &china, at("2026-06-02T20:00:00+08:00")), Err(expired));
    }
}
