//! Record against a ledger and a queue: every fact once, whatever fails between.

mod calls;
mod chains;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use fastrand::Rng;
use futures_util::future::{BoxFuture, FutureExt as _};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use uuid::Uuid;

use super::intake::{Work, open};
use super::*;
use crate::channel::call;
use crate::channel::call::runner::FollowUp;
use crate::domain::event::{Change, Event, Fact, Fate, Outcome, Receipt, Reply, Report, State};
use crate::domain::ids::{JobId, Lane};
use crate::domain::job::{Check, Class, Content, Envelope, Job, Kind, Shared, samples};
use crate::domain::recipient::Recipient;
use crate::domain::signal::{Signal, Told};
use crate::domain::time::UnixMicros;
use crate::ledger::sqlite::Sqlite;
use crate::ledger::{History, Shards, Tag};
use crate::limits::embedded::Embedded as EmbeddedLimits;
use crate::queue::embedded::{Embedded, Options};
use crate::queue::frame::{Frame, Heard, open_heard};
use crate::queue::{Delivery, QueueName, Route, Settled};
use crate::receipt::NotFollowed;

const START: UnixMicros = UnixMicros::from_secs(1_000_000);

/// A real ledger and a real queue in a directory of their own, on a virtual clock.
struct Rig {
    queue: Embedded,
    limits: EmbeddedLimits,
    ledger: Sqlite,
    sealer: Sealer,
    clock: Clock,
    tasks: Tasks,
    follow_ups: Arc<Followed>,
    _dir: TempDir,
}

type Recorder = Writer<Embedded, Sqlite, EmbeddedLimits>;

/// Takes the jobs that follow calls, after it was asked so often in vain.
#[derive(Default)]
struct Followed {
    in_vain: AtomicU32,
    taken: Mutex<Vec<FollowUp>>,
}

impl FollowUps for Followed {
    fn submit<'a>(&'a self, followed: &'a call::Followed) -> BoxFuture<'a, Result<(), NotFollowed>> {
        let less = |left: u32| left.checked_sub(1);
        let refuses = self.in_vain.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok();
        Box::pin(async move {
            if refuses {
                return Err(NotFollowed::NotNow("the broker is away".into()));
            }
            self.taken.lock().unwrap().push(followed.follow_up.clone());
            Ok(())
        })
    }
}

impl Rig {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, tasks) = (Clock::virtual_at(START), Tasks::new());
        let ledger = Sqlite::open(&dir.path().join("ledger.db"), clock.clone()).unwrap();
        ledger.migrate().await.unwrap();
        let queue = Embedded::open(&dir.path().join("queue"), Options::default(), &tasks, &clock).await.unwrap();
        let limits = EmbeddedLimits::open(&dir.path().join("limits"), START).unwrap();
        Self {
            queue,
            limits,
            ledger,
            sealer: Sealer::ephemeral().unwrap(),
            clock,
            tasks,
            follow_ups: Arc::default(),
            _dir: dir,
        }
    }

    /// Returns a writer that remembers about `jobs_known` jobs, and who hears what it commits.
    fn writer(&self, jobs_known: usize) -> Recorder {
        self.writer_with(jobs_known, self.limits.clone())
    }

    /// The same, with other limits.
    fn writer_with<M: Limits>(&self, jobs_known: usize, limits: M) -> Writer<Embedded, Sqlite, M> {
        Writer {
            queue: self.queue.clone(),
            limits,
            follow_ups: Arc::clone(&self.follow_ups) as Arc<dyn FollowUps>,
            ledger: self.ledger.clone(),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            stop: self.tasks.stop().clone(),
            settings: Settings { jobs_known, ..Settings::default() },
            committed: watch::Sender::new(0),
            meters: Meters::new(),
            merger: Merger::new(0, jobs_known),
            current: Arc::new(AtomicBool::new(false)),
            reading: Reading::default(),
        }
    }

    fn frame(&self, frame: Frame) -> (Uuid, Bytes) {
        (Uuid::new_v4(), frame.encode(&self.sealer).unwrap())
    }

    async fn history(&self, job: JobId) -> History {
        self.ledger.job(&"acme".parse().unwrap(), job).await.unwrap().unwrap()
    }

    async fn outcomes(&self, job: JobId) -> Vec<Outcome> {
        let history = self.history(job).await;
        assert!(history.row.is_some());
        history.events.iter().filter_map(|numbered| numbered.event.change.outcome()).collect()
    }

    /// Starts a whole recorder, and waits until it has written up to `last`.
    async fn recorded(&self, settings: Settings, last: i64) -> watch::Receiver<i64> {
        let (committed, mut seen) = watch::channel(0);
        let (queue, ledger, sealer) = (self.queue.clone(), self.ledger.clone(), self.sealer.clone());
        let limits = self.limits.clone();
        let (clock, tasks) = (self.clock.clone(), self.tasks.clone());
        let follow_ups = Arc::clone(&self.follow_ups) as Arc<dyn FollowUps>;
        Record { queue, limits, follow_ups, ledger, sealer, clock, tasks, settings, committed }.spawn();
        seen.wait_for(|seen| *seen >= last).await.unwrap();
        seen
    }
}

fn delivered(frame: &(Uuid, Bytes), count: u32, sealer: &Sealer) -> (Work, UnboundedReceiver<Settled>) {
    let (told, settled) = mpsc::unbounded_channel();
    let delivery = Delivery::new(frame.0, frame.1.clone(), count, 1, told);
    (Work { body: Some(open(&frame.1, sealer)), from: QueueName::Record, delivery }, settled)
}

fn envelope(class: Class, ids: &[JobId]) -> Envelope {
    let phone = |number: usize| Some(format!("+1555{number:07}").parse().unwrap());
    let job =
        |(number, id): (usize, &JobId)| samples::job(*id, Recipient { phone: phone(number), ..Recipient::default() });
    let shared = Arc::new(samples::shared(class, START));
    Envelope { shared, due_at: START, jobs: ids.iter().enumerate().map(job).collect() }
}

fn event(job: JobId, attempt: u16, change: Change) -> Fact {
    let (tenant, class) = ("acme".parse().unwrap(), Class::Marketing);
    Fact::Event(Event { job, tenant, kind: Kind::Sms, class, at: START, attempt, change })
}

fn sent(job: JobId, message_ids: &[String]) -> Fact {
    let message_ids = message_ids.iter().map(|id| id.as_str().into()).collect();
    event(
        job,
        1,
        Change::Sent { provider: "carrier".parse().unwrap(), message_ids, receipt_expected: true, cost: None },
    )
}

fn report(message_id: &str, fate: Fate) -> Fact {
    let (provider, report) = ("carrier".parse().unwrap(), Report::Final(fate));
    Fact::Receipt(Receipt { provider, message_id: message_id.into(), job: None, report, code: "".into(), at: START })
}

fn signal(id: u128) -> Box<Signal> {
    let (provider, told, recipient) = ("shoes".parse().unwrap(), Told::Subscribed, Recipient::default());
    let (id, tenant, details) = (Uuid::from_u128(id), "acme".parse().unwrap(), vec![("scene".into(), "3".into())]);
    Box::new(Signal { id, provider, tenant, told, recipient, to: "wx1".into(), details, at: START })
}

/// The frames of many jobs with what becomes of each: in an order that a real queue could have, with doubles.
fn stories(rig: &Rig, jobs: &[JobId], chance: &mut Rng) -> (VecDeque<(Uuid, Bytes)>, BTreeMap<JobId, Fate>) {
    let mut facts = Vec::new();
    let mut fates = BTreeMap::new();
    for (number, &job) in jobs.iter().enumerate() {
        let fate = if chance.u8(..4) == 0 { Fate::Undelivered } else { Fate::Delivered };
        let ids: Vec<_> = (0..1 + number % 3).map(|segment| format!("m{number}-{segment}")).collect();
        let mut story = vec![sent(job, &ids)];
        story.extend(ids.iter().map(|id| report(id, fate)));
        if chance.bool() {
            story.push(story[chance.usize(..story.len())].clone());
        }
        facts.extend(story);
        fates.insert(job, fate);
    }
    chance.shuffle(&mut facts);
    let mut frames: VecDeque<_> = facts.chunks(7).map(|facts| rig.frame(Frame::Facts(facts.to_vec()))).collect();
    let accepted = jobs.chunks(16).map(|jobs| rig.frame(Frame::Jobs(vec![envelope(Class::Marketing, jobs)])));
    accepted.collect::<Vec<_>>().into_iter().rev().for_each(|frame| frames.push_front(frame));
    (frames, fates)
}

/// Ids as they are drawn, and as a key gives them: those are looked up.
fn ids(count: u32, chance: &mut Rng) -> Vec<JobId> {
    let batch = JobId(Uuid::from_u128(chance.u128(..)));
    let id = |number| if number % 2 == 0 { JobId::new(START, chance.u128(..)) } else { batch.item(number) };
    (0..count).map(id).collect()
}

#[tokio::test]
async fn crashes_doubles_and_forgetting_leave_one_outcome_each() {
    for seed in 0..12 {
        let (rig, mut chance) = (Rig::new().await, Rng::with_seed(seed));
        let jobs = ids(48, &mut chance);
        let (mut frames, fates) = stories(&rig, &jobs, &mut chance);
        // So small a memory that nearly everything is read again.
        let mut writer = rig.writer(8);
        while !frames.is_empty() {
            let size = chance.usize(1..6).min(frames.len());
            let taken: Vec<_> = frames.drain(..size).collect();
            let deliver = |count| taken.iter().map(|frame| delivered(frame, count, &rig.sealer)).unzip();
            let (mut batch, mut settled): (Vec<Work>, Vec<UnboundedReceiver<Settled>>) = deliver(1);
            match chance.u8(..4) {
                // Killed before the commit.
                0 => writer = rig.writer(8),
                // Killed between the commit and the acknowledgement.
                1 => {
                    writer.try_write(&mut batch).await.unwrap();
                    writer = rig.writer(8);
                }
                _ => {}
            }
            if !batch.is_empty() || chance.bool() {
                let count = if batch.is_empty() { 2 } else { 1 };
                (batch, settled) = deliver(count);
            }
            writer.try_write(&mut batch).await.unwrap();
            assert!(batch.is_empty());
            assert!(settled.iter_mut().all(|settled| settled.try_recv() == Ok(Settled::Acked(1))));
        }
        for (job, fate) in fates {
            assert_eq!(rig.outcomes(job).await, [Outcome::new(fate, "")], "seed {seed}");
        }
        let (events, last) = rig.ledger.events(None, 0, 10_000).await.unwrap();
        assert!(events.is_sorted_by(|before, after| before.seq < after.seq), "seed {seed}");
        assert!(events.last().is_some_and(|numbered| numbered.seq <= last), "seed {seed}");
        let counts = rig.ledger.counts(None, UnixMicros(0), UnixMicros::MAX).await.unwrap();
        let sum =
            |fates: bool| counts.iter().filter(move |count| count.fate().is_some() == fates).map(|count| count.jobs);
        assert_eq!(sum(true).sum::<i64>(), 48, "seed {seed}");
        assert_eq!(sum(false).sum::<i64>(), 96, "seed {seed}: accepted and sent");
    }
}

#[tokio::test]
async fn of_two_recorders_only_the_one_that_has_seen_everything_writes() {
    let (rig, mut chance) = (Rig::new().await, Rng::with_seed(1));
    let job = ids(1, &mut chance)[0];
    let segments = ["a".to_owned(), "b".to_owned()];
    let mut none = Batches::new(mpsc::channel(1).1, mpsc::channel(1).1);
    let (mut one, mut other) = (rig.writer(100), rig.writer(100));
    let accepted = rig.frame(Frame::Jobs(vec![envelope(Class::Marketing, &[job])]));
    let parts = [sent(job, &segments), report("a", Fate::Delivered), report("b", Fate::Delivered)];
    let mut frames = vec![accepted];
    frames.extend(parts.into_iter().map(|fact| rig.frame(Frame::Facts(vec![fact]))));
    // The broker gives each frame to the other one, and each still believes what it saw last.
    for (turn, frame) in frames.iter().enumerate() {
        let writer = if turn % 2 == 0 { &mut one } else { &mut other };
        let batch = vec![delivered(frame, 1, &rig.sealer).0];
        assert!(matches!(writer.write(batch, &mut none).await, writer::Written::Whole));
    }
    // The first frame comes once more, under the same id, as if it were new.
    let batch = vec![delivered(&frames[1], 1, &rig.sealer).0];
    assert!(matches!(one.write(batch, &mut none).await, writer::Written::Whole));
    assert_eq!(rig.outcomes(job).await, [Outcome::new(Fate::Delivered, "")]);
    assert_eq!(rig.ledger.last_seq().await.unwrap().0, 3, "two events, and a segment that moved the fence");
}

#[tokio::test]
async fn a_recorder_that_was_overtaken_gives_signals_back_and_writes_the_rest() {
    let rig = Rig::new().await;
    let told = |id, from| {
        let frame = rig.frame(Frame::Facts(vec![Fact::Signal(signal(id))]));
        let (work, settled) = delivered(&frame, 1, &rig.sealer);
        (vec![Work { from, ..work }], settled)
    };
    let writes = async |mut writer: Recorder, id| {
        writer.try_write(&mut told(id, QueueName::Record).0).await.unwrap();
        writer
    };
    let mut one = rig.writer(100);
    let (signals, from_signals) = mpsc::channel(1);
    let mut batches = Batches::new(from_signals, mpsc::channel(1).1);
    // Whatever it has in hand when it finds out: a signal waits behind it.
    for (id, from, expected) in
        [(10, QueueName::Signals, Settled::Requeued(1)), (20, QueueName::Record, Settled::Acked(1))]
    {
        one = writes(one, id).await;
        writes(rig.writer(100), id + 1).await;
        one.reading.begins();
        let ((in_hand, mut of_hand), (waits, mut of_waiting)) = (told(id + 2, from), told(id + 3, QueueName::Signals));
        signals.try_send(waits).unwrap();
        assert!(matches!(one.write(in_hand, &mut batches).await, writer::Written::Whole));
        assert_eq!((of_hand.try_recv(), of_waiting.try_recv()), (Ok(expected), Ok(Settled::Requeued(1))));
        assert!(one.reading.until(false).now_or_never().is_some(), "it is another who reads them");
    }
    let kept = rig.ledger.replies(&"acme".parse().unwrap(), 0, 10).await.unwrap();
    let kept: Vec<_> = kept.iter().map(|reply| reply.signal.unwrap().as_u128()).collect();
    assert_eq!(kept, [10, 11, 20, 21, 22]);
}

#[tokio::test]
async fn an_unanswered_password_goes_out_again_before_its_check_is_acknowledged() {
    let (rig, mut chance) = (Rig::new().await, Rng::with_seed(2));
    let lane = Lane { class: Class::Otp, pool: "default".parse().unwrap() };
    rig.queue.declare(std::slice::from_ref(&lane)).await.unwrap();
    let job = ids(1, &mut chance)[0];
    let otp = envelope(Class::Otp, &[job]);
    let accepted = rig.frame(Frame::Jobs(vec![otp.clone()]));
    let check = Check { envelope: otp, attempt: 1, provider: None, due_at: START, ends_call: false };
    let check = rig.frame(Frame::Checks(vec![check]));
    // Killed after the publish: the commit fails once, then the check is decided anew.
    let mut writer = rig.writer(100);
    let mut batch = [&accepted, &check].map(|frame| delivered(frame, 1, &rig.sealer).0).into();
    writer.try_write(&mut batch).await.unwrap();
    let mut again = vec![delivered(&check, 2, &rig.sealer).0];
    rig.writer(100).try_write(&mut again).await.unwrap();
    assert!(again.is_empty());

    let mut lane = rig.queue.consume(QueueName::Lane(lane), 10).await.unwrap();
    let resent = lane.recv().await.unwrap();
    let Frame::Jobs(envelopes) = Frame::decode(&resent.frame, &rig.sealer).unwrap() else { panic!("jobs") };
    let [Job { id, attempt: 1, supersedes: 1, seen: Some(START), .. }] = envelopes[0].jobs[..] else { panic!() };
    assert_eq!(id, job);
    assert!(lane.try_recv().is_err());
    assert_eq!(rig.history(job).await.events[0].event.change, Change::Unresolved { provider: None });
}

#[tokio::test]
async fn a_lane_that_takes_nothing_leaves_a_resend_to_the_agenda() {
    let (rig, mut chance) = (Rig::new().await, Rng::with_seed(3));
    let job = ids(1, &mut chance)[0];
    let check =
        Check { envelope: envelope(Class::Otp, &[job]), attempt: 1, provider: None, due_at: START, ends_call: false };
    let mut batch = vec![delivered(&rig.frame(Frame::Checks(vec![check])), 1, &rig.sealer).0];
    rig.writer(100).try_write(&mut batch).await.unwrap();
    let groups =
        rig.ledger.agenda_groups(Shards::ALL).await.unwrap().into_iter().map(|group| (group, 10)).collect::<Vec<_>>();
    let entries = rig.ledger.due_entries(&groups, START).await.unwrap();
    assert_eq!(entries.iter().map(|entry| (&entry.tag, entry.jobs)).collect::<Vec<_>>(), [(&Tag::Send, 1)]);
}

#[tokio::test]
async fn what_nobody_can_read_is_put_aside_and_the_rest_is_written() {
    let (rig, mut chance) = (Rig::new().await, Rng::with_seed(4));
    rig.queue.declare(&[]).await.unwrap();
    let job = ids(1, &mut chance)[0];
    let accepted = rig.frame(Frame::Jobs(vec![envelope(Class::Marketing, &[job])]));
    let mut damaged = rig.frame(Frame::Facts(vec![report("a", Fate::Delivered)]));
    damaged.1 = damaged.1.slice(..damaged.1.len() - 1);
    let mut batch = [&damaged, &accepted].map(|frame| delivered(frame, 1, &rig.sealer).0).into();
    rig.writer(100).try_write(&mut batch).await.unwrap();
    assert!(rig.history(job).await.row.is_some());
    let mut dead = rig.queue.consume(QueueName::Dead, 1).await.unwrap();
    assert_eq!(dead.recv().await.unwrap().id, damaged.0);
}

#[tokio::test]
async fn a_reply_finds_the_job_it_answers() {
    let (rig, mut chance) = (Rig::new().await, Rng::with_seed(5));
    let jobs = ids(2, &mut chance);
    let accepted = rig.frame(Frame::Jobs(vec![envelope(Class::Marketing, &jobs)]));
    let reply = |from: &str| {
        let (provider, to, text) = ("carrier".parse().unwrap(), "10690".into(), "thanks".into());
        let from = from.into();
        Fact::Reply(Reply { provider, from, to, text, tenant: None, in_reply_to: None, at: START })
    };
    let mut writer = rig.writer(100);
    // Once from the ledger, once from the batch itself, once from nobody known.
    let early = rig.frame(Frame::Facts(vec![reply("+15550000001")]));
    let late = rig.frame(Frame::Facts(vec![reply("+15550000000"), reply("+15559999999")]));
    for frames in [vec![&accepted, &early], vec![&late]] {
        let mut batch = frames.into_iter().map(|frame| delivered(frame, 1, &rig.sealer).0).collect();
        writer.try_write(&mut batch).await.unwrap();
    }
    let replies = rig.ledger.replies(&"acme".parse().unwrap(), 0, 10).await.unwrap();
    let found: Vec<_> = replies.iter().map(|reply| (reply.seq, reply.in_reply_to)).collect();
    assert_eq!(found, [(1, Some(jobs[1])), (2, Some(jobs[0]))]);
    let Heard::Reply(reply) = open_heard(&replies[0].sealed, &rig.sealer).unwrap() else { panic!("a reply") };
    assert_eq!(&*reply.text, "thanks");
}

#[tokio::test]
async fn a_signal_is_kept_once_however_often_it_is_told() {
    let (rig, tenant) = (Rig::new().await, "acme".parse().unwrap());
    // Twice in a frame, in another frame of the batch, and after the process that took it is gone; from a queue of their
    // own, and from the one into which earlier versions put them.
    let facts = |ids: &[u128]| rig.frame(Frame::Facts(ids.iter().map(|&id| Fact::Signal(signal(id))).collect()));
    let (first, second, later) = (facts(&[1, 1, 2]), facts(&[2, 3]), facts(&[3, 1, 4]));
    for (mut writer, frames) in [(rig.writer(100), vec![&first, &second]), (rig.writer(100), vec![&later])] {
        let mut batch: Vec<_> = frames.into_iter().map(|frame| delivered(frame, 1, &rig.sealer).0).collect();
        batch.last_mut().unwrap().from = QueueName::Signals;
        writer.try_write(&mut batch).await.unwrap();
    }
    let found: Vec<_> = rig.ledger.replies(&tenant, 0, 10).await.unwrap();
    let kept: Vec<_> = found.iter().map(|reply| (reply.seq, reply.signal.unwrap().as_u128())).collect();
    assert_eq!(kept, [(1, 1), (2, 2), (3, 3), (4, 4)]);
    assert_eq!(open_heard(&found[3].sealed, &rig.sealer), Ok(Heard::Signal(signal(4))));
}

#[tokio::test]
async fn a_receipt_that_never_comes_leaves_the_outcome_unknown() {
    let (rig, mut chance) = (Rig::new().await, Rng::with_seed(6));
    let lane = Lane { class: Class::Marketing, pool: "default".parse().unwrap() };
    rig.queue.declare(std::slice::from_ref(&lane)).await.unwrap();
    let jobs = ids(3, &mut chance);
    let (id, frame) = rig.frame(Frame::Jobs(vec![envelope(Class::Marketing, &jobs)]));
    rig.queue.publish(id, frame, Route::Accept(QueueName::Lane(lane))).await.unwrap();
    let facts = jobs.iter().enumerate().map(|(number, job)| sent(*job, &[format!("m{number}")]));
    let (id, frame) = rig.frame(Frame::Facts(facts.chain([report("m1", Fate::Delivered)]).collect()));
    rig.queue.publish(id, frame, Route::To(QueueName::Record)).await.unwrap();

    let settings = Settings { receipt_deadline: Duration::from_secs(60), ..Settings::default() };
    let mut seen = rig.recorded(settings, 4).await;
    rig.clock.advance(Duration::from_secs(59));
    assert_eq!(rig.outcomes(jobs[0]).await, []);
    // The sweep looks every three seconds, and on its first look may find that it has to catch up.
    for _ in 0..10 {
        rig.clock.advance(Duration::from_secs(3));
        rig.clock.pause(Duration::from_millis(20)).await;
    }
    seen.wait_for(|seen| *seen >= 6).await.unwrap();
    for (job, fate) in [(0, Fate::Unknown), (1, Fate::Delivered), (2, Fate::Unknown)] {
        let fates: Vec<_> = rig.outcomes(jobs[job]).await.iter().map(|outcome| outcome.fate).collect();
        assert_eq!(fates, [fate]);
    }
    assert_eq!(rig.ledger.last_seq().await.unwrap(), (6, 4));
    assert_eq!(rig.queue.depth(&QueueName::Record).await.unwrap(), 0);
    let _left = rig.tasks.finish(&Clock::system(), Duration::from_secs(5)).await;
}

#[tokio::test]
async fn a_job_of_which_nothing_was_heard_is_released_again_once_nothing_may_hold_it() {
    let (rig, mut chance) = (Rig::new().await, Rng::with_seed(7));
    let lane = Lane { class: Class::Marketing, pool: "default".parse().unwrap() };
    rig.queue.declare(std::slice::from_ref(&lane)).await.unwrap();
    let jobs = ids(3, &mut chance);
    // One was sent, one is in the lane behind another, of one the frame is lost.
    let accepted = rig.frame(Frame::Jobs(vec![envelope(Class::Marketing, &jobs)]));
    let known = rig.frame(Frame::Facts(vec![sent(jobs[0], &["m0".into()])]));
    let mut batch = [&accepted, &known].map(|frame| delivered(frame, 1, &rig.sealer).0).into();
    rig.writer(100).try_write(&mut batch).await.unwrap();
    let (_, frame) = rig.frame(Frame::Jobs(vec![envelope(Class::Marketing, &jobs[1..2])]));
    rig.queue.publish(Uuid::new_v4(), frame, Route::To(QueueName::Lane(lane.clone()))).await.unwrap();

    let strays = Strays {
        queue: rig.queue.clone(),
        ledger: rig.ledger.clone(),
        sealer: rig.sealer.clone(),
        clock: rig.clock.clone(),
        stop: rig.tasks.stop().clone(),
        after: Duration::from_secs(600),
        current: Arc::new(AtomicBool::new(true)),
    };
    let (from, to) = (START.minus(Duration::from_secs(60)), START.plus(Duration::from_secs(60)));
    let waiting = strays.look(from, to).await.unwrap();
    assert_eq!(waiting, (START, 0), "what is not heard of may wait in the lane");

    let mut consumer = rig.queue.consume(QueueName::Lane(lane), 10).await.unwrap();
    let held = consumer.recv().await.unwrap();
    assert_eq!(strays.look(from, to).await.unwrap(), (to, 2));
    held.ack();
    let mut released = Vec::new();
    for _ in 0..2 {
        let delivery = consumer.recv().await.unwrap();
        let Frame::Jobs(envelopes) = Frame::decode(&delivery.frame, &rig.sealer).unwrap() else { panic!("jobs") };
        // A copy may be in somebody's hand, and that one may have been claimed: it meets the claim.
        assert_eq!(envelopes[0].jobs[0].seen, Some(START));
        released.push(envelopes[0].jobs[0].id);
        delivery.ack();
    }
    released.sort_unstable();
    let mut expected = jobs[1..].to_vec();
    expected.sort_unstable();
    assert_eq!(released, expected);
}
