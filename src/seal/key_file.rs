//! The key file: TOML with base64 keys, readable by its owner alone. Whoever has it can read everything; without it
//! nobody can.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::{NoRandom, random};

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
    /// For sealing, by id; never empty, the highest id seals.
    pub(super) seal: Vec<(u32, [u8; 32])>,
}

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
}

impl KeyFile {
    /// Returns fresh keys.
    pub(super) fn fresh() -> Result<Self, NoRandom> {
        Ok(Self { lookup: random()?, seal: vec![(1, random()?)] })
    }

    /// Reads the file, or creates it. Of several processes that start at once, one creates and all read the same.
    pub(super) fn read_or_create(path: &Path) -> Result<Self, KeyFileError> {
        match Self::read(path) {
            Err(KeyFileError::Missing { .. }) => {
                let fresh = Self::fresh().map_err(|NoRandom| KeyFileError::NoRandom { path: path.into() })?;
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
        for RawKey { id, key: text } in &raw.seal {
            if seal.iter().any(|(known, _)| known == id) {
                return Err(syntax("two sealing keys have the same id"));
            }
            seal.push((*id, key(format!("the sealing key {id}"), text)?));
        }
        if seal.is_empty() {
            return Err(syntax("it has no sealing key"));
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
            Ok(_) => std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed),
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(failed(error.error)),
        }
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "# Postrider's keys. Whoever has this file can read every stored body and number; without it nobody can.\n\
             # Keep a backup apart from the data. To rotate, add a [[seal]] with a higher id and keep the older ones.\n\n\
             # Never changes: opt-outs and caps are found by it.\n\
             lookup = \"{}\"\n",
            STANDARD.encode(self.lookup)
        );
        for (id, key) in &self.seal {
            text.push_str(&format!("\n[[seal]]\nid = {id}\nkey = \"{}\"\n", STANDARD.encode(key)));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, says: &str) {
        let error = KeyFile::parse(text, Path::new("keys.toml")).err().unwrap().to_string();
        assert!(error.contains("keys.toml") && error.contains(says), "{error}");
    }

    #[test]
    fn a_created_file_is_private_and_reads_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/keys.toml");
        let first = KeyFile::read_or_create(&path).unwrap();
        let again = KeyFile::read_or_create(&path).unwrap();
        assert_eq!((first.lookup, &first.seal), (again.lookup, &again.seal));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        KeyFile::fresh().unwrap().create(&path).unwrap();
        assert_eq!(KeyFile::read(&path).unwrap().lookup, first.lookup);
    }

    #[test]
    fn an_open_or_missing_file_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        assert!(KeyFile::read(&path).err().unwrap().to_string().contains("no such key file"));
        KeyFile::read_or_create(&path).unwrap();
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
        let error = KeyFile::parse(&format!("lookup = \"{good}\"\nother = \"{good}\""), Path::new("k")).err().unwrap();
        assert!(!error.to_string().contains(&good), "{error}");
    }
}
