//! Rules about jobs that wait: which of them bind a claim, and what they make of it.

use std::collections::HashMap;

use super::change::Change;
use super::{Key, key_of};
use crate::domain::ids::TenantId;
use crate::domain::rule::{Act, JobRule, Name, Names};
use crate::domain::time::UnixMicros;
use crate::limits::{Claim, Decision, FILTER_RULES_MAX, LimitsError};

/// Point rules below this number are never pruned.
const PRUNE_MIN: usize = 1024;
/// Forms of points: each form of a name under each number of an act.
const FORMS: usize = 3 * FORMS_STEP as usize;
/// The form of a point is that of its name, and its act's number times this.
const FORMS_STEP: u8 = 8;

/// What one point rule names: a number for its form and its act, and the key of what it names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Below [`FORMS`].
    pub(super) form: u8,
    /// Of what it names, within its tenant.
    pub(super) key: Key,
}

/// What a rule does, since when and for how long.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bound {
    /// Jobs accepted later are not bound.
    pub at: UnixMicros,
    /// When it is forgotten.
    pub keep_until: UnixMicros,
    /// What it does.
    pub act: Act,
}

/// A rule that names jobs by more than one thing, or by none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter {
    /// Which jobs.
    pub names: Names,
    /// What it does.
    pub bound: Bound,
}

/// Every rule.
#[derive(Debug, Default)]
pub struct Rules {
    points: HashMap<Target, Bound>,
    /// How many points there are of each form, so that a lookup that cannot hit is not made.
    forms: [usize; FORMS],
    /// By tenant.
    filters: HashMap<Key, Vec<Filter>>,
    prune_at: usize,
}

// === impl Target ===

impl Target {
    /// Returns the target, if there is such a form.
    pub(super) fn new(form: u8, key: Key) -> Option<Self> {
        (usize::from(form) < FORMS).then_some(Self { form, key })
    }

    fn of(tenant: &TenantId, name: Name, act: u8) -> Self {
        Self { form: act * FORMS_STEP + name.form, key: key_of(tenant, name.key) }
    }
}

// === impl Bound ===

impl Bound {
    /// Merges another rule of the same kind for the same jobs: the later one counts, and the longer life.
    fn merge(&mut self, other: Self) {
        let order = |bound: &Self| match bound.act {
            Act::Cancel | Act::Move { .. } => (bound.at, None),
            Act::Collapse { into } => (bound.at, Some(into)),
        };
        if order(&other) >= order(self) {
            (self.at, self.act) = (other.at, other.act);
        }
        self.keep_until = self.keep_until.max(other.keep_until);
    }

    /// Returns whether it binds a job that it names.
    fn binds(&self, now: UnixMicros, claim: &Claim) -> bool {
        let accepted_at = claim.against.accepted_at;
        self.keep_until > now
            && match self.act {
                Act::Cancel => accepted_at <= self.at,
                Act::Move { .. } => accepted_at <= self.at && claim.against.moved_at.is_none_or(|at| at < self.at),
                Act::Collapse { into } => accepted_at <= self.at && claim.touch != into.0,
            }
    }
}

// === impl Filter ===

impl Filter {
    fn binds(&self, now: UnixMicros, claim: &Claim, named: &[Name]) -> bool {
        let Names { kind, class, from, to, .. } = self.names;
        let against = &claim.against;
        self.bound.binds(now, claim)
            && kind.is_none_or(|kind| kind == against.kind)
            && class.is_none_or(|class| class == against.class)
            && from.is_none_or(|from| against.accepted_at >= from)
            && to.is_none_or(|to| against.accepted_at < to)
            && self.names.each().all(|name| named.contains(&name))
    }
}

// === impl Rules ===

impl Rules {
    /// Returns what the rules make of a claim, if any binds it: taken back, else replaced, else moved by the latest
    /// that it does not obey yet.
    pub fn against(&self, now: UnixMicros, claim: &Claim) -> Option<Decision> {
        if self.points.is_empty() && self.filters.is_empty() {
            return None;
        }
        let named: Vec<Name> = claim.names().each().chain(claim.chain_name()).collect();
        let points = named.iter().flat_map(|&name| {
            (0..3).filter_map(move |act| {
                let target = Target::of(&claim.tenant, name, act);
                let any = self.forms[usize::from(target.form)] > 0;
                any.then(|| self.points.get(&target)).flatten().filter(|bound| bound.binds(now, claim))
            })
        });
        let filters = self.filters.get(&tenant_key(&claim.tenant)).map_or(&[][..], Vec::as_slice);
        let filters = filters.iter().filter(|filter| filter.binds(now, claim, &named)).map(|filter| &filter.bound);
        points.chain(filters).max_by_key(|bound| weight(bound)).map(|bound| match bound.act {
            Act::Cancel => Decision::Cancelled,
            Act::Collapse { .. } => Decision::Collapsed,
            Act::Move { due_at, expires_at } => Decision::Moved { at: bound.at, due_at, expires_at },
        })
    }

    /// Adds a rule, and returns the change that makes it last.
    ///
    /// # Errors
    /// [`LimitsError::TooManyRules`].
    pub fn add(&mut self, now: UnixMicros, rule: &JobRule, keep_until: UnixMicros) -> Result<Change, LimitsError> {
        let bound = Bound { at: rule.at, keep_until, act: rule.act };
        if let Some(name) = rule.names.only() {
            let target = Target::of(&rule.tenant, name, rule.act.number());
            let bound = self.set_point(target, bound);
            return Ok(Change::Rule { target, bound });
        }
        let tenant = tenant_key(&rule.tenant);
        let filter = Filter { names: Names { address: None, ..rule.names.clone() }, bound };
        let known = self.filters.entry(tenant).or_default();
        known.retain(|filter| filter.bound.keep_until > now);
        if known.len() >= FILTER_RULES_MAX && !known.iter().any(|known| same(known, &filter)) {
            return Err(LimitsError::TooManyRules);
        }
        let filter = self.set_filter(tenant, filter);
        Ok(Change::Filter { tenant, filter })
    }

    /// Sets what the log says, and returns what came of it.
    pub fn set_point(&mut self, target: Target, bound: Bound) -> Bound {
        let forms = &mut self.forms[usize::from(target.form)];
        let known = self.points.entry(target).or_insert_with(|| {
            *forms += 1;
            bound
        });
        known.merge(bound);
        *known
    }

    /// Sets what the log says, and returns what came of it.
    pub fn set_filter(&mut self, tenant: Key, filter: Filter) -> Filter {
        let filters = self.filters.entry(tenant).or_default();
        if let Some(known) = filters.iter_mut().find(|known| same(known, &filter)) {
            known.bound.merge(filter.bound);
            return known.clone();
        }
        filters.push(filter.clone());
        filter
    }

    /// Calls `each` with everything that has a meaning at `now`.
    pub fn each(&self, now: UnixMicros, mut each: impl FnMut(Change)) {
        for (&target, &bound) in self.points.iter().filter(|(_, bound)| bound.keep_until > now) {
            each(Change::Rule { target, bound });
        }
        for (&tenant, filters) in &self.filters {
            for filter in filters.iter().filter(|filter| filter.bound.keep_until > now) {
                each(Change::Filter { tenant, filter: filter.clone() });
            }
        }
    }

    /// Forgets points whose time is over, once their number has doubled.
    pub fn prune(&mut self, now: UnixMicros) {
        if self.points.len() < self.prune_at.max(PRUNE_MIN) {
            return;
        }
        let forms = &mut self.forms;
        self.points.retain(|target, bound| {
            let lives = bound.keep_until > now;
            forms[usize::from(target.form)] -= usize::from(!lives);
            lives
        });
        self.prune_at = self.points.len() * 2;
    }
}

/// Orders rules that bind the same job: the heaviest counts.
fn weight(bound: &Bound) -> (u8, UnixMicros) {
    let act = match bound.act {
        Act::Cancel => 2,
        Act::Collapse { .. } => 1,
        Act::Move { .. } => 0,
    };
    (act, bound.at)
}

fn same(one: &Filter, other: &Filter) -> bool {
    one.bound.act.number() == other.bound.act.number() && one.names == other.names
}

fn tenant_key(tenant: &TenantId) -> Key {
    key_of(tenant, [0; 16])
}
