//! The bytes that the scripts read and write. Each layout is described in the script's head.

use crate::domain::cap::{Mode, OnLimit};
use crate::domain::ids::TenantId;
use crate::domain::job::Class;
use crate::domain::keys::{AddressKey, RecipientKey, WordKey};
use crate::domain::suppression::{CancelBy, CancelRule, Scope, Suppression};
use crate::domain::time::UnixMicros;
use crate::limits::core::{key_of, kind_number, kind_of, short, short_job, source_number, source_of};
use crate::limits::{Against, Claim, Decision, GiveBack, Granted, Lease, LeaseMode, Span, TAKES_MAX, Take};

/// A script's answer that is not what its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strange;

/// No scope has this number.
const NO_SCOPE: u8 = 255;
const DECISION_BYTES: usize = 19;
const OPTOUT_BYTES: usize = 27;
/// An opt-out with its address.
pub(super) const ADDRESSED_BYTES: usize = 16 + OPTOUT_BYTES;
const GRANTED_BYTES: usize = 12;

/// Appends a claim as `claim.lua` reads it; `tenant` is the index of its cancellations' key, and `log` returns the index
/// of a log's key.
pub(super) fn put_claim(out: &mut Vec<u8>, claim: &Claim, tenant: u16, log: impl FnMut(RecipientKey) -> u16) {
    let against = &claim.against;
    out.extend_from_slice(&short_job(claim.job).to_le_bytes());
    out.extend_from_slice(&claim.token.to_le_bytes());
    out.extend_from_slice(&short(claim.touch).to_le_bytes());
    out.extend_from_slice(&claim.attempt.to_le_bytes());
    out.extend_from_slice(&claim.supersedes.to_le_bytes());
    put_time(out, claim.deadline);
    put_time(out, claim.seen.unwrap_or(UnixMicros(-1)));
    out.extend_from_slice(&tenant.to_le_bytes());
    put_time(out, claim.expires_at);
    put_takes(out, &claim.takes, log);
    out.push(match against.class {
        Class::Otp | Class::Transactional => 0,
        Class::Notification | Class::Marketing => 1,
    });
    out.push(kind_number(Some(against.kind)));
    out.extend_from_slice(&against.address.0);
    put_optional_scope(out, against.sender.map(Scope::Sender));
    put_optional_scope(out, against.signature.map(Scope::Signature));
    put_optional_scope(out, against.topic.map(Scope::Topic));
    put_targets(out, claim);
    put_time(out, against.accepted_at);
}

/// Appends what `give_back.lua` reads.
pub(super) fn put_give_back(out: &mut Vec<u8>, claim: &GiveBack) {
    out.extend_from_slice(&short_job(claim.job).to_le_bytes());
    out.extend_from_slice(&claim.token.to_le_bytes());
}

/// Appends an opt-out as `suppress.lua` keeps it.
pub(super) fn put_optout(out: &mut Vec<u8>, suppression: &Suppression) {
    put_optional_scope(out, Some(suppression.scope));
    out.push(kind_number(suppression.kind));
    out.push(source_number(suppression.source));
    put_time(out, suppression.at);
}

/// Returns what `unsuppress.lua` looks for: scope and kind, as 18 bytes.
pub(super) fn taken_back(suppression: &Suppression) -> Vec<u8> {
    let mut out = Vec::with_capacity(OPTOUT_BYTES);
    put_optional_scope(&mut out, Some(suppression.scope));
    out.push(kind_number(suppression.kind));
    out
}

/// Appends a cancellation as `cancel.lua` reads it.
pub(super) fn put_cancel(out: &mut Vec<u8>, rule: &CancelRule) {
    put_target(out, &rule.tenant, &rule.by);
    put_time(out, rule.at);
}

/// Appends a lease as `lease.lua` reads it.
pub(super) fn put_lease(out: &mut Vec<u8>, lease: &Lease) {
    out.extend_from_slice(&lease.rate.per_s.get().to_le_bytes());
    out.extend_from_slice(&lease.rate.burst.get().to_le_bytes());
    out.extend_from_slice(&lease.keep.to_le_bytes());
    out.extend_from_slice(&lease.want.to_le_bytes());
    out.push(match lease.mode {
        LeaseMode::UpTo => 0,
        LeaseMode::Whole => 1,
        LeaseMode::Force => 2,
    });
}

/// Appends a time: exact up to the year 2255, which a double of microseconds reaches.
#[expect(clippy::cast_precision_loss, reason = "later times are rounded, and only ever stand for never")]
pub(super) fn put_time(out: &mut Vec<u8>, time: UnixMicros) {
    out.extend_from_slice(&(time.0 as f64).to_le_bytes());
}

/// Reads the decisions of `claim.lua`.
pub(super) fn decisions(bytes: &[u8], claims: &[Claim]) -> Result<Vec<Decision>, Strange> {
    let (answers, rest) = bytes.as_chunks::<DECISION_BYTES>();
    if answers.len() != claims.len() || !rest.is_empty() {
        return Err(Strange);
    }
    answers.iter().zip(claims).map(|(answer, claim)| decision(answer, claim)).collect()
}

/// Reads the grants of `lease.lua`.
pub(super) fn granted(bytes: &[u8], count: usize) -> Result<Vec<Granted>, Strange> {
    let (answers, rest) = bytes.as_chunks::<GRANTED_BYTES>();
    if answers.len() != count || !rest.is_empty() {
        return Err(Strange);
    }
    let granted = |&[a, b, c, d, ref next_at @ ..]: &[u8; GRANTED_BYTES]| Granted {
        tokens: u32::from_le_bytes([a, b, c, d]),
        next_at: time(*next_at),
    };
    Ok(answers.iter().map(granted).collect())
}

/// Reads the opt-outs of an address.
pub(super) fn suppressions(bytes: &[u8], tenant: &TenantId, address: AddressKey) -> Result<Vec<Suppression>, Strange> {
    let (optouts, rest) = bytes.as_chunks::<OPTOUT_BYTES>();
    if !rest.is_empty() {
        return Err(Strange);
    }
    let read = |bytes: &[u8; OPTOUT_BYTES]| {
        let word = WordKey(*bytes[1..].first_chunk().ok_or(Strange)?);
        let scope = Scope::of_width(bytes[0], word).ok_or(Strange)?;
        let kind = kind_of(bytes[17]).ok_or(Strange)?;
        let source = source_of(bytes[18]).ok_or(Strange)?;
        let at = time(*bytes.last_chunk().ok_or(Strange)?);
        Ok(Suppression { tenant: tenant.clone(), address, scope, kind, source, at })
    };
    optouts.iter().map(read).collect()
}

fn decision(&[verdict, a, b, ref times @ ..]: &[u8; DECISION_BYTES], claim: &Claim) -> Result<Decision, Strange> {
    let at = |n| times.as_chunks().0.get(n).copied().map(time).ok_or(Strange);
    let (argument, at, turn_at) = (u16::from_le_bytes([a, b]), at(0)?, at(1)?);
    Ok(match verdict {
        0 => Decision::Claimed,
        1 => Decision::Held { attempt: argument, deadline: at },
        2 => Decision::Forgotten,
        3 => {
            let Against { sender, signature, topic, .. } = claim.against;
            let word = [sender, signature, topic].get(usize::from(argument)).copied().flatten();
            let width = u8::try_from(argument).map_err(|_| Strange)?;
            let scope = Scope::of_width(width, word.unwrap_or(WordKey([0; 16]))).ok_or(Strange)?;
            Decision::Suppressed(scope)
        }
        4 => Decision::Cancelled,
        5 => Decision::OverCap { take: argument.into(), open_at: at, turn_at },
        6 => Decision::Overshadowed(u32::try_from(at.0).map_err(|_| Strange)?),
        _ => return Err(Strange),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the scripts keep whole microseconds, and infinity saturates")]
fn time(bytes: [u8; 8]) -> UnixMicros {
    UnixMicros(f64::from_le_bytes(bytes) as i64)
}

fn put_takes(out: &mut Vec<u8>, takes: &[Take], mut log: impl FnMut(RecipientKey) -> u16) {
    let takes = &takes[..takes.len().min(TAKES_MAX)];
    out.push(u8::try_from(takes.len()).unwrap_or(u8::MAX));
    let length = |length| (UnixMicros(0).plus(length), UnixMicros(0));
    for take in takes {
        let (span, (a, b)) = match take.span {
            Span::Rolling(of) => (0, length(of)),
            Span::Fixed { start, end } => (1, (start, end)),
            Span::FromFirst(of) => (2, length(of)),
            Span::Bucket(refill) => (3, length(refill)),
        };
        out.extend_from_slice(&take.rule.to_le_bytes());
        out.extend_from_slice(&take.log.map_or(0, &mut log).to_le_bytes());
        out.extend_from_slice(&u16::try_from(take.limit).unwrap_or(u16::MAX).to_le_bytes());
        out.push(u8::try_from(take.need).unwrap_or(u8::MAX));
        out.push(span);
        put_time(out, a);
        put_time(out, b);
        out.push(u8::from(take.on_limit == OnLimit::Drop) | u8::from(take.mode == Mode::Shadow) << 1);
    }
}

fn put_targets(out: &mut Vec<u8>, claim: &Claim) {
    let against = &claim.against;
    let targets = [
        Some(CancelBy::Job(claim.job)),
        against.cancel_key.map(CancelBy::Key),
        Some(CancelBy::Recipient(claim.recipient)),
        against.batch.map(CancelBy::Batch),
        against.campaign.map(CancelBy::Campaign),
        against.run.map(CancelBy::Run),
    ];
    let count = out.len();
    out.push(0);
    for by in targets.iter().flatten() {
        put_target(out, &claim.tenant, by);
        out[count] += 1;
    }
}

fn put_target(out: &mut Vec<u8>, tenant: &TenantId, by: &CancelBy) {
    let (form, key) = match by {
        CancelBy::Job(job) => (0, job.0.into_bytes()),
        CancelBy::Key(WordKey(key)) => (1, *key),
        CancelBy::Recipient(RecipientKey(key)) => (2, *key),
        CancelBy::Batch(batch) => (3, batch.into_bytes()),
        CancelBy::Campaign(WordKey(key)) => (4, *key),
        CancelBy::Run(WordKey(key)) => (5, *key),
    };
    out.push(form);
    out.extend_from_slice(&key_of(tenant, key));
}

fn put_optional_scope(out: &mut Vec<u8>, scope: Option<Scope>) {
    out.push(scope.map_or(NO_SCOPE, Scope::width));
    out.extend_from_slice(&scope.and_then(Scope::word).unwrap_or(WordKey([0; 16])).0);
}
