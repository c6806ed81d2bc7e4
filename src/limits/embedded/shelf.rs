//! The shelf in a file, whole with each change: a restart must forget neither a token nor whom its process told what. There
//! are few values, and few changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::disk;
use crate::domain::keys::Fingerprint;
use crate::domain::time::UnixMicros;
use crate::limits::core::Shelf;
use crate::limits::{Borrow, Borrowed, LimitsError, Shared};

/// The shelf, and where it is kept.
pub(super) struct Kept {
    shelf: Mutex<Shelf>,
    path: PathBuf,
    /// Held while the file is written: who asks does not wait for the disk.
    writing: Mutex<()>,
}

impl Kept {
    /// Opens the shelf in `dir`. What does not read is not there: then a platform is asked again.
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join("shelf");
        let mut shelf = Shelf::default();
        let text = fs::read_to_string(&path).unwrap_or_default();
        for (name, value) in text.lines().filter_map(read) {
            shelf.put(name, value);
        }
        Self { shelf: Mutex::new(shelf), path, writing: Mutex::default() }
    }

    /// Answers an asker.
    pub(super) fn borrow(&self, now: UnixMicros, asked: &Borrow<'_>) -> Borrowed {
        self.shelf().borrow(now, asked)
    }

    /// Takes a value from the one who renews it; returns whether that was the one. Blocks.
    ///
    /// # Errors
    /// [`LimitsError::Storage`]; this process has the value all the same.
    pub(super) fn lend(&self, name: &str, who: u64, value: Shared) -> Result<bool, LimitsError> {
        let theirs = self.shelf().lend(name, who, value);
        if theirs {
            self.write().map_err(super::storage)?;
        }
        Ok(theirs)
    }

    fn write(&self) -> std::io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // Taken last: whoever writes last writes what is there last.
        let lines: String = self.shelf().values().map(|(name, value)| write(name, value)).collect();
        disk::replace(&self.path, lines.as_bytes())
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn write(name: &str, value: &Shared) -> String {
    let Shared { mark, sealed, renew_at, until } = value;
    let (name, mark, sealed) = (STANDARD.encode(name), STANDARD.encode(mark.0), STANDARD.encode(sealed));
    format!("{name} {mark} {} {} {sealed}\n", renew_at.0, until.0)
}

fn read(line: &str) -> Option<(String, Shared)> {
    let mut words = line.split(' ');
    let name = String::from_utf8(STANDARD.decode(words.next()?).ok()?).ok()?;
    let mark = Fingerprint(STANDARD.decode(words.next()?).ok()?.try_into().ok()?);
    let mut time = || Some(UnixMicros(words.next()?.parse().ok()?));
    let (renew_at, until) = (time()?, time()?);
    let sealed = STANDARD.decode(words.next()?).ok()?.into();
    Some((name, Shared { mark, sealed, renew_at, until }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_lent_is_there_after_a_restart_and_what_does_not_read_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (now, later) = (UnixMicros(1), UnixMicros(1).plus(Duration::from_secs(60)));
        let ask = |name| Borrow { name, who: 1, refused: None, renew_until: later };
        let value = |mark| Shared {
            mark: Fingerprint([mark; 16]),
            sealed: vec![mark; 40].into(),
            renew_at: later,
            until: later,
        };
        let kept = Kept::open(dir.path());
        for (name, mark) in [("one", 1), ("two words", 2)] {
            assert_eq!(kept.borrow(now, &ask(name)), Borrowed::Yours);
            assert!(kept.lend(name, 1, value(mark)).unwrap());
        }
        assert!(!kept.lend("one", 2, value(3)).unwrap(), "nobody asked that one to");
        let kept = Kept::open(dir.path());
        assert_eq!(kept.borrow(now, &ask("two words")), Borrowed::Value(value(2)));
        let text = fs::read_to_string(dir.path().join("shelf")).unwrap();
        fs::write(dir.path().join("shelf"), text.replacen(' ', "", 1)).unwrap();
        let kept = Kept::open(dir.path());
        let there = ["one", "two words"].map(|name| kept.borrow(now, &ask(name)));
        assert_eq!(there.iter().filter(|said| **said == Borrowed::Yours).count(), 1);
    }
}
