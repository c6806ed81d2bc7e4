//! The trunk's lines as calls hold them: whoever drops a call gives its line back, and nobody gives one back twice.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Ask, Dialer, NoLine, Permit, TrunkRules};
use crate::channel::call::Line;
use crate::domain::call::CallResult;
use crate::domain::ids::ProviderId;
use crate::domain::time::Clock;
use crate::telemetry::metrics::TrunkMetrics;

/// The lines of one trunk. Cheap to clone; all clones share them.
#[derive(Clone)]
pub struct Lines {
    shared: Arc<Shared>,
}

struct Shared {
    dialer: Mutex<Dialer>,
    clock: Clock,
    metrics: TrunkMetrics,
}

/// A line that one call holds.
pub struct Ticket {
    shared: Arc<Shared>,
    caller: Box<str>,
    permit: Mutex<Option<Permit>>,
}

// === impl Lines ===

impl Lines {
    /// Returns the lines of `trunk`, none of them in use.
    pub fn new(rules: TrunkRules, trunk: &ProviderId, clock: &Clock) -> Self {
        let (dialer, metrics) = (Mutex::new(Dialer::new(rules)), TrunkMetrics::new(trunk));
        Self { shared: Arc::new(Shared { dialer, clock: clock.clone(), metrics }) }
    }

    /// Takes a line for one call.
    ///
    /// # Errors
    /// [`NoLine`]: what is missing.
    pub fn dial(&self, ask: Ask<'_>) -> Result<Ticket, NoLine> {
        let mut dialer = self.shared.dialer();
        let permit = dialer.dial(ask, self.shared.clock.now())?;
        self.shared.metrics.in_progress(dialer.in_use());
        let caller = dialer.caller(&permit).into();
        Ok(Ticket { shared: Arc::clone(&self.shared), caller, permit: Mutex::new(Some(permit)) })
    }

    /// Returns the lines in use.
    pub fn in_use(&self) -> u32 {
        self.shared.dialer().in_use()
    }
}

impl Shared {
    fn dialer(&self) -> MutexGuard<'_, Dialer> {
        // A panic between two counts would leave a line too few, never one too many.
        self.dialer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Ticket ===

impl Ticket {
    /// Returns the number that the call comes from; empty: the trunk's own.
    pub fn caller(&self) -> &str {
        &self.caller
    }

    fn permit(&self) -> MutexGuard<'_, Option<Permit>> {
        self.permit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line for Ticket {
    fn answered(&self) {
        if let Some(permit) = self.permit().as_mut() {
            self.shared.dialer().answered(permit);
        }
    }

    fn rings(&self) -> bool {
        self.permit().as_ref().is_some_and(Permit::rings)
    }

    fn ended(&self, result: Option<CallResult>) {
        let Some(permit) = self.permit().take() else { return };
        let mut dialer = self.shared.dialer();
        dialer.end(permit, result, self.shared.clock.now());
        self.shared.metrics.in_progress(dialer.in_use());
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.ended(None);
    }
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines").field("in_use", &self.in_use()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}
