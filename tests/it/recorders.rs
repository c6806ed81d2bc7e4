//! Recorders that come, go and meet, on both ledgers: each job ends with one outcome, the right one.

mod signals;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use postrider::channel::call::Followed;
use postrider::domain::event::{Change, Event, Fact, Fate, Outcome, Receipt, Report};
use postrider::domain::ids::{JobId, ProviderId, TenantId};
use postrider::domain::job::{Class, Envelope, Kind, Shared};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::ledger::postgres::Postgres;
use postrider::ledger::sqlite::Sqlite;
use postrider::ledger::{AnyLedger, Ledger};
use postrider::limits::embedded::Embedded as EmbeddedLimits;
use postrider::queue::embedded::{Embedded, Options};
use postrider::queue::frame::Frame;
use postrider::queue::{Queue, QueueName, Route};
use postrider::receipt::{FollowUps, NotFollowed};
use postrider::record::{Record, Settings};
use postrider::seal::Sealer;
use postrider::shutdown::Tasks;
use tokio::sync::watch;
use uuid::Uuid;

use crate::support::{samples, servers};

/// No job here follows from a call.
struct Nobody;

impl FollowUps for Nobody {
    fn submit<'a>(&'a self, _: &'a Followed) -> BoxFuture<'a, Result<(), NotFollowed>> {
        Box::pin(async { Ok(()) })
    }
}

const JOBS: u32 = 400;
/// So small a memory that most of what is merged is read first.
const JOBS_KNOWN: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorders_that_come_and_go_write_each_outcome_once_to_sqlite() {
    let dir = tempfile::tempdir().unwrap();
    recorders_come_and_go(AnyLedger::Sqlite(Sqlite::open(&dir.path().join("ledger.db"), Clock::system()).unwrap()))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorders_that_come_and_go_write_each_outcome_once_to_postgres() {
    let url = servers::postgres().database();
    recorders_come_and_go(AnyLedger::Postgres(Postgres::new(&url, Clock::system()).unwrap())).await;
}

async fn recorders_come_and_go(ledger: AnyLedger) {
    let seed = fastrand::u64(..);
    let mut chance = fastrand::Rng::with_seed(seed);
    let (dir, clock, queue_tasks) = (tempfile::tempdir().unwrap(), Clock::system(), Tasks::new());
    ledger.migrate().await.unwrap();
    let queue = Embedded::open(dir.path(), Options::default(), &queue_tasks, &clock).await.unwrap();
    queue.declare(&[]).await.unwrap();
    let limits = EmbeddedLimits::open(&dir.path().join("limits"), clock.now()).unwrap();
    let sealer = Sealer::ephemeral().unwrap();
    let stories = Stories::new(clock.now(), &mut chance);
    let recorder = || start(&queue, &ledger, &limits, &sealer);
    // Two at once: the queue gives some frames to each, and neither knows of the other.
    let mut recorders = [recorder(), recorder()];
    for (number, frame) in stories.frames.iter().enumerate() {
        let frame = frame.encode(&sealer).unwrap();
        queue.publish(Uuid::new_v4(), frame, Route::To(QueueName::Record)).await.unwrap();
        if number % 25 == 24 {
            let old = std::mem::replace(&mut recorders[number / 25 % 2], recorder());
            assert_eq!(old.finish(&clock, Duration::from_secs(20)).await, 0);
        }
    }
    let all_settled = async {
        while settled(&ledger).await < i64::from(JOBS) || queue.depth(&QueueName::Record).await.unwrap() > 0 {
            clock.pause(Duration::from_millis(50)).await;
        }
    };
    let in_time = clock.timeout(Duration::from_secs(60), all_settled).await;
    for tasks in recorders {
        assert_eq!(tasks.finish(&clock, Duration::from_secs(20)).await, 0);
    }
    for (job, fate) in &stories.fates {
        let history = ledger.job(&tenant(), *job).await.unwrap().unwrap();
        assert!(history.row.is_some(), "seed {seed}");
        let outcomes: Vec<_> = history.events.iter().filter_map(|numbered| numbered.event.change.outcome()).collect();
        assert_eq!(outcomes, [Outcome::new(*fate, "")], "seed {seed}, {job}: {:?}", history.events);
    }
    assert!(in_time.is_ok(), "seed {seed}: the counts never came to {JOBS}");
    assert_eq!(settled(&ledger).await, i64::from(JOBS), "seed {seed}");
    ledger.close().await;
    queue.close().await;
}

/// Starts a recorder; returns its tasks.
fn start<Q: Queue>(queue: &Q, ledger: &AnyLedger, limits: &EmbeddedLimits, sealer: &Sealer) -> Tasks {
    let (tasks, committed, follow_ups) = (Tasks::new(), watch::Sender::new(0), Arc::new(Nobody));
    let settings = Settings { jobs_known: JOBS_KNOWN, ..Settings::default() };
    let (queue, ledger, sealer, limits) = (queue.clone(), ledger.clone(), sealer.clone(), limits.clone());
    let clock = Clock::system();
    Record { queue, limits, follow_ups, ledger, sealer, clock, tasks: tasks.clone(), settings, committed }.spawn();
    tasks
}

/// Returns how many jobs have an outcome, by the counts.
async fn settled(ledger: &AnyLedger) -> i64 {
    let counts = ledger.counts(None, UnixMicros(0), UnixMicros(i64::MAX / 2)).await.unwrap();
    counts.iter().filter(|count| count.fate().is_some()).map(|count| count.jobs).sum()
}

/// What happens to the jobs: texts of one to three segments, sent, and reported in any order, some of it twice.
struct Stories {
    frames: Vec<Frame>,
    fates: BTreeMap<JobId, Fate>,
}

impl Stories {
    fn new(now: UnixMicros, chance: &mut fastrand::Rng) -> Self {
        let batch = JobId::keyed(&tenant(), &chance.u64(..).to_string());
        let id = |number| if number % 2 == 0 { JobId::new(now, chance.u128(..)) } else { batch.item(number) };
        let jobs: Vec<JobId> = (0..JOBS).map(id).collect();
        let mut frames: Vec<_> = jobs.chunks(40).map(|jobs| Frame::Jobs(vec![envelope(now, jobs)])).collect();
        let (mut facts, mut fates) = (Vec::new(), BTreeMap::new());
        for (number, &job) in jobs.iter().enumerate() {
            let fate = if chance.u8(..4) == 0 { Fate::Undelivered } else { Fate::Delivered };
            let ids: Vec<Box<str>> = (0..1 + number % 3).map(|segment| format!("m{number}-{segment}").into()).collect();
            facts.push(sent(job, ids.clone(), now));
            facts.extend(ids.into_iter().map(|id| report(id, fate, now)));
            if chance.bool() {
                facts.push(facts[facts.len() - 1 - chance.usize(..2)].clone());
            }
            fates.insert(job, fate);
        }
        chance.shuffle(&mut facts);
        frames.extend(facts.chunks(9).map(|facts| Frame::Facts(facts.to_vec())));
        Self { frames, fates }
    }
}

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn carrier() -> ProviderId {
    "carrier".parse().unwrap()
}

fn sent(job: JobId, message_ids: Vec<Box<str>>, at: UnixMicros) -> Fact {
    let change = Change::Sent { provider: carrier(), message_ids, receipt_expected: true, cost: None };
    Fact::Event(Event { job, tenant: tenant(), kind: Kind::Sms, class: Class::Marketing, at, attempt: 1, change })
}

fn report(message_id: Box<str>, fate: Fate, at: UnixMicros) -> Fact {
    Fact::Receipt(Receipt {
        provider: carrier(),
        message_id,
        job: None,
        report: Report::Final(fate),
        code: "".into(),
        at,
    })
}

fn envelope(now: UnixMicros, ids: &[JobId]) -> Envelope {
    let shared = Shared { tenant: tenant(), ..samples::shared(Class::Marketing, now) };
    let recipient = Recipient { phone: Some("+15550001111".parse().unwrap()), ..Recipient::default() };
    let job = |id: &JobId| samples::job(*id, recipient.clone());
    Envelope { shared: Arc::new(shared), due_at: now, jobs: ids.iter().map(job).collect() }
}
