//! Reads what a handset wrote: by its `data_coding`, behind its header.

use bytes::Buf;

use super::wire::Deliver;
use crate::channel::sms::gsm7;
use crate::channel::sms::text::Alphabet;

/// `esm_class` bit: the message starts with a header.
const WITH_HEADER: u8 = 0x40;

/// Which part of a longer message it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Part {
    /// What its parts have in common.
    pub(super) reference: u16,
    /// How many there are, at least 2.
    pub(super) total: u8,
    /// Which one it is, from 1 to `total`.
    pub(super) number: u8,
}

/// How octets are to be read.
enum Coding {
    Default,
    Ascii,
    Latin1,
    Utf16,
    Binary,
}

/// Returns what `deliver` says, and which part of a longer message it is, if it is one.
pub(super) fn read(deliver: &Deliver, alphabet: Alphabet) -> (Option<Part>, String) {
    let message = &deliver.message[..];
    let (header, body) = if deliver.esm_class & WITH_HEADER == 0 { (&[][..], message) } else { split_header(message) };
    let part = concatenation(header).or(deliver.sar).and_then(Part::new);
    (part, decode(body, deliver.data_coding, alphabet))
}

// === impl Part ===

impl Part {
    fn new((reference, total, number): (u16, u8, u8)) -> Option<Self> {
        (total > 1 && (1..=total).contains(&number)).then_some(Self { reference, total, number })
    }
}

/// Returns the header's elements and what follows them; a header that is longer than the message is none.
fn split_header(message: &[u8]) -> (&[u8], &[u8]) {
    let Some((&len, rest)) = message.split_first() else { return (&[], message) };
    rest.split_at_checked(usize::from(len)).unwrap_or((&[], message))
}

/// Returns reference, total and number (3GPP TS 23.040, 9.2.3.24.1 and 9.2.3.24.8).
fn concatenation(mut header: &[u8]) -> Option<(u16, u8, u8)> {
    while header.len() >= 2 {
        let (element, len) = (header.get_u8(), usize::from(header.get_u8()));
        let (value, rest) = header.split_at_checked(len)?;
        match (element, value) {
            (0x00, &[reference, total, number]) => return Some((u16::from(reference), total, number)),
            (0x08, &[high, low, total, number]) => return Some((u16::from_be_bytes([high, low]), total, number)),
            _ => header = rest,
        }
    }
    None
}

/// Returns the text; what is no text reads as U+FFFD.
fn decode(octets: &[u8], data_coding: u8, alphabet: Alphabet) -> String {
    match coding(data_coding) {
        Coding::Default if alphabet == Alphabet::Gsm7 => gsm7::decode(octets),
        Coding::Default | Coding::Latin1 => octets.iter().map(|&octet| char::from(octet)).collect(),
        Coding::Ascii => octets.iter().map(|&octet| ascii(octet)).collect(),
        Coding::Utf16 => {
            let units = octets.chunks_exact(2).map(|two| u16::from_be_bytes([two[0], two[1]]));
            char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect()
        }
        Coding::Binary => char::REPLACEMENT_CHARACTER.to_string(),
    }
}

fn ascii(octet: u8) -> char {
    if octet.is_ascii() { char::from(octet) } else { char::REPLACEMENT_CHARACTER }
}

/// Reads SMPP's own values, and the GSM groups that some SMSCs pass through (3GPP TS 23.038, 4).
const fn coding(data_coding: u8) -> Coding {
    match data_coding {
        0x01 => Coding::Ascii,
        0x03 => Coding::Latin1,
        0x08 | 0x18..=0x1B | 0xE0..=0xEF => Coding::Utf16,
        0x02 | 0x04 | 0x14..=0x17 | 0xF4..=0xF7 | 0xFC..=0xFF => Coding::Binary,
        _ => Coding::Default,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn deliver(esm_class: u8, data_coding: u8, message: &[u8]) -> Deliver {
        Deliver { esm_class, data_coding, message: Bytes::copy_from_slice(message), ..Deliver::default() }
    }

    #[track_caller]
    fn check(message: Deliver, part: Option<(u16, u8, u8)>, text: &str) {
        let part = part.and_then(Part::new);
        assert_eq!(read(&message, Alphabet::Gsm7), (part, text.to_owned()), "{:02x?}", &message.message[..]);
    }

    #[test]
    fn texts_are_read_by_their_coding() {
        check(deliver(0, 0, b"STOP\x00\x1B\x65"), None, "STOP@€");
        check(deliver(0, 1, b"a\xFF"), None, "a\u{FFFD}");
        check(deliver(0, 3, b"\xE9t\xE9"), None, "été");
        check(deliver(0, 8, &[0x90, 0x00, 0x8B, 0xA2, 0xD8]), None, "退订");
        check(deliver(0, 8, &[0xD8, 0x3D]), None, "\u{FFFD}");
        check(deliver(0, 4, &[1, 2, 3]), None, "\u{FFFD}");
        assert_eq!(read(&deliver(0, 0, b"\xE9"), Alphabet::Latin1).1, "é");
    }

    #[test]
    fn headers_are_stripped_and_parts_told() {
        check(deliver(0x40, 0, b"\x05\x00\x03\x07\x02\x01hi"), Some((7, 2, 1)), "hi");
        check(deliver(0x40, 0, b"\x06\x08\x04\x01\x02\x03\x03hi"), Some((0x102, 3, 3)), "hi");
        check(deliver(0x40, 0, b"\x0A\x24\x03a\x01b\x00\x03\x07\x02\x02hi"), Some((7, 2, 2)), "hi");
        check(Deliver { sar: Some((9, 2, 1)), ..deliver(0, 0, b"hi") }, Some((9, 2, 1)), "hi");
    }

    #[test]
    fn headers_that_lie_are_survived() {
        check(deliver(0x40, 0, b"\x05\x00\x03\x07\x02\x03hi"), None, "hi");
        check(deliver(0x40, 0, b"\x05\x00\x09\x07\x02\x01hi"), None, "hi");
        check(deliver(0x40, 3, b"\xFFhi"), None, "ÿhi");
        check(deliver(0x40, 0, b""), None, "");
    }
}
