//! Why the service cannot start: one line that names the thing and the way out.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::ledger::LedgerError;
use crate::limits::LimitsError;
use crate::queue::QueueError;
use crate::seal::{KeyFileError, NoRandom};
use crate::telemetry::traces::BadEndpoint;

/// Why the service cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data directory cannot be used.
    #[error("cannot use data_dir {path}: {error}", path = path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The key file cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The machine gives no random bytes.
    #[error(transparent)]
    Random(#[from] NoRandom),
    /// An address cannot be listened on.
    #[error("cannot listen on {listen} ({what}): {error}")]
    Listen {
        /// The setting.
        what: &'static str,
        /// Its value.
        listen: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The queue cannot be used.
    #[error("queue: {0}")]
    Queue(#[from] QueueError),
    /// Limits cannot be used.
    #[error("limits: {0}")]
    Limits(#[from] LimitsError),
    /// The ledger cannot be used.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// A provider cannot be set up.
    #[error("provider {id}: {reason}")]
    Provider {
        /// Which.
        id: Box<str>,
        /// Why.
        reason: Box<str>,
    },
    /// Traces cannot be sent.
    #[error(transparent)]
    Traces(#[from] BadEndpoint),
    /// The certificate of gRPC cannot be used.
    #[error("grpc.tls_cert and grpc.tls_key: {0}")]
    Tls(Box<str>),
}

/// Returns an error in one line, with what caused it.
pub(super) fn with_causes(error: &dyn std::error::Error) -> Box<str> {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some repeat their cause.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text.into()
}
