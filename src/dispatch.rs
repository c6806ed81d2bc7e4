//! Lane → permit → claim → channel → verdict.
//!
//! A frame is taken only while there is room to work on it. For as many of its jobs as a provider has room and rate for:
//! claim them with their caps, past opt-outs and cancellations; hand them over; decide from the answers. The frame is
//! acknowledged when each of its jobs has a confirmed event, a confirmed place in the agenda, or a confirmed check.
//!
//! What a crash leaves behind: before the claim, nothing; after it, a claim that makes any other copy of the job a
//! check, which record decides once the claim's deadline has passed.

mod alone;
mod breaker;
mod gate;
mod hand;
mod learn;
mod out;
mod recovery;
mod ringing;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tracing::{error, warn};

pub use gate::{Gate, Gates, Permit, Provider, Wish};
pub use recovery::Recovery;
pub use ringing::Ringing;

use crate::crash;
use crate::domain::event::Fact;
use crate::domain::ids::{Lane, PoolId};
use crate::domain::job::{Check, Class, Envelope};
use crate::domain::time::{Clock, UnixMicros};
use crate::ledger::{Directory, Ledger, Templates};

use crate::limits::pacer::Pacer;
use crate::limits::{GiveBack, Limits};
use crate::policy::extensions::Extensions;
use crate::policy::windows::Windows;
use crate::queue::dead::{self, Why};
use crate::queue::frame::Frame;
use crate::queue::outbox::{Item as Packable, Outbox};
use crate::queue::{Delivery, Queue, QueueError, QueueName, Route};
use crate::receipt::Senders;
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::DispatchMetrics;

/// How long a frame is held: a job still without a permit goes back to the agenda then, one still without an answer
/// becomes a check.
const HOLD: Duration = Duration::from_secs(20);
/// Frames of a lane in work at the same time. With 128 jobs a frame this is far more than a provider's window; the
/// windows are what bounds.
const FRAMES_IN_WORK: u16 = 24;
/// At this delivery a frame is divided into single jobs, so that a poison one harms nobody else.
const SPLIT_AT: u32 = 3;
/// At this delivery a single job is put aside as dead.
const DEAD_AT: u32 = 20;
/// Work due within this time goes to the feeder's timing wheel instead of the agenda.
const SOON: Duration = Duration::from_secs(30);
/// How often a node without a place among a pool's connections looks whether it has one.
const PLACE_EVERY: Duration = Duration::from_millis(50);
/// Between two tries of something that must succeed before the frame may be acknowledged.
const RETRY_EVERY: Duration = Duration::from_millis(200);

/// What dispatch works with.
pub struct Context<Q, L, B> {
    /// The lanes.
    pub queue: Q,
    /// Claims and caps.
    pub limits: L,
    /// The second source of opt-outs.
    pub ledger: B,
    /// Tenants with their caps.
    pub directory: Directory,
    /// What stored templates say.
    pub templates: Templates,
    /// The numbers at providers that are tenants' own.
    pub extensions: Arc<Extensions>,
    /// The send windows of tenants that have none of their own.
    pub windows: Arc<Windows>,
    /// Opens frames.
    pub sealer: Sealer,
    /// How long a job of each class lives after the time it was moved to, in the order of [`Class::ALL`].
    pub lives: [Duration; Class::ALL.len()],
    /// Time.
    pub clock: Clock,
    /// The group of its tasks.
    pub tasks: Tasks,
    /// The pools that this node has providers of.
    pub gates: Gates<L>,
    /// Tokens of tenants' rates.
    pub pacer: Pacer<L>,
    /// Facts for record.
    pub facts: Outbox<Q, Fact>,
    /// Work for later.
    pub work: Outbox<Q, Envelope>,
    /// Checks.
    pub checks: Outbox<Q, Check>,
    /// Who wrote to whom lately, for replies.
    pub senders: Senders,
    /// The calls that ring.
    pub ringing: Ringing,
    /// What it counts.
    pub metrics: Arc<DispatchMetrics>,
}

/// Starts to consume the lanes of every pool that this node has providers of; those of a pool of which other nodes have all
/// connections once it has one, too.
///
/// # Errors
/// When a lane cannot be consumed; what was started stops with the group of tasks.
pub async fn spawn<Q: Queue, L: Limits, B: Ledger>(context: Arc<Context<Q, L, B>>) -> Result<(), QueueError> {
    for (pool, gate) in &context.gates {
        let lanes =
            Class::ALL.iter().map(|&class| (QueueName::Lane(Lane { class, pool: pool.clone() }), FRAMES_IN_WORK));
        let queues: Vec<_> = lanes.chain([(QueueName::Suspect(pool.clone()), 1)]).collect();
        if gate.has_place() {
            for (queue, prefetch) in queues {
                consume(&context, queue, prefetch).await?;
            }
        } else {
            let (waiting, pool) = (Arc::clone(&context), pool.clone());
            context.tasks.spawn("place", async move {
                // Whatever comes of it when the service stops, nothing was consumed.
                let _stopped =
                    waiting.tasks.stop().clone().run_until_cancelled(waiting.consume_later(&pool, queues)).await;
            });
        }
    }
    context.tasks.spawn("ringing calls", Arc::clone(&context).attend());
    Ok(())
}

async fn consume<Q: Queue, L: Limits, B: Ledger>(
    context: &Arc<Context<Q, L, B>>,
    from: QueueName,
    prefetch: u16,
) -> Result<(), QueueError> {
    let mut deliveries = context.queue.consume(from.clone(), prefetch).await?;
    let (context, places) = (Arc::clone(context), Arc::new(Semaphore::new(usize::from(prefetch))));
    let tasks = context.tasks.clone();
    tasks.spawn("lane", async move {
        let stop = context.tasks.stop().clone();
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let Some(delivery) = stop.run_until_cancelled(deliveries.recv()).await.flatten() else { break };
            let (context, from) = (Arc::clone(&context), from.clone());
            context.tasks.clone().spawn("frame", async move {
                context.work_on(delivery, &from).await;
                drop(place); // Held for exactly as long as the frame.
            });
        }
    });
    Ok(())
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Waits until this node has a place among those that carry a pool's jobs, and consumes its lanes from then on.
    async fn consume_later(self: &Arc<Self>, pool: &PoolId, queues: Vec<(QueueName, u16)>) {
        while self.gates.get(pool).is_some_and(|gate| !gate.has_place()) {
            self.clock.pause(PLACE_EVERY).await;
        }
        for (queue, prefetch) in queues {
            while let Err(problem) = consume(self, queue.clone(), prefetch).await {
                warn!(%problem, %queue, "cannot consume a lane; trying again");
                self.clock.pause(RETRY_EVERY).await;
            }
        }
    }

    /// Takes one delivery to its end: acknowledged, or dropped and so delivered again.
    async fn work_on(self: &Arc<Self>, delivery: Delivery, from: &QueueName) {
        let envelopes = match Frame::decode(&delivery.frame, &self.sealer) {
            Ok(Frame::Jobs(envelopes)) => envelopes,
            Ok(Frame::Checks(_) | Frame::Facts(_)) => return self.bury(delivery, from, "no jobs").await,
            // A key file may just be missing its newest key.
            Err(_) if delivery.count < SPLIT_AT => return self.clock.pause(RETRY_EVERY).await,
            Err(error) => return self.bury(delivery, from, &error.to_string()).await,
        };
        match from {
            QueueName::Suspect(_) if delivery.count >= DEAD_AT => {
                return self.bury(delivery, from, "ended dispatch again and again").await;
            }
            QueueName::Suspect(_) => {}
            _ if delivery.count >= SPLIT_AT => return self.split(delivery, envelopes).await,
            _ => {}
        }
        let again = delivery.count > 1;
        let mut hand = hand::Hand::new(self, envelopes, again);
        let brief = match from {
            QueueName::Suspect(_) => true,
            // Its last place went to another node, which carries the jobs.
            QueueName::Lane(lane) => self.gates.get(&lane.pool).is_some_and(|gate| !gate.has_place()),
            QueueName::Soon | QueueName::Later | QueueName::Record | QueueName::Signals | QueueName::Dead => false,
        };
        if brief {
            hand.be_brief();
        }
        let late = hand.run().await;
        let (out, given_up) = (hand.out, hand.given_up);
        if self.confirm(out).await && !given_up {
            crash::point(crash::Point::AfterEvent);
            delivery.ack();
        }
        for late in late {
            late.finish(self).await;
        }
    }

    /// Publishes what follows from a delivery; returns whether all of it is confirmed.
    async fn confirm(&self, mut out: out::Out) -> bool {
        let soon = self.clock.now().plus(SOON);
        let place = |due: UnixMicros| if due <= soon { QueueName::Soon } else { QueueName::Later };
        let (near, far): (Vec<_>, Vec<_>) = out.envelopes().into_iter().partition(|envelope| envelope.due_at <= soon);
        let (near_checks, far_checks): (Vec<_>, Vec<_>) =
            std::mem::take(&mut out.checks).into_iter().partition(|check| place(check.due_at) == QueueName::Soon);
        let (facts, near, far, near_checks, far_checks) = tokio::join!(
            self.insist(&self.facts, std::mem::take(&mut out.facts), QueueName::Record),
            self.insist(&self.work, near, QueueName::Soon),
            self.insist(&self.work, far, QueueName::Later),
            self.insist(&self.checks, near_checks, QueueName::Soon),
            self.insist(&self.checks, far_checks, QueueName::Later),
        );
        let confirmed = facts && near && far && near_checks && far_checks;
        confirmed && self.insist(&self.facts, std::mem::take(&mut out.last), QueueName::Record).await
    }

    /// Publishes until it is confirmed, or the process stops: results stay in memory through a broker's absence.
    async fn insist<T: Packable + Clone>(&self, outbox: &Outbox<Q, T>, items: Vec<T>, to: QueueName) -> bool {
        if items.is_empty() {
            return true;
        }
        loop {
            match outbox.publish(items.clone(), Route::To(to.clone())).await {
                Ok(()) => return true,
                Err(_) if self.tasks.stopping() => return false,
                Err(_) => self.clock.pause(RETRY_EVERY).await,
            }
        }
    }

    /// Divides a frame that keeps failing into single jobs, which are tried one at a time.
    async fn split(&self, delivery: Delivery, envelopes: Vec<Envelope>) {
        warn!(jobs = envelopes.iter().map(|envelope| envelope.jobs.len()).sum::<usize>(), "frame split after failing");
        for alone in dead::suspects(&envelopes) {
            let to = QueueName::Suspect(alone.shared.pool.clone());
            let Ok(frame) = dead::single(alone, &self.sealer) else { continue };
            if !self.put(frame, to).await {
                return; // Delivered again: the copies meet each other's claims.
            }
        }
        delivery.ack();
    }

    /// Puts a frame aside that cannot be worked on. If that fails it comes back.
    async fn bury(&self, delivery: Delivery, from: &QueueName, reason: &str) {
        error!(frame = %delivery.id, %from, reason, "frame put aside as dead");
        let why = Why { from: from.clone(), reason, at: self.clock.now() };
        if let Err(problem) = dead::bury(&self.queue, delivery, why).await {
            warn!(%problem, "cannot put a frame aside");
            self.clock.pause(RETRY_EVERY).await;
        }
    }

    async fn put(&self, frame: bytes::Bytes, to: QueueName) -> bool {
        let id = crate::domain::ids::JobId::new(self.clock.now(), fastrand::u128(..)).0;
        while self.queue.publish(id, frame.clone(), Route::To(to.clone())).await.is_err() {
            if self.tasks.stopping() {
                return false;
            }
            self.clock.pause(RETRY_EVERY).await;
        }
        true
    }

    /// Gives claims back; returns whether limits have them.
    async fn give_back(&self, back: &[GiveBack]) -> bool {
        for _ in 0..5 {
            if self.limits.give_back(back).await.is_ok() {
                return true;
            }
            self.clock.pause(RETRY_EVERY).await;
        }
        false
    }
}
