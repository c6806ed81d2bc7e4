//! What hand-overs cost: on each attempt, on the job, and summed by the hour.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, Class, GetStatsRequest, JobView};

use crate::support::api::{self, Client, numbers};
use crate::support::service::{Backends, Service};

const SETTINGS: &str = r#"
[[provider]]
id = "sim"
kind = "simulated"
latency = "1ms"
receipt_after = "5ms"
price = "0.045 CNY"

[[provider]]
id = "free"
kind = "simulated"
pool = "free"
latency = "1ms"

[[route]]
topics = ["free"]
pool = "free"
"#;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn costs_are_told_and_summed_embedded() {
    costs_are_told_and_summed(&Backends::Embedded).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn costs_are_told_and_summed_on_servers() {
    costs_are_told_and_summed(&Backends::servers()).await;
}

async fn costs_are_told_and_summed(backends: &Backends) {
    let service = Service::start(backends, SETTINGS);
    let client = api::jobs(&service);
    let long = api::text(Class::Transactional, &"x".repeat(200));
    let free = pb::JobSpec { topic: "free".into(), ..api::text(Class::Transactional, "hello") };
    let specs = [(api::text(Class::Transactional, "hello"), Some(45_000)), (long, Some(90_000)), (free, None)];
    for (number, (spec, expected)) in numbers(0, 3).iter().zip(specs) {
        let job = settled(&client, spec, number).await;
        let micros = |cost: &Option<pb::Money>| cost.as_ref().map(|cost| (cost.currency.clone(), cost.micros));
        let expected = expected.map(|micros| ("CNY".to_owned(), micros));
        assert_eq!(micros(&job.outcome.as_ref().unwrap().cost), expected, "the job");
        assert!(matches!(&job.attempts[..], [attempt] if micros(&attempt.cost) == expected), "{job:?}");
        let of_events = job.events.iter().filter_map(|event| match &event.what {
            Some(pb::event::What::StateChange(change)) => micros(&change.cost),
            _ => None,
        });
        assert_eq!(of_events.collect::<Vec<_>>(), Vec::from_iter(expected));
    }
    let stats = client.clone().get_stats(GetStatsRequest::default()).await.unwrap().into_inner();
    let paid: Vec<_> =
        stats.rows.iter().filter_map(|row| Some((row.what.as_str(), row.jobs, row.cost.as_ref()?))).collect();
    assert_eq!((stats.accepted, stats.settled, stats.handed_over), (3, 3, 3));
    match paid[..] {
        [("handed_over", 3, cost)] => assert_eq!((cost.currency.as_str(), cost.micros), ("CNY", 135_000)),
        ref other => panic!("{other:?}"),
    }
}

/// Submits a job and returns it once it has its outcome.
async fn settled(client: &Client, spec: pb::JobSpec, number: &str) -> pb::Job {
    let job_id = client.clone().submit(api::submit("", spec, number)).await.unwrap().into_inner().job_id;
    let (clock, watch) = (Clock::system(), Clock::system().stopwatch());
    loop {
        let request = pb::GetJobRequest { job_id: job_id.clone(), view: JobView::Full.into() };
        let job = client.clone().get_job(request).await.unwrap().into_inner().job.unwrap();
        if job.outcome.is_some() {
            return job;
        }
        assert!(watch.elapsed() < PATIENCE, "no outcome");
        clock.pause(Duration::from_millis(50)).await;
    }
}
