//! Crashes: the service is killed again and again while jobs go through it, and the queue server once. Nothing that was
//! accepted is lost, nobody is reached twice who must not be, and what cannot be known ends as such.

mod account;
mod again;

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::Class;
use postrider::shutdown::Tasks;

use self::account::Account;
use crate::support::api::{self, Client, Watched};
use crate::support::servers::{self, RabbitMq};
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

/// Jobs in all, in batches of [`BATCH`].
const JOBS: usize = 20_000;
const BATCH: usize = 25;
/// Callers at a time.
const CALLERS: usize = 8;
/// Between two batches of a caller: the submits last as long as the crashes.
const PAUSE: Duration = Duration::from_millis(300);
/// How long a kill may take to come, and every job to its outcome.
const PATIENCE: Duration = Duration::from_secs(180);
/// In flight at a provider at most: what one kill can leave unresolved.
const WINDOW: usize = 2 * 100;

/// Where the service dies, and at which pass. The passes are such that work is in full flow.
const CRASHES: &[&str] = &["after_claim:40", "mid_write:150", "after_answer:100", "after_event:40"];

/// Who was accepted: by number, the job's id and class.
pub(crate) type Accepted = Arc<Mutex<HashMap<String, (String, Class)>>>;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_through_crashes_on_the_embedded_backends() {
    crashes(&Backends::Embedded, None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_through_crashes_on_the_servers() {
    let rabbitmq = RabbitMq::start(1);
    let backends = Backends::Servers {
        queue: rabbitmq.vhost(),
        limits: servers::redis().database(),
        ledger: servers::postgres().database(),
    };
    crashes(&backends, Some(&rabbitmq)).await;
}

async fn crashes(backends: &Backends, broker: Option<&RabbitMq>) {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let sink = Sink::start(&["--throttle-every", "2503", "--latency", "5"]);
    let timeouts =
        "binds = 2\nwindow = 100\nrate = \"5000/s\"\nresponse_timeout = \"4s\"\nreconnect_delay = \"100ms\"\n";
    let settings = format!(
        "[record]\nreceipt_deadline = \"15s\"\n[shutdown]\ngrace = \"8s\"\n{}",
        smpp_provider(sink.port(), timeouts)
    );
    let service = Service::start(backends, &settings);
    let client = api::jobs(&service);
    let accepted = Accepted::default();
    for caller in 0..CALLERS {
        tasks.spawn("caller", call(client.clone(), clock.clone(), accepted.clone(), caller));
    }
    let mut account = Account::default();
    let mut watched = Watched::default();

    for crash in CRASHES {
        service.kill();
        service.restart(Some(crash));
        died_at(&service, crash, &clock, &mut watched, &client).await;
        account.strike(crash, &accepted, &sink, &watched);
        if let (Some(broker), "mid_write:150") = (broker, *crash) {
            service.restart(None);
            watched.follow(&client, Duration::from_secs(1)).await;
            broker.kill();
            account.strike("kill of the broker", &accepted, &sink, &watched);
            clock.pause(Duration::from_secs(1)).await;
            broker.restart();
            watched.follow(&client, Duration::from_secs(2)).await;
        }
    }
    service.restart(None);
    watched.follow(&client, Duration::from_secs(2)).await;
    service.kill();
    account.strike("SIGKILL", &accepted, &sink, &watched);
    service.restart(None);
    watched.follow(&client, Duration::from_secs(2)).await;
    stop_with_hung_peers(&service);
    account.strike("SIGTERM with 200 hung peers", &accepted, &sink, &watched);
    service.restart(None);

    let watch = clock.stopwatch();
    while !settled(&accepted, &watched) && watch.elapsed() < PATIENCE {
        watched.follow(&client, Duration::from_secs(1)).await;
    }
    tasks.finish(&clock, Duration::from_secs(5)).await;
    same_answers_again(&client, &accepted).await;
    account.balance(&accepted, &sink, &watched, &service);
}

/// Submits this caller's share, each batch until it is accepted.
async fn call(client: Client, clock: Clock, accepted: Accepted, caller: usize) {
    for number in (caller..JOBS / BATCH).step_by(CALLERS) {
        let (request, class, numbers) = request(number);
        let ids = api::insist(&client, &request).await;
        let jobs = numbers.into_iter().zip(ids).map(|(number, id)| (number, (id, class)));
        accepted.lock().unwrap().extend(jobs);
        clock.pause(PAUSE).await;
    }
}

fn request(number: usize) -> (postrider::pb::SubmitBatchRequest, Class, Vec<String>) {
    let class = [Class::Marketing, Class::Otp, Class::Notification, Class::Transactional][number % 4];
    let numbers: Vec<_> = (0..BATCH).map(|item| format!("+8613{:09}", number * BATCH + item)).collect();
    (api::batch(&format!("batch-{number}"), api::text(class, "hello"), &numbers), class, numbers)
}

/// Waits until the armed point strikes.
async fn died_at(service: &Service, crash: &str, clock: &Clock, watched: &mut Watched, client: &Client) {
    let watch = clock.stopwatch();
    while !service.ended() {
        assert!(watch.elapsed() < PATIENCE, "nothing passed through {crash}; the service said:\n{}", service.log());
        watched.follow(client, Duration::from_millis(200)).await;
    }
    let point = crash.split(':').next().unwrap();
    let said = service.log();
    assert!(said.contains(&format!("crash point {point}")), "it died elsewhere than at {crash}:\n{said}");
}

/// Two hundred clients have said hello and then nothing: a stop neither waits for them nor for anybody else.
fn stop_with_hung_peers(service: &Service) {
    use std::io::Write as _;
    let peers: Vec<_> = (0..200)
        .map(|_| {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, service.grpc_port())).unwrap();
            stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").unwrap();
            stream
        })
        .collect();
    let took = service.stop();
    assert!(took < Duration::from_secs(10), "a stop took {took:?}, the grace time is 8 s");
    println!("SIGTERM with 200 hung peers: stopped in {took:?}");
    drop(peers);
}

fn settled(accepted: &Accepted, watched: &Watched) -> bool {
    let accepted = accepted.lock().unwrap();
    accepted.len() == JOBS && accepted.values().all(|(id, _)| watched.outcomes.contains_key(id))
}

/// The same request again is the same job again; another one under the key is refused.
async fn same_answers_again(client: &Client, accepted: &Accepted) {
    for number in (0..JOBS / BATCH).step_by(40) {
        let (request, _, numbers) = request(number);
        let ids = api::insist(client, &request).await;
        let first: Vec<_> = {
            let accepted = accepted.lock().unwrap();
            numbers.iter().map(|number| accepted[number].0.clone()).collect()
        };
        assert_eq!(ids, first, "the first answer again");
        let mut other = request;
        other.spec = Some(api::text(Class::Marketing, "something else"));
        let refused = client.clone().submit_batch(other).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::FailedPrecondition, "{refused:?}");
    }
}
