//! Opt-outs bind every claim asked after they returned, and nothing else.

use std::time::Duration;

use postrider::domain::job::{Class, Kind};
use postrider::domain::keys::{AddressKey, WordKey};
use postrider::domain::rule::{Act, JobRule, Names};
use postrider::domain::suppression::{Scope, Source, Suppression};
use postrider::domain::time::Clock;
use postrider::limits::{Against, Claim, Decision, Limits};

use super::{DAY, NOW, Store, acme, ask, capped, claim, full, on_every_backend, take};

on_every_backend! {
    opt_outs_bind_by_scope_and_class
    each_source_takes_back_its_own
    an_opt_out_of_one_kind_binds_that_kind
    many_opt_outs_bind_at_once
    a_refused_claim_takes_nothing
    a_refused_resend_leaves_the_first_claim
    the_widest_opt_out_is_named
    an_opt_out_binds_while_jobs_are_claimed
}

const SALES: WordKey = WordKey([11; 16]);
const NEWS: WordKey = WordKey([12; 16]);

fn optout(recipient: u8, scope: Scope, source: Source) -> Suppression {
    Suppression { tenant: acme(), address: AddressKey([recipient; 16]), scope, kind: None, source, at: NOW }
}

async fn opt_outs_bind_by_scope_and_class(store: Store) {
    let scopes = [
        Scope::Sender(SALES),
        Scope::Signature(SALES),
        Scope::Topic(NEWS),
        Scope::Brand,
        Scope::Everything,
        Scope::Global,
    ];
    for (recipient, scope) in (1..).zip(scopes) {
        store.limits.suppress(&[optout(recipient, scope, Source::Keyword)]).await.unwrap();
    }
    let mut job = 0;
    for (recipient, scope) in (1..).zip(scopes) {
        for &class in Class::ALL {
            for (sender, topic) in [(None, None), (Some(SALES), Some(SALES)), (Some(NEWS), Some(NEWS))] {
                job += 1;
                let plain = claim(recipient, job);
                let against = Against { class, sender, signature: topic, topic, ..plain.against.clone() };
                let touting = matches!(class, Class::Notification | Class::Marketing);
                let binds = match scope {
                    Scope::Sender(word) => touting && sender == Some(word),
                    Scope::Signature(word) | Scope::Topic(word) => touting && topic == Some(word),
                    Scope::Brand | Scope::Global => touting,
                    Scope::Everything => true,
                };
                let expected = if binds { Decision::Suppressed(scope) } else { Decision::Claimed };
                let asked = Claim { against, ..plain };
                assert_eq!(ask(&store, NOW, &asked).await, expected, "{scope:?} {class} {sender:?}");
                let other = Claim { tenant: "other".parse().unwrap(), ..asked };
                let all = scope == Scope::Global && binds;
                let expected = if all { Decision::Suppressed(scope) } else { Decision::Claimed };
                assert_eq!(ask(&store, NOW, &other).await, expected, "another tenant's");
            }
        }
    }
}

async fn each_source_takes_back_its_own(store: Store) {
    let limits = &store.limits;
    let [keyword, provider] = [Source::Keyword, Source::Provider].map(|source| optout(1, Scope::Brand, source));
    let everything = optout(1, Scope::Everything, Source::Keyword);
    for optout in [&keyword, &provider, &keyword, &everything] {
        limits.suppress(std::slice::from_ref(optout)).await.unwrap();
    }
    let known = async || {
        let mut known = limits.suppressions(&acme(), AddressKey([1; 16])).await.unwrap();
        known.sort_by_key(|optout| (optout.scope == Scope::Everything, optout.source));
        known
    };
    assert_eq!(known().await, [keyword.clone(), provider.clone(), everything.clone()]);
    assert_eq!(limits.suppressions(&"other".parse().unwrap(), AddressKey([1; 16])).await.unwrap(), []);
    limits.unsuppress(&keyword, Source::Keyword).await.unwrap();
    assert_eq!(known().await, [provider.clone(), everything.clone()]);
    limits.unsuppress(&keyword, Source::Keyword).await.unwrap();
    limits.suppress(std::slice::from_ref(&keyword)).await.unwrap();
    limits.unsuppress(&keyword, Source::Api).await.unwrap();
    assert_eq!(known().await, std::slice::from_ref(&everything), "the API's word takes back every source");
    let again = Suppression { at: NOW.plus(DAY), ..everything.clone() };
    limits.suppress(std::slice::from_ref(&again)).await.unwrap();
    assert_eq!(known().await, [again]);
    limits.unsuppress(&everything, Source::Keyword).await.unwrap();
    assert_eq!(known().await, []);
    assert_eq!(ask(&store, NOW, &claim(1, 1)).await, Decision::Claimed);
}

async fn an_opt_out_of_one_kind_binds_that_kind(store: Store) {
    let of_calls = |scope| Suppression { kind: Some(Kind::Call), ..optout(1, scope, Source::Api) };
    let both = [of_calls(Scope::Brand), of_calls(Scope::Global)];
    store.limits.suppress(&both).await.unwrap();
    let mut job = 0;
    let mut decide = async |kind| {
        job += 1;
        let plain = claim(1, job);
        ask(&store, NOW, &Claim { against: Against { kind, ..plain.against.clone() }, ..plain }).await
    };
    assert_eq!(decide(Kind::Call).await, Decision::Suppressed(Scope::Global));
    assert_eq!(decide(Kind::Sms).await, Decision::Claimed);
    store.limits.unsuppress(&optout(1, Scope::Global, Source::Api), Source::Api).await.unwrap();
    assert_eq!(
        decide(Kind::Call).await,
        Decision::Suppressed(Scope::Global),
        "of all kinds there is none to take back"
    );
    for opt_out in &both {
        store.limits.unsuppress(opt_out, Source::Api).await.unwrap();
    }
    assert_eq!(decide(Kind::Call).await, Decision::Claimed);
}

async fn many_opt_outs_bind_at_once(store: Store) {
    let many: Vec<_> = (0..3_000_u32).map(|n| addressed(n, Scope::Brand)).collect();
    store.limits.suppress(&many).await.unwrap();
    store.limits.suppress(&many[..700]).await.unwrap();
    for n in [0, 255, 256, 699, 700, 2_999] {
        let found = store.limits.suppressions(&acme(), addressed(n, Scope::Brand).address).await.unwrap();
        assert_eq!(found, [addressed(n, Scope::Brand)]);
    }
    assert_eq!(store.limits.suppressions(&acme(), addressed(3_000, Scope::Brand).address).await.unwrap(), []);
    // Several of one address in one call.
    let several =
        [addressed(9_000, Scope::Everything), addressed(9_000, Scope::Global), addressed(9_000, Scope::Brand)];
    store.limits.suppress(&several).await.unwrap();
    assert_eq!(store.limits.suppressions(&acme(), several[0].address).await.unwrap().len(), 3);
}

fn addressed(n: u32, scope: Scope) -> Suppression {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&n.to_le_bytes());
    Suppression { address: AddressKey(address), ..optout(0, scope, Source::Import) }
}

async fn a_refused_claim_takes_nothing(store: Store) {
    let caps = [take(1, 1, DAY)];
    let first = capped(1, 1, &caps);
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    let brand = optout(1, Scope::Brand, Source::Api);
    store.limits.suppress(std::slice::from_ref(&brand)).await.unwrap();
    let held = Decision::Held { attempt: 1, deadline: first.deadline };
    assert_eq!(ask(&store, NOW, &Claim { token: 9, ..first.clone() }).await, held, "it may be out already");
    // The first answer was lost, say: nothing went out for it, so the repeated asking is refused and undone.
    assert_eq!(ask(&store, NOW, &first).await, Decision::Suppressed(Scope::Brand));
    store.limits.unsuppress(&brand, Source::Api).await.unwrap();
    let rule = JobRule { tenant: acme(), names: Names::job(first.job), at: NOW, act: Act::Cancel };
    store.limits.rule(&[rule], NOW.plus(DAY)).await.unwrap();
    assert_eq!(ask(&store, NOW, &first).await, Decision::Cancelled);
    assert_eq!(ask(&store, NOW, &capped(1, 2, &caps)).await, Decision::Claimed, "the place is free");
    let forgotten = Claim { seen: Some(NOW.minus(DAY * 2)), ..first };
    assert_eq!(ask(&store, NOW, &forgotten).await, Decision::Forgotten, "cancelled, and yet perhaps handed over");
}

async fn an_opt_out_binds_while_jobs_are_claimed(store: Store) {
    let bound = std::sync::atomic::AtomicBool::new(false);
    let claiming = async |worker: u64| {
        let (mut refused, mut step) = (0, 0);
        // However fast the store is, some are asked before the opt-out and some after it.
        while refused < 50 && step < 200_000 {
            let must = bound.load(std::sync::atomic::Ordering::SeqCst);
            let decision = ask(&store, NOW, &claim(1, worker << 32 | step)).await;
            assert!(!must || decision == Decision::Suppressed(Scope::Brand), "asked after the opt-out: {decision:?}");
            refused += u64::from(decision != Decision::Claimed);
            step += 1;
        }
        refused
    };
    let opting = async {
        Clock::system().pause(Duration::from_millis(5)).await;
        store.limits.suppress(&[optout(1, Scope::Brand, Source::Keyword)]).await.unwrap();
        bound.store(true, std::sync::atomic::Ordering::SeqCst);
    };
    let (a, b, c, ()) = tokio::join!(claiming(1), claiming(2), claiming(3), opting);
    assert_eq!(a + b + c, 150, "every worker meets the opt-out");
}

async fn a_refused_resend_leaves_the_first_claim(store: Store) {
    let first = capped(1, 1, &[take(1, 1, DAY)]);
    let second = Claim { attempt: 2, supersedes: 1, token: 2, ..first.clone() };
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &second).await, Decision::Claimed);
    let everything = optout(1, Scope::Everything, Source::Api);
    store.limits.suppress(std::slice::from_ref(&everything)).await.unwrap();
    assert_eq!(ask(&store, NOW, &second).await, Decision::Suppressed(Scope::Everything));
    store.limits.unsuppress(&everything, Source::Api).await.unwrap();
    let held = Decision::Held { attempt: 1, deadline: first.deadline };
    assert_eq!(ask(&store, NOW, &Claim { token: 9, ..first }).await, held, "the first may be out");
    let over = full(0, NOW.plus(DAY));
    assert_eq!(ask(&store, NOW, &capped(1, 2, &[take(1, 1, DAY)])).await, over, "and so is its touch");
}

async fn the_widest_opt_out_is_named(store: Store) {
    let plain = claim(1, 1);
    let against = Against { sender: Some(SALES), topic: Some(NEWS), ..plain.against.clone() };
    let asked = Claim { against, ..plain };
    for scope in [Scope::Topic(NEWS), Scope::Global, Scope::Sender(SALES), Scope::Everything, Scope::Brand] {
        store.limits.suppress(&[optout(1, scope, Source::Api)]).await.unwrap();
    }
    for scope in [Scope::Global, Scope::Everything, Scope::Brand, Scope::Topic(NEWS), Scope::Sender(SALES)] {
        assert_eq!(ask(&store, NOW, &asked).await, Decision::Suppressed(scope));
        store.limits.unsuppress(&optout(1, scope, Source::Api), Source::Api).await.unwrap();
    }
    assert_eq!(ask(&store, NOW, &asked).await, Decision::Claimed);
}
