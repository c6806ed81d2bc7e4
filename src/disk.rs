//! Files that outlive a stop of the machine: names that are durable, files replaced whole, room made ahead of a log.

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::{Advice, FallocateFlags};

/// Room made at once, in bytes: a few hundred syncs of a busy log, and little enough to leave unused.
const ROOM: u64 = 8 << 20;

/// What is written into the room ahead of the log.
static ZEROS: [u8; 128 << 10] = [0; 128 << 10];

/// How far the room of a log file reaches.
///
/// Where a file grows with every append, every sync has new blocks and a new length to put into the file system's journal,
/// too. With room made ahead, that is done for megabytes at a time: beside a busy ledger, nine of ten syncs took half as long.
/// Room that was never written is as new to the file system as none, so the next part of it is filled with zeros: a sync of an
/// append into it writes the append and nothing else.
/// What was appended ends where zeros begin, so a reader must not take zeros for a record.
#[derive(Debug, Default)]
pub(crate) struct Room {
    until: u64,
    written: u64,
}

impl Room {
    /// Makes room for an append up to `end`. Where the file system cannot, the append makes its own, and where it is full, the
    /// append itself will tell.
    pub(crate) fn make(&mut self, file: &File, end: u64) {
        if end > self.until {
            let until = end + ROOM;
            let _full = rustix::fs::fallocate(file, FallocateFlags::empty(), self.until, until - self.until);
            self.until = until;
        }
        if end > self.written {
            let _full = file.write_all_at(&ZEROS, end);
            self.written = end + ZEROS.len() as u64;
        }
    }

    /// Ends the file at `end`, where its last append ended.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn give_back(&mut self, file: &File, end: u64) -> io::Result<()> {
        *self = Self::default();
        file.set_len(end)
    }
}

/// Begins to write a part of a file to the disk, so that a later sync finds less to do. Does not wait, and makes nothing durable.
pub(crate) fn begin_to_write(file: &File, part: &Range<u64>) {
    // What waits to be written is written when it is said not to be needed any more, and stays in memory until then;
    // `sync_file_range`, which is made for this, has no safe binding.
    if let Some(length) = NonZeroU64::new(part.end.saturating_sub(part.start)) {
        let _later = rustix::fs::fadvise(file, part.start, Some(length), Advice::DontNeed);
    }
}

/// Makes the names in a directory durable.
///
/// # Errors
/// What the system says.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Puts a file in the place of the one at `path`, durably: a stop of the machine leaves the one or the other, whole.
///
/// # Errors
/// What the system says. The file that was there stays, or the new one is there and it is not known for how long.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = File::create(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    path.parent().map_or(Ok(()), sync_dir)
}

#[cfg(test)]
mod tests {
    use rustix::fs::SeekFrom;

    use super::*;

    #[test]
    fn appends_within_the_room_leave_the_length_alone_and_it_is_given_back() {
        let mut file = tempfile::tempfile().unwrap();
        let mut room = Room::default();
        let (mut lengths, mut end) = (vec![], 0);
        for bytes in [10, 1_000_000, ROOM, 1] {
            end += bytes;
            room.make(&file, end);
            file.write_all(&vec![1; usize::try_from(bytes).unwrap()]).unwrap();
            lengths.push(file.metadata().unwrap().len());
        }
        let hole = rustix::fs::seek(&file, SeekFrom::Hole(end)).unwrap();
        assert!(hole >= end + ZEROS.len() as u64, "{hole}");
        let second = 10 + 1_000_000 + ROOM + ROOM;
        room.give_back(&file, end).unwrap();
        lengths.push(file.metadata().unwrap().len());
        room.make(&file, end + 1);
        lengths.push(file.metadata().unwrap().len());
        assert_eq!(lengths, [10 + ROOM, 10 + ROOM, second, second, end, end + 1 + ROOM]);
    }

    #[test]
    fn a_file_is_replaced_whole_and_its_draft_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        for text in ["one that is long", "two"] {
            replace(&path, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("missing/identity"), b"three").is_err());
    }
}
