//! Fallback chains: what follows what, and that a step starts once, whatever fails between.

use super::*;
use crate::domain::chain::{Chain, Step};
use crate::ledger::{Entry, Shards};
use crate::limits::redis::{Redis, Settings as Elsewhere};

const AFTER: Duration = Duration::from_secs(60);

fn chained(id: JobId) -> Envelope {
    let step = Step {
        kind: Kind::Call,
        pool: "default".parse().unwrap(),
        content: Content::Call { flow: "hello".into(), plan: Arc::default() },
        sender: "".into(),
        after: AFTER,
    };
    let chain = Chain { first: None, step: 0, life: None, next: vec![step.clone(), step] };
    let plain = envelope(Class::Marketing, &[id]);
    let shared = Shared { chain: Some(Box::new(chain)), ..(*plain.shared).clone() };
    Envelope { shared: Arc::new(shared), ..plain }
}

fn settled(job: JobId, fate: Fate) -> Fact {
    event(job, 1, Change::Settled(Outcome::new(fate, "")))
}

fn elapsed(job: JobId) -> Fact {
    Fact::Elapsed("acme".parse().unwrap(), job)
}

impl Rig {
    pub(super) async fn write<M: Limits>(&self, writer: &mut Writer<Embedded, Sqlite, M>, frames: &[(Uuid, Bytes)]) {
        let mut batch = frames.iter().map(|frame| delivered(frame, 1, &self.sealer).0).collect();
        writer.try_write(&mut batch).await.unwrap();
    }

    pub(super) async fn agenda(&self) -> Vec<Entry> {
        let groups: Vec<_> =
            self.ledger.agenda_groups(Shards::ALL).await.unwrap().into_iter().map(|group| (group, 100)).collect();
        self.ledger.due_entries(&groups, UnixMicros::MAX).await.unwrap()
    }

    /// Returns the jobs that the agenda is to send.
    pub(super) async fn starting(&self) -> Vec<JobId> {
        let entries = self.agenda().await;
        let jobs = entries.iter().filter_map(|entry| match Frame::decode(&entry.payload, &self.sealer).unwrap() {
            Frame::Jobs(envelopes) => Some(envelopes[0].jobs[0].id),
            Frame::Facts(_) | Frame::Checks(_) => None,
        });
        jobs.collect()
    }

    /// Returns when the agenda tells of jobs that have had their time.
    async fn timers(&self) -> Vec<UnixMicros> {
        let entries = self.agenda().await.into_iter();
        entries.filter(|entry| matches!(entry.tag, Tag::Timer { .. })).map(|entry| entry.due_at).collect()
    }
}

/// Merges what happened to the first job of a chain, so long after it was handed over; says whether the next step starts.
async fn check(passed: u64, facts: Vec<Fact>, starts: bool, timer: Option<u64>) {
    let (rig, job) = (Rig::new().await, JobId::new(START, 7));
    rig.clock.advance(Duration::from_secs(passed));
    let said = format!("{facts:?} after {passed} s");
    let frames = [Frame::Jobs(vec![chained(job)]), Frame::Facts(facts)].map(|frame| rig.frame(frame));
    rig.write(&mut rig.writer(100), &frames).await;
    let expected = if starts { vec![job.step(1)] } else { vec![] };
    assert_eq!(rig.starting().await, expected, "{said}");
    let due: Vec<_> = timer.into_iter().map(|secs| START.plus(Duration::from_secs(secs))).collect();
    assert_eq!(rig.timers().await, due, "{said}");
}

#[tokio::test]
async fn a_step_follows_what_failed_or_has_had_its_time() {
    let job = JobId::new(START, 7);
    let sent = || sent(job, &["m".to_owned()]);
    check(0, vec![], false, None).await;
    check(99, vec![elapsed(job)], false, None).await;
    check(0, vec![sent()], false, Some(60)).await;
    check(59, vec![sent(), elapsed(job)], false, Some(60)).await;
    check(60, vec![sent(), elapsed(job)], true, Some(60)).await;
    check(60, vec![event(job, 1, Change::Unresolved { provider: None }), elapsed(job)], true, Some(60)).await;
    check(60, vec![sent(), elapsed(job), settled(job, Fate::Delivered)], false, Some(60)).await;
    for fate in [Fate::Rejected, Fate::Failed, Fate::Undelivered, Fate::Expired, Fate::Unknown] {
        check(0, vec![settled(job, fate)], true, None).await;
    }
    for fate in [Fate::Delivered, Fate::Completed, Fate::Sent, Fate::Cancelled, Fate::Suppressed] {
        check(0, vec![settled(job, fate)], false, None).await;
    }
    // What the vendor lets through is no limit of ours: another way may be open.
    for reason in ["vendor_limit", "no_consent"] {
        check(0, vec![event(job, 1, Change::Settled(Outcome::new(Fate::Suppressed, reason)))], true, None).await;
    }
    // Somebody may still let it go out; then it would reach them twice.
    let asked = || event(job, 1, Change::Progress(State::AwaitingOperator));
    check(60, vec![sent(), asked(), elapsed(job)], false, Some(60)).await;
    check(60, vec![asked(), sent(), elapsed(job)], false, Some(60)).await;
    check(60, vec![sent(), asked(), elapsed(job), settled(job, Fate::Expired)], true, Some(60)).await;
    check(60, vec![sent(), asked(), elapsed(job), settled(job, Fate::Delivered)], false, Some(60)).await;
    // The chain as a whole has expired.
    check(3_600, vec![settled(job, Fate::Rejected)], false, None).await;
}

#[tokio::test]
async fn a_delivery_that_comes_late_takes_back_the_step_that_waits_and_nothing_else() {
    let (rig, job) = (Rig::new().await, JobId::new(START, 8));
    let mut writer = rig.writer(100);
    let frames = [Frame::Jobs(vec![chained(job)]), Frame::Facts(vec![sent(job, &["m".to_owned()])])];
    rig.write(&mut writer, &frames.map(|frame| rig.frame(frame))).await;
    rig.clock.advance(AFTER);
    rig.write(&mut writer, &[rig.frame(Frame::Facts(vec![elapsed(job)]))]).await;
    assert_eq!(rig.starting().await, [job.step(1)]);
    let tenant = "acme".parse().unwrap();
    assert_eq!(rig.ledger.rules(&tenant, 10).await.unwrap().len(), 0);
    rig.write(&mut writer, &[rig.frame(Frame::Facts(vec![settled(job, Fate::Delivered)]))]).await;
    let named: Vec<_> = rig.ledger.rules(&tenant, 10).await.unwrap().into_iter().map(|rule| rule.names.job).collect();
    assert_eq!(named, [Some(job.step(1))]);
    // It was claimed before: it stands, and what it comes to changes nothing.
    rig.write(&mut writer, &[rig.frame(Frame::Facts(vec![settled(job.step(1), Fate::Failed)]))]).await;
    assert_eq!(rig.starting().await, [job.step(1)], "nothing follows a delivery");
}

#[tokio::test]
async fn a_step_starts_once_through_crashes_doubles_and_events_that_come_before_its_row() {
    for seed in 0..24 {
        let (rig, mut chance) = (Rig::new().await, Rng::with_seed(seed));
        // As a key gives it: of one that is drawn nothing comes before its row.
        let job = JobId(Uuid::from_u128(chance.u128(..))).item(1);
        rig.clock.advance(AFTER);
        let mut story = vec![
            Frame::Jobs(vec![chained(job)]),
            Frame::Facts(vec![sent(job, &["m".to_owned()])]),
            Frame::Facts(vec![elapsed(job)]),
            Frame::Facts(vec![settled(job.step(1), Fate::Rejected)]),
        ];
        chance.shuffle(&mut story);
        story.push(Frame::Facts(vec![elapsed(job), elapsed(job.step(1))]));
        let frames: Vec<_> = story.into_iter().map(|frame| rig.frame(frame)).collect();
        let mut writer = rig.writer(2);
        let mut left = &frames[..];
        while !left.is_empty() {
            let (taken, rest) = left.split_at(chance.usize(1..=left.len()));
            let deliver = |count| taken.iter().map(|frame| delivered(frame, count, &rig.sealer).0).collect::<Vec<_>>();
            let mut count = 1;
            match chance.u8(..4) {
                // Killed before the commit.
                0 => writer = rig.writer(2),
                // Killed between the commit and the acknowledgement.
                1 => {
                    writer.try_write(&mut deliver(1)).await.unwrap();
                    (writer, count) = (rig.writer(2), 2);
                }
                _ => {}
            }
            writer.try_write(&mut deliver(count)).await.unwrap();
            left = rest;
        }
        let mut starting = rig.starting().await;
        starting.sort_unstable();
        let mut expected = [job.step(1), job.step(2)];
        expected.sort_unstable();
        assert_eq!(starting, expected, "seed {seed}");
        let counts = rig.ledger.counts(None, UnixMicros(0), UnixMicros::MAX).await.unwrap();
        let accepted: i64 = counts.iter().filter(|count| &*count.what == "accepted").map(|count| count.jobs).sum();
        assert_eq!(accepted, 3, "seed {seed}");
        for step in [job.step(1), job.step(2)] {
            assert!(rig.history(step).await.row.is_some(), "seed {seed}");
        }
    }
}

#[tokio::test]
async fn while_limits_are_away_they_are_told_again_later_and_recording_goes_on() {
    let (rig, job) = (Rig::new().await, JobId::new(START, 9));
    let away = Redis::new(&Elsewhere::new("redis://127.0.0.1:1"), &rig.clock).unwrap();
    let mut writer = rig.writer_with(100, away);
    let frames = [Frame::Jobs(vec![chained(job)]), Frame::Facts(vec![sent(job, &["m".to_owned()])])];
    rig.write(&mut writer, &frames.map(|frame| rig.frame(frame))).await;
    rig.clock.advance(AFTER);
    rig.write(&mut writer, &[rig.frame(Frame::Facts(vec![elapsed(job)]))]).await;
    rig.write(&mut writer, &[rig.frame(Frame::Facts(vec![settled(job, Fate::Delivered)]))]).await;
    assert_eq!(rig.outcomes(job).await, [Outcome::new(Fate::Delivered, "")]);
    let again = rig.clock.now().plus(Duration::from_secs(5));
    assert_eq!(rig.timers().await, [again], "the timer that elapsed is set anew");
    // They are back.
    rig.clock.advance(Duration::from_secs(5));
    rig.write(&mut rig.writer(100), &[rig.frame(Frame::Facts(vec![elapsed(job)]))]).await;
    assert_eq!(rig.timers().await, [again], "nothing is left to be told");
    let tenant = "acme".parse().unwrap();
    assert_eq!(rig.ledger.rules(&tenant, 10).await.unwrap().len(), 1);
}
