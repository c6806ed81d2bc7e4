//! Rehearsals in the whole service: what each job of a batch would meet, and that nothing is spent or changed by asking.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::suppression_service_client::SuppressionServiceClient;
use postrider::pb::{self, Class, RehearseRequest, RehearsedItem, RuleVerdict, State};
use prost::Message as _;
use prost_types::Timestamp;
use tonic::Code;

use crate::support::api::{self, Client};
use crate::support::service::{Backends, Service};

const SETTINGS: &str = r#"
[[cap]]
name = "daily"
limit = 1
window = "24h"

[[cap]]
name = "short"
topics = ["short"]
unit = "segments"
limit = 1
window = "1h"
on_limit = "drop"

[[provider]]
id = "sim"
kind = "simulated"
kinds = ["sms"]
latency = "0s"
price = "0.04 CNY"
receipts = false
"#;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_says_what_would_happen_and_spends_nothing_embedded() {
    a_rehearsal_says_what_would_happen_and_spends_nothing(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_says_what_would_happen_and_spends_nothing_on_servers() {
    a_rehearsal_says_what_would_happen_and_spends_nothing(&Backends::servers()).await;
}

async fn a_rehearsal_says_what_would_happen_and_spends_nothing(backends: &Backends) {
    let service = Service::start(backends, SETTINGS);
    let client = api::jobs(&service);
    let (reached, opted_out) = ("+8613800000001", "+8613800000002");
    send(&client, reached).await;
    let suppression = pb::Suppression {
        address: Some(api::phone(opted_out)),
        scope: pb::SuppressionScope::Everything.into(),
        ..pb::Suppression::default()
    };
    let request = pb::SuppressionServiceAddRequest { suppression: Some(suppression) };
    SuppressionServiceClient::new(service.connect()).add(request).await.unwrap();

    let due = Clock::system().now().as_secs() + 3_600;
    let send_at = Some(Timestamp { seconds: due, nanos: 0 });
    let item = |number: &str| pb::BatchItem { recipient: Some(api::phone(number)), ..pb::BatchItem::default() };
    let far = Some(Timestamp { seconds: due + 500 * 86_400, nanos: 0 });
    let items = vec![
        item("+8613800000003"),
        item(reached),
        item(opted_out),
        pb::BatchItem { send_at, ..item("+8613800000004") },
        item("13800000005"),
        pb::BatchItem { send_at: far, ..item("+8613800000006") },
    ];
    let spec = api::text(Class::Transactional, &"x".repeat(200));
    let request = RehearseRequest { spec: Some(spec.clone()), items: items.clone() };
    let before = state(backends, &service, &client).await;
    let met = rehearse(&client, &request).await;
    let again = rehearse(&client, &request).await;
    let mut after = state(backends, &service, &client).await;
    let changed = |(name, value): &(&String, &String)| after.get(*name) != Some(*value);
    let differs: Vec<_> = before.iter().filter(changed).map(|(name, _)| name.clone()).collect();
    assert!(differs.is_empty(), "asking changed {differs:?}");
    after.retain(|name, _| !before.contains_key(name));
    assert!(after.is_empty(), "asking left something: {:?}", after.keys());

    let said = |item: &RehearsedItem| (item.verdict(), item.rule.clone(), item.refusal.is_some(), item.segments);
    let expected = [
        (RuleVerdict::Pass, "", false, 2),
        (RuleVerdict::Defer, "daily", false, 2),
        (RuleVerdict::Suppress, "opt_out_everything", false, 2),
        (RuleVerdict::Defer, "send_at", false, 2),
        (RuleVerdict::Unspecified, "", true, 0),
        (RuleVerdict::Unspecified, "", true, 0),
    ]
    .map(|(verdict, rule, refused, segments)| (verdict, rule.to_owned(), refused, segments));
    assert_eq!(met.iter().map(said).collect::<Vec<_>>(), expected, "{met:#?}");
    assert_eq!(again.iter().map(said).collect::<Vec<_>>(), expected);
    assert_eq!(met.iter().map(|item| item.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    assert_eq!(met[3].until, send_at);
    let costs: Vec<_> = met.iter().map(|item| item.cost.as_ref().map(|cost| cost.micros)).collect();
    assert_eq!(costs, [Some(80_000), Some(80_000), None, Some(80_000), None, None]);
    let until = met[1].until.unwrap().seconds;
    assert!((due - 3_600 + 86_000..due + 86_400).contains(&until), "{until}");
    // What is refused is refused in the same words.
    let batch = pb::SubmitBatchRequest { spec: Some(spec), items, ..pb::SubmitBatchRequest::default() };
    let submitted = client.clone().submit_batch(batch).await.unwrap().into_inner();
    for (met, became) in met.iter().zip(submitted.results) {
        let refused = match became.result {
            Some(pb::batch_item_result::Result::Refusal(refusal)) => Some(refusal),
            _ => None,
        };
        assert_eq!(met.refusal, refused);
    }
    whole_batches_are_refused_like_a_submit(&client).await;
    a_long_text_never_passes_a_short_cap(&client).await;
}

async fn whole_batches_are_refused_like_a_submit(client: &Client) {
    let numbers = ["+8613800000009".to_owned()];
    let call = pb::job_spec::Content::Call(pb::CallContent {
        source: Some(pb::call_content::Source::Flow("flow".into())),
        ..pb::CallContent::default()
    });
    let none = pb::JobSpec::default();
    let no_provider = pb::JobSpec { content: Some(call), class: Class::Otp.into(), ..none.clone() };
    for (spec, code) in [(none, Code::InvalidArgument), (no_provider, Code::FailedPrecondition)] {
        let batch = api::batch("", spec, &numbers);
        let submitted = client.clone().submit_batch(batch.clone()).await.unwrap_err();
        let request = RehearseRequest { spec: batch.spec, items: batch.items };
        let rehearsed = client.clone().rehearse(request).await.unwrap_err();
        assert_eq!((rehearsed.code(), rehearsed.message()), (submitted.code(), submitted.message()));
        assert_eq!(rehearsed.code(), code, "{rehearsed:?}");
    }
    let empty = RehearseRequest { spec: Some(api::text(Class::Otp, "x")), items: vec![] };
    assert_eq!(client.clone().rehearse(empty).await.unwrap_err().code(), Code::InvalidArgument);
}

async fn a_long_text_never_passes_a_short_cap(client: &Client) {
    let spec = pb::JobSpec { topic: "short".into(), ..api::text(Class::Transactional, &"x".repeat(200)) };
    let batch = api::batch("", spec, &["+8613800000010".to_owned()]);
    let met = rehearse(client, &RehearseRequest { spec: batch.spec, items: batch.items }).await;
    assert_eq!((met[0].verdict(), met[0].rule.as_str()), (RuleVerdict::Suppress, "short"), "{met:#?}");
}

async fn rehearse(client: &Client, request: &RehearseRequest) -> Vec<RehearsedItem> {
    client.clone().rehearse(request.clone()).await.unwrap().into_inner().items
}

/// Sends a job to its end.
async fn send(client: &Client, number: &str) {
    let spec = api::text(Class::Transactional, "the first");
    let job_id = client.clone().submit(api::submit("", spec, number)).await.unwrap().into_inner().job_id;
    let (clock, watch) = (Clock::system(), Clock::system().stopwatch());
    loop {
        let request = pb::GetJobRequest { job_id: job_id.clone(), view: 0 };
        let job = client.clone().get_job(request).await.unwrap().into_inner().job.unwrap();
        if job.state() == State::Settled {
            // What is counted of it may follow.
            clock.pause(Duration::from_millis(500)).await;
            return;
        }
        assert!(watch.elapsed() < PATIENCE, "not sent: {job:?}");
        clock.pause(Duration::from_millis(100)).await;
    }
}

/// Returns all that asking could change: what limits hold, what the ledger holds, what was counted.
async fn state(backends: &Backends, service: &Service, client: &Client) -> BTreeMap<String, String> {
    let mut state = BTreeMap::new();
    match backends {
        Backends::Embedded => files(&service.dir().join("data/limits"), &mut state),
        Backends::Servers { limits, .. } => keys(limits, &mut state).await,
    }
    assert!(!state.is_empty(), "nothing of limits is seen");
    let jobs = client.clone().list_jobs(pb::ListJobsRequest::default()).await.unwrap().into_inner();
    state.insert("jobs".into(), format!("{:?}", jobs.encode_to_vec()));
    let stats = client.clone().get_stats(pb::GetStatsRequest::default()).await.unwrap().into_inner();
    state.insert("stats".into(), format!("{stats:?}"));
    let counted = ["jobs_", "caps_", "tenant_", "frames_", "attempts_"].map(|name| format!("postrider_{name}"));
    let counted = |line: &&String| counted.iter().any(|name| line.starts_with(name));
    let metrics = service.metrics();
    let before = state.len();
    state.extend(metrics.iter().filter(counted).filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.to_owned()))
    }));
    assert!(state.len() > before + 3, "{metrics:?}");
    state
}

fn files(dir: &Path, state: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, state);
        } else {
            state.insert(path.display().to_string(), format!("{:?}", std::fs::read(&path).unwrap()));
        }
    }
}

async fn keys(url: &str, state: &mut BTreeMap<String, String>) {
    use deadpool_redis::redis::{Client, cmd};
    let mut connection = Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<Vec<u8>> = cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    for key in keys {
        let value: Vec<u8> = cmd("DUMP").arg(&key).query_async(&mut connection).await.unwrap();
        state.insert(format!("{key:?}"), format!("{value:?}"));
    }
}
