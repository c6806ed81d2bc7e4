//! Opt-outs and cancellations: who or what must not be sent any more.

use std::collections::HashMap;

use super::change::Change;
use super::{Key, key_of};
use crate::domain::ids::TenantId;
use crate::domain::job::Class;
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
    optouts: HashMap<Key, Vec<Optout>>,
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
        let address = key_of(&suppression.tenant, suppression.address.0);
        let optout = Optout { scope: suppression.scope, source: suppression.source, at: suppression.at };
        self.set_optout(address, optout);
        Change::Optout { address, optout }
    }

    /// Takes back the opt-outs of a scope that `source` brought; the API's word takes back every source's.
    pub fn unsuppress(&mut self, suppression: &Suppression, source: Source) -> Change {
        let address = key_of(&suppression.tenant, suppression.address.0);
        self.clear_optout(&address, suppression.scope, source);
        Change::Optin { address, scope: suppression.scope, source }
    }

    /// Returns the opt-outs of an address.
    pub fn of(&self, tenant: &TenantId, address: AddressKey) -> Vec<Suppression> {
        let optouts = self.optouts.get(&key_of(tenant, address.0)).map_or(&[][..], Vec::as_slice);
        optouts
            .iter()
            .map(|&Optout { scope, source, at }| Suppression { tenant: tenant.clone(), address, scope, source, at })
            .collect()
    }

    /// Adds a cancellation. Of two for the same target the later times count.
    pub fn cancel(&mut self, rule: &CancelRule, keep_until: UnixMicros) -> Change {
        let target = Target::of(&rule.tenant, &rule.by);
        let cancel = self.set_cancel(target, Cancel { at: rule.at, keep_until });
        Change::Cancel { target, cancel }
    }

    /// Sets what the log says.
    pub fn set_optout(&mut self, address: Key, optout: Optout) {
        let optouts = self.optouts.entry(address).or_insert_with(|| Vec::with_capacity(1));
        match optouts.iter_mut().find(|known| known.scope == optout.scope && known.source == optout.source) {
            Some(known) => *known = optout,
            None => optouts.push(optout),
        }
    }

    /// Takes back what the log says.
    pub fn clear_optout(&mut self, address: &Key, scope: Scope, source: Source) {
        let Some(optouts) = self.optouts.get_mut(address) else { return };
        optouts.retain(|known| known.scope != scope || (source != Source::Api && known.source != source));
        if optouts.is_empty() {
            self.optouts.remove(address);
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
        let optouts = self.optouts.get(&key_of(tenant, against.address.0))?;
        let binding = optouts.iter().map(|optout| optout.scope).filter(|&scope| binds(scope, against));
        binding.max_by_key(|scope| match scope {
            Scope::Everything => 3,
            Scope::Brand => 2,
            Scope::Topic(_) => 1,
            Scope::Sender(_) => 0,
        })
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

/// Returns whether an opt-out of this scope binds the job.
fn binds(scope: Scope, against: &Against) -> bool {
    let touting = match against.class {
        Class::Otp | Class::Transactional => false,
        Class::Notification | Class::Marketing => true,
    };
    match scope {
        Scope::Everything => true,
        Scope::Brand => touting,
        Scope::Sender(sender) => touting && against.sender == Some(sender),
        Scope::Topic(topic) => touting && against.topic == Some(topic),
    }
}
