//! What providers say by themselves, on its way to limits and record.

use tokio::sync::mpsc;

use super::Base;
use crate::channel::Inbound;
use crate::receipt::{Owners, Reception};

impl Base {
    /// Starts to take what providers say.
    pub(super) fn receive(&self, inbox: mpsc::Receiver<Inbound>) {
        Reception {
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            directory: self.directory.clone(),
            // Numbers of a tenant's own come with the settings that name them.
            owners: Owners::default(),
            senders: self.senders.clone(),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            tasks: self.groups.receive.clone(),
            facts: self.facts.clone(),
        }
        .spawn(inbox);
    }
}
