//! Outcomes that say that nobody was reached, and how far readers have come.

use postrider::domain::event::{Change, Fate, Outcome};
use postrider::ledger::{Ledger, Recording};

use super::samples::{delivered, event, events, job, sent, tenant};
use super::{Fixture, on_every_backend};

on_every_backend! {
    losses_are_told_once_with_their_jobs
    a_bookmark_never_goes_back
}

fn settled(fate: Fate, reason: &str) -> Change {
    Change::Settled(Outcome::new(fate, reason))
}

async fn losses_are_told_once_with_their_jobs(Fixture { ledger, .. }: Fixture) {
    let changes = vec![
        (1, sent()),
        (1, settled(Fate::Undelivered, "absent")),
        (2, delivered()),
        (3, settled(Fate::Failed, Outcome::NO_ANSWER)),
        (4, settled(Fate::Failed, "no_provider")),
        (5, settled(Fate::Unknown, "no_receipt")),
        (6, settled(Fate::Undelivered, "no_answer")),
        (7, settled(Fate::Rejected, "x")),
    ];
    let mut recording = Recording { jobs: (1..7).map(job).collect(), ..events(0, changes) };
    let mut foreign = event(9, 8, settled(Fate::Undelivered, "x"));
    foreign.event.tenant = tenant("bolt");
    recording.events.push(foreign);
    ledger.record(&recording).await.unwrap();
    let acme = [tenant("acme")];
    let (found, complete) = ledger.losses(&acme, (0, 9), 100).await.unwrap();
    let told: Vec<_> = found.iter().map(|loss| (loss.seq, loss.outcome.fate, loss.sealed.is_some())).collect();
    let expected = [
        (2, Fate::Undelivered, true),
        (5, Fate::Failed, true),
        (7, Fate::Undelivered, true),
        (8, Fate::Rejected, false),
    ];
    assert_eq!((told, complete), (expected.to_vec(), 9), "the last one's row is still to come");
    assert_eq!(found[0].sealed.as_ref(), Some(&job(1).sealed));
    assert_eq!(found[0].at, event(2, 1, sent()).event.at);
    // Page by page, and never beyond the number that was given.
    let (page, complete) = ledger.losses(&acme, (2, 9), 2).await.unwrap();
    assert_eq!((page.iter().map(|loss| loss.seq).collect::<Vec<_>>(), complete), (vec![5], 5), "4 was looked at");
    assert_eq!(ledger.losses(&acme, (5, 6), 2).await, Ok((vec![], 6)));
    let (all, _) = ledger.losses(&[tenant("acme"), tenant("bolt")], (8, 9), 9).await.unwrap();
    assert_eq!(all.iter().map(|loss| loss.seq).collect::<Vec<_>>(), [9]);
    assert_eq!(ledger.losses(&[], (0, 9), 9).await, Ok((vec![], 9)));
}

async fn a_bookmark_never_goes_back(Fixture { ledger, .. }: Fixture) {
    assert_eq!(ledger.bookmark("a").await, Ok(0));
    for seq in [5, 9, 7] {
        ledger.put_bookmark("a", seq).await.unwrap();
    }
    ledger.put_bookmark("b", 1).await.unwrap();
    assert_eq!((ledger.bookmark("a").await, ledger.bookmark("b").await), (Ok(9), Ok(1)));
}
