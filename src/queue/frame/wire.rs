//! The byte layer of frames: varints, lengths and options; and their bounded reading.

use std::str::FromStr;

use uuid::Uuid;

use super::FrameError;
use crate::domain::ids::{PoolId, ProviderId, TenantId};
use crate::domain::time::UnixMicros;

/// A name and its value.
type Pair = (Box<str>, Box<str>);

/// Appends values to a buffer.
pub(super) struct Writer<'a> {
    pub(super) out: &'a mut Vec<u8>,
}

/// Takes values off a slice. Nothing is allocated for more than what the slice really holds.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    /// The names read last: the items of a frame mostly share them, and a name is cheap to clone but not to check.
    tenant: Option<TenantId>,
    pool: Option<PoolId>,
    provider: Option<ProviderId>,
}

// === impl Writer ===

impl Writer<'_> {
    pub(super) fn byte(&mut self, value: u8) {
        self.out.push(value);
    }

    /// LEB128: seven bits a byte, the lowest first.
    pub(super) fn uint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    pub(super) fn count(&mut self, value: usize) {
        self.uint(value as u64);
    }

    pub(super) fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    pub(super) fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.out.extend_from_slice(value);
    }

    /// An option takes the byte that says whether it is there.
    pub(super) fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Self, T)) {
        match value {
            None => self.byte(0),
            Some(value) => {
                self.byte(1);
                write(self, value);
            }
        }
    }

    pub(super) fn fixed(&mut self, value: &[u8; 16]) {
        self.out.extend_from_slice(value);
    }

    pub(super) fn uuid(&mut self, value: Uuid) {
        self.fixed(value.as_bytes());
    }

    pub(super) fn time(&mut self, value: UnixMicros) {
        self.out.extend_from_slice(&value.0.to_le_bytes());
    }

    pub(super) fn pairs(&mut self, pairs: &[Pair]) {
        self.count(pairs.len());
        for (name, value) in pairs {
            self.text(name);
            self.text(value);
        }
    }
}

// === impl Reader ===

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, tenant: None, pool: None, provider: None }
    }

    /// Ends the reading.
    pub(super) fn finish(self) -> Result<(), FrameError> {
        if self.rest.is_empty() { Ok(()) } else { Err(FrameError::Trailing(self.rest.len())) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], FrameError> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], FrameError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(FrameError::Truncated)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, FrameError> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn uint(&mut self) -> Result<u64, FrameError> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte has room for one bit.
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(FrameError::Field("number"))
    }

    /// Reads a number that must fit the type of `field`.
    pub(super) fn small<T: TryFrom<u64>>(&mut self, field: &'static str) -> Result<T, FrameError> {
        T::try_from(self.uint()?).map_err(|_| FrameError::Field(field))
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], FrameError> {
        let length = self.small("length")?;
        self.take(length)
    }

    pub(super) fn str(&mut self) -> Result<&'a str, FrameError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| FrameError::Field("text"))
    }

    pub(super) fn text(&mut self) -> Result<Box<str>, FrameError> {
        self.str().map(Box::from)
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Option<T>, FrameError> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(super) fn flag(&mut self) -> Result<bool, FrameError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(FrameError::Field("flag")),
        }
    }

    pub(super) fn fixed(&mut self) -> Result<[u8; 16], FrameError> {
        self.array()
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid, FrameError> {
        self.fixed().map(Uuid::from_bytes)
    }

    pub(super) fn time(&mut self) -> Result<UnixMicros, FrameError> {
        self.array().map(|bytes| UnixMicros(i64::from_le_bytes(bytes)))
    }

    pub(super) fn list<T>(
        &mut self,
        item_min: usize,
        read: impl FnMut(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Vec<T>, FrameError> {
        let count = self.small("count")?;
        self.items(count, item_min, read)
    }

    /// Reads `count` items, each of which takes at least `item_min` bytes: more than the rest can hold is an error
    /// before anything is allocated.
    pub(super) fn items<T>(
        &mut self,
        count: usize,
        item_min: usize,
        mut read: impl FnMut(&mut Self) -> Result<T, FrameError>,
    ) -> Result<Vec<T>, FrameError> {
        if count.checked_mul(item_min).is_none_or(|bytes| bytes > self.rest.len()) {
            return Err(FrameError::Truncated);
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    pub(super) fn pairs(&mut self) -> Result<Vec<Pair>, FrameError> {
        self.list(2, |reader| Ok((reader.text()?, reader.text()?)))
    }

    /// Reads one of the values of a closed list, written as its place in it.
    pub(super) fn word<T: Copy>(&mut self, all: &[T], field: &'static str) -> Result<T, FrameError> {
        all.get(usize::from(self.byte()?)).copied().ok_or(FrameError::Field(field))
    }

    pub(super) fn parsed<T: FromStr>(&mut self, field: &'static str) -> Result<T, FrameError> {
        self.str()?.parse().map_err(|_| FrameError::Field(field))
    }

    pub(super) fn tenant(&mut self) -> Result<TenantId, FrameError> {
        let raw = self.str()?;
        recall(&mut self.tenant, raw, TenantId::as_str, "tenant")
    }

    pub(super) fn pool(&mut self) -> Result<PoolId, FrameError> {
        let raw = self.str()?;
        recall(&mut self.pool, raw, PoolId::as_str, "pool")
    }

    pub(super) fn provider(&mut self) -> Result<ProviderId, FrameError> {
        let raw = self.str()?;
        recall(&mut self.provider, raw, ProviderId::as_str, "provider")
    }
}

fn recall<T: FromStr + Clone>(
    last: &mut Option<T>,
    raw: &str,
    text: fn(&T) -> &str,
    field: &'static str,
) -> Result<T, FrameError> {
    match last {
        Some(known) if text(known) == raw => Ok(known.clone()),
        Some(_) | None => {
            let name: T = raw.parse().map_err(|_| FrameError::Field(field))?;
            *last = Some(name.clone());
            Ok(name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_value_and_take_few_bytes() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = vec![];
            Writer { out: &mut bytes }.uint(value);
            assert!(bytes.len() <= 10);
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.uint(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
        assert_eq!(Reader::new(&[0xff; 11]).uint(), Err(FrameError::Field("number")));
        assert_eq!(Reader::new(&[0x80]).uint(), Err(FrameError::Truncated));
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused_before_anything_is_allocated() {
        let mut bytes = vec![];
        Writer { out: &mut bytes }.uint(u64::from(u32::MAX));
        assert_eq!(Reader::new(&bytes).pairs(), Err(FrameError::Truncated));
        assert_eq!(Reader::new(&bytes).text(), Err(FrameError::Truncated));
    }
}
