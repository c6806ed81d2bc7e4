//! One tenant has a million rows in the agenda, all of them due and held back by its rate; another tenant's job still
//! leaves within a second.

use std::sync::Arc;
use std::time::Duration;

use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, Envelope, Shared};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::ledger::postgres::Postgres;
use postrider::ledger::sqlite::Sqlite;
use postrider::ledger::{Entry, Ledger, Tag};
use postrider::pb;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::queue::frame::Frame;
use postrider::seal::Sealer;
use uuid::Uuid;

use crate::support::api::{self, Watched};
use crate::support::samples;
use crate::support::service::{Backends, Service};

const ROWS: u128 = 1_000_000;
/// Rows in one call.
const LOT: u128 = 10_000;
/// A job of the other tenant leaves within this time.
const SOON: Duration = Duration::from_secs(1);
/// So often it is measured at most: what holds up every round is no hiccup of the machine.
const ROUNDS: usize = 3;
const PROVIDER: &str = "\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\nlatency = \"1ms\"\nreceipts = false\n\
                        rate = \"2000/s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_million_waiting_rows_hold_up_nobody_else_on_sqlite() {
    let service = Service::start(&Backends::Embedded, PROVIDER);
    let file = service.dir().join("data/ledger.sqlite");
    crowd_tenant(&service).await;
    let _took = service.stop();
    fill(&Sqlite::open(&file, Clock::system()).unwrap(), &service).await;
    others_leave_at_once(&service).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_million_waiting_rows_hold_up_nobody_else_on_postgres() {
    let backends = Backends::servers();
    let service = Service::start(&backends, PROVIDER);
    crowd_tenant(&service).await;
    let _took = service.stop();
    let Backends::Servers { ledger, .. } = backends else { panic!("servers") };
    fill(&Postgres::new(&ledger, Clock::system()).unwrap(), &service).await;
    others_leave_at_once(&service).await;
}

/// Creates the tenant whose rows wait: its rate lets one job a second through.
async fn crowd_tenant(service: &Service) {
    let rate = Some(pb::Rate { per_second: 1, burst: 1 });
    let tenant = pb::Tenant { tenant_id: "crowd".into(), rate, ..pb::Tenant::default() };
    let mut tenants = TenantServiceClient::new(service.connect());
    tenants.create_tenant(pb::CreateTenantRequest { tenant: Some(tenant) }).await.unwrap();
}

async fn fill(ledger: &impl Ledger, service: &Service) {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    ledger.migrate().await.unwrap();
    let sealer = Sealer::open_file(&service.dir().join("data/keys"), Clock::system().now()).unwrap();
    let now = clock.now();
    let envelope = envelope(now);
    let (tenant, lane) = (envelope.shared.tenant.clone(), envelope.lane());
    let payload = Frame::Jobs(vec![envelope]).encode(&sealer).unwrap();
    let entry = |number: u128| Entry {
        id: Uuid::from_u128(number + 1),
        tag: Tag::Send,
        tenant: tenant.clone(),
        lane: lane.clone(),
        sender: 0,
        priority: 0,
        due_at: now.minus(Duration::from_millis(u64::try_from(number % 1_000).unwrap())),
        accepted_at: Some(now),
        jobs: 1,
        releasing_since: None,
        payload: payload.clone(),
    };
    for lot in 0..ROWS / LOT {
        let entries: Vec<_> = (lot * LOT..(lot + 1) * LOT).map(entry).collect();
        ledger.put_entries(&entries).await.unwrap();
    }
    let depth = ledger.agenda_depth().await.unwrap();
    assert_eq!(u128::from(depth.entries), ROWS);
    ledger.close().await;
    println!("{ROWS} rows written in {:.1} s", watch.elapsed().as_secs_f64());
}

fn envelope(now: UnixMicros) -> Envelope {
    let (tenant, content) = ("crowd".parse().unwrap(), Content::Text("one of a million".into()));
    let expires_at = now.plus(Duration::from_secs(24 * 3600));
    let shared = Shared { tenant, content, expires_at, ..samples::shared(Class::Marketing, now) };
    let recipient = Recipient { phone: Some("+8613800000000".parse().unwrap()), ..Recipient::default() };
    let job = samples::job(JobId::new(now, 7), recipient);
    Envelope { shared: Arc::new(shared), due_at: now, jobs: vec![job] }
}

/// Submits jobs of the tenant `default` through the same agenda, and measures how late each leaves.
async fn others_leave_at_once(service: &Service) {
    service.restart(None);
    // The feeder has met the million.
    Clock::system().pause(Duration::from_secs(3)).await;
    let mut late = Vec::new();
    for _ in 0..ROUNDS {
        late = lateness(service).await;
        println!("jobs beside a million waiting rows left after {late:?}");
        if late.iter().all(|late| *late <= SOON) {
            return;
        }
    }
    panic!("late beside a million waiting rows, {ROUNDS} times: {late:?}; {}", service.log());
}

/// Returns how late each of twenty jobs leaves.
async fn lateness(service: &Service) -> Vec<Duration> {
    let (clock, client) = (Clock::system(), api::jobs(service));
    let mut due = Vec::new();
    for number in 0..20 {
        // Some wait in the feeder's memory, and some in the agenda among the million.
        let at = clock.now().as_secs() + if number % 2 == 0 { 3 } else { 35 };
        let spec = api::at(api::text(pb::Class::Marketing, "not in the crowd"), at);
        let request = api::submit("", spec, &format!("+49151{number:08}"));
        due.push((client.clone().submit(request).await.unwrap().into_inner().job_id, at));
        clock.pause(Duration::from_millis(200)).await;
    }
    let (mut watched, watch) = (Watched::default(), clock.stopwatch());
    while !due.iter().all(|(id, _)| watched.outcomes.contains_key(id)) {
        watched.follow(&client, Duration::from_millis(500)).await;
        assert!(watch.elapsed() < Duration::from_secs(60), "the jobs did not leave; {}", service.log());
    }
    due.iter().map(|(id, due)| watched.sent_after(id, *due)).collect()
}
