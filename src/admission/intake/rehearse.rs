//! What submit would make of a request, without making it.

use std::sync::Arc;

use super::super::guard;
use super::envelopes::{Place, envelopes};
use super::senders::Keeps;
use super::{Admission, ids};
use crate::admission::{Refusal, Request};
use crate::domain::ids::JobId;
use crate::domain::job::{Job, Kind, Shared};
use crate::domain::money::Money;
use crate::domain::time::UnixMicros;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::queue::Queue;

/// What submit would make of a request.
pub struct Rehearsal {
    /// The jobs that would be accepted.
    pub expected: Vec<Expected>,
    /// The places of items that would be refused, and why.
    pub refused: Vec<(u32, Refusal)>,
}

/// Jobs that would be due together.
pub struct Expected {
    /// What they have in common.
    pub shared: Arc<Shared>,
    /// When they would be due: now, or later.
    pub due_at: UnixMicros,
    /// The send window that they would wait for until then, as a reason.
    pub held_by: Option<Box<str>>,
    /// What one segment or template message costs at most; `None`: no price is known, or it depends on how long is talked.
    pub price: Option<Money>,
    /// Their places in the request, and they, under ids that nobody keeps.
    pub jobs: Vec<(u32, Job)>,
}

impl<Q: Queue, L: Limits, B: Ledger> Admission<Q, L, B> {
    /// Returns what [`Admission::submit`] would make of a batch now. Takes nothing and changes nothing: what refuses a
    /// whole request for a while, a rate or too many open jobs, is not asked.
    ///
    /// # Errors
    /// What submit would refuse the whole batch for, now and always.
    pub async fn rehearse(&self, request: Request) -> Result<Rehearsal, Refusal> {
        let ways = self.places(&request)?;
        guard::fits(&request.tenant, request.items.len())?;
        let now = self.clock.now();
        let mut plan = self.plan(&request, &ways, now)?;
        self.choose_senders(&request, &mut plan, (now, Keeps::Looks)).await;
        let index = |place: usize| request.items[place].index;
        let refused = plan.refused.iter().map(|(place, refusal)| (index(*place), refusal.clone())).collect();
        let indexes: Vec<Vec<u32>> =
            plan.groups.iter().map(|group| group.items.iter().map(|&place| index(place)).collect()).collect();
        let held_by: Vec<_> = plan.groups.iter().map(|group| (group.due_at, group.held_by.clone())).collect();
        let ids = ids(&request, JobId::new(now, fastrand::u128(..)), now);
        let made = envelopes(
            request,
            ids,
            plan.groups,
            Place { pools: ways.places.pools, chains: ways.chains, batch: None, now, seen: None },
        );
        let expected =
            made.into_iter().zip(indexes).zip(held_by).filter_map(|((envelopes, indexes), (due_at, held_by))| {
                let shared = Arc::clone(&envelopes.first()?.shared);
                let jobs = indexes.into_iter().zip(envelopes.into_iter().flat_map(|envelope| envelope.jobs)).collect();
                let price = self.settings.routes.tariff(&shared.pool).and_then(|tariff| tariff.price);
                let price = price.filter(|_| shared.kind != Kind::Call);
                Some(Expected { shared, due_at, held_by, price, jobs })
            });
        Ok(Rehearsal { expected: expected.collect(), refused })
    }
}
