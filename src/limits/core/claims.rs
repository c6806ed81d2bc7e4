//! Decides a claim: whether another copy stands in its way, whether its memory is gone, whether all its caps have room.

use super::change::Change;
use super::people::{Entry, People};
use super::room::{self, Place, Room};
use super::rulesets::Kept;
use super::{Key, key_of, short, short_job};
use crate::domain::cap::{Mode, OnLimit};
use crate::domain::keys::RecipientKey;
use crate::domain::time::UnixMicros;
use crate::limits::{CLAIM_LIFE, Claim, Decision, GiveBack, Take};

/// Places looked at for what can be forgotten, with each claim. At two, a memory of n recipients is swept every n / 2
/// claims, so that what is dead is never more than about half of what is live.
const SWEEP_STEPS: usize = 2;

/// Where the logs are that one claim is about: its recipient's, and those of its takes that are in others.
pub trait Memory {
    /// Returns the people among whom a log is.
    fn people(&mut self, log: &Key) -> &mut People;
}

impl Memory for People {
    fn people(&mut self, _log: &Key) -> &mut People {
        self
    }
}

/// When a claim is decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct When {
    /// Now: never earlier than in the claim before.
    pub now: UnixMicros,
    /// Memory from before is gone.
    pub changed_at: UnixMicros,
}

/// Decides a claim and takes what it needs, or nothing; `refusal` is what an opt-out or a cancellation says. Tells
/// `changed` every change that makes it last.
pub fn claim(
    memory: &mut impl Memory,
    When { now, changed_at }: When,
    claim: &Claim,
    refusal: Option<Decision>,
    mut changed: impl FnMut(Change),
) -> Decision {
    let person = key_of(&claim.tenant, claim.recipient.0);
    let people = memory.people(&person);
    people.sweep(now, SWEEP_STEPS);
    let own = match people.standing(&person, short_job(claim.job), now) {
        Some(entry) if entry.token == claim.token => true,
        Some(entry) if entry.attempt != claim.supersedes => {
            return Decision::Held { attempt: entry.attempt, deadline: entry.deadline };
        }
        Some(_) => false,
        None if forgotten(claim, now, changed_at) => return Decision::Forgotten,
        None => false,
    };
    if let Some(refusal) = refusal {
        if own {
            // The same asking may have claimed before the opt-out came. It got no answer, so nothing went out for it.
            give_back(memory, &claim.give_back(), changed);
        }
        return refusal;
    }
    if own {
        return Decision::Claimed;
    }
    let touch = short(claim.touch);
    let rooms: Vec<Room> = claim
        .takes
        .iter()
        .map(|take| {
            let log = log_of(claim, take.log);
            room::room(take, memory.people(&log).places(&log, take.rule), touch, now)
        })
        .collect();
    match over(&claim.takes, &rooms) {
        Err((index, latest, open_at)) => {
            let take = &claim.takes[latest];
            let waits = claim.takes[index].on_limit == OnLimit::Defer;
            let turn_at = if waits { turn(memory, claim, take, open_at, now) } else { open_at };
            Decision::OverCap { take: index, open_at, turn_at }
        }
        Ok(shadows) => {
            take_places(memory, now, claim, &rooms, &mut changed);
            if shadows == 0 { Decision::Claimed } else { Decision::Overshadowed(shadows) }
        }
    }
}

/// Gives back what a token took, if it took it, in every log.
pub fn give_back(memory: &mut impl Memory, claim: &GiveBack, mut changed: impl FnMut(Change)) {
    let job = short_job(claim.job);
    for log in std::iter::once(&claim.recipient).chain(&claim.logs) {
        let person = key_of(&claim.tenant, log.0);
        if memory.people(&person).remove(&person, job, claim.token) {
            changed(Change::Gone { person, job, token: claim.token });
        }
    }
}

/// Returns the key of the log that a take is in.
fn log_of(claim: &Claim, log: Option<RecipientKey>) -> Key {
    key_of(&claim.tenant, log.unwrap_or(claim.recipient).0)
}

/// Returns the shadows without room as bits; or, where a rule that binds has none, the take that says so, the one that
/// opens last, and when.
fn over(takes: &[Take], rooms: &[Room]) -> Result<u32, (usize, usize, UnixMicros)> {
    let (mut shadows, mut latest, mut dropped) = (0, None, None);
    for (index, (take, room)) in takes.iter().zip(rooms).enumerate() {
        let &Room::Full(open_at) = room else { continue };
        match take.mode {
            Mode::Shadow => shadows |= 1_u32.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0),
            Mode::Enforce => {
                if latest.is_none_or(|(_, latest)| open_at > latest) {
                    latest = Some((index, open_at));
                }
                if take.on_limit == OnLimit::Drop && dropped.is_none() {
                    dropped = Some(index);
                }
            }
        }
    }
    match latest {
        // Places only become free with time, so when the last of the full caps opens, all have room.
        Some((latest, open_at)) => Err((dropped.unwrap_or(latest), latest, open_at)),
        None => Ok(shadows),
    }
}

/// Says when a job's turn comes that has to wait for a cap.
fn turn(memory: &mut impl Memory, claim: &Claim, take: &Take, open_at: UnixMicros, now: UnixMicros) -> UnixMicros {
    if open_at >= claim.expires_at {
        return open_at;
    }
    let log = log_of(claim, take.log);
    let people = memory.people(&log);
    let mut told = people.told.remove(&log).unwrap_or_default();
    let turn = room::turn(&mut told, take, people.places(&log, take.rule), (open_at, claim.expires_at), now);
    if !told.is_empty() {
        people.told.insert(log, told);
    }
    turn
}

/// Takes the free places: one entry in the recipient's log, which is the claim too, and one in each other log.
fn take_places(
    memory: &mut impl Memory,
    now: UnixMicros,
    claim: &Claim,
    rooms: &[Room],
    changed: &mut impl FnMut(Change),
) {
    let entry = Entry {
        at: now,
        deadline: claim.deadline,
        job: short_job(claim.job),
        token: claim.token,
        touch: short(claim.touch),
        attempt: claim.attempt,
    };
    let mut enter = |log: Option<RecipientKey>, entry: Entry| {
        let free = |(take, room): (&Take, &Room)| match *room {
            Room::Free(until) if take.log == log => Some(Kept { rule: take.rule, weight: take.need, until }),
            Room::Free(_) | Room::Held | Room::Full(_) => None,
        };
        let kept: Vec<Kept> = claim.takes.iter().zip(rooms).filter_map(free).collect();
        if log.is_none() || !kept.is_empty() {
            let person = log_of(claim, log);
            memory.people(&person).insert(&person, entry, &kept);
            changed(Change::Entry { person, entry, kept });
        }
    };
    enter(None, entry);
    for (index, take) in claim.takes.iter().enumerate() {
        if take.log.is_some() && claim.takes[..index].iter().all(|earlier| earlier.log != take.log) {
            // No claim: that is in the recipient's log.
            enter(take.log, Entry { deadline: UnixMicros(0), ..entry });
        }
    }
}

/// Returns whether the job may have been handed over without a memory of it.
fn forgotten(claim: &Claim, now: UnixMicros, changed_at: UnixMicros) -> bool {
    claim.seen.is_some_and(|seen| seen < changed_at || seen.plus(CLAIM_LIFE) < now)
}

impl People {
    /// Returns the claim that stands for a job: that of its highest attempt. The claims that it superseded stay, for
    /// when it is given back.
    fn standing(&self, person: &Key, job: u64, now: UnixMicros) -> Option<Entry> {
        let claims = self.entries(person).map(|(entry, _)| entry);
        claims.filter(|entry| entry.job == job && entry.claims_at(now)).max_by_key(|entry| entry.attempt).copied()
    }

    /// Returns the places of a rule in a log, newest first.
    fn places(&self, log: &Key, rule: u32) -> impl Iterator<Item = Place> {
        self.entries(log).filter_map(move |(entry, kept)| {
            let kept = kept.iter().find(|kept| kept.rule == rule)?;
            Some(Place { at: entry.at, weight: kept.weight, until: kept.until, touch: entry.touch })
        })
    }
}
