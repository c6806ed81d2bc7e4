//! The files: numbered append-only segments in one directory, locked by one process.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::Record;
use crate::disk::{self, Room};

/// How many sealed segments may exist beyond what their size calls for (each restart seals one), before the oldest is
/// copied forward.
const SEGMENTS_SPARE: u64 = 8;

/// What the state file says after a close in order: every mark is in the log.
const CLEAN: &str = "clean";

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) length: u32,
}

/// Why an append failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// Nothing of it is in the log; another try may succeed.
    Undone(io::Error),
    /// What is on the disk is not known any more.
    Poisoned(io::Error),
}

/// What the end of the previous process leaves to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Past {
    /// Every write before the end is in the files: it closed in order, or the machine has run on since.
    Whole,
    /// The machine stopped: writes after the last sync may be missing.
    Cut,
}

/// A directory that is locked and was read, with whole segments and none to write to yet.
pub(super) struct Found {
    dir: PathBuf,
    lock: File,
    sealed: BTreeMap<u32, Segment>,
    newest: u32,
    /// What may be missing.
    pub(super) past: Past,
}

/// The segments. All calls block.
pub(super) struct Log {
    dir: PathBuf,
    // Holds the lock for as long as it is open.
    _lock: File,
    segment_bytes: u64,
    sealed: BTreeMap<u32, Segment>,
    active: u32,
    head: Segment,
    /// The head's.
    room: Room,
}

struct Segment {
    file: File,
    bytes: u64,
    /// Frames that still wait in some queue, and the bytes of their records.
    live: u64,
    live_bytes: u64,
}

// === impl Place ===

impl Place {
    /// Returns a place, if it is one.
    pub(super) fn new(segment: u32, offset: u64, length: usize) -> Option<Self> {
        Some(Self { segment, offset: offset.try_into().ok()?, length: length.try_into().ok()? })
    }

    /// Returns the place of a part of what is here.
    pub(super) fn part(self, within: Range<usize>) -> Self {
        // An append is at most `u32::MAX` bytes long, and so is a part of it.
        let short = |bytes: usize| u32::try_from(bytes).unwrap_or(u32::MAX);
        let offset = self.offset.saturating_add(short(within.start));
        Self { segment: self.segment, offset, length: short(within.len()) }
    }
}

// === impl Fault ===

impl Fault {
    /// Returns what the system said.
    pub(super) fn into_error(self) -> io::Error {
        match self {
            Self::Undone(error) | Self::Poisoned(error) => error,
        }
    }
}

// === impl Found ===

impl Found {
    /// Locks `dir`, cuts what was torn, and shows every record to `replay` in order.
    pub(super) fn open(
        dir: &Path,
        mut replay: impl FnMut(Record<'_>, Place) -> Result<(), io::Error>,
    ) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let lock = lock(dir)?;
        let past = past(dir)?;
        let numbers = segment_numbers(dir)?;
        let (oldest, newest) = (numbers.first().copied().unwrap_or(1), numbers.last().copied().unwrap_or(0));
        let mut sealed = BTreeMap::new();
        for number in oldest..=newest {
            // They begin one after the other and are removed from the oldest on, so none may be missing.
            let path = segment_path(dir, number);
            let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(named)?;
            let bytes = fs::read(&path)?;
            let end = scan(number, &bytes, &mut replay)?;
            if end < bytes.len() {
                // Every segment but the newest was synced whole before the next one began.
                if number != newest {
                    return Err(damaged(&path, end));
                }
                file.set_len(end as u64)?;
            }
            if number == newest {
                // Also what a process that was killed wrote without a sync: the next segment begins behind it.
                file.sync_all()?;
            }
            if end == 0 {
                fs::remove_file(&path)?;
            } else {
                sealed.insert(number, Segment { file, bytes: end as u64, live: 0, live_bytes: 0 });
            }
        }
        let newest = sealed.last_key_value().map_or(0, |(&number, _)| number);
        Ok(Self { dir: dir.to_owned(), lock, sealed, newest, past })
    }
}

// === impl Log ===

impl Log {
    /// Begins a segment with `start` after those that were found.
    pub(super) fn begin(found: Found, segment_bytes: u64, start: &[u8]) -> io::Result<Self> {
        let Found { dir, lock, sealed, newest, past: _ } = found;
        let (active, head) = Segment::create(&dir, newest, start).map_err(Fault::into_error)?;
        Ok(Self { dir, _lock: lock, segment_bytes, sealed, active, head, room: Room::default() })
    }

    /// Seals the segment that is written to and begins the next with `start`, durably.
    pub(super) fn rotate(&mut self, start: &[u8]) -> Result<(), Fault> {
        // Without the room that is left: a reader takes what follows the last record of a sealed segment for damage.
        let ended = self.room.give_back(&self.head.file, self.head.bytes);
        ended.and_then(|()| self.head.file.sync_all()).map_err(Fault::Poisoned)?;
        let (number, next) = Segment::create(&self.dir, self.active, start)?;
        let full = std::mem::replace(&mut self.head, next);
        self.sealed.insert(self.active, full);
        self.active = number;
        Ok(())
    }

    /// Returns whether the segment that is written to has no room for `bytes` more.
    pub(super) fn full(&self, bytes: usize) -> bool {
        self.head.bytes + bytes as u64 > self.segment_bytes
    }

    /// Writes `bytes` at the end, not yet durably, and returns where they begin.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<Place, Fault> {
        let at = self.head.bytes;
        let Some(place) = Place::new(self.active, at, bytes.len()) else {
            return Err(Fault::Undone(io::ErrorKind::FileTooLarge.into()));
        };
        self.room.make(&self.head.file, at + bytes.len() as u64);
        match self.head.file.write_all_at(bytes, at) {
            Ok(()) => {
                self.head.bytes += bytes.len() as u64;
                Ok(place)
            }
            Err(error) => match self.room.give_back(&self.head.file, at) {
                Ok(()) => Err(Fault::Undone(error)),
                Err(error) => Err(Fault::Poisoned(error)),
            },
        }
    }

    /// Makes everything that was appended durable.
    ///
    /// After an error the system may have dropped what it could not write, so the caller must not try again.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.head.file.sync_data()
    }

    /// Reads the bytes of a record.
    pub(super) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; place.length as usize];
        self.segment(place.segment)?.file.read_exact_at(&mut bytes, u64::from(place.offset))?;
        Ok(bytes)
    }

    /// Returns the number of the oldest segment that is not written to any more.
    pub(super) fn oldest(&self) -> Option<u32> {
        self.sealed.first_key_value().map(|(&number, _)| number)
    }

    /// Reads up to `bytes_max` of the oldest sealed segment from `offset` on.
    pub(super) fn read_oldest(&self, offset: u64, bytes_max: usize) -> io::Result<Vec<u8>> {
        let Some(segment) = self.sealed.values().next() else { return Ok(Vec::new()) };
        let left = usize::try_from(segment.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; left.min(bytes_max)];
        segment.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Counts a frame that waits at `place`.
    pub(super) fn keep(&mut self, place: Place) {
        if let Some(segment) = self.segment_mut(place.segment) {
            segment.live += 1;
            segment.live_bytes += u64::from(place.length);
        }
    }

    /// Counts that no queue needs the frame at `place` any more.
    pub(super) fn release(&mut self, place: Place) {
        if let Some(segment) = self.segment_mut(place.segment) {
            segment.live -= 1;
            segment.live_bytes -= u64::from(place.length);
        }
    }

    /// Removes sealed segments from the oldest on, as long as nothing in them is needed.
    ///
    /// Only from the oldest on: an acknowledgement is always in a later segment than its frame, and must outlive it.
    pub(super) fn remove_dead(&mut self) -> io::Result<()> {
        while self.sealed.first_key_value().is_some_and(|(_, segment)| segment.live == 0) {
            if let Some((number, _)) = self.sealed.pop_first() {
                fs::remove_file(segment_path(&self.dir, number))?;
                // Each by itself, so that no stop of the machine leaves a gap.
                disk::sync_dir(&self.dir)?;
            }
        }
        Ok(())
    }

    /// Returns whether more than half of the log is dead beyond two segments, or is scattered over too many files.
    pub(super) fn wasteful(&self) -> bool {
        let (mut bytes, mut live) = (self.head.bytes, self.head.live_bytes);
        for segment in self.sealed.values() {
            bytes += segment.bytes;
            live += segment.live_bytes;
        }
        let segments_max = SEGMENTS_SPARE + 2 * (bytes / self.segment_bytes);
        !self.sealed.is_empty()
            && (bytes > 2 * live + 2 * self.segment_bytes || self.sealed.len() as u64 > segments_max)
    }

    /// Returns the size of all segments, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.head.bytes + self.sealed.values().map(|segment| segment.bytes).sum::<u64>()
    }

    /// Notes that from now on only a stop of the machine loses writes.
    pub(super) fn note_open(&self) -> io::Result<()> {
        write_state(&self.dir, &boot_id())
    }

    /// Syncs all and notes that nothing is missing.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.room.give_back(&self.head.file, self.head.bytes)?;
        self.sync()?;
        write_state(&self.dir, CLEAN)
    }

    /// Lets every sync from now on fail: the null device cannot.
    #[cfg(test)]
    pub(super) fn lose_disk(&mut self) {
        self.head.file = OpenOptions::new().write(true).open("/dev/null").unwrap();
    }

    fn segment(&self, number: u32) -> io::Result<&Segment> {
        if number == self.active {
            return Ok(&self.head);
        }
        self.sealed.get(&number).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn segment_mut(&mut self, number: u32) -> Option<&mut Segment> {
        if number == self.active { Some(&mut self.head) } else { self.sealed.get_mut(&number) }
    }
}

// === impl Segment ===

impl Segment {
    /// Makes the segment that follows `after`. Once it has its name, the one before may not be written to any more: whoever
    /// reads them takes what is unreadable at its end for damage.
    fn create(dir: &Path, after: u32, start: &[u8]) -> Result<(u32, Self), Fault> {
        let used_up = || Fault::Undone(io::Error::other("segment numbers are used up"));
        let number = after.checked_add(1).ok_or_else(used_up)?;
        let path = segment_path(dir, number);
        let made = disk::replace(&path, start).and_then(|()| OpenOptions::new().read(true).write(true).open(&path));
        let file = made.map_err(|error| if path.exists() { Fault::Poisoned(error) } else { Fault::Undone(error) })?;
        Ok((number, Self { file, bytes: start.len() as u64, live: 0, live_bytes: 0 }))
    }
}

/// Shows the records of one segment to `replay` and returns where the whole ones end.
pub(super) fn scan(
    segment: u32,
    bytes: &[u8],
    replay: &mut impl FnMut(Record<'_>, Place) -> Result<(), io::Error>,
) -> io::Result<usize> {
    let mut at = 0;
    while let Ok((record, length)) = Record::decode(&bytes[at..]) {
        let Some(place) = Place::new(segment, at as u64, length) else { break };
        replay(record, place)?;
        at += length;
    }
    Ok(at)
}

fn lock(dir: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            Err(io::Error::other(format!("{} is in use by another process", dir.display())))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn past(dir: &Path) -> io::Result<Past> {
    match fs::read_to_string(dir.join("state")) {
        Ok(state) if state == CLEAN || (!state.is_empty() && state == boot_id()) => Ok(Past::Whole),
        Ok(_) => Ok(Past::Cut),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Past::Cut),
        Err(error) => Err(error),
    }
}

/// Returns what changes whenever the machine starts, or nothing where that is not known.
fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

fn write_state(dir: &Path, state: &str) -> io::Result<()> {
    disk::replace(&dir.join("state"), state.as_bytes())
}

fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("{number:010}.log"))
}

fn segment_numbers(dir: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".log"));
        let number: Option<u32> = stem.and_then(|stem| stem.parse().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn damaged(path: &Path, offset: usize) -> io::Error {
    let what = format!("{} is damaged at byte {offset}; restore it from a copy", path.display());
    io::Error::new(io::ErrorKind::InvalidData, what)
}
