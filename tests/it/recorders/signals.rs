//! Signals, which have a queue of their own: whoever reads the record queue reads it, whichever process that is.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use postrider::domain::event::Fact;
use postrider::domain::recipient::Recipient;
use postrider::domain::signal::{Signal, Told};
use postrider::domain::time::Clock;
use postrider::ledger::postgres::Postgres;
use postrider::ledger::sqlite::Sqlite;
use postrider::ledger::{AnyLedger, Ledger, Recording, SealedReply};
use postrider::limits::embedded::Embedded as EmbeddedLimits;
use postrider::queue::amqp::{self, Amqp};
use postrider::queue::embedded::{self, Embedded};
use postrider::queue::frame::Frame;
use postrider::queue::{AnyQueue, Queue, QueueName, Route};
use postrider::seal::Sealer;
use postrider::shutdown::Tasks;
use tempfile::TempDir;
use uuid::Uuid;

use super::{carrier, start, tenant};
use crate::support::servers;

/// Long enough for whatever must come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const SIGNALS: u128 = 300;

/// Queue, ledger and limits.
struct Bench {
    queue: AnyQueue,
    ledger: AnyLedger,
    limits: EmbeddedLimits,
    sealer: Sealer,
    clock: Clock,
    _dir: TempDir,
}

impl Bench {
    async fn embedded() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (queue, options) = (dir.path().join("queue"), embedded::Options::default());
        let queue = Embedded::open(&queue, options, &Tasks::new(), &Clock::system()).await.unwrap();
        let ledger = Sqlite::open(&dir.path().join("ledger.db"), Clock::system()).unwrap();
        Self::of(AnyQueue::Embedded(queue), AnyLedger::Sqlite(ledger), dir).await
    }

    async fn on_servers() -> Self {
        let (queue, ledger) =
            tokio::task::spawn_blocking(|| (servers::rabbitmq().vhost(), servers::postgres().database()))
                .await
                .unwrap();
        let queue = Amqp::connect(amqp::Options::new(&queue), &Tasks::new(), &Clock::system()).await.unwrap();
        let ledger = Postgres::new(&ledger, Clock::system()).unwrap();
        Self::of(AnyQueue::Amqp(queue), AnyLedger::Postgres(ledger), tempfile::tempdir().unwrap()).await
    }

    async fn of(queue: AnyQueue, ledger: AnyLedger, dir: TempDir) -> Self {
        ledger.migrate().await.unwrap();
        queue.declare(&[]).await.unwrap();
        let clock = Clock::system();
        let limits = EmbeddedLimits::open(&dir.path().join("limits"), clock.now()).unwrap();
        Self { queue, ledger, limits, sealer: Sealer::ephemeral().unwrap(), clock, _dir: dir }
    }

    fn recorder(&self) -> Tasks {
        start(&self.queue, &self.ledger, &self.limits, &self.sealer)
    }

    async fn stop(&self, recorder: Tasks) {
        assert_eq!(recorder.finish(&self.clock, PATIENCE).await, 0);
    }

    /// Publishes a signal into a queue.
    async fn tell(&self, id: u128, into: QueueName) {
        let signal = Signal {
            id: Uuid::from_u128(id),
            provider: carrier(),
            tenant: tenant(),
            told: Told::FriendAdded,
            recipient: Recipient::default(),
            to: "corp".into(),
            details: vec![],
            at: self.clock.now(),
        };
        let frame = Frame::Facts(vec![Fact::Signal(Box::new(signal))]).encode(&self.sealer).unwrap();
        self.queue.publish(Uuid::new_v4(), frame, Route::To(into)).await.unwrap();
    }

    /// Waits for so many signals in the ledger, and returns their ids.
    async fn signals(&self, count: usize) -> Vec<u128> {
        let heard = async {
            loop {
                let found = self.ledger.replies(&tenant(), 0, 1_000).await.unwrap();
                if found.len() >= count {
                    assert!(found.is_sorted_by(|one, other| one.seq < other.seq), "one number each");
                    return found.iter().filter_map(|reply| Some(reply.signal?.as_u128())).collect();
                }
                self.clock.pause(Duration::from_millis(10)).await;
            }
        };
        self.clock.timeout(PATIENCE, heard).await.expect("the signals are recorded")
    }

    /// Writes something to the ledger as another recorder would.
    async fn overtake(&self) {
        let (last, _) = self.ledger.last_seq().await.unwrap();
        let at = self.clock.now();
        let reply = SealedReply {
            seq: last + 1,
            tenant: Some(tenant()),
            in_reply_to: None,
            at,
            sealed: Bytes::new(),
            signal: None,
        };
        let recording = Recording { after: last, replies: vec![reply], ..Recording::default() };
        self.ledger.record(&recording).await.unwrap();
    }

    async fn close(self) {
        for name in [QueueName::Record, QueueName::Signals] {
            let empty = async {
                while self.queue.depth(&name).await.unwrap() > 0 {
                    self.clock.pause(Duration::from_millis(10)).await;
                }
            };
            self.clock.timeout(PATIENCE, empty).await.expect("all is acknowledged");
        }
        self.ledger.close().await;
        self.queue.close().await;
    }
}

async fn whoever_reads_the_record_queue_reads_signals(bench: Bench) {
    // They wait for a recorder, whatever else is there to be recorded: nothing.
    bench.tell(1, QueueName::Signals).await;
    let first = bench.recorder();
    assert_eq!(bench.signals(1).await, [1]);
    // A second one stands by, and takes both over when the first is gone, though nothing tells it so.
    let second = bench.recorder();
    bench.tell(2, QueueName::Signals).await;
    assert_eq!(bench.signals(2).await, [1, 2]);
    bench.stop(first).await;
    bench.tell(3, QueueName::Signals).await;
    assert_eq!(bench.signals(3).await, [1, 2, 3]);
    // Whoever finds that another has written asks again whose turn it is.
    bench.overtake().await;
    for id in [4, 5] {
        bench.tell(id, QueueName::Signals).await;
        let found = bench.signals(usize::try_from(id).unwrap() + 1).await;
        assert_eq!(found, (1..=id).collect::<Vec<_>>());
    }
    bench.stop(second).await;
    bench.close().await;
}

async fn recorders_that_come_and_go_write_each_signal_once(bench: Bench) {
    let mut recorders = [bench.recorder(), bench.recorder()];
    for id in 0..SIGNALS {
        bench.tell(id, QueueName::Signals).await;
        if id % 3 == 0 {
            // A platform says it again, to a process of an earlier version.
            bench.tell(id, QueueName::Record).await;
        }
        if id % 50 == 49 {
            let old = std::mem::replace(&mut recorders[usize::from(id % 100 == 99)], bench.recorder());
            bench.stop(old).await;
        }
    }
    let found = bench.signals(usize::try_from(SIGNALS).unwrap()).await;
    assert_eq!(BTreeSet::from_iter(found.iter().copied()), (0..SIGNALS).collect());
    assert_eq!(found.len(), usize::try_from(SIGNALS).unwrap(), "each once");
    for recorder in recorders {
        bench.stop(recorder).await;
    }
    bench.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_the_record_queue_reads_signals_embedded() {
    whoever_reads_the_record_queue_reads_signals(Bench::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_the_record_queue_reads_signals_on_servers() {
    whoever_reads_the_record_queue_reads_signals(Bench::on_servers().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorders_that_come_and_go_write_each_signal_once_embedded() {
    recorders_that_come_and_go_write_each_signal_once(Bench::embedded().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorders_that_come_and_go_write_each_signal_once_on_servers() {
    recorders_that_come_and_go_write_each_signal_once(Bench::on_servers().await).await;
}
