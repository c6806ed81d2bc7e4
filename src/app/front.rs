//! The front: gRPC on its listener.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tracing::error;

use super::error::with_causes;
use super::{Base, StartError, certificate};
use crate::api::{self, Api, Health, ProviderEntry};
use crate::config::GrpcTls;
use crate::telemetry::metrics;

/// The front as it runs.
pub(super) struct Front {
    address: SocketAddr,
    health: Health,
}

impl Base {
    /// Starts to serve gRPC.
    pub(super) async fn front(&self, providers: Vec<ProviderEntry>) -> Result<Front, StartError> {
        let listen = self.settings.grpc.listen;
        let refused = |error| StartError::Listen { what: "grpc.listen", listen, error };
        let listener = TcpListener::bind(listen).await.map_err(refused)?;
        let address = listener.local_addr().map_err(refused)?;
        let ports = api::Ports {
            admission: self.admission(),
            queue: self.queue.clone(),
            facts: self.facts.clone(),
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            directory: self.directory.clone(),
            templates: self.templates.clone(),
            windows: std::sync::Arc::clone(&self.windows),
            manners: super::providers::manners(&self.settings),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            tasks: self.groups.front.clone(),
            providers,
        };
        let tls = self.settings.grpc.tls.as_ref().map(read_tls).transpose()?;
        let expires_at = tls.as_ref().and_then(|tls| certificate::expires_at(&tls.certificate));
        expires_at.into_iter().for_each(metrics::certificate_expires);
        let api = Api::new(ports, api::Settings { tls }).await.map_err(|error| StartError::Tls(with_causes(&error)))?;
        let front = Front { address, health: api.health() };
        let stop = self.groups.front.stop().clone();
        self.groups.front.spawn("grpc", async move {
            if let Err(error) = api.serve(listener, stop.cancelled_owned()).await {
                error!(%error, "gRPC server ended");
            }
        });
        Ok(front)
    }
}

impl Front {
    /// Returns where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells probes to send no more calls here.
    pub(super) async fn not_serving(&self) {
        self.health.not_serving().await;
    }
}

pub(super) fn read_tls(tls: &GrpcTls) -> Result<api::Tls, StartError> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path).map_err(|error| StartError::Tls(format!("{}: {error}", path.display()).into()))
    };
    Ok(api::Tls { certificate: read(&tls.cert)?, key: read(&tls.key)?, client_ca: None })
}
