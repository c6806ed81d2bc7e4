//! Tokens that callers carry from one answer to the next call: opaque to them, and of no use to another tenant.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::convert::{Invalid, Problem};
use crate::domain::ids::TenantId;
use crate::seal::Sealer;

/// Longest token that is worth decoding.
const TEXT_BYTES_MAX: usize = 512;

/// Makes a token that says `what` for this `use` of a tenant.
///
/// It is sealed: how far the ledger has come would tell a tenant how much the others send.
pub(super) fn give(sealer: &Sealer, tenant: &TenantId, purpose: &[u8], what: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(sealer.seal(what, &bound_to(tenant, purpose)))
}

/// Reads a token that [`give`] made for the same tenant and purpose.
///
/// # Errors
/// [`Problem::Token`] on `field` for any other text.
pub(super) fn take<const N: usize>(
    sealer: &Sealer,
    tenant: &TenantId,
    purpose: &[u8],
    (field, text): (&str, &str),
) -> Result<[u8; N], Invalid> {
    let plain = open(sealer, tenant, purpose, (field, text))?;
    plain.try_into().map_err(|_| Invalid::new(field, Problem::Token))
}

/// Reads a token that [`give`] made of a text for the same tenant and purpose.
///
/// # Errors
/// [`Problem::Token`] on `field` for any other text.
pub(super) fn take_text(
    sealer: &Sealer,
    tenant: &TenantId,
    purpose: &[u8],
    (field, text): (&str, &str),
) -> Result<Box<str>, Invalid> {
    let plain = open(sealer, tenant, purpose, (field, text))?;
    String::from_utf8(plain).map(Into::into).map_err(|_| Invalid::new(field, Problem::Token))
}

fn open(sealer: &Sealer, tenant: &TenantId, purpose: &[u8], (field, text): (&str, &str)) -> Result<Vec<u8>, Invalid> {
    let invalid = || Invalid::new(field, Problem::Token);
    if text.len() > TEXT_BYTES_MAX {
        return Err(invalid());
    }
    let sealed = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
    sealer.open(&sealed, &bound_to(tenant, purpose)).map_err(|_| invalid())
}

fn bound_to(tenant: &TenantId, purpose: &[u8]) -> Vec<u8> {
    [b"postrider token\0", tenant.as_str().as_bytes(), b"\0", purpose].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_serves_its_tenant_and_purpose_only() {
        let sealer = Sealer::ephemeral().unwrap();
        let (a, b): (TenantId, TenantId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let token = give(&sealer, &a, b"watch", &7_i64.to_be_bytes());
        let take = |tenant, purpose, text| take::<8>(&sealer, tenant, purpose, ("t", text));
        assert_eq!(take(&a, b"watch", &token), Ok(7_i64.to_be_bytes()));
        for (tenant, purpose, text) in
            [(&b, &b"watch"[..], &*token), (&a, b"jobs", &token), (&a, b"watch", ""), (&a, b"watch", "!")]
        {
            assert_eq!(take(tenant, purpose, text), Err(Invalid::new("t", Problem::Token)));
        }
    }
}
