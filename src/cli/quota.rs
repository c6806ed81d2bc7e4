//! Quotas as they are written: `daily=100000/day`, `budget=1000 CNY/month`.

use std::str::FromStr;

use super::args::InvalidArg;
use crate::domain::money::Money;
use crate::pb;

/// A quota: `NAME=JOBS/WINDOW` or `NAME=AMOUNT CURRENCY/WINDOW`, with the window `day` or `month`.
#[derive(Clone, Debug)]
pub(super) struct Quota(pub(super) pb::Quota);

impl FromStr for Quota {
    type Err = InvalidArg;
    fn from_str(raw: &str) -> Result<Self, InvalidArg> {
        let (name, rest) = raw.split_once('=').ok_or(InvalidArg::Quota)?;
        let (most, per) = rest.rsplit_once('/').ok_or(InvalidArg::Quota)?;
        let per = match per.trim() {
            "day" => pb::CalendarUnit::Day,
            "month" => pb::CalendarUnit::Month,
            _ => return Err(InvalidArg::Quota),
        };
        let limit = match most.trim().parse() {
            Ok(jobs) => pb::quota::Limit::Jobs(jobs),
            Err(_) => {
                let money: Money = most.parse()?;
                pb::quota::Limit::Money(pb::Money { currency: money.currency.to_string(), micros: money.micros() })
            }
        };
        Ok(Self(pb::Quota { name: name.trim().into(), per: per.into(), limit: Some(limit) }))
    }
}

/// Returns a quota as `--quota` takes it.
pub(super) fn text(quota: &pb::Quota) -> String {
    let most = match &quota.limit {
        Some(pb::quota::Limit::Jobs(jobs)) => jobs.to_string(),
        Some(pb::quota::Limit::Money(money)) => super::print::money(money),
        None => "?".into(),
    };
    let per = super::print::word(quota.per().as_str_name(), "CALENDAR_UNIT_");
    format!("{}={most}/{per}", quota.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas_are_shown_as_they_are_written() {
        for raw in ["daily=100000/day", "budget=1000.50 CNY/month"] {
            assert_eq!(text(&raw.parse::<Quota>().unwrap().0), raw);
        }
        for wrong in ["daily", "daily=5", "daily=5/week", "daily=many/day", "daily=5 yuan/day", "daily=-5/day"] {
            assert!(wrong.parse::<Quota>().is_err(), "{wrong}");
        }
    }
}
