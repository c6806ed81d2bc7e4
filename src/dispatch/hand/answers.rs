//! Handing claimed jobs over, and what follows from the answers, in time and late.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::{DEADLINE_SLACK, Hand, Item, consents};
use crate::channel::Answered;
use crate::crash;
use crate::dispatch::gate::{Permit, Provider};
use crate::dispatch::out::Out;
use crate::dispatch::verdict::{self, Verdict};
use crate::dispatch::{Context, HOLD};
use crate::domain::event::{Change, PROVIDER_REASON};
use crate::domain::ids::TenantId;
use crate::domain::keys::WordKey;
use crate::domain::time::{Stopwatch, UnixMicros};
use crate::ledger::Ledger;
use crate::limits::{ConsentAct, GiveBack, Limits};
use crate::queue::Queue;
use crate::telemetry::metrics;
use crate::telemetry::traces::{self, Piece, With};

/// When a job is tried again that was throttled after its frame was let go.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Answers taken at once.
const ANSWERS_MAX: usize = 256;

/// A job that was claimed, and how to give that back.
pub(super) struct Claimed {
    pub(super) item: Item,
    pub(super) give_back: GiveBack,
    pub(super) units: u32,
    /// What stands for the one-time consent that it took, if it needed one, and whose account that was given to.
    pub(super) consent: Option<(TenantId, WordKey)>,
}

/// A job that did not go out, and when it is tried again.
type Again = (Item, When);

enum When {
    /// At once; no attempt is charged.
    Now,
    /// At once, by another provider.
    Elsewhere,
    /// Then, for that reason.
    At(UnixMicros, Box<str>),
}

/// Answers that come after the frame was let go, and the permit they hold.
pub(in crate::dispatch) struct Late {
    answers: UnboundedReceiver<Answered>,
    open: Vec<Option<Claimed>>,
    permit: Permit,
    /// Since they were handed over.
    watch: Stopwatch,
}

impl<Q: Queue, L: Limits, B: Ledger> Hand<'_, Q, L, B> {
    /// Hands claimed jobs over and takes the answers, for as long as the frame may be held.
    pub(super) async fn hand_over(&mut self, claimed: Vec<Claimed>, permit: Permit) -> Option<Late> {
        let (tx, answers) = mpsc::unbounded_channel();
        let provider = &permit.provider;
        let through = |claimed: &Claimed| {
            let (id, item) = (&provider.profile.id, &claimed.item);
            let code = self.context.extensions.code(id, &item.shared.tenant, item.signature());
            item.handover.clone().through(id, code)
        };
        for Claimed { item, .. } in &claimed {
            item.handover.call.iter().for_each(|call| self.context.ringing.watch(call, &item.ground));
        }
        provider.channel.submit(claimed.iter().map(through).collect(), tx);
        let watch = self.context.clock.stopwatch();
        let mut late = Late { answers, open: claimed.into_iter().map(Some).collect(), permit, watch };
        while late.permit.jobs > 0 {
            let patience = HOLD.saturating_sub(self.watch.elapsed());
            let mut some = Vec::new();
            let received = self.context.clock.timeout(patience, late.answers.recv_many(&mut some, ANSWERS_MAX)).await;
            match received {
                Ok(1..) => self.take_answers(some, &mut late).await,
                // A channel that drops its answers has handed over what nobody knows of.
                Ok(0) | Err(_) => break,
            }
        }
        let now = self.context.clock.now();
        for claimed in late.open.iter().flatten() {
            trace(&claimed.item, &late.permit.provider, metrics::Verdict::Unresolved, (late.watch.elapsed(), now));
            self.out.check_open(&claimed.item, &late.permit.provider.profile.id, self.deadline(&late.permit));
        }
        (late.permit.jobs > 0).then_some(late)
    }

    fn deadline(&self, permit: &Permit) -> UnixMicros {
        self.context.clock.now().plus(permit.provider.profile.response_timeout).plus(DEADLINE_SLACK)
    }

    async fn take_answers(&mut self, answers: Vec<Answered>, late: &mut Late) {
        let now = self.context.clock.now();
        let provider = Arc::clone(&late.permit.provider);
        let (mut back, mut again, mut consents) = (Vec::new(), Vec::new(), Vec::new());
        let (mut jobs, mut units) = (0, 0);
        for (index, answer) in answers {
            let Some(claimed) = late.open.get_mut(index).and_then(Option::take) else { continue };
            (jobs, units) = (jobs + 1, units + claimed.units);
            provider.metrics.attempt(verdict::word(&answer), late.watch.elapsed());
            trace(&claimed.item, &provider, verdict::word(&answer), (late.watch.elapsed(), now));
            provider.answered(&answer, late.watch.elapsed(), now);
            let blamed = answer.blames_provider();
            consents.extend(consents::after(&claimed, &answer, &provider));
            let Claimed { item, give_back, .. } = claimed;
            if answer.definitely_not_sent() {
                back.push(give_back);
            }
            match verdict::after(answer, &provider.profile, (&item.shared, &item.job), now, fastrand::f64()) {
                Verdict::Event(change) => {
                    if matches!(change, Change::Sent { .. }) {
                        self.context.metrics.sent(item.shared.class, now.since(item.due_at));
                        self.out.check_call(&item, &provider.profile, now);
                    }
                    provider.cost(&change);
                    self.out.answered(&item, change, &provider.profile, now);
                }
                Verdict::Check => self.out.check_unanswered(&item, &provider.profile.id, self.deadline(&late.permit)),
                Verdict::Again { retry_after } => {
                    provider.throttled(retry_after, now);
                    again.push((item, When::Now));
                }
                Verdict::RetryAt { at, code } => {
                    let when = if blamed && self.goes_elsewhere(&item, &provider) {
                        When::Elsewhere
                    } else {
                        When::At(at, code)
                    };
                    again.push((item, when));
                }
            }
        }
        crash::point(crash::Point::AfterAnswer);
        late.permit.shrink(late.permit.jobs - jobs, late.permit.units().saturating_sub(units));
        self.context.give_consents_back(consents).await;
        self.give_back(back, again, &provider).await;
    }

    /// Returns whether another provider of its pool may take a job that this one definitely did not.
    fn goes_elsewhere(&self, item: &Item, than: &Provider) -> bool {
        let tried: Vec<_> = item.avoid.iter().chain([&than.profile.id]).cloned().collect();
        let gate = self.context.gates.get(&item.shared.pool);
        gate.is_some_and(|gate| gate.has_other(item.shared.kind, &tried))
    }

    /// Gives back what did not go out, and lets it try again. A claim that cannot be given back stands until the next takes its
    /// place.
    async fn give_back(&mut self, back: Vec<GiveBack>, again: Vec<Again>, provider: &Provider) {
        let now = self.context.clock.now();
        if back.is_empty() {
            return;
        }
        let given = self.context.give_back(&back).await;
        for (mut item, retry) in again.into_iter().rev() {
            if !given {
                let at = if let When::At(at, _) = retry { at } else { now };
                self.out.again(item, at.max(now.plus(DEADLINE_SLACK)), now);
                continue;
            }
            item.job.seen = None;
            match retry {
                When::Now => self.line.push_front(item),
                When::Elsewhere => {
                    item.fail_over(&provider.profile.id);
                    self.line.push_front(item);
                }
                When::At(at, code) => {
                    item.job.attempt = item.job.attempt.saturating_add(1);
                    self.defer(item, format!("{PROVIDER_REASON}{code}").into(), (at, at), now);
                }
            }
        }
    }
}

/// Notes the attempt that `took` so long until `now`, and the wait before it, where the job belongs to a trace.
fn trace(item: &Item, provider: &Provider, verdict: metrics::Verdict, (took, now): (Duration, UnixMicros)) {
    let Some(trace) = item.shared.trace else { return };
    let (job, attempt) = (item.job.id.to_string(), (item.job.attempt + 1).to_string());
    let began = now.minus(took);
    let says = [
        ("postrider.job", job.as_str()),
        ("postrider.class", item.shared.class.as_str()),
        ("postrider.attempt", attempt.as_str()),
        ("postrider.provider", provider.profile.id.as_str()),
        ("postrider.verdict", verdict.as_str()),
    ];
    let accepted_at = item.shared.accepted_at;
    traces::note(trace, Piece { name: "wait", with: With::Queue, from: accepted_at, to: began, says: &says[..2] });
    traces::note(trace, Piece { name: "attempt", with: With::Asked, from: began, to: now, says: &says });
}

impl Late {
    /// Takes the answers that are still to come, and publishes what follows from them as they come: whoever dies now leaves
    /// behind what was known so far.
    pub(in crate::dispatch) async fn finish<Q: Queue, L: Limits, B: Ledger>(mut self, context: &Context<Q, L, B>) {
        let watch = context.clock.stopwatch();
        let patience = self.permit.provider.profile.response_timeout + DEADLINE_SLACK;
        while self.open.iter().any(Option::is_some) {
            let mut some = Vec::new();
            let left = patience.saturating_sub(watch.elapsed());
            let received = context.clock.timeout(left, self.answers.recv_many(&mut some, ANSWERS_MAX)).await;
            if !matches!(received, Ok(1..)) {
                return;
            }
            let (out, back, consents) = self.take(some, context);
            context.confirm(out).await;
            context.give_consents_back(consents).await;
            if !back.is_empty() {
                // Lost, the caps are too strict until their windows end.
                let _lost = context.give_back(&back).await;
            }
        }
    }

    /// Takes some answers; returns what follows, and what is given back.
    fn take<Q: Queue, L: Limits, B: Ledger>(
        &mut self,
        answers: Vec<Answered>,
        context: &Context<Q, L, B>,
    ) -> (Out, Vec<GiveBack>, Vec<ConsentAct>) {
        let mut out = Out::new(Arc::clone(&context.metrics));
        let (mut back, mut consents) = (Vec::new(), Vec::new());
        for (index, answer) in answers {
            let Some(claimed) = self.open.get_mut(index).and_then(Option::take) else { continue };
            let now = context.clock.now();
            self.permit.provider.answered(&answer, self.watch.elapsed(), now);
            let consent = consents::after(&claimed, &answer, &self.permit.provider);
            let Claimed { item, give_back, .. } = claimed;
            let provider = &self.permit.provider.profile;
            let unsent = answer.definitely_not_sent();
            // Of what goes out at least once, that check repeats it.
            let once = item.shared.class.at_most_once(item.shared.kind);
            // Its check is on its way; what matters now is that the job arrived, or never will, or that it went out for all
            // that is known (that check is due at once, and so comes before the other), or that it did not.
            match verdict::after(answer, provider, (&item.shared, &item.job), now, 0.5) {
                Verdict::Event(change) => {
                    self.permit.provider.cost(&change);
                    if matches!(change, Change::Sent { .. }) {
                        out.check_call(&item, provider, now);
                    }
                    out.answered(&item, change, provider, now);
                    if unsent {
                        back.push(give_back);
                        consents.extend(consent);
                    }
                }
                Verdict::Check => out.check_unanswered(&item, &provider.id, now),
                Verdict::Again { retry_after } => {
                    self.permit.provider.throttled(retry_after, now);
                    if once {
                        out.again(item, now.plus(retry_after.unwrap_or(AGAIN_AFTER)), now);
                    }
                }
                Verdict::RetryAt { at, .. } if once => out.again(item, at, now),
                Verdict::RetryAt { .. } => {}
            }
        }
        (out, back, consents)
    }
}

#[cfg(test)]
mod tests;
