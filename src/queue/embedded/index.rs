//! Which frames wait where: sequences and places in memory, never the frames. Pure: no I/O.

use std::collections::{BTreeMap, VecDeque};

use hashbrown::HashMap;

use super::log::Place;
use super::record::{Mark, Number, Target};
use crate::queue::{PublishError, QueueName, Route};

/// All queues and the frames in them. About 60 bytes for a frame that waits in two queues.
#[derive(Default)]
pub(super) struct Index {
    queues: Vec<Waiting>,
    numbers: HashMap<QueueName, Number>,
    frames: HashMap<u64, Frame>,
    next: u64,
}

/// The frames of one queue.
struct Waiting {
    name: QueueName,
    length_max: usize,
    /// Never delivered, in order.
    fresh: VecDeque<u64>,
    /// Delivered before and given back, with how often. Come before `fresh` where they are older.
    returned: BTreeMap<u64, u32>,
    /// In the hands of a consumer, with how often they were delivered, this time included.
    out: HashMap<u64, u32>,
    /// Room that frames take which are being written.
    reserved: usize,
}

struct Frame {
    place: Place,
    /// Queues that still need it.
    queues: u8,
}

// === impl Index ===

impl Index {
    /// Returns the number of a queue.
    pub(super) fn number(&self, name: &QueueName) -> Option<Number> {
        self.numbers.get(name).copied()
    }

    /// Returns the number that the next new queue gets.
    pub(super) fn next_number(&self) -> Number {
        Number::try_from(self.queues.len()).unwrap_or(Number::MAX)
    }

    /// Adds a queue; its number is [`Index::next_number`].
    pub(super) fn declare(&mut self, name: QueueName, length_max: usize) {
        self.numbers.insert(name.clone(), self.next_number());
        self.queues.push(Waiting::new(name, length_max));
    }

    /// Returns all queues, in order of their numbers.
    pub(super) fn names(&self) -> impl Iterator<Item = (Number, &QueueName)> {
        (0..).zip(self.queues.iter().map(|queue| &queue.name))
    }

    /// Returns a queue's name.
    pub(super) fn name(&self, queue: Number) -> Option<&QueueName> {
        self.queues.get(queue as usize).map(|queue| &queue.name)
    }

    /// Reserves room for a frame in every queue of `route`, or in none.
    pub(super) fn reserve(&mut self, route: &Route) -> Result<Vec<Target>, PublishError> {
        let mut targets = Vec::with_capacity(2);
        for name in route.queues() {
            let queue = self.number(name).ok_or(PublishError::Unroutable)?;
            if self.queue(queue).is_none_or(Waiting::is_full) {
                return Err(PublishError::Full);
            }
            targets.push(Target { queue, count: 0 });
        }
        for target in &targets {
            self.edit(target.queue, |queue| queue.reserved += 1);
        }
        Ok(targets)
    }

    /// Gives back what [`Index::reserve`] took.
    pub(super) fn unreserve(&mut self, targets: &[Target]) {
        for target in targets {
            self.edit(target.queue, |queue| queue.reserved = queue.reserved.saturating_sub(1));
        }
    }

    /// Returns a sequence for a new frame.
    pub(super) fn next_seq(&mut self) -> u64 {
        let seq = self.next;
        self.next += 1;
        seq
    }

    /// Returns the lowest sequence that no frame has.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Makes sure that new sequences are at least `next`.
    pub(super) fn skip_to(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Adds a new frame, which is the youngest of its queues.
    pub(super) fn insert(&mut self, seq: u64, place: Place, targets: &[Target]) {
        for target in targets {
            self.edit(target.queue, |queue| queue.fresh.push_back(seq));
        }
        self.frames.insert(seq, Frame { place, queues: u8::try_from(targets.len()).unwrap_or(u8::MAX) });
    }

    /// Takes the oldest frame that waits in `queue` and returns it with the count of this delivery.
    pub(super) fn take(&mut self, queue: Number) -> Option<(u64, u32)> {
        let queue = self.queues.get_mut(queue as usize)?;
        let returned = queue.returned.first_key_value().map(|(&seq, &count)| (seq, count));
        let (seq, count) = match (returned, queue.fresh.front()) {
            (Some((seq, count)), fresh) if fresh.is_none_or(|&fresh| seq < fresh) => {
                queue.returned.pop_first();
                (seq, count.saturating_add(1))
            }
            (_, _) => (queue.fresh.pop_front()?, 1),
        };
        queue.out.insert(seq, count);
        Some((seq, count))
    }

    /// Puts a frame that was taken back to where it was.
    pub(super) fn give_back(&mut self, queue: Number, seq: u64) {
        self.edit(queue, |queue| {
            if let Some(count) = queue.out.remove(&seq) {
                queue.returned.insert(seq, count);
            }
        });
    }

    /// Removes a frame that was taken from its queue. Returns its place once no queue needs it.
    pub(super) fn remove(&mut self, queue: Number, seq: u64) -> Option<Place> {
        self.queues.get_mut(queue as usize)?.out.remove(&seq)?;
        self.forget(seq)
    }

    /// Returns how many frames wait in `queue`.
    pub(super) fn depth(&self, queue: Number) -> usize {
        self.queue(queue).map_or(0, |queue| queue.fresh.len() + queue.returned.len())
    }

    /// Returns where a frame is.
    pub(super) fn place(&self, seq: u64) -> Option<Place> {
        self.frames.get(&seq).map(|frame| frame.place)
    }

    /// Returns the places of all frames.
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.frames.values().map(|frame| frame.place)
    }

    /// Notes that a frame was copied to `place`, and returns where it was.
    pub(super) fn relocate(&mut self, seq: u64, place: Place) -> Option<Place> {
        self.frames.get_mut(&seq).map(|frame| std::mem::replace(&mut frame.place, place))
    }

    /// Returns those of `targets` that still need a frame, with how often it was delivered there.
    pub(super) fn still_needed_by(&self, seq: u64, targets: &[Target]) -> Vec<Target> {
        let still = |target: &Target| Some(Target { count: self.queue(target.queue)?.count(seq)?, ..*target });
        targets.iter().filter_map(still).collect()
    }

    /// Replays a frame of the log: new, or a later copy of one that is known.
    pub(super) fn replay_frame(&mut self, seq: u64, place: Place, targets: &[Target]) {
        self.skip_to(seq.saturating_add(1));
        if self.relocate(seq, place).is_some() {
            return;
        }
        for target in targets {
            self.edit(target.queue, |queue| {
                queue.returned.insert(seq, target.count);
            });
        }
        self.frames.insert(seq, Frame { place, queues: u8::try_from(targets.len()).unwrap_or(u8::MAX) });
    }

    /// Replays a mark of the log.
    pub(super) fn replay_mark(&mut self, mark: Mark) {
        let Some(queue) = self.queues.get_mut(mark.queue as usize) else { return };
        if mark.count > 0 {
            if let Some(count) = queue.returned.get_mut(&mark.seq) {
                *count = mark.count.max(*count);
            }
        } else if queue.returned.remove(&mark.seq).is_some() {
            self.forget(mark.seq);
        }
    }

    /// Replays a floor: every frame below `seq` counts at least one delivery.
    pub(super) fn replay_floor(&mut self, seq: u64) {
        for queue in &mut self.queues {
            for (_, count) in queue.returned.range_mut(..seq) {
                *count = (*count).max(1);
            }
        }
    }

    /// Ends the replay: what was never delivered is fresh.
    pub(super) fn replayed(&mut self) {
        for queue in &mut self.queues {
            queue.fresh = queue.returned.iter().filter(|(_, count)| **count == 0).map(|(&seq, _)| seq).collect();
            queue.returned.retain(|_, count| *count > 0);
        }
    }

    fn forget(&mut self, seq: u64) -> Option<Place> {
        let frame = self.frames.get_mut(&seq)?;
        frame.queues = frame.queues.saturating_sub(1);
        if frame.queues > 0 {
            return None;
        }
        self.frames.remove(&seq).map(|frame| frame.place)
    }

    fn queue(&self, queue: Number) -> Option<&Waiting> {
        self.queues.get(queue as usize)
    }

    fn edit(&mut self, queue: Number, edit: impl FnOnce(&mut Waiting)) {
        if let Some(queue) = self.queues.get_mut(queue as usize) {
            edit(queue);
        }
    }
}

// === impl Waiting ===

impl Waiting {
    fn new(name: QueueName, length_max: usize) -> Self {
        Self { name, length_max, fresh: VecDeque::new(), returned: BTreeMap::new(), out: HashMap::new(), reserved: 0 }
    }

    fn is_full(&self) -> bool {
        self.fresh.len() + self.returned.len() + self.out.len() + self.reserved >= self.length_max
    }

    /// Returns how often a frame was delivered, if it is still needed here.
    fn count(&self, seq: u64) -> Option<u32> {
        let known = self.out.get(&seq).or_else(|| self.returned.get(&seq));
        known.copied().or_else(|| self.fresh.binary_search(&seq).is_ok().then_some(0))
    }
}
