//! Pools of senders: who is written to by whom, through restarts, and as senders come and go.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::provider_service_client::ProviderServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{
    CapRule, CapWindow, Class, ExplainJobRequest, FallbackStep, JobSpec, ReassignSenderRequest, RehearseRequest,
    SenderPool, Tenant, TenantRoute, UpdateTenantRequest, cap_window,
};

use crate::support::api::{self, numbers};
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

const RECIPIENTS: usize = 90;
const PATIENCE: Duration = Duration::from_secs(60);
const CAP_WINDOW: Duration = Duration::from_secs(12);

#[tokio::test(flavor = "multi_thread")]
async fn recipients_keep_their_sender_embedded() {
    recipients_keep_their_sender(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recipients_keep_their_sender_on_servers() {
    recipients_keep_their_sender(&Backends::servers()).await;
}

async fn recipients_keep_their_sender(backends: &Backends) {
    let sink = Sink::start(&[]);
    let service = Service::start(backends, &smpp_provider(sink.port(), "binds = 1\nwindow = 50\nreceipts = false\n"));
    let stage = Stage { service, sink };
    stage.pool(&["1001", "1002", "1003"]).await;
    let all = numbers(0, RECIPIENTS);
    let first = stage.send("staff", &all).await;
    let of: BTreeSet<_> = first.values().cloned().collect();
    assert_eq!(of, ["1001", "1002", "1003"].map(String::from).into(), "each has some");

    // Four more come, by whom most recipients would be drawn to if nothing were kept.
    stage.pool(&["1004", "1005", "1006", "1007", "1001", "1002", "1003"]).await;
    stage.service.stop();
    stage.service.restart(None);
    assert_eq!(stage.send("staff", &all).await, first, "everybody keeps theirs");
    let late = stage.send("staff", &numbers(500, RECIPIENTS)).await;
    assert!(late.values().any(|sender| &**sender > "1003"), "others are given to those that came: {late:?}");
    // A route names the pool for those that name nobody, and a rehearsal says who it would be, and notes nothing.
    stage.route().await;
    assert_eq!(stage.send("", &all).await, first);

    // One leaves while jobs wait for it, and jobs of another.
    let waiting = stage.wait(&all).await;
    let answer = stage.reassign("1001", "2001").await;
    let of_first = |among: &HashMap<String, String>| among.values().filter(|sender| **sender == "1001").count() as u64;
    assert_eq!(answer, (of_first(&first), of_first(&first) + of_first(&late)), "jobs and recipients");
    let expected: HashMap<_, _> = first
        .iter()
        .map(|(to, from)| (to.clone(), if from == "1001" { "2001".into() } else { from.clone() }))
        .collect();
    let (number, job) = waiting.iter().find(|(number, _)| first[&**number] == "1001").unwrap();
    let request = ExplainJobRequest { job_id: job.clone() };
    let explained = api::jobs(&stage.service).explain_job(request).await.unwrap().into_inner().summary;
    assert!(explained.ends_with("It leaves from `2001`, which took over from `1001`."), "{number}: {explained}");
    assert_eq!(stage.sent("waits", &all).await, expected, "also what waited");
    assert_eq!(stage.send("staff", &all).await, expected, "and from then on");

    // Who comes back begins anew.
    stage.pool(&["1001", "2001", "1002", "1003"]).await;
    assert_eq!(stage.send("staff", &all).await, expected);
}

/// A name that was given away, and then got another's jobs, keeps those: also where they were put off in between.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_follows_those_who_took_over_from_its_own_sender_alone() {
    let sink = Sink::start(&[]);
    let service = Service::start(&Backends::Embedded, &smpp_provider(sink.port(), "binds = 1\nreceipts = false\n"));
    let stage = Stage { service, sink };
    let to = ["+8613800000000".to_owned()];
    stage.cap(2).await;
    assert_eq!(stage.send("carol", &to).await[&to[0]], "carol");
    Clock::system().pause(CAP_WINDOW / 2).await;
    assert_eq!(stage.send("carol", &to).await[&to[0]], "carol");
    let spec = JobSpec { sender: "carol".into(), ..api::text(Class::Marketing, "waits") };
    api::insist(&api::jobs(&stage.service), &api::batch("", spec, &to)).await;
    // When the first place is free again, it is claimed, and put off once more: by then it is not carol's.
    stage.cap(1).await;
    let (given, taken) = (stage.reassign("alice", "bob"), async {
        Clock::system().pause(Duration::from_millis(300)).await;
        stage.reassign("carol", "alice").await
    });
    // What is put off for seconds waits with the feeder, and is moved uncounted.
    assert_eq!(tokio::join!(given, taken), ((0, 0), (0, 0)));
    assert_eq!(stage.sent("waits", &to).await[&to[0]], "alice", "who is not bob");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pool_of_senders_cannot_be_is_refused_by_name() {
    let service = Service::start(&Backends::Embedded, &format!("{}receipts = false\n", simulated()));
    let stage = Stage { sink: Sink::start(&[]), service };
    for (pool, field) in [
        (SenderPool { name: "Staff!".into(), senders: vec!["1".into()] }, "tenant.sender_pools[0].name"),
        (SenderPool { name: "staff".into(), senders: vec![] }, "tenant.sender_pools[0].senders"),
        (
            SenderPool { name: "staff".into(), senders: vec!["1".into(), "1".into()] },
            "tenant.sender_pools[0].senders[1]",
        ),
    ] {
        let refused = stage.set(Tenant { sender_pools: vec![pool], ..Tenant::default() }, "sender_pools").await;
        assert!(refused.unwrap_err().message().contains(field), "{field}");
    }
    stage.pool(&["1001"]).await;
    for (from, to) in [("", "1"), ("1", "1"), ("staff", "1"), ("1", "staff")] {
        let request = ReassignSenderRequest { from: from.into(), to: to.into() };
        let refused = ProviderServiceClient::new(stage.service.connect()).reassign_sender(request).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{from} {to}: {refused:?}");
    }
    let mut spec = api::text(Class::Marketing, "first");
    let content = Some(postrider::pb::fallback_step::Content::Sms(postrider::pb::SmsContent {
        text: "second".into(),
        ..Default::default()
    }));
    spec.fallback = vec![FallbackStep { content, sender: "staff".into(), ..FallbackStep::default() }];
    let refused = api::jobs(&stage.service).submit(api::submit("", spec, "+8613800000000")).await.unwrap_err();
    assert!(refused.message().contains("is a pool of senders"), "{refused:?}");
}

fn simulated() -> String {
    "\n[[provider]]\nid = \"a\"\nkind = \"simulated\"\nlatency = \"1ms\"\n".into()
}

struct Stage {
    service: Service,
    sink: Sink,
}

impl Stage {
    async fn set(&self, tenant: Tenant, path: &str) -> Result<(), tonic::Status> {
        let update_mask = Some(prost_types::FieldMask { paths: vec![path.into()] });
        let tenant = Some(Tenant { tenant_id: "default".into(), ..tenant });
        let request = UpdateTenantRequest { tenant, update_mask };
        TenantServiceClient::new(self.service.connect()).update_tenant(request).await.map(|_| ())
    }

    async fn pool(&self, senders: &[&str]) {
        let senders = senders.iter().map(|&sender| sender.into()).collect();
        let pool = SenderPool { name: "staff".into(), senders };
        self.set(Tenant { sender_pools: vec![pool], ..Tenant::default() }, "sender_pools").await.unwrap();
    }

    /// Lets so many jobs through to a recipient in [`CAP_WINDOW`].
    async fn cap(&self, limit: u32) {
        let seconds = CAP_WINDOW.as_secs().try_into().unwrap();
        let window = Some(cap_window::Window::Rolling(prost_types::Duration { seconds, nanos: 0 }));
        let window = Some(CapWindow { window, ..CapWindow::default() });
        let cap = CapRule { name: "few".into(), limit, window, ..CapRule::default() };
        self.set(Tenant { caps: vec![cap], ..Tenant::default() }, "caps").await.unwrap();
    }

    async fn route(&self) {
        let route = TenantRoute { pool: "default".into(), sender: "staff".into(), ..TenantRoute::default() };
        self.set(Tenant { routes: vec![route], ..Tenant::default() }, "routes").await.unwrap();
    }

    /// Returns how many jobs and recipients went from one to the other.
    async fn reassign(&self, from: &str, to: &str) -> (u64, u64) {
        let request = ReassignSenderRequest { from: from.into(), to: to.into() };
        let answer = ProviderServiceClient::new(self.service.connect()).reassign_sender(request).await;
        let moved = answer.unwrap().into_inner();
        (moved.jobs, moved.recipients)
    }

    /// Sends a text to each, and returns who each was written to by.
    async fn send(&self, sender: &str, to: &[String]) -> HashMap<String, String> {
        let text = format!("now {}", fastrand::u64(..));
        let spec = JobSpec { sender: sender.into(), ..api::text(Class::Marketing, &text) };
        let items = to.iter().map(|number| postrider::pb::BatchItem {
            recipient: Some(api::phone(number)),
            ..postrider::pb::BatchItem::default()
        });
        // What is rehearsed is noted nowhere.
        let request = RehearseRequest { spec: Some(spec.clone()), items: items.collect() };
        api::jobs(&self.service).rehearse(request).await.unwrap();
        api::insist(&api::jobs(&self.service), &api::batch("", spec, to)).await;
        self.sent(&text, to).await
    }

    /// Accepts a text to each that is due late enough for the agenda; returns the jobs by number.
    async fn wait(&self, to: &[String]) -> Vec<(String, String)> {
        let due = Clock::system().now().as_secs() + 33;
        let spec = JobSpec { sender: "staff".into(), ..api::text(Class::Marketing, "waits") };
        let jobs = api::insist(&api::jobs(&self.service), &api::batch("", api::at(spec, due), to)).await;
        to.iter().cloned().zip(jobs).collect()
    }

    /// Waits until everybody has got a text, and returns whom from.
    async fn sent(&self, text: &str, to: &[String]) -> HashMap<String, String> {
        let clock = Clock::system();
        let watch = clock.stopwatch();
        loop {
            let taken = self.sink.taken().into_iter().filter(|submit| submit.text == text);
            let from: HashMap<String, String> = taken.map(|submit| (format!("+{}", submit.to), submit.from)).collect();
            if from.len() == to.len() {
                return from;
            }
            assert!(watch.elapsed() < PATIENCE, "{} of {} were written to", from.len(), to.len());
            clock.pause(Duration::from_millis(100)).await;
        }
    }
}
