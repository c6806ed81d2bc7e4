//! What is due later: bulk-inserted into the ledger's agenda, then acknowledged.

use std::sync::Arc;

use tokio::sync::mpsc;
use tracing::{error, warn};
use uuid::Uuid;

use super::{Context, RETRY_EVERY, entry};
use crate::domain::job::Envelope;
use crate::domain::time::UnixMicros;
use crate::ledger::{Entry, Ledger};
use crate::limits::Limits;
use crate::queue::dead::{self, Why};
use crate::queue::frame::{Frame, FrameError};
use crate::queue::{Delivery, Queue, QueueError, QueueName};

/// Frames inserted in one go; as many wait at most.
const FRAMES_MAX: u16 = 256;

/// Starts to insert what is due later.
pub(super) async fn spawn<Q: Queue, L: Limits, B: Ledger>(context: &Arc<Context<Q, L, B>>) -> Result<(), QueueError> {
    let deliveries = context.queue.consume(QueueName::Later, FRAMES_MAX).await?;
    spawn_insert(context, deliveries);
    Ok(())
}

/// Starts to insert what `deliveries` bring.
pub(super) fn spawn_insert<Q: Queue, L: Limits, B: Ledger>(
    context: &Arc<Context<Q, L, B>>,
    mut deliveries: mpsc::Receiver<Delivery>,
) {
    let context = Arc::clone(context);
    let tasks = context.tasks.clone();
    tasks.spawn("later", async move {
        let stop = context.tasks.stop().clone();
        let mut frames = Vec::new();
        while stop.run_until_cancelled(deliveries.recv_many(&mut frames, usize::from(FRAMES_MAX))).await.unwrap_or(0)
            > 0
        {
            insert(&context, std::mem::take(&mut frames)).await;
        }
    });
}

/// Inserts the things of some frames, however long that takes, and acknowledges them.
async fn insert<Q: Queue, L: Limits, B: Ledger>(context: &Context<Q, L, B>, frames: Vec<Delivery>) {
    let (mut entries, mut inserted) = (Vec::new(), Vec::new());
    for delivery in frames {
        match Frame::decode(&delivery.frame, &context.sealer) {
            Ok(frame) => {
                entries.extend(entries_of(context, frame, &delivery));
                inserted.push(delivery);
            }
            Err(error) => bury(context, delivery, QueueName::Later, error).await,
        }
    }
    let mut failures = 0_u32;
    while let Err(error) = context.ledger.put_entries(&entries).await {
        if context.tasks.stopping() {
            return; // The frames are delivered again.
        }
        if failures.is_multiple_of(50) {
            warn!(%error, entries = entries.len(), "the agenda takes nothing, waiting");
        }
        failures += 1;
        context.clock.pause(RETRY_EVERY).await;
    }
    inserted.into_iter().for_each(Delivery::ack);
}

fn entries_of<Q: Queue, L: Limits, B: Ledger>(
    context: &Context<Q, L, B>,
    frame: Frame,
    delivery: &Delivery,
) -> Vec<Entry> {
    let again = delivery.count > 1;
    let id = |index| entry_id(delivery.id, index);
    match frame {
        Frame::Jobs(envelopes) => {
            let made = |(index, envelope): (usize, Envelope)| {
                let due_at = envelope.due_at;
                jobs_entry(context, id(index), marked(envelope, again), due_at)
            };
            envelopes.into_iter().enumerate().filter_map(made).collect()
        }
        Frame::Checks(checks) => {
            let made = |(index, check)| entry::check(id(index), check, &context.sealer).ok();
            checks.into_iter().enumerate().filter_map(made).collect()
        }
        Frame::Facts(_) => vec![],
    }
}

/// Returns the id of thing number `index` of a frame: the same however often the frame comes.
pub(super) fn entry_id(frame: Uuid, index: usize) -> Uuid {
    Uuid::new_v5(&frame, &index.to_be_bytes())
}

/// Returns the envelope, its jobs marked as seen if a copy may have been released before.
pub(super) fn marked(mut envelope: Envelope, again: bool) -> Envelope {
    if again {
        let released = envelope.due_at;
        for job in &mut envelope.jobs {
            job.seen = Some(job.seen.map_or(released, |seen| seen.min(released)));
        }
    }
    envelope
}

/// Returns the agenda entry of an envelope.
pub(super) fn jobs_entry<Q: Queue, L: Limits, B: Ledger>(
    context: &Context<Q, L, B>,
    id: Uuid,
    envelope: Envelope,
    due_at: UnixMicros,
) -> Option<Entry> {
    let sender = context
        .directory
        .tenant(&envelope.shared.tenant)
        .map_or(0, |tenant| tenant.mark(tenant.sender_of(&envelope.shared, UnixMicros::MAX)));
    // What came in a frame fits a frame.
    entry::jobs(id, (envelope, sender), due_at, &context.sealer).ok()
}

/// Puts a frame aside that cannot be opened; the first times it goes back, since a key file may just be missing its
/// newest key.
pub(super) async fn bury<Q: Queue, L: Limits, B: Ledger>(
    context: &Context<Q, L, B>,
    delivery: Delivery,
    from: QueueName,
    error: FrameError,
) {
    if delivery.count < 3 {
        return context.clock.pause(RETRY_EVERY).await;
    }
    error!(%error, frame = %delivery.id, "frame put aside as dead");
    let why = Why { from, reason: &error.to_string(), at: context.clock.now() };
    if let Err(problem) = dead::bury(&context.queue, delivery, why).await {
        warn!(%problem, "cannot put a frame aside");
    }
}
