//! What a caller is told when something is not done: the only place where gRPC codes are chosen.
//!
//! Details of the inside (addresses of servers, texts of databases) are logged, never returned.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::convert::{Invalid, Problem};
use crate::admission::{Refusal, moment};
use crate::domain::chain::STEPS_MAX;
use crate::domain::template::TEMPLATES_MAX;
use crate::domain::time::UnixMicros;
use crate::ledger::LedgerError;
use crate::limits::{FILTER_RULES_MAX, LimitsError};
use crate::pb;
use crate::queue::{PublishError, QueueError};
use crate::telemetry::metrics::RefusedAs;

/// The domain of [`pb::Refusal::reason`] and of `ErrorInfo`.
const DOMAIN: &str = "postrider";
/// When to come back after a store was away: about as long as a failover's first retry.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a call, or an item of one, is not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// A field is wrong.
    #[error("{0}")]
    Invalid(#[from] Invalid),
    /// Admission says no.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// No credential.
    #[error("no API key: send the metadata \"authorization: Bearer pr_...\"")]
    NoKey,
    /// A credential that opens nothing.
    #[error("this API key is not valid: it is unknown, revoked or mistyped")]
    BadKey,
    /// A credential whose time is over.
    #[error("this API key expired at {at}: an admin makes another with postrider key create", at = moment(*.0))]
    ExpiredKey(UnixMicros),
    /// A credential of another role.
    #[error("this API key's role may not call {0}")]
    Denied(&'static str),
    /// Not the caller's, or not there: the same to the caller.
    #[error("no such {0}")]
    NotFound(&'static str),
    /// There already.
    #[error("a {0} with this id exists already")]
    Exists(&'static str),
    /// A template that nobody may carry.
    #[error("template {0:?} is approved at none of its providers: store it again once one has approved it")]
    NotApproved(Box<str>),
    /// As many templates as a tenant may have.
    #[error("this tenant has {TEMPLATES_MAX} templates in use; delete one first")]
    TooManyTemplates,
    /// Two live keys are enough to rotate.
    #[error("this tenant has two live keys of this role; revoke one first")]
    TooManyKeys,
    /// The clock is the machine's.
    #[error("the clock is the system's: start `serve --clock virtual` to move it")]
    RealClock,
    /// A method without behaviour yet.
    #[error("{0} is not available yet")]
    NotYet(&'static str),
    /// More watchers than this process serves.
    #[error("this process serves no more than {0} watchers; close one or ask another process")]
    TooManyWatchers(usize),
    /// The ledger gave no answer.
    #[error("the ledger gives no answer just now")]
    LedgerAway,
    /// Limits gave no answer.
    #[error("limits give no answer just now; the call may have taken effect and may be repeated")]
    LimitsAway,
    /// The tenant has as many rules by filter as limits keep.
    #[error(
        "this tenant has {FILTER_RULES_MAX} live rules by filter: name the jobs by one id, key, batch, campaign, run or \
         recipient"
    )]
    TooManyRules,
    /// A fact is not known to be durable.
    #[error("not known to be durable: {0}; the call may have taken effect and may be repeated")]
    NotDurable(PublishError),
    /// The queue gave no answer.
    #[error("the queue gives no answer just now")]
    QueueAway,
    /// The machine gives no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandom,
    /// A stored value cannot be read.
    #[error("a stored value cannot be read; the log says which")]
    Unreadable,
}

/// What a kind of error means to a program: the code, a constant word, and what is counted.
struct Meaning {
    code: Code,
    reason: &'static str,
    counted: Option<RefusedAs>,
}

impl Error {
    /// Returns the meaning. No wildcard: a new variant must choose.
    fn meaning(&self) -> Meaning {
        use RefusedAs as As;
        let (code, reason, counted) = match self {
            Self::Invalid(Invalid { problem: Problem::NotYet(_), .. }) => {
                (Code::Unimplemented, "NOT_AVAILABLE_YET", Some(As::Invalid))
            }
            Self::Invalid(_) => (Code::InvalidArgument, "INVALID_FIELD", Some(As::Invalid)),
            Self::Refused(refusal) => return Meaning::of(refusal),
            Self::NoKey => (Code::Unauthenticated, "NO_API_KEY", Some(As::Unauthenticated)),
            Self::BadKey => (Code::Unauthenticated, "BAD_API_KEY", Some(As::Unauthenticated)),
            Self::ExpiredKey(_) => (Code::Unauthenticated, "EXPIRED_API_KEY", Some(As::ExpiredKey)),
            Self::Denied(_) => (Code::PermissionDenied, "ROLE_MAY_NOT", None),
            Self::NotFound(_) => (Code::NotFound, "NOT_FOUND", None),
            Self::Exists(_) => (Code::AlreadyExists, "EXISTS", None),
            Self::NotApproved(_) => (Code::FailedPrecondition, "TEMPLATE_NOT_APPROVED", Some(As::Invalid)),
            Self::TooManyTemplates => (Code::ResourceExhausted, "TOO_MANY_TEMPLATES", None),
            Self::TooManyKeys => (Code::FailedPrecondition, "TOO_MANY_KEYS", None),
            Self::RealClock => (Code::FailedPrecondition, "SYSTEM_CLOCK", None),
            Self::NotYet(_) => (Code::Unimplemented, "NOT_AVAILABLE_YET", None),
            Self::TooManyWatchers(_) => (Code::ResourceExhausted, "TOO_MANY_WATCHERS", None),
            Self::LedgerAway => (Code::Unavailable, "LEDGER_AWAY", None),
            Self::LimitsAway => (Code::Unavailable, "LIMITS_AWAY", None),
            Self::TooManyRules => (Code::ResourceExhausted, "TOO_MANY_RULES", None),
            Self::NotDurable(_) => (Code::Unavailable, "NOT_DURABLE", None),
            Self::QueueAway => (Code::Unavailable, "QUEUE_AWAY", None),
            Self::NoRandom => (Code::Internal, "NO_RANDOM", None),
            Self::Unreadable => (Code::Internal, "UNREADABLE", None),
        };
        Meaning { code, reason, counted }
    }

    /// Returns the same, seen from the message that holds the field at fault as `parent`.
    pub(crate) fn within(self, parent: &str) -> Self {
        match self {
            Self::Invalid(invalid) => Self::Invalid(invalid.within(parent)),
            other => other,
        }
    }

    /// Returns the constant word for programs.
    pub(crate) fn reason(&self) -> &'static str {
        self.meaning().reason
    }

    /// Returns what a refused submit is counted as.
    pub(crate) fn counted(&self) -> RefusedAs {
        self.meaning().counted.unwrap_or(RefusedAs::Invalid)
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(
                Refusal::OverRate { retry_after }
                | Refusal::TooManyOpen { retry_after }
                | Refusal::OverQuota { retry_after, .. },
            ) => Some(*retry_after),
            _ if self.meaning().code == Code::Unavailable => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// Returns what programs are told beside the reason.
    fn metadata(&self) -> HashMap<String, String> {
        match self {
            Self::Refused(Refusal::OverQuota { quota, .. } | Refusal::NoPrice { quota, .. }) => {
                HashMap::from([("quota".to_owned(), quota.to_string())])
            }
            _ => HashMap::new(),
        }
    }

    fn field(&self) -> Option<&str> {
        match self {
            Self::Invalid(invalid) => Some(&invalid.path),
            Self::Refused(Refusal::TooFar) => Some("spec.schedule.send_at"),
            Self::Refused(Refusal::ExpiresFirst | Refusal::ClosedUntilExpiry { .. }) => {
                Some("spec.schedule.expires_at")
            }
            Self::Refused(Refusal::NeverOpen(_)) => Some("spec.schedule.windows"),
            Self::Refused(Refusal::NoZone(_)) => Some("recipient.time_zone"),
            Self::Refused(Refusal::NoProviderForStep(step, _) | Refusal::SenderPoolInStep(step)) => {
                STEPS.get(*step).copied()
            }
            Self::Refused(Refusal::Lacks { step: None, .. }) => Some("spec.call"),
            Self::Refused(Refusal::Lacks { step: Some(step), .. }) => STEPS.get(*step).copied(),
            Self::Refused(Refusal::KeyConflict) => Some("idempotency_key"),
            Self::Refused(Refusal::NoticesOnly(_)) => Some("spec.class"),
            _ => None,
        }
    }
}

/// The fields of the steps of a fallback chain.
const STEPS: [&str; STEPS_MAX] = ["spec.fallback[0]", "spec.fallback[1]", "spec.fallback[2]"];

impl Meaning {
    fn of(refusal: &Refusal) -> Self {
        use RefusedAs as As;
        let (code, reason, counted) = match refusal {
            Refusal::NoProvider(_) | Refusal::NoProviderForStep(..) => {
                (Code::FailedPrecondition, "NO_PROVIDER", As::NoProvider)
            }
            Refusal::TooFar
            | Refusal::ExpiresFirst
            | Refusal::ClosedUntilExpiry { .. }
            | Refusal::NeverOpen(_)
            | Refusal::SenderPoolInStep(_)
            | Refusal::NoZone(_) => (Code::InvalidArgument, "INVALID_FIELD", As::Invalid),
            Refusal::Lacks { .. } => (Code::InvalidArgument, "UNSUPPORTED_BY_POOL", As::Invalid),
            Refusal::NoticesOnly(_) => (Code::InvalidArgument, "NOTICES_ONLY", As::Invalid),
            Refusal::TooLarge => (Code::InvalidArgument, "TOO_LARGE", As::Invalid),
            Refusal::KeyConflict => (Code::FailedPrecondition, "KEY_CONFLICT", As::KeyConflict),
            Refusal::OverRate { .. } => (Code::ResourceExhausted, "OVER_RATE", As::Rate),
            Refusal::TooManyOpen { .. } => (Code::ResourceExhausted, "TOO_MANY_OPEN", As::Quota),
            Refusal::OverQuota { .. } | Refusal::OverQuotaBefore => (Code::ResourceExhausted, "OVER_QUOTA", As::Quota),
            Refusal::NoPrice { .. } => (Code::FailedPrecondition, "NO_PRICE", As::NoProvider),
            Refusal::QuotasAway => (Code::Unavailable, "QUOTAS_AWAY", As::KeysAway),
            Refusal::OverBurst(_) => (Code::InvalidArgument, "OVER_BURST", As::Rate),
            Refusal::Draining => (Code::Unavailable, "DRAINING", As::Draining),
            Refusal::KeysAway => (Code::Unavailable, "KEYS_AWAY", As::KeysAway),
            Refusal::CollapseAway => (Code::Unavailable, "COLLAPSE_AWAY", As::KeysAway),
            Refusal::NotDurable(_) => (Code::Unavailable, "NOT_DURABLE", As::NotDurable),
        };
        Self { code, reason, counted: Some(counted) }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        let Meaning { code, reason, .. } = error.meaning();
        let message = error.to_string();
        let mut details = ErrorDetails::with_error_info(reason, DOMAIN, error.metadata());
        if let (Code::InvalidArgument, Some(field)) = (code, error.field()) {
            details.add_bad_request_violation(field, message.as_str());
        }
        if let Some(after) = error.retry_after() {
            details.set_retry_info(Some(after));
        }
        Self::with_error_details(code, message, details)
    }
}

impl From<Error> for pb::Refusal {
    fn from(error: Error) -> Self {
        let Meaning { code, reason, .. } = error.meaning();
        Self {
            code: code.into(),
            reason: reason.into(),
            field: error.field().unwrap_or_default().into(),
            message: error.to_string(),
            retry_after: error.retry_after().map(super::convert::duration_to_pb),
        }
    }
}

impl From<LedgerError> for Error {
    fn from(error: LedgerError) -> Self {
        match &error {
            LedgerError::Unreachable(_) | LedgerError::Overtaken => tracing::warn!(%error, "the ledger gave no answer"),
            LedgerError::Refused(_) | LedgerError::Corrupt(_) => tracing::error!(%error, "the ledger failed"),
        }
        Self::LedgerAway
    }
}

impl From<QueueError> for Error {
    fn from(error: QueueError) -> Self {
        tracing::warn!(%error, "the queue gave no answer");
        Self::QueueAway
    }
}

impl From<LimitsError> for Error {
    fn from(error: LimitsError) -> Self {
        if error == LimitsError::TooManyRules {
            return Self::TooManyRules;
        }
        tracing::warn!(%error, "limits gave no answer");
        Self::LimitsAway
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::cap::CalendarUnit;

    #[track_caller]
    fn check(error: Error, code: Code, field: Option<&str>, retries: bool) {
        let status = Status::from(error.clone());
        let details = status.get_error_details();
        let violations = details.bad_request().map(|bad| bad.field_violations.clone()).unwrap_or_default();
        assert_eq!(status.code(), code, "{error:?}");
        assert_eq!(violations.first().map(|violation| violation.field.as_str()), field, "{error:?}");
        assert_eq!(details.retry_info().is_some(), retries, "{error:?}");
        assert!(details.error_info().is_some_and(|info| !info.reason.is_empty()), "{error:?}");
        let refusal = pb::Refusal::from(error);
        assert_eq!((refusal.code, refusal.message.as_str()), (code.into(), status.message()));
        assert_eq!(refusal.retry_after.is_some(), retries);
    }

    #[test]
    fn each_error_has_its_code_and_details() {
        let invalid = Invalid::new("items[3].recipient.phone", Problem::Missing);
        check(Error::Invalid(invalid), Code::InvalidArgument, Some("items[3].recipient.phone"), false);
        check(Error::Invalid(Invalid::new("links", Problem::NotYet("links are"))), Code::Unimplemented, None, false);
        check(Error::Refused(Refusal::KeyConflict), Code::FailedPrecondition, None, false);
        let retry_after = Duration::from_millis(20);
        check(Error::Refused(Refusal::OverRate { retry_after }), Code::ResourceExhausted, None, true);
        let daily = Refusal::OverQuota { quota: "daily".parse().unwrap(), per: CalendarUnit::Day, retry_after };
        let status = Status::from(Error::Refused(daily.clone()));
        assert_eq!(status.get_error_details().error_info().unwrap().metadata["quota"], "daily");
        check(Error::Refused(daily), Code::ResourceExhausted, None, true);
        check(Error::Refused(Refusal::QuotasAway), Code::Unavailable, None, true);
        check(Error::Refused(Refusal::NotDurable(PublishError::Full)), Code::Unavailable, None, true);
        check(Error::Refused(Refusal::ExpiresFirst), Code::InvalidArgument, Some("spec.schedule.expires_at"), false);
        check(Error::NoKey, Code::Unauthenticated, None, false);
        let expired = Error::ExpiredKey(UnixMicros(0));
        assert!(expired.to_string().contains("expired at 1970-01-01T00:00:00Z"), "{expired}");
        check(expired, Code::Unauthenticated, None, false);
        check(Error::NotFound("job"), Code::NotFound, None, false);
        check(Error::LimitsAway, Code::Unavailable, None, true);
    }

    #[test]
    fn the_inside_is_not_told() {
        let error = Error::from(LedgerError::Unreachable("connect to 10.0.0.7:5432 as postrider".into()));
        assert!(!Status::from(error).message().contains("10.0.0.7"));
    }
}
