//! Smart calls: what they say and do, and what drivers are given and say.

pub mod asterisk;
pub mod flow;
pub mod runner;

use std::fmt;
use std::sync::Arc;

use self::runner::FollowUp;
use crate::domain::call::{CallReport, CallResult};
use crate::domain::event::State;
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::job::{Envelope, Job, Shared};
use crate::domain::recipient::Recipient;
use crate::domain::time::UnixMicros;

/// What a call is given besides what every hand-over is.
#[derive(Clone)]
pub struct Carried {
    /// What its job shares with others.
    pub shared: Arc<Shared>,
    /// Its job.
    pub job: Job,
    /// What it holds for as long as it lasts.
    pub line: Arc<dyn Line>,
}

/// A line of a trunk, held by one call. Dropped, it is free again.
pub trait Line: Send + Sync {
    /// Notes that somebody answered.
    fn answered(&self);

    /// Frees it; `None`: nobody knows how the call ended.
    fn ended(&self, result: Option<CallResult>);
}

/// What a driver says of one attempt to call somebody.
#[derive(Clone, PartialEq, Eq)]
pub struct CallNews {
    /// Who says it.
    pub provider: ProviderId,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u16,
    /// When it happened.
    pub at: UnixMicros,
    /// What happened.
    pub step: Step,
}

/// What happened in a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It moved on.
    Moved(State),
    /// It ended: how, and the job as it would be called again, unless nobody has it any more.
    Ended(CallReport, Option<Box<Envelope>>),
    /// It is gone, and nobody knows how it ended.
    Lost,
}

/// A callee opted out.
#[derive(Clone, PartialEq, Eq)]
pub struct OptedOut {
    /// Of whose messages.
    pub tenant: TenantId,
    /// The number.
    pub number: Box<str>,
    /// Of everything, not only of what the brand sends.
    pub everything: bool,
    /// When.
    pub at: UnixMicros,
}

/// A job that follows from a call.
#[derive(Clone, PartialEq, Eq)]
pub struct Followed {
    /// The call.
    pub job: JobId,
    /// What the call shares with others.
    pub shared: Arc<Shared>,
    /// Whom it reached.
    pub recipient: Recipient,
    /// What follows.
    pub follow_up: FollowUp,
}

// === impl Carried ===

impl Carried {
    /// Returns the job as it would be called again.
    pub fn again(&self, due_at: UnixMicros) -> Envelope {
        Envelope { shared: Arc::clone(&self.shared), due_at, jobs: vec![self.job.clone()] }
    }
}

impl fmt::Debug for CallNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallNews").field("job", &self.job).field("step", &self.step).finish_non_exhaustive()
    }
}

impl fmt::Debug for OptedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the number: this ends in logs and panics.
        f.debug_struct("OptedOut").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never recipient or parameters.
        f.debug_struct("Followed").field("job", &self.job).finish_non_exhaustive()
    }
}
