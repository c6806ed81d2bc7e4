//! What follows the jobs of a request: which pools carry the steps of their fallback chains, and whether each step may ever
//! be sent.

use super::Admission;
use crate::admission::plan::Plan;
use crate::admission::{Fallback, Refusal, Request};
use crate::domain::chain::{Chain, Step};
use crate::domain::ids::PoolId;
use crate::domain::job::Kind;
use crate::domain::route::Routed;
use crate::domain::window::Means;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::policy::routes::Places;
use crate::policy::windows::{self, NO_ZONE_REASON};
use crate::policy::zones;
use crate::queue::Queue;

/// Where the jobs of a request go, and what follows them.
pub(super) struct Ways {
    /// The pools of the jobs themselves. Two places may have one pool where what follows differs.
    pub(super) places: Places,
    /// The chain of the jobs of each place; empty: nothing follows.
    pub(super) chains: Vec<Chain>,
}

impl<Q: Queue, L: Limits, B: Ledger> Admission<Q, L, B> {
    /// Finds the pools of all jobs of a request and of what follows them.
    ///
    /// # Errors
    /// [`Refusal::NoProvider`], [`Refusal::NoProviderForStep`], [`Refusal::NoticesOnly`], [`Refusal::Lacks`].
    pub(super) fn ways(&self, request: &Request) -> Result<Ways, Refusal> {
        let Request { kind, sender, content, .. } = request;
        let first = self.routed(request, (*kind, content.signature().unwrap_or(sender)), sender);
        let first = first.ok_or(Refusal::NoProvider(*kind))?;
        let step = |(at, step): (usize, &Fallback)| {
            if request.tenant.sender_pool(&step.sender).is_some() {
                return Err(Refusal::SenderPoolInStep(at));
            }
            let signature = step.content.signature().unwrap_or(&step.sender);
            let places = self.routed(request, (step.kind, signature), &step.sender);
            places.ok_or(Refusal::NoProviderForStep(at, step.kind))
        };
        let steps: Vec<Places> = request.fallback.iter().enumerate().map(step).collect::<Result<_, _>>()?;
        let mut pools = std::iter::once(&first).chain(&steps).flat_map(|places| &places.pools);
        if let Some(pool) = pools.find(|pool| !self.settings.routes.takes(pool, request.class)) {
            return Err(Refusal::NoticesOnly(pool.clone()));
        }
        self.able(request, &first, &steps)?;
        // An expiry that was given holds for all of a chain.
        let life = request.expires_at.is_none().then(|| self.life(request.class));
        let chain = |pools: &[usize]| {
            let pools = pools.iter().zip(&steps).map(|(at, places)| &places.pools[*at]);
            let next = request.fallback.iter().zip(pools).map(|(step, pool)| step.place(pool)).collect();
            Chain { first: None, step: 0, life, next }
        };
        Ok(combined(first, &steps, request.items.len(), chain))
    }

    /// Checks that those who would make the calls can do what these ask for.
    fn able(&self, request: &Request, first: &Places, steps: &[Places]) -> Result<(), Refusal> {
        let of_steps =
            (0..).zip(&request.fallback).zip(steps).map(|((at, step), places)| (Some(at), &step.asks, places));
        for (step, asks, places) in std::iter::once((None, &request.asks, first)).chain(of_steps) {
            let lacks = |pool: &PoolId| Some((pool.clone(), self.settings.routes.lacks(pool, asks)?));
            if let Some((pool, skill)) = places.pools.iter().find_map(lacks) {
                return Err(Refusal::Lacks { step, pool, skill });
            }
        }
        Ok(())
    }

    fn routed(&self, request: &Request, (kind, signature): (Kind, &str), sender: &str) -> Option<Places> {
        let Request { tenant, class, topic, labels, items, .. } = request;
        let routed = Routed { kind, class: *class, topic, sender, signature, labels };
        let ways = self.settings.routes.ways(&tenant.id, &tenant.routes, &routed)?;
        Some(ways.places(items.iter().map(|item| item.recipient.phone.as_ref())))
    }

    /// Refuses the items whose steps can never be sent, since nobody knows what time it is where they are.
    ///
    /// # Errors
    /// [`Refusal::NeverOpen`] where no step can, whosever it is.
    pub(super) fn plan_steps(&self, request: &Request, ways: &Ways, plan: &mut Plan) -> Result<(), Refusal> {
        let Request { tenant, class, topic, .. } = request;
        let mut zoned = vec![false; ways.chains.len()];
        for (zoned, chain) in zoned.iter_mut().zip(&ways.chains) {
            for Step { kind, sender, pool, .. } in &chain.next {
                let means = Means { class: *class, kind: *kind, topic, sender, pool };
                let bound = self.settings.windows.bind(&tenant.windows, &means, &request.windows);
                if let Some(rule) = bound.never_met() {
                    return Err(Refusal::NeverOpen(windows::reason(rule)));
                }
                let unknown = bound.check(None, self.clock.now());
                *zoned |= unknown.is_err_and(|closed| &*closed.reason == NO_ZONE_REASON);
            }
        }
        let needs_zone = |at: &usize| zoned[ways.places.of.get(*at).copied().unwrap_or(0)];
        if zoned.contains(&true) {
            let items = request.items.iter().enumerate();
            let lost = items.filter(|(at, item)| needs_zone(at) && zones::of(&item.recipient).is_none());
            plan.refuse(lost.map(|(at, _)| at).collect(), &Refusal::NoZone("a send window of its fallback chain"));
        }
        Ok(())
    }
}

impl Fallback {
    fn place(&self, pool: &PoolId) -> Step {
        let Self { kind, content, sender, after, asks: _ } = self.clone();
        Step { kind, pool: pool.clone(), content, sender, after }
    }
}

/// Returns a place for each combination of pools that an item has.
fn combined(first: Places, steps: &[Places], items: usize, chain: impl Fn(&[usize]) -> Chain) -> Ways {
    if steps.is_empty() {
        return Ways { places: first, chains: vec![] };
    }
    let at = |places: &Places, item: usize| places.of.get(item).copied().unwrap_or(0);
    let same = first.of.is_empty() && steps.iter().all(|places| places.of.is_empty());
    let (mut known, mut of) = (Vec::<Vec<usize>>::new(), Vec::new());
    for item in 0..if same { 1 } else { items } {
        let pools: Vec<usize> = std::iter::once(&first).chain(steps).map(|places| at(places, item)).collect();
        let place = known.iter().position(|known| *known == pools).unwrap_or_else(|| {
            known.push(pools);
            known.len() - 1
        });
        of.push(place);
    }
    let pools = known.iter().map(|pools| first.pools[pools[0]].clone()).collect();
    let senders = known.iter().map(|pools| first.senders.get(pools[0]).cloned().unwrap_or_default()).collect();
    let chains = known.iter().map(|pools| chain(&pools[1..])).collect();
    Ways { places: Places { pools, senders, of: if same { vec![] } else { of } }, chains }
}
