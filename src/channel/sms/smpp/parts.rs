//! Puts the parts of long messages from handsets together again, in bounded memory.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::time::Duration;

use super::coding::Part;

/// Most messages of which parts are missing. More would be a flood; the oldest then goes as far as it came.
const INCOMPLETE_MAX: usize = 1_024;

/// Most parts of one message that are waited for. Handsets write at most 10 or so.
const PARTS_MAX: u8 = 32;

/// How long missing parts are waited for.
pub(super) const PATIENCE: Duration = Duration::from_secs(300);

/// A message from a handset.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Who wrote.
    pub(super) from: Box<str>,
    /// To whom.
    pub(super) to: Box<str>,
    /// What.
    pub(super) text: String,
}

/// Messages of which parts are missing.
#[derive(Default)]
pub(super) struct Parts {
    incomplete: HashMap<Key, Incomplete>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    from: Box<str>,
    to: Box<str>,
    reference: u16,
    total: u8,
}

struct Incomplete {
    since: Duration,
    texts: BTreeMap<u8, String>,
}

// === impl Parts ===

impl Parts {
    /// Puts a part in and returns the message if it is complete now. A part of more than [`PARTS_MAX`] goes alone.
    pub(super) fn put(&mut self, message: Message, part: Part, now: Duration) -> Option<Message> {
        if part.total > PARTS_MAX {
            return Some(message);
        }
        let key = Key { from: message.from, to: message.to, reference: part.reference, total: part.total };
        match self.incomplete.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(Incomplete { since: now, texts: BTreeMap::from([(part.number, message.text)]) });
                None
            }
            Entry::Occupied(mut entry) => {
                entry.get_mut().texts.insert(part.number, message.text);
                (entry.get().texts.len() == usize::from(part.total)).then(|| whole(entry.remove_entry()))
            }
        }
    }

    /// Returns what there is of messages that waited too long for their parts, or are too many.
    pub(super) fn give_up(&mut self, now: Duration) -> Vec<Message> {
        let is_late = |incomplete: &Incomplete| now.saturating_sub(incomplete.since) >= PATIENCE;
        let mut given_up: Vec<_> = self.incomplete.extract_if(|_, incomplete| is_late(incomplete)).map(whole).collect();
        while self.incomplete.len() > INCOMPLETE_MAX {
            let oldest = self.incomplete.iter().min_by_key(|(_, incomplete)| incomplete.since);
            let Some(key) = oldest.map(|(key, _)| key.clone()) else { break };
            given_up.extend(self.incomplete.remove_entry(&key).map(whole));
        }
        given_up
    }
}

fn whole((key, incomplete): (Key, Incomplete)) -> Message {
    Message { from: key.from, to: key.to, text: incomplete.texts.into_values().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(10);

    fn put(parts: &mut Parts, from: &str, number: u8, text: &str) -> Option<String> {
        let message = Message { from: from.into(), to: "100".into(), text: text.into() };
        parts.put(message, Part { reference: 7, total: 3, number }, NOW).map(|message| message.text)
    }

    #[test]
    fn parts_make_a_message_in_any_order() {
        let mut parts = Parts::default();
        assert_eq!(put(&mut parts, "1", 3, "c"), None);
        assert_eq!(put(&mut parts, "2", 2, "x"), None, "another handset, another message");
        assert_eq!(put(&mut parts, "1", 1, "a"), None);
        assert_eq!(put(&mut parts, "1", 1, "a"), None, "a part that comes twice is one");
        assert_eq!(put(&mut parts, "1", 2, "b").as_deref(), Some("abc"));
        assert_eq!(parts.incomplete.len(), 1);
    }

    #[test]
    fn what_stays_incomplete_goes_as_far_as_it_came() {
        let mut parts = Parts::default();
        put(&mut parts, "1", 3, "c");
        put(&mut parts, "1", 1, "a");
        assert!(parts.give_up(NOW + PATIENCE - Duration::from_secs(1)).is_empty());
        let given_up = parts.give_up(NOW + PATIENCE);
        assert_eq!(given_up[0].text, "ac");
        assert!(parts.incomplete.is_empty());
    }

    #[test]
    fn a_flood_is_bounded() {
        let mut parts = Parts::default();
        let mut given_up = 0;
        for from in 0..INCOMPLETE_MAX * 2 {
            assert_eq!(put(&mut parts, &from.to_string(), 1, "a"), None);
            given_up += parts.give_up(NOW).len();
        }
        assert_eq!((parts.incomplete.len(), given_up), (INCOMPLETE_MAX, INCOMPLETE_MAX));
    }
}
