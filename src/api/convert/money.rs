//! Money.

use super::{Invalid, Problem};
use crate::domain::money::{InvalidMoney, Money};
use crate::pb;

/// Reads an amount.
pub(super) fn money_from_pb(field: &str, raw: &pb::Money) -> Result<Money, Invalid> {
    let wrong = |part: &str, error| Invalid::new(format!("{field}.{part}"), Problem::Money(error));
    let currency = raw.currency.parse().map_err(|error: InvalidMoney| wrong("currency", error))?;
    Money::new(currency, raw.micros).map_err(|error| wrong("micros", error))
}

/// Shows an amount.
pub(crate) fn money_to_pb(money: Money) -> pb::Money {
    pb::Money { currency: money.currency.as_str().into(), micros: money.micros() }
}
