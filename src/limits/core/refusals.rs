//! What must not be sent any more: opt-outs, and the rules about jobs that wait.

use std::collections::HashMap;

use super::change::Change;
use super::rules::Rules;
use super::{Key, key_of};
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;
use crate::domain::keys::AddressKey;
use crate::domain::suppression::{Scope, Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::limits::{Against, Claim, Decision};

/// Every opt-out and rule.
#[derive(Debug, Default)]
pub struct Refusals {
    /// By the key of address and tenant; those that bind every tenant by that of the address alone.
    optouts: HashMap<Key, Vec<Optout>>,
    /// How many addresses have opted out of every tenant, so that a lookup that cannot hit is not made.
    globals: usize,
    /// Rules about jobs that wait.
    pub rules: Rules,
}

/// One opt-out of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Optout {
    /// How far it reaches.
    pub scope: Scope,
    /// The kind that it binds; `None`: every one.
    pub kind: Option<Kind>,
    /// Where it came from.
    pub source: Source,
    /// When it was acknowledged.
    pub at: UnixMicros,
}

// === impl Refusals ===

impl Refusals {
    /// Returns what stands against a claim, if anything does: an opt-out before a rule.
    pub fn against(&self, now: UnixMicros, claim: &Claim) -> Option<Decision> {
        if let Some(scope) = self.suppressing(&claim.tenant, &claim.against) {
            return Some(Decision::Suppressed(scope));
        }
        self.rules.against(now, claim)
    }

    /// Adds an opt-out; an earlier one of the same scope and source gives way.
    pub fn suppress(&mut self, suppression: &Suppression) -> Change {
        let address = place(suppression);
        let Suppression { scope, kind, source, at, .. } = *suppression;
        let optout = Optout { scope, kind, source, at };
        self.set_optout(address, optout);
        Change::Optout { address, optout }
    }

    /// Takes back the opt-outs of a scope that `source` brought; the API's word takes back every source's.
    pub fn unsuppress(&mut self, suppression: &Suppression, source: Source) -> Change {
        let address = place(suppression);
        let Suppression { scope, kind, .. } = *suppression;
        self.clear_optout(&address, scope, kind, source);
        Change::Optin { address, scope, kind, source }
    }

    /// Returns the opt-outs of an address: the tenant's own and those that bind every tenant.
    pub fn of(&self, tenant: &TenantId, address: AddressKey) -> Vec<Suppression> {
        let found = [key_of(tenant, address.0), address.0].into_iter().filter_map(|key| self.optouts.get(&key));
        let shown = |&Optout { scope, kind, source, at }: &Optout| Suppression {
            tenant: tenant.clone(),
            address,
            scope,
            kind,
            source,
            at,
        };
        found.flatten().map(shown).collect()
    }

    /// Sets what the log says.
    pub fn set_optout(&mut self, address: Key, optout: Optout) {
        let globals = &mut self.globals;
        let optouts = self.optouts.entry(address).or_insert_with(|| {
            *globals += usize::from(optout.scope == Scope::Global);
            Vec::with_capacity(1)
        });
        match optouts.iter_mut().find(|known| known.is(optout.scope, optout.kind) && known.source == optout.source) {
            Some(known) => *known = optout,
            None => optouts.push(optout),
        }
    }

    /// Takes back what the log says.
    pub fn clear_optout(&mut self, address: &Key, scope: Scope, kind: Option<Kind>, source: Source) {
        let Some(optouts) = self.optouts.get_mut(address) else { return };
        optouts.retain(|known| !known.is(scope, kind) || (source != Source::Api && known.source != source));
        if optouts.is_empty() {
            self.optouts.remove(address);
            self.globals -= usize::from(scope == Scope::Global);
        }
    }

    /// Calls `each` with everything that has a meaning at `now`.
    pub fn each(&self, now: UnixMicros, mut each: impl FnMut(Change)) {
        for (&address, optouts) in &self.optouts {
            optouts.iter().for_each(|&optout| each(Change::Optout { address, optout }));
        }
        self.rules.each(now, each);
    }

    /// Returns the widest opt-out that binds the job.
    fn suppressing(&self, tenant: &TenantId, against: &Against) -> Option<Scope> {
        let own = self.optouts.get(&key_of(tenant, against.address.0));
        let global = if self.globals > 0 { self.optouts.get(&against.address.0) } else { None };
        let optouts = own.into_iter().chain(global).flatten();
        let binding = optouts.filter(|optout| against.bound_by(optout.scope, optout.kind)).map(|optout| optout.scope);
        binding.max_by_key(|scope| scope.width())
    }
}

impl Optout {
    fn is(&self, scope: Scope, kind: Option<Kind>) -> bool {
        self.scope == scope && self.kind == kind
    }
}

/// Returns where an opt-out is kept: with the address of its tenant, or of all.
fn place(suppression: &Suppression) -> Key {
    match suppression.scope {
        Scope::Global => suppression.address.0,
        _ => key_of(&suppression.tenant, suppression.address.0),
    }
}
