//! A memory that is new, or has lost something: what leaves before it is whole, and what it is given back.

use std::time::Duration;

use postrider::domain::job::Class;
use postrider::domain::suppression::{Scope, Source, Suppression};
use postrider::limits::{Against, Claim, Decision, Identity, Limits, LimitsError, RECOVERY_LEAD, Touch};

use super::{DAY, HOUR, NOW, Store, ask, capped, claim, full, take};

/// Runs each check on each backend, with a store that is new.
macro_rules! on_every_new_backend {
    ($($check:ident)+) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check(crate::limits_contract::embedded()).await;
            })+
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check(crate::limits_contract::redis()).await;
            })+
        }
    };
}

on_every_new_backend! {
    a_new_memory_lets_only_what_is_urgent_go
    restored_touches_hold_their_places
    one_leads_a_recovery
}

fn of(class: Class, asked: Claim) -> Claim {
    Claim { against: Against { class, ..asked.against.clone() }, ..asked }
}

async fn a_new_memory_lets_only_what_is_urgent_go(store: Store) {
    let limits = &store.limits;
    let identity = limits.identity().await.unwrap();
    assert!(identity.recovering);
    let waits = Decision::Recovering { claimed: false };
    for (job, class) in (1..).zip([Class::Marketing, Class::Notification]) {
        assert_eq!(ask(&store, NOW, &of(class, capped(1, job, &[take(1, 1, DAY)]))).await, waits);
    }
    let otp = of(Class::Otp, capped(1, 3, &[take(1, 1, DAY)]));
    assert_eq!(ask(&store, NOW, &otp).await, Decision::Recovering { claimed: true }, "nothing was taken before");
    let held = Decision::Held { attempt: 1, deadline: otp.deadline };
    assert_eq!(ask(&store, NOW, &Claim { token: 9, ..otp.clone() }).await, held, "it is claimed");
    let seen = Claim { seen: Some(NOW.minus(DAY * 40)), ..claim(2, 4) };
    assert_eq!(ask(&store, NOW, &seen).await, Decision::Forgotten, "that needs no memory");
    // What opts out now binds at once where it is known; nothing is taken back, since it could come back.
    let stop = Suppression {
        tenant: otp.tenant.clone(),
        address: claim(5, 5).against.address,
        scope: Scope::Everything,
        kind: None,
        source: Source::Keyword,
        at: NOW,
    };
    limits.suppress(std::slice::from_ref(&stop)).await.unwrap();
    assert_eq!(limits.unsuppress(&stop, Source::Keyword).await, Err(LimitsError::Recovering));
    assert_eq!(ask(&store, NOW, &of(Class::Otp, claim(5, 5))).await, Decision::Suppressed(Scope::Everything));

    let other = Identity { id: "another memory".into(), ..identity.clone() };
    assert!(!limits.recovered(&other).await.unwrap());
    assert_eq!(ask(&store, NOW, &claim(6, 6)).await, waits);
    assert!(limits.recovered(&identity).await.unwrap());
    assert_eq!(limits.identity().await.unwrap(), Identity { recovering: false, ..identity });
    assert_eq!(ask(&store, NOW, &claim(6, 6)).await, Decision::Claimed);
    limits.unsuppress(&stop, Source::Keyword).await.unwrap();
}

async fn restored_touches_hold_their_places(store: Store) {
    let limits = &store.limits;
    let caps = [take(1, 2, DAY)];
    // Somebody gets a password meanwhile, which counts too.
    let otp = of(Class::Otp, capped(1, 9, &caps));
    assert_eq!(ask(&store, NOW, &otp).await, Decision::Recovering { claimed: true });
    let touch = |recipient, job, hours: u32| {
        let at = NOW.minus(HOUR * hours);
        Touch { claim: Claim { deadline: at, ..capped(recipient, job, &caps) }, at }
    };
    let touches = [touch(1, 1, 20), touch(2, 2, 30), touch(2, 3, 20), touch(2, 4, 10), touch(3, 5, 23)];
    limits.restore(&touches).await.unwrap();
    limits.restore(&touches[2..]).await.unwrap();
    let identity = limits.identity().await.unwrap();
    assert!(limits.recovered(&identity).await.unwrap());

    let over = |open_at| full(0, open_at);
    assert_eq!(ask(&store, NOW, &capped(1, 11, &caps)).await, over(NOW.plus(DAY - HOUR * 20)));
    assert_eq!(ask(&store, NOW, &capped(2, 12, &caps)).await, over(NOW.plus(DAY - HOUR * 20)), "twice is once");
    let held = Decision::Held { attempt: 1, deadline: NOW.minus(HOUR * 23) };
    assert_eq!(ask(&store, NOW, &Claim { token: 99, ..capped(3, 5, &caps) }).await, held, "its job is known");
    assert_eq!(ask(&store, NOW, &capped(3, 13, &caps)).await, Decision::Claimed, "one place was left");
    let later = NOW.plus(HOUR * 2);
    assert_eq!(ask(&store, later, &capped(3, 14, &caps)).await, Decision::Claimed, "and one has come free");
    assert_eq!(ask(&store, later, &capped(3, 15, &caps)).await, over(NOW.plus(DAY)));
}

async fn one_leads_a_recovery(store: Store) {
    let limits = &store.limits;
    assert!(limits.lead_recovery(NOW, 1).await.unwrap());
    assert!(limits.lead_recovery(NOW.plus(Duration::from_secs(5)), 1).await.unwrap());
    if limits.lead_recovery(NOW.plus(Duration::from_secs(6)), 2).await.unwrap() {
        // The embedded backend has one process.
        return;
    }
    let over = NOW.plus(Duration::from_secs(6) + RECOVERY_LEAD);
    assert!(limits.lead_recovery(over, 2).await.unwrap());
    assert!(!limits.lead_recovery(over, 1).await.unwrap());
}
