//! Recordings: whole or not at all, in turn, and harmless when they come again.

use std::time::Duration;

use postrider::domain::call::CallResult;
use postrider::domain::event::{Change, Event, Fate, Outcome, Receipt, Report, State};
use postrider::domain::ids::{JobId, ProviderId};
use postrider::domain::job::{Class, Kind};
use postrider::domain::money::Money;
use postrider::domain::time::UnixMicros;
use postrider::ledger::{
    Entry, JobRow, Ledger, LedgerError, NumberedEvent, RECEIPT_MATCH, Recording, SealedReply, Segment, Tag,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::samples::{at, delivered, due_of_each, entry, event, events, id, job, key, sent, tenant, uuid};
use super::{Fixture, on_every_backend};

on_every_backend! {
    a_recording_is_written_whole
    a_refused_recording_leaves_nothing
    numbers_follow_one_another
    only_one_recorder_goes_on
    a_frame_is_recorded_once
    a_job_in_two_frames_is_one_job
    trails_are_read_without_rows
    what_follows_a_job_is_known_with_its_trail
    what_a_recording_puts_into_the_agenda_comes_with_it
    every_change_comes_back_as_it_was
    segments_are_overwritten_and_forgotten_after_a_while
    segments_are_found_by_the_head_of_their_ids
    receipts_wait_until_they_are_unparked
    signals_are_known_by_their_ids
    a_restart_keeps_everything
}

async fn signals_are_known_by_their_ids(Fixture { ledger, .. }: Fixture) {
    let reply = |seq, signal| SealedReply {
        seq,
        tenant: Some(tenant("acme")),
        in_reply_to: None,
        at: at(1),
        sealed: "s".into(),
        signal,
    };
    let replies = vec![reply(1, Some(uuid(7))), reply(2, None), reply(3, None), reply(4, Some(uuid(8)))];
    ledger.record(&Recording { replies: replies.clone(), ..Recording::default() }).await.unwrap();
    let mut heard = ledger.heard(&[uuid(6), uuid(7), uuid(8)]).await.unwrap();
    heard.sort_unstable();
    assert_eq!(heard, [uuid(7), uuid(8)]);
    assert_eq!(ledger.heard(&[]).await, Ok(vec![]));
    assert_eq!(ledger.replies(&tenant("acme"), 0, 10).await, Ok(replies));
    // Whoever does not ask first is refused, and nothing of it is written.
    let twice = Recording { after: 4, replies: vec![reply(5, Some(uuid(7)))], ..Recording::default() };
    assert!(ledger.record(&twice).await.is_err());
    assert_eq!(ledger.last_seq().await, Ok((4, 0)));
}

async fn a_recording_is_written_whole(Fixture { ledger, .. }: Fixture) {
    assert_eq!(ledger.last_seq().await, Ok((0, 0)));
    let reply = SealedReply {
        seq: 3,
        tenant: Some(tenant("acme")),
        in_reply_to: Some(id(1)),
        at: at(9),
        sealed: "sealed".into(),
        signal: None,
    };
    let recording = Recording {
        frames: vec![uuid(1), uuid(2)],
        jobs: vec![job(1), job(2)],
        replies: vec![reply.clone()],
        swept_to: Some(1),
        ..events(0, vec![(1, sent()), (1, delivered())])
    };
    ledger.record(&recording).await.unwrap();
    assert_eq!(ledger.last_seq().await, Ok((3, 1)));
    assert_eq!(ledger.recorded(&[uuid(2), uuid(3), uuid(1)]).await.unwrap(), vec![uuid(2), uuid(1)]);
    let history = ledger.job(&tenant("acme"), id(1)).await.unwrap().unwrap();
    assert_eq!(history.row, Some(job(1)));
    assert_eq!(history.events, recording.events);
    assert_eq!(ledger.replies(&tenant("acme"), 0, 10).await, Ok(vec![reply]));
    assert_eq!(ledger.replies(&tenant("acme"), 3, 10).await, Ok(vec![]));
    assert_eq!(ledger.replies(&tenant("other"), 0, 10).await, Ok(vec![]));
    ledger.record(&Recording { after: 3, ..Recording::default() }).await.unwrap();
    assert_eq!(ledger.last_seq().await, Ok((3, 1)), "a sweep that did not move stays where it was");
}

async fn a_refused_recording_leaves_nothing(Fixture { ledger, .. }: Fixture) {
    let first = Recording { frames: vec![uuid(1)], ..Recording::default() };
    ledger.record(&first).await.unwrap();
    // Its second frame was recorded before: by then it has numbered its event and remembered its first frame.
    let second = Recording { frames: vec![uuid(2), uuid(1)], jobs: vec![job(1)], ..events(0, vec![(1, sent())]) };
    assert_eq!(ledger.record(&second).await, Err(LedgerError::Overtaken));
    assert_eq!(ledger.last_seq().await, Ok((0, 0)));
    assert_eq!(ledger.recorded(&[uuid(2)]).await, Ok(vec![]));
    assert_eq!(ledger.trails(&[id(1)]).await, Ok(vec![None]));
    ledger.record(&Recording { frames: vec![uuid(2)], ..second }).await.unwrap();
    assert_eq!(ledger.last_seq().await, Ok((1, 0)));
}

async fn numbers_follow_one_another(Fixture { ledger, .. }: Fixture) {
    let gap = Recording { events: vec![event(2, 1, sent())], ..Recording::default() };
    assert!(matches!(ledger.record(&gap).await, Err(LedgerError::Refused(_))));
    let twice = Recording { events: vec![event(1, 1, sent()), event(1, 2, sent())], ..Recording::default() };
    assert!(matches!(ledger.record(&twice).await, Err(LedgerError::Refused(_))));
    assert_eq!(ledger.last_seq().await, Ok((0, 0)));
}

async fn only_one_recorder_goes_on(Fixture { ledger, .. }: Fixture) {
    let (mine, theirs) = (events(0, vec![(1, sent())]), events(0, vec![(2, sent()), (3, sent())]));
    let (mine, theirs) = tokio::join!(ledger.record(&mine), ledger.record(&theirs));
    let overtaken = Err(LedgerError::Overtaken);
    match ledger.last_seq().await.unwrap().0 {
        1 => assert_eq!((mine, theirs), (Ok(()), overtaken)),
        2 => assert_eq!((mine, theirs), (overtaken, Ok(()))),
        other => panic!("{other} numbers after one recording of one and one of two"),
    }
}

async fn a_frame_is_recorded_once(Fixture { ledger, .. }: Fixture) {
    let recording = Recording { frames: vec![uuid(1)], jobs: vec![job(1)], ..Recording::default() };
    ledger.record(&recording).await.unwrap();
    assert_eq!(ledger.record(&recording).await, Err(LedgerError::Overtaken), "the answer to the first was lost");
    assert_eq!(ledger.jobs(&tenant("acme"), &Default::default(), None, 10).await.unwrap().len(), 1);
}

async fn a_job_in_two_frames_is_one_job(Fixture { ledger, .. }: Fixture) {
    // Published twice while its first publish was pending: the second copy says something else of it.
    let mut again = job(1);
    again.accepted_at = at(50);
    again.sealed = "another sealing".into();
    let both =
        Recording { frames: vec![uuid(1)], jobs: vec![job(1), again.clone(), job(2)], ..events(0, vec![(1, sent())]) };
    ledger.record(&both).await.unwrap();
    let later =
        Recording { frames: vec![uuid(2)], jobs: vec![job(3), again], ..events(1, vec![(3, sent()), (2, sent())]) };
    ledger.record(&later).await.unwrap();
    let found = ledger.jobs(&tenant("acme"), &Default::default(), None, 10).await.unwrap();
    let rows: Vec<_> = found.iter().map(|history| history.row.clone().unwrap()).collect();
    assert_eq!(rows, vec![job(3), job(2), job(1)], "the first one stands");
    assert_eq!(found.iter().map(|history| history.events.len()).collect::<Vec<_>>(), vec![1, 1, 1]);
}

async fn trails_are_read_without_rows(Fixture { ledger, .. }: Fixture) {
    let recording =
        Recording { jobs: vec![job(1), job(2)], ..events(0, vec![(3, sent()), (1, sent()), (3, delivered())]) };
    ledger.record(&recording).await.unwrap();
    let trails = ledger.trails(&[id(3), id(9), id(2), id(1), id(3)]).await.unwrap();
    let seqs = |trail: &Option<postrider::ledger::Trail>| {
        trail.as_ref().map(|trail| trail.events.iter().map(|event| event.seq).collect::<Vec<_>>())
    };
    let expected = vec![Some(vec![1, 3]), None, Some(vec![]), Some(vec![2]), Some(vec![1, 3])];
    assert_eq!(trails.iter().map(seqs).collect::<Vec<_>>(), expected);
    assert_eq!(trails[0].as_ref().unwrap().tenant, tenant("acme"));
    assert_eq!(trails[2].as_ref().unwrap().class, Class::Marketing);
    assert_eq!(ledger.trails(&[]).await, Ok(vec![]));
}

async fn what_follows_a_job_is_known_with_its_trail(Fixture { ledger, .. }: Fixture) {
    let after = Duration::from_secs(600);
    let followed = JobRow { fallback_after: Some(after), ..job(1) };
    let recording = Recording { jobs: vec![followed.clone(), job(2)], ..events(0, vec![(1, sent()), (3, sent())]) };
    ledger.record(&recording).await.unwrap();
    let trails = ledger.trails(&[id(1), id(2), id(3)]).await.unwrap().into_iter().flatten();
    let known: Vec<_> = trails.map(|trail| (trail.accepted, trail.fallback_after)).collect();
    assert_eq!(known, [(true, Some(after)), (true, None), (false, None)]);
    let sealed = ledger.sealed(&[id(3), id(1), id(9)]).await.unwrap();
    assert_eq!(sealed, [None, Some(followed.sealed.clone()), None]);
    let history = ledger.job(&tenant("acme"), id(1)).await.unwrap().unwrap();
    assert_eq!(history.row, Some(followed));
}

async fn what_a_recording_puts_into_the_agenda_comes_with_it(Fixture { ledger, .. }: Fixture) {
    let tag = Tag::Timer { kind: "fallback".into(), owner: "acme".into(), key: "1".into() };
    let timer = |n, secs| Entry { tag: tag.clone(), jobs: 0, ..entry(n, at(secs)) };
    let recording = Recording { entries: vec![entry(1, at(1)), timer(2, 2)], ..events(0, vec![(1, sent())]) };
    ledger.record(&recording).await.unwrap();
    let late = Recording { entries: vec![entry(3, at(3))], ..events(0, vec![(2, sent())]) };
    assert_eq!(ledger.record(&late).await, Err(LedgerError::Overtaken));
    let due = async || {
        let mut due = due_of_each(&ledger, at(99), 99).await;
        due.sort_by_key(|entry| entry.due_at);
        due
    };
    assert_eq!(due().await, [entry(1, at(1)), timer(2, 2)]);
    let depth = ledger.agenda_depth().await.unwrap();
    assert_eq!((depth.entries, depth.jobs), (2, 10));
    // The timer is moved, as by putting it there otherwise.
    let again = Recording { entries: vec![timer(4, 4)], ..events(1, vec![(2, sent())]) };
    ledger.record(&again).await.unwrap();
    assert_eq!(due().await, [entry(1, at(1)), timer(4, 4)]);
}

async fn every_change_comes_back_as_it_was(Fixture { ledger, .. }: Fixture) {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut recorded = vec![];
    for _ in 0..500 {
        let event = any_event().new_tree(&mut runner).unwrap().current();
        recorded.push(NumberedEvent { seq: recorded.len() as i64 + 1, event });
    }
    ledger.record(&Recording { events: recorded.clone(), ..Recording::default() }).await.unwrap();
    let (read, complete) = ledger.events(None, 0, 1_000).await.unwrap();
    assert_eq!(read, recorded);
    assert_eq!(complete, 500);
}

pub(crate) fn any_event() -> impl Strategy<Value = Event> {
    let word = "[a-z_:0-9]{0,12}";
    let provider = "[a-z0-9][a-z0-9-]{0,8}".prop_map(|name| name.parse::<ProviderId>().unwrap());
    let time = prop_oneof![(0..4_000_000_000_000_000_i64).prop_map(UnixMicros), Just(UnixMicros::MAX)];
    let cost =
        proptest::option::of((0..=i64::MAX).prop_map(|micros| Money::new("CNY".parse().unwrap(), micros).unwrap()));
    let change = prop_oneof![
        (word, time).prop_map(|(reason, until)| Change::Deferred { reason: reason.into(), until }),
        (provider.clone(), proptest::collection::vec("[ -~é]{0,20}", 0..4), any::<bool>(), cost.clone()).prop_map(
            |(provider, ids, receipt_expected, cost)| Change::Sent {
                provider,
                message_ids: ids.into_iter().map(Into::into).collect(),
                receipt_expected,
                cost,
            }
        ),
        (provider.clone(), proptest::sample::select(CallResult::ALL), "[A-Za-z0-9+/]{0,40}", cost).prop_map(
            |(provider, result, report, cost)| Change::Called { provider, result, report: report.into(), cost }
        ),
        proptest::option::of(provider).prop_map(|provider| Change::Unresolved { provider }),
        proptest::sample::select(State::ALL).prop_map(Change::Progress),
        "[A-Za-z0-9+/]{0,40}".prop_map(|report| Change::Recorded { report: report.into() }),
        (proptest::sample::select(Fate::ALL), word)
            .prop_map(|(fate, reason)| Change::Settled(Outcome::new(fate, reason))),
    ];
    let who = (0..6_u32, prop_oneof![Just("acme"), Just("bolt"), Just("c_0-")]);
    let how = (proptest::sample::select(Kind::ALL), proptest::sample::select(Class::ALL), any::<u16>());
    (who, how, 0..4_000_000_000_000_000_i64, change).prop_map(|((n, owner), (kind, class, attempt), time, change)| {
        Event { job: id(n), tenant: tenant(owner), kind, class, at: UnixMicros(time), attempt, change }
    })
}

fn segment(message_id: &str, n: u32, fate: Option<Fate>) -> Segment {
    Segment {
        provider: "carrier-a".parse().unwrap(),
        message_id: message_id.into(),
        job: id(n),
        attempt: 2,
        index: 1,
        of: 3,
        fate,
        at: at(10),
    }
}

async fn segments_are_overwritten_and_forgotten_after_a_while(Fixture { ledger, .. }: Fixture) {
    let provider = |name: &str| name.parse::<ProviderId>().unwrap();
    let first = vec![segment("m1", 1, None), segment("m2", 1, None), segment("m3", 2, None)];
    ledger.record(&Recording { segments: first, ..Recording::default() }).await.unwrap();
    // Within one recording the last one counts.
    let (undelivered, delivered) = (segment("m1", 1, Some(Fate::Undelivered)), segment("m1", 1, Some(Fate::Delivered)));
    let second = vec![undelivered, delivered.clone(), segment("m3", 4, None)];
    let stale = Recording { segments: second, ..Recording::default() };
    assert_eq!(ledger.record(&stale).await, Err(LedgerError::Overtaken), "segments move the fence");
    ledger.record(&Recording { after: 1, ..stale }).await.unwrap();

    let ids = [
        (provider("carrier-a"), "m1".into()),
        (provider("carrier-b"), "m1".into()),
        (provider("carrier-a"), "m3".into()),
    ];
    let found = ledger.segments(at(20), &ids).await.unwrap();
    assert_eq!(found, vec![Some(delivered.clone()), None, Some(segment("m3", 4, None))]);
    let much_later = at(11).plus(RECEIPT_MATCH);
    assert_eq!(ledger.segments(much_later, &ids).await.unwrap(), vec![None, None, None]);
    let of_job = ledger.segments_of(&[id(1), id(2)]).await.unwrap();
    assert_eq!(of_job, vec![delivered, segment("m2", 1, None)]);
}

async fn segments_are_found_by_the_head_of_their_ids(Fixture { ledger, .. }: Fixture) {
    let segments = ["m7:b", "m7:a", "m70:a", "m7", "m7;", "m9:a"].map(|id| segment(id, 1, None)).to_vec();
    ledger.record(&Recording { segments, ..Recording::default() }).await.unwrap();
    let heads = ["m8", "m7", "m9"].map(Box::from);
    let asked = |provider: &str| provider.parse::<ProviderId>().unwrap();
    let found = ledger.segments_under(at(20), &asked("carrier-a"), &heads).await.unwrap();
    let of = |id: &str| segment(id, 1, None);
    assert_eq!(found, vec![vec![], vec![of("m7:a"), of("m7:b")], vec![of("m9:a")]]);
    let others = ledger.segments_under(at(20), &asked("carrier-b"), &heads).await.unwrap();
    assert_eq!(others, vec![vec![]; 3], "another provider's are no matter of this one");
    let much_later = ledger.segments_under(at(11).plus(RECEIPT_MATCH), &asked("carrier-a"), &heads).await.unwrap();
    assert_eq!(much_later, vec![vec![]; 3]);
}

async fn receipts_wait_until_they_are_unparked(Fixture { ledger, .. }: Fixture) {
    let carrier: ProviderId = "carrier-a".parse().unwrap();
    let receipt = |message_id: &str, secs, report, job: Option<JobId>| Receipt {
        provider: carrier.clone(),
        message_id: message_id.into(),
        job,
        report,
        code: "000".into(),
        at: at(secs),
    };
    let ringing = receipt("m1", 1, Report::Progress(State::Ringing), None);
    let done = receipt("m1", 2, Report::Final(Fate::Delivered), Some(id(1)));
    let other = receipt("m2", 3, Report::Pending, None);
    let parked = vec![done.clone(), ringing.clone(), other.clone()];
    ledger.record(&Recording { parked, ..Recording::default() }).await.unwrap();
    let (one, two) = ((carrier.clone(), Box::from("m1")), (carrier.clone(), Box::from("m2")));
    let all = [two.clone(), one.clone(), (carrier.clone(), "m3".into())];
    assert_eq!(ledger.parked(&all).await.unwrap(), vec![other.clone(), ringing, done]);
    let stale = Recording { unparked: vec![one], ..Recording::default() };
    assert_eq!(ledger.record(&stale).await, Err(LedgerError::Overtaken), "parked receipts move the fence");
    ledger.record(&Recording { after: 1, ..stale }).await.unwrap();
    assert_eq!(ledger.parked(&all).await.unwrap(), vec![other]);
    let late = Receipt { at: at(4).plus(RECEIPT_MATCH), ..receipt("m9", 0, Report::Pending, None) };
    ledger.record(&Recording { after: 1, parked: vec![late], ..Recording::default() }).await.unwrap();
    assert_eq!(ledger.parked(&[two]).await.unwrap(), vec![], "nothing can match it any more");
}

async fn a_restart_keeps_everything(fixture: Fixture) {
    let recording = Recording {
        frames: vec![uuid(1)],
        jobs: vec![job(1)],
        segments: vec![segment("m1", 1, None)],
        swept_to: Some(1),
        ..events(0, vec![(1, sent()), (1, delivered())])
    };
    fixture.ledger.record(&recording).await.unwrap();
    fixture.ledger.put_entries(&[entry(1, at(5))]).await.unwrap();
    let before = everything(&fixture).await;
    let fixture = fixture.reopened().await;
    assert_eq!(everything(&fixture).await, before);
    fixture.ledger.record(&events(2, vec![(1, delivered())])).await.unwrap();
}

async fn everything(Fixture { ledger, .. }: &Fixture) -> String {
    let job = ledger.job(&tenant("acme"), id(1)).await.unwrap().unwrap();
    assert_eq!(job.row.as_ref().unwrap().address.0, key(1));
    let segments = ledger.segments_of(&[id(1)]).await.unwrap();
    let agenda = (ledger.agenda_depth().await.unwrap(), due_of_each(ledger, at(9), 9).await);
    let frames = ledger.recorded(&[uuid(1), uuid(2)]).await.unwrap();
    format!("{job:?} {segments:?} {agenda:?} {frames:?} {:?}", ledger.last_seq().await.unwrap())
}
