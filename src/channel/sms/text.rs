//! How many segments a text takes, and what they hold: GSM-7 where it fits, else UTF-16, packed for real, so that
//! neither an escape pair nor a surrogate pair is ever torn apart.

use bytes::{BufMut, Bytes, BytesMut};

use super::gsm7::{self, ESCAPE, Septets};

/// Most segments of one text: what the 8-bit counters of a concatenation header can hold.
pub const SEGMENTS_MAX: u32 = 255;

/// The octets of the header that makes segments one text: length, element 0 of length 3, reference, total, number.
const HEADER_LEN: usize = 6;

/// How a market counts segments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Counting {
    /// `gsm_intl`: 160 septets, 153 in a longer text; 70 and 67 units of UTF-16 for what GSM-7 cannot write.
    #[default]
    GsmIntl,
    /// `cn_domestic`: every character is one unit, 70 and 67, plain ASCII too.
    CnDomestic,
}

/// How a text that GSM-7 can write is put into octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Alphabet {
    /// GSM-7, one septet an octet, extension characters escaped.
    #[default]
    Gsm7,
    /// ISO 8859-1, one octet a character; the SMSC makes GSM-7 of it, so it is counted in septets all the same.
    Latin1,
}

/// How a route counts and writes texts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Style {
    /// How segments are counted.
    pub counting: Counting,
    /// How texts that GSM-7 can write are put into octets.
    pub alphabet: Alphabet,
}

/// How a route counts a text before it is sent: in a style, behind the signature that it puts in front.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Manner {
    /// The style.
    pub style: Style,
    /// The signature when a job names no sender; `None`: none is put in front of texts.
    pub signature: Option<Box<str>>,
}

/// Which coding the segments of a text are in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Coding {
    /// The route's default alphabet.
    Default,
    /// UTF-16, big endian.
    Ucs2,
}

/// A text as segments.
#[derive(Clone, PartialEq, Eq)]
pub struct Segments {
    /// Their coding, the same for all.
    pub coding: Coding,
    /// Their octets, at least one segment; each starts with its concatenation header if there are several.
    pub parts: Vec<Bytes>,
}

/// The text takes more segments than a concatenation header can count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("takes {0} segments, at most {SEGMENTS_MAX} make one text")]
pub struct TooLong(pub u32);

/// Returns how many segments `text` takes, at least 1. Allocates nothing.
///
/// # Example
/// ```
/// use postrider::channel::sms::text::{Counting, segments};
/// assert_eq!(segments(&"a".repeat(161), Counting::GsmIntl), 2);
/// assert_eq!(segments(&"a".repeat(161), Counting::CnDomestic), 3);
/// ```
pub fn segments(text: &str, counting: Counting) -> u32 {
    Style { counting, alphabet: Alphabet::Gsm7 }.segments(text)
}

/// Counts units into segments, whole characters at a time.
#[derive(Clone, Copy)]
struct Packing {
    single: u32,
    multi: u32,
    total: u32,
    parts: u32,
    fill: u32,
}

// === impl Style ===

impl Style {
    /// Returns how many segments `text` takes in this style, at least 1. Allocates nothing.
    pub fn segments(self, text: &str) -> u32 {
        self.pack_gsm7(text).unwrap_or_else(|| pack_ucs2(text)).count()
    }

    /// Returns the segments of `text`. `reference` ties several to one text: the same for each attempt of a job.
    ///
    /// # Errors
    /// [`TooLong`] for more than [`SEGMENTS_MAX`] segments.
    pub fn encode(self, text: &str, reference: u8) -> Result<Segments, TooLong> {
        let (packing, coding) = match self.pack_gsm7(text) {
            Some(packing) => (packing, Coding::Default),
            None => (pack_ucs2(text), Coding::Ucs2),
        };
        let count = packing.count();
        let total = u8::try_from(count).map_err(|_| TooLong(count))?;
        if coding == Coding::Default && total == 1 && gsm7::ascii_septets(text) == Some(text.len()) {
            let octets = match self.alphabet {
                Alphabet::Gsm7 => gsm7::encode_ascii(text).into(),
                Alphabet::Latin1 => Bytes::copy_from_slice(text.as_bytes()),
            };
            return Ok(Segments { coding, parts: vec![octets] });
        }
        let mut writer = Writer::new(packing, total, reference, text.len());
        for c in text.chars() {
            match coding {
                Coding::Default => self.write_gsm7(&mut writer, c),
                Coding::Ucs2 => {
                    let mut units = [0; 2];
                    let units = c.encode_utf16(&mut units);
                    writer.make_room(units.len() as u32);
                    units.iter().for_each(|&unit| writer.octets.put_u16(unit));
                }
            }
        }
        Ok(Segments { coding, parts: writer.finish() })
    }

    /// Returns how `text` packs into septets, if this style can write all of it so.
    fn pack_gsm7(self, text: &str) -> Option<Packing> {
        if self.counting == Counting::CnDomestic {
            return None;
        }
        let mut packing = Packing::new(160, 153);
        // Most texts, at a glance.
        if let Some(packed) = gsm7::ascii_septets(text).and_then(|septets| packing.in_one(septets)) {
            return Some(packed);
        }
        for c in text.chars() {
            let septets = gsm7::septets(c)?;
            if self.alphabet == Alphabet::Latin1 && u32::from(c) > 0xFF {
                return None;
            }
            packing.put(septets.count());
        }
        Some(packing)
    }

    fn write_gsm7(self, writer: &mut Writer, c: char) {
        let Some(septets) = gsm7::septets(c) else { return };
        writer.make_room(septets.count());
        match (self.alphabet, septets) {
            (Alphabet::Latin1, _) => writer.octets.put_u8(u8::try_from(u32::from(c)).unwrap_or(b'?')),
            (Alphabet::Gsm7, Septets::One(code)) => writer.octets.put_u8(code),
            (Alphabet::Gsm7, Septets::Two(code)) => writer.octets.put_slice(&[ESCAPE, code]),
        }
    }
}

// === impl Manner ===

impl Manner {
    /// Returns how many segments `text` takes from `sender`, at least 1.
    pub fn segments(&self, text: &str, sender: &str) -> u32 {
        match &self.signature {
            None => self.style.segments(text),
            Some(signature) => {
                let signature = if sender.is_empty() { signature } else { sender };
                self.style.segments(&format!("【{signature}】{text}"))
            }
        }
    }
}

fn pack_ucs2(text: &str) -> Packing {
    let mut packing = Packing::new(70, 67);
    text.chars().for_each(|c| packing.put(c.len_utf16() as u32));
    packing
}

// === impl Septets ===

impl Septets {
    const fn count(self) -> u32 {
        match self {
            Self::One(_) => 1,
            Self::Two(_) => 2,
        }
    }
}

// === impl Packing ===

impl Packing {
    const fn new(single: u32, multi: u32) -> Self {
        Self { single, multi, total: 0, parts: 1, fill: 0 }
    }

    /// Puts a character of `units` where it fits whole.
    const fn put(&mut self, units: u32) {
        self.total += units;
        self.fill += units;
        if self.fill > self.multi {
            self.parts += 1;
            self.fill = units;
        }
    }

    /// Returns a packing of so many units, if one segment holds them.
    fn in_one(self, units: usize) -> Option<Self> {
        let total = u32::try_from(units).ok().filter(|units| *units <= self.single)?;
        Some(Self { total, ..self })
    }

    const fn count(&self) -> u32 {
        if self.total <= self.single { 1 } else { self.parts }
    }
}

/// Writes the segments of one text, one after the other, into one buffer.
struct Writer {
    octets: BytesMut,
    parts: Vec<Bytes>,
    packing: Packing,
    total: u8,
    reference: u8,
}

// === impl Writer ===

impl Writer {
    fn new(packing: Packing, total: u8, reference: u8, len: usize) -> Self {
        // UTF-16 takes at most twice the octets of UTF-8, escapes the same.
        let capacity = len * 2 + usize::from(total) * HEADER_LEN;
        let packing = Packing::new(packing.single, packing.multi);
        let parts = Vec::with_capacity(usize::from(total));
        let mut writer = Self { octets: BytesMut::with_capacity(capacity), parts, packing, total, reference };
        writer.start();
        writer
    }

    /// Counts `units` into the segment, and starts the next one where they do not fit.
    fn make_room(&mut self, units: u32) {
        let before = self.packing.parts;
        self.packing.put(units);
        if self.total > 1 && self.packing.parts > before {
            self.parts.push(self.octets.split().freeze());
            self.start();
        }
    }

    fn start(&mut self) {
        if self.total > 1 {
            let number = u8::try_from(self.parts.len() + 1).unwrap_or(u8::MAX);
            self.octets.put_slice(&[HEADER_LEN as u8 - 1, 0, 3, self.reference, self.total, number]);
        }
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.parts.push(self.octets.freeze());
        self.parts
    }
}

impl std::fmt::Debug for Segments {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the octets: this ends in logs and panics.
        f.debug_struct("Segments").field("coding", &self.coding).field("parts", &self.parts.len()).finish()
    }
}

#[cfg(test)]
mod tests;
