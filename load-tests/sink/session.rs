//! One SMPP connection of the sink.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::Write;
use std::rc::Rc;

use bytes::{Buf, BytesMut};
use postrider::domain::time::{Clock, UnixMicros};
use postrider::simulator::smpp::pdu::{self, Request, State, Submit, status};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Shared;

/// Bytes asked of the kernel at once: some hundred messages.
const READ_BYTES: usize = 128 * 1024;

/// What is to be written, and when; times never go back.
type Outbox = VecDeque<(UnixMicros, Vec<u8>)>;

/// Serves a connection until it ends or is not understood.
pub(super) async fn run(mut stream: TcpStream, shared: Rc<RefCell<Shared>>) -> std::io::Result<()> {
    let clock = shared.borrow().clock.clone();
    let mut bytes = BytesMut::with_capacity(READ_BYTES);
    let (mut answers, mut receipts) = (Outbox::new(), Outbox::new());
    loop {
        write_due(&mut stream, &clock, [&mut answers, &mut receipts]).await?;
        bytes.reserve(READ_BYTES);
        let next = [&answers, &receipts].into_iter().filter_map(|outbox| Some(outbox.front()?.0)).min();
        tokio::select! {
            read = stream.read_buf(&mut bytes) => if read? == 0 { return Ok(()) },
            () = clock.sleep_until(next.unwrap_or(UnixMicros::MAX)), if next.is_some() => continue,
        }
        let mut batch = Batch::default();
        let taken = batch.read(&bytes, &mut shared.borrow_mut())?;
        bytes.advance(taken);
        let now = clock.now();
        let (answer_at, receipt_at) = {
            let options = &shared.borrow().options;
            let answer_at = now.plus(options.answer_delay);
            (answer_at, answer_at.plus(options.receipt_delay))
        };
        if !batch.answers.is_empty() {
            answers.push_back((answer_at, batch.answers));
        }
        if !batch.receipts.is_empty() {
            receipts.push_back((receipt_at, batch.receipts));
        }
        if batch.ended {
            return write_due(&mut stream, &clock, [&mut answers, &mut receipts]).await;
        }
    }
}

async fn write_due(stream: &mut TcpStream, clock: &Clock, outboxes: [&mut Outbox; 2]) -> std::io::Result<()> {
    for outbox in outboxes {
        while outbox.front().is_some_and(|(at, _)| *at <= clock.now()) {
            if let Some((_, bytes)) = outbox.pop_front() {
                stream.write_all(&bytes).await?;
            }
        }
    }
    Ok(())
}

/// What one read brought.
#[derive(Default)]
struct Batch {
    answers: Vec<u8>,
    receipts: Vec<u8>,
    log: Vec<u8>,
    ended: bool,
}

impl Batch {
    /// Works off whole PDUs and returns how many bytes that were. What is taken is on disk when this returns.
    fn read(&mut self, bytes: &[u8], shared: &mut Shared) -> std::io::Result<usize> {
        let mut rest = bytes;
        while let Some((left, sequence, request)) = pdu::read(rest).map_err(std::io::Error::other)? {
            rest = left;
            match request {
                Request::Bind(bind) => {
                    shared.tally.stats.binds += 1;
                    pdu::bound(&mut self.answers, &bind, status::OK, sequence);
                }
                Request::Submit(submit) => self.submit(&submit, sequence, shared),
                Request::EnquireLink => pdu::alive(&mut self.answers, sequence),
                Request::Unbind => {
                    pdu::unbound(&mut self.answers, sequence);
                    self.ended = true;
                }
                Request::Unreadable => pdu::refused(&mut self.answers, status::SYSTEM_ERROR, sequence),
                Request::Answer { .. } => {}
                Request::Unknown => pdu::unknown(&mut self.answers, sequence),
            }
        }
        if let Some(log) = shared.log.as_mut().filter(|_| !self.log.is_empty()) {
            log.write_all(&self.log)?;
            log.sync_data()?;
        }
        Ok(bytes.len() - rest.len())
    }

    fn submit(&mut self, submit: &Submit<'_>, sequence: u32, shared: &mut Shared) {
        let now = shared.clock.now();
        if shared.throttles(now) {
            shared.tally.stats.throttled += 1;
            return pdu::refused(&mut self.answers, status::THROTTLED, sequence);
        }
        shared.tally.take(submit, now);
        if shared.log.is_some() {
            let source = String::from_utf8_lossy(submit.source);
            let (number, text) = (String::from_utf8_lossy(submit.destination), submit.text.escape_ascii());
            let _infallible = writeln!(self.log, "{}\t{source}\t{number}\t{text}", now.0);
        }
        if nth(shared.tally.stats.taken, shared.options.silent_every) {
            shared.tally.stats.unanswered += 1;
            return;
        }
        let id = shared.next_id;
        shared.next_id += 1;
        pdu::taken(&mut self.answers, sequence, id);
        if shared.options.receipts && submit.wants_receipt {
            shared.tally.stats.receipts += 1;
            // Sequence numbers of the sink's own requests; any positive number will do.
            let sequence = (id & 0x7fff_ffff) as u32;
            let state = (id, State::Delivered);
            pdu::receipt(&mut self.receipts, sequence, state, submit.destination, submit.source);
        }
    }
}

impl Shared {
    /// Returns whether this message comes too fast.
    fn throttles(&mut self, now: UnixMicros) -> bool {
        let stats = &self.tally.stats;
        if nth(stats.taken + stats.throttled + 1, self.options.throttle_every) {
            return true;
        }
        if self.options.rate == 0 {
            return false;
        }
        let (tokens, since) = self.allowance;
        let rate = f64::from(self.options.rate);
        let tokens = (tokens + (now.0 - since) as f64 / 1e6 * rate).min(rate);
        self.allowance = if tokens < 1.0 { (tokens, now.0) } else { (tokens - 1.0, now.0) };
        tokens < 1.0
    }
}

fn nth(count: u64, every: u64) -> bool {
    every != 0 && count.is_multiple_of(every)
}
