//! A provider that takes jobs and never answers: what goes out at least once goes out twice, and no more.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::{self, AttemptVerdict, Class};

use crate::support::api;
use crate::support::service::{Backends, Service};

/// Its time-out is as long as a frame is held. The second job waits for its turn and the third for longer, so that their
/// frames are let go before it is known that no answer comes.
const SETTINGS: &str = "\n[[provider]]\nid = \"mute\"\nkind = \"simulated\"\nlatency = \"0s\"\nunanswered = 1.0\n\
                        response_timeout = \"20s\"\nrate = \"1/s:1\"\n";
/// What two attempts need: each waits for the answer, and for its check.
const TWICE: u32 = 120;
/// What a third would need.
const THRICE: u32 = 80;

#[tokio::test]
async fn what_must_go_out_goes_twice_to_a_provider_that_never_answers_and_no_more() {
    let service = Service::prepare(&Backends::Embedded, SETTINGS, &["--clock", "virtual"]);
    service.restart(None);
    let client = api::jobs(&service);
    let mut jobs = Vec::new();
    for number in ["+8613800000001", "+8613800000002", "+8613800000003"] {
        let request = api::submit("", api::text(Class::Transactional, "hello"), number);
        jobs.push(client.clone().submit(request).await.unwrap().into_inner().job_id);
    }
    let attempts = async |job: &str| {
        let request = pb::GetJobRequest { job_id: job.into(), ..Default::default() };
        let job = client.clone().get_job(request).await.unwrap().into_inner().job.unwrap();
        assert!(job.outcome.is_none(), "a receipt may still come: {job:?}");
        let known = |attempt: &pb::Attempt| (attempt.verdict(), attempt.provider_id.clone());
        job.attempts.iter().map(known).collect::<Vec<_>>()
    };
    let unanswered = (AttemptVerdict::Unresolved, "mute".to_owned());
    for secs in [TWICE, THRICE] {
        pass(&service, secs).await;
        for job in &jobs {
            assert_eq!(attempts(job).await, [unanswered.clone(), unanswered.clone()], "{secs} s later");
        }
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
