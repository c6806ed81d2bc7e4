//! The bytes that the scripts read and write. Each layout is described in the script's head.

use crate::domain::cap::{Mode, OnLimit};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::keys::{AddressKey, RecipientKey, WordKey};
use crate::domain::rule::{Act, JobRule, Name, Names};
use crate::domain::suppression::{Scope, Suppression};
use crate::domain::time::UnixMicros;
use crate::limits::core::{key_of, kind_number, kind_of, short, short_job, source_number, source_of};
use crate::limits::{
    Against, Claim, Decision, GiveBack, Granted, Held, Lease, LeaseMode, Once, Share, Span, TAKES_MAX, Take, Vacate,
};

/// A script's answer that is not what its head says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Strange;

/// No scope has this number.
const NO_SCOPE: u8 = 255;
const DECISION_BYTES: usize = 19;
const DETAIL_BYTES: usize = 16;
const OPTOUT_BYTES: usize = 27;
/// An opt-out with its address.
pub(super) const ADDRESSED_BYTES: usize = 16 + OPTOUT_BYTES;
const GRANTED_BYTES: usize = 12;
const HELD_BYTES: usize = 33;

/// Appends what `give_back.lua` reads.
pub(super) fn put_give_back(out: &mut Vec<u8>, claim: &GiveBack) {
    out.extend_from_slice(&short_job(claim.job).to_le_bytes());
    out.extend_from_slice(&claim.token.to_le_bytes());
}

/// Appends what `vacate.lua` reads of one memory.
pub(super) fn put_vacate(out: &mut Vec<u8>, vacate: &Vacate) {
    out.extend_from_slice(&short(vacate.touch).to_le_bytes());
    let rules = vacate.rules.get(..TAKES_MAX).unwrap_or(&vacate.rules);
    out.push(u8::try_from(rules.len()).unwrap_or(u8::MAX));
    rules.iter().for_each(|rule| out.extend_from_slice(&rule.to_le_bytes()));
}

/// Returns what `share.lua` reads.
pub(super) fn share(share: &Share) -> Vec<u8> {
    let mut out = share.who.to_le_bytes().to_vec();
    put_time(&mut out, share.turn);
    out.extend_from_slice(&share.total.to_le_bytes());
    out.extend_from_slice(&share.holds.to_le_bytes());
    out.push(u8::from(share.leaves));
    out
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

/// Appends a point rule as `rule.lua` keeps it.
pub(super) fn put_point(out: &mut Vec<u8>, rule: &JobRule, name: Name) {
    let mut names = Vec::with_capacity(17);
    put_name(&mut names, &rule.tenant, name);
    put_rule(out, &names, rule);
}

/// Appends a rule by filter as `rule.lua` keeps it and `claim.lua` reads it.
pub(super) fn put_filter(out: &mut Vec<u8>, rule: &JobRule) {
    const ANY: u8 = 255;
    let Names { kind, class, from, to, .. } = rule.names;
    let mut names =
        vec![rule.act.number(), kind.map_or(ANY, |kind| kind as u8), class.map_or(ANY, |class| class as u8)];
    put_time(&mut names, from.unwrap_or(UnixMicros(i64::MIN)));
    put_time(&mut names, to.unwrap_or(UnixMicros::MAX));
    put_names(&mut names, &rule.tenant, rule.names.each());
    put_rule(out, &names, rule);
}

fn put_rule(out: &mut Vec<u8>, names: &[u8], rule: &JobRule) {
    let detail = rule.act.detail();
    for (part, then) in [(names, Some(rule.at)), (&detail[..], None)] {
        // Names take 3 + 16 + 1 + 7 x 17 bytes at most.
        out.push(u8::try_from(part.len()).unwrap_or(u8::MAX));
        out.extend_from_slice(part);
        then.inspect(|&at| put_time(out, at));
    }
}

/// Appends the newest job of a collapse key as `collapse.lua` reads it.
pub(super) fn put_newest(out: &mut Vec<u8>, at: UnixMicros, job: JobId) {
    put_time(out, at);
    out.extend_from_slice(job.0.as_bytes());
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
    let (answers, details) = bytes.split_at_checked(claims.len() * DECISION_BYTES).ok_or(Strange)?;
    let (answers, _) = answers.as_chunks::<DECISION_BYTES>();
    let (details, rest) = details.as_chunks::<DETAIL_BYTES>();
    let mut details = details.iter();
    let decisions: Result<Vec<_>, _> =
        answers.iter().zip(claims).map(|(answer, claim)| decision(answer, &mut details, claim)).collect();
    if rest.is_empty() && details.next().is_none() { decisions } else { Err(Strange) }
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

/// Reads the places that are taken in each of so many takes.
pub(super) fn held(mut bytes: &[u8], takes: usize) -> Result<Vec<Vec<Held>>, Strange> {
    let mut all = Vec::with_capacity(takes);
    for _ in 0..takes {
        let (count, rest) = bytes.split_first_chunk().ok_or(Strange)?;
        let count = usize::from(u16::from_le_bytes(*count));
        let (held, rest) = rest.split_at_checked(count * HELD_BYTES).ok_or(Strange)?;
        all.push(held.as_chunks::<HELD_BYTES>().0.iter().map(one_held).collect());
        bytes = rest;
    }
    if bytes.is_empty() { Ok(all) } else { Err(Strange) }
}

fn one_held(bytes: &[u8; HELD_BYTES]) -> Held {
    let eight = |from: usize| bytes[from..].first_chunk::<8>().copied().unwrap_or_default();
    Held {
        at: time(eight(0)),
        until: time(eight(8)),
        weight: bytes[16].into(),
        job: u64::from_le_bytes(eight(17)),
        touch: u64::from_le_bytes(eight(25)),
    }
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

fn decision<'a>(
    &[verdict, a, b, ref times @ ..]: &[u8; DECISION_BYTES],
    details: &mut impl Iterator<Item = &'a [u8; DETAIL_BYTES]>,
    claim: &Claim,
) -> Result<Decision, Strange> {
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
        4 if argument == 1 => Decision::Collapsed,
        4 => Decision::Cancelled,
        5 => Decision::OverCap { take: argument.into(), open_at: at, turn_at },
        6 => Decision::Overshadowed(u32::try_from(at.0).map_err(|_| Strange)?),
        7 => match Act::of(1, *details.next().ok_or(Strange)?) {
            Some(Act::Move { due_at, expires_at }) => Decision::Moved { at, due_at, expires_at },
            Some(Act::Cancel | Act::Collapse { .. }) | None => return Err(Strange),
        },
        8 => Decision::Recovering { claimed: argument == 1 },
        _ => return Err(Strange),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "the scripts keep whole microseconds, and infinity saturates")]
fn time(bytes: [u8; 8]) -> UnixMicros {
    UnixMicros(f64::from_le_bytes(bytes) as i64)
}

/// Appends takes as `claim.lua` and `places.lua` read them: how many u8, then each; `log` returns which log it is.
pub(super) fn put_takes(out: &mut Vec<u8>, takes: &[Take], mut log: impl FnMut(RecipientKey) -> u16) {
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
        let flags = [take.on_limit == OnLimit::Drop, take.mode == Mode::Shadow, take.once == Once::Attempt];
        out.push((0..).zip(flags).map(|(bit, flag)| u8::from(flag) << bit).sum());
    }
}

/// Appends how many names u8, then each.
pub(super) fn put_names(out: &mut Vec<u8>, tenant: &TenantId, names: impl Iterator<Item = Name>) {
    let count = out.len();
    out.push(0);
    for name in names {
        put_name(out, tenant, name);
        out[count] += 1;
    }
}

/// Appends a name as point rules are found by: its form and key.
pub(super) fn put_name(out: &mut Vec<u8>, tenant: &TenantId, name: Name) {
    out.push(name.form);
    out.extend_from_slice(&key_of(tenant, name.key));
}

/// Appends the number of a scope and its word.
pub(super) fn put_optional_scope(out: &mut Vec<u8>, scope: Option<Scope>) {
    out.push(scope.map_or(NO_SCOPE, Scope::width));
    out.extend_from_slice(&scope.and_then(Scope::word).unwrap_or(WordKey([0; 16])).0);
}
