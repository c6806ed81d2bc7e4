//! Calls whose providers have nothing of their jobs: what follows a report comes from the ledger, once.

use super::*;
use crate::domain::call::{After, AfterAct, CallResult, Plan, When};
use crate::domain::chain::{Chain, Step};
use crate::domain::event::{CallStep, Called, Left};
use crate::ledger::NumberedEvent;
use crate::telemetry::exporter;

fn called_for(id: JobId) -> Envelope {
    let plain = envelope(Class::Marketing, &[id]);
    let content = Content::Call { flow: "hello".into(), plan: Arc::default() };
    Envelope { shared: Arc::new(Shared { kind: Kind::Call, content, ..(*plain.shared).clone() }), ..plain }
}

fn told(result: CallResult, message_id: &str) -> Fact {
    let (provider, message_id) = ("carrier".parse().unwrap(), message_id.into());
    let report = Report::Called(result);
    Fact::Receipt(Receipt { provider, message_id, job: None, report, code: "how it went".into(), at: START })
}

/// Records what happens to a call job, each frame in a batch of its own, the last one twice; returns its outcomes, and
/// until when it waits.
async fn check(facts: Vec<Fact>) -> (Vec<Outcome>, Vec<UnixMicros>) {
    let (rig, job) = (Rig::new().await, JobId::new(START, 7));
    let frames: Vec<_> = std::iter::once(Frame::Jobs(vec![called_for(job)]))
        .chain(facts.into_iter().map(|fact| Frame::Facts(vec![fact])))
        .map(|frame| rig.frame(frame))
        .collect();
    // One that remembers nobody: everything comes from the ledger.
    let mut writer = rig.writer(1);
    for frame in frames.iter().chain(frames.last()) {
        let mut batch = vec![delivered(frame, 1, &rig.sealer).0];
        writer.current.store(false, Ordering::Relaxed);
        writer.try_write(&mut batch).await.unwrap();
    }
    let history = rig.history(job).await;
    let until = |change: &Change| match change {
        Change::Deferred { until, .. } => Some(*until),
        _ => None,
    };
    for numbered in &history.events {
        let Change::Called { report, .. } = &numbered.event.change else { continue };
        assert_eq!(&**report, "how it went");
    }
    let waits = history.events.iter().filter_map(|numbered| until(&numbered.event.change)).collect();
    (rig.outcomes(job).await, waits)
}

#[tokio::test]
async fn a_call_that_a_cloud_reports_is_tried_again_or_settled_by_its_rules() {
    let job = JobId::new(START, 7);
    let sent = |attempt: u16, id: &str| {
        let Fact::Event(event) = sent(job, &[id.to_owned()]) else { panic!("an event") };
        Fact::Event(Event { attempt, ..event })
    };
    let (outcomes, waits) = check(vec![sent(1, "a"), told(CallResult::Busy, "a")]).await;
    let [until] = waits[..] else { panic!("{waits:?}") };
    assert_eq!(outcomes, []);
    assert!((300..=361).contains(&until.since(START).as_secs()), "{until:?}");
    // The report may come before the answer.
    let (outcomes, waits) = check(vec![told(CallResult::NoAnswer, "a"), sent(1, "a")]).await;
    assert_eq!((outcomes.len(), waits.len()), (1, 0), "it expires within the hour: {outcomes:?}");
    let (outcomes, waits) = check(vec![sent(1, "a"), told(CallResult::Completed, "a")]).await;
    assert_eq!((outcomes, waits.len()), (vec![Outcome::new(Fate::Completed, "")], 0));
    let (outcomes, waits) = check(vec![sent(1, "a"), told(CallResult::InvalidNumber, "a")]).await;
    assert_eq!((outcomes, waits.len()), (vec![Outcome::new(Fate::Undelivered, "invalid_number")], 0));
    // Twice is what its rule allows.
    let story = [(1, "a"), (2, "b"), (3, "c")].map(|(n, id)| [sent(n, id), told(CallResult::Busy, id)]);
    let (outcomes, waits) = check(story.into_iter().flatten().collect()).await;
    assert_eq!((outcomes, waits.len()), (vec![Outcome::new(Fate::Undelivered, "busy")], 2));
}

#[tokio::test]
async fn a_recording_is_told_once_whenever_it_comes_and_changes_nothing() {
    let job = JobId::new(START, 7);
    let recorded = |message_id: &str| {
        let Fact::Receipt(receipt) = told(CallResult::Completed, message_id) else { panic!("a receipt") };
        Fact::Receipt(Receipt { report: Report::Recorded, code: "where it is".into(), ..receipt })
    };
    let sent = || sent(job, &["a".to_owned()]);
    for story in [
        vec![sent(), told(CallResult::Completed, "a"), recorded("a")],
        vec![sent(), recorded("a"), told(CallResult::Completed, "a")],
        vec![sent(), recorded("a"), recorded("a"), recorded("b"), told(CallResult::Completed, "a")],
    ] {
        let rig = Rig::new().await;
        let mut writer = rig.writer(1);
        let frames: Vec<_> = std::iter::once(Frame::Jobs(vec![called_for(job)]))
            .chain(story.into_iter().map(|fact| Frame::Facts(vec![fact])))
            .map(|frame| rig.frame(frame))
            .collect();
        rig.write(&mut writer, &frames).await;
        assert_eq!(rig.outcomes(job).await, [Outcome::new(Fate::Completed, "")]);
        let told = |numbered: &NumberedEvent| match &numbered.event.change {
            Change::Called { report, .. } | Change::Recorded { report } => Some(report.clone()),
            _ => None,
        };
        let mut told: Vec<_> = rig.history(job).await.events.iter().filter_map(told).collect();
        told.sort();
        assert_eq!(told, ["how it went".into(), Box::from("where it is")]);
    }
}

#[tokio::test]
async fn a_call_that_no_driver_has_any_more_is_tried_again_or_settled_by_its_rules() {
    let job = JobId::new(START, 7);
    let ended = |result: CallResult| {
        let step = CallStep::Ended { result, report: "how it went".into(), cost: None, left: None };
        Fact::Called(Called { provider: "carrier".parse().unwrap(), job, attempt: 1, at: START, step })
    };
    let (outcomes, waits) = check(vec![sent(job, &["a".to_owned()]), ended(CallResult::Busy)]).await;
    let [until] = waits[..] else { panic!("{waits:?}") };
    assert_eq!(outcomes, []);
    assert!((300..=361).contains(&until.since(START).as_secs()), "{until:?}");
    // Its answer was lost with the process.
    let (outcomes, waits) = check(vec![ended(CallResult::InvalidNumber)]).await;
    assert_eq!((outcomes, waits.len()), (vec![Outcome::new(Fate::Undelivered, "invalid_number")], 0));
    let (outcomes, waits) = check(vec![sent(job, &["a".to_owned()]), ended(CallResult::Completed)]).await;
    assert_eq!((outcomes, waits.len()), (vec![Outcome::new(Fate::Completed, "")], 0));
}

/// A call that is followed by a text and an opt-out where the line is busy, and by a text where its flow set a tag.
fn followed(job: JobId) -> Envelope {
    let submit = |template: &str| {
        let params = vec![("said".into(), "{name} pressed {menu}".into())];
        AfterAct::Submit { kind: Kind::Sms, template: template.into(), params }
    };
    let busy = || When::Result(CallResult::Busy);
    let after = vec![
        After { when: busy(), act: submit("missed") },
        After { when: When::Tag("yes".into()), act: submit("link") },
        After { when: busy(), act: AfterAct::OptOut { everything: false } },
    ];
    let mut call = called_for(job);
    let plan = Arc::new(Plan { after, ..Plan::default() });
    Arc::make_mut(&mut call.shared).content = Content::Call { flow: "hello".into(), plan };
    call.jobs[0].params = vec![("name".into(), "Li".into())];
    call
}

fn ended(job: JobId, result: CallResult, left: Option<Left>) -> Fact {
    let step = CallStep::Ended { result, report: "how it went".into(), cost: None, left: left.map(Box::new) };
    Fact::Called(Called { provider: "carrier".parse().unwrap(), job, attempt: 1, at: START, step })
}

#[tokio::test]
async fn what_follows_a_call_comes_once_with_its_end_and_again_until_it_can() {
    let (rig, job) = (Rig::new().await, JobId::new(START, 7));
    rig.follow_ups.in_vain.store(1, Ordering::SeqCst);
    let left = Left { again: followed(job), follows: vec![0, 1, 2], heard: vec![("menu".into(), "1".into())] };
    let end = rig.frame(Frame::Facts(vec![ended(job, CallResult::Busy, Some(left))]));
    let mut writer = rig.writer(100);
    rig.write(&mut writer, &[rig.frame(Frame::Jobs(vec![followed(job)])), end.clone()]).await;
    let taken = || {
        let taken = rig.follow_ups.taken.lock().unwrap();
        let mut taken: Vec<_> = taken.iter().map(|taken| (taken.from.clone(), taken.params[0].1.clone())).collect();
        taken.sort();
        taken
    };
    assert_eq!(taken().len(), 1, "one was refused");
    let number = rig.sealer.address_key("+15550000000");
    assert_eq!(rig.limits.suppressions(&"acme".parse().unwrap(), number).await.unwrap().len(), 1);
    // What was refused is tried again by a timer, which comes back as a fact; the same end again brings nothing.
    let timers: Vec<_> =
        rig.agenda().await.into_iter().filter(|entry| matches!(entry.tag, Tag::Timer { .. })).collect();
    let [timer] = &timers[..] else { panic!("{timers:?}") };
    assert!(timer.due_at > START);
    rig.write(&mut writer, &[(Uuid::new_v4(), timer.payload.clone()), (Uuid::new_v4(), end.1)]).await;
    let said = |place: &str| (Box::from(place), Box::from("Li pressed 1"));
    assert_eq!(taken(), [said("after.0"), said("after.1")]);
}

#[tokio::test]
async fn what_follows_a_call_by_its_result_comes_although_its_process_is_gone() {
    let (rig, job) = (Rig::new().await, JobId::new(START, 7));
    let frames = [Frame::Jobs(vec![followed(job)]), Frame::Facts(vec![ended(job, CallResult::Busy, None)])];
    let mut writer = rig.writer(100);
    rig.write(&mut writer, &frames.map(|frame| rig.frame(frame))).await;
    let taken: Vec<_> = rig.follow_ups.taken.lock().unwrap().iter().map(|taken| taken.template.clone()).collect();
    assert_eq!(taken, [Box::<str>::from("missed")]);
    let number = rig.sealer.address_key("+15550000000");
    assert_eq!(rig.limits.suppressions(&"acme".parse().unwrap(), number).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_call_that_was_talked_in_may_still_lead_to_the_next_step_of_its_chain() {
    for (result, tagged, expected) in [
        (CallResult::Completed, true, Some(Outcome::new(Fate::Completed, Outcome::NEXT_STEP))),
        (CallResult::Completed, false, Some(Outcome::new(Fate::Completed, ""))),
        // It would be called again otherwise.
        (CallResult::Busy, true, Some(Outcome::new(Fate::Undelivered, "busy"))),
        (CallResult::Busy, false, None),
    ] {
        let (rig, job) = (Rig::new().await, JobId::new(START, 7));
        let mut call = called_for(job);
        let shared = Arc::make_mut(&mut call.shared);
        let after = vec![After { when: When::Tag("later".into()), act: AfterAct::NextStep }];
        let plan = Arc::new(Plan { after, ..Plan::default() });
        shared.content = Content::Call { flow: "hello".into(), plan };
        let text = Step {
            kind: Kind::Sms,
            pool: "default".parse().unwrap(),
            content: Content::Text("as you wished".into()),
            sender: "".into(),
            after: Duration::from_secs(600),
        };
        shared.chain = Some(Box::new(Chain { first: None, step: 0, life: None, next: vec![text] }));
        let follows = if tagged { vec![0] } else { vec![] };
        let left = Left { again: call.clone(), follows, heard: vec![] };
        let frames = [Frame::Jobs(vec![call]), Frame::Facts(vec![ended(job, result, Some(left))])];
        let mut writer = rig.writer(100);
        rig.write(&mut writer, &frames.map(|frame| rig.frame(frame))).await;
        // Whoever is to be called again is in the agenda as well.
        let starts = rig.starting().await.contains(&job.step(1));
        assert_eq!(rig.outcomes(job).await, Vec::from_iter(expected), "{result}");
        assert_eq!(starts, tagged, "{result}");
    }
}

#[test]
fn an_opt_out_that_follows_a_call_is_counted_when_it_is_written() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counted = exporter::capture(|| {
        runtime.block_on(async {
            let (rig, [job, other]) = (Rig::new().await, [7, 8].map(|number| JobId::new(START, number)));
            let mut writer = rig.writer(100);
            rig.write(&mut writer, &[rig.frame(Frame::Jobs(vec![followed(job)]))]).await;
            // Another recorder writes what this one does not know: its next recording is refused, after it opted somebody out.
            let frames = [Frame::Jobs(vec![called_for(other)]), Frame::Facts(vec![sent(other, &["a".to_owned()])])];
            rig.write(&mut rig.writer(100), &frames.map(|frame| rig.frame(frame))).await;
            let end = rig.frame(Frame::Facts(vec![ended(job, CallResult::Busy, None)]));
            let mut batch = vec![delivered(&end, 1, &rig.sealer).0];
            assert_eq!(writer.try_write(&mut batch).await, Err(LedgerError::Overtaken));
            writer.try_write(&mut batch).await.unwrap();
        });
    });
    let line = counted.lines().find(|line| line.starts_with("postrider_optouts_total{")).unwrap();
    assert_eq!(line.rsplit(' ').next(), Some("1"), "{line}");
}
