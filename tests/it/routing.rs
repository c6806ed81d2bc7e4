//! Which pool and which provider carry a job, through the whole service: by route, by what a provider is learned to carry,
//! and by how fast it answers.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{self, Class, Fate, JobSpec};
use postrider::shutdown::Tasks;
use postrider::simulator::Behaviour;
use postrider::simulator::smpp::{Account, Smsc};

use crate::support::api::{self, Client, Watched};
use crate::support::service::{Backends, Service, smpp_provider};

/// Far above what anything here takes: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Each route's pool has one provider of the same name; the first pool carries what no route names.
const ROUTES: &[(&str, &str)] = &[
    ("plain", ""),
    ("acme", "tenant = \"acme\""),
    ("urgent", "classes = [\"otp\"]"),
    ("shop", "labels = { shop = \"42\" }"),
    ("named", "senders = [\"10690042\"]"),
    ("signed", "senders = [\"晨星\"]"),
    ("news", "topics = [\"news\"]"),
    ("abroad", "countries = [\"US\", \"CA\"]"),
    ("city", "prefixes = [\"+8613912\"]"),
    ("mobile", "carriers = [\"china-mobile\"]"),
    ("unicom", "carriers = [\"china-unicom\"]"),
    ("beta", ""),
];

const MOBILE: &str = "+8613800000001";
const UNICOM: &str = "+8613000000001";
const TELECOM: &str = "+8618900000001";
const CITY: &str = "+8613912000001";
const ABROAD: &str = "+12025550100";
const ELSEWHERE: &str = "+4915112345678";

fn provider(id: &str, more: &str) -> String {
    format!("\n[[provider]]\nid = \"{id}\"\nkind = \"simulated\"\nreceipts = false\n{more}\n")
}

/// Waits until each job has its outcome, and returns who took it.
async fn carried(client: &Client, watched: &mut Watched, ids: &[String]) -> Vec<String> {
    let watch = Clock::system().stopwatch();
    while !ids.iter().all(|id| watched.outcomes.contains_key(id)) {
        assert!(watch.elapsed() < PATIENCE, "not all jobs have an outcome");
        watched.follow(client, Duration::from_millis(100)).await;
    }
    let mut carriers = Vec::with_capacity(ids.len());
    for id in ids {
        let request = pb::GetJobRequest { job_id: id.clone(), ..pb::GetJobRequest::default() };
        let job = client.clone().get_job(request).await.unwrap().into_inner().job.unwrap();
        let [attempt] = &job.attempts[..] else { panic!("{job:?}") };
        carriers.push(attempt.provider_id.clone());
    }
    carriers
}

#[tokio::test(flavor = "multi_thread")]
async fn each_job_leaves_through_the_pool_of_the_first_route_that_matches() {
    let pools = ROUTES.iter().map(|(pool, _)| provider(pool, &format!("pool = \"{pool}\"\nlatency = \"1ms\"")));
    let routes = ROUTES.iter().filter(|(_, matches)| !matches.is_empty());
    let routes = routes.map(|(pool, matches)| format!("\n[[route]]\n{matches}\npool = \"{pool}\"\n"));
    let service = Service::start(&Backends::Embedded, &pools.chain(routes).collect::<String>());
    let own = api::jobs(&service);
    let (acme, beta) = (api::tenant(&service, "acme", None).await, api::tenant(&service, "beta", None).await);
    // A tenant's own routes stand before those of the settings.
    let routes = vec![pb::TenantRoute { pool: "beta".into(), ..pb::TenantRoute::default() }];
    let tenant = Some(pb::Tenant { tenant_id: "beta".into(), routes, ..pb::Tenant::default() });
    let update_mask = Some(prost_types::FieldMask { paths: vec!["routes".into()] });
    let request = pb::UpdateTenantRequest { tenant, update_mask };
    TenantServiceClient::new(service.connect()).update_tenant(request).await.unwrap();

    let text = || api::text(Class::Transactional, "routed");
    let labelled = |shop: &str| JobSpec { labels: [("shop".into(), shop.into())].into_iter().collect(), ..text() };
    let from = |sender: &str| JobSpec { sender: sender.into(), ..text() };
    let about = |topic: &str| JobSpec { topic: topic.into(), ..text() };
    let rows: Vec<(&Client, JobSpec, &str, &str)> = vec![
        (&own, text(), TELECOM, "plain"),
        (&own, text(), ELSEWHERE, "plain"),
        (&acme, api::text(Class::Otp, "routed"), MOBILE, "acme"),
        (&beta, api::text(Class::Otp, "routed"), MOBILE, "beta"),
        (&own, api::text(Class::Otp, "routed"), MOBILE, "urgent"),
        (&own, labelled("42"), ABROAD, "shop"),
        (&own, labelled("43"), TELECOM, "plain"),
        (&own, from("10690042"), MOBILE, "named"),
        (&own, from("晨星"), MOBILE, "signed"),
        (&own, from("10690043"), TELECOM, "plain"),
        (&own, about("news"), ABROAD, "news"),
        (&own, about("olds"), TELECOM, "plain"),
        (&own, text(), ABROAD, "abroad"),
        (&own, text(), CITY, "city"),
        (&own, text(), MOBILE, "mobile"),
        (&own, text(), UNICOM, "unicom"),
    ];
    for (client, spec, number, expected) in rows {
        let id = client.clone().submit(api::submit("", spec, number)).await.unwrap().into_inner().job_id;
        assert_eq!(carried(client, &mut Watched::default(), &[id]).await, [expected], "{number}");
    }
    // One batch goes several ways.
    let numbers = [TELECOM, MOBILE, ABROAD, UNICOM, CITY].map(str::to_owned);
    let ids = api::insist(&own, &api::batch("several", text(), &numbers)).await;
    let carriers = carried(&own, &mut Watched::default(), &ids).await;
    assert_eq!(carriers, ["plain", "mobile", "abroad", "unicom", "city"]);
}

/// Returns the value of a metric of one provider.
fn value(service: &Service, name: &str, labels: &str) -> f64 {
    let (lines, start) = (service.metrics(), format!("{name}{{{labels}}} "));
    lines.iter().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0.0)
}

/// The carrier takes a tenth of what the settings say. Sent at their rate, each second would have ten times as many throttle
/// replies as jobs that are taken.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_provider_throttles_teaches_its_rate_and_costs_no_attempt() {
    const JOBS: usize = 120;
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let (slow, quick) = (Account { rate: 30, ..Account::default() }, Duration::from_millis(5));
    let behaviour = Behaviour { latency: quick, receipts: None, ..Behaviour::default() };
    let smsc = Smsc::start(slow, ([127, 0, 0, 1], 0).into(), (behaviour, 7), &tasks, &clock).await.unwrap();
    let settings = smpp_provider(smsc.address().port(), "rate = \"300/s\"\nreceipts = false");
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let (client, mut watched, watch) = (api::jobs(&service), Watched::default(), clock.stopwatch());
    let spec = api::text(Class::Transactional, "hello");
    let ids = api::insist(&client, &api::batch("slow", spec, &api::numbers(0, JOBS))).await;
    while !ids.iter().all(|id| watched.outcomes.contains_key(id)) {
        assert!(watch.elapsed() < PATIENCE, "not all jobs have an outcome");
        watched.follow(&client, Duration::from_millis(200)).await;
    }
    assert!(ids.iter().all(|id| watched.outcomes[id][0].0 == Fate::Sent));
    let believed = loop {
        assert!(watch.elapsed() < PATIENCE, "nobody shows what it is believed to carry");
        // Nothing, while a throttle reply holds it up.
        match value(&service, "postrider_provider_rate_limit", "provider=\"carrier-a\"") {
            rate if rate > 0.0 => break rate,
            _ => clock.pause(Duration::from_millis(100)).await,
        }
    };
    assert!(believed <= 150.0, "it is believed to carry {believed}/s");
    let throttled = value(&service, "postrider_attempts_total", "provider=\"carrier-a\",verdict=\"throttled\"");
    assert!(throttled > 0.0 && throttled <= 4.0 * JOBS as f64, "{throttled} throttle replies");
    assert!(carried(&client, &mut watched, &ids[..10]).await.iter().all(|carrier| carrier == "carrier-a"));
    drop(service);
    tasks.finish(&clock, Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_providers_the_one_that_answers_faster_gets_more_and_the_other_is_not_forgotten() {
    const JOBS: usize = 200;
    let settings = provider("far", "latency = \"400ms\"") + &provider("near", "latency = \"5ms\"");
    let service = Service::start(&Backends::Embedded, &settings);
    let (client, mut watched) = (api::jobs(&service), Watched::default());
    let mut taken = Vec::new();
    // Each by itself, so that each is a choice of its own; the first say how fast the two are.
    for count in [20, JOBS] {
        let mut ids = Vec::with_capacity(count);
        for number in api::numbers(taken.len(), count) {
            let request = api::submit("", api::text(Class::Transactional, "hello"), &number);
            ids.push(client.clone().submit(request).await.unwrap().into_inner().job_id);
        }
        taken = carried(&client, &mut watched, &ids).await;
    }
    // Three quarters, as chance will have it; half of them if nobody looked.
    let near = taken.iter().filter(|carrier| *carrier == "near").count();
    assert!((JOBS * 6 / 10..JOBS * 9 / 10).contains(&near), "{near} of {JOBS}");
}
