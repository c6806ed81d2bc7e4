//! One bound connection: a single task that writes many segments a system call, reads many answers a system call, keeps
//! the link alive, and ends in order.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use rusmpp::Pdu;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::bind::Stream;
use super::desk::Delivery;
use super::exchange::{Batch, Exchange};
use super::route::Route;
use super::status;
use super::wire::{self, Body, Deliver, NotSmpp};
use crate::channel::{Inbound, News};
use crate::crash;
use crate::telemetry::metrics::LinkEvent;

/// How much is read at once, and how much room that needs.
const READ_LEN: usize = 64 * 1024;

/// How many answers may wait for a peer that does not read them; then its requests are not read either.
const ANSWERS_LEN_MAX: usize = 256 * 1024;

/// Most deliveries that may wait to become durable; then the SMSC is asked to say it again later.
const DELIVERIES_MAX: usize = 1_000;

/// How long a delivery may wait to become durable. SMSCs give up after 30 s or more.
const DURABLE_WITHIN: Duration = Duration::from_secs(20);

/// How often deadlines are looked at, unless time-outs are so short that it must be more often.
const TICK: Duration = Duration::from_millis(200);

/// How long the other side may take to say goodbye.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);

/// Why a session ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// We were told to stop, and did so in order.
    #[error("stopped")]
    Stopped,
    /// The SMSC ended it with an unbind.
    #[error("unbound by the SMSC")]
    Unbound,
    /// The SMSC closed the connection.
    #[error("connection closed by the SMSC")]
    Closed,
    /// The connection broke.
    #[error("connection lost")]
    Lost(#[from] std::io::Error),
    /// The SMSC does not answer, or does not read.
    #[error("no sign of life from the SMSC")]
    Silent,
    /// The SMSC says that we are not bound.
    #[error("the SMSC does not know this bind any more")]
    NotBound,
    /// What came was not SMPP.
    #[error(transparent)]
    NotSmpp(#[from] NotSmpp),
}

/// What a write did.
enum Written {
    /// It took bytes.
    Some,
    /// What was taken before has left.
    Flushed,
    /// It takes no more.
    Nothing,
}

/// A delivery that becomes durable: its sequence number, if it is to be answered, and whether it did.
type Durable = Pin<Box<dyn Future<Output = (Option<u32>, bool)> + Send>>;

/// A bound connection.
pub(super) struct Session {
    route: Arc<Route>,
    bind: usize,
    leave: CancellationToken,
    exchange: Exchange,
    reader: ReadHalf<Box<dyn Stream>>,
    writer: WriteHalf<Box<dyn Stream>>,
    input: BytesMut,
    output: BytesMut,
    /// Bytes ever put into `output`.
    offset: u64,
    deliveries: FuturesUnordered<Durable>,
    /// When the last whole PDU came.
    heard_at: Duration,
    /// When `output` was last empty or grew shorter.
    written_at: Duration,
    /// When we last asked whether the SMSC lives.
    asked_at: Duration,
    unflushed: bool,
    phase: Phase,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Anything goes.
    Open,
    /// Nothing new is written; answers are waited for until then.
    Draining { until: Duration },
    /// We said unbind; nothing but its answer is waited for until then.
    Leaving { until: Duration },
    /// The SMSC said unbind; what it still answers is taken until then.
    Left { until: Duration },
}

// === impl Session ===

impl Session {
    /// Returns a session over a connection that is bound, with what was read behind the bind's answer. It ends in order when
    /// `leave` is cancelled.
    pub(super) fn new(
        route: Arc<Route>,
        bind: usize,
        (stream, input): (Box<dyn Stream>, BytesMut),
        leave: CancellationToken,
    ) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        let now = route.now();
        let exchange = Exchange::new(route.pace(), route.bind(bind).load.clone());
        Self {
            route,
            bind,
            leave,
            exchange,
            reader,
            writer,
            input,
            output: BytesMut::with_capacity(READ_LEN),
            offset: 0,
            deliveries: FuturesUnordered::new(),
            heard_at: now,
            written_at: now,
            asked_at: now,
            unflushed: false,
            phase: Phase::Open,
        }
    }

    /// Carries jobs until the connection ends, and answers every one that it was given.
    pub(super) async fn run(mut self, jobs: &mut mpsc::UnboundedReceiver<Batch>) -> End {
        let end = match self.converse(jobs).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        // Before the goodbye, so that nothing more is given to a bind that is over.
        self.route.bind(self.bind).set_up(false);
        let sent = self.offset - self.output.len() as u64;
        self.route.note_all(self.exchange.lose(sent));
        // The goodbye is a courtesy: the connection is closed either way.
        let _late = self.route.clock().timeout(GOODBYE, self.writer.shutdown()).await;
        end
    }

    async fn converse(&mut self, jobs: &mut mpsc::UnboundedReceiver<Batch>) -> Result<std::convert::Infallible, End> {
        let (route, leave) = (Arc::clone(&self.route), self.leave.clone());
        let tick = TICK.min(route.pace().response_timeout / 10);
        let mut next_tick = std::pin::pin!(route.clock().pause(tick));
        self.hear()?;
        loop {
            // While draining, only the rest of jobs that are partly out is left to be written.
            if matches!(self.phase, Phase::Open | Phase::Draining { .. }) {
                self.exchange.fill(&mut self.output, &mut self.offset, route.now());
            }
            tokio::select! {
                read = self.reader.read_buf(&mut self.input), if self.output.len() < ANSWERS_LEN_MAX => {
                    if read? == 0 {
                        return Err(if matches!(self.phase, Phase::Left { .. }) { End::Unbound } else { End::Closed });
                    }
                    self.hear()?;
                }
                written = write(&mut self.writer, &mut self.output), if self.unflushed || !self.output.is_empty() => {
                    self.unflushed = match written? {
                        Written::Some => true,
                        Written::Flushed => false,
                        Written::Nothing => return Err(End::Closed),
                    };
                    self.written_at = route.now();
                }
                Some(batch) = jobs.recv() => {
                    self.take(batch);
                    while let Ok(batch) = jobs.try_recv() {
                        self.take(batch);
                    }
                }
                Some((sequence, durable)) = self.deliveries.next() => {
                    self.answer_delivery(sequence, if durable { 0 } else { status::TRY_AGAIN });
                }
                () = &mut next_tick => {
                    self.on_tick()?;
                    next_tick.set(route.clock().pause(tick));
                }
                () = leave.cancelled(), if self.phase == Phase::Open => {
                    // Others go on.
                    route.bind(self.bind).set_up(false);
                    // Whoever only gives a bind to another node can wait for every answer.
                    let patience = route.pace().response_timeout;
                    let drain = route.settings().drain;
                    let drain = if route.stop().is_cancelled() { drain } else { drain.max(patience) };
                    self.phase = Phase::Draining { until: route.now() + drain };
                    self.exchange.give_back_unwritten("stopping");
                    self.leave_when_done();
                }
            }
        }
    }

    fn take(&mut self, batch: Batch) {
        match self.phase {
            Phase::Open => self.exchange.accept(batch),
            Phase::Draining { .. } | Phase::Leaving { .. } => self.route.bind(self.bind).load.refuse(batch, "stopping"),
            Phase::Left { .. } => self.route.bind(self.bind).load.refuse(batch, "not_connected"),
        }
    }

    /// Takes what was read apart.
    fn hear(&mut self) -> Result<(), End> {
        let now = self.route.now();
        while let Some(wire::Incoming { sequence, body }) = wire::take(&mut self.input)? {
            self.heard_at = now;
            match body {
                Body::Submitted { status, message_id } => {
                    let message_id = self.route.settings().ids.answer.canonical(&message_id);
                    self.submitted(sequence, status, message_id, now)?;
                }
                Body::Nack { status } => self.submitted(sequence, status.max(1), Box::default(), now)?,
                Body::Deliver(deliver) => self.deliver(sequence, &deliver, now),
                Body::Unreadable => {
                    self.route.note(LinkEvent::Unreadable);
                    self.answer_delivery(Some(sequence), status::REJECTED);
                }
                Body::EnquireLink => self.put(0, sequence, Pdu::EnquireLinkResp),
                Body::Unbind => {
                    self.put(0, sequence, Pdu::UnbindResp);
                    self.route.bind(self.bind).set_up(false);
                    self.exchange.give_back_unwritten("unbound");
                    self.phase = Phase::Left { until: now + GOODBYE };
                }
                Body::UnbindResp if matches!(self.phase, Phase::Leaving { .. }) => return Err(End::Stopped),
                Body::Unknown => self.put(status::UNKNOWN_COMMAND, sequence, Pdu::GenericNack),
                Body::UnbindResp | Body::EnquireLinkResp | Body::Bound { .. } | Body::Ignored => {}
            }
        }
        self.input.reserve(READ_LEN);
        self.leave_when_done();
        Ok(())
    }

    fn submitted(&mut self, sequence: u32, status: u32, message_id: Box<str>, now: Duration) -> Result<(), End> {
        if self.exchange.answered(sequence, status, message_id, now) { Ok(()) } else { Err(End::NotBound) }
    }

    fn deliver(&mut self, sequence: u32, deliver: &Deliver, now: Duration) {
        match self.route.desk().read(deliver, self.route.clock().now(), now) {
            Delivery::News(_) if self.deliveries.len() >= DELIVERIES_MAX => {
                self.answer_delivery(Some(sequence), status::TRY_AGAIN);
            }
            Delivery::News(news) => self.make_durable(Some(sequence), news),
            Delivery::Part => self.answer_delivery(Some(sequence), 0),
            Delivery::Nothing => {
                self.route.note(LinkEvent::Meaningless);
                self.answer_delivery(Some(sequence), 0);
            }
        }
    }

    /// Says the news; the SMSC is answered when they are durable, or not in time.
    fn make_durable(&mut self, sequence: Option<u32>, news: News) {
        let route = Arc::clone(&self.route);
        self.deliveries.push(Box::pin(async move {
            let (done, told) = oneshot::channel();
            let said = async { route.inbox().send(Inbound { news, done }).await.is_ok() && told.await.is_ok() };
            let durable = route.clock().timeout(DURABLE_WITHIN, said).await;
            (sequence, durable.unwrap_or(false))
        }));
    }

    fn answer_delivery(&mut self, sequence: Option<u32>, status: u32) {
        if let Some(sequence) = sequence {
            let before = self.output.len();
            wire::put_deliver_resp(&mut self.output, status, sequence);
            self.offset += (self.output.len() - before) as u64;
        }
    }

    fn put(&mut self, status: u32, sequence: u32, pdu: Pdu) {
        let before = self.output.len();
        wire::put(&mut self.output, status, sequence, pdu);
        self.offset += (self.output.len() - before) as u64;
    }

    /// Looks at every deadline.
    fn on_tick(&mut self) -> Result<(), End> {
        let now = self.route.now();
        self.exchange.expire(now);
        self.route.note_all(self.exchange.take_stats());
        for news in self.route.desk().give_up(self.route.clock().now(), now) {
            self.make_durable(None, news);
        }
        self.check_life(now)?;
        match self.phase {
            Phase::Draining { until } if now >= until => self.leave(now),
            Phase::Leaving { until } if now >= until => return Err(End::Stopped),
            Phase::Left { until } if now >= until => return Err(End::Unbound),
            _ => self.leave_when_done(),
        }
        Ok(())
    }

    /// Asks whether the SMSC lives, and ends the session with one that has not said a whole PDU since it was asked, or
    /// has not read a byte for as long.
    fn check_life(&mut self, now: Duration) -> Result<(), End> {
        let settings = self.route.settings();
        let patience = settings.enquire_link.min(settings.response_timeout);
        let unheard = self.asked_at > self.heard_at && now.saturating_sub(self.asked_at) >= patience;
        let unread = !self.output.is_empty() && now.saturating_sub(self.written_at) >= patience;
        if unheard || unread {
            return Err(End::Silent);
        }
        if self.output.is_empty() {
            self.written_at = now;
        }
        let quiet_since = self.asked_at.max(self.heard_at);
        if now.saturating_sub(quiet_since) >= settings.enquire_link && matches!(self.phase, Phase::Open) {
            let sequence = self.exchange.sequence();
            self.asked_at = now;
            self.put(0, sequence, Pdu::EnquireLink);
        }
        Ok(())
    }

    fn leave_when_done(&mut self) {
        if matches!(self.phase, Phase::Draining { .. }) && self.exchange.is_idle() {
            self.leave(self.route.now());
        }
    }

    fn leave(&mut self, now: Duration) {
        let sequence = self.exchange.sequence();
        self.put(0, sequence, Pdu::Unbind);
        self.phase = Phase::Leaving { until: now + GOODBYE };
    }
}

/// Writes some of `output`, or flushes what was written when there is no more.
///
/// # Cancel safety
/// Bytes leave `output` exactly if the connection took them.
async fn write(writer: &mut WriteHalf<Box<dyn Stream>>, output: &mut BytesMut) -> std::io::Result<Written> {
    if output.is_empty() {
        writer.flush().await?;
        return Ok(Written::Flushed);
    }
    if crash::strikes(crash::Point::MidWrite) {
        // Some segments leave whole, and one is torn.
        writer.write_all(&output[..output.len().div_ceil(2)]).await?;
        writer.flush().await?;
        crash::die(crash::Point::MidWrite);
    }
    Ok(if writer.write_buf(output).await? == 0 { Written::Nothing } else { Written::Some })
}
