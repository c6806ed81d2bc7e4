//! What processes share and one of them renews: an access token, which a platform gives out once for all.

use bytes::Bytes;

use crate::domain::keys::Fingerprint;
use crate::domain::time::UnixMicros;

/// Asks for a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Borrow<'a> {
    /// Its name.
    pub name: &'a str,
    /// Who asks: another number in each process.
    pub who: u64,
    /// The mark of the value that did not do; `None`: any does.
    pub refused: Option<Fingerprint>,
    /// Until when the asker may take to renew it, if it is told to.
    pub renew_until: UnixMicros,
}

/// What an asker is told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Borrowed {
    /// The value. While it is being renewed, the old one as long as it holds.
    Value(Shared),
    /// The asker renews it, and nobody else until the time that it asked for.
    Yours,
    /// Somebody renews it, until then at most.
    Wait(UnixMicros),
}

/// A value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shared {
    /// Tells it from others.
    pub mark: Fingerprint,
    /// What it is, sealed by the caller.
    pub sealed: Bytes,
    /// From when on it is renewed.
    pub renew_at: UnixMicros,
    /// Until when it holds.
    pub until: UnixMicros,
}
