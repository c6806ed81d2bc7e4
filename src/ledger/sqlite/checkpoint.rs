//! Copies the write-ahead log into the file, a little at a time.
//!
//! SQLite does that when the log has grown (a checkpoint, <https://sqlite.org/wal.html#ckpt>), and syncs the file at once:
//! some hundred small writes all over it, and whoever syncs anything on the same disk queues behind them. But it syncs only a
//! copy that reaches the end of the log; after any other the log stays, and is what counts after a crash. So a reader holds
//! a place in the log, another connection copies what lies before it, and what was copied is written to the disk a few pages at
//! a time. Little is left for the copy that reaches the end, syncs the file and lets the log begin anew. What is durable when
//! is all SQLite's doing: the worst that can go wrong here is a larger sync, unless the sync fails: then the process ends.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::threads::Threads;
use crate::disk;
use crate::domain::time::Clock;
use crate::ledger::LedgerError;

/// How often the log is copied: a copy of more takes a core for longer than others should wait for it.
const EVERY: Duration = Duration::from_millis(50);
/// The same, of a log that is to begin anew soon.
const SOON: Duration = Duration::from_millis(20);
/// How long it is left alone after a failure.
const RETRY: Duration = Duration::from_secs(5);
/// How long closing waits for it.
const CLOSE: Duration = Duration::from_secs(5);
/// Bytes after which the log is to begin anew.
const FULL: u64 = 8 << 20;
/// Bytes that may be left for the copy that reaches the end. Somebody who writes fast gets no further than this, so that is
/// tried a few times only.
const LEFT: u64 = 256 << 10;
const TRIES: u32 = 4;
/// Stretches of the file that are written together, which is less than a millisecond's work for a disk, and the pause after them.
const TOGETHER: usize = 8;
const PAUSE: Duration = Duration::from_millis(2);
/// Bytes that a disk is told to write at least, and the most of a stretch.
const BLOCK: u64 = 4096;
const STRETCH: u64 = 64 << 10;

/// The log's header, and that of each page in it (<https://sqlite.org/fileformat2.html#the_write_ahead_log>).
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;

/// The thread that copies.
pub(super) struct Checkpoints {
    stop: Mutex<Option<Sender<()>>>,
    ended: tokio::sync::Mutex<mpsc::Receiver<()>>,
    clock: Clock,
}

/// What the thread has.
struct Copier {
    /// Holds a place in the log.
    reader: Connection,
    /// Copies what lies before it.
    copier: Connection,
    file: File,
    log: PathBuf,
    page: u64,
    /// Pages from the log's begin that were written to the disk.
    written: u64,
    stop: Receiver<()>,
}

/// How long the log is and how much of it was copied, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Log {
    pages: u64,
    copied: u64,
}

/// It is time to end.
struct Stopped;

// === impl Checkpoints ===

impl Checkpoints {
    /// Starts the thread, with two connections of its own.
    pub(super) fn start(
        path: &Path,
        connections: [Connection; 2],
        writer: Arc<Threads>,
        clock: Clock,
    ) -> Result<Self, LedgerError> {
        let unreachable = |error: io::Error| LedgerError::Unreachable(error.to_string().into());
        let [reader, copier] = connections;
        let page: u32 = reader.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let mut log = path.as_os_str().to_owned();
        log.push("-wal");
        let (stopper, stop) = channel();
        let (alive, ended) = mpsc::channel(1);
        let file = File::open(path).map_err(unreachable)?;
        let copier = Copier { reader, copier, file, log: log.into(), page: page.into(), written: 0, stop };
        let run = move || {
            let _alive = alive;
            let Stopped = copier.run(&writer);
        };
        std::thread::Builder::new().name("ledger-copier".into()).spawn(run).map_err(unreachable)?;
        Ok(Self { stop: Mutex::new(Some(stopper)), ended: tokio::sync::Mutex::new(ended), clock })
    }

    /// Ends the thread; the last connection to be closed copies what is left.
    pub(super) async fn close(&self) {
        drop(self.stop.lock().unwrap_or_else(PoisonError::into_inner).take());
        // A copy of some megabytes at most, unless the disk hangs; then the writer says so, too.
        let mut ended = self.ended.lock().await;
        let _late = self.clock.timeout(CLOSE, ended.recv()).await;
    }
}

// === impl Copier ===

impl Copier {
    fn run(mut self, writer: &Threads) -> Stopped {
        let (mut pause, mut tries) = (EVERY, 0);
        loop {
            let done = match self.round(pause) {
                Ok(Ok((log, _))) if log.pages * self.page < FULL => {
                    (pause, tries) = (EVERY, 0);
                    Ok(())
                }
                Ok(Ok((_, written))) if written * self.page > LEFT && tries < TRIES => {
                    (pause, tries) = (SOON, tries + 1);
                    Ok(())
                }
                Ok(Ok(_)) => {
                    (pause, tries) = (EVERY, 0);
                    // Between two transactions, so that nothing is added to the log meanwhile.
                    writer.run_blocking(|connection| copy(connection).map(drop))
                }
                Ok(Err(problem)) => Err(problem),
                Err(stopped) => return stopped,
            };
            if let Err(problem) = done {
                pause = RETRY;
                // SQLite copies a log that grows much longer by itself.
                warn!(%problem, "cannot copy the ledger's log into its file; trying again");
            }
        }
    }

    /// Holds a place in the log for some time, then copies what lies before it. Returns how the log stands, and how many
    /// pages were written to the disk.
    fn round(&mut self, pause: Duration) -> Result<Result<(Log, u64), LedgerError>, Stopped> {
        let held = match hold(&mut self.reader) {
            Ok(held) => held,
            Err(problem) => return self.stop.rests(pause).map(|()| Err(problem)),
        };
        self.stop.rests(pause)?;
        let log = copy(&self.copier);
        drop(held);
        let log = match log {
            Ok(log) => log,
            Err(problem) => return Ok(Err(problem)),
        };
        // A shorter log has begun anew.
        let from = if log.copied < self.written { 0 } else { self.written };
        self.written = log.copied;
        // Unread or unwritten they are a part of the next sync.
        let stretches = pages(&self.log, self.page, from..log.copied).map(|pages| stretches(pages, self.page));
        for together in stretches.unwrap_or_default().chunks(TOGETHER) {
            together.iter().for_each(|stretch| disk::begin_to_write(&self.file, stretch));
            self.stop.rests(PAUSE)?;
        }
        Ok(Ok((log, log.copied - from)))
    }
}

/// Rests until it is time to end.
trait Rests {
    fn rests(&self, time: Duration) -> Result<(), Stopped>;
}

impl Rests for Receiver<()> {
    fn rests(&self, time: Duration) -> Result<(), Stopped> {
        match self.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Ok(()) | Err(RecvTimeoutError::Disconnected) => Err(Stopped),
        }
    }
}

/// Begins to read what the log says now: nothing after it is copied while this lasts.
fn hold(reader: &mut Connection) -> Result<rusqlite::Transaction<'_>, LedgerError> {
    let held = reader.transaction_with_behavior(TransactionBehavior::Deferred)?;
    held.pragma_query_value(None, "user_version", |_| Ok(()))?;
    Ok(held)
}

/// Copies what of the log nobody reads who would not find it in the file.
fn copy(connection: &Connection) -> Result<Log, LedgerError> {
    let pages = |row: &rusqlite::Row<'_>, at| row.get(at).map(|pages: i64| u64::try_from(pages).unwrap_or(0));
    let log = |row: &rusqlite::Row<'_>| Ok(Log { pages: pages(row, 1)?, copied: pages(row, 2)? });
    let copied = connection.query_row("pragma wal_checkpoint(passive)", [], log);
    if let Err(rusqlite::Error::SqliteFailure(failure, _)) = &copied
        && failure.extended_code == rusqlite::ffi::SQLITE_IOERR_FSYNC
    {
        // The system may have dropped what it could not write, and SQLite counts copies that it has not synced as made. The
        // log is whole: the next start copies all of it. Closing the file would remove the log.
        error!("the ledger's file may have lost writes: the process ends, and the next start restores it from the log");
        std::process::abort();
    }
    Ok(copied?)
}

/// Returns which pages of the file these pages of the log are.
fn pages(log: &Path, page: u64, of: Range<u64>) -> io::Result<BTreeSet<u32>> {
    let log = File::open(log)?;
    let mut number = [0; 4];
    let number = |at: u64| {
        log.read_exact_at(&mut number, LOG_HEADER + at * (FRAME_HEADER + page))?;
        Ok(u32::from_be_bytes(number))
    };
    of.map(number).collect()
}

/// Returns the stretches of the file, in bytes and whole blocks, where these pages are. The first page has number 1.
fn stretches(pages: BTreeSet<u32>, page: u64) -> Vec<Range<u64>> {
    let mut stretches: Vec<Range<u64>> = Vec::new();
    for number in pages {
        let begin = u64::from(number.saturating_sub(1)) * page;
        let (begin, end) = (begin / BLOCK * BLOCK, (begin + page).next_multiple_of(BLOCK));
        match stretches.last_mut() {
            Some(last) if begin <= last.end && end - last.start <= STRETCH => last.end = last.end.max(end),
            _ => stretches.push(begin..end),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::super::{LOG_BYTES_MAX, PAGE, Sqlite, connect};
    use super::*;

    #[test]
    fn pages_side_by_side_are_one_stretch_of_whole_blocks() {
        for (pages, page, wanted) in [
            (&[][..], 1024, &[][..]),
            (&[1], 1024, &[(0, 4096)]),
            (&[4, 1, 2], 1024, &[(0, 4096)]),
            (&[4, 5], 1024, &[(0, 8192)]),
            (&[1, 9], 1024, &[(0, 4096), (8192, 12288)]),
            (&[2, 3, 5], 4096, &[(4096, 12288), (16384, 20480)]),
            (&[2], 8192, &[(8192, 16384)]),
            (&[1, 2], 65_536, &[(0, 65_536), (65_536, 131_072)]),
            (&[u32::MAX], 1024, &[(4_398_046_507_008, 4_398_046_511_104)]),
        ] {
            let found = stretches(pages.iter().copied().collect(), page);
            let found: Vec<_> = found.into_iter().map(|stretch| (stretch.start, stretch.end)).collect();
            assert_eq!(found, wanted, "{pages:?}");
        }
    }

    #[test]
    fn what_a_reader_holds_is_not_copied_and_the_log_says_which_pages_were() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let [writer, mut reader, copier] = [0; 3].map(|_| connect(&path, 1024).unwrap());
        writer.execute_batch("create table t (a); insert into t values (zeroblob(3000))").unwrap();
        let held = hold(&mut reader).unwrap();
        writer.execute_batch("insert into t values (zeroblob(30000))").unwrap();
        let some = copy(&copier).unwrap();
        assert!(some.copied > 0 && some.copied < some.pages, "{some:?}");
        drop(held);
        let count: u32 = writer.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        let numbers = pages(&dir.path().join("file-wal"), PAGE.cast_unsigned(), 0..some.pages).unwrap();
        assert_eq!((numbers.first(), numbers.last()), (Some(&1), Some(&count)), "{numbers:?}");
        assert_eq!(copy(&copier).unwrap(), Log { pages: some.pages, copied: some.pages });
    }

    /// SQLite would copy it at [`LOG_BYTES_MAX`], which is far away.
    #[tokio::test]
    async fn the_log_of_a_busy_file_begins_anew_long_before_sqlite_would_see_to_it() {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let path = dir.path().join("file");
        let ledger = Sqlite::open(&path, clock.clone()).unwrap();
        ledger.write(|tx| Ok(tx.execute_batch("create table t (a)")?)).await.unwrap();
        let log = File::open(dir.path().join("file-wal")).unwrap();
        // How often it has begun anew (https://sqlite.org/fileformat2.html#the_write_ahead_log).
        let begun = || {
            let mut number = [0; 4];
            log.read_exact_at(&mut number, 12).map(|()| u32::from_be_bytes(number)).unwrap()
        };
        let first = begun();
        while begun() == first {
            let bytes = log.metadata().unwrap().len();
            assert!(bytes < LOG_BYTES_MAX.cast_unsigned() / 2, "{bytes}");
            ledger.write(|tx| Ok(tx.execute_batch("insert into t values (zeroblob(100000))")?)).await.unwrap();
            clock.pause(Duration::from_millis(10)).await;
        }
    }
}
