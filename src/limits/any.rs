//! The backend that the settings chose.

use super::embedded::Embedded;
use super::redis::Redis;
use super::{
    Borrow, Borrowed, Claim, ConsentAct, Consented, Decision, GiveBack, Granted, Held, Identity, Lease, Limits,
    LimitsError, Share, Shared, Spend, Spent, Touch, Vacate,
};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::keys::{AddressKey, WordKey};
use crate::domain::rule::JobRule;
use crate::domain::suppression::{Source, Suppression};
use crate::domain::time::UnixMicros;

/// One of the backends. Cheap to clone.
#[derive(Clone, Debug)]
pub enum AnyLimits {
    /// In this process, on this machine's disk.
    Embedded(Embedded),
    /// In a Redis that all nodes share.
    Redis(Redis),
}

macro_rules! ask {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match $self {
            Self::Embedded(limits) => limits.$method($($argument),*).await,
            Self::Redis(limits) => limits.$method($($argument),*).await,
        }
    };
}

impl Limits for AnyLimits {
    async fn identity(&self) -> Result<Identity, LimitsError> {
        ask!(self.identity())
    }

    async fn spend(&self, now: UnixMicros, spends: &[Spend]) -> Result<Vec<Spent>, LimitsError> {
        ask!(self.spend(now, spends))
    }

    async fn taken(&self, tenant: &TenantId, allowances: &[WordKey]) -> Result<u64, LimitsError> {
        ask!(self.taken(tenant, allowances))
    }

    async fn accepted(&self, ids: &[JobId]) -> Result<(), LimitsError> {
        ask!(self.accepted(ids))
    }

    async fn claim(&self, now: UnixMicros, claims: &[Claim]) -> Result<Vec<Decision>, LimitsError> {
        ask!(self.claim(now, claims))
    }

    async fn peek(&self, now: UnixMicros, claims: &[Claim]) -> Result<Vec<Decision>, LimitsError> {
        ask!(self.peek(now, claims))
    }

    async fn places(&self, now: UnixMicros, claim: &Claim) -> Result<Vec<Vec<Held>>, LimitsError> {
        ask!(self.places(now, claim))
    }

    async fn give_back(&self, claims: &[GiveBack]) -> Result<(), LimitsError> {
        ask!(self.give_back(claims))
    }

    async fn vacate(&self, places: &[Vacate]) -> Result<(), LimitsError> {
        ask!(self.vacate(places))
    }

    async fn suppress(&self, suppressions: &[Suppression]) -> Result<(), LimitsError> {
        ask!(self.suppress(suppressions))
    }

    async fn unsuppress(&self, suppression: &Suppression, source: Source) -> Result<(), LimitsError> {
        ask!(self.unsuppress(suppression, source))
    }

    async fn suppressions(&self, tenant: &TenantId, address: AddressKey) -> Result<Vec<Suppression>, LimitsError> {
        ask!(self.suppressions(tenant, address))
    }

    async fn rule(&self, rules: &[JobRule], keep_until: UnixMicros) -> Result<(), LimitsError> {
        ask!(self.rule(rules, keep_until))
    }

    async fn lease(&self, now: UnixMicros, leases: &[Lease]) -> Result<Vec<Granted>, LimitsError> {
        ask!(self.lease(now, leases))
    }

    async fn unlease(&self, bucket: &str, tokens: u32) -> Result<(), LimitsError> {
        ask!(self.unlease(bucket, tokens))
    }

    async fn share(&self, now: UnixMicros, share: &Share) -> Result<u16, LimitsError> {
        ask!(self.share(now, share))
    }

    async fn lead_recovery(&self, now: UnixMicros, who: u64) -> Result<bool, LimitsError> {
        ask!(self.lead_recovery(now, who))
    }

    async fn restore(&self, touches: &[Touch]) -> Result<(), LimitsError> {
        ask!(self.restore(touches))
    }

    async fn recovered(&self, identity: &Identity) -> Result<bool, LimitsError> {
        ask!(self.recovered(identity))
    }

    async fn borrow(&self, now: UnixMicros, asked: &Borrow<'_>) -> Result<Borrowed, LimitsError> {
        ask!(self.borrow(now, asked))
    }

    async fn lend(&self, now: UnixMicros, by: (&str, u64), value: &Shared) -> Result<bool, LimitsError> {
        ask!(self.lend(now, by, value))
    }

    async fn consent(&self, now: UnixMicros, acts: &[ConsentAct]) -> Result<Vec<Consented>, LimitsError> {
        ask!(self.consent(now, acts))
    }

    async fn close(&self) {
        ask!(self.close());
    }
}
