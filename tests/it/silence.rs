//! A provider that takes jobs and never answers: what goes out at least once goes out twice, the rest once.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::{self, AttemptVerdict, Class};

use crate::support::api;
use crate::support::service::{Backends, Service};

/// Its time-out is as long as a frame is held, so each frame is let go before it is known that no answer comes.
const SETTINGS: &str = "\n[[provider]]\nid = \"mute\"\nkind = \"simulated\"\nlatency = \"0s\"\nunanswered = 1.0\n\
                        response_timeout = \"20s\"\n";
/// What two attempts need: each waits for the answer, and for its check.
const TWICE: u32 = 120;
/// What a third would need.
const THRICE: u32 = 80;

#[tokio::test]
async fn a_provider_that_never_answers_gets_what_must_go_out_twice_and_the_rest_once() {
    let service = Service::prepare(&Backends::Embedded, SETTINGS, &["--clock", "virtual"]);
    service.restart(None);
    let client = api::jobs(&service);
    let mut jobs = Vec::new();
    for (class, number) in [(Class::Transactional, "+8613800000001"), (Class::Notification, "+8613800000002")] {
        let request = api::submit("", api::text(class, "hello"), number);
        jobs.push(client.clone().submit(request).await.unwrap().into_inner().job_id);
    }
    pass(&service, TWICE).await;
    let attempts = async |job: &str| {
        let request = pb::GetJobRequest { job_id: job.into(), ..Default::default() };
        let job = client.clone().get_job(request).await.unwrap().into_inner().job.unwrap();
        assert!(job.outcome.is_none(), "a receipt may still come: {job:?}");
        let known = |attempt: &pb::Attempt| (attempt.verdict(), attempt.provider_id.clone());
        job.attempts.iter().map(known).collect::<Vec<_>>()
    };
    let unanswered = (AttemptVerdict::Unresolved, "mute".to_owned());
    let expected = [vec![unanswered.clone(), unanswered.clone()], vec![unanswered]];
    for (job, expected) in jobs.iter().zip(&expected) {
        assert_eq!(attempts(job).await, *expected);
    }
    pass(&service, THRICE).await;
    for (job, expected) in jobs.iter().zip(&expected) {
        assert_eq!(attempts(job).await, *expected, "and no more");
    }
}

/// Moves the clock on, a second at a time.
async fn pass(service: &Service, secs: u32) {
    let mut admin = AdminServiceClient::new(service.connect());
    for _ in 0..secs {
        let by = Some(prost_types::Duration { seconds: 1, nanos: 0 });
        admin.advance_clock(pb::AdvanceClockRequest { by }).await.unwrap();
        Clock::system().pause(Duration::from_millis(40)).await;
    }
}
