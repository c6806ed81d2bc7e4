//! What a job needs before it leaves, and what follows from each answer. Pure.

use std::sync::Arc;

use crate::domain::cap::{CapRule, OnLimit, Window};
use crate::domain::event::{Fate, Outcome};
use crate::domain::job::{Job, Shared};
use crate::domain::keys::{WordKey, space};
use crate::domain::suppression::Scope;
use crate::domain::time::UnixMicros;
use crate::ledger::Tenant;
use crate::limits::{Against, Claim, Decision, Take};
use crate::seal::{Sealer, job_address};
use crate::telemetry::metrics::CapDecision;

/// What the claims of an envelope have in common: its words' keys and the caps that count its jobs.
pub(super) struct Ground {
    sender: Option<WordKey>,
    signature: Option<WordKey>,
    topic: Option<WordKey>,
    campaign: Option<WordKey>,
    run: Option<WordKey>,
    rules: Vec<CapRule>,
}

/// What follows from a claim's answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Hand it over.
    Go,
    /// It has its outcome.
    Settle(Outcome),
    /// It waits for a cap.
    Defer {
        /// The rule's name.
        rule: Box<str>,
        /// Until when.
        until: UnixMicros,
    },
    /// Another copy was claimed: record decides after the deadline.
    Check {
        /// That copy's attempt.
        attempt: u16,
        /// Its deadline.
        deadline: UnixMicros,
    },
    /// It may have been handed over before limits lost their memory, and must not go twice.
    Unresolved,
    /// It may have been handed over before limits lost their memory, and may go once more: ask again, unseen.
    AskUnseen,
}

// === impl Ground ===

impl Ground {
    /// Returns the ground of an envelope's claims.
    pub(super) fn new(shared: &Shared, tenant: Option<&Arc<Tenant>>, sealer: &Sealer) -> Self {
        let word = |space: &str, word: &str| (!word.is_empty()).then(|| sealer.word_key(&shared.tenant, space, word));
        let counts = |rule: &&CapRule| rule.counts(shared.kind, shared.class, &shared.topic, &shared.sender);
        Self {
            sender: word(space::SENDER, &shared.sender),
            signature: word(space::SIGNATURE, shared.signature()),
            topic: word(space::TOPIC, &shared.topic),
            campaign: word(space::CAMPAIGN, &shared.origin.campaign_id),
            run: word(space::RUN, &shared.origin.run_id),
            rules: tenant.map_or_else(Vec::new, |tenant| tenant.caps.iter().filter(counts).cloned().collect()),
        }
    }

    /// Returns the rule that lets nothing through at all, if there is one: that needs no store.
    pub(super) fn never(&self) -> Option<&CapRule> {
        self.rules.iter().find(|rule| rule.limit == 0)
    }

    /// Returns the claim of one job; `None` where its recipient has no address for its kind.
    pub(super) fn claim(&self, shared: &Shared, job: &Job, deadline: UnixMicros, sealer: &Sealer) -> Option<Claim> {
        let address = job_address(shared.kind, &job.recipient)?;
        let cancel_key =
            (!job.cancel_key.is_empty()).then(|| sealer.word_key(&shared.tenant, space::CANCEL_KEY, &job.cancel_key));
        Some(Claim {
            tenant: shared.tenant.clone(),
            recipient: sealer.recipient_key(&shared.tenant, &job.recipient, shared.kind),
            job: job.id,
            attempt: job.attempt.saturating_add(1),
            supersedes: job.supersedes,
            token: fastrand::u64(..),
            deadline,
            seen: job.seen,
            touch: job.id.0,
            takes: self.rules.iter().map(take).collect(),
            against: Against {
                kind: shared.kind,
                class: shared.class,
                address: sealer.address_key(&address),
                sender: self.sender,
                signature: self.signature,
                topic: self.topic,
                cancel_key,
                batch: shared.batch,
                campaign: self.campaign,
                run: self.run,
                accepted_at: shared.accepted_at,
            },
        })
    }

    /// Returns the names of the rules that count its jobs.
    pub(super) fn rules(&self) -> impl Iterator<Item = &str> {
        self.rules.iter().map(|rule| rule.name.as_str())
    }

    /// Returns the rule that had no room, if that is the answer, and what it does.
    pub(super) fn refused(&self, decision: &Decision) -> Option<(&str, CapDecision)> {
        let Decision::OverCap { take, .. } = decision else { return None };
        let rule = self.rules.get(*take)?;
        let does = match rule.on_limit {
            OnLimit::Defer => CapDecision::Deferred,
            OnLimit::Drop => CapDecision::Dropped,
        };
        Some((rule.name.as_str(), does))
    }

    /// Returns what follows from the answer to a job's claim.
    pub(super) fn next(&self, shared: &Shared, decision: Decision) -> Next {
        match decision {
            Decision::Claimed => Next::Go,
            Decision::Held { attempt, deadline } => Next::Check { attempt, deadline },
            Decision::Forgotten if shared.class.at_most_once(shared.kind) => Next::Unresolved,
            Decision::Forgotten => Next::AskUnseen,
            Decision::Suppressed(scope) => Next::Settle(Outcome::new(Fate::Suppressed, reason(scope))),
            Decision::Cancelled => Next::Settle(Outcome::new(Fate::Cancelled, "request")),
            Decision::OverCap { take, open_at } => match self.rules.get(take) {
                Some(rule) => over(rule, shared, open_at),
                None => Next::Defer { rule: "cap".into(), until: open_at },
            },
        }
    }
}

/// Returns what happens to a job that `rule` has no room for.
pub(super) fn over(rule: &CapRule, shared: &Shared, open_at: UnixMicros) -> Next {
    match rule.on_limit {
        OnLimit::Drop => Next::Settle(Outcome::new(Fate::Suppressed, rule.name.as_str())),
        OnLimit::Defer if open_at >= shared.expires_at => Next::Settle(Outcome::new(Fate::Expired, rule.name.as_str())),
        OnLimit::Defer => Next::Defer { rule: rule.name.as_str().into(), until: open_at },
    }
}

fn take(rule: &CapRule) -> Take {
    // The log of a rule belongs to its name and window: another window under the same name counts afresh.
    let Window::Rolling(length) = rule.window;
    let mut hash = crc32fast::Hasher::new();
    hash.update(rule.name.as_str().as_bytes());
    hash.update(&length.as_micros().to_be_bytes());
    Take { rule: hash.finalize(), limit: rule.limit, window: rule.window, on_limit: rule.on_limit }
}

fn reason(scope: Scope) -> &'static str {
    match scope {
        Scope::Sender(_) => "opt_out_sender",
        Scope::Signature(_) => "opt_out_signature",
        Scope::Topic(_) => "opt_out_topic",
        Scope::Brand => "opt_out",
        Scope::Everything => "opt_out_everything",
        Scope::Global => "opt_out_global",
    }
}
