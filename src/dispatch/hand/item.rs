//! One job in hand, and what its envelope's jobs have in common.

use std::sync::Arc;

use crate::channel::Handover;
use crate::dispatch::Context;
use crate::domain::ids::ProviderId;
use crate::domain::job::{Job, Shared};
use crate::domain::template::Template;
use crate::domain::time::UnixMicros;
use crate::leave::{Ground, filled};
use crate::ledger::Tenant;
use crate::limits::rates::{self, Bucket};

/// One job in hand.
pub(in crate::dispatch) struct Item {
    /// As it was accepted, and is written back; whom it leaves from by now says the hand-over.
    pub(in crate::dispatch) shared: Arc<Shared>,
    pub(in crate::dispatch) job: Job,
    pub(in crate::dispatch) due_at: UnixMicros,
    /// What it is paced by: a token of each was taken for it.
    pub(super) paced: Arc<[Bucket]>,
    /// Who has failed to take it while it was in hand.
    pub(super) avoid: Vec<ProviderId>,
    pub(in crate::dispatch) ground: Arc<Ground>,
    pub(in crate::dispatch) handover: Handover,
}

/// Returns what the claims of an envelope's jobs have in common, by the rules of now.
pub(in crate::dispatch) fn ground<Q, L, B>(
    context: &Context<Q, L, B>,
    shared: &Shared,
    tenant: Option<&Arc<Tenant>>,
) -> Arc<Ground> {
    let caps = context.directory.caps(&shared.tenant);
    Arc::new(Ground::new(shared, (tenant.map(AsRef::as_ref), &caps), &context.windows, &context.sealer))
}

// === impl Item ===

impl Item {
    pub(in crate::dispatch) fn new(
        shared: Arc<Shared>,
        job: Job,
        due_at: UnixMicros,
        ground: Arc<Ground>,
        template: Option<&Arc<Template>>,
    ) -> Self {
        let handover = filled::handover(&shared, &job, due_at, template);
        Self { shared, job, due_at, paced: Arc::default(), avoid: vec![], ground, handover }
    }

    /// Lets it leave from a sender, and meet the rules of now.
    pub(super) fn renew(&mut self, sender: &str, ground: &Arc<Ground>) {
        self.ground = Arc::clone(ground);
        self.leave_from(sender);
    }

    /// Lets it leave from a sender.
    pub(in crate::dispatch) fn leave_from(&mut self, sender: &str) {
        if *self.handover.sender != *sender {
            self.handover.sender = sender.into();
        }
    }

    /// Returns the signature that it carries: what stands in its text, else whom it leaves from.
    pub(super) fn signature(&self) -> &str {
        self.shared.content.signature().unwrap_or(&self.handover.sender)
    }

    /// Notes that a provider definitely did not take it: the next attempt is another's.
    pub(super) fn fail_over(&mut self, from: &ProviderId) {
        self.job.attempt = self.job.attempt.saturating_add(1);
        self.handover.attempt = self.job.attempt.saturating_add(1);
        self.avoid.push(from.clone());
    }
}

pub(super) fn paced(shared: &Shared, tenant: Option<&Tenant>) -> Arc<[Bucket]> {
    let of =
        |tenant: &Tenant| rates::of_jobs(&tenant.id, tenant.rate, &shared.sender, tenant.sender_rate(&shared.sender));
    tenant.map_or_else(Vec::new, of).into()
}
