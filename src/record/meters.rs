//! Tells the metrics what a recording came to.

use hashbrown::HashMap;

use super::tally::Tally;
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;
use crate::ledger::Recording;
use crate::telemetry::metrics::{ProviderMetrics, RecordMetrics, fallback_step};

/// Handles of metrics, made once.
pub(super) struct Meters {
    record: RecordMetrics,
    /// As many as there are providers: only what they took is measured.
    providers: HashMap<ProviderId, ProviderMetrics>,
}

impl Meters {
    pub(super) fn new() -> Self {
        Self { record: RecordMetrics::new(), providers: HashMap::new() }
    }

    /// Counts what was committed.
    pub(super) fn count(&mut self, recording: &Recording, tally: &Tally, now: UnixMicros) {
        for count in &recording.counts {
            if let Some(fate) = count.fate() {
                let jobs = u64::try_from(count.jobs).unwrap_or(0);
                self.record.finished(&count.tenant, (count.kind, count.class), fate, jobs);
            }
        }
        tally.fallbacks.iter().for_each(|(kind, class)| fallback_step(*kind, *class));
        self.record.receipts_unmatched(tally.unmatched);
        self.record.resent(tally.resent);
        if tally.unresolved != 0 {
            self.record.unresolved(tally.unresolved);
        }
        if tally.newest > UnixMicros::default() {
            self.record.lag(now.since(tally.newest));
        }
        for (provider, waited) in &tally.waits {
            let provider = self.providers.entry_ref(provider).or_insert_with(|| ProviderMetrics::new(provider));
            provider.receipt_after(*waited);
        }
    }

    /// Shows that nothing could be written since `began`.
    pub(super) fn behind(&self, began: UnixMicros, now: UnixMicros) {
        self.record.lag(now.since(began));
    }

    /// Counts jobs that were released a second time because nothing was heard of them.
    pub(super) fn strays(&self, jobs: u64) {
        self.record.strays(jobs);
    }
}
