//! Tenants, keys, opt-outs, counts; and the directory that serves tenants and keys from memory.

use std::sync::Arc;
use std::time::Duration;

use postrider::domain::cap::{CalendarUnit, CapRule, Window};
use postrider::domain::hold::Hold;
use postrider::domain::ids::ProviderId;
use postrider::domain::job::{Class, Kind, OnMissed};
use postrider::domain::keys::{AddressKey, WordKey};
use postrider::domain::quota::{Most, Quota};
use postrider::domain::route::RouteRule;
use postrider::domain::sender::{Member, Reassigned, SenderPool};
use postrider::domain::suppression::{Scope, Source, Suppression};
use postrider::domain::time::Clock;
use postrider::domain::window::WindowRule;
use postrider::ledger::{ApiKey, Count, Directory, Ledger, Recording, Role, SealedSuppression, SenderRate, Tenant};
use postrider::shutdown::Tasks;

use super::samples::{at, key, tenant};
use super::{Fixture, on_every_backend};

on_every_backend! {
    tenants_and_keys_are_replaced_as_a_whole
    the_directory_knows_what_the_ledger_knows
    an_opt_out_stands_until_it_is_taken_back
    the_api_takes_back_what_anybody_brought
    an_opt_out_from_every_tenant_is_every_tenants
    opt_outs_are_read_page_by_page
    counts_add_up
}

pub(crate) fn customer(name: &str) -> Tenant {
    let cap = CapRule {
        classes: vec![Class::Marketing],
        topics: vec!["sale".into()],
        ..CapRule::new("daily".parse().unwrap(), 3, Window::Rolling(Duration::from_secs(86_400)))
    };
    let window = WindowRule {
        name: "office".parse().unwrap(),
        classes: vec![Class::Marketing],
        kinds: vec![Kind::Sms],
        topics: vec!["sale \"x\"".into()],
        senders: vec![],
        pools: vec!["fast".parse().unwrap()],
        hours: vec!["mon-fri 09:00-12:00 CN".parse().unwrap(), "14:00-24:00".parse().unwrap()],
        on_missed: OnMissed::Drop,
    };
    Tenant {
        id: tenant(name),
        name: "Acme & Söhne".into(),
        rate: Some("500/s:1000".parse().unwrap()),
        ingress_rate: None,
        outstanding_max: Some(1_000_000),
        caps: vec![cap],
        windows: vec![Arc::new(window)],
        sender_rates: vec![SenderRate { sender: "Acme".into(), rate: "5/s".parse().unwrap() }],
        routes: vec![Arc::new(RouteRule::to("sms".parse().unwrap()))],
        time_zone: Some("Asia/Shanghai".into()),
        quotas: vec![
            Quota { name: "daily".parse().unwrap(), per: CalendarUnit::Day, most: Most::Jobs(100_000) },
            Quota {
                name: "budget".parse().unwrap(),
                per: CalendarUnit::Month,
                most: Most::Money("1000.50 CNY".parse().unwrap()),
            },
        ],
        stop_words: vec!["no más".into(), "别发了".into()],
        start_words: vec!["otra \"vez\"".into()],
        sender_pools: vec![SenderPool {
            name: "staff".into(),
            members: vec![Member { sender: "李\"".into(), since: at(1) }],
            left: vec![Member { sender: "王".into(), since: at(0) }],
        }],
        reassigned: vec![Reassigned { from: "王".into(), to: "李\"".into(), at: at(2) }],
        created_at: at(1),
    }
}

pub(crate) fn api_key(id: &str) -> ApiKey {
    ApiKey {
        id: id.into(),
        tenant: tenant("acme"),
        role: Role::Submitter,
        mac: [9; 32],
        created_at: at(2),
        revoked_at: None,
        expires_at: Some(at(5_000)),
    }
}

async fn tenants_and_keys_are_replaced_as_a_whole(Fixture { ledger, .. }: Fixture) {
    let (bolt, acme) = (customer("bolt"), customer("acme"));
    for tenant in [&bolt, &acme] {
        ledger.put_tenant(tenant).await.unwrap();
    }
    assert_eq!(ledger.tenants().await, Ok(vec![acme.clone(), bolt.clone()]));
    let changed = Tenant { rate: None, ingress_rate: bolt.rate, outstanding_max: None, caps: vec![], ..bolt };
    ledger.put_tenant(&changed).await.unwrap();
    assert_eq!(ledger.tenants().await, Ok(vec![acme, changed]));

    ledger.put_api_key(&api_key("k1")).await.unwrap();
    ledger.put_api_key(&api_key("k2")).await.unwrap();
    let revoked =
        ApiKey { revoked_at: Some(at(9)), expires_at: None, role: Role::Operator, mac: [1; 32], ..api_key("k1") };
    ledger.put_api_key(&revoked).await.unwrap();
    assert_eq!(ledger.api_keys().await, Ok(vec![revoked, api_key("k2")]));

    let [a, b]: [ProviderId; 2] = ["carrier-a", "carrier-b"].map(|id| id.parse().unwrap());
    for hold in [Some(Hold::Draining), Some(Hold::Paused)] {
        ledger.put_hold(&a, hold).await.unwrap();
        ledger.put_hold(&b, hold).await.unwrap();
    }
    assert_eq!(ledger.holds().await, Ok(vec![(a.clone(), Hold::Paused), (b.clone(), Hold::Paused)]));
    ledger.put_hold(&a, None).await.unwrap();
    assert_eq!(ledger.holds().await, Ok(vec![(b, Hold::Paused)]));
}

async fn the_directory_knows_what_the_ledger_knows(Fixture { ledger, .. }: Fixture) {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let directory = Directory::load(&ledger).await.unwrap();
    assert!(directory.tenants().is_empty());
    directory.put_tenant(&ledger, &customer("acme")).await.unwrap();
    directory.put_api_key(&ledger, &api_key("k1")).await.unwrap();
    assert_eq!(directory.tenant(&tenant("acme")).as_deref(), Some(&customer("acme")));
    assert_eq!(directory.key("k1"), Some(api_key("k1")));
    assert_eq!((directory.tenant(&tenant("bolt")), directory.key("k2")), (None, None));

    directory.keep_fresh(ledger.clone(), &tasks, clock.clone());
    // As another process does.
    ledger.put_api_key(&ApiKey { revoked_at: Some(at(9)), ..api_key("k1") }).await.unwrap();
    let mut patience = 100;
    while directory.key("k1").unwrap().revoked_at.is_none() {
        patience -= 1;
        assert!(patience > 0, "a revoked key is never noticed");
        clock.pause(Duration::from_millis(50)).await;
    }
    ledger.close().await;
    clock.pause(Duration::from_millis(2_200)).await;
    assert!(directory.refresh(&ledger).await.is_err());
    assert_eq!(directory.tenants().len(), 1, "the last known copy is served");
    assert_eq!(tasks.finish(&clock, Duration::from_secs(5)).await, 0);
}

pub(crate) fn opt_out(scope: Scope, source: Source, secs: i64) -> Suppression {
    Suppression { tenant: tenant("acme"), address: AddressKey(key(1)), scope, kind: None, source, at: at(secs) }
}

/// Returns opt-outs as a recorder writes them.
pub(crate) fn sealed(suppressed: &[Suppression]) -> Vec<SealedSuppression> {
    let sealed = |suppression: &Suppression| {
        let sealed = format!("{:?}", suppression.scope).into();
        SealedSuppression { suppression: suppression.clone(), sealed }
    };
    suppressed.iter().map(sealed).collect()
}

async fn an_opt_out_stands_until_it_is_taken_back(Fixture { ledger, .. }: Fixture) {
    let word = Scope::Topic(WordKey(key(5)));
    let stop = opt_out(Scope::Brand, Source::Keyword, 10);
    let suppressed = vec![
        opt_out(word, Source::Api, 10),
        stop.clone(),
        opt_out(Scope::Everything, Source::Provider, 10),
        Suppression { tenant: tenant("bolt"), ..stop.clone() },
        Suppression { address: AddressKey(key(2)), ..stop.clone() },
        opt_out(Scope::Brand, Source::Keyword, 5),
    ];
    ledger.record(&Recording { suppressed: sealed(&suppressed), ..Recording::default() }).await.unwrap();
    let found = ledger.suppressions(&tenant("acme"), AddressKey(key(1))).await.unwrap();
    assert_eq!(found, suppressed[..3].to_vec(), "the later of two counts");
    assert_eq!(ledger.suppressions(&tenant("bolt"), AddressKey(key(1))).await.unwrap().len(), 1);

    // Taken back at 20, by the keyword's own word; the one of 30 came later, though it is recorded along with it.
    let back = |secs| (opt_out(Scope::Brand, Source::Keyword, secs), Source::Keyword);
    let again = opt_out(Scope::Brand, Source::Keyword, 30);
    ledger.record(&Recording { unsuppressed: vec![back(20)], ..Recording::default() }).await.unwrap();
    assert_eq!(ledger.suppressions(&tenant("acme"), AddressKey(key(1))).await.unwrap().len(), 2);
    let both = Recording {
        suppressed: sealed(std::slice::from_ref(&again)),
        unsuppressed: vec![back(25)],
        ..Recording::default()
    };
    ledger.record(&both).await.unwrap();
    assert!(ledger.suppressions(&tenant("acme"), AddressKey(key(1))).await.unwrap().contains(&again));
}

async fn the_api_takes_back_what_anybody_brought(Fixture { ledger, .. }: Fixture) {
    let suppressed = vec![
        opt_out(Scope::Brand, Source::Keyword, 1),
        opt_out(Scope::Brand, Source::Provider, 2),
        opt_out(Scope::Everything, Source::Api, 3),
    ];
    ledger.record(&Recording { suppressed: sealed(&suppressed), ..Recording::default() }).await.unwrap();
    let by_keyword = (opt_out(Scope::Brand, Source::Keyword, 9), Source::Keyword);
    ledger.record(&Recording { unsuppressed: vec![by_keyword], ..Recording::default() }).await.unwrap();
    let left = |found: Vec<Suppression>| found.iter().map(|one| (one.scope, one.source)).collect::<Vec<_>>();
    let found = ledger.suppressions(&tenant("acme"), AddressKey(key(1))).await.unwrap();
    assert_eq!(left(found), vec![(Scope::Brand, Source::Provider), (Scope::Everything, Source::Api)]);
    let by_api = (opt_out(Scope::Brand, Source::Api, 9), Source::Api);
    ledger.record(&Recording { unsuppressed: vec![by_api], ..Recording::default() }).await.unwrap();
    let found = ledger.suppressions(&tenant("acme"), AddressKey(key(1))).await.unwrap();
    assert_eq!(left(found), vec![(Scope::Everything, Source::Api)]);
}

async fn an_opt_out_from_every_tenant_is_every_tenants(Fixture { ledger, .. }: Fixture) {
    let calls = Suppression { kind: Some(Kind::Call), ..opt_out(Scope::Brand, Source::Api, 1) };
    let everybody = Suppression { tenant: tenant("operator"), ..opt_out(Scope::Global, Source::Import, 2) };
    let suppressed = sealed(&[calls.clone(), everybody.clone()]);
    ledger.record(&Recording { suppressed, ..Recording::default() }).await.unwrap();
    let of = async |owner: &str| ledger.suppressions(&tenant(owner), AddressKey(key(1))).await.unwrap();
    let seen_by = |owner: &str| Suppression { tenant: tenant(owner), ..everybody.clone() };
    assert_eq!(of("acme").await, [calls.clone(), seen_by("acme")]);
    assert_eq!(of("bolt").await, [seen_by("bolt")]);
    // Of one kind alone is another opt-out than of all; any operator takes back what binds all.
    let all_kinds = (opt_out(Scope::Brand, Source::Api, 9), Source::Api);
    ledger.record(&Recording { unsuppressed: vec![all_kinds], ..Recording::default() }).await.unwrap();
    assert_eq!(of("acme").await.len(), 2);
    let unsuppressed = vec![
        (Suppression { at: at(9), ..calls }, Source::Api),
        (Suppression { tenant: tenant("other"), at: at(9), ..everybody }, Source::Api),
    ];
    ledger.record(&Recording { unsuppressed, ..Recording::default() }).await.unwrap();
    assert_eq!((of("acme").await, of("bolt").await), (vec![], vec![]));
}

async fn opt_outs_are_read_page_by_page(Fixture { ledger, .. }: Fixture) {
    let mut all = Vec::new();
    for owner in ["acme", "bolt", "corner"] {
        for address in 1..4 {
            for (scope, kind) in
                [(Scope::Topic(WordKey(key(5))), None), (Scope::Brand, None), (Scope::Brand, Some(Kind::Sms))]
            {
                let one = opt_out(scope, Source::Api, i64::from(address));
                all.push(Suppression { tenant: tenant(owner), address: AddressKey(key(address)), kind, ..one });
            }
        }
    }
    all.sort_by_key(|one| (one.tenant.clone(), one.address));
    let all = sealed(&all);
    let mut shuffled = all.clone();
    shuffled.reverse();
    ledger.record(&Recording { suppressed: shuffled, ..Recording::default() }).await.unwrap();
    for (owner, expected) in [(None, &all[..]), (Some(tenant("bolt")), &all[9..18]), (Some(tenant("b")), &[])] {
        let (mut read, mut after) = (Vec::new(), None);
        loop {
            let page = ledger.suppressions_after(owner.as_ref(), after.as_ref(), 4).await.unwrap();
            assert!(page.len() <= 4);
            let Some(last) = page.last() else { break };
            after = Some(last.suppression.clone());
            read.extend(page);
        }
        assert_eq!(read, expected, "{owner:?}");
    }
}

async fn counts_add_up(Fixture { ledger, .. }: Fixture) {
    let count = |owner: &str, hour: i64, what: &str, reason: &str, jobs| Count {
        tenant: tenant(owner),
        hour: at(hour * 3_600),
        kind: Kind::Sms,
        class: Class::Marketing,
        what: what.into(),
        reason: reason.into(),
        jobs,
    };
    let first = vec![
        count("acme", 1, "accepted", "", 5),
        count("acme", 1, "suppressed", "opt_out", 1),
        count("acme", 1, "accepted", "", 2),
    ];
    ledger.record(&Recording { counts: first, ..Recording::default() }).await.unwrap();
    let second = vec![
        count("acme", 1, "accepted", "", 10),
        count("acme", 2, "accepted", "", 3),
        count("bolt", 1, "accepted", "", 7),
    ];
    ledger.record(&Recording { counts: second, ..Recording::default() }).await.unwrap();
    let (one, two, bolt) = (
        count("acme", 1, "accepted", "", 17),
        count("acme", 2, "accepted", "", 3),
        count("bolt", 1, "accepted", "", 7),
    );
    let optouts = count("acme", 1, "suppressed", "opt_out", 1);
    let acme = tenant("acme");
    let table = [
        (Some(&acme), 0, 9, vec![one.clone(), optouts.clone(), two.clone()]),
        (Some(&acme), 2, 3, vec![two.clone()]),
        (Some(&acme), 0, 1, vec![]),
        (None, 1, 2, vec![one, optouts, bolt]),
    ];
    for (owner, from, to, expected) in table {
        let found = ledger.counts(owner, at(from * 3_600), at(to * 3_600)).await;
        assert_eq!(found, Ok(expected), "{owner:?} from {from} to {to}");
    }
}
