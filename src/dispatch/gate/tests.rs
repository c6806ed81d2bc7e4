//! What a provider's gate grants, and to whom.

use futures_util::FutureExt as _;
use tempfile::TempDir;

use super::*;
use crate::dispatch::tests::{START, provider};
use crate::domain::rate::Rate;
use crate::limits::embedded::Embedded;

/// A gate to one provider whose rate is used up, but for what is kept for the urgent.
async fn used_up(rate: &str) -> (Gate<Embedded>, Bucket, TempDir) {
    let (dir, clock) = (tempfile::tempdir().unwrap(), Clock::virtual_at(START));
    let limits = Embedded::open(&dir.path().join("limits"), START).unwrap();
    let rate: Rate = rate.parse().unwrap();
    let provider = provider(Some(rate));
    let bucket = rates::provider(&provider.profile.id, rate, Class::Marketing);
    let gate = Gate::new(vec![provider], Pacer::new(limits, clock.clone()), clock);
    while gate.pacer.take(&bucket, rate.burst.get(), LeaseMode::UpTo).await.unwrap().tokens > 0 {}
    (gate, bucket, dir)
}

fn wish<'a>(tenant: &'a TenantId, class: Class, costs: &'a (dyn Fn(&dyn Channel) -> Vec<u32> + Sync)) -> Wish<'a> {
    Wish { tenant, class, kind: Kind::Sms, avoid: &[], costs }
}

#[test]
fn jobs_fit_in_order_and_whole() {
    assert_eq!(fitting(&[1, 1, 1], 2), (2, 2));
    assert_eq!(fitting(&[3, 1], 2), (0, 0));
    assert_eq!(fitting(&[2, 2], 9), (2, 4));
}

#[tokio::test]
async fn where_tokens_are_scarce_what_is_not_urgent_waits_for_those_of_a_moment() {
    let (gate, bucket, _dir) = used_up("1000/s").await;
    let (provider, tenant) = (&gate.providers[0], "acme".parse().unwrap());
    let waits = async |class: Class, jobs: usize| {
        let (costs, none) = (vec![1; jobs], |_: &dyn Channel| vec![]);
        gate.tokens(provider, &bucket, (wish(&tenant, class, &none), &costs), START).await.unwrap_err()
    };
    let first = waits(Class::Otp, 100).await;
    let millis = Duration::from_millis;
    assert_eq!(waits(Class::Marketing, 1).await, first, "one job waits for its own token");
    assert_eq!(waits(Class::Marketing, 3).await, first + millis(2), "three wait for three");
    assert_eq!(waits(Class::Marketing, 100).await, first + millis(5), "many wait for those of five milliseconds");
    // A bucket of two is never more than half full when somebody looks.
    let (gate, bucket, _dir) = used_up("100/s:2").await;
    assert_eq!(worth_a_claim(&bucket, 100), Duration::ZERO, "{:?}", gate.clock);
}

#[tokio::test]
async fn who_is_urgent_and_met_room_that_another_held_in_vain_is_woken() {
    let (gate, _, _dir) = used_up("1000/s").await;
    let (provider, tenant) = (&gate.providers[0], "acme".parse().unwrap());
    let one = |_: &dyn Channel| vec![1];
    let woken = async |by: Class| {
        let freed = gate.freed.notified();
        assert!(gate.ask(provider, wish(&tenant, by, &one)).await.is_err(), "there are no tokens");
        freed.now_or_never().is_some()
    };
    assert!(!woken(Class::Marketing).await, "nobody waits");
    let sale = Waiting::new(&gate.line, wish(&tenant, Class::Marketing, &one), Duration::from_secs(1), &gate.freed);
    assert!(!woken(Class::Marketing).await, "two without tokens would wake each other for ever");
    let code = Waiting::new(&gate.line, wish(&tenant, Class::Otp, &one), Duration::from_secs(1), &gate.freed);
    assert!(woken(Class::Marketing).await);
    assert_eq!((sale.is_next(), code.is_next()), (false, true), "who was in vain does not take the room again");
}
