//! The names of keys.

use super::super::core::{Key, key_of};
use super::Sort;
use crate::domain::ids::{JobId, TenantId};
use crate::domain::keys::{AddressKey, WordKey};
use crate::domain::suppression::{Scope, Suppression};

/// The names of keys of one prefix.
pub(super) struct Names {
    pub(super) prefix: Box<str>,
}

impl Names {
    pub(super) fn identity(&self) -> Vec<u8> {
        self.name(b'i', &[])
    }

    pub(super) fn recipient(&self, tenant: &TenantId, key: Key) -> Vec<u8> {
        self.name(b'r', &key_of(tenant, key))
    }

    pub(super) fn optouts(&self, tenant: &TenantId, address: AddressKey) -> Vec<u8> {
        self.name(b's', &key_of(tenant, address.0))
    }

    /// Names where an opt-out is kept.
    pub(super) fn kept(&self, suppression: &Suppression) -> Vec<u8> {
        match suppression.scope {
            Scope::Global => self.globals(),
            _ => self.optouts(&suppression.tenant, suppression.address),
        }
    }

    pub(super) fn globals(&self) -> Vec<u8> {
        self.name(b'g', &[])
    }

    pub(super) fn rules(&self, tenant: &TenantId, sort: Sort) -> Vec<u8> {
        let kind = match sort {
            Sort::Cancel => b'c',
            Sort::Move => b'm',
            Sort::Filter => b'f',
        };
        self.name(kind, tenant.as_str().as_bytes())
    }

    pub(super) fn newest(&self, tenant: &TenantId, key: WordKey) -> Vec<u8> {
        self.name(b'n', &key_of(tenant, key.0))
    }

    pub(super) fn memo(&self, id: JobId) -> Vec<u8> {
        self.name(b'k', id.0.as_bytes())
    }

    pub(super) fn counter(&self, tenant: &TenantId, key: WordKey) -> Vec<u8> {
        self.name(b'q', &key_of(tenant, key.0))
    }

    pub(super) fn consent(&self, tenant: &TenantId, of: WordKey) -> Vec<u8> {
        self.name(b'o', &key_of(tenant, of.0))
    }

    pub(super) fn bucket(&self, name: &str) -> Vec<u8> {
        self.name(b'b', name.as_bytes())
    }

    pub(super) fn shared(&self, name: &str) -> Vec<u8> {
        self.name(b'v', name.as_bytes())
    }

    pub(super) fn share(&self, what: &str) -> Vec<u8> {
        self.name(b'h', what.as_bytes())
    }

    fn name(&self, kind: u8, rest: &[u8]) -> Vec<u8> {
        let mut name = Vec::with_capacity(self.prefix.len() + 1 + rest.len());
        name.extend_from_slice(self.prefix.as_bytes());
        name.push(kind);
        name.extend_from_slice(rest);
        name
    }
}
