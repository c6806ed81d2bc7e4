//! Calls whose providers have nothing of their jobs: what follows a report comes from the ledger, once.

use super::*;
use crate::domain::call::CallResult;
use crate::domain::event::{CallStep, Called};

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
        writer.current.store(false, std::sync::atomic::Ordering::Relaxed);
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
async fn a_call_that_no_driver_has_any_more_is_tried_again_or_settled_by_its_rules() {
    let job = JobId::new(START, 7);
    let ended = |result: CallResult| {
        let step = CallStep::Ended { result, report: "how it went".into(), cost: None, again: None };
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
