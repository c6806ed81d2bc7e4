//! Faults of a Redis: answers lost after the script ran (P7), restarts with and without the data, a hung server.

use std::time::Duration;

use postrider::domain::ids::JobId;
use postrider::domain::keys::{AddressKey, Fingerprint, WordKey};
use postrider::domain::rule::{Act, JobRule, Names};
use postrider::domain::suppression::{Scope, Source, Suppression};
use postrider::domain::time::{Clock, UnixMicros};
use postrider::limits::redis::{Redis, Settings};
use postrider::limits::{
    Allowance, AnyLimits, Claim, Counts, Decision, Granted, Lease, LeaseMode, Limits, LimitsError, Need, Remember,
    Remembered, Spend, Spent,
};
use uuid::Uuid;

use super::{DAY, HOUR, NOW, Store, acme, ask, capped, claim, full, give_back, take, whole};
use crate::support::proxy::{Direction, Proxy};
use crate::support::servers;

async fn store(url: &str, clock: &Clock) -> Store {
    let settings = Settings { timeout: Duration::from_millis(500), ..Settings::new(url) };
    whole(Store { limits: AnyLimits::Redis(Redis::new(&settings, clock).unwrap()), _dir: None }).await
}

fn clock() -> Clock {
    Clock::virtual_at(NOW)
}

/// Asks until the server is there again.
async fn patiently(store: &Store, now: UnixMicros, claim: &Claim) -> Decision {
    for _ in 0..100 {
        match store.limits.claim(now, std::slice::from_ref(claim)).await {
            Ok(decisions) => return decisions[0].clone(),
            Err(LimitsError::Timeout | LimitsError::Unreachable(_)) => {
                Clock::system().pause(Duration::from_millis(50)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the server did not come back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_after_the_script_ran_takes_nothing_twice() {
    let database = servers::redis().database();
    let proxy = Proxy::to(servers::redis().port());
    let number = database.rsplit_once('/').unwrap().1;
    let store = store(&format!("redis://127.0.0.1:{}/{number}", proxy.port()), &clock()).await;
    let caps = [take(1, 30, DAY), take(2, 30, HOUR)];
    ask(&store, NOW, &claim(9, 1)).await;
    for job in 0..20 {
        // The answer is 17 bytes and more; somewhere in it the line is cut.
        proxy.cut_after(Direction::ToClient, u32::try_from(job % 7).unwrap() + 1);
        let asked = capped(1, job, &caps);
        let lost = store.limits.claim(NOW, std::slice::from_ref(&asked)).await;
        assert!(matches!(lost, Err(LimitsError::Unreachable(_))), "{lost:?}");
        proxy.heal();
        assert_eq!(patiently(&store, NOW, &asked).await, Decision::Claimed);
    }
    // Twenty places are taken, and ten are left.
    let rest: Vec<Claim> = (100..120).map(|job| capped(1, job, &caps)).collect();
    let decisions = store.limits.claim(NOW, &rest).await.unwrap();
    assert_eq!(decisions.iter().filter(|&decision| *decision == Decision::Claimed).count(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_lost_after_the_script_ran_takes_nothing_of_a_quota_twice() {
    let database = servers::redis().database();
    let proxy = Proxy::to(servers::redis().port());
    let number = database.rsplit_once('/').unwrap().1;
    let store = store(&format!("redis://127.0.0.1:{}/{number}", proxy.port()), &clock()).await;
    let quota = |key| Allowance { key: WordKey([key; 16]), counts: Counts::Jobs, most: 30, ends_at: NOW.plus(DAY) };
    let batch = |id: u128, jobs: usize| {
        let key = Remember { id: JobId(Uuid::from_u128(id)), fingerprint: Fingerprint([1; 16]), until: NOW.plus(DAY) };
        let items = vec![Need { jobs: 1, micros: 0 }; jobs];
        Spend { tenant: acme(), key: Some(key), from: vec![quota(1), quota(2)], items }
    };
    ask(&store, NOW, &claim(9, 1)).await;
    for id in 0..10 {
        proxy.cut_after(Direction::ToClient, u32::try_from(id % 7).unwrap() + 1);
        let lost = store.limits.spend(NOW, &[batch(id, 2)]).await;
        assert!(matches!(lost, Err(LimitsError::Unreachable(_))), "{lost:?}");
        proxy.heal();
        patiently(&store, NOW, &claim(9, 1)).await;
        let again = Spent { met: Remembered::Pending, items: 2, full: None };
        assert_eq!(store.limits.spend(NOW, &[batch(id, 2)]).await, Ok(vec![again]));
    }
    let rest = Spent { met: Remembered::New, items: 10, full: Some(0) };
    assert_eq!(store.limits.spend(NOW, &[batch(99, 20)]).await, Ok(vec![rest]), "twenty were taken, and ten are left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_server_is_a_timeout_and_then_forgotten() {
    let database = servers::redis().database();
    let proxy = Proxy::to(servers::redis().port());
    let number = database.rsplit_once('/').unwrap().1;
    let store = store(&format!("redis://127.0.0.1:{}/{number}", proxy.port()), &clock()).await;
    let asked = capped(1, 1, &[take(1, 1, DAY)]);
    ask(&store, NOW, &claim(9, 1)).await;
    proxy.stall(Direction::ToClient);
    let watch = Clock::system().stopwatch();
    assert_eq!(store.limits.claim(NOW, std::slice::from_ref(&asked)).await, Err(LimitsError::Timeout));
    assert!(watch.elapsed() < Duration::from_secs(2));
    proxy.refuse();
    assert!(store.limits.claim(NOW, std::slice::from_ref(&asked)).await.is_err());
    proxy.heal();
    assert_eq!(patiently(&store, NOW, &asked).await, Decision::Claimed);
    let over = full(0, NOW.plus(DAY));
    assert_eq!(ask(&store, NOW, &capped(1, 2, &[take(1, 1, DAY)])).await, over);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_the_data_keeps_the_memory_and_one_without_is_noticed() {
    let server = servers::Redis::start();
    let clock = clock();
    let store = store(&server.database(), &clock).await;
    let first = capped(1, 1, &[take(1, 1, DAY)]);
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    let identity = store.limits.identity().await.unwrap();
    assert_eq!(identity.changed_at, NOW);

    clock.advance(HOUR);
    server.kill();
    assert!(store.limits.claim(NOW, std::slice::from_ref(&first)).await.is_err());
    server.restart();
    let held = Decision::Held { attempt: 1, deadline: first.deadline };
    assert_eq!(patiently(&store, NOW.plus(HOUR), &Claim { token: 9, ..first.clone() }).await, held);
    assert_eq!(store.limits.identity().await.unwrap(), identity);

    clock.advance(HOUR);
    server.kill();
    server.lose_data();
    server.restart();
    let seen = Claim { seen: Some(NOW.plus(HOUR)), token: 9, ..first.clone() };
    assert_eq!(patiently(&store, NOW.plus(HOUR * 2), &seen).await, Decision::Forgotten, "never blindly again");
    let changed = store.limits.identity().await.unwrap();
    assert!(changed.id != identity.id && changed.changed_at == NOW.plus(HOUR * 2), "{changed:?}");
    let store = whole(store).await;
    let later = Claim { seen: Some(NOW.plus(HOUR * 2)), token: 9, ..first };
    assert_eq!(ask(&store, NOW.plus(HOUR * 2), &later).await, Decision::Claimed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_may_lack_the_last_second_counts_as_a_loss() {
    let server = servers::Redis::start_lagging();
    let clock = clock();
    let limits = Redis::new(&Settings::new(&server.database()), &clock).unwrap();
    let warnings = limits.warnings().await.unwrap();
    assert!(warnings.len() == 1 && warnings[0].contains("appendfsync always"), "{warnings:?}");
    let identity = limits.identity().await.unwrap();
    server.kill();
    clock.advance(HOUR);
    server.restart();
    let store = Store { limits: AnyLimits::Redis(limits), _dir: None };
    let seen = Claim { seen: Some(NOW), ..claim(1, 1) };
    assert_eq!(patiently(&store, NOW.plus(HOUR), &seen).await, Decision::Forgotten);
    assert_ne!(store.limits.identity().await.unwrap().id, identity.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_that_vanishes_under_a_connection_is_noticed() {
    let url = servers::redis().database();
    let clock = clock();
    let store = store(&url, &clock).await;
    ask(&store, NOW, &claim(1, 1)).await;
    let identity = store.limits.identity().await.unwrap();
    let client = deadpool_redis::redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = deadpool_redis::redis::cmd("FLUSHDB").query_async(&mut connection).await.unwrap();
    let () = deadpool_redis::redis::cmd("SCRIPT").arg("FLUSH").query_async(&mut connection).await.unwrap();
    clock.advance(HOUR);
    let seen = Claim { seen: Some(NOW), token: 9, ..claim(1, 1) };
    assert_eq!(ask(&store, NOW.plus(HOUR), &seen).await, Decision::Forgotten);
    let changed = store.limits.identity().await.unwrap();
    assert!(changed.id != identity.id && changed.changed_at == NOW.plus(HOUR), "{changed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_lose_data_are_named_and_a_snapshot_is_no_memory() {
    let server = servers::Redis::start_without_append_only_file();
    let clock = clock();
    let settings = Settings::new(&server.database());
    let limits = Redis::new(&settings, &clock).unwrap();
    let identity = limits.identity().await.unwrap();
    let warnings = limits.warnings().await.unwrap();
    let other = Redis::new(&settings, &clock).unwrap();
    assert_eq!(other.identity().await.unwrap(), identity, "another node of the same memory");
    assert!(
        warnings.len() == 2 && warnings[0].contains("appendonly") && warnings[1].contains("allkeys-lru"),
        "{warnings:?}"
    );
    let client = deadpool_redis::redis::Client::open(&*settings.url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let () = deadpool_redis::redis::cmd("SAVE").query_async(&mut connection).await.unwrap();
    limits.claim(NOW, &[claim(1, 1)]).await.unwrap();
    server.kill();
    clock.advance(HOUR);
    server.restart();
    let store = Store { limits: AnyLimits::Redis(limits), _dir: None };
    let seen = Claim { seen: Some(NOW), token: 9, ..claim(1, 1) };
    assert_eq!(patiently(&store, NOW.plus(HOUR), &seen).await, Decision::Forgotten);
    assert_ne!(store.limits.identity().await.unwrap().id, identity.id);
    let healthy = Redis::new(&Settings::new(&servers::redis().database()), &clock).unwrap();
    assert!(healthy.warnings().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_wrong_url_is_refused_without_being_shown() {
    let refused = Redis::new(&Settings::new("http://user:secret@host"), &clock()).unwrap_err();
    assert!(!refused.to_string().contains("secret"), "{refused}");
    assert!(!format!("{:?}", Settings::new("redis://:secret@host")).contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_whose_clocks_differ_keep_a_cap_and_a_rate() {
    let url = servers::redis().database();
    let (ahead, behind) = (store(&url, &clock()).await, store(&url, &clock()).await);
    let caps = [take(1, 1, DAY)];
    assert_eq!(ask(&ahead, NOW.plus(HOUR), &claim(1, 1)).await, Decision::Claimed);
    assert_eq!(ask(&behind, NOW, &capped(1, 2, &caps)).await, Decision::Claimed);
    let over = full(0, NOW.plus(HOUR + DAY));
    assert_eq!(ask(&behind, NOW, &capped(1, 3, &caps)).await, over, "the place was taken at the later time");
    let rate = "10/s:10".parse().unwrap();
    let wish = [Lease { bucket: "provider:carrier-a".into(), rate, keep: 0, want: 10, mode: LeaseMode::UpTo }];
    let later = NOW.plus(HOUR);
    assert_eq!(ahead.limits.lease(later, &wish).await.unwrap(), [Granted { tokens: 10, next_at: later }]);
    let next_at = later.plus(Duration::from_millis(100));
    assert_eq!(behind.limits.lease(NOW, &wish).await.unwrap(), [Granted { tokens: 0, next_at }]);
    assert_eq!(ahead.limits.lease(later, &wish).await.unwrap(), [Granted { tokens: 0, next_at }]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_opt_outs_stay_for_ever() {
    let url = servers::redis().database();
    let store = store(&url, &clock()).await;
    let limits = &store.limits;
    let id = |id| JobId(Uuid::from_u128(id));
    let submit = Remember { id: id(1), fingerprint: Fingerprint([1; 16]), until: NOW.plus(DAY) };
    let rule = JobRule { tenant: acme(), names: Names::job(id(7)), at: NOW, act: Act::Cancel };
    let wish = Lease { bucket: "b".into(), rate: "1/s".parse().unwrap(), keep: 0, want: 1, mode: LeaseMode::Force };
    let (scope, source, address) = (Scope::Brand, Source::Api, AddressKey([9; 16]));
    let first = capped(1, 1, &[take(1, 5, DAY)]);
    assert_eq!(ask(&store, NOW, &first).await, Decision::Claimed);
    assert_eq!(ask(&store, NOW, &capped(1, 2, &[take(1, 5, DAY)])).await, Decision::Claimed);
    give_back(&store, &first).await;
    let quota = Allowance { key: WordKey([3; 16]), counts: Counts::Jobs, most: 5, ends_at: NOW.plus(DAY) };
    let items = vec![Need { jobs: 1, micros: 0 }];
    limits.spend(NOW, &[Spend { tenant: acme(), key: Some(submit), from: vec![quota], items }]).await.unwrap();
    limits.accepted(&[id(1), id(2)]).await.unwrap();
    limits.rule(&[rule], NOW.plus(DAY)).await.unwrap();
    limits.lease(NOW, &[wish]).await.unwrap();
    limits.unlease("b", 1).await.unwrap();
    limits.suppress(&[Suppression { tenant: acme(), address, scope, kind: None, source, at: NOW }]).await.unwrap();
    let client = deadpool_redis::redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<Vec<u8>> = deadpool_redis::redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let mut stay = Vec::new();
    for key in &keys {
        let life: i64 = deadpool_redis::redis::cmd("TTL").arg(key).query_async(&mut connection).await.unwrap();
        assert!(life <= 3 * 86_400, "{life} s are too long");
        stay.extend((life < 0).then_some(key[3]));
    }
    stay.sort_unstable();
    assert_eq!((keys.len(), stay), (7, b"is".to_vec()), "the identity and the opt-out");
}

/// An active recipient: three rules, ten places in their windows, two of which are claims that still stand.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recipient_takes_at_most_400_bytes() {
    let url = servers::redis().database();
    let store = store(&url, &clock()).await;
    let caps = [take(1, 2, DAY), take(2, 5, DAY * 7), take(3, 10, DAY * 31)];
    for job in 0..10 {
        // The last one an hour after the one before.
        let hours = if job == 9 { 8 * 72 + 1 } else { job * 72 };
        let now = NOW.plus(HOUR * u32::try_from(hours).unwrap());
        let asked = Claim { deadline: now.plus(Duration::from_secs(30)), ..capped(1, job, &caps) };
        assert_eq!(ask(&store, now, &asked).await, Decision::Claimed, "job {job}");
    }
    let client = deadpool_redis::redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let keys: Vec<Vec<u8>> =
        deadpool_redis::redis::cmd("KEYS").arg("pr:r*").query_async(&mut connection).await.unwrap();
    let [key] = &keys[..] else { panic!("{} recipients", keys.len()) };
    let value: usize = deadpool_redis::redis::cmd("STRLEN").arg(key).query_async(&mut connection).await.unwrap();
    let bytes: usize =
        deadpool_redis::redis::cmd("MEMORY").arg("USAGE").arg(key).query_async(&mut connection).await.unwrap();
    // MEMORY USAGE leaves out the entry in the table of lives: 24 bytes, and 16 for the slots of both tables.
    let bytes = bytes + 40;
    println!("a recipient with 10 entries takes {bytes} bytes, {value} of them its memory");
    assert!(bytes <= 400, "{bytes} bytes");
}
