//! Decides a claim: whether another copy stands in its way, whether its memory is gone, whether all its caps have room.

use super::change::Change;
use super::people::{Entry, People};
use super::rulesets::Kept;
use super::{Key, key_of, short, short_job};
use crate::domain::cap::{OnLimit, Window};
use crate::domain::time::UnixMicros;
use crate::limits::{CLAIM_LIFE, Claim, Decision, GiveBack, Take};

/// Places looked at for what can be forgotten, with each claim. At two, a memory of n recipients is swept every n / 2
/// claims, so that what is dead is never more than about half of what is live.
const SWEEP_STEPS: usize = 2;

/// What a cap says of one claim.
enum Room {
    /// The touch has its place already.
    Held,
    /// There is room.
    Free,
    /// There is none before this time.
    Full(UnixMicros),
}

impl People {
    /// Decides a claim and takes what it needs, or nothing; `refusal` is what an opt-out or a cancellation says, and
    /// memory from before `changed_at` is gone. Returns the change that makes it last, if there is one.
    pub fn claim(
        &mut self,
        now: UnixMicros,
        claim: &Claim,
        refusal: Option<Decision>,
        changed_at: UnixMicros,
    ) -> (Decision, Option<Change>) {
        self.sweep(now, SWEEP_STEPS);
        let person = key_of(&claim.tenant, claim.recipient.0);
        let job = short_job(claim.job);
        let standing = self.standing(&person, job, now);
        let own = match standing {
            Some(entry) if entry.token == claim.token => true,
            Some(entry) if entry.attempt != claim.supersedes => {
                return (Decision::Held { attempt: entry.attempt, deadline: entry.deadline }, None);
            }
            Some(_) => false,
            None if forgotten(claim, now, changed_at) => return (Decision::Forgotten, None),
            None => false,
        };
        if let Some(refusal) = refusal {
            // The same asking may have claimed before the opt-out came. It got no answer, so nothing went out for it.
            let undone = own && self.remove(&person, job, claim.token);
            return (refusal, undone.then_some(Change::Gone { person, job, token: claim.token }));
        }
        if own {
            return (Decision::Claimed, None);
        }
        match self.room(&person, claim, now) {
            Err(over) => (over, None),
            Ok(kept) => {
                let entry = Entry {
                    at: now,
                    deadline: claim.deadline,
                    job,
                    token: claim.token,
                    touch: short(claim.touch),
                    attempt: claim.attempt,
                };
                self.insert(&person, entry, &kept);
                (Decision::Claimed, Some(Change::Entry { person, entry, kept }))
            }
        }
    }

    /// Gives back what a token took, if it took it.
    pub fn give_back(&mut self, claim: &GiveBack) -> Option<Change> {
        let (person, job) = (key_of(&claim.tenant, claim.recipient.0), short_job(claim.job));
        self.remove(&person, job, claim.token).then_some(Change::Gone { person, job, token: claim.token })
    }

    /// Returns the claim that stands for a job: that of its highest attempt. The claims that it superseded stay, for
    /// when it is given back.
    fn standing(&self, person: &Key, job: u64, now: UnixMicros) -> Option<Entry> {
        let claims = self.entries(person).map(|(entry, _)| entry);
        claims.filter(|entry| entry.job == job && entry.claims_at(now)).max_by_key(|entry| entry.attempt).copied()
    }

    /// Returns the caps in which a place is to be taken, or the refusal of those that have none.
    fn room(&self, person: &Key, claim: &Claim, now: UnixMicros) -> Result<Vec<Kept>, Decision> {
        let touch = short(claim.touch);
        let mut kept = Vec::with_capacity(claim.takes.len());
        let (mut latest, mut dropped) = (None, None);
        for (index, take) in claim.takes.iter().enumerate() {
            match self.room_in(person, take, touch, now) {
                Room::Held => {}
                Room::Free => kept.push(Kept { rule: take.rule, life: life(take.window) }),
                Room::Full(open_at) => {
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
            Some((index, open_at)) => Err(Decision::OverCap { take: dropped.unwrap_or(index), open_at }),
            None => Ok(kept),
        }
    }

    fn room_in(&self, person: &Key, take: &Take, touch: u64, now: UnixMicros) -> Room {
        if take.limit == 0 {
            return Room::Full(UnixMicros::MAX);
        }
        let life = life(take.window);
        let (mut count, mut open_at) = (0, None);
        for (entry, kept) in self.entries(person) {
            let end = UnixMicros(entry.at.0.saturating_add(life));
            if end <= now || kept.iter().all(|kept| kept.rule != take.rule) {
                continue;
            }
            if entry.touch == touch {
                return Room::Held;
            }
            count += 1;
            // Newest first: once this one has left the window, one less than the limit is in it.
            if count == take.limit {
                open_at = Some(end);
            }
        }
        open_at.map_or(Room::Free, Room::Full)
    }
}

/// Returns whether the job may have been handed over without a memory of it.
fn forgotten(claim: &Claim, now: UnixMicros, changed_at: UnixMicros) -> bool {
    claim.seen.is_some_and(|seen| seen < changed_at || seen.plus(CLAIM_LIFE) < now)
}

/// Returns how long a place in the window can matter, in µs.
fn life(window: Window) -> i64 {
    match window {
        Window::Rolling(length) => UnixMicros(0).plus(length).0,
    }
}
