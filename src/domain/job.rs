//! The job, the envelope that carries up to 128 of them, and the check that follows a hand-over without an answer.

#[cfg(test)]
pub(crate) mod samples;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::call::Plan;
use super::chain::Chain;
use super::ids::{JobId, Lane, PoolId, ProviderId, TenantId};
use super::recipient::Recipient;
use super::text;
use super::time::UnixMicros;
use super::trace::Trace;
use super::window::Hours;

/// Most jobs in one envelope.
pub const ENVELOPE_JOBS_MAX: usize = 128;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in order.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];

            /// Returns the word used in metrics, queue names, the ledger and JSON.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Returns the value that `word` names.
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

pub(crate) use words;

words! {
    /// By which means a job reaches its recipient.
    Kind {
        /// A text message.
        Sms = "sms",
        /// A template message (WeChat, WeCom).
        Template = "template",
        /// A smart call.
        Call = "call",
    }
}

words! {
    /// How much a job matters and which rules bind it; the first is the highest.
    Class {
        /// One-time passwords.
        Otp = "otp",
        /// What the recipient's own act calls for.
        Transactional = "transactional",
        /// Service notices.
        Notification = "notification",
        /// Everything that sells.
        Marketing = "marketing",
    }
}

words! {
    /// What follows when a job's time has passed without a legal moment to send it.
    OnMissed {
        /// Send at the next legal moment before it expires.
        Defer = "defer",
        /// Drop it.
        Drop = "drop",
    }
}

/// What a job says, before its parameters are filled in.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Plain text; `{name}` is replaced by the job's parameter of that name.
    Text(Box<str>),
    /// A stored template, filled in when the job is sent: jobs carry its name and version, not what it says in all of its
    /// locales.
    Template {
        /// The template's name.
        name: Box<str>,
        /// The version that was the newest when the jobs were accepted; 0: the provider alone knows the template.
        version: u32,
        /// BCP 47 locale; empty: the recipient's, else the template's own.
        locale: Box<str>,
        /// The signature that its text carries; empty: none.
        signature: Box<str>,
        /// What else it asks for, where it is a call.
        plan: Arc<Plan>,
    },
    /// A call flow.
    Call {
        /// The flow's name; empty: the plan brings it.
        flow: Box<str>,
        /// What else it asks for.
        plan: Arc<Plan>,
    },
}

/// Where in the tenant's marketing a job comes from: kept in ledger, events, filters and stats; never a metric label.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Origin {
    /// The campaign.
    pub campaign_id: Box<str>,
    /// The journey.
    pub journey_id: Box<str>,
    /// The journey's version.
    pub version: Box<str>,
    /// One run of the journey or campaign.
    pub run_id: Box<str>,
    /// The step in the journey.
    pub step: Box<str>,
    /// How often this recipient has come through the step.
    pub visit: u32,
    /// The variant of a test.
    pub variant: Box<str>,
    /// The tenant's id for this one touch.
    pub touch_id: Box<str>,
}

/// What the jobs of an envelope have in common.
#[derive(Clone, PartialEq, Eq)]
pub struct Shared {
    /// Who owns them.
    pub tenant: TenantId,
    /// By which means they go.
    pub kind: Kind,
    /// Which rules bind them.
    pub class: Class,
    /// Which providers may carry them.
    pub pool: PoolId,
    /// What they say.
    pub content: Content,
    /// The sender shown: a number, a short code, a signature. Empty: the provider's default.
    pub sender: Box<str>,
    /// What they are about, for opt-outs and caps. Empty: none.
    pub topic: Box<str>,
    /// The tenant's own labels, at most 16.
    pub labels: Vec<(Box<str>, Box<str>)>,
    /// Where they come from.
    pub origin: Origin,
    /// The batch they came in.
    pub batch: Option<Uuid>,
    /// -100 to 100; within a class, who gets a scarce cap.
    pub priority: i8,
    /// When they were accepted.
    pub accepted_at: UnixMicros,
    /// They are never sent after this.
    pub expires_at: UnixMicros,
    /// The windows that it narrows those of its tenant to, at most [`super::window::HOURS_MAX`]; none: as they are.
    pub windows: Vec<Hours>,
    /// When the last rule was given that moved them to another time, if one did and they obey it already.
    pub moved_at: Option<UnixMicros>,
    /// What follows a missed window.
    pub on_missed: OnMissed,
    /// The fallback chain that they are of.
    pub chain: Option<Box<Chain>>,
    /// The trace that they belong to; `None`: they are not sampled.
    pub trace: Option<Trace>,
}

/// One accepted unit of outbound work.
#[derive(Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whom it reaches.
    pub recipient: Recipient,
    /// Values for the content's placeholders, at most 32.
    pub params: Vec<(Box<str>, Box<str>)>,
    /// The tenant's key to cancel or reschedule it by. Empty: none.
    pub cancel_key: Box<str>,
    /// The newest waiting job with this key replaces older ones. Empty: none.
    pub collapse_key: Box<str>,
    /// Attempts charged so far; the next one has the number after it.
    pub attempt: u16,
    /// The attempt that record decided to follow with another, which went unanswered or was a call that reached nobody:
    /// its claim gives way. 0: none.
    pub supersedes: u16,
    /// When the earliest copy that may have been handed over was released; `None`: none may have been.
    pub seen: Option<UnixMicros>,
}

/// Up to [`ENVELOPE_JOBS_MAX`] jobs of one tenant, class and pool that share their content: the agenda's unit.
#[derive(Clone, PartialEq, Eq)]
pub struct Envelope {
    /// What the jobs have in common.
    pub shared: Arc<Shared>,
    /// When they may be sent: not before. For a released envelope, the time that its rate reserved.
    pub due_at: UnixMicros,
    /// The jobs, never none.
    pub jobs: Vec<Job>,
}

/// A hand-over without an answer: who decides, from the ledger, what became of the job, and when.
#[derive(Clone, PartialEq, Eq)]
pub struct Check {
    /// The job, alone in its envelope, as it would be sent again.
    pub envelope: Envelope,
    /// The attempt in question.
    pub attempt: u16,
    /// To whom it was handed, if that is known.
    pub provider: Option<ProviderId>,
    /// The claim's deadline: not decided before.
    pub due_at: UnixMicros,
    /// By then a call that was taken has ended: whoever drives it has said how, or nobody will.
    pub ends_call: bool,
}

// === impl Class ===

impl Class {
    /// Returns whether a hand-over without an answer is never repeated: people are not reached
    /// twice; one-time passwords and what a recipient's own act calls for are rather sent twice than never.
    pub const fn at_most_once(self, kind: Kind) -> bool {
        match self {
            Self::Otp | Self::Transactional => matches!(kind, Kind::Call),
            Self::Notification | Self::Marketing => true,
        }
    }

    /// Returns whether work of this class goes ahead of rates and caps meant for the rest.
    pub const fn urgent(self) -> bool {
        matches!(self, Self::Otp | Self::Transactional)
    }
}

// === impl Shared ===

impl Shared {
    /// Returns what counts as one touch of the recipient: the whole chain of a job.
    pub fn touch(&self, job: JobId) -> Uuid {
        self.first(job).0
    }

    /// Returns the first job of a job's chain, which is the job itself where it is of none.
    pub fn first(&self, job: JobId) -> JobId {
        self.chain.as_ref().map_or(job, |chain| chain.first(job))
    }

    /// Returns the signature that the jobs carry: what stands in 【】 at the head or the end of their text, else the
    /// sender. Empty: none.
    pub fn signature(&self) -> &str {
        self.content.signature().unwrap_or(&self.sender)
    }
}

// === impl Content ===

impl Content {
    /// Returns the signature in it, if there is one: what stands in 【】 at the head or the end of a text.
    pub fn signature(&self) -> Option<&str> {
        match self {
            Self::Text(text) => text::signature(text),
            Self::Template { signature, .. } => Some(&**signature).filter(|signature| !signature.is_empty()),
            Self::Call { .. } => None,
        }
    }

    /// Returns the bytes of its text and names.
    pub fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Template { name, version: _, locale, signature, plan } => {
                let plan = if **plan == Plan::default() { 0 } else { plan.weight() };
                name.len() + locale.len() + signature.len() + plan
            }
            Self::Call { flow, plan } => flow.len() + plan.weight(),
        }
    }

    /// Returns what a call with this content asks for: its own plan, or what is usual.
    pub fn plan(&self) -> Arc<Plan> {
        match self {
            Self::Call { plan, .. } | Self::Template { plan, .. } => Arc::clone(plan),
            Self::Text(_) => Arc::default(),
        }
    }

    /// Returns whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

// === impl Shared ===

impl Shared {
    /// Returns what the jobs have in common once they were moved to `due_at` by a rule given at `at`. Without an expiry of
    /// its own the move leaves them the time that `lives`, in the order of [`Class::ALL`], gives their class.
    pub fn moved(
        &self,
        at: UnixMicros,
        due_at: UnixMicros,
        expires_at: Option<UnixMicros>,
        lives: &[Duration; Class::ALL.len()],
    ) -> Self {
        let expires_at = expires_at.unwrap_or_else(|| due_at.plus(lives[self.class as usize]));
        Self { moved_at: Some(at), expires_at, ..self.clone() }
    }
}

// === impl Envelope ===

impl Envelope {
    /// Returns the lane its jobs are sent from.
    pub fn lane(&self) -> Lane {
        Lane { class: self.shared.class, pool: self.shared.pool.clone() }
    }

    /// Returns an envelope with the same shared part and due time that holds `jobs`.
    pub fn with_jobs(&self, jobs: Vec<Job>) -> Self {
        Self { shared: Arc::clone(&self.shared), due_at: self.due_at, jobs }
    }
}

impl fmt::Debug for Envelope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never contents or recipients: this ends in logs and panics.
        f.debug_struct("Envelope")
            .field("tenant", &self.shared.tenant)
            .field("kind", &self.shared.kind)
            .field("class", &self.shared.class)
            .field("due_at", &self.due_at)
            .field("jobs", &self.jobs.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the text: this ends in logs and panics.
        f.write_str(match self {
            Self::Text(_) => "Text(..)",
            Self::Template { .. } => "Template(..)",
            Self::Call { .. } => "Call(..)",
        })
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("tenant", &self.tenant)
            .field("kind", &self.kind)
            .field("class", &self.class)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("id", &self.id).field("attempt", &self.attempt).finish_non_exhaustive()
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check")
            .field("envelope", &self.envelope)
            .field("attempt", &self.attempt)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_values_belong_together() {
        for &class in Class::ALL {
            assert_eq!(Class::from_word(class.as_str()), Some(class));
        }
        assert_eq!(Kind::from_word("fax"), None);
        assert!(Class::Otp < Class::Marketing);
    }

    #[test]
    fn calls_and_marketing_are_never_repeated_blindly() {
        assert!(Class::Marketing.at_most_once(Kind::Sms));
        assert!(Class::Otp.at_most_once(Kind::Call));
        assert!(!Class::Otp.at_most_once(Kind::Sms));
    }
}
