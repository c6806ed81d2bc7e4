//! Chains through a cloud whose receipts come late, twice, early or never, and say `undelivered` as often: after a delivery is
//! known at most one step goes out, and all steps of a chain are one touch.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, AttemptVerdict, Class, Fate, JobSpec};
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Receipts, Simulator, plain::Plain};
use prost_types::Timestamp;

use super::{clock_of, sms, step_id};
use crate::support::api;
use crate::support::janitor::free_port;
use crate::support::service::{Backends, Service};

/// Longer than anything here takes, on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(300);
/// How far the clocks move at a time; what is late by as much is on time.
const STEP: i64 = 60;
/// How long a step may take to be delivered.
const AFTER: i64 = 600;
const STEPS: u8 = 2;
const BATCH: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn chains_end_with_a_delivery_whatever_the_receipts() {
    chaos(500).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: 5 000 chains"]
async fn thousands_of_chains_end_with_a_delivery_whatever_the_receipts() {
    chaos(5_000).await;
}

/// What became of one job of a chain.
struct Fared {
    sent_at: Option<Timestamp>,
    /// When record heard the outcome, and which.
    ended: Option<(Timestamp, Fate)>,
}

/// The service and its cloud, each with a clock of its own that is moved with the other's.
struct Rig {
    service: Service,
    cloud: Simulator,
    tasks: Tasks,
    clock: Clock,
}

impl Rig {
    async fn start() -> Self {
        let (tasks, clock, port) = (Tasks::new(), Clock::virtual_at(Clock::system().now()), free_port());
        let receipts = Receipts {
            after: Duration::from_secs(150),
            undelivered: 0.2,
            late: 0.3,
            doubled: 0.3,
            early: 0.1,
            missing: 0.2,
        };
        let behaviour = Behaviour { latency: Duration::ZERO, receipts: Some(receipts), ..Behaviour::default() };
        let url = format!("http://127.0.0.1:{port}");
        let vendor =
            Plain { secret: "geheim".into(), callback: Some(format!("{url}/callback/cloud/a-secret-in-the-path")) };
        let listen = ([127, 0, 0, 1], 0).into();
        let cloud = Simulator::start(Box::new(vendor), listen, (behaviour, 5), &tasks, &clock).await.unwrap();
        let settings = format!(
            "[receive]\nlisten = \"127.0.0.1:{port}\"\npublic_url = \"{url}\"\n[shutdown]\ngrace = \"10m\"\n[[provider]]\n\
             id = \"cloud\"\nkind = \"http\"\nendpoint = \"http://{}\"\npath = \"/v1/messages\"\n\
             headers = {{ authorization = \"Bearer {{{{ secret }}}}\" }}\n\
             body = '{{\"to\": {{{{ to }}}}, \"from\": {{{{ sender }}}}, \"text\": {{{{ text }}}}, \"ref\": {{{{ job }}}}}}'\n\
             secret = \"geheim\"\nmessage_id = \"body.id\"\nreceipts = true\ncallback_token = \"a-secret-in-the-path\"\n\
             callback_job = \"item.ref\"\ncallback_delivered = 'item.status == \"delivered\"'\n\
             callback_undelivered = 'item.status == \"failed\"'\ncallback_code = \"item.error\"\nwindow = 1000\n\
             response_timeout = \"9m\"\n",
            cloud.address()
        );
        let service = Service::prepare(&Backends::Embedded, &settings, &["--clock", "virtual"]);
        service.restart(None);
        Self { service, cloud, tasks, clock }
    }

    /// Moves both clocks, and lets what is due then happen.
    async fn pass(&self, real: &Clock) {
        clock_of(&self.service, Duration::from_secs(STEP.unsigned_abs())).await;
        self.clock.advance(Duration::from_secs(STEP.unsigned_abs()));
        real.pause(Duration::from_millis(250)).await;
    }

    /// Returns what became of jobs, of those that are there.
    async fn fared(&self) -> HashMap<String, Fared> {
        let (client, mut fared, mut page_token) = (api::jobs(&self.service), HashMap::new(), String::new());
        loop {
            let request = pb::ListJobsRequest {
                page_size: 1_000,
                page_token,
                view: pb::JobView::Full.into(),
                ..Default::default()
            };
            let page = client.clone().list_jobs(request).await.unwrap().into_inner();
            fared.extend(page.jobs.iter().map(|job| (job.job_id.clone(), Fared::of(job))));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return fared;
            }
        }
    }
}

impl Fared {
    fn of(job: &pb::Job) -> Self {
        let settled = job.attempts.iter().filter(|attempt| attempt.verdict() == AttemptVerdict::Settled);
        let ended = job.events.iter().find_map(|event| match &event.what {
            Some(pb::event::What::StateChange(change)) => Some((event.at?, change.outcome.as_ref()?.fate())),
            _ => None,
        });
        Self { sent_at: settled.filter_map(|attempt| attempt.at).min_by_key(|at| (at.seconds, at.nanos)), ended }
    }
}

fn after(one: &Timestamp, other: &Timestamp) -> bool {
    (one.seconds, one.nanos) > (other.seconds, other.nanos)
}

async fn chaos(chains: usize) {
    let (rig, real) = (Rig::start().await, Clock::system());
    let watch = real.stopwatch();
    api::cap_marketing(&rig.service).await;
    let (client, mut firsts) = (api::jobs(&rig.service), Vec::new());
    let texts = |step: u8| format!("step {step}");
    let spec = || JobSpec {
        fallback: (1..=STEPS).map(|step| sms(&texts(step), AFTER)).collect(),
        ..api::text(Class::Marketing, &texts(0))
    };
    for (part, numbers) in api::numbers(0, chains).chunks(BATCH).enumerate() {
        firsts.extend(api::insist(&client, &api::batch(&format!("chains-{part}"), spec(), numbers)).await);
    }
    // A late receipt comes up to 10 x 150 s after the last step, which comes up to 2 x 600 s after the first.
    for _ in 0..(2 * AFTER + 1_600 + 5 * STEP) / STEP {
        rig.pass(&real).await;
        assert!(watch.elapsed() < PATIENCE.max(Duration::from_millis(200) * u32::try_from(chains).unwrap()));
    }
    let fared = rig.fared().await;
    let (mut delivered, mut known_too_late, mut steps) = (0, 0, 0);
    for first in &firsts {
        let jobs: Vec<&Fared> = std::iter::once(first.clone())
            .chain((1..=STEPS).map(|step| step_id(first, step)))
            .map_while(|id| fared.get(&id))
            .collect();
        steps += jobs.len() - 1;
        for (one, next) in jobs.iter().zip(&jobs[1..]) {
            let Some(next_at) = next.sent_at else { continue };
            let in_time = one.sent_at.unwrap().seconds + AFTER;
            let failed = one.ended.is_some_and(|(at, fate)| fate != Fate::Delivered && !after(&at, &next_at));
            assert!(failed || next_at.seconds >= in_time, "{first}: a step followed before its time");
        }
        let held = |job: &&Fared| job.sent_at.is_none() && job.ended.is_none_or(|(_, fate)| fate != Fate::Cancelled);
        assert!(!jobs.iter().any(held), "{first}: a step was held to the cap again");
        let known =
            jobs.iter().filter_map(|job| job.ended.filter(|(_, fate)| *fate == Fate::Delivered)).map(|(at, _)| at);
        let Some(known) = known.min_by_key(|at| (at.seconds, at.nanos)) else {
            assert_eq!(jobs.len(), usize::from(STEPS) + 1, "{first}: nothing was delivered, and a step is missing");
            continue;
        };
        delivered += 1;
        let later = jobs.iter().filter(|job| job.sent_at.is_some_and(|at| after(&at, &known))).count();
        assert!(later <= 1, "{first}: {later} steps went out after a delivery was known");
        known_too_late += later;
    }
    // Whoever was handed over was handed over once, and nobody else was.
    let messages = rig.cloud.messages();
    let unique: HashSet<_> = messages.iter().map(|(message, _)| (message.to.clone(), message.text.clone())).collect();
    let sent = fared.values().filter(|job| job.sent_at.is_some()).count();
    assert_eq!((messages.len(), unique.len()), (sent, sent), "each step goes out once");
    assert!(delivered > chains / 2 && steps > chains / 4, "{delivered} of {chains} delivered, {steps} steps");
    // A chain was one touch, so that another is one too many.
    let again =
        api::insist(&client, &api::batch("again", api::text(Class::Marketing, "more"), &api::numbers(0, 20))).await;
    for id in &again {
        let waits = super::until(&rig.service, id, |job| job.state() == pb::State::Scheduled).await;
        assert!(waits.attempts.is_empty(), "{id}");
    }
    println!(
        "{chains} chains in {:.0} s: {delivered} delivered, {steps} further steps, {known_too_late} of them after a delivery",
        watch.elapsed().as_secs_f64()
    );
    rig.tasks.finish(&rig.clock, Duration::from_secs(5)).await;
}
