//! A TLS face for a server that has none, with a certificate of a test authority.

use std::net::Ipv4Addr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use postrider::shutdown::Tasks;

/// The authority that signed the certificate for `localhost`.
pub(crate) const AUTHORITY: &str = include_str!("tls/ca.pem");

/// Listens with TLS on a free port and passes everything on to `port`; returns its own port. Ends with the runtime.
pub(crate) async fn before(port: u16, tasks: &Tasks) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let own_port = listener.local_addr().unwrap().port();
    let acceptor = TlsAcceptor::from(Arc::new(config()));
    let connections = tasks.clone();
    tasks.spawn("tls listener", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            connections.spawn("tls connection", async move {
                // A client that does not trust us ends here.
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
                    let _cut = copy_bidirectional(&mut stream, &mut server).await;
                }
            });
        }
    });
    own_port
}

fn config() -> ServerConfig {
    let certificate = CertificateDer::from_pem_slice(include_bytes!("tls/server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}
