//! Senders that stand in for one another: pools of them, and who took over from whom. Pure.
//!
//! Which member of a pool a recipient is written to by is drawn by both of them alone, so every process draws the same
//! (rendezvous hashing). That a recipient keeps it while members come is remembered elsewhere: see admission.

use uuid::Uuid;

use super::keys::RecipientKey;
use super::time::UnixMicros;

/// Most pools of senders of a tenant.
pub const SENDER_POOLS_MAX: usize = 64;
/// Most senders of a pool, and most that have left one and are remembered.
pub const POOL_SENDERS_MAX: usize = 256;
/// Most reassignments of a tenant that are remembered.
pub const REASSIGNED_MAX: usize = 1_000;

/// A pool of senders of a tenant. A job that names it as its sender leaves from one of its members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SenderPool {
    /// What jobs name.
    pub name: Box<str>,
    /// Its members, at most [`POOL_SENDERS_MAX`], never none.
    pub members: Vec<Member>,
    /// Those that others took over from, the newest last.
    pub left: Vec<Member>,
}

/// A sender in a pool. One that comes back after it was gone is another member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// The sender.
    pub sender: Box<str>,
    /// Since when it is there.
    pub since: UnixMicros,
}

/// What one sender had, another has from then on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reassigned {
    /// The one that went.
    pub from: Box<str>,
    /// The one that took over.
    pub to: Box<str>,
    /// When.
    pub at: UnixMicros,
}

/// A member that a recipient may be kept by, or be given to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate<'a> {
    /// The member.
    pub member: &'a Member,
    /// What stands for it.
    pub mark: Uuid,
    /// Whether it is still there: who is new is given to nobody else.
    pub there: bool,
}

// === impl SenderPool ===

impl SenderPool {
    /// Returns a new pool.
    pub fn new(name: Box<str>, senders: Vec<Box<str>>, now: UnixMicros) -> Self {
        let member = |sender| Member { sender, since: now };
        Self { name, members: senders.into_iter().map(member).collect(), left: vec![] }
    }

    /// Returns the pool as the next state of another: those that stay are the members that they were.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        for member in &mut self.members {
            let known = before.members.iter().find(|known| known.sender == member.sender);
            member.since = known.map_or(member.since, |known| known.since);
        }
        Self { left: before.left.clone(), ..self }
    }

    /// Returns what stands for each member, those that left behind those that are there: what [`SenderPool::ranked`] takes,
    /// so that it is worked out once for many recipients.
    pub fn marks(&self) -> Vec<Uuid> {
        let mark = |member: &Member| {
            let name = format!("{} {}", member.since.0, member.sender);
            Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
        };
        self.members.iter().chain(&self.left).map(mark).collect()
    }

    /// Returns all whom a recipient may be kept by, the likeliest first.
    pub fn ranked(&self, marks: &[Uuid], recipient: RecipientKey) -> Vec<Candidate<'_>> {
        let (high, low) = Uuid::from_bytes(recipient.0).as_u64_pair();
        let there = self.members.iter().map(|member| (member, true));
        let gone = self.left.iter().map(|member| (member, false));
        let score = |mark: &Uuid| mixed(high ^ low ^ mark.as_u64_pair().0);
        let all = there.chain(gone).zip(marks);
        let mut ranked: Vec<_> =
            all.map(|((member, there), &mark)| (score(&mark), Candidate { member, mark, there })).collect();
        ranked.sort_unstable_by_key(|(score, one)| (std::cmp::Reverse(*score), one.mark));
        ranked.into_iter().map(|(_, one)| one).collect()
    }

    /// Lets `to` take over from `from`; returns whether that was a member.
    fn reassign(&mut self, from: &str, to: &str, at: UnixMicros) -> bool {
        let Some(place) = self.members.iter().position(|member| *member.sender == *from) else { return false };
        let gone = self.members.remove(place);
        if !self.members.iter().any(|member| *member.sender == *to) {
            self.members.insert(place, Member { sender: to.into(), since: at });
        }
        if self.left.len() >= POOL_SENDERS_MAX {
            self.left.remove(0);
        }
        self.left.push(gone);
        true
    }
}

/// Notes that `to` takes over from `from`, in all of a tenant's pools, and forgets what was noted before `forget`, when no job
/// is left that it binds and no member that others keep to. Returns `false`, and changes nothing, where there is no room.
pub fn reassign(
    pools: &mut [SenderPool],
    noted: &mut Vec<Reassigned>,
    (from, to): (&str, &str),
    (at, forget): (UnixMicros, UnixMicros),
) -> bool {
    let needed = |one: &Reassigned| {
        let keeps =
            |pool: &SenderPool| pool.left.iter().any(|member| member.sender == one.from && member.since <= one.at);
        one.at >= forget || pools.iter().any(keeps)
    };
    noted.retain(needed);
    if noted.len() >= REASSIGNED_MAX {
        return false;
    }
    for pool in pools {
        pool.reassign(from, to, at);
    }
    noted.push(Reassigned { from: from.into(), to: to.into(), at });
    true
}

/// Returns who has by `now` what `sender` had at `since`, if another took over: in the end it may be `sender` again. `noted`
/// is in order of time.
pub fn successor<'a>(noted: &'a [Reassigned], sender: &str, (since, now): (UnixMicros, UnixMicros)) -> Option<&'a str> {
    let mut found: Option<&str> = None;
    for one in noted.iter().filter(|one| one.at >= since && one.at <= now) {
        if *one.from == *found.unwrap_or(sender) {
            found = Some(&one.to);
        }
    }
    found
}

/// Spreads a number over all 64 bits (the finalizer of SplitMix64).
const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    fn at(secs: i64) -> UnixMicros {
        UnixMicros::from_secs(secs)
    }

    fn pool(senders: &[&str]) -> SenderPool {
        SenderPool::new("staff".into(), senders.iter().map(|&sender| sender.into()).collect(), at(0))
    }

    fn recipient(number: u64) -> RecipientKey {
        RecipientKey(Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_le_bytes()).into_bytes())
    }

    /// Returns who each of 3 000 recipients is drawn to.
    fn drawn(pool: &SenderPool) -> Vec<&str> {
        let marks = pool.marks();
        let first = |number| &*pool.ranked(&marks, recipient(number))[0].member.sender;
        (0..3_000).map(first).collect()
    }

    #[test]
    fn recipients_are_spread_evenly_and_a_new_member_moves_only_those_it_gets() {
        let three = pool(&["a", "b", "c"]);
        let before = drawn(&three);
        let mut counts: HashMap<&str, usize> = HashMap::new();
        before.iter().for_each(|sender| *counts.entry(sender).or_default() += 1);
        assert!(counts.values().all(|&count| (850..1_150).contains(&count)), "{counts:?}");
        let four = SenderPool::new("staff".into(), ["c", "a", "d", "b"].map(Into::into).to_vec(), at(5)).after(&three);
        let moved: Vec<_> = drawn(&four).into_iter().zip(&before).filter(|(after, before)| after != *before).collect();
        assert!(moved.iter().all(|(after, _)| *after == "d") && (600..900).contains(&moved.len()), "{}", moved.len());
        assert_eq!(four.members[1].since, at(0), "who stays is who it was");
    }

    #[test]
    fn what_one_had_its_successor_has_and_who_comes_back_begins_anew() {
        let (mut pools, mut noted) = (vec![pool(&["a", "b"]), pool(&["b", "c"])], vec![]);
        let mut to = |pair, secs| assert!(reassign(&mut pools, &mut noted, pair, (at(secs), at(0))));
        to(("a", "d"), 10);
        to(("d", "a"), 20);
        to(("b", "c"), 30);
        let names = |members: &[Member]| members.iter().map(|m| (m.sender.to_string(), m.since)).collect::<Vec<_>>();
        assert_eq!(names(&pools[0].members), [("a".into(), at(20)), ("c".into(), at(30))]);
        assert_eq!(names(&pools[0].left), [("a".into(), at(0)), ("d".into(), at(10)), ("b".into(), at(0))]);
        assert_eq!(names(&pools[1].members), [("c".into(), at(0))], "it was there already");
        let check = |sender, since, now, expected| {
            assert_eq!(successor(&noted, sender, (at(since), at(now))), expected, "{sender} since {since} at {now}");
        };
        check("a", 5, 9, None);
        check("a", 5, 15, Some("d"));
        check("a", 5, 25, Some("a"));
        check("a", 21, 99, None);
        check("d", 12, 99, Some("a"));
        check("b", 0, 99, Some("c"));
        check("x", 0, 99, None);
    }

    #[test]
    fn what_binds_nothing_any_more_is_forgotten_and_more_than_the_most_is_refused() {
        let (mut pools, mut noted) = (vec![pool(&["0", "b"])], vec![]);
        for number in 0..REASSIGNED_MAX as i64 {
            let (from, to) = (number.to_string(), (number + 1).to_string());
            assert!(reassign(&mut pools, &mut noted, (&from, &to), (at(number), at(0))));
        }
        assert!(!reassign(&mut pools, &mut noted, ("b", "c"), (at(5_000), at(0))));
        assert_eq!(pools[0].left.len(), POOL_SENDERS_MAX);
        assert!(reassign(&mut pools, &mut noted, ("b", "c"), (at(5_000), at(4_000))));
        assert_eq!(noted.len(), POOL_SENDERS_MAX + 1, "those that members who left need");
    }
}
