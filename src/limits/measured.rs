//! Limits that measure their answers, whichever backend gives them.

use std::sync::Arc;

use super::{
    Borrow, Borrowed, Claim, ConsentAct, Consented, Decision, GiveBack, Granted, Held, Identity, Lease, Limits,
    LimitsError, Share, Shared, Spend, Spent, Touch, Vacate,
};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::keys::{AddressKey, WordKey};
use crate::domain::rule::JobRule;
use crate::domain::suppression::{Source, Suppression};
use crate::domain::time::{Clock, UnixMicros};
use crate::telemetry::metrics::{LimitsMetrics, LimitsOp};

/// A backend whose calls are measured. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Measured<L> {
    limits: L,
    clock: Clock,
    metrics: Arc<LimitsMetrics>,
}

impl<L: Limits> Measured<L> {
    /// Returns `limits`, measured.
    pub fn new(limits: L, clock: Clock) -> Self {
        Self { limits, clock, metrics: Arc::default() }
    }

    async fn measure<T>(
        &self,
        op: LimitsOp,
        call: impl Future<Output = Result<T, LimitsError>> + Send,
    ) -> Result<T, LimitsError> {
        let watch = self.clock.stopwatch();
        let answer = call.await;
        match &answer {
            Ok(_) => self.metrics.answered(op, watch.elapsed()),
            Err(_) => self.metrics.failed(op),
        }
        answer
    }
}

impl<L: Limits> Limits for Measured<L> {
    async fn identity(&self) -> Result<Identity, LimitsError> {
        self.measure(LimitsOp::Identity, self.limits.identity()).await
    }

    async fn spend(&self, now: UnixMicros, spends: &[Spend]) -> Result<Vec<Spent>, LimitsError> {
        self.measure(LimitsOp::Remember, self.limits.spend(now, spends)).await
    }

    async fn taken(&self, tenant: &TenantId, allowances: &[WordKey]) -> Result<u64, LimitsError> {
        self.measure(LimitsOp::Remember, self.limits.taken(tenant, allowances)).await
    }

    async fn accepted(&self, ids: &[JobId]) -> Result<(), LimitsError> {
        self.measure(LimitsOp::Accepted, self.limits.accepted(ids)).await
    }

    async fn claim(&self, now: UnixMicros, claims: &[Claim]) -> Result<Vec<Decision>, LimitsError> {
        self.measure(LimitsOp::Claim, self.limits.claim(now, claims)).await
    }

    async fn peek(&self, now: UnixMicros, claims: &[Claim]) -> Result<Vec<Decision>, LimitsError> {
        self.measure(LimitsOp::Peek, self.limits.peek(now, claims)).await
    }

    async fn places(&self, now: UnixMicros, claim: &Claim) -> Result<Vec<Vec<Held>>, LimitsError> {
        self.measure(LimitsOp::Peek, self.limits.places(now, claim)).await
    }

    async fn give_back(&self, claims: &[GiveBack]) -> Result<(), LimitsError> {
        self.measure(LimitsOp::GiveBack, self.limits.give_back(claims)).await
    }

    async fn vacate(&self, places: &[Vacate]) -> Result<(), LimitsError> {
        self.measure(LimitsOp::GiveBack, self.limits.vacate(places)).await
    }

    async fn suppress(&self, suppressions: &[Suppression]) -> Result<(), LimitsError> {
        self.measure(LimitsOp::Suppress, self.limits.suppress(suppressions)).await
    }

    async fn unsuppress(&self, suppression: &Suppression, source: Source) -> Result<(), LimitsError> {
        self.measure(LimitsOp::Suppress, self.limits.unsuppress(suppression, source)).await
    }

    async fn suppressions(&self, tenant: &TenantId, address: AddressKey) -> Result<Vec<Suppression>, LimitsError> {
        self.measure(LimitsOp::Suppress, self.limits.suppressions(tenant, address)).await
    }

    async fn rule(&self, rules: &[JobRule], keep_until: UnixMicros) -> Result<(), LimitsError> {
        self.measure(LimitsOp::Rule, self.limits.rule(rules, keep_until)).await
    }

    async fn lease(&self, now: UnixMicros, leases: &[Lease]) -> Result<Vec<Granted>, LimitsError> {
        self.measure(LimitsOp::Lease, self.limits.lease(now, leases)).await
    }

    async fn unlease(&self, bucket: &str, tokens: u32) -> Result<(), LimitsError> {
        self.measure(LimitsOp::Lease, self.limits.unlease(bucket, tokens)).await
    }

    async fn share(&self, now: UnixMicros, share: &Share) -> Result<u16, LimitsError> {
        self.measure(LimitsOp::Lease, self.limits.share(now, share)).await
    }

    async fn lead_recovery(&self, now: UnixMicros, who: u64) -> Result<bool, LimitsError> {
        self.measure(LimitsOp::Recover, self.limits.lead_recovery(now, who)).await
    }

    async fn restore(&self, touches: &[Touch]) -> Result<(), LimitsError> {
        self.measure(LimitsOp::Recover, self.limits.restore(touches)).await
    }

    async fn recovered(&self, identity: &Identity) -> Result<bool, LimitsError> {
        self.measure(LimitsOp::Recover, self.limits.recovered(identity)).await
    }

    async fn borrow(&self, now: UnixMicros, asked: &Borrow<'_>) -> Result<Borrowed, LimitsError> {
        self.measure(LimitsOp::Lease, self.limits.borrow(now, asked)).await
    }

    async fn lend(&self, now: UnixMicros, by: (&str, u64), value: &Shared) -> Result<bool, LimitsError> {
        self.measure(LimitsOp::Lease, self.limits.lend(now, by, value)).await
    }

    async fn consent(&self, now: UnixMicros, acts: &[ConsentAct]) -> Result<Vec<Consented>, LimitsError> {
        self.measure(LimitsOp::Consent, self.limits.consent(now, acts)).await
    }

    async fn close(&self) {
        self.limits.close().await;
    }
}
