//! Jobs whose template is not in memory yet: it is read from the ledger, before anything is claimed.

use std::sync::Arc;

use super::{Hand, Item, WAIT_FOR_LIMITS};
use crate::domain::event::{Fate, Outcome};
use crate::domain::job::Content;
use crate::domain::template::Template;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::queue::Queue;

impl<Q: Queue, L: Limits, B: Ledger> Hand<'_, Q, L, B> {
    /// Reads the templates that are missing, and puts the jobs in line that they fill. While the ledger is away the others
    /// wait, and are tried again.
    pub(super) async fn fill_in(&mut self) {
        if self.unfilled.is_empty() {
            return;
        }
        let mut away = false;
        for item in std::mem::take(&mut self.unfilled) {
            let Content::Template { name, version, .. } = &item.shared.content else { continue };
            let found = match away {
                true => None,
                false => {
                    let (ledger, tenant) = (&self.context.ledger, &item.shared.tenant);
                    self.context.templates.version(ledger, tenant, name, *version).await.ok()
                }
            };
            let now = self.context.clock.now();
            match found {
                Some(Some(template)) => self.line.push_back(item.filled(&template)),
                // Nobody deletes versions: the ledger is an older copy.
                Some(None) => self.out.settle(&item, Outcome::new(Fate::Failed, "no_template"), now),
                None => {
                    away = true;
                    self.out.wait(item, now.plus(WAIT_FOR_LIMITS.mul_f64(1.0 + fastrand::f64())));
                }
            }
        }
        self.order();
    }
}

impl Item {
    /// Returns whether all that it says is known.
    pub(super) fn is_filled(&self) -> bool {
        match &self.shared.content {
            Content::Template { version, .. } => *version == 0 || self.handover.template.is_some(),
            Content::Text(_) | Content::Call { .. } => true,
        }
    }

    /// Returns the same job with what its template says.
    fn filled(self, template: &Arc<Template>) -> Self {
        let (paced, sender) = (self.paced, self.handover.sender);
        let mut filled = Self { paced, ..Self::new(self.shared, self.job, self.due_at, self.ground, Some(template)) };
        filled.leave_from(&sender);
        filled
    }
}
