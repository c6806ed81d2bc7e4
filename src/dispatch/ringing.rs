//! Calls that ring are hung up when something has come that stands against them: an opt-out, or a rule that takes their jobs
//! back. Who has answered is not interrupted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use super::Context;
use crate::channel::call::Carried;
use crate::leave::{Asking, Ground, Next};
use crate::ledger::Ledger;
use crate::limits::{Claim, Decision, Limits};
use crate::queue::Queue;
use crate::rate_limited;

/// How often limits are asked about the calls that ring: somebody who just opted out hears it ring no longer than that.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Calls that are asked about at once.
const ASKED_MAX: usize = 128;

/// The calls that were handed over from here, for as long as they ring.
#[derive(Default)]
pub struct Ringing {
    calls: Mutex<Vec<Rings>>,
}

struct Rings {
    call: Weak<Carried>,
    ground: Arc<Ground>,
}

impl Ringing {
    /// Looks after a call from now on.
    pub(super) fn watch(&self, call: &Arc<Carried>, ground: &Arc<Ground>) {
        self.calls().push(Rings { call: Arc::downgrade(call), ground: Arc::clone(ground) });
    }

    /// Returns the calls that ring, and forgets those that do not any more.
    fn now(&self) -> Vec<(Arc<Carried>, Arc<Ground>)> {
        let mut ringing = vec![];
        self.calls().retain(|rings| match rings.call.upgrade().filter(|call| call.line.rings()) {
            Some(call) => {
                ringing.push((call, Arc::clone(&rings.ground)));
                true
            }
            None => false,
        });
        ringing
    }

    fn calls(&self) -> MutexGuard<'_, Vec<Rings>> {
        // A push or removal that panicked left the list good.
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Asks again and again, until the service stops.
    pub(super) async fn attend(self: Arc<Self>) {
        while self.tasks.stop().run_until_cancelled(self.clock.pause(LOOK_EVERY)).await.is_some() {
            for some in self.ringing.now().chunks(ASKED_MAX) {
                self.look_at(some).await;
            }
        }
    }

    async fn look_at(&self, calls: &[(Arc<Carried>, Arc<Ground>)]) {
        let now = self.clock.now();
        let question = |(call, ground): &(Arc<Carried>, Arc<Ground>)| {
            let asking = Asking { now, deadline: now, units: 1 };
            let claim = ground.claim(&call.shared, &call.job, asking, &self.sealer)?;
            // Its own claim and places are not asked about.
            Some(Claim { supersedes: claim.attempt, takes: vec![], ..claim })
        };
        let (calls, questions): (Vec<_>, Vec<_>) =
            calls.iter().filter_map(|call| Some((call, question(call)?))).unzip();
        match self.limits.peek(now, &questions).await {
            Ok(decisions) => {
                for ((call, ground), decision) in calls.into_iter().zip(decisions) {
                    withdraw(call, ground, decision);
                }
            }
            Err(problem) => {
                rate_limited!(per_min = 2, warn, %problem, "nobody can say whether calls that ring are to be hung up");
            }
        }
    }
}

fn withdraw(call: &Carried, ground: &Ground, decision: Decision) {
    if matches!(decision, Decision::Cancelled | Decision::Suppressed(_))
        && let Next::Settle(outcome) = ground.next(&call.shared, decision)
    {
        call.withdrawal.tell(outcome);
    }
}
