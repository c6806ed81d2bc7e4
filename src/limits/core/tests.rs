//! The core against a naive model: every take is remembered for ever, and every answer is worked out from scratch.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;
use uuid::Uuid;

use super::change::{Change, Reader};
use super::people::People;
use super::refusals::Refusals;
use crate::domain::cap::{OnLimit, Window};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{AddressKey, RecipientKey};
use crate::domain::suppression::Scope;
use crate::domain::time::UnixMicros;
use crate::limits::{Against, CLAIM_LIFE, Claim, Decision, GiveBack, Take};

const RULES: [(u32, u64, OnLimit); 4] = [
    (2, 3_600, OnLimit::Defer),
    (3, 86_400, OnLimit::Defer),
    (5, 7 * 86_400, OnLimit::Drop),
    (1, 4 * 3_600, OnLimit::Defer),
];

#[derive(Clone, Debug)]
enum Act {
    Claim { recipient: u8, job: u8, attempt: u16, supersedes: u16, rules: u8, chain: bool, seen: bool, refused: bool },
    Repeat { refused: bool },
    GiveBack { back: usize },
    Wait { secs: u32 },
}

/// The naive model.
#[derive(Default)]
struct Model {
    claims: Vec<Known>,
}

struct Known {
    claim: Claim,
    at: UnixMicros,
    /// Rules with the windows in which it took a place.
    places: HashMap<u32, Duration>,
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
        let mut places = HashMap::new();
        let mut full = Vec::new();
        for (index, take) in claim.takes.iter().enumerate() {
            let Window::Rolling(length) = take.window;
            let inside: Vec<_> = self
                .claims
                .iter()
                .filter(|known| known.claim.recipient == claim.recipient && known.places.contains_key(&take.rule))
                .filter(|known| known.at.plus(length) > now)
                .collect();
            if inside.iter().any(|known| known.claim.touch == claim.touch) {
                continue;
            }
            places.insert(take.rule, length);
            // The first of all the moments at which a place ends that leaves room.
            let mut ends: Vec<_> = inside.iter().map(|known| known.at.plus(length)).collect();
            ends.sort();
            let room_at = |at: UnixMicros| ends.iter().filter(|&&end| end > at).count() < take.limit as usize;
            if !room_at(now) {
                let open_at = ends.iter().copied().find(|&end| room_at(end)).unwrap();
                full.push((index, open_at, take.on_limit));
            }
        }
        let Some(&(_, open_at, _)) = full.iter().max_by_key(|(index, open_at, _)| (*open_at, usize::MAX - index))
        else {
            self.claims.push(Known { claim: claim.clone(), at: now, places });
            return Decision::Claimed;
        };
        let dropping = full.iter().find(|(.., on_limit)| *on_limit == OnLimit::Drop);
        let latest = full.iter().find(|(_, open, _)| *open == open_at);
        Decision::OverCap { take: dropping.or(latest).unwrap().0, open_at }
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
            accepted_at: now,
        },
    }
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let ask = (0..3u8, 0..12u8, 1..4u16, 0..3u16, any::<u8>(), any::<[bool; 3]>()).prop_map(
        |(recipient, job, attempt, supersedes, rules, [chain, seen, refused])| Act::Claim {
            recipient,
            job,
            attempt,
            supersedes,
            rules,
            chain,
            seen,
            refused: refused && rules > 200,
        },
    );
    let act = prop_oneof![
        8 => ask,
        2 => any::<bool>().prop_map(|refused| Act::Repeat { refused }),
        2 => (0..6usize).prop_map(|back| Act::GiveBack { back }),
        4 => prop_oneof![0..600u32, 0..90_000u32, 0..700_000u32].prop_map(|secs| Act::Wait { secs }),
    ];
    prop::collection::vec(act, 1..120)
}

fn takes(rules: u8) -> Vec<Take> {
    let rule = |(index, &(limit, secs, on_limit)): (usize, &(u32, u64, OnLimit))| {
        let window = Window::Rolling(Duration::from_secs(secs));
        (rules >> index & 1 == 1).then_some(Take { rule: u32::try_from(index).unwrap(), limit, window, on_limit })
    };
    RULES.iter().enumerate().filter_map(rule).collect()
}

fn replayed(log: &[u8]) -> People {
    let mut people = People::default();
    for change in Reader::new(log) {
        match change.unwrap() {
            Change::Entry { person, entry, kept } => people.insert(&person, entry, &kept),
            Change::Gone { person, job, token } => assert!(people.remove(&person, job, token)),
            other => panic!("not a claim's change: {other:?}"),
        }
    }
    people
}

fn dump(people: &People, now: UnixMicros) -> Vec<Change> {
    let mut changes = Vec::new();
    people.each(now, |&person, &entry, kept| changes.push(Change::Entry { person, entry, kept: kept.to_vec() }));
    changes.sort_by_key(|change| format!("{change:?}"));
    changes
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Decisions are the model's, and the log of changes leads to the same memory.
    #[test]
    fn claims_are_decided_as_the_model_says(acts in acts()) {
        let (mut people, mut model, mut log) = (People::default(), Model::default(), Vec::new());
        let mut now = UnixMicros::from_secs(1_800_000_000);
        let mut asked: Vec<(Claim, Option<Decision>)> = Vec::new();
        for (step, act) in acts.into_iter().enumerate() {
            match act {
                Act::Wait { secs } => now = now.plus(Duration::from_secs(u64::from(secs))),
                Act::GiveBack { back } => {
                    let Some((claim, _)) = asked.iter().rev().nth(back) else { continue };
                    let Claim { tenant, recipient, job, token, touch, .. } = claim.clone();
                    if let Some(change) = people.give_back(&GiveBack { tenant, recipient, job, token, touch }) {
                        change.write(&mut log);
                    }
                    model.claims.retain(|known| known.claim.token != token);
                }
                Act::Repeat { .. } | Act::Claim { .. } => {
                    let opted_out = matches!(act, Act::Repeat { refused: true });
                    if let Act::Claim { recipient, job, attempt, supersedes, rules, chain, seen, refused } = act {
                        let mut claim = claim(recipient, job, attempt, step as u64, now);
                        claim.supersedes = if supersedes < attempt { supersedes } else { 0 };
                        claim.takes = takes(rules);
                        claim.touch = if chain { Uuid::from_u128(77) } else { claim.touch };
                        claim.seen = seen.then_some(now.minus(Duration::from_secs(u64::from(rules) * 1_000)));
                        asked.push((claim, refused.then_some(Decision::Suppressed(Scope::Brand))));
                    }
                    // An asking is repeated while its claim lives.
                    let lives = |(claim, _): &&(Claim, _)| claim.deadline.plus(CLAIM_LIFE) > now;
                    let Some((claim, refusal)) = asked.last().filter(lives).cloned() else { continue };
                    let refusal = refusal.or_else(|| opted_out.then_some(Decision::Cancelled));
                    let (decision, change) = people.claim(now, &claim, refusal.clone(), UnixMicros(0));
                    if let Some(change) = change {
                        change.write(&mut log);
                    }
                    prop_assert_eq!(decision, model.claim(now, &claim, refusal), "step {}: {:?}", step, claim);
                }
            }
        }
        prop_assert_eq!(dump(&replayed(&log), now), dump(&people, now));
        // Everything dies, and the sweep finds it.
        people.sweep(now.plus(Duration::from_secs(30 * 86_400)), 100);
        prop_assert_eq!(people.count(), 0);
    }

    /// No bytes make the reader panic.
    #[test]
    fn any_bytes_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Reader::new(&bytes).count();
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
        assert_eq!(people.claim(now, &claim, refusal, UnixMicros(0)).0, Decision::Claimed);
        assert!(people.count() <= 200, "{} recipients at {token}", people.count());
    }
}
