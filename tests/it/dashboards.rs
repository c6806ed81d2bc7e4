//! The dashboards against the truth: a service with every kind of job, scraped by a real Prometheus, which answers every
//! query of every panel.

mod prometheus;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::suppression_service_client::SuppressionServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{self, Class, JobSpec, job_spec};
use postrider::telemetry::metrics;
use serde_json::Value;

use self::prometheus::Prometheus;
use crate::support::api;
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

/// Metrics that are on no panel, and why.
const ON_NONE: &[(&str, &str)] = &[
    (
        "postrider_certificate_expires_timestamp_seconds",
        "a date, and only with TLS: an alert watches it (PostriderCertificateExpires)",
    ),
    ("postrider_key_expires_timestamp_seconds", "a date: an alert watches it (PostriderKeyExpires)"),
];

/// Panels that may be empty or zero after the load of this test, by dashboard and title, and why.
const QUIET: &[(&str, &str, &str)] = &[
    ("overview", "Refused for our own reasons", "nothing fails"),
    ("pipeline", "Lanes", "work that may leave leaves at once"),
    ("pipeline", "Oldest work that is due", "nothing is late"),
    ("pipeline", "Fallback steps", "no job here has one"),
    ("pipeline", "Repeated and astray", "an unanswered hand-over is repeated only after its claim's deadline"),
    ("providers", "Breaker", "0 is closed"),
    ("providers", "Callbacks", "no provider here has callbacks"),
    ("providers", "Asked about messages", "every provider here reports by itself"),
    ("providers", "Receipts without a hand-over", "every receipt comes after its answer"),
    ("calls", "Lines in use", "no provider here has lines"),
    ("calls", "Calls ended, by result", "no provider here has lines"),
    ("calls", "Answer-seizure ratio", "no provider here has lines"),
    ("calls", "Average call duration", "no provider here has lines"),
    ("calls", "Time to hand in what follows", "no provider here has lines"),
    ("servers", "Dead letters", "nothing dies"),
    ("servers", "Frames not durable in time", "nothing fails"),
    ("servers", "Calls to limits that failed", "nothing fails"),
    ("servers", "Limits recovering", "nothing is lost"),
    ("servers", "Jobs handed over without limits", "limits are there"),
    ("servers", "Urgent jobs accepted without a look at their key", "nothing fails"),
];

/// How long the load goes on at most until every panel has shown something; on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(120);
/// Settings besides the SMSC: a provider for everything else, which fails now and then, and no send windows, so that the
/// hour of the day does not matter.
const SETTINGS: &str = "\n[[provider]]\nid = \"rest\"\nkind = \"simulated\"\npool = \"rest\"\nkinds = [\"template\", \
                        \"call\"]\nreceipt_after = \"100ms\"\nrefused = 0.1\nunanswered = 0.2\nundelivered = 0.1\n\
                        response_timeout = \"1s\"\n[windows]\ndefaults = \"none\"\n";

/// One query of a panel.
struct Query {
    dashboard: String,
    panel: String,
    text: String,
}

#[test]
fn queries_and_rules_name_metrics_that_exist() {
    let known: BTreeSet<_> = metrics::TABLE.iter().map(|metric| metric.name).collect();
    let rules =
        ["deploy/prometheus/rules.yml", "deploy/prometheus/rules_test.yml"].map(|file| (file.to_owned(), read(file)));
    let queries = queries().into_iter().map(|query| (format!("{} / {}", query.dashboard, query.panel), query.text));
    let mut wrong = Vec::new();
    for (place, text) in queries.chain(rules) {
        let unknown = named(&text).into_iter().filter(|name| !known.contains(name.as_str()));
        wrong.extend(unknown.map(|name| format!("{place}: {name}")));
    }
    assert!(wrong.is_empty(), "no such metric:\n{}", wrong.join("\n"));
}

#[test]
fn every_metric_is_on_a_panel_or_on_none_for_a_reason() {
    let shown: BTreeSet<_> = queries().iter().flat_map(|query| named(&query.text)).collect();
    let excused: BTreeSet<_> = ON_NONE.iter().map(|(name, _why)| *name).collect();
    for metric in metrics::TABLE {
        assert!(
            shown.contains(metric.name) != excused.contains(metric.name),
            "{}: put it on a panel (deploy/grafana/generate.py) or into ON_NONE with the reason, and not both",
            metric.name
        );
    }
}

#[test]
fn panels_say_what_they_show() {
    let mut wrong = Vec::new();
    for (name, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap().iter().map(|variable| &variable["name"]);
        assert_eq!(variables.collect::<Vec<_>>(), ["datasource", "job"], "{name}");
        for panel in dashboard["panels"].as_array().unwrap() {
            let said = |field: &Value| field.as_str().is_some_and(|text| !text.is_empty());
            let unit = &panel["fieldConfig"]["defaults"]["unit"];
            if !(said(&panel["title"]) && said(&panel["description"]) && said(unit)) {
                wrong.push(format!("{name} / {}: title, description, unit", panel["title"]));
            }
            let targets = panel["targets"].as_array().unwrap();
            let varied = |target: &&Value| {
                let expr = target["expr"].as_str().unwrap();
                target["datasource"]["uid"] == "${datasource}"
                    && expr.matches("postrider_").count() == expr.matches("job=~\"$job\"").count()
            };
            if targets.is_empty() || !targets.iter().all(|target| varied(&target)) {
                wrong.push(format!("{name} / {}: a query without its variables", panel["title"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let titles: BTreeSet<_> = queries().into_iter().map(|query| (query.dashboard, query.panel)).collect();
    let gone = QUIET.iter().filter(|(name, title, _)| !titles.contains(&((*name).to_owned(), (*title).to_owned())));
    assert_eq!(gone.count(), 0, "QUIET names a panel that is gone");
}

#[tokio::test]
async fn every_panel_shows_what_the_load_did() {
    let sink = Sink::start(&["--mo", "7=STOP", "--state", "5=UNDELIV", "--mute", "3", "--close-after", "150"]);
    let service = Service::start(
        &Backends::Embedded,
        &(smpp_provider(sink.port(), "response_timeout = \"2s\"\nprice = \"0.045 CNY\"\n") + SETTINGS),
    );
    let prometheus = Prometheus::scraping(service.metrics_port(), &root().join("deploy/prometheus/rules.yml"));
    let clock = Clock::system();
    let watch = clock.stopwatch();
    cap(&service).await;
    let quiet: BTreeSet<_> = QUIET.iter().map(|(dashboard, panel, _why)| (*dashboard, *panel)).collect();
    let mut waiting = queries();
    let mut silent = Vec::new();
    for round in 0_u32.. {
        load(&service, round, &clock).await;
        // Prometheus looks every second, and a rate needs two looks.
        clock.pause(Duration::from_secs(2)).await;
        waiting.retain(|query| {
            let text = query.text.replace("$job", "postrider").replace("$__rate_interval", "30s");
            let values = prometheus.query(&text);
            let values = values.unwrap_or_else(|error| panic!("{} / {}: {error}", query.dashboard, query.panel));
            !values.iter().any(|value| *value != 0.0 && value.is_finite())
        });
        let loud = waiting.iter().filter(|query| !quiet.contains(&(query.dashboard.as_str(), query.panel.as_str())));
        silent = loud.map(|query| format!("{} / {}: {}", query.dashboard, query.panel, query.text)).collect();
        if silent.is_empty() || watch.elapsed() > PATIENCE {
            break;
        }
    }
    assert!(silent.is_empty(), "nothing, or nothing but zero:\n{}\n{}", silent.join("\n"), service.log());
    assert_eq!(prometheus.failing_rules(), [""; 0]);
}

/// Two marketing jobs a day and recipient.
async fn cap(service: &Service) {
    let rolling = pb::cap_window::Window::Rolling(prost_types::Duration { seconds: 24 * 3600, nanos: 0 });
    let rule = pb::CapRule {
        name: "two-a-day".into(),
        filter: Some(pb::RuleFilter { classes: vec![Class::Marketing.into()], ..pb::RuleFilter::default() }),
        limit: 2,
        window: Some(pb::CapWindow { window: Some(rolling), clock_offset_minutes: 0 }),
        on_limit: pb::OnLimit::Defer.into(),
        ..pb::CapRule::default()
    };
    let tenant = pb::Tenant { tenant_id: "default".into(), caps: vec![rule], ..pb::Tenant::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["caps".into()] });
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    TenantServiceClient::new(service.connect()).update_tenant(request).await.unwrap();
}

/// Jobs of every kind and class, now, soon and later; opt-outs by API and by reply; a cap that is met; a bad request.
async fn load(service: &Service, round: u32, clock: &Clock) {
    api::put_template(service, api::template("order_shipped", "Your order is on its way")).await;
    let client = api::jobs(service);
    let number = |index: u32| format!("+8613{:09}", round * 1_000 + index);
    let numbers = |from: u32, to: u32| (from..to).map(number).collect::<Vec<_>>();
    let soon = |spec| api::at(spec, clock.now().as_secs() + 2);
    let hour = |spec| api::at(spec, clock.now().as_secs() + 3_600);
    let template = || {
        let content = pb::TemplateContent { template: "order_shipped".into(), ..pb::TemplateContent::default() };
        JobSpec { content: Some(job_spec::Content::Template(content)), ..api::text(Class::Transactional, "") }
    };
    let call = || {
        let source = Some(pb::call_content::Source::Flow("confirm_order".into()));
        let content = pb::CallContent { source, ..pb::CallContent::default() };
        JobSpec { content: Some(job_spec::Content::Call(content)), ..api::text(Class::Notification, "") }
    };
    let key = format!("round-{round}");
    let batches = [
        (key.as_str(), api::text(Class::Otp, "code"), numbers(0, 20)),
        ("", api::text(Class::Marketing, "sale"), numbers(0, 30)),
        // Everybody's third and fourth.
        ("", api::text(Class::Marketing, "sale"), numbers(10, 20)),
        ("", api::text(Class::Marketing, "sale"), numbers(10, 20)),
        ("", soon(api::text(Class::Notification, "points")), numbers(100, 120)),
        ("", hour(api::text(Class::Notification, "points")), numbers(100, 120)),
        ("", call(), numbers(200, 220)),
    ];
    for (key, spec, numbers) in batches {
        client.clone().submit_batch(api::batch(key, spec, &numbers)).await.unwrap();
    }
    let followers = (0..20).map(|index| pb::BatchItem {
        recipient: Some(pb::Recipient {
            wechat: vec![pb::WechatAddress { appid: "wx0123456789".into(), openid: format!("o-{round}-{index}") }],
            ..pb::Recipient::default()
        }),
        ..pb::BatchItem::default()
    });
    let request = pb::SubmitBatchRequest { spec: Some(template()), items: followers.collect(), ..Default::default() };
    client.clone().submit_batch(request).await.unwrap();
    client.clone().submit(api::submit("", api::text(Class::Otp, "code"), "no number")).await.unwrap_err();

    let suppression = Some(pb::Suppression { address: Some(api::phone(&number(900))), ..pb::Suppression::default() });
    let mut suppressions = SuppressionServiceClient::new(service.connect());
    suppressions.add(pb::SuppressionServiceAddRequest { suppression }).await.unwrap();
    client.clone().submit(api::submit("", api::text(Class::Marketing, "sale"), &number(900))).await.unwrap();
}

/// Returns the queries of every panel of every dashboard.
fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for (name, dashboard) in dashboards() {
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                queries.push(Query {
                    dashboard: name.clone(),
                    panel: panel["title"].as_str().unwrap().to_owned(),
                    text: target["expr"].as_str().unwrap().to_owned(),
                });
            }
        }
    }
    queries
}

fn dashboards() -> BTreeMap<String, Value> {
    let files = fs::read_dir(root().join("deploy/grafana")).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap())
    };
    let found: BTreeMap<String, Value> = files.map(read).collect();
    assert!(found.len() >= 7, "dashboards are gone: {:?}", found.keys());
    found
}

/// Returns the metrics that a text names, without what histograms add.
fn named(text: &str) -> BTreeSet<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let words = text.split(|c| !part(c)).filter(|word| word.starts_with("postrider_"));
    let family = |word: &str| {
        let cut = ["_bucket", "_sum", "_count"].iter().find_map(|end| word.strip_suffix(end));
        cut.unwrap_or(word).to_owned()
    };
    words.map(family).collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
