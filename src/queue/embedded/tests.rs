//! What the disk sees: reopening, torn tails, counts, room. What every backend keeps is in the contract suite.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn options() -> Options {
    Options { segment_bytes: 4 * 1024, cache_bytes: 1024, ..Options::default() }
}

async fn open(dir: &Path, options: Options) -> Embedded {
    let queue = Embedded::open(dir, options, &Tasks::new(), &Clock::system()).await.unwrap();
    queue.declare(&[lane()]).await.unwrap();
    queue
}

fn lane() -> Lane {
    Lane { class: crate::domain::job::Class::Otp, pool: "main".parse().unwrap() }
}

fn work() -> QueueName {
    QueueName::Lane(lane())
}

fn id(number: u32) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

fn frame(number: u32) -> Bytes {
    Bytes::from(format!("frame {number} ").repeat(10))
}

async fn accept(queue: &Embedded, numbers: std::ops::Range<u32>) {
    for number in numbers {
        queue.publish(id(number), frame(number), Route::Accept(work())).await.unwrap();
    }
}

async fn next(from: &mut mpsc::Receiver<Delivery>) -> Delivery {
    Clock::system().timeout(Duration::from_secs(5), from.recv()).await.unwrap().unwrap()
}

/// Copies a queue's directory as a stop of the machine leaves it: without the mark of a close in order, the newest
/// segment cut at `cut` if it is longer, with the room behind it that was made ahead or without.
fn copy_cut(from: &Path, cut: u64, room: bool) -> TempDir {
    let (to, mut segments) = loop {
        // The queue may remove a segment meanwhile; what it holds was copied on before, perhaps past what was read by then.
        match copy(from) {
            Ok(copied) => break copied,
            Err(problem) => assert_eq!(problem.kind(), ErrorKind::NotFound, "{problem}"),
        }
    };
    segments.sort();
    if let Some(newest) = segments.last() {
        let file = fs::OpenOptions::new().write(true).open(newest).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length.min(cut)).unwrap();
        if room {
            file.set_len(length).unwrap();
        }
    }
    to
}

/// Where the records of a segment end.
fn end(segment: &Path) -> u64 {
    log::scan(0, &fs::read(segment).unwrap(), &mut |_, _| Ok(())).unwrap() as u64
}

fn copy(from: &Path) -> io::Result<(TempDir, Vec<PathBuf>)> {
    let (to, mut segments) = (tempfile::tempdir()?, Vec::new());
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            let copy = to.path().join(path.file_name().unwrap());
            fs::copy(&path, &copy)?;
            segments.push(copy);
        }
    }
    Ok((to, segments))
}

#[tokio::test]
async fn frames_survive_a_restart_and_acknowledged_ones_stay_gone() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), options()).await;
    accept(&queue, 0..100).await;
    let mut lane = queue.consume(work(), 100).await.unwrap();
    for number in 0..60 {
        let delivery = next(&mut lane).await;
        assert_eq!((delivery.id, &delivery.frame, delivery.count), (id(number), &frame(number), 1));
        delivery.ack();
    }
    drop(lane);
    queue.close().await;

    let queue = open(dir.path(), options()).await;
    let mut lane = queue.consume(work(), 1).await.unwrap();
    for number in 60..100 {
        let delivery = next(&mut lane).await;
        assert_eq!(
            (delivery.id, &delivery.frame, delivery.count),
            (id(number), &frame(number), 2),
            "was in the receiver"
        );
        delivery.ack();
    }
    assert_eq!(queue.depth(&QueueName::Record).await, Ok(100));
}

#[tokio::test]
async fn a_stop_of_the_machine_leaves_no_frame_that_looks_new() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), options()).await;
    accept(&queue, 0..3).await;
    for _ in 0..2 {
        let copy = copy_cut(dir.path(), u64::MAX, true);
        let reopened = open(copy.path(), options()).await;
        let mut lane = reopened.consume(work(), 1).await.unwrap();
        assert_eq!(next(&mut lane).await.count, 2);
    }
}

#[tokio::test]
async fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), options()).await;
    let second = Embedded::open(dir.path(), options(), &Tasks::new(), &Clock::system()).await;
    assert!(matches!(second, Err(QueueError::Storage(why)) if why.contains("in use by another process")));
    queue.close().await;
    open(dir.path(), options()).await;
}

#[tokio::test]
async fn damage_before_the_tail_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), options()).await;
    accept(&queue, 0..100).await;
    queue.close().await;
    let oldest = dir.path().join("0000000001.log");
    let mut bytes = fs::read(&oldest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&oldest, bytes).unwrap();
    let reopened = Embedded::open(dir.path(), options(), &Tasks::new(), &Clock::system()).await;
    assert!(matches!(reopened, Err(QueueError::Storage(why)) if why.contains("damaged")));
}

#[tokio::test]
async fn a_segment_that_is_missing_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), options()).await;
    accept(&queue, 0..100).await;
    queue.close().await;
    fs::remove_file(dir.path().join("0000000002.log")).unwrap();
    let reopened = Embedded::open(dir.path(), options(), &Tasks::new(), &Clock::system()).await;
    assert!(matches!(reopened, Err(QueueError::Storage(why)) if why.contains("0000000002.log")));
}

#[tokio::test]
async fn a_few_frames_that_stay_do_not_keep_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), options()).await;
    queue.publish(id(1), frame(1), Route::To(QueueName::Dead)).await.unwrap();
    let mut lane = queue.consume(work(), 10).await.unwrap();
    for batch in 0..200 {
        let publishes = (2..12).map(|number| queue.publish(id(batch * 10 + number), frame(number), Route::To(work())));
        assert!(futures_util::future::join_all(publishes).await.iter().all(Result::is_ok));
        for _ in 0..10 {
            next(&mut lane).await.ack();
        }
    }
    drop(lane);
    queue.close().await;
    // 2 000 frames are 300 KiB; what may stay is twice what is alive, two segments of 4 KiB and a few spare ones.
    let size: u64 = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(size < 64 * 1024, "{size} bytes left");
    let queue = open(dir.path(), options()).await;
    let mut dead = queue.consume(QueueName::Dead, 1).await.unwrap();
    assert_eq!(next(&mut dead).await.frame, frame(1));
    assert_eq!(queue.depth(&work()).await, Ok(0));
}

#[tokio::test]
async fn a_log_without_room_takes_nothing_until_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), Options { bytes_max: 20 * 1024, ..options() }).await;
    let mut taken = 0;
    while queue.publish(id(taken), frame(taken), Route::To(work())).await != Err(PublishError::Full) {
        taken += 1;
        assert!(taken < 1_000, "never full");
    }
    let mut lane = queue.consume(work(), 10).await.unwrap();
    for _ in 0..taken {
        next(&mut lane).await.ack();
    }
    queue.depth(&work()).await.unwrap();
    queue.publish(id(9_999), frame(1), Route::To(work())).await.unwrap();
}

#[tokio::test]
async fn a_failed_sync_ends_all_writing() {
    let dir = tempfile::tempdir().unwrap();
    open(dir.path(), options()).await.close().await;
    let mut writer = Writer::open(dir.path(), options()).unwrap();
    writer.log.lose_disk();
    let (requests, inbox) = mpsc::channel(8);
    let thread = std::thread::spawn(move || writer.run(inbox));
    let (tasks, clock, relays) = (Tasks::new(), Clock::system(), Relays::default());
    let queue = Embedded { requests, publish_timeout: Duration::from_secs(5), relays, tasks, clock };
    let mut lane = queue.consume(work(), 1).await.unwrap();
    for _ in 0..2 {
        let refused = queue.publish(id(1), frame(1), Route::Accept(work())).await;
        assert!(matches!(refused, Err(PublishError::Storage(_))), "{refused:?}");
    }
    assert!(lane.recv().await.is_none(), "deliveries end");
    assert!(matches!(queue.depth(&work()).await, Err(QueueError::Storage(_))));
    queue.close().await;
    thread.join().unwrap();
    // The next start finds what was durable.
    let queue = open(dir.path(), options()).await;
    assert_eq!(queue.depth(&work()).await, Ok(0));
}

#[tokio::test]
async fn a_log_that_cannot_grow_refuses_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path(), options()).await;
    let hidden = dir.path().with_extension("hidden");
    fs::rename(dir.path(), &hidden).unwrap();
    let publish = async |number, frame| queue.publish(id(number), frame, Route::To(work())).await;
    let long = Bytes::from(vec![b'l'; 4_000]);
    for number in 0..3 {
        publish(number, frame(number)).await.unwrap();
    }
    // The open segment takes what fits; the next one has nowhere to be.
    let refused = publish(9, long.clone()).await;
    assert!(matches!(refused, Err(PublishError::Storage(_))), "{refused:?}");
    publish(3, frame(3)).await.unwrap();
    // The machine stops, with room behind what is written.
    let stopped = copy_cut(&hidden, u64::MAX, true);
    assert_eq!(open(stopped.path(), options()).await.depth(&work()).await, Ok(4));
    fs::rename(&hidden, dir.path()).unwrap();
    publish(4, long).await.unwrap();
    let mut lane = queue.consume(work(), 1).await.unwrap();
    for number in 0..=4 {
        let delivery = next(&mut lane).await;
        assert_eq!(delivery.id, id(number));
        delivery.ack();
    }
}

/// What happens to the queue in the property test.
#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Ack(u8),
    GiveBack(u8),
    Reopen,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (1..20_u8).prop_map(Step::Publish),
        6 => (1..30_u8).prop_map(Step::Ack),
        2 => (1..5_u8).prop_map(Step::GiveBack),
        1 => Just(Step::Reopen),
        1 => Just(Step::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: a confirmed frame that was not acknowledged is there, in order, also when
    /// the machine stopped while the next write was under way and left any part of it, with room behind it or without.
    #[test]
    fn no_confirmed_frame_is_lost(steps in prop::collection::vec(step(), 1..40), torn in (1..200_u64, any::<bool>())) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(run(steps, torn));
    }
}

/// The queue, one consumer of each of two queues, and what it owes them.
struct Model {
    queue: Embedded,
    sides: [Side; 2],
    next: u32,
}

struct Side {
    receiver: mpsc::Receiver<Delivery>,
    owed: BTreeSet<u32>,
    /// Acknowledged, or perhaps torn: may come, need not.
    maybe: BTreeSet<u32>,
    /// How often each was delivered.
    counts: BTreeMap<u32, u32>,
}

async fn run(steps: Vec<Step>, torn: (u64, bool)) {
    let mut dir = tempfile::tempdir().unwrap();
    let mut model = Model::new(open(dir.path(), options()).await).await;
    for step in steps {
        match step {
            Step::Publish(count) => model.publish(u32::from(count)).await,
            Step::Ack(count) => model.sides(usize::from(count), Settle::Ack).await,
            Step::GiveBack(count) => model.sides(usize::from(count), Settle::GiveBack).await,
            Step::Reopen => {
                model.queue.close().await;
                model.reopen(open(dir.path(), options()).await).await;
            }
            Step::Crash => {
                dir = crash(&model.queue, &dir, torn, model.next).await;
                // The publish that was under way may have come through.
                model.sides.iter_mut().for_each(|side| _ = side.maybe.insert(model.next));
                model.next += 1;
                model.reopen(open(dir.path(), options()).await).await;
                // Counts may have been lost, but nothing looks new.
                for side in &mut model.sides {
                    side.counts.values_mut().for_each(|count| *count = 1);
                    let owed = side.owed.iter().map(|&number| (number, 1));
                    side.counts.extend(owed);
                }
            }
        }
    }
    // What comes before the last frame is owed or may come, and then nothing is left.
    model.publish(1).await;
    model.sides(usize::MAX, Settle::Ack).await;
}

#[derive(Clone, Copy, PartialEq)]
enum Settle {
    Ack,
    GiveBack,
}

impl Model {
    async fn new(queue: Embedded) -> Self {
        let sides = [Side::new(&queue, work()).await, Side::new(&queue, QueueName::Record).await];
        Self { queue, sides, next: 0 }
    }

    async fn reopen(&mut self, queue: Embedded) {
        self.queue = queue;
        for (side, name) in self.sides.iter_mut().zip([work(), QueueName::Record]) {
            side.receiver = self.queue.consume(name, 1).await.unwrap();
        }
    }

    async fn publish(&mut self, count: u32) {
        accept(&self.queue, self.next..self.next + count).await;
        self.sides.iter_mut().for_each(|side| side.owed.extend(self.next..self.next + count));
        self.next += count;
    }

    async fn sides(&mut self, count: usize, settle: Settle) {
        for side in &mut self.sides {
            let count = count.min(side.owed.len());
            side.take(count, settle).await;
        }
    }
}

impl Side {
    async fn new(queue: &Embedded, name: QueueName) -> Self {
        let receiver = queue.consume(name, 1).await.unwrap();
        Self { receiver, owed: BTreeSet::new(), maybe: BTreeSet::new(), counts: BTreeMap::new() }
    }

    /// Settles `count` of what is owed, which comes in order and with counts that rise.
    async fn take(&mut self, count: usize, settle: Settle) {
        let mut settled = 0;
        while settled < count {
            let delivery = next(&mut self.receiver).await;
            let number = u32::try_from(delivery.id.as_u128()).unwrap();
            assert_eq!(delivery.frame, frame(number));
            if self.maybe.contains(&number) && !self.owed.contains(&number) {
                delivery.ack();
                continue;
            }
            assert_eq!(self.owed.first(), Some(&number), "the oldest comes first");
            let least = self.counts.entry(number).or_insert(0);
            assert!(delivery.count > *least, "{number} comes for time {} after {least}", delivery.count);
            *least = delivery.count;
            settled += 1;
            if settle == Settle::Ack {
                delivery.ack();
                self.owed.remove(&number);
                self.maybe.insert(number);
            }
        }
    }
}

/// Stops the machine while a publish is under way: everything confirmed is there, and `torn` bytes of the rest.
async fn crash(queue: &Embedded, dir: &TempDir, (torn, room): (u64, bool), number: u32) -> TempDir {
    let segments = || -> BTreeSet<PathBuf> {
        let logs = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        logs.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect()
    };
    let copy = loop {
        let before = segments();
        let newest = before.last().unwrap();
        let confirmed = end(newest);
        queue.publish(id(number), frame(number), Route::Accept(work())).await.unwrap();
        let after = segments().pop_last().unwrap();
        let cut = if *newest == after { confirmed + torn } else { torn };
        let copy = copy_cut(dir.path(), cut.min(end(&after) - 1), room);
        // What a segment held that is gone since was copied on, durably and perhaps behind the cut: no stop loses that.
        if before.iter().all(|path| copy.path().join(path.file_name().unwrap()).exists()) {
            break copy;
        }
    };
    queue.close().await;
    copy
}
