//! The key file: TOML with base64 keys, readable by its owner alone. Whoever has it can read everything; without it
//! nobody can.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use serde::Deserialize;

use super::{NoRandom, random};
use crate::disk;
use crate::domain::time::UnixMicros;

/// Why the key file cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// It is not there.
    #[error(
        "{}: no such key file; copy it from a process that shares the stores, or from the backup",
        path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{}: cannot read the key file: {reason}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: Box<str>,
    },
    /// It cannot be created.
    #[error("{}: cannot create the key file: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: Box<str>,
    },
    /// Everybody on the machine may read or write it.
    #[error("{}: the key file is open to everybody on this machine; run chmod 600 on it", path.display())]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// It is not a key file.
    #[error("{}: not a key file: {reason}; restore it from the backup", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong; never a key.
        reason: Box<str>,
    },
    /// A key is not a key.
    #[error("{}: {which} must be 32 bytes in base64 (openssl rand -base64 32)", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// Which one.
        which: Box<str>,
    },
    /// The machine gives no random bytes.
    #[error("{}: cannot make keys: the operating system gives no random bytes", path.display())]
    NoRandom {
        /// The file.
        path: PathBuf,
    },
}

/// The keys of a file.
#[derive(Clone)]
pub(super) struct KeyFile {
    /// For keyed hashes; never changes.
    pub(super) lookup: [u8; 32],
    /// For sealing, by id; one at least may be used from the beginning.
    pub(super) seal: Vec<SealKey>,
}

/// A key that seals.
#[derive(Clone)]
pub(super) struct SealKey {
    /// Its id, in front of what it sealed.
    pub(super) id: u32,
    pub(super) key: [u8; 32],
    /// Before this day it only opens, so that every process can read it before any seals with it; `None`: from the
    /// beginning.
    pub(super) use_from: Option<Date>,
    /// From this day on another should seal; `None`: nobody has said.
    pub(super) use_until: Option<Date>,
}

/// How long a new key is to seal: NIST SP 800-57 part 1, section 5.3.6, gives a symmetric key for data up to two years.
const USE_DAYS: i64 = 730;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    lookup: String,
    seal: Vec<RawKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawKey {
    id: u32,
    key: String,
    use_from: Option<String>,
    use_until: Option<String>,
}

impl KeyFile {
    /// Returns fresh keys, of which nobody has said how long they are to be used.
    pub(super) fn fresh() -> Result<Self, NoRandom> {
        let key = SealKey { id: 1, key: random()?, use_from: None, use_until: None };
        Ok(Self { lookup: random()?, seal: vec![key] })
    }

    /// Returns the place of the key that seals at `now`: the one with the highest id of those that may.
    pub(super) fn sealing(&self, now: UnixMicros) -> Option<usize> {
        let may = |key: &SealKey| key.use_from.is_none_or(|day| start_of(day) <= now);
        let usable = self.seal.iter().enumerate().filter(|(_, key)| may(key));
        usable.max_by_key(|(_, key)| key.id).map(|(place, _)| place)
    }

    /// Reads the file, or creates it. Of several processes that start at once, one creates and all read the same.
    pub(super) fn read_or_create(path: &Path, now: UnixMicros) -> Result<Self, KeyFileError> {
        match Self::read(path) {
            Err(KeyFileError::Missing { .. }) => {
                let mut fresh = Self::fresh().map_err(|NoRandom| KeyFileError::NoRandom { path: path.into() })?;
                fresh.seal[0].use_until = day_of(now).checked_add(jiff::Span::new().days(USE_DAYS)).ok();
                fresh.create(path)?;
                Self::read(path)
            }
            read => read,
        }
    }

    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, KeyFileError> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => KeyFileError::Missing { path: path.into() },
            _ => KeyFileError::Read { path: path.into(), reason: error.to_string().into() },
        };
        // Group access stays allowed: that is how mounted secrets are shared.
        if std::fs::metadata(path).map_err(failed)?.permissions().mode() & 0o007 != 0 {
            return Err(KeyFileError::Open { path: path.into() });
        }
        Self::parse(&std::fs::read_to_string(path).map_err(failed)?, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, KeyFileError> {
        let syntax = |reason: &str| KeyFileError::Syntax { path: path.into(), reason: reason.into() };
        // The parser's own message may quote the line, and with it a key: only its first words are kept.
        let raw: Raw = toml::from_str(text).map_err(|error| syntax(error.message()))?;
        let key = |which: String, raw: &str| {
            let bytes = STANDARD.decode(raw).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or_else(|| KeyFileError::Key { path: path.into(), which: which.into() })
        };
        let lookup = key("`lookup`".to_owned(), &raw.lookup)?;
        let mut seal = Vec::with_capacity(raw.seal.len());
        let day = |text: &Option<String>| {
            let read = |text: &String| text.parse().map_err(|_| syntax("use_from and use_until are dates: 2027-11-28"));
            text.as_ref().map(read).transpose()
        };
        for RawKey { id, key: text, use_from, use_until } in &raw.seal {
            if seal.iter().any(|known: &SealKey| known.id == *id) {
                return Err(syntax("two sealing keys have the same id"));
            }
            let (use_from, use_until) = (day(use_from)?, day(use_until)?);
            seal.push(SealKey { id: *id, key: key(format!("the sealing key {id}"), text)?, use_from, use_until });
        }
        if seal.is_empty() {
            return Err(syntax("it has no sealing key"));
        }
        if seal.iter().all(|key| key.use_from.is_some()) {
            return Err(syntax("every sealing key waits for its use_from: the oldest must have none"));
        }
        Ok(Self { lookup, seal })
    }

    /// Writes the file whole or not at all, and leaves one that is there alone.
    fn create(&self, path: &Path) -> Result<(), KeyFileError> {
        let failed =
            |error: std::io::Error| KeyFileError::Write { path: path.into(), reason: error.to_string().into() };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        std::fs::create_dir_all(folder).map_err(failed)?;
        // Created with mode 0600.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        file.write_all(self.to_text().as_bytes()).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        match file.persist_noclobber(path) {
            Ok(_) => disk::sync_dir(folder).map_err(failed),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed(error.error)),
        }
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "# Postrider's keys. Whoever has this file can read every stored body and number; without it nobody can.\n\
             # Keep a backup apart from the data. To rotate, add a [[seal]] with a higher id and keep the older ones; on\n\
             # servers with a use_from by which every process has started with it (RUNBOOK.md, PostriderKeyExpires).\n\n\
             # Never changes: opt-outs and caps are found by it.\n\
             lookup = \"{}\"\n",
            STANDARD.encode(self.lookup)
        );
        for SealKey { id, key, use_from, use_until } in &self.seal {
            text.push_str(&format!("\n[[seal]]\nid = {id}\nkey = \"{}\"\n", STANDARD.encode(key)));
            for (name, day) in [("use_from", use_from), ("use_until", use_until)] {
                if let Some(day) = day {
                    text.push_str(&format!("{name} = \"{day}\"\n"));
                }
            }
        }
        text
    }
}

/// Returns the moment at which a day begins, in UTC.
pub(super) fn start_of(day: Date) -> UnixMicros {
    TimeZone::UTC
        .to_timestamp(day.to_datetime(Time::midnight()))
        .map_or(UnixMicros::MAX, |at| UnixMicros(at.as_microsecond()))
}

fn day_of(now: UnixMicros) -> Date {
    jiff::Timestamp::from_microsecond(now.0).unwrap_or_default().to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = UnixMicros(0);

    #[track_caller]
    fn check(text: &str, says: &str) {
        let error = KeyFile::parse(text, Path::new("keys.toml")).err().unwrap().to_string();
        assert!(error.contains("keys.toml") && error.contains(says), "{error}");
    }

    #[test]
    fn a_created_file_is_private_and_reads_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/keys.toml");
        let first = KeyFile::read_or_create(&path, NOW).unwrap();
        let again = KeyFile::read_or_create(&path, NOW).unwrap();
        assert_eq!(first.to_text(), again.to_text());
        assert_eq!(
            first.seal[0].use_until,
            Some(jiff::civil::date(1972, 1, 1)),
            "two years from the beginning of 1970"
        );
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        KeyFile::fresh().unwrap().create(&path).unwrap();
        assert_eq!(KeyFile::read(&path).unwrap().lookup, first.lookup);
    }

    #[test]
    fn an_open_or_missing_file_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        assert!(KeyFile::read(&path).err().unwrap().to_string().contains("no such key file"));
        KeyFile::read_or_create(&path, NOW).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(KeyFile::read(&path).err().unwrap().to_string().contains("chmod 600"));
    }

    #[test]
    fn errors_name_what_is_wrong_and_never_a_key() {
        let good = STANDARD.encode([1; 32]);
        check("lookup", "not a key file");
        check(&format!("lookup = \"{good}\"\nseal = []"), "no sealing key");
        check(&format!("lookup = \"{good}\"\n[[seal]]\nid = 1\nkey = \"AAAA\""), "the sealing key 1 must be 32 bytes");
        let twice = format!("lookup = \"{good}\"\n[[seal]]\nid=1\nkey=\"{good}\"\n[[seal]]\nid=1\nkey=\"{good}\"");
        check(&twice, "same id");
        let key = |more: &str| format!("lookup = \"{good}\"\n[[seal]]\nid=1\nkey=\"{good}\"\n{more}");
        check(&key("use_until = \"soon\""), "are dates");
        check(&key("use_from = \"2027-01-01\""), "the oldest must have none");
        let error = KeyFile::parse(&format!("lookup = \"{good}\"\nother = \"{good}\""), Path::new("k")).err().unwrap();
        assert!(!error.to_string().contains(&good), "{error}");
    }
}
