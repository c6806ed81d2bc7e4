//! What becomes of a job: states, outcomes, and the facts that the ledger is made of.

use std::fmt;

use super::call::CallResult;
use super::ids::{JobId, ProviderId, TenantId};
use super::job::{Envelope, Kind, words};
use super::money::Money;
use super::rule::JobRule;
use super::signal::Signal;
use super::suppression::{Plain, Source, Suppression};
use super::time::UnixMicros;

words! {
    /// Where a job stands. Later values outrank earlier ones until one is terminal; the first terminal one wins.
    State {
        /// Durable, nothing else known.
        Accepted = "accepted",
        /// Waits for its time or its turn.
        Scheduled = "scheduled",
        /// Waits for a person's decision.
        Held = "held",
        /// May be sent now.
        Ready = "ready",
        /// Being handed over.
        Sending = "sending",
        /// Handed over, no answer.
        Unresolved = "unresolved",
        /// The provider has it.
        Sent = "sent",
        /// A vendor waits for an employee's confirmation.
        AwaitingOperator = "awaiting_operator",
        /// A call is being set up.
        Dialing = "dialing",
        /// The phone rings.
        Ringing = "ringing",
        /// Somebody answered.
        Answered = "answered",
        /// It has its outcome.
        Settled = "settled",
    }
}

words! {
    /// The final fate of a job, without its reason; exactly one per job.
    Fate {
        /// The recipient has it.
        Delivered = "delivered",
        /// The provider gave up on it.
        Undelivered = "undelivered",
        /// Sent by a route that has no receipts.
        Sent = "sent",
        /// A call that was answered and ended.
        Completed = "completed",
        /// An opt-out or a cap stopped it.
        Suppressed = "suppressed",
        /// Its time ran out.
        Expired = "expired",
        /// Its owner took it back.
        Cancelled = "cancelled",
        /// The provider refused it for good.
        Rejected = "rejected",
        /// It could not be handed over.
        Failed = "failed",
        /// Handed over or sent, and the receipt deadline has passed.
        Unknown = "unknown",
    }
}

/// The final fate of a job with its reason.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The fate.
    pub fate: Fate,
    /// A short code: a rule's name, `opt_out`, a provider's code, a call result. Empty where the fate says it all.
    pub reason: Box<str>,
}

/// A change of a job's state.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// The job.
    pub job: JobId,
    /// Its owner.
    pub tenant: TenantId,
    /// Its kind.
    pub kind: Kind,
    /// Its class.
    pub class: super::job::Class,
    /// When it happened.
    pub at: UnixMicros,
    /// The attempt it belongs to.
    pub attempt: u16,
    /// What happened.
    pub change: Change,
}

/// In front of a provider's code, where that is why a job waits: no rule's name has a colon.
pub const PROVIDER_REASON: &str = "provider:";
/// Why a job waits that is in the dead-letter queue, and what it is settled with there.
pub const DEAD_LETTER: &str = "dead_letter";

/// What happened to a job.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// It waits until `until` because of `reason`: a rule's name, `rate`, a provider's code behind [`PROVIDER_REASON`] ...
    Deferred {
        /// Why.
        reason: Box<str>,
        /// Until when.
        until: UnixMicros,
    },
    /// A provider took it.
    Sent {
        /// Which.
        provider: ProviderId,
        /// The provider's ids for it, one per segment; empty where receipts carry our reference.
        message_ids: Vec<Box<str>>,
        /// Whether a receipt will follow; without one, sent is the outcome.
        receipt_expected: bool,
        /// What it cost; `None`: no price is known.
        cost: Option<Money>,
    },
    /// It was handed over and no answer came.
    Unresolved {
        /// To whom, if that is known: a copy that meets a claim does not know who holds it.
        provider: Option<ProviderId>,
    },
    /// It moved on without reaching its end: a call that rings, an operator who is asked, an attempt that did not go out and
    /// is followed by another.
    Progress(State),
    /// One attempt to call somebody has ended; what follows from that is told beside it.
    Called {
        /// Over which trunk.
        provider: ProviderId,
        /// How.
        result: CallResult,
        /// How it went, sealed.
        report: Box<str>,
        /// What it cost; `None`: no price is known.
        cost: Option<Money>,
    },
    /// A call was recorded, as its provider tells beside how it went: before that or after it, also once the job has its
    /// outcome.
    Recorded {
        /// A report that says where the recording is and nothing else, sealed.
        report: Box<str>,
    },
    /// It has its outcome.
    Settled(Outcome),
}

/// The provider's later word on one attempt, before it is matched to its job.
#[derive(Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who says it.
    pub provider: ProviderId,
    /// The provider's id for the message or segment; empty when `job` is given.
    pub message_id: Box<str>,
    /// Our own reference, where the provider carries it back.
    pub job: Option<JobId>,
    /// What it says.
    pub report: Report,
    /// The provider's own code, raw, at most 32 characters; empty: none. Of a call that ended or was recorded, how it went,
    /// sealed; empty: nothing is known of that.
    pub code: Box<str>,
    /// When it came.
    pub at: UnixMicros,
}

/// What a driver says of one attempt to call somebody.
#[derive(Clone, PartialEq, Eq)]
pub struct Called {
    /// Who says it.
    pub provider: ProviderId,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u16,
    /// When it happened.
    pub at: UnixMicros,
    /// What happened.
    pub step: CallStep,
}

/// What happened in a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CallStep {
    /// It moved on.
    Moved(State),
    /// It ended.
    Ended {
        /// How.
        result: CallResult,
        /// How it went, sealed.
        report: Box<str>,
        /// What it cost; `None`: no price is known.
        cost: Option<Money>,
        /// What is left of the call; `None`: whoever tells of its end has nothing of its job.
        left: Option<Box<Left>>,
    },
    /// It was hung up before anybody answered, because its job was taken back: this is the job's outcome.
    Withdrawn(Outcome),
    /// It is gone, and nobody knows how it ended.
    Lost,
}

/// What is left of a call that ended, for what follows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Left {
    /// The job, alone in its envelope, as it would be called again.
    pub again: Envelope,
    /// The places, in its plan, of what follows this call.
    pub follows: Vec<u8>,
    /// What was pressed, under the names of the nodes that asked for it.
    pub heard: Heard,
}

/// What was pressed in a call, under the names of the nodes that asked for it.
pub type Heard = Vec<(Box<str>, Box<str>)>;

/// Something that follows a call and has not happened yet.
#[derive(Clone, PartialEq, Eq)]
pub struct Owed {
    /// The call's job, alone in its envelope.
    pub call: Envelope,
    /// Its place in the job's plan.
    pub place: u8,
    /// What was pressed in the call.
    pub heard: Heard,
    /// When the call ended.
    pub at: UnixMicros,
}

/// What a receipt says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// On its way: changes nothing.
    Pending,
    /// A call moved on.
    Progress(State),
    /// The end of the segment or job.
    Final(Fate),
    /// The end of a call: whether the job has its end is for its rules to say.
    Called(CallResult),
    /// A call was recorded: changes nothing else.
    Recorded,
}

/// A message from a recipient that is no opt-out. Text and number are sealed wherever it is stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Reply {
    /// The provider it came through.
    pub provider: ProviderId,
    /// Who wrote.
    pub from: Box<str>,
    /// The number or code they wrote to.
    pub to: Box<str>,
    /// What they wrote, at most 4 KiB.
    pub text: Box<str>,
    /// The tenant whose last job to that number this answers, once it is known.
    pub tenant: Option<TenantId>,
    /// That job.
    pub in_reply_to: Option<JobId>,
    /// When it came.
    pub at: UnixMicros,
}

/// What the record queue carries besides accepted frames: everything the ledger learns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fact {
    /// A job's state changed.
    Event(Event),
    /// A provider reported.
    Receipt(Receipt),
    /// A driver said how a call goes.
    Called(Called),
    /// A recipient wrote.
    Reply(Reply),
    /// An address opted out; what its keys stand for goes to the ledger, sealed.
    Suppressed(Suppression, Plain),
    /// An address opted in again; takes back what `source` brought.
    Unsuppressed(Suppression, Source),
    /// A rule was given for jobs; limits hold it, the ledger keeps it for an audit and for a loss of limits.
    Ruled(JobRule),
    /// A job of a chain has had its time to be delivered.
    Elapsed(TenantId, JobId),
    /// Something about a recipient that a platform told.
    Signal(Box<Signal>),
    /// It is time to try again what is to follow a call.
    Owed(Box<Owed>),
}

// === impl Left ===

impl Left {
    /// Returns what is left of a call whose flow is gone: what follows it by its result alone.
    pub fn of_result(again: Envelope, result: CallResult) -> Self {
        let follows = again.shared.content.plan().follows(result, &[]);
        Self { again, follows, heard: vec![] }
    }
}

impl fmt::Debug for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what was pressed: this ends in logs and panics.
        f.debug_struct("Left").field("follows", &self.follows).finish_non_exhaustive()
    }
}

impl fmt::Debug for Owed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owed").field("place", &self.place).finish_non_exhaustive()
    }
}

// === impl Fate ===

impl Fate {
    /// Returns whether it can be the fate of a job that reached nobody.
    pub fn may_be_a_loss(self) -> bool {
        match self {
            Self::Undelivered | Self::Suppressed | Self::Expired | Self::Cancelled | Self::Rejected | Self::Failed => {
                true
            }
            Self::Delivered | Self::Sent | Self::Completed | Self::Unknown => false,
        }
    }
}

// === impl Outcome ===

impl Outcome {
    /// The reason of a failure or expiry after a hand-over that nobody answered: it may have reached somebody.
    pub const NO_ANSWER: &str = "no_answer";
    /// The reason of a suppression by the vendor: the recipient has had as many messages as it lets through.
    pub const VENDOR_LIMIT: &str = "vendor_limit";
    /// The reason where none of the one-time consents is left that its means needs.
    pub const NO_CONSENT: &str = "no_consent";

    /// The reason of a call's completion that calls for the next step of its chain all the same.
    pub const NEXT_STEP: &str = "next_step";

    /// Returns an outcome with a reason.
    pub fn new(fate: Fate, reason: impl Into<Box<str>>) -> Self {
        Self { fate, reason: reason.into() }
    }

    /// Returns whether it says that nobody was reached; what may have reached somebody is none of these.
    pub fn reached_nobody(&self) -> bool {
        match self.fate {
            // Of a call it is said of the person, and the fate is another.
            Fate::Expired | Fate::Failed => &*self.reason != Self::NO_ANSWER,
            fate => fate.may_be_a_loss(),
        }
    }
}

impl Change {
    /// Returns the bytes of its texts.
    pub fn weight(&self) -> usize {
        match self {
            Self::Deferred { reason, .. } => reason.len(),
            Self::Sent { provider, message_ids, .. } => {
                provider.as_str().len() + message_ids.iter().map(|id| id.len() + 4).sum::<usize>()
            }
            Self::Unresolved { provider } => provider.as_ref().map_or(0, |provider| provider.as_str().len()),
            Self::Progress(_) => 0,
            Self::Called { provider, report, .. } => provider.as_str().len() + report.len(),
            Self::Recorded { report } => report.len(),
            Self::Settled(outcome) => outcome.reason.len(),
        }
    }

    /// Returns whether the job was handed over then, or had been: nothing before it says so.
    pub fn hands_over(&self) -> bool {
        match self {
            Self::Sent { .. } | Self::Unresolved { .. } | Self::Called { .. } | Self::Recorded { .. } => true,
            Self::Progress(state) => *state > State::Ready,
            Self::Deferred { .. } | Self::Settled(_) => false,
        }
    }

    /// Returns what the change cost, as far as that is known.
    pub fn cost(&self) -> Option<Money> {
        match self {
            Self::Sent { cost, .. } | Self::Called { cost, .. } => *cost,
            Self::Deferred { .. }
            | Self::Unresolved { .. }
            | Self::Progress(_)
            | Self::Recorded { .. }
            | Self::Settled(_) => None,
        }
    }

    /// Returns the state that the change leads to.
    pub fn state(&self) -> State {
        match self {
            Self::Deferred { .. } => State::Scheduled,
            Self::Sent { receipt_expected: true, .. } => State::Sent,
            Self::Sent { receipt_expected: false, .. } | Self::Settled(_) => State::Settled,
            Self::Unresolved { .. } => State::Unresolved,
            Self::Progress(state) => *state,
            Self::Called { result: CallResult::Completed | CallResult::Machine, .. } | Self::Recorded { .. } => {
                State::Answered
            }
            Self::Called { .. } => State::Dialing,
        }
    }

    /// Returns the outcome that the change is, if it is one.
    pub fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Settled(outcome) => Some(outcome.clone()),
            Self::Sent { receipt_expected: false, .. } => Some(Outcome::new(Fate::Sent, "")),
            Self::Sent { .. }
            | Self::Deferred { .. }
            | Self::Unresolved { .. }
            | Self::Progress(_)
            | Self::Called { .. }
            | Self::Recorded { .. } => None,
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt")
            .field("provider", &self.provider)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

impl Called {
    /// Returns the bytes of its report.
    pub fn report_len(&self) -> usize {
        match &self.step {
            CallStep::Ended { report, .. } => report.len(),
            CallStep::Moved(_) | CallStep::Withdrawn(_) | CallStep::Lost => 0,
        }
    }
}

impl fmt::Debug for Called {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Called").field("provider", &self.provider).field("step", &self.step).finish_non_exhaustive()
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never number or text: this ends in logs and panics.
        f.debug_struct("Reply").field("provider", &self.provider).finish_non_exhaustive()
    }
}
