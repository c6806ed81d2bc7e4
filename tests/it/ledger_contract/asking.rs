//! Questions about jobs: histories, lists, watches, strays.

use std::collections::HashSet;

use postrider::domain::ids::{JobId, TenantId};
use postrider::domain::job::{Class, Kind};
use postrider::domain::keys::{AddressKey, RecipientKey, WordKey};
use postrider::ledger::{Entry, Filter, History, JobRow, Ledger, NumberedEvent, Recording, SealedReply, Tag};

use super::samples::{at, delivered, entry, event, events, id, job, key, sent, tenant, uuid};
use super::{Fixture, on_every_backend};

on_every_backend! {
    a_job_is_shown_to_its_owner_only
    lists_are_filtered
    lists_go_on_page_by_page
    a_watch_misses_nothing
    a_watch_of_one_tenant_skips_the_others
    the_last_job_to_an_address_is_found
    strays_are_jobs_that_nobody_holds
}

async fn a_job_is_shown_to_its_owner_only(Fixture { ledger, .. }: Fixture) {
    // Job 2 has no row yet: its frame comes later than its event.
    let recording = Recording { jobs: vec![job(1)], ..events(0, vec![(1, sent()), (2, sent()), (1, delivered())]) };
    ledger.record(&recording).await.unwrap();
    let seen = ledger.job(&tenant("acme"), id(1)).await.unwrap().unwrap();
    assert_eq!(seen, History { row: Some(job(1)), events: vec![event(1, 1, sent()), event(3, 1, delivered())] });
    let rowless = ledger.job(&tenant("acme"), id(2)).await.unwrap().unwrap();
    assert_eq!(rowless, History { row: None, events: vec![event(2, 2, sent())] });
    for job in [1, 2, 3].map(id) {
        assert_eq!(ledger.job(&tenant("bolt"), job).await, Ok(None));
    }
    assert_eq!(ledger.job(&tenant("acme"), id(3)).await, Ok(None));
}

async fn lists_are_filtered(Fixture { ledger, .. }: Fixture) {
    let plain = JobRow { kind: Kind::Call, ..job(1) };
    let batched = JobRow { batch: Some(uuid(1)), address: AddressKey(key(70)), ..job(2) };
    let campaign = JobRow { campaign: Some(WordKey(key(71))), recipient: Some(RecipientKey(key(72))), ..job(3) };
    let keyed = JobRow { cancel_key: Some(WordKey(key(73))), batch: Some(uuid(1)), ..job(4) };
    let others = JobRow { tenant: tenant("bolt"), batch: Some(uuid(1)), address: AddressKey(key(70)), ..job(5) };
    let jobs = vec![plain, batched, campaign, keyed, others];
    ledger.record(&Recording { jobs, ..events(0, vec![(4, sent())]) }).await.unwrap();
    let all = Filter::default;
    let table = [
        (all(), vec![4, 3, 2, 1]),
        (Filter { batch: Some(uuid(1)), ..all() }, vec![4, 2]),
        (Filter { campaign: Some(WordKey(key(71))), ..all() }, vec![3]),
        (Filter { address: Some(AddressKey(key(70))), ..all() }, vec![2]),
        (Filter { recipient: Some(RecipientKey(key(72))), ..all() }, vec![3]),
        (Filter { cancel_key: Some(WordKey(key(73))), ..all() }, vec![4]),
        (Filter { kind: Some(Kind::Call), ..all() }, vec![1]),
        (Filter { from: Some(at(2)), to: Some(at(4)), ..all() }, vec![3, 2]),
        (Filter { batch: Some(uuid(1)), from: Some(at(3)), kind: Some(Kind::Sms), ..all() }, vec![4]),
        (Filter { batch: Some(uuid(2)), ..all() }, vec![]),
    ];
    for (filter, expected) in table {
        let found = ledger.jobs(&tenant("acme"), &filter, None, 10).await.unwrap();
        let ids: Vec<JobId> = found.iter().map(|history| history.row.as_ref().unwrap().id).collect();
        assert_eq!(ids, expected.into_iter().map(id).collect::<Vec<_>>(), "{filter:?}");
    }
    let found = ledger.jobs(&tenant("acme"), &all(), None, 1).await.unwrap();
    assert_eq!(found[0].events, vec![event(1, 4, sent())]);
}

async fn lists_go_on_page_by_page(Fixture { ledger, .. }: Fixture) {
    // Three were accepted at each moment, so that pages end between equals.
    let jobs: Vec<JobRow> = (0..31).map(|n| JobRow { accepted_at: at(i64::from(n) / 3), ..job(n) }).collect();
    let rows: HashSet<JobId> = jobs.iter().map(|job| job.id).collect();
    ledger.record(&Recording { jobs, ..Recording::default() }).await.unwrap();
    let (mut seen, mut page) = (vec![], None);
    loop {
        let found = ledger.jobs(&tenant("acme"), &Filter::default(), page, 4).await.unwrap();
        seen.extend(found.into_iter().map(|history| history.row.unwrap()));
        let last = seen.last().map(|row| (row.accepted_at, row.id));
        if last == page {
            break;
        }
        page = last;
    }
    assert_eq!(seen.len(), 31);
    assert!(seen.is_sorted_by(|a, b| (a.accepted_at, a.id) > (b.accepted_at, b.id)));
    assert_eq!(seen.iter().map(|row| row.id).collect::<HashSet<_>>(), rows);
}

/// Follows a watch to the end of the ledger, `most` at a time.
async fn watch(ledger: &impl Ledger, tenant: Option<&TenantId>, most: u32, end: i64) -> Vec<NumberedEvent> {
    let (mut seen, mut after) = (vec![], 0);
    while after < end {
        let (events, complete) = ledger.events(tenant, after, most).await.unwrap();
        assert!(complete > after, "a watch at {after} of {end} stands still");
        assert!(events.iter().all(|event| event.seq > after && event.seq <= complete));
        seen.extend(events);
        after = complete;
    }
    assert_eq!(ledger.events(tenant, after, most).await, Ok((vec![], end)));
    seen
}

async fn a_watch_misses_nothing(Fixture { ledger, .. }: Fixture) {
    let reply =
        |seq| SealedReply { seq, tenant: None, in_reply_to: None, at: at(seq), sealed: "r".into(), signal: None };
    let mut all = vec![];
    let mut after = 0;
    for n in 0..20 {
        // Every recording ends with a reply, which has a number of its own.
        let mut recording = events(after, (0..n).map(|n| (n, sent())).collect());
        all.extend(recording.events.clone());
        after += i64::from(n) + 1;
        recording.replies.push(reply(after));
        ledger.record(&recording).await.unwrap();
    }
    for most in [1, 7, 1_000] {
        assert_eq!(watch(&ledger, None, most, after).await, all);
        assert_eq!(watch(&ledger, Some(&tenant("acme")), most, after).await, all);
        assert_eq!(watch(&ledger, Some(&tenant("bolt")), most, after).await, vec![]);
    }
    assert_eq!(ledger.events(None, after + 5, 10).await, Ok((vec![], after + 5)));
}

async fn a_watch_of_one_tenant_skips_the_others(Fixture { ledger, .. }: Fixture) {
    let mut recording = events(0, (0..30_000).map(|n| (n % 100, sent())).collect());
    recording.events[29_998].event.tenant = tenant("zeta");
    recording.events[3].event.tenant = tenant("zeta");
    ledger.record(&recording).await.unwrap();
    let (seen, complete) = ledger.events(Some(&tenant("zeta")), 0, 10).await.unwrap();
    assert_eq!(seen.iter().map(|event| event.seq).collect::<Vec<_>>(), vec![4, 29_999]);
    assert_eq!(complete, 30_000, "one question is enough");
}

async fn the_last_job_to_an_address_is_found(Fixture { ledger, .. }: Fixture) {
    let to = |n, secs, owner: &str| JobRow {
        accepted_at: at(secs),
        tenant: tenant(owner),
        address: AddressKey(key(70)),
        ..job(n)
    };
    ledger
        .record(&Recording { jobs: vec![to(1, 10, "acme"), to(2, 20, "bolt"), job(3)], ..Recording::default() })
        .await
        .unwrap();
    let last = |secs| ledger.last_job_to(AddressKey(key(70)), at(secs));
    assert_eq!(last(9).await, Ok(None));
    assert_eq!(last(10).await, Ok(Some((tenant("acme"), id(1)))));
    assert_eq!(last(99).await, Ok(Some((tenant("bolt"), id(2)))));
    assert_eq!(ledger.last_job_to(AddressKey(key(71)), at(99)).await, Ok(None));
}

async fn strays_are_jobs_that_nobody_holds(Fixture { ledger, .. }: Fixture) {
    let scheduled = JobRow { accepted_at: at(-900_000), ..job(100) };
    let backdated = JobRow { accepted_at: at(900_000), ..job(101) };
    let soon = JobRow { accepted_at: at(80), ..job(102) };
    let others = JobRow { tenant: tenant("zeta"), ..job(103) };
    let held = JobRow { tenant: tenant("held"), ..job(104) };
    let urgent = JobRow { tenant: tenant("held"), class: Class::Otp, ..job(105) };
    let (early, late) = (job(99), job(110));
    let sent_one = JobRow { tenant: tenant("zeta"), ..job(106) };
    let jobs = [&scheduled, &backdated, &soon, &others, &held, &urgent, &early, &late, &sent_one].map(Clone::clone);
    ledger.record(&Recording { jobs: jobs.into(), ..events(0, vec![(106, sent())]) }).await.unwrap();
    // A timer holds no job; what is first due later cannot hold an earlier one.
    let of_held = |n, secs| Entry { tenant: tenant("held"), ..entry(n, at(secs)) };
    let tag = Tag::Timer { kind: "t".into(), owner: "acme".into(), key: "k".into() };
    let others_entries = [of_held(1, 105), Entry { tag, ..entry(2, at(1)) }, entry(3, at(110))];
    ledger.put_entries(&others_entries).await.unwrap();

    let strays = |from, to, most| ledger.strays(at(from), at(to), most);
    let expected = [&scheduled, &backdated, &soon, &others, &urgent].map(Clone::clone);
    assert_eq!(strays(100, 110, 10).await, Ok(expected.to_vec()));
    assert_eq!(strays(100, 110, 2).await, Ok(expected[..2].to_vec()));
    assert_eq!(strays(101, 103, 10).await, Ok(expected[1..3].to_vec()));
    // Deferred, an entry still holds what it was first put for.
    let left =
        postrider::ledger::Release::Left { id: uuid(1), payload: "p".into(), jobs: 1, due_at: at(9_000), sender: 0 };
    ledger.released(&[left]).await.unwrap();
    assert_eq!(strays(100, 110, 10).await, Ok(expected.to_vec()));
    ledger.released(&[postrider::ledger::Release::Done(uuid(1))]).await.unwrap();
    let found = strays(100, 110, 10).await.unwrap();
    assert_eq!(found.iter().map(|job| job.id).collect::<Vec<_>>(), [100, 101, 102, 103, 104, 105].map(id));
}
