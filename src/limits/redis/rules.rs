//! Rules about jobs that wait: where they are kept, and how they get there.

use futures_util::future::try_join_all;

use super::{Inner, link, wire};
use crate::domain::ids::TenantId;
use crate::domain::rule::{Act, JobRule};
use crate::domain::time::UnixMicros;
use crate::limits::{FILTER_RULES_MAX, LimitsError};

/// Where a rule is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    /// With those that cancel what one name stands for.
    Cancel,
    /// With those that move what one name stands for.
    Move,
    /// With those that every claim of the tenant reads.
    Filter,
}

// === impl Sort ===

impl Sort {
    /// As `claim.lua` wants their keys.
    pub(super) const ALL: [Self; 3] = [Self::Cancel, Self::Move, Self::Filter];

    /// Returns where a rule is kept; `None` for one that is a note under its collapse key.
    fn of(rule: &JobRule) -> Option<Self> {
        match rule.act {
            Act::Collapse { .. } => None,
            _ if rule.names.only().is_none() => Some(Self::Filter),
            Act::Cancel => Some(Self::Cancel),
            Act::Move { .. } => Some(Self::Move),
        }
    }
}

// === impl Inner ===

impl Inner {
    /// Adds rules.
    pub(super) async fn rule(&self, rules: &[JobRule], keep_until: UnixMicros) -> Result<(), LimitsError> {
        let mut sorted: Vec<((&TenantId, Sort), Vec<&JobRule>)> = Vec::new();
        let mut collapses: Vec<&JobRule> = Vec::new();
        for rule in rules {
            let Some(sort) = Sort::of(rule) else {
                collapses.push(rule);
                continue;
            };
            let place = (&rule.tenant, sort);
            match sorted.iter_mut().find(|(known, _)| *known == place) {
                Some((_, rules)) => rules.push(rule),
                None => sorted.push((place, vec![rule])),
            }
        }
        let chunks = sorted
            .iter()
            .flat_map(|(place, rules)| rules.chunks(super::KEYS_PER_CALL).map(move |rules| (*place, rules)));
        try_join_all(chunks.map(|(place, rules)| self.rule_sort(place, rules, keep_until))).await?;
        let calls = collapses.chunks(super::KEYS_PER_CALL).map(|rules| self.collapse(rules, keep_until));
        try_join_all(calls).await.map(|_| ())
    }

    /// Adds rules of one tenant and sort.
    async fn rule_sort(
        &self,
        (tenant, sort): (&TenantId, Sort),
        rules: &[&JobRule],
        until: UnixMicros,
    ) -> Result<(), LimitsError> {
        let keys = [self.names.identity(), self.names.rules(tenant, sort)];
        let mut packed = Vec::with_capacity(rules.len() * 64);
        for rule in rules {
            match rule.names.only() {
                Some(name) => wire::put_point(&mut packed, rule, name),
                None => wire::put_filter(&mut packed, rule),
            }
        }
        let most = if sort == Sort::Filter { FILTER_RULES_MAX } else { 0 };
        let now = self.now(self.clock.now());
        let question = |live: &link::Live| {
            let mut call = self.scripts.rule.call(&keys);
            call.arg(&*live.identity.id).arg(now.0).arg(until.0).arg(most).arg(&packed);
            call
        };
        self.link.ask::<()>(&self.scripts, question).await
    }

    /// Notes the newest jobs of collapse keys.
    async fn collapse(&self, rules: &[&JobRule], until: UnixMicros) -> Result<(), LimitsError> {
        let mut keys = vec![self.names.identity()];
        let mut packed = Vec::with_capacity(rules.len() * 24);
        for rule in rules {
            if let (Act::Collapse { into }, Some(key)) = (rule.act, rule.names.collapse_key) {
                keys.push(self.names.newest(&rule.tenant, key));
                wire::put_newest(&mut packed, rule.at, into);
            }
        }
        let now = self.now(self.clock.now());
        let question = |live: &link::Live| {
            let mut call = self.scripts.collapse.call(&keys);
            call.arg(&*live.identity.id).arg(now.0).arg(until.0).arg(&packed);
            call
        };
        self.link.ask::<()>(&self.scripts, question).await
    }
}
