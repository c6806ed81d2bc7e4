//! Gives limits back what they lost.
//!
//! A new memory knows no opt-out, no rule and no touch. Until it does, only one-time passwords and transactional
//! work leave. One node at a time reloads it, page by page: once what was handed over before the loss has been answered
//! and record has passed all of it, the ledger has every touch there was. What happens meanwhile goes to limits as ever.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tracing::{info, warn};
use uuid::Uuid;

use super::hand::{DEADLINE_SLACK, Item, ground};
use super::{Context, Gates};
use crate::domain::cap::{CapRule, Window};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::Content;
use crate::domain::time::UnixMicros;
use crate::leave::{self, Asking, vacated};
use crate::ledger::{Ledger, LedgerError, Sent, Tenant, Trail};
use crate::limits::{Identity, Limits, LimitsError, Touch, Vacate};
use crate::queue::frame::{Frame, open_job};
use crate::queue::{PublishError, Queue, QueueName, Route};
use crate::telemetry::metrics;

/// How often each node looks whether limits are whole.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether record has passed the loss.
const RECORD_EVERY: Duration = Duration::from_millis(50);
/// How long answers may take from a provider's time-out to the record queue.
const PUBLISH_SLACK: Duration = Duration::from_secs(3);
/// Opt-outs and rules in a page.
const PAGE: u32 = 2_000;
/// Touches in a page: with their sealed jobs about a megabyte.
const TOUCHES: u32 = 1_000;
/// The longest calendar window: a month, in whatever zone.
const CALENDAR_MAX: Duration = Duration::from_secs(33 * 24 * 3600);
/// Jobs cannot be scheduled farther ahead, and then wait a month for a cap at most.
const RULES_KEPT: Duration = Duration::from_secs(431 * 24 * 3600);

/// Looks after limits on one node.
pub struct Recovery<Q, L, B> {
    context: Arc<Context<Q, L, B>>,
    /// This node among those that would reload.
    who: u64,
    /// How long after the loss the last answer of what was in flight then may reach record.
    drain: Duration,
}

/// Why limits are not whole yet.
#[derive(Debug, thiserror::Error)]
enum NotYet {
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error("another node leads the recovery")]
    OthersLead,
    #[error("limits have changed again")]
    Changed,
    #[error("the service stops")]
    Stopping,
}

impl<Q: Queue, L: Limits, B: Ledger> Recovery<Q, L, B> {
    /// Returns the recovery of a node that works with `context`.
    pub fn new(context: Arc<Context<Q, L, B>>) -> Self {
        let drain = drain(&context.gates);
        Self { context, who: fastrand::u64(..), drain }
    }

    /// Starts to look after limits, until the group of tasks stops.
    pub fn spawn(self) {
        let tasks = self.context.tasks.clone();
        tasks.spawn("limits_recovery", async move {
            let stop = self.context.tasks.stop().clone();
            loop {
                self.look().await;
                if stop.run_until_cancelled(self.context.clock.pause(LOOK_EVERY)).await.is_none() {
                    return;
                }
            }
        });
    }

    /// Reloads limits, if they need it and nobody else does it.
    async fn look(&self) {
        let Ok(identity) = self.context.limits.identity().await else { return };
        metrics::limits_recovering(identity.recovering);
        if !identity.recovering {
            return;
        }
        match self.recover(&identity).await {
            Ok(()) => metrics::limits_recovering(false),
            Err(NotYet::OthersLead | NotYet::Stopping) => {}
            Err(problem) => warn!(%problem, "limits are not whole yet; trying again"),
        }
    }

    async fn recover(&self, identity: &Identity) -> Result<(), NotYet> {
        self.lead().await?;
        let watch = self.context.clock.stopwatch();
        self.wait_for_record().await?;
        let (last, _) = self.context.ledger.last_seq().await?;
        if last > 0 {
            let until = identity.changed_at.plus(self.drain);
            warn!(
                wait_s = until.since(self.context.clock.now()).as_secs(),
                "limits have lost their memory: until it is reloaded only one-time passwords and transactional jobs leave"
            );
            self.wait_until(until).await?;
            self.wait_for_record().await?;
        }
        let opt_outs = self.reload_opt_outs().await?;
        let rules = self.reload_rules().await?;
        let touches = self.reload_touches().await?;
        if !self.context.limits.recovered(identity).await? {
            return Err(NotYet::Changed);
        }
        info!(opt_outs, rules, touches, took_s = watch.elapsed().as_secs(), "limits are whole");
        Ok(())
    }

    /// Takes or keeps the lead.
    async fn lead(&self) -> Result<(), NotYet> {
        if self.context.tasks.stopping() {
            return Err(NotYet::Stopping);
        }
        let leads = self.context.limits.lead_recovery(self.context.clock.now(), self.who).await?;
        if leads { Ok(()) } else { Err(NotYet::OthersLead) }
    }

    async fn wait_until(&self, until: UnixMicros) -> Result<(), NotYet> {
        while self.context.clock.now() < until {
            self.lead().await?;
            let left = until.since(self.context.clock.now());
            self.context.clock.pause(left.min(LOOK_EVERY)).await;
        }
        Ok(())
    }

    /// Waits until everything is in the ledger that is in the record queue now: sends an empty frame after it and waits
    /// until that is recorded.
    async fn wait_for_record(&self) -> Result<(), NotYet> {
        let Ok(frame) = Frame::Facts(vec![]).encode(&self.context.sealer) else { return Ok(()) };
        let id = Uuid::new_v4();
        self.context.queue.publish(id, frame, Route::To(QueueName::Record)).await?;
        let watch = self.context.clock.stopwatch();
        let mut told = Duration::ZERO;
        while self.context.ledger.recorded(&[id]).await?.is_empty() {
            self.lead().await?;
            if watch.elapsed() > told + LOOK_EVERY * 10 {
                told = watch.elapsed();
                info!(
                    waited_s = told.as_secs(),
                    "limits wait for the ledger to have all that happened before their loss"
                );
            }
            self.context.clock.pause(RECORD_EVERY).await;
        }
        Ok(())
    }

    async fn reload_opt_outs(&self) -> Result<usize, NotYet> {
        let (mut count, mut after) = (0, None);
        loop {
            self.lead().await?;
            let page = self.context.ledger.suppressions_after(None, after.as_ref(), PAGE).await?;
            let page: Vec<_> = page.into_iter().map(|row| row.suppression).collect();
            let Some(last) = page.last() else { return Ok(count) };
            self.context.limits.suppress(&page).await?;
            count += page.len();
            after = Some(last.clone());
        }
    }

    async fn reload_rules(&self) -> Result<usize, NotYet> {
        let (mut count, mut after) = (0, None);
        loop {
            self.lead().await?;
            let page = self.context.ledger.rules_after(after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(count) };
            let keep_until = self.context.clock.now().plus(RULES_KEPT);
            match self.context.limits.rule(&page, keep_until).await {
                // A tenant has given more over the year than may bind at a time: those that fit bind.
                Err(LimitsError::TooManyRules) => {
                    for rule in &page {
                        match self.context.limits.rule(std::slice::from_ref(rule), keep_until).await {
                            Ok(()) | Err(LimitsError::TooManyRules) => {}
                            Err(problem) => return Err(problem.into()),
                        }
                    }
                }
                answer => answer?,
            }
            count += page.len();
            after = Some(last.clone());
        }
    }

    /// Reloads what tenants' caps count: every hand-over within their longest window.
    async fn reload_touches(&self) -> Result<usize, NotYet> {
        let now = self.context.clock.now();
        let caps = |tenant: &Arc<Tenant>| (tenant.id.clone(), self.context.directory.caps(&tenant.id));
        let mut capped: Vec<_> = self.context.directory.tenants().iter().map(caps).collect();
        capped.retain(|(_, caps)| !caps.is_empty());
        let Some(longest) = capped.iter().flat_map(|(_, caps)| caps.iter()).map(life).max() else {
            return Ok(0);
        };
        let tenants: Vec<TenantId> = capped.into_iter().map(|(tenant, _)| tenant).collect();
        let (since, mut count, mut after) = (now.minus(longest), 0, 0);
        loop {
            self.lead().await?;
            let (page, next) = self.context.ledger.sent_since(&tenants, since, after, TOUCHES).await?;
            let mut touches = Vec::with_capacity(page.len());
            for sent in &page {
                touches.extend(self.touch(sent).await?);
            }
            let touches = self.that_count(touches).await?;
            self.context.limits.restore(&touches).await?;
            count += touches.len();
            match next {
                Some(next) => after = next,
                None => return Ok(count),
            }
            if count % 100_000 < touches.len() {
                info!(touches = count, "limits are being reloaded");
            }
        }
    }

    /// Returns touches without their places in caps that count what was delivered, where it is known that they reached
    /// nobody. What becomes known later is given back later: whoever does that waits until limits are whole.
    async fn that_count(&self, touches: Vec<(Touch, Option<Vacate>)>) -> Result<Vec<Touch>, NotYet> {
        let asked = touches.iter().filter(|(_, vacate)| vacate.is_some()).map(|(touch, _)| touch.claim.job);
        let mut jobs: Vec<JobId> = asked.collect();
        let lost = |trail: &Trail| {
            let mut outcomes = trail.events.iter().filter_map(|numbered| numbered.event.change.outcome());
            outcomes.any(|outcome| outcome.reached_nobody())
        };
        let trails = if jobs.is_empty() { vec![] } else { self.context.ledger.trails(&jobs).await? };
        let mut lost = trails.iter().map(|trail| trail.as_ref().is_some_and(lost));
        jobs.retain(|_| lost.next() == Some(true));
        let jobs: HashSet<JobId> = jobs.into_iter().collect();
        let counting = |(mut touch, vacate): (Touch, Option<Vacate>)| {
            if let Some(vacate) = vacate.filter(|_| jobs.contains(&touch.claim.job)) {
                touch.claim.takes.retain(|take| !vacate.rules.contains(&take.rule));
            }
            touch
        };
        Ok(touches.into_iter().map(counting).collect())
    }

    /// Returns a hand-over as a touch, and the places of it that do not count if it reached nobody.
    async fn touch(&self, sent: &Sent) -> Result<Option<(Touch, Option<Vacate>)>, NotYet> {
        let envelope = match open_job(&sent.sealed, &self.context.sealer) {
            Ok(envelope) => envelope,
            Err(error) => {
                warn!(%error, "cannot open a job whose touch is to be restored");
                return Ok(None);
            }
        };
        let Some(mut job) = envelope.jobs.first().cloned() else { return Ok(None) };
        let shared = Arc::clone(&envelope.shared);
        job.attempt = sent.attempt.saturating_sub(1);
        let tenant = self.context.directory.tenant(&shared.tenant);
        let then = leave::current(&shared, tenant.as_deref(), sent.at);
        let ground = ground(&self.context, &then, tenant.as_ref());
        let template = match &shared.content {
            Content::Template { name, version, .. } => {
                self.context.templates.version(&self.context.ledger, &shared.tenant, name, *version).await?
            }
            Content::Text(_) | Content::Call { .. } => None,
        };
        let mut item = Item::new(shared, job, envelope.due_at, ground, template.as_ref());
        item.leave_from(&then.sender);
        let gate = self.context.gates.get(&item.shared.pool);
        let units = gate.map_or(1, |gate| gate.segments(&item.handover));
        let asking = Asking { now: sent.at, deadline: sent.at, units };
        let claim = item.ground.claim(&item.shared, &item.job, asking, &self.context.sealer);
        let caps = self.context.directory.caps(&item.shared.tenant);
        let vacate = vacated(&then, &item.job, &caps, &self.context.sealer);
        Ok(claim.map(|claim| (Touch { claim, at: sent.at }, vacate)))
    }
}

/// Returns how long a touch can matter to a rule at most.
fn life(rule: &CapRule) -> Duration {
    match rule.window {
        Window::Calendar(_) => CALENDAR_MAX,
        Window::Bucket(refill) => refill.saturating_mul(rule.limit.max(1)),
        window => window.length().unwrap_or(CALENDAR_MAX),
    }
}

/// Returns how long after a loss the last answer may reach record of what was in flight then: a hand-over that nobody
/// answers is looked into after its time-out, and once more after as long again.
fn drain<L: Limits>(gates: &Gates<L>) -> Duration {
    let slowest = gates.values().map(|gate| gate.response_timeout_max()).max().unwrap_or_default();
    2 * slowest + DEADLINE_SLACK + PUBLISH_SLACK
}
