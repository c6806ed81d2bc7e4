//! Caps that count attempts: a callee whom nobody reaches is called so often a day and no more, whatever is tried again.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use postrider::pb::{CallRetry, ExplainJobRequest, RehearseRequest, RuleVerdict};

use super::faults::{answering, dials};
use super::*;

const CHINA: &str = "Asia/Shanghai";

/// A call that is made again after five minutes, as often as caps let, for as long as its job lives.
fn stubborn(campaign: &str, now: prost_types::Timestamp) -> JobSpec {
    let mut spec = calls(campaign);
    spec.class = Class::Notification.into();
    let Some(job_spec::Content::Call(content)) = &mut spec.content else { panic!("a call") };
    let after = Some(prost_types::Duration { seconds: 300, nanos: 0 });
    content.retries = vec![CallRetry { result: CallResult::Busy.into(), after, times: 5 }];
    content.after = vec![];
    let expires_at = Some(prost_types::Timestamp { seconds: now.seconds + 5 * 24 * HOUR, ..now });
    spec.schedule = Some(pb::Schedule { expires_at, ..pb::Schedule::default() });
    spec
}

/// Returns until when a job was put off last, and why.
fn put_off(job: &Job) -> Option<(i64, String)> {
    let put_off = |event: &pb::Event| match &event.what {
        Some(event::What::StateChange(change)) => Some((change.until?.seconds, change.reason.clone())),
        _ => None,
    };
    job.events.iter().filter_map(put_off).next_back()
}

/// Returns what became of a job, an event a line.
fn told(job: &Job) -> String {
    let line = |event: &pb::Event| match &event.what {
        Some(event::What::StateChange(change)) => {
            let (at, until) = (event.at.unwrap().seconds, change.until.map(|until| until.seconds));
            format!("{} {:?} {} until {:?}\n", in_china(at), change.state(), change.reason, until.map(in_china))
        }
        _ => String::new(),
    };
    job.events.iter().map(line).collect()
}

fn in_china(at: i64) -> String {
    Timestamp::from_second(at).unwrap().to_zoned(TimeZone::get(CHINA).unwrap()).strftime("%F %T").to_string()
}

impl Desk {
    /// Returns a job, once the ledger has it.
    async fn called(&self, id: &str) -> Job {
        loop {
            let jobs = self.jobs(Kind::Call).await;
            if let Some(job) = jobs.into_iter().find(|job| job.job_id == id) {
                return job;
            }
            Clock::system().pause(Duration::from_millis(20)).await;
        }
    }

    /// Returns when each attempt of a job took a place of a cap.
    async fn took(&self, id: &str, rule: &str) -> Vec<Timestamp> {
        let request = ExplainJobRequest { job_id: id.to_owned() };
        let said = self.client.clone().explain_job(request).await.unwrap().into_inner();
        let took = said.decisions.iter().filter(|decision| decision.rule == rule);
        let took = took.filter(|decision| decision.verdict() == RuleVerdict::Pass).filter_map(|decision| decision.at);
        took.map(|at| Timestamp::new(at.seconds, at.nanos).unwrap()).collect()
    }

    /// Lets time pass until a job waits for a cap.
    async fn waits_for(&mut self, id: &str, rule: &str) -> (i64, Job) {
        for _ in 0..6_000 {
            let job = self.called(id).await;
            match put_off(&job) {
                Some((until, reason)) if reason == rule => return (until, job),
                _ if self.lines() > 0 => _ = self.pass(Duration::from_secs(2)).await,
                _ => _ = self.pass(Duration::from_secs(60)).await,
            }
        }
        panic!("it never waits for {rule}: {:?}; the log:\n{}", self.called(id).await, self.service.log());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_third_attempt_of_a_day_waits_for_the_next_days_hours() {
    let cap = "\n[[cap]]\nname = \"tries\"\nkinds = [\"call\"]\nlimit = 2\nwindow = \"calendar day\"\n\
               count = \"attempted\"\n[windows]\ndefaults = \"shipped\"\n";
    let mut desk = Desk::open(&(answering("busy") + cap));
    desk.go(CHINA, "09:05:00").await;
    let today = in_china(desk.now().await.seconds);
    let numbers = api::numbers(0, 1);
    let spec = stubborn("spring", desk.now().await);
    let id = api::insist(&desk.client, &api::batch("day", spec.clone(), &numbers)).await.remove(0);
    let (until, job) = desk.waits_for(&id, "tries").await;
    assert_eq!(dials(&job).len(), 2, "two calls, both busy: {}", told(&job));
    let tomorrow = in_china(until);
    assert!(tomorrow.ends_with(" 09:00:00") && tomorrow[..10] > today[..10], "{tomorrow}, today is {today}");

    // It is said why: the day is full, of this very job.
    let request = ExplainJobRequest { job_id: id.clone() };
    let said = desk.client.clone().explain_job(request).await.unwrap().into_inner();
    let held_by = said.held_by.unwrap();
    assert_eq!((held_by.rule.as_str(), held_by.limit, held_by.used), ("tries", 2, 2), "{}", said.summary);
    assert_eq!(held_by.holders, std::slice::from_ref(&id));
    assert_eq!(said.next_at.unwrap().seconds, until, "{}", said.summary);
    let took = |decision: &&pb::RuleDecision| decision.rule == "tries" && decision.verdict() == RuleVerdict::Pass;
    let used: Vec<_> = said.decisions.iter().filter(took).map(|decision| decision.used).collect();
    assert_eq!(used, [1, 2], "each attempt took a place: {:?}", said.decisions);
    // Another job for them would wait as well, and for somebody else it would not.
    let item = |number: &String| pb::BatchItem { recipient: Some(api::phone(number)), ..pb::BatchItem::default() };
    let items = [&numbers[0], &api::numbers(7, 1)[0]].map(item).into();
    let rehearsed = RehearseRequest { spec: Some(spec), items };
    let items = desk.client.clone().rehearse(rehearsed).await.unwrap().into_inner().items;
    let verdicts: Vec<_> = items.iter().map(|item| (item.verdict(), item.rule.as_str())).collect();
    assert_eq!(verdicts, [(RuleVerdict::Defer, "tries"), (RuleVerdict::Pass, "")]);

    desk.go(CHINA, "20:30:00").await;
    desk.go(CHINA, "08:59:50").await;
    assert_eq!(dials(&desk.called(&id).await).len(), 2, "nobody calls before");
    desk.dialled(&numbers[0], 3).await;
    let (until, job) = desk.waits_for(&id, "tries").await;
    assert_eq!(dials(&job).len(), 4, "two more the next day");
    assert!(in_china(until)[..10] > tomorrow[..10]);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_campaign_has_its_own_attempts_and_a_gap_stands_between_those_of_all() {
    let caps = "\n[[cap]]\nname = \"campaign\"\nkinds = [\"call\"]\nlimit = 2\nwindow = \"24h\"\n\
                per = \"recipient+campaign\"\ncount = \"attempted\"\n\
                [[cap]]\nname = \"gap\"\nkinds = [\"call\"]\nlimit = 1\nwindow = \"gap 2h\"\ncount = \"attempted\"\n";
    let mut desk = Desk::open(&(answering("busy") + caps));
    let numbers = api::numbers(0, 1);
    let now = desk.now().await;
    let mut jobs = vec![];
    // Jobs without a campaign are of one of their own.
    for campaign in ["spring", "summer", ""] {
        let batch = api::batch(&format!("in-{campaign}"), stubborn(campaign, now), &numbers);
        let id = api::insist(&desk.client, &batch).await.remove(0);
        let (_, job) = desk.waits_for(&id, "campaign").await;
        assert_eq!(dials(&job).len(), 2, "two in campaign {campaign:?}: {}", told(&job));
        jobs.push(job);
    }
    let mut times = vec![];
    for job in &jobs {
        times.extend(desk.took(&job.job_id, "gap").await);
    }
    times.sort_unstable();
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1].as_second() - pair[0].as_second()).collect();
    assert_eq!(gaps.len(), 5, "each attempt took a place: {times:?}");
    assert!(gaps.iter().all(|gap| (2 * HOUR..3 * HOUR).contains(gap)), "{gaps:?}");
    // A second job of a campaign finds no place before its first attempt is a day ago.
    let more = api::insist(&desk.client, &api::batch("more", stubborn("spring", now), &numbers)).await.remove(0);
    let (until, job) = desk.waits_for(&more, "campaign").await;
    // It was claimed moments before it was dialled.
    let since_first = until - dials(&jobs[0])[0];
    assert!(dials(&job).is_empty() && (24 * HOUR - 120..=24 * HOUR).contains(&since_first), "{since_first} s");
}
