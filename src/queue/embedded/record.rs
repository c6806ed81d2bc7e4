//! What the log holds: records of `length, checksum, kind, body`, all numbers little-endian.

use uuid::Uuid;

/// Bytes before the kind: length and CRC-32, both over kind and body.
const HEAD: usize = 8;

/// Longest kind and body. Above a whole frame with its targets, and far below what would hurt to allocate.
const BODY_MAX: usize = 256 * 1024;

/// A queue, by its number in the log.
pub(super) type Number = u32;

/// One entry of the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Record<'a> {
    /// Begins a segment in a version of the format: new frames from here on have sequences from `next`.
    Start { version: u8, next: u64 },
    /// Gives a queue its number.
    Queue { number: Number, name: &'a str },
    /// A frame and the queues it waits in; also a later copy of it, with the queues it still waits in.
    Frame { seq: u64, id: Uuid, targets: Vec<Target>, frame: &'a [u8] },
    /// What became of deliveries.
    Marks(Vec<Mark>),
    /// Every frame below `seq` may have been delivered once, whatever its marks say.
    Floor { seq: u64 },
}

/// A queue in which a frame waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) queue: Number,
    /// How often it was delivered from there.
    pub(super) count: u32,
}

/// One delivery of a frame from a queue, or its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) queue: Number,
    pub(super) seq: u64,
    /// How often it was delivered; zero: acknowledged.
    pub(super) count: u32,
}

/// The bytes are not a whole record: a torn tail, or damage.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Torn;

/// Reads numbers and slices off the front of a body.
struct Reader<'a>(&'a [u8]);

// === impl Record ===

impl<'a> Record<'a> {
    /// Appends this record to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Start { version, next } => write(out, b'S', |out| {
                out.push(*version);
                out.extend_from_slice(&next.to_le_bytes());
            }),
            Self::Queue { number, name } => write(out, b'Q', |out| {
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(name.as_bytes());
            }),
            Self::Frame { seq, id, targets, frame } => encode_frame(out, *seq, *id, targets, frame),
            Self::Marks(marks) => write(out, b'M', |out| {
                for mark in marks {
                    out.extend_from_slice(&mark.queue.to_le_bytes());
                    out.extend_from_slice(&mark.seq.to_le_bytes());
                    out.extend_from_slice(&mark.count.to_le_bytes());
                }
            }),
            Self::Floor { seq } => write(out, b'L', |out| out.extend_from_slice(&seq.to_le_bytes())),
        }
    }

    /// Reads the first record of `bytes` and returns it with its length.
    pub(super) fn decode(bytes: &'a [u8]) -> Result<(Self, usize), Torn> {
        let mut head = Reader(bytes);
        let length = usize::try_from(head.u32()?).map_err(|_| Torn)?;
        let sum = head.u32()?;
        if length == 0 || length > BODY_MAX {
            return Err(Torn);
        }
        let body = head.take(length)?;
        if crc32fast::hash(body) != sum {
            return Err(Torn);
        }
        let (kind, body) = body.split_first().ok_or(Torn)?;
        Ok((Self::from_body(*kind, Reader(body))?, HEAD + length))
    }

    fn from_body(kind: u8, mut body: Reader<'a>) -> Result<Self, Torn> {
        match kind {
            b'S' => Ok(Self::Start { version: body.u8()?, next: body.u64()? }),
            b'Q' => {
                let number = body.u32()?;
                Ok(Self::Queue { number, name: std::str::from_utf8(body.0).map_err(|_| Torn)? })
            }
            b'F' => {
                let (seq, id) = (body.u64()?, Uuid::from_bytes(body.array()?));
                let targets = (0..body.u8()?)
                    .map(|_| Ok(Target { queue: body.u32()?, count: body.u32()? }))
                    .collect::<Result<_, Torn>>()?;
                Ok(Self::Frame { seq, id, targets, frame: body.0 })
            }
            b'M' => {
                let mut marks = Vec::with_capacity(body.0.len() / 16);
                while !body.0.is_empty() {
                    marks.push(Mark { queue: body.u32()?, seq: body.u64()?, count: body.u32()? });
                }
                Ok(Self::Marks(marks))
            }
            b'L' => Ok(Self::Floor { seq: body.u64()? }),
            _ => Err(Torn),
        }
    }
}

/// Appends a [`Record::Frame`] without owning its parts; at most 255 targets.
pub(super) fn encode_frame(out: &mut Vec<u8>, seq: u64, id: Uuid, targets: &[Target], frame: &[u8]) {
    write(out, b'F', |out| {
        out.extend_from_slice(&seq.to_le_bytes());
        out.extend_from_slice(id.as_bytes());
        out.push(u8::try_from(targets.len()).unwrap_or(u8::MAX));
        for target in targets.iter().take(usize::from(u8::MAX)) {
            out.extend_from_slice(&target.queue.to_le_bytes());
            out.extend_from_slice(&target.count.to_le_bytes());
        }
        out.extend_from_slice(frame);
    });
}

/// Appends marks, in as many records as they need.
pub(super) fn encode_marks(out: &mut Vec<u8>, marks: &[Mark]) {
    for chunk in marks.chunks(BODY_MAX / 32) {
        Record::Marks(chunk.to_vec()).encode(out);
    }
}

fn write(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD]);
    out.push(kind);
    body(out);
    let sum = crc32fast::hash(&out[start + HEAD..]);
    let length = u32::try_from(out.len() - start - HEAD).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + HEAD].copy_from_slice(&sum.to_le_bytes());
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Torn> {
        let (front, rest) = self.0.split_at_checked(length).ok_or(Torn)?;
        self.0 = rest;
        Ok(front)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Torn> {
        self.take(N)?.try_into().map_err(|_| Torn)
    }

    fn u8(&mut self) -> Result<u8, Torn> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Result<u32, Torn> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Torn> {
        self.array().map(u64::from_le_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Record<'static>> {
        vec![
            Record::Start { version: 1, next: 7 },
            Record::Queue { number: 3, name: "postrider.record" },
            Record::Frame {
                seq: u64::MAX,
                id: Uuid::from_u128(5),
                targets: vec![Target { queue: 0, count: 0 }, Target { queue: 9, count: 4 }],
                frame: b"frame",
            },
            Record::Marks(vec![Mark { queue: 1, seq: 2, count: 3 }, Mark { queue: 1, seq: 3, count: 0 }]),
            Record::Floor { seq: 12 },
        ]
    }

    #[test]
    fn records_come_back_as_they_were_written() {
        for record in samples() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(Record::decode(&bytes), Ok((record, bytes.len())));
        }
    }

    #[test]
    fn a_cut_or_damaged_record_is_torn() {
        for record in samples() {
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            for cut in 0..bytes.len() {
                assert_eq!(Record::decode(&bytes[..cut]), Err(Torn), "{record:?} cut at {cut}");
            }
            for at in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[at] ^= 0x10;
                assert_eq!(Record::decode(&damaged), Err(Torn), "{record:?} damaged at {at}");
            }
        }
        assert_eq!(Record::decode(&[0; 64]), Err(Torn), "a hole in the file");
    }
}
