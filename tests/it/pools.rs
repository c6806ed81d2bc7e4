//! A pool that sends ten a second, with a backlog for minutes, beside one that sends five thousand, in the same service:
//! the fast one is through with its work while nearly all of the slow one's still waits.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, Class, JobSpec, job_spec};

use crate::support::api::{self, Watched, numbers};
use crate::support::service::{Backends, Service};

const PROVIDERS: &str = "\n[[provider]]\nid = \"fast\"\nkind = \"simulated\"\npool = \"fast\"\nkinds = [\"sms\"]\n\
                         latency = \"0s\"\nreceipts = false\nrate = \"5000/s\"\n\
                         [[provider]]\nid = \"slow\"\nkind = \"simulated\"\npool = \"slow\"\nkinds = [\"call\"]\n\
                         latency = \"0s\"\nreceipts = false\nrate = \"10/s\"\n";
/// Calls, for more than three minutes.
const SLOW: usize = 2_000;
const FAST: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(100);

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_pool_holds_up_no_fast_one_embedded() {
    a_slow_pool_holds_up_no_fast_one(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_pool_holds_up_no_fast_one_on_servers() {
    a_slow_pool_holds_up_no_fast_one(&Backends::servers()).await;
}

async fn a_slow_pool_holds_up_no_fast_one(backends: &Backends) {
    let service = Service::start(backends, PROVIDERS);
    let (client, clock) = (api::jobs(&service), Clock::system());
    let mut slow = submit(&service, "calls", call(), &numbers(0, SLOW)).await;
    // Both ways into a lane: past the agenda, and out of it.
    let mut fast = submit(&service, "now", api::text(Class::Notification, "now"), &numbers(10_000, FAST / 2)).await;
    let due = clock.now().as_secs() + 3;
    let soon = api::at(api::text(Class::Marketing, "soon"), due);
    fast.extend(submit(&service, "soon", soon, &numbers(20_000, FAST / 2)).await);
    let (mut watched, watch) = (Watched::default(), clock.stopwatch());
    while !fast.iter().all(|job| watched.outcomes.contains_key(job)) {
        watched.follow(&client, Duration::from_millis(100)).await;
        assert!(watch.elapsed() < PATIENCE, "the fast pool waits; it said:\n{}", service.log());
    }
    let elapsed = watch.elapsed();
    slow.retain(|job| watched.outcomes.contains_key(job));
    println!("{FAST} went in {elapsed:?} beside {} of {SLOW} calls", slow.len());
    assert!(slow.len() < SLOW / 2, "the slow pool was through as well: nothing was tried");
}

async fn submit(service: &Service, key: &str, spec: JobSpec, numbers: &[String]) -> Vec<String> {
    api::insist(&api::jobs(service), &api::batch(key, spec, numbers)).await
}

fn call() -> JobSpec {
    let source = Some(pb::call_content::Source::Flow("confirm_order".into()));
    let content = pb::CallContent { source, ..pb::CallContent::default() };
    JobSpec { content: Some(job_spec::Content::Call(content)), ..api::text(Class::Notification, "") }
}
