//! What became of it? Takes what providers say by themselves, and tells them so once it is durable.
//!
//! Receipts go to record as they are; record joins them with what was sent. A reply that is an opt-out word binds in limits
//! first, then goes to record, then the provider is answered: nothing of it needs the ledger. Every other reply is a fact
//! for record.

mod callbacks;
mod calls;
mod consents;
mod keywords;
mod replies;
mod senders;

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::warn;

pub use self::callbacks::{Desks, Router};
pub use self::calls::{FollowUps, NotFollowed, Prices};
pub use self::keywords::{Keyword, normal, shipped};
pub use self::senders::Senders;

use self::replies::Desk;
use crate::channel::{Inbound, News};
use crate::domain::call::CallResult;
use crate::domain::event::{Fact, Fate, Receipt, Report};
use crate::domain::ids::ProviderId;
use crate::domain::time::Clock;
use crate::ledger::{Directory, Ledger};
use crate::limits::{Counted, Limits};
use crate::policy::extensions::Extensions;
use crate::queue::frame::seal_report;
use crate::queue::outbox::Outbox;
use crate::queue::{PublishError, Queue, QueueName, Route};
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::{CallMetrics, ProviderMetrics};

/// Receipts that share a publish.
const TOGETHER_MAX: usize = 512;
/// Publishes of receipts in flight.
const PUBLISHES_MAX: usize = 8;
/// Tries of a publish, and the wait after the first; it doubles. After that the provider says it again.
const TRIES: u32 = 6;
const RETRY: Duration = Duration::from_millis(100);

/// Everything that taking receipts and replies needs.
pub struct Reception<Q, L, B> {
    /// Where opt-outs bind.
    pub limits: L,
    /// Whose last job a reply answers.
    pub ledger: B,
    /// Every tenant.
    pub directory: Directory,
    /// Whose numbers are whose.
    pub extensions: Arc<Extensions>,
    /// Who wrote to whom lately.
    pub senders: Senders,
    /// What minutes of calls cost.
    pub prices: Prices,
    /// The accounts whose consents are counted.
    pub counted: Counted,
    /// Makes keys of addresses.
    pub sealer: Sealer,
    /// Time.
    pub clock: Clock,
    /// The group of its tasks.
    pub tasks: Tasks,
    /// Facts for record.
    pub facts: Outbox<Q, Fact>,
    /// Where jobs go that follow from calls.
    pub follow_ups: Arc<dyn FollowUps>,
}

impl<Q: Queue, L: Limits, B: Ledger> Reception<Q, L, B> {
    /// Starts to take what comes in, until the group of tasks stops. What is not durable then, providers say again.
    pub fn spawn(self, inbox: mpsc::Receiver<Inbound>) {
        let tasks = self.tasks.clone();
        let reception = Arc::new(self);
        let desk = Desk::open(&reception);
        tasks.spawn("reception", take(reception, desk, inbox));
    }

    /// Publishes facts until record has them; gives up after some tries.
    async fn publish(&self, facts: Vec<Fact>) -> Result<(), PublishError> {
        self.publish_to(&QueueName::Record, facts).await
    }

    async fn publish_to(&self, queue: &QueueName, facts: Vec<Fact>) -> Result<(), PublishError> {
        let mut wait = RETRY;
        for _ in 1..TRIES {
            match self.facts.publish(facts.clone(), Route::To(queue.clone())).await {
                Ok(()) => return Ok(()),
                Err(problem) => warn!(%problem, "cannot publish what a provider said; trying again"),
            }
            self.clock.pause(wait.mul_f64(0.5 + fastrand::f64())).await;
            wait *= 2;
        }
        self.facts.publish(facts, Route::To(queue.clone())).await
    }

    /// Publishes what providers have said, and tells them so; they keep what does not become durable.
    async fn pass_on(&self, queue: QueueName, said: Said) {
        let Said { facts, told } = said;
        if facts.is_empty() {
            return;
        }
        match self.publish_to(&queue, facts).await {
            Ok(()) => told.into_iter().for_each(tell),
            Err(problem) => {
                warn!(%problem, %queue, facts = told.len(), "what providers said is not durable; they keep it")
            }
        }
    }
}

/// Facts of one queue, and whom to tell once they are durable.
#[derive(Default)]
struct Said {
    facts: Vec<Fact>,
    told: Vec<oneshot::Sender<()>>,
}

impl Said {
    fn add(&mut self, fact: Fact, done: oneshot::Sender<()>) {
        self.facts.push(fact);
        self.told.push(done);
    }
}

async fn take<Q: Queue, L: Limits, B: Ledger>(
    reception: Arc<Reception<Q, L, B>>,
    desk: Desk,
    mut inbox: mpsc::Receiver<Inbound>,
) {
    let (stop, places) = (reception.tasks.stop().clone(), Arc::new(Semaphore::new(PUBLISHES_MAX)));
    let (mut inbound, mut meters) = (Vec::with_capacity(TOGETHER_MAX), Meters::default());
    let calls = Arc::new(CallMetrics::default());
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let taken = stop.run_until_cancelled(inbox.recv_many(&mut inbound, TOGETHER_MAX)).await;
        if taken.is_none() {
            // What was said before the stop is still taken; what comes later, providers keep.
            inbox.close();
            inbox.recv_many(&mut inbound, TOGETHER_MAX).await;
        }
        if inbound.is_empty() {
            return;
        }
        let (mut facts, mut signals, mut acts) = (Said::default(), Said::default(), Vec::new());
        for Inbound { news, done } in inbound.drain(..) {
            match news {
                News::Receipt(receipt) => {
                    meters.count(&receipt);
                    if let Report::Called(result) = receipt.report {
                        calls.reported(result);
                    }
                    facts.add(Fact::Receipt(receipt), done);
                }
                News::CallReceipt(receipt, report) => {
                    meters.count(&receipt);
                    if receipt.report != Report::Recorded {
                        calls.ended(report.result, report.talk);
                    }
                    let code = seal_report(&report, &reception.sealer);
                    facts.add(Fact::Receipt(Receipt { code, ..receipt }), done);
                }
                News::Call(news) => {
                    facts.add(Fact::Called(calls::fact(news, &reception.sealer, (&calls, &reception.prices))), done);
                }
                News::Signal(signal) => {
                    acts.extend(reception.counted.act(&signal, &reception.sealer));
                    signals.add(Fact::Signal(signal), done);
                }
                News::Reply(reply) => desk.hand(reply, done, &reception.sealer).await,
                News::OptOut(opted_out) => calls::opt_out(&reception, opted_out, done),
                News::FollowUp(followed) => calls::follow_up(&reception, *followed, &calls, done),
            }
        }
        if facts.facts.is_empty() && signals.facts.is_empty() {
            continue;
        }
        let publishing = Arc::clone(&reception);
        reception.tasks.spawn("receipts", async move {
            tokio::join!(
                publishing.pass_on(QueueName::Record, facts),
                publishing.pass_on(QueueName::Signals, signals),
                publishing.count(&acts),
            );
            drop(place); // Held for exactly as long as the publish.
        });
    }
}

/// Tells a provider that what it said is durable.
fn tell(done: oneshot::Sender<()>) {
    // A connection that was lost in between will say it again.
    let _gone = done.send(());
}

/// Receipts by provider.
#[derive(Default)]
struct Meters {
    providers: HashMap<ProviderId, ProviderMetrics>,
}

impl Meters {
    fn count(&mut self, receipt: &Receipt) {
        let provider =
            self.providers.entry_ref(&receipt.provider).or_insert_with(|| ProviderMetrics::new(&receipt.provider));
        provider.receipt(match receipt.report {
            Report::Final(fate) => Some(fate),
            Report::Called(CallResult::Completed) => Some(Fate::Completed),
            Report::Called(_) => Some(Fate::Undelivered),
            Report::Pending | Report::Progress(_) | Report::Recorded => None,
        });
    }
}

#[cfg(test)]
mod tests;
