//! Whose number is whose: what a reply to it leads to, and which jobs leave from it. Pure.

use hashbrown::HashMap;

use crate::config::Extension;
use crate::domain::ids::{ProviderId, TenantId};

/// Numbers and codes at providers that are a tenant's own.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Extensions {
    owners: HashMap<(ProviderId, Box<str>), Owner>,
    codes: HashMap<(ProviderId, TenantId, Box<str>), Box<str>>,
}

/// To whom something is said that comes to a number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The tenant.
    pub tenant: TenantId,
    /// The signature or sender; empty: all of the tenant's.
    pub signature: Box<str>,
}

impl Extensions {
    /// Returns these extensions, as checked by the settings.
    pub fn new(all: &[Extension]) -> Self {
        let mut extensions = Self::default();
        for Extension { provider, number, code, tenant, signature } in all.iter().cloned() {
            let owner = Owner { tenant: tenant.clone(), signature: signature.clone() };
            extensions.owners.insert((provider.clone(), plain(&number).into()), owner);
            extensions.codes.insert((provider, tenant, signature), code);
        }
        extensions
    }

    /// Returns whose the number is that a reply came to through a provider.
    pub fn owner(&self, provider: &ProviderId, number: &str) -> Option<&Owner> {
        if self.owners.is_empty() {
            return None;
        }
        self.owners.get(&(provider.clone(), plain(number).into()))
    }

    /// Returns what a provider is told of a tenant's jobs of a signature, so that they leave from its number, else from
    /// that of all the tenant's jobs.
    pub fn code(&self, provider: &ProviderId, tenant: &TenantId, signature: &str) -> Option<&str> {
        if self.codes.is_empty() {
            return None;
        }
        let of = |signature: &str| self.codes.get(&(provider.clone(), tenant.clone(), signature.into()));
        of(signature).or_else(|| of("")).map(AsRef::as_ref)
    }
}

/// Returns a number without its plus: providers name it with or without.
fn plain(number: &str) -> &str {
    number.strip_prefix('+').unwrap_or(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extensions() -> Extensions {
        let all = [
            ("carrier", "1069001", "acme", "Acme"),
            ("carrier", "1069002", "acme", ""),
            ("carrier", "1069003", "bolt", "Acme"),
            ("cloud", "01", "acme", "Acme"),
            ("cloud", "+15550100", "bolt", ""),
        ];
        let extension = |(provider, number, tenant, signature): (&str, &str, &str, &str)| Extension {
            provider: provider.parse().unwrap(),
            number: number.into(),
            code: number.into(),
            tenant: tenant.parse().unwrap(),
            signature: signature.into(),
        };
        Extensions::new(&all.map(extension))
    }

    #[test]
    fn a_number_leads_to_its_owner_and_no_other() {
        let table = [
            ("carrier", "1069001", Some(("acme", "Acme"))),
            ("carrier", "+1069001", Some(("acme", "Acme"))),
            ("carrier", "1069002", Some(("acme", ""))),
            ("carrier", "1069003", Some(("bolt", "Acme"))),
            ("carrier", "106900", None),
            ("carrier", "10690012", None),
            ("carrier", "", None),
            ("cloud", "1069001", None),
            ("cloud", "01", Some(("acme", "Acme"))),
            ("cloud", "15550100", Some(("bolt", ""))),
        ];
        for (provider, number, expected) in table {
            let extensions = extensions();
            let owner = extensions.owner(&provider.parse().unwrap(), number);
            let owner = owner.map(|owner| (owner.tenant.as_str(), &*owner.signature));
            assert_eq!(owner, expected, "{provider} {number}");
        }
        assert_eq!(Extensions::default().owner(&"carrier".parse().unwrap(), "1069001"), None);
    }

    #[test]
    fn jobs_leave_from_the_number_of_their_signature() {
        let table = [
            ("carrier", "acme", "Acme", Some("1069001")),
            ("carrier", "acme", "Other", Some("1069002")),
            ("carrier", "acme", "", Some("1069002")),
            ("carrier", "bolt", "Acme", Some("1069003")),
            ("carrier", "bolt", "", None),
            ("cloud", "acme", "Acme", Some("01")),
            ("cloud", "acme", "Other", None),
            ("cloud", "bolt", "Acme", Some("+15550100")),
        ];
        for (provider, tenant, signature, expected) in table {
            let extensions = extensions();
            let code = extensions.code(&provider.parse().unwrap(), &tenant.parse().unwrap(), signature);
            assert_eq!(code, expected, "{provider} {tenant} {signature}");
        }
    }
}
