//! Why a job is where it is: what was decided of it so far, by its events; what holds it now, by asking what a claim would
//! be told, which takes nothing.

mod chain;
mod words;

use std::collections::HashMap;
use std::sync::Arc;

use super::Jobs;
use super::read::waits;
use crate::api::convert;
use crate::api::status::Error;
use crate::api::{Ports, jobs::rehearse::Size};
use crate::domain::event::{Change, Event, Fate, Outcome};
use crate::domain::ids::JobId;
use crate::domain::job::{Job, Shared};
use crate::domain::time::UnixMicros;
use crate::leave::{Asking, Ground, Outlook, RESCHEDULED, Ruling, SEND_AT, Said, current};
use crate::ledger::{Filter, History, JobRow, Ledger, Tenant};
use crate::limits::{Claim, Decision, Held, Limits, LimitsError, short};
use crate::pb;
use crate::queue::Queue;
use crate::seal::job_address;

/// Past decisions whose places are looked up, the newest.
const LOOKED_UP_MAX: usize = 20;
/// The recipient's newest jobs, among which those are that took the places.
const HOLDERS_AMONG: u32 = 500;
/// The rule that stands for no provider of the pool being up.
const NO_PROVIDER: &str = "no_provider";

/// A job under explanation.
struct Case<'a, Q, L, B> {
    ports: &'a Ports<Q, L, B>,
    ground: Ground,
    shared: Arc<Shared>,
    job: Job,
    size: Size,
}

/// How a job that waits stands now.
struct Present {
    outlook: Outlook,
    rulings: Vec<Ruling>,
    held_by: Option<Ruling>,
    next_at: Option<UnixMicros>,
}

/// What a job waits for, before anything else is asked.
struct Wait {
    rule: Box<str>,
    since: UnixMicros,
    until: UnixMicros,
}

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Explains a job of `tenant`.
    pub(super) async fn explain(
        &self,
        tenant: &Tenant,
        raw: &pb::ExplainJobRequest,
    ) -> Result<pb::ExplainJobResponse, Error> {
        let id = convert::job_id("job_id", &raw.job_id)?;
        let history = self.find(&tenant.id, id).await?.ok_or(Error::NotFound("job"))?;
        let row = history.row.as_ref().ok_or(Error::NotFound("job"))?;
        let envelope = self.open(row)?;
        let mut job = envelope.jobs.first().cloned().ok_or(Error::Unreadable)?;
        (job.attempt, job.supersedes) = (tried(&history), tried(&history));
        let place = chain::Place::of(&self.ports.ledger, &envelope.shared, job.id, &history).await?;
        let shared = current(&envelope.shared, Some(tenant), UnixMicros::MAX);
        let case = Case {
            ports: &self.ports,
            ground: self.ground(tenant, &shared),
            size: self.size(&shared, &job, envelope.due_at),
            shared,
            job,
        };
        let mut rulings = case.past(&history).await;
        let now = self.ports.clock.now();
        let mut present = if waits(&history) { Some(case.present(row, &history, now).await?) } else { None };
        let mut summary = words::summary(&history, &rulings, present.as_ref(), now);
        let sender = words::sender(tenant, (&envelope.shared.sender, &case.shared.sender), waits(&history));
        for words in [sender, place.words].iter().filter(|words| !words.is_empty()) {
            summary = format!("{summary} {words}");
        }
        rulings.extend(present.iter_mut().flat_map(|present| std::mem::take(&mut present.rulings)));
        let held_by = present.as_ref().and_then(|present| present.held_by.clone());
        let names = case.holders(tenant, rulings.iter().chain(&held_by)).await?;
        let shown = self.show(&[history], pb::JobView::Basic).await?.pop();
        Ok(pb::ExplainJobResponse {
            job: shown,
            decisions: rulings
                .iter()
                .map(|ruling| convert::ruling_to_pb(ruling, &names))
                .chain(place.decision)
                .collect(),
            held_by: held_by.map(|ruling| convert::ruling_to_pb(&ruling, &names)),
            next_at: present.and_then(|present| present.next_at).map(convert::moment_to_pb),
            summary,
        })
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Case<'_, Q, L, B> {
    /// Returns what was decided so far, oldest first.
    async fn past(&self, history: &History) -> Vec<Ruling> {
        let (mut rulings, count) = (Vec::new(), history.events.len());
        for (index, numbered) in history.events.iter().enumerate() {
            let Event { at, change, .. } = &numbered.event;
            let recent = count - index <= LOOKED_UP_MAX;
            let refused = match change {
                Change::Deferred { reason, until } => Ruling::new(*at, reason.clone(), Said::Defer, Some(*until)),
                Change::Settled(Outcome { fate, reason }) if of_rules(*fate) => {
                    Ruling::new(*at, reason.clone(), Said::Stop(*fate), None)
                }
                Change::Sent { .. } | Change::Unresolved { .. } if recent => {
                    if let Some((claim, held)) = self.places(&self.shared, *at).await {
                        rulings.extend(self.ground.caps_said(&self.shared, &claim, &held, *at));
                    }
                    continue;
                }
                Change::Sent { .. }
                | Change::Unresolved { .. }
                | Change::Progress(_)
                | Change::Called { .. }
                | Change::Recorded { .. }
                | Change::Settled(_) => continue,
            };
            let capped = recent && self.ground.caps().named(&refused.rule).is_some();
            rulings.push(match if capped { self.places(&self.shared, *at).await } else { None } {
                Some((claim, held)) => self.ground.cap_refused(&self.shared, &claim, &held, refused),
                None => refused,
            });
        }
        rulings
    }

    /// Returns how a job that waits stands at `now`.
    async fn present(&self, row: &JobRow, history: &History, now: UnixMicros) -> Result<Present, Error> {
        let Ports { limits, admission, .. } = self.ports;
        let (mut wait, mut shared) = (self.wait(row, history), Arc::clone(&self.shared));
        let mut rulings = Vec::new();
        let mut at = wait.until.max(now);
        let mut decision = self.peek(limits, &shared, at).await?;
        if let Decision::Moved { at: given, due_at, expires_at } = decision {
            shared = Arc::new(shared.moved(given, due_at, expires_at, admission.lives()));
            if given > wait.since {
                rulings.push(Ruling::new(given, RESCHEDULED, Said::Defer, Some(due_at)));
                wait = Wait { rule: RESCHEDULED.into(), since: given, until: due_at };
            }
            at = wait.until.max(now);
            decision = self.peek(limits, &shared, at).await?;
        }
        let outlook = self.ground.outlook((&shared, &self.job), at, self.size.units, decision);
        rulings.extend(self.ground.windows_say(&shared, &self.job, now));
        if let Some((claim, held)) = self.places(&shared, now).await {
            rulings.extend(self.ground.caps_say(&shared, &claim, &held, now));
        }
        let held = |rule: Box<str>, said, open_at| {
            let known = rulings.iter().find(|known| known.rule == rule && !known.shadow);
            let places = known.and_then(|known| known.places.clone());
            Some(Ruling { places, ..Ruling::new(now, rule, said, open_at) })
        };
        let (held_by, next_at) = match &outlook {
            Outlook::Ends(Outcome { fate, reason }) => (held(reason.clone(), Said::Stop(*fate), None), None),
            Outlook::Waits { rule, until } => (held(rule.clone(), Said::Defer, *until), *until),
            Outlook::Goes if at > now => (held(wait.rule, Said::Defer, Some(at)), Some(at)),
            Outlook::Goes if !self.provided() => (held(NO_PROVIDER.into(), Said::Defer, None), None),
            Outlook::Goes => (None, Some(now)),
            Outlook::Claimed { .. } => (None, None),
        };
        Ok(Present { outlook, rulings, held_by, next_at })
    }

    /// Returns what the job waits for by its last deferral, else by the time that it was accepted for.
    fn wait(&self, row: &JobRow, history: &History) -> Wait {
        let deferred = history.events.iter().rev().find_map(|numbered| match &numbered.event.change {
            Change::Deferred { reason, until } => {
                Some(Wait { rule: reason.clone(), since: numbered.event.at, until: *until })
            }
            _ => None,
        });
        deferred.unwrap_or_else(|| {
            // Admission moves the time to the opening of the window that was closed then.
            let before = row.due_at.minus(std::time::Duration::from_micros(1));
            let closed = self.ground.windows_say(&self.shared, &self.job, before);
            let closed = closed.into_iter().find(|ruling| ruling.open_at == Some(row.due_at));
            let rule = closed.map_or_else(|| SEND_AT.into(), |ruling| ruling.rule);
            Wait { rule, since: row.accepted_at, until: row.due_at }
        })
    }

    fn claim(&self, shared: &Shared, at: UnixMicros) -> Option<Claim> {
        let asking = Asking { now: at, deadline: at, units: self.size.units };
        self.ground.claim(shared, &self.job, asking, &self.ports.sealer)
    }

    /// Returns what a claim would be told at `at`.
    async fn peek(&self, limits: &L, shared: &Shared, at: UnixMicros) -> Result<Decision, Error> {
        let claim = self.claim(shared, at).ok_or(Error::Unreadable)?;
        let decisions = limits.peek(at, std::slice::from_ref(&claim)).await?;
        decisions.into_iter().next().ok_or_else(|| LimitsError::Timeout.into())
    }

    /// Returns the claim of the job at `at`, and the places that were taken in its caps then, as far as they are known.
    async fn places(&self, shared: &Shared, at: UnixMicros) -> Option<(Claim, Vec<Vec<Held>>)> {
        let claim = self.claim(shared, at).filter(|claim| !claim.takes.is_empty())?;
        let held = self.ports.limits.places(at, &claim).await.ok()?;
        Some((claim, held))
    }

    /// Returns whether a provider of the job's pool is up, as far as this process has any.
    fn provided(&self) -> bool {
        let ours = self.ports.providers.iter().filter(|provider| provider.pool == self.shared.pool);
        let mut works = ours.filter_map(|provider| provider.works.as_ref()).peekable();
        works.peek().is_none() || works.any(|works| works.channel.health().up)
    }

    /// Returns the ids of the recipient's jobs that hold places, by their short forms.
    async fn holders<'r>(
        &self,
        tenant: &Tenant,
        rulings: impl Iterator<Item = &'r Ruling>,
    ) -> Result<HashMap<u64, JobId>, Error> {
        let Ports { ledger, sealer, .. } = self.ports;
        let holders: Vec<u64> =
            rulings.filter_map(|ruling| ruling.places.as_ref()).flat_map(|places| &places.holders).copied().collect();
        if holders.is_empty() {
            return Ok(HashMap::new());
        }
        let recipient = &self.job.recipient;
        let filter = match &recipient.id {
            Some(id) => Filter { recipient: Some(sealer.recipient_id_key(&tenant.id, id)), ..Filter::default() },
            None => {
                let address = job_address(self.shared.kind, recipient).ok_or(Error::Unreadable)?;
                Filter { address: Some(sealer.address_key(&address)), ..Filter::default() }
            }
        };
        let jobs = ledger.jobs(&tenant.id, &filter, None, HOLDERS_AMONG).await?;
        let named = jobs.into_iter().filter_map(|history| history.row).map(|row| (short(row.id.0), row.id));
        Ok(named.filter(|(short, _)| holders.contains(short)).collect())
    }
}

/// Returns the last attempt that was handed over, as far as the ledger knows: the next one is asked for in its place.
fn tried(history: &History) -> u16 {
    let attempt = |event: &Event| match event.change {
        Change::Sent { .. } | Change::Unresolved { .. } | Change::Called { .. } => Some(event.attempt),
        Change::Deferred { .. } | Change::Progress(_) | Change::Recorded { .. } | Change::Settled(_) => None,
    };
    history.events.iter().filter_map(|numbered| attempt(&numbered.event)).max().unwrap_or(0)
}

/// Returns whether rules decide on a fate, and not a provider.
fn of_rules(fate: Fate) -> bool {
    match fate {
        Fate::Suppressed | Fate::Expired | Fate::Cancelled => true,
        Fate::Delivered
        | Fate::Undelivered
        | Fate::Sent
        | Fate::Completed
        | Fate::Rejected
        | Fate::Failed
        | Fate::Unknown => false,
    }
}
