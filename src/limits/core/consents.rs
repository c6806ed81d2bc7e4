//! One-time consents. Pure: time is an argument.

use std::collections::HashMap;

use super::change::Change;
use super::{Key, key_of};
use crate::domain::time::UnixMicros;
use crate::limits::consent::{Act, CONSENT_LIFE, ConsentAct, Consented, REMEMBERED};

/// Below this number nothing is pruned.
const PRUNE_MIN: usize = 1024;

/// The consents of one person to one template.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Consent {
    /// How many are left.
    pub left: u8,
    /// Whether there are no others than those that are counted.
    pub exact: bool,
    /// When they were last taken back, in seconds since the epoch; 0: never.
    pub withdrawn_at: u32,
    /// The last that were given, in short, oldest first, each with the second.
    pub given: Vec<(u64, u32)>,
    /// The jobs that took one lately, in short, oldest first, each with how many were given since.
    pub jobs: Vec<(u64, u8)>,
    /// When they are forgotten.
    pub until: UnixMicros,
}

/// The consents by key of tenant, person and template.
#[derive(Debug, Default)]
pub struct Consents {
    consents: HashMap<Key, Consent>,
    prune_at: usize,
}

// === impl Consents ===

impl Consents {
    /// Does what happens; returns what is known then, and the change that makes it last.
    pub fn act(&mut self, now: UnixMicros, asked: &ConsentAct) -> (Consented, Option<Change>) {
        self.prune(now);
        let key = key_of(&asked.tenant, asked.of.0);
        let known = self.consents.get(&key).filter(|consent| consent.until > now);
        let mut consent = match (known, asked.act) {
            (Some(known), _) => known.clone(),
            (None, Act::Taken(_) | Act::Returned(_)) => return (Consented::Unknown, None),
            (None, Act::Given(..) | Act::Withdrawn(_) | Act::Denied(_)) => Consent::default(),
        };
        let (changed, told) = consent.act(asked.act);
        if !changed && known.is_some() {
            return (told, None);
        }
        consent.until = now.plus(CONSENT_LIFE);
        self.set(key, consent.clone());
        (told, Some(Change::Consent { of: key, consent }))
    }

    /// Sets consents to what the log says.
    pub fn set(&mut self, key: Key, consent: Consent) {
        self.consents.insert(key, consent);
    }

    /// Calls `each` with a change for all that have a meaning at `now`.
    pub fn each(&self, now: UnixMicros, mut each: impl FnMut(Change)) {
        for (&of, consent) in self.consents.iter().filter(|(_, consent)| consent.until > now) {
            each(Change::Consent { of, consent: consent.clone() });
        }
    }

    fn prune(&mut self, now: UnixMicros) {
        if self.consents.len() >= self.prune_at.max(PRUNE_MIN) {
            self.consents.retain(|_, consent| consent.until > now);
            self.prune_at = self.consents.len() * 2;
        }
    }
}

// === impl Consent ===

impl Consent {
    /// Writes all of it, for the log.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let Self { left, exact, withdrawn_at, given, jobs, until } = self;
        // Of each there are REMEMBERED at most.
        let counts = [given.len(), jobs.len()].map(|count| u8::try_from(count).unwrap_or(u8::MAX));
        out.extend_from_slice(&[*left, u8::from(*exact), counts[0], counts[1]]);
        out.extend_from_slice(&withdrawn_at.to_le_bytes());
        for (id, second) in given {
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&second.to_le_bytes());
        }
        for (id, since) in jobs {
            out.extend_from_slice(&id.to_le_bytes());
            out.push(*since);
        }
        out.extend_from_slice(&until.0.to_le_bytes());
    }

    /// Does what happens; returns whether that changes anything, and what is known then.
    fn act(&mut self, act: Act) -> (bool, Consented) {
        let (_, id, second) = act.parts();
        let took = self.jobs.iter().position(|&(job, _)| job == id);
        let changed = match act {
            Act::Given(..) => self.give(id, second),
            Act::Withdrawn(_) => self.withdraw(second),
            Act::Taken(_) if took.is_some() => false,
            Act::Taken(_) if self.left == 0 => {
                return (false, if self.exact { Consented::None } else { Consented::Unknown });
            }
            Act::Taken(_) => {
                self.left -= 1;
                remember(&mut self.jobs, (id, 0))
            }
            Act::Returned(_) => took.is_some_and(|place| {
                self.jobs.remove(place);
                self.left = self.left.saturating_add(1);
                true
            }),
            Act::Denied(_) => self.deny(took),
        };
        (changed, Consented::Left(self.left))
    }

    /// Counts one more, unless it is known, or was taken back before it was told.
    fn give(&mut self, id: u64, second: u32) -> bool {
        if second < self.withdrawn_at || self.given.iter().any(|&(known, _)| known == id) {
            return false;
        }
        self.left = self.left.saturating_add(1);
        self.jobs.iter_mut().for_each(|(_, since)| *since = since.saturating_add(1));
        remember(&mut self.given, (id, second))
    }

    /// Leaves what was given at that second or later; of two in one second nobody knows which came first.
    fn withdraw(&mut self, second: u32) -> bool {
        if second <= self.withdrawn_at {
            return false;
        }
        let since = self.given.iter().filter(|&&(_, given_at)| given_at >= second).count();
        self.left = self.left.min(u8::try_from(since).unwrap_or(u8::MAX));
        // Nor do those that were taken come back.
        (self.exact, self.withdrawn_at, self.jobs) = (true, second, vec![]);
        true
    }

    /// Leaves what was given since the job at that place took its own; of a job that took none, nothing is known of that.
    fn deny(&mut self, took: Option<usize>) -> bool {
        match took {
            Some(place) => {
                let (_, since) = self.jobs.remove(place);
                (self.left, self.exact) = (self.left.min(since), true);
                true
            }
            None => self.left == 0 && !std::mem::replace(&mut self.exact, true),
        }
    }
}

/// Remembers an id as the last; always a change.
fn remember<T>(ids: &mut Vec<T>, id: T) -> bool {
    if ids.len() >= REMEMBERED {
        ids.remove(0);
    }
    ids.push(id);
    true
}
