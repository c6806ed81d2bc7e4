//! The service, as a child process of the run, with its stores.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::shutdown::Tasks;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use super::{Options, RunError};
use crate::scenario::{Backends, Scenario, Trunk};
use crate::support::servers::{Postgres, RabbitMq, Redis};

/// How long the service may take to say its key, and to end.
const PATIENCE: Duration = Duration::from_secs(60);
/// Lines of its output that are kept, for when something goes wrong.
const LINES_MAX: usize = 400;

/// A running service; it is killed when this is dropped.
pub(crate) struct Service {
    child: Child,
    /// Where its API is.
    pub(crate) grpc: SocketAddr,
    /// Where its metrics are.
    pub(crate) metrics: SocketAddr,
    /// The key that it made at its first start, or that was given.
    pub(crate) key: String,
    output: Output,
    // Dropped after the service.
    _stores: Stores,
    _dir: TempDir,
}

/// Where the service keeps what it knows, with private servers where none were named.
#[derive(Default)]
struct Stores {
    queue: Option<String>,
    limits: Option<String>,
    ledger: Option<String>,
    _servers: (Option<RabbitMq>, Option<Redis>, Option<Postgres>),
}

/// The last lines that the service said, and the key among them.
#[derive(Clone)]
struct Output {
    lines: Arc<Mutex<Vec<String>>>,
    key: watch::Sender<Option<String>>,
}

impl Service {
    /// Starts the service and whatever stores it needs.
    pub(crate) async fn start(
        options: &Options,
        scenario: &Scenario,
        sink: SocketAddr,
        tasks: &Tasks,
    ) -> Result<Self, RunError> {
        let stores = Stores::start(options, scenario.backends);
        std::fs::create_dir_all(options.dir())?;
        let dir = tempfile::Builder::new().prefix("postrider-load-").tempdir_in(options.dir())?;
        let (grpc, metrics) = (free_address()?, free_address()?);
        let settings = settings(scenario, &stores, sink, (grpc, metrics));
        std::fs::write(dir.path().join(postrider::config::FILE), settings)?;
        let mut command = Command::new(options.postrider()?);
        command.arg("serve").current_dir(dir.path()).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Its settings are the scenario's alone.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("POSTRIDER_")) {
            command.env_remove(name);
        }
        let mut child = command.spawn()?;
        let output = Output { lines: Arc::default(), key: watch::Sender::new(options.key.clone()) };
        if let Some(stdout) = child.stdout.take() {
            tasks.spawn("stdout", output.clone().follow(stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            tasks.spawn("stderr", output.clone().follow(stderr));
        }
        let mut service = Self { child, grpc, metrics, key: String::new(), output, _stores: stores, _dir: dir };
        service.key = service.await_key().await?;
        Ok(service)
    }

    async fn await_key(&mut self) -> Result<String, RunError> {
        let (clock, mut key) = (Clock::system(), self.output.key.subscribe());
        let found = tokio::select! {
            _ended = self.child.wait() => None,
            found = clock.timeout(PATIENCE, key.wait_for(Option::is_some)) => match found {
                Ok(Ok(key)) => key.clone(),
                Ok(Err(_)) | Err(_) => None,
            },
        };
        found.ok_or_else(|| RunError::NoService { output: self.output.tail() })
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns the last lines it said.
    pub(crate) fn tail(&self) -> String {
        self.output.tail()
    }

    /// Asks it to end, and waits until it has; returns whether it ended well.
    pub(crate) async fn stop(mut self) -> std::io::Result<bool> {
        if let Some(id) = self.child.id() {
            Command::new("kill").args(["-TERM", &id.to_string()]).status().await?;
        }
        match Clock::system().timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => Ok(status?.success()),
            Err(_) => self.child.kill().await.map(|()| false),
        }
    }
}

impl Stores {
    fn start(options: &Options, backends: Backends) -> Self {
        if backends == Backends::Embedded {
            return Self::default();
        }
        let rabbitmq = options.queue_url.is_none().then(|| RabbitMq::start(1));
        let redis = options.limits_url.is_none().then(Redis::start);
        let postgres = options.ledger_url.is_none().then(Postgres::start);
        Self {
            queue: options.queue_url.clone().or_else(|| rabbitmq.as_ref().map(RabbitMq::vhost)),
            limits: options.limits_url.clone().or_else(|| redis.as_ref().map(Redis::database)),
            ledger: options.ledger_url.clone().or_else(|| postgres.as_ref().map(Postgres::database)),
            _servers: (rabbitmq, redis, postgres),
        }
    }
}

impl Output {
    async fn follow(self, from: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(from).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            if let Some(key) = key(&line) {
                // Once: later lines may show other keys.
                self.key.send_if_modified(|known| known.is_none() && known.replace(key).is_none());
            }
            let mut kept = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() == LINES_MAX {
                kept.remove(0);
            }
            kept.push(line);
        }
    }

    fn tail(&self) -> String {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }
}

/// Returns the API key in a line, if there is one.
fn key(line: &str) -> Option<String> {
    let from = line.find("pr_")?;
    let is_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let key: String = line[from..].chars().take_while(|&c| is_key(c)).collect();
    // A key has 256 bits; anything shorter is prose about keys.
    (key.len() > 40).then_some(key)
}

fn settings(
    scenario: &Scenario,
    stores: &Stores,
    sink: SocketAddr,
    (grpc, metrics): (SocketAddr, SocketAddr),
) -> String {
    let mut text = format!("grpc.listen = \"{grpc}\"\nmetrics.listen = \"{metrics}\"\nlog.level = \"warn\"\n");
    // A load runs at any hour.
    text.push_str("windows.defaults = \"none\"\n");
    for (name, url) in [("queue", &stores.queue), ("limits", &stores.limits), ("ledger", &stores.ledger)] {
        if let Some(url) = url {
            let _infallible = writeln!(text, "{name}.url = \"{url}\"");
        }
    }
    let provider = &scenario.provider;
    let _infallible = write!(
        text,
        "\n[[provider]]\nid = \"sink\"\nkind = \"smpp\"\naddress = \"{sink}\"\nsystem_id = \"load\"\npassword = \"load\"\n\
         binds = {}\nwindow = {}\nrate = \"{}/s\"\nreceipts = {}\nsubmit_ids = \"hex\"\nreceipt_ids = \"hex\"\n",
        provider.binds, provider.window, provider.rate, scenario.sink.receipts
    );
    if let Some(Trunk { lines, calls_per_s, ring, thinks, no_answer }) = &scenario.trunk {
        let (ring, thinks) = (humantime::format_duration(*ring), humantime::format_duration(*thinks));
        let _infallible = write!(
            text,
            "\n[[provider]]\nid = \"trunk\"\nkind = \"simulated-trunk\"\nlines = {lines}\ncalls_per_s = {calls_per_s}\n\
             ring = \"{ring}\"\nthinks = \"{thinks}\"\nno_answer = {no_answer:?}\n"
        );
    }
    text
}

fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

impl Options {
    fn dir(&self) -> PathBuf {
        self.dir.clone().unwrap_or_else(std::env::temp_dir)
    }

    /// Returns the service's program: the one that was named, else the one beside this.
    fn postrider(&self) -> Result<PathBuf, RunError> {
        let beside = || Ok(std::env::current_exe()?.with_file_name("postrider"));
        let path = self.postrider.clone().map_or_else(beside, |path| std::path::absolute(&path))?;
        if Path::exists(&path) { Ok(path) } else { Err(RunError::NoProgram { path }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_in_the_line_that_shows_it() {
        let secret = "pr_abcdefghij_0123456789abcdefghijklmnopqrstuvwxyzABCDEF";
        assert_eq!(key(&format!("API key of tenant `default`: {secret} (shown once)")).as_deref(), Some(secret));
        assert_eq!(key("keys look like pr_..."), None);
    }
}
