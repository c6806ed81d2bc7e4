//! What a merger remembers, and what it asks the ledger for, changes nothing about what it writes.

use std::collections::BTreeMap;

use super::*;

/// What happens in a batch.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A job that waits for its time is accepted.
    Accepted(u8),
    /// A job is told of in one of a few ways.
    Told(u8, u8),
}

fn scheduled(job: JobId) -> Accepted {
    let mut accepted = accepted(job);
    accepted.row.due_at = UnixMicros::from_secs(600);
    accepted
}

fn fact(job: u8, how: u8) -> Fact {
    let job = id(job.into());
    match how {
        0 => event(job, 1, Change::Deferred { reason: "cap".into(), until: NOW }),
        1 => sent(job, 1, &[]),
        2 => event(job, 2, Change::Unresolved { provider: None }),
        3 => event(job, 1, Change::Settled(Outcome::new(Fate::Cancelled, "asked"))),
        4 => our_reference(job, Report::Final(Fate::Delivered)),
        _ => our_reference(job, Report::Final(Fate::Undelivered)),
    }
}

/// What the ledger holds: the rows that came, and the events by job.
#[derive(Default)]
struct Rows {
    accepted: BTreeSet<JobId>,
    events: BTreeMap<JobId, Vec<NumberedEvent>>,
}

impl Rows {
    fn trail(&self, job: JobId) -> Option<Trail> {
        let events = self.events.get(&job).cloned().unwrap_or_default();
        let accepted = self.accepted.contains(&job);
        let (tenant, fallback_after) = ("acme".parse().unwrap(), None);
        let known = accepted || !events.is_empty();
        known.then_some(Trail { tenant, kind: Kind::Sms, class: Class::Marketing, accepted, fallback_after, events })
    }

    fn write(&mut self, merged: &Merged) {
        self.accepted.extend(merged.recording.jobs.iter().map(|row| row.id));
        for numbered in &merged.recording.events {
            self.events.entry(numbered.event.job).or_default().push(numbered.clone());
        }
    }
}

/// Merges a batch as record does: asked for first what is not in memory. Returns for how many events nothing was read
/// though their job was not in memory.
fn merge(merger: &mut Merger, rows: &Rows, batch: &[Step]) -> usize {
    let mut spared = 0;
    for step in batch {
        let (job, is_event) = match *step {
            Step::Accepted(job) => (id(job.into()), false),
            Step::Told(job, how) => (id(job.into()), how < 4),
        };
        match rows.trail(job) {
            _ if merger.knows(job) => {}
            _ if is_event && merger.waits(job) => spared += 1,
            Some(trail) => merger.learn(job, trail),
            None => {}
        }
    }
    for step in batch {
        match *step {
            Step::Accepted(job) => merger.accept(scheduled(id(job.into()))),
            Step::Told(job, how) => merger.fact(fact(job, how)),
        }
    }
    spared
}

/// What has no order of its own comes out of a recording in any.
fn in_order(mut recording: Recording) -> Recording {
    recording.counts.sort_by_key(|count| format!("{count:?}"));
    recording.parked.sort_by_key(|receipt| receipt.job);
    recording
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        (0..60_u8).prop_map(Step::Accepted),
        (0..60_u8, 0..6_u8).prop_map(|(job, how)| Step::Told(job, how))
    ];
    proptest::collection::vec(proptest::collection::vec(step, 1..8), 1..60)
}

proptest! {
    #[test]
    fn a_merger_that_forgets_writes_what_one_writes_that_does_not(batches in steps(), jobs in 1..6_usize) {
        let (mut forgets, mut remembers) = (Merger::new(0, jobs), Merger::new(0, 10_000));
        let mut rows = Rows::default();
        for batch in batches {
            merge(&mut forgets, &rows, &batch);
            merge(&mut remembers, &rows, &batch);
            let (some, all) = (forgets.finish(), remembers.finish());
            rows.write(&all);
            prop_assert_eq!(in_order(some.recording), in_order(all.recording));
        }
    }
}

#[test]
fn the_first_event_of_a_job_that_waited_needs_no_read_and_the_next_does() {
    let (mut merger, mut rows) = (Merger::new(0, 2), Rows::default());
    let mut batch = |steps: &[Step]| {
        let spared = merge(&mut merger, &rows, steps);
        let merged = merger.finish();
        rows.write(&merged);
        (spared, merged.recording.events.len())
    };
    for job in 0..10 {
        batch(&[Step::Accepted(job)]);
    }
    let told = |how| [Step::Told(0, how)];
    assert_eq!(batch(&told(1)), (1, 1));
    for job in 10..20 {
        batch(&[Step::Accepted(job)]);
    }
    assert_eq!(batch(&told(1)), (0, 0), "told twice");
    assert_eq!(batch(&[Step::Told(1, 3), Step::Told(1, 3)]), (2, 1), "one outcome");
}
