//! The bytes of a log segment: blocks, each with its length and a checksum, and how damage is told from a torn tail.
//!
//! A block is `magic, length, crc32, synced` (u32, u32, u32, u64, little-endian) and its payload. `synced` says how much
//! of the segment was known to be on the disk when the block was written: if anything before that offset is unreadable,
//! it is not the torn end of a write that was never confirmed, it is loss. The first block of a segment is empty, and
//! its `synced` is the length of the segment before.

use std::io::{self, Read};

/// Most payload in a block; a longer length is damage. Far above what callers can append before they wait.
const PAYLOAD_MAX: usize = 1 << 30;

/// Starts every block.
const MAGIC: u32 = 0x4c52_5031;
const HEADER: usize = 20;

/// Appends a block.
pub(super) fn write(out: &mut Vec<u8>, synced: u64, payload: &[u8]) {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&synced.to_le_bytes());
    crc.update(payload);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(&crc.finalize().to_le_bytes());
    out.extend_from_slice(&synced.to_le_bytes());
    out.extend_from_slice(payload);
}

/// What reading a segment came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    /// Up to where the segment is whole.
    pub whole: u64,
    /// How long the segment before must be, if this one says so.
    pub before: Option<u64>,
    /// Whether something that was on the disk is gone.
    pub lost: bool,
    /// Whether there were whole blocks behind `whole`.
    pub salvaged: bool,
}

/// Reads blocks to the end and calls `each` with the payloads, those after damage included.
///
/// # Errors
/// What reading came to; damage is no error.
pub(super) fn scan(mut segment: impl Read, mut each: impl FnMut(&[u8])) -> io::Result<Scan> {
    let mut scan = Scan::default();
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        if read_up_to(&mut segment, HEADER, &mut bytes)? == 0 {
            return Ok(scan);
        }
        if let Some(length) = length(&bytes) {
            read_up_to(&mut segment, length, &mut bytes)?;
        }
        let Some((synced, payload)) = parse(&bytes) else { break };
        note(&mut scan, synced, payload, &mut each);
        scan.whole += bytes.len() as u64;
    }
    segment.read_to_end(&mut bytes)?;
    salvage(&bytes, &mut scan, each);
    Ok(scan)
}

/// Finds the blocks behind damage, which starts where the segment stops being whole.
fn salvage(mut rest: &[u8], scan: &mut Scan, mut each: impl FnMut(&[u8])) {
    while let Some((_, tail)) = rest.split_first() {
        // A byte at a time only where a block may begin: room that was made ahead is megabytes of zeros.
        let next = tail.iter().position(|byte| *byte == MAGIC.to_le_bytes()[0]).unwrap_or(tail.len());
        rest = &tail[next..];
        let block = length(rest).and_then(|length| rest.get(..HEADER + length));
        if let Some((synced, payload)) = block.and_then(parse) {
            scan.lost |= synced > scan.whole;
            scan.salvaged = true;
            each(payload);
            rest = &rest[HEADER + payload.len() - 1..];
        }
    }
}

fn note(scan: &mut Scan, synced: u64, payload: &[u8], each: &mut impl FnMut(&[u8])) {
    if scan.whole == 0 && payload.is_empty() {
        scan.before = Some(synced);
    }
    each(payload);
}

/// Returns the payload's length that a header states.
fn length(bytes: &[u8]) -> Option<usize> {
    let magic = bytes.get(..4)?;
    let length = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?) as usize;
    (magic == MAGIC.to_le_bytes() && length <= PAYLOAD_MAX && bytes.len() >= HEADER).then_some(length)
}

/// Returns what a whole block says.
fn parse(block: &[u8]) -> Option<(u64, &[u8])> {
    let length = length(block)?;
    let (header, payload) = block.split_at_checked(HEADER)?;
    let mut crc = crc32fast::Hasher::new();
    crc.update(&header[12..]);
    crc.update(payload);
    let whole = payload.len() == length && header[8..12] == crc.finalize().to_le_bytes();
    whole.then(|| (u64::from_le_bytes(header[12..].try_into().unwrap_or_default()), payload))
}

fn read_up_to(from: &mut impl Read, count: usize, out: &mut Vec<u8>) -> io::Result<usize> {
    from.by_ref().take(count as u64).read_to_end(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&mut bytes, 77, b"");
        write(&mut bytes, 20, b"first");
        write(&mut bytes, 20, b"second");
        write(&mut bytes, 71, b"third");
        bytes
    }

    #[track_caller]
    fn check(bytes: &[u8], read: &[&str], whole: u64, (lost, salvaged): (bool, bool)) {
        let mut payloads = Vec::new();
        let scan = scan(bytes, |payload| payloads.push(String::from_utf8(payload.to_vec()).unwrap())).unwrap();
        payloads.retain(|payload| !payload.is_empty());
        assert_eq!(
            (payloads.iter().map(String::as_str).collect::<Vec<_>>(), scan.whole, scan.lost, scan.salvaged),
            (read.to_vec(), whole, lost, salvaged)
        );
    }

    #[test]
    fn a_torn_tail_is_no_loss_and_a_hole_is() {
        let whole = segment();
        let (sound, unsound, loss) = ((false, false), (false, true), (true, true));
        check(&whole, &["first", "second", "third"], 96, sound);
        for torn in 72..96 {
            check(&whole[..torn], &["first", "second"], 71, sound);
            check(&[&whole[..torn], &[0; 5_000]].concat(), &["first", "second"], 71, sound);
        }
        let mut hole = whole.clone();
        hole[50] ^= 1;
        check(&hole, &["first", "third"], 45, loss);
        // The second block was never confirmed: that it is unreadable although the third can be read is no loss.
        let mut unconfirmed = whole[..71].to_vec();
        write(&mut unconfirmed, 45, b"third");
        unconfirmed[50] ^= 1;
        check(&unconfirmed, &["first", "third"], 45, unsound);
        unconfirmed[45..71].fill(0);
        unconfirmed.splice(45..45, [0; 5_000]);
        check(&unconfirmed, &["first", "third"], 45, unsound);
        check(b"garbage of any length at all", &[], 0, sound);
    }
}
