//! Answers that come after their frame was let go.

use std::sync::Mutex;

use bytes::Bytes;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::channel::Answer;
use crate::channel::Channel;
use crate::dispatch::gate::{Gate, Wish};
use crate::dispatch::hand::ground;
use crate::dispatch::tests::{START, provider};
use crate::domain::event::{Event, Fact, State};
use crate::domain::ids::{JobId, Lane};
use crate::domain::job::{Class, Envelope, Job, Kind, samples};
use crate::domain::recipient::Recipient;
use crate::domain::time::Clock;
use crate::leave::Asking;
use crate::ledger::sqlite::Sqlite;
use crate::ledger::{Directory, Templates};
use crate::limits::embedded::Embedded;
use crate::limits::pacer::Pacer;
use crate::queue::frame::Frame;
use crate::queue::outbox::Outbox;
use crate::queue::{Delivery, PublishError, QueueError, QueueName, Route};
use crate::receipt::Senders;
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::DispatchMetrics;

/// A queue that notes what comes into it.
#[derive(Clone, Default)]
struct Noting(Arc<Mutex<Noted>>);

#[derive(Default)]
struct Noted {
    taken: Vec<(QueueName, Bytes)>,
    /// These take nothing.
    shut: Vec<QueueName>,
    refused: usize,
}

impl Queue for Noting {
    async fn declare(&self, _: &[Lane]) -> Result<(), QueueError> {
        Ok(())
    }

    async fn publish(&self, _: Uuid, frame: Bytes, route: Route) -> Result<(), PublishError> {
        let (Route::To(to) | Route::Accept(to)) = route;
        let mut noted = self.0.lock().unwrap();
        if noted.shut.contains(&to) {
            noted.refused += 1;
            return Err(PublishError::Full);
        }
        noted.taken.push((to, frame));
        Ok(())
    }

    async fn consume(&self, _: QueueName, _: u16) -> Result<mpsc::Receiver<Delivery>, QueueError> {
        Ok(mpsc::channel(1).1)
    }

    async fn depth(&self, _: &QueueName) -> Result<u64, QueueError> {
        Ok(0)
    }

    async fn close(&self) {}
}

struct Rig {
    context: Arc<Context<Noting, Embedded, Sqlite>>,
    gate: Arc<Gate<Embedded>>,
    _dir: TempDir,
}

impl Rig {
    fn new() -> Self {
        let (dir, clock, tasks) = (tempfile::tempdir().unwrap(), Clock::virtual_at(START), Tasks::new());
        let (queue, sealer) = (Noting::default(), Sealer::ephemeral().unwrap());
        let limits = Embedded::open(&dir.path().join("limits"), START).unwrap();
        let pacer = Pacer::new(limits.clone(), clock.clone());
        let gate = Arc::new(Gate::new(vec![provider(None)], pacer.clone(), clock.clone()));
        let context = Context {
            ledger: Sqlite::open(&dir.path().join("ledger.db"), clock.clone()).unwrap(),
            directory: Directory::default(),
            templates: Templates::new(sealer.clone()),
            extensions: Arc::default(),
            windows: Arc::default(),
            lives: [Duration::from_secs(3600); Class::ALL.len()],
            gates: [("default".parse().unwrap(), Arc::clone(&gate))].into_iter().collect(),
            facts: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            work: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            checks: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            senders: Senders::new(),
            ringing: Default::default(),
            metrics: Arc::new(DispatchMetrics::new()),
            queue,
            limits,
            sealer,
            clock,
            tasks,
            pacer,
        };
        Self { context: Arc::new(context), gate, _dir: dir }
    }

    /// Returns so many jobs that were handed over and not answered in time, and who may still answer.
    async fn late(&self, class: Class, jobs: usize) -> (Late, mpsc::UnboundedSender<Answered>) {
        let (context, shared) = (&self.context, Arc::new(samples::shared(class, START)));
        let costs = |_: &dyn Channel| vec![1; jobs];
        let wish = Wish { tenant: &shared.tenant, class, kind: Kind::Sms, avoid: &[], costs: &costs };
        let permit = self.gate.acquire(wish, Duration::from_secs(5)).await.unwrap();
        let claimed = |number: usize| {
            let phone = Some(format!("+1555{number:07}").parse().unwrap());
            let recipient = Recipient { phone, ..Recipient::default() };
            let job = samples::job(JobId::new(START, number as u128 + 1), recipient);
            let item = Item::new(Arc::clone(&shared), job, START, ground(context, &shared, None), None);
            let asking = Asking { now: START, deadline: START, units: 1 };
            let claim = item.ground.claim(&item.shared, &item.job, asking, &context.sealer).unwrap();
            Some(Claimed { give_back: claim.give_back(), item, units: 1, consent: None })
        };
        let (answer, answers) = mpsc::unbounded_channel();
        let watch = context.clock.stopwatch();
        (Late { answers, open: (0..jobs).map(claimed).collect(), permit, watch }, answer)
    }

    fn noted<T>(&self, of: impl FnOnce(&mut Noted) -> T) -> T {
        of(&mut self.context.queue.0.lock().unwrap())
    }

    /// Returns what was taken so far, by queue.
    fn taken(&self) -> Vec<(QueueName, Frame)> {
        let decoded =
            |(to, frame): &(QueueName, Bytes)| (to.clone(), Frame::decode(frame, &self.context.sealer).unwrap());
        self.noted(|noted| noted.taken.iter().map(decoded).collect())
    }

    async fn until(&self, holds: impl Fn(&Noted) -> bool) {
        let watch = self.context.clock.stopwatch();
        while !self.noted(|noted| holds(noted)) {
            assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", self.taken());
            self.context.clock.pause(Duration::from_millis(5)).await;
        }
    }
}

fn taken_by_provider() -> Answer {
    Answer::Taken { message_ids: vec!["a".into()], segments: 1, receipt_expected: true }
}

#[tokio::test]
async fn what_a_late_answer_says_is_published_before_the_next_one_comes() {
    let rig = Rig::new();
    let (late, answers) = rig.late(Class::Marketing, 2).await;
    let answering = async {
        answers.send((0, taken_by_provider())).unwrap();
        rig.until(|noted| noted.taken.len() == 1).await;
        answers.send((1, taken_by_provider())).unwrap();
    };
    tokio::join!(late.finish(&rig.context), answering);
    let taken = rig.taken();
    assert!(taken.iter().all(|(to, frame)| *to == QueueName::Record && matches!(frame, Frame::Facts(_))), "{taken:?}");
    assert_eq!(taken.len(), 2);
}

#[tokio::test]
async fn a_late_throttle_is_told_once_the_next_attempt_is_durable() {
    let rig = Rig::new();
    let (late, answers) = rig.late(Class::Marketing, 1).await;
    rig.noted(|noted| noted.shut.push(QueueName::Soon));
    let answering = async {
        answers.send((0, Answer::Throttled { retry_after: None })).unwrap();
        rig.until(|noted| noted.refused >= 2).await;
        assert_eq!(rig.taken(), [], "its check still asks what became of it");
        rig.noted(|noted| noted.shut.clear());
    };
    tokio::join!(late.finish(&rig.context), answering);
    let taken = rig.taken();
    let [(QueueName::Soon, Frame::Jobs(work)), (QueueName::Record, Frame::Facts(facts))] = &taken[..] else {
        panic!("{taken:?}")
    };
    let [Envelope { jobs, due_at, .. }] = &work[..] else { panic!("{work:?}") };
    let [Job { attempt: 1, supersedes: 1, seen: None, .. }] = jobs[..] else { panic!("{jobs:?}") };
    assert_eq!(*due_at, START.plus(AGAIN_AFTER));
    let [Fact::Event(Event { attempt: 1, change: Change::Progress(State::Scheduled), .. })] = facts[..] else {
        panic!("{facts:?}")
    };
}

#[tokio::test]
async fn what_goes_out_at_least_once_is_repeated_by_its_check_alone() {
    let rig = Rig::new();
    let (late, answers) = rig.late(Class::Otp, 1).await;
    answers.send((0, Answer::Throttled { retry_after: None })).unwrap();
    late.finish(&rig.context).await;
    assert_eq!(rig.taken(), []);
}
