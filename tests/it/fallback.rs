//! Fallback chains through the whole service: the next step where the one before was refused or not delivered in time, none
//! after a delivery, all of them one touch, taken back as one.

mod chaos;
mod kills;
mod protocols;

use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::provider_service_client::ProviderServiceClient;
use postrider::pb::suppression_service_client::SuppressionServiceClient;
use postrider::pb::{self, Class, FallbackStep, Fate, JobSpec, Kind, fallback_step, job_spec};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::support::api;
use crate::support::service::{Backends, Service};

/// Longer than anything here takes, on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(60);

/// A messenger that refuses everything, a carrier whose receipts come within a second, and one for calls.
const REFUSING: &str = "\n[[provider]]\nid = \"messenger\"\npool = \"messenger\"\nkind = \"simulated\"\n\
                        kinds = [\"template\"]\nlatency = \"1ms\"\nrefused = 1.0\n\
                        [[provider]]\nid = \"carrier\"\npool = \"carrier\"\nkind = \"simulated\"\nkinds = [\"sms\"]\n\
                        latency = \"1ms\"\nreceipt_after = \"10ms\"\n\
                        [[provider]]\nid = \"trunk\"\npool = \"trunk\"\nkind = \"simulated\"\nkinds = [\"call\"]\n\
                        latency = \"1ms\"\nreceipt_after = \"10ms\"\n";

fn template(class: Class) -> JobSpec {
    let content = pb::TemplateContent { template: "hello".into(), ..Default::default() };
    JobSpec { content: Some(job_spec::Content::Template(content)), ..api::text(class, "") }
}

fn sms(text: &str, after: i64) -> FallbackStep {
    let content = pb::SmsContent { text: text.into(), ..Default::default() };
    step(fallback_step::Content::Sms(content), after)
}

fn call(after: i64) -> FallbackStep {
    let source = Some(pb::call_content::Source::Flow("hello".into()));
    step(fallback_step::Content::Call(pb::CallContent { source, ..Default::default() }), after)
}

fn step(content: fallback_step::Content, after: i64) -> FallbackStep {
    let after = Some(prost_types::Duration { seconds: after, nanos: 0 });
    FallbackStep { content: Some(content), after, ..Default::default() }
}

fn chain(class: Class, steps: Vec<FallbackStep>) -> JobSpec {
    JobSpec { fallback: steps, ..template(class) }
}

fn recipient(number: &str) -> pb::Recipient {
    let wechat = vec![pb::WechatAddress { appid: "wx0123456789".into(), openid: format!("o{number}") }];
    pb::Recipient { wechat, ..api::phone(number) }
}

async fn try_submit(service: &Service, spec: JobSpec, recipient: pb::Recipient) -> Result<String, Status> {
    let request = pb::SubmitRequest { spec: Some(spec), recipient: Some(recipient), ..Default::default() };
    Ok(api::jobs(service).submit(request).await?.into_inner().job_id)
}

async fn submit(service: &Service, spec: JobSpec, number: &str) -> String {
    try_submit(service, spec, recipient(number)).await.unwrap()
}

/// Returns the id of a step, as anybody can make it out of the first job's.
fn step_id(first: &str, step: u8) -> String {
    Uuid::new_v5(&first.parse().unwrap(), &[b's', step]).to_string()
}

async fn job(service: &Service, id: &str) -> Result<pb::Job, Status> {
    let request = pb::GetJobRequest { job_id: id.into(), ..Default::default() };
    Ok(api::jobs(service).get_job(request).await?.into_inner().job.unwrap())
}

async fn absent(service: &Service, id: &str) -> bool {
    job(service, id).await.is_err_and(|status| status.code() == Code::NotFound)
}

/// Waits until a job is as it should be.
async fn until(service: &Service, id: &str, holds: impl Fn(&pb::Job) -> bool) -> pb::Job {
    let clock = Clock::system();
    let watch = clock.stopwatch();
    loop {
        let found = job(service, id).await;
        match found {
            Ok(job) if holds(&job) => return job,
            found => assert!(watch.elapsed() < PATIENCE, "{id}: {found:?}\n{}", service.log()),
        }
        clock.pause(Duration::from_millis(30)).await;
    }
}

async fn ended(service: &Service, id: &str) -> (pb::Job, Fate) {
    let job = until(service, id, |job| job.outcome.is_some()).await;
    let fate = job.outcome.as_ref().unwrap().fate();
    (job, fate)
}

async fn a_refused_step_is_followed_by_the_next(backends: Backends) {
    let service = Service::start(&backends, REFUSING);
    api::put_template(&service, api::template("hello", "hello")).await;
    let first =
        submit(&service, chain(Class::Notification, vec![sms("hello", 600), call(600)]), "+8613800000001").await;
    let (refused, fate) = ended(&service, &first).await;
    assert_eq!((fate, refused.fallback_of.as_str()), (Fate::Rejected, ""));
    assert_eq!(refused.spec.unwrap().fallback.len(), 2);
    let (second, fate) = ended(&service, &step_id(&first, 1)).await;
    assert_eq!((fate, second.kind()), (Fate::Delivered, Kind::Sms));
    assert_eq!((second.fallback_of, second.spec.unwrap().fallback.len()), (first.clone(), 1));
    assert!(absent(&service, &step_id(&first, 2)).await, "nothing follows a delivery");
}

#[tokio::test]
async fn a_refused_step_is_followed_by_the_next_embedded() {
    a_refused_step_is_followed_by_the_next(Backends::Embedded).await;
}

#[tokio::test]
async fn a_refused_step_is_followed_by_the_next_on_servers() {
    a_refused_step_is_followed_by_the_next(Backends::servers()).await;
}

/// A messenger that takes everything and reports five to fifteen minutes later, and a carrier and a trunk like it.
const LATE: &str = "\n[[provider]]\nid = \"messenger\"\npool = \"messenger\"\nkind = \"simulated\"\n\
                    kinds = [\"template\"]\nlatency = \"0s\"\nreceipt_after = \"10m\"\n\
                    [[provider]]\nid = \"carrier\"\npool = \"carrier\"\nkind = \"simulated\"\nkinds = [\"sms\"]\n\
                    latency = \"0s\"\nreceipt_after = \"10m\"\n\
                    [[provider]]\nid = \"trunk\"\npool = \"trunk\"\nkind = \"simulated\"\nkinds = [\"call\"]\n\
                    latency = \"0s\"\nreceipt_after = \"10m\"\n";

/// A service on a virtual clock, embedded.
struct Timed {
    service: Service,
    now: i64,
}

impl Timed {
    async fn start(settings: &str) -> Self {
        let service = Service::prepare(&Backends::Embedded, settings, &["--clock", "virtual"]);
        service.restart(None);
        api::put_template(&service, api::template("hello", "hello")).await;
        let now = clock_of(&service, Duration::from_millis(1)).await;
        Self { service, now }
    }

    /// Moves the clock on to so many seconds after the start of the test.
    async fn pass(&mut self, secs: i64) {
        let left = self.now + secs - clock_of(&self.service, Duration::from_millis(1)).await;
        if let Ok(left) = u64::try_from(left) {
            clock_of(&self.service, Duration::from_secs(left)).await;
        }
    }
}

/// Moves the clock of a service, and returns the time that it shows, in seconds.
async fn clock_of(service: &Service, by: Duration) -> i64 {
    let by = prost_types::Duration { seconds: by.as_secs().cast_signed(), nanos: by.subsec_nanos().cast_signed() };
    let mut admin = AdminServiceClient::new(service.connect());
    let request = pb::AdvanceClockRequest { by: Some(by) };
    admin.advance_clock(request).await.unwrap().into_inner().now.unwrap().seconds
}

async fn sent(service: &Service, id: &str) -> pb::Job {
    until(service, id, |job| job.attempts.iter().any(|attempt| attempt.verdict() == pb::AttemptVerdict::Settled)).await
}

async fn explain(service: &Service, id: &str) -> pb::ExplainJobResponse {
    let request = pb::ExplainJobRequest { job_id: id.into() };
    api::jobs(service).explain_job(request).await.unwrap().into_inner()
}

#[tokio::test]
async fn what_is_not_delivered_in_time_is_followed_until_something_is_even_over_a_restart() {
    let mut timed = Timed::start(LATE).await;
    let steps = vec![sms("hello", 60), call(120)];
    let first = submit(&timed.service, chain(Class::Marketing, steps), "+8613800000001").await;
    sent(&timed.service, &first).await;
    let said = explain(&timed.service, &first).await;
    assert!(said.summary.contains("Unless it is delivered by"), "{}", said.summary);
    assert!(said.decisions.iter().any(|decision| decision.rule == "fallback" && decision.open_at.is_some()));
    timed.pass(50).await;
    Clock::system().pause(Duration::from_secs(1)).await;
    assert!(absent(&timed.service, &step_id(&first, 1)).await, "its time is not over");
    // The timer is not in memory.
    timed.service.kill();
    timed.service.restart(None);
    timed.pass(65).await;
    let second = sent(&timed.service, &step_id(&first, 1)).await;
    assert_eq!(second.kind(), Kind::Sms);
    let said = explain(&timed.service, &first).await;
    assert!(said.summary.contains("follows it"), "{}", said.summary);
    let decision = said.decisions.iter().find(|decision| decision.rule == "fallback").unwrap();
    assert_eq!((&decision.holders[..], &decision.open_at), (&[second.job_id.clone()][..], &None));
    let said = explain(&timed.service, &second.job_id).await;
    assert!(said.summary.contains(&format!("step 1 of the fallback chain of job {first}")), "{}", said.summary);
    // The carrier's receipt does not come in time either.
    timed.pass(200).await;
    let third = sent(&timed.service, &step_id(&first, 2)).await;
    assert_eq!((third.kind(), third.fallback_of.as_str()), (Kind::Call, first.as_str()));
    assert!(job(&timed.service, &first).await.unwrap().outcome.is_none(), "its receipt was lost with the process");
}

#[tokio::test]
async fn a_late_delivery_takes_back_the_step_that_waits() {
    let mut timed = Timed::start(LATE).await;
    let pause = pb::ProviderServicePauseRequest { provider_id: "carrier".into() };
    let mut providers = ProviderServiceClient::new(timed.service.connect());
    providers.pause(pause).await.unwrap();
    let first =
        submit(&timed.service, chain(Class::Marketing, vec![sms("hello", 60), call(60)]), "+8613800000001").await;
    sent(&timed.service, &first).await;
    timed.pass(65).await;
    let second = step_id(&first, 1);
    until(&timed.service, &second, |job| job.outcome.is_none()).await;
    timed.pass(960).await;
    assert_eq!(ended(&timed.service, &first).await.1, Fate::Delivered);
    let said = explain(&timed.service, &second).await;
    assert!(said.summary.contains(&format!("Job {first} of the chain reached the recipient")), "{}", said.summary);
    providers.resume(pb::ProviderServiceResumeRequest { provider_id: "carrier".into() }).await.unwrap();
    timed.pass(980).await;
    let (second, fate) = ended(&timed.service, &second).await;
    assert_eq!((fate, &second.attempts[..]), (Fate::Cancelled, &[][..]), "it never left");
    assert!(absent(&timed.service, &step_id(&first, 2)).await);
}

#[tokio::test]
async fn a_chain_is_taken_back_as_one() {
    let mut timed = Timed::start(LATE).await;
    let spec = || chain(Class::Marketing, vec![sms("hello", 60), call(60)]);
    let by_id = submit(&timed.service, spec(), "+8613800000001").await;
    let request = pb::SubmitRequest {
        spec: Some(spec()),
        recipient: Some(recipient("+8613800000002")),
        cancel_key: "order-7".into(),
        ..Default::default()
    };
    let by_key = api::jobs(&timed.service).submit(request).await.unwrap().into_inner().job_id;
    let kept = submit(&timed.service, spec(), "+8613800000003").await;
    for first in [&by_id, &by_key, &kept] {
        sent(&timed.service, first).await;
    }
    // The first steps are out: what is taken back is what follows.
    let named = [
        pb::job_selector::By::Jobs(pb::JobIds { job_ids: vec![by_id.clone()] }),
        pb::job_selector::By::CancelKey("order-7".into()),
    ];
    for by in named {
        let request = pb::CancelJobsRequest { selector: Some(pb::JobSelector { by: Some(by) }) };
        api::jobs(&timed.service).cancel_jobs(request).await.unwrap();
    }
    timed.pass(65).await;
    sent(&timed.service, &step_id(&kept, 1)).await;
    for first in [&by_id, &by_key] {
        let (second, fate) = ended(&timed.service, &step_id(first, 1)).await;
        assert_eq!((fate, &second.attempts[..]), (Fate::Cancelled, &[][..]));
    }
    timed.pass(140).await;
    sent(&timed.service, &step_id(&kept, 2)).await;
    for first in [&by_id, &by_key] {
        assert!(absent(&timed.service, &step_id(first, 2)).await, "nothing follows what was taken back");
    }
}

#[tokio::test]
async fn a_chain_is_one_touch() {
    let mut timed = Timed::start(LATE).await;
    api::cap_marketing(&timed.service).await;
    let first =
        submit(&timed.service, chain(Class::Marketing, vec![sms("hello", 60), call(60)]), "+8613800000001").await;
    sent(&timed.service, &first).await;
    timed.pass(65).await;
    sent(&timed.service, &step_id(&first, 1)).await;
    timed.pass(140).await;
    sent(&timed.service, &step_id(&first, 2)).await;
    // The touch is taken all the same.
    let more = submit(&timed.service, template(Class::Marketing), "+8613800000001").await;
    let waits = until(&timed.service, &more, |job| job.state() == pb::State::Scheduled).await;
    assert!(waits.attempts.is_empty());
    let said = explain(&timed.service, &more).await;
    let held_by = said.held_by.unwrap();
    assert_eq!((held_by.rule.as_str(), held_by.used), ("daily", 1), "{}", said.summary);
}

#[tokio::test]
async fn an_opt_out_is_no_reason_to_try_another_way() {
    let service = Service::start(&Backends::Embedded, REFUSING);
    api::put_template(&service, api::template("hello", "hello")).await;
    let open_id = pb::Recipient { phone: String::new(), ..recipient("+8613800000001") };
    let suppression =
        pb::Suppression { address: Some(open_id), scope: pb::SuppressionScope::Brand.into(), ..Default::default() };
    let request = pb::SuppressionServiceAddRequest { suppression: Some(suppression) };
    SuppressionServiceClient::new(service.connect()).add(request).await.unwrap();
    let first = submit(&service, chain(Class::Marketing, vec![sms("hello", 60)]), "+8613800000001").await;
    assert_eq!(ended(&service, &first).await.1, Fate::Suppressed);
    Clock::system().pause(Duration::from_secs(1)).await;
    assert!(absent(&service, &step_id(&first, 1)).await);
    assert!(explain(&service, &first).await.summary.contains("nothing follows"));
}

#[tokio::test]
async fn a_chain_that_can_never_go_is_refused_when_it_is_submitted() {
    let settings = format!("{REFUSING}[windows]\ndefaults = \"shipped\"\n")
        .replace("kinds = [\"call\"]", "kinds = [\"template\"]");
    let service = Service::start(&Backends::Embedded, &settings);
    api::put_template(&service, api::template("hello", "hello {name}")).await;
    let check = |answer: Result<String, Status>, code: Code, says: &str| {
        let status = answer.unwrap_err();
        assert_eq!(status.code(), code, "{status:?}");
        assert!(status.message().contains(says), "{:?} does not say {says:?}", status.message());
    };
    let named = |spec, recipient: pb::Recipient| {
        let params = [("name".to_owned(), "Li".to_owned())].into();
        let request = pb::SubmitRequest { spec: Some(spec), recipient: Some(recipient), params, ..Default::default() };
        let client = api::jobs(&service);
        async move { Ok(client.clone().submit(request).await?.into_inner().job_id) }
    };
    let someone = || recipient("+8613800000001");
    let text = |class, steps| JobSpec { fallback: steps, ..api::text(class, "hello") };
    let no_calls = named(text(Class::Notification, vec![sms("hello", 60), call(60)]), someone()).await;
    check(no_calls, Code::FailedPrecondition, "fallback[1]");
    let no_phone =
        named(chain(Class::Notification, vec![sms("hello", 60)]), pb::Recipient { phone: String::new(), ..someone() });
    check(no_phone.await, Code::InvalidArgument, "fallback[0]");
    let unknown = step(
        fallback_step::Content::Template(pb::TemplateContent { template: "nothing".into(), ..Default::default() }),
        60,
    );
    check(named(text(Class::Notification, vec![unknown]), someone()).await, Code::NotFound, "template");
    let unfilled = chain(Class::Notification, vec![sms("hello {shop}", 60)]);
    check(named(unfilled, someone()).await, Code::InvalidArgument, "shop");
    // A window binds texts that sell, and one number's country has several times.
    let lost = named(chain(Class::Marketing, vec![sms("hello", 60)]), recipient("+12025550100")).await;
    check(lost, Code::InvalidArgument, "time zone");
    named(chain(Class::Notification, vec![sms("hello {name}", 60)]), someone()).await.unwrap();
}

#[tokio::test]
async fn what_is_not_delivered_in_time_is_followed_on_servers() {
    let service = Service::start(&Backends::servers(), LATE);
    api::put_template(&service, api::template("hello", "hello")).await;
    // The least that a step may be given, in real time.
    let first = submit(&service, chain(Class::Transactional, vec![sms("hello", 10)]), "+8613800000001").await;
    let before = sent(&service, &first).await.attempts[0].at.unwrap();
    let after = sent(&service, &step_id(&first, 1)).await.attempts[0].at.unwrap();
    let passed = (after.seconds - before.seconds) * 1_000 + i64::from(after.nanos - before.nanos) / 1_000_000;
    assert!(passed >= 10_000, "after {passed} ms");
}

#[tokio::test]
async fn a_newer_job_replaces_the_step_that_waits() {
    let mut timed = Timed::start(LATE).await;
    let pause = pb::ProviderServicePauseRequest { provider_id: "carrier".into() };
    ProviderServiceClient::new(timed.service.connect()).pause(pause).await.unwrap();
    let cart = |spec| pb::SubmitRequest {
        spec: Some(spec),
        recipient: Some(recipient("+8613800000001")),
        collapse_key: "cart-7".into(),
        ..Default::default()
    };
    let request = cart(chain(Class::Marketing, vec![sms("hello", 60)]));
    let first = api::jobs(&timed.service).submit(request).await.unwrap().into_inner().job_id;
    sent(&timed.service, &first).await;
    timed.pass(65).await;
    let waiting = until(&timed.service, &step_id(&first, 1), |_| true).await;
    assert!(waiting.outcome.is_none(), "its own chain does not replace it");
    let newer = api::jobs(&timed.service).submit(cart(template(Class::Marketing))).await.unwrap().into_inner().job_id;
    sent(&timed.service, &newer).await;
    let shown = until(&timed.service, &step_id(&first, 1), |job| job.outcome.is_some()).await;
    assert_eq!(shown.outcome.unwrap().reason, "collapsed");
}
