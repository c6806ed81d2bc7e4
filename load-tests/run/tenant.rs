//! The tenant that the load belongs to.

use std::time::Duration;

use postrider::domain::cap::OnLimit;
use postrider::domain::time::Clock;
use postrider::pb;
use postrider::pb::job_service_client::JobServiceClient;
use postrider::pb::template_service_client::TemplateServiceClient;
use postrider::pb::tenant_service_client::TenantServiceClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::RunError;
use super::service::Service;
use crate::generator::{FOLLOW_UP, Target};
use crate::scenario::{self, Scenario};

/// How often setting up is tried while the service is starting, and how long between.
const TRIES: u32 = 150;
const PAUSE: Duration = Duration::from_millis(200);

/// A fresh tenant with the scenario's caps and a key of its own.
#[derive(Clone)]
pub(crate) struct Tenant {
    /// Its name in the scenario.
    pub(crate) name: String,
    endpoint: Endpoint,
    authorization: MetadataValue<Ascii>,
    jobs: JobServiceClient<Channel>,
}

impl Tenant {
    /// Creates the scenario's tenants, once the service is up.
    pub(crate) async fn create_all(service: &Service, scenario: &Scenario) -> Result<Vec<Self>, RunError> {
        let mut tenants = vec![];
        for (number, tenant) in scenario.tenants().iter().enumerate() {
            tenants.push(Self::create(service, scenario, number, tenant).await?);
        }
        Ok(tenants)
    }

    async fn create(
        service: &Service,
        scenario: &Scenario,
        number: usize,
        named: &scenario::Tenant,
    ) -> Result<Self, RunError> {
        let endpoint = Endpoint::from_shared(format!("http://{}", service.grpc))?.tcp_nodelay(true);
        let channel = connect(&endpoint, service).await?;
        let mut admin = TenantServiceClient::new(channel.clone());
        let operator = bearer(&service.key)?;
        let tenant_id = format!("load-{}-{number}", Clock::system().now().as_millis());
        let rate = (named.rate > 0).then_some(pb::Rate { per_second: named.rate, burst: 0 });
        let tenant = pb::Tenant { tenant_id: tenant_id.clone(), caps: caps(scenario)?, rate, ..pb::Tenant::default() };
        let create = || authorized(pb::CreateTenantRequest { tenant: Some(tenant.clone()) }, &operator);
        let mut tries = 0;
        while let Err(status) = admin.create_tenant(create()).await {
            tries += 1;
            if status.code() != Code::Unavailable || tries == TRIES {
                return Err(RunError::SetUp(Box::new(status)));
            }
            Clock::system().pause(PAUSE).await;
        }
        let role = if scenario.trunk.is_some() { pb::Role::Admin } else { pb::Role::Submitter };
        let key = pb::CreateApiKeyRequest { tenant_id, role: role.into(), expires_at: None };
        let key = admin.create_api_key(authorized(key, &operator)).await;
        let key = key.map_err(|status| RunError::SetUp(Box::new(status)))?.into_inner();
        let (name, jobs) = (named.name.clone(), JobServiceClient::new(channel.clone()));
        let tenant = Self { name, endpoint, authorization: bearer(&key.secret)?, jobs };
        tenant.await_key().await?;
        if scenario.trunk.is_some() {
            tenant.put_follow_up(channel).await.map_err(|status| RunError::SetUp(Box::new(status)))?;
        }
        Ok(tenant)
    }

    /// Stores the template of what follows from calls.
    async fn put_follow_up(&self, channel: Channel) -> Result<(), Status> {
        let body = pb::TemplateBody { sms_text: "Here is your link".into(), ..pb::TemplateBody::default() };
        let template = pb::Template { name: FOLLOW_UP.into(), bodies: vec![body], ..pb::Template::default() };
        let request = authorized(pb::PutTemplateRequest { template: Some(template) }, &self.authorization);
        TemplateServiceClient::new(channel).put_template(request).await.map(drop)
    }

    /// Waits until the new key is known everywhere.
    async fn await_key(&self) -> Result<(), RunError> {
        let mut tries = 0;
        while let Err(status) = self.stats().await {
            tries += 1;
            if tries == TRIES {
                return Err(RunError::SetUp(Box::new(status)));
            }
            Clock::system().pause(PAUSE).await;
        }
        Ok(())
    }

    /// Returns where and as whom to submit.
    pub(crate) fn target(&self) -> Target {
        Target { endpoint: self.endpoint.clone(), authorization: self.authorization.clone() }
    }

    /// Cancels what is left of a campaign.
    pub(crate) async fn cancel(&self, campaign: &str) -> Result<(), Status> {
        let by = pb::job_selector::By::CampaignId(campaign.to_owned());
        let request = pb::CancelJobsRequest { selector: Some(pb::JobSelector { by: Some(by) }) };
        self.jobs.clone().cancel_jobs(authorized(request, &self.authorization)).await.map(drop)
    }

    /// Returns the ledger's counts of the tenant.
    pub(crate) async fn stats(&self) -> Result<pb::GetStatsResponse, Status> {
        let request = authorized(pb::GetStatsRequest::default(), &self.authorization);
        Ok(self.jobs.clone().get_stats(request).await?.into_inner())
    }
}

async fn connect(endpoint: &Endpoint, service: &Service) -> Result<Channel, RunError> {
    for _ in 0..TRIES {
        if let Ok(channel) = endpoint.connect().await {
            return Ok(channel);
        }
        Clock::system().pause(PAUSE).await;
    }
    Err(RunError::NoService { output: service.tail() })
}

fn caps(scenario: &Scenario) -> Result<Vec<pb::CapRule>, RunError> {
    let rules = scenario.rules().map_err(RunError::Rules)?;
    let cap = |rule: &postrider::domain::cap::CapRule| {
        let window = rule.window.length().unwrap_or_default();
        let window = prost_types::Duration { seconds: window.as_secs() as i64, nanos: window.subsec_nanos() as i32 };
        let on_limit = match rule.on_limit {
            OnLimit::Defer => pb::OnLimit::Defer,
            OnLimit::Drop => pb::OnLimit::Drop,
        };
        pb::CapRule {
            name: rule.name.to_string(),
            limit: rule.limit,
            window: Some(pb::CapWindow {
                window: Some(pb::cap_window::Window::Rolling(window)),
                clock_offset_minutes: 0,
            }),
            on_limit: on_limit.into(),
            ..pb::CapRule::default()
        }
    };
    Ok(rules.iter().map(cap).collect())
}

fn bearer(key: &str) -> Result<MetadataValue<Ascii>, RunError> {
    format!("Bearer {key}").parse().map_err(|_| RunError::Rules("the API key is no header value".into()))
}

fn authorized<T>(message: T, authorization: &MetadataValue<Ascii>) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", authorization.clone());
    request
}
