//! The sink, as a child process that speaks JSON lines.

use std::net::SocketAddr;
use std::ops::Range;
use std::process::Stdio;

use postrider::domain::time::UnixMicros;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::scenario::Scenario;
use crate::sink::{Account, Lag, Said, Stats};

/// A running sink; it ends when this is dropped.
pub(crate) struct Sink {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Sink {
    /// Starts a sink that behaves and watches as the scenario says.
    pub(crate) async fn start(scenario: &Scenario) -> std::io::Result<Self> {
        let sink = &scenario.sink;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["sink", "--listen", "127.0.0.1:0"]);
        command.args(["--answer-delay", &humantime::format_duration(sink.answer_delay).to_string()]);
        command.args(["--receipt-delay", &humantime::format_duration(sink.receipt_delay).to_string()]);
        command.args(["--throttle-every", &sink.throttle_every.to_string()]);
        command.args(["--silent-every", &sink.silent_every.to_string()]);
        command.args(["--away-after", &humantime::format_duration(sink.away_after).to_string()]);
        command.args(["--away-for", &humantime::format_duration(sink.away_for).to_string()]);
        if sink.receipts {
            command.arg("--receipts");
        }
        for cap in &scenario.caps {
            command.args(["--cap", &format!("{}/{}s", cap.limit, cap.window.as_secs())]);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let missing = || std::io::Error::other("the sink has no pipes");
        let input = child.stdin.take().ok_or_else(missing)?;
        let mut output = BufReader::new(child.stdout.take().ok_or_else(missing)?).lines();
        match next(&mut output).await? {
            Said::Listening(address) => Ok(Self { child, input, output, address }),
            said => Err(unexpected(&said)),
        }
    }

    /// Returns its process id.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Returns how it stands.
    pub(crate) async fn stats(&mut self) -> std::io::Result<Stats> {
        match self.ask("stats\n").await? {
            Said::Stats(stats) => Ok(stats),
            said => Err(unexpected(&said)),
        }
    }

    /// Returns its side of the account.
    pub(crate) async fn account(&mut self) -> std::io::Result<Account> {
        match self.ask("account\n").await? {
            Said::Account(account) => Ok(account),
            said => Err(unexpected(&said)),
        }
    }

    /// Returns how long messages took, by load and second.
    pub(crate) async fn lags(&mut self) -> std::io::Result<Vec<Lag>> {
        self.ask_lags("lags\n").await
    }

    /// Returns how long messages took that were due in any of some stretches, at least one, in seconds; by load.
    pub(crate) async fn lags_within(&mut self, stretches: &[Range<i64>]) -> std::io::Result<Vec<Lag>> {
        let said: String = stretches.iter().map(|stretch| format!(" {} {}", stretch.start, stretch.end)).collect();
        self.ask_lags(&format!("lags{said}\n")).await
    }

    /// Returns when the last message of a load came.
    pub(crate) async fn last(&mut self, load: usize) -> std::io::Result<Option<UnixMicros>> {
        match self.ask(&format!("last {load}\n")).await? {
            Said::Last(last) => Ok(last.map(UnixMicros)),
            said => Err(unexpected(&said)),
        }
    }

    async fn ask_lags(&mut self, question: &str) -> std::io::Result<Vec<Lag>> {
        match self.ask(question).await? {
            Said::Lags(lags) => Ok(lags),
            said => Err(unexpected(&said)),
        }
    }

    async fn ask(&mut self, question: &str) -> std::io::Result<Said> {
        self.input.write_all(question.as_bytes()).await?;
        next(&mut self.output).await
    }
}

async fn next(output: &mut Lines<BufReader<ChildStdout>>) -> std::io::Result<Said> {
    let line = output.next_line().await?.ok_or_else(|| std::io::Error::other("the sink ended"))?;
    serde_json::from_str(&line).map_err(std::io::Error::other)
}

fn unexpected(said: &Said) -> std::io::Error {
    std::io::Error::other(format!("the sink said something else: {said:?}"))
}
