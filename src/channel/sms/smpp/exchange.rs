//! What is on its way over one bind: which segments wait, which are written, and when a job has its answer.
//!
//! Pure: no clock, no I/O. `now` is the time since the route started; the session around it reads and writes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use super::ring::Ring;
use super::status::{self, Meaning};
use super::wire;
use crate::channel::{Answer, Answered};

/// How long a throttled segment of a job of which others were taken waits before it is written again.
const HOLD: Duration = Duration::from_secs(1);

/// How much may wait to be written to the socket. One system call takes so much; more would only blur the line between
/// what was sent and what was not.
const UNWRITTEN_MAX: usize = 64 * 1024;

/// Hand-overs that came together.
pub(super) struct Batch {
    /// When.
    pub(super) at: Duration,
    /// Where their answers go.
    pub(super) answers: mpsc::UnboundedSender<Answered>,
    /// They themselves.
    pub(super) messages: Vec<Message>,
}

/// One hand-over as it goes over the wire.
pub(super) struct Message {
    /// Its place in the caller's list.
    pub(super) index: usize,
    /// Its segments as complete `submit_sm`s, the sequence number left open. At least one, at most 255.
    pub(super) segments: Vec<Bytes>,
}

/// The window units that are taken, on one bind and on the whole route.
#[derive(Clone, Debug, Default)]
pub(super) struct Load {
    pub(super) bind: Arc<AtomicU32>,
    pub(super) route: Arc<AtomicU32>,
}

/// How an exchange is paced.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Most segments written and unanswered.
    pub(super) window: usize,
    /// Most jobs it takes: the windows of all binds.
    pub(super) jobs_max: usize,
    /// How long a job may be without its answer.
    pub(super) response_timeout: Duration,
    /// Whether a receipt follows what is taken.
    pub(super) receipt_expected: bool,
}

/// Everything on its way over one bind.
pub(super) struct Exchange {
    pace: Pace,
    load: Load,
    jobs: Ring<Job>,
    /// What was written and is unanswered, by sequence number.
    written: Ring<Segment>,
    /// What may be written.
    ready: VecDeque<Segment>,
    /// What was throttled, with the time from which it may be written again.
    held: VecDeque<(Duration, Segment)>,
    stats: Stats,
}

/// What an exchange came across.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Stats {
    /// Answers to nothing that is on its way: late ones, doubled ones.
    pub(super) stray_answers: u64,
    /// Jobs of which some segments were taken and some were not.
    pub(super) torn_jobs: u64,
    /// Jobs without an answer.
    pub(super) unanswered_jobs: u64,
}

#[derive(Clone, Copy)]
struct Segment {
    job: u32,
    number: u8,
}

struct Job {
    index: usize,
    answers: mpsc::UnboundedSender<Answered>,
    segments: Vec<Bytes>,
    /// The SMSC's ids by segment; empty where it has not taken one.
    ids: Vec<Box<str>>,
    at: Duration,
    /// Where the first segment starts in all that was ever put into the socket's buffer; `None`: nowhere yet.
    starts_at: Option<u64>,
    unwritten: u8,
    unanswered: u8,
    taken: u8,
    throttled: Vec<u8>,
    refused: Option<u32>,
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn new(pace: Pace, load: Load) -> Self {
        Self {
            pace,
            load,
            jobs: Ring::new(pace.jobs_max),
            written: Ring::new(pace.window),
            ready: VecDeque::new(),
            held: VecDeque::new(),
            stats: Stats::default(),
        }
    }

    /// Returns what it came across since it was last asked.
    pub(super) fn take_stats(&mut self) -> Stats {
        std::mem::take(&mut self.stats)
    }

    /// Returns whether nothing is on its way.
    pub(super) const fn is_idle(&self) -> bool {
        self.jobs.len() == 0
    }

    /// Returns a sequence number for a request that is not a segment.
    pub(super) fn sequence(&mut self) -> u32 {
        self.written.skip_key()
    }

    /// Takes hand-overs in.
    pub(super) fn accept(&mut self, batch: Batch) {
        for Message { index, segments } in batch.messages {
            let count = segments.len() as u8;
            let job = Job {
                index,
                answers: batch.answers.clone(),
                ids: vec![Box::default(); segments.len()],
                segments,
                at: batch.at,
                starts_at: None,
                unwritten: count,
                unanswered: 0,
                taken: 0,
                throttled: Vec::new(),
                refused: None,
            };
            match self.jobs.insert(job) {
                Ok(key) => self.ready.extend((0..count).map(|number| Segment { job: key, number })),
                // More than the callers' permits allow.
                Err(job) => self.load.settle(job, Answer::Throttled { retry_after: None }),
            }
        }
    }

    /// Puts segments into `out` while the window and `out` have room. `offset`: how many bytes were ever put there.
    pub(super) fn fill(&mut self, out: &mut BytesMut, offset: &mut u64, now: Duration) {
        while self.held.front().is_some_and(|(due, _)| *due <= now) {
            self.ready.extend(self.held.pop_front().map(|(_, segment)| segment));
        }
        while !self.written.is_full() && out.len() < UNWRITTEN_MAX {
            let Some(segment) = self.ready.pop_front() else { break };
            // Its job has its answer already, or will not have a good one.
            let Some(job) = self.jobs.get_mut(segment.job).filter(|job| job.refused.is_none()) else { continue };
            let Ok(sequence) = self.written.insert(segment) else { break };
            let pdu = &job.segments[usize::from(segment.number)];
            wire::put_numbered(out, pdu, sequence);
            job.starts_at.get_or_insert(*offset);
            *offset += pdu.len() as u64;
            job.unwritten -= 1;
            job.unanswered += 1;
        }
    }

    /// Takes the SMSC's answer to a segment. Returns whether the bind is still good.
    pub(super) fn answered(&mut self, sequence: u32, status: u32, message_id: Box<str>, now: Duration) -> bool {
        let meaning = status::meaning(status);
        let Some(segment) = self.written.take(sequence) else {
            self.stats.stray_answers += 1;
            return meaning != Meaning::NotBound;
        };
        if let Some(job) = self.jobs.get_mut(segment.job) {
            job.unanswered -= 1;
            match meaning {
                Meaning::Taken => {
                    job.taken += 1;
                    job.ids[usize::from(segment.number)] = message_id;
                }
                Meaning::Throttled | Meaning::NotBound => job.throttled.push(segment.number),
                Meaning::Refused => {
                    job.refused.get_or_insert(status);
                }
            }
            self.advance(segment.job, now);
        }
        meaning != Meaning::NotBound
    }

    /// Settles what waits too long: what was written is without an answer; what was not, and has waited for half the
    /// time, did not go out, so that whatever is written always has the other half for its answer.
    pub(super) fn expire(&mut self, now: Duration) {
        let timeout = self.pace.response_timeout;
        let late = self.jobs.take_where(|job| {
            let age = now.saturating_sub(job.at);
            age >= timeout || (job.starts_at.is_none() && age >= timeout / 2)
        });
        if late.is_empty() {
            return;
        }
        for job in late {
            let answer = match job.starts_at {
                None => not_sent("window_full"),
                Some(_) => job.unfinished(),
            };
            self.settle(job, answer);
        }
        // Their segments no longer fill the window; answers that come after all are strays.
        let jobs = &mut self.jobs;
        self.written.take_where(|segment| jobs.get_mut(segment.job).is_none());
    }

    /// Answers what was not put into the socket's buffer yet, and will not be.
    pub(super) fn give_back_unwritten(&mut self, code: &str) {
        for job in self.jobs.take_where(|job| job.starts_at.is_none()) {
            self.settle(job, not_sent(code));
        }
    }

    /// Answers everything, for the connection is gone after `sent` bytes.
    pub(super) fn lose(mut self, sent: u64) -> Stats {
        for job in self.jobs.take_where(|_| true) {
            let answer = match job.starts_at {
                Some(start) if start < sent => job.unfinished(),
                Some(_) | None => not_sent("connection_lost"),
            };
            self.settle(job, answer);
        }
        self.stats
    }

    /// Settles a job if its answers suffice, or writes its throttled segments again.
    fn advance(&mut self, key: u32, now: Duration) {
        let Some(job) = self.jobs.get_mut(key) else { return };
        if job.unanswered > 0 {
            return;
        }
        if job.refused.is_none() && job.taken > 0 {
            if !job.throttled.is_empty() {
                // Part of it is out: only the rest may follow, and only on this bind.
                job.unwritten += job.throttled.len() as u8;
                let again = job.throttled.drain(..).map(|number| (now + HOLD, Segment { job: key, number }));
                self.held.extend(again);
            }
            if job.unwritten > 0 {
                return;
            }
        }
        let Some(mut job) = self.jobs.take(key) else { return };
        let answer = match (job.refused, job.taken) {
            (None, 0) => Answer::Throttled { retry_after: None },
            (None, _) => Answer::Taken {
                segments: job.taken,
                receipt_expected: self.pace.receipt_expected,
                message_ids: std::mem::take(&mut job.ids),
            },
            (Some(status), 0) => Answer::Refused { code: status::code(status).into() },
            (Some(_), _) => Answer::NoAnswer,
        };
        self.settle(job, answer);
    }

    fn settle(&mut self, job: Job, answer: Answer) {
        if answer == Answer::NoAnswer {
            self.stats.unanswered_jobs += 1;
            self.stats.torn_jobs += u64::from(job.taken > 0);
        }
        self.load.settle(job, answer);
    }
}

// === impl Job ===

impl Job {
    /// Returns the answer of a job that was written, in part or wholly, and gets no more answers.
    fn unfinished(&self) -> Answer {
        match (self.refused, self.taken, self.unanswered) {
            (Some(status), 0, 0) => Answer::Refused { code: status::code(status).into() },
            (None, 0, 0) => Answer::Throttled { retry_after: None },
            _ => Answer::NoAnswer,
        }
    }
}

// === impl Load ===

impl Load {
    /// Answers a hand-over and gives its units back.
    fn settle(&self, mut job: Job, answer: Answer) {
        self.give_back(job.segments.len());
        job.segments.clear();
        // The caller may have gone: then nobody waits for the answer.
        let _gone = job.answers.send((job.index, answer));
    }

    /// Answers hand-overs that never came into an exchange.
    pub(super) fn refuse(&self, batch: Batch, code: &str) {
        for message in batch.messages {
            self.give_back(message.segments.len());
            let _gone = batch.answers.send((message.index, not_sent(code)));
        }
    }

    fn give_back(&self, units: usize) {
        let units = units as u32;
        self.bind.fetch_sub(units, Ordering::Relaxed);
        self.route.fetch_sub(units, Ordering::Relaxed);
    }
}

pub(super) fn not_sent(code: &str) -> Answer {
    Answer::NotSent { code: code.into(), retry_after: None }
}

#[cfg(test)]
mod tests;
