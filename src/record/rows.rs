//! Makes the ledger's rows out of accepted jobs: keyed hashes to look them up by, everything else sealed.

use super::merge::Accepted;
use crate::domain::job::{Envelope, Job};
use crate::domain::keys::{WordKey, space};
use crate::ledger::JobRow;
use crate::queue::frame::seal_jobs;
use crate::seal::{Sealer, job_address};

/// Appends the rows of an envelope's jobs.
pub(super) fn accepted(envelope: &Envelope, sealer: &Sealer, rows: &mut Vec<Accepted>) {
    let shared = &envelope.shared;
    let word = |space: &str, word: &str| (!word.is_empty()).then(|| sealer.word_key(&shared.tenant, space, word));
    let campaign: Option<WordKey> = word(space::CAMPAIGN, &shared.origin.campaign_id);
    let run: Option<WordKey> = word(space::RUN, &shared.origin.run_id);
    for (job, sealed) in envelope.jobs.iter().zip(seal_jobs(envelope, sealer)) {
        let address = job_address(shared.kind, &job.recipient).unwrap_or_default();
        let row = JobRow {
            id: job.id,
            tenant: shared.tenant.clone(),
            kind: shared.kind,
            class: shared.class,
            accepted_at: shared.accepted_at,
            due_at: envelope.due_at,
            expires_at: shared.expires_at,
            address: sealer.address_key(&address),
            recipient: job.recipient.id.as_deref().map(|id| sealer.recipient_id_key(&shared.tenant, id)),
            batch: shared.batch,
            campaign,
            run,
            cancel_key: word(space::CANCEL_KEY, &job.cancel_key),
            fallback_after: shared.chain.as_ref().and_then(|chain| Some(chain.next.first()?.after)),
            sealed,
        };
        let trace = shared.trace;
        rows.push(Accepted {
            row,
            trace,
            fresh: fresh(job),
            collapse_key: word(space::COLLAPSE_KEY, &job.collapse_key),
        });
    }
}

/// Returns whether no other frame can have brought this job: its id was drawn, and it was not published before.
fn fresh(job: &Job) -> bool {
    job.id.drawn() && job.seen.is_none()
}
