//! Welcome messages: once, soon, and never late, whatever else waits.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, Class, Fate};
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Simulator, wecom};

use super::wecom::{AGENT, CORP, corporation};
use crate::support::api::{self, Client};
use crate::support::cloud::{PATIENCE, quick};
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service};

const KEY: &str = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG";
/// Jobs in a call.
const LOT: usize = 5_000;

/// How much a run does.
struct Size {
    /// Marketing that waits for a carrier that is slow.
    waiting: usize,
    /// Friends who are added, one after the other.
    friends: usize,
    /// How long, in seconds, the one has who is welcomed too late.
    life_s: i64,
    /// How long an outcome may take to be recorded behind all that.
    patience: Duration,
}

const SHORT: Size = Size { waiting: 20_000, friends: 10, life_s: 2, patience: Duration::from_secs(120) };
/// WeCom counts the 20 s of a code from the whole second: in the last of them it says itself that there is none.
const LONG: Size = Size { waiting: 1_000_000, friends: 200, life_s: 18, patience: Duration::from_secs(1_200) };

/// A friend who was welcomed.
struct Welcomed {
    id: String,
    /// From the callback until whoever watches has heard of it.
    heard: Duration,
    /// From the callback until WeCom had the welcome.
    took: Duration,
}

fn settings(endpoint: &str, port: u16) -> String {
    format!(
        "[receive]\nlisten = \"127.0.0.1:{port}\"\n[[provider]]\nid = \"slow\"\npool = \"slow\"\nkind = \"simulated\"\n\
         kinds = [\"template\"]\nrate = \"20/s\"\nreceipts = false\n[[provider]]\nid = \"cloud\"\npool = \"welcome\"\n\
         kind = \"wecom\"\nmessages = \"welcome\"\nendpoint = \"{endpoint}\"\ncorp_id = \"{CORP}\"\nagent_id = {AGENT}\n\
         secret = \"geheim\"\ncallback_token = \"token\"\naes_key = \"{KEY}\"\nresponse_timeout = \"3s\"\n\
         [[route]]\ntopics = [\"welcome\"]\npool = \"welcome\"\n[[route]]\ntopics = [\"offers\"]\npool = \"slow\"\n"
    )
}

fn spec(template: &str, topic: &str, class: Class) -> pb::JobSpec {
    let template = pb::TemplateContent { template: template.into(), ..Default::default() };
    pb::JobSpec {
        content: Some(pb::job_spec::Content::Template(template)),
        class: class.into(),
        topic: topic.into(),
        ..pb::JobSpec::default()
    }
}

/// Lets marketing wait that goes out at 20 a second.
async fn crowd(client: &Client, count: usize) {
    for from in (0..count).step_by(LOT) {
        let item = |number: usize| {
            let id = format!("wm{number}");
            let wecom = Some(pb::WecomAddress { corp_id: CORP.into(), external_userid: id });
            let recipient = pb::Recipient { wecom, time_zone: "Asia/Shanghai".into(), ..pb::Recipient::default() };
            pb::BatchItem { recipient: Some(recipient), ..pb::BatchItem::default() }
        };
        let request = pb::SubmitBatchRequest {
            idempotency_key: format!("offers-{from}"),
            spec: Some(spec("offer", "offers", Class::Marketing)),
            items: (from..count.min(from + LOT)).map(item).collect(),
        };
        api::insist(client, &request).await;
    }
}

/// What a tenant's service makes of a signal: a welcome, once for each code, that lives for so long after the callback.
fn welcome(signal: &pb::Signal, told_at: prost_types::Timestamp, life_s: i64) -> pb::SubmitRequest {
    let code = signal.details["welcome_code"].clone();
    let expires_at = Some(prost_types::Timestamp { seconds: told_at.seconds + life_s, ..told_at });
    let schedule = Some(pb::Schedule { expires_at, ..pb::Schedule::default() });
    pb::SubmitRequest {
        idempotency_key: code.clone(),
        spec: Some(pb::JobSpec { schedule, ..spec("welcome", "welcome", Class::Notification) }),
        recipient: signal.recipient.clone(),
        params: [("name".to_owned(), "Li".to_owned()), ("welcome_code".to_owned(), code)].into_iter().collect(),
        ..pb::SubmitRequest::default()
    }
}

/// A service behind whose backlog friends are welcomed.
struct Beset {
    tasks: Tasks,
    clock: Clock,
    corporation: wecom::Wecom,
    simulator: Simulator,
    service: Service,
    client: Client,
    signals: tonic::Streaming<pb::WatchEventsResponse>,
}

impl Beset {
    async fn start(backends: Backends) -> Self {
        let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
        let url = format!("http://127.0.0.1:{port}/callback/cloud");
        let corporation = corporation(&url, Duration::from_secs(7_200));
        let vendor = Box::new(corporation.clone());
        let listen = ([127, 0, 0, 1], 0).into();
        let simulator = Simulator::start(vendor, listen, (quick(), 5), &tasks, &clock).await.unwrap();
        let settings = settings(&format!("http://{}", simulator.address()), port);
        let service = tokio::task::spawn_blocking(move || Service::start(&backends, &settings)).await.unwrap();
        let mut template = api::template("welcome", "Welcome, {name}");
        let code = pb::TemplateVariable { name: "welcome_code".into(), ..pb::TemplateVariable::default() };
        template.variables.push(code);
        api::put_template(&service, template).await;
        api::put_template(&service, api::template("offer", "come and see")).await;
        let mut client = api::jobs(&service);
        let signals = client.watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
        Self { tasks, clock, corporation, simulator, service, client, signals }
    }

    /// Adds a friend; WeCom says it so often.
    fn befriend(&self, code: &str, times: usize) {
        let at = self.clock.now().as_secs();
        (0..times).for_each(|_| {
            self.simulator.post(self.corporation.befriend("zhang", &format!("wm-{code}"), code, at));
        });
    }

    /// Waits for the signal that has this code, which comes once.
    async fn signal(&mut self, code: &str) -> (pb::Signal, prost_types::Timestamp) {
        loop {
            let answer = self.clock.timeout(PATIENCE, self.signals.message()).await;
            for event in answer.expect("a signal").unwrap().unwrap().events {
                let Some(pb::event::What::Signal(signal)) = event.what else { continue };
                assert_eq!(signal.details["welcome_code"], code, "each signal once");
                return (signal, event.at.unwrap());
            }
        }
    }

    fn welcomed(&self, code: &str) -> usize {
        self.simulator.messages().iter().filter(|(message, _)| message.to == code).count()
    }

    async fn outcome(&self, id: &str, patience: Duration) -> (Fate, String) {
        let watch = self.clock.stopwatch();
        loop {
            let request = pb::GetJobRequest { job_id: id.to_owned(), view: 0 };
            let job = self.client.clone().get_job(request).await.unwrap().into_inner().job.unwrap();
            if let Some(outcome) = job.outcome {
                return (outcome.fate(), outcome.reason);
            }
            assert!(watch.elapsed() < patience, "{}", self.service.log());
            self.clock.pause(Duration::from_millis(50)).await;
        }
    }

    /// A friend is added, told three times, and welcomed.
    async fn once_and_soon(&mut self, code: &str) -> Welcomed {
        let watch = self.clock.stopwatch();
        self.befriend(code, 3);
        let (signal, at) = self.signal(code).await;
        let heard = watch.elapsed();
        let mut ids = Vec::new();
        // Whoever asks twice is answered the same.
        for _ in 0..2 {
            ids.push(self.client.submit(welcome(&signal, at, 20)).await.unwrap().into_inner().job_id);
        }
        assert_eq!(ids[0], ids[1]);
        while self.welcomed(code) == 0 {
            assert!(watch.elapsed() < PATIENCE, "{}", self.service.log());
            self.clock.pause(Duration::from_millis(2)).await;
        }
        Welcomed { id: ids.swap_remove(0), heard, took: watch.elapsed() }
    }
}

/// Says how long something took; speed is printed and never asserted.
fn measured(what: &str, size: &Size, took: impl Iterator<Item = Duration>) {
    let mut took: Vec<_> = took.collect();
    took.sort_unstable();
    let at = |share: usize| took[(took.len() * share / 100).min(took.len() - 1)];
    println!(
        "behind {} jobs, callback to {what}, {} times: p50 {:?}, p99 {:?}, max {:?}",
        size.waiting,
        took.len(),
        at(50),
        at(99),
        at(100)
    );
}

async fn friends_are_welcomed_once_soon_or_never(backends: Backends, size: Size) {
    let mut beset = Beset::start(backends).await;
    crowd(&beset.client, size.waiting).await;
    let mut welcomed = Vec::new();
    for number in 0..size.friends {
        welcomed.push(beset.once_and_soon(&format!("code-{number}")).await);
    }
    measured("watcher", &size, welcomed.iter().map(|welcomed| welcomed.heard));
    measured("welcome", &size, welcomed.iter().map(|welcomed| welcomed.took));
    for welcomed in &welcomed {
        assert_eq!(beset.outcome(&welcomed.id, size.patience).await.0, Fate::Sent);
    }
    // WeCom refuses a code that was used, so what it has taken would not show that somebody was welcomed twice.
    let attempts = beset.service.metrics();
    let attempts = attempts.iter().filter(|line| line.starts_with("postrider_attempts_total{provider=\"cloud\""));
    let attempts: usize = attempts.filter_map(|line| line.rsplit(' ').next()?.parse::<usize>().ok()).sum();
    assert_eq!(attempts, size.friends, "each is handed over once");

    // Whoever asks for more time than there is, or comes too late, is told so.
    beset.befriend("code-long", 1);
    let (signal, at) = beset.signal("code-long").await;
    let id = beset.client.submit(welcome(&signal, at, 3_600)).await.unwrap().into_inner().job_id;
    assert_eq!(beset.outcome(&id, size.patience).await, (Fate::Rejected, "expires_too_late".into()));
    let past = pb::SubmitRequest { idempotency_key: "past".into(), ..welcome(&signal, at, 0) };
    assert_eq!(beset.client.submit(past).await.unwrap_err().code(), tonic::Code::InvalidArgument);

    // WeCom takes nothing until the code has ended: it expires, and is not sent then.
    beset.simulator.behave(Behaviour { throttled: 1.0, ..quick() });
    beset.befriend("code-late", 1);
    let (signal, at) = beset.signal("code-late").await;
    let id = beset.client.submit(welcome(&signal, at, size.life_s)).await.unwrap().into_inner().job_id;
    beset.clock.pause(Duration::from_secs(size.life_s.unsigned_abs() + 1)).await;
    beset.simulator.behave(quick());
    assert_eq!(beset.outcome(&id, size.patience).await.0, Fate::Expired);

    for number in 0..size.friends {
        assert_eq!(beset.welcomed(&format!("code-{number}")), 1, "once");
    }
    let never = beset.simulator.messages().into_iter().filter(|(message, fared)| {
        ["code-late", "code-long"].contains(&&*message.to) && matches!(fared, postrider::simulator::Fared::Taken(_))
    });
    assert_eq!(never.count(), 0, "never late");
    drop(beset.service);
    beset.tasks.finish(&beset.clock, PATIENCE).await;
}

/// Returns what stands in README between two texts, the corporation's id and secret being those of the simulated one.
fn readme(from: &str, to: &str) -> String {
    let text = include_str!("../../../README.md").split_once(from).unwrap().1.split_once(to).unwrap().0;
    text.replace("ww0123456789abcdef", CORP).replace("secret_file = \"/run/secrets/wecom\"", "secret = \"geheim\"")
}

/// README's settings, template and commands, as they stand there, welcome a friend.
#[tokio::test(flavor = "multi_thread")]
async fn a_friend_is_welcomed_as_the_readme_says() {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let corporation = corporation("http://127.0.0.1:1", Duration::from_secs(7_200));
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator =
        Simulator::start(Box::new(corporation.clone()), listen, (quick(), 5), &tasks, &clock).await.unwrap();
    let settings = readme("```toml\n[[provider]]\nid = \"acme-welcome\"\n", "```");
    let settings =
        format!("[[provider]]\nid = \"acme-welcome\"\nendpoint = \"http://{}\"\n{settings}", simulator.address());
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let file = service.dir().join("welcome.toml");
    std::fs::write(
        &file,
        readme("```toml\nname = \"welcome\"\n", "```").replace("variables", "name = \"welcome\"\nvariables"),
    )
    .unwrap();
    let _told_by_nobody = corporation.befriend("zhang", "wmABCD", "code-7", clock.now().as_secs());
    let commands = readme("```sh\npostrider template put welcome.toml\n", "```").replace("\\\n", " ");
    let commands = ["postrider template put welcome.toml"].into_iter().chain(commands.lines());
    for command in commands {
        let words = command.split_whitespace().skip(1).map(|word| word.replace("CODE", "code-7"));
        let told = std::process::Command::new(env!("CARGO_BIN_EXE_postrider"))
            .args(words)
            .current_dir(service.dir())
            .env("POSTRIDER_ENDPOINT", format!("http://127.0.0.1:{}", service.grpc_port()))
            .env("POSTRIDER_KEY", service.key())
            .output()
            .unwrap();
        assert!(told.status.success(), "{command}: {}", String::from_utf8_lossy(&told.stderr));
    }
    let watch = clock.stopwatch();
    while simulator.messages().is_empty() {
        assert!(watch.elapsed() < PATIENCE, "{}", service.log());
        clock.pause(Duration::from_millis(10)).await;
    }
    let (message, _) = simulator.messages().remove(0);
    assert_eq!((&*message.to, &*message.text), ("code-7", "朋友，您好！回复1看今日新品"));
    drop(service);
    tasks.finish(&clock, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn friends_are_welcomed_once_soon_or_never_embedded() {
    friends_are_welcomed_once_soon_or_never(Backends::Embedded, SHORT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn friends_are_welcomed_once_soon_or_never_on_servers() {
    let backends = tokio::task::spawn_blocking(Backends::servers).await.unwrap();
    friends_are_welcomed_once_soon_or_never(backends, SHORT).await;
}

/// Measures, and asserts no speed: 2 s at the 99th percentile are the aim.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a million jobs wait"]
async fn friends_are_welcomed_behind_a_million_jobs() {
    friends_are_welcomed_once_soon_or_never(Backends::Embedded, LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a million jobs wait"]
async fn friends_are_welcomed_behind_a_million_jobs_on_servers() {
    let backends = tokio::task::spawn_blocking(Backends::servers).await.unwrap();
    friends_are_welcomed_once_soon_or_never(backends, LONG).await;
}
