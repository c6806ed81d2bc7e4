//! The connection to the service, and why a command is not done.

use std::io;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use crate::pb;

/// How long a connection may take; a service on the way up answers sooner.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer: a page of 1000 jobs with all their events.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A service to ask, with the key to ask it with.
#[derive(Clone)]
pub(super) struct Service {
    channel: Channel,
    key: Key,
}

/// Puts the key on every call.
#[derive(Clone)]
pub(super) struct Key {
    authorization: Option<AsciiMetadataValue>,
}

type Keyed = InterceptedService<Channel, Key>;

/// Why a command is not done.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The command line asks for something impossible.
    #[error("{0}")]
    Usage(String),
    /// There is no service at that address.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, String),
    /// The service said no.
    #[error("{}", said(.0))]
    Refused(Box<Status>),
    /// Some items were refused; they are printed.
    #[error("refused {0} of the jobs")]
    SomeRefused(u32),
    /// Some lines of an import were refused; they are printed.
    #[error("refused {0} lines")]
    LinesRefused(u64),
    /// The output cannot be written.
    #[error("cannot print: {0}")]
    Output(#[from] io::Error),
}

impl Service {
    /// Connects to `endpoint`.
    pub(super) async fn connect(endpoint: &str, key: &str, ca: Option<&Path>) -> Result<Self, Failure> {
        let usage = |what: &str, why: &dyn std::fmt::Display| Failure::Usage(format!("{what}: {why}"));
        let authorization = match key {
            "" => None,
            key => {
                let mut value: AsciiMetadataValue =
                    format!("Bearer {key}").parse().map_err(|e| usage("the API key is not one", &e))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        let at = Endpoint::from_shared(endpoint.to_owned())
            .map_err(|e| usage("the endpoint is no URL such as http://127.0.0.1:50051", &e))?
            .connect_timeout(CONNECT_TIMEOUT);
        let at = if endpoint.starts_with("https://") {
            let tls = match ca {
                None => ClientTlsConfig::new().trust_anchors(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
                Some(path) => {
                    let pem = std::fs::read(path).map_err(|e| usage(&format!("cannot read {}", path.display()), &e))?;
                    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem))
                }
            };
            at.tls_config(tls).map_err(|e| usage("cannot use TLS", &chain(&e)))?
        } else {
            at
        };
        let channel = at.connect().await.map_err(|e| Failure::Unreachable(endpoint.to_owned(), chain(&e)))?;
        Ok(Self { channel, key: Key { authorization } })
    }

    /// Returns a client of the job service.
    pub(super) fn jobs(&self) -> pb::job_service_client::JobServiceClient<Keyed> {
        pb::job_service_client::JobServiceClient::with_interceptor(self.channel.clone(), self.key.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Returns a client of the suppression service.
    pub(super) fn suppressions(&self) -> pb::suppression_service_client::SuppressionServiceClient<Keyed> {
        pb::suppression_service_client::SuppressionServiceClient::with_interceptor(
            self.channel.clone(),
            self.key.clone(),
        )
    }

    /// Returns a client of the template service.
    pub(super) fn templates(&self) -> pb::template_service_client::TemplateServiceClient<Keyed> {
        pb::template_service_client::TemplateServiceClient::with_interceptor(self.channel.clone(), self.key.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Returns a client of the tenant service.
    pub(super) fn tenants(&self) -> pb::tenant_service_client::TenantServiceClient<Keyed> {
        pb::tenant_service_client::TenantServiceClient::with_interceptor(self.channel.clone(), self.key.clone())
            .max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Returns a client of the provider service.
    pub(super) fn providers(&self) -> pb::provider_service_client::ProviderServiceClient<Keyed> {
        pb::provider_service_client::ProviderServiceClient::with_interceptor(self.channel.clone(), self.key.clone())
    }

    /// Returns a client of the admin service.
    pub(super) fn admin(&self) -> pb::admin_service_client::AdminServiceClient<Keyed> {
        pb::admin_service_client::AdminServiceClient::with_interceptor(self.channel.clone(), self.key.clone())
    }
}

impl Interceptor for Key {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}

impl Failure {
    /// Returns the failure for scripts.
    pub(super) fn to_json(&self) -> serde_json::Value {
        let Self::Refused(status) = self else { return json!({"error": {"message": self.to_string()}}) };
        let details = status.get_error_details();
        let field = details.bad_request().and_then(|bad| bad.field_violations.first()).map(|at| at.field.clone());
        json!({"error": {
            "code": code_word(status.code()),
            "reason": details.error_info().map(|info| info.reason.clone()),
            "field": field,
            "message": status.message(),
            "retry_after_s": retry_after(&details),
        }})
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Refused(Box::new(status))
    }
}

fn said(status: &Status) -> String {
    let said = if status.message().is_empty() { "the service gave no reason" } else { status.message() };
    match retry_after(&status.get_error_details()) {
        Some(after) => format!("{said} ({}; retry after {after:.1} s)", code_word(status.code())),
        None => format!("{said} ({})", code_word(status.code())),
    }
}

fn retry_after(details: &tonic_types::ErrorDetails) -> Option<f64> {
    details.retry_info().and_then(|info| info.retry_delay).map(|delay| delay.as_secs_f64())
}

/// Returns the code as the API's description writes it.
fn code_word(code: tonic::Code) -> String {
    let mut word = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(c.to_ascii_uppercase());
    }
    word
}

/// Returns an error with its causes: the outermost alone says only "transport error".
fn chain(error: &dyn std::error::Error) -> String {
    let mut said = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        said.push_str(": ");
        said.push_str(&cause.to_string());
        source = cause.source();
    }
    said
}
