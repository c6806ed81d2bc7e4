//! Which provider's message belongs to which attempt, and what is known of an attempt's segments.

use std::hash::Hash;

use hashbrown::Equivalent;

use crate::domain::event::{Event, Fate};
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::recent::Recent;
use crate::domain::time::UnixMicros;
use crate::ledger::Segment;

/// A provider and its id for a message.
#[derive(PartialEq, Eq, Hash)]
pub(in crate::record) struct MessageKey(pub(in crate::record) ProviderId, pub(in crate::record) Box<str>);

/// A [`MessageKey`] that owns nothing.
#[derive(PartialEq, Eq, Hash)]
pub(in crate::record) struct MessageRef<'a>(pub(in crate::record) &'a ProviderId, pub(in crate::record) &'a str);

/// Where a message belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::record) struct Place {
    pub(in crate::record) job: JobId,
    pub(in crate::record) attempt: u16,
    /// When the provider took it.
    pub(in crate::record) at: UnixMicros,
    /// Whether the fates of all its sisters are in memory.
    pub(in crate::record) whole: bool,
}

/// What the final report on a segment comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// The attempt has its end.
    End(Place),
    /// Its other segments are still awaited.
    Waits(Place),
    /// The same was reported before.
    Doubled,
    /// No such message is known.
    Unknown,
}

pub(super) struct Segments {
    parts: Recent<MessageKey, Part>,
    /// Attempts of more than one segment.
    attempts: Recent<(JobId, u16), Delivered>,
    batch: u64,
}

struct Part {
    job: JobId,
    attempt: u16,
    index: u8,
    of: u8,
    at: UnixMicros,
    fate: Option<Fate>,
    /// The batch that writes it last, and its place there.
    written: (u64, usize),
}

/// One bit for each segment that was delivered.
#[derive(Default)]
struct Delivered([u64; 4]);

impl Equivalent<MessageKey> for MessageRef<'_> {
    fn equivalent(&self, key: &MessageKey) -> bool {
        *self.0 == key.0 && *self.1 == *key.1
    }
}

impl Segments {
    pub(super) fn new(capacity: usize) -> Self {
        Self { parts: Recent::new(capacity), attempts: Recent::new(capacity / 4), batch: 1 }
    }

    pub(super) fn clear(&mut self) {
        self.parts.clear();
        self.attempts.clear();
        self.batch += 1;
    }

    /// Forgets which places of the recording were written, because a new one begins, and what is old.
    pub(super) fn next_batch(&mut self) {
        self.parts.age();
        self.attempts.age();
        self.batch += 1;
    }

    pub(super) fn place(&self, provider: &ProviderId, message_id: &str) -> Option<Place> {
        let part = self.parts.get(&MessageRef(provider, message_id))?;
        Some(self.place_of(part))
    }

    fn place_of(&self, part: &Part) -> Place {
        let whole = part.of == 1 || self.attempts.contains(&(part.job, part.attempt));
        Place { job: part.job, attempt: part.attempt, at: part.at, whole }
    }

    /// Takes in a segment as the ledger holds it.
    pub(super) fn learn(&mut self, segment: Segment) {
        let Segment { provider, message_id, job, attempt, index, of, fate, at } = segment;
        if of > 1 {
            if !self.attempts.contains(&(job, attempt)) {
                self.attempts.insert((job, attempt), Delivered::default());
            }
            if let (Some(Fate::Delivered), Some(delivered)) = (fate, self.attempts.get_mut(&(job, attempt))) {
                delivered.set(index);
            }
        }
        let newer = self.parts.get(&MessageRef(&provider, &message_id)).is_some_and(|part| part.at > at);
        if newer {
            // The provider has used this id again since.
            return;
        }
        let part = Part { job, attempt, index, of, at, fate, written: (0, 0) };
        self.parts.insert(MessageKey(provider, message_id), part);
    }

    /// Takes in the segments of a sent event that is news, and writes them.
    pub(super) fn sent(
        &mut self,
        event: &Event,
        provider: &ProviderId,
        message_ids: &[Box<str>],
        rows: &mut Vec<Segment>,
    ) {
        // More than 255 parts cannot be sent; a provider that claims so is believed for the first 255.
        let of = u8::try_from(message_ids.len()).unwrap_or(u8::MAX);
        let (job, attempt, at) = (event.job, event.attempt, event.at);
        if of > 1 && !self.attempts.contains(&(job, attempt)) {
            self.attempts.insert((job, attempt), Delivered::default());
        }
        for (index, message_id) in (0..of).zip(message_ids) {
            // The provider may have used this id before, even in this batch.
            let before = self.parts.get(&MessageRef(provider, message_id)).map(|part| part.written);
            let place = before.filter(|(batch, _)| *batch == self.batch);
            let row = Segment {
                provider: provider.clone(),
                message_id: message_id.clone(),
                job,
                attempt,
                index,
                of,
                fate: None,
                at,
            };
            let written = (self.batch, write(rows, place.map(|(_, place)| place), row));
            let key = MessageKey(provider.clone(), message_id.clone());
            self.parts.insert(key, Part { job, attempt, index, of, at, fate: None, written });
        }
    }

    /// Takes in the final report on a segment.
    pub(super) fn end(
        &mut self,
        provider: &ProviderId,
        message_id: &str,
        fate: Fate,
        rows: &mut Vec<Segment>,
    ) -> Verdict {
        let Some(part) = self.parts.get_mut(&MessageRef(provider, message_id)) else { return Verdict::Unknown };
        if part.fate.is_some() {
            return Verdict::Doubled;
        }
        part.fate = Some(fate);
        let (job, attempt, index, of, at) = (part.job, part.attempt, part.index, part.of, part.at);
        let place = Place { job, attempt, at, whole: true };
        if of == 1 {
            // The job's outcome says it all; the segment's row need not be written again.
            return Verdict::End(place);
        }
        let (provider, message_id) = (provider.clone(), message_id.into());
        let row = Segment { provider, message_id, job, attempt, index, of, fate: Some(fate), at };
        let there = Some(part.written).filter(|(batch, _)| *batch == self.batch).map(|(_, place)| place);
        part.written = (self.batch, write(rows, there, row));
        if fate != Fate::Delivered {
            // One lost segment spoils the text.
            return Verdict::End(place);
        }
        let whole = self.attempts.get_mut(&(job, attempt)).is_some_and(|delivered| delivered.set_and_all(index, of));
        if whole { Verdict::End(place) } else { Verdict::Waits(place) }
    }
}

impl Delivered {
    fn set(&mut self, index: u8) {
        self.0[usize::from(index) / 64] |= 1 << (index % 64);
    }

    fn set_and_all(&mut self, index: u8, of: u8) -> bool {
        self.set(index);
        self.0.iter().map(|word| word.count_ones()).sum::<u32>() >= u32::from(of)
    }
}

/// Writes a row in its place, or at the end: a recording holds one row for a message.
fn write(rows: &mut Vec<Segment>, place: Option<usize>, row: Segment) -> usize {
    match place {
        Some(place) => {
            rows[place] = row;
            place
        }
        None => {
            rows.push(row);
            rows.len() - 1
        }
    }
}
