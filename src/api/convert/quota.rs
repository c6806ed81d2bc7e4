//! Quotas: what the API says and what they are.

use std::collections::BTreeSet;

use super::enums::known;
use super::money::{money_from_pb, money_to_pb};
use super::{Invalid, Problem, check_count, name};
use crate::domain::cap::CalendarUnit;
use crate::domain::quota::{BadQuota, Most, QUOTAS_MAX, Quota};
use crate::pb;

/// Checks the quotas of a tenant.
pub(super) fn quotas(raw: Vec<pb::Quota>) -> Result<Vec<Quota>, Invalid> {
    check_count("quotas", raw.len(), QUOTAS_MAX)?;
    let (mut names, mut currency) = (BTreeSet::new(), None);
    let mut each = |raw: pb::Quota| {
        let quota = quota(raw)?;
        if !names.insert(quota.name.clone()) {
            return Err(Invalid::new("name", Problem::Twice(quota.name.as_str().into())));
        }
        if let Some(money) = quota.most.money()
            && *currency.get_or_insert(money.currency) != money.currency
        {
            return Err(Invalid::new("money.currency", Problem::Quota(BadQuota::Currencies)));
        }
        Ok(quota)
    };
    let raw = raw.into_iter().map(&mut each).enumerate();
    raw.map(|(index, quota)| quota.map_err(|invalid| invalid.at("quotas", index))).collect()
}

fn quota(raw: pb::Quota) -> Result<Quota, Invalid> {
    let (field, most) = match raw.limit.ok_or_else(|| Invalid::new("limit", Problem::Missing))? {
        pb::quota::Limit::Jobs(jobs) => ("jobs", Most::Jobs(jobs)),
        pb::quota::Limit::Money(money) => ("money", Most::Money(money_from_pb("money", &money)?)),
    };
    let per = match known("per", raw.per)? {
        None | Some(pb::CalendarUnit::Unspecified) => return Err(Invalid::new("per", Problem::Missing)),
        Some(pb::CalendarUnit::Day) => CalendarUnit::Day,
        Some(pb::CalendarUnit::Week) => CalendarUnit::Week,
        Some(pb::CalendarUnit::Month) => CalendarUnit::Month,
    };
    let quota = Quota { name: name("name", &raw.name)?, per, most };
    quota.check().map_err(|bad| {
        let field = match bad {
            BadQuota::Week => "per",
            BadQuota::TooMuch | BadQuota::Currencies => field,
        };
        Invalid::new(field, Problem::Quota(bad))
    })?;
    Ok(quota)
}

/// Says that a tenant's quota counts money that no provider asks for.
pub(crate) fn no_such_price(index: usize) -> Invalid {
    Invalid::new("money.currency", Problem::NoSuchPrice).at("quotas", index).within("tenant")
}

/// Shows a quota.
pub(super) fn quota_to_pb(quota: &Quota) -> pb::Quota {
    pb::Quota {
        name: quota.name.as_str().into(),
        per: match quota.per {
            CalendarUnit::Day => pb::CalendarUnit::Day,
            CalendarUnit::Week => pb::CalendarUnit::Week,
            CalendarUnit::Month => pb::CalendarUnit::Month,
        }
        .into(),
        limit: Some(match quota.most {
            Most::Jobs(jobs) => pb::quota::Limit::Jobs(jobs),
            Most::Money(money) => pb::quota::Limit::Money(money_to_pb(money)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jobs(name: &str, per: pb::CalendarUnit, jobs: u64) -> pb::Quota {
        pb::Quota { name: name.into(), per: per.into(), limit: Some(pb::quota::Limit::Jobs(jobs)) }
    }

    fn money(name: &str, currency: &str, micros: i64) -> pb::Quota {
        let limit = Some(pb::quota::Limit::Money(pb::Money { currency: currency.into(), micros }));
        pb::Quota { limit, ..jobs(name, pb::CalendarUnit::Month, 0) }
    }

    #[track_caller]
    fn says(path: &str, raw: Vec<pb::Quota>) {
        assert_eq!(quotas(raw).unwrap_err().path, path);
    }

    #[test]
    fn quotas_are_shown_as_they_were_given() {
        let raw = vec![jobs("daily", pb::CalendarUnit::Day, 0), money("budget", "CNY", 1_000_500_000)];
        let checked = quotas(raw.clone()).unwrap();
        assert_eq!(checked.iter().map(quota_to_pb).collect::<Vec<_>>(), raw);
    }

    #[test]
    fn quotas_that_cannot_be_are_named() {
        let daily = jobs("daily", pb::CalendarUnit::Day, 1);
        says("quotas[0].name", vec![jobs("", pb::CalendarUnit::Day, 1)]);
        says("quotas[0].per", vec![jobs("q", pb::CalendarUnit::Unspecified, 1)]);
        says("quotas[0].per", vec![jobs("q", pb::CalendarUnit::Week, 1)]);
        says("quotas[0].limit", vec![pb::Quota { limit: None, ..daily.clone() }]);
        says("quotas[0].jobs", vec![jobs("q", pb::CalendarUnit::Day, u64::MAX)]);
        says("quotas[1].name", vec![daily.clone(), daily.clone()]);
        says("quotas[0].money.currency", vec![money("q", "yuan", 1)]);
        says("quotas[0].money.micros", vec![money("q", "CNY", -1)]);
        says("quotas[0].money", vec![money("q", "CNY", i64::MAX)]);
        says("quotas[2].money.currency", vec![money("a", "CNY", 1), daily.clone(), money("b", "USD", 1)]);
        says("quotas", vec![daily; 9]);
    }
}
