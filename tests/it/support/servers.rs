//! Private RabbitMQ, Redis and PostgreSQL servers on free ports in temporary directories, from the system's packages.
//!
//! [`mod@rabbitmq`], [`mod@redis`] and [`mod@postgres`] are shared by all tests of the binary; each test takes a virtual
//! host, a database number or a database of its own. Tests that kill a server start one of their own.

mod postgres;
mod rabbitmq;
mod redis;

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) use postgres::Postgres;
pub(crate) use rabbitmq::RabbitMq;
pub(crate) use redis::Redis;

/// Returns the RabbitMQ that all tests share; started at the first call.
pub(crate) fn rabbitmq() -> &'static RabbitMq {
    static SHARED: OnceLock<RabbitMq> = OnceLock::new();
    SHARED.get_or_init(|| RabbitMq::start(64))
}

/// Returns the Redis that all tests share; started at the first call.
pub(crate) fn redis() -> &'static Redis {
    static SHARED: OnceLock<Redis> = OnceLock::new();
    SHARED.get_or_init(Redis::start)
}

/// Returns the PostgreSQL that all tests share; started at the first call.
pub(crate) fn postgres() -> &'static Postgres {
    static SHARED: OnceLock<Postgres> = OnceLock::new();
    SHARED.get_or_init(Postgres::start)
}

/// Returns a name that no other test of this machine has: letters, digits and `_`.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Creates a directory for a server, kept until its janitor removes it.
pub(crate) fn server_dir(name: &str) -> PathBuf {
    tempfile::Builder::new().prefix(&format!("postrider-{name}-")).tempdir().expect("a temporary directory").keep()
}

/// Finds a server's program, or fails the test with what to do. A server that is missing never skips a test.
pub(crate) fn program(name: &str, places: &[&str], package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    places
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .map(|place| place.join(name))
        .find(|file| file.is_file())
        .unwrap_or_else(|| {
            panic!(
                "{name} is missing, and this test needs the real server: \
                 install it with `apt-get install {package}`, or run deploy/test.sh, which does"
            )
        })
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?} failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn text(path: impl AsRef<std::path::Path>) -> String {
    path.as_ref().to_str().expect("a temporary path is plain text").to_owned()
}
