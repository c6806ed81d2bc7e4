//! Watches a run: every second how it stands, and what was used in the measured time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use postrider::domain::time::{Clock, UnixMicros};
use postrider::telemetry::metrics as names;
use serde::Serialize;

use super::account::Ledger;
use super::peer::Sink;
use super::processes::{Usage, Watched, stolen_s};
use super::scrape::Metrics;
use crate::generator::{LoadCounts, Schedule};

/// How a run stood at one moment.
#[derive(Clone, Copy, Default, Debug, Serialize)]
pub(crate) struct Sight {
    /// Seconds since the first call; the measured time begins at 0.
    pub(crate) second: f64,
    /// Jobs accepted so far.
    pub(crate) accepted: u64,
    /// Jobs handed over so far.
    pub(crate) handed_over: u64,
    /// Jobs that wait in the agenda.
    pub(crate) waiting: u64,
    /// Memory of the service.
    pub(crate) rss_mib: f64,
    /// Processors that the host gave to others although this machine had work, on average since the sight before.
    pub(crate) stolen_cores: f64,
}

/// What the host may give to others, as a part of all processors, for a second to count as calm.
const STOLEN_MAX: f64 = 0.05;

/// The beginning or the end of the measured time.
#[derive(Clone, Default, Debug)]
pub(crate) struct Mark {
    pub(crate) handed_over: u64,
    pub(crate) metrics: Metrics,
    pub(crate) usage: BTreeMap<String, Usage>,
}

/// What is seen of a run.
pub(crate) struct Watch {
    schedule: Schedule,
    counts: Vec<Arc<LoadCounts>>,
    metrics: SocketAddr,
    watched: Watched,
    clock: Clock,
    bar: ProgressBar,
    /// What the host had given to others at the last look.
    stolen_s: f64,
    /// One a second.
    pub(crate) timeline: Vec<Sight>,
    /// The beginning of the measured time.
    pub(crate) from: Mark,
    /// Its end.
    pub(crate) to: Mark,
    /// When everything was settled: metrics and peaks of the whole run.
    pub(crate) last: Mark,
}

impl Watch {
    pub(crate) fn new(schedule: Schedule, counts: &[Arc<LoadCounts>], metrics: SocketAddr, watched: Watched) -> Self {
        let bar = ProgressBar::new(schedule.end.since(schedule.begin).as_secs());
        let style = ProgressStyle::with_template("{elapsed_precise} {bar:30} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        let (timeline, from, to, last) = (vec![], Mark::default(), Mark::default(), Mark::default());
        Self {
            schedule,
            counts: counts.to_vec(),
            metrics,
            watched,
            clock: Clock::system(),
            bar,
            stolen_s: stolen_s(),
            timeline,
            from,
            to,
            last,
        }
    }

    /// Returns when the host gave much of the processors to others, in seconds since 1970.
    pub(crate) fn disturbed(&self) -> Vec<Range<f64>> {
        let most = STOLEN_MAX * std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        let measure = self.schedule.measure.0 as f64 / 1e6;
        let looks = self.timeline.iter().zip(self.timeline.iter().skip(1));
        let disturbed = looks.filter(|(_, sight)| sight.stolen_cores > most);
        disturbed.map(|(before, sight)| measure + before.second..measure + sight.second).collect()
    }

    /// Returns when the load ends.
    pub(crate) fn end(&self) -> UnixMicros {
        self.schedule.end
    }

    /// Watches until the load ends.
    pub(crate) async fn follow(&mut self, sink: &mut Sink) -> std::io::Result<()> {
        let Schedule { begin, measure, end } = self.schedule;
        let mut next = begin;
        loop {
            next = next.plus(Duration::from_secs(1));
            self.look_until(measure, next, sink).await?;
            self.look_until(end, next, sink).await?;
            if end <= next {
                return Ok(());
            }
            self.clock.sleep_until(next).await;
            self.look(sink).await?;
        }
    }

    /// Sets the mark at `moment` if that comes before `next`; late where the machine is too busy, but not never.
    async fn look_until(&mut self, moment: UnixMicros, next: UnixMicros, sink: &mut Sink) -> std::io::Result<()> {
        if moment <= next.minus(Duration::from_secs(1)) || next < moment {
            return Ok(());
        }
        self.clock.sleep_until(moment).await;
        let mark = Mark {
            handed_over: sink.stats().await?.taken,
            metrics: Metrics::scrape(self.metrics).await?,
            usage: self.watched.read(),
        };
        if moment == self.schedule.measure {
            self.from = mark;
        } else {
            self.to = mark;
        }
        Ok(())
    }

    async fn look(&mut self, sink: &mut Sink) -> std::io::Result<()> {
        let accepted = self.counts.iter().map(|counts| counts.read().accepted).sum();
        let handed_over = sink.stats().await?.taken;
        let rss_mib = self.watched.read().get("postrider").map_or(0.0, |usage| usage.rss_mib);
        let waiting = Metrics::scrape(self.metrics).await?.sum(names::AGENDA_DEPTH) as u64;
        let now = self.clock.now();
        let second = (now.0 - self.schedule.measure.0) as f64 / 1e6;
        let stolen_s = stolen_s();
        let before =
            self.timeline.last().copied().unwrap_or_else(|| Sight { second: second - 1.0, ..Sight::default() });
        let passed_s = (second - before.second).max(0.001);
        let stolen_cores = (stolen_s - self.stolen_s) / passed_s;
        self.stolen_s = stolen_s;
        self.timeline.push(Sight { second, accepted, handed_over, waiting, rss_mib, stolen_cores });
        self.bar.set_position(now.since(self.schedule.begin).as_secs());
        let per_s = |now: u64, then: u64| (now - then) as f64 / passed_s;
        self.bar.set_message(format!(
            "accepted {:.0}/s, handed over {:.0}/s, {} behind, {rss_mib:.0} MiB",
            per_s(accepted, before.accepted),
            per_s(handed_over, before.handed_over),
            accepted.saturating_sub(handed_over),
        ));
        Ok(())
    }

    /// Shows how settling goes, and notes it once a second.
    pub(crate) async fn settling(&mut self, ledger: &Ledger, waiting: u64, sink: &mut Sink) -> std::io::Result<()> {
        let seen = self.timeline.last().map_or(f64::MIN, |sight| sight.second);
        if (self.clock.now().0 - self.schedule.measure.0) as f64 / 1e6 >= seen + 1.0 {
            self.look(sink).await?;
        }
        let open = ledger.accepted.saturating_sub(ledger.settled + waiting);
        self.bar.set_message(format!("settling: {open} without outcome, {waiting} waiting"));
        Ok(())
    }

    /// Notes how it stands when nothing moves any more.
    pub(crate) fn finish(&mut self, metrics: Metrics) {
        self.last = Mark { handed_over: 0, metrics, usage: self.watched.read() };
        self.bar.finish_and_clear();
    }
}
