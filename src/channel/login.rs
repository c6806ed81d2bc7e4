//! Logging in at a provider and handing nothing over: what `postrider doctor` asks.

/// What a provider says to somebody who logs in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Login {
    /// It lets the account in.
    Good,
    /// It knows the account; whether it would take a job cannot be told, for this reason.
    Known(Box<str>),
    /// It does not let the account in, with its code.
    Refused(Box<str>),
    /// It cannot be reached, or does not answer in its own words, for this reason.
    Unreachable(Box<str>),
    /// It was reached; it has no question that hands nothing over.
    Untried,
}
