//! What rules make of jobs in hand besides the claim: jobs that were moved, and jobs that expired while they waited.

use std::sync::Arc;

use super::{Hand, Item};
use crate::domain::event::{Fate, Outcome};
use crate::domain::job::{Job, Shared};
use crate::domain::time::UnixMicros;
use crate::leave::Asking;
use crate::ledger::Ledger;
use crate::limits::{Claim, Decision, Limits};
use crate::queue::Queue;

/// What jobs that were moved have in common, so that they share envelopes again.
pub(super) struct Moved {
    from: Arc<Shared>,
    to: Arc<Shared>,
}

impl<Q: Queue, L: Limits, B: Ledger> Hand<'_, Q, L, B> {
    /// Settles what has expired. A rule may have moved it before it did, or another copy of it may be out already.
    pub(super) async fn drop_expired(&mut self) {
        let now = self.context.clock.now();
        if self.line.iter().all(|item| item.shared.expires_at > now) {
            return;
        }
        let mut expired = Vec::new();
        for item in std::mem::take(&mut self.line) {
            if item.shared.expires_at > now {
                self.line.push_back(item);
            } else {
                expired.push(item);
            }
        }
        let asking = Asking { now, deadline: now, units: 1 };
        let claim = |item: &Item| item.ground.claim(&item.shared, &item.job, asking, &self.context.sealer);
        let claims: Vec<Claim> = expired.iter().filter_map(claim).collect();
        let mut decisions = match self.context.limits.peek(now, &claims).await {
            Ok(decisions) if claims.len() == expired.len() => decisions,
            Ok(_) | Err(_) => vec![],
        }
        .into_iter();
        for item in expired {
            match decisions.next() {
                Some(
                    decision @ (Decision::Held { .. }
                    | Decision::Cancelled
                    | Decision::Collapsed
                    // Whether it was moved is not known yet.
                    | Decision::Recovering { claimed: false }
                    | Decision::Moved { .. }),
                ) => {
                    let next = item.ground.next(&item.shared, decision);
                    self.follow(item, next, now);
                }
                Some(_) | None => self.out.settle(&item, Outcome::new(Fate::Expired, "expires_at"), now),
            }
        }
    }

    /// Takes a job to the time that a rule moved it to; it obeys the rule from then on.
    pub(super) fn take_elsewhere(
        &mut self,
        item: Item,
        (at, due_at, expires_at): (UnixMicros, UnixMicros, Option<UnixMicros>),
        now: UnixMicros,
    ) {
        let shared = self.moved(&item.shared, at, due_at, expires_at);
        let job = Job { seen: None, ..item.job };
        let template = item.handover.template.map(|filled| filled.template);
        let (paced, sender) = (item.paced, item.handover.sender);
        let mut item = Item::new(shared, job, item.due_at, item.ground, template.as_ref());
        item.paced = paced;
        item.leave_from(&sender);
        if due_at <= now {
            self.line.push_front(item);
        } else {
            self.defer(item, "rescheduled".into(), (due_at, due_at), now);
        }
    }

    /// Returns what a job that was moved has in common with the others of its envelope that were.
    fn moved(
        &mut self,
        from: &Arc<Shared>,
        at: UnixMicros,
        due_at: UnixMicros,
        expires_at: Option<UnixMicros>,
    ) -> Arc<Shared> {
        let known = |moved: &&Moved| Arc::ptr_eq(&moved.from, from) && moved.to.moved_at == Some(at);
        if let Some(moved) = self.moved.iter().find(known) {
            return Arc::clone(&moved.to);
        }
        let to = Arc::new(from.moved(at, due_at, expires_at, &self.context.lives));
        self.moved.push(Moved { from: Arc::clone(from), to: Arc::clone(&to) });
        to
    }
}
