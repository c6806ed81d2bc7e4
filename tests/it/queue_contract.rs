//! The contract of the queue port, kept by every backend.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

use postrider::domain::ids::Lane;
use postrider::domain::job::Class;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::queue::amqp::{self, Amqp};
use postrider::queue::dead::{self, Why};
use postrider::queue::embedded::{self, Embedded};
use postrider::queue::{AnyQueue, Delivery, FRAME_BYTES_MAX, PublishError, Queue, QueueError, QueueName, Route};
use postrider::seal::Sealer;
use postrider::shutdown::Tasks;

use crate::support::servers;

/// Most frames in a lane here.
const LANE_LENGTH_MAX: usize = 200;

/// Long enough for anything that must come, on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// Long enough to believe that nothing comes.
const QUIET: Duration = Duration::from_millis(300);

/// A queue and what is needed to open it again.
struct Bench {
    queue: AnyQueue,
    place: Place,
    clock: Clock,
}

enum Place {
    Disk(TempDir),
    Server(String),
}

/// Makes one test of each backend out of each clause.
macro_rules! contract {
    ($($clause:ident,)+) => {
        mod embedded_queue { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::$clause(super::Bench::embedded().await).await; }
        )+ }
        mod amqp_queue { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() { super::$clause(super::Bench::amqp().await).await; }
        )+ }
    };
}

contract! {
    an_accepted_frame_is_in_its_lane_and_in_record,
    frames_come_in_the_order_of_publishing,
    what_is_dropped_comes_back_with_a_higher_count,
    no_more_than_the_prefetch_is_in_hand,
    a_queue_that_was_never_declared_takes_nothing,
    a_frame_that_is_too_large_is_refused,
    a_full_lane_says_so_and_keeps_what_it_confirmed,
    depth_counts_what_waits,
    a_receiver_that_is_dropped_gives_back_what_it_held,
    a_delivery_outlives_its_receiver,
    record_has_one_consumer_at_a_time,
    signals_have_one_consumer_at_a_time,
    a_closed_queue_takes_nothing_and_keeps_everything,
    a_poison_frame_is_set_aside_alone,
    dead_letters_stay_when_they_are_looked_at,
    many_publishers_are_all_heard,
}

async fn an_accepted_frame_is_in_its_lane_and_in_record(bench: Bench) {
    let queue = &bench.queue;
    queue.publish(id(7), Bytes::from_static(b"frame"), Route::Accept(work())).await.unwrap();
    queue.publish(id(8), Bytes::from_static(b"fact"), Route::To(QueueName::Record)).await.unwrap();
    let (mut lane, mut record) = (bench.consume(work(), 10).await, bench.consume(QueueName::Record, 10).await);
    for from in [&mut lane, &mut record] {
        let delivery = next(from, &bench.clock).await;
        assert_eq!((delivery.id, &delivery.frame[..], delivery.count), (id(7), &b"frame"[..], 1));
        delivery.ack();
    }
    let fact = next(&mut record, &bench.clock).await;
    assert_eq!((fact.id, &fact.frame[..]), (id(8), &b"fact"[..]));
    fact.ack();
    bench.quiet(&mut lane).await;
    bench.quiet(&mut record).await;
}

async fn frames_come_in_the_order_of_publishing(bench: Bench) {
    bench.fill(&work(), 0..100).await;
    let mut lane = bench.consume(work(), 7).await;
    for number in 0..100 {
        let delivery = next(&mut lane, &bench.clock).await;
        assert_eq!(delivery.id, id(number));
        delivery.ack();
    }
}

async fn what_is_dropped_comes_back_with_a_higher_count(bench: Bench) {
    bench.fill(&work(), 0..3).await;
    let mut lane = bench.consume(work(), 1).await;
    for count in 1..4 {
        let delivery = next(&mut lane, &bench.clock).await;
        assert_eq!((delivery.id, delivery.count), (id(0), count));
        drop(delivery);
    }
    next(&mut lane, &bench.clock).await.ack();
    for number in 1..3 {
        let delivery = next(&mut lane, &bench.clock).await;
        assert_eq!((delivery.id, delivery.count), (id(number), 1));
        delivery.ack();
    }
}

async fn no_more_than_the_prefetch_is_in_hand(bench: Bench) {
    bench.fill(&work(), 0..10).await;
    let mut lane = bench.consume(work(), 3).await;
    let mut hand = Vec::new();
    for _ in 0..3 {
        hand.push(next(&mut lane, &bench.clock).await);
    }
    bench.quiet(&mut lane).await;
    hand.pop().unwrap().ack();
    assert_eq!(next(&mut lane, &bench.clock).await.id, id(3));
}

async fn a_queue_that_was_never_declared_takes_nothing(bench: Bench) {
    let nowhere = QueueName::Lane(Lane { class: Class::Marketing, pool: "nowhere".parse().unwrap() });
    for route in [Route::To(nowhere.clone()), Route::Accept(nowhere.clone())] {
        assert_eq!(bench.queue.publish(id(1), Bytes::new(), route).await, Err(PublishError::Unroutable));
    }
    assert!(matches!(bench.queue.consume(nowhere.clone(), 1).await, Err(QueueError::Refused(_))));
    assert!(matches!(bench.queue.depth(&nowhere).await, Err(QueueError::Refused(_))));
    // The others go on.
    bench.queue.declare(&[lane()]).await.unwrap();
    bench.fill(&work(), 0..1).await;
}

async fn a_frame_that_is_too_large_is_refused(bench: Bench) {
    let fits = Bytes::from(vec![1; FRAME_BYTES_MAX]);
    let large = Bytes::from(vec![1; FRAME_BYTES_MAX + 1]);
    bench.queue.publish(id(1), fits.clone(), Route::To(work())).await.unwrap();
    let refused = bench.queue.publish(id(2), large, Route::To(work())).await;
    assert_eq!(refused, Err(PublishError::TooLarge(FRAME_BYTES_MAX + 1)));
    let mut lane = bench.consume(work(), 2).await;
    let delivery = next(&mut lane, &bench.clock).await;
    assert!(delivery.frame == fits);
    bench.quiet(&mut lane).await;
}

async fn a_full_lane_says_so_and_keeps_what_it_confirmed(bench: Bench) {
    let mut confirmed = BTreeSet::new();
    for number in 0..u32::try_from(LANE_LENGTH_MAX).unwrap() + 50 {
        match bench.queue.publish(id(number), Bytes::new(), Route::Accept(work())).await {
            Ok(()) => _ = confirmed.insert(number),
            Err(error) => assert_eq!(error, PublishError::Full),
        }
    }
    assert!((LANE_LENGTH_MAX..LANE_LENGTH_MAX + 50).contains(&confirmed.len()), "{} confirmed", confirmed.len());
    let mut lane = bench.consume(work(), 100).await;
    for number in confirmed {
        let delivery = next(&mut lane, &bench.clock).await;
        assert_eq!(delivery.id, id(number));
        delivery.ack();
    }
    bench.quiet(&mut lane).await;
    // And there is room again.
    bench.fill(&work(), 1_000..1_010).await;
}

async fn depth_counts_what_waits(bench: Bench) {
    bench.fill(&work(), 0..10).await;
    bench.settles_at(&work(), 10).await;
    let mut lane = bench.consume(work(), 4).await;
    let delivery = next(&mut lane, &bench.clock).await;
    bench.settles_at(&work(), 6).await;
    delivery.ack();
    bench.settles_at(&work(), 5).await;
    assert_eq!(bench.queue.depth(&QueueName::Soon).await, Ok(0));
}

async fn a_receiver_that_is_dropped_gives_back_what_it_held(bench: Bench) {
    bench.fill(&work(), 0..20).await;
    let mut first = bench.consume(work(), 10).await;
    next(&mut first, &bench.clock).await.ack();
    drop(first);
    bench.settles_at(&work(), 19).await;
    let mut second = bench.consume(work(), 20).await;
    let mut came = BTreeSet::new();
    for _ in 1..20 {
        let delivery = next(&mut second, &bench.clock).await;
        came.insert(delivery.id);
        delivery.ack();
    }
    assert_eq!(came, (1..20).map(id).collect());
}

async fn a_delivery_outlives_its_receiver(bench: Bench) {
    bench.fill(&work(), 0..2).await;
    let mut first = bench.consume(work(), 1).await;
    let delivery = next(&mut first, &bench.clock).await;
    drop(first);
    let mut second = bench.consume(work(), 5).await;
    let other = next(&mut second, &bench.clock).await;
    assert_eq!(other.id, id(1));
    bench.quiet(&mut second).await;
    delivery.ack();
    drop((second, other));
    bench.settles_at(&work(), 1).await;
}

async fn record_has_one_consumer_at_a_time(bench: Bench) {
    one_consumer_at_a_time(&bench, QueueName::Record).await;
}

async fn signals_have_one_consumer_at_a_time(bench: Bench) {
    one_consumer_at_a_time(&bench, QueueName::Signals).await;
}

async fn one_consumer_at_a_time(bench: &Bench, name: QueueName) {
    let mut first = bench.consume(name.clone(), 2).await;
    let mut second = bench.consume(name.clone(), 2).await;
    bench.fill(&name, 0..10).await;
    for number in 0..5 {
        let delivery = next(&mut first, &bench.clock).await;
        assert_eq!(delivery.id, id(number));
        delivery.ack();
    }
    bench.quiet(&mut second).await;
    drop(first);
    let mut came = BTreeSet::new();
    while came.len() < 5 {
        let delivery = next(&mut second, &bench.clock).await;
        came.insert(delivery.id);
        delivery.ack();
    }
    assert_eq!(came, (5..10).map(id).collect());
}

async fn a_closed_queue_takes_nothing_and_keeps_everything(mut bench: Bench) {
    bench.fill(&work(), 0..20).await;
    let mut lane = bench.consume(work(), 5).await;
    for _ in 0..10 {
        next(&mut lane, &bench.clock).await.ack();
    }
    let late: Vec<_> = (20..30)
        .map(|number| {
            let queue = bench.queue.clone();
            async move { queue.publish(id(number), frame(number), Route::To(work())).await }
        })
        .collect();
    let (late, ()) = tokio::join!(futures_util::future::join_all(late), async {
        tokio::task::yield_now().await;
        bench.queue.close().await;
    });
    let refused = bench.queue.publish(id(99), Bytes::new(), Route::To(work())).await;
    assert_eq!(refused, Err(PublishError::Disconnected));
    assert!(bench.queue.depth(&work()).await.is_err());
    while bench.clock.timeout(SOON, lane.recv()).await.unwrap().is_some() {}

    bench.reopen().await;
    let mut lane = bench.consume(work(), 50).await;
    let mut owed: BTreeSet<Uuid> = (10..20).map(id).collect();
    owed.extend((20..30).zip(&late).filter(|(_, result)| result.is_ok()).map(|(number, _)| id(number)));
    while !owed.is_empty() {
        let delivery = next(&mut lane, &bench.clock).await;
        assert!(delivery.id >= id(10), "an acknowledged frame came back");
        owed.remove(&delivery.id);
        delivery.ack();
    }
}

async fn a_poison_frame_is_set_aside_alone(bench: Bench) {
    let suspects = QueueName::Suspect("main".parse().unwrap());
    bench.fill(&suspects, 0..3).await;
    let mut lane = bench.consume(suspects.clone(), 1).await;
    let mut healthy = BTreeSet::new();
    let mut tries = 0;
    while healthy.len() < 2 {
        let delivery = next(&mut lane, &bench.clock).await;
        if delivery.id == id(1) {
            tries += 1;
            assert_eq!(delivery.count, tries);
        } else {
            assert_eq!(delivery.count, 1, "no harm to the others");
            healthy.insert(delivery.id);
            delivery.ack();
        }
    }
    assert!((20..=21).contains(&tries), "delivered {tries} times");
    let mut dead = bench.consume(QueueName::Dead, 1).await;
    let delivery = next(&mut dead, &bench.clock).await;
    assert_eq!((delivery.id, &delivery.frame), (id(1), &frame(1)));
    delivery.ack();
    bench.settles_at(&suspects, 0).await;
}

async fn dead_letters_stay_when_they_are_looked_at(bench: Bench) {
    bench.fill(&QueueName::Later, 0..3).await;
    let mut later = bench.consume(QueueName::Later, 3).await;
    for _ in 0..3 {
        let delivery = next(&mut later, &bench.clock).await;
        let why = Why { from: QueueName::Later, reason: "a test", at: UnixMicros(7) };
        dead::bury(&bench.queue, delivery, why).await.unwrap();
    }
    for _ in 0..2 {
        bench.settles_at(&QueueName::Dead, 3).await;
        let letters = dead::look(&bench.queue, &bench.clock).await.unwrap();
        let mut ids: Vec<_> = letters.iter().map(|(letter, _)| letter.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, [id(0), id(1), id(2)]);
        assert!(letters.iter().all(|(letter, _)| letter.at == Some(UnixMicros(7)) && &*letter.reason == "a test"));
    }
    bench.settles_at(&QueueName::Dead, 3).await;
    for (letter, delivery) in dead::look(&bench.queue, &bench.clock).await.unwrap() {
        if letter.id == id(1) {
            letter.redrive(&bench.queue, &Sealer::ephemeral().unwrap()).await.unwrap();
            delivery.ack();
        }
    }
    bench.settles_at(&QueueName::Dead, 2).await;
    let back = next(&mut later, &bench.clock).await;
    assert_eq!((back.id, &back.frame), (id(1), &frame(1)));
}

async fn many_publishers_are_all_heard(bench: Bench) {
    let publishers = (0..64).map(|publisher| {
        let queue = bench.queue.clone();
        async move {
            for number in 0..20 {
                let number = publisher * 20 + number;
                queue.publish(id(number), frame(number), Route::Accept(QueueName::Later)).await.unwrap();
            }
        }
    });
    let consume = async {
        for name in [QueueName::Later, QueueName::Record] {
            let mut receiver = bench.consume(name, 100).await;
            let mut came = BTreeSet::new();
            while came.len() < 64 * 20 {
                let delivery = next(&mut receiver, &bench.clock).await;
                assert_eq!(delivery.frame, frame(u32::try_from(delivery.id.as_u128()).unwrap()));
                assert!(came.insert(delivery.id), "delivered once");
                delivery.ack();
            }
            bench.quiet(&mut receiver).await;
        }
    };
    tokio::join!(futures_util::future::join_all(publishers), consume);
}

// === impl Bench ===

impl Bench {
    async fn embedded() -> Self {
        Self::at(Place::Disk(tempfile::tempdir().unwrap())).await
    }

    async fn amqp() -> Self {
        Self::at(Place::Server(servers::rabbitmq().vhost())).await
    }

    async fn at(place: Place) -> Self {
        let clock = Clock::system();
        let queue = open(&place, &clock).await;
        Self { queue, place, clock }
    }

    async fn reopen(&mut self) {
        self.queue = open(&self.place, &self.clock).await;
    }

    async fn consume(&self, from: QueueName, prefetch: u16) -> mpsc::Receiver<Delivery> {
        self.queue.consume(from, prefetch).await.unwrap()
    }

    async fn fill(&self, queue: &QueueName, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.queue.publish(id(number), frame(number), Route::To(queue.clone())).await.unwrap();
        }
    }

    /// Nothing comes any more.
    async fn quiet(&self, from: &mut mpsc::Receiver<Delivery>) {
        let came = self.clock.timeout(QUIET, from.recv()).await;
        assert!(came.is_err(), "came: {came:?}");
    }

    /// So many frames wait, at last.
    async fn settles_at(&self, queue: &QueueName, depth: u64) {
        let mut found = self.queue.depth(queue).await;
        for _ in 0..200 {
            if found == Ok(depth) {
                return;
            }
            self.clock.pause(Duration::from_millis(25)).await;
            found = self.queue.depth(queue).await;
        }
        panic!("{queue} should hold {depth}: {found:?}");
    }
}

async fn open(place: &Place, clock: &Clock) -> AnyQueue {
    let tasks = Tasks::new();
    let queue = match place {
        Place::Disk(dir) => {
            let options = embedded::Options { lane_length_max: LANE_LENGTH_MAX, ..embedded::Options::default() };
            AnyQueue::Embedded(Embedded::open(dir.path(), options, &tasks, clock).await.unwrap())
        }
        Place::Server(url) => {
            let lane_length_max = u32::try_from(LANE_LENGTH_MAX).unwrap();
            let options = amqp::Options { lane_length_max, ..amqp::Options::new(url) };
            AnyQueue::Amqp(Amqp::connect(options, &tasks, clock).await.unwrap())
        }
    };
    queue.declare(&[lane()]).await.unwrap();
    queue
}

fn lane() -> Lane {
    Lane { class: Class::Transactional, pool: "main".parse().unwrap() }
}

fn work() -> QueueName {
    QueueName::Lane(lane())
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

fn frame(number: u32) -> Bytes {
    Bytes::from(format!("frame {number} ").repeat(20))
}

async fn next(from: &mut mpsc::Receiver<Delivery>, clock: &Clock) -> Delivery {
    clock.timeout(SOON, from.recv()).await.expect("a delivery comes").expect("the deliveries go on")
}
