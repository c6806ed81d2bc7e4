//! Time: a month of scheduled jobs on the virtual clock, through restarts, and one tenant's million that waits while
//! another tenant's job goes.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::{AdvanceClockRequest, Class, Fate};

use crate::support::api::{self, Watched};
use crate::support::service::{Backends, Service};

const JOBS: usize = 20_000;
/// Jobs that share their due time.
const BATCH: usize = 20;
const DAY: i64 = 24 * 3600;
/// How far the clock moves at a time: what a job can be late by.
const STEP: i64 = 6 * 3600;
/// Steps between two restarts, which are a stop and a kill by turns.
const RESTART_EVERY: i64 = 20;

/// Answers at once and sends no receipts: the virtual clock stands still between two steps, and so would its answers.
const PROVIDER: &str = "\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\nlatency = \"0s\"\nreceipts = false\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_month_of_scheduled_jobs_is_never_early_and_loses_none() {
    let service = Service::prepare(&Backends::Embedded, PROVIDER, &["--clock", "virtual"]);
    service.restart(None);
    let clock = Clock::system();
    let watch = clock.stopwatch();
    let start = advance(&service, Duration::from_millis(1)).await;
    let due = submit(&service, start).await;
    assert_eq!(due.len(), JOBS, "ids are unique");
    println!("{JOBS} jobs accepted in {:.1} s", watch.elapsed().as_secs_f64());

    let mut watched = Watched::default();
    let mut now = start;
    for step in 1..=31 * DAY / STEP {
        if step % RESTART_EVERY == 0 {
            if step % (2 * RESTART_EVERY) == 0 {
                service.kill()
            } else {
                let _took = service.stop();
            }
            service.restart(None);
        }
        now = set_clock(&service, start + step * STEP).await;
        all_due_settled(&service, &clock, &due, now, &mut watched).await;
    }
    let mut late_max = 0;
    for (id, due) in &due {
        let outcomes = &watched.outcomes[id];
        assert!(matches!(outcomes[..], [(Fate::Sent, _)]), "{id} ended as {outcomes:?}");
        let at = watched.settled_at[id].seconds;
        assert!(at >= *due, "{id} was sent {} s early", due - at);
        late_max = late_max.max(at - due);
    }
    assert!(late_max <= 2 * STEP, "a job was sent {late_max} s late");
    println!(
        "{JOBS} jobs over {} days in {:.1} s: none early, none lost, the latest {late_max} s after its time (the clock \
         moved {STEP} s at a time)",
        (now - start) / DAY,
        watch.elapsed().as_secs_f64()
    );
}

/// Submits jobs due at any second of the month; returns due times by id.
async fn submit(service: &Service, start: i64) -> HashMap<String, i64> {
    let client = api::jobs(service);
    let mut random = fastrand::Rng::with_seed(30);
    let mut due = HashMap::new();
    for batch in 0..JOBS / BATCH {
        let at = start + random.i64(60..30 * DAY);
        let numbers: Vec<_> = (0..BATCH).map(|item| format!("+8613{:09}", batch * BATCH + item)).collect();
        let spec = api::at(api::text(Class::Notification, "on time"), at);
        let ids = api::insist(&client, &api::batch(&format!("month-{batch}"), spec, &numbers)).await;
        due.extend(ids.into_iter().map(|id| (id, at)));
    }
    due
}

async fn all_due_settled(
    service: &Service,
    clock: &Clock,
    due: &HashMap<String, i64>,
    now: i64,
    watched: &mut Watched,
) {
    let client = api::jobs(service);
    let expected = due.values().filter(|due| **due <= now).count();
    let watch = clock.stopwatch();
    loop {
        watched.follow(&client, Duration::from_millis(50)).await;
        if watched.outcomes.len() >= expected {
            return;
        }
        let patience = Duration::from_secs(60);
        assert!(
            watch.elapsed() < patience,
            "{} of {expected} due jobs left within {patience:?}; the service said:\n{}",
            watched.outcomes.len(),
            service.log()
        );
    }
}

/// Moves the clock to a time, or does nothing when it is past that; returns the time it shows, in seconds.
async fn set_clock(service: &Service, to: i64) -> i64 {
    let now = advance(service, Duration::from_millis(1)).await;
    match u64::try_from(to - now) {
        Ok(left) if left > 0 => advance(service, Duration::from_secs(left)).await,
        _ => now,
    }
}

async fn advance(service: &Service, by: Duration) -> i64 {
    let by = prost_types::Duration { seconds: by.as_secs().cast_signed(), nanos: by.subsec_nanos().cast_signed() };
    let mut admin = AdminServiceClient::new(service.connect());
    admin.advance_clock(AdvanceClockRequest { by: Some(by) }).await.unwrap().into_inner().now.unwrap().seconds
}
