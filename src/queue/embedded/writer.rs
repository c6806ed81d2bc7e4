//! The one thread that owns log and index: it commits groups, hands out deliveries and keeps the log small.

use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tracing::{error, warn};
use uuid::Uuid;

use super::Options;
use super::batch::{Batch, Staged, Then};
use super::cache::Cache;
use super::consumers::{Consumers, Hand};
use super::index::Index;
use super::log::{Fault, Found, Log, Past, Place};
use super::record::{self, Mark, Number, Record, Target};
use crate::queue::{Delivery, PublishError, QueueError, QueueName, Route, Settled};

/// Version of the format; a log of another one is refused.
const VERSION: u8 = 1;

/// Most requests in one group, so that the first of a group does not wait long for the last.
const GROUP_MAX: usize = 1_024;

/// Most bytes of frames in one group, for the same reason.
const GROUP_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most deliveries handed out between two groups: as many as a group can add to two queues, so that consumers keep up.
/// Their bytes are bounded like those of a group, so that publishers do not wait long for readers.
const DELIVERIES_MAX: usize = 2 * GROUP_MAX;

/// What the thread is asked to do.
pub(super) enum Request {
    /// Adds queues.
    Declare { names: Vec<QueueName>, reply: oneshot::Sender<Result<(), QueueError>> },
    /// Makes a frame durable.
    Publish { id: Uuid, frame: Bytes, route: Route, reply: oneshot::Sender<Result<(), PublishError>> },
    /// Starts a consumer.
    Consume { from: QueueName, credit: usize, hand: Hand, reply: oneshot::Sender<Result<Joined, QueueError>> },
    /// Tells what became of deliveries of a consumer.
    Settle { by: Joined, settled: Vec<Settled> },
    /// Ends a consumer whose receiver is gone. Its deliveries may still be settled.
    Leave { consumer: u64 },
    /// Counts the frames that wait.
    Depth { of: QueueName, reply: oneshot::Sender<Result<u64, QueueError>> },
    /// Writes what there is, and ends.
    Close { reply: oneshot::Sender<()> },
}

/// A consumer, as the thread knows it.
#[derive(Clone, Copy)]
pub(super) struct Joined {
    pub(super) consumer: u64,
    pub(super) queue: Number,
}

/// A frame that was taken for the consumer at a position.
#[derive(Clone, Copy)]
struct Pick {
    at: usize,
    queue: Number,
    seq: u64,
    count: u32,
}

/// The state of the thread.
pub(super) struct Writer {
    pub(super) options: Options,
    pub(super) log: Log,
    pub(super) index: Index,
    cache: Cache,
    batch: Batch,
    consumers: Consumers,
    /// How far the oldest segment was copied forward.
    pub(super) copied: Option<(u32, u64)>,
    /// Why nothing may be written any more.
    poison: Option<Box<str>>,
    /// There is more to do than to wait for the next request.
    busy: bool,
}

// === impl Writer ===

impl Writer {
    /// Opens the log in `dir` and reads what waits in it.
    pub(super) fn open(dir: &Path, options: Options) -> io::Result<Self> {
        let mut index = Index::default();
        let found = Found::open(dir, |record, place| replay(&mut index, &options, record, place))?;
        let past = found.past;
        let floor = index.next();
        if past == Past::Cut {
            index.replay_floor(floor);
        }
        index.replayed();
        let mut log = Log::begin(found, options.segment_bytes, &start(&index))?;
        for place in index.places() {
            log.keep(place);
        }
        if past == Past::Cut && floor > 0 {
            let mut bytes = Vec::new();
            Record::Floor { seq: floor }.encode(&mut bytes);
            log.append(&bytes).map_err(Fault::into_error)?;
            log.sync()?;
        }
        log.note_open()?;
        let cache = Cache::new(options.cache_bytes);
        let (batch, consumers) = (Batch::default(), Consumers::default());
        Ok(Self { options, log, index, cache, batch, consumers, copied: None, poison: None, busy: true })
    }

    /// Works until it is closed or nobody can ask any more.
    pub(super) fn run(mut self, mut inbox: mpsc::Receiver<Request>) {
        let closed = loop {
            match self.turn(&mut inbox) {
                ControlFlow::Continue(()) => {}
                ControlFlow::Break(reply) => break reply,
            }
        };
        self.commit();
        self.consumers.clear();
        if self.poison.is_none()
            && let Err(error) = self.log.finish()
        {
            warn!(%error, "queue closed without a last sync");
        }
        drop(self);
        if let Some(reply) = closed {
            let _gone = reply.send(());
        }
    }

    /// Takes one group of requests, makes it durable, and hands out what may go.
    fn turn(&mut self, inbox: &mut mpsc::Receiver<Request>) -> ControlFlow<Option<oneshot::Sender<()>>> {
        let mut next = if self.busy {
            inbox.try_recv().ok()
        } else {
            match inbox.blocking_recv() {
                Some(request) => Some(request),
                None => return ControlFlow::Break(None),
            }
        };
        for _ in 0..GROUP_MAX {
            match next.take() {
                None => break,
                Some(Request::Close { reply }) => return ControlFlow::Break(Some(reply)),
                Some(request) => self.handle(request),
            }
            if self.batch.bytes.len() >= GROUP_BYTES_MAX {
                break;
            }
            next = inbox.try_recv().ok();
        }
        // A group that was cut at its limit leaves `next` empty: the rest stays in the inbox.
        self.commit();
        let delivered = self.deliver();
        let cleaning = self.clean();
        self.busy =
            self.poison.is_none() && (delivered || cleaning || !self.batch.staged.is_empty() || !inbox.is_empty());
        ControlFlow::Continue(())
    }

    fn handle(&mut self, request: Request) {
        match request {
            Request::Declare { names, reply } => tell(reply, self.declare(names)),
            Request::Publish { id, frame, route, reply } => self.publish(id, frame, &route, reply),
            Request::Consume { from, credit, hand, reply } => {
                let joined = self.number(&from).map(|queue| Joined {
                    consumer: self.consumers.join(queue, from.exclusive(), credit, hand),
                    queue,
                });
                tell(reply, joined);
            }
            Request::Settle { by, settled } => self.settle(by, &settled),
            Request::Leave { consumer } => self.consumers.leave(consumer),
            Request::Depth { of, reply } => {
                tell(reply, self.number(&of).map(|queue| self.index.depth(queue) as u64));
            }
            Request::Close { reply } => tell(reply, ()),
        }
    }

    fn number(&self, name: &QueueName) -> Result<Number, QueueError> {
        if let Some(why) = &self.poison {
            return Err(QueueError::Storage(why.clone()));
        }
        self.index.number(name).ok_or_else(|| QueueError::Refused(format!("no queue {name}").into()))
    }

    fn declare(&mut self, names: Vec<QueueName>) -> Result<(), QueueError> {
        let new: Vec<QueueName> = names.into_iter().filter(|name| self.index.number(name).is_none()).collect();
        let mut bytes = Vec::new();
        for (number, name) in (self.index.next_number()..).zip(&new) {
            Record::Queue { number, name: &name.to_string() }.encode(&mut bytes);
        }
        if !bytes.is_empty() {
            self.write(&bytes).and_then(|_| self.sync()).map_err(QueueError::Storage)?;
        }
        for name in new {
            let length_max = self.options.length_max(&name);
            self.index.declare(name, length_max);
        }
        Ok(())
    }

    fn publish(&mut self, id: Uuid, frame: Bytes, route: &Route, reply: oneshot::Sender<Result<(), PublishError>>) {
        if reply.is_closed() {
            return; // The publisher has given up.
        }
        let targets = match &self.poison {
            Some(why) => Err(PublishError::Storage(why.clone())),
            None if self.log.bytes() + self.batch.bytes.len() as u64 >= self.options.bytes_max => {
                Err(PublishError::Full)
            }
            None => self.index.reserve(route),
        };
        match targets {
            Err(error) => tell(reply, Err(error)),
            Ok(targets) => {
                let seq = self.index.next_seq();
                self.batch.stage(Staged { seq, id, frame, targets, then: Then::Reply(reply) });
            }
        }
    }

    fn settle(&mut self, by: Joined, settled: &[Settled]) {
        for settled in settled {
            match *settled {
                Settled::Acked(seq) => self.finish(by.queue, seq),
                Settled::Requeued(seq) => self.index.give_back(by.queue, seq),
            }
        }
        self.consumers.credit(by.consumer, settled.len());
    }

    /// Removes a frame that was taken from its queue.
    fn finish(&mut self, queue: Number, seq: u64) {
        if let Some(place) = self.index.remove(queue, seq) {
            self.log.release(place);
            self.cache.remove(seq);
        }
        self.batch.marks.push(Mark { queue, seq, count: 0 });
    }

    /// Makes the batch durable and tells whom it concerns.
    fn commit(&mut self) {
        if self.batch.is_empty() || self.poison.is_some() {
            return;
        }
        let mut bytes = std::mem::take(&mut self.batch.bytes);
        let staged = std::mem::take(&mut self.batch.staged);
        record::encode_marks(&mut bytes, &self.batch.marks);
        let written = self.write(&bytes).inspect(|_| self.batch.marks.clear());
        let durable = match written {
            Ok(place) if !staged.is_empty() => self.sync().map(|()| place),
            written => written,
        };
        for (staged, within) in staged {
            self.index.unreserve(&staged.targets);
            match &durable {
                Ok(place) => self.committed(place.part(within), staged),
                Err(why) => self.refused(why, staged),
            }
        }
        bytes.clear();
        self.batch.bytes = bytes;
    }

    fn committed(&mut self, place: Place, staged: Staged) {
        let Staged { seq, id, frame, targets, then } = staged;
        self.log.keep(place);
        self.index.insert(seq, place, &targets);
        if targets.iter().any(|target| self.consumers.wants(target.queue)) {
            self.cache.insert(seq, id, frame);
        }
        match then {
            Then::Reply(reply) => tell(reply, Ok(())),
            Then::Leave { queue, seq } => self.finish(queue, seq),
        }
    }

    fn refused(&mut self, why: &str, staged: Staged) {
        match staged.then {
            Then::Reply(reply) => tell(reply, Err(PublishError::Storage(why.into()))),
            Then::Leave { queue, seq } => self.index.give_back(queue, seq),
        }
    }

    /// Hands out what consumers may have, and returns whether there may be more.
    fn deliver(&mut self) -> bool {
        if self.poison.is_some() {
            return false;
        }
        let picks = self.pick();
        if picks.is_empty() {
            return false;
        }
        // Before the consumer can know of a delivery, the log does: a process that is killed counts it.
        let marks: Vec<Mark> = picks.iter().map(|&Pick { queue, seq, count, .. }| Mark { queue, seq, count }).collect();
        let mut bytes = Vec::with_capacity(marks.len() * 16 + 16);
        record::encode_marks(&mut bytes, &marks);
        if self.write(&bytes).is_err() {
            picks.iter().for_each(|pick| self.index.give_back(pick.queue, pick.seq));
            return false;
        }
        for pick in picks {
            self.hand_out(pick);
        }
        // The next step finds nothing if this one found all.
        true
    }

    /// Takes what consumers may have now, within the bounds of one step.
    fn pick(&mut self) -> Vec<Pick> {
        let mut picks = Vec::new();
        let mut bytes = 0;
        for (at, queue, credit) in self.consumers.ready() {
            for _ in 0..credit {
                if picks.len() >= DELIVERIES_MAX || bytes >= GROUP_BYTES_MAX {
                    return picks;
                }
                let Some((seq, count)) = self.index.take(queue) else { break };
                bytes += self.index.place(seq).map_or(0, |place| place.length as usize);
                picks.push(Pick { at, queue, seq, count });
            }
        }
        picks
    }

    fn hand_out(&mut self, pick: Pick) {
        let Pick { at, queue, seq, count } = pick;
        let found = self.cache.get(seq).map_or_else(|| self.read(seq), Ok);
        let (id, frame) = match found {
            Ok(found) => found,
            Err(error) => {
                // It stays in the log and in the hands of nobody, for somebody to look at.
                error!(%error, place = ?self.index.place(seq), "cannot read a frame back");
                return;
            }
        };
        let limit = self.index.name(queue).and_then(QueueName::deliveries_max);
        match self.index.number(&QueueName::Dead) {
            Some(dead) if limit.is_some_and(|limit| count > limit) => {
                let (targets, then) = (vec![Target { queue: dead, count: 0 }], Then::Leave { queue, seq });
                self.batch.stage(Staged { seq: self.index.next_seq(), id, frame, targets, then });
            }
            _ => {
                let hand = self.consumers.spend(at);
                let delivery = Delivery::new(id, frame, count, seq, hand.settled.clone());
                // A receiver that is gone drops the delivery, which gives it back.
                let _gone = hand.deliveries.try_send(delivery);
            }
        }
    }

    fn read(&self, seq: u64) -> io::Result<(Uuid, Bytes)> {
        let place = self.index.place(seq).ok_or(io::ErrorKind::NotFound)?;
        let bytes = self.log.read(place)?;
        let (id, length) = match Record::decode(&bytes) {
            Ok((Record::Frame { seq: found, id, frame, .. }, _)) if found == seq => (id, frame.len()),
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the record is damaged")),
        };
        let at = bytes.len() - length;
        Ok((id, Bytes::from(bytes).slice(at..)))
    }

    /// Appends to the log, in a new segment if this one is full.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<Place, Box<str>> {
        let rotated = if self.log.full(bytes.len()) { self.log.rotate(&start(&self.index)) } else { Ok(()) };
        match rotated.and_then(|()| self.log.append(bytes)) {
            Ok(place) => Ok(place),
            Err(Fault::Undone(error)) => {
                warn!(%error, "cannot write to the queue's log");
                Err(error.to_string().into())
            }
            Err(Fault::Poisoned(error)) => Err(self.poisoned(&error)),
        }
    }

    /// Makes durable what was written. After a failure nothing is written any more.
    pub(super) fn sync(&mut self) -> Result<(), Box<str>> {
        self.log.sync().map_err(|error| self.poisoned(&error))
    }

    fn poisoned(&mut self, error: &io::Error) -> Box<str> {
        error!(%error, "the queue's log may have lost writes: restart the service");
        let why: Box<str> = error.to_string().into();
        self.poison = Some(why.clone());
        self.consumers.clear();
        why
    }
}

/// Returns how a segment begins.
fn start(index: &Index) -> Vec<u8> {
    let mut bytes = Vec::new();
    Record::Start { version: VERSION, next: index.next() }.encode(&mut bytes);
    for (number, name) in index.names() {
        Record::Queue { number, name: &name.to_string() }.encode(&mut bytes);
    }
    bytes
}

fn replay(index: &mut Index, options: &Options, record: Record<'_>, place: Place) -> io::Result<()> {
    let refuse = |what: String| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    match record {
        Record::Start { version, next } if version == VERSION => index.skip_to(next),
        Record::Start { version, .. } => {
            return refuse(format!("the log has format {version}, this version reads {VERSION}"));
        }
        Record::Queue { number, name } => {
            let Ok(name) = name.parse::<QueueName>() else { return refuse(format!("unknown queue {name:?}")) };
            match index.number(&name) {
                Some(known) if known == number => {}
                None if number == index.next_number() => {
                    let length_max = options.length_max(&name);
                    index.declare(name, length_max);
                }
                _ => return refuse(format!("queue {name} has two numbers")),
            }
        }
        Record::Frame { seq, targets, .. } => index.replay_frame(seq, place, &targets),
        Record::Marks(marks) => marks.into_iter().for_each(|mark| index.replay_mark(mark)),
        Record::Floor { seq } => index.replay_floor(seq),
    }
    Ok(())
}

fn tell<T>(to: oneshot::Sender<T>, what: T) {
    // Whoever asked may have given up.
    let _gone = to.send(what);
}
