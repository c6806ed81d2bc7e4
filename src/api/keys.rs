//! API keys: `pr_<id>_<secret>`, the secret 256 random bits, shown once and stored as a peppered HMAC.

use std::fmt::Write as _;

use ring::rand::{SecureRandom as _, SystemRandom};

use crate::domain::ids::TenantId;
use crate::domain::time::UnixMicros;
use crate::ledger::{ApiKey, Role};
use crate::seal::{NoRandom, Sealer};

/// In front of every key, so that people and scanners know one when they see it.
const PREFIX: &str = "pr_";
/// Bytes of the public part: enough that two keys never share one by chance.
const ID_BYTES: usize = 8;
/// Bytes of the secret.
const SECRET_BYTES: usize = 32;
/// Longest text that can be a key.
const TEXT_BYTES_MAX: usize = PREFIX.len() + 2 * (ID_BYTES + SECRET_BYTES) + 1;

/// Makes a new key that holds until it is revoked: what is stored, and the text that its owner sends. The text is shown
/// this once.
///
/// # Errors
/// [`NoRandom`] when the machine gives no random bytes.
pub fn mint(sealer: &Sealer, tenant: &TenantId, role: Role, now: UnixMicros) -> Result<(ApiKey, String), NoRandom> {
    let mut bytes = [0; ID_BYTES + SECRET_BYTES];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    let (id, secret) = (hex(&bytes[..ID_BYTES]), hex(&bytes[ID_BYTES..]));
    let text = format!("{PREFIX}{id}_{secret}");
    let key = ApiKey {
        id: id.into(),
        tenant: tenant.clone(),
        role,
        mac: sealer.api_key_mac(&text),
        created_at: now,
        revoked_at: None,
        expires_at: None,
    };
    Ok((key, text))
}

/// Returns the public part of what looks like a key.
pub(super) fn id_of(text: &str) -> Option<&str> {
    if text.len() > TEXT_BYTES_MAX {
        return None;
    }
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    (id.len() == 2 * ID_BYTES && secret.len() == 2 * SECRET_BYTES).then_some(id)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _written = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_key_opens_its_record_and_no_other() {
        let (sealer, tenant) = (Sealer::ephemeral().unwrap(), "acme".parse().unwrap());
        let mint = || mint(&sealer, &tenant, Role::Submitter, UnixMicros(0)).unwrap();
        let ((first, text), (second, other)) = (mint(), mint());
        assert_eq!(id_of(&text), Some(&*first.id));
        assert!(sealer.api_key_matches(&text, &first.mac));
        assert!(!sealer.api_key_matches(&other, &first.mac));
        assert_ne!(first.id, second.id);
    }

    #[test]
    fn what_is_no_key_has_no_id() {
        for text in ["", "pr_", "pr_a_b", "Bearer", &"pr_".repeat(100), "pr_00112233445566é7_"] {
            assert_eq!(id_of(text), None, "{text}");
        }
    }
}
