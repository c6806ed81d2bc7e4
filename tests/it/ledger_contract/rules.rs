//! Rules about jobs that wait: kept, swept; and what they may bind: counted, found in the agenda.

use postrider::domain::event::{Change, Fate, Outcome};
use postrider::domain::ids::JobId;
use postrider::domain::job::Class;
use postrider::domain::keys::{AddressKey, RecipientKey, WordKey};
use postrider::domain::rule::{Act, JobRule, Names};
use postrider::domain::time::UnixMicros;
use postrider::ledger::{Entry, Filter, JobRow, Ledger, Place, RULE_SWEEPS, Recording, Release, Shards, Tally};
use uuid::Uuid;

use super::samples::{at, entry, event, id, job, key, tenant, uuid};
use super::{Fixture, on_every_backend};

on_every_backend! {
    rules_are_listed_newest_first
    the_latest_rule_for_the_same_names_stays
    a_rule_is_swept_twice
    jobs_that_wait_are_counted_apart
    what_no_index_finds_is_counted_among_the_newest
    entries_are_found_by_the_jobs_they_may_hold
    entries_come_page_by_page
}

fn rule(names: Names, secs: i64) -> JobRule {
    JobRule { tenant: tenant("acme"), names, at: at(secs), act: Act::Cancel }
}

fn word(n: u32) -> Option<WordKey> {
    Some(WordKey(key(n)))
}

async fn add(ledger: &impl Ledger, ruled: &[JobRule]) {
    ledger.record(&Recording { ruled: ruled.to_vec(), ..Recording::default() }).await.unwrap();
}

async fn rules_are_listed_newest_first(Fixture { ledger, .. }: Fixture) {
    let none = Names::default;
    let moved = Act::Move { due_at: at(50), expires_at: Some(at(60)) };
    let rules = vec![
        rule(Names::job(JobId(uuid(1))), 1),
        rule(Names { cancel_key: word(2), ..none() }, 2),
        rule(Names { recipient: Some(RecipientKey(key(3))), address: Some(AddressKey(key(3))), ..none() }, 3),
        JobRule { act: moved, ..rule(Names { batch: Some(uuid(4)), ..none() }, 4) },
        rule(Names { campaign: word(5), class: Some(Class::Otp), from: Some(at(1)), ..none() }, 5),
        JobRule { act: Act::Collapse { into: id(6) }, ..rule(Names { collapse_key: word(6), ..none() }, 6) },
        JobRule { act: Act::Move { due_at: at(5), expires_at: None }, ..rule(none(), 7) },
    ];
    add(&ledger, &rules).await;
    add(&ledger, &[JobRule { tenant: tenant("bolt"), ..rule(none(), 9) }]).await;
    let newest_first: Vec<JobRule> = rules.iter().rev().cloned().collect();
    assert_eq!(ledger.rules(&tenant("acme"), 100).await, Ok(newest_first.clone()));
    assert_eq!(ledger.rules(&tenant("acme"), 2).await, Ok(newest_first[..2].to_vec()));
    add(&ledger, &[rule(Names { batch: Some(uuid(7)), ..none() }, 431 * 86_400 + 5)]).await;
    assert_eq!(ledger.rules(&tenant("acme"), 100).await.unwrap().len(), 4, "four are too old to bind any job");
}

async fn the_latest_rule_for_the_same_names_stays(Fixture { ledger, .. }: Fixture) {
    let names = Names { batch: Some(uuid(1)), ..Names::default() };
    let moved =
        |secs, due| JobRule { act: Act::Move { due_at: at(due), expires_at: None }, ..rule(names.clone(), secs) };
    add(&ledger, &[moved(2, 20), moved(3, 30), moved(1, 10)]).await;
    add(&ledger, &[moved(2, 40), rule(names.clone(), 1)]).await;
    assert_eq!(ledger.rules(&tenant("acme"), 9).await, Ok(vec![moved(3, 30), rule(names, 1)]));
}

async fn a_rule_is_swept_twice(Fixture { ledger, .. }: Fixture) {
    let [old, new] = [1, 2].map(|n| rule(Names { batch: Some(uuid(n)), ..Names::default() }, n.into()));
    let collapse = Names { collapse_key: word(1), ..Names::default() };
    let collapse = JobRule { act: Act::Collapse { into: id(1) }, ..rule(collapse, 1) };
    add(&ledger, &[new.clone(), collapse, old.clone()]).await;
    let open = async |sweeps, before: i64| ledger.open_rules(Shards::ALL, sweeps, at(before), 9).await.unwrap();
    assert_eq!(open(1, 99).await, [old.clone(), new.clone()], "what was collapsed is not looked for");
    assert_eq!(open(1, 2).await, std::slice::from_ref(&old));
    ledger.swept(&old).await.unwrap();
    assert_eq!(open(1, 99).await, std::slice::from_ref(&new));
    assert_eq!(open(RULE_SWEEPS, 99).await, [old.clone(), new.clone()]);
    ledger.swept(&old).await.unwrap();
    assert_eq!(open(RULE_SWEEPS, 99).await, std::slice::from_ref(&new));
    let again = JobRule { at: at(9), ..old.clone() };
    add(&ledger, std::slice::from_ref(&again)).await;
    ledger.swept(&old).await.unwrap();
    assert_eq!(open(1, 99).await, [new, again], "it was given again, and the sweep was of the one before");
}

async fn jobs_that_wait_are_counted_apart(Fixture { ledger, .. }: Fixture) {
    let batched = |n| JobRow { batch: Some(uuid(7)), ..job(n) };
    let jobs = (0..6).map(batched).chain([JobRow { tenant: tenant("bolt"), ..batched(6) }, job(7)]).collect();
    let deferred = |until| Change::Deferred { reason: "cap".into(), until: at(until) };
    let settled = Change::Settled(Outcome::new(Fate::Cancelled, "request"));
    let events = vec![
        event(1, 0, deferred(9)),
        event(2, 1, deferred(9)),
        event(3, 1, Change::Unresolved { provider: None }),
        event(4, 2, settled),
        event(5, 0, deferred(19)),
    ];
    ledger.record(&Recording { jobs, events, ..Recording::default() }).await.unwrap();
    let of_batch = Filter { batch: Some(uuid(7)), ..Filter::default() };
    let tally = async |owner: &str, filter: &Filter, most| ledger.tally(&tenant(owner), filter, most).await.unwrap();
    assert_eq!(tally("acme", &of_batch, 99).await, Tally { waiting: 4, claimed: 2, more: false });
    assert_eq!(tally("acme", &of_batch, 6).await, Tally { waiting: 4, claimed: 2, more: false });
    assert_eq!(tally("acme", &of_batch, 3).await, Tally { waiting: 3, claimed: 0, more: true }, "the newest");
    assert_eq!(tally("bolt", &of_batch, 9).await, Tally { waiting: 1, claimed: 0, more: false });
    assert_eq!(tally("cart", &of_batch, 9).await, Tally::default());
    let names = Names { batch: Some(uuid(7)), ..Names::default() };
    let bound = Filter::bound(&names, at(2));
    assert_eq!(tally("acme", &bound, 9).await, Tally { waiting: 1, claimed: 2, more: false }, "accepted up to then");
    let one = Filter { job: Some(id(2)), ..Filter::default() };
    assert_eq!(tally("acme", &one, 9).await, Tally { waiting: 0, claimed: 1, more: false });
    assert_eq!(tally("bolt", &one, 9).await, Tally::default(), "another tenant's");
}

async fn what_no_index_finds_is_counted_among_the_newest(Fixture { ledger, .. }: Fixture) {
    let of_run = |n| JobRow { run: word(3), ..job(n) };
    let otp = |n| JobRow { class: Class::Otp, ..job(n) };
    let jobs = vec![otp(1), of_run(2), of_run(3), job(4), otp(5), JobRow { tenant: tenant("bolt"), ..of_run(6) }];
    let events = vec![event(1, 3, Change::Unresolved { provider: None })];
    ledger.record(&Recording { jobs, events, ..Recording::default() }).await.unwrap();
    let tally = async |filter: Filter, most| ledger.tally(&tenant("acme"), &filter, most).await.unwrap();
    let run = Filter { run: word(3), ..Filter::default() };
    assert_eq!(tally(run, 9).await, Tally { waiting: 1, claimed: 1, more: false });
    let class = Filter { class: Some(Class::Otp), ..Filter::default() };
    assert_eq!(tally(class.clone(), 9).await, Tally { waiting: 2, claimed: 0, more: false });
    assert_eq!(tally(class, 3).await, Tally { waiting: 1, claimed: 0, more: true }, "of the three newest");
    assert_eq!(tally(Filter::default(), 9).await, Tally { waiting: 4, claimed: 1, more: false }, "all of the tenant's");
}

const START: Place = (UnixMicros(i64::MIN), Uuid::nil());

fn held(n: u32, accepted: i64) -> Entry {
    Entry { accepted_at: Some(at(accepted)), ..entry(n, at(500)) }
}

async fn entries_are_found_by_the_jobs_they_may_hold(Fixture { ledger, .. }: Fixture) {
    let accepted = |n, secs| JobRow { accepted_at: at(secs), ..job(n) };
    let jobs = vec![
        JobRow { campaign: word(1), ..accepted(1, 10) },
        JobRow { campaign: word(1), class: Class::Otp, ..accepted(2, 10) },
        JobRow { campaign: word(1), ..accepted(3, 30) },
        accepted(4, 20),
        JobRow { tenant: tenant("bolt"), campaign: word(1), ..accepted(5, 20) },
    ];
    ledger.record(&Recording { jobs, ..Recording::default() }).await.unwrap();
    let others = Entry { tenant: tenant("bolt"), ..held(5, 10) };
    let entries = [held(1, 10), held(2, 10), held(3, 30), held(4, 20), others, entry(6, at(10))];
    ledger.put_entries(&entries).await.unwrap();
    let found = async |owner: &str, filter: &Filter| {
        let (found, next) = ledger.entries_of(&tenant(owner), filter, START, 99).await.unwrap();
        assert_eq!(next, None);
        let mut numbers: Vec<u32> = (1..7).filter(|&n| found.iter().any(|entry| entry.id == uuid(n))).collect();
        numbers.sort_unstable();
        numbers
    };
    let campaign = Filter { campaign: word(1), ..Filter::default() };
    assert_eq!(found("acme", &campaign).await, [1, 2, 3], "of the requests that brought its jobs");
    assert_eq!(found("acme", &Filter { to: Some(at(30)), ..campaign.clone() }).await, [1, 2]);
    assert_eq!(found("acme", &Filter { class: Some(Class::Otp), ..campaign.clone() }).await, [1, 2]);
    assert_eq!(found("acme", &Filter { job: Some(id(4)), ..Filter::default() }).await, [4]);
    assert!(found("acme", &Filter { job: Some(id(5)), ..Filter::default() }).await.is_empty(), "another tenant's");
    assert_eq!(found("acme", &Filter { to: Some(at(21)), ..Filter::default() }).await, [1, 2, 4], "anything");
    ledger.releasing(&[uuid(1)], at(40)).await.unwrap();
    assert_eq!(found("acme", &campaign).await, [2, 3], "what is being released has left the agenda");
    let left = Release::Left { id: uuid(1), payload: "rest".into(), jobs: 1, due_at: at(7), sender: 0 };
    ledger.released(&[left]).await.unwrap();
    assert_eq!(found("acme", &campaign).await, [1, 2, 3], "and is found again when it comes back");
}

async fn entries_come_page_by_page(Fixture { ledger, .. }: Fixture) {
    // More requests than are looked for at a time, and a request of several entries in between.
    let accepted = |n: u32| JobRow { accepted_at: at(n.into()), campaign: word(1), ..job(n) };
    ledger.record(&Recording { jobs: (0..600).map(accepted).collect(), ..Recording::default() }).await.unwrap();
    let mut entries: Vec<Entry> = (0..600).step_by(3).map(|n| held(n, n.into())).collect();
    entries.extend((1_000..1_010).map(|n| held(n, 300)));
    ledger.put_entries(&entries).await.unwrap();
    let mut expected: Vec<Uuid> = entries.iter().map(|entry| entry.id).collect();
    expected.sort_unstable();
    for filter in [Filter { campaign: word(1), ..Filter::default() }, Filter::default()] {
        for most in [7, 64, 1_000] {
            let (mut place, mut seen) = (Some(START), vec![]);
            while let Some(after) = place {
                let (found, next) = ledger.entries_of(&tenant("acme"), &filter, after, most).await.unwrap();
                assert!(found.len() <= most as usize);
                seen.extend(found.iter().map(|entry| entry.id));
                place = next;
            }
            seen.sort_unstable();
            assert_eq!(seen, expected, "{most} at a time");
        }
    }
}
