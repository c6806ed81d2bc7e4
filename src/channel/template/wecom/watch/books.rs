//! What the service itself knows of messages to customers: which are its own. WeCom lists a corporation's messages to every
//! application of it, and whose they are it does not say; so only what is in the books is ever asked about, listed to an
//! employee or stopped.
//!
//! What a crash came between WeCom's answer and its record of is in no books, and is left alone as a stranger's would be: it
//! may yet be confirmed. Its jobs are `unresolved`, as any that were handed over and not answered.

use hashbrown::HashMap;

use super::super::super::token::Later;
use crate::domain::event::{Fate, Outcome};
use crate::domain::ids::{JobId, ProviderId};

/// Keeps what was handed over.
pub trait Books: Send + Sync + 'static {
    /// Returns for each message what of it `provider` handed over: nothing of a stranger's. `None`: nobody can say now.
    fn handed_over<'a>(&'a self, provider: &'a ProviderId, msgids: &'a [Box<str>])
    -> Later<'a, Option<Vec<Vec<Kept>>>>;

    /// Returns how these jobs end, if all of them are taken back, by their owner or by opt-outs. `None`: some may go out, or
    /// nobody can say now.
    fn taken_back<'a>(&'a self, jobs: &'a [(JobId, u16)]) -> Later<'a, Option<HashMap<JobId, Outcome>>>;
}

/// A job that was handed over, as the books have it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// The id by which its receipt is known.
    pub message_id: Box<str>,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u16,
    /// How it ended; `None`: it has not.
    pub end: Option<Fate>,
}
