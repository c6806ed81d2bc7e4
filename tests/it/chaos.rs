//! Receipts in every disorder: reordered, doubled, before the answer, late, missing, on another node's bind. What becomes
//! of each job is what the SMSC said of it, and nothing else.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::event::Fate;
use postrider::domain::time::Clock;
use postrider::pb::{self, Class};
use postrider::shutdown::Tasks;
use postrider::simulator::smpp::{Account, Smsc};
use postrider::simulator::{Behaviour, Fared, Receipts};

use crate::support::api::{self, Watched};
use crate::support::service::{Backends, Service, smpp_provider};

const BATCH: usize = 1_000;
/// Far above what anything here takes: the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn receipts_in_disorder_give_exact_outcomes_embedded() {
    chaos(&Backends::Embedded, 1_000, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_in_disorder_and_on_another_node_give_exact_outcomes() {
    chaos(&Backends::servers(), 1_000, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 20 000 jobs"]
async fn receipts_of_many_in_disorder_give_exact_outcomes_embedded() {
    chaos(&Backends::Embedded, 20_000, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 20 000 jobs"]
async fn receipts_of_many_in_disorder_and_on_another_node_give_exact_outcomes() {
    chaos(&Backends::servers(), 20_000, 2).await;
}

async fn chaos(backends: &Backends, jobs: usize, nodes: usize) {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let receipts = Receipts {
        after: Duration::from_millis(200),
        undelivered: 0.3,
        late: 0.1,
        doubled: 0.3,
        early: 0.2,
        missing: 0.01,
    };
    let behaviour = Behaviour { latency: Duration::from_millis(10), receipts: Some(receipts), ..Behaviour::default() };
    let listen = ([127, 0, 0, 1], 0).into();
    let smsc = Smsc::start(Account::default(), listen, (behaviour, 7), &tasks, &clock).await.unwrap();
    let deadline = "\n[record]\nreceipt_deadline = \"15s\"\n";
    let settings =
        format!("{deadline}{}", smpp_provider(smsc.address().port(), &format!("binds = {nodes}\nwindow = 500")));
    let service = Service::start(backends, &settings);
    let _others: Vec<_> = (1..nodes).map(|_| service.join(backends, "dispatch", &settings)).collect();
    let watch = clock.stopwatch();
    while smsc.stats().binds < nodes {
        assert!(watch.elapsed() < PATIENCE, "not every node has bound");
        clock.pause(Duration::from_millis(20)).await;
    }
    let numbers: Vec<String> = (0..jobs).map(|job| format!("+86138{job:08}")).collect();
    let (client, mut ids) = (api::jobs(&service), Vec::new());
    for (part, numbers) in numbers.chunks(BATCH).enumerate() {
        let request = api::batch(&format!("chaos-{part}"), api::text(Class::Transactional, "hello"), numbers);
        ids.extend(api::insist(&client, &request).await);
    }
    let mut watched = Watched::default();
    while watched.outcomes.len() < jobs {
        assert!(watch.elapsed() < PATIENCE, "{} of {jobs} have an outcome", watched.outcomes.len());
        watched.follow(&client, Duration::from_millis(300)).await;
    }
    let messages = smsc.messages();
    assert_eq!(messages.len(), jobs, "each job went out once");
    let said: HashMap<String, Fate> = messages
        .into_iter()
        .filter_map(|(message, fared)| {
            let Fared::Taken(fate) = fared else { return None };
            Some((format!("+{}", message.to), fate))
        })
        .collect();
    let mut missing = 0;
    for (number, id) in numbers.iter().zip(&ids) {
        let expected = match said[number] {
            Fate::Delivered => pb::Fate::Delivered,
            Fate::Undelivered => pb::Fate::Undelivered,
            // No receipt ever came.
            _ => pb::Fate::Unknown,
        };
        missing += usize::from(expected == pb::Fate::Unknown);
        let fates: Vec<_> = watched.outcomes[id].iter().map(|(fate, _)| *fate).collect();
        assert_eq!(fates, [expected], "{id}");
    }
    println!("{jobs} jobs in {:?}: {missing} receipts missing, {:?}", watch.elapsed(), smsc.stats());
    assert!(missing > 0);
    tasks.finish(&clock, Duration::from_secs(5)).await;
}
