//! Redis cut off, and Redis restarted empty, while jobs go through the whole service.
//!
//! `--long` forms of the gate set `POSTRIDER_LONG`: the cut lasts a minute then.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::suppression_service_client::SuppressionServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{
    CapRule, CapWindow, Class, Fate, RuleFilter, Suppression, SuppressionServiceAddRequest, Tenant,
    UpdateTenantRequest, cap_window,
};
use postrider::shutdown::Tasks;

use crate::support::api::{self, Watched};
use crate::support::proxy::Proxy;
use crate::support::servers::{self, Redis};
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

/// How long anything may take on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(120);
/// What the provider carries.
const RATE: usize = 200;
const BURST: usize = 200;

/// A provider that answers fast and whose time-out is short, so that little is in flight when Redis goes.
fn provider(sink: &Sink) -> String {
    let settings = format!("binds = 1\nwindow = 50\nrate = \"{RATE}/s:{BURST}\"\nresponse_timeout = \"1s\"\n");
    smpp_provider(sink.port(), &settings)
}

/// Redis behind a proxy, with the other servers.
fn behind(proxy: &Proxy) -> Backends {
    let limits = servers::redis().database();
    let number = limits.rsplit_once('/').unwrap().1;
    Backends::Servers {
        queue: servers::rabbitmq().vhost(),
        limits: format!("redis://127.0.0.1:{}/{number}", proxy.port()),
        ledger: servers::postgres().database(),
    }
}

fn numbers(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| format!("+8613{number:09}")).collect()
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    while !holds().await {
        assert!(watch.elapsed() < PATIENCE, "waited in vain: {what}");
        clock.pause(Duration::from_millis(100)).await;
    }
}

fn reached(sink: &Sink, among: &[String]) -> usize {
    let among: HashSet<_> = among.iter().map(|number| number.trim_start_matches('+')).collect();
    sink.taken().iter().filter(|submit| among.contains(&*submit.to)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_limits_passwords_go_on_and_marketing_waits() {
    let clock = Clock::system();
    let sink = Sink::start(&["--latency", "5"]);
    let proxy = Proxy::to(servers::redis().port());
    let service = Service::start(&behind(&proxy), &provider(&sink));
    let client = api::jobs(&service);
    let mut watched = Watched::default();
    // Somebody has opted out of everything, and the ledger knows.
    let opted_out = numbers(900, 1);
    opt_out(&service, &opted_out[0], postrider::pb::SuppressionScope::Everything).await;
    let first = numbers(0, 5);
    api::insist(&client, &api::batch("first", api::text(Class::Marketing, "hello"), &first)).await;
    until("marketing goes while limits are there", async || reached(&sink, &first) == 5).await;

    let waiting = numbers(1_000, 2_000);
    for (part, numbers) in waiting.chunks(500).enumerate() {
        api::insist(&client, &api::batch(&format!("waiting-{part}"), api::text(Class::Marketing, "sale"), numbers))
            .await;
    }
    proxy.refuse();
    let away = clock.stopwatch();
    // What had its answer before the cut still goes.
    clock.pause(Duration::from_secs(2)).await;
    let before = reached(&sink, &waiting);
    let passwords = numbers(5_000, 20);
    let urgent = [passwords.clone(), opted_out.clone()].concat();
    api::insist(&client, &api::batch("", api::text(Class::Otp, "1234"), &urgent)).await;
    let orders = numbers(6_000, 10);
    api::insist(&client, &api::batch("", api::text(Class::Transactional, "shipped"), &orders)).await;
    until("passwords and orders go without limits", async || {
        reached(&sink, &passwords) == 20 && reached(&sink, &orders) == 10
    })
    .await;
    let cut = if std::env::var_os("POSTRIDER_LONG").is_some() { 60 } else { 10 };
    clock.pause(Duration::from_secs(cut).saturating_sub(away.elapsed())).await;
    assert_eq!(reached(&sink, &waiting), before, "marketing waits for limits");
    assert_eq!(reached(&sink, &opted_out), 0, "the ledger was asked");
    let alone = service.metrics().into_iter().filter(|line| line.starts_with("postrider_without_limits_total")).count();
    assert!(alone > 0, "it is counted");

    proxy.heal();
    let watch = clock.stopwatch();
    until("all that waited goes", async || {
        let sent = reached(&sink, &waiting);
        // What is counted was sent before now; a second for the lease.
        let most = BURST + RATE * usize::try_from(watch.elapsed().as_secs() + 2).unwrap();
        assert!(sent - before <= most, "no stampede: {} in {:?}, at most {most}", sent - before, watch.elapsed());
        sent == waiting.len()
    })
    .await;
    until("each has its outcome", async || {
        watched.follow(&client, Duration::from_millis(200)).await;
        watched.outcomes.len() >= first.len() + waiting.len() + urgent.len() + orders.len()
    })
    .await;
    let mut handed: HashMap<String, usize> = HashMap::new();
    sink.taken().into_iter().for_each(|submit| *handed.entry(submit.to).or_default() += 1);
    let twice: Vec<_> = waiting.iter().filter(|number| handed[number.trim_start_matches('+')] != 1).collect();
    assert!(twice.is_empty(), "nobody twice: {twice:?}");
}

async fn opt_out(service: &Service, number: &str, scope: postrider::pb::SuppressionScope) {
    let suppression = Suppression { address: Some(api::phone(number)), scope: scope.into(), ..Suppression::default() };
    let request = SuppressionServiceAddRequest { suppression: Some(suppression) };
    SuppressionServiceClient::new(service.connect()).add(request).await.unwrap();
}

/// One marketing text a day.
async fn cap_marketing(service: &Service) {
    let window = Some(cap_window::Window::Rolling(prost_types::Duration { seconds: 86_400, nanos: 0 }));
    let rule = CapRule {
        name: "daily".into(),
        filter: Some(RuleFilter { classes: vec![Class::Marketing.into()], ..RuleFilter::default() }),
        limit: 1,
        window: Some(CapWindow { window, ..CapWindow::default() }),
        ..CapRule::default()
    };
    let tenant = Tenant { tenant_id: "default".into(), caps: vec![rule], ..Tenant::default() };
    let mask = prost_types::FieldMask { paths: vec!["caps".into()] };
    let request = UpdateTenantRequest { tenant: Some(tenant), update_mask: Some(mask) };
    TenantServiceClient::new(service.connect()).update_tenant(request).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_reaches_nobody_it_must_not() {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let sink = Sink::start(&["--latency", "5"]);
    let redis = Redis::start();
    let backends = Backends::Servers {
        queue: servers::rabbitmq().vhost(),
        limits: redis.database(),
        ledger: servers::postgres().database(),
    };
    let service = Service::start(&backends, &provider(&sink));
    let client = api::jobs(&service);
    cap_marketing(&service).await;
    let opted_out = numbers(0, 50);
    for number in &opted_out {
        opt_out(&service, number, postrider::pb::SuppressionScope::Brand).await;
    }
    let capped = numbers(100, 300);
    api::insist(&client, &api::batch("", api::text(Class::Marketing, "hello"), &capped)).await;
    until("everybody is reached once", async || reached(&sink, &capped) == capped.len()).await;

    // Jobs for all of them, and for others, flow while Redis dies and comes back empty.
    let others = numbers(1_000, 3_000);
    let sent = Arc::new(Mutex::new(0_usize));
    let all = [&opted_out[..], &capped[..], &others[..]].concat();
    let flow = {
        let (client, clock, sent) = (client.clone(), clock.clone(), Arc::clone(&sent));
        let all = all.clone();
        async move {
            for (number, part) in all.chunks(50).enumerate() {
                let key = format!("again-{number}");
                api::insist(&client, &api::batch(&key, api::text(Class::Marketing, "again"), part)).await;
                *sent.lock().unwrap() += part.len();
                clock.pause(Duration::from_millis(50)).await;
            }
        }
    };
    tasks.spawn("flow", flow);
    clock.pause(Duration::from_millis(800)).await;
    redis.kill();
    clock.pause(Duration::from_millis(300)).await;
    redis.lose_data();
    redis.restart();
    let passwords = numbers(9_000, 10);
    api::insist(&client, &api::batch("", api::text(Class::Otp, "1234"), &passwords)).await;
    until("passwords go meanwhile", async || reached(&sink, &passwords) == passwords.len()).await;
    until("limits are whole", async || {
        service.log().contains("limits are whole")
            && service.metrics().iter().any(|line| line == "postrider_limits_recovering 0")
    })
    .await;
    until("everything is accepted", async || *sent.lock().unwrap() == all.len()).await;
    until("the others are reached", async || reached(&sink, &others) == others.len()).await;
    let mut watched = Watched::default();
    until("the opted out have their outcome", async || {
        watched.follow(&client, Duration::from_millis(200)).await;
        watched.outcomes.values().flatten().filter(|(fate, _)| *fate == Fate::Suppressed).count() >= opted_out.len()
    })
    .await;
    assert_eq!(reached(&sink, &opted_out), 0, "nobody who opted out");
    assert_eq!(reached(&sink, &capped), capped.len(), "nobody beyond the cap");
    let mut handed: HashMap<String, usize> = HashMap::new();
    sink.taken().into_iter().for_each(|submit| *handed.entry(submit.to).or_default() += 1);
    let twice: Vec<_> = handed.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "nobody twice: {twice:?}");
    tasks.finish(&clock, Duration::from_secs(5)).await;
}
