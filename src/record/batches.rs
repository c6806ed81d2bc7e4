//! Which batch is written next: signals and everything else take turns where both wait, so that neither waits for more than
//! one batch of the other.

use tokio::sync::mpsc;

use super::intake::Work;

/// The batches that wait, at most one of each sort.
pub(super) struct Batches {
    signals: mpsc::Receiver<Vec<Work>>,
    others: mpsc::Receiver<Vec<Work>>,
    signals_first: bool,
}

impl Batches {
    /// Returns what comes of two fillers.
    pub(super) fn new(signals: mpsc::Receiver<Vec<Work>>, others: mpsc::Receiver<Vec<Work>>) -> Self {
        Self { signals, others, signals_first: true }
    }

    /// Waits for the next batch; `None` when none can come any more.
    pub(super) async fn recv(&mut self) -> Option<Vec<Work>> {
        let Self { signals, others, signals_first } = self;
        let (first, second) = if *signals_first { (signals, others) } else { (others, signals) };
        let (batch, of_first) = tokio::select! {
            biased;
            Some(batch) = first.recv() => (batch, true),
            Some(batch) = second.recv() => (batch, false),
            else => return None,
        };
        // Whoever had its turn comes second next time; whoever came out of turn still has it.
        *signals_first ^= of_first;
        Some(batch)
    }

    /// Returns whether anything but signals waits.
    pub(super) fn others_wait(&self) -> bool {
        !self.others.is_empty()
    }

    /// Gives the signals that wait back to their queue.
    pub(super) fn give_signals_back(&mut self) {
        // At most one batch waits, and dropped it goes back.
        let _back = self.signals.try_recv();
    }

    /// Returns a batch that waits, if any does.
    pub(super) fn try_recv(&mut self) -> Option<Vec<Work>> {
        self.others.try_recv().or_else(|_| self.signals.try_recv()).ok()
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::queue::{Delivery, QueueName};

    fn batch(number: u128, from: QueueName) -> Vec<Work> {
        let delivery = Delivery::new(Uuid::from_u128(number), bytes::Bytes::new(), 1, 0, mpsc::unbounded_channel().0);
        vec![Work { delivery, from, body: None }]
    }

    #[tokio::test]
    async fn signals_and_the_rest_take_turns_and_neither_waits_for_the_other_to_come() {
        let ((signals, from_signals), (others, from_others)) = (mpsc::channel(9), mpsc::channel(9));
        let mut batches = Batches::new(from_signals, from_others);
        for number in [1, 3, 5] {
            others.try_send(batch(number, QueueName::Record)).unwrap();
        }
        let mut order = vec![];
        for _ in 0..2 {
            order.push(batches.recv().await.unwrap()[0].delivery.id.as_u128());
        }
        for number in [2, 4] {
            signals.try_send(batch(number, QueueName::Signals)).unwrap();
        }
        others.try_send(batch(7, QueueName::Record)).unwrap();
        drop((signals, others));
        while let Some(batch) = batches.recv().await {
            order.push(batch[0].delivery.id.as_u128());
        }
        assert_eq!(order, [1, 3, 2, 5, 4, 7]);
    }
}
