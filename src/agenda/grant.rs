//! How many jobs may be released to a lane now: the rates of their tenant and sender, the pool's credit, the lane's
//! length.

use super::Context;
use crate::domain::ids::{Lane, TenantId};
use crate::domain::job::{Class, Shared};
use crate::domain::time::UnixMicros;
use crate::ledger::Ledger;
use crate::limits::rates::{self, Bucket};
use crate::limits::{LeaseMode, Limits};
use crate::queue::Queue;

/// How a grant may fall short of the wish.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// All or nothing.
    Whole,
    /// As many as there are.
    UpTo,
}

/// Leave to release.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Leave {
    /// How many jobs.
    pub(super) jobs: u32,
    /// Why not all of them, if so.
    pub(super) short: Option<Short>,
}

/// What has no more to give.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Short {
    /// The lane is long enough.
    Lane,
    /// The pool's credit is used up until then.
    Pool(UnixMicros),
    /// A rate of the tenant or the sender is, by the name of its bucket.
    Rate(Box<str>, UnixMicros),
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Returns the buckets that jobs are paced by.
    pub(super) fn paced(&self, shared: &Shared) -> Vec<Bucket> {
        let Some(tenant) = self.directory.tenant(&shared.tenant) else { return vec![] };
        rates::of_jobs(&tenant.id, tenant.rate, &shared.sender, tenant.sender_rate(&shared.sender))
    }

    /// Returns the buckets that entries of a tenant and a marked sender are paced by.
    pub(super) fn paced_by_mark(&self, tenant: &TenantId, mark: u32) -> Vec<Bucket> {
        let Some(tenant) = self.directory.tenant(tenant) else { return vec![] };
        let (sender, rate) = tenant.marked(mark).map_or(("", None), |of| (&*of.sender, Some(of.rate)));
        rates::of_jobs(&tenant.id, tenant.rate, sender, rate)
    }

    /// Returns the bucket of a pool's credit; `None`: no limit is known.
    pub(super) fn credit(&self, lane: &Lane) -> Option<Bucket> {
        self.routes.credit(&lane.pool).map(|credit| rates::pool(&lane.pool, credit))
    }

    /// Takes leave to release `jobs` jobs that are `paced`. One-time passwords always go; they push the tenant's other
    /// work back.
    pub(super) async fn grant(
        &self,
        tenant: &TenantId,
        paced: &[Bucket],
        lane: &Lane,
        (jobs, part): (u32, Part),
    ) -> Leave {
        if lane.class == Class::Otp {
            // Without an answer they go all the same.
            let _late = self.pacer.take_all(paced, jobs, LeaseMode::Force).await;
            return Leave { jobs, short: None };
        }
        if self.depths.crowded(lane) {
            return Leave { jobs: 0, short: Some(Short::Lane) };
        }
        let (mode, credit) = match part {
            Part::Whole => (LeaseMode::Whole, self.credit(lane).map(|credit| self.pacer.share(credit, tenant, jobs))),
            // A quarter stays for those who take their share past the agenda.
            Part::UpTo => (LeaseMode::UpTo, self.credit(lane).map(|credit| credit.keeping(4))),
        };
        let buckets: Vec<Bucket> = paced.iter().cloned().chain(credit).collect();
        let Ok(taken) = self.pacer.take_all(&buckets, jobs, mode).await else {
            return Leave { jobs: 0, short: Some(Short::Pool(self.clock.now())) };
        };
        let short = |(index, until): (usize, UnixMicros)| match paced.get(index) {
            Some(bucket) => Short::Rate(bucket.name.clone(), until),
            None => Short::Pool(until),
        };
        if part == Part::Whole && taken.tokens < jobs {
            self.pacer.credit(&buckets, taken.tokens);
            return Leave { jobs: 0, short: taken.short.map(short) };
        }
        Leave { jobs: taken.tokens, short: taken.short.map(short) }
    }

    /// Gives back leave that was not used.
    pub(super) fn ungrant(&self, paced: &[Bucket], lane: &Lane, jobs: u32) {
        self.pacer.credit(paced, jobs);
        self.pacer.credit(self.credit(lane).map(|credit| credit.keeping(4)).as_slice(), jobs);
    }
}
