//! The GSM 7-bit default alphabet with its extension table (3GPP TS 23.038, 6.2.1), one septet an octet.

/// What precedes a character of the extension table.
pub const ESCAPE: u8 = 0x1B;

/// The basic table. `\u{1B}` stands for the escape and is no character.
const BASIC: [char; 128] = [
    '@', '£', '$', '¥', 'è', 'é', 'ù', 'ì', 'ò', 'Ç', '\n', 'Ø', 'ø', '\r', 'Å', 'å', //
    'Δ', '_', 'Φ', 'Γ', 'Λ', 'Ω', 'Π', 'Ψ', 'Σ', 'Θ', 'Ξ', '\u{1B}', 'Æ', 'æ', 'ß', 'É', //
    ' ', '!', '"', '#', '¤', '%', '&', '\'', '(', ')', '*', '+', ',', '-', '.', '/', //
    '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', ':', ';', '<', '=', '>', '?', //
    '¡', 'A', 'B', 'C', 'D', 'E', 'F', 'G', 'H', 'I', 'J', 'K', 'L', 'M', 'N', 'O', //
    'P', 'Q', 'R', 'S', 'T', 'U', 'V', 'W', 'X', 'Y', 'Z', 'Ä', 'Ö', 'Ñ', 'Ü', '§', //
    '¿', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', //
    'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 'ä', 'ö', 'ñ', 'ü', 'à',
];

/// The extension table: what follows [`ESCAPE`], and what it means.
const EXTENSION: [(u8, char); 10] = [
    (0x0A, '\u{C}'),
    (0x14, '^'),
    (0x28, '{'),
    (0x29, '}'),
    (0x2F, '\\'),
    (0x3C, '['),
    (0x3D, '~'),
    (0x3E, ']'),
    (0x40, '|'),
    (0x65, '€'),
];

/// Not in the alphabet.
const NONE: u8 = 0xFF;
/// Set where the code belongs to the extension table.
const EXTENDED: u8 = 0x80;

/// The codes of the characters below U+0100, which are nearly all: a look-up instead of a search.
const LATIN: [u8; 256] = latin();

/// The septets of one character.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Septets {
    /// One, of the basic table.
    One(u8),
    /// [`ESCAPE`] and this one, of the extension table.
    Two(u8),
}

/// Returns the septets of `c`, if the alphabet has it.
pub fn septets(c: char) -> Option<Septets> {
    let code = match u8::try_from(u32::from(c)) {
        Ok(latin) => LATIN[usize::from(latin)],
        Err(_) => beyond_latin(c),
    };
    match code {
        NONE => None,
        code if code & EXTENDED != 0 => Some(Septets::Two(code & !EXTENDED)),
        code => Some(Septets::One(code)),
    }
}

/// Returns how many septets `ascii` takes, if the alphabet has all of it: the same as [`septets`] says of each, at a
/// glance. `None` also for what is no ASCII.
pub fn ascii_septets(ascii: &str) -> Option<usize> {
    let (mut extended, mut others) = (0, 0);
    for &octet in ascii.as_bytes() {
        let code = LATIN[usize::from(octet)];
        extended += usize::from(code & EXTENDED != 0);
        others |= u8::from(code == NONE) | octet & 0x80;
    }
    (others == 0).then_some(ascii.len() + extended)
}

/// Returns the octets of a text of which [`ascii_septets`] says that each of its characters takes one.
pub fn encode_ascii(ascii: &str) -> Vec<u8> {
    ascii.bytes().map(|octet| LATIN[usize::from(octet)]).collect()
}

/// Reads a text of one septet an octet. Unknown extensions read as their basic character, as the standard asks;
/// octets above 0x7F as U+FFFD.
pub fn decode(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len());
    let mut octets = octets.iter().copied();
    while let Some(octet) = octets.next() {
        match octet {
            ESCAPE => match octets.next() {
                Some(code) => text.push(extended(code).unwrap_or_else(|| basic(code))),
                None => text.push(' '),
            },
            code => text.push(basic(code)),
        }
    }
    text
}

fn basic(code: u8) -> char {
    match BASIC.get(usize::from(code)) {
        Some('\u{1B}') => ' ',
        Some(&c) => c,
        None => char::REPLACEMENT_CHARACTER,
    }
}

fn extended(code: u8) -> Option<char> {
    EXTENSION.iter().find(|(known, _)| *known == code).map(|&(_, c)| c)
}

const fn latin() -> [u8; 256] {
    let mut table = [NONE; 256];
    let mut code = 0;
    while code < BASIC.len() {
        let c = BASIC[code] as usize;
        if c < table.len() && c != ESCAPE as usize {
            table[c] = code as u8;
        }
        code += 1;
    }
    let mut index = 0;
    while index < EXTENSION.len() {
        let (code, c) = EXTENSION[index];
        if (c as usize) < table.len() {
            table[c as usize] = code | EXTENDED;
        }
        index += 1;
    }
    table
}

fn beyond_latin(c: char) -> u8 {
    match c {
        'Δ' => 0x10,
        'Φ' => 0x12,
        'Γ' => 0x13,
        'Λ' => 0x14,
        'Ω' => 0x15,
        'Π' => 0x16,
        'Ψ' => 0x17,
        'Σ' => 0x18,
        'Θ' => 0x19,
        'Ξ' => 0x1A,
        '€' => 0x65 | EXTENDED,
        _ => NONE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_character_of_both_tables_comes_back() {
        for (code, &c) in BASIC.iter().enumerate().filter(|(_, c)| **c != '\u{1B}') {
            assert_eq!(septets(c), Some(Septets::One(code as u8)), "{c:?}");
            assert_eq!(decode(&[code as u8]), c.to_string());
        }
        for (code, c) in EXTENSION {
            assert_eq!(septets(c), Some(Septets::Two(code)), "{c:?}");
            assert_eq!(decode(&[ESCAPE, code]), c.to_string());
        }
    }

    #[test]
    fn exactly_137_characters_have_septets() {
        let known = ('\0'..=char::MAX).filter(|&c| septets(c).is_some()).count();
        assert_eq!(known, 127 + 10);
        assert_eq!(septets('ç'), None, "only the capital is in the table");
        assert_eq!(septets('\u{1B}'), None);
    }

    #[test]
    fn ascii_at_a_glance_is_what_each_character_takes() {
        for c in '\0'..='\u{17F}' {
            let text = format!("a{c}~");
            let each: Option<usize> =
                text.chars().map(|c| septets(c).map(|septets| if let Septets::One(_) = septets { 1 } else { 2 })).sum();
            assert_eq!(ascii_septets(&text), each.filter(|_| c.is_ascii()), "{c:?}");
        }
        let plain = "Is $5 @ 8_30 fine?\r\n";
        assert_eq!(ascii_septets(plain), Some(plain.len()));
        assert_eq!(decode(&encode_ascii(plain)), plain);
        assert_eq!(ascii_septets(""), Some(0));
    }

    #[test]
    fn odd_octets_read_as_something() {
        assert_eq!(decode(&[ESCAPE]), " ");
        assert_eq!(decode(&[ESCAPE, b'A']), "A");
        assert_eq!(decode(&[0x80]), "\u{FFFD}");
    }
}
