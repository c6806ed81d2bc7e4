//! What is due within seconds: kept in memory, its frame un-acknowledged, so that a crash costs nothing. Of what memory
//! has no room for, the agenda takes care: nothing due soon waits in the queue behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::future::join_all;
use tokio::sync::{Semaphore, mpsc};
use uuid::Uuid;

use super::grant::Part;
use super::wheel::{Step, Wheel};
use super::{Context, RETRY_EVERY, later};
use crate::domain::job::{Check, Class, Envelope};
use crate::domain::time::UnixMicros;
use crate::ledger::{Entry, Ledger};
use crate::limits::Limits;
use crate::queue::frame::Frame;
use crate::queue::{Delivery, Queue, QueueError, QueueName, Route};

/// Frames kept in memory at most.
const FRAMES_MAX: usize = 8 * 1024;
/// Bytes of frames kept in memory at most.
const BYTES_MAX: usize = 32 << 20;
/// Frames on their way to the agenda at most.
const OVERFLOW_MAX: usize = 512;
/// Frames that are not acknowledged yet: room for all of them.
const PREFETCH: u16 = 10 * 1024;
/// Due things released in one go.
const GROUP_MAX: usize = 256;
/// Groups being released at the same time.
const GROUPS_MAX: usize = 8;

/// One thing of a frame, and the frame it keeps.
struct Kept {
    thing: Thing,
    entry: Uuid,
    frame: Arc<Keep>,
}

enum Thing {
    Send(Envelope),
    Check(Check),
}

/// A delivery that is acknowledged when all of its things are done with.
struct Keep {
    delivery: Mutex<Option<Delivery>>,
    left: AtomicUsize,
    bytes: usize,
    load: Arc<Load>,
}

/// What is kept in memory.
#[derive(Default)]
struct Load {
    frames: AtomicUsize,
    bytes: AtomicUsize,
}

/// Starts to keep and release what is due soon.
pub(super) async fn spawn<Q: Queue, L: Limits, B: Ledger>(context: &Arc<Context<Q, L, B>>) -> Result<(), QueueError> {
    let mut deliveries = context.queue.consume(QueueName::Soon, PREFETCH).await?;
    let (context, load) = (Arc::clone(context), Arc::new(Load::default()));
    let (overflow, overflowing) = mpsc::channel(OVERFLOW_MAX);
    later::spawn_insert(&context, overflowing);
    let tasks = context.tasks.clone();
    tasks.spawn("soon", async move {
        let places = Arc::new(Semaphore::new(GROUPS_MAX));
        let mut wheel = Wheel::new();
        let stop = context.tasks.stop().clone();
        loop {
            let wake_at = match wheel.step(context.clock.now(), GROUP_MAX) {
                Step::Ready(group) => {
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { break };
                    let sharing = Arc::clone(&context);
                    context.tasks.spawn("release_soon", async move {
                        sharing.release_soon(group).await;
                        drop(place); // Held for exactly as long as the group.
                    });
                    continue;
                }
                Step::SleepUntil(due) => due,
                Step::Idle => UnixMicros::MAX,
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = context.clock.sleep_until(wake_at) => {}
                delivery = deliveries.recv(), if !load.full() || overflow.capacity() > 0 => match delivery {
                    Some(delivery) if load.full() => {
                        // There is room: this is its only sender.
                        let _stopping = overflow.try_send(delivery);
                    }
                    Some(delivery) => keep(&context, delivery, &mut wheel, &load).await,
                    None => break,
                },
            }
        }
    });
    Ok(())
}

async fn keep<Q: Queue, L: Limits, B: Ledger>(
    context: &Context<Q, L, B>,
    delivery: Delivery,
    wheel: &mut Wheel<Kept>,
    load: &Arc<Load>,
) {
    let (id, again) = (delivery.id, delivery.count > 1);
    let things: Vec<(UnixMicros, Thing)> = match Frame::decode(&delivery.frame, &context.sealer) {
        Ok(Frame::Jobs(envelopes)) => {
            envelopes.into_iter().map(|e| (e.due_at, Thing::Send(later::marked(e, again)))).collect()
        }
        Ok(Frame::Checks(checks)) => checks.into_iter().map(|check| (check.due_at, Thing::Check(check))).collect(),
        Ok(Frame::Facts(_)) => vec![],
        Err(error) => return later::bury(context, delivery, QueueName::Soon, error).await,
    };
    let frame = Arc::new(Keep::new(delivery, things.len(), load));
    if things.is_empty() {
        frame.ack();
    }
    for (index, (due_at, thing)) in things.into_iter().enumerate() {
        let entry = later::entry_id(id, index);
        wheel.put(due_at, Kept { thing, entry, frame: Arc::clone(&frame) });
    }
}

/// How an attempt to release something ended.
enum Released {
    /// It is durable where it belongs.
    Done,
    /// Rate, credit or lane have no room for it: it waits its turn in the agenda.
    NoRoom(Box<Entry>),
    /// Not known to be durable: again.
    Failed,
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Releases what is due: to its lane what may go whole, to record the checks, to the agenda the rest.
    async fn release_soon(&self, group: Vec<Kept>) {
        // One-time passwords wait for nobody else's leave.
        let (otp, rest) = group.into_iter().partition(Kept::is_otp);
        tokio::join!(self.release_group(otp), self.release_group(rest));
    }

    async fn release_group(&self, mut group: Vec<Kept>) {
        loop {
            group = self.release_what_can(group).await;
            if group.is_empty() || self.tasks.stopping() {
                return; // The frames of what is left are delivered again.
            }
            self.clock.pause(RETRY_EVERY).await;
        }
    }

    /// Releases once; returns what could not be made durable.
    async fn release_what_can(&self, group: Vec<Kept>) -> Vec<Kept> {
        let leaves = join_all(group.iter().map(|kept| self.has_leave(kept))).await;
        // Only what goes reserves a time: nobody waits for what is turned away.
        let going =
            group.iter().zip(&leaves).filter(|(_, goes)| **goes).filter_map(|(kept, _)| kept.envelope().cloned());
        let mut reserved = self.reserve(going.collect()).into_iter();
        let mut release = |(kept, goes): (_, bool)| {
            let envelopes = Kept::envelope(kept).filter(|_| goes).and_then(|_| reserved.next());
            self.release_one(kept, envelopes)
        };
        let releases: Vec<_> = group.iter().zip(leaves).map(&mut release).collect();
        let results = join_all(releases).await;
        let (mut entries, mut turned_away, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        for (mut kept, released) in group.into_iter().zip(results) {
            match released {
                Released::Done => kept.frame.done(),
                Released::NoRoom(entry) => {
                    entries.push(*entry);
                    turned_away.push(kept);
                }
                Released::Failed => {
                    kept.may_be_out(self.clock.now());
                    failed.push(kept);
                }
            }
        }
        if entries.is_empty() || self.ledger.put_entries(&entries).await.is_ok() {
            turned_away.iter().for_each(|kept| kept.frame.done());
        } else {
            failed.append(&mut turned_away);
        }
        failed
    }

    /// Returns whether something may go now: as a whole or not at all.
    async fn has_leave(&self, kept: &Kept) -> bool {
        let Some(envelope) = kept.envelope() else { return true };
        let jobs = u32::try_from(envelope.jobs.len()).unwrap_or(u32::MAX);
        let paced = self.paced(&envelope.shared);
        let leave = self.grant(&envelope.shared.tenant, &paced, &envelope.lane(), (jobs, Part::Whole)).await;
        leave.jobs >= jobs
    }

    /// Releases a check, or jobs as the envelopes that reserved their times; without these they have no leave.
    async fn release_one(&self, kept: &Kept, reserved: Option<Vec<Envelope>>) -> Released {
        let (published, released) = match (&kept.thing, reserved) {
            (Thing::Check(check), _) => {
                (self.checks.publish(vec![check.clone()], Route::To(QueueName::Record)).await, None)
            }
            (Thing::Send(envelope), None) => {
                let entry = later::jobs_entry(self, kept.entry, envelope.clone(), self.clock.now());
                return entry.map_or(Released::Failed, |entry| Released::NoRoom(Box::new(entry)));
            }
            (Thing::Send(envelope), Some(reserved)) => {
                let lane = envelope.lane();
                let published = self.work.publish(reserved, Route::To(QueueName::Lane(lane.clone()))).await;
                (published, Some((lane, envelope.jobs.len())))
            }
        };
        match (published, released) {
            (Ok(()), Some((lane, jobs))) => {
                self.metrics.released(lane.class, jobs);
                self.depths.released(&lane, jobs);
                Released::Done
            }
            (Ok(()), None) => Released::Done,
            (Err(_), _) => Released::Failed,
        }
    }
}

// === impl Kept ===

impl Kept {
    fn envelope(&self) -> Option<&Envelope> {
        match &self.thing {
            Thing::Send(envelope) => Some(envelope),
            Thing::Check(_) => None,
        }
    }

    fn is_otp(&self) -> bool {
        self.envelope().is_some_and(|envelope| envelope.shared.class == Class::Otp)
    }

    /// Notes that a copy may have been released: its publish was not confirmed.
    fn may_be_out(&mut self, now: UnixMicros) {
        if let Thing::Send(envelope) = &mut self.thing {
            envelope.jobs.iter_mut().for_each(|job| job.seen = Some(job.seen.unwrap_or(now)));
        }
    }
}

// === impl Load ===

impl Load {
    fn full(&self) -> bool {
        self.frames.load(Ordering::Relaxed) >= FRAMES_MAX || self.bytes.load(Ordering::Relaxed) >= BYTES_MAX
    }
}

// === impl Keep ===

impl Keep {
    fn new(delivery: Delivery, things: usize, load: &Arc<Load>) -> Self {
        let bytes = delivery.frame.len();
        load.frames.fetch_add(1, Ordering::Relaxed);
        load.bytes.fetch_add(bytes, Ordering::Relaxed);
        let left = AtomicUsize::new(things);
        Self { delivery: Mutex::new(Some(delivery)), left, bytes, load: Arc::clone(load) }
    }

    fn done(&self) {
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.ack();
        }
    }

    fn ack(&self) {
        if let Some(delivery) = self.delivery.lock().unwrap_or_else(PoisonError::into_inner).take() {
            delivery.ack();
        }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.load.frames.fetch_sub(1, Ordering::Relaxed);
        self.load.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
