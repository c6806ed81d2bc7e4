//! The directory of the embedded limits: numbered log segments, the snapshot that replaces the oldest, the identity.
//!
//! `00000007.snap` holds all that the segments up to `00000007.log` say. A start reads the newest snapshot and the
//! segments after it, cuts a torn tail, and goes on in a new segment.

use std::fs::{self, File, TryLockError};
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use super::block::{self, Scan};
use super::storage;
use crate::disk;
use crate::domain::time::UnixMicros;
use crate::limits::{Identity, LimitsError};

/// The directory, locked for this process.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
    /// Held for as long as the directory is in use.
    _lock: File,
}

/// Follows the identity of a memory whose loss is not made good.
const RECOVERING: &str = "recovering";

/// What a start found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The number of the newest segment or snapshot.
    pub last: u64,
    /// How long the newest segment is; `None` where a snapshot has replaced it.
    pub last_bytes: Option<u64>,
    /// Bytes in segments that no snapshot replaces.
    pub log_bytes: u64,
    /// Whether something that was durable is gone.
    pub lost: bool,
    /// Whether something was read that is not in the files any more: it was behind what a stop of the machine tore.
    pub salvaged: bool,
}

impl Files {
    /// Makes the directory if need be and locks it.
    ///
    /// # Errors
    /// [`LimitsError::Storage`]; also when another process uses it.
    pub(super) fn open(dir: &Path) -> Result<Self, LimitsError> {
        fs::create_dir_all(dir).map_err(storage)?;
        let lock = File::create(dir.join("lock")).map_err(storage)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LimitsError::Storage("another process uses this directory".into()),
            TryLockError::Error(error) => storage(error),
        })?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// Reads everything and calls `each` with the payloads in order; cuts a torn tail.
    ///
    /// # Errors
    /// [`LimitsError::Storage`]; damage is no error, it is told in [`Found`].
    pub(super) fn load(&self, mut each: impl FnMut(&[u8])) -> Result<Found, LimitsError> {
        for draft in self.numbered("tmp")? {
            fs::remove_file(self.path(draft, "tmp")).map_err(storage)?;
        }
        let snapshot = self.numbered("snap")?.pop();
        let mut found = Found::default();
        if let Some(number) = snapshot {
            let path = self.path(number, "snap");
            let scan = read(&path, &mut each)?;
            found.lost |= scan.lost || scan.whole < fs::metadata(&path).map_err(storage)?.len();
            found.last = number;
        }
        for number in self.numbered("log")?.into_iter().filter(|&number| Some(number) > snapshot) {
            let path = self.path(number, "log");
            let scan = read(&path, &mut each)?;
            let length = fs::metadata(&path).map_err(storage)?.len();
            // A segment is missing, or shorter than its successor knew it.
            let gap = number != found.last + 1;
            let short = found.last_bytes.is_some_and(|bytes| scan.before.is_some_and(|before| before > bytes));
            found.lost |= scan.lost || gap || short;
            found.salvaged |= scan.salvaged;
            let file = File::options().write(true).open(&path).map_err(storage)?;
            if scan.whole < length && !scan.lost {
                file.set_len(scan.whole).map_err(storage)?;
            }
            // Also what a process that was killed wrote without a sync: the next segment says how long this one is.
            file.sync_all().map_err(storage)?;
            found.last = number;
            found.last_bytes = Some(scan.whole);
            found.log_bytes += scan.whole;
        }
        Ok(found)
    }

    /// Returns the identity, made anew if there is none or if something was lost.
    ///
    /// # Errors
    /// [`LimitsError::Storage`].
    pub(super) fn identity(&self, now: UnixMicros, lost: bool) -> Result<Identity, LimitsError> {
        let known = fs::read_to_string(self.dir.join("identity")).ok();
        let known = known.as_deref().and_then(parse_identity).filter(|_| !lost);
        if let Some(identity) = known {
            return Ok(identity);
        }
        let identity = Identity { id: uuid::Uuid::new_v4().to_string().into(), changed_at: now, recovering: true };
        write_identity(&self.dir, &identity).map(|()| identity)
    }

    /// Starts a segment, which says how long the one before is.
    ///
    /// # Errors
    /// [`LimitsError::Storage`].
    pub(super) fn segment(&self, number: u64, before: u64) -> Result<(File, u64), LimitsError> {
        let mut file = File::create(self.path(number, "log")).map_err(storage)?;
        let mut start = Vec::new();
        block::write(&mut start, before, &[]);
        file.write_all(&start).and_then(|()| file.sync_all()).map_err(storage)?;
        self.sync()?;
        Ok((file, start.len() as u64))
    }

    /// Writes the snapshot that replaces the segments up to `number`, from the payloads that `dump` hands to its
    /// argument, and removes what it replaces. Returns its length.
    ///
    /// # Errors
    /// [`LimitsError::Storage`]; what is there stays.
    pub(super) fn snapshot(
        &self,
        number: u64,
        dump: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), LimitsError>) -> Result<(), LimitsError>,
    ) -> Result<u64, LimitsError> {
        let draft = self.path(number, "tmp");
        let mut file = File::create(&draft).map_err(storage)?;
        let (mut bytes, mut out) = (0, Vec::new());
        dump(&mut |payload| {
            out.clear();
            block::write(&mut out, bytes, payload);
            bytes += out.len() as u64;
            file.write_all(&out).map_err(storage)
        })?;
        file.sync_all().map_err(storage)?;
        fs::rename(&draft, self.path(number, "snap")).map_err(storage)?;
        self.sync()?;
        for old in self.numbered("log")?.into_iter().filter(|&old| old <= number) {
            fs::remove_file(self.path(old, "log")).map_err(storage)?;
        }
        for old in self.numbered("snap")?.into_iter().filter(|&old| old < number) {
            fs::remove_file(self.path(old, "snap")).map_err(storage)?;
        }
        Ok(bytes)
    }

    /// Returns the numbers of the files of a kind, in order.
    fn numbered(&self, kind: &str) -> Result<Vec<u64>, LimitsError> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(storage)? {
            let path = entry.map_err(storage)?.path();
            if path.extension().is_some_and(|extension| extension == kind) {
                numbers
                    .extend(path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse::<u64>().ok()));
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn path(&self, number: u64, kind: &str) -> PathBuf {
        self.dir.join(format!("{number:08}.{kind}"))
    }

    /// Makes names durable.
    fn sync(&self) -> Result<(), LimitsError> {
        disk::sync_dir(&self.dir).map_err(storage)
    }
}

/// Writes the identity.
///
/// # Errors
/// [`LimitsError::Storage`]; the one before stays, or it is not known which one will.
pub(super) fn write_identity(dir: &Path, identity: &Identity) -> Result<(), LimitsError> {
    let recovering = if identity.recovering { RECOVERING } else { "" };
    let line = format!("{} {} {recovering}\n", identity.id, identity.changed_at.0);
    disk::replace(&dir.join("identity"), line.as_bytes()).map_err(storage)
}

fn read(path: &Path, each: impl FnMut(&[u8])) -> Result<Scan, LimitsError> {
    let file = File::open(path).map_err(storage)?;
    block::scan(BufReader::with_capacity(1 << 18, file), each).map_err(storage)
}

fn parse_identity(text: &str) -> Option<Identity> {
    let mut words = text.split_whitespace();
    let (id, changed_at) = (words.next()?, words.next()?);
    let recovering = words.next() == Some(RECOVERING);
    Some(Identity { id: id.into(), changed_at: UnixMicros(changed_at.parse().ok()?), recovering })
}
