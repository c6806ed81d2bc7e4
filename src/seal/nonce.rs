//! Nonces that never repeat under one key: a derived prefix and a counter. See [`crate::seal`].

use std::sync::{Mutex, PoisonError};

use ring::aead::NONCE_LEN;
use ring::hmac;

/// Bytes of the prefix; the rest of a nonce counts.
const PREFIX_BYTES: usize = 8;

/// The nonces of one process.
pub(super) struct Nonces {
    seed: hmac::Key,
    at: Mutex<Position>,
}

struct Position {
    prefix: [u8; PREFIX_BYTES],
    block: u64,
    next: u32,
}

impl Nonces {
    /// Returns the nonces that follow from a random `seed`.
    pub(super) fn new(seed: [u8; 32]) -> Self {
        let seed = hmac::Key::new(hmac::HMAC_SHA256, &seed);
        let at = Mutex::new(Position { prefix: prefix(&seed, 0), block: 0, next: 0 });
        Self { seed, at }
    }

    /// Returns a nonce that was never returned before.
    pub(super) fn next(&self) -> [u8; NONCE_LEN] {
        // Nothing below panics half way, so a poisoned lock holds a whole position.
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let mut nonce = [0; NONCE_LEN];
        nonce[..PREFIX_BYTES].copy_from_slice(&at.prefix);
        nonce[PREFIX_BYTES..].copy_from_slice(&at.next.to_le_bytes());
        at.next = at.next.wrapping_add(1);
        if at.next == 0 {
            at.block += 1;
            at.prefix = prefix(&self.seed, at.block);
        }
        nonce
    }
}

fn prefix(seed: &hmac::Key, block: u64) -> [u8; PREFIX_BYTES] {
    let tag = hmac::sign(seed, &block.to_le_bytes());
    let mut prefix = [0; PREFIX_BYTES];
    prefix.copy_from_slice(&tag.as_ref()[..PREFIX_BYTES]);
    prefix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_counter_takes_the_next_prefix() {
        let nonces = Nonces::new([1; 32]);
        let first = nonces.next();
        nonces.at.lock().unwrap().next = u32::MAX;
        let last = nonces.next();
        let after = nonces.next();
        assert_eq!(first[..8], last[..8]);
        assert_ne!(last[..8], after[..8]);
        assert_eq!(after[8..], first[8..]);
    }
}
