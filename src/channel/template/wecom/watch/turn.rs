//! Whose turn it is to ask: one process's, which keeps it while it lives.

use std::sync::Arc;
use std::time::Duration;

use super::super::super::token::{Held, Lent, Vault};
use crate::domain::time::{Clock, UnixMicros};

/// A turn that processes take.
pub(super) struct Turn {
    vault: Arc<dyn Vault>,
    name: String,
    /// Stands for this one.
    id: Arc<str>,
    /// How long it lasts once nobody renews it.
    length: Duration,
    clock: Clock,
    /// Until when it is this one's.
    until: UnixMicros,
}

// === impl Turn ===

impl Turn {
    /// Returns a turn that is nobody's yet, as far as this process knows.
    pub(super) fn new(vault: Arc<dyn Vault>, name: String, length: Duration, clock: &Clock) -> Self {
        let id = uuid::Uuid::new_v4().to_string().into();
        Self { vault, name, id, length, clock: clock.clone(), until: UnixMicros(0) }
    }

    /// Takes the turn, or keeps it; returns whether it is this one's. While limits are away it is nobody's.
    pub(super) async fn take(&mut self) -> bool {
        let now = self.clock.now();
        if now.plus(self.length / 2) < self.until {
            return true;
        }
        // What this one had does not do: it wants to have it for longer.
        if let Lent::Yours = self.vault.borrow(&self.name, Some(&self.id)).await {
            let until = now.plus(self.length);
            let held = Held { token: Arc::clone(&self.id), renew_at: until, until };
            self.vault.lend(&self.name, &held).await;
            // Who is told to renew something is told so while limits are away, too.
            if let Lent::Token(held) = self.vault.borrow(&self.name, None).await
                && held.token == self.id
            {
                self.until = until;
            }
        }
        self.clock.now() < self.until
    }

    /// Gives the turn back, if it is this one's: the next need not wait for its end.
    pub(super) async fn give_back(&mut self) {
        let now = self.clock.now();
        if now < self.until
            && let Lent::Yours = self.vault.borrow(&self.name, Some(&self.id)).await
        {
            let held = Held { token: Arc::clone(&self.id), renew_at: now, until: now };
            self.vault.lend(&self.name, &held).await;
            self.until = now;
        }
    }
}
