//! Explanations of jobs in the whole service: what holds a job, who took the places, when it goes, and what was decided
//! of one that is settled.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::suppression_service_client::SuppressionServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{
    self, Class, ExplainJobRequest, ExplainJobResponse, ReasonCode, RuleDecision, RuleVerdict, State, job_selector,
};
use prost_types::Timestamp;
use tonic::Code;

use crate::support::api::{self, Client};
use crate::support::service::{Backends, Service};

const PATIENCE: Duration = Duration::from_secs(60);
const DAY: i64 = 86_400;
/// A cap that binds, one that only watches, and one of another class that drops.
const CAPS: &str = r#"
[[cap]]
name = "daily"
classes = ["transactional"]
limit = 1
window = "24h"

[[cap]]
name = "watch"
classes = ["transactional"]
limit = 1
window = "24h"
mode = "shadow"

[[cap]]
name = "never"
classes = ["marketing"]
topics = ["never"]
limit = 0
window = "24h"
on_limit = "drop"
"#;

/// Returns the settings: a provider, caps, and a window for notifications that opens in two or three hours.
fn settings() -> (String, i64) {
    let now = Clock::system().now().as_secs();
    let hour = (now / 3_600 + 8 + 3) % 24;
    let opens_at = (now / 3_600 + 3) * 3_600;
    let text = format!(
        "{CAPS}\n[windows]\ndefaults = \"none\"\n\n[[window]]\nname = \"later\"\nclasses = [\"notification\"]\n\
         hours = [\"{hour:02}:00-{:02}:00\"]\n\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\nlatency = \"0s\"\n\
         receipts = false\n",
        hour + 1
    );
    (text, opens_at)
}

struct Asker {
    client: Client,
    clock: Clock,
}

impl Asker {
    async fn submit(&self, spec: pb::JobSpec, number: &str) -> String {
        self.client.clone().submit(api::submit("", spec, number)).await.unwrap().into_inner().job_id
    }

    async fn explain(&self, job_id: &str) -> ExplainJobResponse {
        let request = ExplainJobRequest { job_id: job_id.to_owned() };
        self.client.clone().explain_job(request).await.unwrap().into_inner()
    }

    /// Explains a job again and again until `done`.
    async fn until(&self, job: &str, done: impl Fn(&ExplainJobResponse) -> bool) -> ExplainJobResponse {
        let watch = self.clock.stopwatch();
        loop {
            let explained = self.explain(job).await;
            if done(&explained) {
                return explained;
            }
            assert!(watch.elapsed() < PATIENCE, "not yet: {explained:#?}");
            self.clock.pause(Duration::from_millis(100)).await;
        }
    }
}

fn settled(explained: &ExplainJobResponse) -> bool {
    explained.job.as_ref().unwrap().state() == State::Settled
}

/// Returns the last decision of a rule.
#[track_caller]
fn of<'a>(explained: &'a ExplainJobResponse, rule: &str) -> &'a RuleDecision {
    let of_rule = explained.decisions.iter().rev().find(|decision| decision.rule == rule);
    of_rule.unwrap_or_else(|| panic!("no decision of {rule}: {explained:#?}"))
}

fn places(decision: &RuleDecision) -> (u32, u32, u32) {
    (decision.limit, decision.used, decision.left)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_what_holds_it_embedded() {
    a_job_says_what_holds_it(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_what_holds_it_on_servers() {
    a_job_says_what_holds_it(&Backends::servers()).await;
}

async fn a_job_says_what_holds_it(backends: &Backends) {
    let (settings, opens_at) = settings();
    let service = Service::start(backends, &settings);
    let asker = Asker { client: api::jobs(&service), clock: Clock::system() };
    limits_are_whole(&service, &asker).await;
    caps_say_who_took_their_places(&asker).await;
    times_say_until_when(&asker, opens_at).await;
    what_ends_a_job_says_so(&service, &asker).await;
    strangers_learn_nothing(&service, &asker).await;
    assert!(!service.log().contains("panicked"), "{}", service.log());
}

/// Waits until limits hold nothing back: that would be the answer to every question.
async fn limits_are_whole(service: &Service, asker: &Asker) {
    let watch = asker.clock.stopwatch();
    while !service.metrics().iter().any(|line| line == "postrider_limits_recovering 0") {
        assert!(watch.elapsed() < PATIENCE, "limits do not recover");
        asker.clock.pause(Duration::from_millis(50)).await;
    }
}

async fn caps_say_who_took_their_places(asker: &Asker) {
    let number = "+8613800000001";
    let text = || api::text(Class::Transactional, "a cap");
    let first = asker.submit(text(), number).await;
    let explained = asker.until(&first, settled).await;
    for rule in ["daily", "watch"] {
        let decision = of(&explained, rule);
        assert_eq!((decision.verdict(), places(decision)), (RuleVerdict::Pass, (1, 1, 0)), "{explained:#?}");
        assert_eq!((&decision.holders, decision.shadow), (&vec![first.clone()], rule == "watch"));
    }
    assert!(explained.held_by.is_none() && explained.next_at.is_none(), "{explained:#?}");
    assert!(explained.summary.contains("ended as sent"), "{}", explained.summary);

    let second = asker.submit(text(), number).await;
    let deferred = |explained: &ExplainJobResponse| {
        let past = |decision: &&RuleDecision| decision.rule == "daily" && decision.open_at.is_some();
        explained.decisions.iter().filter(past).count() >= 2
    };
    // One of when it was deferred, one of now.
    let explained = asker.until(&second, deferred).await;
    let held_by = explained.held_by.clone().expect("the cap holds it");
    assert_eq!((held_by.rule.as_str(), held_by.verdict()), ("daily", RuleVerdict::Defer), "{explained:#?}");
    assert_eq!((held_by.reason_code(), places(&held_by)), (ReasonCode::Cap, (1, 1, 0)));
    assert_eq!(held_by.holders, [first.as_str()]);
    let sent = asker.client.clone().get_job(pb::GetJobRequest { job_id: first.clone(), view: 0 }).await.unwrap();
    let sent_at = sent.into_inner().job.unwrap().events.last().unwrap().at.unwrap();
    let next_at = explained.next_at.unwrap();
    assert_eq!(explained.next_at, held_by.open_at);
    assert!((sent_at.seconds + DAY - 5..=sent_at.seconds + DAY).contains(&next_at.seconds), "{sent_at} {next_at}");
    for decision in explained.decisions.iter().filter(|decision| decision.rule == "daily") {
        assert_eq!((decision.verdict(), places(decision)), (RuleVerdict::Defer, (1, 1, 0)), "{explained:#?}");
        assert_eq!(decision.holders, [first.as_str()]);
    }
    let watch = of(&explained, "watch");
    assert_eq!((watch.verdict(), watch.shadow, places(watch)), (RuleVerdict::Defer, true, (1, 1, 0)));
    for words in ["deferred once", "`daily` lets 1 through", "1day", "In shadow, `watch` would have deferred it"] {
        assert!(explained.summary.contains(words), "{words}: {}", explained.summary);
    }

    // Taken back, that binds at once.
    cancel(asker, &second).await;
    let explained = asker.explain(&second).await;
    let stopped = explained.held_by.clone().unwrap_or_else(|| of(&explained, "request").clone());
    assert_eq!((stopped.rule.as_str(), stopped.verdict()), ("request", RuleVerdict::Suppress), "{explained:#?}");
    assert_eq!((stopped.reason_code(), explained.next_at), (ReasonCode::Cancelled, None));
    assert!(settled(&explained) && explained.summary.contains("taken back"), "{}", explained.summary);
}

async fn times_say_until_when(asker: &Asker, opens_at: i64) {
    let due = asker.clock.now().as_secs() + 3_600;
    let spec = api::at(api::text(Class::Transactional, "later"), due);
    let job = asker.submit(spec, "+8613800000002").await;
    let explained = asker.explain(&job).await;
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let held_by = explained.held_by.clone().unwrap();
    assert_eq!((held_by.rule.as_str(), held_by.open_at, explained.next_at), ("send_at", at(due), at(due)));
    assert_eq!(of(&explained, "daily").verdict(), RuleVerdict::Pass);

    let moved = pb::RescheduleJobsRequest {
        selector: selector(&job),
        schedule: api::at(pb::JobSpec::default(), due + 7_200).schedule,
    };
    asker.client.clone().reschedule_jobs(moved).await.unwrap();
    let explained = asker.explain(&job).await;
    let held_by = explained.held_by.clone().unwrap();
    assert_eq!((held_by.rule.as_str(), explained.next_at), ("rescheduled", at(due + 7_200)), "{explained:#?}");
    assert_eq!(explained.job.unwrap().due_at, at(due + 7_200));

    let job = asker.submit(api::text(Class::Notification, "in its window"), "+8613800000003").await;
    let explained = asker.explain(&job).await;
    let held_by = explained.held_by.clone().unwrap();
    assert_eq!((held_by.rule.as_str(), held_by.reason_code()), ("window:later", ReasonCode::Window), "{explained:#?}");
    assert_eq!((held_by.open_at, explained.next_at), (at(opens_at), at(opens_at)));
    assert!(explained.summary.contains("the send window `later` is closed"), "{}", explained.summary);
}

async fn what_ends_a_job_says_so(service: &Service, asker: &Asker) {
    let number = "+8613800000004";
    let due = asker.clock.now().as_secs() + 3_600;
    let job = asker.submit(api::at(api::text(Class::Marketing, "an offer"), due), number).await;
    let suppression = Some(pb::Suppression { address: Some(api::phone(number)), ..pb::Suppression::default() });
    let request = pb::SuppressionServiceAddRequest { suppression };
    SuppressionServiceClient::new(service.connect()).add(request).await.unwrap();
    let explained = asker.explain(&job).await;
    let held_by = explained.held_by.clone().expect("the opt-out");
    assert_eq!((held_by.verdict(), held_by.reason_code()), (RuleVerdict::Suppress, ReasonCode::OptOut));
    assert!(explained.next_at.is_none() && explained.summary.contains("opt-out"), "{}", explained.summary);

    // A cap of nothing is decided without a place, and a settled job is explained by its events.
    let spec = pb::JobSpec { topic: "never".into(), ..api::text(Class::Marketing, "never") };
    let job = asker.submit(spec, "+8613800000005").await;
    let explained = asker.until(&job, settled).await;
    let decision = of(&explained, "never");
    assert_eq!((decision.verdict(), decision.reason_code()), (RuleVerdict::Suppress, ReasonCode::Cap));
    assert!(explained.held_by.is_none(), "{explained:#?}");
    assert!(explained.summary.contains("ended as suppressed"), "{}", explained.summary);
}

async fn strangers_learn_nothing(service: &Service, asker: &Asker) {
    let job = asker.submit(api::text(Class::Transactional, "mine"), "+8613800000006").await;
    let mut tenants = TenantServiceClient::new(service.connect());
    let tenant = pb::Tenant { tenant_id: "stranger".into(), ..pb::Tenant::default() };
    tenants.create_tenant(pb::CreateTenantRequest { tenant: Some(tenant) }).await.unwrap();
    let request =
        pb::CreateApiKeyRequest { tenant_id: "stranger".into(), role: pb::Role::Viewer.into(), expires_at: None };
    let key = tenants.create_api_key(request).await.unwrap().into_inner().secret;
    let mut stranger = Client::new(service.connect_with(&key));
    let status = stranger.explain_job(ExplainJobRequest { job_id: job.clone() }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such job"));
    let nothing = uuid::Uuid::from_u128(7).to_string();
    let status = asker.client.clone().explain_job(ExplainJobRequest { job_id: nothing }).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "no such job"));
}

fn selector(job: &str) -> Option<pb::JobSelector> {
    let jobs = pb::JobIds { job_ids: vec![job.to_owned()] };
    Some(pb::JobSelector { by: Some(job_selector::By::Jobs(jobs)) })
}

async fn cancel(asker: &Asker, job: &str) {
    asker.client.clone().cancel_jobs(pb::CancelJobsRequest { selector: selector(job) }).await.unwrap();
}
