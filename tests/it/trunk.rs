//! Calls over a simulated trunk on the virtual clock: hours of retries in seconds, lines never above the limit.

mod attempts;
mod faults;
mod frames;

use std::collections::BTreeMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::{
    self, AdvanceClockRequest, CallContent, CallResult, Class, Fate, Job, JobFilter, JobSpec, Kind, ListJobsRequest,
    State, call_content, event, flow_node, job_spec,
};

use crate::support::api::{self, Client};
use crate::support::service::{Backends, Service};

const LINES: usize = 5;
const JOBS: usize = 120;
const HOUR: i64 = 3_600;

const TRUNK: &str = "
[[provider]]
id = \"trunk\"
kind = \"simulated-trunk\"
lines = 5
calls_per_s = 5
busy = 0.15
no_answer = 0.15
declined = 0.1
invalid_number = 0.1
unreachable = 0.1
machine = 0.0
network = 0.1
keys = [\"1 1.0\"]
seed = 7
[[provider]]
id = \"texts\"
kind = \"simulated\"
pool = \"texts\"
kinds = [\"sms\"]
latency = \"0s\"
receipts = false
";

fn flow() -> pb::CallFlow {
    let node = |act, next: &str| pb::FlowNode { act: Some(act), next: next.into() };
    let menu = [("1".to_owned(), "yes".to_owned())].into();
    let nodes = [
        ("hello", node(flow_node::Act::Say(pb::SayNode { text: "hello".into(), repeats: 1 }), "menu")),
        ("menu", node(flow_node::Act::Gather(pb::GatherNode { menu, digits_max: 1, ..Default::default() }), "")),
        ("yes", node(flow_node::Act::Tag(pb::TagNode { tag: "yes".into() }), "")),
    ];
    let nodes = nodes.map(|(name, node)| (name.to_owned(), node)).into();
    pb::CallFlow { start: "hello".into(), nodes, ..pb::CallFlow::default() }
}

/// Calls by which somebody is asked something, and a text for whoever cannot be reached the first time.
fn calls(campaign: &str) -> JobSpec {
    let submit = pb::SubmitNode { template: "missed".into(), kind: Kind::Sms.into(), params: BTreeMap::new() };
    let content = CallContent {
        source: Some(call_content::Source::InlineFlow(flow())),
        after: vec![pb::AfterCall {
            when: Some(pb::after_call::When::Result(CallResult::NoAnswer.into())),
            act: Some(pb::after_call::Act::Submit(submit)),
        }],
        ..CallContent::default()
    };
    JobSpec {
        content: Some(job_spec::Content::Call(content)),
        class: Class::Transactional.into(),
        origin: Some(pb::Origin { campaign_id: campaign.into(), ..pb::Origin::default() }),
        ..JobSpec::default()
    }
}

struct Desk {
    service: Service,
    client: Client,
    lines_most: usize,
}

impl Desk {
    fn open(settings: &str) -> Self {
        let service = Service::prepare(&Backends::Embedded, settings, &["--clock", "virtual"]);
        service.restart(None);
        Self { client: api::jobs(&service), service, lines_most: 0 }
    }

    /// Lets so much time pass, a bit at a time where calls are up; returns the lines in use.
    async fn pass(&mut self, by: Duration) -> usize {
        let by = prost_types::Duration { seconds: by.as_secs().cast_signed(), nanos: by.subsec_nanos().cast_signed() };
        let mut admin = AdminServiceClient::new(self.service.connect());
        admin.advance_clock(AdvanceClockRequest { by: Some(by) }).await.unwrap();
        // What happens then happens in real time.
        Clock::system().pause(Duration::from_millis(15)).await;
        let lines = self.lines();
        self.lines_most = self.lines_most.max(lines);
        lines
    }

    fn lines(&self) -> usize {
        let gauge = "postrider_calls_in_progress{trunk=\"trunk\"} ";
        self.service.metrics().iter().find_map(|line| line.strip_prefix(gauge)?.parse().ok()).unwrap_or(0)
    }

    async fn jobs(&self, kind: Kind) -> Vec<Job> {
        let filter = Some(JobFilter { kind: kind.into(), ..JobFilter::default() });
        let (mut jobs, mut page_token) = (vec![], String::new());
        loop {
            let request =
                ListJobsRequest { filter: filter.clone(), view: pb::JobView::Full.into(), page_size: 50, page_token };
            let page = self.client.clone().list_jobs(request).await.unwrap().into_inner();
            jobs.extend(page.jobs);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return jobs;
            }
        }
    }

    /// Lets time pass until as many calls as these have their outcome.
    async fn settle(&mut self, many: usize) -> Vec<Job> {
        for turn in 0..6_000 {
            let step = if self.lines() > 0 { Duration::from_secs(2) } else { Duration::from_secs(120) };
            self.pass(step).await;
            if turn % 50 == 0 {
                let jobs = self.jobs(Kind::Call).await;
                let settled = jobs.iter().filter(|job| job.state == i32::from(State::Settled)).count();
                if settled >= many {
                    return jobs;
                }
            }
        }
        let open = self.jobs(Kind::Call).await.into_iter().filter(|job| job.outcome.is_none());
        panic!("these calls do not end: {:?}; the log:\n{}", open.collect::<Vec<_>>(), self.service.log());
    }
}

/// What a job went through: each call's result, and how long after it the next was to be.
fn tries(job: &Job) -> Vec<(String, Option<i64>)> {
    let changes = job.events.iter().filter_map(|event| match &event.what {
        Some(event::What::StateChange(change)) => Some((event.at.unwrap().seconds, change)),
        _ => None,
    });
    let mut tries: Vec<(String, Option<i64>)> = vec![];
    for (at, change) in changes {
        if let Some(until) = change.until {
            let last = tries.last_mut().expect("a call went before");
            assert_eq!(last.0, change.reason);
            last.1 = Some(until.seconds - at);
        } else if change.provider_id == "trunk" && !change.reason.is_empty() {
            tries.push((change.reason.clone(), None));
        }
    }
    tries
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_of_retries_go_by_the_rules_and_no_line_is_used_twice() {
    let mut desk = Desk::open(TRUNK);
    api::put_template(&desk.service, api::template("missed", "we could not reach you")).await;
    let numbers = api::numbers(0, JOBS);
    api::insist(&desk.client, &api::batch("hours", calls("spring"), &numbers)).await;
    let jobs = desk.settle(JOBS).await;
    assert!(desk.lines_most > 1 && desk.lines_most <= LINES, "{} lines", desk.lines_most);
    assert_eq!(desk.lines(), 0, "no line leaks");

    // What the rules allow: how often again, and after how long.
    let rules = BTreeMap::from([
        ("busy", (2, 300)),
        ("no_answer", (2, HOUR)),
        ("unreachable", (1, 3 * HOUR)),
        ("network", (3, 60)),
        ("declined", (0, 0)),
        ("invalid_number", (0, 0)),
        ("completed", (0, 0)),
    ]);
    let (mut missed, mut seen) = (vec![], BTreeMap::new());
    for job in &jobs {
        let (tries, outcome) = (tries(job), job.outcome.clone().unwrap());
        let mut used: BTreeMap<&str, usize> = BTreeMap::new();
        for (result, again) in &tries {
            let (times, after) = rules[result.as_str()];
            let number = used.entry(result).or_default();
            *number += 1;
            *seen.entry(result.clone()).or_insert(0) += 1;
            assert_eq!(again.is_some(), *number <= times, "{tries:?}");
            // The rule's time, and up to a fifth more.
            assert!(again.is_none_or(|again| (after..=after * 6 / 5 + 1).contains(&again)), "{tries:?}");
        }
        let last = &tries.last().unwrap().0;
        match last.as_str() {
            "completed" => assert_eq!(outcome.fate, i32::from(Fate::Completed)),
            last => assert_eq!((outcome.fate, outcome.reason.as_str()), (i32::from(Fate::Undelivered), last)),
        }
        let report = job.call.clone().unwrap();
        if last == "completed" {
            assert_eq!(
                (report.digits.as_str(), &*report.tags, report.intent.as_str(), report.hung_up_by.as_str()),
                ("1", &["yes".to_owned()][..], "yes", "us")
            );
            assert!(report.talk.unwrap().seconds >= 1);
        }
        if tries.iter().any(|(result, _)| result == "no_answer") {
            missed.push(job.recipient.clone().unwrap().phone);
        }
    }
    assert_eq!(seen.len(), rules.len(), "every result came: {seen:?}");
    // They are accepted before how a call ended is written, and written after it.
    for _ in 0..600 {
        if desk.jobs(Kind::Sms).await.len() >= missed.len() {
            break;
        }
        Clock::system().pause(Duration::from_millis(50)).await;
    }
    // Time for one too many.
    Clock::system().pause(Duration::from_millis(300)).await;
    let mut texts: Vec<_> =
        desk.jobs(Kind::Sms).await.iter().map(|text| text.recipient.clone().unwrap().phone).collect();
    texts.sort();
    missed.sort();
    assert_eq!(texts, missed, "one text for whoever did not answer, however often");
}
