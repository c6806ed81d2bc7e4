//! Quotas: the most that a tenant may have accepted, or spend, in a calendar day or month.

use super::cap::CalendarUnit;
use super::ids::RuleName;
use super::money::Money;

/// One quota of a tenant. It counts what is accepted, at the time at which it is accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quota {
    /// Its name, unique within the tenant; shown in refusals.
    pub name: RuleName,
    /// The window, in the tenant's zone: a day or a month.
    pub per: CalendarUnit,
    /// How much.
    pub most: Most,
}

/// How much a quota lets in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Most {
    /// So many jobs.
    Jobs(u64),
    /// Jobs that cost so much at most.
    Money(Money),
}

/// Most quotas that one tenant may have.
pub const QUOTAS_MAX: usize = 8;
/// Most jobs, and most millionths of a currency's unit, that are counted exactly: Redis counts in doubles.
pub const QUOTA_MAX: u64 = 9_000_000_000_000_000;

/// Why quotas cannot be: each sentence follows the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadQuota {
    /// Not a day or a month.
    #[error("must be a day or a month")]
    Week,
    /// More than can be counted exactly.
    #[error("is more than can be counted: at most 9000000000 units of a currency, or 9000000000000000 jobs")]
    TooMuch,
    /// No job costs something in both.
    #[error("is in another currency than the tenant's other quotas; a job has one price")]
    Currencies,
}

impl Quota {
    /// Checks what its fields say.
    ///
    /// # Errors
    /// [`BadQuota::Week`] or [`BadQuota::TooMuch`].
    pub fn check(&self) -> Result<(), BadQuota> {
        match self.per {
            CalendarUnit::Week => return Err(BadQuota::Week),
            CalendarUnit::Day | CalendarUnit::Month => {}
        }
        if self.most.units() > QUOTA_MAX { Err(BadQuota::TooMuch) } else { Ok(()) }
    }
}

impl Most {
    /// Returns it as a number: of jobs, or of millionths of the currency's unit.
    pub fn units(self) -> u64 {
        match self {
            Self::Jobs(jobs) => jobs,
            Self::Money(money) => u64::try_from(money.micros()).unwrap_or(0),
        }
    }

    /// Returns the money, if it is that.
    pub fn money(self) -> Option<Money> {
        match self {
            Self::Jobs(_) => None,
            Self::Money(money) => Some(money),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(per: CalendarUnit, most: Most, expected: Result<(), BadQuota>) {
        assert_eq!(Quota { name: "q".parse().unwrap(), per, most }.check(), expected);
    }

    #[test]
    fn quotas_that_cannot_be_are_named() {
        use CalendarUnit::{Day, Month, Week};
        check(Day, Most::Jobs(0), Ok(()));
        check(Month, Most::Money("9000000000 CNY".parse().unwrap()), Ok(()));
        check(Week, Most::Jobs(1), Err(BadQuota::Week));
        check(Day, Most::Jobs(QUOTA_MAX + 1), Err(BadQuota::TooMuch));
        check(Day, Most::Money("9000000000.000001 CNY".parse().unwrap()), Err(BadQuota::TooMuch));
    }
}
