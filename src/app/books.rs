//! Which messages at a vendor are ours, as the ledger has them, and which of their jobs are taken back, as limits have it.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Base, SharedLimits};
use crate::channel::template::token::Later;
use crate::channel::template::wecom::watch::{Books, Kept};
use crate::domain::event::Outcome;
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::job::Envelope;
use crate::domain::time::Clock;
use crate::leave::{cancelled, opted_out};
use crate::ledger::{AnyLedger, Ledger as _, LedgerError, Segment};
use crate::limits::{Claim, Decision, Limits as _, Words};
use crate::queue::frame::open_job;
use crate::rate_limited;
use crate::seal::Sealer;

struct Recorded {
    ledger: AnyLedger,
    limits: SharedLimits,
    sealer: Sealer,
    clock: Clock,
}

impl Base {
    /// Returns the books of what was handed over.
    pub(super) fn books(&self) -> Arc<dyn Books> {
        let (ledger, limits) = (self.ledger.clone(), self.limits.clone());
        Arc::new(Recorded { ledger, limits, sealer: self.sealer.clone(), clock: self.clock.clone() })
    }
}

impl Recorded {
    /// Returns how a job ends that is taken back, for each of some; `None`: it is not.
    async fn ends(&self, jobs: &[(JobId, u16)]) -> Result<Vec<Option<Outcome>>, LedgerError> {
        let ids: Vec<JobId> = jobs.iter().map(|(job, _)| *job).collect();
        let sealed = self.ledger.sealed(&ids).await?;
        let opened = sealed.into_iter().map(|sealed| open_job(&sealed?, &self.sealer).ok());
        let questions: Option<Vec<Claim>> =
            opened.zip(jobs).map(|(envelope, (_, attempt))| self.question(&envelope?, *attempt)).collect();
        let Some(questions) = questions else { return Ok(vec![None; jobs.len()]) };
        // With limits away nobody can say.
        let decisions = self.limits.peek(self.clock.now(), &questions).await.unwrap_or_default();
        let mut ends: Vec<_> = decisions.into_iter().map(end).collect();
        ends.resize(jobs.len(), None);
        Ok(ends)
    }

    /// Returns what asks whether anything stands against a job, for all that this attempt of it was claimed.
    fn question(&self, envelope: &Envelope, attempt: u16) -> Option<Claim> {
        let (shared, job) = (&envelope.shared, envelope.jobs.first()?);
        let against = Words::new(shared, &self.sealer).against(shared, job, &self.sealer)?;
        Some(Claim { supersedes: attempt, ..Claim::question(shared, job, against, &self.sealer) })
    }
}

impl Books for Recorded {
    fn handed_over<'a>(
        &'a self,
        provider: &'a ProviderId,
        msgids: &'a [Box<str>],
    ) -> Later<'a, Option<Vec<Vec<Kept>>>> {
        Box::pin(async move {
            match self.ledger.segments_under(self.clock.now(), provider, msgids).await {
                Ok(segments) => Some(segments.into_iter().map(|of| of.into_iter().map(kept).collect()).collect()),
                Err(problem) => {
                    rate_limited!(per_min = 6, warn, %provider, %problem, "cannot look up which messages are ours");
                    None
                }
            }
        })
    }

    fn taken_back<'a>(&'a self, jobs: &'a [(JobId, u16)]) -> Later<'a, Option<HashMap<JobId, Outcome>>> {
        Box::pin(async move {
            let (first, rest) = jobs.split_at_checked(1)?;
            // Nearly always the first is not, and nobody asks further.
            let mut ends = self.ends(first).await.ok()?;
            ends.first()?.as_ref()?;
            ends.extend(self.ends(rest).await.ok()?);
            jobs.iter().zip(ends).map(|((job, _), end)| Some((*job, end?))).collect()
        })
    }
}

fn kept(Segment { message_id, job, attempt, fate, .. }: Segment) -> Kept {
    Kept { message_id, job, attempt, end: fate }
}

fn end(decision: Decision) -> Option<Outcome> {
    match decision {
        Decision::Cancelled => Some(cancelled()),
        Decision::Suppressed(scope) => Some(opted_out(scope)),
        Decision::Claimed
        | Decision::Overshadowed(_)
        | Decision::Held { .. }
        | Decision::Forgotten
        | Decision::Recovering { .. }
        // It was handed over: a newer one no longer replaces it, and no other time is its.
        | Decision::Collapsed
        | Decision::Moved { .. }
        | Decision::OverCap { .. } => None,
    }
}
