//! A fast SMSC that takes everything: a process of its own, so that what the service spends is its own.
//!
//! Every connection is read and answered in batches. With `--log`, what is taken is on disk before it is answered. It
//! speaks JSON lines: the address first, then `stats`, `account`, `lags` and `last` on request; it ends with its standard input.

mod lags;
mod session;
mod tally;

use std::cell::RefCell;
use std::convert::Infallible;
use std::fs::File;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use postrider::domain::time::Clock;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;

pub(crate) use self::lags::Lag;
pub(crate) use self::tally::{Account, Stats};
use self::tally::{Tally, Watch};

/// How the sink behaves.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// Where it listens; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:2775")]
    pub(crate) listen: SocketAddr,
    /// Answers this much later.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub(crate) answer_delay: Duration,
    /// Sends a receipt for what asks for one.
    #[arg(long)]
    pub(crate) receipts: bool,
    /// Sends receipts this long after the answer.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub(crate) receipt_delay: Duration,
    /// Refuses every Nth message as too fast; 0: none.
    #[arg(long, default_value_t = 0)]
    pub(crate) throttle_every: u64,
    /// Refuses what comes faster than this per second; 0: nothing.
    #[arg(long, default_value_t = 0)]
    pub(crate) rate: u32,
    /// Takes every Nth message and never answers it; 0: none.
    #[arg(long, default_value_t = 0)]
    pub(crate) silent_every: u64,
    /// Is away from then on, counted from its start: connections end, and none is taken.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub(crate) away_after: Duration,
    /// Is away for this long; 0s: never.
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub(crate) away_for: Duration,
    /// Writes time, sender, number and text of each message to this file, synced before it is answered.
    #[arg(long)]
    pub(crate) log: Option<PathBuf>,
    /// Watches over a cap, such as 3/24h: more messages to a number are counted.
    #[arg(long, value_parser = watch)]
    pub(crate) cap: Vec<Watch>,
}

/// What the sink says, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Said {
    /// It listens.
    Listening(SocketAddr),
    /// How it stands.
    Stats(Stats),
    /// Its side of the account.
    Account(Account),
    /// How long messages took, by load, in each second or over a stretch.
    Lags(Vec<Lag>),
    /// When the last message of a load came, in microseconds since 1970.
    Last(Option<i64>),
}

/// What all sessions share. One thread: no locks.
struct Shared {
    options: Options,
    clock: Clock,
    tally: Tally,
    log: Option<File>,
    next_id: u64,
    /// Messages that may be taken now, and when that was counted.
    allowance: (f64, i64),
    /// Ends the sessions; cancelled while it is away.
    away: CancellationToken,
}

/// Runs the sink until its standard input ends.
pub(crate) async fn run(options: Options) -> std::io::Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let log = options.log.as_ref().map(|path| File::options().create(true).append(true).open(path)).transpose()?;
    say(&Said::Listening(listener.local_addr()?));
    let clock = Clock::system();
    let allowance = (f64::from(options.rate), clock.now().0);
    let (tally, away) = (Tally::default(), CancellationToken::new());
    let shared = Rc::new(RefCell::new(Shared { options, clock, tally, log, next_id: 1, allowance, away }));
    let sessions = LocalSet::new();
    sessions
        .run_until(async {
            tokio::select! {
                ended = accept(&listener, &shared) => ended,
                ended = answer(&shared) => ended,
                never = go_away(&shared) => match never {},
            }
        })
        .await
}

async fn accept(listener: &TcpListener, shared: &Rc<RefCell<Shared>>) -> std::io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let away = shared.borrow().away.clone();
        if away.is_cancelled() {
            continue;
        }
        let shared = Rc::clone(shared);
        tokio::task::spawn_local(async move {
            // A client that vanishes is its own business.
            let _gone = away.run_until_cancelled(session::run(stream, shared)).await;
        });
    }
}

/// Is away for as long as it is told to be, once.
async fn go_away(shared: &Rc<RefCell<Shared>>) -> Infallible {
    let (clock, options) = (shared.borrow().clock.clone(), shared.borrow().options.clone());
    if !options.away_for.is_zero() {
        clock.sleep(options.away_after).await;
        shared.borrow().away.cancel();
        clock.sleep(options.away_for).await;
        shared.borrow_mut().away = CancellationToken::new();
    }
    std::future::pending().await
}

/// Answers what is asked on the standard input, until that ends.
async fn answer(shared: &Rc<RefCell<Shared>>) -> std::io::Result<()> {
    let (asked, mut questions) = mpsc::channel(1);
    std::thread::spawn(move || {
        let mut lines = std::io::stdin().lines();
        while let Some(Ok(line)) = lines.next() {
            if asked.blocking_send(line).is_err() {
                break;
            }
        }
    });
    while let Some(line) = questions.recv().await {
        let mut shared = shared.borrow_mut();
        let caps = shared.options.cap.clone();
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |word: &str| word.parse::<i64>().unwrap_or_default();
        match words[..] {
            ["account"] => say(&Said::Account(shared.tally.account(&caps))),
            ["lags"] => say(&Said::Lags(shared.tally.lags.by_second())),
            ["lags", ref seconds @ ..] => {
                let stretches = seconds.as_chunks().0.iter().map(|[from, to]| number(from)..number(to));
                say(&Said::Lags(shared.tally.lags.within(&stretches.collect::<Vec<_>>())));
            }
            ["last", load] => say(&Said::Last(shared.tally.lags.last(load.parse().unwrap_or_default()))),
            _ => say(&Said::Stats(shared.tally.stats)),
        }
    }
    Ok(())
}

fn say(said: &Said) {
    if let Ok(line) = serde_json::to_string(said) {
        println!("{line}");
    }
}

fn watch(raw: &str) -> Result<Watch, String> {
    let shape = || "a cap reads like 3/24h".to_owned();
    let (limit, window) = raw.split_once('/').ok_or_else(shape)?;
    let limit = limit.parse().map_err(|_| shape())?;
    Ok(Watch { limit, window: humantime::parse_duration(window).map_err(|_| shape())? })
}
