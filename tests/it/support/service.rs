//! The service as a process of its own: `postrider serve` on a settings file, killed and started again as told.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider::domain::time::Clock;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use super::janitor::{Janitor, Job, free_port};
use super::proxy::Proxy;
use super::servers::{self, server_dir};

/// A `postrider serve` that ends with the test process.
pub(crate) struct Service {
    janitor: Janitor,
    dir: PathBuf,
    grpc: u16,
    metrics: u16,
    /// It is the first of its service: a tenant and a key are created at its start.
    first: bool,
}

/// Which backends a service runs on.
pub(crate) enum Backends {
    /// Files in its own directory.
    Embedded,
    /// RabbitMQ, Redis and PostgreSQL, by URL.
    Servers {
        /// RabbitMQ.
        queue: String,
        /// Redis.
        limits: String,
        /// PostgreSQL.
        ledger: String,
    },
}

/// Presents an API key with each call.
#[derive(Clone)]
pub(crate) struct WithKey(AsciiMetadataValue);

/// A connection that presents an API key.
pub(crate) type Connection = InterceptedService<Channel, WithKey>;

// === impl Service ===

impl Service {
    /// Starts a service; `settings` is added to a file that names backends and listeners.
    pub(crate) fn start(backends: &Backends, settings: &str) -> Self {
        let service = Self::prepare(backends, settings, &[]);
        service.restart(None);
        service
    }

    /// Prepares a service that is not running yet; `arguments` follow `serve`. Tests run at any hour: unless `settings`
    /// say something about send windows, there are none.
    pub(crate) fn prepare(backends: &Backends, settings: &str, arguments: &[&str]) -> Self {
        let (dir, grpc, metrics) = (server_dir("service"), free_port(), free_port());
        let file = dir.join("postrider.toml");
        let windows = if settings.contains("[windows]") { "" } else { "[windows]\ndefaults = \"none\"\n" };
        fs::write(&file, file_text(&dir, backends, (grpc, metrics)) + windows + settings).unwrap();
        let mut command = vec![env!("CARGO_BIN_EXE_postrider").to_owned(), "serve".into(), "--config".into()];
        command.push(file.to_str().unwrap().to_owned());
        command.extend(arguments.iter().map(|&argument| argument.to_owned()));
        let janitor = Janitor::hire(&Job { dir: &dir, end_signal: "KILL", command: &command, env: &[] });
        Self { janitor, dir, grpc, metrics, first: true }
    }

    /// Starts another process of this service, with these roles, on its key file unless `settings` name one.
    pub(crate) fn join(&self, backends: &Backends, roles: &str, settings: &str) -> Self {
        let keys = format!("\n[seal]\nkey_file = {:?}\n", self.dir.join("data/keys"));
        let keys = if settings.contains("[seal]") { String::new() } else { keys };
        let service = Self::prepare(backends, &(keys + settings), &["--roles", roles]);
        let service = Self { first: false, ..service };
        service.restart(None);
        service
    }

    /// Starts the service that was killed or has ended; `crash` arms a crash point, as `after_claim:500`.
    pub(crate) fn restart(&self, crash: Option<&str>) {
        let armed = crash.map(|crash| format!("{}={crash}", postrider::crash::VARIABLE));
        let ready = || self.log().lines().filter(|line| line.ends_with("ready")).count();
        let before = ready();
        self.janitor.start_with(armed.as_deref(), || {
            match self.first {
                true => TcpStream::connect((Ipv4Addr::LOCALHOST, self.grpc)).is_ok() && self.found_key().is_some(),
                // It may have no role that listens.
                false => ready() > before,
            }
        });
    }

    /// Starts the service with a job that kills it whenever that is taken in hand; returns when it listens or has ended.
    pub(crate) fn restart_poisoned(&self, job: &str) {
        let poison = format!("{}={job}", postrider::crash::POISON);
        let listens = || TcpStream::connect((Ipv4Addr::LOCALHOST, self.grpc)).is_ok();
        self.janitor.start_with(Some(&poison), || listens() || self.ended());
    }

    /// Kills it: `SIGKILL`. Harmless when it has ended already.
    pub(crate) fn kill(&self) {
        self.janitor.end("KILL");
    }

    /// Asks it to stop (`SIGTERM`) and waits for its end; returns how long that took.
    pub(crate) fn stop(&self) -> Duration {
        let watch = Clock::system().stopwatch();
        self.janitor.end("TERM");
        watch.elapsed()
    }

    /// Returns whether it has ended by itself.
    pub(crate) fn ended(&self) -> bool {
        self.janitor.ended()
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.janitor.pid()
    }

    /// Returns what it wrote to standard output and error.
    pub(crate) fn log(&self) -> String {
        self.janitor.log()
    }

    /// Returns the port of its gRPC API.
    pub(crate) fn grpc_port(&self) -> u16 {
        self.grpc
    }

    /// Returns the port where its metrics are scraped.
    pub(crate) fn metrics_port(&self) -> u16 {
        self.metrics
    }

    /// Returns what a scrape of its metrics gets, as `name{labels} value` lines.
    pub(crate) fn metrics(&self) -> Vec<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.metrics)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: postrider\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
    }

    /// Returns its directory, which holds the settings and, embedded, the data.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Returns the API key that it printed at its first start.
    pub(crate) fn key(&self) -> String {
        self.found_key().unwrap_or_else(|| panic!("no API key in:\n{}", self.log()))
    }

    /// Returns a connection that presents the key. It connects at the first call, and again after each kill.
    pub(crate) fn connect(&self) -> Connection {
        self.connect_with(&self.key())
    }

    /// Returns a connection that presents another key.
    pub(crate) fn connect_with(&self, key: &str) -> Connection {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.grpc)).unwrap();
        let channel = endpoint.timeout(Duration::from_secs(20)).connect_timeout(Duration::from_secs(5)).connect_lazy();
        let key = format!("Bearer {key}").parse().unwrap();
        InterceptedService::new(channel, WithKey(key))
    }

    fn found_key(&self) -> Option<String> {
        let log = self.log();
        let start = log.find("pr_")?;
        let key = |c: &char| c.is_ascii_alphanumeric() || ['_', '-'].contains(c);
        let found: String = log[start..].chars().take_while(key).collect();
        // It may be half written.
        log[start + found.len()..].starts_with(['\n', '"', ' ', '\u{1b}']).then_some(found)
    }
}

impl Interceptor for WithKey {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

// === impl Backends ===

impl Backends {
    /// Returns a virtual host, a database number and a database of the shared servers that nobody else uses.
    pub(crate) fn servers() -> Self {
        Self::Servers {
            queue: servers::rabbitmq().vhost(),
            limits: servers::redis().database(),
            ledger: servers::postgres().database(),
        }
    }

    /// Returns the same, with a proxy of Redis before it.
    pub(crate) fn behind(proxy: &Proxy) -> Self {
        let database = servers::redis().database();
        let number = database.rsplit_once('/').unwrap().1;
        Self::Servers {
            queue: servers::rabbitmq().vhost(),
            limits: format!("redis://127.0.0.1:{}/{number}", proxy.port()),
            ledger: servers::postgres().database(),
        }
    }
}

fn file_text(dir: &Path, backends: &Backends, (grpc, metrics): (u16, u16)) -> String {
    let mut text = format!("data_dir = {:?}\n", dir.join("data"));
    let mut section = |name: &str, key: &str, value: &str| {
        let _infallible = write!(text, "[{name}]\n{key} = \"{value}\"\n");
    };
    section("grpc", "listen", &format!("127.0.0.1:{grpc}"));
    section("metrics", "listen", &format!("127.0.0.1:{metrics}"));
    if let Backends::Servers { queue, limits, ledger } = backends {
        section("queue", "url", queue);
        section("limits", "url", limits);
        section("ledger", "url", ledger);
    }
    text
}

/// Returns the settings of a provider that is the SMSC at `port`.
pub(crate) fn smpp_provider(port: u16, more: &str) -> String {
    format!(
        "\n[[provider]]\nid = \"carrier-a\"\nkind = \"smpp\"\naddress = \"127.0.0.1:{port}\"\nsystem_id = \"postrider\"\n\
         password = \"secret\"\n{more}\n"
    )
}
