//! What is known of one message, and what WeCom's word on it comes to. Pure: time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::super::customers::{message_id, short};
use super::super::page::Entry;
use super::books::Kept;
use crate::domain::event::{Fate, Outcome};
use crate::domain::ids::JobId;
use crate::domain::time::UnixMicros;

/// A message that WeCom has nothing good to say of is asked about again after ever longer, and after this long at most.
const AGAIN_MAX: Duration = Duration::from_secs(600);
/// A message of which the books know nothing by then is a stranger's.
const STRANGE: Duration = Duration::from_secs(24 * 3_600);
/// So long after it was handed over a part of a message may still be on its way into the books.
const YOUNG: Duration = Duration::from_secs(3_600);

/// WeCom's statuses of a customer or group.
mod status {
    pub(super) const NOT_SENT: u8 = 0;
    pub(super) const SENT: u8 = 1;
    pub(super) const NO_FRIEND: u8 = 2;
    pub(super) const LIMIT: u8 = 3;
}

/// A message of ours.
pub(super) struct Post {
    /// When it was handed over, by WeCom's clock.
    pub(super) created: UnixMicros,
    /// How what it says begins.
    pub(super) excerpt: Box<str>,
    /// By employee: for how many customers and groups they have not confirmed it; empty: WeCom does not say who.
    pub(super) waiting: Vec<(Box<str>, usize)>,
    /// It was stopped, since it was not confirmed in time: `waiting` is of then.
    pub(super) stopped: bool,
    /// Nothing more comes of it.
    pub(super) over: bool,
    /// When it was last looked at.
    pub(super) looked_at: UnixMicros,
    /// Before then it is not looked at again.
    again_at: UnixMicros,
    failures: u32,
    /// Of whom was told that they wait, and how those ended of whom that was told; by what stands for them.
    waits: HashSet<u64>,
    ends: HashMap<u64, Fate>,
}

/// Why a message is stopped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stop {
    /// It was not confirmed in time.
    Late,
    /// All who would still get it are taken back.
    TakenBack(HashMap<JobId, Outcome>),
}

/// What one look at a message comes to.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub(super) struct Found {
    /// What is to be told of its parts.
    pub(super) told: Vec<Told>,
    /// By employee: for how many they have not confirmed it.
    pub(super) waiting: Vec<(Box<str>, usize)>,
    /// It was stopped, since it was not confirmed in time.
    pub(super) stopped: bool,
    /// WeCom has more parts of it than the books.
    pub(super) more: bool,
}

/// What becomes of a part of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Told {
    pub(super) message_id: Box<str>,
    /// How it ends; `None`: it waits for the employee.
    pub(super) end: Option<Fate>,
    pub(super) code: Box<str>,
}

/// Returns whether there is somebody who would still get it.
pub(super) fn waits(msgid: &str, kept: &[Kept], results: &[(Box<str>, Entry)]) -> bool {
    let standing = standing(msgid, results);
    kept.iter().any(|part| part.end.is_none() && is_left(&standing, part))
}

/// Judges a message by what WeCom says of each customer or group; `stop` tells why nobody gets it any more.
pub(super) fn judge(msgid: &str, kept: &[Kept], results: &[(Box<str>, Entry)], stop: Option<&Stop>) -> Found {
    let standing = standing(msgid, results);
    let mut waiting = BTreeMap::<Box<str>, usize>::new();
    let mut found = Found { more: kept.len() < results.len(), ..Found::default() };
    for part in kept {
        let (end, code): (_, Box<str>) = match standing.get(&*part.message_id).map(|(_, status)| *status) {
            Some(status::SENT) => (Some(Fate::Delivered), "".into()),
            Some(status::NO_FRIEND) => (Some(Fate::Undelivered), "not_friend".into()),
            Some(status::LIMIT) => (Some(Fate::Suppressed), Outcome::VENDOR_LIMIT.into()),
            Some(status::NOT_SENT) | None => match stop {
                None => (None, "".into()),
                Some(Stop::Late) => (Some(Fate::Expired), "not_confirmed".into()),
                Some(Stop::TakenBack(ends)) => match ends.get(&part.job) {
                    Some(Outcome { fate, reason }) => (Some(*fate), reason.clone()),
                    None => continue,
                },
            },
            // Nobody knows what that is.
            Some(_) => continue,
        };
        if is_left(&standing, part) && matches!(part.end.or(end), None | Some(Fate::Expired)) {
            found.stopped |= part.end.or(end).is_some();
            let employee = standing.get(&*part.message_id).map_or("", |(employee, _)| employee);
            *waiting.entry(employee.into()).or_default() += 1;
        }
        if part.end.is_none() {
            found.told.push(Told { message_id: part.message_id.clone(), end, code });
        }
    }
    found.waiting = waiting.into_iter().collect();
    found
}

/// Returns by part what WeCom says of it, and who is to confirm it.
fn standing<'a>(msgid: &str, results: &'a [(Box<str>, Entry)]) -> HashMap<Box<str>, (&'a str, u8)> {
    let of = |(employee, entry): &'a (Box<str>, Entry)| {
        let target = if entry.chat_id.is_empty() { &entry.external_userid } else { &entry.chat_id };
        (message_id(msgid, target), (&**employee, entry.status))
    };
    results.iter().map(of).collect()
}

fn is_left(standing: &HashMap<Box<str>, (&str, u8)>, part: &Kept) -> bool {
    matches!(standing.get(&*part.message_id), None | Some((_, status::NOT_SENT)))
}

// === impl Post ===

impl Post {
    /// Returns a message that was not looked at.
    pub(super) fn new(created: UnixMicros, excerpt: Box<str>) -> Self {
        Self {
            created,
            excerpt,
            waiting: vec![],
            stopped: false,
            over: false,
            looked_at: UnixMicros(0),
            again_at: UnixMicros(0),
            failures: 0,
            waits: HashSet::new(),
            ends: HashMap::new(),
        }
    }

    /// Returns whether it is to be looked at.
    pub(super) fn is_due(&self, now: UnixMicros) -> bool {
        !self.over && self.again_at <= now
    }

    /// Brings in what the books will only have in a moment.
    pub(super) fn complete(&self, kept: &mut [Kept]) {
        for part in kept {
            part.end = part.end.or_else(|| self.ends.get(&short(&part.message_id)).copied());
        }
    }

    /// Returns whether what a look came to is news.
    pub(super) fn is_news(&self, told: &Told) -> bool {
        let part = short(&told.message_id);
        match told.end {
            Some(_) => !self.ends.contains_key(&part),
            None => !self.waits.contains(&part),
        }
    }

    /// Notes what a look came to; what was `said` is durable.
    pub(super) fn note(&mut self, found: Found, kept: &[Kept], said: Vec<Told>, now: UnixMicros) {
        for Told { message_id, end, .. } in said {
            match end {
                Some(fate) => _ = self.ends.insert(short(&message_id), fate),
                None => _ = self.waits.insert(short(&message_id)),
            }
        }
        (self.failures, self.looked_at) = (0, now);
        (self.waiting, self.stopped) = (found.waiting, found.stopped);
        let ended = |part: &Kept| part.end.is_some() || self.ends.contains_key(&short(&part.message_id));
        if kept.iter().all(ended) && (!found.more || now.since(self.created) > YOUNG) {
            self.over = true;
            (self.waits, self.ends) = Default::default();
        }
    }

    /// Notes that the books do not know of it: the older it gets without, the less often they are asked.
    pub(super) fn strange(&mut self, now: UnixMicros) {
        let age = now.since(self.created);
        self.over = age > STRANGE;
        (self.looked_at, self.again_at) = (now, now.plus((age / 2).min(AGAIN_MAX)));
    }

    /// Notes that it could not be looked at.
    pub(super) fn failed(&mut self, every: Duration, now: UnixMicros) {
        self.failures = self.failures.saturating_add(1);
        let wait = every.saturating_mul(1 << self.failures.min(16)).min(AGAIN_MAX.max(every));
        (self.looked_at, self.again_at) = (now, now.plus(wait));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSGID: &str = "msg";

    fn kept(target: &str, end: Option<Fate>) -> Kept {
        let job = JobId(uuid::Uuid::new_v5(&uuid::Uuid::nil(), target.as_bytes()));
        Kept { message_id: message_id(MSGID, target), job, attempt: 1, end }
    }

    fn says(target: &str, status: u8) -> (Box<str>, Entry) {
        ("zhang".into(), Entry { external_userid: target.into(), chat_id: "".into(), status })
    }

    #[track_caller]
    fn comes_to(kept: &Kept, status: Option<u8>, stop: Option<&Stop>, expected: Option<(Option<Fate>, &str)>) -> Found {
        let results: Vec<_> = status.map(|status| says("wm1", status)).into_iter().collect();
        let found = judge(MSGID, std::slice::from_ref(kept), &results, stop);
        let told = found.told.first().map(|told| (told.end, &*told.code));
        assert_eq!(told, expected, "{status:?} {stop:?}");
        found
    }

    #[test]
    fn each_word_of_wecoms_has_its_meaning() {
        let (open, late) = (kept("wm1", None), Some(&Stop::Late));
        for stop in [None, late] {
            comes_to(&open, Some(1), stop, Some((Some(Fate::Delivered), "")));
            comes_to(&open, Some(2), stop, Some((Some(Fate::Undelivered), "not_friend")));
            comes_to(&open, Some(3), stop, Some((Some(Fate::Suppressed), "vendor_limit")));
            comes_to(&open, Some(9), stop, None);
        }
        let found = comes_to(&open, Some(0), None, Some((None, "")));
        assert_eq!((found.stopped, &found.waiting[..]), (false, &[("zhang".into(), 1)][..]));
        let found = comes_to(&open, Some(0), late, Some((Some(Fate::Expired), "not_confirmed")));
        assert_eq!((found.stopped, &found.waiting[..]), (true, &[("zhang".into(), 1)][..]));
        // Of whom WeCom says nothing.
        assert_eq!(comes_to(&open, None, None, Some((None, ""))).waiting, [("".into(), 1)]);
        comes_to(&open, None, late, Some((Some(Fate::Expired), "not_confirmed")));
        let back = Stop::TakenBack([(open.job, Outcome::new(Fate::Cancelled, "request"))].into_iter().collect());
        let found = comes_to(&open, Some(0), Some(&back), Some((Some(Fate::Cancelled), "request")));
        assert_eq!((found.stopped, found.waiting), (false, vec![]), "nobody is to be told of it");
    }

    #[test]
    fn after_a_crash_it_is_known_what_was_stopped_and_is_told_once() {
        let found = comes_to(&kept("wm1", Some(Fate::Expired)), Some(0), None, None);
        assert_eq!((found.stopped, found.waiting), (true, vec![("zhang".into(), 1)]));
        let found = comes_to(&kept("wm1", Some(Fate::Cancelled)), Some(0), None, None);
        assert_eq!((found.stopped, found.waiting), (false, vec![]));
        let mut post = Post::new(UnixMicros(0), "".into());
        let mut part = [kept("wm1", None)];
        let found = judge(MSGID, &part, &[says("wm1", 0)], Some(&Stop::Late));
        let told = found.told.clone();
        assert!(told.iter().all(|told| post.is_news(told)));
        post.note(Found { more: true, ..found.clone() }, &part, told.clone(), UnixMicros(1));
        assert!(!post.over, "the books may come to know of more");
        assert!(!told.iter().any(|told| post.is_news(told)));
        post.complete(&mut part);
        assert_eq!(part[0].end, Some(Fate::Expired));
        assert!(!waits(MSGID, &part, &[says("wm1", 0)]));
        post.note(found, &part, vec![], UnixMicros(2));
        assert!(post.over && post.stopped && post.ends.is_empty(), "what is over takes no room");
    }

    #[test]
    fn what_fails_is_asked_about_ever_less_often_and_never_given_up() {
        let (mut post, every) = (Post::new(UnixMicros(0), "".into()), Duration::from_secs(60));
        let mut now = UnixMicros(0);
        let waits: Vec<_> = (0..40)
            .map(|_| {
                post.failed(every, now);
                assert!(!post.is_due(now));
                let wait = post.again_at.since(now);
                now = post.again_at;
                assert!(post.is_due(now));
                wait.as_secs()
            })
            .collect();
        assert_eq!((&waits[..5], waits[39]), (&[120, 240, 480, 600, 600][..], 600));
    }
}
