//! Debian's Kannel as a vendor that a user adds without code: the README's provider sends through its HTTP interface, it
//! sends on by SMPP to our simulated SMSC, and calls back with what came of it and with what people write.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::suppression_service_client::SuppressionServiceClient;
use postrider::pb::{Class, Fate, Recipient, SuppressionServiceCheckRequest};
use postrider::shutdown::Tasks;
use postrider::simulator::smpp::{Account, Smsc};
use postrider::simulator::{Behaviour, Receipts};

use crate::support::api::{self, Client, Watched};
use crate::support::cloud::script;
use crate::support::janitor::{Janitor, Job, free_port};
use crate::support::servers::{program, server_dir};
use crate::support::service::{Backends, Service};

/// Longer than anything here takes, on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(60);

/// Both of Kannel's processes: the one that speaks SMPP, and the one that speaks HTTP.
struct Kannel {
    bearerbox: Janitor,
    smsbox: Janitor,
}

impl Kannel {
    /// Starts one that sends to the SMSC at `smsc`, listens on `http` and calls back to `postrider`.
    fn start(smsc: u16, http: u16, postrider: u16) -> Self {
        let (admin, boxes) = (free_port(), free_port());
        let mut text = include_str!("../../peers/kannel/kannel.conf").to_owned();
        let ports = [("ADMIN", admin), ("BOX", boxes), ("SMSC", smsc), ("HTTP", http), ("POSTRIDER", postrider)];
        for (name, port) in ports {
            text = text.replace(&format!("@{name}@"), &port.to_string());
        }
        let start = |name: &str, port: u16| {
            let dir = server_dir(name);
            let file = dir.join("kannel.conf");
            fs::write(&file, &text).unwrap();
            let command = [program(name, &["/usr/sbin"], "kannel"), file].map(|part| part.to_str().unwrap().to_owned());
            let janitor = Janitor::hire(&Job { dir: &dir, end_signal: "KILL", command: &command, env: &[] });
            janitor.start(|| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
            janitor
        };
        Self { bearerbox: start("bearerbox", admin), smsbox: start("smsbox", http) }
    }

    /// Returns what both have said.
    fn log(&self) -> String {
        self.bearerbox.log() + &self.smsbox.log()
    }
}

/// The README's settings, for these ports.
fn settings(http: u16, postrider: u16) -> String {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("Kannel as a vendor").expect("what is said about Kannel");
    let (_, rest) = rest.split_once("```toml\n").unwrap();
    let (block, _) = rest.split_once("```").unwrap();
    block
        .replace("http://127.0.0.1:13013", &format!("http://127.0.0.1:{http}"))
        .replace("http://127.0.0.1:8025", &format!("http://127.0.0.1:{postrider}"))
        .replace("[receive]", &format!("[receive]\nlisten = \"127.0.0.1:{postrider}\""))
        .replace("secret_file = \"/run/secrets/kannel\"", "secret = \"geheim\"")
        .replace("callback_token_file = \"/run/secrets/kannel-callbacks\"", "callback_token = \"a-secret-in-the-path\"")
}

fn behaviour(undelivered: f64) -> Behaviour {
    let receipts = Receipts { after: Duration::from_millis(50), undelivered, ..Receipts::default() };
    Behaviour { latency: Duration::from_millis(5), receipts: Some(receipts), ..Behaviour::default() }
}

/// Sends a text and returns what it came to.
async fn came_to(client: &Client, text: &str, number: &str, log: impl Fn() -> String) -> (Fate, String) {
    let request = api::submit("", api::text(Class::Transactional, text), number);
    let id = client.clone().submit(request).await.unwrap().into_inner().job_id;
    let (mut watched, watch) = (Watched::default(), Clock::system().stopwatch());
    while !watched.outcomes.contains_key(&id) {
        assert!(watch.elapsed() < PATIENCE, "{number} has no outcome:\n{}", log());
        watched.follow(client, Duration::from_millis(100)).await;
    }
    watched.outcomes[&id][0].clone()
}

/// Waits until a number is suppressed, or no more.
async fn suppressed(service: &Service, number: &str, wanted: bool, log: impl Fn() -> String) {
    let (clock, watch) = (Clock::system(), Clock::system().stopwatch());
    loop {
        let address = Some(Recipient { phone: number.into(), ..Recipient::default() });
        let request = SuppressionServiceCheckRequest { address };
        let answer = SuppressionServiceClient::new(service.connect()).check(request).await.unwrap().into_inner();
        if answer.suppressed == wanted {
            return;
        }
        assert!(watch.elapsed() < PATIENCE, "{number} does not become {wanted}:\n{}", log());
        clock.pause(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kannel_is_a_vendor_that_is_added_without_code() {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let account = Account { system_id: "kannel".into(), password: "secret".into(), ..Account::default() };
    let listen = ([127, 0, 0, 1], 0).into();
    let smsc = Smsc::start(account, listen, (behaviour(0.0), 7), &tasks, &clock).await.unwrap();
    smsc.follow(script(&[("+8613800000009".into(), "0x0B")]));
    let (http, port, carrier) = (free_port(), free_port(), smsc.address().port());
    let started = tokio::task::spawn_blocking(move || {
        (Kannel::start(carrier, http, port), Service::start(&Backends::Embedded, &settings(http, port)))
    });
    let (kannel, service) = started.await.unwrap();
    let (client, log) = (api::jobs(&service), || kannel.log());
    let bound = clock.timeout(PATIENCE, async {
        while smsc.stats().binds == 0 {
            clock.pause(Duration::from_millis(20)).await;
        }
    });
    bound.await.unwrap_or_else(|_| panic!("Kannel does not bind:\n{}", log()));

    let plain = "50% off & more: [you] + me = \"us\"?";
    for (text, number) in [(plain, "+8613800000001"), ("您的订单 #7 已发货", "+8613800000002")] {
        assert_eq!(came_to(&client, text, number, log).await, (Fate::Delivered, String::new()), "{text}");
        let (message, _) = smsc.messages().pop().unwrap();
        assert_eq!((&*message.text, &*message.from), (text, "10690000"));
        assert_eq!(message.to.trim_start_matches('+'), number.trim_start_matches('+'));
    }
    // What the carrier refuses Kannel has taken, and says so later.
    let (fate, reason) = came_to(&client, "hello", "+8613800000009", log).await;
    assert_eq!((fate, &*reason), (Fate::Undelivered, "NACK/0x0000000b/Invalid Destinat"));
    smsc.behave(behaviour(1.0));
    let (fate, reason) = came_to(&client, "hello", "+8613800000003", log).await;
    assert!(fate == Fate::Undelivered && reason.starts_with("UNDELIV err:"), "{reason}");

    // Each binds, though the first and the last are the same to the letter.
    for (text, stopped) in [("退订", true), ("START", false), ("退订", true)] {
        smsc.write("8613800000001", "10690000", text);
        suppressed(&service, "+8613800000001", stopped, log).await;
    }
    drop(service);
    tasks.finish(&clock, Duration::from_secs(5)).await;
}
