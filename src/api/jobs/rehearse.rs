//! What a batch would meet now.

use std::sync::Arc;

use futures_util::future::try_join_all;

use super::Jobs;
use super::submit::{check_items, refusal_of, request};
use crate::admission::{Batch, Expected, ITEMS_MAX};
use crate::api::convert::{self, Invalid, Problem};
use crate::api::status::Error;
use crate::domain::job::{Content, Job, Kind, Shared};
use crate::domain::money::Money;
use crate::domain::time::UnixMicros;
use crate::leave::{Asking, Ground, Outlook, SEND_AT, filled};
use crate::ledger::{Ledger, Tenant};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// Jobs that limits are asked about at a time, before others get a turn of the processor.
const ASKED_AT_ONCE: usize = 1_024;
/// Groups of jobs that are due together and asked about at the same time.
const GROUPS_AT_ONCE: usize = 16;

/// How much a job is.
#[derive(Clone, Copy)]
pub(super) struct Size {
    /// Segments of its text; 0 for what has none.
    pub(super) segments: u32,
    /// What caps count of it.
    pub(super) units: u32,
}

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Says what a batch would meet now.
    pub(super) async fn rehearsed(
        &self,
        tenant: &Arc<Tenant>,
        raw: pb::RehearseRequest,
    ) -> Result<pb::RehearseResponse, Error> {
        convert::check_count("items", raw.items.len(), ITEMS_MAX)?;
        if raw.items.is_empty() {
            return Err(Invalid::new("items", Problem::Missing).into());
        }
        let spec = self.named(tenant, self.spec(raw.spec)?).await?;
        let (items, invalid) = check_items(raw.items, &spec).await;
        let mut shown: Vec<_> = invalid.into_iter().map(|(index, invalid)| refused(index, invalid.into())).collect();
        let rehearsal = self.ports.admission.rehearse(request(tenant, spec, None, (Batch::Many, items))).await?;
        shown.extend(rehearsal.refused.into_iter().map(|(index, refusal)| refused(index, refusal.into())));
        let grounds = self.grounds(tenant, &rehearsal.expected);
        for groups in grounds.chunks(GROUPS_AT_ONCE) {
            shown.extend(try_join_all(groups.iter().map(|(ground, group)| self.meet(ground, group))).await?.concat());
        }
        shown.sort_unstable_by_key(|item| item.index);
        let cost = total(&shown);
        Ok(pb::RehearseResponse { items: shown, cost })
    }

    /// Returns each group with what its jobs meet: groups of one pool and sender have all in common that rules look at.
    fn grounds<'a>(&self, tenant: &Tenant, groups: &'a [Expected]) -> Vec<(Arc<Ground>, &'a Expected)> {
        let mut grounds: Vec<(Arc<Ground>, &Expected)> = Vec::with_capacity(groups.len());
        let mut known: Vec<(&Shared, Arc<Ground>)> = Vec::new();
        for group in groups {
            let same = |shared: &Shared| (&shared.pool, &shared.sender) == (&group.shared.pool, &group.shared.sender);
            let ground = known.iter().find(|(shared, _)| same(shared)).map(|(_, ground)| Arc::clone(ground));
            let ground = ground.unwrap_or_else(|| {
                let ground = Arc::new(self.ground(tenant, &group.shared));
                known.push((&*group.shared, Arc::clone(&ground)));
                ground
            });
            grounds.push((ground, group));
        }
        grounds
    }

    /// Returns what jobs of `tenant` meet by the rules of now.
    pub(super) fn ground(&self, tenant: &Tenant, shared: &Shared) -> Ground {
        let caps = self.ports.directory.caps(&tenant.id);
        Ground::new(shared, (Some(tenant), &caps), &self.ports.windows, &self.ports.sealer)
    }

    /// Says how much a job is, as the first provider of its pool counts.
    pub(super) fn size(&self, shared: &Shared, job: &Job, due_at: UnixMicros) -> Size {
        let template = filled::known(&self.ports.templates, shared);
        let handover = filled::handover(shared, job, due_at, template.as_ref());
        let segments = match (handover.kind, &handover.content) {
            (Kind::Sms, Content::Text(text)) => self.ports.segments(&shared.pool, text, &shared.sender),
            _ => 0,
        };
        Size { segments, units: segments.max(1) }
    }

    /// Says what jobs meet when they are due, as if each were alone.
    async fn meet(&self, ground: &Ground, group: &Expected) -> Result<Vec<pb::RehearsedItem>, Error> {
        let Expected { shared, due_at, jobs, .. } = group;
        let mut met = Vec::with_capacity(jobs.len());
        for part in jobs.chunks(ASKED_AT_ONCE) {
            let (mut asked, mut claims) = (Vec::with_capacity(part.len()), Vec::with_capacity(part.len()));
            for (index, job) in part {
                let size = self.size(shared, job, *due_at);
                let asking = Asking { now: *due_at, deadline: *due_at, units: size.units };
                // Each has an address: that was checked.
                if let Some(claim) = ground.claim(shared, job, asking, &self.ports.sealer) {
                    asked.push((*index, job, size));
                    claims.push(claim);
                }
            }
            let decisions = self.ports.limits.peek(*due_at, &claims).await?;
            met.extend(asked.into_iter().zip(decisions).map(|((index, job, size), decision)| {
                let outlook = ground.outlook((shared, job), *due_at, size.units, decision);
                let item = item(index, outlook, size, self.due(group));
                priced(item, group.price)
            }));
            tokio::task::yield_now().await;
        }
        Ok(met)
    }

    /// Returns what the jobs of a group wait for before they meet anything else, and until when.
    fn due<'a>(&self, group: &'a Expected) -> Option<(&'a str, UnixMicros)> {
        let waits = group.due_at > self.ports.clock.now();
        waits.then(|| (group.held_by.as_deref().unwrap_or(SEND_AT), group.due_at))
    }
}

fn item(index: u32, outlook: Outlook, size: Size, due: Option<(&str, UnixMicros)>) -> pb::RehearsedItem {
    let (verdict, rule, until): (_, Box<str>, _) = match (outlook, due) {
        (Outlook::Goes | Outlook::Claimed { .. }, None) => (pb::RuleVerdict::Pass, "".into(), None),
        (Outlook::Goes | Outlook::Claimed { .. }, Some((rule, due_at))) => {
            (pb::RuleVerdict::Defer, rule.into(), Some(due_at))
        }
        (Outlook::Waits { rule, until }, _) => (pb::RuleVerdict::Defer, rule, until),
        (Outlook::Ends(outcome), _) => (pb::RuleVerdict::Suppress, outcome.reason, None),
    };
    pb::RehearsedItem {
        index,
        verdict: verdict.into(),
        rule: rule.into(),
        until: until.map(convert::moment_to_pb),
        segments: size.segments,
        ..pb::RehearsedItem::default()
    }
}

/// Says what a job costs, where it would leave, now or later, and a part of it costs `price`.
fn priced(mut item: pb::RehearsedItem, price: Option<Money>) -> pb::RehearsedItem {
    if leaves(&item) {
        item.cost = price.map(|price| convert::money_to_pb(price.times(item.segments.max(1))));
    }
    item
}

fn leaves(item: &pb::RehearsedItem) -> bool {
    matches!(item.verdict(), pb::RuleVerdict::Pass | pb::RuleVerdict::Defer)
}

/// Returns what all jobs cost that would leave, where each has a price in one currency.
fn total(items: &[pb::RehearsedItem]) -> Option<pb::Money> {
    let mut total: Option<pb::Money> = None;
    for item in items.iter().filter(|item| leaves(item)) {
        let cost = item.cost.as_ref()?;
        match &mut total {
            None => total = Some(cost.clone()),
            Some(sum) if sum.currency == cost.currency => sum.micros = sum.micros.saturating_add(cost.micros),
            Some(_) => return None,
        }
    }
    total
}

fn refused(index: u32, error: Error) -> pb::RehearsedItem {
    pb::RehearsedItem { index, refusal: Some(refusal_of(index, error)), ..pb::RehearsedItem::default() }
}
