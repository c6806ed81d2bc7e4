//! Pools of senders: what the API says and what they are.

use std::collections::BTreeSet;

use super::spec::LABEL_CHARS_MAX;
use super::{Invalid, Problem, check_count, name, required};
use crate::domain::ids::RuleName;
use crate::domain::sender::{POOL_SENDERS_MAX, SENDER_POOLS_MAX, SenderPool};
use crate::domain::time::UnixMicros;
use crate::ledger::Tenant;
use crate::pb;

/// Checks the pools of senders of a tenant, new as of `now`.
pub(super) fn sender_pools(raw: Vec<pb::SenderPool>, now: UnixMicros) -> Result<Vec<SenderPool>, Invalid> {
    check_count("sender_pools", raw.len(), SENDER_POOLS_MAX)?;
    let mut names = BTreeSet::new();
    let mut each = |raw: pb::SenderPool| {
        let name = name::<RuleName>("name", &raw.name)?;
        if !names.insert(name.clone()) {
            return Err(Invalid::new("name", Problem::Twice(name.as_str().into())));
        }
        Ok(SenderPool::new(name.as_str().into(), senders(raw.senders)?, now))
    };
    let raw = raw.into_iter().map(&mut each).enumerate();
    raw.map(|(index, pool)| pool.map_err(|invalid| invalid.at("sender_pools", index))).collect()
}

fn senders(raw: Vec<String>) -> Result<Vec<Box<str>>, Invalid> {
    check_count("senders", raw.len(), POOL_SENDERS_MAX)?;
    if raw.is_empty() {
        return Err(Invalid::new("senders", Problem::Missing));
    }
    let mut known = BTreeSet::new();
    let mut each = |raw: String| {
        let sender = required("", raw, LABEL_CHARS_MAX)?;
        if known.insert(sender.clone()) { Ok(sender) } else { Err(Invalid::new("", Problem::Twice(sender))) }
    };
    let raw = raw.into_iter().map(&mut each).enumerate();
    raw.map(|(index, sender)| sender.map_err(|invalid| invalid.at("senders", index))).collect()
}

/// Checks who is to take over from whom.
///
/// # Errors
/// The field that is none of a single sender.
pub(crate) fn reassignment(tenant: &Tenant, raw: pb::ReassignSenderRequest) -> Result<(Box<str>, Box<str>), Invalid> {
    let from = required("from", raw.from, LABEL_CHARS_MAX)?;
    let to = required("to", raw.to, LABEL_CHARS_MAX)?;
    for (field, sender) in [("from", &from), ("to", &to)] {
        if tenant.sender_pool(sender).is_some() {
            return Err(Invalid::new(field, Problem::SenderPool));
        }
    }
    if from == to { Err(Invalid::new("to", Problem::SameSender)) } else { Ok((from, to)) }
}

/// Says that too many senders have taken over from others.
pub(crate) fn too_many_reassigned() -> Invalid {
    Invalid::new("from", Problem::TooManyReassigned)
}

/// Shows a pool of senders.
pub(super) fn sender_pool_to_pb(pool: &SenderPool) -> pb::SenderPool {
    let senders = pool.members.iter().map(|member| member.sender.as_ref().into()).collect();
    pb::SenderPool { name: pool.name.as_ref().into(), senders }
}
