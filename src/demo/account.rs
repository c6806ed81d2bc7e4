//! What became of each accepted job, as the watch stream tells it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;
use hdrhistogram::Histogram;

use crate::domain::time::UnixMicros;
use crate::pb;

/// Every job that was accepted or heard of. Bounded by the demo's own traffic.
#[derive(Debug, Default)]
pub(super) struct Account {
    jobs: Mutex<HashMap<String, Seen>>,
    accepts: Mutex<Vec<Duration>>,
}

/// What is known of one job.
#[derive(Debug, Default)]
struct Seen {
    accepted_at: Option<UnixMicros>,
    due_at: Option<UnixMicros>,
    sent_at: Option<UnixMicros>,
    waits: bool,
    unresolved: bool,
    outcome: Option<(pb::Fate, String)>,
}

/// Numbers for the progress line.
#[derive(Debug, Default)]
pub(super) struct Live {
    pub(super) accepted: u64,
    pub(super) accounted: u64,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) waiting: u64,
}

/// Numbers for the table.
#[derive(Debug, Default)]
pub(super) struct Sums {
    pub(super) accepted: u64,
    pub(super) sent: u64,
    pub(super) deferred: u64,
    pub(super) unresolved: u64,
    /// By fate and reason.
    pub(super) outcomes: BTreeMap<(String, String), u64>,
    /// From the first accept to the last hand-over.
    pub(super) span: Duration,
    pub(super) accept: [Duration; 2],
    pub(super) accept_to_sent: [Duration; 2],
}

impl Account {
    /// Notes that a call that took `elapsed` accepted jobs, due at a time.
    pub(super) fn accepted(
        &self,
        ids: impl IntoIterator<Item = String>,
        now: UnixMicros,
        due_at: Option<UnixMicros>,
        elapsed: Duration,
    ) {
        let mut jobs = self.jobs();
        for id in ids {
            let seen = jobs.entry(id).or_default();
            seen.accepted_at = Some(now);
            seen.due_at = due_at;
        }
        drop(jobs);
        self.accepts.lock().unwrap_or_else(PoisonError::into_inner).push(elapsed);
    }

    /// Notes what the watch stream says.
    pub(super) fn event(&self, event: pb::Event, at: UnixMicros) {
        let Some(pb::event::What::StateChange(change)) = event.what else { return };
        let mut jobs = self.jobs();
        let seen = jobs.entry(event.job_id).or_default();
        match change.state() {
            pb::State::Scheduled => seen.waits = true,
            pb::State::Unresolved => seen.unresolved = true,
            pb::State::Sent | pb::State::Dialing => {
                seen.sent_at = seen.sent_at.or(Some(at));
                seen.waits = false;
            }
            _ => {}
        }
        if let Some(outcome) = change.outcome {
            seen.outcome.get_or_insert_with(|| (outcome.fate(), outcome.reason));
        }
    }

    /// Returns whether every accepted job has its outcome, or waits for a known reason.
    pub(super) fn settled(&self) -> bool {
        self.jobs().values().filter(|seen| seen.accepted_at.is_some()).all(Seen::accounted)
    }

    /// Returns how many accepted jobs have neither.
    pub(super) fn unaccounted(&self) -> usize {
        self.jobs().values().filter(|seen| seen.accepted_at.is_some() && !seen.accounted()).count()
    }

    /// Returns the numbers for the progress line.
    pub(super) fn live(&self) -> Live {
        let mut live = Live::default();
        for seen in self.jobs().values().filter(|seen| seen.accepted_at.is_some()) {
            let delivered = seen.outcome.as_ref().is_some_and(|(fate, _)| *fate == pb::Fate::Delivered);
            live.accepted += 1;
            live.accounted += u64::from(seen.accounted());
            live.sent += u64::from(seen.sent_at.is_some());
            live.delivered += u64::from(delivered);
            live.waiting += u64::from(seen.waits && seen.outcome.is_none());
        }
        live
    }

    /// Returns the numbers for the table.
    pub(super) fn sums(&self) -> Sums {
        let mut sums = Sums::default();
        let mut lags = Vec::new();
        let (mut first, mut last) = (UnixMicros::MAX, UnixMicros(0));
        for seen in self.jobs().values() {
            let Some(accepted_at) = seen.accepted_at else { continue };
            first = first.min(accepted_at);
            sums.accepted += 1;
            if let Some(sent_at) = seen.sent_at {
                sums.sent += 1;
                last = last.max(sent_at);
                if seen.due_at.is_none() && !seen.waits {
                    lags.push(sent_at.since(accepted_at));
                }
            }
            match &seen.outcome {
                Some((fate, reason)) => {
                    *sums.outcomes.entry((word(*fate), reason.clone())).or_default() += 1;
                }
                None if seen.unresolved => sums.unresolved += 1,
                None => sums.deferred += u64::from(seen.waits),
            }
        }
        sums.span = last.since(first);
        sums.accept = percentiles(&self.accepts.lock().unwrap_or_else(PoisonError::into_inner));
        sums.accept_to_sent = percentiles(&lags);
        sums
    }

    fn jobs(&self) -> MutexGuard<'_, HashMap<String, Seen>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn accounted(&self) -> bool {
        self.outcome.is_some() || self.waits || self.unresolved
    }
}

/// Returns a fate as people read it.
fn word(fate: pb::Fate) -> String {
    fate.as_str_name().trim_start_matches("FATE_").to_lowercase()
}

/// Returns the median and the 99th percentile.
fn percentiles(values: &[Duration]) -> [Duration; 2] {
    // Microseconds up to an hour to three digits: these bounds are valid.
    let Ok(mut histogram) = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3) else { return Default::default() };
    for value in values {
        histogram.saturating_record(u64::try_from(value.as_micros()).unwrap_or(u64::MAX));
    }
    [0.5, 0.99].map(|quantile| Duration::from_micros(histogram.value_at_quantile(quantile)))
}
