//! Money.

use crate::domain::money::Money;
use crate::pb;

/// Shows an amount.
pub(crate) fn money_to_pb(money: Money) -> pb::Money {
    pb::Money { currency: money.currency.as_str().into(), micros: money.micros() }
}
