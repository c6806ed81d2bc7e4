//! May it enter? Settles the id, guards rates and quotas, and makes accepted jobs durable with one publish.
//!
//! An answer of `Ok` means that the frame of every accepted job was confirmed by its work queue and by record.

mod guard;
mod intake;
mod open;
mod plan;
mod quotas;

pub use guard::Guard;
pub use intake::{Admission, Expected, Ports, Rehearsal, Settings};

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::DateTime;
use uuid::Uuid;

use crate::domain::call::Skill;
use crate::domain::cap::CalendarUnit;
use crate::domain::ids::{JobId, PoolId, RuleName};
use crate::domain::job::{Class, Content, Kind, OnMissed, Origin};
use crate::domain::keys::Fingerprint;
use crate::domain::money::Currency;
use crate::domain::recipient::Recipient;
use crate::domain::time::UnixMicros;
use crate::domain::trace::Trace;
use crate::domain::window::Hours;
use crate::ledger::Tenant;
use crate::policy::windows;
use crate::queue::PublishError;

/// Most items in one request.
pub const ITEMS_MAX: usize = 10_000;
/// How far ahead a job may be scheduled.
pub const AHEAD_MAX: Duration = Duration::from_secs(400 * 24 * 3600);
/// How long a key is remembered after the job's due time.
pub const KEY_LIFE: Duration = Duration::from_secs(24 * 3600);

/// A checked request to accept one job, or a batch of jobs that share everything but recipient and parameters.
#[derive(Clone)]
pub struct Request {
    /// Whose jobs; from the credential.
    pub tenant: Arc<Tenant>,
    /// By which means they go.
    pub kind: Kind,
    /// Which rules bind them.
    pub class: Class,
    /// What they say.
    pub content: Content,
    /// What their calls ask of whoever makes them.
    pub asks: Vec<Skill>,
    /// What follows each where it does not get through.
    pub fallback: Vec<Fallback>,
    /// The sender shown; empty: the provider's default.
    pub sender: Box<str>,
    /// What they are about; empty: none.
    pub topic: Box<str>,
    /// The tenant's labels.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Where they come from.
    pub origin: Origin,
    /// -100 to 100.
    pub priority: i8,
    /// What follows a missed window.
    pub on_missed: OnMissed,
    /// When they start.
    pub start: Start,
    /// The windows that the tenant's are narrowed to; none: as they are.
    pub windows: Vec<Hours>,
    /// When they expire; `None`: the class's default after the first moment at which each may be sent.
    pub expires_at: Option<UnixMicros>,
    /// The idempotency key with the fingerprint of the request.
    pub key: Option<(Box<str>, Fingerprint)>,
    /// The trace that the jobs belong to, if the call is sampled.
    pub trace: Option<Trace>,
    /// Whether the items form a batch (an id of its own, item ids derived from it).
    pub batch: Batch,
    /// The items that passed their checks.
    pub items: Vec<Item>,
}

/// A step that follows jobs of a request.
#[derive(Clone)]
pub struct Fallback {
    /// By which means it goes.
    pub kind: Kind,
    /// What it says.
    pub content: Content,
    /// What its calls ask of whoever makes them.
    pub asks: Vec<Skill>,
    /// The sender shown; empty: the provider's default.
    pub sender: Box<str>,
    /// How long the job before it may take to be delivered.
    pub after: Duration,
}

/// When jobs start. What has passed means now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Start {
    /// As soon as they may.
    Now,
    /// All at the same moment.
    At(UnixMicros),
    /// At the same time of day, each where its recipient is.
    Local(DateTime),
}

/// Whether a request is one job or a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Batch {
    /// One job.
    Single,
    /// A batch, even of one item.
    Many,
}

/// One recipient of a request.
#[derive(Clone)]
pub struct Item {
    /// Its place in the request as it was sent, refused items included.
    pub index: u32,
    /// Whom it reaches.
    pub recipient: Recipient,
    /// Values for the placeholders.
    pub params: Vec<(Box<str>, Box<str>)>,
    /// The key to cancel it by; empty: none.
    pub cancel_key: Box<str>,
    /// The key under which the newest replaces older ones; empty: none.
    pub collapse_key: Box<str>,
    /// Its own start; `None`: the request's.
    pub send_at: Option<UnixMicros>,
}

impl Item {
    /// Returns about how many bytes it brings to a frame.
    pub fn weight(&self) -> usize {
        let params: usize = self.params.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        params + self.cancel_key.len() + self.collapse_key.len()
    }
}

/// What was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Accepted {
    /// The batch's id.
    pub batch: Option<Uuid>,
    /// The items' places and ids, in the order of the request.
    pub jobs: Vec<(u32, JobId)>,
    /// The places of items of a batch that can never be sent, and why.
    pub refused: Vec<(u32, Refusal)>,
    /// Whether the jobs wait for their time.
    pub scheduled: bool,
}

/// Why nothing of the request was accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No provider in the settings carries this kind.
    #[error("no provider carries {0} jobs: add a [[provider]] of that kind to the settings")]
    NoProvider(Kind),
    /// No provider in the settings carries the kind of a step that follows.
    #[error("no provider carries {1} jobs, as fallback[{0}] is one: add a [[provider]] of that kind to the settings")]
    NoProviderForStep(usize, Kind),
    /// The pool carries service notices alone.
    #[error(
        "template messages of WeChat are service notices and carry no marketing, and the pool {0} sends such: use another \
         class for what the recipient asked for, or route marketing to another pool"
    )]
    NoticesOnly(PoolId),
    /// A provider of the pool that would carry these calls cannot do what they ask for.
    #[error("a provider of the pool {pool}, which carries {}, {skill}", which(*.step))]
    Lacks {
        /// The step that follows; `None`: the jobs themselves.
        step: Option<usize>,
        /// The pool.
        pool: PoolId,
        /// What it cannot do.
        skill: Skill,
    },
    /// A step that follows names a pool of senders.
    #[error(
        "fallback[{0}].sender is a pool of senders, and a step that follows leaves from one: name a sender, or none"
    )]
    SenderPoolInStep(usize),
    /// The due time is out of reach.
    #[error("send_at is more than 400 days ahead")]
    TooFar,
    /// It would expire before it may be sent.
    #[error("expires_at is not after the time at which the job may be sent")]
    ExpiresFirst,
    /// It would expire before the window opens.
    #[error(
        "expires_at is not after {}, when {} opens next", moment(*.open_at), windows::words(.by)
    )]
    ClosedUntilExpiry {
        /// The window, as [`windows`] names it.
        by: Box<str>,
        /// When it opens.
        open_at: UnixMicros,
    },
    /// There is no moment at which it may be sent.
    #[error("{} is never open when the other send windows of the job are", windows::words(.0))]
    NeverOpen(Box<str>),
    /// Its recipient's zone is needed and unknown.
    #[error(
        "the recipient's time zone is unknown, and {0} binds this job: give recipient.time_zone, such as \"Asia/Shanghai\", \
         or a number whose country has one time"
    )]
    NoZone(&'static str),
    /// The key was used for another request.
    #[error("the idempotency key was used for a different request")]
    KeyConflict,
    /// The tenant submits faster than it may.
    #[error("more jobs per second than this tenant's ingress rate allows")]
    OverRate {
        /// When to come back.
        retry_after: Duration,
    },
    /// The tenant has too many open jobs.
    #[error("more open jobs than this tenant's outstanding_max allows")]
    TooManyOpen {
        /// When to come back.
        retry_after: Duration,
    },
    /// A quota has no room.
    #[error("the quota {quota} of this tenant is used up for {}", quotas::this(*.per))]
    OverQuota {
        /// The quota.
        quota: RuleName,
        /// Its window.
        per: CalendarUnit,
        /// When the next window begins.
        retry_after: Duration,
    },
    /// A quota had no room for this item when the batch came first.
    #[error("a quota had no room for this item when its batch was first submitted: submit it under another key")]
    OverQuotaBefore,
    /// A quota counts money, and nobody knows what the job may cost.
    #[error(
        "the quota {quota} of this tenant counts {currency}, and not every provider of the pool {pool} has a price in that \
         currency"
    )]
    NoPrice {
        /// The quota.
        quota: RuleName,
        /// What it counts.
        currency: Currency,
        /// The pool that would carry the job.
        pool: PoolId,
    },
    /// Limits cannot say what is left of a quota.
    #[error("the quotas of this tenant cannot be checked just now")]
    QuotasAway,
    /// More jobs in one request than the ingress rate's burst ever allows.
    #[error("the request has more jobs than this tenant's ingress burst of {0} ever allows: send smaller batches")]
    OverBurst(u32),
    /// The process is stopping.
    #[error("this process is shutting down")]
    Draining,
    /// Limits cannot say whether the key was used before.
    #[error("idempotency keys cannot be checked just now")]
    KeysAway,
    /// It was accepted, and older jobs may not be replaced by it.
    #[error(
        "collapse keys cannot be noted just now: the job may go out beside the older ones it replaces; repeat the call with the same key"
    )]
    CollapseAway,
    /// Not known to be durable: it may have been accepted.
    #[error("not known to be durable: {0}")]
    NotDurable(PublishError),
    /// One job does not fit a frame.
    #[error("a job with its content and parameters takes more than a frame's 64 KiB")]
    TooLarge,
}

/// Returns what is carried: a step that follows, or the jobs themselves.
fn which(step: Option<usize>) -> String {
    step.map_or_else(|| "these calls".to_owned(), |step| format!("fallback[{step}]"))
}

/// Returns a moment as people read it, in UTC.
pub fn moment(at: UnixMicros) -> String {
    jiff::Timestamp::from_microsecond(at.0).map_or_else(|_| format!("{at:?}"), |at| at.to_string())
}
