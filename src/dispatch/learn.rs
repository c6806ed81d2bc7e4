//! What a provider is believed to carry: a rate that falls by what the provider throttles and grows back while it does
//! not. Judged second by second. Pure: time is an argument.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::domain::rate::Rate;
use crate::domain::time::UnixMicros;

/// How long replies are counted before they are judged.
const SECOND: Duration = Duration::from_secs(1);
/// Where half of what was sent is throttled, nothing is sent for this long, unless the provider says for how long.
/// Further replies within it answer what was sent before, and do not count.
const HOLD: Duration = Duration::from_secs(1);
/// So many throttle replies are judged at once, without waiting for the end of the second.
const MANY: u32 = 8;
/// Providers throttle a little at any rate: one reply in so many does not change it.
const NOISE_PARTS: u32 = 20;
/// Each second without more throttle replies than that gives back this part of the ceiling, or of the fastest second
/// before a throttle reply where none is set: full speed again after 20 s.
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
    second: UnixMicros,
    sent_this_second: u32,
    sent_last_second: u32,
    throttled_this_second: u32,
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
            second: now,
            sent_this_second: 0,
            sent_last_second: 0,
            throttled_this_second: 0,
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

    /// Notes that `units` are being sent.
    pub(super) fn sending(&mut self, units: u32, now: UnixMicros) {
        self.judge_seconds(now);
        self.sent_this_second = self.sent_this_second.saturating_add(units);
    }

    /// Notes a throttle reply.
    pub(super) fn throttled(&mut self, retry_after: Option<Duration>, now: UnixMicros) {
        if let Some(retry_after) = retry_after {
            self.hold_until = self.hold_until.max(now.plus(retry_after));
        } else if self.holding(now).is_some() {
            return;
        }
        self.judge_seconds(now);
        self.throttled_this_second = self.throttled_this_second.saturating_add(1);
        if self.throttled_this_second >= MANY && self.throttled_by_half() {
            self.slow_down(now);
        }
    }

    /// Judges the seconds that have ended.
    fn judge_seconds(&mut self, now: UnixMicros) {
        let seconds = u32::try_from(now.since(self.second).as_secs()).unwrap_or(u32::MAX);
        if seconds == 0 {
            return;
        }
        let quiet = if self.throttled_this_second.saturating_mul(NOISE_PARTS) > self.busy() {
            self.slow_down(now);
            seconds - 1
        } else {
            seconds
        };
        self.grow(quiet);
        let last = if seconds == 1 { self.sent_this_second } else { 0 };
        (self.sent_last_second, self.sent_this_second, self.throttled_this_second) = (last, 0, 0);
        self.second = self.second.plus(SECOND * seconds);
    }

    /// Takes off what was throttled; holds where that is half of what was sent.
    fn slow_down(&mut self, now: UnixMicros) {
        let busy = self.busy().max(1);
        self.peak = self.peak.max(busy);
        let current = self.current.or_else(|| Some(self.ceiling?.per_s.get())).unwrap_or(busy);
        let throttled = self.throttled_this_second.min(busy / 2 + 1);
        let off = u64::from(current) * u64::from(throttled) / u64::from(busy);
        let off = u32::try_from(off).unwrap_or(u32::MAX).clamp(1, current.div_ceil(2));
        self.current = Some(current.saturating_sub(off).max(1));
        if self.throttled_by_half() {
            self.hold_until = self.hold_until.max(now.plus(HOLD));
        }
        self.throttled_this_second = 0;
    }

    /// Returns what was sent within a second lately: a reply may belong to the second before.
    fn busy(&self) -> u32 {
        self.sent_this_second.max(self.sent_last_second)
    }

    fn throttled_by_half(&self) -> bool {
        self.throttled_this_second.saturating_mul(2) >= self.busy()
    }

    fn grow(&mut self, seconds: u32) {
        let Some(current) = self.current else { return };
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

    /// Sends at the learned rate to a provider that takes `takes` a second, and throttles one in `noise` of what it takes
    /// (0: none); returns what it took in each second.
    fn carried(learned: &mut Learned, takes: u32, noise: u32, seconds: i64) -> Vec<u32> {
        let mut number = 0_u32;
        let second = |second: i64| {
            let mut taken = 0;
            for slot in 0..100_u32 {
                let now = at(second * 1_000 + i64::from(slot) * 10);
                if learned.holding(now).is_some() {
                    continue;
                }
                let rate = per_s(learned).unwrap_or(1_000);
                for _ in slot * rate / 100..(slot + 1) * rate / 100 {
                    learned.sending(1, now);
                    number += 1;
                    if taken >= takes || (noise > 0 && number.is_multiple_of(noise)) {
                        learned.throttled(None, now);
                    } else {
                        taken += 1;
                    }
                }
            }
            taken
        };
        (0..seconds).map(second).collect()
    }

    #[test]
    fn a_little_throttling_costs_nothing_else() {
        let mut learned = Learned::new(Some("1000/s".parse().unwrap()), at(0));
        let carried = carried(&mut learned, u32::MAX, 50, 60);
        assert!(carried.iter().all(|&jobs| jobs >= 970), "{carried:?}");
    }

    #[test]
    fn a_provider_that_takes_half_gets_half() {
        let mut learned = Learned::new(Some("1000/s".parse().unwrap()), at(0));
        let carried = carried(&mut learned, 500, 0, 60);
        let settled = &carried[10..];
        assert!(settled.iter().filter(|&&jobs| jobs >= 450).count() >= settled.len() * 9 / 10, "{carried:?}");
        assert!(per_s(&learned).unwrap() <= 600);
    }

    #[test]
    fn where_most_is_throttled_nothing_is_sent_for_a_while_and_time_gives_the_rate_back() {
        let mut learned = Learned::new(Some("1000/s".parse().unwrap()), at(0));
        learned.sending(MANY, at(100));
        for reply in 0..i64::from(MANY) {
            assert_eq!(learned.holding(at(100 + reply)), None);
            learned.throttled(None, at(100 + reply));
        }
        learned.throttled(None, at(200)); // Answers what was sent before the hold.
        assert_eq!(per_s(&learned), Some(500));
        assert_eq!(learned.holding(at(200)), Some(at(107 + 1_000)));
        assert_eq!(learned.holding(at(1_107)), None);
        learned.sending(1, at(3_100));
        assert_eq!(per_s(&learned), Some(650));
        learned.sending(1, at(60_000));
        assert_eq!(per_s(&learned), Some(1000));
    }

    #[test]
    fn a_slow_sender_is_judged_at_the_end_of_its_second() {
        let mut learned = Learned::new(Some("2/s".parse().unwrap()), at(0));
        learned.sending(1, at(0));
        learned.throttled(None, at(20));
        assert_eq!(learned.holding(at(30)), None);
        learned.sending(0, at(1_000));
        assert_eq!((per_s(&learned), learned.holding(at(1_000))), (Some(1), Some(at(2_000))));
    }

    #[test]
    fn a_provider_that_says_how_long_is_believed() {
        let mut learned = Learned::new(Some("1000/s".parse().unwrap()), at(0));
        learned.sending(500, at(0));
        learned.throttled(Some(Duration::from_secs(7)), at(10));
        assert_eq!(learned.holding(at(20)), Some(at(7_010)));
        assert_eq!(per_s(&learned), Some(1000));
    }

    #[test]
    fn without_a_ceiling_the_first_replies_teach_one() {
        let mut learned = Learned::new(None, at(0));
        assert_eq!(learned.rate(), None);
        learned.sending(300, at(0));
        (0..100).for_each(|_| learned.throttled(None, at(500)));
        learned.sending(1, at(1_000));
        assert_eq!(per_s(&learned), Some(200));
        learned.sending(1, at(3_000));
        assert_eq!(per_s(&learned), Some(200 + 2 * 300 / GROWTH_PARTS));
    }

    #[test]
    fn a_rate_never_falls_below_one_and_its_burst_shrinks_with_it() {
        let mut learned = Learned::new(Some("4/s:40".parse().unwrap()), at(0));
        for second in 0..20 {
            learned.sending(1, at(second * 2_001));
            learned.throttled(None, at(second * 2_001));
            let rate = learned.rate().unwrap();
            assert_eq!(rate.burst.get(), rate.per_s.get() * 10);
        }
        assert!(per_s(&learned).unwrap() < 4);
    }
}
