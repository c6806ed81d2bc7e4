//! The gRPC API: parses requests into checked types, asks the parts below, and says what became of it.
//!
//! Every call passes the door first (`access`); every field is checked in `convert`; every code is chosen in
//! `status`. What works is in `jobs`, `suppressions`, `templates`, `tenants`, `providers` and `admin`; the door
//! answers for the rest.

mod access;
mod admin;
mod convert;
mod incoming;
mod jobs;
mod keys;
mod providers;
mod server;
mod status;
mod suppressions;
mod tail;
mod templates;
mod tenants;
mod tokens;

#[cfg(test)]
mod tests;

pub use self::convert::{Invalid, Problem};
pub(crate) use self::convert::{duration_to_pb, flow_to_pb, window_from_pb, window_to_pb};
pub use self::keys::mint;
pub use self::providers::{Entry as ProviderEntry, Works as ProviderWorks};
pub use self::server::{Api, Health, ServeError, Settings, Tls};

use std::sync::Arc;

use crate::admission::Admission;
use crate::channel::sms::text::Manner;
use crate::domain::event::Fact;
use crate::domain::ids::PoolId;
use crate::domain::time::Clock;
use crate::ledger::{Directory, Ledger, Templates};
use crate::limits::Limits;
use crate::policy::windows::Windows;
use crate::queue::outbox::Outbox;
use crate::queue::{PublishError, Queue, QueueName, Route};
use crate::seal::Sealer;
use crate::shutdown::Tasks;

/// What the API asks.
pub struct Ports<Q, L, B> {
    /// Lets jobs in.
    pub admission: Admission<Q, L, B>,
    /// The dead-letter queue.
    pub queue: Q,
    /// Where facts go that record must write.
    pub facts: Outbox<Q, Fact>,
    /// Opt-outs and cancellations.
    pub limits: L,
    /// Jobs, events, tenants, keys.
    pub ledger: B,
    /// Who may ask.
    pub directory: Directory,
    /// What stored templates say.
    pub templates: Templates,
    /// The send windows of tenants that have none of their own, and the calendars that windows may keep.
    pub windows: Arc<Windows>,
    /// How each pool counts the segments of a text.
    pub manners: Vec<(PoolId, Manner)>,
    /// Keyed hashes, and what is sealed.
    pub sealer: Sealer,
    /// The time.
    pub clock: Clock,
    /// Its tasks, and when to stop.
    pub tasks: Tasks,
    /// The providers of the settings.
    pub providers: Vec<ProviderEntry>,
}

impl<Q: Queue, L: Limits, B: Ledger> Ports<Q, L, B> {
    /// Returns how many segments a text takes from `sender` in a pool, as its first provider bills it: at least 1.
    fn segments(&self, pool: &PoolId, text: &str, sender: &str) -> u32 {
        let manner = self.manners.iter().find(|(of, _)| of == pool);
        manner.map_or(1, |(_, manner)| manner.segments(text, sender))
    }

    /// Makes a fact durable for record.
    async fn record(&self, facts: Vec<Fact>) -> Result<(), PublishError> {
        self.facts.publish(facts, Route::To(QueueName::Record)).await
    }
}
