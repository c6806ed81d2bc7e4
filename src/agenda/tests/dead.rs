//! What becomes of jobs in the dead-letter queue.

use super::*;
use crate::domain::event::{Change, Event, Fate};
use crate::limits::{Claim, Limits, Words};
use crate::queue::dead::{self, Letter, Why};
use crate::queue::frame::Frame;
use crate::queue::{QueueName, Route};

/// Puts an envelope among the dead, as dispatch does.
async fn dies(rig: &Rig, envelope: &Envelope) {
    let (queue, suspect) = (&rig.feeder.queue, QueueName::Suspect("fast".parse().unwrap()));
    let frame = dead::single(envelope.clone(), &rig.feeder.sealer).unwrap();
    queue.publish(Uuid::new_v4(), frame, Route::To(suspect.clone())).await.unwrap();
    let delivery = queue.consume(suspect.clone(), 1).await.unwrap().recv().await.unwrap();
    dead::bury(queue, delivery, Why { from: suspect, reason: "a test", at: rig.feeder.clock.now() }).await.unwrap();
}

/// Returns the events that record was told, and acknowledges them.
async fn told(rig: &Rig) -> Vec<Event> {
    let frames = rig.feeder.queue.depth(&QueueName::Record).await.unwrap();
    let mut record = rig.feeder.queue.consume(QueueName::Record, 100).await.unwrap();
    let mut events = vec![];
    for _ in 0..frames {
        let next = rig.feeder.clock.timeout(Duration::from_secs(20), record.recv()).await;
        let Ok(Some(delivery)) = next else { panic!("a fact comes") };
        let Ok(Frame::Facts(facts)) = Frame::decode(&delivery.frame, &rig.feeder.sealer) else { panic!("facts") };
        events.extend(facts.into_iter().map(|fact| match fact {
            Fact::Event(event) => event,
            other => panic!("{other:?}"),
        }));
        delivery.ack();
    }
    events
}

/// Waits until so many letters are in nobody's hand, and looks at them.
async fn letters(rig: &Rig, count: u64) -> Vec<Letter> {
    settles_at(rig, count).await;
    dead::look(&rig.feeder.queue, &rig.feeder.clock).await.unwrap().into_iter().map(|(letter, _)| letter).collect()
}

/// Lets limits be whole: what recovers decides nothing.
async fn whole(rig: &Rig) {
    let identity = rig.feeder.limits.identity().await.unwrap();
    assert!(rig.feeder.limits.recovered(&identity).await.unwrap());
}

async fn settles_at(rig: &Rig, count: u64) {
    let depth = async {
        while rig.feeder.queue.depth(&QueueName::Dead).await.unwrap() != count {
            rig.feeder.clock.pause(Duration::from_millis(5)).await;
        }
    };
    rig.feeder.clock.timeout(Duration::from_secs(20), depth).await.unwrap();
}

#[tokio::test]
async fn a_dead_job_waits_for_its_expiry_which_settles_it() {
    let mut rig = Rig::new(&[("fast", "100/s")], &[tenant("acme", None)]).await;
    let envelope = rig.envelope(ACME, 2, START);
    let expires_at = envelope.shared.expires_at;
    dies(&rig, &envelope).await;
    rig.feeder.look_after_dead().await.unwrap();
    let waits = Change::Deferred { reason: "dead_letter".into(), until: expires_at };
    let events = told(&rig).await;
    assert_eq!(events.iter().map(|event| event.change.clone()).collect::<Vec<_>>(), [waits.clone(), waits]);
    let each = letters(&rig, 2).await;
    assert!(each.len() == 2 && each.iter().all(|letter| letter.told && letter.at == Some(START)), "{each:?}");
    // Looked at again, nothing changes.
    settles_at(&rig, 2).await;
    assert_eq!(rig.feeder.look_after_dead().await.unwrap(), (2, expires_at));
    assert!(told(&rig).await.is_empty());

    settles_at(&rig, 2).await;
    rig.feeder.clock.advance(expires_at.since(START));
    // Limits that recover cannot say whether a copy was claimed.
    assert_eq!(rig.feeder.look_after_dead().await.unwrap().0, 2);
    settles_at(&rig, 2).await;
    whole(&rig).await;
    assert_eq!(rig.feeder.look_after_dead().await.unwrap().0, 0);
    let ends: Vec<_> = told(&rig).await.iter().filter_map(|event| event.change.outcome()).collect();
    assert_eq!(ends.len(), 2);
    assert!(ends.iter().all(|end| (end.fate, &*end.reason) == (Fate::Expired, "dead_letter")), "{ends:?}");
    assert!(letters(&rig, 0).await.is_empty());
}

#[tokio::test]
async fn a_dead_job_of_which_a_copy_was_claimed_is_for_record_to_decide() {
    let mut rig = Rig::new(&[("fast", "100/s")], &[tenant("acme", None)]).await;
    let envelope = rig.envelope(ACME, 1, START);
    let (shared, job) = (&envelope.shared, &envelope.jobs[0]);
    let against = Words::new(shared, &rig.feeder.sealer).against(shared, job, &rig.feeder.sealer).unwrap();
    let deadline = START.plus(Duration::from_secs(30));
    let claim = Claim { token: 7, deadline, ..Claim::question(shared, job, against, &rig.feeder.sealer) };
    whole(&rig).await;
    rig.feeder.limits.claim(START, &[claim]).await.unwrap();
    dies(&rig, &envelope).await;
    rig.feeder.look_after_dead().await.unwrap();
    settles_at(&rig, 1).await;
    rig.feeder.look_after_dead().await.unwrap();
    assert!(letters(&rig, 0).await.is_empty());
    let check = rig.feeder.queue.consume(QueueName::Soon, 1).await.unwrap().recv().await.unwrap();
    let Ok(Frame::Checks(checks)) = Frame::decode(&check.frame, &rig.feeder.sealer) else { panic!("a check") };
    assert_eq!((checks[0].attempt, checks[0].due_at), (1, deadline));
}

#[tokio::test]
async fn what_cannot_be_read_stays_until_somebody_puts_it_back() {
    let rig = Rig::new(&[("fast", "100/s")], &[]).await;
    let queue = &rig.feeder.queue;
    queue.publish(Uuid::from_u128(5), "no frame".into(), Route::To(QueueName::Later)).await.unwrap();
    let delivery = queue.consume(QueueName::Later, 1).await.unwrap().recv().await.unwrap();
    dead::bury(queue, delivery, Why { from: QueueName::Later, reason: "no frame", at: START }).await.unwrap();
    assert_eq!(rig.feeder.look_after_dead().await.unwrap().0, 1);
    settles_at(&rig, 1).await;
    let (letter, delivery) = dead::look(queue, &rig.feeder.clock).await.unwrap().remove(0);
    letter.redrive(queue, &rig.feeder.sealer).await.unwrap();
    delivery.ack();
    let back = queue.consume(QueueName::Later, 1).await.unwrap().recv().await.unwrap();
    assert_eq!((back.id, &back.frame[..]), (Uuid::from_u128(5), &b"no frame"[..]));
}
