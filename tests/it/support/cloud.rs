//! A cloud as a test holds it: the channel, its simulator, and what comes back through the callback router.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider::channel::callback::Callbacks;
use postrider::channel::http::client::Client;
use postrider::channel::http::server::Server;
use postrider::channel::sms::cloud::{Api, Cloud, Settings};
use postrider::channel::{Answer, Channel, Handover, Inbound, News};
use postrider::domain::time::Clock;
use postrider::receipt::{Desks, Router};
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Receipts, Script, Scripted, Simulator, Vendor, Whose};
use tokio::sync::mpsc;

use super::peer;

/// Longer than anything here takes, on a machine that compiles.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// The id of the provider.
pub(crate) const CLOUD: &str = "cloud";

/// A cloud, both ends of it.
pub(crate) struct Rig {
    pub(crate) cloud: Cloud,
    pub(crate) simulator: Simulator,
    pub(crate) tasks: Tasks,
    pub(crate) clock: Clock,
    inbox: mpsc::Receiver<Inbound>,
}

/// Returns a provider that answers at once and reports soon.
pub(crate) fn quick() -> Behaviour {
    let receipts = Receipts { after: Duration::from_millis(20), ..Receipts::default() };
    Behaviour { latency: Duration::from_millis(2), receipts: Some(receipts), ..Behaviour::default() }
}

/// Binds a server for callbacks, and returns the URL under which it is reached.
pub(crate) async fn callback_server() -> (Server, String) {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let url = format!("http://{}", server.address());
    (server, url)
}

impl Rig {
    /// Starts a simulator, and with its address a cloud; callbacks come to `server`.
    pub(crate) async fn start(
        vendor: Box<dyn Vendor>,
        behaviour: Behaviour,
        server: Server,
        make: impl FnOnce(SocketAddr) -> (Box<dyn Api>, Box<dyn Callbacks>),
    ) -> Self {
        let (tasks, clock) = (Tasks::new(), Clock::system());
        let listen = ([127, 0, 0, 1], 0).into();
        let simulator = Simulator::start(vendor, listen, (behaviour, 7), &tasks, &clock).await.unwrap();
        let (api, desk) = make(simulator.address());
        let cloud = cloud(&format!("http://{}", simulator.address()), api, &tasks, &clock);
        let (sender, inbox) = mpsc::channel(1_000);
        let desks: Desks = [(CLOUD.parse().unwrap(), desk)].into_iter().collect();
        Router::new(desks, sender, clock.clone()).spawn(server, &tasks);
        Self { cloud, simulator, tasks, clock, inbox }
    }

    /// Returns another cloud, at `endpoint`.
    pub(crate) fn second(&self, endpoint: &str, api: Box<dyn Api>) -> Cloud {
        cloud(endpoint, api, &self.tasks, &self.clock)
    }

    /// Hands over and returns all answers, in order of the hand-overs.
    pub(crate) async fn submit(&self, handovers: Vec<Handover>) -> Vec<Answer> {
        self.submit_to(&self.cloud, handovers).await
    }

    /// The same, to another cloud.
    pub(crate) async fn submit_to(&self, cloud: &Cloud, handovers: Vec<Handover>) -> Vec<Answer> {
        let count = handovers.len();
        let (sender, mut answers) = mpsc::unbounded_channel();
        cloud.submit(handovers, sender);
        let mut got = Vec::new();
        while let Some(answer) = self.clock.timeout(PATIENCE, answers.recv()).await.expect("an answer") {
            got.push(answer);
        }
        assert_eq!(got.len(), count, "each hand-over is answered exactly once");
        got.sort_by_key(|(index, _)| *index);
        got.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Returns the next news, and says that it is durable.
    pub(crate) async fn news(&mut self) -> News {
        let inbound = self.inbound().await;
        inbound.done.send(()).unwrap();
        inbound.news
    }

    /// Returns the next news, not yet durable.
    pub(crate) async fn inbound(&mut self) -> Inbound {
        self.clock.timeout(PATIENCE, self.inbox.recv()).await.expect("news").unwrap()
    }

    /// Returns all news until the simulator has been thanked so often, and says that it is durable.
    pub(crate) async fn news_until_thanked(&mut self, times: u64) -> Vec<News> {
        let mut news = Vec::new();
        while self.simulator.callbacks().0 < times {
            if let Ok(inbound) = self.clock.timeout(Duration::from_millis(20), self.inbox.recv()).await {
                let inbound = inbound.unwrap();
                inbound.done.send(()).unwrap();
                news.push(inbound.news);
            }
        }
        news
    }

    /// Waits until the simulator has been thanked so often.
    pub(crate) async fn thanked(&self, times: u64) {
        let waited = self.clock.timeout(PATIENCE, async {
            while self.simulator.callbacks().0 < times {
                self.clock.pause(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("thanks");
    }

    /// Ends everything, in order.
    pub(crate) async fn finish(self) {
        assert_eq!(self.tasks.finish(&self.clock, PATIENCE).await, 0, "all of it ends");
    }
}

fn cloud(endpoint: &str, api: Box<dyn Api>, tasks: &Tasks, clock: &Clock) -> Cloud {
    let client = Client::new(&endpoint.parse().unwrap(), None, 20.try_into().unwrap(), tasks, clock).unwrap();
    let settings = Settings {
        provider: CLOUD.parse().unwrap(),
        window: 500.try_into().unwrap(),
        rate_per_s: 0.0,
        response_timeout: Duration::from_secs(4),
    };
    Cloud::new(api, client, settings, tasks, clock)
}

/// Returns the word of each answer.
pub(crate) fn words(answers: &[Answer]) -> Vec<&'static str> {
    let word = |answer: &Answer| match answer {
        Answer::Taken { .. } => "taken",
        Answer::Refused { .. } => "refused",
        Answer::Throttled { .. } => "throttled",
        Answer::NotSent { .. } | Answer::Closed { .. } => "not_sent",
        Answer::NoAnswer => "no_answer",
    };
    answers.iter().map(word).collect()
}

/// The settings of a provider, as `postrider.toml` has them.
pub(crate) fn provider(settings: &str) -> Arc<postrider::config::Settings> {
    let loaded = postrider::config::parse(Some((std::path::Path::new("test"), settings)), &[]).unwrap();
    Arc::new(loaded.settings)
}

/// Asks a vendor's own library, through `tests/peers/clouds.py`.
pub(crate) async fn ask_python(what: &'static str, asked: &serde_json::Value) -> serde_json::Value {
    let asked = asked.to_string();
    tokio::task::spawn_blocking(move || {
        let (root, python) = (std::path::Path::new(env!("CARGO_MANIFEST_DIR")), peer::python());
        let output = std::process::Command::new(&python)
            .arg(root.join("tests/peers/clouds.py"))
            .args([what, &asked])
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}: run deploy/test.sh, which makes it", python.display()));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    })
    .await
    .unwrap()
}

/// Returns a script that answers each recipient with its code.
pub(crate) fn script(codes: &[(String, &str)]) -> Script {
    let error = |(to, code): &(String, &str)| Scripted { code: (*code).into(), whose: Whose::Recipient((**to).into()) };
    Script::new(codes.iter().map(error).collect())
}

/// Returns each answer in short: its word, the code, and after how many seconds it goes on.
pub(crate) fn short(answers: &[Answer]) -> Vec<String> {
    let wait = |wait: &Option<Duration>| wait.map_or_else(String::new, |wait| format!(" {}s", wait.as_secs()));
    let short = |answer: &Answer| match answer {
        Answer::Taken { .. } => "taken".to_owned(),
        Answer::Refused { code } => format!("refused {code}"),
        Answer::Throttled { retry_after } => format!("throttled{}", wait(retry_after)),
        Answer::NotSent { code, retry_after } => format!("not sent {code}{}", wait(retry_after)),
        Answer::Closed { code, .. } => format!("closed {code}"),
        Answer::NoAnswer => "no answer".to_owned(),
    };
    answers.iter().map(short).collect()
}

/// Hands a job to each recipient, who is answered with a code; each answer must be what follows the code.
pub(crate) async fn each_code_means(
    rig: &Rig,
    codes: &[(&str, &str)],
    recipient: impl Fn(u64) -> String,
    handover: impl Fn(u64) -> Handover,
) {
    let numbers = || (1_u64..).take(codes.len());
    let scripted: Vec<_> = numbers().zip(codes).map(|(number, (code, _))| (recipient(number), *code)).collect();
    rig.simulator.follow(script(&scripted));
    for (number, (code, expected)) in numbers().zip(codes) {
        let answers = rig.submit(vec![handover(number)]).await;
        assert_eq!(short(&answers), [*expected], "{code}");
    }
    // Who is not named is reached.
    assert_eq!(short(&rig.submit(vec![handover(1_000)]).await), ["taken"]);
}
