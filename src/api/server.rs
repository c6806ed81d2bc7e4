//! The server: every service behind one door, on one listener.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tonic::transport::server::Router;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;
use tower_layer::Stack;

use super::Ports;
use super::access::{Guarded, METHODS};
use super::admin::Admin;
use super::incoming::incoming;
use super::jobs::Jobs;
use super::providers::Providers;
use super::suppressions::Suppressions;
use super::templates::TemplateStore;
use super::tenants::Tenants;
use crate::domain::time::Clock;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// Largest request: 10 000 recipients with ids, parameters and keys fit.
const REQUEST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Calls of one connection at a time. tonic knows no bound by itself.
const STREAMS_MAX: u32 = 1024;
/// Longest time until a call's answer begins: a publish timeout and a store's failover, with room.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A connection is asked for a sign of life this often, and closed without one in time: peers that are gone without a
/// word would be kept forever.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));
/// Flow-control windows: two large batches on their way per connection.
const WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Header bytes of a call: a key and what clients add.
const HEADER_BYTES_MAX: u32 = 16 * 1024;

/// How the server listens.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// TLS; `None`: plain, for loopback.
    pub tls: Option<Tls>,
}

/// What TLS needs, as PEM texts.
#[derive(Clone)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: String,
    /// Its private key.
    pub key: String,
    /// Who signs callers' certificates; `None`: callers need none.
    pub client_ca: Option<String>,
}

/// Why the server does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate or key is not usable.
    #[error("cannot use the TLS certificate or key: {0}")]
    Tls(#[source] tonic::transport::Error),
    /// The descriptors for reflection are damaged.
    #[error("cannot read the API's own description: {0}")]
    Description(#[from] tonic_reflection::server::Error),
    /// It stopped by itself.
    #[error("the gRPC server failed: {0}")]
    Serving(#[source] tonic::transport::Error),
}

/// The API, ready to serve.
pub struct Api {
    router: Router<Stack<Guarded, tower_layer::Identity>>,
    health: Health,
    clock: Clock,
}

/// What the server tells probes about itself.
#[derive(Clone, Debug)]
pub struct Health {
    reporter: HealthReporter,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.write_str("Tls(..)")
    }
}

// === impl Settings ===

impl Settings {
    /// Says whether a server could be made from these.
    ///
    /// # Errors
    /// [`ServeError::Tls`] for a certificate or key that cannot be used.
    pub fn check(self) -> Result<(), ServeError> {
        server(self).map(drop)
    }
}

// === impl Api ===

impl Api {
    /// Puts the services together.
    ///
    /// # Errors
    /// [`ServeError::Tls`] for a certificate or key that cannot be used.
    pub async fn new<Q: Queue, L: Limits, B: Ledger>(
        ports: Ports<Q, L, B>,
        settings: Settings,
    ) -> Result<Self, ServeError> {
        let guarded = Guarded::new(ports.directory.clone(), ports.sealer.clone(), ports.clock.clone());
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health { reporter };
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()?;
        let ports = Arc::new(ports);
        let jobs = pb::job_service_server::JobServiceServer::new(Jobs::new(Arc::clone(&ports)))
            .max_decoding_message_size(REQUEST_BYTES_MAX);
        let suppressions = Suppressions::new(Arc::clone(&ports));
        let templates = TemplateStore::new(Arc::clone(&ports));
        let tenants = Tenants::new(Arc::clone(&ports));
        let router = server(settings)?
            .layer(guarded)
            .add_service(health_service)
            .add_service(reflection)
            .add_service(jobs)
            .add_service(pb::suppression_service_server::SuppressionServiceServer::new(suppressions))
            .add_service(pb::template_service_server::TemplateServiceServer::new(templates))
            .add_service(pb::tenant_service_server::TenantServiceServer::new(tenants))
            .add_service(pb::provider_service_server::ProviderServiceServer::new(Providers::new(Arc::clone(&ports))))
            .add_service(pb::admin_service_server::AdminServiceServer::new(Admin::new(Arc::clone(&ports))));
        health.set(ServingStatus::Serving).await;
        Ok(Self { router, health, clock: ports.clock.clone() })
    }

    /// Returns a handle that says NOT_SERVING before the server stops.
    pub fn health(&self) -> Health {
        self.health.clone()
    }

    /// Serves until `stop` is done, and then until the calls in work are answered. The caller bounds that wait: a hung
    /// peer may never let go.
    ///
    /// # Errors
    /// [`ServeError::Serving`].
    pub async fn serve(self, listener: TcpListener, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
        self.router
            .serve_with_incoming_shutdown(incoming(listener, self.clock), stop)
            .await
            .map_err(ServeError::Serving)
    }
}

// === impl Health ===

impl Health {
    /// Tells probes to send no more calls here.
    pub async fn not_serving(&self) {
        self.set(ServingStatus::NotServing).await;
    }

    /// Sets the status of the server as a whole and of each service that works.
    async fn set(&self, status: ServingStatus) {
        self.reporter.set_service_status("", status).await;
        let services =
            METHODS.iter().filter(|access| access.works).filter_map(|access| access.method.split('/').next());
        for service in services.collect::<BTreeSet<_>>() {
            self.reporter.set_service_status(format!("postrider.v1.{service}"), status).await;
        }
    }
}

fn server(settings: Settings) -> Result<Server, ServeError> {
    let server = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .timeout(CALL_TIMEOUT)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_max_pending_accept_reset_streams(Some(64));
    let Some(Tls { certificate, key, client_ca }) = settings.tls else { return Ok(server) };
    let tls = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
    let tls = match client_ca {
        Some(ca) => tls.client_ca_root(Certificate::from_pem(ca)),
        None => tls,
    };
    server.tls_config(tls).map_err(ServeError::Tls)
}
