//! Redis cut off, Redis that carries out what it does not answer, and Redis restarted empty, while jobs go through the
//! whole service.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{Class, Fate, State, SuppressionScope};
use postrider::shutdown::Tasks;

use crate::support::api::{self, Watched, cap_marketing, numbers, opt_out};
use crate::support::proxy::{Direction, Proxy};
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

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    while !holds().await {
        assert!(watch.elapsed() < PATIENCE, "waited in vain: {what}");
        clock.pause(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_limits_passwords_go_on_and_marketing_waits() {
    limits_are_away(Duration::from_secs(10)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: limits are away for a minute"]
async fn without_limits_for_a_minute_passwords_go_on_and_marketing_waits() {
    limits_are_away(Duration::from_secs(60)).await;
}

async fn limits_are_away(cut: Duration) {
    let clock = Clock::system();
    let sink = Sink::start(&["--latency", "5"]);
    let proxy = Proxy::to(servers::redis().port());
    let service = Service::start(&Backends::behind(&proxy), &provider(&sink));
    let client = api::jobs(&service);
    // Somebody has opted out of everything, and the ledger knows.
    let opted_out = numbers(900, 1);
    opt_out(&service, &opted_out[0], SuppressionScope::Everything).await;
    let first = numbers(0, 5);
    submit(&service, Class::Marketing, &first).await;
    until("marketing goes while limits are there", async || sink.reached(&first) == 5).await;

    let mut waiting = numbers(1_000, 2_000);
    for numbers in waiting.chunks(500) {
        submit(&service, Class::Marketing, numbers).await;
    }
    proxy.refuse();
    let away = clock.stopwatch();
    // What had its answer before the cut still goes.
    clock.pause(Duration::from_secs(2)).await;
    let before = sink.reached(&waiting);
    let mut urgent = opted_out.clone();
    submit(&service, Class::Otp, &opted_out).await;
    // All the while, jobs of every sort come.
    while away.elapsed() < cut {
        for (class, from) in [(Class::Otp, 100_000), (Class::Transactional, 200_000)] {
            let more = numbers(from + urgent.len(), 2);
            submit(&service, class, &more).await;
            urgent.extend(more);
        }
        let more = numbers(10_000 + waiting.len(), 20);
        submit(&service, Class::Marketing, &more).await;
        waiting.extend(more);
        clock.pause(Duration::from_millis(250)).await;
    }
    until("passwords and orders go without limits", async || sink.reached(&urgent) == urgent.len() - 1).await;
    assert_eq!(sink.reached(&waiting), before, "marketing waits for limits");
    assert_eq!(sink.reached(&opted_out), 0, "the ledger was asked");
    let alone = service.metrics().into_iter().filter(|line| line.starts_with("postrider_without_limits_total")).count();
    assert!(alone > 0, "it is counted");
    println!("{} urgent jobs went in {:?} without limits, {} waited", urgent.len() - 1, away.elapsed(), waiting.len());

    proxy.heal();
    let watch = clock.stopwatch();
    until("all that waited goes", async || {
        let sent = sink.reached(&waiting);
        // What is counted was sent before now; a second for the lease.
        let most = BURST + RATE * usize::try_from(watch.elapsed().as_secs() + 2).unwrap();
        assert!(sent - before <= most, "no stampede: {} in {:?}, at most {most}", sent - before, watch.elapsed());
        sent == waiting.len()
    })
    .await;
    let mut watched = Watched::default();
    until("each has its outcome", async || {
        watched.follow(&client, Duration::from_millis(200)).await;
        watched.outcomes.len() >= first.len() + waiting.len() + urgent.len()
    })
    .await;
    assert!(watched.outcomes.values().all(|outcomes| outcomes.len() == 1), "one each");
    nobody_twice(&sink, &waiting);
}

async fn submit(service: &Service, class: Class, numbers: &[String]) {
    api::insist(&api::jobs(service), &api::batch("", api::text(class, "news for you"), numbers)).await;
}

fn nobody_twice(sink: &Sink, among: &[String]) {
    let mut handed: HashMap<String, usize> = HashMap::new();
    sink.taken().into_iter().for_each(|submit| *handed.entry(submit.to).or_default() += 1);
    let twice = |number: &&String| handed.get(number.trim_start_matches('+')).is_some_and(|times| *times > 1);
    let twice: Vec<_> = among.iter().filter(twice).collect();
    assert!(twice.is_empty(), "nobody twice: {twice:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_lost_after_limits_took_the_places_take_none_twice() {
    let clock = Clock::system();
    let sink = Sink::start(&["--latency", "5"]);
    let proxy = Proxy::to(servers::redis().port());
    let service = Service::start(&Backends::behind(&proxy), &provider(&sink));
    let client = api::jobs(&service);
    cap_marketing(&service).await;
    // Two for each, one of which goes: as it does if no place is taken twice, nor given away twice.
    let people = numbers(0, 600);
    let mut jobs = vec![];
    for (part, numbers) in people.chunks(50).enumerate() {
        for round in ["first", "again"] {
            let request = api::batch(&format!("{round}-{part}"), api::text(Class::Marketing, round), numbers);
            jobs.extend(api::insist(&client, &request).await);
        }
        // The next answer is cut off somewhere in it: what it says was carried out.
        proxy.cut_after(Direction::ToClient, 1 + fastrand::u32(..400));
    }
    let (mut watched, mut cuts) = (Watched::default(), people.len() / 50);
    until("each is reached or put off", async || {
        watched.follow(&client, Duration::from_millis(200)).await;
        if sink.reached(&people) < people.len() * 9 / 10 {
            proxy.cut_after(Direction::ToClient, 1 + fastrand::u32(..400));
            cuts += 1;
        }
        jobs.iter().all(|job| watched.outcomes.contains_key(job) || watched.states.get(job) == Some(&State::Scheduled))
    })
    .await;
    let sent = jobs.iter().filter(|job| watched.outcomes.contains_key(*job)).count();
    let before_now = sink.reached(&people);
    clock.pause(Duration::from_secs(1)).await;
    println!("{cuts} answers lost; of {} jobs {sent} were sent", jobs.len());
    assert_eq!((before_now, sink.reached(&people), sent), (people.len(), people.len(), people.len()));
    nobody_twice(&sink, &people);
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
        opt_out(&service, number, SuppressionScope::Brand).await;
    }
    let capped = numbers(100, 300);
    api::insist(&client, &api::batch("", api::text(Class::Marketing, "hello"), &capped)).await;
    until("everybody is reached once", async || sink.reached(&capped) == capped.len()).await;

    // Jobs for all of them, and for others, flow while Redis dies and comes back empty.
    let others = numbers(1_000, 3_000);
    let sent = Arc::new(Mutex::new(0_usize));
    let mut all = [&opted_out[..], &capped[..], &others[..]].concat();
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    fastrand::Rng::with_seed(seed).shuffle(&mut all);
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
    until("passwords go meanwhile", async || sink.reached(&passwords) == passwords.len()).await;
    until("limits are whole", async || {
        service.log().contains("limits are whole")
            && service.metrics().iter().any(|line| line == "postrider_limits_recovering 0")
    })
    .await;
    until("everything is accepted", async || *sent.lock().unwrap() == all.len()).await;
    until("the others are reached", async || sink.reached(&others) == others.len()).await;
    let mut watched = Watched::default();
    until("the opted out have their outcome", async || {
        watched.follow(&client, Duration::from_millis(200)).await;
        watched.outcomes.values().flatten().filter(|(fate, _)| *fate == Fate::Suppressed).count() >= opted_out.len()
    })
    .await;
    assert_eq!(sink.reached(&opted_out), 0, "nobody who opted out");
    assert_eq!(sink.reached(&capped), capped.len(), "nobody beyond the cap");
    nobody_twice(&sink, &all);
    tasks.finish(&clock, Duration::from_secs(5)).await;
}
