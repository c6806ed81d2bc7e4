//! Phone calls: the trunk's lines, looked at many times a second, and what calls came to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use comfy_table::Table;
use postrider::domain::time::Clock;
use postrider::shutdown::Tasks;
use postrider::telemetry::metrics as names;
use serde::Serialize;

use super::plot::{Chart, Series};
use super::scrape::Metrics;
use super::watch::Watch;
use crate::generator::Schedule;
use crate::scenario::{Targets, Trunk};

/// How often lines are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A job that follows from a call is late when it is accepted this many seconds after the call asked for it.
const LATE_S: f64 = 1.0;

/// Looks at the lines for as long as the service answers.
#[derive(Clone, Default)]
pub(crate) struct Lines {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    looks: u64,
    most: u32,
    /// Of the measured time: looks, and lines in use over all of them.
    measured: (u64, u64),
    /// The most in each second after the measured time began.
    timeline: BTreeMap<i64, u32>,
}

/// What phone calls came to, over the whole run where nothing else is said.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Calls {
    /// Lines that the trunk has.
    lines: u32,
    /// Most lines in use at any look, and how often was looked.
    lines_most: u32,
    looks: u64,
    /// Part of the lines that was in use on average, in the measured time.
    lines_busy: f64,
    /// Calls that ended per second, in the measured time.
    calls_per_s: f64,
    /// Calls by how they ended.
    results: BTreeMap<String, f64>,
    /// Part of the calls that somebody answered.
    answer_seizure_ratio: f64,
    /// How long was talked in those, on average.
    average_call_s: f64,
    /// Texts that followed while somebody was on the line.
    follow_ups: u64,
    /// From when the call asked for them to their acceptance: within so long for half of them, and for 99 of 100.
    follow_up_p50_s: f64,
    follow_up_p99_s: f64,
    /// Those that took longer than a second.
    follow_ups_late: u64,
    /// Lines in use, the most in each second of the run.
    timeline: Vec<(f64, f64)>,
}

// === impl Lines ===

impl Lines {
    /// Begins to look.
    pub(crate) fn watch(at: SocketAddr, schedule: Schedule, tasks: &Tasks) -> Self {
        let (lines, clock) = (Self::default(), Clock::system());
        let seen = lines.clone();
        tasks.spawn("lines", async move {
            loop {
                clock.pause(LOOK_EVERY).await;
                // A service that is busy, or ends, is asked again: nothing else waits for this.
                let Ok(metrics) = Metrics::scrape(at).await else { continue };
                let (now, used) = (clock.now(), metrics.sum(names::CALLS_IN_PROGRESS) as u32);
                let second = (now.0 - schedule.measure.0).div_euclid(1_000_000);
                seen.seen().note(used, second, schedule.measures(now));
            }
        });
        lines
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Notes that a panic left half are as good as none.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn note(&mut self, used: u32, second: i64, measured: bool) {
        self.looks += 1;
        self.most = self.most.max(used);
        if measured {
            self.measured = (self.measured.0 + 1, self.measured.1 + u64::from(used));
        }
        let most = self.timeline.entry(second).or_default();
        *most = used.max(*most);
    }
}

// === impl Calls ===

impl Calls {
    /// Returns what calls over `trunk` came to.
    pub(crate) fn new(trunk: &Trunk, lines: &Lines, watch: &Watch, measured_s: f64) -> Self {
        let (seen, last) = (lines.seen(), &watch.last.metrics);
        let results = last.by(names::CALL_RESULTS, "result");
        let all: f64 = results.values().sum();
        let answered: f64 = ["completed", "machine"].iter().filter_map(|result| results.get(*result)).sum();
        let talked = |part: &str| last.sum(&format!("{}_{part}", names::CALL_TALK_SECONDS));
        let ended = |mark: &super::watch::Mark| mark.metrics.sum(names::CALL_RESULTS);
        let follow_ups = last.buckets(names::CALL_FOLLOW_UP_SECONDS);
        let followed = follow_ups.last().map_or(0.0, |(_, count)| *count);
        let in_time = follow_ups.iter().find(|(within, _)| *within >= LATE_S).map_or(0.0, |(_, count)| *count);
        let quantile = |part: f64| {
            let reached = follow_ups.iter().find(|(_, count)| *count >= followed * part);
            reached.map_or(0.0, |(within, _)| *within)
        };
        Self {
            lines: trunk.lines,
            lines_most: seen.most,
            looks: seen.looks,
            lines_busy: seen.measured.1 as f64 / (seen.measured.0.max(1) as f64 * f64::from(trunk.lines)),
            calls_per_s: (ended(&watch.to) - ended(&watch.from)) / measured_s,
            answer_seizure_ratio: answered / all.max(1.0),
            average_call_s: talked("sum") / talked("count").max(1.0),
            results,
            follow_ups: followed as u64,
            follow_up_p50_s: quantile(0.5),
            follow_up_p99_s: quantile(0.99),
            follow_ups_late: (followed - in_time) as u64,
            timeline: seen.timeline.iter().map(|(&second, &most)| (second as f64, f64::from(most))).collect(),
        }
    }

    /// Returns what must never be, in words.
    pub(crate) fn faults(&self) -> Vec<String> {
        let over = format!("{} of {} lines were in use", self.lines_most, self.lines);
        if self.lines_most > self.lines { vec![over] } else { vec![] }
    }

    /// Returns the targets that are missed.
    pub(crate) fn missed(&self, targets: &Targets) -> Vec<String> {
        let mut missed = vec![];
        if let Some(min) = targets.lines_busy_min.filter(|min| self.lines_busy < *min) {
            missed.push(format!(
                "lines were {:.1} % busy, at least {:.1} wanted",
                self.lines_busy * 100.0,
                min * 100.0
            ));
        }
        if let Some(max) = targets.follow_ups_late_max.filter(|max| self.follow_ups_late > *max) {
            let late = self.follow_ups_late;
            missed.push(format!("{late} texts were accepted more than {LATE_S} s after the key, at most {max} wanted"));
        }
        missed
    }

    /// Returns the tables of a result.
    pub(crate) fn tables(&self) -> [Table; 2] {
        let mut lines = super::report::table([
            "calls/s",
            "lines",
            "most in use",
            "looks",
            "busy",
            "answer-seizure ratio",
            "average call",
            "texts",
            "p50 within",
            "p99",
            "late",
        ]);
        lines.add_row([
            format!("{:.1}", self.calls_per_s),
            self.lines.to_string(),
            self.lines_most.to_string(),
            self.looks.to_string(),
            format!("{:.1} %", self.lines_busy * 100.0),
            format!("{:.1} %", self.answer_seizure_ratio * 100.0),
            format!("{:.1} s", self.average_call_s),
            self.follow_ups.to_string(),
            format!("{} s", self.follow_up_p50_s),
            format!("{} s", self.follow_up_p99_s),
            self.follow_ups_late.to_string(),
        ]);
        let mut results = super::report::table(["calls that ended", "calls"]);
        for (result, calls) in &self.results {
            results.add_row([result.clone(), format!("{calls:.0}")]);
        }
        [lines, results]
    }

    /// Returns the chart of lines in use.
    pub(super) fn chart(&self) -> Chart {
        let ends = [self.timeline.first(), self.timeline.last()].into_iter().flatten();
        let limit = ends.map(|(second, _)| (*second, f64::from(self.lines))).collect();
        let series = [("in use, most", self.timeline.clone()), ("limit", limit)];
        let series = series.map(|(name, points)| Series { name: name.to_owned(), points }).into();
        Chart { title: "lines of the trunk".to_owned(), unit: "", log: false, series }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_lines_than_there_are_is_a_fault_and_a_late_text_a_miss() {
        let mut calls = Calls {
            lines: 5,
            lines_most: 5,
            looks: 10,
            lines_busy: 0.9,
            calls_per_s: 1.0,
            results: BTreeMap::new(),
            answer_seizure_ratio: 0.6,
            average_call_s: 7.0,
            follow_ups: 3,
            follow_up_p50_s: 0.01,
            follow_up_p99_s: 2.0,
            follow_ups_late: 1,
            timeline: vec![(0.0, 5.0)],
        };
        assert_eq!(calls.faults(), Vec::<String>::new());
        calls.lines_most = 6;
        assert_eq!(calls.faults(), ["6 of 5 lines were in use"]);
        let targets = Targets { lines_busy_min: Some(0.95), follow_ups_late_max: Some(0), ..Targets::default() };
        assert_eq!(calls.missed(&targets).len(), 2);
        assert_eq!(calls.missed(&Targets::default()), Vec::<String>::new());
        let mut seen = Seen::default();
        [(2, 0, false), (4, 1, true), (3, 1, true)]
            .into_iter()
            .for_each(|(used, s, measured)| seen.note(used, s, measured));
        assert_eq!((seen.most, seen.measured, seen.timeline[&1]), (4, (2, 7), 4));
    }
}
