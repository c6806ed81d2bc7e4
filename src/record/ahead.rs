//! Takes signals ahead of everything else that waits to be recorded, in the process that reads the record queue.
//!
//! # Who reads signals
//! One recorder numbers all, so nobody else may read them: two that write overtake each other. But a broker gives each queue
//! to whom it likes, and does not say so. Whoever gets a frame of the record queue reads signals too, until it finds that
//! somebody else has written; then it needs another frame of the record queue first. Where signals wait and nothing else
//! does, whoever does not read them puts an empty frame there, which shows who is to.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::intake::{Intake, RECONSUME, Work};
use crate::queue::frame::Frame;
use crate::queue::{Queue, QueueName, Route};
use crate::rate_limited;

/// How often a process that does not read signals looks whether some wait. Real time: a queue fills in real time.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Whether this process reads the record queue, as far as it knows. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Reading(Arc<watch::Sender<bool>>);

/// Fills batches with signals, whenever this process is the one that reads them.
pub(super) struct Ahead<Q> {
    pub(super) intake: Intake<Q>,
}

// === impl Reading ===

impl Reading {
    /// Notes that a frame of the record queue came.
    pub(super) fn begins(&self) {
        self.note(true);
    }

    /// Notes that somebody else has written.
    pub(super) fn ends(&self) {
        self.note(false);
    }

    fn note(&self, reads: bool) {
        self.0.send_if_modified(|known| std::mem::replace(known, reads) != reads);
    }

    /// Waits until it does, or does not.
    pub(super) async fn until(&self, reads: bool) {
        let mut known = self.0.subscribe();
        // The sender lives in `self`, so the channel cannot close while this waits.
        let _closed = known.wait_for(|known| *known == reads).await;
    }
}

// === impl Ahead ===

impl<Q: Queue> Ahead<Q> {
    /// Works until it is told to stop, or `batches` is closed.
    pub(super) async fn run(self, batches: mpsc::Sender<Vec<Work>>) {
        let stop = self.intake.stop.clone();
        let _stopped = stop.run_until_cancelled(self.ring()).await;
        while !batches.is_closed() && stop.run_until_cancelled(self.turn()).await.is_some() {
            let pause = match self.intake.consume().await {
                Some(signals) => tokio::select! {
                    // Nothing is handed on any more once this process does not read them.
                    biased;
                    () = self.intake.reading.until(false) => Duration::ZERO,
                    () = self.intake.fill(signals, &batches) => RECONSUME,
                },
                None => RECONSUME,
            };
            let _stopped = stop.run_until_cancelled(self.intake.clock.pause(pause)).await;
        }
    }

    /// Waits until it is for this process to read signals.
    async fn turn(&self) {
        loop {
            tokio::select! {
                () = self.intake.reading.until(true) => return,
                () = self.intake.clock.pause(LOOK_EVERY) => {}
            }
            // With the queue away nobody reads anything; and a frame that waits there tells as much as one more.
            let waits = async |name| self.intake.queue.depth(name).await.ok().map(|frames| frames > 0);
            if waits(&QueueName::Signals).await == Some(true) && waits(&QueueName::Record).await == Some(false) {
                self.ring().await;
            }
        }
    }

    /// Puts an empty frame into the record queue: whoever gets it learns that it reads that.
    async fn ring(&self) {
        let Ok(frame) = Frame::Facts(vec![]).encode(&self.intake.sealer) else { return };
        if let Err(problem) = self.intake.queue.publish(Uuid::new_v4(), frame, Route::To(QueueName::Record)).await {
            rate_limited!(per_min = 6, warn, %problem, "cannot learn who reads signals; trying again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::domain::ids::Lane;
    use crate::domain::time::Clock;
    use crate::queue::{Delivery, PublishError, QueueError};
    use crate::seal::Sealer;

    /// A queue in which so many frames wait to be recorded, behind a signal; one that is put there is not read by anybody.
    #[derive(Clone, Default)]
    struct Unread(Arc<AtomicU64>);

    impl Queue for Unread {
        async fn declare(&self, _: &[Lane]) -> Result<(), QueueError> {
            Ok(())
        }

        async fn publish(&self, _: Uuid, _: Bytes, route: Route) -> Result<(), PublishError> {
            assert_eq!(route, Route::To(QueueName::Record));
            self.0.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        async fn consume(&self, _: QueueName, _: u16) -> Result<mpsc::Receiver<Delivery>, QueueError> {
            Ok(mpsc::channel(1).1)
        }

        async fn depth(&self, of: &QueueName) -> Result<u64, QueueError> {
            Ok(if *of == QueueName::Record { self.0.load(Ordering::SeqCst) } else { 1 })
        }

        async fn close(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_the_record_queue_is_asked_once_however_long_that_takes() {
        let (queue, clock) = (Unread::default(), Clock::system());
        let intake = Intake {
            queue: queue.clone(),
            from: QueueName::Signals,
            reading: Reading::default(),
            sealer: Sealer::ephemeral().unwrap(),
            clock: clock.clone(),
            stop: CancellationToken::new(),
        };
        let ahead = Ahead { intake };
        clock.timeout(100 * LOOK_EVERY, ahead.turn()).await.expect_err("it is nobody's turn yet");
        assert_eq!(queue.0.load(Ordering::SeqCst), 1);
        ahead.intake.reading.begins();
        clock.timeout(LOOK_EVERY, ahead.turn()).await.unwrap();
    }
}
