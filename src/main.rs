//! The `postrider` command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand};
use postrider::app::{self, Logins, Running};
use postrider::config::{self, Loaded, Settings};
use postrider::domain::checkup::Finding;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::telemetry::{exporter, logs};
use postrider::{cli, demo, shutdown, simulator};

/// Hands messages and calls to people: often enough, never too often, at a legal hour.
#[derive(Parser, Debug)]
#[command(name = "postrider", version, about, after_help = AFTER_HELP, max_term_width = 110)]
struct Postrider {
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Begin with:
  postrider demo                    the whole service in 15 seconds, with simulated carriers
  postrider serve                   the service, on the embedded backends, in ./postrider-data
  postrider submit sms --to +8613800000000 --text 'Hello' --key pr_...";

#[derive(Subcommand, Debug)]
enum Command {
    /// Runs the service until it is told to stop (SIGTERM or Ctrl-C; a second one stops it at once).
    Serve(Serve),
    /// Shows the whole service at work for about 15 seconds, and accounts for every job.
    Demo(demo::Options),
    /// Runs a simulated cloud or SMSC, to rehearse an integration with, until it is told to stop.
    Simulate(Box<simulator::Options>),
    /// Checks or prints the settings.
    Config(Config),
    /// Looks at settings, machine and servers, and says what to fix; exit code 0 if nothing is, 1 if something is.
    Doctor(Doctor),
    #[command(flatten)]
    Client(Box<cli::Command>),
}

#[derive(Args, Debug)]
struct Serve {
    #[command(flatten)]
    file: SettingsFile,
    /// Which parts of the service to run: front, dispatch, feed, record, receive. Overrides `roles`.
    #[arg(long, value_delimiter = ',')]
    roles: Vec<String>,
    /// Directory of the embedded backends and of the key file. Overrides `data_dir`.
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// `virtual` stands still until `postrider clock advance` moves it: embedded backends only, for rehearsals.
    #[arg(long, value_enum, default_value_t = ClockKind::System)]
    clock: ClockKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
enum ClockKind {
    /// The machine's.
    System,
    /// Moves only when it is told to.
    Virtual,
}

#[derive(Args, Debug)]
struct SettingsFile {
    /// The settings file. Default: `postrider.toml`, if it is there.
    #[arg(long, short)]
    config: Option<PathBuf>,
}

#[derive(Args, Debug)]
struct Doctor {
    #[command(flatten)]
    file: SettingsFile,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// Do not log in at providers. An SMPP log-in takes one of the account's binds for a moment; the clouds are asked
    /// something that sends nothing.
    #[arg(long)]
    no_logins: bool,
}

#[derive(Args, Debug)]
struct Config {
    #[command(subcommand)]
    act: ConfigAct,
}

#[derive(Subcommand, Debug)]
enum ConfigAct {
    /// Says whether the settings hold; exit code 0 if they do.
    Check(SettingsFile),
    /// Prints every setting with its value and where it came from; secrets are masked.
    Print(SettingsFile),
}

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A command line or a setting is wrong (sysexits.h, EX_USAGE).
const USAGE: u8 = 64;
/// Something that is needed cannot be had (EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;

fn main() -> ExitCode {
    let command = match Postrider::try_parse() {
        Ok(Postrider { command }) => command,
        Err(error) => return cli::usage(&error),
    };
    match command {
        Command::Serve(serve) => match settings(&serve) {
            Ok(settings) => run(serve_until_stopped(settings, serve.clock)),
            Err(error) => complain(&error, USAGE),
        },
        Command::Demo(options) => match logs::init(logs::Format::Pretty, "warn") {
            Ok(()) => run(show(options)),
            Err(error) => complain(&error, USAGE),
        },
        Command::Simulate(options) => match logs::init(logs::Format::Pretty, "warn") {
            Ok(()) => run(simulate(*options)),
            Err(error) => complain(&error, USAGE),
        },
        Command::Config(Config { act }) => config(&act),
        Command::Doctor(Doctor { file, json, no_logins }) => {
            match config::load(file.config.as_deref(), std::env::vars()) {
                Ok(loaded) => {
                    run(doctor(loaded.settings, if no_logins { Logins::Skipped } else { Logins::Tried }, json))
                }
                Err(error) => complain(&error, USAGE),
            }
        }
        Command::Client(command) => run(cli::run(*command, Postrider::command())),
    }
}

fn run(command: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(command);
            // What still runs has had its grace time.
            runtime.shutdown_background();
            code
        }
        Err(error) => complain(&error, UNAVAILABLE),
    }
}

async fn show(options: demo::Options) -> ExitCode {
    match demo::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&error, 1),
    }
}

async fn simulate(options: simulator::Options) -> ExitCode {
    match simulator::run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem @ simulator::Problem::Listen(_)) => complain(&problem, UNAVAILABLE),
        Err(problem @ simulator::Problem::Code { .. }) => complain(&problem, USAGE),
    }
}

async fn serve_until_stopped(settings: Settings, kind: ClockKind) -> ExitCode {
    let clock = match kind {
        ClockKind::System => Clock::system(),
        ClockKind::Virtual if settings.queue.url.is_none() && settings.limits.url.is_none() => virtual_clock(),
        ClockKind::Virtual => {
            let reason = "--clock virtual needs the embedded backends: servers have clocks of their own";
            return complain(&reason, USAGE);
        }
    };
    let exporter = exporter::install();
    match app::start(settings, clock, &exporter).await {
        Ok(running) => {
            greet(&running);
            let mut signals = shutdown::Signals::listen();
            signals.next().await;
            tokio::select! {
                () = running.finish() => ExitCode::SUCCESS,
                () = signals.next() => ExitCode::FAILURE,
            }
        }
        Err(error) => complain(&error, UNAVAILABLE),
    }
}

fn virtual_clock() -> Clock {
    // Begins at the time of the machine, so that data of an earlier run is not in the future.
    Clock::virtual_at(UnixMicros::from_secs(Clock::system().now().as_secs()))
}

/// Says where the service is, on standard output: people read it, and scripts that start it wait for it.
fn greet(running: &Running) {
    if let Some(key) = running.first_key() {
        println!("created tenant `default`; its API key, shown this once: {}", key.0);
    }
    if let Some(address) = running.grpc() {
        println!("gRPC on {address}");
    }
    if let Some(address) = running.metrics() {
        println!("metrics on http://{address}/metrics");
    }
    if let Some(address) = running.callbacks() {
        println!("callbacks on http://{address}/callback/");
    }
    println!("ready");
}

fn settings(serve: &Serve) -> Result<Settings, config::ConfigError> {
    let mut environment: Vec<(String, String)> = std::env::vars().collect();
    if !serve.roles.is_empty() {
        environment.insert(0, ("POSTRIDER_ROLES".into(), serve.roles.join(",")));
    }
    if let Some(dir) = &serve.data_dir {
        environment.insert(0, ("POSTRIDER_DATA_DIR".into(), dir.display().to_string()));
    }
    let Loaded { settings, .. } = config::load(serve.file.config.as_deref(), environment)?;
    let format = match settings.log.format {
        config::LogFormat::Pretty => logs::Format::Pretty,
        config::LogFormat::Json => logs::Format::Json,
    };
    if let Err(error) = logs::init(format, &settings.log.filter) {
        eprintln!("postrider: log.level: {error}");
    }
    Ok(settings)
}

fn config(act: &ConfigAct) -> ExitCode {
    let (ConfigAct::Check(file) | ConfigAct::Print(file)) = act;
    match (act, config::load(file.config.as_deref(), std::env::vars())) {
        (ConfigAct::Check(_), Ok(_)) => {
            println!("the settings hold");
            ExitCode::SUCCESS
        }
        (ConfigAct::Print(_), Ok(loaded)) => {
            print!("{}", loaded.print());
            ExitCode::SUCCESS
        }
        (_, Err(error)) => complain(&error, USAGE),
    }
}

async fn doctor(settings: Settings, logins: Logins, json: bool) -> ExitCode {
    let findings = app::examine(&settings, logins, &Clock::system()).await;
    for Finding { about, found, text, fix } in &findings {
        if json {
            println!("{}", serde_json::json!({"about": about, "found": found.as_str(), "text": text, "fix": fix}));
        } else {
            let fix = if fix.is_empty() { String::new() } else { format!("\n        -> {fix}") };
            println!("{:<7} {about}: {text}{fix}", found.as_str());
        }
    }
    if findings.iter().any(Finding::is_bad) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn complain(error: &dyn std::fmt::Display, code: u8) -> ExitCode {
    eprintln!("postrider: {error}");
    ExitCode::from(code)
}
