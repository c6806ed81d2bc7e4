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
        let rehearsal = self.ports.admission.rehearse(request(tenant, spec, None, (Batch::Many, items)))?;
        shown.extend(rehearsal.refused.into_iter().map(|(index, refusal)| refused(index, refusal.into())));
        if let Some(first) = rehearsal.expected.first() {
            // All groups have in common what rules look at.
            let ground = self.ground(tenant, &first.shared);
            for groups in rehearsal.expected.chunks(GROUPS_AT_ONCE) {
                shown.extend(try_join_all(groups.iter().map(|group| self.meet(&ground, group))).await?.concat());
            }
        }
        let cost = rehearsal.price.map(|price| priced(&mut shown, price));
        shown.sort_unstable_by_key(|item| item.index);
        Ok(pb::RehearseResponse { items: shown, cost: cost.map(convert::money_to_pb) })
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
            (Kind::Sms, Content::Text(text)) => {
                let style = self.ports.styles.iter().find(|(pool, _)| *pool == shared.pool);
                style.map(|(_, style)| *style).unwrap_or_default().segments(text)
            }
            _ => 0,
        };
        let mut ours = self.ports.providers.iter().filter(|provider| provider.pool == shared.pool);
        let works = ours.find_map(|provider| provider.works.as_ref());
        Size { segments, units: works.map_or(segments.max(1), |works| works.channel.cost(&handover)) }
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
                item(index, outlook, size, self.due(group))
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

/// Says what each job costs that would leave, now or later, where a part of it costs `price`; returns the sum.
fn priced(items: &mut [pb::RehearsedItem], price: Money) -> Money {
    let mut parts: u32 = 0;
    for item in items {
        let leaves = matches!(item.verdict(), pb::RuleVerdict::Pass | pb::RuleVerdict::Defer);
        if leaves {
            let of_item = item.segments.max(1);
            item.cost = Some(convert::money_to_pb(price.times(of_item)));
            parts = parts.saturating_add(of_item);
        }
    }
    price.times(parts)
}

fn refused(index: u32, error: Error) -> pb::RehearsedItem {
    pb::RehearsedItem { index, refusal: Some(refusal_of(index, error)), ..pb::RehearsedItem::default() }
}
