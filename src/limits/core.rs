//! The pure heart of the embedded limits: what is remembered, and what follows from it. No clock, no I/O, no lock.
//! Public for the benches; the port is [`Limits`](super::Limits).
//!
//! Every change is an absolute statement about one key ([`Change`]), so that a log of changes can be replayed over any
//! later state, such as a snapshot taken while the log went on, and ends where the log ends.

mod buckets;
mod change;
mod claims;
mod consents;
mod counters;
mod memos;
mod people;
mod places;
mod refusals;
mod room;
mod rules;
mod rulesets;
mod shelf;
#[cfg(test)]
mod tests;

use uuid::Uuid;

pub use buckets::{Bucket, Buckets};
pub use change::{Change, Damaged, Reader};
pub(super) use change::{kind_number, kind_of, source_number, source_of, write_bucket, write_entry, write_memo};
pub use claims::{Memory, When, claim, give_back, peek, places, restore, vacate};
pub use consents::{Consent, Consents};
pub use counters::{Counter, Counters};
pub use memos::{Memo, Memos};
pub use people::{Entry, People};
pub use refusals::{Optout, Refusals};
pub use room::opens_at;
pub use rules::{Bound, Filter, Rules, Target};
pub use rulesets::Kept;
pub use shelf::Shelf;

use crate::domain::ids::{JobId, TenantId};

/// A key of the memory: sixteen bytes that are spread evenly, since they come from a keyed hash.
pub type Key = [u8; 16];

/// Returns the key of something that belongs to a tenant. The same in every process and version: it is on disk.
pub(super) fn key_of(tenant: &TenantId, key: Key) -> Key {
    // FNV-1a. The other half of the key is a keyed hash, so nobody can aim at a collision.
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let tenant = tenant.as_str().bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    (u128::from_le_bytes(key) ^ tenant).to_le_bytes()
}

/// Returns the eight bytes that stand for a job or a touch within one recipient's memory.
pub fn short(id: Uuid) -> u64 {
    // Every version of UUID that is in use has its random bits in both halves or in the lower one.
    let (high, low) = id.as_u64_pair();
    high.rotate_left(32) ^ low
}

/// Returns the short form of a job's id.
pub(super) fn short_job(job: JobId) -> u64 {
    short(job.0)
}
