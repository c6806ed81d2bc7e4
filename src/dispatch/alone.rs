//! Work while limits are away, or still reload what they lost.
//!
//! One-time passwords and transactional work go on: their opt-outs are asked of the ledger, their rates are this node's
//! own (see `gate`). With the ledger away too, only one-time passwords do. Everything else waits in hand, without a
//! permit and not acknowledged, so that neither its frame nor its claims come twice.

use std::time::Duration;

use tracing::warn;

use super::Context;
use super::hand::{Hand, Item};
use crate::domain::job::{Class, Shared};
use crate::leave::Next;
use crate::ledger::Ledger;
use crate::limits::{Claim, Decision, Limits};
use crate::queue::Queue;
use crate::telemetry::metrics::OptOutsAsked;

/// How long limits may be away before work in hand goes back to where it came from.
const PATIENCE: Duration = Duration::from_secs(600);
/// How often limits are asked whether they are back. Each frame in hand asks: a few hundred calls a second at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long the ledger may take to say what has opted out.
const LEDGER_PATIENCE: Duration = Duration::from_secs(2);

/// Returns whether jobs go on without limits: nobody can tell what went out for those that must not go twice.
pub(super) fn goes_alone(shared: &Shared) -> bool {
    shared.class.urgent() && !shared.class.at_most_once(shared.kind)
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Decides urgent claims that limits gave no answer to.
    pub(super) async fn decide_alone(&self, claims: &[Claim]) -> Vec<Decision> {
        let mut decisions = Vec::with_capacity(claims.len());
        for claim in claims {
            decisions.push(self.ask_ledger(claim).await);
        }
        decisions
    }

    /// Decides an urgent claim by the opt-outs that the ledger holds. While that is away too, one-time passwords go.
    pub(super) async fn ask_ledger(&self, claim: &Claim) -> Decision {
        let against = &claim.against;
        let asked = self.ledger.suppressions(&claim.tenant, against.address);
        let known = self.clock.timeout(LEDGER_PATIENCE, asked).await;
        let Ok(Ok(known)) = known else {
            if against.class != Class::Otp {
                return Decision::Recovering { claimed: false };
            }
            self.metrics.without_limits(against.class, OptOutsAsked::Unknown);
            return Decision::Claimed;
        };
        let binding = known.iter().map(|optout| (optout.scope, optout.kind));
        let binding = binding.filter(|(scope, kind)| against.bound_by(*scope, *kind)).map(|(scope, _)| scope);
        match binding.max_by_key(|scope| scope.width()) {
            Some(scope) => Decision::Suppressed(scope),
            None => {
                self.metrics.without_limits(against.class, OptOutsAsked::Ledger);
                Decision::Claimed
            }
        }
    }

    /// Waits until limits answer and are whole; returns whether they did in time.
    pub(super) async fn limits_back(&self, patience: Duration) -> bool {
        let watch = self.clock.stopwatch();
        loop {
            if self.limits.identity().await.is_ok_and(|identity| !identity.recovering) {
                return true;
            }
            if self.tasks.stopping() || watch.elapsed() >= patience {
                return false;
            }
            self.clock.pause(LOOK_EVERY.mul_f64(0.5 + fastrand::f64())).await;
        }
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Hand<'_, Q, L, B> {
    /// Waits for limits, if they are what the work in front waits for. The time does not count: the frame is in hand for
    /// nobody's delay.
    pub(super) async fn wait_for_limits(&mut self) {
        let Some(front) = self.line.front() else { return };
        if goes_alone(&front.shared) || self.brief() || self.context.limits_back(Duration::ZERO).await {
            return;
        }
        if self.context.limits_back(PATIENCE).await {
            self.watch = self.context.clock.stopwatch();
        }
    }

    /// Asks again until limits answer, since they may have taken what they were asked for. What they then grant is given
    /// back: its permit is gone.
    pub(super) async fn ask_again(&mut self, asked: Vec<Item>, claims: Vec<Claim>) {
        let watch = self.context.clock.stopwatch();
        let decisions = loop {
            if !self.context.limits_back(PATIENCE.saturating_sub(watch.elapsed())).await {
                warn!(jobs = asked.len(), "limits are away for too long; work in hand goes back");
                self.given_up = true;
                return;
            }
            if let Ok(decisions) = self.context.limits.claim(self.context.clock.now(), &claims).await
                && !decisions.contains(&Decision::Recovering { claimed: false })
            {
                break decisions;
            }
        };
        let now = self.context.clock.now();
        let (mut back, mut granted) = (Vec::new(), Vec::new());
        for ((item, claim), decision) in asked.into_iter().zip(&claims).zip(decisions) {
            match item.ground.next(&item.shared, decision) {
                Next::Go => {
                    back.push(claim.give_back());
                    granted.push(item);
                }
                next => self.follow(item, next, now),
            }
        }
        if !back.is_empty() && !self.context.give_back(&back).await {
            // The claims stand: the next copies meet them.
            self.given_up = true;
            return;
        }
        granted.into_iter().rev().for_each(|item| self.line.push_front(item));
        self.watch = self.context.clock.stopwatch();
    }

    /// Asks limits for claims; `None` when the answer is to be waited for. What is urgent does not wait.
    pub(super) async fn decide(&self, asked: &[Item], claims: &[Claim]) -> Option<Vec<Decision>> {
        if claims.is_empty() {
            return Some(vec![]);
        }
        let alone = asked.iter().all(|item| goes_alone(&item.shared));
        let mut decisions = match self.context.limits.claim(self.context.clock.now(), claims).await {
            Ok(decisions) => decisions,
            Err(_) if alone => return Some(self.context.decide_alone(claims).await),
            Err(_) => return None,
        };
        if decisions.contains(&Decision::Recovering { claimed: false }) {
            return None;
        }
        let mut back = Vec::new();
        for (claim, decision) in claims.iter().zip(&mut decisions) {
            if *decision == (Decision::Recovering { claimed: true }) {
                *decision = self.context.ask_ledger(claim).await;
                if *decision != Decision::Claimed {
                    back.push(claim.give_back());
                }
            }
        }
        if !back.is_empty() {
            // One that cannot be given back stands until its deadline, and costs no more than that.
            let _given = self.context.give_back(&back).await;
        }
        Some(decisions)
    }
}
