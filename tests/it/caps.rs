//! Caps in the whole service: in force from the settings, by API, and at once when they change.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{CapRule, CapWindow, Class, Fate, Tenant, UpdateTenantRequest, cap_window};

use crate::support::api::{self, Watched};
use crate::support::service::{Backends, Service};

const PROVIDER: &str = "\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\nlatency = \"0s\"\nreceipts = false\n";
const CAP: &str = "\n[[cap]]\nname = \"house\"\nlimit = 1\nwindow = \"calendar day\"\non_limit = \"drop\"\n";
const STOP: &str = "\n[[cap]]\nname = \"stop\"\nlimit = 0\nwindow = \"24h\"\non_limit = \"drop\"\n";
/// Far above the five seconds that are promised: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// Submits one job and waits for its outcome.
async fn outcome(service: &Service, watched: &mut Watched, key: &str, number: &str) -> (Fate, String) {
    let client = api::jobs(service);
    let request = api::submit(key, api::text(Class::Transactional, "a cap"), number);
    let job = client.clone().submit(request).await.unwrap().into_inner().job_id;
    let (clock, watch) = (Clock::system(), Clock::system().stopwatch());
    loop {
        watched.follow(&client, Duration::from_millis(50)).await;
        if let Some(outcomes) = watched.outcomes.get(&job) {
            assert_eq!(outcomes.len(), 1);
            return outcomes[0].clone();
        }
        assert!(watch.elapsed() < PATIENCE, "no outcome; the service said:\n{}", service.log());
        clock.pause(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn caps_bind_from_the_settings_and_by_api_and_change_while_the_service_runs() {
    let service = Service::start(&Backends::Embedded, &format!("{PROVIDER}{CAP}"));
    let mut watched = Watched::default();
    let over = |name: &str| (Fate::Suppressed, name.to_owned());
    let number = |n: u32| format!("+86138001{n:05}");
    // At midnight where the recipient is, the first two lie in different days, and the third meets the second.
    let first = outcome(&service, &mut watched, "a", &number(1)).await;
    let second = outcome(&service, &mut watched, "b", &number(1)).await;
    let third = outcome(&service, &mut watched, "c", &number(1)).await;
    assert_eq!(first.0, Fate::Sent);
    assert!([second, third].contains(&over("house")));

    // The file changes: no restart.
    let file = service.dir().join("postrider.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace(CAP, STOP)).unwrap();
    let watch = Clock::system().stopwatch();
    let mut tries = 0;
    while outcome(&service, &mut watched, &format!("d{tries}"), &number(100 + tries)).await != over("stop") {
        tries += 1;
        assert!(watch.elapsed() < PATIENCE, "the change of the file does not bind:\n{}", service.log());
        Clock::system().pause(Duration::from_millis(100)).await;
    }
    // What is wrong changes nothing.
    std::fs::write(&file, text.replace(CAP, &STOP.replace("= 0", "= 201"))).unwrap();
    let watch = Clock::system().stopwatch();
    while !service.log().contains("the caps stay as they were") {
        assert!(watch.elapsed() < PATIENCE, "nobody noticed:\n{}", service.log());
        Clock::system().pause(Duration::from_millis(100)).await;
    }
    assert_eq!(outcome(&service, &mut watched, "e", &number(2)).await, over("stop"));
    std::fs::write(&file, text.replace(CAP, "")).unwrap();
    let watch = Clock::system().stopwatch();
    while outcome(&service, &mut watched, &format!("f{tries}"), &number(300 + tries)).await
        != (Fate::Sent, String::new())
    {
        tries += 1;
        assert!(watch.elapsed() < PATIENCE, "the change of the file does not bind:\n{}", service.log());
        Clock::system().pause(Duration::from_millis(100)).await;
    }

    // By API, at once on the node that was asked.
    let window = cap_window::Window::Gap(prost_types::Duration { seconds: 3600, nanos: 0 });
    let cap = CapRule {
        name: "apart".into(),
        limit: 1,
        window: Some(CapWindow { window: Some(window), clock_offset_minutes: 0 }),
        on_limit: postrider::pb::OnLimit::Drop.into(),
        ..CapRule::default()
    };
    let tenant = Tenant { tenant_id: "default".into(), caps: vec![cap], ..Tenant::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["caps".into()] });
    let request = UpdateTenantRequest { tenant: Some(tenant), update_mask };
    TenantServiceClient::new(service.connect()).update_tenant(request).await.unwrap();
    assert_eq!(outcome(&service, &mut watched, "g", &number(3)).await.0, Fate::Sent);
    assert_eq!(outcome(&service, &mut watched, "h", &number(3)).await, over("apart"));
    let said = service.metrics().join("\n");
    assert!(
        said.contains(r#"postrider_caps_decisions_total{rule="apart",decision="dropped",mode="enforce"} 1"#),
        "{said}"
    );
}
