//! Values that processes share and one of them renews.

use std::time::Duration;

use postrider::domain::keys::Fingerprint;
use postrider::domain::time::UnixMicros;
use postrider::limits::{Borrow, Borrowed, Limits, Shared};

use super::{HOUR, NOW, Store, on_every_backend};

on_every_backend! {
    one_renews_and_the_others_wait_for_it
    an_old_value_is_used_while_one_renews_it
    a_value_that_did_not_do_is_renewed_once
    who_does_not_come_back_is_replaced
    of_many_who_ask_at_once_one_renews
}

const MOMENT: Duration = Duration::from_secs(10);

fn asked(who: u64, now: UnixMicros) -> Borrow<'static> {
    Borrow { name: "wechat:wx1", who, refused: None, renew_until: now.plus(MOMENT) }
}

fn value(mark: u8, from: UnixMicros) -> Shared {
    let sealed = vec![mark, 0, 255, b'\n'].into();
    Shared { mark: Fingerprint([mark; 16]), sealed, renew_at: from.plus(HOUR), until: from.plus(HOUR * 2) }
}

async fn one_renews_and_the_others_wait_for_it(store: Store) {
    let limits = &store.limits;
    assert_eq!(limits.borrow(NOW, &asked(1, NOW)).await, Ok(Borrowed::Yours));
    assert_eq!(limits.borrow(NOW, &asked(2, NOW)).await, Ok(Borrowed::Wait(NOW.plus(MOMENT))));
    // A repeated question is the same one.
    assert_eq!(limits.borrow(NOW, &asked(1, NOW)).await, Ok(Borrowed::Yours));
    assert_eq!(limits.lend(NOW, ("wechat:wx1", 2), &value(9, NOW)).await, Ok(false), "it was not asked to");
    assert_eq!(limits.lend(NOW, ("wechat:wx1", 1), &value(1, NOW)).await, Ok(true));
    for who in [1, 2, 3] {
        assert_eq!(limits.borrow(NOW, &asked(who, NOW)).await, Ok(Borrowed::Value(value(1, NOW))));
    }
    let other = Borrow { name: "wechat:wx2", ..asked(2, NOW) };
    assert_eq!(limits.borrow(NOW, &other).await, Ok(Borrowed::Yours), "each name has its own");
}

async fn an_old_value_is_used_while_one_renews_it(store: Store) {
    let limits = &store.limits;
    limits.borrow(NOW, &asked(1, NOW)).await.unwrap();
    limits.lend(NOW, ("wechat:wx1", 1), &value(1, NOW)).await.unwrap();
    let later = NOW.plus(HOUR);
    assert_eq!(limits.borrow(later, &asked(2, later)).await, Ok(Borrowed::Yours));
    assert_eq!(limits.borrow(later, &asked(1, later)).await, Ok(Borrowed::Value(value(1, NOW))));
    limits.lend(later, ("wechat:wx1", 2), &value(2, later)).await.unwrap();
    assert_eq!(limits.borrow(later, &asked(1, later)).await, Ok(Borrowed::Value(value(2, later))));
    let end = later.plus(HOUR * 2);
    assert_eq!(limits.borrow(end, &asked(1, end)).await, Ok(Borrowed::Yours), "it holds no more");
}

async fn a_value_that_did_not_do_is_renewed_once(store: Store) {
    let limits = &store.limits;
    limits.borrow(NOW, &asked(1, NOW)).await.unwrap();
    limits.lend(NOW, ("wechat:wx1", 1), &value(1, NOW)).await.unwrap();
    let refused = |who| Borrow { refused: Some(Fingerprint([1; 16])), ..asked(who, NOW) };
    assert_eq!(limits.borrow(NOW, &refused(2)).await, Ok(Borrowed::Yours));
    assert_eq!(limits.borrow(NOW, &refused(1)).await, Ok(Borrowed::Wait(NOW.plus(MOMENT))));
    limits.lend(NOW, ("wechat:wx1", 2), &value(2, NOW)).await.unwrap();
    // Who says so second finds the new one.
    assert_eq!(limits.borrow(NOW, &refused(1)).await, Ok(Borrowed::Value(value(2, NOW))));
}

async fn who_does_not_come_back_is_replaced(store: Store) {
    let limits = &store.limits;
    assert_eq!(limits.borrow(NOW, &asked(1, NOW)).await, Ok(Borrowed::Yours));
    let later = NOW.plus(MOMENT);
    assert_eq!(limits.borrow(later, &asked(2, later)).await, Ok(Borrowed::Yours));
    assert_eq!(limits.lend(later, ("wechat:wx1", 1), &value(1, later)).await, Ok(false));
    assert_eq!(limits.lend(later, ("wechat:wx1", 2), &value(2, later)).await, Ok(true));
}

async fn of_many_who_ask_at_once_one_renews(store: Store) {
    let asking = (0..50).map(|who| {
        let limits = store.limits.clone();
        async move { limits.borrow(NOW, &asked(who, NOW)).await.unwrap() }
    });
    let told = futures_util::future::join_all(asking).await;
    assert_eq!(told.iter().filter(|told| **told == Borrowed::Yours).count(), 1, "{told:?}");
}
