//! Measures the whole service: an open-loop generator, an SMPP sink, and an account that must balance.

mod sink;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "postrider-load", about = "Loads Postrider and checks that nothing is lost", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Takes everything that is sent to it over SMPP, and counts.
    Sink(sink::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // One thread: what the generator or the sink spends is visible as one process that never takes the whole machine.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error.to_string()),
    };
    let ended = runtime.block_on(async {
        match arguments.command {
            Command::Sink(options) => sink::run(options).await.map_err(|error| error.to_string()),
        }
    });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &str) -> ExitCode {
    eprintln!("postrider-load: {error}");
    ExitCode::FAILURE
}
