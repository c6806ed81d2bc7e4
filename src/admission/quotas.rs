//! What a request takes of its tenant's quotas. Pure.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::plan::Plan;
use super::{Item, Refusal, Request};
use crate::channel::sms::text::{self, Counting};
use crate::config;
use crate::domain::cap::CalendarUnit;
use crate::domain::ids::PoolId;
use crate::domain::job::Content;
use crate::domain::keys::space;
use crate::domain::money::Money;
use crate::domain::quota::{Most, Quota};
use crate::domain::text::{fill, signature};
use crate::domain::time::UnixMicros;
use crate::ledger::Tenant;
use crate::limits::{Allowance, Counts, Need, Spend};
use crate::policy::cap_windows;
use crate::policy::routes::Tariff;
use crate::seal::Sealer;

/// What is asked before anything is taken.
pub(super) struct Till<'a> {
    /// The pools that carry the jobs, and what they ask for.
    pub pools: Vec<(&'a PoolId, Option<&'a Tariff>)>,
    /// For each of them the pools of the steps that follow, and what those ask for; empty: nothing follows.
    pub steps: Vec<Vec<(&'a PoolId, Option<&'a Tariff>)>>,
    /// For each of the pools the sender of those that name none.
    pub senders: &'a [Box<str>],
    /// The place of each job's pool among them; empty: all have the first.
    pub of: &'a [usize],
    /// Keys of words.
    pub sealer: &'a Sealer,
    /// When.
    pub now: UnixMicros,
}

impl Till<'_> {
    /// Returns what a request needs of its tenant's quotas. Items that cannot be sent anyway need nothing.
    ///
    /// # Errors
    /// [`Refusal::NoPrice`] where a quota counts money and nobody knows what a job may cost.
    pub(super) fn spend(&self, request: &Request, plan: &Plan) -> Result<Spend, Refusal> {
        let tenant = &request.tenant;
        let prices = self.prices(&tenant.quotas)?;
        let needs = |(place, item): (usize, &Item)| {
            if plan.refused.binary_search_by_key(&place, |(place, _)| *place).is_ok() {
                return Need::default();
            }
            let pool = self.of.get(place).copied().unwrap_or(0);
            let named = if request.sender.is_empty() { self.senders.get(pool) } else { Some(&request.sender) };
            let named = longest(tenant, named.map_or("", |sender| sender));
            let says = std::iter::once((&request.content, named))
                .chain(request.fallback.iter().map(|step| (&step.content, &*step.sender)));
            // Each step may come to be sent, and be paid for.
            let asked = prices.get(pool).into_iter().flatten().zip(self.tariffs(pool)).zip(says);
            let micros = asked.map(|((price, (_, tariff)), says)| price.times(units(says, item, tariff)).micros());
            Need { jobs: 1, micros: u64::try_from(micros.sum::<i64>()).unwrap_or(0) }
        };
        Ok(Spend {
            tenant: tenant.id.clone(),
            key: None,
            from: tenant.quotas.iter().map(|quota| self.allowance(request, quota)).collect(),
            items: request.items.iter().enumerate().map(needs).collect(),
        })
    }

    /// Returns the pools of a place, of the jobs themselves and of the steps that follow, and what they ask for.
    fn tariffs(&self, place: usize) -> impl Iterator<Item = (&PoolId, Option<&Tariff>)> {
        let steps = self.steps.get(place).into_iter().flatten();
        self.pools.get(place).into_iter().chain(steps).map(|(pool, tariff)| (*pool, *tariff))
    }

    /// Returns what a unit costs in each pool of each place, if any quota counts money.
    fn prices(&self, quotas: &[Quota]) -> Result<Vec<Vec<Money>>, Refusal> {
        let Some((quota, money)) = quotas.iter().find_map(|quota| Some((quota, quota.most.money()?))) else {
            return Ok(vec![]);
        };
        let price = |(pool, tariff): (&PoolId, Option<&Tariff>)| {
            let known = tariff.and_then(|tariff| tariff.price).filter(|price| price.currency == money.currency);
            let pool = || PoolId::clone(pool);
            let unknown = || Refusal::NoPrice { quota: quota.name.clone(), currency: money.currency, pool: pool() };
            known.ok_or_else(unknown)
        };
        (0..self.pools.len()).map(|place| self.tariffs(place).map(price).collect()).collect()
    }

    /// Returns a quota's window of now, in the tenant's zone. It is known by its date: a tenant that changes its zone
    /// goes on in the window of that date, and gains nothing.
    fn allowance(&self, request: &Request, quota: &Quota) -> Allowance {
        let zone = zone(request);
        let (start, ends_at) = cap_windows::calendar(quota.per, &zone, self.now);
        let date = jiff::Timestamp::from_microsecond(start.0).unwrap_or_default().to_zoned(zone).date();
        let (counts, unit) = match quota.most {
            Most::Jobs(_) => (Counts::Jobs, "jobs"),
            Most::Money(_) => (Counts::Money, "money"),
        };
        let word = format!("{unit} {} {} {date}", quota.name, quota.per);
        let key = self.sealer.word_key(&request.tenant.id, space::QUOTA, &word);
        Allowance { key, counts, most: quota.most.units(), ends_at }
    }

    /// Says that a quota has no room, and when it has again.
    pub(super) fn refusal(&self, request: &Request, full: Option<usize>) -> Refusal {
        let Some(quota) = full.and_then(|index| request.tenant.quotas.get(index)) else {
            return Refusal::OverQuotaBefore;
        };
        let (_, ends_at) = cap_windows::calendar(quota.per, &zone(request), self.now);
        let retry_after = ends_at.since(self.now).max(Duration::from_secs(1));
        Refusal::OverQuota { quota: quota.name.clone(), per: quota.per, retry_after }
    }
}

/// Returns how many times the price a job may cost that says this to an item under this sender: its segments; anything but
/// a text is one. Never fewer than any provider of the pool counts.
fn units((content, sender): (&Content, &str), item: &Item, tariff: Option<&Tariff>) -> u32 {
    let (Content::Text(template), Some(tariff)) = (content, tariff) else { return 1 };
    let filled = fill(template, &item.params);
    match tariff.counting {
        config::Counting::GsmIntl => text::segments(&filled, Counting::GsmIntl),
        config::Counting::CnDomestic => {
            let shown = if sender.is_empty() { &tariff.signature } else { sender };
            if shown.is_empty() || signature(&filled).is_some() {
                return text::segments(&filled, Counting::CnDomestic);
            }
            text::segments(&format!("【{shown}】{filled}"), Counting::CnDomestic)
        }
    }
}

/// Returns a sender; of a pool of senders the longest, for none of them takes more segments.
fn longest<'a>(tenant: &'a Tenant, sender: &'a str) -> &'a str {
    let members = tenant.sender_pool(sender).map(|pool| pool.members.iter().map(|member| &*member.sender));
    members.and_then(|members| members.max_by_key(|member| member.chars().count())).unwrap_or(sender)
}

/// Returns the tenant's zone; UTC where it has none.
fn zone(request: &Request) -> TimeZone {
    request.tenant.time_zone.as_deref().and_then(|name| TimeZone::get(name).ok()).unwrap_or(TimeZone::UTC)
}

/// Returns a window as people call it.
pub(super) fn this(per: CalendarUnit) -> &'static str {
    match per {
        CalendarUnit::Day => "today",
        CalendarUnit::Week => "this week",
        CalendarUnit::Month => "this month",
    }
}
