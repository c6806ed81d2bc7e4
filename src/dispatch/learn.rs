//! What a provider is believed to carry: a rate that halves when it throttles and grows back while it does not.
//! Additive increase, multiplicative decrease. Pure: time is an argument.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::domain::rate::Rate;
use crate::domain::time::UnixMicros;

/// After a throttle reply nothing is sent for this long, and further replies within it do not halve again: they answer
/// what was sent before.
const HOLD: Duration = Duration::from_secs(1);
/// Each second without a throttle reply gives back this part of the ceiling, or of the fastest second before a throttle
/// reply where none is set: full speed again after 20 s.
const GROWTH_PARTS: u32 = 20;

/// The learned rate of one provider on one node.
#[derive(Clone, Debug)]
pub(super) struct Learned {
    ceiling: Option<Rate>,
    /// `None`: at the ceiling, or without any limit where there is none.
    current: Option<u32>,
    /// The busiest second that ended in a throttle reply.
    peak: u32,
    hold_until: UnixMicros,
    grown_at: UnixMicros,
    second: UnixMicros,
    sent_this_second: u32,
    sent_last_second: u32,
}

// === impl Learned ===

impl Learned {
    /// Returns a rate that starts at its ceiling; without one, unlimited until the provider throttles.
    pub(super) fn new(ceiling: Option<Rate>, now: UnixMicros) -> Self {
        Self {
            ceiling,
            current: None,
            peak: 0,
            hold_until: UnixMicros(i64::MIN),
            grown_at: now,
            second: now,
            sent_this_second: 0,
            sent_last_second: 0,
        }
    }

    /// Returns the rate to send at now; `None`: no limit.
    pub(super) fn rate(&self) -> Option<Rate> {
        match (self.current.and_then(NonZeroU32::new), self.ceiling) {
            (None, ceiling) => ceiling,
            (Some(per_s), None) => Some(Rate::per_second(per_s)),
            (Some(per_s), Some(ceiling)) => {
                // The burst shrinks with the rate: a halved rate must not start with a full burst.
                let burst = u64::from(ceiling.burst.get()) * u64::from(per_s.get()) / u64::from(ceiling.per_s.get());
                let burst = u32::try_from(burst).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN);
                Some(Rate { per_s, burst })
            }
        }
    }

    /// Returns until when nothing may be sent, if that is after `now`.
    pub(super) fn holding(&self, now: UnixMicros) -> Option<UnixMicros> {
        (self.hold_until > now).then_some(self.hold_until)
    }

    /// Notes that `units` are being sent, and grows what has not been throttled lately.
    pub(super) fn sending(&mut self, units: u32, now: UnixMicros) {
        if now.since(self.second) >= Duration::from_secs(1) {
            (self.second, self.sent_last_second, self.sent_this_second) = (now, self.sent_this_second, 0);
        }
        self.sent_this_second = self.sent_this_second.saturating_add(units);
        self.grow(now);
    }

    /// Notes a throttle reply.
    pub(super) fn throttled(&mut self, retry_after: Option<Duration>, now: UnixMicros) {
        let hold = retry_after.unwrap_or(HOLD);
        if self.holding(now).is_some() {
            self.hold_until = self.hold_until.max(now.plus(retry_after.unwrap_or_default()));
            return;
        }
        let busy = self.sent_last_second.max(self.sent_this_second);
        self.peak = self.peak.max(busy);
        let current = self.current.or_else(|| Some(self.ceiling?.per_s.get())).unwrap_or(busy);
        self.current = Some((current / 2).max(1));
        self.hold_until = now.plus(hold);
        self.grown_at = self.hold_until;
    }

    fn grow(&mut self, now: UnixMicros) {
        let Some(current) = self.current else { return };
        let seconds = u32::try_from(now.since(self.grown_at).as_secs()).unwrap_or(u32::MAX);
        if seconds == 0 {
            return;
        }
        self.grown_at = self.grown_at.plus(Duration::from_secs(u64::from(seconds)));
        let full = self.ceiling.map_or(self.peak, |ceiling| ceiling.per_s.get());
        let step = (full / GROWTH_PARTS).max(1);
        let grown = current.saturating_add(step.saturating_mul(seconds));
        self.current = match self.ceiling {
            Some(ceiling) if grown >= ceiling.per_s.get() => None,
            Some(_) | None => Some(grown),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMicros {
        UnixMicros::from_millis(millis)
    }

    fn per_s(learned: &Learned) -> Option<u32> {
        learned.rate().map(|rate| rate.per_s.get())
    }

    #[test]
    fn a_throttle_reply_halves_once_and_time_gives_it_back() {
        let mut learned = Learned::new(Some("1000/s".parse().unwrap()), at(0));
        learned.throttled(None, at(100));
        learned.throttled(None, at(200)); // Answers what was sent before the first reply.
        assert_eq!(per_s(&learned), Some(500));
        assert_eq!(learned.holding(at(200)), Some(at(1_100)));
        assert_eq!(learned.holding(at(1_100)), None);
        learned.sending(1, at(3_100));
        assert_eq!(per_s(&learned), Some(600));
        learned.sending(1, at(60_000));
        assert_eq!(per_s(&learned), Some(1000));
    }

    #[test]
    fn without_a_ceiling_the_first_reply_teaches_one() {
        let mut learned = Learned::new(None, at(0));
        assert_eq!(learned.rate(), None);
        learned.sending(300, at(0));
        learned.throttled(None, at(500));
        assert_eq!(per_s(&learned), Some(150));
        learned.sending(1, at(3_500));
        assert_eq!(per_s(&learned), Some(150 + 2 * 300 / GROWTH_PARTS));
    }

    #[test]
    fn a_rate_never_falls_below_one_and_its_burst_shrinks_with_it() {
        let mut learned = Learned::new(Some("4/s:40".parse().unwrap()), at(0));
        for second in 0..10 {
            learned.throttled(None, at(second * 1_001));
        }
        assert_eq!(learned.rate().unwrap().to_string(), "1/s:10");
    }
}
