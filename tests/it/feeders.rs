//! Feeders that come and go: what one of them was releasing when it ended, the next one of its shard releases once more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use postrider::agenda::{self, Sequence, entry};
use postrider::config::Counting;
use postrider::domain::ids::{JobId, Lane, TenantId};
use postrider::domain::job::{Class, Envelope, Kind, Shared};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::ledger::postgres::Postgres;
use postrider::ledger::{Directory, Entry, Ledger, Shards};
use postrider::limits::embedded::Embedded as EmbeddedLimits;
use postrider::limits::pacer::Pacer;
use postrider::policy::routes::{Member, Routes};
use postrider::queue::depths::Depths;
use postrider::queue::embedded::{Embedded, Options};
use postrider::queue::frame::Frame;
use postrider::queue::outbox::Outbox;
use postrider::queue::{Delivery, Queue, QueueName};
use postrider::seal::Sealer;
use postrider::shutdown::Tasks;
use postrider::telemetry::metrics::AgendaMetrics;
use tempfile::TempDir;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::support::{samples, servers};

/// Long enough for whatever must come, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// Enough that each half of the shards has some.
const TENANTS: u32 = 24;

struct Bench {
    url: String,
    queue: Embedded,
    limits: EmbeddedLimits,
    sealer: Sealer,
    clock: Clock,
    /// What comes into the lane.
    released: mpsc::Receiver<Delivery>,
    /// Looks, and feeds nothing.
    ledger: Postgres,
    _dir: TempDir,
}

struct Feeder {
    ledger: Postgres,
    tasks: Tasks,
}

impl Bench {
    async fn new() -> Self {
        let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::system());
        let url = tokio::task::spawn_blocking(|| servers::postgres().database()).await.unwrap();
        let ledger = Postgres::new(&url, clock.clone()).unwrap();
        ledger.migrate().await.unwrap();
        let queue = Embedded::open(&dir.path().join("queue"), Options::default(), &Tasks::new(), &clock).await.unwrap();
        queue.declare(&[lane()]).await.unwrap();
        let released = queue.consume(QueueName::Lane(lane()), 1_000).await.unwrap();
        let limits = EmbeddedLimits::open(&dir.path().join("limits"), clock.now()).unwrap();
        Self { url, queue, limits, sealer: Sealer::ephemeral().unwrap(), clock, released, ledger, _dir: dir }
    }

    async fn feeder(&self) -> Feeder {
        let tasks = Tasks::new();
        let ledger = Postgres::new(&self.url, self.clock.clone()).unwrap();
        let (queue, sealer, clock) = (self.queue.clone(), self.sealer.clone(), self.clock.clone());
        let member = Member {
            pool: lane().pool,
            kinds: vec![Kind::Sms],
            rate: None,
            price: None,
            counting: Counting::GsmIntl,
            signature: "".into(),
            notices_only: false,
            skills: vec![],
        };
        let context = agenda::Context {
            directory: Directory::default(),
            lives: [Duration::from_secs(3_600); Class::ALL.len()],
            routes: Arc::new(Routes::new(&[member])),
            limits: self.limits.clone(),
            pacer: Pacer::new(self.limits.clone(), clock.clone()),
            depths: Depths::watch(queue.clone(), vec![], clock.clone(), &tasks),
            order: Sequence::by(&clock),
            work: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            checks: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            facts: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            metrics: AgendaMetrics::new(),
            ledger: ledger.clone(),
            tasks: tasks.clone(),
            queue,
            sealer,
            clock,
        };
        agenda::spawn(Arc::new(context)).await.unwrap();
        Feeder { ledger, tasks }
    }

    async fn stop(&self, feeder: Feeder) {
        assert_eq!(feeder.tasks.finish(&self.clock, PATIENCE).await, 0);
        feeder.ledger.close().await;
    }

    /// Puts an entry of one job of each tenant into the agenda, which is due.
    async fn put(&self, releasing_since: Option<UnixMicros>) {
        let entry = |number| {
            let made = entry::jobs(Uuid::new_v4(), (envelope(number), 0), self.clock.now(), &self.sealer).unwrap();
            Entry { releasing_since, ..made }
        };
        let entries: Vec<Entry> = (0..TENANTS).map(entry).collect();
        self.ledger.put_entries(&entries).await.unwrap();
    }

    /// Takes what is released, until there are so many jobs; returns when a copy of each may have been released before, by
    /// the tenant. No tenant has two.
    async fn take(&mut self, most: usize) -> BTreeMap<TenantId, Option<UnixMicros>> {
        let mut taken = BTreeMap::new();
        while taken.len() < most {
            let Ok(delivery) = self.clock.timeout(PATIENCE, self.released.recv()).await else {
                panic!("{} of {most} were released", taken.len())
            };
            let delivery = delivery.unwrap();
            let Frame::Jobs(envelopes) = Frame::decode(&delivery.frame, &self.sealer).unwrap() else { panic!("jobs") };
            for envelope in envelopes {
                let before = taken.insert(envelope.shared.tenant.clone(), envelope.jobs[0].seen);
                assert!(before.is_none() && envelope.jobs.len() == 1, "released twice: {}", envelope.shared.tenant);
            }
            delivery.ack();
        }
        taken
    }

    /// Waits until each feeder has so many shards.
    async fn shared_out(&self, parts: &[i64]) {
        let (client, connection) = tokio_postgres::connect(&self.url, tokio_postgres::NoTls).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(connection);
        let sql = "select count(*) from pg_locks where locktype = 'advisory' and mode = 'ExclusiveLock' and granted \
                   and database = (select oid from pg_database where datname = current_database()) group by pid";
        let shared = async {
            loop {
                let found: Vec<i64> = client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect();
                if found == parts {
                    return;
                }
                self.clock.pause(Duration::from_millis(20)).await;
            }
        };
        self.clock.timeout(PATIENCE, shared).await.expect("the shards are shared out");
    }
}

fn lane() -> Lane {
    Lane { class: Class::Marketing, pool: "default".parse().unwrap() }
}

fn envelope(tenant: u32) -> Envelope {
    let now = Clock::system().now();
    let tenant = format!("tenant-{tenant}").parse().unwrap();
    let shared = Shared { tenant, ..samples::shared(lane().class, now) };
    let recipient = Recipient { phone: Some("+15550001111".parse().unwrap()), ..Recipient::default() };
    let job = samples::job(JobId(Uuid::new_v4()), recipient);
    Envelope { shared: Arc::new(shared), due_at: now, jobs: vec![job] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_feeder_was_releasing_when_it_ended_is_released_once_by_whoever_gets_its_shard() {
    let mut bench = Bench::new().await;
    let one = bench.feeder().await;
    bench.shared_out(&[16]).await;
    let other = bench.feeder().await;
    bench.shared_out(&[8, 8]).await;
    // Both have begun with what they lead now.
    bench.put(None).await;
    let all = usize::try_from(TENANTS).unwrap();
    assert!(bench.take(all).await.values().all(Option::is_none));
    // As far as a feeder gets that dies before what it releases is durable.
    let since = bench.clock.now();
    bench.put(Some(since)).await;
    bench.stop(other).await;
    bench.shared_out(&[16]).await;
    // Its own are in its hands still: only those of the other are taken back.
    let left = async {
        loop {
            let left = bench.ledger.left_releasing(Shards::ALL, 1_000).await.unwrap();
            if left.len() < all {
                return left;
            }
            bench.clock.pause(Duration::from_millis(20)).await;
        }
    };
    let left = bench.clock.timeout(PATIENCE, left).await.expect("what the other left is taken back");
    assert!(!left.is_empty(), "{left:?}");
    let mut released = bench.take(all - left.len()).await;
    bench.stop(one).await;
    // Whoever comes next takes the rest.
    let last = bench.feeder().await;
    released.extend(bench.take(left.len()).await);
    assert!(released.len() == all && released.values().all(|seen| *seen == Some(since)), "{released:?}");
    let empty = async {
        while bench.ledger.agenda_depth().await.unwrap().entries > 0 {
            bench.clock.pause(Duration::from_millis(20)).await;
        }
    };
    bench.clock.timeout(PATIENCE, empty).await.expect("each entry ends");
    assert!(bench.released.try_recv().is_err(), "one was released twice");
    bench.stop(last).await;
    bench.ledger.close().await;
    bench.queue.close().await;
}
