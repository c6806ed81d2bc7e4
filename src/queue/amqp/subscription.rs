//! One consumer: a channel of its own on the connection that consumes, opened again after every loss, delivering into
//! the same receiver.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::future::{Either, try_join_all};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, Consumer};
use tokio::sync::mpsc;
use tracing::{info, warn};
use uuid::Uuid;

use super::Shared;
use super::link::{Backoff, Line, Link};
use super::topology::{describe, quit};
use crate::queue::{Delivery, QueueError, Settled};

/// Most settlements taken in at once.
const SETTLED_MAX: usize = 1_024;

/// A consumer and what its application has in hand.
pub(super) struct Subscription {
    shared: Arc<Shared>,
    link: Link,
    queue: ShortString,
    prefetch: u16,
    deliveries: mpsc::Sender<Delivery>,
    /// Given to every delivery; none is left when the receiver is gone.
    settled: Option<mpsc::UnboundedSender<Settled>>,
    settlements: mpsc::UnboundedReceiver<Settled>,
    /// What the tags of this channel are above. Lower ones are stale: their channel is gone, the server has them again.
    base: u64,
    /// Tags of this channel, without the base, that were handed out and not settled.
    outstanding: BTreeSet<u64>,
    /// The highest tag that was handed out, base included.
    tag_max: u64,
    /// Came and waits for room in the receiver.
    next: Option<Delivery>,
}

/// An open channel with a running consumer.
pub(super) struct Stream {
    line: Arc<Line>,
    channel: Channel,
    consumer: Consumer,
}

/// Why a stream ended.
enum End {
    /// The channel or the connection is gone.
    Lost,
    /// The receiver is gone.
    Left,
    /// The queue is closing.
    Closing,
}

// === impl Subscription ===

impl Subscription {
    /// Returns a consumer that has no stream yet, and its receiver.
    pub(super) fn new(
        shared: &Arc<Shared>,
        link: &Link,
        queue: ShortString,
        prefetch: u16,
    ) -> (Self, mpsc::Receiver<Delivery>) {
        let (deliveries, receiver) = mpsc::channel(usize::from(prefetch));
        let (settled, settlements) = mpsc::unbounded_channel();
        let subscription = Self {
            shared: Arc::clone(shared),
            link: link.clone(),
            queue,
            prefetch,
            deliveries,
            settled: Some(settled),
            settlements,
            base: 0,
            outstanding: BTreeSet::new(),
            tag_max: 0,
            next: None,
        };
        (subscription, receiver)
    }

    /// Opens a channel and starts to consume.
    pub(super) async fn open(&self) -> Result<Stream, QueueError> {
        let line = self.link.line()?;
        let channel = line.connection.create_channel().await.map_err(describe)?;
        channel.basic_qos(self.prefetch, BasicQosOptions::default()).await.map_err(describe)?;
        let consumer = channel.basic_consume(
            self.queue.clone(),
            ShortString::default(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let consumer = consumer.await.map_err(describe)?;
        Ok(Stream { line, channel, consumer })
    }

    /// Works until the receiver is gone or the queue closes.
    pub(super) async fn run(mut self, first: Stream) {
        let mut stream = Some(first);
        let mut pause = Backoff::default();
        while let Some(mut current) = stream.take() {
            match self.serve(&mut current).await {
                End::Lost => {
                    self.forget(&current);
                    stream = self.reopen(&mut pause).await;
                }
                End::Left => {
                    self.leave(&current).await;
                }
                End::Closing => {
                    self.settle_rest(&current).await;
                    quit(&current.channel).await;
                }
            }
        }
    }

    async fn serve(&mut self, stream: &mut Stream) -> End {
        let mut settled = Vec::new();
        let deliveries = self.deliveries.clone();
        loop {
            tokio::select! {
                biased;
                () = self.shared.closing.cancelled() => return End::Closing,
                () = stream.line.over.cancelled() => return End::Lost,
                _ = self.settlements.recv_many(&mut settled, SETTLED_MAX) => {
                    if self.settle(&stream.channel, &mut settled).await.is_err() {
                        return End::Lost;
                    }
                }
                () = deliveries.closed() => return End::Left,
                room = deliveries.reserve(), if self.next.is_some() => {
                    if let (Ok(room), Some(next)) = (room, self.next.take()) {
                        room.send(next);
                    }
                }
                came = stream.consumer.next(), if self.next.is_none() => match came {
                    Some(Ok(message)) => self.next = self.hand_out(message),
                    Some(Err(_)) | None => return End::Lost,
                },
            }
        }
    }

    fn hand_out(&mut self, message: lapin::message::Delivery) -> Option<Delivery> {
        let settled = self.settled.clone()?;
        self.outstanding.insert(message.delivery_tag);
        let count = deliveries_before(&message).saturating_add(1);
        let id = message.properties.message_id().as_ref().and_then(|id| id.as_str().parse().ok());
        let tag = self.base + message.delivery_tag;
        self.tag_max = tag;
        // A message without an id is not ours; whoever reads the frame finds that out.
        Some(Delivery::new(id.unwrap_or(Uuid::nil()), Bytes::from(message.data), count, tag, settled))
    }

    /// Tells the server what became of deliveries of this channel.
    async fn settle(&mut self, channel: &Channel, settled: &mut Vec<Settled>) -> lapin::Result<()> {
        let (mut acked, mut requeued) = (Vec::new(), Vec::new());
        for settled in settled.drain(..) {
            let (Settled::Acked(tag) | Settled::Requeued(tag)) = settled;
            let tag = tag.saturating_sub(self.base);
            if self.outstanding.remove(&tag) {
                if matches!(settled, Settled::Acked(_)) { &mut acked } else { &mut requeued }.push(tag);
            }
        }
        acked.sort_unstable();
        // Everything up to here is settled. What goes back is told first, so one ack may cover all that is below.
        let floor = self.outstanding.first().copied().unwrap_or(u64::MAX);
        let covered = acked.partition_point(|&tag| tag < floor);
        let singles = if covered == 0 { 0 } else { covered - 1 };
        let nacks = requeued
            .iter()
            .map(|&tag| Either::Left(channel.basic_nack(tag, BasicNackOptions { multiple: false, requeue: true })));
        let acks = acked
            .iter()
            .enumerate()
            .skip(singles)
            .map(|(at, &tag)| Either::Right(channel.basic_ack(tag, BasicAckOptions { multiple: at < covered })));
        // Written in order of the first polls.
        try_join_all(nacks.chain(acks)).await.map(drop)
    }

    /// Lets the channel go: what was handed out from it is stale.
    fn forget(&mut self, stream: &Stream) {
        info!(queue = %self.queue, connected = stream.channel.status().connected(), "deliveries interrupted");
        self.next = None;
        self.base = self.tag_max;
        self.outstanding.clear();
        // The queue itself may be gone.
        self.link.heal();
    }

    /// Opens the next stream; `None` when nobody wants one any more.
    async fn reopen(&mut self, pause: &mut Backoff) -> Option<Stream> {
        loop {
            tokio::select! {
                () = self.shared.closing.cancelled() => return None,
                () = self.deliveries.closed() => return None,
                _ = async { self.shared.clock.pause(pause.next()).await; self.link.up().await } => {}
            }
            match self.shared.answer(self.open()).await {
                Ok(stream) => {
                    *pause = Backoff::default();
                    return Some(stream);
                }
                Err(error) => {
                    warn!(%error, queue = %self.queue, "cannot consume");
                    self.link.heal();
                }
            }
        }
    }

    /// Stops to consume, waits for what is in hand, and gives the rest back.
    async fn leave(&mut self, stream: &Stream) {
        (self.settled, self.next) = (None, None);
        let cancel = stream.channel.basic_cancel(stream.consumer.tag(), BasicCancelOptions::default());
        // A channel that is lost needs no farewell.
        let _lost = self.shared.answer(async { cancel.await.map_err(describe) }).await;
        tokio::select! {
            () = self.settle_rest(stream) => {}
            () = stream.line.over.cancelled() => {}
        }
        quit(&stream.channel).await;
    }

    /// Passes on settlements until no more can come, or the queue closes.
    async fn settle_rest(&mut self, stream: &Stream) {
        let mut settled = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = self.shared.closing.cancelled(), if !self.settlements.is_closed() => self.settlements.close(),
                count = self.settlements.recv_many(&mut settled, SETTLED_MAX) => {
                    if count == 0 || self.settle(&stream.channel, &mut settled).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Returns how often a message was delivered before, as far as the server says.
fn deliveries_before(message: &lapin::message::Delivery) -> u32 {
    let headers = message.properties.headers().as_ref();
    let header = |name: &str| headers.and_then(|headers| headers.inner().get(name)).and_then(integer).unwrap_or(0);
    // From 4.0 on a frame that is given back counts as acquired, and as delivered only when its consumer failed.
    let counted = header("x-delivery-count").max(header("x-acquired-count"));
    counted.max(u32::from(message.redelivered))
}

fn integer(value: &AMQPValue) -> Option<u32> {
    match *value {
        AMQPValue::ShortShortInt(value) => value.try_into().ok(),
        AMQPValue::ShortShortUInt(value) => Some(value.into()),
        AMQPValue::ShortInt(value) => value.try_into().ok(),
        AMQPValue::ShortUInt(value) => Some(value.into()),
        AMQPValue::LongInt(value) => value.try_into().ok(),
        AMQPValue::LongUInt(value) => Some(value),
        AMQPValue::LongLongInt(value) => value.try_into().ok(),
        AMQPValue::Timestamp(value) => value.try_into().ok(),
        _ => None,
    }
}
