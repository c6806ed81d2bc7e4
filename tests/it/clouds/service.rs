//! The whole service on a cloud that throttles, refuses, loses answers, and reports early, late and twice: every job has
//! the outcome that its message had.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::event::Fate;
use postrider::domain::time::Clock;
use postrider::pb;
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Fared, Receipts, Simulator, Vendor};

use crate::support::api::{Watched, batch, insist, jobs, text};
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service};

/// Jobs of a run.
const JOBS: usize = 200;
/// How long they may take in all, on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(90);

fn beset() -> Behaviour {
    let receipts = Receipts {
        after: Duration::from_millis(100),
        undelivered: 0.1,
        late: 0.2,
        doubled: 0.3,
        early: 0.3,
        ..Receipts::default()
    };
    Behaviour {
        latency: Duration::from_millis(20),
        throttled: 0.03,
        refused: 0.05,
        unanswered: 0.05,
        receipts: Some(receipts),
        ..Behaviour::default()
    }
}

/// Runs the service on a cloud. `vendor` makes the simulator from the URL for callbacks; `provider` the settings from the
/// simulator's URL. `lost`: what a job comes to whose answer was lost, but not its receipt.
pub(super) async fn every_job_has_its_outcome(
    vendor: impl FnOnce(&str) -> Box<dyn Vendor>,
    provider: impl FnOnce(&str) -> String,
    lost: Lost,
) {
    let (tasks, clock, port) = (Tasks::new(), Clock::system(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let listen = ([127, 0, 0, 1], 0).into();
    let simulator = Simulator::start(vendor(&format!("{url}/callback/cloud")), listen, (beset(), 11), &tasks, &clock)
        .await
        .unwrap();
    let settings = format!(
        "[record]\nreceipt_deadline = \"20s\"\n[receive]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"{url}\"\n{}",
        provider(&format!("http://{}", simulator.address()))
    );
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let client = jobs(&service);
    let numbers: Vec<String> = (0..JOBS).map(|number| format!("+8613800{number:06}")).collect();
    let ids = insist(&client, &batch("cloud", text(pb::Class::Marketing, "Hello from the cloud"), &numbers)).await;
    let (mut watched, watch) = (Watched::default(), clock.stopwatch());
    while watched.outcomes.len() < JOBS && watch.elapsed() < PATIENCE {
        watched.follow(&client, Duration::from_millis(500)).await;
    }
    let fared = by_number(&simulator.messages());
    for (number, id) in numbers.iter().zip(&ids) {
        let outcomes = &watched.outcomes.get(id).unwrap_or_else(|| panic!("{number} has no outcome"));
        let [(fate, reason)] = &outcomes[..] else { panic!("{number} has {outcomes:?}") };
        let times = &fared[number.trim_start_matches('+').trim_start_matches("86")];
        let taken = times.iter().filter(|fared| matches!(fared, Fared::Taken(_))).count();
        assert!(taken <= 1, "{number} was handed over {taken} times");
        let expected = match times.last() {
            Some(Fared::Taken(Fate::Delivered)) => Some(pb::Fate::Delivered),
            Some(Fared::Taken(_)) => Some(pb::Fate::Undelivered),
            Some(Fared::Refused) => Some(pb::Fate::Rejected),
            Some(Fared::Throttled | Fared::Failed | Fared::Error(_)) | None => None,
        };
        let nobody_knows = lost == Lost::Unknown && watched.unresolved.contains(id) && *fate == pb::Fate::Unknown;
        assert!(nobody_knows || Some(*fate) == expected, "{number} is {fate:?} ({reason}): {times:?}");
    }
    let all: Vec<_> = fared.values().flatten().collect();
    let some = |wanted| all.iter().any(|fared| **fared == wanted);
    // Who shares a request with whom, and so its fate, depends on the timing.
    assert!(lost == Lost::Unknown || (some(Fared::Throttled) && some(Fared::Refused)), "each of them happens");
    assert!(simulator.lost() > 0, "some answers are lost");
    drop(service);
    tasks.finish(&clock, Duration::from_secs(5)).await;
}

/// What is known of a job whose answer was lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lost {
    /// Its receipt carries our reference and finds it.
    Found,
    /// Nothing: it ends as `unknown` when the receipt deadline has passed.
    Unknown,
}

/// Returns how each number's messages fared, in order; by the number without plus and country code.
fn by_number(messages: &[(postrider::simulator::Message, Fared)]) -> HashMap<String, Vec<Fared>> {
    let mut fared: HashMap<String, Vec<Fared>> = HashMap::new();
    for (message, fate) in messages {
        let number = message.to.trim_start_matches('+').trim_start_matches("86").to_owned();
        fared.entry(number).or_default().push(fate.clone());
    }
    fared
}
