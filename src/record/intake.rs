//! Takes frames from a queue for the ledger, opens them, and puts them together into batches. The next batch is opened
//! while the one before is being written.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::ahead::Reading;
use super::merge::Accepted;
use super::{clean, rows};
use crate::domain::event::Fact;
use crate::domain::job::Check;
use crate::domain::time::Clock;
use crate::queue::frame::{Frame, FrameError};
use crate::queue::{Delivery, Queue, QueueName};
use crate::seal::{OpenError, Sealer};

/// Most frames in a batch.
const FRAMES_MAX: usize = 64;
/// Jobs, facts and checks after which a batch takes no more frames: enough that a transaction's fixed cost does not
/// show, few enough that it takes a fraction of a second.
const ITEMS_ENOUGH: usize = 8_192;
/// Un-acknowledged frames: a batch that is written, one that waits, one that is gathered.
const PREFETCH: u16 = 3 * FRAMES_MAX as u16;
/// How long to wait before the queue is asked again.
pub(super) const RECONSUME: Duration = Duration::from_secs(1);
/// How often it is said that frames cannot be opened.
const HELD: Duration = Duration::from_secs(30);

/// A delivery, and what was in its frame.
pub(super) struct Work {
    pub(super) delivery: Delivery,
    /// The queue it comes from.
    pub(super) from: QueueName,
    /// `None` once it is merged: it is opened again if it must be merged again.
    pub(super) body: Option<Body>,
}

/// What a frame holds.
#[derive(Debug)]
pub(super) enum Body {
    Jobs(Vec<Accepted>),
    Checks(Vec<Check>),
    Facts(Vec<Fact>),
    /// Nobody will ever be able to read it.
    Unreadable(FrameError),
}

/// Fills batches until it is told to stop.
#[derive(Clone)]
pub(super) struct Intake<Q> {
    pub(super) queue: Q,
    pub(super) from: QueueName,
    /// Told of every frame of the record queue.
    pub(super) reading: Reading,
    pub(super) sealer: Sealer,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
}

impl<Q: Queue> Intake<Q> {
    /// Consumes the queue until it is told to stop, or `batches` is closed.
    pub(super) async fn run(self, batches: mpsc::Sender<Vec<Work>>) {
        while !self.stop.is_cancelled() && !batches.is_closed() {
            if let Some(deliveries) = self.consume().await {
                self.fill(deliveries, &batches).await;
            }
            let _stopped = self.stop.run_until_cancelled(self.clock.pause(RECONSUME)).await;
        }
    }

    /// Starts to consume the queue, if it can be had now.
    pub(super) async fn consume(&self) -> Option<mpsc::Receiver<Delivery>> {
        let consumed = self.queue.consume(self.from.clone(), PREFETCH).await;
        consumed.inspect_err(|error| warn!(%error, queue = %self.from, "cannot consume a queue for the ledger")).ok()
    }

    /// Fills batches until there are no more deliveries, or it is told to stop. Dropped, it gives back what it holds.
    pub(super) async fn fill(&self, mut deliveries: mpsc::Receiver<Delivery>, batches: &mpsc::Sender<Vec<Work>>) {
        while let Some(Some(first)) = self.stop.run_until_cancelled(deliveries.recv()).await {
            let Some(first) = self.open(first).await else { return };
            let mut batch = Gathered::of(first);
            let permit = loop {
                if batch.full() {
                    break batches.reserve().await;
                }
                tokio::select! {
                    biased;
                    permit = batches.reserve() => break permit,
                    next = deliveries.recv() => match next {
                        Some(next) => match self.open(next).await {
                            Some(work) => batch.add(work),
                            None => return,
                        },
                        None => break batches.reserve().await,
                    },
                }
            };
            // The writer is gone: what is in hand goes back to the queue.
            let Ok(permit) = permit else { return };
            while !batch.full()
                && let Ok(next) = deliveries.try_recv()
            {
                match self.open(next).await {
                    Some(work) => batch.add(work),
                    None => break,
                }
            }
            permit.send(batch.works);
        }
    }

    /// Opens a delivery. A frame that another process could open is held, so that nothing behind it is taken for
    /// complete; `None` when that ends because this process stops.
    async fn open(&self, delivery: Delivery) -> Option<Work> {
        if self.from == QueueName::Record {
            self.reading.begins();
        }
        loop {
            match open(&delivery.frame, &self.sealer) {
                Body::Unreadable(problem @ (FrameError::Open(OpenError::UnknownKey(_)) | FrameError::Version(_))) => {
                    error!(%problem, queue = %self.from, "cannot open a frame for the ledger; recording waits");
                    self.stop.run_until_cancelled(self.clock.pause(HELD)).await?;
                }
                body => {
                    // To open a full frame takes a millisecond: others wait for this thread.
                    tokio::task::yield_now().await;
                    return Some(Work { delivery, from: self.from.clone(), body: Some(body) });
                }
            }
        }
    }
}

/// Opens a frame and makes rows of its jobs.
pub(super) fn open(frame: &[u8], sealer: &Sealer) -> Body {
    match Frame::decode(frame, sealer) {
        Ok(Frame::Jobs(envelopes)) => {
            let mut jobs = Vec::with_capacity(envelopes.iter().map(|envelope| envelope.jobs.len()).sum());
            envelopes.iter().for_each(|envelope| rows::accepted(envelope, sealer, &mut jobs));
            Body::Jobs(jobs)
        }
        Ok(Frame::Checks(checks)) => Body::Checks(checks),
        Ok(Frame::Facts(mut facts)) => {
            facts.iter_mut().for_each(clean::fact);
            Body::Facts(facts)
        }
        Err(problem) => Body::Unreadable(problem),
    }
}

/// Returns whether a batch takes no more frames.
pub(super) fn is_full(batch: &[Work]) -> bool {
    let items = |work: &Work| work.body.as_ref().map_or(0, Body::items);
    batch.len() >= FRAMES_MAX || batch.iter().map(items).sum::<usize>() >= ITEMS_ENOUGH
}

struct Gathered {
    works: Vec<Work>,
    items: usize,
}

impl Gathered {
    fn of(first: Work) -> Self {
        let mut batch = Self { works: Vec::with_capacity(FRAMES_MAX), items: 0 };
        batch.add(first);
        batch
    }

    fn add(&mut self, work: Work) {
        self.items += work.body.as_ref().map_or(0, Body::items);
        self.works.push(work);
    }

    fn full(&self) -> bool {
        self.works.len() >= FRAMES_MAX || self.items >= ITEMS_ENOUGH
    }
}

impl Body {
    fn items(&self) -> usize {
        match self {
            Self::Jobs(jobs) => jobs.len(),
            Self::Checks(checks) => checks.len(),
            Self::Facts(facts) => facts.len(),
            Self::Unreadable(_) => 0,
        }
    }
}
