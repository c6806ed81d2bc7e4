//! A private Redis.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{program, server_dir, text};
use crate::support::janitor::{Janitor, Job, free_port};

/// The settings that we ship.
const SETTINGS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/servers/redis.conf"));

/// How many databases there are to give away.
const DATABASES: u32 = 1024;

/// A Redis with the settings that we ship: what it has answered is in its append-only file, synced.
pub(crate) struct Redis {
    janitor: Janitor,
    port: u16,
    dir: std::path::PathBuf,
    next: AtomicU32,
}

impl Redis {
    /// Starts a Redis of the caller's own.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a Redis of the caller's own that syncs its append-only file every second, as is its default.
    pub(crate) fn start_lagging() -> Self {
        Self::start_with(&["--appendfsync", "everysec"])
    }

    /// Starts a Redis of the caller's own that is set up badly: snapshots only, and eviction.
    pub(crate) fn start_without_append_only_file() -> Self {
        Self::start_with(&["--save", "3600 1", "--appendonly", "no", "--maxmemory-policy", "allkeys-lru"])
    }

    fn start_with(arguments: &[&str]) -> Self {
        let program = program("redis-server", &["/usr/bin"], "redis-server");
        let (dir, port) = (server_dir("redis"), free_port());
        let settings = dir.join("redis.conf");
        std::fs::write(&settings, SETTINGS).expect("a writable temporary directory");
        let mut command = vec![
            text(program),
            text(settings),
            "--port".into(),
            port.to_string(),
            "--bind".into(),
            "127.0.0.1".into(),
            "--dir".into(),
            text(&dir),
            "--databases".into(),
            DATABASES.to_string(),
        ];
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let janitor = Janitor::hire(&Job { dir: &dir, end_signal: "KILL", command: &command, env: &[] });
        let redis = Self { janitor, port, dir, next: AtomicU32::new(0) };
        redis.restart();
        redis
    }

    /// Returns the port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns the URL of an empty database that no other test of this binary uses.
    pub(crate) fn database(&self) -> String {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        assert!(number < DATABASES, "every one of {DATABASES} databases is given away");
        format!("redis://127.0.0.1:{}/{number}", self.port)
    }

    /// Kills the server like a power cut of the process: `SIGKILL`, its data stays.
    pub(crate) fn kill(&self) {
        self.janitor.end("KILL");
    }

    /// Removes the data of a killed server: it comes back empty.
    pub(crate) fn lose_data(&self) {
        std::fs::remove_dir_all(self.dir.join("appendonlydir")).expect("a killed server with data");
    }

    /// Starts the killed server again, on the same port and data.
    pub(crate) fn restart(&self) {
        self.janitor.start(|| answers(self.port).unwrap_or(false));
    }
}

/// Asks for a PONG; a server that still loads its data does not give one.
fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(&answer == b"+PONG\r\n")
}
