//! Counts of jobs by what became of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Jobs;
use crate::api::access::Caller;
use crate::api::convert::{self, Invalid, Problem};
use crate::api::status::Error;
use crate::api::tenants;
use crate::domain::event::Fate;
use crate::domain::job::{Class, Kind};
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
        let (mut rows, mut costs) = (BTreeMap::new(), BTreeMap::new());
        for count in counts {
            if let Some((cost, finally)) = count.cost() {
                let what: Box<str> = if finally { Fate::Sent.as_str() } else { HANDED_OVER }.into();
                let paid = costs.entry((count.kind, count.class, what, cost.currency)).or_insert(0_i64);
                *paid = paid.saturating_add(cost.micros());
                continue;
            }
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
        for ((kind, class, what, currency), micros) in costs {
            add_cost(&mut stats.rows, (kind, class, &what), pb::Money { currency: currency.to_string(), micros });
        }
        Ok(stats)
    }
}

/// Puts what jobs cost beside how many they were; what was paid in a second currency has a row of its own.
fn add_cost(rows: &mut Vec<pb::StatsRow>, (kind, class, what): (Kind, Class, &str), cost: pb::Money) {
    let (kind, class) = (convert::kind_to_pb(kind).into(), convert::class_to_pb(class).into());
    let row = |row: &&mut pb::StatsRow| row.kind == kind && row.class == class && row.what == what;
    match rows.iter_mut().filter(row).find(|row| row.cost.is_none()) {
        Some(row) => row.cost = Some(cost),
        None => {
            let fate = if what == HANDED_OVER { pb::Fate::Unspecified } else { pb::Fate::Sent };
            let (what, cost) = (what.to_owned(), Some(cost));
            rows.push(pb::StatsRow { kind, class, what, fate: fate.into(), cost, ..pb::StatsRow::default() });
        }
    }
}

fn hour(at: UnixMicros) -> UnixMicros {
    UnixMicros::from_secs(at.as_secs().div_euclid(3600) * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_paid_in_a_second_currency_has_its_own_row() {
        let row = pb::StatsRow {
            kind: pb::Kind::Sms.into(),
            class: pb::Class::Otp.into(),
            what: HANDED_OVER.into(),
            jobs: 5,
            ..pb::StatsRow::default()
        };
        let mut rows = vec![row];
        for (currency, micros) in [("CNY", 7), ("USD", 9)] {
            let cost = pb::Money { currency: currency.into(), micros };
            add_cost(&mut rows, (Kind::Sms, Class::Otp, HANDED_OVER), cost);
        }
        let shown: Vec<_> = rows.iter().map(|row| (row.jobs, row.cost.as_ref().map(|cost| cost.micros))).collect();
        assert_eq!(shown, [(5, Some(7)), (0, Some(9))]);
    }
}
