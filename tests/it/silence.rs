//! A provider that takes jobs and never answers: what goes out at least once goes out twice, and no more. And one that answers
//! when nobody waits for it any more.

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::{self, AttemptVerdict, Class, Fate};
use postrider::shutdown::Tasks;
use postrider::simulator::smpp::{Account, Smsc};
use postrider::simulator::{Behaviour, Fared};

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

/// So long a frame is held, in real time, and a little longer.
const HELD: Duration = Duration::from_millis(20_500);
/// Longer than what follows takes, on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(60);

/// The carrier's clock stands until the frame was let go: then it says that it throttles, and takes what comes from then on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_throttled_when_nobody_waits_for_it_is_tried_again() {
    const JOBS: usize = 10;
    let (tasks, clock, carriers) = (Tasks::new(), Clock::system(), Clock::virtual_at(Clock::system().now()));
    let listen = ([127, 0, 0, 1], 0).into();
    let busy = Behaviour { throttled: 1.0, ..Behaviour::default() };
    let smsc = Smsc::start(Account::default(), listen, (busy, 7), &tasks, &carriers).await.unwrap();
    let provider = smpp_provider(smsc.address().port(), "response_timeout = \"60s\"\nreceipts = false\n");
    let settings = format!("\n[shutdown]\ngrace = \"90s\"\n{provider}");
    let service = tokio::task::spawn_blocking(move || Service::start(&Backends::Embedded, &settings)).await.unwrap();
    let (client, numbers) = (api::jobs(&service), api::numbers(0, JOBS));
    let ids = api::insist(&client, &api::batch("late", api::text(Class::Marketing, "hello"), &numbers)).await;
    let watch = clock.stopwatch();
    while smsc.messages().len() < JOBS {
        assert!(watch.elapsed() < PATIENCE, "not all are handed over");
        clock.pause(Duration::from_millis(50)).await;
    }
    clock.pause(HELD).await;
    smsc.behave(Behaviour { latency: Duration::ZERO, ..Behaviour::default() });
    let (mut watched, watch) = (Watched::default(), clock.stopwatch());
    while watched.outcomes.len() < JOBS {
        assert!(watch.elapsed() < PATIENCE, "not all have an outcome: {:?}", watched.states);
        carriers.advance(Duration::from_secs(1));
        watched.follow(&client, Duration::from_millis(200)).await;
    }
    assert!(ids.iter().all(|id| watched.outcomes[id] == [(Fate::Sent, String::new())]), "{:?}", watched.outcomes);
    assert_eq!(watched.unresolved.len(), 0);
    let messages = smsc.messages();
    for number in &numbers {
        let to = number.trim_start_matches('+');
        let of = messages.iter().filter(|(message, _)| message.to.trim_start_matches('+') == to);
        let fared: Vec<_> = of.map(|(_, fared)| fared).collect();
        assert!(matches!(&fared[..], [Fared::Throttled, Fared::Taken(_)]), "{fared:?}");
    }
    drop(service);
    tasks.finish(&clock, Duration::from_secs(5)).await;
}
