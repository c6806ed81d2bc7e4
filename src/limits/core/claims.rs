//! Decides a claim: whether another copy stands in its way, whether its memory is gone, whether all its caps have room.

use super::change::Change;
use super::people::{Entry, People};
use super::room::{self, Place, Room};
use super::rulesets::Kept;
use super::{Key, key_of, short, short_job};
use crate::domain::cap::{Mode, OnLimit};
use crate::domain::keys::RecipientKey;
use crate::domain::time::UnixMicros;
use crate::limits::{CLAIM_LIFE, Claim, Decision, GiveBack, Held, Take, Touch, Vacate};

/// Places looked at for what can be forgotten, with each claim. At two, a memory of n recipients is swept every n / 2
/// claims, so that what is dead is never more than about half of what is live.
const SWEEP_STEPS: usize = 2;

/// A limit that nobody reaches, for touches that have happened.
const NEVER_FULL: u32 = 1_000_000;

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

/// What is to be done about a claim.
enum Verdict {
    /// Its places are to be taken: in which caps, and the shadows without room as bits.
    Take(Vec<Room>, u32),
    /// The same asking took them before.
    Taken,
    /// Nothing is to be taken.
    Refuse(Decision),
    /// Nothing is to be taken, and what the same asking took is to be undone: it got no answer, so nothing went out.
    Undo(Decision),
    /// A cap has no room: the take that says so, the one that opens last, and when.
    Over(usize, usize, UnixMicros),
}

/// Decides a claim and takes what it needs, or nothing; `refusal` is what an opt-out or a rule says. Tells `changed` every
/// change that makes it last.
pub fn claim(
    memory: &mut impl Memory,
    when: When,
    claim: &Claim,
    refusal: Option<Decision>,
    mut changed: impl FnMut(Change),
) -> Decision {
    let person = key_of(&claim.tenant, claim.recipient.0);
    memory.people(&person).sweep(when.now, SWEEP_STEPS);
    match decide(memory, when, claim, refusal) {
        Verdict::Taken => Decision::Claimed,
        Verdict::Refuse(decision) => decision,
        Verdict::Undo(decision) => {
            give_back(memory, &claim.give_back(), changed);
            decision
        }
        Verdict::Over(index, latest, open_at) => {
            let log = log_of(claim, claim.takes[latest].log);
            let mut told = memory.people(&log).told.remove(&log).unwrap_or_default();
            let over = over_cap(memory, when.now, claim, (index, latest, open_at), &mut told);
            if !told.is_empty() {
                memory.people(&log).told.insert(log, told);
            }
            over
        }
        Verdict::Take(rooms, shadows) => {
            take_places(memory, when.now, claim, &rooms, &mut changed);
            taken(shadows)
        }
    }
}

/// Returns what [`claim`] would decide, and takes nothing.
pub fn peek(memory: &mut impl Memory, when: When, claim: &Claim, refusal: Option<Decision>) -> Decision {
    match decide(memory, when, claim, refusal) {
        Verdict::Taken => Decision::Claimed,
        Verdict::Refuse(decision) | Verdict::Undo(decision) => decision,
        Verdict::Over(index, latest, open_at) => {
            let log = log_of(claim, claim.takes[latest].log);
            let mut told = memory.people(&log).told.get(&log).cloned().unwrap_or_default();
            over_cap(memory, when.now, claim, (index, latest, open_at), &mut told)
        }
        Verdict::Take(_, shadows) => taken(shadows),
    }
}

fn decide(
    memory: &mut impl Memory,
    When { now, changed_at }: When,
    claim: &Claim,
    refusal: Option<Decision>,
) -> Verdict {
    let person = key_of(&claim.tenant, claim.recipient.0);
    let own = match memory.people(&person).standing(&person, short_job(claim.job), now) {
        Some(entry) if entry.token == claim.token => true,
        Some(entry) if entry.attempt != claim.supersedes => {
            return Verdict::Refuse(Decision::Held { attempt: entry.attempt, deadline: entry.deadline });
        }
        Some(_) => false,
        None if forgotten(claim, now, changed_at) => return Verdict::Refuse(Decision::Forgotten),
        None => false,
    };
    match refusal {
        // The same asking may have claimed before the refusal came.
        Some(refusal) if own => return Verdict::Undo(refusal),
        Some(refusal) => return Verdict::Refuse(refusal),
        None if own => return Verdict::Taken,
        None => {}
    }
    let rooms = rooms(memory, claim, now);
    match over(&claim.takes, &rooms) {
        Err((index, latest, open_at)) => Verdict::Over(index, latest, open_at),
        Ok(shadows) => Verdict::Take(rooms, shadows),
    }
}

fn taken(shadows: u32) -> Decision {
    if shadows == 0 { Decision::Claimed } else { Decision::Overshadowed(shadows) }
}

/// Takes the places of a touch as of its time, whether there is room or not, unless its attempt is known.
pub fn restore(memory: &mut impl Memory, Touch { claim, at }: &Touch, mut changed: impl FnMut(Change)) {
    let (person, attempt) = (key_of(&claim.tenant, claim.recipient.0), (short_job(claim.job), claim.attempt));
    if memory.people(&person).entries(&person).any(|(entry, _)| (entry.job, entry.attempt) == attempt) {
        return;
    }
    let takes = claim.takes.iter().map(|take| Take { limit: NEVER_FULL, ..take.clone() }).collect();
    let claim = Claim { deadline: *at, takes, ..claim.clone() };
    let rooms = rooms(memory, &claim, *at);
    take_places(memory, *at, &claim, &rooms, &mut changed);
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

/// Frees the places that a touch holds in some caps, in every log; its claims stand.
pub fn vacate(memory: &mut impl Memory, vacate: &Vacate, mut changed: impl FnMut(Change)) {
    let Vacate { tenant, recipient, touch, rules, logs } = vacate;
    let touch = short(*touch);
    for log in std::iter::once(recipient).chain(logs) {
        let person = key_of(tenant, log.0);
        if memory.people(&person).vacate(&person, touch, rules) {
            changed(Change::Vacated { person, touch, rules: rules.clone() });
        }
    }
}

/// Returns the places that are taken at `now` in each of a claim's caps, newest first.
pub fn places(memory: &mut impl Memory, claim: &Claim, now: UnixMicros) -> Vec<Vec<Held>> {
    let mut of_take = |take: &Take| {
        let log = log_of(claim, take.log);
        let held = |(entry, kept): (&Entry, &[Kept])| {
            let place = Place::of(entry, kept, take.rule)?;
            let until = room::counted_until(take.span, &place, now)?;
            Some(Held { at: entry.at, weight: place.weight, until, job: entry.job, touch: entry.touch })
        };
        memory.people(&log).entries(&log).filter_map(held).collect()
    };
    claim.takes.iter().map(&mut of_take).collect()
}

/// Returns what each of a claim's caps says at `now`.
fn rooms(memory: &mut impl Memory, claim: &Claim, now: UnixMicros) -> Vec<Room> {
    let touch = short(claim.touch);
    let room = |take: &Take| {
        let log = log_of(claim, take.log);
        room::room(take, memory.people(&log).places(&log, take.rule), touch, now)
    };
    claim.takes.iter().map(room).collect()
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

/// Says that a cap has no room, and when the job's turn comes if it has to wait; notes that in what others were `told`.
fn over_cap(
    memory: &mut impl Memory,
    now: UnixMicros,
    claim: &Claim,
    (index, latest, open_at): (usize, usize, UnixMicros),
    told: &mut Vec<(UnixMicros, u32)>,
) -> Decision {
    let take = &claim.takes[latest];
    let waits = claim.takes[index].on_limit == OnLimit::Defer && open_at < claim.expires_at;
    let turn_at = if waits {
        let log = log_of(claim, take.log);
        let people = memory.people(&log);
        room::turn(told, take, people.places(&log, take.rule), (open_at, claim.expires_at), now)
    } else {
        open_at
    };
    Decision::OverCap { take: index, open_at, turn_at }
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
        self.entries(log).filter_map(move |(entry, kept)| Place::of(entry, kept, rule))
    }
}
