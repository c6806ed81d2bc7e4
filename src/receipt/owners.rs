//! Whose numbers are whose: where a tenant has a sender to itself, a reply to it needs no search.

use hashbrown::HashMap;

use crate::domain::ids::{ProviderId, TenantId};

/// Tenants by provider and the number or code that recipients write to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Owners {
    by_number: HashMap<(ProviderId, Box<str>), TenantId>,
}

impl Owners {
    /// Makes a number of a provider a tenant's own.
    pub fn add(&mut self, provider: ProviderId, number: impl Into<Box<str>>, tenant: TenantId) {
        self.by_number.insert((provider, number.into()), tenant);
    }

    /// Returns whose number it is, if it is one tenant's alone.
    pub fn of(&self, provider: &ProviderId, number: &str) -> Option<&TenantId> {
        self.by_number.get(&(provider.clone(), Box::from(number)))
    }
}
