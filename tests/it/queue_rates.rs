//! How many frames a second each queue carries, published to lane and record with confirms, and consumed from both.
//!
//! Not a check but a measurement: `cargo test --release --test it queue_rates -- --ignored --nocapture --test-threads 1`.

use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use postrider::domain::ids::Lane;
use postrider::domain::job::Class;
use postrider::domain::time::Clock;
use postrider::queue::amqp::{self, Amqp};
use postrider::queue::embedded::{self, Embedded};
use postrider::queue::{AnyQueue, PublishError, Queue, QueueName, Route};
use postrider::shutdown::Tasks;

use crate::support::servers;

/// A frame of one job, one of 128 short ones, and one of 128 with parameters.
const SIZES: [usize; 3] = [400, 8 * 1024, 32 * 1024];

const PUBLISHERS: [u32; 2] = [64, 256];

const FOR: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, checks nothing"]
async fn embedded_frames_per_second() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = embedded::Options::default();
    let queue = Embedded::open(dir.path(), options, &Tasks::new(), &Clock::system()).await.unwrap();
    measure("embedded", AnyQueue::Embedded(queue)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, checks nothing"]
async fn amqp_frames_per_second() {
    let options = amqp::Options::new(&servers::rabbitmq().vhost());
    let queue = Amqp::connect(options, &Tasks::new(), &Clock::system()).await.unwrap();
    measure("amqp", AnyQueue::Amqp(queue)).await;
}

async fn measure(name: &str, queue: AnyQueue) {
    let lane = Lane { class: Class::Marketing, pool: "main".parse().unwrap() };
    queue.declare(std::slice::from_ref(&lane)).await.unwrap();
    let (clock, tasks) = (Clock::system(), Tasks::new());
    for from in [QueueName::Lane(lane.clone()), QueueName::Record] {
        let mut receiver = queue.consume(from, 500).await.unwrap();
        tasks.spawn("consumer", async move {
            while let Some(delivery) = receiver.recv().await {
                delivery.ack();
            }
        });
    }
    for size in SIZES {
        for publishers in PUBLISHERS {
            let watch = clock.stopwatch();
            let publishers: Vec<_> = (0..publishers)
                .map(|_| {
                    let (queue, lane) = (queue.clone(), QueueName::Lane(lane.clone()));
                    tasks.spawn("publisher", async move {
                        let (mut count, mut longest) = (0_u32, Duration::ZERO);
                        let frame = Bytes::from(vec![7; size]);
                        while watch.elapsed() < FOR {
                            let began = watch.elapsed();
                            match queue.publish(Uuid::new_v4(), frame.clone(), Route::Accept(lane.clone())).await {
                                Ok(()) => count += 1,
                                // Consumers are that far behind.
                                Err(PublishError::Full) => Clock::system().pause(Duration::from_millis(1)).await,
                                Err(error) => panic!("{error}"),
                            }
                            longest = longest.max(watch.elapsed().saturating_sub(began));
                        }
                        (count, longest)
                    })
                })
                .collect();
            let (mut count, mut longest, with) = (0, Duration::ZERO, publishers.len());
            for publisher in publishers {
                let (its, its_longest) = publisher.await.unwrap();
                (count, longest) = (count + its, longest.max(its_longest));
            }
            let rate = f64::from(count) / watch.elapsed().as_secs_f64();
            let published = watch.elapsed();
            while queue.depth(&QueueName::Lane(lane.clone())).await != Ok(0)
                || queue.depth(&QueueName::Record).await != Ok(0)
            {
                clock.pause(Duration::from_millis(10)).await;
            }
            let behind = watch.elapsed().saturating_sub(published);
            println!(
                "{name}: {size:>6} B, {with:>3} publishers: {rate:>8.0} frames/s, slowest {longest:?}, consumers {behind:?} behind"
            );
        }
    }
    queue.close().await;
}
