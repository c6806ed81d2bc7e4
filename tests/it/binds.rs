//! Binds and rate of one provider, shared by two processes: never more in all than the settings say.

use std::collections::HashSet;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{Class, GetJobRequest, State};

use crate::support::api::{self, numbers};
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::smsc::Smsc;

const BINDS: usize = 4;
const RATE: usize = 100;
const WINDOW: usize = 10;
const PATIENCE: Duration = Duration::from_secs(90);

/// Returns how many binds are open, and how many were at most.
fn open(smsc: &Smsc) -> (usize, usize) {
    let (mut open, mut most) = (0, 0_usize);
    for event in smsc.all() {
        match event["event"].as_str() {
            Some("bind") if event["status"] == 0 => open += 1,
            Some("closed") => open -= 1,
            _ => {}
        }
        most = most.max(open);
    }
    (open, most)
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    while !holds() {
        assert!(watch.elapsed() < PATIENCE, "waited in vain: {what}");
        clock.pause(Duration::from_millis(100)).await;
    }
}

fn up(service: &Service) -> bool {
    service.log().lines().filter(|line| line.contains(" bound")).count() > 0
}

/// Waits until everybody is reached, but for those whom the killed process had claimed: they are never sent to blindly, and
/// that they are in doubt is said of each. Returns how many they are.
async fn reached_or_in_doubt(smsc: &Smsc, client: &api::Client, numbers: &[String], ids: &[String]) -> usize {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    loop {
        let submits = smsc.events("submit");
        let reached: HashSet<&str> = submits.iter().filter_map(|submit| submit["to"].as_str()).collect();
        let missing = numbers.iter().zip(ids).filter(|(number, _)| !reached.contains(number.trim_start_matches('+')));
        let mut doubts = Vec::new();
        // At their rate the others still wait for their turn.
        for (_, id) in missing.take(WINDOW) {
            let request = GetJobRequest { job_id: id.clone(), view: 0 };
            let job = client.clone().get_job(request).await.unwrap().into_inner().job.unwrap();
            doubts.push(job.state() == State::Unresolved);
        }
        if doubts.iter().all(|doubt| *doubt) && reached.len() + doubts.len() == numbers.len() {
            return doubts.len();
        }
        assert!(watch.elapsed() < PATIENCE, "{} of {} are reached, {doubts:?}", reached.len(), numbers.len());
        clock.pause(Duration::from_millis(500)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_have_more_binds_or_send_faster_than_the_settings_say() {
    let smsc = Smsc::start(&["--receipts", "none"]);
    let more = format!(
        "binds = {BINDS}\nwindow = {WINDOW}\nresponse_timeout = \"2s\"\nrate = \"{RATE}/s:{RATE}\"\nreceipts = false\n"
    );
    let (backends, provider) = (Backends::servers(), smpp_provider(smsc.port(), &more));
    let first = Service::start(&backends, &provider);
    until("the first has all", || open(&smsc).0 == BINDS).await;
    let client = api::jobs(&first);
    let all = numbers(0, 3_000);
    let mut ids = Vec::new();
    for part in all.chunks(500) {
        ids.extend(api::insist(&client, &api::batch("", api::text(Class::Marketing, "hello"), part)).await);
    }
    let second = first.join(&backends, "dispatch", &provider);
    until("the second has some", || up(&second) && open(&smsc).0 == BINDS).await;
    second.kill();
    second.restart(Some("after_claim:30"));
    until("it has died with a claim", || second.ended()).await;
    until("the first has all again", || open(&smsc).0 == BINDS).await;
    second.restart(None);
    assert!(reached_or_in_doubt(&smsc, &client, &all, &ids).await > 0, "it died with a claim");
    first.stop();
    until("the second has what the first gave back", || open(&smsc).0 == BINDS).await;
    let (_, most) = open(&smsc);
    assert_eq!(most, BINDS, "never more than the settings say");
    let times: Vec<u64> = smsc.events("submit").iter().map(|submit| submit["at"].as_u64().unwrap()).collect();
    for (first, from) in times.iter().enumerate() {
        for (last, until) in times.iter().enumerate().skip(first) {
            let (count, lasted) = (last - first + 1, (until - from) as usize);
            // A burst, what two nodes may have leased and not used yet, a tenth of a second each, and what a busy machine
            // holds up for a second.
            let most = RATE + RATE * lasted / 1_000 + 2 * RATE / 10 + RATE;
            assert!(count <= most, "{count} in {lasted} ms");
        }
    }
}
