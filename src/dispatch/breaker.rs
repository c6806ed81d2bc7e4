//! Whether work flows to a provider: not while most of what it is given fails. Pure: time and chance are arguments.
//!
//! Only answers that blame the provider count as failures: no connection, an error of its own, no answer. A refusal and a
//! throttle reply prove that it lives; what throttling means for its rate is learned elsewhere. A provider that says that
//! its account takes nothing is believed at once, until the time that it says.

use std::time::Duration;

use crate::domain::time::UnixMicros;
use crate::telemetry::metrics::Breaker as Shown;

/// So many failures in a row open it, however few jobs there are.
const IN_A_ROW: u32 = 10;
/// Answers are judged over this long.
const STRETCH: Duration = Duration::from_secs(10);
/// Fewer answers than this in a stretch say nothing about a share.
const ANSWERS_MIN: u32 = 20;
/// One failure in so many answers opens it.
const FAILED_PARTS: u32 = 2;
/// How long it stays open at first, on average; doubled each time a probe fails.
const OPEN_MIN: Duration = Duration::from_secs(2);
/// It is never open for longer than about this.
const OPEN_MAX: Duration = Duration::from_secs(60);
/// So many probes in a row must be answered before everything flows again.
const PROBES: u32 = 3;

/// The breaker of one provider on one node.
#[derive(Clone, Debug, Default)]
pub(super) struct Breaker {
    state: State,
    /// Failures since the last answer that was none.
    in_a_row: u32,
}

#[derive(Clone, Debug)]
enum State {
    /// Everything flows.
    Closed { since: UnixMicros, answers: u32, failures: u32 },
    /// Nothing flows.
    Open { until: UnixMicros, length: Duration },
    /// One hand-over at a time tries whether it works again.
    HalfOpen { probing: bool, answered: u32, length: Duration },
}

/// How work may flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flow {
    /// Freely.
    Free,
    /// One job, to try. Whoever takes it says [`Breaker::probed`] when it is over.
    Probe,
    /// Not before then.
    Not(UnixMicros),
    /// Not while a probe is on its way.
    Wait,
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { since: UnixMicros(i64::MIN), answers: 0, failures: 0 }
    }
}

// === impl Breaker ===

impl Breaker {
    /// Returns how work may flow now.
    pub(super) fn flow(&self, now: UnixMicros) -> Flow {
        match self.state {
            State::Closed { .. } => Flow::Free,
            State::Open { until, .. } if until > now => Flow::Not(until),
            State::Open { .. } | State::HalfOpen { probing: false, .. } => Flow::Probe,
            State::HalfOpen { probing: true, .. } => Flow::Wait,
        }
    }

    /// Notes that a probe is on its way; returns whether it may be: another one may have been first.
    pub(super) fn probe(&mut self, now: UnixMicros) -> bool {
        if self.flow(now) != Flow::Probe {
            return false;
        }
        let (answered, length) = match self.state {
            State::HalfOpen { answered, length, .. } => (answered, length),
            State::Open { length, .. } => (0, length),
            State::Closed { .. } => return false,
        };
        self.state = State::HalfOpen { probing: true, answered, length };
        true
    }

    /// Notes that a probe is over, with or without an answer.
    pub(super) fn probed(&mut self) {
        if let State::HalfOpen { probing, .. } = &mut self.state {
            *probing = false;
        }
    }

    /// Notes an answer that proves the provider to work.
    pub(super) fn worked(&mut self, now: UnixMicros) {
        self.in_a_row = 0;
        self.turn(now);
        match &mut self.state {
            State::Closed { answers, .. } => *answers = answers.saturating_add(1),
            State::HalfOpen { answered, .. } if *answered + 1 < PROBES => *answered += 1,
            State::HalfOpen { .. } => self.state = State::Closed { since: now, answers: 0, failures: 0 },
            // The answer to what was sent before it opened.
            State::Open { .. } => {}
        }
    }

    /// Notes a failure; `chance` in 0..1 spreads when it is tried again.
    pub(super) fn failed(&mut self, now: UnixMicros, chance: f64) {
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.turn(now);
        let length = match &mut self.state {
            State::Closed { answers, failures, .. } => {
                *answers = answers.saturating_add(1);
                *failures = failures.saturating_add(1);
                let share = *answers >= ANSWERS_MIN && failures.saturating_mul(FAILED_PARTS) >= *answers;
                if self.in_a_row < IN_A_ROW && !share {
                    return;
                }
                OPEN_MIN
            }
            State::HalfOpen { length, .. } => length.saturating_mul(2).min(OPEN_MAX),
            State::Open { .. } => return,
        };
        let until = now.plus(length.mul_f64(0.75 + chance.clamp(0.0, 1.0) / 2.0));
        self.state = State::Open { until, length };
    }

    /// Opens it until then: the provider has said that nothing goes.
    pub(super) fn shut(&mut self, until: UnixMicros) {
        let until = match self.state {
            State::Open { until: already, .. } => already.max(until),
            State::Closed { .. } | State::HalfOpen { .. } => until,
        };
        self.state = State::Open { until, length: OPEN_MIN };
    }

    /// Returns the state for the metrics and the API.
    pub(super) fn shown(&self, now: UnixMicros) -> Shown {
        match self.flow(now) {
            Flow::Free => Shown::Closed,
            Flow::Probe | Flow::Wait => Shown::HalfOpen,
            Flow::Not(_) => Shown::Open,
        }
    }

    /// Begins the next stretch when one is over.
    fn turn(&mut self, now: UnixMicros) {
        if let State::Closed { since, answers, failures } = &mut self.state
            && now.since(*since) >= STRETCH
        {
            (*since, *answers, *failures) = (now, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> UnixMicros {
        UnixMicros::from_millis(millis)
    }

    #[test]
    fn failures_in_a_row_open_it_and_any_answer_breaks_the_row() {
        let mut breaker = Breaker::default();
        for _ in 1..IN_A_ROW {
            breaker.failed(at(0), 0.5);
        }
        assert_eq!(breaker.shown(at(0)), Shown::Closed);
        breaker.worked(at(0));
        breaker.failed(at(0), 0.5);
        assert_eq!(breaker.flow(at(0)), Flow::Free, "ten of eleven say nothing yet");
        for _ in 1..IN_A_ROW {
            breaker.failed(at(0), 0.5);
        }
        assert_eq!((breaker.flow(at(0)), breaker.shown(at(0))), (Flow::Not(at(2_000)), Shown::Open));
    }

    #[test]
    fn half_of_the_answers_failing_opens_it_and_fewer_never_do() {
        let run = |fails: fn(u32) -> bool| {
            let mut breaker = Breaker::default();
            for number in 0..2_000_u32 {
                let now = at(i64::from(number) * 20);
                if fails(number) { breaker.failed(now, 0.5) } else { breaker.worked(now) }
            }
            breaker.shown(at(40_000))
        };
        assert_eq!(run(|number| number % 3 == 0), Shown::Closed);
        assert_ne!(run(|number| number % 2 == 0), Shown::Closed);
    }

    #[test]
    fn one_probe_at_a_time_closes_it_again_and_a_failed_one_doubles_the_wait() {
        let mut breaker = Breaker::default();
        let mut now = at(0);
        (0..IN_A_ROW).for_each(|_| breaker.failed(now, 0.5));
        for secs in [2, 4, 8, 16, 32, 60, 60] {
            assert!(!breaker.probe(now), "it is open");
            now = now.plus(Duration::from_secs(secs));
            assert_eq!((breaker.flow(now), breaker.shown(now)), (Flow::Probe, Shown::HalfOpen));
            assert!(breaker.probe(now) && !breaker.probe(now));
            assert_eq!(breaker.flow(now), Flow::Wait);
            breaker.failed(now, 0.5);
            breaker.probed();
        }
        now = now.plus(OPEN_MAX);
        for probe in 1..=PROBES {
            assert!(breaker.probe(now), "probe {probe}");
            breaker.worked(now);
            breaker.probed();
        }
        assert_eq!(breaker.flow(now), Flow::Free);
    }

    #[test]
    fn a_probe_that_is_not_sent_after_all_leaves_the_place_to_another() {
        let mut breaker = Breaker::default();
        (0..IN_A_ROW).for_each(|_| breaker.failed(at(0), 0.5));
        assert!(breaker.probe(at(5_000)));
        breaker.probed();
        assert!(breaker.probe(at(5_000)));
    }

    #[test]
    fn what_was_sent_before_it_opened_changes_nothing() {
        let mut breaker = Breaker::default();
        (0..IN_A_ROW).for_each(|_| breaker.failed(at(0), 0.5));
        let open = breaker.flow(at(0));
        breaker.worked(at(1));
        breaker.failed(at(1), 1.0);
        assert_eq!(breaker.flow(at(1)), open);
    }

    #[test]
    fn a_provider_that_says_that_nothing_goes_is_believed_until_then_and_tried_one_by_one() {
        let mut breaker = Breaker::default();
        breaker.worked(at(0));
        breaker.shut(at(60_000));
        breaker.shut(at(50_000));
        breaker.worked(at(10)); // The answer to what was sent before.
        assert_eq!((breaker.flow(at(59_999)), breaker.shown(at(59_999))), (Flow::Not(at(60_000)), Shown::Open));
        assert!(breaker.probe(at(60_000)));
        breaker.shut(at(120_000));
        breaker.probed();
        assert_eq!(breaker.flow(at(60_001)), Flow::Not(at(120_000)));
        for _ in 0..PROBES {
            assert!(breaker.probe(at(120_000)));
            breaker.worked(at(120_000));
            breaker.probed();
        }
        assert_eq!(breaker.flow(at(120_000)), Flow::Free);
    }

    #[test]
    fn it_is_tried_again_at_different_times() {
        for (chance, millis) in [(0.0, 1_500), (1.0, 2_500)] {
            let mut breaker = Breaker::default();
            (0..IN_A_ROW).for_each(|_| breaker.failed(at(0), chance));
            assert_eq!(breaker.flow(at(0)), Flow::Not(at(millis)));
        }
    }
}
