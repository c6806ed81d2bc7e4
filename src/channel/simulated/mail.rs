//! The mail: what the provider says by itself, each when its time has come, again and again until it is durable.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::channel::{Inbound, News};
use crate::domain::time::{Clock, UnixMicros};

/// Most letters on their way to the mail.
pub(super) const LETTERS_MAX: usize = 1024;
/// Most letters that wait for their time, at about 150 bytes each.
const WAITING_MAX: usize = 100_000;
/// Most letters that wait for a word that they are durable: what a provider keeps in flight.
const UNCONFIRMED_MAX: usize = 1024;
/// Until a letter that was not taken is said again.
const AGAIN: Duration = Duration::from_secs(1);

/// Something to be said at its time.
pub(super) struct Letter {
    pub(super) at: UnixMicros,
    pub(super) news: News,
}

pub(super) struct Mail {
    clock: Clock,
    letters: mpsc::Receiver<Letter>,
    inbox: mpsc::Sender<Inbound>,
    waiting: BinaryHeap<Reverse<Letter>>,
}

impl Mail {
    pub(super) fn new(clock: Clock, letters: mpsc::Receiver<Letter>, inbox: mpsc::Sender<Inbound>) -> Self {
        Self { clock, letters, inbox, waiting: BinaryHeap::new() }
    }

    /// Works until it is told to stop. What is not said then, a real provider would keep; this one forgets it.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut unconfirmed = FuturesUnordered::new();
        loop {
            let next = self.waiting.peek().map_or(UnixMicros::MAX, |Reverse(letter)| letter.at);
            let may_speak = !self.waiting.is_empty() && unconfirmed.len() < UNCONFIRMED_MAX;
            tokio::select! {
                () = stop.cancelled() => return,
                letter = self.letters.recv(), if self.waiting.len() < WAITING_MAX => match letter {
                    Some(letter) => self.waiting.push(Reverse(letter)),
                    None => return,
                },
                Some(again) = unconfirmed.next(), if !unconfirmed.is_empty() => {
                    if let Some(news) = again {
                        self.waiting.push(Reverse(Letter { at: self.clock.now().plus(AGAIN), news }));
                    }
                }
                () = self.clock.sleep_until(next), if may_speak => {
                    let now = self.clock.now();
                    while unconfirmed.len() < UNCONFIRMED_MAX
                        && let Some(Reverse(Letter { news, .. })) = self.due(now)
                    {
                        let (done, confirmed) = oneshot::channel();
                        let said = Inbound { news: news.clone(), done };
                        if !matches!(stop.run_until_cancelled(self.inbox.send(said)).await, Some(Ok(()))) {
                            return;
                        }
                        unconfirmed.push(unless_durable(news, confirmed));
                    }
                }
            }
        }
    }

    fn due(&mut self, now: UnixMicros) -> Option<Reverse<Letter>> {
        self.waiting.peek().filter(|Reverse(letter)| letter.at <= now)?;
        self.waiting.pop()
    }
}

/// Returns the news again unless it became durable.
async fn unless_durable(news: News, confirmed: oneshot::Receiver<()>) -> Option<News> {
    confirmed.await.err().map(|_| news)
}

// === impl Letter ===

impl Ord for Letter {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Letter {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Letter {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Letter {}
