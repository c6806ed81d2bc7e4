//! One connection of a simulated SMSC.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use bytes::{Buf, BytesMut};
use hashbrown::HashMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::pdu::{self, Request, status};
use super::post::{Letter, Said, UNTAKEN_MAX};
use super::{Core, Verdict};
use crate::domain::time::UnixMicros;

/// Bytes asked of the kernel at once.
const READ_BYTES: usize = 64 * 1024;
/// Most answers that wait for their time; then nothing more is read.
const ANSWERS_MAX: usize = 100_000;

struct Session<'a> {
    core: &'a Core,
    /// Whether messages may be handed over.
    sends: bool,
    /// Whether it is counted as a bind.
    bound: bool,
    /// Its place in the post, and what comes from there.
    letters: Option<(u64, mpsc::Receiver<Letter>)>,
    /// What was said and is not taken yet, by sequence number.
    untaken: HashMap<u32, Letter>,
    sequence: u32,
    /// Answers whose time has not come: when, in which order, which.
    answers: BinaryHeap<Reverse<(UnixMicros, u64, Vec<u8>)>>,
    order: u64,
    out: Vec<u8>,
    leaving: bool,
}

/// Serves a connection until it ends, is not understood, or is told to stop.
pub(super) async fn run(mut stream: TcpStream, core: &Core, stop: &CancellationToken) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut session = Session {
        core,
        sends: false,
        bound: false,
        letters: None,
        untaken: HashMap::new(),
        sequence: 0,
        answers: BinaryHeap::new(),
        order: 0,
        out: Vec::new(),
        leaving: false,
    };
    let ended = session.converse(&mut stream, stop).await;
    session.end();
    ended
}

impl Session<'_> {
    async fn converse(&mut self, stream: &mut TcpStream, stop: &CancellationToken) -> io::Result<()> {
        let mut input = BytesMut::with_capacity(READ_BYTES);
        loop {
            let taken = self.hear(&input)?;
            input.advance(taken);
            input.reserve(READ_BYTES);
            self.say_due();
            if !self.out.is_empty() {
                stream.write_all(&self.out).await?;
                self.out.clear();
            }
            if self.leaving && self.answers.is_empty() {
                return Ok(());
            }
            let next = self.answers.peek().map(|Reverse((at, ..))| *at);
            let (reads, takes_letters) = (self.answers.len() < ANSWERS_MAX, self.untaken.len() < UNTAKEN_MAX);
            tokio::select! {
                read = stream.read_buf(&mut input), if reads => if read? == 0 { return Ok(()) },
                () = self.core.clock.sleep_until(next.unwrap_or(UnixMicros::MAX)), if next.is_some() => {}
                Some(letter) = next_letter(&mut self.letters), if takes_letters => self.say(letter),
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// Works off whole PDUs; returns how many bytes that were.
    fn hear(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some((left, sequence, request)) = pdu::read(rest).map_err(io::Error::other)? {
            rest = left;
            match request {
                Request::Bind(bind) => self.bind(&bind, sequence),
                Request::Submit(_) | Request::Unreadable if !self.sends => {
                    pdu::refused(&mut self.out, status::BIND_STATE, sequence);
                }
                Request::Submit(submit) => {
                    let Verdict { after, answer } = self.core.take(&submit);
                    let mut bytes = Vec::new();
                    match answer {
                        Some(Ok(number)) => pdu::taken(&mut bytes, sequence, number),
                        Some(Err(status)) => pdu::refused(&mut bytes, status, sequence),
                        None => continue,
                    }
                    self.order += 1;
                    self.answers.push(Reverse((self.core.clock.now().plus(after), self.order, bytes)));
                }
                Request::Unreadable => pdu::refused(&mut self.out, status::SYSTEM_ERROR, sequence),
                Request::EnquireLink => pdu::alive(&mut self.out, sequence),
                Request::Unbind => {
                    pdu::unbound(&mut self.out, sequence);
                    self.leaving = true;
                }
                Request::Answer { status } => self.answered(sequence, status),
                Request::Unknown => pdu::unknown(&mut self.out, sequence),
            }
        }
        Ok(bytes.len() - rest.len())
    }

    fn bind(&mut self, bind: &pdu::Bind<'_>, sequence: u32) {
        if self.bound {
            return pdu::bound(&mut self.out, bind, status::BIND_STATE, sequence);
        }
        match self.core.bound(bind) {
            Ok(()) => {
                (self.bound, self.sends) = (true, bind.sends());
                self.letters = bind.receives().then(|| self.core.post.join());
                pdu::bound(&mut self.out, bind, status::OK, sequence);
            }
            Err(status) => {
                pdu::bound(&mut self.out, bind, status, sequence);
                self.leaving = true;
            }
        }
    }

    fn answered(&mut self, sequence: u32, status: u32) {
        match self.untaken.remove(&sequence) {
            Some(_) if status == status::OK => self.core.post.was_taken(),
            Some(letter) => self.core.post.again(letter, self.core.clock.now()),
            // An answer to nothing.
            None => {}
        }
    }

    fn say(&mut self, letter: Letter) {
        self.sequence = (self.sequence + 1) & 0x7FFF_FFFF;
        match &letter.said {
            Said::Receipt { number, state, from, to } => {
                pdu::receipt(&mut self.out, self.sequence, (*number, *state), from.as_bytes(), to.as_bytes());
            }
            Said::Message { from, to, text } => {
                pdu::message(&mut self.out, self.sequence, from.as_bytes(), to.as_bytes(), text);
            }
        }
        self.untaken.insert(self.sequence, letter);
    }

    fn say_due(&mut self) {
        let now = self.core.clock.now();
        while self.answers.peek().is_some_and(|Reverse((at, ..))| *at <= now) {
            if let Some(Reverse((_, _, bytes))) = self.answers.pop() {
                self.out.extend_from_slice(&bytes);
            }
        }
    }

    /// Gives back what was not taken: it comes on another bind.
    fn end(&mut self) {
        if let Some((number, mut letters)) = self.letters.take() {
            self.core.post.leave(number);
            let now = self.core.clock.now();
            letters.close();
            while let Ok(letter) = letters.try_recv() {
                self.core.post.again(letter, now);
            }
            self.untaken.drain().for_each(|(_, letter)| self.core.post.again(letter, now));
        }
        if self.bound {
            self.core.unbound();
        }
    }
}

async fn next_letter(letters: &mut Option<(u64, mpsc::Receiver<Letter>)>) -> Option<Letter> {
    match letters {
        Some((_, letters)) => letters.recv().await,
        None => std::future::pending().await,
    }
}
