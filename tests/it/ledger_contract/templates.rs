//! Templates in versions, and the memory that serves them.

use postrider::domain::template::{Body, Template};
use postrider::ledger::{Ledger, NewTemplate, Templates};
use postrider::seal::Sealer;

use super::samples::{at, tenant};
use super::{Fixture, on_every_backend};

on_every_backend! {
    versions_rise_and_stay
    changes_are_read_in_order_and_once
    a_memory_knows_what_is_in_use_and_reads_what_is_not
    two_that_store_at_once_get_two_versions
}

fn template(name: &str, text: &str) -> Template {
    let body = Body { sms_text: text.into(), ..Body::default() };
    Template {
        name: name.into(),
        version: 0,
        variables: vec![],
        bodies: vec![body],
        providers: vec![],
        stored_at: at(0),
    }
}

async fn versions_rise_and_stay(fixture: Fixture) {
    let (ledger, sealer, acme) = (&fixture.ledger, Sealer::ephemeral().unwrap(), tenant("acme"));
    let put = |tenant, text: &'static str, second| {
        let new = NewTemplate::new(tenant, &template("order", text), at(second), &sealer);
        async move { ledger.put_template(&new).await.unwrap() }
    };
    assert_eq!(put(&acme, "one", 1).await, 1);
    assert_eq!(put(&acme, "two", 2).await, 2);
    assert_eq!(put(&tenant("other"), "other's", 3).await, 1);
    let row = ledger.template(&acme, "order", 1).await.unwrap().unwrap();
    assert_eq!((row.version, row.stored_at, row.dropped_at), (1, at(1), None));
    assert_eq!(&*row.open(&sealer).unwrap().bodies[0].sms_text, "one");
    assert!(ledger.template(&acme, "order", 3).await.unwrap().is_none());
    assert!(ledger.template(&acme, "offer", 1).await.unwrap().is_none());
    assert!(ledger.drop_template(&acme, "order", at(9)).await.unwrap());
    assert!(!ledger.drop_template(&acme, "order", at(10)).await.unwrap(), "it is out of use already");
    let fixture = fixture.reopened().await;
    let ledger = &fixture.ledger;
    let row = ledger.template(&acme, "order", 2).await.unwrap().unwrap();
    assert_eq!((row.dropped_at, &*row.open(&sealer).unwrap().bodies[0].sms_text), (Some(at(9)), "two"));
    let again = NewTemplate::new(&acme, &template("order", "three"), at(11), &sealer);
    assert_eq!(ledger.put_template(&again).await.unwrap(), 3);
    // What is sealed for one name does not open under another.
    let mut stolen = row;
    stolen.name = "offer".into();
    assert!(stolen.open(&sealer).is_err());
}

async fn changes_are_read_in_order_and_once(fixture: Fixture) {
    let (ledger, sealer, acme) = (&fixture.ledger, Sealer::ephemeral().unwrap(), tenant("acme"));
    for name in ["a", "b", "c"] {
        ledger.put_template(&NewTemplate::new(&acme, &template(name, "x"), at(1), &sealer)).await.unwrap();
    }
    ledger.drop_template(&acme, "a", at(2)).await.unwrap();
    let (mut after, mut seen) = (0, vec![]);
    loop {
        let page = ledger.templates_since(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.is_sorted_by(|one, other| one.changed < other.changed));
        after = last.changed;
        seen.extend(page.into_iter().map(|row| (row.name, row.dropped_at.is_some())));
    }
    assert_eq!(seen, [("b".into(), false), ("c".into(), false), ("a".into(), true)]);
}

async fn a_memory_knows_what_is_in_use_and_reads_what_is_not(fixture: Fixture) {
    let (ledger, sealer, acme) = (&fixture.ledger, Sealer::ephemeral().unwrap(), tenant("acme"));
    let (here, there) = (Templates::new(sealer.clone()), Templates::new(sealer.clone()));
    assert_eq!(here.put(ledger, &acme, template("order", "one"), at(1)).await.unwrap().version, 1);
    // Stored by another process a moment ago.
    let found = there.newest(ledger, &acme, "order").await.unwrap().unwrap();
    assert_eq!((found.version, &*found.bodies[0].sms_text), (1, "one"));
    assert!(there.newest(ledger, &tenant("other"), "order").await.unwrap().is_none());
    here.put(ledger, &acme, template("order", "two"), at(2)).await.unwrap();
    assert!(here.drop(ledger, &acme, "order", at(3)).await.unwrap());
    assert!(here.names(&acme).is_empty());
    assert!(here.newest(ledger, &acme, "order").await.unwrap().is_none());
    // One that starts later reads the version that a waiting job needs.
    let later = Templates::load(ledger, sealer).await.unwrap();
    assert!(later.known_version(&acme, "order", 2).is_none());
    let old = later.version(ledger, &acme, "order", 2).await.unwrap().unwrap();
    assert_eq!(&*old.bodies[0].sms_text, "two");
    assert!(later.known_version(&acme, "order", 2).is_some());
    // With the ledger away the last known copy is served, and what is not in it is an error, not a "no".
    here.put(ledger, &acme, template("offer", "x"), at(4)).await.unwrap();
    ledger.close().await;
    if here.refresh(ledger).await.is_err() {
        assert!(here.newest(ledger, &acme, "offer").await.unwrap().is_some());
        assert!(here.newest(ledger, &acme, "unheard-of").await.is_err());
    }
}

async fn two_that_store_at_once_get_two_versions(fixture: Fixture) {
    let (ledger, sealer, acme) = (&fixture.ledger, Sealer::ephemeral().unwrap(), tenant("acme"));
    let put = |second| {
        let new = NewTemplate::new(&acme, &template("order", "x"), at(second), &sealer);
        async move { ledger.put_template(&new).await.unwrap() }
    };
    let mut versions = futures_util::future::join_all((0..16).map(put)).await;
    versions.sort_unstable();
    assert_eq!(versions, (1..=16).collect::<Vec<_>>());
}
