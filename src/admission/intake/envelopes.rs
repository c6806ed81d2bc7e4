//! Envelopes of the jobs that were let in.

use std::sync::Arc;

use uuid::Uuid;

use crate::admission::plan::Group;
use crate::admission::{Item, Request};
use crate::domain::chain::Chain;
use crate::domain::ids::{JobId, PoolId};
use crate::domain::job::{ENVELOPE_JOBS_MAX, Envelope, Job, Shared};
use crate::domain::time::UnixMicros;

/// What admission has decided of all jobs of a request.
pub(super) struct Place {
    pub(super) pools: Vec<PoolId>,
    pub(super) chains: Vec<Chain>,
    pub(super) batch: Option<Uuid>,
    pub(super) now: UnixMicros,
    pub(super) seen: Option<UnixMicros>,
}

/// Returns the envelopes of each group.
pub(super) fn envelopes(request: Request, ids: Vec<JobId>, groups: Vec<Group>, place: Place) -> Vec<Vec<Envelope>> {
    let Place { pools, chains, batch, now, seen } = place;
    let mut shared = Arc::new(Shared {
        tenant: request.tenant.id.clone(),
        kind: request.kind,
        class: request.class,
        pool: pools[0].clone(),
        content: request.content,
        sender: "".into(),
        topic: request.topic,
        labels: request.labels,
        origin: request.origin,
        batch,
        priority: request.priority,
        accepted_at: now,
        expires_at: UnixMicros::MAX,
        windows: request.windows,
        on_missed: request.on_missed,
        moved_at: None,
        chain: chains.first().cloned().map(Box::new),
        trace: request.trace,
    });
    let mut jobs: Vec<Option<Job>> =
        request.items.into_iter().zip(ids).map(|(item, id)| Some(job(id, item, seen))).collect();
    let mut of_group = |group: Group| {
        let (pool, chain) = (&pools[group.pool], chains.get(group.pool));
        let same = shared.expires_at == group.expires_at && shared.pool == *pool && shared.sender == group.sender;
        if !same || shared.chain.as_deref() != chain {
            let shared = Arc::make_mut(&mut shared);
            (shared.expires_at, shared.pool, shared.sender) = (group.expires_at, pool.clone(), group.sender);
            shared.chain = chain.cloned().map(Box::new);
        }
        let part = |places: &[usize]| Envelope {
            shared: Arc::clone(&shared),
            due_at: group.due_at,
            jobs: places.iter().filter_map(|&place| jobs[place].take()).collect(),
        };
        group.items.chunks(ENVELOPE_JOBS_MAX).map(part).collect()
    };
    groups.into_iter().map(&mut of_group).collect()
}

fn job(id: JobId, item: Item, seen: Option<UnixMicros>) -> Job {
    Job {
        id,
        recipient: item.recipient,
        params: item.params,
        cancel_key: item.cancel_key,
        collapse_key: item.collapse_key,
        attempt: 0,
        supersedes: 0,
        seen,
    }
}
