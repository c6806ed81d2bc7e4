//! What the sink saw, and what of it must not have been: doubles, early sends, more than a cap allows.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use postrider::domain::time::UnixMicros;
use postrider::simulator::smpp::pdu::Submit;
use serde::{Deserialize, Serialize};

use super::lags::Lags;

/// A cap that the sink watches over: at most `limit` messages to a number in any `window`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watch {
    pub(crate) limit: usize,
    pub(crate) window: Duration,
}

/// How it stands.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stats {
    /// Connections that bound.
    pub(crate) binds: u64,
    /// Messages taken.
    pub(crate) taken: u64,
    /// Messages refused as too fast.
    pub(crate) throttled: u64,
    /// Messages taken and never answered.
    pub(crate) unanswered: u64,
    /// Receipts sent.
    pub(crate) receipts: u64,
}

/// The sink's side of the account.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// How it stood.
    pub(crate) stats: Stats,
    /// Different messages among those taken: by number and text.
    pub(crate) distinct: u64,
    /// Messages that were taken once more than once.
    pub(crate) doubles: u64,
    /// Messages that came before the time in their text.
    pub(crate) early: u64,
    /// Messages beyond a cap.
    pub(crate) over_cap: u64,
}

/// Everything that was taken, 24 bytes a message; judged only at the end, so that counting costs little.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) stats: Stats,
    pub(crate) lags: Lags,
    taken: Vec<Taken>,
    early: u64,
}

struct Taken {
    message: u64,
    number: u64,
    at: UnixMicros,
}

// === impl Tally ===

impl Tally {
    /// Counts a message that was taken at `now`.
    pub(crate) fn take(&mut self, submit: &Submit<'_>, now: UnixMicros) {
        self.stats.taken += 1;
        let mut hasher = DefaultHasher::new();
        (submit.destination, submit.text).hash(&mut hasher);
        self.taken.push(Taken { message: hasher.finish(), number: number(submit.destination), at: now });
        if let Some(due) = due(submit.text) {
            self.early += u64::from(now < due);
            self.lags.note(load(submit.destination), due, now);
        }
    }

    /// Judges what was taken.
    pub(crate) fn account(&mut self, watches: &[Watch]) -> Account {
        let mut messages: Vec<u64> = self.taken.iter().map(|taken| taken.message).collect();
        messages.sort_unstable();
        let doubles = messages.windows(2).filter(|pair| pair[0] == pair[1]).count() as u64;
        self.taken.sort_unstable_by_key(|taken| (taken.number, taken.at));
        let over_cap = watches.iter().map(|watch| over_cap(&self.taken, *watch)).sum();
        Account { stats: self.stats, distinct: messages.len() as u64 - doubles, doubles, early: self.early, over_cap }
    }
}

/// Counts the messages that are too many; `taken` is sorted by number and time.
fn over_cap(taken: &[Taken], watch: Watch) -> u64 {
    // The service counts when it claims, the sink when it hears: a wire may be that much faster than another.
    let slack = (watch.window / 10).min(Duration::from_secs(1));
    let window = watch.window.saturating_sub(slack);
    let pairs = taken.iter().zip(taken.iter().skip(watch.limit));
    pairs.filter(|(first, last)| first.number == last.number && last.at.since(first.at) < window).count() as u64
}

fn number(destination: &[u8]) -> u64 {
    let digits = destination.iter().filter(|byte| byte.is_ascii_digit());
    digits.fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')))
}

/// Returns the number of the load that sends to this number: its tenth digit from the right.
fn load(destination: &[u8]) -> usize {
    (number(destination) / 1_000_000_000 % 10) as usize
}

/// Returns the time that a text ends with, as `/` and 13 digits of Unix milliseconds: it must not come earlier.
fn due(text: &[u8]) -> Option<UnixMicros> {
    let (_, [b'/', digits @ ..]) = text.split_last_chunk::<14>()? else { return None };
    let millis = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(UnixMicros::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn submit<'a>(destination: &'a [u8], text: &'a [u8]) -> Submit<'a> {
        Submit { source: b"", destination, text, data_coding: 0, esm_class: 0, wants_receipt: false, reference: None }
    }

    #[test]
    fn the_same_message_twice_is_a_double() {
        let mut tally = Tally::default();
        for (number, text) in [(b"1", b"a"), (b"1", b"b"), (b"2", b"a"), (b"1", b"a")] {
            tally.take(&submit(number, text), UnixMicros::from_secs(1));
        }
        let account = tally.account(&[]);
        assert_eq!((account.distinct, account.doubles), (3, 1));
    }

    #[test]
    fn a_message_before_the_time_in_its_text_is_early() {
        let mut tally = Tally::default();
        let text = b"hello /1700000000000";
        tally.take(&submit(b"1", text), UnixMicros(1_700_000_000_000_000 - 1));
        tally.take(&submit(b"2", text), UnixMicros(1_700_000_000_000_000));
        tally.take(&submit(b"3", b"no time"), UnixMicros(0));
        assert_eq!(tally.account(&[]).early, 1);
    }

    #[test]
    fn a_number_that_hears_more_than_the_cap_is_counted() {
        let mut tally = Tally::default();
        let watch = Watch { limit: 2, window: Duration::from_secs(60) };
        for (number, at) in [(b"1", 0), (b"1", 10), (b"1", 58), (b"2", 0), (b"2", 1), (b"2", 60)] {
            tally.take(&submit(number, b"x"), UnixMicros::from_secs(at));
        }
        assert_eq!(tally.account(&[watch]).over_cap, 1);
    }
}
