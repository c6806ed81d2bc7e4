//! What a simulated SMSC says by itself: each when its time has come, on any bind that receives, again until it is taken.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::pdu;
use crate::domain::time::{Clock, UnixMicros};
use crate::shutdown::Tasks;

/// Most letters that wait; what is more is lost.
const LETTERS_MAX: usize = 500_000;
/// Most letters that are on their way on one bind without having been taken.
pub(super) const UNTAKEN_MAX: usize = 64;
/// A letter that found no bind, or was not taken, is sent again after this.
const AGAIN: Duration = Duration::from_millis(500);

/// Something to be said.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Not before then.
    pub(super) at: UnixMicros,
    /// What.
    pub(super) said: Said,
}

/// What an SMSC says by itself.
#[derive(Clone, Debug)]
pub(super) enum Said {
    /// About a message.
    Receipt { number: u64, state: pdu::State, from: String, to: String },
    /// From somebody.
    Message { from: String, to: String, text: Box<str> },
}

/// Sends letters. Cheap to clone.
#[derive(Clone)]
pub(super) struct Post {
    waiting: Arc<Mutex<Waiting>>,
    changed: Arc<Notify>,
    taken: Arc<AtomicU64>,
}

#[derive(Default)]
struct Waiting {
    letters: BinaryHeap<Reverse<ByTime>>,
    number: u64,
    binds: Vec<(u64, mpsc::Sender<Letter>)>,
    /// Whose turn it is.
    turn: usize,
}

struct ByTime(UnixMicros, u64, Letter);

impl PartialEq for ByTime {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for ByTime {}
impl PartialOrd for ByTime {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for ByTime {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

// === impl Post ===

impl Post {
    /// Starts to send what is due, until `tasks` are told to stop.
    pub(super) fn spawn(tasks: &Tasks, clock: &Clock) -> Self {
        let post = Self { waiting: Arc::default(), changed: Arc::default(), taken: Arc::default() };
        let (sending, clock, stop) = (post.clone(), clock.clone(), tasks.stop().clone());
        tasks.spawn("simulated_post", async move {
            let work = async {
                loop {
                    let changed = sending.changed.notified();
                    match sending.send_due(clock.now()) {
                        Some(next) => {
                            let _look = clock.timeout(next.since(clock.now()), changed).await;
                        }
                        None => changed.await,
                    }
                }
            };
            let _stopped: Option<()> = stop.run_until_cancelled(work).await;
        });
        post
    }

    /// Has a letter sent when its time has come.
    pub(super) fn send(&self, letter: Letter) {
        let mut waiting = self.waiting();
        if waiting.letters.len() < LETTERS_MAX {
            waiting.push(letter);
            drop(waiting);
            self.changed.notify_one();
        }
    }

    /// Has a letter sent again that was not taken.
    pub(super) fn again(&self, letter: Letter, now: UnixMicros) {
        self.send(Letter { at: now.plus(AGAIN), ..letter });
    }

    /// Notes that a letter was taken.
    pub(super) fn was_taken(&self) {
        self.taken.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Adds a bind that receives; its letters come on the receiver.
    pub(super) fn join(&self) -> (u64, mpsc::Receiver<Letter>) {
        let (sender, letters) = mpsc::channel(UNTAKEN_MAX);
        let mut waiting = self.waiting();
        waiting.number += 1;
        let number = waiting.number;
        waiting.binds.push((number, sender));
        drop(waiting);
        self.changed.notify_one();
        (number, letters)
    }

    /// Takes a bind away.
    pub(super) fn leave(&self, number: u64) {
        self.waiting().binds.retain(|(bind, _)| *bind != number);
    }

    /// Gives what is due to the binds, in turn; returns when to look again, if anything waits.
    fn send_due(&self, now: UnixMicros) -> Option<UnixMicros> {
        let mut waiting = self.waiting();
        while waiting.letters.peek().is_some_and(|Reverse(first)| first.0 <= now) {
            let Some(Reverse(ByTime(_, _, letter))) = waiting.letters.pop() else { break };
            if let Err(letter) = waiting.give(letter) {
                waiting.push(letter);
                return Some(now.plus(Duration::from_millis(5)));
            }
        }
        waiting.letters.peek().map(|Reverse(first)| first.0)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn push(&mut self, letter: Letter) {
        self.number += 1;
        self.letters.push(Reverse(ByTime(letter.at, self.number, letter)));
    }

    /// Gives a letter to the next bind that has room, or gives it back.
    fn give(&mut self, mut letter: Letter) -> Result<(), Letter> {
        for _ in 0..self.binds.len() {
            self.turn = (self.turn + 1) % self.binds.len();
            match self.binds[self.turn].1.try_send(letter) {
                Ok(()) => return Ok(()),
                Err(full) => letter = full.into_inner(),
            }
        }
        Err(letter)
    }
}
