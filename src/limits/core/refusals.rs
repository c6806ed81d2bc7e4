//! Opt-outs and cancellations: who or what must not be sent any more.

use std::collections::HashMap;

use super::change::Change;
use super::{Key, key_of};
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;
use crate::domain::keys::{AddressKey, RecipientKey, WordKey};
use crate::domain::suppression::{CancelBy, CancelRule, Scope, Source, Suppression};
use crate::domain::time::UnixMicros;
use crate::limits::{Against, Claim, Decision};

/// Cancellations below this number are never pruned.
const PRUNE_MIN: usize = 1024;

/// What one rule cancels: a number for its form, and the key of what it names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Below [`FORMS`].
    pub(super) form: u8,
    /// Of what it names, within its tenant.
    pub(super) key: Key,
}

/// Every opt-out and cancellation.
#[derive(Debug, Default)]
pub struct Refusals {
    /// By the key of address and tenant; those that bind every tenant by that of the address alone.
    optouts: HashMap<Key, Vec<Optout>>,
    /// How many addresses have opted out of every tenant, so that a lookup that cannot hit is not made.
    globals: usize,
    cancels: HashMap<Target, Cancel>,
    /// How many cancellations there are of each form, so that a lookup that cannot hit is not made.
    forms: [usize; FORMS],
    prune_at: usize,
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

/// One cancellation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cancel {
    /// Jobs accepted later are not bound.
    pub at: UnixMicros,
    /// When it is forgotten.
    pub keep_until: UnixMicros,
}

/// Job, cancel key, recipient, batch, campaign, run. The numbers are on disk.
const FORMS: usize = 6;

// === impl Target ===

impl Target {
    /// Returns the target, if there is such a form.
    pub(super) fn new(form: u8, key: Key) -> Option<Self> {
        (usize::from(form) < FORMS).then_some(Self { form, key })
    }

    fn of(tenant: &TenantId, by: &CancelBy) -> Self {
        let (form, key) = match by {
            CancelBy::Job(job) => (0, job.0.into_bytes()),
            CancelBy::Key(WordKey(key)) => (1, *key),
            CancelBy::Recipient(RecipientKey(key)) => (2, *key),
            CancelBy::Batch(batch) => (3, batch.into_bytes()),
            CancelBy::Campaign(WordKey(key)) => (4, *key),
            CancelBy::Run(WordKey(key)) => (5, *key),
        };
        Self { form, key: key_of(tenant, key) }
    }
}

// === impl Refusals ===

impl Refusals {
    /// Returns what stands against a claim, if anything does.
    pub fn against(&self, now: UnixMicros, claim: &Claim) -> Option<Decision> {
        if let Some(scope) = self.suppressing(&claim.tenant, &claim.against) {
            return Some(Decision::Suppressed(scope));
        }
        (!self.cancels.is_empty() && self.cancelled(now, claim)).then_some(Decision::Cancelled)
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

    /// Adds a cancellation. Of two for the same target the later times count.
    pub fn cancel(&mut self, rule: &CancelRule, keep_until: UnixMicros) -> Change {
        let target = Target::of(&rule.tenant, &rule.by);
        let cancel = self.set_cancel(target, Cancel { at: rule.at, keep_until });
        Change::Cancel { target, cancel }
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

    /// Sets what the log says, and returns what came of it.
    pub fn set_cancel(&mut self, target: Target, cancel: Cancel) -> Cancel {
        let forms = &mut self.forms[usize::from(target.form)];
        let known = self.cancels.entry(target).or_insert_with(|| {
            *forms += 1;
            cancel
        });
        known.at = known.at.max(cancel.at);
        known.keep_until = known.keep_until.max(cancel.keep_until);
        *known
    }

    /// Calls `each` with everything that has a meaning at `now`.
    pub fn each(&self, now: UnixMicros, mut each: impl FnMut(Change)) {
        for (&address, optouts) in &self.optouts {
            optouts.iter().for_each(|&optout| each(Change::Optout { address, optout }));
        }
        for (&target, &cancel) in self.cancels.iter().filter(|(_, cancel)| cancel.keep_until > now) {
            each(Change::Cancel { target, cancel });
        }
    }

    /// Forgets cancellations whose time is over, once their number has doubled.
    pub fn prune(&mut self, now: UnixMicros) {
        if self.cancels.len() < self.prune_at.max(PRUNE_MIN) {
            return;
        }
        let forms = &mut self.forms;
        self.cancels.retain(|target, cancel| {
            let lives = cancel.keep_until > now;
            forms[usize::from(target.form)] -= usize::from(!lives);
            lives
        });
        self.prune_at = self.cancels.len() * 2;
    }

    /// Returns the widest opt-out that binds the job.
    fn suppressing(&self, tenant: &TenantId, against: &Against) -> Option<Scope> {
        let own = self.optouts.get(&key_of(tenant, against.address.0));
        let global = if self.globals > 0 { self.optouts.get(&against.address.0) } else { None };
        let optouts = own.into_iter().chain(global).flatten();
        let binding = optouts.filter(|optout| against.bound_by(optout.scope, optout.kind)).map(|optout| optout.scope);
        binding.max_by_key(|scope| scope.width())
    }

    fn cancelled(&self, now: UnixMicros, claim: &Claim) -> bool {
        let (tenant, against) = (&claim.tenant, &claim.against);
        let named = |by: CancelBy| {
            let target = Target::of(tenant, &by);
            self.forms[usize::from(target.form)] > 0
                && self.cancels.get(&target).is_some_and(|it| it.keep_until > now && against.accepted_at <= it.at)
        };
        named(CancelBy::Job(claim.job))
            || against.cancel_key.is_some_and(|key| named(CancelBy::Key(key)))
            || named(CancelBy::Recipient(claim.recipient))
            || against.batch.is_some_and(|batch| named(CancelBy::Batch(batch)))
            || against.campaign.is_some_and(|campaign| named(CancelBy::Campaign(campaign)))
            || against.run.is_some_and(|run| named(CancelBy::Run(run)))
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
