//! An account that has had its day, on the virtual clock: what is left of its jobs leaves when China's next day begins.

use std::time::Duration;

use postrider::domain::time::{Clock, UnixMicros};
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::{self, Class, Fate};
use postrider::shutdown::Tasks;
use postrider::simulator::Simulator;

use super::wechat::{APPID, GOOD, account, put_template, settings, spec};
use crate::support::api::{self, Watched};
use crate::support::cloud::{PATIENCE, quick};
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service};

const DAY: i64 = 24 * 3_600;
/// The clocks of China.
const AHEAD: i64 = 8 * 3_600;
/// Messages that the account may send a day, and jobs that there are.
const MOST: usize = 3;
const JOBS: usize = 5;
/// How far the clock moves at a time, in seconds, and how long the service then has to see it.
const STEP: i64 = 300;
const A_LOOK: Duration = Duration::from_millis(100);

/// Moves the clocks of service and account on by so many seconds; returns the time.
async fn go(service: &Service, account: &Clock, secs: i64) -> i64 {
    let by = prost_types::Duration { seconds: secs, nanos: 1_000_000 };
    let request = pb::AdvanceClockRequest { by: Some(by) };
    let mut admin = AdminServiceClient::new(service.connect());
    let now = admin.advance_clock(request).await.unwrap().into_inner().now.unwrap().seconds;
    account.advance(UnixMicros::from_secs(now).since(account.now()));
    Clock::system().pause(A_LOOK).await;
    now
}

fn request() -> pb::SubmitBatchRequest {
    let item = |number: usize| {
        let wechat = vec![pb::WechatAddress { appid: APPID.into(), openid: format!("o-{number}") }];
        let params = [("thing1".to_owned(), "新鞋".to_owned())].into_iter().collect();
        pb::BatchItem { recipient: Some(pb::Recipient { wechat, ..Default::default() }), params, ..Default::default() }
    };
    let spec = Some(spec(Class::Notification));
    pb::SubmitBatchRequest { idempotency_key: "day".into(), spec, items: (0..JOBS).map(item).collect() }
}

/// Returns how often the account was asked in vain.
fn in_vain(service: &Service) -> usize {
    let name = "postrider_attempts_total{provider=\"cloud\",verdict=\"not_sent\"} ";
    service.metrics().iter().find_map(|line| line.strip_prefix(name)?.parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_an_accounts_day_leaves_when_chinas_next_day_begins() {
    let (tasks, real) = (Tasks::new(), Clock::system());
    let clock = Clock::virtual_at(UnixMicros::from_secs(real.now().as_secs()));
    let account = account("http://127.0.0.1:1", &clock, |account| account.daily_max = MOST.try_into().unwrap());
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = Simulator::start(Box::new(account), listen, (quick(), 5), &tasks, &real).await.unwrap();
    let provider = settings(&format!("http://{}", simulator.address()), &format!("{GOOD}messages = \"subscribe\"\n"));
    let settings = format!("[receive]\nlisten = \"127.0.0.1:{}\"\n{provider}", free_port());
    let start = move || {
        let service = Service::prepare(&Backends::Embedded, &settings, &["--clock", "virtual"]);
        service.restart(None);
        service
    };
    let service = tokio::task::spawn_blocking(start).await.unwrap();
    put_template(&service, "cloud").await;
    let now = go(&service, &clock, 0).await;
    let midnight = (now + AHEAD).div_euclid(DAY) * DAY + DAY - AHEAD;
    // Three hours before midnight, of the next day where this one is too short.
    let midnight = if midnight - now < 4 * 3_600 { midnight + DAY } else { midnight };
    go(&service, &clock, midnight - 3 * 3_600 - now).await;

    let client = api::jobs(&service);
    let ids = api::insist(&client, &request()).await;
    let watch = real.stopwatch();
    while simulator.messages().len() < MOST || in_vain(&service) == 0 {
        assert!(watch.elapsed() < PATIENCE, "{}", service.log());
        real.pause(Duration::from_millis(20)).await;
    }
    let mut now = go(&service, &clock, 0).await;
    while now < midnight - STEP {
        now = go(&service, &clock, STEP).await;
        assert_eq!(simulator.messages().len(), MOST, "none leaves {} s before midnight", midnight - now);
    }
    let hourly = in_vain(&service);
    assert!(hourly <= JOBS - MOST + 4, "asked once an hour, whether the limit was raised: {hourly} times");
    now = go(&service, &clock, midnight - 30 - now).await;
    assert_eq!(simulator.messages().len(), MOST);

    // From midnight on a minute at a time: nobody waits for the hour.
    let (mut watched, watch) = (Watched::default(), real.stopwatch());
    while ids.iter().any(|id| !watched.outcomes.contains_key(id)) {
        assert!(watch.elapsed() < PATIENCE * 2 && now < midnight + 600, "{}", service.log());
        now = go(&service, &clock, 60).await;
        watched.follow(&client, Duration::from_millis(100)).await;
    }
    assert!(ids.iter().all(|id| watched.outcomes[id] == [(Fate::Sent, String::new())]), "{:?}", watched.outcomes);
    let next_day = ids.iter().filter(|id| watched.settled_at[*id].seconds >= midnight).count();
    assert_eq!((next_day, simulator.messages().len()), (JOBS - MOST, JOBS), "each once, on its day");
    println!("asked {hourly} times in vain; the last has left {} s after midnight", now - midnight);
    drop(service);
    tasks.finish(&real, PATIENCE).await;
}
