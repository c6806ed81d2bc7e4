//! The command-line client: what a person or a script asks of a running service, over the same gRPC API as everybody.

mod args;
mod connect;
mod explain;
mod flow;
mod job;
mod operate;
mod print;
mod quota;
mod rehearse;
mod submit;
mod suppress;
mod template;
mod tenant;
mod top;
mod window;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use futures_util::future::BoxFuture;

use self::connect::{Failure, Service};
use self::print::Output;

/// The call was understood and refused.
const REFUSED: u8 = 1;
/// The command line is wrong (`EX_USAGE`).
const USAGE: u8 = 64;
/// No service, or it cannot say (`EX_UNAVAILABLE`): retrying may help.
const UNAVAILABLE: u8 = 69;

/// The commands that talk to a running service.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Hand in jobs
    #[command(after_help = submit::EXAMPLES)]
    Submit {
        /// What to send.
        #[command(subcommand)]
        what: submit::Command,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Say what jobs would meet if they were submitted now; sends and spends nothing
    #[command(after_help = rehearse::EXAMPLES)]
    Rehearse {
        /// What would be sent.
        #[command(subcommand)]
        what: submit::Command,
        /// Show each job, however many there are; without it, more than 20 are counted by what they meet
        #[arg(long, global = true)]
        each: bool,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Ask after jobs, watch them, take them back
    #[command(after_help = job::EXAMPLES)]
    Job {
        /// What to do.
        #[command(subcommand)]
        act: job::Command,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Store, show, list and fill in templates
    #[command(after_help = template::EXAMPLES)]
    Template {
        /// What to do.
        #[command(subcommand)]
        act: template::Command,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Create, list and change tenants
    #[command(after_help = tenant::EXAMPLES)]
    Tenant {
        /// What to do.
        #[command(subcommand)]
        act: tenant::Command,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Create, list and revoke API keys
    #[command(after_help = tenant::KEY_EXAMPLES)]
    Key {
        /// What to do.
        #[command(subcommand)]
        act: tenant::KeyCommand,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Show providers and their health
    Provider {
        /// What to do.
        #[command(subcommand)]
        act: operate::ProviderCommand,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Add, remove and look up opt-outs
    #[command(after_help = suppress::EXAMPLES)]
    Suppress {
        /// What to do.
        #[command(subcommand)]
        act: suppress::Command,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Count jobs by what became of them
    Stats {
        /// Which.
        #[command(flatten)]
        range: operate::Range,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Show live what the processes do: lanes, providers, rates, outcomes, the slowest, tenants; needs no key
    #[command(after_help = top::EXAMPLES)]
    Top {
        /// Which processes, and how to show it.
        #[command(flatten)]
        options: top::Options,
    },
    /// Look at what was put aside as dead, and put it back to work
    #[command(after_help = operate::DEAD_EXAMPLES)]
    DeadLetter {
        /// What to do.
        #[command(subcommand)]
        act: operate::DeadCommand,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Move the virtual clock of `serve --clock virtual`
    Clock {
        /// What to do.
        #[command(subcommand)]
        act: operate::ClockCommand,
        /// Which service, and how to print.
        #[command(flatten)]
        options: Options,
    },
    /// Check and draw call flows; needs no service
    #[command(after_help = flow::EXAMPLES)]
    Flow {
        /// What to do.
        #[command(subcommand)]
        act: flow::Command,
    },
    /// Print shell completions, for example: postrider completions bash > /etc/bash_completion.d/postrider
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

/// Which service, as whom, and how to print.
#[derive(Args, Clone)]
pub struct Options {
    /// The service: http://host:port, or https://host:port for TLS
    #[arg(long, global = true, env = "POSTRIDER_ENDPOINT", default_value = "http://127.0.0.1:50051")]
    endpoint: String,
    /// The API key, pr_...; better in the environment than on the command line, where others can see it
    #[arg(
        long,
        global = true,
        env = "POSTRIDER_KEY",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    key: String,
    /// A PEM file with the CA that signed the service's certificate; without it, the public ones are trusted
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<std::path::PathBuf>,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

/// Runs a client command and returns the process's exit code: 0 done, 1 refused, 64 wrong command line, 69 no service.
///
/// `root` is the whole command, for completions.
pub fn run(command: Command, root: clap::Command) -> BoxFuture<'static, ExitCode> {
    Box::pin(carry_out(command, root))
}

async fn carry_out(command: Command, mut root: clap::Command) -> ExitCode {
    let (options, done) = match command {
        Command::Completions { shell } => {
            let name = root.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut root, name, &mut script);
            // A reader that has seen enough is no failure.
            let _closed = io::stdout().write_all(&script);
            return ExitCode::SUCCESS;
        }
        Command::Top { options } => {
            let json = options.json();
            return finished(top::run(options).await, json);
        }
        // A reader that has seen enough is no failure.
        Command::Flow { act } => return act.run().unwrap_or(ExitCode::SUCCESS),
        Command::Submit { what, options } => (options.clone(), with(&options, |to| what.run(to)).await),
        Command::Rehearse { what, each, options } => {
            (options.clone(), with(&options, |to| rehearse::run(what, each, to)).await)
        }
        Command::Job { act, options } => (options.clone(), with(&options, |to| act.run(to)).await),
        Command::Template { act, options } => (options.clone(), with(&options, |to| act.run(to)).await),
        Command::Tenant { act, options } => (options.clone(), with(&options, |to| act.run(to)).await),
        Command::Key { act, options } => (options.clone(), with(&options, |to| act.run(to)).await),
        Command::Provider { act, options } => (options.clone(), with(&options, |to| act.run(to)).await),
        Command::Suppress { act, options } => (options.clone(), with(&options, |to| act.run(to)).await),
        Command::Stats { range, options } => (options.clone(), with(&options, |to| range.run(to)).await),
        Command::DeadLetter { act, options } => (options.clone(), with(&options, |to| act.run(to)).await),
        Command::Clock { act, options } => (options.clone(), with(&options, |to| act.run(to)).await),
    };
    finished(done, options.json)
}

fn finished(done: Result<(), Failure>, json: bool) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has seen enough: `postrider job list | head`.
        Err(Failure::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => failed(&failure, json),
    }
}

/// Prints why a command line is wrong, or the help that it asks for, and returns the exit code.
pub fn usage(error: &clap::Error) -> ExitCode {
    // Nobody reads it: nobody is to be told.
    let _closed = error.print();
    if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS }
}

/// Where a command asks and prints.
struct To {
    service: Service,
    out: Output,
}

async fn with<F>(options: &Options, run: impl FnOnce(To) -> F) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>>,
{
    let service = Service::connect(&options.endpoint, &options.key, options.ca.as_deref()).await?;
    run(To { service, out: Output::new(options.json) }).await
}

fn failed(failure: &Failure, json: bool) -> ExitCode {
    let mut err = io::stderr();
    // Nobody reads it: nobody is to be told.
    let _closed = if json { writeln!(err, "{}", failure.to_json()) } else { writeln!(err, "error: {failure}") };
    ExitCode::from(match failure {
        Failure::Usage(_) => USAGE,
        Failure::Unreachable(..) | Failure::Output(_) => UNAVAILABLE,
        Failure::Refused(status) if status.code() == tonic::Code::Unavailable => UNAVAILABLE,
        Failure::Refused(_) | Failure::SomeRefused(_) | Failure::LinesRefused(_) => REFUSED,
    })
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Never the key.
        f.debug_struct("Options").field("endpoint", &self.endpoint).field("json", &self.json).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
