//! Makes agenda entries of what waits: jobs to send, checks, timers.

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::event::Fact;
use crate::domain::ids::{Lane, TenantId};
use crate::domain::job::{Check, Envelope};
use crate::domain::time::UnixMicros;
use crate::ledger::{Entry, Tag};
use crate::queue::frame::{Frame, FrameError};
use crate::seal::Sealer;

/// Returns the entry of jobs to send at `due_at`. `sender` is the mark of their sender; 0: whether it has a rate of its own is
/// found out when they are released.
///
/// # Errors
/// When they do not fit into a frame; those that came out of one do.
pub fn jobs(
    id: Uuid,
    (envelope, sender): (Envelope, u32),
    due_at: UnixMicros,
    sealer: &Sealer,
) -> Result<Entry, FrameError> {
    let jobs = u32::try_from(envelope.jobs.len()).unwrap_or(u32::MAX);
    let (priority, accepted_at) = (envelope.shared.priority, Some(envelope.shared.accepted_at));
    let entry = of((id, Tag::Send), (envelope.shared.tenant.clone(), envelope.lane()), due_at, jobs);
    Ok(Entry { sender, priority, accepted_at, payload: Frame::Jobs(vec![envelope]).encode(sealer)?, ..entry })
}

/// Returns the entry of a check.
///
/// # Errors
/// As [`jobs`] says.
pub fn check(id: Uuid, check: Check, sealer: &Sealer) -> Result<Entry, FrameError> {
    let whose = (check.envelope.shared.tenant.clone(), check.envelope.lane());
    let entry = of((id, Tag::Check), whose, check.due_at, 1);
    Ok(Entry { payload: Frame::Checks(vec![check]).encode(sealer)?, ..entry })
}

/// Returns the entry of a timer of a tenant, which tells record of `fact` when it is due; the same kind and key move it.
///
/// # Errors
/// As [`jobs`] says.
pub fn timer(
    id: Uuid,
    (kind, key): (&str, String),
    (tenant, lane): (TenantId, Lane),
    (due_at, fact): (UnixMicros, Fact),
    sealer: &Sealer,
) -> Result<Entry, FrameError> {
    let tag = Tag::Timer { kind: kind.into(), owner: tenant.as_str().into(), key: key.into() };
    let entry = of((id, tag), (tenant, lane), due_at, 0);
    Ok(Entry { payload: Frame::Facts(vec![fact]).encode(sealer)?, ..entry })
}

/// Returns an entry that holds nothing yet.
fn of((id, tag): (Uuid, Tag), (tenant, lane): (TenantId, Lane), due_at: UnixMicros, jobs: u32) -> Entry {
    Entry {
        id,
        tag,
        tenant,
        lane,
        sender: 0,
        priority: 0,
        due_at,
        accepted_at: None,
        jobs,
        releasing_since: None,
        payload: Bytes::new(),
    }
}
