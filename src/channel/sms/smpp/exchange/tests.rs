//! What an exchange makes of answers, silence and lost connections.

use proptest::prelude::*;

use super::*;

const OK: u32 = 0;
const THROTTLED: u32 = 0x58;
const REFUSED: u32 = 0x0B;
const TIMEOUT: Duration = Duration::from_secs(60);

/// An exchange with its socket's buffer, and an SMSC that answers on command.
struct Rig {
    exchange: Exchange,
    load: Load,
    out: BytesMut,
    offset: u64,
    now: Duration,
    sender: mpsc::UnboundedSender<Answered>,
    answers: mpsc::UnboundedReceiver<Answered>,
}

impl Rig {
    fn new(window: usize) -> Self {
        let pace = Pace { window, jobs_max: window, response_timeout: TIMEOUT, receipt_expected: false };
        let load = Load::default();
        let (sender, answers) = mpsc::unbounded_channel();
        let exchange = Exchange::new(pace, load.clone());
        Self { exchange, load, out: BytesMut::new(), offset: 0, now: Duration::ZERO, sender, answers }
    }

    fn accept(&mut self, index: usize, segments: usize) {
        let pdu = Bytes::from_static(&[0; 16]);
        self.load.bind.fetch_add(segments as u32, Ordering::Relaxed);
        self.load.route.fetch_add(segments as u32, Ordering::Relaxed);
        let messages = vec![Message { index, segments: vec![pdu; segments] }];
        self.exchange.accept(Batch { at: self.now, answers: self.sender.clone(), messages });
        self.fill();
    }

    fn fill(&mut self) {
        self.exchange.fill(&mut self.out, &mut self.offset, self.now);
    }

    /// Takes what was written, as the sequence numbers of its PDUs.
    fn written(&mut self) -> Vec<u32> {
        let out = self.out.split();
        out.chunks(16).map(|pdu| u32::from_be_bytes(pdu[12..].try_into().unwrap())).collect()
    }

    fn answer(&mut self, sequence: u32, status: u32) {
        self.exchange.answered(sequence, status, format!("id{sequence}").into(), self.now);
        self.fill();
    }

    fn wait(&mut self, duration: Duration) {
        self.now += duration;
        self.exchange.expire(self.now);
        self.fill();
    }

    #[track_caller]
    fn check(&mut self, expected: &[(usize, Answer)]) {
        let mut answers = Vec::new();
        while let Ok(answer) = self.answers.try_recv() {
            answers.push(answer);
        }
        assert_eq!(answers, expected);
    }

    fn units(&self) -> (u32, u32) {
        (self.load.bind.load(Ordering::Relaxed), self.load.route.load(Ordering::Relaxed))
    }
}

fn taken(ids: &[u32]) -> Answer {
    let message_ids: Vec<_> = ids.iter().map(|id| format!("id{id}").into()).collect();
    Answer::Taken { segments: ids.len() as u8, receipt_expected: false, message_ids }
}

fn throttled() -> Answer {
    Answer::Throttled { retry_after: None }
}

fn refused() -> Answer {
    Answer::Refused { code: "ESME_RINVDSTADR".into() }
}

/// What answers of one job's segments, in the order in which they were written, make of it.
#[track_caller]
fn check(statuses: &[u32], expected: Answer) {
    let mut rig = Rig::new(10);
    rig.accept(0, statuses.len());
    let sequences = rig.written();
    assert_eq!(sequences.len(), statuses.len());
    for (&sequence, &status) in sequences.iter().zip(statuses) {
        rig.answer(sequence, status);
    }
    rig.check(&[(0, expected)]);
    assert_eq!(rig.units(), (0, 0));
}

#[test]
fn a_job_is_what_its_segments_make_of_it() {
    check(&[OK], taken(&[1]));
    check(&[OK, OK, OK], taken(&[1, 2, 3]));
    check(&[THROTTLED], throttled());
    check(&[THROTTLED, THROTTLED], throttled());
    check(&[REFUSED], refused());
    check(&[REFUSED, THROTTLED], refused());
    check(&[OK, REFUSED], Answer::NoAnswer);
    check(&[REFUSED, OK], Answer::NoAnswer);
    check(&[OK, THROTTLED, REFUSED], Answer::NoAnswer);
}

#[test]
fn ids_are_in_order_of_the_segments_however_they_come() {
    let mut rig = Rig::new(10);
    rig.accept(0, 2);
    rig.answer(2, OK);
    rig.answer(1, OK);
    rig.check(&[(0, taken(&[1, 2]))]);
}

#[test]
fn the_rest_of_a_job_follows_after_a_second_and_nothing_twice() {
    let mut rig = Rig::new(10);
    rig.accept(0, 3);
    rig.written();
    rig.answer(1, THROTTLED);
    rig.answer(2, OK);
    rig.answer(3, THROTTLED);
    rig.check(&[]);
    rig.wait(HOLD - Duration::from_millis(1));
    assert!(rig.written().is_empty());
    rig.wait(Duration::from_millis(1));
    assert_eq!(rig.written(), [4, 5]);
    rig.answer(4, OK);
    rig.answer(5, THROTTLED);
    rig.wait(HOLD);
    assert_eq!(rig.written(), [6]);
    rig.answer(6, OK);
    rig.check(&[(0, taken(&[4, 2, 6]))]);
}

#[test]
fn a_job_that_stays_half_taken_ends_without_an_answer() {
    let mut rig = Rig::new(10);
    rig.accept(0, 2);
    rig.answer(1, OK);
    rig.answer(2, THROTTLED);
    rig.wait(TIMEOUT);
    rig.check(&[(0, Answer::NoAnswer)]);
    assert_eq!(rig.exchange.take_stats(), Stats { stray_answers: 0, torn_jobs: 1, unanswered_jobs: 1 });
}

#[test]
fn a_refused_job_is_not_written_to_its_end() {
    let mut rig = Rig::new(2);
    rig.accept(0, 4);
    assert_eq!(rig.written(), [1, 2]);
    rig.answer(1, REFUSED);
    assert!(rig.written().is_empty());
    rig.answer(2, REFUSED);
    assert!(rig.written().is_empty());
    rig.check(&[(0, refused())]);
}

#[test]
fn the_window_bounds_what_is_written() {
    let mut rig = Rig::new(2);
    rig.accept(0, 1);
    rig.accept(1, 1);
    assert_eq!(rig.written(), [1, 2]);
    rig.answer(1, OK);
    rig.accept(2, 1);
    assert_eq!(rig.written(), [3]);
    rig.check(&[(0, taken(&[1]))]);
    assert_eq!(rig.units(), (2, 2));
}

#[test]
fn late_answers_are_nobodys() {
    let mut rig = Rig::new(1);
    rig.accept(0, 1);
    rig.wait(TIMEOUT);
    rig.check(&[(0, Answer::NoAnswer)]);
    rig.accept(1, 1);
    rig.written();
    rig.answer(1, OK);
    rig.check(&[]);
    rig.answer(2, OK);
    rig.check(&[(1, taken(&[2]))]);
    assert_eq!(rig.exchange.take_stats().stray_answers, 1);
}

#[test]
fn what_waited_for_half_the_time_without_being_written_was_not_sent() {
    let mut rig = Rig::new(2);
    rig.accept(0, 2);
    rig.accept(1, 1);
    assert_eq!(rig.written(), [1, 2]);
    rig.wait(TIMEOUT / 2);
    rig.check(&[(1, not_sent("window_full"))]);
    rig.answer(1, OK);
    rig.answer(2, OK);
    assert!(rig.written().is_empty());
    rig.check(&[(0, taken(&[1, 2]))]);
}

#[test]
fn a_lost_connection_tells_what_left_from_what_did_not() {
    let mut rig = Rig::new(4);
    for index in 0..4 {
        rig.accept(index, 1);
    }
    rig.answer(1, OK);
    rig.accept(4, 1);
    // Of five PDUs of 16 bytes, the first byte of the third has left.
    let Rig { exchange, mut answers, load, .. } = rig;
    exchange.lose(33);
    let mut left = Vec::new();
    while let Ok(answer) = answers.try_recv() {
        left.push(answer);
    }
    left.sort_by_key(|(index, _)| *index);
    let lost = not_sent("connection_lost");
    let expected = [taken(&[1]), Answer::NoAnswer, Answer::NoAnswer, lost.clone(), lost];
    assert_eq!(left, expected.into_iter().enumerate().collect::<Vec<_>>());
    assert_eq!(load.route.load(Ordering::Relaxed), 0);
}

#[test]
fn only_what_has_not_begun_is_given_back() {
    let mut rig = Rig::new(1);
    rig.accept(0, 2);
    rig.load.route.fetch_add(1, Ordering::Relaxed);
    rig.exchange.give_back_unwritten("stopping");
    rig.check(&[]);
    rig.answer(1, OK);
    rig.answer(2, OK);
    rig.check(&[(0, taken(&[1, 2]))]);
}

#[derive(Clone, Debug)]
enum Step {
    Accept(usize),
    Answer { which: usize, status: u32 },
    Stray(u32),
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop_oneof![4 => Just(OK), 1 => Just(THROTTLED), 1 => Just(REFUSED), 1 => any::<u32>()];
    proptest::collection::vec(
        prop_oneof![
            3 => (1..4usize).prop_map(Step::Accept),
            6 => (any::<usize>(), status).prop_map(|(which, status)| Step::Answer { which, status }),
            1 => any::<u32>().prop_map(Step::Stray),
            1 => (0..40_000u64).prop_map(Step::Wait),
        ],
        0..150,
    )
}

proptest! {
    /// Whatever an SMSC says, and in whatever order: one answer a job, the window never exceeded, all units given
    /// back.
    #[test]
    fn each_job_has_one_answer(steps in steps(), sent in any::<u64>()) {
        let mut rig = Rig::new(5);
        let mut open = Vec::new();
        let mut jobs = 0;
        for step in steps {
            match step {
                Step::Accept(segments) => {
                    rig.accept(jobs, segments);
                    jobs += 1;
                }
                Step::Answer { which, status } if !open.is_empty() => {
                    let sequence = open.swap_remove(which % open.len());
                    rig.answer(sequence, status);
                }
                Step::Answer { .. } => {}
                Step::Stray(sequence) if !open.contains(&sequence) => rig.answer(sequence, OK),
                Step::Stray(_) => {}
                Step::Wait(millis) => rig.wait(Duration::from_millis(millis)),
            }
            open.extend(rig.written());
            prop_assert!(rig.exchange.written.len() <= 5);
        }
        let Rig { exchange, mut answers, load, offset, .. } = rig;
        exchange.lose(sent % (offset + 1));
        let mut answered = Vec::new();
        while let Ok((index, _)) = answers.try_recv() {
            answered.push(index);
        }
        answered.sort_unstable();
        prop_assert_eq!(answered, (0..jobs).collect::<Vec<_>>());
        prop_assert_eq!(load.bind.load(Ordering::Relaxed), 0);
        prop_assert_eq!(load.route.load(Ordering::Relaxed), 0);
    }
}
