//! A send window opens and two thousand jobs have waited for it. On the virtual clock, so that each second has its exact
//! count: they are released at the pace of their pool from the first moment on, and whoever comes in the middle of them
//! does not wait for their end.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::{AdvanceClockRequest, Class};

use crate::support::api::{self, Watched, numbers};
use crate::support::service::{Backends, Service};

/// What the pool carries.
const RATE: i64 = 500;
const JOBS: usize = 2_000;
const SETTINGS: &str = "\n[windows]\ndefaults = \"shipped\"\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\n\
                        latency = \"0s\"\nreceipts = false\nrate = \"500/s\"\n";
const DAY: i64 = 24 * 3_600;
/// Marketing texts to China may leave from eight o'clock, which is midnight in UTC.
const OPENS: i64 = 0;
/// How far the clock moves at a time.
const STEP: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_for_a_window_leaves_at_the_pace_of_its_pool() {
    let service = Service::prepare(&Backends::Embedded, SETTINGS, &["--clock", "virtual"]);
    service.restart(None);
    let client = api::jobs(&service);
    let neighbour = api::tenant(&service, "neighbour", None).await;
    let now = advance(&service, Duration::from_micros(1)).await / 1_000_000;
    let opening = (now + DAY).div_euclid(DAY) * DAY + OPENS;
    // The evening before.
    go(&service, (opening - 600) * 1_000_000).await;
    for (part, numbers) in numbers(0, JOBS).chunks(500).enumerate() {
        api::insist(&client, &api::batch(&format!("member-day-{part}"), api::text(Class::Marketing, "sale"), numbers))
            .await;
    }
    let in_the_middle = api::at(api::text(Class::Marketing, "news"), opening + 2);
    let few = api::insist(&neighbour, &api::batch("few", in_the_middle, &numbers(10_000, 20))).await;
    until("all of them wait", || gauge(&service, "postrider_agenda_depth") >= (JOBS + few.len()) as f64).await;
    go(&service, opening * 1_000_000 - 1).await;
    Clock::system().pause(Duration::from_millis(500)).await;
    assert_eq!(released(&service), 0, "none before it opens");

    let mut now = advance(&service, Duration::from_micros(1)).await;
    assert_eq!(now, opening * 1_000_000);
    let mut counts = vec![];
    while released(&service) < JOBS as i64 {
        let since_ms = (now - opening * 1_000_000) / 1_000;
        // A quarter of a second's worth may go at once, and a lease of what comes next.
        let (most, least) = (RATE * (since_ms + 1_000) / 1_000, (RATE * since_ms / 1_000 * 8 / 10).min(JOBS as i64));
        until("the pace is used", || released(&service) >= least).await;
        // Long enough for the feeder to have looked again, if it were to release more.
        Clock::system().pause(Duration::from_millis(120)).await;
        let released = released(&service);
        assert!(released <= most, "{released} were released {since_ms} ms after the opening, at most {most}");
        counts.push(released);
        now = advance(&service, STEP).await;
    }
    println!("released by tenths of a second after the opening: {counts:?}");

    advance(&service, Duration::from_secs(2)).await;
    let (mut watched, mut theirs) = (Watched::default(), Watched::default());
    let watch = Clock::system().stopwatch();
    while watched.outcomes.len() < JOBS || theirs.outcomes.len() < few.len() {
        watched.follow(&client, Duration::from_millis(100)).await;
        theirs.follow(&neighbour, Duration::from_millis(100)).await;
        assert!(watch.elapsed() < PATIENCE, "they do not end");
    }
    let mut per_second = [0; 12];
    for at in watched.settled_at.values() {
        assert!(at.seconds >= opening, "early");
        per_second[usize::try_from(at.seconds - opening).unwrap().min(11)] += 1;
    }
    assert!(per_second.iter().all(|sent| *sent <= RATE + RATE / 4), "{per_second:?}");
    let latest = few.iter().map(|job| theirs.sent_after(job, opening + 2)).max().unwrap();
    assert!(latest <= Duration::from_secs(1), "{latest:?} behind those who waited for the opening");
}

/// Moves the clock, and returns the time it shows in microseconds.
async fn advance(service: &Service, by: Duration) -> i64 {
    let by = prost_types::Duration { seconds: by.as_secs().cast_signed(), nanos: by.subsec_nanos().cast_signed() };
    let mut admin = AdminServiceClient::new(service.connect());
    let now = admin.advance_clock(AdvanceClockRequest { by: Some(by) }).await.unwrap().into_inner().now.unwrap();
    now.seconds * 1_000_000 + i64::from(now.nanos) / 1_000
}

async fn go(service: &Service, to_micros: i64) {
    let now = advance(service, Duration::from_micros(1)).await;
    advance(service, Duration::from_micros(u64::try_from(to_micros - now).unwrap())).await;
}

fn gauge(service: &Service, start: &str) -> f64 {
    let value = |line: &String| line.strip_prefix(start)?.rsplit(' ').next()?.parse::<f64>().ok();
    service.metrics().iter().filter_map(value).sum()
}

fn released(service: &Service) -> i64 {
    gauge(service, "postrider_jobs_released_total{") as i64
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    while !holds() {
        assert!(watch.elapsed() < PATIENCE, "waited in vain: {what}");
        clock.pause(Duration::from_millis(50)).await;
    }
}
