//! `postrider demo`: the whole service on the embedded backends with simulated providers, jobs through real gRPC over
//! loopback, and at the end an account of every job that was accepted.

mod account;
mod table;
mod traffic;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::future::BoxFuture;
use indicatif::{ProgressBar, ProgressStyle};
use tonic::transport::Channel;

use self::account::Account;
use self::traffic::Traffic;
use crate::app::{self, Running, StartError};
use crate::config;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;
use crate::telemetry::exporter;

/// How long the demo waits for the last job.
const DRAIN_MAX: Duration = Duration::from_secs(30);
/// How often progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// Carriers that behave like real ones: they take their time, throttle, refuse, lose answers, report, and their
/// recipients reply STOP.
const SETTINGS: &str = r#"
[grpc]
listen = "127.0.0.1:0"
[metrics]
listen = ""
[windows]
defaults = "none"
[shutdown]
grace = "10s"
lame_duck = "0s"

[[provider]]
id = "carrier-a"
kind = "simulated"
rate = "6000/s"
latency = "15ms"
receipt_after = "400ms"
response_timeout = "2s"
refused = 0.004
undelivered = 0.03
unanswered = 0.0005
stop_replies = 0.002

[[provider]]
id = "carrier-b"
kind = "simulated"
rate = "3000/s"
latency = "40ms"
receipt_after = "800ms"
response_timeout = "2s"
throttled = 0.01
undelivered = 0.05
"#;

/// What `postrider demo` takes.
#[derive(Args, Debug)]
pub struct Options {
    /// Where to keep queue, limits and ledger; looked at afterwards with `postrider serve --data-dir`. Default: a
    /// temporary directory that is removed.
    #[arg(long)]
    data_dir: Option<PathBuf>,
}

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// No temporary directory.
    #[error("cannot make a temporary directory: {0}")]
    Directory(#[from] std::io::Error),
    /// Its settings do not hold.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// The service does not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The service cannot be reached over loopback.
    #[error("cannot reach the service: {0}")]
    Connect(#[from] tonic::transport::Error),
    /// A call failed.
    #[error("{what}: {status}")]
    Call {
        /// What was called.
        what: &'static str,
        /// How it ended.
        status: Box<tonic::Status>,
    },
    /// Accepted jobs of which nothing is known in the end.
    #[error("{0} accepted jobs are not accounted for")]
    Unaccounted(usize),
}

/// Runs the demo: about 15 seconds.
///
/// # Errors
/// [`DemoError`], also when a job that was accepted is not accounted for.
pub fn run(options: Options) -> BoxFuture<'static, Result<(), DemoError>> {
    Box::pin(run_through(options))
}

async fn run_through(options: Options) -> Result<(), DemoError> {
    let temporary = tempfile::tempdir()?;
    let data_dir = options.data_dir.unwrap_or_else(|| temporary.path().join("data"));
    let loaded = config::parse(Some((std::path::Path::new("demo"), SETTINGS)), &[])?;
    let settings = config::Settings { key_file: data_dir.join("keys"), data_dir, ..loaded.settings };
    let clock = Clock::system();
    let running = app::start(settings, clock.clone(), &exporter::install()).await?;
    let tasks = Tasks::new();
    let result = play(&running, &clock, &tasks).await;
    tasks.finish(&clock, Duration::from_secs(1)).await;
    running.finish().await;
    result
}

async fn play(running: &Running, clock: &Clock, tasks: &Tasks) -> Result<(), DemoError> {
    let address = running.grpc().map(|address| format!("http://{address}")).unwrap_or_default();
    let key = running.first_key().map(|key| key.0.clone()).unwrap_or_default();
    let channel = Channel::from_shared(address).map_err(|_| DemoError::Unaccounted(0))?.connect().await?;
    let account = Arc::new(Account::default());
    let traffic = Traffic::new(channel, &key, Arc::clone(&account), clock.clone());
    traffic.watch(tasks).await?;
    let bar = bar();
    let showing = {
        let (account, bar, clock, stop) = (Arc::clone(&account), bar.clone(), clock.clone(), tasks.stop().clone());
        tasks.spawn("progress", async move {
            while stop.run_until_cancelled(clock.pause(SHOW_EVERY)).await.is_some() {
                show(&bar, &account);
            }
        })
    };
    let watch = clock.stopwatch();
    traffic.run(tasks).await?;
    while !account.settled() && watch.elapsed() < DRAIN_MAX {
        clock.pause(SHOW_EVERY).await;
    }
    show(&bar, &account);
    showing.abort();
    bar.finish_and_clear();
    println!("{}", table::render(&account));
    println!("Send windows were off, so that the demo runs at any hour; `postrider serve` keeps them.");
    match account.unaccounted() {
        0 => Ok(()),
        lost => Err(DemoError::Unaccounted(lost)),
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    // The template is a constant; a broken one would show in every run.
    if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} [{bar:30}] {pos}/{len} accounted for  {msg}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

fn show(bar: &ProgressBar, account: &Account) {
    let live = account.live();
    bar.set_length(live.accepted);
    bar.set_position(live.accounted);
    bar.set_message(format!("sent {}  delivered {}  waiting {}", live.sent, live.delivered, live.waiting));
}
