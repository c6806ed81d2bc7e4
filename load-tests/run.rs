//! Runs a scenario: sink, service and generator as three processes, then the account.

mod account;
mod calls;
mod lags;
mod peer;
mod plot;
mod processes;
mod report;
mod scrape;
mod service;
mod tenant;
mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::shutdown::Tasks;
use postrider::telemetry::metrics as names;

use self::account::Account;
use self::calls::{Calls, Lines};
use self::lags::{Cancelled, Lags};
use self::peer::Sink;
use self::processes::Watched;
use self::report::Report;
use self::scrape::Metrics;
use self::service::Service;
use self::tenant::Tenant;
use self::watch::Watch;
use crate::generator::{self, LoadCounts, Running, Schedule};
use crate::scenario::{Backends, Load, Scenario, ScenarioError};

/// How a scenario is run.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct Options {
    /// The scenario, such as load-tests/scenarios/smoke.toml.
    file: PathBuf,
    /// Writes the result here, and its plots beside it, as SVG.
    #[arg(long)]
    json: Option<PathBuf>,
    /// The service's program; the one beside this program where none is named.
    #[arg(long)]
    postrider: Option<PathBuf>,
    /// Where the service's data is kept while it runs.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// RabbitMQ, for production backends; a private one where none is named.
    #[arg(long, env = "POSTRIDER_QUEUE_URL", hide_env_values = true)]
    queue_url: Option<String>,
    /// Redis, likewise.
    #[arg(long, env = "POSTRIDER_LIMITS_URL", hide_env_values = true)]
    limits_url: Option<String>,
    /// PostgreSQL, likewise.
    #[arg(long, env = "POSTRIDER_LEDGER_URL", hide_env_values = true)]
    ledger_url: Option<String>,
    /// An operator's key, where the ledger has a tenant already.
    #[arg(long, env = "POSTRIDER_KEY", hide_env_values = true)]
    key: Option<String>,
    /// Runs the scenario on these backends instead of its own.
    #[arg(long)]
    backends: Option<Backends>,
    /// Measures for this long instead.
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Multiplies every rate and number of jobs.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The account balances and the targets are reached.
    Good,
    /// The account balances, a target is missed.
    Slow,
    /// The account does not balance.
    Broken,
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    #[error("{0}")]
    Rules(String),
    #[error("{}: no such program; build it with cargo build --release", path.display())]
    NoProgram { path: PathBuf },
    #[error("the service did not start; it said:\n{output}")]
    NoService { output: String },
    #[error("the service refused to be set up: {0}")]
    SetUp(Box<tonic::Status>),
    #[error("cannot connect to the service: {0}")]
    Connect(#[from] tonic::transport::Error),
    #[error("a load was not carried through")]
    Unfinished,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Time between connecting and the first call.
const LEAD: Duration = Duration::from_millis(300);

/// Runs the scenario and prints the result.
pub(crate) async fn run(options: Options) -> Result<Verdict, RunError> {
    let scenario = options.scenario()?;
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let mut sink = Sink::start(&scenario).await?;
    let service = Service::start(&options, &scenario, sink.address, &tasks).await?;
    let tenants = Tenant::create_all(&service, &scenario).await?;

    let begin = clock.now().plus(LEAD);
    let measure = begin.plus(scenario.warmup);
    let schedule = Schedule { begin, measure, end: measure.plus(scenario.duration) };
    let (mut counts, mut loads) = (vec![], vec![]);
    for (index, load) in scenario.loads.iter().enumerate() {
        let running = generator::start(load, index, of(&tenants, load).target(), schedule)?;
        counts.push(Arc::clone(&running.counts));
        loads.push(running);
    }
    let cancels = cancel(&scenario, &tenants, begin, &tasks);
    let lines = scenario.trunk.is_some().then(|| Lines::watch(service.metrics, schedule, &tasks));
    let mut watch = Watch::new(schedule, &counts, service.metrics, watched(&scenario, &service, &sink));
    watch.follow(&mut sink).await?;
    // A load that cannot be made ends the run at once.
    let ended = async |load: Running| Ok::<_, RunError>(load.ended.await.map_err(|_| RunError::Unfinished)??);
    try_join_all(loads.into_iter().map(ended)).await?;
    let cancelled = cancels.await?;
    let settled = settle(&scenario, &tenants, &service, &counts, (&mut watch, &mut sink)).await?;
    let account = account(&scenario, &counts, settled.clone(), &mut sink).await?;
    let lags = Lags::read(&scenario, schedule, cancelled, (&mut sink, &watch.disturbed())).await?;
    let of = |(trunk, lines)| Calls::new(trunk, lines, &watch, scenario.duration.as_secs_f64());
    let calls = scenario.trunk.as_ref().zip(lines.as_ref()).map(of);
    let report = Report::new(&scenario, &counts, &watch, settled.drain, (account, lags, calls));
    let said = service.tail();
    let stopped = service.stop().await?;
    report.print(stopped);
    if report.verdict(stopped) == Verdict::Broken {
        println!("The service said:\n{said}");
    }
    if let Some(path) = &options.json {
        std::fs::write(path, report.json())?;
        std::fs::write(path.with_extension("svg"), report.svg(&scenario, measure.as_secs()))?;
    }
    Ok(report.verdict(stopped))
}

/// How the service stood when nothing moved any more.
#[derive(Clone, Debug)]
struct Settled {
    ledger: account::Ledger,
    waiting: u64,
    /// From the end of the load until every outcome was in the ledger; `None`: not within the time allowed.
    drain: Option<Duration>,
}

/// Waits until everything accepted has its outcome or waits in the agenda.
async fn settle(
    scenario: &Scenario,
    tenants: &[Tenant],
    service: &Service,
    counts: &[Arc<LoadCounts>],
    (watch, sink): (&mut Watch, &mut Sink),
) -> Result<Settled, RunError> {
    const PAUSE: Duration = Duration::from_millis(200);
    const STILL_FOR: Duration = Duration::from_secs(5);
    let clock = Clock::system();
    let accepted: u64 = counts.iter().map(|counts| counts.read().accepted).sum();
    let give_up: UnixMicros = clock.now().plus(scenario.settle_max);
    // A backlog that drains may balance for a moment: what waits is counted now and then.
    let mut still: Option<((u64, u64), UnixMicros)> = None;
    loop {
        let asked_at = clock.now();
        let mut ledger = account::Ledger::default();
        for tenant in tenants {
            let stats = tenant.stats().await.map_err(|status| RunError::SetUp(Box::new(status)))?;
            ledger.add(&stats, scenario.trunk.is_some());
        }
        let metrics = Metrics::scrape(service.metrics).await?;
        // Of phone calls, their checks wait in the agenda as well; each is tried once, so none waits in the end.
        let waiting = if scenario.trunk.is_some() { 0 } else { metrics.sum(names::AGENDA_DEPTH) as u64 };
        let (balances, stands) =
            (ledger.accepted >= accepted && ledger.accepted == ledger.settled + waiting, (ledger.settled, waiting));
        still = balances.then(|| still.filter(|(stood, _)| *stood == stands).unwrap_or((stands, asked_at)));
        let done = still.filter(|(_, since)| asked_at.since(*since) >= STILL_FOR);
        if done.is_some() || clock.now() > give_up {
            watch.finish(metrics);
            return Ok(Settled { ledger, waiting, drain: done.map(|(_, since)| since.since(watch.end())) });
        }
        watch.settling(&ledger, waiting, sink).await?;
        clock.pause(PAUSE).await;
    }
}

async fn account(
    scenario: &Scenario,
    counts: &[Arc<LoadCounts>],
    settled: Settled,
    sink: &mut Sink,
) -> Result<Account, RunError> {
    let counts: Vec<_> = counts.iter().map(|counts| counts.read()).collect();
    Ok(Account {
        attempted: counts.iter().map(|counts| counts.attempted).sum(),
        accepted: counts.iter().map(|counts| counts.accepted).sum(),
        refused: counts.iter().map(generator::Counts::refused_sum).sum(),
        unknown: counts.iter().map(|counts| counts.unknown).sum(),
        ledger: settled.ledger,
        waiting: settled.waiting,
        sink: sink.account().await?,
        all_answered: scenario.sink.silent_every == 0 && scenario.sink.away_for.is_zero(),
    })
}

/// Returns the tenant of a load.
fn of<'a>(tenants: &'a [Tenant], load: &Load) -> &'a Tenant {
    tenants.iter().find(|tenant| tenant.name == load.tenant).unwrap_or(&tenants[0])
}

/// Cancels campaigns when it is time; ends with what came of it.
fn cancel(
    scenario: &Scenario,
    tenants: &[Tenant],
    begin: UnixMicros,
    tasks: &Tasks,
) -> impl Future<Output = Result<Vec<Cancelled>, RunError>> + use<> {
    let mut calls = vec![];
    for cancel in &scenario.cancels {
        let load = cancel.load.clone();
        let tenant = of(tenants, &scenario.loads[scenario.load(&load)]).clone();
        let (at, (told, answer)) = (begin.plus(cancel.at), tokio::sync::oneshot::channel());
        tasks.spawn("cancel", async move {
            let clock = Clock::system();
            clock.sleep_until(at).await;
            let done = tenant.cancel(&load).await;
            let answered_at = clock.now();
            let call_s = answered_at.since(at).as_secs_f64();
            let _gone = told.send(done.map(|()| Cancelled { load, call_s, effective_s: 0.0, answered_at }));
        });
        calls.push(answer);
    }
    async move {
        let mut cancelled = vec![];
        for call in calls {
            let done = call.await.map_err(|_| RunError::Rules("a cancellation was not made".into()))?;
            cancelled.push(done.map_err(|status| RunError::SetUp(Box::new(status)))?);
        }
        Ok(cancelled)
    }
}

fn watched(scenario: &Scenario, service: &Service, sink: &Sink) -> Watched {
    let ids = [("postrider", service.id()), ("sink", sink.id()), ("generator", Some(std::process::id()))];
    let names: &[&str] = match scenario.backends {
        Backends::Embedded => &[],
        Backends::Production => &["beam.smp", "redis-server", "postgres"],
    };
    Watched { ids: ids.into_iter().filter_map(|(name, id)| Some((name, id?))).collect(), names }
}

impl Options {
    fn scenario(&self) -> Result<Scenario, RunError> {
        let mut scenario = Scenario::read(&self.file)?;
        scenario.backends = self.backends.unwrap_or(scenario.backends);
        scenario.duration = self.duration.unwrap_or(scenario.duration);
        for load in &mut scenario.loads {
            load.rate = ((f64::from(load.rate) * self.scale).round() as u32).max(1);
            load.jobs = (load.jobs as f64 * self.scale).round() as u64;
        }
        for tenant in &mut scenario.tenants {
            tenant.rate = (f64::from(tenant.rate) * self.scale).round() as u32;
        }
        Ok(scenario)
    }
}
