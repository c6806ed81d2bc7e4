//! Reads receipts: by their parameters where there are any, else by their text (SMPP 3.4, appendix B), which every
//! vendor writes a little differently.

use super::ids::IdForm;
use super::wire::Deliver;
use crate::domain::event::{Fate, Report};

/// `esm_class` bits 5 to 2: what kind of message it is.
const KIND: u8 = 0x3C;
const RECEIPT: u8 = 0x04;
const INTERMEDIATE: u8 = 0x20;

/// Most characters of a provider's code.
const CODE_LEN_MAX: usize = 32;

/// What a `deliver_sm` is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A message from a handset.
    Message,
    /// The SMSC's word on one of ours.
    Receipt,
    /// A handset's own acknowledgement: nothing that we ask for.
    Acknowledgement,
}

/// What a receipt says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Said {
    /// About which message, in its canonical form.
    pub(super) message_id: Box<str>,
    /// What became of it.
    pub(super) report: Report,
    /// State and error, such as `UNDELIV:034`; empty for what was delivered.
    pub(super) code: Box<str>,
}

/// The states of SMPP 3.4, 5.2.28.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Enroute,
    Delivered,
    Expired,
    Deleted,
    Undeliverable,
    Accepted,
    Unknown,
    Rejected,
}

/// Returns what `deliver` is. A receipt is told by its class; some SMSCs forget that, but no message has a state.
pub(super) fn kind(deliver: &Deliver) -> Kind {
    match deliver.esm_class & KIND {
        RECEIPT | INTERMEDIATE => Kind::Receipt,
        0 if deliver.message_state.is_some() && deliver.receipted_message_id.is_some() => Kind::Receipt,
        0 => Kind::Message,
        _ => Kind::Acknowledgement,
    }
}

/// Returns what a receipt says; `None` if it does not say about which message, or nothing that is known.
pub(super) fn read(deliver: &Deliver, form: IdForm) -> Option<Said> {
    let text = String::from_utf8_lossy(&deliver.message);
    let id = deliver.receipted_message_id.as_deref().or_else(|| value(&text, "id"))?;
    let stat = value(&text, "stat");
    let state = deliver.message_state.and_then(State::from_number).or_else(|| stat.and_then(State::from_word))?;
    let intermediate = deliver.esm_class & KIND == INTERMEDIATE;
    let error = value(&text, "err").map(str::to_owned).or_else(|| {
        let (network, code) = deliver.network_error?;
        Some(format!("{network}-{code}"))
    });
    let code = match (state, error) {
        (State::Delivered, _) => String::new(),
        (state, None) => state.word().to_owned(),
        (state, Some(error)) => format!("{}:{error}", state.word()),
    };
    Some(Said {
        message_id: form.canonical(id),
        report: if intermediate { Report::Pending } else { state.report() },
        code: code.chars().take(CODE_LEN_MAX).collect::<String>().into(),
    })
}

/// Returns the value of `key:` up to the next space, wherever it stands; what follows `text:` is asked last, for it is
/// the beginning of the message and may say anything.
fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (head, tail) = find(text, "text").map_or((text, ""), |at| text.split_at(at));
    [head, tail].into_iter().find_map(|part| {
        let rest = &part[find(part, key)?..];
        let value = rest.split_whitespace().next()?;
        // `id: sub:001` has no id.
        (!value.contains(':')).then_some(value)
    })
}

/// Returns where the value of `key:` starts, if the key stands at the start of a word.
fn find(text: &str, key: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let end = key.len() + 1;
    (0..bytes.len().saturating_sub(key.len())).find_map(|at| {
        let starts = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        let here = bytes.get(at..at + end)?;
        let matches = starts && here[..key.len()].eq_ignore_ascii_case(key.as_bytes()) && here[key.len()] == b':';
        matches.then_some(at + end)
    })
}

// === impl State ===

impl State {
    const ALL: [(u8, Self, &'static str); 8] = [
        (1, Self::Enroute, "ENROUTE"),
        (2, Self::Delivered, "DELIVRD"),
        (3, Self::Expired, "EXPIRED"),
        (4, Self::Deleted, "DELETED"),
        (5, Self::Undeliverable, "UNDELIV"),
        (6, Self::Accepted, "ACCEPTD"),
        (7, Self::Unknown, "UNKNOWN"),
        (8, Self::Rejected, "REJECTD"),
    ];

    fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().find(|(known, _, _)| *known == number).map(|&(_, state, _)| state)
    }

    /// Reads a state by its first five letters, which are all that vendors agree on.
    fn from_word(word: &str) -> Option<Self> {
        let stem = word.get(..5)?;
        Self::ALL.iter().find(|(_, _, known)| known[..5].eq_ignore_ascii_case(stem)).map(|&(_, state, _)| state)
    }

    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, state, _)| *state == self).map_or("UNKNOWN", |&(_, _, word)| word)
    }

    /// Returns what follows for the segment. `ACCEPTD` is meant to be final, but SMSCs use it as "on its way".
    const fn report(self) -> Report {
        match self {
            Self::Enroute | Self::Accepted => Report::Pending,
            Self::Delivered => Report::Final(Fate::Delivered),
            Self::Expired | Self::Deleted | Self::Undeliverable => Report::Final(Fate::Undelivered),
            Self::Rejected => Report::Final(Fate::Rejected),
            Self::Unknown => Report::Final(Fate::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn receipt(text: &str) -> Deliver {
        Deliver { esm_class: 0x04, message: Bytes::copy_from_slice(text.as_bytes()), ..Deliver::default() }
    }

    #[track_caller]
    fn check(deliver: &Deliver, expected: Option<(&str, Report, &str)>) {
        let said = read(deliver, IdForm::Text).map(|said| (said.message_id, said.report, said.code));
        let expected = expected.map(|(id, report, code)| (id.into(), report, code.into()));
        assert_eq!(said, expected, "{}", String::from_utf8_lossy(&deliver.message));
    }

    const DELIVERED: Report = Report::Final(Fate::Delivered);
    const UNDELIVERED: Report = Report::Final(Fate::Undelivered);

    #[test]
    fn receipts_are_read_as_vendors_write_them() {
        check(
            &receipt(
                "id:0A1B sub:001 dlvrd:001 submit date:2611212116 done date:2611212117 stat:DELIVRD err:000 text:hi",
            ),
            Some(("0A1B", DELIVERED, "")),
        );
        check(
            &receipt("ID:7 Sub:001 Submit Date:261121211600 Done Date:261121211700 Stat:undeliv Err:034 Text:"),
            Some(("7", UNDELIVERED, "UNDELIV:034")),
        );
        check(&receipt("stat:EXPIRED id:9"), Some(("9", UNDELIVERED, "EXPIRED")));
        check(&receipt("id:9 stat:REJECTED err:12"), Some(("9", Report::Final(Fate::Rejected), "REJECTD:12")));
        check(&receipt("id:9 stat:ACCEPTD"), Some(("9", Report::Pending, "ACCEPTD")));
        check(&receipt("text:id:1 stat:DELIVRD id:9 stat:EXPIRED"), Some(("1", DELIVERED, "")));
        check(&receipt("sub:001 text:x id:9 stat:DELIVRD"), Some(("9", DELIVERED, "")));
    }

    #[test]
    fn the_message_in_a_receipt_is_not_the_receipt() {
        check(&receipt("id:9 stat:DELIVRD text:id:1 stat:UNDELIV"), Some(("9", DELIVERED, "")));
        check(&receipt("userid:1 id:9 stat:DELIVRD"), Some(("9", DELIVERED, "")));
    }

    #[test]
    fn receipts_that_say_nothing_are_none() {
        check(&receipt(""), None);
        check(&receipt("id: sub:001 stat:DELIVRD"), None);
        check(&receipt("id:9 stat:"), None);
        check(&receipt("id:9 stat:WHAT"), None);
        check(&receipt("id"), None);
    }

    #[test]
    fn parameters_outrank_the_text() {
        let text = receipt("id:1 stat:DELIVRD err:000");
        let both = Deliver { receipted_message_id: Some("2".into()), message_state: Some(5), ..text };
        check(&both, Some(("2", UNDELIVERED, "UNDELIV:000")));
        let alone = Deliver { network_error: Some((3, 34)), message: Bytes::new(), ..both };
        check(&alone, Some(("2", UNDELIVERED, "UNDELIV:3-34")));
        check(&Deliver { message_state: Some(2), ..alone }, Some(("2", DELIVERED, "")));
    }

    #[test]
    fn the_class_tells_a_receipt_from_a_message() {
        let class = |esm_class| kind(&Deliver { esm_class, ..Deliver::default() });
        assert_eq!(class(0x00), Kind::Message);
        assert_eq!(class(0x40), Kind::Message);
        assert_eq!(class(0x03), Kind::Message);
        assert_eq!(class(0x04), Kind::Receipt);
        assert_eq!(class(0x44), Kind::Receipt);
        assert_eq!(class(0x20), Kind::Receipt);
        assert_eq!(class(0x08), Kind::Acknowledgement);
        let pending = Deliver { esm_class: 0x20, ..receipt("id:9 stat:DELIVRD") };
        check(&pending, Some(("9", Report::Pending, "")));
    }
}
