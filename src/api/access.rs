//! Who may call what. Every method of the API has its line here; one without a line cannot be called.
//!
//! A layer around all services asks this table, so that no service can forget to. The tenant of a call comes from its
//! credential and from nowhere else.

use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::{Either, Ready, ready};
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::{Request, Status};
use tower_layer::Layer;

use super::keys;
use super::status::Error;
use crate::domain::time::Clock;
use crate::ledger::{Directory, Role, Tenant};
use crate::seal::Sealer;
use crate::telemetry::metrics::AdmissionMetrics;

/// Who calls, as the credential says.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// Whose key it is, with its settings as of the call.
    pub(crate) tenant: Arc<Tenant>,
    /// What the key may do.
    pub(crate) role: Role,
}

/// Which roles may call a method, and whether it does anything yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Access {
    /// The method, as `Service/Method`.
    pub(super) method: &'static str,
    /// Who may call it.
    pub(super) roles: &'static [Role],
    /// Whether it works.
    pub(super) works: bool,
}

const ALL: &[Role] = &[Role::Submitter, Role::Viewer, Role::Admin, Role::Operator];
const SUBMIT: &[Role] = &[Role::Submitter, Role::Admin, Role::Operator];
const ADMIN: &[Role] = &[Role::Admin, Role::Operator];
const OPERATOR: &[Role] = &[Role::Operator];

const fn works(method: &'static str, roles: &'static [Role]) -> Access {
    Access { method, roles, works: true }
}

const fn later(method: &'static str, roles: &'static [Role]) -> Access {
    Access { method, roles, works: false }
}

/// The table. A test holds it against the words of the API description.
pub(super) const METHODS: &[Access] = &[
    works("JobService/Submit", SUBMIT),
    works("JobService/SubmitBatch", SUBMIT),
    works("JobService/SubmitStream", SUBMIT),
    works("JobService/GetJob", ALL),
    works("JobService/ListJobs", ALL),
    works("JobService/CancelJobs", SUBMIT),
    works("JobService/RescheduleJobs", SUBMIT),
    works("JobService/ExplainJob", ALL),
    works("JobService/Rehearse", ALL),
    works("JobService/WatchEvents", ALL),
    works("JobService/GetStats", ALL),
    works("SuppressionService/Add", SUBMIT),
    works("SuppressionService/Remove", ADMIN),
    works("SuppressionService/Check", ALL),
    works("SuppressionService/Import", ADMIN),
    works("SuppressionService/Export", ADMIN),
    works("TenantService/CreateTenant", OPERATOR),
    works("TenantService/GetTenant", ADMIN),
    works("TenantService/ListTenants", OPERATOR),
    works("TenantService/UpdateTenant", ADMIN),
    works("TenantService/CreateApiKey", ADMIN),
    works("TenantService/ListApiKeys", ADMIN),
    works("TenantService/RevokeApiKey", ADMIN),
    works("ProviderService/List", OPERATOR),
    works("ProviderService/Pause", OPERATOR),
    works("ProviderService/Resume", OPERATOR),
    works("ProviderService/Drain", OPERATOR),
    works("ProviderService/ReassignSender", ADMIN),
    works("AdminService/AdvanceClock", OPERATOR),
    works("AdminService/ListDeadLetters", OPERATOR),
    works("AdminService/Redrive", OPERATOR),
    works("TemplateService/PutTemplate", ADMIN),
    works("TemplateService/GetTemplate", ALL),
    works("TemplateService/ListTemplates", ALL),
    works("TemplateService/DeleteTemplate", ADMIN),
    works("TemplateService/PreviewTemplate", ALL),
    later("ConsentService/GrantConsent", SUBMIT),
    later("ConsentService/WithdrawConsent", SUBMIT),
    later("ConsentService/CheckConsent", ALL),
    later("ReviewService/ListHeld", ADMIN),
    later("ReviewService/Approve", ADMIN),
    later("ReviewService/Reject", ADMIN),
    later("PrivacyService/Erase", ADMIN),
    later("PrivacyService/GetErasure", ADMIN),
    later("PrivacyService/Export", ADMIN),
    later("WebhookService/CreateEndpoint", ADMIN),
    later("WebhookService/ListEndpoints", ADMIN),
    later("WebhookService/UpdateEndpoint", ADMIN),
    later("WebhookService/DeleteEndpoint", ADMIN),
    later("WebhookService/RotateSecret", ADMIN),
    later("WebhookService/TestEndpoint", ADMIN),
];

/// In front of every method of the API.
const PACKAGE: &str = "/postrider.v1.";
/// Answered without a key: probes and tools have none, and neither tells anything of a tenant.
const OPEN: &[&str] = &["/grpc.health.v1.Health/", "/grpc.reflection.v1.ServerReflection/"];

/// Asks every call for its key.
#[derive(Clone)]
pub(super) struct Guarded {
    doorman: Arc<Doorman>,
}

struct Doorman {
    directory: Directory,
    sealer: Sealer,
    clock: Clock,
    metrics: AdmissionMetrics,
}

/// Services behind a door.
#[derive(Clone)]
pub(super) struct Guard<S> {
    doorman: Arc<Doorman>,
    inner: S,
}

// === impl Guarded ===

impl Guarded {
    pub(super) fn new(directory: Directory, sealer: Sealer, clock: Clock) -> Self {
        Self { doorman: Arc::new(Doorman { directory, sealer, clock, metrics: AdmissionMetrics::new() }) }
    }
}

impl<S> Layer<S> for Guarded {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard { doorman: Arc::clone(&self.doorman), inner }
    }
}

// === impl Guard ===

impl<S, B> Service<http::Request<B>> for Guard<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        match self.doorman.admit(request.uri().path(), request.headers()) {
            Ok(caller) => {
                if let Some(caller) = caller {
                    request.extensions_mut().insert(caller);
                }
                Either::Right(self.inner.call(request))
            }
            Err(error) => Either::Left(ready(Ok(Status::from(error).into_http()))),
        }
    }
}

// === impl Doorman ===

impl Doorman {
    /// Returns who calls; nobody for what is open to all.
    fn admit(&self, path: &str, headers: &http::HeaderMap) -> Result<Option<Caller>, Error> {
        if OPEN.iter().any(|open| path.starts_with(open)) {
            return Ok(None);
        }
        let caller = self.caller(headers).inspect_err(|error| self.metrics.refused(None, error.counted(), 1))?;
        let access = access(path).ok_or(Error::NotYet("this method"))?;
        if !access.roles.contains(&caller.role) {
            return Err(Error::Denied(access.method));
        }
        if !access.works {
            return Err(Error::NotYet(access.method));
        }
        Ok(Some(caller))
    }

    fn caller(&self, headers: &http::HeaderMap) -> Result<Caller, Error> {
        let header = headers.get(http::header::AUTHORIZATION).ok_or(Error::NoKey)?;
        let (scheme, text) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or(Error::NoKey)?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(Error::NoKey);
        }
        let text = text.trim();
        let key = keys::id_of(text).and_then(|id| self.directory.key(id)).ok_or(Error::BadKey)?;
        if !self.sealer.api_key_matches(text, &key.mac) || key.revoked_at.is_some() {
            return Err(Error::BadKey);
        }
        // Only who has the key is told what became of it.
        if let Some(at) = key.expires_at.filter(|_| key.has_expired(self.clock.now())) {
            return Err(Error::ExpiredKey(at));
        }
        let tenant = self.directory.tenant(&key.tenant).ok_or(Error::BadKey)?;
        Ok(Caller { tenant, role: key.role })
    }
}

/// Returns the table's line for a path such as `/postrider.v1.JobService/Submit`.
fn access(path: &str) -> Option<&'static Access> {
    let method = path.strip_prefix(PACKAGE)?;
    METHODS.iter().find(|access| access.method == method)
}

/// Returns who makes a call.
///
/// # Errors
/// [`Error::NoKey`] for a call that did not come through the door: there is none.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Error> {
    request.extensions().get::<Caller>().cloned().ok_or(Error::NoKey)
}

#[cfg(test)]
mod tests;
