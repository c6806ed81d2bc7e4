//! How soon a signal is with those who watch: measured, on both backends. Speed is printed and never asserted; that each comes
//! once is.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb;
use postrider::shutdown::Tasks;
use postrider::simulator::{Simulator, wechat};

use super::wechat::{GOOD, account, settings};
use crate::support::api;
use crate::support::cloud::{PATIENCE, quick};
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service};

/// Signals of a run, and the time from one to the next: a hundred a second, each told three times.
const SIGNALS: usize = 2_000;
const EVERY: Duration = Duration::from_millis(10);

/// Lets users follow an account, told three times each; returns when each was told first.
async fn tell(simulator: &Simulator, account: &wechat::Wechat, clock: &Clock) -> Vec<Duration> {
    let (watch, at) = (clock.stopwatch(), clock.now().as_secs());
    let mut told = Vec::with_capacity(SIGNALS);
    for number in 0..SIGNALS {
        let event = "<MsgType>event</MsgType><Event>subscribe</Event>";
        told.push(watch.elapsed());
        for _ in 0..3 {
            simulator.post(account.event_at(&format!("o-{number}"), event, at));
        }
        let due = EVERY * u32::try_from(number + 1).unwrap();
        clock.pause(due.saturating_sub(watch.elapsed())).await;
    }
    told
}

/// Watches until every signal was there; returns when each was.
async fn see(mut stream: tonic::Streaming<pb::WatchEventsResponse>, clock: &Clock) -> Vec<Duration> {
    let watch = clock.stopwatch();
    let mut seen = vec![None; SIGNALS];
    while seen.contains(&None) {
        let answer = clock.timeout(PATIENCE, stream.message()).await.expect("a signal").unwrap().unwrap();
        for event in answer.events {
            let Some(pb::event::What::Signal(signal)) = event.what else { continue };
            let openid = &signal.recipient.as_ref().unwrap().wechat[0].openid;
            let number: usize = openid.strip_prefix("o-").unwrap().parse().unwrap();
            assert!(seen[number].replace(watch.elapsed()).is_none(), "{openid} comes once");
        }
    }
    seen.into_iter().flatten().collect()
}

async fn measured(backends: Backends, name: &str) {
    let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
    let account = account(&format!("http://127.0.0.1:{port}/callback/cloud"), &clock, |_| {});
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = Simulator::start(Box::new(account.clone()), listen, (quick(), 1), &tasks, &clock).await.unwrap();
    let provider = settings(&format!("http://{}", simulator.address()), GOOD);
    let settings = format!("[receive]\nlisten = \"127.0.0.1:{port}\"\n{provider}");
    let service = tokio::task::spawn_blocking(move || Service::start(&backends, &settings)).await.unwrap();
    let mut client = api::jobs(&service);
    let stream = client.watch_events(pb::WatchEventsRequest::default()).await.unwrap().into_inner();
    let (told, seen) = tokio::join!(tell(&simulator, &account, &clock), see(stream, &clock));
    let mut took: Vec<_> = told.iter().zip(&seen).map(|(told, seen)| seen.saturating_sub(*told)).collect();
    took.sort_unstable();
    let at = |share: usize| took[(SIGNALS * share / 1_000).min(SIGNALS - 1)];
    println!(
        "{name}: callback to watcher, {SIGNALS} signals told three times each: p50 {:?}, p99 {:?}, p99.9 {:?}, max {:?}",
        at(500),
        at(990),
        at(999),
        at(1_000)
    );
    drop(service);
    tasks.finish(&clock, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn signals_are_watched_embedded() {
    measured(Backends::Embedded, "embedded").await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn signals_are_watched_on_servers() {
    let backends = tokio::task::spawn_blocking(Backends::servers).await.unwrap();
    measured(backends, "servers").await;
}
