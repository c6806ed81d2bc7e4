//! Facts in any order, doubled or late, come to one outcome.

mod waiting;

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::call::CallResult;
use crate::domain::event::{CallStep, Called, Left, Outcome, Report, State};
use crate::domain::job::{Check, Content, Job, Shared, samples};
use crate::domain::keys::AddressKey;
use crate::domain::recipient::Recipient;
use crate::domain::time::UnixMicros;

const NOW: UnixMicros = UnixMicros::from_secs(1_000);

fn id(number: u128) -> JobId {
    JobId(Uuid::from_u128(number))
}

fn provider() -> ProviderId {
    "carrier".parse().unwrap()
}

fn accepted(job: JobId) -> Accepted {
    let row = JobRow {
        id: job,
        tenant: "acme".parse().unwrap(),
        kind: Kind::Sms,
        class: Class::Marketing,
        accepted_at: UnixMicros::from_secs(1),
        due_at: UnixMicros::from_secs(1),
        expires_at: UnixMicros::from_secs(10_000),
        address: AddressKey([1; 16]),
        recipient: None,
        batch: None,
        campaign: None,
        run: None,
        cancel_key: None,
        fallback_after: None,
        sealed: Bytes::new(),
    };
    Accepted { row, trace: None, fresh: true, collapse_key: None }
}

fn event(job: JobId, attempt: u16, change: Change) -> Fact {
    let (tenant, at) = ("acme".parse().unwrap(), UnixMicros::from_secs(2));
    Fact::Event(Event { job, tenant, kind: Kind::Sms, class: Class::Marketing, at, attempt, change })
}

fn sent(job: JobId, attempt: u16, message_ids: &[&str]) -> Fact {
    let message_ids = message_ids.iter().map(|id| Box::from(*id)).collect();
    event(job, attempt, Change::Sent { provider: provider(), message_ids, receipt_expected: true, cost: None })
}

fn report(message_id: &str, fate: Fate) -> Fact {
    let code = if fate == Fate::Delivered { "" } else { "042" };
    let (provider, message_id, at) = (provider(), message_id.into(), UnixMicros::from_secs(5));
    Fact::Receipt(Receipt { provider, message_id, job: None, report: Report::Final(fate), code: code.into(), at })
}

fn our_reference(job: JobId, report: Report) -> Fact {
    let at = UnixMicros::from_secs(5);
    Fact::Receipt(Receipt { provider: provider(), message_id: "".into(), job: Some(job), report, code: "".into(), at })
}

fn merged(facts: impl IntoIterator<Item = Fact>) -> Merged {
    let mut merger = Merger::new(0, 1_000);
    merger.accept(accepted(id(1)));
    facts.into_iter().for_each(|fact| merger.fact(fact));
    merger.finish()
}

fn outcomes(merged: &Merged) -> Vec<Outcome> {
    merged.recording.events.iter().filter_map(|numbered| numbered.event.change.outcome()).collect()
}

#[track_caller]
fn check_outcome(facts: impl IntoIterator<Item = Fact>, expected: Option<(Fate, &str)>) {
    let merged = merged(facts);
    let expected: Vec<_> = expected.into_iter().map(|(fate, reason)| Outcome::new(fate, reason)).collect();
    assert_eq!(outcomes(&merged), expected);
}

#[test]
fn a_text_is_delivered_when_all_its_segments_are() {
    let job = id(1);
    let ids = ["a", "b", "c"];
    let all = |last: Fate| {
        [sent(job, 1, &ids), report("a", Fate::Delivered), report("b", Fate::Delivered), report("c", last)]
    };
    check_outcome(all(Fate::Delivered), Some((Fate::Delivered, "")));
    check_outcome(all(Fate::Undelivered), Some((Fate::Undelivered, "042")));
    check_outcome(all(Fate::Delivered).into_iter().take(3), None);
    let doubled = [sent(job, 1, &ids), report("a", Fate::Delivered), report("a", Fate::Delivered)];
    check_outcome(doubled.into_iter().chain([report("b", Fate::Delivered)]), None);
}

#[test]
fn whichever_comes_second_settles() {
    let job = id(1);
    check_outcome([report("a", Fate::Delivered), sent(job, 1, &["a"])], Some((Fate::Delivered, "")));
    let early = merged([report("a", Fate::Delivered)]);
    assert_eq!(early.recording.parked.len(), 1);
    assert_eq!(early.tally.unmatched, 1);
}

#[test]
fn a_parked_receipt_that_finds_its_job_is_taken_out() {
    let mut merger = Merger::new(0, 1_000);
    let Fact::Receipt(receipt) = report("a", Fate::Undelivered) else { unreachable!() };
    merger.learn_parked(receipt);
    merger.accept(accepted(id(1)));
    merger.fact(sent(id(1), 1, &["a"]));
    let merged = merger.finish();
    assert_eq!(outcomes(&merged), [Outcome::new(Fate::Undelivered, "042")]);
    assert_eq!(merged.recording.unparked, [(provider(), Box::from("a"))]);
    assert!(merged.recording.parked.is_empty());
}

#[test]
fn our_own_reference_finds_the_job_even_before_it_was_sent() {
    let (job, ringing) = (id(1), Report::Progress(State::Ringing));
    let facts = [our_reference(job, ringing), our_reference(job, Report::Final(Fate::Completed)), sent(job, 1, &[])];
    let merged = merged(facts);
    assert_eq!(outcomes(&merged), [Outcome::new(Fate::Completed, "")]);
    assert_eq!(merged.recording.events.len(), 3);
}

#[test]
fn a_reused_message_id_is_written_once_and_means_the_newest() {
    let mut merger = Merger::new(0, 1_000);
    for job in [1, 2] {
        merger.accept(accepted(id(job)));
        merger.fact(sent(id(job), 1, &["same"]));
    }
    merger.fact(report("same", Fate::Delivered));
    let merged = merger.finish();
    assert_eq!(merged.recording.segments.iter().map(|segment| segment.job).collect::<Vec<_>>(), [id(2)]);
    let last = &merged.recording.events.last().unwrap().event;
    assert_eq!((last.job, last.change.outcome()), (id(2), Some(Outcome::new(Fate::Delivered, ""))));
}

#[test]
fn numbers_have_no_gaps_and_go_on_from_the_last() {
    let mut merger = Merger::new(41, 1_000);
    merger.accept(accepted(id(1)));
    for fact in [sent(id(1), 1, &["a"]), sent(id(1), 1, &["a"]), report("a", Fate::Delivered)] {
        merger.fact(fact);
    }
    let merged = merger.finish();
    let numbers: Vec<_> = merged.recording.events.iter().map(|numbered| numbered.seq).collect();
    assert_eq!((merged.recording.after, numbers), (41, vec![42, 43]));
    assert_eq!(merger.finish().recording.after, 43);
}

#[test]
fn a_job_that_is_published_twice_counts_once() {
    let mut merger = Merger::new(0, 1_000);
    for _ in 0..2 {
        merger.accept(Accepted { fresh: false, ..accepted(id(1)) });
    }
    let counts = merger.finish().recording.counts;
    assert_eq!(counts.iter().map(|count| (&*count.what, count.jobs)).collect::<Vec<_>>(), [("accepted", 1)]);
}

#[test]
fn events_that_overtake_their_job_are_kept() {
    let mut merger = Merger::new(0, 1_000);
    merger.fact(event(id(1), 1, Change::Settled(Outcome::new(Fate::Delivered, ""))));
    merger.accept(accepted(id(1)));
    merger.fact(event(id(1), 1, Change::Settled(Outcome::new(Fate::Undelivered, ""))));
    let merged = merger.finish();
    assert_eq!((outcomes(&merged), merged.recording.jobs.len()), (vec![Outcome::new(Fate::Delivered, "")], 1));
    let counts: i64 = merged.recording.counts.iter().map(|count| count.jobs).sum();
    assert_eq!(counts, 2, "accepted once, delivered once");
}

// === checks ===

fn unanswered(class: Class, attempt: u16) -> Check {
    let from = UnixMicros::from_secs(1);
    let shared = Shared { expires_at: UnixMicros::from_secs(10_000), ..samples::shared(class, from) };
    let job = Job { attempt: attempt - 1, ..samples::job(id(1), Recipient::default()) };
    let envelope = Envelope { shared: Arc::new(shared), due_at: from, jobs: vec![job] };
    Check { envelope, attempt, provider: Some(provider()), due_at: NOW, ends_call: false }
}

/// Returns the check of a copy that met another's claim.
fn lost(class: Class, attempt: u16) -> Check {
    Check { provider: None, ..unanswered(class, attempt) }
}

/// Decides a check after `facts`; returns the last event's change and what goes out again.
fn decided(facts: Vec<Fact>, check: &Check, now: UnixMicros) -> (Option<Change>, Vec<Job>) {
    let mut merger = Merger::new(0, 1_000);
    merger.accept(accepted(id(1)));
    let before = facts.len();
    facts.into_iter().for_each(|fact| merger.fact(fact));
    merger.check(check, now);
    let merged = merger.finish();
    let change = merged.recording.events.into_iter().nth(before).map(|numbered| numbered.event.change);
    (change, merged.resends.into_iter().flat_map(|envelope| envelope.jobs).collect())
}

#[test]
fn an_unanswered_hand_over_is_unresolved_and_repeated_only_where_it_may_be() {
    let unresolved = Some(Change::Unresolved { provider: Some(provider()) });
    assert_eq!(decided(vec![], &unanswered(Class::Marketing, 1), NOW), (unresolved.clone(), vec![]));
    let (change, again) = decided(vec![], &unanswered(Class::Otp, 1), NOW);
    assert_eq!(change, unresolved);
    let [again] = &again[..] else { panic!("goes out once more, not {} times", again.len()) };
    assert_eq!((again.attempt, again.supersedes, again.seen), (1, 1, Some(NOW)));
}

#[test]
fn a_result_of_the_attempt_or_a_later_one_leaves_nothing_to_decide() {
    let check = unanswered(Class::Otp, 2);
    let nothing = (None, vec![]);
    assert_eq!(decided(vec![sent(id(1), 2, &["a"])], &check, NOW), nothing);
    assert_eq!(decided(vec![sent(id(1), 3, &["a"])], &check, NOW), nothing);
    let settled = event(id(1), 1, Change::Settled(Outcome::new(Fate::Cancelled, "")));
    assert_eq!(decided(vec![settled], &check, NOW), nothing);
    let not_sent = event(id(1), 2, Change::Progress(State::Scheduled));
    assert_eq!(decided(vec![not_sent], &check, NOW), nothing, "its next attempt waits");
    let deferral = event(id(1), 2, Change::Deferred { reason: "cap".into(), until: NOW });
    for no_result in [sent(id(1), 1, &["a"]), deferral] {
        assert_eq!(decided(vec![no_result], &check, NOW).1.len(), 1);
    }
}

#[test]
fn an_unanswered_hand_over_is_repeated_once_and_nothing_goes_out_after_its_expiry() {
    let unresolved = Change::Unresolved { provider: Some(provider()) };
    let once = event(id(1), 1, unresolved.clone());
    assert_eq!(decided(vec![once], &unanswered(Class::Otp, 2), NOW), (Some(unresolved), vec![]));
    let late = UnixMicros::from_secs(10_000);
    let expired = Some(Change::Settled(Outcome::new(Fate::Expired, "no_answer")));
    for check in [unanswered(Class::Otp, 1), lost(Class::Otp, 1)] {
        assert_eq!(decided(vec![], &check, late), (expired.clone(), vec![]));
    }
}

#[test]
fn a_claim_that_was_not_heard_of_is_repeated_until_it_has_failed() {
    let before = |attempts: u16| -> Vec<_> {
        (1..=attempts).map(|attempt| event(id(1), attempt, Change::Unresolved { provider: None })).collect()
    };
    for lost_before in [0, 1, 18] {
        let (change, again) = decided(before(lost_before), &lost(Class::Otp, lost_before + 1), NOW);
        assert_eq!((change, again.len()), (Some(Change::Unresolved { provider: None }), 1), "{lost_before}");
    }
    let failed = Some(Change::Settled(Outcome::new(Fate::Failed, "no_answer")));
    assert_eq!(decided(before(19), &lost(Class::Otp, 20), NOW), (failed, vec![]));
    // It was handed over after all: that is repeated once, however often it was lost before.
    assert_eq!(decided(before(19), &unanswered(Class::Otp, 20), NOW).1.len(), 1);
    // What goes out at most once stays unresolved.
    let unresolved = Some(Change::Unresolved { provider: None });
    assert_eq!(decided(vec![], &lost(Class::Notification, 1), NOW), (unresolved, vec![]));
}

#[test]
fn deciding_a_check_again_finds_the_first_decision() {
    let mut merger = Merger::new(0, 1_000);
    merger.accept(accepted(id(1)));
    for _ in 0..2 {
        merger.check(&unanswered(Class::Otp, 1), NOW);
    }
    let merged = merger.finish();
    assert_eq!((merged.recording.events.len(), merged.resends.len()), (1, 1));
}

#[test]
fn the_sweep_gives_up_what_nothing_closed_and_judges_each_event_once() {
    let mut merger = Merger::new(0, 1_000);
    for job in 1..=4 {
        merger.accept(accepted(id(job)));
        merger.fact(sent(id(job), 1, &[&job.to_string()]));
    }
    merger.fact(report("2", Fate::Delivered));
    merger.fact(sent(id(3), 2, &["again"]));
    let events = merger.finish().recording.events;
    let (mut young, until) = (events[3].clone(), UnixMicros::from_secs(3));
    young.event.at = UnixMicros::from_secs(4);
    let seen = [events[0].clone(), events[1].clone(), events[2].clone(), young.clone()];
    assert_eq!(merger.sweep(&seen, until, NOW), Some(3));
    assert_eq!(merger.sweep(&[young], until, NOW), None);
    let merged = merger.finish();
    let given_up: Vec<_> = merged.recording.events.iter().map(|numbered| numbered.event.job).collect();
    assert_eq!((given_up, outcomes(&merged)), (vec![id(1)], vec![Outcome::new(Fate::Unknown, "no_receipt")]));
}

// === any order ===

/// What can be said of one job of up to three segments, handed over once or twice, with one fate for all.
fn story() -> impl Strategy<Value = (Vec<Fact>, Fate)> {
    let fates = prop_oneof![Just(Fate::Delivered), Just(Fate::Undelivered)];
    (1..=3_usize, fates, any::<bool>(), any::<bool>()).prop_map(|(segments, fate, unresolved, deferred)| {
        let ids: Vec<String> = (0..segments).map(|segment| format!("m{segment}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let mut facts = vec![sent(id(1), 2, &ids)];
        facts.extend(ids.iter().map(|message| report(message, fate)));
        if unresolved {
            facts.push(event(id(1), 1, Change::Unresolved { provider: None }));
        }
        if deferred {
            facts.push(event(id(1), 1, Change::Deferred { reason: "rate".into(), until: NOW }));
        }
        (facts, fate)
    })
}

/// A story told in any order, with parts of it told twice.
fn told() -> impl Strategy<Value = (Vec<Fact>, Fate)> {
    story().prop_flat_map(|(facts, fate)| {
        let doubled = proptest::sample::subsequence(facts.clone(), 0..=facts.len());
        let all = doubled.prop_map(move |doubled| [facts.clone(), doubled].concat()).prop_shuffle();
        (all, Just(fate))
    })
}

proptest! {
    #[test]
    fn every_order_and_every_doubling_gives_the_same_outcome_once((facts, fate) in told()) {
        let merged = merged(facts);
        let outcomes = outcomes(&merged);
        prop_assert_eq!(outcomes.len(), 1);
        prop_assert_eq!(outcomes[0].fate, fate);
        let finished: i64 =
            merged.recording.counts.iter().filter(|count| count.fate().is_some()).map(|count| count.jobs).sum();
        prop_assert_eq!(finished, 1);
        let sent = merged.recording.events.iter().filter(|numbered| matches!(numbered.event.change, Change::Sent { .. }));
        prop_assert_eq!(sent.count(), 1);
        prop_assert!(merged.recording.parked.is_empty());
        let unique: BTreeSet<_> =
            merged.recording.segments.iter().map(|segment| segment.message_id.clone()).collect();
        prop_assert_eq!(unique.len(), merged.recording.segments.len());
    }

    #[test]
    fn contradicting_reports_still_give_one_outcome(
        fates in proptest::collection::vec(prop_oneof![Just(Fate::Delivered), Just(Fate::Undelivered), Just(Fate::Rejected)], 1..6),
        place in 0..6_usize,
    ) {
        let mut facts: Vec<_> = fates.iter().map(|fate| report("a", *fate)).collect();
        facts.insert(place.min(facts.len()), sent(id(1), 1, &["a"]));
        let outcomes = outcomes(&merged(facts));
        prop_assert_eq!(outcomes.len(), 1);
        prop_assert_eq!(outcomes[0].fate, fates[0]);
    }
}

fn called(attempt: u16, step: CallStep) -> Fact {
    let at = UnixMicros::from_secs(50);
    Fact::Called(Called { provider: provider(), job: id(1), attempt, at, step })
}

fn call_ended(attempt: u16, result: CallResult) -> Fact {
    let left = Some(Box::new(Left { again: call_check(attempt).envelope, follows: vec![], heard: vec![] }));
    called(attempt, CallStep::Ended { result, report: "sealed".into(), cost: None, left })
}

/// Returns the check that comes after the call of an attempt must have ended.
fn call_check(attempt: u16) -> Check {
    let mut check = unanswered(Class::Notification, attempt);
    let shared = Arc::make_mut(&mut check.envelope.shared);
    (shared.kind, shared.content) = (Kind::Call, Content::Call { flow: "f".into(), plan: Arc::default() });
    Check { ends_call: true, ..check }
}

fn deferrals(merged: &Merged) -> Vec<(Box<str>, UnixMicros)> {
    let deferral = |numbered: &NumberedEvent| match &numbered.event.change {
        Change::Deferred { reason, until } => Some((reason.clone(), *until)),
        _ => None,
    };
    merged.recording.events.iter().filter_map(deferral).collect()
}

#[test]
fn a_call_that_found_a_busy_line_is_made_again_as_often_as_its_rule_says() {
    let facts = (1..=4).flat_map(|attempt| {
        let ended = call_ended(attempt, CallResult::Busy);
        // A driver that was not thanked says it again.
        [sent(id(1), attempt, &[]), ended.clone(), ended]
    });
    let merged = merged(facts);
    let (again, told) = (&merged.resends, deferrals(&merged));
    assert_eq!((again.len(), told.len()), (2, 2));
    for (attempt, (envelope, (reason, until))) in (1..).zip(again.iter().zip(&told)) {
        let job = &envelope.jobs[0];
        assert_eq!((job.attempt, job.supersedes, job.seen), (attempt, attempt, None));
        assert_eq!((&**reason, *until), ("busy", envelope.due_at));
        let wait = until.since(UnixMicros::from_secs(50)).as_secs();
        assert!((300..=360).contains(&wait), "{wait}");
    }
    assert_eq!(outcomes(&merged), [Outcome::new(Fate::Undelivered, "busy")]);
}

#[test]
fn a_call_has_one_outcome_however_it_is_told() {
    let one = |facts: Vec<Fact>| {
        let merged = merged(facts);
        assert!(merged.resends.is_empty());
        outcomes(&merged)
    };
    let completed = || call_ended(1, CallResult::Completed);
    let unknown = Outcome::new(Fate::Unknown, "call_lost");
    assert_eq!(one(vec![sent(id(1), 1, &[]), completed()]), [Outcome::new(Fate::Completed, "")]);
    assert_eq!(one(vec![completed(), sent(id(1), 1, &[]), completed()]), [Outcome::new(Fate::Completed, "")]);
    assert_eq!(one(vec![called(1, CallStep::Lost), completed()]), std::slice::from_ref(&unknown));
    let cancelled = event(id(1), 1, Change::Settled(Outcome::new(Fate::Cancelled, "request")));
    assert_eq!(one(vec![cancelled, call_ended(1, CallResult::Busy)]), [Outcome::new(Fate::Cancelled, "request")]);
    assert_eq!(
        one(vec![call_ended(1, CallResult::InvalidNumber)]),
        [Outcome::new(Fate::Undelivered, "invalid_number")]
    );
    // What no driver speaks of is settled by its check, and nothing else is.
    for (facts, expected) in [
        (vec![sent(id(1), 1, &[])], vec![unknown]),
        (vec![sent(id(1), 1, &[]), completed()], vec![Outcome::new(Fate::Completed, "")]),
        (vec![sent(id(1), 1, &[]), call_ended(1, CallResult::Busy)], vec![]),
    ] {
        let mut merger = Merger::new(0, 1_000);
        merger.accept(accepted(id(1)));
        facts.into_iter().for_each(|fact| merger.fact(fact));
        merger.check(&call_check(1), NOW);
        assert_eq!(outcomes(&merger.finish()), expected);
    }
}

/// A process dies right after its driver has said that somebody's phone rings: nobody has the check that belongs to the call.
#[test]
fn a_call_whose_own_check_was_lost_is_looked_at_again_once_it_must_have_ended() {
    let rings = || called(1, CallStep::Moved(State::Ringing));
    for (facts, again) in [
        (vec![rings()], true),
        (vec![rings(), sent(id(1), 1, &[])], true),
        (vec![rings(), call_ended(1, CallResult::Completed)], false),
        (vec![rings(), call_ended(1, CallResult::Busy)], false),
        (vec![sent(id(1), 1, &[])], false),
        (vec![], false),
    ] {
        let mut merger = Merger::new(0, 1_000);
        merger.accept(accepted(id(1)));
        facts.into_iter().for_each(|fact| merger.fact(fact));
        merger.check(&Check { ends_call: false, ..call_check(1) }, NOW);
        let checks = merger.finish().checks;
        assert_eq!(checks.len(), usize::from(again));
        for check in checks {
            assert_eq!((check.ends_call, check.attempt, check.due_at > NOW), (true, 1, true));
            merger.check(&check, check.due_at);
            assert_eq!(outcomes(&merger.finish()), [Outcome::new(Fate::Unknown, "call_lost")]);
        }
    }
}
