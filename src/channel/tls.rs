//! The TLS of connections to providers.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// How the connection is encrypted. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    pub(in crate::channel) connector: TlsConnector,
    pub(in crate::channel) server_name: ServerName<'static>,
}

/// The encryption cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file of trusted certificates does not read.
    #[error("cannot read the trusted certificates")]
    CaFile(#[source] tokio_rustls::rustls::pki_types::pem::Error),
    /// A certificate in it is none.
    #[error("a trusted certificate is malformed")]
    Certificate(#[source] tokio_rustls::rustls::Error),
    /// The file holds no certificate.
    #[error("the file of trusted certificates holds none")]
    NoCertificate,
    /// The name is neither a host name nor an address.
    #[error("not a server name")]
    ServerName,
    /// No cipher suite fits.
    #[error("the TLS library refused its settings")]
    Setup(#[source] tokio_rustls::rustls::Error),
}

// === impl Tls ===

impl Tls {
    /// Returns TLS to the server of that name, trusting `ca_file` (PEM), or without one what browsers trust.
    ///
    /// # Errors
    /// [`TlsError`] when the file does not hold certificates or the name is none.
    pub fn new(server_name: &str, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let server_name = ServerName::try_from(server_name.to_owned()).map_err(|_| TlsError::ServerName)?;
        let mut roots = RootCertStore::empty();
        match ca_file {
            None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Some(file) => {
                for certificate in CertificateDer::pem_file_iter(file).map_err(TlsError::CaFile)? {
                    roots.add(certificate.map_err(TlsError::CaFile)?).map_err(TlsError::Certificate)?;
                }
            }
        }
        if roots.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), server_name })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
