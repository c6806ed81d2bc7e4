//! Decides what follows calls whose providers have nothing of their jobs: brings the jobs in, as they were accepted.

use super::chains::opened;
use super::merge::Merger;
use crate::domain::event::Left;
use crate::domain::job::Envelope;
use crate::ledger::{Ledger, LedgerError};
use crate::seal::Sealer;

/// Calls again, or settles, what ended in this batch.
pub(super) async fn follow<L: Ledger>(ledger: &L, merger: &mut Merger, sealer: &Sealer) -> Result<(), LedgerError> {
    let ended = merger.take_ended_calls();
    if ended.is_empty() {
        return Ok(());
    }
    let mut jobs: Vec<_> = ended.iter().map(|(event, _)| event.job).collect();
    jobs.sort_unstable();
    jobs.dedup();
    let envelopes = opened(ledger, merger, sealer, &jobs).await?;
    for (event, result) in ended {
        let of = |envelope: &&Envelope| envelope.jobs.iter().any(|job| job.id == event.job);
        let left = envelopes.iter().find(of).map(|again| Left::of_result(again.clone(), result));
        merger.after_call(event, result, left);
    }
    Ok(())
}
