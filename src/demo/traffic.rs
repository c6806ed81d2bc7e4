//! The jobs of a busy day, in five seconds.

use std::sync::Arc;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::DemoError;
use super::account::Account;
use crate::domain::time::{Clock, UnixMicros};
use crate::pb;
use crate::pb::job_service_client::JobServiceClient;
use crate::pb::suppression_service_client::SuppressionServiceClient;
use crate::pb::template_service_client::TemplateServiceClient;
use crate::pb::tenant_service_client::TenantServiceClient;
use crate::shutdown::Tasks;

/// Customers of the brand.
const PEOPLE: u32 = 8_000;
/// Of whom these have opted out before.
const OPTED_OUT: u32 = 200;
/// One-time passwords, one call each.
const PASSWORDS: u32 = 1_500;
/// What followers are told.
const TEMPLATE: &str = "order_shipped";
/// Callers at the same time.
const CALLERS: u32 = 16;

/// Sends the demo's jobs.
pub(super) struct Traffic {
    jobs: JobServiceClient<InterceptedService<Channel, Bearer>>,
    templates: TemplateServiceClient<InterceptedService<Channel, Bearer>>,
    tenants: TenantServiceClient<InterceptedService<Channel, Bearer>>,
    suppressions: SuppressionServiceClient<InterceptedService<Channel, Bearer>>,
    account: Arc<Account>,
    clock: Clock,
}

/// Puts the key into each call.
#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

/// One batch of the script.
struct Wave {
    class: pb::Class,
    topic: &'static str,
    content: pb::job_spec::Content,
    /// The first of the people, and how many.
    people: (u32, u32),
    due_in: Option<Duration>,
    expires_in: Option<Duration>,
}

impl Traffic {
    pub(super) fn new(channel: Channel, key: &str, account: Arc<Account>, clock: Clock) -> Self {
        let bearer = Bearer(format!("Bearer {key}").parse().ok());
        Self {
            jobs: JobServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            templates: TemplateServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            tenants: TenantServiceClient::with_interceptor(channel.clone(), bearer.clone()),
            suppressions: SuppressionServiceClient::with_interceptor(channel, bearer),
            account,
            clock,
        }
    }

    /// Starts to watch what becomes of the jobs.
    pub(super) async fn watch(&self, tasks: &Tasks) -> Result<(), DemoError> {
        let mut jobs = self.jobs.clone();
        let request = pb::WatchEventsRequest { from_start: true, ..Default::default() };
        let mut events = jobs.watch_events(request).await.map_err(failed("WatchEvents"))?.into_inner();
        let (account, stop) = (Arc::clone(&self.account), tasks.stop().clone());
        tasks.spawn("watch", async move {
            while let Some(Ok(Some(page))) = stop.run_until_cancelled(events.message()).await {
                for event in page.events {
                    let at = event.at.as_ref().map_or(UnixMicros(0), micros);
                    account.event(event, at);
                }
            }
        });
        Ok(())
    }

    /// Sends everything, and returns when all of it is accepted.
    pub(super) async fn run(&self, tasks: &Tasks) -> Result<(), DemoError> {
        self.set_caps().await?;
        self.put_template().await?;
        self.opt_out().await?;
        let callers: Vec<_> = (0..CALLERS).map(|caller| tasks.spawn("caller", self.passwords(caller))).collect();
        for wave in waves() {
            let cancelled = wave.topic == "called-off";
            let batch = self.batch(wave).await?;
            if cancelled {
                self.cancel(batch).await?;
            }
        }
        for caller in callers {
            caller.await.map_err(|_| DemoError::Unaccounted(0))??;
        }
        Ok(())
    }

    async fn put_template(&self) -> Result<(), DemoError> {
        let body = pb::TemplateBody { wecom_text: "Your order is on its way.".into(), ..Default::default() };
        let template = pb::Template { name: TEMPLATE.into(), bodies: vec![body], ..Default::default() };
        let request = pb::PutTemplateRequest { template: Some(template) };
        self.templates.clone().put_template(request).await.map_err(failed("PutTemplate"))?;
        Ok(())
    }

    async fn set_caps(&self) -> Result<(), DemoError> {
        let rule = |name: &str, topics: &[&str], limit, hours: i64, on_limit: pb::OnLimit| pb::CapRule {
            name: name.into(),
            filter: Some(pb::RuleFilter {
                classes: vec![pb::Class::Marketing.into()],
                topics: topics.iter().map(|&topic| topic.into()).collect(),
                ..Default::default()
            }),
            limit,
            window: Some(pb::CapWindow {
                window: Some(pb::cap_window::Window::Rolling(prost_types::Duration {
                    seconds: hours * 3600,
                    nanos: 0,
                })),
                clock_offset_minutes: 0,
            }),
            on_limit: on_limit.into(),
            ..Default::default()
        };
        let tenant = pb::Tenant {
            tenant_id: "default".into(),
            caps: vec![
                rule("two-a-day", &[], 2, 24, pb::OnLimit::Defer),
                rule("one-flash-an-hour", &["flash"], 1, 1, pb::OnLimit::Drop),
            ],
            ..Default::default()
        };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["caps".into()] });
        let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
        self.tenants.clone().update_tenant(request).await.map_err(failed("UpdateTenant"))?;
        Ok(())
    }

    async fn opt_out(&self) -> Result<(), DemoError> {
        for person in 0..OPTED_OUT {
            let address = Some(pb::Recipient { phone: number(person), ..Default::default() });
            let suppression = Some(pb::Suppression { address, ..Default::default() });
            let request = pb::SuppressionServiceAddRequest { suppression };
            self.suppressions.clone().add(request).await.map_err(failed("Suppression.Add"))?;
        }
        Ok(())
    }

    /// Sends one caller's share of the one-time passwords, over about four seconds.
    fn passwords(&self, caller: u32) -> impl Future<Output = Result<(), DemoError>> + Send + 'static {
        let (mut jobs, account, clock) = (self.jobs.clone(), Arc::clone(&self.account), self.clock.clone());
        async move {
            for index in (caller..PASSWORDS).step_by(CALLERS as usize) {
                let request = pb::SubmitRequest {
                    idempotency_key: format!("otp-{index}"),
                    spec: Some(pb::JobSpec {
                        content: Some(sms("Your code is {code}. It is good for 10 minutes.")),
                        class: pb::Class::Otp.into(),
                        ..Default::default()
                    }),
                    recipient: Some(person(OPTED_OUT + index)),
                    params: [("code".into(), format!("{:06}", fastrand::u32(..1_000_000)))].into(),
                    ..Default::default()
                };
                let watch = clock.stopwatch();
                let answer = jobs.submit(request).await.map_err(failed("Submit"))?.into_inner();
                account.accepted([answer.job_id], clock.now(), None, watch.elapsed());
                clock.pause(Duration::from_millis(40)).await;
            }
            Ok(())
        }
    }

    /// Sends one batch; returns its id.
    async fn batch(&self, wave: Wave) -> Result<String, DemoError> {
        let now = self.clock.now();
        let due_at = wave.due_in.map(|wait| now.plus(wait));
        let schedule = pb::Schedule {
            start: due_at.map(|at| pb::schedule::Start::SendAt(timestamp(at))),
            expires_at: wave.expires_in.map(|wait| timestamp(now.plus(wait))),
            ..Default::default()
        };
        let (first, count) = wave.people;
        let request = pb::SubmitBatchRequest {
            spec: Some(pb::JobSpec {
                content: Some(wave.content),
                class: wave.class.into(),
                topic: wave.topic.into(),
                schedule: Some(schedule),
                ..Default::default()
            }),
            items: (first..first + count)
                .map(|index| pb::BatchItem { recipient: Some(person(index)), ..Default::default() })
                .collect(),
            ..Default::default()
        };
        let watch = self.clock.stopwatch();
        let answer = self.jobs.clone().submit_batch(request).await.map_err(failed("SubmitBatch"))?.into_inner();
        let ids = answer.results.into_iter().filter_map(|result| match result.result {
            Some(pb::batch_item_result::Result::JobId(id)) => Some(id),
            Some(pb::batch_item_result::Result::Refusal(_)) | None => None,
        });
        self.account.accepted(ids, self.clock.now(), due_at, watch.elapsed());
        Ok(answer.batch_id)
    }

    async fn cancel(&self, batch: String) -> Result<(), DemoError> {
        let selector = pb::JobSelector { by: Some(pb::job_selector::By::BatchId(batch)) };
        let request = pb::CancelJobsRequest { selector: Some(selector) };
        self.jobs.clone().cancel_jobs(request).await.map_err(failed("CancelJobs"))?;
        Ok(())
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

/// The script: reminders, notices, calls, campaigns that meet the caps, one that is called off.
fn waves() -> Vec<Wave> {
    let wave = |class, topic, content, people| Wave { class, topic, content, people, due_in: None, expires_in: None };
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));
    let template =
        pb::job_spec::Content::Template(pb::TemplateContent { template: TEMPLATE.into(), ..Default::default() });
    let call = pb::job_spec::Content::Call(pb::CallContent {
        source: Some(pb::call_content::Source::Flow("confirm_order".into())),
        ..Default::default()
    });
    let sale = || sms("Member day: 20 % off in your nearest store. Reply STOP to opt out.");
    let mut waves = vec![
        wave(pb::Class::Transactional, "", template, (1_000, 1_500)),
        wave(pb::Class::Notification, "", call, (3_000, 600)),
        Wave {
            due_in: Some(3 * second),
            ..wave(pb::Class::Notification, "", sms("Your points expire tomorrow."), (4_000, 500))
        },
        Wave { due_in: Some(4 * second), ..wave(pb::Class::Marketing, "called-off", sale(), (5_000, 500)) },
    ];
    waves.extend((0..16).map(|part| wave(pb::Class::Marketing, "sale", sale(), (part % 8 * 1_000, 1_000))));
    waves
        .extend((0..2).map(|_| wave(pb::Class::Marketing, "flash", sms("Flash sale, one hour only."), (7_000, 1_000))));
    waves.push(Wave { expires_in: Some(day / 2), ..wave(pb::Class::Marketing, "sale", sale(), (1_000, 800)) });
    waves.push(wave(pb::Class::Marketing, "sale", sale(), (2_000, 800)));
    waves
}

fn sms(text: &str) -> pb::job_spec::Content {
    pb::job_spec::Content::Sms(pb::SmsContent { text: text.into(), ..Default::default() })
}

fn person(index: u32) -> pb::Recipient {
    let index = index % PEOPLE;
    pb::Recipient {
        recipient_id: format!("member-{index}"),
        phone: number(index),
        wechat: vec![pb::WechatAddress { appid: "wx0123456789".into(), openid: format!("openid-{index}") }],
        ..Default::default()
    }
}

fn number(index: u32) -> String {
    format!("+86138{index:08}")
}

fn timestamp(at: UnixMicros) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: at.as_secs(),
        nanos: i32::try_from(at.0.rem_euclid(1_000_000) * 1_000).unwrap_or(0),
    }
}

fn micros(at: &prost_types::Timestamp) -> UnixMicros {
    UnixMicros(at.seconds.saturating_mul(1_000_000).saturating_add(i64::from(at.nanos) / 1_000))
}

fn failed(what: &'static str) -> impl Fn(Status) -> DemoError {
    move |status| DemoError::Call { what, status: Box::new(status) }
}
