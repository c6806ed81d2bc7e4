//! Who consumes what, and how much more each may have in hand.

use tokio::sync::mpsc;
use tokio_util::sync::DropGuard;

use super::record::Number;
use crate::queue::{Delivery, Settled};

/// The consumers of all queues.
#[derive(Default)]
pub(super) struct Consumers {
    all: Vec<Consumer>,
    made: u64,
    /// Who is asked first next time, so that nobody starves.
    turn: usize,
}

/// One consumer.
pub(super) struct Consumer {
    pub(super) number: u64,
    pub(super) queue: Number,
    /// One at a time gets deliveries: the one that has been there longest.
    exclusive: bool,
    credit: usize,
    hand: Hand,
}

/// Where the deliveries of a consumer go, and where their fate is told.
pub(super) struct Hand {
    pub(super) deliveries: mpsc::Sender<Delivery>,
    pub(super) settled: mpsc::UnboundedSender<Settled>,
    /// Tells when the consumer was removed, so that the receiver can end.
    pub(super) _left: DropGuard,
}

// === impl Consumers ===

impl Consumers {
    /// Adds a consumer and returns its number.
    pub(super) fn join(&mut self, queue: Number, exclusive: bool, credit: usize, hand: Hand) -> u64 {
        self.made += 1;
        self.all.push(Consumer { number: self.made, queue, exclusive, credit, hand });
        self.made
    }

    /// Removes a consumer; what it has in hand may still be settled.
    pub(super) fn leave(&mut self, number: u64) {
        self.all.retain(|consumer| consumer.number != number);
    }

    /// Removes all; their receivers end.
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }

    /// Lets a consumer have `count` more.
    pub(super) fn credit(&mut self, number: u64, count: usize) {
        if let Some(consumer) = self.all.iter_mut().find(|consumer| consumer.number == number) {
            consumer.credit += count;
        }
    }

    /// Returns whether somebody consumes `queue`.
    pub(super) fn wants(&self, queue: Number) -> bool {
        self.all.iter().any(|consumer| consumer.queue == queue)
    }

    /// Returns the consumers that may have a delivery, with their positions and credit, another one first every time.
    pub(super) fn ready(&mut self) -> Vec<(usize, Number, usize)> {
        let count = self.all.len();
        self.turn = self.turn.wrapping_add(1);
        let order = (0..count).map(|step| (step + self.turn) % count);
        order.filter(|&at| self.may_have(at)).map(|at| (at, self.all[at].queue, self.all[at].credit)).collect()
    }

    /// Spends one credit of the consumer at a position that [`Consumers::ready`] returned, and returns its hand.
    pub(super) fn spend(&mut self, at: usize) -> &Hand {
        let consumer = &mut self.all[at];
        consumer.credit -= 1;
        &consumer.hand
    }

    fn may_have(&self, at: usize) -> bool {
        let consumer = &self.all[at];
        let first = || self.all.iter().position(|other| other.queue == consumer.queue) == Some(at);
        // A receiver that is gone gives back what it gets: each time would count as a delivery, until the frame is dead.
        consumer.credit > 0 && !consumer.hand.deliveries.is_closed() && (!consumer.exclusive || first())
    }
}
