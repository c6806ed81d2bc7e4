//! Counts of jobs by what became of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Jobs;
use crate::api::access::Caller;
use crate::api::convert::{self, Invalid, Problem};
use crate::api::status::Error;
use crate::api::tenants;
use crate::domain::event::Fate;
use crate::domain::time::UnixMicros;
use crate::ledger::{Ledger, SENT_FINALLY};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// The unit that is counted in.
const HOUR: Duration = Duration::from_secs(3600);
/// Without a range: the last day.
const RANGE: Duration = Duration::from_secs(24 * 3600);
/// What the API calls a job that a provider took and that may yet get its receipt.
const HANDED_OVER: &str = "handed_over";
/// Longest range: as long as counts are kept.
const RANGE_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Counts the jobs of a tenant.
    pub(super) async fn stats(&self, caller: &Caller, raw: pb::GetStatsRequest) -> Result<pb::GetStatsResponse, Error> {
        convert::not_yet("campaign_id", raw.campaign_id.is_empty(), "counts by campaign are")?;
        let tenant = tenants::named(&self.ports.directory, caller, &raw.tenant_id)?;
        let now = self.ports.clock.now();
        let to = raw.to.map(|at| convert::moment("to", &at)).transpose()?.unwrap_or(now);
        let from = raw.from.map(|at| convert::moment("from", &at)).transpose()?.unwrap_or_else(|| to.minus(RANGE));
        if to < from {
            return Err(Invalid::new("to", Problem::EndsFirst).into());
        }
        if to.since(from) > RANGE_MAX {
            return Err(Invalid::new("to", Problem::RangeTooLong { days: 400 }).into());
        }
        let counts = self.ports.ledger.counts(Some(&tenant.id), hour(from), hour(to).plus(HOUR)).await?;
        let mut rows = BTreeMap::new();
        for count in counts {
            let jobs = u64::try_from(count.jobs).unwrap_or(0);
            *rows.entry((count.kind, count.class, count.what, count.reason)).or_insert(0_u64) += jobs;
        }
        let mut stats = pb::GetStatsResponse::default();
        for ((kind, class, what, reason), jobs) in rows {
            let (what, reason, fate) = match (&*what, &*reason) {
                ("sent", SENT_FINALLY) => (what, Box::default(), Some(Fate::Sent)),
                ("sent", _) => (HANDED_OVER.into(), Box::default(), None),
                (word, _) => (what.clone(), reason, Fate::from_word(word)),
            };
            match (&*what, fate) {
                ("accepted", _) => stats.accepted += jobs,
                (HANDED_OVER, _) => stats.handed_over += jobs,
                (_, Some(_)) => stats.settled += jobs,
                (_, None) => {}
            }
            stats.rows.push(pb::StatsRow {
                kind: convert::kind_to_pb(kind).into(),
                class: convert::class_to_pb(class).into(),
                what: what.into(),
                fate: fate.map(convert::fate_to_pb).unwrap_or_default().into(),
                reason: reason.into(),
                jobs,
                cost: None,
            });
        }
        Ok(stats)
    }
}

fn hour(at: UnixMicros) -> UnixMicros {
    UnixMicros::from_secs(at.as_secs().div_euclid(3600) * 3600)
}
