//! Promise P2 on RabbitMQ: whatever fails under load, no publish is confirmed that is not durable in both queues, and
//! every error comes within the publish timeout.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use lapin::options::QueueDeleteOptions;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use uuid::Uuid;

use postrider::domain::ids::Lane;
use postrider::domain::job::Class;
use postrider::domain::time::Clock;
use postrider::queue::amqp::{Amqp, Options};
use postrider::queue::{Delivery, PublishError, Queue, QueueError, QueueName, Route};
use postrider::shutdown::Tasks;

use crate::support::proxy::{Direction, Proxy};
use crate::support::servers::{self, RabbitMq};
use crate::support::tls;

const PUBLISH_TIMEOUT: Duration = Duration::from_secs(2);

/// What the timeout may be exceeded by on a machine with other work.
const SLACK: Duration = Duration::from_millis(700);

const PUBLISHERS: u32 = 16;

/// Publishers at work, and what they were told.
struct Load {
    publishers: Vec<JoinHandle<Vec<Told>>>,
    stop: Arc<AtomicBool>,
    /// Counts the phases of a test, so that what was published after a fault can be told from what was before.
    phase: Arc<AtomicU32>,
    confirmed: Arc<AtomicU32>,
}

struct Told {
    number: u32,
    phase: u32,
    result: Result<(), PublishError>,
    took: Duration,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_removed_takes_nothing_unnoticed() {
    // One of its own: a 3.10 that is busy with other tests may be long about removing a queue.
    let server = RabbitMq::start(1);
    let url = server.vhost();
    let queue = connect(&url).await;
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
    let load = Load::start(&queue);
    for phase in 1..4 {
        load.confirms(100).await;
        let channel = connection.create_channel().await.unwrap();
        channel.queue_delete(work().to_string().into(), QueueDeleteOptions::default()).await.unwrap();
        load.phase.store(phase, Ordering::SeqCst);
    }
    // Declared again by itself.
    load.confirms(100).await;
    let told = load.end().await;
    // A 3.10 under load closes the whole connection over it; that is an error as good as another.
    assert!(told.iter().any(|told| told.result.is_err()), "the fault was felt");
    // What was there before went with the queue; what was published after the last removal must be there.
    check_present(&queue, &told, |told| told.phase == 3).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_is_missing_is_named_and_declared_again() {
    let url = servers::rabbitmq().vhost();
    let queue = connect(&url).await;
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    for (name, number) in [(work(), 0), (QueueName::Record, 2)] {
        channel.queue_delete(name.to_string().into(), QueueDeleteOptions::default()).await.unwrap();
        let refused = queue.publish(id(number), frame(), Route::Accept(work())).await;
        assert_eq!(refused, Err(PublishError::Unroutable), "{name} is missing");
        Clock::system().pause(Duration::from_secs(2)).await;
        queue.publish(id(number + 1), frame(), Route::Accept(work())).await.unwrap();
        assert_eq!(queue.depth(&name).await, Ok(1));
    }
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_unbind_a_lane() {
    let url = servers::rabbitmq().vhost();
    let queue = connect(&url).await;
    let connection = lapin::Connection::connect(&url, lapin::ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    let (lane, exchange) = (work().to_string(), lapin::types::ShortString::default());
    let unbound = channel.queue_unbind(lane.clone().into(), exchange, lane.into(), lapin::types::FieldTable::default());
    let refused = unbound.await.expect_err("the server keeps its default bindings");
    assert!(refused.to_string().contains("ACCESS_REFUSED"), "{refused}");
    queue.publish(Uuid::nil(), Bytes::new(), Route::Accept(work())).await.unwrap();
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn returned_frames_are_never_taken_for_others() {
    let proxy = Proxy::to(servers::rabbitmq().port());
    let queue = connect(&through(&servers::rabbitmq().vhost(), &proxy)).await;
    // A frame that comes back is read with one confirm, and its own confirm much later.
    proxy.crumble(Direction::ToClient);
    let nowhere = QueueName::Lane(Lane { class: Class::Marketing, pool: "nowhere".parse().unwrap() });
    let load = Load::start(&queue);
    // A few at a time, so that returns come between the confirms of others.
    let lost = (0..400_u32).map(|number| {
        let (queue, nowhere) = (queue.clone(), nowhere.clone());
        async move { queue.publish(Uuid::from_u128(u128::from(number) << 64), frame(), Route::Accept(nowhere)).await }
    });
    let mut told: Vec<_> = stream::iter(lost).buffer_unordered(8).collect().await;
    told.retain(|result| *result != Err(PublishError::Unroutable));
    assert_eq!(told, [], "no queue took them");
    load.confirms(50).await;
    let told = load.end().await;
    check_present(&queue, &told, |_| true).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_fills_up_under_load_keeps_what_it_confirmed() {
    let options = Options { lane_length_max: 300, ..options(&servers::rabbitmq().vhost()) };
    let queue = open(options).await;
    let load = Load::start(&queue);
    Clock::system().pause(Duration::from_secs(2)).await;
    let told = load.end().await;
    let full = told.iter().filter(|told| told.result == Err(PublishError::Full)).count();
    let confirmed = told.iter().filter(|told| told.result.is_ok()).count();
    assert!(full > 0 && confirmed >= 300, "{full} refused, {confirmed} confirmed");
    check_present(&queue, &told, |_| true).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_cut_in_flight_confirms_nothing_false() {
    let vhost = servers::rabbitmq().vhost();
    let proxy = Proxy::to(servers::rabbitmq().port());
    let queue = connect(&through(&vhost, &proxy)).await;
    let load = Load::start(&queue);
    for round in 0..12 {
        load.confirms(60).await;
        let direction = if round % 2 == 0 { Direction::ToServer } else { Direction::ToClient };
        proxy.cut_after(direction, fastrand::u32(1..40_000));
        Clock::system().pause(Duration::from_millis(300)).await;
        proxy.heal();
    }
    load.confirms(100).await;
    let told = load.end().await;
    assert!(told.iter().any(|told| told.result == Err(PublishError::Disconnected)), "the fault was felt");
    queue.close().await;
    check_present(&connect(&vhost).await, &told, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_costs_no_more_than_the_timeout() {
    let vhost = servers::rabbitmq().vhost();
    let proxy = Proxy::to(servers::rabbitmq().port());
    let queue = connect(&through(&vhost, &proxy)).await;
    let load = Load::start(&queue);
    for direction in [Direction::ToServer, Direction::ToClient] {
        load.confirms(100).await;
        proxy.stall(direction);
        Clock::system().pause(PUBLISH_TIMEOUT * 4).await;
        proxy.heal();
    }
    load.confirms(100).await;
    let told = load.end().await;
    assert!(told.iter().any(|told| told.result == Err(PublishError::Timeout)), "the fault was felt");
    queue.close().await;
    check_present(&connect(&vhost).await, &told, |_| true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_blocks_publishers_and_nobody_else() {
    let server = RabbitMq::start(1);
    let queue = connect(&server.vhost()).await;
    let load = Load::start(&queue);
    load.confirms(200).await;
    server.ctl(&["set_vm_memory_high_watermark", "0"]);
    Clock::system().pause(PUBLISH_TIMEOUT * 2).await;
    load.phase.store(1, Ordering::SeqCst);
    // Acks and deliveries go on, and empty the server.
    let mut record = queue.consume(QueueName::Record, 10).await.unwrap();
    for _ in 0..100 {
        Clock::system().timeout(PUBLISH_TIMEOUT, record.recv()).await.unwrap().unwrap();
    }
    drop(record);
    let blocked = queue.publish(Uuid::nil(), frame(), Route::Accept(work())).await;
    assert!(matches!(&blocked, Err(PublishError::Blocked(why)) if why.contains("memory")), "{blocked:?}");
    load.phase.store(2, Ordering::SeqCst);
    server.ctl(&["set_vm_memory_high_watermark", "absolute", "2GB"]);
    load.confirms(200).await;
    let told = load.end().await;
    assert!(told.iter().filter(|told| told.phase == 1).all(|told| told.result.is_err()), "nothing in an alarm");
    check_present(&queue, &told, |_| true).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_keeps_what_it_confirmed() {
    let server = RabbitMq::start(1);
    let queue = connect(&server.vhost()).await;
    let load = Load::start(&queue);
    for _ in 0..2 {
        load.confirms(300).await;
        server.kill();
        Clock::system().pause(Duration::from_millis(500)).await;
        server.restart();
    }
    load.confirms(300).await;
    let told = load.end().await;
    assert!(told.iter().any(|told| told.result.is_err()), "the fault was felt");
    check_present(&queue, &told, |_| true).await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_survive_cuts_and_stale_deliveries_settle_nothing() {
    let vhost = servers::rabbitmq().vhost();
    let proxy = Proxy::to(servers::rabbitmq().port());
    let queue = connect(&through(&vhost, &proxy)).await;
    for number in 0..200 {
        queue.publish(id(number), frame(), Route::To(work())).await.unwrap();
    }
    let mut lane = queue.consume(work(), 20).await.unwrap();
    let clock = Clock::system();
    let mut stale = Vec::new();
    for _ in 0..20 {
        stale.push(clock.timeout(Duration::from_secs(10), lane.recv()).await.unwrap().unwrap());
    }
    proxy.cut();
    // The same frames again, with higher counts, into the same receiver; others before them, where the server is slow to
    // notice whose connection is gone.
    let mut owed: BTreeSet<Uuid> = (0..200).map(id).collect();
    let mut again = BTreeMap::new();
    while again.len() < 20 {
        let delivery = clock.timeout(Duration::from_secs(20), lane.recv()).await.unwrap().unwrap();
        if stale.iter().any(|old| old.id == delivery.id) {
            assert!(delivery.count >= 2, "{delivery:?}");
            again.insert(delivery.id, delivery);
        } else {
            owed.remove(&delivery.id);
            delivery.ack();
        }
    }
    stale.into_iter().for_each(Delivery::ack);
    proxy.cut();
    // The stale acks took nothing away: once more everything comes.
    drop(again);
    while !owed.is_empty() {
        let delivery = clock.timeout(Duration::from_secs(20), lane.recv()).await.unwrap().unwrap();
        owed.remove(&delivery.id);
        delivery.ack();
    }
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_reaches_a_server_whose_authority_is_trusted_and_no_other() {
    let (tasks, server) = (Tasks::new(), servers::rabbitmq());
    let port = tls::before(server.port(), &tasks).await;
    let vhost = server.vhost();
    let url = vhost.replace("amqp://", "amqps://");
    let url = url.replace(&format!("127.0.0.1:{}/", server.port()), &format!("localhost:{port}/"));
    let stranger = Amqp::connect(options(&url), &tasks, &Clock::system()).await;
    assert!(matches!(stranger, Err(QueueError::Unreachable(_))), "an unknown authority");
    let queue = open(Options { ca: Some(tls::AUTHORITY.into()), ..options(&url) }).await;
    queue.publish(id(1), frame(), Route::Accept(work())).await.unwrap();
    let delivery = consume(&queue, &work()).await.recv().await.unwrap();
    assert_eq!(delivery.frame, frame());
    queue.close().await;
}

// === impl Load ===

impl Load {
    fn start(queue: &Amqp) -> Self {
        let (stop, phase, confirmed) = (Arc::default(), Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let tasks = Tasks::new();
        let publishers = (0..PUBLISHERS)
            .map(|publisher| {
                let (queue, stop) = (queue.clone(), Arc::clone(&stop));
                let (phase, confirmed) = (Arc::clone(&phase), Arc::clone(&confirmed));
                tasks.spawn("publisher", async move { publish(&queue, publisher, &stop, &phase, &confirmed).await })
            })
            .collect();
        Self { publishers, stop, phase, confirmed }
    }

    /// Waits until so many more publishes are confirmed.
    async fn confirms(&self, count: u32) {
        let enough = self.confirmed.load(Ordering::SeqCst) + count;
        for _ in 0..2_000 {
            if self.confirmed.load(Ordering::SeqCst) >= enough {
                return;
            }
            Clock::system().pause(Duration::from_millis(20)).await;
        }
        panic!("publishing does not go on");
    }

    /// Stops, and checks how long everybody had to wait.
    async fn end(self) -> Vec<Told> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Vec::new();
        for publisher in self.publishers {
            all.extend(publisher.await.unwrap());
        }
        let slowest = all.iter().max_by_key(|told| told.took).unwrap();
        assert!(slowest.took < PUBLISH_TIMEOUT + SLACK, "{:?} after {:?}", slowest.result, slowest.took);
        let mut results = BTreeMap::new();
        for told in &all {
            *results.entry(format!("{:?}", told.result)).or_insert(0) += 1;
        }
        println!("told: {results:?}, slowest {:?}", slowest.took);
        all
    }
}

async fn publish(
    queue: &Amqp,
    publisher: u32,
    stop: &AtomicBool,
    phase: &AtomicU32,
    confirmed: &AtomicU32,
) -> Vec<Told> {
    let clock = Clock::system();
    let mut told = Vec::new();
    let mut number = publisher;
    while !stop.load(Ordering::SeqCst) {
        let begun_in = phase.load(Ordering::SeqCst);
        let watch = clock.stopwatch();
        let result = queue.publish(id(number), frame(), Route::Accept(work())).await;
        if result.is_ok() {
            confirmed.fetch_add(1, Ordering::SeqCst);
        } else {
            clock.pause(Duration::from_millis(20)).await;
        }
        told.push(Told { number, phase: begun_in, result, took: watch.elapsed() });
        number += PUBLISHERS;
    }
    told
}

/// Every publish of `these` that was confirmed is in both queues.
async fn check_present(queue: &Amqp, told: &[Told], these: impl Fn(&Told) -> bool) {
    let clock = Clock::system();
    for name in [work(), QueueName::Record] {
        let confirmed = told.iter().filter(|told| told.result.is_ok() && these(told));
        let mut missing: BTreeSet<Uuid> = confirmed.map(|told| id(told.number)).collect();
        let count = missing.len();
        assert!(count > 0);
        let mut receiver = consume(queue, &name).await;
        while !missing.is_empty() {
            let Ok(Some(delivery)) = clock.timeout(Duration::from_secs(5), receiver.recv()).await else { break };
            missing.remove(&delivery.id);
            delivery.ack();
        }
        assert!(missing.is_empty(), "{} of {count} that were confirmed are not in {name}", missing.len());
    }
}

/// Starts a consumer, as soon as the connection that consumes is up again.
async fn consume(queue: &Amqp, name: &QueueName) -> mpsc::Receiver<Delivery> {
    for _ in 0..100 {
        if let Ok(receiver) = queue.consume(name.clone(), 200).await {
            return receiver;
        }
        Clock::system().pause(Duration::from_millis(100)).await;
    }
    panic!("cannot consume {name}");
}

async fn connect(url: &str) -> Amqp {
    open(options(url)).await
}

async fn open(options: Options) -> Amqp {
    let queue = Amqp::connect(options, &Tasks::new(), &Clock::system()).await.unwrap();
    queue.declare(&[lane()]).await.unwrap();
    queue
}

fn options(url: &str) -> Options {
    Options { publish_timeout: PUBLISH_TIMEOUT, ..Options::new(url) }
}

/// The same virtual host, through the proxy.
fn through(url: &str, proxy: &Proxy) -> String {
    url.replace(&format!(":{}/", servers::rabbitmq().port()), &format!(":{}/", proxy.port()))
}

fn lane() -> Lane {
    Lane { class: Class::Otp, pool: "main".parse().unwrap() }
}

fn work() -> QueueName {
    QueueName::Lane(lane())
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

fn frame() -> Bytes {
    Bytes::from_static(&[7; 700])
}
