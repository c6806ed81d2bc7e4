//! A simulated provider answers each hand-over once, as its settings say.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;
use crate::channel::News;
use crate::domain::event::{Fate, Report, State};
use crate::domain::ids::JobId;
use crate::domain::job::Class;
use crate::domain::recipient::Recipient;
use crate::domain::time::UnixMicros;

fn settings(behaviour: Behaviour) -> Settings {
    let kinds = Kind::ALL.to_vec();
    let profile = Profile {
        id: "sim".parse().unwrap(),
        kinds,
        response_timeout: Duration::from_secs(5),
        price: None,
        confirmed: false,
    };
    Settings { profile, window: 1_000, rate: None, behaviour, seed: 7, log: None }
}

fn handover(number: u32, kind: Kind) -> Handover {
    let phone = format!("+1555{:07}", number);
    Handover {
        job: JobId::new(UnixMicros::from_secs(1), u128::from(number) << 64),
        attempt: 1,
        kind,
        class: Class::Notification,
        recipient: Arc::new(Recipient { phone: Some(phone.parse().unwrap()), ..Recipient::default() }),
        sender: "10690".into(),
        content: Content::Text("hello".into()),
        params: vec![],
        template: None,
        validity: Duration::from_secs(3600),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

/// A provider on a virtual clock, with everything it says confirmed.
struct Rig {
    provider: Simulated,
    clock: Clock,
    inbox: mpsc::Receiver<Inbound>,
    tasks: Tasks,
}

impl Rig {
    fn new(settings: Settings) -> Self {
        let (clock, tasks) = (Clock::virtual_at(UnixMicros::from_secs(1_000)), Tasks::new());
        let (out, inbox) = mpsc::channel(10_000);
        let provider = Simulated::spawn(settings, &clock, &tasks, out);
        Self { provider, clock, inbox, tasks }
    }

    fn submit(&self, handovers: Vec<Handover>) -> UnboundedReceiver<Answered> {
        let (out, answers) = unbounded_channel();
        self.provider.submit(handovers, out);
        answers
    }

    /// Lets time pass in small steps, so that whoever waits for it can act.
    async fn pass(&self, time: Duration) {
        for _ in 0..time.as_millis() / 10 {
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
            self.clock.advance(Duration::from_millis(10));
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn heard(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        while let Ok(inbound) = self.inbox.try_recv() {
            let _gone = inbound.done.send(());
            news.push(inbound.news);
        }
        news
    }
}

fn drained(answers: &mut UnboundedReceiver<Answered>) -> BTreeMap<usize, Answer> {
    let mut all = BTreeMap::new();
    while let Ok((index, answer)) = answers.try_recv() {
        assert_eq!(all.insert(index, answer), None, "each hand-over is answered once");
    }
    all
}

#[tokio::test]
async fn every_text_is_answered_once_and_reported_once() {
    let mut rig = Rig::new(settings(Behaviour::default()));
    let mut answers = rig.submit((0..500).map(|number| handover(number, Kind::Sms)).collect());
    rig.pass(Duration::from_secs(2)).await;
    let answered = drained(&mut answers);
    let ids: BTreeSet<_> = answered
        .values()
        .map(|answer| match answer {
            Answer::Taken { message_ids, receipt_expected: true, .. } => message_ids[0].clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let receipts: Vec<_> = rig.heard().into_iter().collect();
    let reported: BTreeSet<_> = receipts
        .iter()
        .map(|news| match news {
            News::Receipt(receipt) if receipt.report == Report::Final(Fate::Delivered) => receipt.message_id.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!((ids.len(), receipts.len()), (500, 500));
    assert_eq!(ids, reported);
    assert_eq!(rig.provider.health().in_flight, 0);
}

#[tokio::test]
async fn who_is_throttled_and_comes_again_is_taken_in_the_end() {
    let rig = Rig::new(settings(Behaviour { throttled: 0.5, ..Behaviour::default() }));
    let mut left: Vec<_> = (0..200).map(|number| handover(number, Kind::Sms)).collect();
    let mut tries = 0;
    while !left.is_empty() {
        tries += 1;
        assert!(tries <= 30, "{} are throttled for ever", left.len());
        let mut answers = rig.submit(left.clone());
        rig.pass(Duration::from_millis(100)).await;
        let throttled =
            drained(&mut answers).into_iter().filter(|(_, answer)| matches!(answer, Answer::Throttled { .. }));
        left = throttled.map(|(index, _)| left[index].clone()).collect();
    }
    assert!(tries > 4, "half of them each time: {tries}");
}

#[tokio::test]
async fn shares_come_out_about_as_set_and_the_same_each_time() {
    let behaviour = Behaviour { throttled: 0.1, refused: 0.1, not_sent: 0.1, unanswered: 0.1, ..Behaviour::default() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let rig = Rig::new(settings(behaviour));
        let mut answers = rig.submit((0..1_000).map(|number| handover(number, Kind::Template)).collect());
        rig.pass(Duration::from_secs(6)).await;
        let mut words = BTreeMap::new();
        for answer in drained(&mut answers).into_values() {
            let word = match answer {
                Answer::Taken { .. } => "taken",
                Answer::Refused { .. } => "refused",
                Answer::Throttled { .. } => "throttled",
                Answer::NotSent { .. } | Answer::Closed { .. } => "not_sent",
                Answer::NoAnswer => "no_answer",
            };
            *words.entry(word).or_insert(0) += 1;
        }
        assert_eq!(words.values().sum::<i32>(), 1_000);
        for (word, expected) in [("taken", 600), ("refused", 100), ("throttled", 100), ("no_answer", 100)] {
            assert!((words[word] - expected).abs() < 50, "{word}: {}", words[word]);
        }
        runs.push(words);
    }
    assert_eq!(runs[0], runs[1]);
}

#[tokio::test]
async fn a_full_window_and_too_fast_a_rate_are_throttled() {
    let rig = Rig::new(Settings { window: 10, ..settings(Behaviour::default()) });
    let mut answers = rig.submit((0..15).map(|number| handover(number, Kind::Sms)).collect());
    let throttled = drained(&mut answers);
    assert_eq!(throttled.keys().copied().collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    rig.pass(Duration::from_millis(100)).await;
    assert_eq!(drained(&mut answers).len(), 10);

    let rig = Rig::new(Settings { rate: Some("10/s:5".parse().unwrap()), ..settings(Behaviour::default()) });
    let mut answers = rig.submit((0..8).map(|number| handover(number, Kind::Sms)).collect());
    let first = Answer::Throttled { retry_after: Some(Duration::from_millis(100)) };
    assert_eq!(drained(&mut answers), BTreeMap::from([(5, first.clone()), (6, first.clone()), (7, first)]));
    rig.pass(Duration::from_millis(200)).await;
    let mut answers = rig.submit((8..12).map(|number| handover(number, Kind::Sms)).collect());
    assert_eq!(drained(&mut answers).len(), 2);
}

#[tokio::test]
async fn calls_ring_and_end_and_report_by_our_reference() {
    let calls = Calls { busy: 0.2, no_answer: 0.2, ..Behaviour::default().calls };
    let mut rig = Rig::new(settings(Behaviour { calls, ..Behaviour::default() }));
    let handovers: Vec<_> = (0..200).map(|number| handover(number, Kind::Call)).collect();
    let jobs: Vec<_> = handovers.iter().map(|handover| handover.job).collect();
    let _answers = rig.submit(handovers);
    rig.pass(Duration::from_secs(4)).await;
    let mut heard: BTreeMap<JobId, Vec<Report>> = BTreeMap::new();
    for news in rig.heard() {
        let News::Receipt(receipt) = news else { panic!("{news:?}") };
        heard.entry(receipt.job.unwrap()).or_default().push(receipt.report);
    }
    assert_eq!(heard.len(), jobs.len());
    let (ringing, answered) = (Report::Progress(State::Ringing), Report::Progress(State::Answered));
    let (completed, failed) = (Report::Final(Fate::Completed), Report::Final(Fate::Undelivered));
    let all: BTreeSet<_> = heard.values().map(|reports| format!("{reports:?}")).collect();
    let possible = [vec![failed], vec![ringing, failed], vec![ringing, answered, completed]];
    assert_eq!(all, possible.iter().map(|reports| format!("{reports:?}")).collect());
}

#[tokio::test]
async fn what_is_not_durable_is_said_again() {
    let mut rig = Rig::new(settings(Behaviour::default()));
    let _answers = rig.submit(vec![handover(1, Kind::Sms)]);
    rig.pass(Duration::from_secs(1)).await;
    let first = rig.inbox.try_recv().unwrap();
    drop(first.done);
    rig.pass(Duration::from_secs(2)).await;
    let again = rig.inbox.try_recv().unwrap();
    assert_eq!(first.news, again.news);
    again.done.send(()).unwrap();
    rig.pass(Duration::from_secs(5)).await;
    assert!(rig.heard().is_empty());
}

#[tokio::test]
async fn some_people_write_back() {
    let replies = Replies { stop: 0.5, other: 1.0, after: Duration::from_millis(100) };
    let mut rig = Rig::new(settings(Behaviour { replies, receipts: None, ..Behaviour::default() }));
    let _answers = rig.submit((0..100).map(|number| handover(number, Kind::Sms)).collect());
    rig.pass(Duration::from_secs(1)).await;
    let heard = rig.heard();
    assert_eq!(heard.len(), 100);
    assert!(heard.iter().all(|news| matches!(news, News::Reply(reply) if reply.from.starts_with("+1555"))));
}

#[tokio::test]
async fn the_log_has_a_line_for_each_hand_over_before_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("handovers");
    let behaviour = Behaviour { refused: 0.5, latency: Duration::ZERO, ..Behaviour::default() };
    let rig = Rig::new(Settings { log: Some(path.clone()), ..settings(behaviour) });
    let mut answers = rig.submit((0..50).map(|number| handover(number, Kind::Sms)).collect());
    let mut taken = BTreeSet::new();
    for _ in 0..50 {
        let (index, answer) = answers.recv().await.unwrap();
        if matches!(answer, Answer::Taken { .. }) {
            taken.insert(format!("{} 1", handover(u32::try_from(index).unwrap(), Kind::Sms).job));
        }
    }
    let lines: BTreeSet<_> = std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect();
    assert!(!taken.is_empty() && taken.len() < 50);
    assert_eq!(lines, taken);
}

#[tokio::test]
async fn a_stop_still_answers_what_is_in_flight() {
    let rig = Rig::new(settings(Behaviour::default()));
    let mut answers = rig.submit((0..20).map(|number| handover(number, Kind::Sms)).collect());
    tokio::task::yield_now().await;
    rig.tasks.stop().cancel();
    rig.pass(Duration::from_millis(100)).await;
    assert_eq!(drained(&mut answers).len(), 20);
    assert_eq!(rig.tasks.finish(&Clock::system(), Duration::from_secs(5)).await, 0);
}
