//! How late jobs were handed over, by load and over time, and when cancellations took effect.

use std::collections::BTreeMap;
use std::ops::Range;

use postrider::domain::time::UnixMicros;
use serde::Serialize;

use super::peer::Sink;
use super::plot::{Chart, Series, Span};
use crate::generator::Schedule;
use crate::scenario::Scenario;
use crate::sink::Lag;

/// From when jobs were handed in, or due, to their hand-over.
#[derive(Clone, Default, Debug, Serialize)]
pub(crate) struct Lags {
    /// By load, over the whole run.
    pub(crate) whole: BTreeMap<String, Lag>,
    /// By part, then by load.
    pub(crate) parts: BTreeMap<String, BTreeMap<String, Lag>>,
    /// By part, of its calm seconds.
    pub(crate) calm: BTreeMap<String, Calm>,
    /// What became of cancellations.
    pub(crate) cancels: Vec<Cancelled>,
    /// By load and the second in which jobs were due.
    pub(crate) timeline: Vec<Lag>,
}

/// A part without the seconds in which the host gave much of the machine to others.
#[derive(Clone, Default, Debug, Serialize)]
pub(crate) struct Calm {
    /// Seconds that were calm.
    pub(crate) seconds: i64,
    /// All seconds of the part.
    pub(crate) of: i64,
    /// By load.
    pub(crate) lags: BTreeMap<String, Lag>,
}

/// A campaign that was cancelled.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Cancelled {
    pub(crate) load: String,
    /// How long the call took.
    pub(crate) call_s: f64,
    /// From its answer to the last hand-over; 0 where that came before.
    pub(crate) effective_s: f64,
    #[serde(skip)]
    pub(crate) answered_at: UnixMicros,
}

impl Lags {
    /// Asks the sink.
    pub(crate) async fn read(
        scenario: &Scenario,
        schedule: Schedule,
        mut cancels: Vec<Cancelled>,
        (sink, disturbed): (&mut Sink, &[Range<f64>]),
    ) -> std::io::Result<Self> {
        let named = |lags: Vec<Lag>| -> BTreeMap<String, Lag> {
            let name = |lag: &Lag| scenario.loads.get(lag.load).map_or_else(String::new, |load| load.name.clone());
            lags.into_iter().map(|lag| (name(&lag), lag)).collect()
        };
        let (mut parts, mut calm) = (BTreeMap::new(), BTreeMap::new());
        for name in scenario.part_names() {
            let second = |after| schedule.begin.plus(after).as_secs();
            let same = scenario.parts.iter().filter(|part| part.name == name);
            let stretches: Vec<_> = same.map(|part| second(part.from)..second(part.to)).collect();
            parts.insert(name.to_owned(), named(sink.lags_within(&stretches).await?));
            let seconds = calm_seconds(&stretches, disturbed);
            let lags = if seconds.is_empty() { vec![] } else { sink.lags_within(&seconds).await? };
            let [seconds, of] = [&seconds, &stretches].map(|of| of.iter().map(|one| one.end - one.start).sum());
            calm.insert(name.to_owned(), Calm { seconds, of, lags: named(lags) });
        }
        for cancel in &mut cancels {
            let last = sink.last(scenario.load(&cancel.load)).await?;
            cancel.effective_s = last.map_or(0.0, |last| last.since(cancel.answered_at).as_secs_f64());
        }
        let whole = named(sink.lags_within(std::slice::from_ref(&(0..i64::MAX))).await?);
        Ok(Self { whole, parts, calm, cancels, timeline: sink.lags().await? })
    }

    /// Returns the targets that are missed.
    pub(crate) fn missed(&self, scenario: &Scenario) -> Vec<String> {
        let targets = &scenario.targets;
        let mut missed = vec![];
        for (name, lag) in &self.whole {
            if let Some(max) = targets.lag_p99_ms_max.filter(|max| lag.p99_ms > *max) {
                missed
                    .push(format!("{:.0} ms p99 from due to hand-over of `{name}`, at most {max} wanted", lag.p99_ms));
            }
        }
        for cancel in &self.cancels {
            if let Some(max) = targets.cancel_s_max.filter(|max| cancel.effective_s > *max) {
                let (load, s) = (&cancel.load, cancel.effective_s);
                missed.push(format!(
                    "`{load}` was handed over for {s:.2} s after its cancellation, at most {max} wanted"
                ));
            }
        }
        for steady in &targets.steady {
            let p99 = |part: &str| self.parts.get(part)?.get(&steady.load).map(|lag| lag.p99_ms);
            let mut p99s = scenario.part_names().into_iter().map(p99);
            let (Some(Some(before)), Some(Some(after))) = (p99s.next(), p99s.next()) else {
                missed.push(format!("`{}` was not measured in both parts", steady.load));
                continue;
            };
            let most = (before * steady.factor).max(before + steady.or_ms);
            if after > most {
                let load = &steady.load;
                missed
                    .push(format!("p99 of `{load}` rose from {before:.1} to {after:.1} ms, at most {most:.1} wanted"));
            }
        }
        missed
    }

    /// Returns a chart of a percentile over time.
    pub(super) fn chart(&self, scenario: &Scenario, begin: i64, title: &str, of: fn(&Lag) -> f64) -> Chart {
        let series = |(number, load): (usize, &crate::scenario::Load)| Series {
            name: load.name.clone(),
            points: self
                .timeline
                .iter()
                .filter(|lag| lag.load == number)
                .map(|lag| ((lag.second - begin) as f64, of(lag)))
                .collect(),
        };
        let series = scenario.loads.iter().enumerate().map(series).collect();
        Chart { title: title.to_owned(), unit: "ms", log: true, series }
    }
}

/// Returns the seconds of stretches that no disturbance touches.
fn calm_seconds(stretches: &[Range<i64>], disturbed: &[Range<f64>]) -> Vec<Range<i64>> {
    let touches = |second: i64, other: &Range<f64>| other.start < (second + 1) as f64 && (second as f64) < other.end;
    let calm = |second: &i64| !disturbed.iter().any(|other| touches(*second, other));
    stretches.iter().cloned().flatten().filter(calm).map(|second| second..second + 1).collect()
}

/// Returns the parts as they are shaded, in seconds after the measured time began.
pub(super) fn spans(scenario: &Scenario) -> Vec<Span> {
    let warmup = scenario.warmup.as_secs_f64();
    let span = |part: &crate::scenario::Part| Span {
        name: part.name.clone(),
        from: part.from.as_secs_f64() - warmup,
        to: part.to.as_secs_f64() - warmup,
    };
    scenario.parts.iter().map(span).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_second_is_calm_that_no_disturbance_touches() {
        let calm = |disturbed: &[Range<f64>]| -> Vec<i64> {
            calm_seconds(&[10..13, 20..22], disturbed).iter().map(|second| second.start).collect()
        };
        assert_eq!(calm(&[]), [10, 11, 12, 20, 21]);
        assert_eq!(calm(&[10.3..11.3]), [12, 20, 21]);
        assert_eq!(calm(&[9.0..10.0, 13.0..20.0, 21.9..22.9]), [10, 11, 12, 20]);
    }

    #[test]
    fn loads_are_compared_by_all_seconds() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/load-tests/scenarios/urgent-production.toml");
        let scenario = Scenario::read(Path::new(path)).unwrap();
        let lag = |p99_ms| BTreeMap::from([("codes".to_owned(), Lag { p99_ms, ..Lag::default() })]);
        let missed = |beside| {
            let mut lags = Lags::default();
            for (part, p99) in [("alone", 8.0), ("beside", beside)] {
                lags.parts.insert(part.to_owned(), lag(p99));
                lags.calm.insert(part.to_owned(), Calm { seconds: 26, of: 26, lags: lag(1.0) });
            }
            lags.missed(&scenario)
        };
        assert_eq!(missed(12.9), <[String; 0]>::default());
        assert_eq!(missed(13.1), ["p99 of `codes` rose from 8.0 to 13.1 ms, at most 13.0 wanted"]);
        assert_eq!(Lags::default().missed(&scenario), ["`codes` was not measured in both parts"]);
    }
}
