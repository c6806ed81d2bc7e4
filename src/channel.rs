//! The channel port: hand one job to the outside, through a provider.

pub mod call;
pub mod callback;
pub mod digest;
pub mod http;
pub mod login;
pub mod simulated;
pub mod sms;
pub mod template;
pub mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::tz::TimeZone;
use tokio::sync::{mpsc, oneshot};

use self::call::{CallNews, Carried, Followed, OptedOut};
use crate::domain::call::CallReport;
use crate::domain::event::{Receipt, Reply};
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::job::{Class, Content, Kind};
use crate::domain::money::Money;
use crate::domain::recipient::Recipient;
use crate::domain::signal::Signal;
use crate::domain::template::{Approval, Template};
use crate::domain::time::UnixMicros;

/// One job on its way to a provider, with its content filled in.
#[derive(Clone)]
pub struct Handover {
    /// The job: the client reference, the same for every attempt.
    pub job: JobId,
    /// The attempt, from 1.
    pub attempt: u16,
    /// By which means.
    pub kind: Kind,
    /// How much it matters.
    pub class: Class,
    /// Whom it reaches.
    pub recipient: Arc<Recipient>,
    /// The sender shown; empty: the provider's default.
    pub sender: Box<str>,
    /// What it says. A text has its placeholders filled in.
    pub content: Content,
    /// Values for a template or flow; of a stored template, one for each of its variables, in their order.
    pub params: Vec<(Box<str>, Box<str>)>,
    /// The stored template that it says, if it does.
    pub template: Option<Filled>,
    /// How long the provider may keep trying; from the job's expiry.
    pub validity: Duration,
    /// When it expires: a message that waits for a connection or a token until then is not handed over.
    pub expires_at: UnixMicros,
    /// What the provider is told so that it leaves from the number of its signature; `None`: as the provider is set up.
    pub extension: Option<Box<str>>,
    /// What else a call is given; `None` for everything else, and for calls of providers without lines of ours.
    pub call: Option<Arc<Carried>>,
}

/// A stored template, as it is said to one recipient.
#[derive(Clone)]
pub struct Filled {
    /// The template.
    pub template: Arc<Template>,
    /// The locale that was chosen for the recipient.
    pub locale: Box<str>,
    /// What it says by the job's means, filled in; empty where the vendor alone has the text.
    pub text: Box<str>,
    /// Its id at the provider that it is handed to, where it has one there and is approved.
    pub id: Option<Box<str>>,
}

impl Handover {
    /// Returns the same on its way through a provider: a stored template has its id there, and the sender his number.
    pub fn through(mut self, provider: &ProviderId, extension: Option<&str>) -> Self {
        self.extension = extension.map(Into::into);
        if let Some(filled) = &mut self.template {
            let there = filled.template.at(provider).filter(|at| at.approval == Approval::Approved);
            filled.id = there.map(|at| at.template_id.clone());
        }
        self
    }

    /// Returns the id of its template at the provider that it is handed to.
    pub fn template_id(&self) -> Option<&str> {
        self.template.as_ref()?.id.as_deref()
    }
}

/// What a provider answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// It has the job.
    Taken {
        /// Its ids, one per segment; empty where receipts carry our reference.
        message_ids: Vec<Box<str>>,
        /// Segments billed, at least 1.
        segments: u8,
        /// Whether a receipt will follow.
        receipt_expected: bool,
    },
    /// It refused for good: the same job would be refused again.
    Refused {
        /// The provider's code, at most 32 characters.
        code: Box<str>,
    },
    /// It takes no more just now. Definitely not sent; costs no attempt.
    Throttled {
        /// When it may be asked again, if it says so.
        retry_after: Option<Duration>,
    },
    /// It definitely did not go out: no connection, or the provider failed before taking it. May be tried again.
    NotSent {
        /// A short code for the log and the ledger.
        code: Box<str>,
        /// When it may be tried again at the earliest, if the provider says it: of this job, not of others.
        retry_after: Option<Duration>,
    },
    /// It definitely did not go out, and nothing does for now: the account has no money, is suspended, or has had all that
    /// it may send. Others of the pool may take it.
    Closed {
        /// The provider's code, at most 32 characters.
        code: Box<str>,
        /// When the account may be tried again.
        opens: Opens,
    },
    /// It was handed over, wholly or in part, and no answer came: nobody knows.
    NoAnswer,
}

/// When an account that takes nothing may be tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opens {
    /// After this time: somebody has to see to it, and nobody says when.
    After(Duration),
    /// When the next day begins where clocks are ahead of UTC by so much, and every hour until then: the limit may be raised.
    NextDay {
        /// How much.
        ahead: Duration,
    },
    /// The same when the next month begins there.
    NextMonth {
        /// How much.
        ahead: Duration,
    },
}

impl Answer {
    /// Returns the answer that says: it expired before it could go, for which nobody is to blame.
    pub(crate) fn too_late() -> Self {
        Self::NotSent { code: http::client::TOO_LATE.into(), retry_after: Some(Duration::ZERO) }
    }

    /// Returns whether the job did not go out: what was taken for it is free again.
    pub fn definitely_not_sent(&self) -> bool {
        match self {
            Self::Refused { .. } | Self::Throttled { .. } | Self::NotSent { .. } | Self::Closed { .. } => true,
            Self::Taken { .. } | Self::NoAnswer => false,
        }
    }

    /// Returns whether it says that the provider does not work, rather than that this job cannot go: then others would
    /// fare no better.
    pub fn blames_provider(&self) -> bool {
        match self {
            Self::NoAnswer | Self::Closed { .. } | Self::NotSent { retry_after: None, .. } => true,
            Self::NotSent { retry_after: Some(_), .. }
            | Self::Taken { .. }
            | Self::Refused { .. }
            | Self::Throttled { .. } => false,
        }
    }
}

impl Opens {
    /// How often an account is tried whose day or month is used up.
    const EVERY: Duration = Duration::from_secs(3_600);

    /// Returns when the account may be tried again.
    pub fn at(self, now: UnixMicros) -> UnixMicros {
        let (next, ahead) = match self {
            Self::After(wait) => return now.plus(wait),
            Self::NextDay { ahead } => (next_day(now.plus(ahead)), ahead),
            Self::NextMonth { ahead } => (next_month(now.plus(ahead)), ahead),
        };
        next.map_or(UnixMicros::MAX, |next| next.minus(ahead)).min(now.plus(Self::EVERY))
    }
}

/// Returns when the next day begins, in UTC.
fn next_day(now: UnixMicros) -> Option<UnixMicros> {
    begins(date(now)?.tomorrow().ok()?)
}

/// Returns when the next month begins, in UTC.
fn next_month(now: UnixMicros) -> Option<UnixMicros> {
    begins(date(now)?.last_of_month().tomorrow().ok()?)
}

fn date(at: UnixMicros) -> Option<jiff::civil::Date> {
    jiff::Timestamp::from_microsecond(at.0).ok().map(|at| at.to_zoned(TimeZone::UTC).date())
}

fn begins(date: jiff::civil::Date) -> Option<UnixMicros> {
    let midnight = date.at(0, 0, 0, 0).to_zoned(TimeZone::UTC).ok()?;
    Some(UnixMicros(midnight.timestamp().as_microsecond()))
}

/// The answer to hand-over number `index` of a call.
pub type Answered = (usize, Answer);

/// Says something that a provider reported by itself. The provider is answered once `done` is told that it is durable;
/// dropped, it means "not durable", and the provider will say it again.
pub struct Inbound {
    /// What it says.
    pub news: News,
    /// Told once the news is durable.
    pub done: oneshot::Sender<()>,
}

/// What a provider says by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// About an attempt.
    Receipt(Receipt),
    /// From a recipient.
    Reply(Reply),
    /// About a call.
    Call(CallNews),
    /// About an attempt to call somebody whose job the provider does not name: how it went, or where its recording is.
    CallReceipt(Receipt, Box<CallReport>),
    /// From a callee.
    OptOut(OptedOut),
    /// A job is to follow from a call, now.
    FollowUp(Box<Followed>),
    /// About a recipient.
    Signal(Box<Signal>),
}

/// What dispatch needs to know of a provider at any moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Health {
    /// Whether it has a connection (or needs none).
    pub up: bool,
    /// What it is believed to carry per second now.
    pub rate_per_s: f64,
    /// Hand-overs in flight, in window units.
    pub in_flight: u32,
    /// Most hand-overs in flight.
    pub window: u32,
}

/// A provider that jobs can be handed to.
///
/// # Contract
/// - `submit` never blocks for longer than it takes to queue the hand-overs; each is answered exactly once on `answers`,
///   in any order, within the provider's response time-out.
/// - Callers hold a permit for what they submit (see dispatch): a provider refuses more than its window with `Throttled`.
/// - After `submit` wrote the first byte of a job, only `Taken`, `Refused`, `Throttled` or `NoAnswer` may follow.
pub trait Channel: Send + Sync + 'static {
    /// Returns how many units of the window and of the rate the hand-over takes: its segments, or one where the provider
    /// counts jobs.
    fn cost(&self, handover: &Handover) -> u32;

    /// Returns how many segments the provider counts it as, at least 1: what caps over segments count.
    fn segments(&self, handover: &Handover) -> u32 {
        self.cost(handover)
    }

    /// Returns what stands for the one-time consent that a job needs here, and whose account it is given to, where this
    /// provider counts them; `provider` is its own id.
    fn consent(&self, _handover: &Handover, _provider: &ProviderId) -> Option<(TenantId, String)> {
        None
    }

    /// Returns whether a refusal with this code says that there is no such consent left.
    fn says_no_consent(&self, _code: &str) -> bool {
        false
    }

    /// Hands jobs over.
    fn submit(&self, handovers: Vec<Handover>, answers: mpsc::UnboundedSender<Answered>);

    /// Returns how the provider is.
    fn health(&self) -> Health;

    /// Returns whether this node may have a connection to it at all: other nodes may have all there are.
    fn has_place(&self) -> bool {
        true
    }
}

/// What a provider is, apart from its connection.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Its id.
    pub id: ProviderId,
    /// The kinds it carries.
    pub kinds: Vec<Kind>,
    /// How long an answer may take before it counts as none.
    pub response_timeout: Duration,
    /// What one segment, template message or begun minute of a call costs; `None`: no price is known.
    pub price: Option<Money>,
    /// An employee is asked to let go out what it takes.
    pub confirmed: bool,
}

impl fmt::Debug for Handover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never recipient or content: this ends in logs and panics.
        f.debug_struct("Handover").field("job", &self.job).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.news.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_opens_when_its_day_or_month_begins_and_is_tried_every_hour() {
        let china = Duration::from_secs(8 * 3_600);
        let (day, month) = (Opens::NextDay { ahead: china }, Opens::NextMonth { ahead: china });
        let check = |opens: Opens, now: &str, expected: &str| {
            let at = |text: &str| UnixMicros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
            assert_eq!(opens.at(at(now)), at(expected), "{opens:?} at {now}");
        };
        check(day, "2026-11-28T15:40:00+08:00", "2026-11-28T16:40:00+08:00");
        check(day, "2026-11-28T23:40:00+08:00", "2026-11-29T00:00:00+08:00");
        check(day, "2026-11-29T00:00:00+08:00", "2026-11-29T01:00:00+08:00");
        check(month, "2026-11-28T23:40:00+08:00", "2026-11-29T00:40:00+08:00");
        check(month, "2026-12-31T23:59:59+08:00", "2027-01-01T00:00:00+08:00");
        check(Opens::After(Duration::from_secs(60)), "2026-12-31T23:59:59Z", "2027-01-01T00:00:59Z");
        assert_eq!(day.at(UnixMicros::MAX), UnixMicros::MAX);
    }
}
