//! One-time consents: what users say in popups of accounts whose consents are counted goes to limits at once, beside the way
//! on which those who watch hear of it. It is counted again from the ledger, which changes nothing unless it could not be here.

use tracing::warn;

use super::Reception;
use crate::ledger::Ledger;
use crate::limits::{ConsentAct, Limits};
use crate::queue::Queue;

impl<Q: Queue, L: Limits, B: Ledger> Reception<Q, L, B> {
    /// Counts consents, if limits can.
    pub(super) async fn count(&self, acts: &[ConsentAct]) {
        if acts.is_empty() {
            return;
        }
        if let Err(problem) = self.limits.consent(self.clock.now(), acts).await {
            warn!(%problem, consents = acts.len(), "consents are not counted yet; they are once limits are back");
        }
    }
}
