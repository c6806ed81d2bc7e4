//! One-time consents: each lets one message through, whatever is said twice, at once, or before a crash.

use std::time::Duration;

use postrider::domain::ids::JobId;
use postrider::domain::keys::WordKey;
use postrider::domain::time::UnixMicros;
use postrider::limits::consent::{Act, CONSENT_LIFE, REMEMBERED};
use postrider::limits::{ConsentAct, Consented, Limits};
use uuid::Uuid;

use super::{DAY, NOW, Store, acme, on_every_backend};

on_every_backend! {
    each_accept_lets_one_message_through
    what_is_said_twice_counts_once
    what_was_not_sent_gives_its_consent_back_once
    what_is_withdrawn_does_not_come_back
    the_order_in_which_it_is_told_is_no_matter
    what_was_given_since_outlives_a_denial
    of_what_nothing_was_heard_nothing_is_known
    many_jobs_at_once_take_what_there_is
    the_longest_memory_is_bounded
    people_templates_and_tenants_are_apart
}

fn fact(id: u128) -> Uuid {
    Uuid::from_u128(id << 64 | id)
}

fn job(id: u128) -> JobId {
    JobId(fact(1_000 + id))
}

fn second(number: i64) -> UnixMicros {
    NOW.plus(Duration::from_secs(number.unsigned_abs()))
}

/// Given in the second that has its number.
fn given(id: u128) -> Act {
    Act::Given(fact(id), second(i64::try_from(id).unwrap()))
}

fn to(of: u8, act: Act) -> ConsentAct {
    ConsentAct { tenant: acme(), of: WordKey([of; 16]), act }
}

async fn all(store: &Store, acts: &[Act]) -> Vec<Consented> {
    let acts: Vec<_> = acts.iter().map(|&act| to(1, act)).collect();
    store.limits.consent(NOW, &acts).await.unwrap()
}

async fn ask(store: &Store, act: Act) -> Consented {
    all(store, &[act]).await.remove(0)
}

const LEFT: fn(u8) -> Consented = Consented::Left;

async fn each_accept_lets_one_message_through(store: Store) {
    assert_eq!(all(&store, &[1, 2, 3].map(given)).await, [1, 2, 3].map(LEFT));
    let taken = [1, 2, 3, 4].map(|id| Act::Taken(job(id)));
    assert_eq!(all(&store, &taken).await, [LEFT(2), LEFT(1), LEFT(0), Consented::Unknown], "there may be others");
    // Until the vendor says that there are none.
    assert_eq!(ask(&store, Act::Denied(job(4))).await, LEFT(0));
    assert_eq!(ask(&store, Act::Taken(job(5))).await, Consented::None);
    assert_eq!(all(&store, &[given(4), Act::Taken(job(5))]).await, [LEFT(1), LEFT(0)]);
    assert_eq!(ask(&store, Act::Taken(job(6))).await, Consented::None);
}

async fn what_is_said_twice_counts_once(store: Store) {
    assert_eq!(all(&store, &[given(1); 3]).await, [LEFT(1); 3]);
    // The same job, claimed again after a crash or a delay, has what it took.
    assert_eq!(all(&store, &[Act::Taken(job(1)); 3]).await, [LEFT(0); 3]);
    assert_eq!(ask(&store, Act::Taken(job(2))).await, Consented::Unknown);
    assert_eq!(ask(&store, given(1)).await, LEFT(0), "still the same");
}

async fn what_was_not_sent_gives_its_consent_back_once(store: Store) {
    all(&store, &[given(1), Act::Taken(job(1))]).await;
    assert_eq!(ask(&store, Act::Returned(job(9))).await, LEFT(0), "it took none");
    assert_eq!(all(&store, &[Act::Returned(job(1)); 3]).await, [LEFT(1); 3]);
    assert_eq!(ask(&store, Act::Taken(job(2))).await, LEFT(0));
    assert_eq!(ask(&store, Act::Taken(job(1))).await, Consented::Unknown, "another was faster");
}

async fn what_is_withdrawn_does_not_come_back(store: Store) {
    all(&store, &[given(1), given(2), Act::Taken(job(1))]).await;
    assert_eq!(ask(&store, Act::Withdrawn(second(3))).await, LEFT(0));
    assert_eq!(ask(&store, Act::Returned(job(1))).await, LEFT(0));
    assert_eq!(ask(&store, Act::Taken(job(1))).await, Consented::None);
    assert_eq!(ask(&store, given(4)).await, LEFT(1));
    assert_eq!(ask(&store, Act::Withdrawn(second(3))).await, LEFT(1), "told again, it is the one before the accept");
}

async fn the_order_in_which_it_is_told_is_no_matter(store: Store) {
    let acts = [given(1), given(2), Act::Withdrawn(second(3)), given(4), given(5)];
    let orders = [[0, 1, 2, 3, 4], [4, 3, 2, 1, 0], [2, 0, 1, 3, 4], [0, 3, 1, 4, 2], [3, 0, 2, 4, 1]];
    for (of, order) in (1..).zip(orders) {
        let acts: Vec<_> = order.into_iter().chain(order).map(|place| to(of, acts[place])).collect();
        assert_eq!(store.limits.consent(NOW, &acts).await.unwrap().last(), Some(&LEFT(2)), "{order:?}");
        let taken = [1, 2, 3].map(|id| to(of, Act::Taken(job(id))));
        assert_eq!(store.limits.consent(NOW, &taken).await, Ok(vec![LEFT(1), LEFT(0), Consented::None]), "{order:?}");
    }
}

async fn what_was_given_since_outlives_a_denial(store: Store) {
    all(&store, &[given(1), given(2), Act::Taken(job(1)), given(3)]).await;
    assert_eq!(ask(&store, Act::Denied(job(1))).await, LEFT(1), "the second was none, the third is newer");
    assert_eq!(all(&store, &[Act::Taken(job(2)), Act::Taken(job(3))]).await, [LEFT(0), Consented::None]);
    // Whoever took none tells nothing of what is there.
    all(&store, &[given(4), Act::Denied(job(9))]).await;
    assert_eq!(ask(&store, Act::Taken(job(3))).await, LEFT(0));
}

async fn of_what_nothing_was_heard_nothing_is_known(store: Store) {
    let acts = [Act::Taken(job(1)), Act::Returned(job(1)), Act::Taken(job(2))];
    assert_eq!(all(&store, &acts).await, [Consented::Unknown; 3]);
    // From the first word on.
    assert_eq!(ask(&store, given(1)).await, LEFT(1));
    if let postrider::limits::AnyLimits::Embedded(_) = store.limits {
        let later = NOW.plus(CONSENT_LIFE - DAY);
        let taken = |id| to(1, Act::Taken(job(id)));
        assert_eq!(store.limits.consent(later, &[taken(1)]).await, Ok(vec![LEFT(0)]));
        let end = later.plus(CONSENT_LIFE);
        assert_eq!(store.limits.consent(end, &[taken(2)]).await, Ok(vec![Consented::Unknown]), "it is forgotten");
    }
}

async fn many_jobs_at_once_take_what_there_is(store: Store) {
    let given: Vec<_> = (0..10).map(given).collect();
    all(&store, &given).await;
    let taking = (0..50).map(|id| {
        let limits = store.limits.clone();
        async move { limits.consent(NOW, &[to(1, Act::Taken(job(id)))]).await.unwrap().remove(0) }
    });
    let told = futures_util::future::join_all(taking).await;
    assert_eq!(told.iter().filter(|told| matches!(told, Consented::Left(_))).count(), 10, "{told:?}");
}

async fn the_longest_memory_is_bounded(store: Store) {
    let many = u8::MAX as usize + 10;
    let given: Vec<_> = (0..many as u128).map(given).collect();
    assert_eq!(all(&store, &given).await.last(), Some(&LEFT(u8::MAX)));
    let taken: Vec<_> = (0..=REMEMBERED as u128).map(|id| Act::Taken(job(id))).collect();
    all(&store, &taken).await;
    let left = u8::MAX - u8::try_from(taken.len()).unwrap();
    // The oldest is forgotten: it has nothing to give back, and takes another.
    assert_eq!(ask(&store, Act::Returned(job(0))).await, LEFT(left));
    assert_eq!(ask(&store, Act::Taken(job(0))).await, LEFT(left - 1));
    assert_eq!(ask(&store, Act::Taken(job(REMEMBERED as u128))).await, LEFT(left - 1));
}

async fn people_templates_and_tenants_are_apart(store: Store) {
    let other = ConsentAct { tenant: "other".parse().unwrap(), ..to(1, given(1)) };
    let acts = [to(1, given(1)), to(2, given(1)), other.clone()];
    assert_eq!(store.limits.consent(NOW, &acts).await, Ok(vec![LEFT(1); 3]));
    let acts = [to(1, Act::Taken(job(1))), to(1, Act::Taken(job(2))), to(2, Act::Taken(job(2)))];
    assert_eq!(store.limits.consent(NOW, &acts).await, Ok(vec![LEFT(0), Consented::Unknown, LEFT(0)]));
    let act = Act::Taken(job(1));
    assert_eq!(store.limits.consent(NOW, &[ConsentAct { act, ..other }]).await, Ok(vec![LEFT(0)]));
}
