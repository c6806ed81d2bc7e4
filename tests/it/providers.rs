//! Providers of one pool in the whole service: one that fails is left alone, one that is held gets nothing, and neither
//! costs a job anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::provider_service_client::ProviderServiceClient;
use postrider::pb::{
    Class, Fate, Provider, ProviderServiceDrainRequest, ProviderServiceListRequest, ProviderServicePauseRequest,
    ProviderServiceResumeRequest, ProviderState,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::support::api::{self, Client, Watched};
use crate::support::service::{Backends, Connection, Service};

/// Far above what anything here takes: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// An HTTP API that refuses every account, or takes every job.
struct Moody {
    port: u16,
    well: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
}

impl Moody {
    async fn start() -> Self {
        Self::saying(b"\"end\"}", "403 Forbidden", "{}").await
    }

    /// Starts one that says this while it is not well. Its requests end with `end`.
    async fn saying(end: &'static [u8], status: &'static str, says: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (well, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (healthy, count) = (Arc::clone(&well), Arc::clone(&asked));
        postrider::shutdown::Tasks::new().spawn("moody", async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = Vec::new();
                while !request.ends_with(end) && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
                if request.is_empty() {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let (status, says) = if healthy.load(Ordering::SeqCst) { ("200 OK", "{}") } else { (status, says) };
                let length = says.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{says}");
                let _gone = stream.write_all(answer.as_bytes()).await;
            }
        });
        Self { port, well, asked }
    }

    fn provider(&self) -> String {
        format!(
            "\n[[provider]]\nid = \"moody\"\nkind = \"http\"\nendpoint = \"http://127.0.0.1:{}\"\nreceipts = false\n\
             body = '{{\"to\": {{{{ to }}}}, \"last\": \"end\"}}'\n",
            self.port
        )
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

fn simulated(id: &str, more: &str) -> String {
    format!("\n[[provider]]\nid = \"{id}\"\nkind = \"simulated\"\nlatency = \"1ms\"\nreceipts = false\n{more}\n")
}

fn providers(service: &Service) -> ProviderServiceClient<Connection> {
    ProviderServiceClient::new(service.connect())
}

async fn provider(client: &ProviderServiceClient<Connection>, id: &str) -> Provider {
    let list = client.clone().list(ProviderServiceListRequest::default()).await.unwrap().into_inner().providers;
    list.into_iter().find(|provider| provider.provider_id == id).unwrap()
}

/// Submits jobs to numbers of their own, and waits until each has its outcome.
async fn send(client: &Client, watched: &mut Watched, batch: &str, jobs: usize) -> Vec<String> {
    let numbers: Vec<String> = (0..jobs).map(|job| format!("+86138{:08}", job * 7 + batch.len() * 1_000_003)).collect();
    let spec = api::text(Class::Marketing, "routed");
    let ids = api::insist(client, &api::batch(batch, spec, &numbers)).await;
    let watch = Clock::system().stopwatch();
    while !ids.iter().all(|id| watched.outcomes.contains_key(id)) {
        assert!(watch.elapsed() < PATIENCE, "{batch}: not all jobs have an outcome");
        watched.follow(client, Duration::from_millis(100)).await;
    }
    ids
}

fn value(service: &Service, line: &str) -> f64 {
    let lines = service.metrics();
    let found = lines.iter().find_map(|found| found.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or(0.0)
}

async fn until(service: &Service, line: &str, wanted: impl Fn(f64) -> bool) {
    let watch = Clock::system().stopwatch();
    while !wanted(value(service, line)) {
        assert!(watch.elapsed() < PATIENCE, "{line} stays {}", value(service, line));
        Clock::system().pause(Duration::from_millis(50)).await;
    }
}

const BREAKER: &str = "postrider_breaker_state{provider=\"moody\"}";

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_is_left_alone_its_jobs_go_elsewhere_and_count_once_and_it_gets_work_again_when_it_is_well()
 {
    let moody = Moody::start().await;
    // A job that counted twice would be over this cap.
    let cap = "\n[[cap]]\nname = \"once\"\nlimit = 1\nwindow = \"24h\"\non_limit = \"drop\"\n";
    let backup = simulated("backup", "order = 1\nkinds = [\"sms\"]");
    let service = Service::start(&Backends::Embedded, &format!("{}{backup}{cap}", moody.provider()));
    let (client, mut watched) = (api::jobs(&service), Watched::default());
    let sent = (Fate::Sent, String::new());
    for round in 0..10 {
        for id in send(&client, &mut watched, &"x".repeat(round + 1), 3).await {
            assert_eq!(watched.outcomes[&id], std::slice::from_ref(&sent));
        }
    }
    until(&service, BREAKER, |state| state > 0.0).await;
    assert!((10..25).contains(&moody.asked()), "asked {} times", moody.asked());
    assert_eq!(value(&service, "postrider_attempts_total{provider=\"backup\",verdict=\"taken\"}"), 30.0);
    assert_eq!(provider(&providers(&service), "moody").await.state(), ProviderState::Down);

    moody.well.store(true, Ordering::SeqCst);
    let mut round = 11;
    let watch = Clock::system().stopwatch();
    while value(&service, BREAKER) != 0.0 {
        assert!(watch.elapsed() < PATIENCE, "the breaker stays open");
        send(&client, &mut watched, &"x".repeat(round), 3).await;
        round += 1;
    }
    let taken = "postrider_attempts_total{provider=\"moody\",verdict=\"taken\"}";
    let (before, backup) = (value(&service, taken), "postrider_attempts_total{provider=\"backup\",verdict=\"taken\"}");
    let elsewhere = value(&service, backup);
    assert!(before >= 3.0, "three probes");
    send(&client, &mut watched, &"x".repeat(round), 20).await;
    assert_eq!((value(&service, taken), value(&service, backup)), (before + 20.0, elsewhere));
    assert_eq!(provider(&providers(&service), "moody").await.state(), ProviderState::Up);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_without_money_is_left_alone_at_once_and_its_jobs_go_elsewhere() {
    let poor = r#"{"Code": "isv.AMOUNT_NOT_ENOUGH", "Message": "m", "RequestId": "r"}"#;
    let cloud = Moody::saying(b"\r\n\r\n", "200 OK", poor).await;
    let aliyun = format!(
        "\n[[provider]]\nid = \"moody\"\nkind = \"aliyun-sms\"\nendpoint = \"http://127.0.0.1:{}\"\nreceipts = false\n\
         access_key_id = \"id\"\naccess_key_secret = \"secret\"\nsign_name = \"晨星\"\ntemplate = \"SMS_1\"\n\
         batch_max = 1\n",
        cloud.port
    );
    let backup = simulated("backup", "order = 1\nkinds = [\"sms\"]");
    let service = Service::start(&Backends::Embedded, &format!("{aliyun}{backup}"));
    let (client, mut watched) = (api::jobs(&service), Watched::default());
    for id in send(&client, &mut watched, "a", 1).await {
        assert_eq!(watched.outcomes[&id], [(Fate::Sent, String::new())]);
    }
    assert_eq!(cloud.asked(), 1, "one answer is enough");
    until(&service, BREAKER, |state| state == 2.0).await;
    for id in send(&client, &mut watched, "bb", 20).await {
        assert_eq!(watched.outcomes[&id], [(Fate::Sent, String::new())]);
    }
    assert_eq!(cloud.asked(), 1);
    assert_eq!(value(&service, "postrider_attempts_total{provider=\"backup\",verdict=\"taken\"}"), 21.0);
    assert_eq!(provider(&providers(&service), "moody").await.state(), ProviderState::Down);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_may_have_gone_out_never_goes_to_another_provider() {
    let silent = simulated("silent", "unanswered = 1.0\nresponse_timeout = \"500ms\"");
    let service = Service::start(&Backends::Embedded, &format!("{silent}{}", simulated("backup", "order = 1")));
    let (client, mut watched) = (api::jobs(&service), Watched::default());
    let numbers: Vec<String> = (0..5).map(|job| format!("+86138{job:08}")).collect();
    let ids = api::insist(&client, &api::batch("a", api::text(Class::Marketing, "once"), &numbers)).await;
    let watch = Clock::system().stopwatch();
    while !ids.iter().all(|id| watched.unresolved.contains(id)) {
        assert!(watch.elapsed() < PATIENCE, "not all jobs are unresolved");
        watched.follow(&client, Duration::from_millis(100)).await;
    }
    assert_eq!(value(&service, "postrider_attempts_total{provider=\"silent\",verdict=\"unresolved\"}"), 5.0);
    assert_eq!(value(&service, "postrider_attempts_total{provider=\"backup\",verdict=\"taken\"}"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_provider_gets_nothing_over_a_restart_and_goes_on_when_it_is_resumed() {
    let both = format!("{}{}", simulated("a", ""), simulated("b", "pool = \"other\""));
    let service = Service::start(&Backends::Embedded, &both);
    let paused = ProviderServicePauseRequest { provider_id: "a".into() };
    let shown = providers(&service).pause(paused).await.unwrap().into_inner().provider.unwrap();
    assert_eq!((shown.provider_id.as_str(), shown.state()), ("a", ProviderState::Paused));
    let unknown = ProviderServicePauseRequest { provider_id: "nobody".into() };
    assert_eq!(providers(&service).pause(unknown).await.unwrap_err().code(), tonic::Code::NotFound);
    service.stop();
    service.restart(None);
    assert_eq!(provider(&providers(&service), "a").await.state(), ProviderState::Paused);
    let (client, mut watched) = (api::jobs(&service), Watched::default());
    let number = ["+8613800000000".to_owned()];
    let ids = api::insist(&client, &api::batch("a", api::text(Class::Marketing, "held"), &number)).await;
    watched.follow(&client, Duration::from_secs(2)).await;
    assert!(!watched.outcomes.contains_key(&ids[0]));
    assert_eq!(value(&service, "postrider_attempts_total{provider=\"a\",verdict=\"taken\"}"), 0.0);
    let drained = ProviderServiceDrainRequest { provider_id: "a".into() };
    let shown = providers(&service).drain(drained).await.unwrap().into_inner().provider.unwrap();
    assert_eq!(shown.state(), ProviderState::Paused, "nothing is in flight");
    let resumed = ProviderServiceResumeRequest { provider_id: "a".into() };
    let shown = providers(&service).resume(resumed).await.unwrap().into_inner().provider.unwrap();
    assert_eq!(shown.state(), ProviderState::Up);
    let watch = Clock::system().stopwatch();
    while !watched.outcomes.contains_key(&ids[0]) {
        assert!(watch.elapsed() < PATIENCE, "it was resumed, and nothing left");
        watched.follow(&client, Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_drains_ends_what_is_in_flight_and_gets_nothing_new_until_it_is_resumed() {
    let slow = "\n[[provider]]\nid = \"slow\"\nkind = \"simulated\"\nlatency = \"3s\"\nreceipts = false\n";
    let service = Service::start(&Backends::Embedded, slow);
    let (client, held, mut watched) = (api::jobs(&service), providers(&service), Watched::default());
    let (taken, all) = ("postrider_attempts_total{provider=\"slow\",verdict=\"taken\"}", api::numbers(0, 30));
    let submit = async |batch: &str, numbers: &[String]| {
        api::insist(&client, &api::batch(batch, api::text(Class::Marketing, "drained"), numbers)).await
    };
    let before = submit("before", &all[..20]).await;
    let watch = Clock::system().stopwatch();
    while provider(&held, "slow").await.in_flight < 20 {
        assert!(watch.elapsed() < PATIENCE, "not all are in flight");
        Clock::system().pause(Duration::from_millis(20)).await;
    }
    let drain = ProviderServiceDrainRequest { provider_id: "slow".into() };
    let shown = held.clone().drain(drain).await.unwrap().into_inner().provider.unwrap();
    assert_eq!(shown.state(), ProviderState::Draining);
    let after = submit("after", &all[20..]).await;
    loop {
        let shown = provider(&held, "slow").await;
        match shown.state() {
            ProviderState::Draining => assert!((1..=20).contains(&shown.in_flight), "{shown:?}"),
            ProviderState::Paused => break assert_eq!(shown.in_flight, 0),
            other => panic!("{other:?}"),
        }
        assert!(watch.elapsed() < PATIENCE, "it does not become drained");
        Clock::system().pause(Duration::from_millis(50)).await;
    }
    watched.follow(&client, Duration::from_secs(1)).await;
    let sent = [(Fate::Sent, String::new())];
    assert!(before.iter().all(|id| watched.outcomes.get(id).is_some_and(|outcomes| *outcomes == sent)));
    assert!(!after.iter().any(|id| watched.outcomes.contains_key(id)), "nothing new goes there");
    assert_eq!(value(&service, taken), 20.0);
    let resume = ProviderServiceResumeRequest { provider_id: "slow".into() };
    held.clone().resume(resume).await.unwrap();
    while !after.iter().all(|id| watched.outcomes.contains_key(id)) {
        assert!(watch.elapsed() < PATIENCE, "it was resumed, and not all went");
        watched.follow(&client, Duration::from_millis(100)).await;
    }
    assert_eq!(value(&service, taken), 30.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_on_every_node() {
    let backends = Backends::servers();
    let settings = simulated("a", "");
    let one = Service::start(&backends, &settings);
    let two = one.join(&backends, "front,dispatch", &settings);
    let paused = ProviderServicePauseRequest { provider_id: "a".into() };
    providers(&one).pause(paused).await.unwrap();
    let other = ProviderServiceClient::new(two.connect_with(&one.key()));
    let watch = Clock::system().stopwatch();
    while provider(&other, "a").await.state() != ProviderState::Paused {
        assert!(watch.elapsed() < PATIENCE, "the other node does not know");
        Clock::system().pause(Duration::from_millis(100)).await;
    }
}
