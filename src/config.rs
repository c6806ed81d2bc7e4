//! Settings, in two stages: what was written (`tree`) and what is true ([`Settings`]).
//!
//! Every default stands with its reason in `config/defaults.toml`, and for providers in a file for each kind, such as
//! `config/smpp.toml`. The file `postrider.toml` overrides them, and the environment overrides the file:
//! `queue.url` is `POSTRIDER_QUEUE_URL`. Unknown settings are errors that name what was probably meant; settings that
//! contradict each other are errors that name both.

mod caps;
mod check;
mod endpoint;
mod error;
mod extensions;
mod print;
mod provider;
mod raw;
mod reference;
mod routes;
mod secret;
mod template;
mod tree;
mod windows;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use self::caps::{HouseCap, window, window_text};
pub use self::endpoint::{Endpoint, InvalidEndpoint};
pub use self::error::{ConfigError, Contradiction, Reason};
pub use self::extensions::Extension;
pub use self::provider::asterisk::Asterisk;
pub use self::provider::clouds::{Aliyun, AliyunVoice, Api, Tencent, Twilio};
pub use self::provider::custom::{Answers, Callbacks, Custom, Method};
pub use self::provider::trunk::{SimulatedTrunk, Trunk};
pub use self::provider::twilio_voice::TwilioVoice;
pub use self::provider::wechat::{AesKey, Consents, Crypt, Messages, Wechat};
pub use self::provider::wecom::{To, Wecom, is_employee};
pub use self::provider::{Alphabet, Counting, IdForm, InPool, Link, Provider, Simulated, Smpp, SmppTls};
pub use self::reference::{cap_reference, extension_reference, provider_reference, reference, route_reference};
pub use self::routes::HouseRoute;
pub use self::secret::{Secret, ServerUrl};
pub use self::template::{Escape, Expression, InvalidTemplate, Template, TemplateError};
use self::tree::Tree;
pub use self::windows::Windows;
use crate::domain::job::{Class, words};

/// The file that is read when none is named, if it is there.
pub const FILE: &str = "postrider.toml";

/// Checked settings.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What this process runs, in order and without repetition; never empty.
    pub roles: Vec<Role>,
    /// Directory of the embedded backends and of the key file.
    pub data_dir: PathBuf,
    /// gRPC.
    pub grpc: Grpc,
    /// Where metrics are scraped, if anywhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Callbacks of providers.
    pub receive: Receive,
    /// The queue.
    pub queue: Queue,
    /// Limits.
    pub limits: Limits,
    /// The ledger.
    pub ledger: Ledger,
    /// The file with the sealing keys.
    pub key_file: PathBuf,
    /// How long a receipt is waited for.
    pub receipt_deadline: Duration,
    /// How long a job may be sent after its due time, by class in the order of [`Class::ALL`].
    pub expires_after: [Duration; Class::ALL.len()],
    /// Send windows.
    pub windows: Windows,
    /// The file that they were read from, if any.
    pub file: Option<PathBuf>,
    /// Caps that no tenant can change, and that are read again when the file changes.
    pub caps: Vec<HouseCap>,
    /// Which pool carries what, read again when the file changes.
    pub routes: Vec<HouseRoute>,
    /// Whose numbers and codes at providers are whose.
    pub extensions: Vec<Extension>,
    /// Stopping.
    pub shutdown: Shutdown,
    /// Logs.
    pub log: Log,
    /// Traces, if they are sent anywhere.
    pub traces: Option<Traces>,
    /// The providers, never none.
    pub providers: Vec<Provider>,
}

words! {
    /// A part of the service.
    Role {
        /// The gRPC API and admission.
        Front = "front",
        /// Lanes to providers.
        Dispatch = "dispatch",
        /// The agenda's feeder.
        Feed = "feed",
        /// Frames and events to the ledger.
        Record = "record",
        /// Callbacks of providers.
        Receive = "receive",
    }
}

/// Where and how gRPC is served.
#[derive(Clone, Debug)]
pub struct Grpc {
    /// The address; beyond loopback only with TLS, or where plain text was asked for.
    pub listen: SocketAddr,
    /// TLS, if any.
    pub tls: Option<GrpcTls>,
}

/// The service's own certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcTls {
    /// The chain, in PEM.
    pub cert: PathBuf,
    /// The private key, in PEM.
    pub key: PathBuf,
}

/// Where callbacks of providers come in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Receive {
    /// The address; beyond loopback only where that was asked for.
    pub listen: SocketAddr,
    /// The URL under which providers reach it, if it is said.
    pub public_url: Option<Endpoint>,
}

/// The queue.
#[derive(Clone, Debug)]
pub struct Queue {
    /// RabbitMQ; `None`: embedded.
    pub url: Option<ServerUrl>,
    /// How long a publish may take.
    pub publish_timeout: Duration,
    /// Most frames in a lane.
    pub lane_frames_max: NonZeroU64,
    /// Most frames that wait for record.
    pub record_frames_max: NonZeroU64,
}

/// Limits.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Redis; `None`: embedded.
    pub url: Option<ServerUrl>,
    /// How long a call may take.
    pub timeout: Duration,
}

/// The ledger.
#[derive(Clone, Debug)]
pub struct Ledger {
    /// PostgreSQL; `None`: SQLite.
    pub url: Option<ServerUrl>,
}

/// Stopping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shutdown {
    /// How long it may take in all.
    pub grace: Duration,
    /// How long the service goes on after it says NOT_SERVING.
    pub lame_duck: Duration,
}

/// Logs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Log {
    /// Level or filter.
    pub filter: String,
    /// How lines read.
    pub format: LogFormat,
}

words! {
    /// How a line of log reads.
    LogFormat {
        /// For people.
        Pretty = "pretty",
        /// For machines.
        Json = "json",
    }
}

/// Where traces go, and of how much.
#[derive(Clone, PartialEq, Debug)]
pub struct Traces {
    /// The OTLP endpoint, over gRPC.
    pub endpoint: Box<str>,
    /// The part of the calls that are sampled where their callers do not say it, 0 to 1.
    pub sample: f64,
}

/// Settings with where they came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is true.
    pub settings: Settings,
    tree: Tree,
}

/// Reads the settings: defaults, then `file` (or [`FILE`] if it is there), then `environment`.
///
/// # Errors
/// [`ConfigError`], which names the setting and the way out.
pub fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let text = match file {
        Some(path) => Some((path, read(path)?)),
        None if Path::new(FILE).exists() => Some((Path::new(FILE), read(Path::new(FILE))?)),
        None => None,
    };
    let environment: Vec<_> = environment.into_iter().collect();
    parse(text.as_ref().map(|(path, text)| (*path, text.as_str())), &environment)
}

/// Checks a settings file given as text.
///
/// # Errors
/// Like [`load`].
pub fn parse(file: Option<(&Path, &str)>, environment: &[(String, String)]) -> Result<Loaded, ConfigError> {
    let mut tree = Tree::defaults();
    if let Some((path, text)) = file {
        tree.add_file(path, text)?;
    }
    tree.add_environment(environment)?;
    let mut settings = check::settings(tree.raw()?, (tree.raw_windows()?, &tree.raw_caps()?), environment)?;
    settings.routes = routes::routes(&tree.raw_routes()?, &settings.providers)?;
    settings.extensions = extensions::extensions(&tree.raw_extensions()?, &settings.providers)?;
    settings.file = file.map(|(path, _)| path.to_owned());
    Ok(Loaded { settings, tree })
}

/// Reads the caps of a settings file given as text, and nothing else of it: they may change while the service runs.
///
/// # Errors
/// Like [`load`].
pub fn caps(path: &Path, text: &str) -> Result<Vec<HouseCap>, ConfigError> {
    let mut tree = Tree::defaults();
    tree.add_file(path, text)?;
    caps::caps(&tree.raw_caps()?)
}

/// Reads the routes of a settings file given as text, and nothing else of it: they may change while the service runs, to
/// pools of the providers that it runs with.
///
/// # Errors
/// Like [`load`].
pub fn routes(path: &Path, text: &str, providers: &[Provider]) -> Result<Vec<HouseRoute>, ConfigError> {
    let mut tree = Tree::defaults();
    tree.add_file(path, text)?;
    routes::routes(&tree.raw_routes()?, providers)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.into(), error })
}

// === impl Settings ===

impl Settings {
    /// Returns whether this process runs a part of the service.
    pub fn runs(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    /// Returns whether any provider may call back.
    pub fn takes_callbacks(&self) -> bool {
        self.providers.iter().any(|provider| self.callbacks_of(provider))
    }

    /// Returns whether this provider may call back.
    pub fn callbacks_of(&self, provider: &Provider) -> bool {
        let told = provider.link.asks_for_callbacks() && self.receive.public_url.is_some();
        told || provider.link.calls_back()
    }

    /// Returns whether any backend is embedded, so that this process must be the only one.
    pub fn embedded(&self) -> bool {
        self.queue.url.is_none() || self.limits.url.is_none() || self.ledger.url.is_none()
    }
}

impl Loaded {
    /// Returns every setting with its value and where it came from, as TOML. Secrets are masked.
    pub fn print(&self) -> String {
        print::settings(&self.tree)
    }
}
