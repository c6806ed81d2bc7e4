//! The API's enums and ours, value by value.

use super::{Invalid, Problem};
use crate::domain::cap::OnLimit;
use crate::domain::event::{Fate, State};
use crate::domain::job::{Class, Kind, OnMissed};
use crate::domain::recipient::RecipientKind;
use crate::domain::suppression::Source;
use crate::ledger::Role;
use crate::pb;

/// Reads a raw enum value: `None` for unspecified.
///
/// # Errors
/// A value that the enum does not have.
pub(super) fn known<E>(field: &str, raw: i32) -> Result<Option<E>, Invalid>
where
    E: TryFrom<i32>,
{
    if raw == 0 {
        return Ok(None);
    }
    E::try_from(raw).map(Some).map_err(|_| Invalid::new(field, Problem::UnknownValue(raw)))
}

/// Reads a class that must be given.
pub(super) fn class(field: &str, raw: i32) -> Result<Class, Invalid> {
    match known::<pb::Class>(field, raw)? {
        None | Some(pb::Class::Unspecified) => Err(Invalid::new(field, Problem::Missing)),
        Some(pb::Class::Otp) => Ok(Class::Otp),
        Some(pb::Class::Transactional) => Ok(Class::Transactional),
        Some(pb::Class::Notification) => Ok(Class::Notification),
        Some(pb::Class::Marketing) => Ok(Class::Marketing),
    }
}

/// Reads a kind that filters: `None` matches every kind.
pub(crate) fn kind_filter(field: &str, raw: i32) -> Result<Option<Kind>, Invalid> {
    Ok(match known::<pb::Kind>(field, raw)? {
        None | Some(pb::Kind::Unspecified) => None,
        Some(pb::Kind::Sms) => Some(Kind::Sms),
        Some(pb::Kind::Template) => Some(Kind::Template),
        Some(pb::Kind::Call) => Some(Kind::Call),
    })
}

/// Reads a class that filters: `None` matches every class.
pub(super) fn class_filter(field: &str, raw: i32) -> Result<Option<Class>, Invalid> {
    (raw != 0).then(|| class(field, raw)).transpose()
}

pub(super) fn recipient_kind(field: &str, raw: i32) -> Result<RecipientKind, Invalid> {
    Ok(match known::<pb::RecipientKind>(field, raw)? {
        None | Some(pb::RecipientKind::Unspecified | pb::RecipientKind::Person) => RecipientKind::Person,
        Some(pb::RecipientKind::Group) => RecipientKind::Group,
        Some(pb::RecipientKind::Operator) => RecipientKind::Operator,
    })
}

pub(super) fn on_missed(field: &str, raw: i32) -> Result<OnMissed, Invalid> {
    Ok(match known::<pb::OnMissed>(field, raw)? {
        None | Some(pb::OnMissed::Unspecified | pb::OnMissed::Defer) => OnMissed::Defer,
        Some(pb::OnMissed::Drop) => OnMissed::Drop,
    })
}

pub(super) fn on_limit(field: &str, raw: i32) -> Result<OnLimit, Invalid> {
    Ok(match known::<pb::OnLimit>(field, raw)? {
        None | Some(pb::OnLimit::Unspecified | pb::OnLimit::Defer) => OnLimit::Defer,
        Some(pb::OnLimit::Drop) => OnLimit::Drop,
    })
}

/// Reads a role that must be given.
pub(crate) fn role_from_pb(field: &str, raw: i32) -> Result<Role, Invalid> {
    match known::<pb::Role>(field, raw)? {
        None | Some(pb::Role::Unspecified) => Err(Invalid::new(field, Problem::Missing)),
        Some(pb::Role::Submitter) => Ok(Role::Submitter),
        Some(pb::Role::Viewer) => Ok(Role::Viewer),
        Some(pb::Role::Admin) => Ok(Role::Admin),
        Some(pb::Role::Operator) => Ok(Role::Operator),
    }
}

/// Shows a kind.
pub(crate) fn kind_to_pb(kind: Kind) -> pb::Kind {
    match kind {
        Kind::Sms => pb::Kind::Sms,
        Kind::Template => pb::Kind::Template,
        Kind::Call => pb::Kind::Call,
    }
}

/// Shows a class.
pub(crate) fn class_to_pb(class: Class) -> pb::Class {
    match class {
        Class::Otp => pb::Class::Otp,
        Class::Transactional => pb::Class::Transactional,
        Class::Notification => pb::Class::Notification,
        Class::Marketing => pb::Class::Marketing,
    }
}

pub(super) fn recipient_kind_to_pb(kind: RecipientKind) -> pb::RecipientKind {
    match kind {
        RecipientKind::Person => pb::RecipientKind::Person,
        RecipientKind::Group => pb::RecipientKind::Group,
        RecipientKind::Operator => pb::RecipientKind::Operator,
    }
}

pub(super) fn on_missed_to_pb(on_missed: OnMissed) -> pb::OnMissed {
    match on_missed {
        OnMissed::Defer => pb::OnMissed::Defer,
        OnMissed::Drop => pb::OnMissed::Drop,
    }
}

pub(super) fn on_limit_to_pb(on_limit: OnLimit) -> pb::OnLimit {
    match on_limit {
        OnLimit::Defer => pb::OnLimit::Defer,
        OnLimit::Drop => pb::OnLimit::Drop,
    }
}

pub(super) fn role_to_pb(role: Role) -> pb::Role {
    match role {
        Role::Submitter => pb::Role::Submitter,
        Role::Viewer => pb::Role::Viewer,
        Role::Admin => pb::Role::Admin,
        Role::Operator => pb::Role::Operator,
    }
}

pub(super) fn source_to_pb(source: Source) -> pb::SuppressionSource {
    match source {
        Source::Keyword => pb::SuppressionSource::Keyword,
        Source::Api => pb::SuppressionSource::Api,
        Source::Provider => pb::SuppressionSource::Provider,
        Source::Import => pb::SuppressionSource::Import,
    }
}

pub(super) fn state_to_pb(state: State) -> pb::State {
    match state {
        State::Accepted => pb::State::Accepted,
        State::Scheduled => pb::State::Scheduled,
        State::Held => pb::State::Held,
        State::Ready => pb::State::Ready,
        State::Sending => pb::State::Sending,
        State::Unresolved => pb::State::Unresolved,
        State::Sent => pb::State::Sent,
        State::AwaitingOperator => pb::State::AwaitingOperator,
        State::Dialing => pb::State::Dialing,
        State::Ringing => pb::State::Ringing,
        State::Answered => pb::State::Answered,
        State::Settled => pb::State::Settled,
    }
}

/// Shows a fate.
pub(crate) fn fate_to_pb(fate: Fate) -> pb::Fate {
    match fate {
        Fate::Delivered => pb::Fate::Delivered,
        Fate::Undelivered => pb::Fate::Undelivered,
        Fate::Sent => pb::Fate::Sent,
        Fate::Completed => pb::Fate::Completed,
        Fate::Suppressed => pb::Fate::Suppressed,
        Fate::Expired => pb::Fate::Expired,
        Fate::Cancelled => pb::Fate::Cancelled,
        Fate::Rejected => pb::Fate::Rejected,
        Fate::Failed => pb::Fate::Failed,
        Fate::Unknown => pb::Fate::Unknown,
    }
}
