//! `postrider top`: what the processes of a service do, live, read from where Prometheus scrapes them.

mod board;
mod change;
mod keys;
mod sample;
mod scrape;
mod view;

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use crossterm::event::{Event, EventStream};
use futures_util::StreamExt as _;
use ratatui::DefaultTerminal;

use self::board::{Board, Cell};
use self::change::Change;
use self::keys::{Chosen, Then};
use self::scrape::{Endpoint, Sweep};
use self::view::Scene;
use super::connect::Failure;
use super::print;
use crate::domain::time::{Clock, Stopwatch};

pub(super) const EXAMPLES: &str = "Examples:
  postrider top                                     one process, on this machine
  postrider top --metrics 10.0.0.1:9464,10.0.0.2:9464   several, summed up
  postrider top --once                              the tables, once, as text
  postrider top --once --json | jq .providers       the same for scripts
  postrider top --json --every 10s >> log           an object a line, until it is stopped

Keys: tab or 1-7 another view, s sort, o the other way round, p pause, ? all of them, q quit.
Rates are those of the last interval; quantiles those of the last minute, with --once those since the processes started.
Exit code 69: none of the processes answers (is metrics.listen set, and reachable from here?).";

/// Quantiles are of what fell into this time.
const LONGER: Duration = Duration::from_secs(60);
/// Most looks that are kept, and with them the width of the line of accepted jobs.
const LOOKS_MAX: usize = 240;

/// Which processes, how often, and how to show it.
#[derive(Args, Debug)]
pub struct Options {
    /// Where processes show their metrics (`metrics.listen`), as HOST:PORT; several, separated by commas, are summed up
    #[arg(long, env = "POSTRIDER_METRICS", value_delimiter = ',', default_value = "127.0.0.1:9464")]
    metrics: Vec<Endpoint>,
    /// How often to look
    #[arg(long, value_parser = humantime::parse_duration, default_value = "2s")]
    every: Duration,
    /// Look twice, this far apart for the rates, print, and end
    #[arg(long)]
    once: bool,
    /// Print JSON, one object a line
    #[arg(long)]
    json: bool,
}

impl Options {
    /// Returns whether it prints JSON.
    pub(super) fn json(&self) -> bool {
        self.json
    }
}

/// The looks of the last minute, the newest last, each with when it was.
struct Looks {
    watch: Stopwatch,
    kept: VecDeque<(Duration, Sweep)>,
    /// Jobs accepted per second, for the line.
    accepted: VecDeque<u64>,
}

/// Shows it until the person at the keys, or a signal, ends it.
pub(super) async fn run(options: Options) -> Result<(), Failure> {
    let clock = Clock::system();
    if options.once {
        once(&options, &clock).await
    } else if options.json {
        stream(&options, &clock).await
    } else if io::stdout().is_terminal() {
        let mut terminal = ratatui::try_init()?;
        let ended = live(&options, &clock, &mut terminal).await;
        ratatui::try_restore()?;
        ended
    } else {
        Err(Failure::Usage("this is no terminal: use --once, or --json".into()))
    }
}

async fn once(options: &Options, clock: &Clock) -> Result<(), Failure> {
    let mut looks = Looks::new(clock);
    looks.look(&options.metrics, clock).await;
    clock.pause(options.every).await;
    looks.look(&options.metrics, clock).await;
    let board = looks.board(None);
    answered(&board, options)?;
    if options.json { line(&board) } else { text(&board) }.map_err(Failure::Output)
}

async fn stream(options: &Options, clock: &Clock) -> Result<(), Failure> {
    let mut looks = Looks::new(clock);
    loop {
        looks.look(&options.metrics, clock).await;
        line(&looks.board(looks.longest()))?;
        clock.pause(options.every).await;
    }
}

async fn live(options: &Options, clock: &Clock, terminal: &mut DefaultTerminal) -> Result<(), Failure> {
    let (mut looks, mut chosen, mut events) = (Looks::new(clock), Chosen::new(options.every), EventStream::new());
    looks.look(&options.metrics, clock).await;
    let mut looked = clock.stopwatch();
    loop {
        let board = looks.board(looks.longest());
        let scene = Scene {
            board: &board,
            chosen: &chosen,
            accepted: looks.accepted.make_contiguous(),
            processes: options.metrics.len(),
        };
        terminal.draw(|frame| view::draw(frame, &scene))?;
        let rest = if chosen.paused { Duration::MAX } else { chosen.interval.saturating_sub(looked.elapsed()) };
        let then = tokio::select! {
            event = events.next() => match event {
                Some(Ok(Event::Key(key))) => chosen.press(key, &board),
                Some(Ok(_)) => Then::Go,
                // The terminal is gone.
                Some(Err(_)) | None => Then::Quit,
            },
            () = clock.pause(rest) => Then::Look,
        };
        match then {
            Then::Quit => return Ok(()),
            Then::Go => {}
            Then::Look => {
                looks.look(&options.metrics, clock).await;
                looked = clock.stopwatch();
            }
        }
    }
}

/// Says what to do where nobody answers.
fn answered(board: &Board, options: &Options) -> Result<(), Failure> {
    match board.away.first() {
        Some((at, why)) if board.away.len() == options.metrics.len() => {
            let why = format!("{why}; is it running, and does its metrics.listen say so?");
            Err(Failure::Unreachable(format!("metrics on {at}"), why))
        }
        _ => Ok(()),
    }
}

fn line(board: &Board) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", board.to_json())?;
    out.flush()
}

fn text(board: &Board) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, cell) in &board.figures {
        writeln!(out, "{:<18} {cell}", name.replace('_', " "))?;
    }
    for table in &board.tables {
        let mut table = table.clone();
        table.sort(table.sorted_by, false);
        let row = |row: &Vec<Cell>| {
            let cells = table.columns.iter().zip(row).map(|(name, cell)| ((*name).to_owned(), cell.to_string().into()));
            serde_json::Value::Object(cells.collect())
        };
        let rows: Vec<_> = table.rows.iter().map(row).collect();
        writeln!(out, "\n{}\n{}", table.name, print::table(table.columns, &rows))?;
    }
    board.away.iter().try_for_each(|(at, why)| writeln!(out, "\n{at} is away: {why}"))
}

impl Looks {
    fn new(clock: &Clock) -> Self {
        Self { watch: clock.stopwatch(), kept: VecDeque::new(), accepted: VecDeque::new() }
    }

    /// Looks at every process.
    async fn look(&mut self, endpoints: &[Endpoint], clock: &Clock) {
        let sweep = scrape::sweep(endpoints, clock).await;
        let now = self.watch.elapsed();
        self.kept.push_back((now, sweep));
        // One that is a minute old is what the last minute is measured from.
        while self.kept.get(1).is_some_and(|(at, _)| now.saturating_sub(*at) >= LONGER) || self.kept.len() > LOOKS_MAX {
            self.kept.pop_front();
        }
        let rate = self.board(None).figure("accepted").and_then(Cell::number).unwrap_or_default();
        self.accepted.push_back(rate.round() as u64);
        if self.accepted.len() > LOOKS_MAX {
            self.accepted.pop_front();
        }
    }

    /// Returns the oldest look, if it is not the newest, too.
    fn longest(&self) -> Option<&(Duration, Sweep)> {
        self.kept.front().filter(|_| self.kept.len() > 1)
    }

    /// Makes the board of the newest look, with quantiles `since` another, or since the processes started.
    fn board(&self, since: Option<&(Duration, Sweep)>) -> Board {
        let nothing = (Duration::ZERO, Sweep { processes: vec![] });
        let newest = self.kept.back().unwrap_or(&nothing);
        let before = self.kept.len().checked_sub(2).and_then(|place| self.kept.get(place));
        board::board(change(before, newest), change(since, newest), &newest.1)
    }
}

/// Returns what changed from one look to another.
fn change<'a>(from: Option<&'a (Duration, Sweep)>, (at, now): &'a (Duration, Sweep)) -> Change<'a> {
    let elapsed = from.map_or(Duration::ZERO, |(then, _)| at.saturating_sub(*then));
    Change::new(from.map(|(_, sweep)| sweep), now, elapsed)
}
