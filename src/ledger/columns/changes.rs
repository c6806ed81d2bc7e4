//! What happened to a job, spread over columns.

use super::{Code as _, What, missing, name};
use crate::domain::call::CallResult;
use crate::domain::event::{Change, Event, Fate, Outcome, State};
use crate::domain::ids::ProviderId;
use crate::domain::money::Money;
use crate::domain::time::UnixMicros;
use crate::ledger::LedgerError;

/// A change, spread over columns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::ledger) struct ChangeColumns<'a> {
    pub(in crate::ledger) what: What,
    /// The state it leads to.
    pub(in crate::ledger) state: State,
    pub(in crate::ledger) fate: Option<Fate>,
    pub(in crate::ledger) reason: Option<&'a str>,
    pub(in crate::ledger) provider: Option<&'a str>,
    pub(in crate::ledger) until: Option<UnixMicros>,
    pub(in crate::ledger) message_ids: &'a [Box<str>],
    pub(in crate::ledger) receipt_expected: Option<bool>,
    pub(in crate::ledger) cost: Option<Money>,
}

/// A change as read from columns.
#[derive(Clone, Default, Debug)]
pub(in crate::ledger) struct ReadChange {
    pub(in crate::ledger) what: i16,
    pub(in crate::ledger) state: i16,
    pub(in crate::ledger) fate: Option<i16>,
    pub(in crate::ledger) reason: Option<Box<str>>,
    pub(in crate::ledger) provider: Option<String>,
    pub(in crate::ledger) until: Option<i64>,
    pub(in crate::ledger) message_ids: Vec<Box<str>>,
    pub(in crate::ledger) receipt_expected: Option<bool>,
    pub(in crate::ledger) cost: Option<String>,
}

// === impl ChangeColumns ===

impl<'a> ChangeColumns<'a> {
    /// Spreads the change of an event.
    pub(in crate::ledger) fn of(event: &'a Event) -> Self {
        let state = event.change.state();
        let blank = Self {
            what: What::Progress,
            state,
            fate: None,
            reason: None,
            provider: None,
            until: None,
            message_ids: &[],
            receipt_expected: None,
            cost: event.change.cost(),
        };
        match &event.change {
            Change::Deferred { reason, until } => {
                Self { what: What::Deferred, reason: Some(reason), until: Some(*until), ..blank }
            }
            Change::Sent { provider, message_ids, receipt_expected, cost: _ } => Self {
                what: What::Sent,
                provider: Some(provider.as_str()),
                message_ids,
                receipt_expected: Some(*receipt_expected),
                ..blank
            },
            Change::Unresolved { provider } => {
                Self { what: What::Unresolved, provider: provider.as_ref().map(ProviderId::as_str), ..blank }
            }
            Change::Progress(_) => blank,
            Change::Called { provider, result, report, cost: _ } => Self {
                what: What::Called,
                provider: Some(provider.as_str()),
                reason: Some(result.as_str()),
                message_ids: std::slice::from_ref(report),
                ..blank
            },
            Change::Recorded { report } => {
                Self { what: What::Recorded, message_ids: std::slice::from_ref(report), ..blank }
            }
            Change::Settled(outcome) => Self {
                what: What::Settled,
                fate: Some(outcome.fate),
                reason: (!outcome.reason.is_empty()).then_some(&*outcome.reason),
                ..blank
            },
        }
    }
}

// === impl ReadChange ===

impl ReadChange {
    /// Puts the change together again.
    pub(in crate::ledger) fn change(self) -> Result<Change, LedgerError> {
        let provider = self.provider.as_deref().map(name).transpose()?;
        Ok(match What::from_code(self.what)? {
            What::Deferred => Change::Deferred {
                reason: self.reason.unwrap_or_default(),
                until: UnixMicros(self.until.ok_or_else(|| missing("until"))?),
            },
            What::Sent => Change::Sent {
                provider: provider.ok_or_else(|| missing("provider"))?,
                message_ids: self.message_ids,
                receipt_expected: self.receipt_expected.ok_or_else(|| missing("receipt_expected"))?,
                cost: self.cost.as_deref().map(name).transpose()?,
            },
            What::Unresolved => Change::Unresolved { provider },
            What::Progress => Change::Progress(State::from_code(self.state)?),
            What::Called => Change::Called {
                provider: provider.ok_or_else(|| missing("provider"))?,
                result: self.reason.as_deref().and_then(CallResult::from_word).ok_or_else(|| missing("result"))?,
                report: self.message_ids.into_iter().next().unwrap_or_default(),
                cost: self.cost.as_deref().map(name).transpose()?,
            },
            What::Recorded => {
                Change::Recorded { report: self.message_ids.into_iter().next().ok_or_else(|| missing("report"))? }
            }
            What::Settled => Change::Settled(Outcome {
                fate: Fate::from_code(self.fate.ok_or_else(|| missing("fate"))?)?,
                reason: self.reason.unwrap_or_default(),
            }),
        })
    }
}
