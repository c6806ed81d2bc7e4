//! Taking jobs back.

use std::time::Duration;

use super::Jobs;
use crate::admission::AHEAD_MAX;
use crate::api::convert;
use crate::api::status::Error;
use crate::domain::event::Fact;
use crate::domain::ids::TenantId;
use crate::domain::suppression::CancelRule;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// How long a cancellation is kept: until the last job that it can bind has expired.
const KEPT: Duration = Duration::from_secs(AHEAD_MAX.as_secs() + 31 * 24 * 3600);

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Takes jobs of `tenant` back: limits first, since they bind claims; then record, for the ledger; then the answer.
    pub(super) async fn cancel(
        &self,
        tenant: &TenantId,
        raw: pb::CancelJobsRequest,
    ) -> Result<pb::CancelJobsResponse, Error> {
        let named = convert::select(raw.selector, tenant, &self.ports.sealer).map_err(|e| e.within("selector"))?;
        let at = self.ports.clock.now();
        let rules: Vec<_> = named.into_iter().map(|by| CancelRule { tenant: tenant.clone(), by, at }).collect();
        self.ports.limits.cancel(&rules, at.plus(KEPT)).await?;
        self.ports.record(rules.into_iter().map(Fact::Cancelled).collect()).await.map_err(Error::NotDurable)?;
        Ok(pb::CancelJobsResponse { cancelled_at: Some(convert::moment_to_pb(at)), waiting: None, claimed: None })
    }
}
