//! The core against a naive model: every take is remembered for ever, and every answer is worked out from scratch.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::change::{Change, Reader};
use super::people::People;
use super::refusals::Refusals;
use super::{give_back, vacate};
use crate::domain::cap::{Mode, OnLimit};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{AddressKey, RecipientKey};
use crate::domain::suppression::Scope;
use crate::domain::time::UnixMicros;
use crate::limits::{Against, CLAIM_LIFE, Claim, Decision, Once, Span, Take, Vacate};

const DAY: i64 = 86_400_000_000;
const HOUR: Duration = Duration::from_secs(3_600);

/// The forms of windows, as rules have them.
#[derive(Clone, Copy)]
enum Form {
    Rolling(u32),
    Daily,
    FromFirst(u32),
    Bucket(u32),
}

/// Limit, need, window in hours, what happens over it, whether it binds, whether it is in a log of its own, and what takes
/// a place once.
const RULES: [(u32, u32, Form, OnLimit, Mode, bool, Once); 12] = [
    (2, 1, Form::Rolling(1), OnLimit::Defer, Mode::Enforce, false, Once::Touch),
    (6, 2, Form::Rolling(24), OnLimit::Defer, Mode::Enforce, false, Once::Touch),
    (5, 1, Form::Rolling(7 * 24), OnLimit::Drop, Mode::Enforce, false, Once::Touch),
    (3, 1, Form::Daily, OnLimit::Defer, Mode::Enforce, false, Once::Touch),
    (2, 1, Form::FromFirst(30), OnLimit::Defer, Mode::Enforce, false, Once::Touch),
    (3, 1, Form::Bucket(8), OnLimit::Defer, Mode::Enforce, false, Once::Touch),
    (1, 1, Form::Rolling(4), OnLimit::Defer, Mode::Shadow, false, Once::Touch),
    (9, 3, Form::Rolling(12), OnLimit::Defer, Mode::Enforce, true, Once::Touch),
    (4, 1, Form::Rolling(24), OnLimit::Defer, Mode::Enforce, false, Once::Attempt),
    (4, 1, Form::FromFirst(30), OnLimit::Defer, Mode::Enforce, false, Once::Attempt),
    (2, 1, Form::Rolling(4), OnLimit::Drop, Mode::Shadow, false, Once::Attempt),
    (9, 2, Form::Rolling(12), OnLimit::Defer, Mode::Enforce, true, Once::Attempt),
];

#[derive(Clone, Debug)]
enum Act {
    Claim { recipient: u8, job: u8, attempt: u16, supersedes: u16, rules: u16, chain: bool, seen: bool, refused: bool },
    Repeat { refused: bool },
    GiveBack { back: usize },
    Vacate { back: usize, rules: u16 },
    Wait { secs: u32 },
}

/// The naive model.
#[derive(Default)]
struct Model {
    claims: Vec<Known>,
}

struct Known {
    claim: Claim,
    /// Rules with the ends of the places that it took.
    places: HashMap<u32, (u32, UnixMicros)>,
}

impl Model {
    fn claim(&mut self, now: UnixMicros, claim: &Claim, refusal: Option<Decision>) -> Decision {
        let job = |known: &&Known| known.claim.recipient == claim.recipient && known.claim.job == claim.job;
        let lives = |known: &&Known| known.claim.deadline.plus(CLAIM_LIFE) > now;
        let standing = self.claims.iter().filter(job).filter(lives).max_by_key(|known| known.claim.attempt);
        let own = standing.is_some_and(|known| known.claim.token == claim.token);
        match standing.map(|known| &known.claim) {
            Some(known) if !own && known.attempt != claim.supersedes => {
                return Decision::Held { attempt: known.attempt, deadline: known.deadline };
            }
            None if claim.seen.is_some_and(|seen| seen.plus(CLAIM_LIFE) < now) => return Decision::Forgotten,
            _ => {}
        }
        if let Some(refusal) = refusal {
            self.claims.retain(|known| known.claim.token != claim.token);
            return refusal;
        }
        if own {
            return Decision::Claimed;
        }
        let (mut places, mut full, mut shadows) = (HashMap::new(), Vec::new(), 0);
        for (index, take) in claim.takes.iter().enumerate() {
            let Some((open_at, end)) = self.room(take, claim, now) else { continue };
            if open_at <= now {
                places.insert(take.rule, (take.need, end));
            } else if take.mode == Mode::Shadow {
                shadows |= 1 << index;
            } else {
                full.push((index, open_at, take.on_limit));
            }
        }
        let Some(&(_, open_at, _)) = full.iter().max_by_key(|(index, open_at, _)| (*open_at, usize::MAX - index))
        else {
            self.claims.push(Known { claim: claim.clone(), places });
            return if shadows == 0 { Decision::Claimed } else { Decision::Overshadowed(shadows) };
        };
        let dropping = full.iter().find(|(.., on_limit)| *on_limit == OnLimit::Drop);
        let latest = full.iter().find(|(_, open, _)| *open == open_at);
        Decision::OverCap { take: dropping.or(latest).unwrap().0, open_at, turn_at: open_at }
    }

    fn vacate(&mut self, vacate: &Vacate) {
        let own_log = |rule: u32| !RULES[usize::try_from(rule).unwrap()].5;
        for known in self.claims.iter_mut().filter(|known| known.claim.touch == vacate.touch) {
            let theirs = known.claim.recipient == vacate.recipient;
            known.places.retain(|rule, _| !vacate.rules.contains(rule) || own_log(*rule) && !theirs);
        }
    }

    /// Returns when a cap has room for a claim, and when a place taken now ends; nothing where the touch has its place.
    fn room(&self, take: &Take, claim: &Claim, now: UnixMicros) -> Option<(UnixMicros, UnixMicros)> {
        let in_log = |known: &&Known| take.log.is_some() || known.claim.recipient == claim.recipient;
        let place = |known: &Known| known.places.get(&take.rule).map(|&(used, end)| (used, end, known.claim.touch));
        let mut taken: Vec<_> = self.claims.iter().filter(in_log).filter_map(place).collect();
        taken.retain(|(_, end, _)| *end > now);
        if take.once == Once::Touch && taken.iter().any(|(.., touch)| *touch == claim.touch) {
            return None;
        }
        let used_at = |at| taken.iter().filter(|(_, end, _)| *end > at).map(|(used, ..)| used).sum::<u32>();
        let mut ends: Vec<_> = taken.iter().map(|(_, end, _)| *end).collect();
        ends.sort();
        let last = ends.last().copied();
        if let Span::Bucket(refill) = take.span {
            let end = last.unwrap_or(now).plus(refill * take.need);
            return Some((end.minus(refill * take.limit).max(now), end));
        }
        // The first of all the moments at which a place ends that leaves room.
        let mut moments = std::iter::once(now).chain(ends.iter().copied());
        let open_at = moments.find(|&at| used_at(at) + take.need <= take.limit).unwrap();
        let end = match take.span {
            Span::Rolling(length) => now.plus(length),
            Span::Fixed { end, .. } => end,
            Span::FromFirst(length) => last.unwrap_or_else(|| now.plus(length)),
            Span::Bucket(_) => unreachable!(),
        };
        Some((open_at, end))
    }
}

fn when(now: UnixMicros) -> super::When {
    super::When { now, changed_at: UnixMicros(0) }
}

/// Returns a decision with the turn aside: that is only advice.
fn aside(decision: Decision) -> Decision {
    match decision {
        Decision::OverCap { take, open_at, turn_at } => {
            assert!(turn_at >= open_at);
            Decision::OverCap { take, open_at, turn_at: open_at }
        }
        other => other,
    }
}

fn claim(recipient: u8, job: u8, attempt: u16, token: u64, now: UnixMicros) -> Claim {
    Claim {
        tenant: "acme".parse().unwrap(),
        recipient: RecipientKey([recipient; 16]),
        job: JobId(Uuid::from_u128(u128::from(job) + 1)),
        attempt,
        supersedes: 0,
        token,
        deadline: now.plus(Duration::from_secs(30)),
        seen: None,
        touch: Uuid::from_u128(u128::from(job) + 1),
        expires_at: UnixMicros::MAX,
        takes: vec![],
        against: Against {
            kind: Kind::Sms,
            class: Class::Marketing,
            address: AddressKey([recipient; 16]),
            sender: None,
            signature: None,
            topic: None,
            cancel_key: None,
            batch: None,
            campaign: None,
            run: None,
            collapse_key: None,
            accepted_at: now,
            moved_at: None,
        },
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let ask = (0..3u8, 0..12u8, 1..4u16, 0..3u16, any::<u16>(), any::<[bool; 3]>()).prop_map(
        |(recipient, job, attempt, supersedes, rules, [chain, seen, refused])| Act::Claim {
            recipient,
            job,
            attempt,
            supersedes,
            rules,
            chain,
            seen,
            refused: refused && rules % 256 > 200,
        },
    );
    let act = prop_oneof![
        8 => ask,
        2 => any::<bool>().prop_map(|refused| Act::Repeat { refused }),
        2 => (0..6usize).prop_map(|back| Act::GiveBack { back }),
        2 => (0..20usize, any::<u16>()).prop_map(|(back, rules)| Act::Vacate { back, rules }),
        4 => prop_oneof![0..600u32, 0..90_000u32, 0..700_000u32].prop_map(|secs| Act::Wait { secs }),
    ];
    prop::collection::vec(act, 1..120)
}

fn takes(rules: u16, now: UnixMicros) -> Vec<Take> {
    let take =
        |(index, &(limit, need, form, on_limit, mode, elsewhere, once)): (usize, &(_, _, Form, _, _, bool, _))| {
            let start = UnixMicros(now.0 - now.0 % DAY);
            let span = match form {
                Form::Rolling(hours) => Span::Rolling(HOUR * hours),
                Form::Daily => Span::Fixed { start, end: UnixMicros(start.0 + DAY) },
                Form::FromFirst(hours) => Span::FromFirst(HOUR * hours),
                Form::Bucket(hours) => Span::Bucket(HOUR * hours),
            };
            let log = elsewhere.then_some(RecipientKey([200; 16]));
            let rule = u32::try_from(index).unwrap();
            (rules >> index & 1 == 1).then_some(Take { rule, log, limit, need, span, once, on_limit, mode })
        };
    RULES.iter().enumerate().filter_map(take).collect()
}

fn replayed(log: &[u8]) -> People {
    let mut people = People::default();
    for change in Reader::new(log) {
        match change.unwrap() {
            Change::Entry { person, entry, kept } => people.insert(&person, entry, &kept),
            Change::Gone { person, job, token } => assert!(people.remove(&person, job, token)),
            Change::Vacated { person, touch, rules } => assert!(people.vacate(&person, touch, &rules)),
            other => panic!("not a claim's change: {other:?}"),
        }
    }
    people
}

/// Returns whether the claim's day is not over: an asking for another day is another asking.
fn today(claim: &Claim, now: UnixMicros) -> bool {
    claim.takes.iter().all(|take| !matches!(take.span, Span::Fixed { end, .. } if end <= now))
}

fn dump(people: &People, now: UnixMicros) -> Vec<Change> {
    let mut changes = Vec::new();
    people.each(now, |&person, &entry, kept| changes.push(Change::Entry { person, entry, kept: kept.to_vec() }));
    changes.sort_by_key(|change| format!("{change:?}"));
    changes
}

/// Decisions are the model's, and the log of changes leads to the same memory.
fn check(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let (mut people, mut model, mut log) = (People::default(), Model::default(), Vec::new());
    let mut now = UnixMicros::from_secs(1_800_000_000);
    let mut asked: Vec<(Claim, Option<Decision>)> = Vec::new();
    for (step, act) in acts.into_iter().enumerate() {
        match act {
            Act::Wait { secs } => now = now.plus(Duration::from_secs(u64::from(secs))),
            Act::GiveBack { back } => {
                let Some((claim, _)) = asked.iter().rev().nth(back) else { continue };
                give_back(&mut people, &claim.give_back(), |change| change.write(&mut log));
                model.claims.retain(|known| known.claim.token != claim.token);
            }
            Act::Vacate { back, rules } => {
                let Some((claim, _)) = asked.iter().rev().nth(back) else { continue };
                let vacated = Vacate {
                    tenant: claim.tenant.clone(),
                    recipient: claim.recipient,
                    touch: claim.touch,
                    rules: takes(rules, now).iter().map(|take| take.rule).collect(),
                    logs: vec![RecipientKey([200; 16])],
                };
                vacate(&mut people, &vacated, |change| change.write(&mut log));
                model.vacate(&vacated);
            }
            Act::Repeat { .. } | Act::Claim { .. } => {
                let opted_out = matches!(act, Act::Repeat { refused: true });
                if let Act::Claim { recipient, job, attempt, supersedes, rules, chain, seen, refused } = act {
                    let mut claim = claim(recipient, job, attempt, step as u64, now);
                    claim.supersedes = if supersedes < attempt { supersedes } else { 0 };
                    claim.takes = takes(rules, now);
                    claim.touch = if chain { Uuid::from_u128(77) } else { claim.touch };
                    claim.seen = seen.then_some(now.minus(Duration::from_secs(u64::from(rules % 256) * 1_000)));
                    asked.push((claim, refused.then_some(Decision::Suppressed(Scope::Brand))));
                }
                // An asking is repeated while its claim lives.
                let lives = |(claim, _): &&(Claim, _)| claim.deadline.plus(CLAIM_LIFE) > now && today(claim, now);
                let Some((claim, refusal)) = asked.last().filter(lives).cloned() else { continue };
                let refusal = refusal.or_else(|| opted_out.then_some(Decision::Cancelled));
                let log = |change: Change| change.write(&mut log);
                let decision = super::claim(&mut people, when(now), &claim, refusal.clone(), log);
                prop_assert_eq!(aside(decision), model.claim(now, &claim, refusal), "step {}: {:?}", step, claim);
            }
        }
    }
    prop_assert_eq!(dump(&replayed(&log), now), dump(&people, now));
    // Everything dies, and the sweep finds it.
    people.sweep(now.plus(Duration::from_secs(30 * 86_400)), 100);
    prop_assert_eq!(people.count(), 0);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn claims_are_decided_as_the_model_says(acts in acts()) {
        check(acts)?;
    }

    /// No bytes make the reader panic.
    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Reader::new(&bytes).count();
    }
}

/// An entry in a log that is not the recipient's is no claim: without places the sweep takes it, and a replay does not.
#[test]
fn what_is_taken_again_at_once_after_it_was_vacated_is_in_the_log() {
    let ask = |recipient, rules, chain| Act::Claim {
        recipient,
        job: 0,
        attempt: 1,
        supersedes: 0,
        rules,
        chain,
        seen: false,
        refused: false,
    };
    let in_another_log = 1 << 7;
    // At one of these turns of the sweep's hand it comes to the other log in time.
    for turns in 0..4 {
        let mut acts = vec![ask(1, 0, false); turns];
        acts.push(ask(0, in_another_log, true));
        acts.push(Act::Vacate { back: 0, rules: in_another_log });
        acts.extend([true, false].map(|refused| Act::Repeat { refused }));
        check(acts).unwrap_or_else(|problem| panic!("after {turns} turns: {problem}"));
    }
}

#[test]
fn memory_stays_near_what_is_live() {
    let (mut people, mut now) = (People::default(), UnixMicros::from_secs(1_800_000_000));
    let refusals = Refusals::default();
    let tenant: TenantId = "acme".parse().unwrap();
    // A claim lives for a day and 30 s; a thousand seconds pass between two, so that 86 are live at any time.
    for token in 0..10_000u64 {
        now = now.plus(Duration::from_secs(1_000));
        let mut claim = claim(0, 0, 1, token, now);
        claim.tenant = tenant.clone();
        claim.recipient = RecipientKey(u128::from(token).to_le_bytes());
        let refusal = refusals.against(now, &claim);
        assert_eq!(super::claim(&mut people, when(now), &claim, refusal, drop), Decision::Claimed);
        assert!(people.count() <= 200, "{} recipients at {token}", people.count());
    }
}
