//! SMSCs that we did not write: the npm package `smpp`, behaving as `tests/peers/smsc.js` is told, and PyPI smpp34.

use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use super::janitor::free_port;
use super::peer::Peer;

/// A running SMSC.
pub(crate) struct Smsc(Peer);

// === impl Smsc ===

impl Smsc {
    /// Starts an SMSC with these arguments; `tests/peers/smsc.js` says which there are.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new("node");
        command.arg(peers().join("smsc.js")).args(arguments);
        Self(Peer::run(
            command,
            "node: install it with `apt-get install nodejs npm`, or run deploy/test.sh, which does",
        ))
    }

    /// Starts another one that we did not write either: PyPI smpp34, as `tests/peers/smsc.py` says.
    pub(crate) fn start_smpp34() -> Self {
        Self(Peer::python("smsc.py", &[&free_port().to_string()]))
    }
}

impl Deref for Smsc {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.0
    }
}

/// Returns the directory of the peers, with what they need installed.
pub(crate) fn peers() -> &'static Path {
    static PEERS: OnceLock<PathBuf> = OnceLock::new();
    PEERS.get_or_init(|| {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers");
        if !dir.join("node_modules/smpp").is_dir() {
            let status = Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&dir).status();
            assert!(status.expect("npm: install it with `apt-get install npm`").success(), "npm ci failed");
        }
        dir
    })
}
