//! A provider that takes jobs and never answers: what goes out at least once goes out twice, and no more. And one that answers
//! when nobody waits for it any more.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::{self, AttemptVerdict, Class, Fate};
use postrider::shutdown::Tasks;
use postrider::simulator::Behaviour;
use postrider::simulator::smpp::{Account, Smsc};

use crate::support::api::{self, Watched};
use crate::support::service::{Backends, Service, smpp_provider};

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

/// Answers come 15 to 45 s after the hand-over; a frame is let go after 20.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: answers that come after their frame was let go"]
async fn what_is_throttled_when_nobody_waits_for_it_is_tried_again() {
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let slow = Behaviour { latency: Duration::from_secs(30), throttled: 1.0, ..Behaviour::default() };
    let listen = ([127, 0, 0, 1], 0).into();
    let smsc = Smsc::start(Account::default(), listen, (slow, 7), &tasks, &clock).await.unwrap();
    let provider = smpp_provider(smsc.address().port(), "response_timeout = \"60s\"\n");
    let service = Service::start(&Backends::Embedded, &format!("\n[shutdown]\ngrace = \"90s\"\n{provider}"));
    let (client, numbers) = (api::jobs(&service), api::numbers(0, 10));
    let ids = api::insist(&client, &api::batch("late", api::text(Class::Marketing, "hello"), &numbers)).await;
    clock.pause(Duration::from_secs(50)).await;
    smsc.behave(Behaviour::default());
    let (mut watched, watch) = (Watched::default(), clock.stopwatch());
    while watched.outcomes.len() < ids.len() && watch.elapsed() < Duration::from_secs(120) {
        watched.follow(&client, Duration::from_millis(500)).await;
    }
    for id in &ids {
        let fates: Vec<_> = watched.outcomes.get(id).into_iter().flatten().map(|(fate, _)| *fate).collect();
        assert_eq!(fates, [Fate::Delivered], "{id}: {:?}", watched.states.get(id));
    }
    drop(service);
    tasks.finish(&clock, Duration::from_secs(5)).await;
}
