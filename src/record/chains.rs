//! Carries out what is decided about fallback chains: brings in what the decision needs, and makes agenda entries of what
//! it comes to. They are part of the recording, so that a step starts if, and only if, what it follows from is known.

use std::time::Duration;

use tracing::{error, warn};
use uuid::Uuid;

use super::merge::{Merger, Timer, Withdrawal};
use super::{reads, rows, unwritable};
use crate::agenda::entry;
use crate::domain::event::Fact;
use crate::domain::ids::{JobId, Lane, PoolId};
use crate::domain::job::Envelope;
use crate::domain::time::UnixMicros;
use crate::ledger::{Entry, Ledger, LedgerError};
use crate::limits::Limits;
use crate::queue::frame::open_job;
use crate::seal::Sealer;

/// What a chain's timers are called.
const FALLBACK: &str = "fallback";
/// After which time limits are told again of a step that is withdrawn, when they could not be.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Decides what follows the jobs of chains that something happened to.
pub(super) async fn follow<L: Ledger>(
    ledger: &L,
    merger: &mut Merger,
    sealer: &Sealer,
    now: UnixMicros,
) -> Result<(), LedgerError> {
    // A step that starts may have ended already, where its events came before its row: what follows it is decided with it.
    loop {
        let touched = merger.take_touched();
        if touched.is_empty() {
            return Ok(());
        }
        follow_each(ledger, merger, sealer, (touched, now)).await?;
    }
}

async fn follow_each<L: Ledger>(
    ledger: &L,
    merger: &mut Merger,
    sealer: &Sealer,
    (touched, now): (Vec<JobId>, UnixMicros),
) -> Result<(), LedgerError> {
    let envelopes = opened(ledger, merger, sealer, &touched).await?;
    let of_chain = |envelope: &Envelope| {
        let job = envelope.jobs.first().map(|job| job.id);
        envelope.shared.chain.as_ref().zip(job).map(|(chain, job)| chain.ids(job))
    };
    let mut others: Vec<JobId> = envelopes.iter().filter_map(of_chain).flatten().collect();
    others.retain(|job| !merger.knows(*job));
    others.sort_unstable();
    others.dedup();
    reads::trails(ledger, merger, others).await?;
    for envelope in envelopes {
        let Some(step) = merger.follow(&envelope, now) else { continue };
        let mut accepted = Vec::with_capacity(1);
        rows::accepted(&step, sealer, &mut accepted);
        // Of its collapse key the first job is the newest: a step replaces nobody.
        let row = accepted.pop().map(|accepted| super::merge::Accepted { collapse_key: None, ..accepted });
        row.into_iter().for_each(|row| merger.start(step.clone(), row));
    }
    Ok(())
}

/// Returns jobs as they were accepted, each alone in its envelope: of this batch, else of the ledger.
pub(super) async fn opened<L: Ledger>(
    ledger: &L,
    merger: &Merger,
    sealer: &Sealer,
    jobs: &[JobId],
) -> Result<Vec<Envelope>, LedgerError> {
    let mut sealed: Vec<_> = merger.rows(jobs).map(|row| (row.id, row.sealed.clone())).collect();
    let missing: Vec<JobId> = jobs.iter().filter(|job| sealed.iter().all(|(id, _)| id != *job)).copied().collect();
    if !missing.is_empty() {
        let found = ledger.sealed(&missing).await?;
        sealed.extend(missing.into_iter().zip(found).filter_map(|(job, found)| Some((job, found?))));
    }
    let open = |(job, sealed): (JobId, bytes::Bytes)| match open_job(&sealed, sealer) {
        Ok(envelope) => Some(envelope),
        Err(problem) => {
            error!(%problem, %job, "a job cannot be opened: nothing follows it");
            None
        }
    };
    Ok(sealed.into_iter().filter_map(open).collect())
}

/// Tells limits of steps that are not to leave any more. While limits are away nobody waits for them: what is to be told
/// is told again, until the step has its outcome.
pub(super) async fn withdraw<M: Limits>(limits: &M, withdrawn: Vec<Withdrawal>, now: UnixMicros) -> Vec<Timer> {
    let Some(keep_until) = withdrawn.iter().map(|withdrawal| withdrawal.keep_until).max() else { return vec![] };
    let rules: Vec<_> = withdrawn.iter().map(|withdrawal| withdrawal.rule.clone()).collect();
    match limits.rule(&rules, keep_until).await {
        Ok(()) => vec![],
        Err(problem) => {
            warn!(%problem, steps = rules.len(), "limits cannot be told of steps that are withdrawn; again in a moment");
            let again = |withdrawal: Withdrawal| Timer { due_at: now.plus(AGAIN_AFTER), ..withdrawal.again };
            withdrawn.into_iter().map(again).collect()
        }
    }
}

/// Returns the agenda entries of steps that start and of timers.
pub(super) fn entries(starts: Vec<Envelope>, timers: Vec<Timer>, sealer: &Sealer) -> Result<Vec<Entry>, LedgerError> {
    let starts = starts.into_iter().map(|step| start(step, sealer));
    starts.chain(timers.into_iter().map(|told| timer(told, sealer))).collect()
}

fn start(envelope: Envelope, sealer: &Sealer) -> Result<Entry, LedgerError> {
    let job = envelope.jobs.first().map_or_else(Default::default, |job| job.id.0);
    let (id, due_at) = (Uuid::new_v5(&job, FALLBACK.as_bytes()), envelope.due_at);
    entry::jobs(id, (envelope, 0), due_at, sealer).map_err(|problem| unwritable(&problem))
}

fn timer(Timer { tenant, class, job, due_at }: Timer, sealer: &Sealer) -> Result<Entry, LedgerError> {
    // Which pool carries the job is not known here, and does not matter: a timer never comes into a lane.
    let lane = Lane { class, pool: FALLBACK.parse::<PoolId>().map_err(|problem| unwritable(&problem))? };
    let (id, fact) = (Uuid::new_v5(&job.0, &due_at.0.to_be_bytes()), Fact::Elapsed(tenant.clone(), job));
    let named = (FALLBACK, job.to_string());
    entry::timer(id, named, (tenant, lane), (due_at, fact), sealer).map_err(|problem| unwritable(&problem))
}
