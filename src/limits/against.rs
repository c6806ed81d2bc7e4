//! What opt-outs and rules are looked up by, made of a job.

use super::{Against, Claim};
use crate::domain::job::{Job, Shared};
use crate::domain::keys::{WordKey, space};
use crate::seal::{Sealer, job_address};

/// The keys of an envelope's words, made once for all of its jobs.
#[derive(Clone, Debug)]
pub struct Words {
    sender: Option<WordKey>,
    signature: Option<WordKey>,
    topic: Option<WordKey>,
    campaign: Option<WordKey>,
    run: Option<WordKey>,
}

impl Words {
    /// Returns the keys of what jobs have in common.
    pub fn new(shared: &Shared, sealer: &Sealer) -> Self {
        let word = |space: &str, word: &str| word_key(shared, space, word, sealer);
        Self {
            sender: word(space::SENDER, &shared.sender),
            signature: word(space::SIGNATURE, shared.signature()),
            topic: word(space::TOPIC, &shared.topic),
            campaign: word(space::CAMPAIGN, &shared.origin.campaign_id),
            run: word(space::RUN, &shared.origin.run_id),
        }
    }

    /// Returns what may stand against a job; `None` where its recipient has no address for its kind.
    pub fn against(&self, shared: &Shared, job: &Job, sealer: &Sealer) -> Option<Against> {
        let address = job_address(shared.kind, &job.recipient)?;
        Some(Against {
            kind: shared.kind,
            class: shared.class,
            address: sealer.address_key(&address),
            sender: self.sender,
            signature: self.signature,
            topic: self.topic,
            cancel_key: word_key(shared, space::CANCEL_KEY, &job.cancel_key, sealer),
            batch: shared.batch,
            campaign: self.campaign,
            run: self.run,
            collapse_key: word_key(shared, space::COLLAPSE_KEY, &job.collapse_key, sealer),
            accepted_at: shared.accepted_at,
            moved_at: shared.moved_at,
        })
    }
}

impl Claim {
    /// Returns what asks whether anything stands against a job, caps aside; only to be peeked at.
    pub fn question(shared: &Shared, job: &Job, against: Against, sealer: &Sealer) -> Self {
        Self {
            tenant: shared.tenant.clone(),
            recipient: sealer.recipient_key(&shared.tenant, &job.recipient, shared.kind),
            job: job.id,
            attempt: job.attempt.saturating_add(1),
            supersedes: job.supersedes,
            token: 0,
            deadline: shared.accepted_at,
            seen: job.seen,
            touch: shared.touch(job.id),
            takes: vec![],
            expires_at: shared.expires_at,
            against,
        }
    }
}

fn word_key(shared: &Shared, space: &str, word: &str, sealer: &Sealer) -> Option<WordKey> {
    (!word.is_empty()).then(|| sealer.word_key(&shared.tenant, space, word))
}
