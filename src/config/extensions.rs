//! Extensions: `[[extension]]` in the settings.

use super::check::{invalid, parsed, required};
use super::error::{ConfigError, Reason};
use super::raw::RawExtension;
use crate::config::Provider;
use crate::domain::ids::{ProviderId, TenantId};

/// Most extensions.
const EXTENSIONS_MAX: usize = 10_000;
/// Longest number: what SMPP 3.4 has room for (section 5.2.8).
const NUMBER_LEN_MAX: usize = 20;
/// Most characters in a signature, as in a job's sender.
const SIGNATURE_CHARS_MAX: usize = 64;

/// A number or code of a provider's that is one tenant's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Extension {
    /// The provider.
    pub provider: ProviderId,
    /// What recipients write to, as it is written in the settings.
    pub number: Box<str>,
    /// What the provider is told so that a job leaves from there.
    pub code: Box<str>,
    /// Whose it is.
    pub tenant: TenantId,
    /// The signature or sender that it belongs to; empty: all of the tenant's that have none of their own.
    pub signature: Box<str>,
}

/// Checks the extensions; each must name a provider, and no two may be the same number or for the same jobs.
pub(super) fn extensions(raw: &[RawExtension], providers: &[Provider]) -> Result<Vec<Extension>, ConfigError> {
    if raw.len() > EXTENSIONS_MAX {
        return Err(invalid("extension", Reason::Range { min: 0, max: EXTENSIONS_MAX as u64 }));
    }
    let mut all: Vec<Extension> = Vec::with_capacity(raw.len());
    for (index, raw) in raw.iter().enumerate() {
        let key = |field: &str| format!("extension[{index}].{field}");
        let one = extension(&key, raw, providers)?;
        let there = all.iter().filter(|known| known.provider == one.provider);
        for known in there {
            if plain(&known.number) == plain(&one.number) {
                return Err(invalid(&key("number"), Reason::SameNumber));
            }
            if (&known.tenant, &known.signature) == (&one.tenant, &one.signature) {
                return Err(invalid(&key("signature"), Reason::SameExtension(known.number.as_ref().into())));
            }
        }
        all.push(one);
    }
    Ok(all)
}

/// Returns a number without its plus: providers name it with or without.
fn plain(number: &str) -> &str {
    number.strip_prefix('+').unwrap_or(number)
}

fn extension(
    key: &impl Fn(&str) -> String,
    raw: &RawExtension,
    providers: &[Provider],
) -> Result<Extension, ConfigError> {
    let provider: ProviderId = parsed(&key("provider"), &raw.provider)?;
    if !providers.iter().any(|known| known.id == provider) {
        let known: Vec<_> = providers.iter().map(|provider| provider.id.as_str()).collect();
        return Err(invalid(&key("provider"), Reason::NoProvider { known: known.join(", ") }));
    }
    let number = required(&key("number"), &raw.number)?;
    let code = if raw.code.is_empty() { number } else { &raw.code };
    for (field, written) in [("number", number), ("code", code)] {
        let digits = plain(written);
        if !(1..=NUMBER_LEN_MAX).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(invalid(&key(field), Reason::Extension));
        }
    }
    if raw.signature.chars().count() > SIGNATURE_CHARS_MAX {
        return Err(invalid(&key("signature"), Reason::Words(SIGNATURE_CHARS_MAX)));
    }
    let tenant = parsed(&key("tenant"), &raw.tenant)?;
    let signature = raw.signature.as_str().into();
    Ok(Extension { provider, number: number.into(), code: code.into(), tenant, signature })
}
