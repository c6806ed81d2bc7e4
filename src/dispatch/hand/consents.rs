//! One-time consents: a claimed job takes the one that it needs where it is handed over, and gives it back if it definitely
//! did not go out.
//!
//! It is taken after the claim and under the job's id: whoever claims the job again, after a crash as after a delay, finds
//! what it took. Whatever is lost on the way leaves a consent taken that was not used, never the reverse.

use super::Hand;
use super::answers::Claimed;
use super::item::Item;
use crate::channel::Answer;
use crate::dispatch::Context;
use crate::dispatch::gate::{Permit, Provider};
use crate::domain::event::{Fate, Outcome};
use crate::domain::ids::TenantId;
use crate::domain::keys::{WordKey, space};
use crate::leave::{NO_CONSENT, Next};
use crate::ledger::Ledger;
use crate::limits::consent::Act;
use crate::limits::{ConsentAct, Consented, Limits};
use crate::queue::Queue;
use crate::rate_limited;

impl<Q: Queue, L: Limits, B: Ledger> Hand<'_, Q, L, B> {
    /// Takes the consents that claimed jobs need here; returns those that may be handed over. The others give their claims
    /// back.
    pub(super) async fn take_consents(&mut self, mut claimed: Vec<Claimed>, permit: &Permit) -> Vec<Claimed> {
        let provider = &permit.provider;
        for one in &mut claimed {
            one.consent = needed(&one.item, provider, self.context);
        }
        let acts: Vec<_> = claimed.iter().filter_map(|one| act(one, Act::Taken(one.item.job.id))).collect();
        if acts.is_empty() {
            return claimed;
        }
        let now = self.context.clock.now();
        let told = match self.context.limits.consent(now, &acts).await {
            Ok(told) => told,
            // The vendor decides then: it takes no more than it was consented to.
            Err(problem) => {
                rate_limited!(per_min = 6, warn, %problem, consents = acts.len(), "consents are not known; the vendor decides");
                return claimed;
            }
        };
        let mut told = told.into_iter();
        let (mut go, mut stay) = (Vec::with_capacity(claimed.len()), Vec::new());
        for one in claimed {
            match one.consent.as_ref().and_then(|_| told.next()) {
                Some(Consented::None) => stay.push(one),
                Some(Consented::Left(_) | Consented::Unknown) | None => go.push(one),
            }
        }
        if !stay.is_empty() {
            let back: Vec<_> = stay.iter().map(|one| one.give_back.clone()).collect();
            // Lost, the caps are too strict until their windows end: the jobs have their outcome either way.
            let _lost = self.context.give_back(&back).await;
        }
        for one in stay {
            self.follow(one.item, Next::Settle(Outcome::new(Fate::Suppressed, NO_CONSENT)), now);
        }
        go
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Tells limits what became of the consents of jobs that did not go out.
    pub(super) async fn give_consents_back(&self, acts: Vec<ConsentAct>) {
        if acts.is_empty() {
            return;
        }
        if let Err(problem) = self.limits.consent(self.clock.now(), &acts).await {
            rate_limited!(per_min = 6, warn, %problem, consents = acts.len(), "consents stay taken that were not used");
        }
    }
}

/// Returns what becomes of the consent of a job that got an answer; `None`: it keeps it, or needed none.
pub(super) fn after(one: &Claimed, answer: &Answer, provider: &Provider) -> Option<ConsentAct> {
    let job = one.item.job.id;
    match answer {
        Answer::Refused { code } if provider.channel.says_no_consent(code) => act(one, Act::Denied(job)),
        answer if answer.definitely_not_sent() => act(one, Act::Returned(job)),
        _ => None,
    }
}

/// Returns the consent that a job needs, and whose account it was given to: another tenant's job may leave by it.
fn needed<Q, L, B>(item: &Item, provider: &Provider, context: &Context<Q, L, B>) -> Option<(TenantId, WordKey)> {
    let (tenant, text) = provider.channel.consent(&item.handover, &provider.profile.id)?;
    let of = context.sealer.word_key(&tenant, space::CONSENT, &text);
    Some((tenant, of))
}

fn act(one: &Claimed, act: Act) -> Option<ConsentAct> {
    let (tenant, of) = one.consent.clone()?;
    Some(ConsentAct { tenant, of, act })
}
