//! How many jobs of a tenant may be released to a lane now: its rate, the pool's credit, the lane's length.

use super::Context;
use crate::domain::ids::{Lane, TenantId};
use crate::domain::job::Class;
use crate::ledger::Ledger;
use crate::limits::{LeaseMode, Limits, rates};
use crate::queue::Queue;

/// How a grant may fall short of the wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All or nothing.
    Whole,
    /// As many as there are.
    UpTo,
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Takes leave to release `jobs` jobs, and returns for how many. One-time passwords always go; they push the
    /// tenant's other work back.
    pub(super) async fn grant(&self, tenant: &TenantId, lane: &Lane, jobs: u32, part: Part) -> u32 {
        let otp = lane.class == Class::Otp;
        if !otp && self.depths.crowded(lane) {
            return 0;
        }
        let mode = match part {
            _ if otp => LeaseMode::Force,
            Part::Whole => LeaseMode::Whole,
            Part::UpTo => LeaseMode::UpTo,
        };
        let rate = self.directory.tenant(tenant).and_then(|tenant| tenant.rate);
        let bucket = rates::tenant(tenant);
        let granted = match rate {
            Some(rate) => self.pacer.take(&bucket, rate, jobs, mode).await.map_or(0, |granted| granted.tokens),
            None => jobs,
        };
        if otp {
            return jobs;
        }
        let Some(credit) = self.routes.credit(&lane.pool).filter(|_| granted > 0) else { return granted };
        let taken = self.pacer.take(&rates::pool(&lane.pool), credit, granted, mode).await;
        let taken = taken.map_or(0, |granted| granted.tokens);
        if rate.is_some() {
            self.pacer.credit(&bucket, granted - taken);
        }
        taken
    }
}
