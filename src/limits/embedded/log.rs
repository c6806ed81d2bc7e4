//! The log: changes are appended in memory and written by one thread, with one fdatasync for all that wait.

use std::fs::File;
use std::io::Write;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::block;
use super::files::Files;
use super::storage;
use crate::disk::Room;
use crate::limits::LimitsError;
use crate::limits::core::Change;

/// How long a change that nobody waits for may stay in memory. A kill of the process can lose so much of them.
const LAZY_MAX: Duration = Duration::from_millis(10);

/// Changes that nobody waits for pile up to this many bytes; then their callers wait too.
const BUFFER_MAX: usize = 8 << 20;

/// Log bytes after which a snapshot replaces them, unless the last snapshot was larger: the log is never much longer
/// than what is live, and a start reads at most about twice of that.
pub(super) const COMPACT_BYTES: u64 = 64 << 20;

/// The end of a change in the log, counted in bytes from this start of the process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct Offset(u64);

/// The log's end that callers hold.
#[derive(Debug)]
pub(super) struct Log {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What the writer starts from.
#[derive(Debug)]
pub(super) struct Start {
    /// The number of its first segment.
    pub number: u64,
    /// How long the segment before is.
    pub before: u64,
    /// Log bytes that no snapshot replaces yet.
    pub log_bytes: u64,
}

#[derive(Debug)]
struct Shared {
    pending: Mutex<Pending>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
    /// Makes the next write fail as a broken disk would.
    #[cfg(test)]
    broken: std::sync::atomic::AtomicBool,
}

#[derive(Debug, Default)]
struct Pending {
    buffer: Vec<u8>,
    appended: Offset,
    /// Somebody waits.
    urgent: bool,
    closing: bool,
    failed: Option<LimitsError>,
}

#[derive(Debug, Default)]
struct Progress {
    durable: Offset,
    failed: Option<LimitsError>,
}

struct Writer {
    shared: Arc<Shared>,
    files: Arc<Files>,
    compact: SyncSender<Compaction>,
    file: File,
    /// The file's.
    room: Room,
    number: u64,
    /// Bytes in the segment, and how many of them are on the disk.
    written: u64,
    synced: u64,
    /// Bytes in all segments since the last compaction, and at how many the next is due.
    log_bytes: u64,
    compact_at: Arc<std::sync::atomic::AtomicU64>,
    block: Vec<u8>,
}

/// Asks for a snapshot that replaces the segments up to `number`.
#[derive(Debug)]
pub(super) struct Compaction {
    /// The newest sealed segment.
    pub number: u64,
    /// Where the length after which the next one is due is told.
    pub next_at: Arc<std::sync::atomic::AtomicU64>,
}

// === impl Log ===

impl Log {
    /// Starts the writer.
    ///
    /// # Errors
    /// [`LimitsError::Storage`].
    pub(super) fn start(
        files: Arc<Files>,
        start: &Start,
        compact_bytes: u64,
        compact: SyncSender<Compaction>,
    ) -> Result<Self, LimitsError> {
        let (file, written) = files.segment(start.number, start.before)?;
        let shared = Arc::new(Shared {
            pending: Mutex::default(),
            wake: Condvar::new(),
            progress: watch::Sender::new(Progress::default()),
            #[cfg(test)]
            broken: std::sync::atomic::AtomicBool::new(false),
        });
        let writer = Writer {
            shared: Arc::clone(&shared),
            files,
            compact,
            file,
            room: Room::default(),
            number: start.number,
            written,
            synced: written,
            log_bytes: start.log_bytes,
            compact_at: Arc::new(compact_bytes.into()),
            block: Vec::new(),
        };
        let thread =
            std::thread::Builder::new().name("limits-log".into()).spawn(move || writer.run()).map_err(storage)?;
        Ok(Self { shared, writer: Mutex::new(Some(thread)) })
    }

    /// Appends a change and returns its end. Callers hold the lock of what the change is about, so that the log has the
    /// changes of a key in the order in which they were made.
    pub(super) fn append(&self, change: &Change) -> Offset {
        let mut pending = self.shared.pending();
        let before = pending.buffer.len();
        change.write(&mut pending.buffer);
        pending.appended.0 += (pending.buffer.len() - before) as u64;
        let woken = before == 0;
        let end = pending.appended;
        drop(pending);
        if woken {
            self.shared.wake.notify_one();
        }
        end
    }

    /// Returns the end of everything that was appended.
    pub(super) fn end(&self) -> Offset {
        self.shared.pending().appended
    }

    /// Waits until everything up to `end` is on the disk.
    ///
    /// # Errors
    /// [`LimitsError::Storage`] when a write or an fsync failed: from then on nothing is taken any more, because what
    /// the disk holds is not known.
    pub(super) async fn durable(&self, end: Offset) -> Result<(), LimitsError> {
        let mut progress = self.shared.progress.subscribe();
        if progress.borrow().durable < end {
            self.shared.pending().urgent = true;
            self.shared.wake.notify_one();
        }
        let reached = progress.wait_for(|progress| progress.durable >= end || progress.failed.is_some()).await;
        let failed = reached.ok().and_then(|progress| progress.failed.clone().filter(|_| progress.durable < end));
        failed.map_or(Ok(()), Err)
    }

    /// Lets a change that may be lost ride along; waits only when too many do.
    ///
    /// # Errors
    /// As [`Log::durable`].
    pub(super) async fn lazy(&self, end: Offset) -> Result<(), LimitsError> {
        let full = self.shared.pending().buffer.len() > BUFFER_MAX;
        if full { self.durable(end).await } else { Ok(()) }
    }

    /// Returns why nothing is taken any more, if so.
    ///
    /// # Errors
    /// The failure.
    pub(super) fn check(&self) -> Result<(), LimitsError> {
        self.shared.pending().failed.clone().map_or(Ok(()), Err)
    }

    /// Returns up to where the log is on the disk.
    #[cfg(test)]
    pub(super) fn reached(&self) -> Offset {
        self.shared.progress.borrow().durable
    }

    /// Breaks the disk.
    #[cfg(test)]
    pub(super) fn break_disk(&self) {
        self.shared.broken.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Writes what is left and ends the writer. Blocks for as long as that takes.
    pub(super) fn close(&self) {
        self.shared.pending().closing = true;
        self.shared.wake.notify_one();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _panicked = writer.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.shared.pending().closing = true;
        self.shared.wake.notify_one();
    }
}

impl Shared {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses everything from now on, and tells those who wait.
    fn fail(&self, error: &LimitsError) {
        self.pending().failed = Some(error.clone());
        self.progress.send_modify(|progress| progress.failed = Some(error.clone()));
    }
}

// === impl Writer ===

impl Writer {
    fn run(mut self) {
        let mut buffer = Vec::new();
        while let Some((end, urgent)) = self.next(&mut buffer) {
            let turn = self.write(&buffer, urgent).and_then(|()| {
                if urgent {
                    self.shared.progress.send_modify(|progress| progress.durable = end);
                }
                self.rotate_when_long()
            });
            if let Err(error) = turn {
                tracing::error!(%error, "limits take nothing any more: their log cannot be written");
                return self.shared.fail(&error);
            }
            buffer.clear();
        }
        let _kept = self.room.give_back(&self.file, self.written);
        let closed = LimitsError::Storage("limits are closed".into());
        self.shared.fail(&closed);
    }

    /// Waits for something to do and swaps it into `buffer`; returns its end, and whether it must reach the disk now.
    fn next(&self, buffer: &mut Vec<u8>) -> Option<(Offset, bool)> {
        let mut pending = self.shared.pending();
        while pending.buffer.is_empty() && !pending.urgent && !pending.closing {
            pending = self.shared.wake.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
        if !pending.urgent && !pending.closing {
            let idle = |pending: &mut Pending| !pending.urgent && !pending.closing;
            let waited = self.shared.wake.wait_timeout_while(pending, LAZY_MAX, idle);
            pending = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        if pending.buffer.is_empty() && pending.closing && !pending.urgent && self.synced == self.written {
            return None;
        }
        std::mem::swap(&mut pending.buffer, buffer);
        let urgent = std::mem::take(&mut pending.urgent) || pending.closing;
        Some((pending.appended, urgent))
    }

    fn write(&mut self, changes: &[u8], urgent: bool) -> Result<(), LimitsError> {
        self.block.clear();
        if !changes.is_empty() {
            block::write(&mut self.block, self.synced, changes);
            self.room.make(&self.file, self.written + self.block.len() as u64);
            self.file.write_all(&self.block).map_err(storage)?;
            self.written += self.block.len() as u64;
            self.log_bytes += self.block.len() as u64;
        }
        #[cfg(test)]
        if self.shared.broken.load(std::sync::atomic::Ordering::SeqCst) {
            return Err(LimitsError::Storage("the disk is broken".into()));
        }
        if urgent && self.synced < self.written {
            self.file.sync_data().map_err(storage)?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Goes on in a new segment and has the old ones replaced by a snapshot, when they have become long.
    fn rotate_when_long(&mut self) -> Result<(), LimitsError> {
        if self.log_bytes < self.compact_at.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(());
        }
        let ended = self.room.give_back(&self.file, self.written).and_then(|()| self.file.sync_data());
        ended.map_err(storage)?;
        self.synced = self.written;
        match self.files.segment(self.number + 1, self.written) {
            Ok((file, written)) => {
                let sealed = self.number;
                self.number += 1;
                (self.file, self.room) = (file, Room::default());
                (self.written, self.synced, self.log_bytes) = (written, written, 0);
                // Still busy with the last one: this one is made at the next turn.
                let _busy = self.compact.try_send(Compaction { number: sealed, next_at: Arc::clone(&self.compact_at) });
            }
            Err(error) => tracing::warn!(%error, "cannot start a new segment of the limits log, the old one goes on"),
        }
        Ok(())
    }
}
