//! Sealing: what is personal is encrypted wherever it is stored, and looked up by keyed hashes.
//!
//! A sealed value reads `key id (4 bytes, little-endian) | nonce (12) | ciphertext | tag (16)`, AES-256-GCM. The newest
//! key that may be used seals, every key of the file opens, so keys rotate without rewriting anything. The lookup key never rotates:
//! whoever changed it would no longer find anybody.
//!
//! # Nonces
//! A nonce is an 8-byte random prefix and a 4-byte counter. Each process draws its own seed; a prefix is used for 2^32
//! values, then the next one is derived. Two equal nonces need two equal prefixes: with a million prefixes under one key
//! (process starts, or blocks of 4 billion values) the chance is below 2^-25.

mod key_file;
mod lookup;
mod nonce;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};

use crate::domain::time::UnixMicros;

use self::key_file::KeyFile;
use self::lookup::Lookup;
use self::nonce::Nonces;

pub use self::key_file::KeyFileError;
pub use self::lookup::job_address;

/// Bytes of a key id.
const ID_BYTES: usize = 4;
/// Bytes in front of the ciphertext.
pub(crate) const FRONT_BYTES: usize = ID_BYTES + NONCE_LEN;
/// Bytes that sealing adds: key id, nonce and tag.
pub const OVERHEAD_BYTES: usize = FRONT_BYTES + 16;

/// Seals and opens values, and makes the keyed hashes they are found by. Cheap to clone.
#[derive(Clone)]
pub struct Sealer {
    inner: Arc<Inner>,
}

/// Why a sealed value does not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Too short to be a sealed value.
    #[error("not a sealed value: it has {0} bytes, at least {OVERHEAD_BYTES} are needed")]
    Short(usize),
    /// It was sealed with a key that this process does not have.
    #[error("sealed with key {0}, which is not in the key file; put that key back")]
    UnknownKey(u32),
    /// It was changed, or sealed for another purpose.
    #[error("the sealed value is damaged or belongs elsewhere")]
    Damaged,
}

/// The machine gives no random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes")]
pub struct NoRandom;

struct Inner {
    /// By id; never empty.
    keys: Vec<(u32, LessSafeKey)>,
    /// The place of the one that seals.
    sealing: usize,
    /// From when on another should seal.
    use_until: Option<UnixMicros>,
    nonces: Nonces,
    lookup: Lookup,
}

impl Sealer {
    /// Opens the key file at `path`, or creates it with fresh keys, readable by its owner alone. `now` decides which of
    /// its keys seals.
    ///
    /// # Errors
    /// [`KeyFileError`], which names the file and the way out.
    pub fn open_or_create(path: &Path, now: UnixMicros) -> Result<Self, KeyFileError> {
        let file = KeyFile::read_or_create(path, now)?;
        Self::new(&file, now).map_err(|NoRandom| KeyFileError::NoRandom { path: path.into() })
    }

    /// Opens the key file at `path`, which must exist: for processes that share their stores with others.
    ///
    /// # Errors
    /// [`KeyFileError`], which names the file and the way out.
    pub fn open_file(path: &Path, now: UnixMicros) -> Result<Self, KeyFileError> {
        let file = KeyFile::read(path)?;
        Self::new(&file, now).map_err(|NoRandom| KeyFileError::NoRandom { path: path.into() })
    }

    /// Returns a sealer with fresh keys that are stored nowhere: what it seals is unreadable once it is dropped.
    ///
    /// # Errors
    /// [`NoRandom`] when the machine gives no random bytes.
    pub fn ephemeral() -> Result<Self, NoRandom> {
        Self::new(&KeyFile::fresh()?, UnixMicros(0))
    }

    fn new(file: &KeyFile, now: UnixMicros) -> Result<Self, NoRandom> {
        let keys: Vec<_> = file.seal.iter().map(|key| (key.id, aead(&key.key))).collect();
        let sealing = file.sealing(now).unwrap_or(0);
        let use_until = file.seal[sealing].use_until.map(key_file::start_of);
        let nonces = Nonces::new(random()?);
        Ok(Self { inner: Arc::new(Inner { keys, sealing, use_until, nonces, lookup: Lookup::new(&file.lookup) }) })
    }

    /// Returns from when on another key should seal, if its file says so. It goes on sealing: nothing that is accepted
    /// is lost for a date.
    pub fn use_until(&self) -> Option<UnixMicros> {
        self.inner.use_until
    }

    /// Seals `plain` with the newest key that may be used. It opens only with the same `aad`, which is not stored: use it to bind a value
    /// to its purpose and place.
    pub fn seal(&self, plain: &[u8], aad: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(plain.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(&[0; FRONT_BYTES]);
        sealed.extend_from_slice(plain);
        self.seal_in_place(&mut sealed, 0, aad);
        sealed
    }

    /// Seals what lies in `buffer` behind `start` and [`FRONT_BYTES`] reserved bytes, and appends the tag.
    ///
    /// # Panics
    /// When the reserved bytes are missing.
    pub(crate) fn seal_in_place(&self, buffer: &mut Vec<u8>, start: usize, aad: &[u8]) {
        let (id, key) = &self.inner.keys[self.inner.sealing];
        let nonce = self.inner.nonces.next();
        let (front, plain) = buffer[start..].split_at_mut(FRONT_BYTES);
        front[..ID_BYTES].copy_from_slice(&id.to_le_bytes());
        front[ID_BYTES..].copy_from_slice(&nonce);
        let tag = key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), plain)
            .expect("AES-GCM refuses nothing below 64 GiB");
        buffer.extend_from_slice(tag.as_ref());
    }

    /// Opens a sealed value.
    ///
    /// # Errors
    /// [`OpenError`] when it is not whole, not ours, or was sealed with another `aad`.
    pub fn open(&self, sealed: &[u8], aad: &[u8]) -> Result<Vec<u8>, OpenError> {
        if sealed.len() < OVERHEAD_BYTES {
            return Err(OpenError::Short(sealed.len()));
        }
        let (front, body) = sealed.split_at(FRONT_BYTES);
        let (id, nonce) = front.split_at(ID_BYTES);
        let id = u32::from_le_bytes([id[0], id[1], id[2], id[3]]);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Damaged)?;
        let (_, key) = self.inner.keys.iter().rev().find(|(known, _)| *known == id).ok_or(OpenError::UnknownKey(id))?;
        let mut plain = body.to_vec();
        let length = key.open_in_place(nonce, Aad::from(aad), &mut plain).map_err(|_| OpenError::Damaged)?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Ids only, never keys.
        f.debug_struct("Sealer").field("keys", &self.inner.keys.len()).finish_non_exhaustive()
    }
}

fn aead(key: &[u8; 32]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes"))
}

fn random() -> Result<[u8; 32], NoRandom> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::key_file::SealKey;
    use super::*;

    #[test]
    fn what_is_sealed_opens_only_whole_and_in_its_place() {
        let sealer = Sealer::ephemeral().unwrap();
        let sealed = sealer.seal(b"+4915112345678", b"frame");
        assert_eq!(sealed.len(), 14 + OVERHEAD_BYTES);
        assert_eq!(sealer.open(&sealed, b"frame").unwrap(), b"+4915112345678");
        assert_eq!(sealer.open(&sealed, b"job"), Err(OpenError::Damaged));
        assert_eq!(sealer.open(&sealed[..20], b"frame"), Err(OpenError::Short(20)));
        for index in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[index] ^= 1;
            assert!(sealer.open(&damaged, b"frame").is_err(), "byte {index}");
        }
    }

    #[test]
    fn nothing_is_sealed_twice_alike() {
        let sealer = Sealer::ephemeral().unwrap();
        assert_ne!(sealer.seal(b"same", b""), sealer.seal(b"same", b""));
    }

    #[test]
    fn the_newest_key_seals_and_older_ones_still_open() {
        let old = KeyFile::fresh().unwrap();
        let mut rotated = old.clone();
        let new = SealKey { id: 2, key: [7; 32], use_from: Some(date(2027, 1, 1)), use_until: Some(date(2029, 1, 1)) };
        rotated.seal.insert(0, new);
        let day = |day: &str| UnixMicros(day.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        let (eve, morning) = (day("2026-12-31T23:59:59Z"), day("2027-01-01T00:00:00Z"));
        let [before, ready, after] =
            [(&old, morning), (&rotated, eve), (&rotated, morning)].map(|(file, now)| Sealer::new(file, now).unwrap());
        assert_eq!([before.use_until(), ready.use_until()], [None, None]);
        assert_eq!(after.use_until(), Some(day("2029-01-01T00:00:00Z")));
        // While processes start anew one after the other, each reads what another seals.
        assert_eq!(before.open(&ready.seal(b"x", b""), b"").unwrap(), b"x");
        assert_eq!(ready.open(&after.seal(b"x", b""), b"").unwrap(), b"x");
        let sealed = before.seal(b"x", b"");
        assert_eq!(after.open(&sealed, b"").unwrap(), b"x");
        assert_eq!(before.open(&after.seal(b"x", b""), b""), Err(OpenError::UnknownKey(2)));
        assert_eq!(before.address_key("+4915112345678"), after.address_key("+4915112345678"));
    }
}
