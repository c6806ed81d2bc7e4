//! Measures the whole service: an open-loop generator, an SMPP sink, and an account that must balance.

mod generator;
mod run;
mod scenario;
mod sink;
#[expect(dead_code, reason = "the tests use all of it")]
mod support;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::run::Verdict;

#[derive(Parser)]
#[command(name = "postrider-load", about = "Loads Postrider and checks that nothing is lost", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a scenario against a service of its own. Ends with 0 when the account balances and the targets are reached,
    /// with 2 when a target is missed, with 1 when the account does not balance or there is no result.
    Run(run::Options),
    /// Takes everything that is sent to it over SMPP, and counts.
    Sink(sink::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread, and one for each load: what the generator or the sink spends is visible as one process.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    let ended = runtime.block_on(async {
        match arguments.command {
            Command::Run(options) => run::run(options).await.map_err(|error| error.to_string()),
            Command::Sink(options) => match sink::run(options).await {
                Ok(()) => Ok(Verdict::Good),
                Err(error) => Err(error.to_string()),
            },
        }
    });
    match ended {
        Ok(Verdict::Good) => ExitCode::SUCCESS,
        Ok(Verdict::Slow) => ExitCode::from(2),
        Ok(Verdict::Broken) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    eprintln!("postrider-load: {error}");
    ExitCode::FAILURE
}
