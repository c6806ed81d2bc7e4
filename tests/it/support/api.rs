//! The gRPC API as a test speaks it.

use std::collections::HashMap;
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::job_service_client::JobServiceClient;
use postrider::pb::suppression_service_client::SuppressionServiceClient;
use postrider::pb::template_service_client::TemplateServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{
    BatchItem, CapRule, CapWindow, Class, CreateApiKeyRequest, CreateTenantRequest, Event, JobSpec, PutTemplateRequest,
    Rate, Recipient, Role, RuleFilter, Schedule, SmsContent, State, SubmitBatchRequest, SubmitRequest, Suppression,
    SuppressionScope, SuppressionServiceAddRequest, Template, TemplateBody, TemplateVariable, Tenant,
    UpdateTenantRequest, WatchEventsRequest, cap_window, event, job_spec,
};
use prost_types::Timestamp;
use tonic::Code;

use super::service::{Connection, Service};

/// How often something that takes its time is asked for.
const POLL: Duration = Duration::from_millis(50);

/// A client of the jobs.
pub(crate) type Client = JobServiceClient<Connection>;

/// Returns a client that presents the service's key.
pub(crate) fn jobs(service: &Service) -> Client {
    JobServiceClient::new(service.connect()).max_decoding_message_size(64 * 1024 * 1024)
}

/// Returns the spec of a text message.
pub(crate) fn text(class: Class, text: &str) -> JobSpec {
    JobSpec {
        content: Some(job_spec::Content::Sms(SmsContent { text: text.to_owned(), ..SmsContent::default() })),
        class: class.into(),
        ..JobSpec::default()
    }
}

/// Returns a template that says the same by every means, with a variable `name` if the text has one.
pub(crate) fn template(name: &str, text: &str) -> Template {
    let variable = TemplateVariable { name: "name".into(), ..TemplateVariable::default() };
    let body = TemplateBody {
        sms_text: text.into(),
        call_text: text.into(),
        wecom_text: text.into(),
        ..TemplateBody::default()
    };
    Template {
        name: name.into(),
        variables: text.contains("{name}").then_some(variable).into_iter().collect(),
        bodies: vec![body],
        ..Template::default()
    }
}

/// Stores a template.
pub(crate) async fn put_template(service: &Service, template: Template) -> Template {
    let request = PutTemplateRequest { template: Some(template) };
    let stored = TemplateServiceClient::new(service.connect()).put_template(request).await.unwrap();
    stored.into_inner().template.unwrap()
}

/// Returns a spec that is due at `secs` after the epoch.
pub(crate) fn at(spec: JobSpec, secs: i64) -> JobSpec {
    let send_at = Timestamp { seconds: secs, nanos: 0 };
    let start = Some(postrider::pb::schedule::Start::SendAt(send_at));
    JobSpec { schedule: Some(Schedule { start, ..Schedule::default() }), ..spec }
}

/// Returns the recipient with this number.
pub(crate) fn phone(number: &str) -> Recipient {
    Recipient { phone: number.to_owned(), ..Recipient::default() }
}

/// Returns a request for one job under a key.
pub(crate) fn submit(key: &str, spec: JobSpec, number: &str) -> SubmitRequest {
    SubmitRequest {
        idempotency_key: key.to_owned(),
        spec: Some(spec),
        recipient: Some(phone(number)),
        ..SubmitRequest::default()
    }
}

/// Returns a request for a batch under a key.
pub(crate) fn batch(key: &str, spec: JobSpec, numbers: &[String]) -> SubmitBatchRequest {
    let item = |number: &String| BatchItem { recipient: Some(phone(number)), ..BatchItem::default() };
    SubmitBatchRequest { idempotency_key: key.to_owned(), spec: Some(spec), items: numbers.iter().map(item).collect() }
}

/// Returns so many made-up numbers, each of which is another.
pub(crate) fn numbers(from: usize, count: usize) -> Vec<String> {
    (from..from + count).map(|number| format!("+8613{number:09}")).collect()
}

/// Takes a number out; it binds when this returns.
pub(crate) async fn opt_out(service: &Service, number: &str, scope: SuppressionScope) {
    let suppression = Suppression { address: Some(phone(number)), scope: scope.into(), ..Suppression::default() };
    let request = SuppressionServiceAddRequest { suppression: Some(suppression) };
    SuppressionServiceClient::new(service.connect()).add(request).await.unwrap();
}

/// Lets one marketing job a day through to a recipient of the tenant `default`.
pub(crate) async fn cap_marketing(service: &Service) {
    let window = Some(cap_window::Window::Rolling(prost_types::Duration { seconds: 86_400, nanos: 0 }));
    let rule = CapRule {
        name: "daily".into(),
        filter: Some(RuleFilter { classes: vec![Class::Marketing.into()], ..RuleFilter::default() }),
        limit: 1,
        window: Some(CapWindow { window, ..CapWindow::default() }),
        ..CapRule::default()
    };
    let tenant = Tenant { tenant_id: "default".into(), caps: vec![rule], ..Tenant::default() };
    let mask = prost_types::FieldMask { paths: vec!["caps".into()] };
    let request = UpdateTenantRequest { tenant: Some(tenant), update_mask: Some(mask) };
    TenantServiceClient::new(service.connect()).update_tenant(request).await.unwrap();
}

/// Creates a tenant, with a rate if there is one, and returns a client that presents its key.
pub(crate) async fn tenant(service: &Service, id: &str, rate: Option<Rate>) -> Client {
    let mut tenants = TenantServiceClient::new(service.connect());
    let tenant = Tenant { tenant_id: id.to_owned(), rate, ..Tenant::default() };
    tenants.create_tenant(CreateTenantRequest { tenant: Some(tenant) }).await.unwrap();
    let request = CreateApiKeyRequest { tenant_id: id.to_owned(), role: Role::Submitter.into(), expires_at: None };
    let key = tenants.create_api_key(request).await.unwrap().into_inner().secret;
    Client::new(service.connect_with(&key))
}

/// Submits a batch until it is accepted, through every crash, as a careful caller does; returns the ids in order.
pub(crate) async fn insist(client: &Client, request: &SubmitBatchRequest) -> Vec<String> {
    let clock = Clock::system();
    for _ in 0..2_400 {
        match client.clone().submit_batch(request.clone()).await {
            Ok(answer) => {
                let results = answer.into_inner().results;
                return results.into_iter().map(accepted_id).collect();
            }
            Err(status) => {
                let again = [
                    Code::Unavailable,
                    Code::Cancelled,
                    Code::DeadlineExceeded,
                    Code::ResourceExhausted,
                    Code::Unknown,
                ];
                assert!(again.contains(&status.code()), "no crash makes a good request {status:?}");
                clock.pause(POLL).await;
            }
        }
    }
    panic!("not accepted in two minutes");
}

/// Returns the id of an item that must have been accepted.
pub(crate) fn accepted_id(item: postrider::pb::BatchItemResult) -> String {
    match item.result.unwrap() {
        postrider::pb::batch_item_result::Result::JobId(id) => id,
        postrider::pb::batch_item_result::Result::Refusal(refusal) => panic!("refused: {refusal:?}"),
    }
}

/// What a watch has shown so far. It is resumed from its token as often as it breaks.
#[derive(Default)]
pub(crate) struct Watched {
    token: String,
    /// The last state of each job that had an event.
    pub(crate) states: HashMap<String, State>,
    /// The outcomes of each job, as (fate, reason). More than one is a broken promise.
    pub(crate) outcomes: HashMap<String, Vec<(postrider::pb::Fate, String)>>,
    /// When each job had its outcome.
    pub(crate) settled_at: HashMap<String, Timestamp>,
    /// Jobs that had an event `unresolved`.
    pub(crate) unresolved: std::collections::HashSet<String>,
    /// How often it was resumed.
    pub(crate) resumed: u32,
}

impl Watched {
    /// Takes in what comes within `time`, or until the stream breaks.
    pub(crate) async fn follow(&mut self, client: &Client, time: Duration) {
        let clock = Clock::system();
        let request = WatchEventsRequest {
            resume_token: self.token.clone(),
            from_start: self.token.is_empty(),
            ..WatchEventsRequest::default()
        };
        let watch = clock.stopwatch();
        let mut client = client.clone();
        let Ok(Ok(answer)) = clock.timeout(time, client.watch_events(request)).await else {
            clock.pause(POLL).await;
            return;
        };
        self.resumed += 1;
        let mut stream = answer.into_inner();
        while let Ok(Ok(Some(answer))) = clock.timeout(time.saturating_sub(watch.elapsed()), stream.message()).await {
            answer.events.iter().for_each(|event| self.note(event));
            self.token = answer.resume_token;
        }
    }

    /// Returns how long after `due`, in seconds since the epoch, a job had its outcome.
    pub(crate) fn sent_after(&self, job: &str, due: i64) -> Duration {
        let at = self.settled_at[job];
        let since = Duration::new(u64::try_from(at.seconds - due).expect("not early"), 0);
        since + Duration::from_nanos(u64::try_from(at.nanos).expect("not negative"))
    }

    fn note(&mut self, event: &Event) {
        let Some(event::What::StateChange(change)) = &event.what else { return };
        let state = State::try_from(change.state).unwrap();
        self.states.insert(event.job_id.clone(), state);
        if state == State::Unresolved {
            self.unresolved.insert(event.job_id.clone());
        }
        if let (State::Settled, Some(outcome)) = (state, &change.outcome) {
            let fate = postrider::pb::Fate::try_from(outcome.fate).unwrap();
            self.settled_at.insert(event.job_id.clone(), event.at.unwrap_or_default());
            self.outcomes.entry(event.job_id.clone()).or_default().push((fate, outcome.reason.clone()));
        }
    }
}
