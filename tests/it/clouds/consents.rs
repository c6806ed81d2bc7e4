//! One-time consents to WeChat's subscription messages: each accept in a popup is good for one message, and what was refused
//! or used up is decided without asking WeChat.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::template_service_client::TemplateServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{self, Class, Fate};
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Simulator, wechat};

use super::wechat::{APPID, GOOD, account, put_template, settings, spec, template};
use crate::support::api::{self, Client, Watched};
use crate::support::cloud::{PATIENCE, quick};
use crate::support::janitor::free_port;
use crate::support::proxy::Proxy;
use crate::support::servers;
use crate::support::service::{Backends, Service};

/// The template's id at the account.
const TEMPLATE: &str = "tpl-1";

/// Submits a message to each of these.
async fn submit(client: &Client, key: &str, openids: &[&str]) -> Vec<String> {
    submit_as(Class::Notification, client, key, openids).await
}

async fn submit_as(class: Class, client: &Client, key: &str, openids: &[&str]) -> Vec<String> {
    let item = |openid: &&str| {
        let wechat = vec![pb::WechatAddress { appid: APPID.into(), openid: (*openid).to_owned() }];
        let params = [("thing1".to_owned(), "新鞋".to_owned())].into_iter().collect();
        let recipient = Some(pb::Recipient { wechat, ..pb::Recipient::default() });
        pb::BatchItem { recipient, params, ..pb::BatchItem::default() }
    };
    let spec = Some(spec(class));
    let items = openids.iter().map(item).collect();
    api::insist(client, &pb::SubmitBatchRequest { idempotency_key: key.into(), spec, items }).await
}

/// Returns the outcomes of jobs, in their order.
async fn outcomes(client: &Client, ids: &[String]) -> Vec<(Fate, String)> {
    let (mut watched, watch) = (Watched::default(), Clock::system().stopwatch());
    while ids.iter().any(|id| !watched.outcomes.contains_key(id)) && watch.elapsed() < PATIENCE * 3 {
        watched.follow(client, Duration::from_millis(200)).await;
    }
    ids.iter().map(|id| watched.outcomes.get(id).expect("an outcome")[0].clone()).collect()
}

fn sent() -> (Fate, String) {
    (Fate::Sent, String::new())
}

fn denied() -> (Fate, String) {
    (Fate::Rejected, "43101".into())
}

fn none_left() -> (Fate, String) {
    (Fate::Suppressed, "no_consent".into())
}

/// Returns how often the account gave that verdict.
fn asked(service: &Service, verdict: &str) -> f64 {
    let name = format!("postrider_attempts_total{{provider=\"cloud\",verdict=\"{verdict}\"}} ");
    service.metrics().iter().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap_or(0.0)
}

/// Creates another tenant that has the template; returns a client that presents its key.
async fn other_tenant(service: &Service) -> Client {
    let mut tenants = TenantServiceClient::new(service.connect());
    let tenant = Some(pb::Tenant { tenant_id: "other".into(), ..pb::Tenant::default() });
    tenants.create_tenant(pb::CreateTenantRequest { tenant }).await.unwrap();
    let request = pb::CreateApiKeyRequest { tenant_id: "other".into(), role: pb::Role::Admin.into(), expires_at: None };
    let key = tenants.create_api_key(request).await.unwrap().into_inner().secret;
    let request = pb::PutTemplateRequest { template: Some(template("cloud")) };
    TemplateServiceClient::new(service.connect_with(&key)).put_template(request).await.unwrap();
    Client::new(service.connect_with(&key))
}

/// An account that asks for consents, and a service that counts them.
struct Counted {
    tasks: Tasks,
    clock: Clock,
    account: wechat::Wechat,
    simulator: Simulator,
    service: Service,
    client: Client,
}

impl Counted {
    async fn start(backends: Backends) -> Self {
        let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
        let url = format!("http://127.0.0.1:{port}/callback/cloud");
        let account = account(&url, &clock, |account| account.consents = true);
        let (vendor, listen) = (Box::new(account.clone()), ([127, 0, 0, 1], 0).into());
        let simulator = Simulator::start(vendor, listen, (quick(), 5), &tasks, &clock).await.unwrap();
        let more = format!("{GOOD}messages = \"subscribe\"\nconsents = \"counted\"\n");
        let provider = settings(&format!("http://{}", simulator.address()), &more);
        let settings = format!("[receive]\nlisten = \"127.0.0.1:{port}\"\n{provider}");
        let service = tokio::task::spawn_blocking(move || Service::start(&backends, &settings)).await.unwrap();
        put_template(&service, "cloud").await;
        let client = api::jobs(&service);
        Self { tasks, clock, account, simulator, service, client }
    }

    /// Lets users say something, each in a second of its own and so often; returns when all was thanked for.
    async fn say(&self, popups: &[(&str, bool)], times: u64) {
        let thanked = self.simulator.callbacks().0 + times * popups.len() as u64;
        for (number, &(openid, accepts)) in (0..).zip(popups) {
            let at = self.clock.now().as_secs() + number;
            (0..times).for_each(|_| self.simulator.post(self.account.popup_at(openid, TEMPLATE, accepts, at)));
            if accepts {
                self.account.consent(openid, TEMPLATE);
            }
        }
        self.until("thanks", || self.simulator.callbacks().0 >= thanked).await;
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let all = self.clock.timeout(PATIENCE, async {
            while !holds() {
                self.clock.pause(Duration::from_millis(10)).await;
            }
        });
        all.await.expect(what);
    }

    async fn finish(self) {
        drop(self.service);
        self.tasks.finish(&self.clock, PATIENCE).await;
    }
}

async fn each_accept_is_good_once(backends: Backends) {
    let counted = Counted::start(backends).await;
    let Counted { account: _, simulator, service, client, clock: _, tasks: _ } = &counted;
    // o-1 accepts twice, each said three times; o-2 rejects, o-4 accepts once; of o-3 nothing is heard.
    counted.say(&[("o-1", true), ("o-1", true), ("o-2", false), ("o-4", true)], 3).await;
    // What was thanked for is known after a crash.
    service.kill();
    service.restart(None);

    let ids = submit(client, "first", &["o-1", "o-1", "o-1", "o-2", "o-3"]).await;
    let told = outcomes(client, &ids).await;
    let count = |wanted: (Fate, String)| told[..3].iter().filter(|told| **told == wanted).count();
    assert_eq!((count(sent()), count(denied())), (2, 1), "two accepts, two messages: {told:?}");
    // WeChat knows of what was before anything was heard.
    assert_eq!(told[3..], [denied(), denied()]);
    let again = submit(client, "again", &["o-1", "o-2", "o-3"]).await;
    assert_eq!(outcomes(client, &again).await, [none_left(), none_left(), none_left()]);
    assert_eq!((asked(service, "taken"), asked(service, "refused")), (2.0, 3.0), "WeChat is asked for nothing twice");
    let request = pb::ExplainJobRequest { job_id: again[0].clone() };
    let explained = client.clone().explain_job(request).await.unwrap().into_inner();
    assert!(explained.summary.contains("none is left"), "{}", explained.summary);
    let suppressed = "postrider_jobs_suppressed_total{reason=\"no_consent\"} 3";
    assert!(service.metrics().iter().any(|line| line == suppressed));

    // What WeChat definitely did not take gives its consent back, and has it again when it is tried again.
    simulator.behave(Behaviour { not_sent: 1.0, ..quick() });
    let ids = submit(client, "busy", &["o-4"]).await;
    counted.until("an attempt", || asked(service, "not_sent") >= 1.0).await;
    simulator.behave(quick());
    assert_eq!(outcomes(client, &ids).await, [sent()]);
    let ids = submit(client, "last", &["o-4"]).await;
    assert_eq!(outcomes(client, &ids).await, [denied()]);
    counted.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_accept_is_good_once_embedded() {
    each_accept_is_good_once(Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_accept_is_good_once_on_servers() {
    let backends = tokio::task::spawn_blocking(Backends::servers).await.unwrap();
    each_accept_is_good_once(backends).await;
}

/// What users consent to, they say to the account, whoever's job leaves by it.
#[tokio::test(flavor = "multi_thread")]
async fn consents_are_those_of_the_accounts_tenant_whoever_uses_them() {
    let counted = Counted::start(Backends::Embedded).await;
    let other = other_tenant(&counted.service).await;
    counted.say(&[("o-1", true)], 1).await;
    for (tenant, key, told) in [
        (&other, "theirs", sent()),
        (&other, "more", denied()),
        (&counted.client, "ours", none_left()),
        (&other, "again", none_left()),
    ] {
        let ids = submit(tenant, key, &["o-1"]).await;
        assert_eq!(outcomes(tenant, &ids).await, [told], "{key}");
    }
    // In another second, or it would be the same accept.
    counted.clock.pause(Duration::from_millis(1_100)).await;
    counted.say(&[("o-1", true)], 1).await;
    let ids = submit(&counted.client, "later", &["o-1"]).await;
    assert_eq!(outcomes(&counted.client, &ids).await, [sent()]);
    let ids = submit(&other, "last", &["o-1"]).await;
    assert_eq!(outcomes(&other, &ids).await, [none_left()]);
    counted.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_limits_are_away_wechat_decides_and_what_is_said_is_counted_later() {
    let proxy = Proxy::to(servers::redis().port());
    let backends = Backends::behind(&proxy);
    let counted = Counted::start(backends).await;
    let Counted { service, client, .. } = &counted;
    counted.say(&[("o-1", true)], 1).await;
    // Of this one it is known that there are none.
    let ids = submit(client, "first", &["o-3"]).await;
    assert_eq!(outcomes(client, &ids).await, [denied()]);
    let ids = submit(client, "again", &["o-3"]).await;
    assert_eq!(outcomes(client, &ids).await, [none_left()]);

    proxy.refuse();
    let ids = submit_as(Class::Transactional, client, "away", &["o-1", "o-2"]).await;
    assert_eq!(outcomes(client, &ids).await, [sent(), denied()]);
    assert_eq!((asked(service, "taken"), asked(service, "refused")), (1.0, 2.0), "each was asked for once");
    counted.say(&[("o-3", true), ("o-3", true)], 1).await;
    proxy.heal();

    // They are counted from the ledger: until then there is none.
    let (watch, mut tries) = (counted.clock.stopwatch(), 0);
    loop {
        tries += 1;
        let ids = submit(client, &format!("back-{tries}"), &["o-3"]).await;
        match outcomes(client, &ids).await.remove(0) {
            told if told == sent() => break,
            told => assert!(told == none_left() && watch.elapsed() < PATIENCE, "{told:?}"),
        }
    }
    let ids = submit(client, "second", &["o-3"]).await;
    assert_eq!(outcomes(client, &ids).await, [sent()]);
    let ids = submit(client, "third", &["o-3"]).await;
    assert_eq!(outcomes(client, &ids).await, [none_left()], "each once");
    counted.finish().await;
}
