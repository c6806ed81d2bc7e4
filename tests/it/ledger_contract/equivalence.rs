//! Whatever is written in whatever order, both backends answer every question alike.

use postrider::domain::event::{Event, Fate, Receipt, Report};
use postrider::domain::ids::{JobId, Lane, ProviderId};
use postrider::domain::job::{Class, Kind};
use postrider::domain::keys::{AddressKey, RecipientKey, WordKey};
use postrider::domain::rule::{Act, JobRule, Names};
use postrider::domain::suppression::{Scope, Source};
use postrider::ledger::{
    AnyLedger, Count, Entry, Filter, JobRow, Ledger, NumberedEvent, Recording, Release, SealedReply, Segment, Shards,
    Tag,
};
use proptest::collection::vec;
use proptest::prelude::*;

use super::Fixture;
use super::people::{opt_out, sealed};
use super::recording::any_event;
use super::samples::{at, due_of_each, entry, id, job, key, tenant, uuid};

const OWNERS: [&str; 3] = ["acme", "bolt", "c_0-"];

/// One write.
#[derive(Clone, Debug)]
enum Write {
    /// Numbered by the last number, or by one too few.
    Record(Box<Recording>, bool),
    Put(Vec<Entry>),
    Releasing(Vec<u32>, i64),
    Released(Vec<(u32, Option<i64>)>),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_backends_give_the_same_answers(writes in vec(any_write(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (sqlite, postgres) = (Fixture::sqlite().await.ledger, Fixture::postgres().await.ledger);
            for write in &writes {
                let answers = (carry_out(&sqlite, write).await, carry_out(&postgres, write).await);
                assert_eq!(answers.0, answers.1, "after {write:?}");
            }
            let (left, right) = (everything(&sqlite).await, everything(&postgres).await);
            for (left, right) in left.iter().zip(&right) {
                assert_eq!(left, right);
            }
            sqlite.close().await;
            postgres.close().await;
        });
    }
}

async fn carry_out(ledger: &AnyLedger, write: &Write) -> String {
    match write {
        Write::Record(recording, behind) => {
            let (last, _) = ledger.last_seq().await.unwrap();
            let mut recording = recording.clone();
            recording.after = last - i64::from(*behind);
            let mut seq = recording.after;
            let events = recording.events.iter_mut().map(|event| &mut event.seq);
            for number in events.chain(recording.replies.iter_mut().map(|reply| &mut reply.seq)) {
                seq += 1;
                *number = seq;
            }
            format!("{:?}", ledger.record(&recording).await)
        }
        Write::Put(entries) => format!("{:?}", ledger.put_entries(entries).await),
        Write::Releasing(ids, secs) => {
            let ids: Vec<_> = ids.iter().copied().map(uuid).collect();
            format!("{:?}", ledger.releasing(&ids, at(*secs)).await)
        }
        Write::Released(releases) => {
            let release = |(n, left): &(u32, Option<i64>)| match left {
                None => Release::Done(uuid(*n)),
                Some(secs) => {
                    Release::Left { id: uuid(*n), payload: "left".into(), jobs: 2, due_at: at(*secs), sender: 0 }
                }
            };
            let releases: Vec<_> = releases.iter().map(release).collect();
            format!("{:?}", ledger.released(&releases).await)
        }
    }
}

/// Asks every question.
async fn everything(ledger: &AnyLedger) -> Vec<String> {
    let jobs: Vec<JobId> = (0..12).map(id).collect();
    let messages: Vec<(ProviderId, Box<str>)> = (0..6).map(|n| (provider(), format!("m{n}").into())).collect();
    let mut answers = vec![
        format!("{:?}", ledger.last_seq().await),
        format!("{:?}", ledger.recorded(&(0..8).map(uuid).collect::<Vec<_>>()).await),
        format!("{:?}", ledger.trails(&jobs).await),
        format!("{:?}", ledger.segments(at(9), &messages).await),
        format!("{:?}", ledger.segments_of(&jobs).await),
        format!("{:?}", ledger.segments_under(at(9), &provider(), &["m1".into(), "m".into()]).await),
        format!("{:?}", ledger.parked(&messages).await),
        format!("{:?}", ledger.events(None, 0, 500).await),
        format!("{:?}", ledger.events(None, 3, 7).await),
        format!("{:?}", ledger.counts(None, at(0), at(9)).await),
        format!("{:?}", ledger.agenda_depth().await),
        format!("{:?}", ledger.left_releasing(Shards::ALL, 5).await),
        format!("{:?}", due_of_each(ledger, at(8), 2).await),
        format!("{:?}", due_of_each(ledger, at(99), 99).await),
        format!("{:?}", ledger.strays(at(0), at(99), 99).await),
        format!("{:?}", ledger.strays(at(3), at(6), 2).await),
    ];
    for n in 0..3 {
        answers.push(format!("{:?}", ledger.last_job_to(AddressKey(key(n)), at(6)).await));
    }
    for owner in OWNERS.map(tenant) {
        let page = Some((at(5), id(3)));
        let filters = [
            Filter::default(),
            Filter { batch: Some(uuid(1)), ..Filter::default() },
            Filter { campaign: Some(WordKey(key(1))), kind: Some(Kind::Sms), ..Filter::default() },
            Filter { run: Some(WordKey(key(41))), ..Filter::default() },
            Filter { address: Some(AddressKey(key(1))), from: Some(at(2)), ..Filter::default() },
            Filter { recipient: Some(RecipientKey(key(1))), to: Some(at(9)), ..Filter::default() },
            Filter { cancel_key: Some(WordKey(key(1))), ..Filter::default() },
            Filter { job: Some(id(1)), class: Some(Class::Marketing), ..Filter::default() },
        ];
        for filter in filters {
            answers.push(format!("{:?}", ledger.tally(&owner, &filter, 2).await));
            answers.push(format!("{:?}", ledger.entries_of(&owner, &filter, (at(2), uuid(1)), 2).await));
            answers.push(format!("{:?}", ledger.entries_of(&owner, &filter, (at(0), uuid(0)), 99).await));
            answers.push(format!("{:?}", ledger.jobs(&owner, &filter, None, 3).await));
            answers.push(format!("{:?}", ledger.jobs(&owner, &filter, page, 99).await));
        }
        for &job in &jobs {
            answers.push(format!("{:?}", ledger.job(&owner, job).await));
        }
        answers.push(format!("{:?}", ledger.events(Some(&owner), 1, 3).await));
        answers.push(format!("{:?}", ledger.replies(&owner, 2, 3).await));
        answers.push(format!("{:?}", ledger.suppressions(&owner, AddressKey(key(1))).await));
        answers.push(format!("{:?}", ledger.suppressions_after(Some(&owner), None, 3).await));
        answers.push(format!("{:?}", ledger.rules(&owner, 4).await));
        answers.push(format!("{:?}", ledger.counts(Some(&owner), at(2), at(5)).await));
    }
    answers
}

fn provider() -> ProviderId {
    "carrier-a".parse().unwrap()
}

fn any_write() -> impl Strategy<Value = Write> {
    let left = (0..16_u32, proptest::option::of(0..20_i64));
    // An entry is released once in a call, as the feeder does it.
    let releases = vec(left, 0..4).prop_map(|mut releases| {
        releases.sort();
        releases.dedup_by_key(|release| release.0);
        releases
    });
    prop_oneof![
        4 => (any_recording(), proptest::bool::weighted(0.1)).prop_map(|(recording, behind)| Write::Record(Box::new(recording), behind)),
        2 => vec(any_entry(), 0..6).prop_map(Write::Put),
        1 => (vec(0..16_u32, 0..4), 0..20_i64).prop_map(|(ids, secs)| Write::Releasing(ids, secs)),
        1 => releases.prop_map(Write::Released),
    ]
}

fn any_recording() -> impl Strategy<Value = Recording> {
    let happened = (
        vec(0..40_u32, 0..2),
        vec(any_job(), 0..4),
        vec(any_event(), 0..5),
        vec((proptest::option::of(0..3_usize), 0..12_u32), 0..2),
        proptest::option::of(0..30_i64),
    );
    let reports = (
        vec((0..6_u32, 0..12_u32, proptest::option::of(proptest::sample::select(Fate::ALL)), 0..9_i64), 0..3),
        vec((0..6_u32, proptest::sample::select(Fate::ALL), 0..9_i64), 0..2),
        vec(0..6_u32, 0..2),
    );
    let suppression = (0..SCOPES.len(), proptest::sample::select(Source::ALL), 0..9_i64);
    let rules = (
        vec(suppression.clone(), 0..3),
        vec(suppression, 0..2),
        vec((0..3_usize, 0..6_u8, 0..9_i64), 0..3),
        vec((0..3_usize, 0..6_i64, 0..9_i64), 0..3),
    );
    (happened, reports, rules).prop_map(|(happened, reports, rules)| {
        let (frames, jobs, events, replies, swept_to) = happened;
        let (segments, parked, unparked) = reports;
        let (suppressed, unsuppressed, ruled, counts) = rules;
        Recording {
            after: 0,
            frames: frames.into_iter().map(uuid).collect(),
            jobs,
            entries: vec![],
            events: events.into_iter().map(number).collect(),
            segments: segments.into_iter().map(segment).collect(),
            parked: parked.into_iter().map(receipt).collect(),
            unparked: unparked.into_iter().map(|n| (provider(), format!("m{n}").into())).collect(),
            replies: replies.into_iter().map(reply).collect(),
            suppressed: suppressed
                .into_iter()
                .flat_map(|(scope, source, secs)| sealed(&[opt_out(SCOPES[scope], source, secs)]))
                .collect(),
            unsuppressed: unsuppressed
                .into_iter()
                .map(|(scope, source, secs)| (opt_out(SCOPES[scope], source, secs), source))
                .collect(),
            ruled: ruled.into_iter().map(rule).collect(),
            counts: counts.into_iter().map(count).collect(),
            swept_to,
        }
    })
}

const SCOPES: [Scope; 6] = [
    Scope::Sender(WordKey([1; 16])),
    Scope::Signature(WordKey([1; 16])),
    Scope::Topic(WordKey([2; 16])),
    Scope::Brand,
    Scope::Everything,
    Scope::Global,
];

/// Makes the event one of its job: of the same owner, kind and class, and not from before it was accepted.
fn number(event: Event) -> NumberedEvent {
    let JobRow { tenant, kind, class, .. } = (0..12).map(of_owner).find(|job| job.id == event.job).unwrap();
    let at = at(9 + event.at.as_secs() % (20 * 86_400));
    NumberedEvent { seq: 0, event: Event { tenant, kind, class, at, ..event } }
}

/// Returns job `n`, of the owner that it has in every test.
fn of_owner(n: u32) -> JobRow {
    let class = if n.is_multiple_of(2) { Class::Otp } else { Class::Marketing };
    JobRow { tenant: tenant(OWNERS[n as usize % 3]), class, ..job(n) }
}

fn segment((message, n, fate, secs): (u32, u32, Option<Fate>, i64)) -> Segment {
    let message_id = format!("m{message}").into();
    Segment { provider: provider(), message_id, job: id(n), attempt: 1, index: 0, of: 1, fate, at: at(secs) }
}

fn receipt((message, fate, secs): (u32, Fate, i64)) -> Receipt {
    let message_id = format!("m{message}").into();
    Receipt { provider: provider(), message_id, job: None, report: Report::Final(fate), code: "".into(), at: at(secs) }
}

fn reply((owner, n): (Option<usize>, u32)) -> SealedReply {
    let tenant = owner.map(|owner| tenant(OWNERS[owner]));
    SealedReply { seq: 0, tenant, in_reply_to: Some(id(n)), at: at(n.into()), sealed: "reply".into(), signal: None }
}

fn rule((owner, what, secs): (usize, u8, i64)) -> JobRule {
    let word = Some(WordKey(key(1)));
    let (names, act) = match what {
        0 => (Names::job(id(1)), Act::Cancel),
        1 => (Names { cancel_key: word, ..Names::default() }, Act::Cancel),
        2 => (Names { batch: Some(uuid(1)), kind: Some(Kind::Sms), ..Names::default() }, Act::Cancel),
        3 => (Names { campaign: word, ..Names::default() }, Act::Move { due_at: at(secs), expires_at: None }),
        4 => (Names { collapse_key: word, ..Names::default() }, Act::Collapse { into: id(2) }),
        _ => (Names::default(), Act::Cancel),
    };
    JobRule { tenant: tenant(OWNERS[owner]), names, at: at(secs), act }
}

fn count((owner, hour, jobs): (usize, i64, i64)) -> Count {
    let (tenant, hour) = (tenant(OWNERS[owner]), at(hour));
    Count { tenant, hour, kind: Kind::Sms, class: Class::Otp, what: "sent".into(), reason: "".into(), jobs }
}

fn any_job() -> impl Strategy<Value = JobRow> {
    let maybe = || proptest::option::of(0..3_u32);
    (0..12_u32, 0..9_i64, -99..99_i64, (maybe(), maybe(), maybe(), maybe())).prop_map(
        |(n, accepted, due, (recipient, batch, campaign, cancel_key))| JobRow {
            accepted_at: at(accepted),
            due_at: at(accepted + due),
            address: AddressKey(key(n % 3)),
            recipient: recipient.map(|n| RecipientKey(key(n))),
            batch: batch.map(uuid),
            campaign: campaign.map(|n| WordKey(key(n))),
            run: campaign.map(|n| WordKey(key(n + 40))),
            cancel_key: cancel_key.map(|n| WordKey(key(n))),
            ..of_owner(n)
        },
    )
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let tag = prop_oneof![
        4 => Just(Tag::Send),
        1 => Just(Tag::Check),
        2 => (0..3_u8).prop_map(|n| Tag::Timer { kind: "t".into(), owner: "acme".into(), key: n.to_string().into() }),
    ];
    (0..16_u32, tag, 0..3_usize, proptest::sample::select(Class::ALL), 0..20_i64).prop_map(
        |(n, tag, owner, class, secs)| Entry {
            // The same id is the same thing again: another timer has another one.
            id: match &tag {
                Tag::Timer { key, .. } => uuid(100 + 3 * n + key.parse::<u32>().unwrap()),
                Tag::Send | Tag::Check => uuid(n),
            },
            tag,
            tenant: tenant(OWNERS[owner]),
            lane: Lane { class, pool: "sms".parse().unwrap() },
            sender: n % 2,
            priority: (n % 8) as i8 - 4,
            accepted_at: n.is_multiple_of(3).then(|| at(i64::from(n) % 9)),
            ..entry(n, at(secs))
        },
    )
}
