//! The composition root: settings → backends → parts → a running service, and its orderly end.

mod backends;
mod binds;
mod books;
mod calendars;
mod certificate;
mod doctor;
mod error;
mod first_start;
mod follow_ups;
mod front;
mod house;
mod providers;
mod receive;
mod running;
mod vault;

use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, watch};

use crate::admission::{self, Admission};
use crate::agenda;
use crate::api::ProviderEntry;
use crate::channel::Inbound;
use crate::config::{Role, Settings};
use crate::dispatch;
use crate::domain::event::Fact;
use crate::domain::job::{Check, Envelope};
use crate::domain::time::Clock;
use crate::ledger::{AnyLedger, Directory, Templates};
use crate::limits::AnyLimits;
use crate::limits::measured::Measured;
use crate::limits::pacer::Pacer;
use crate::policy::extensions::Extensions;
use crate::policy::routes::Routes;
use crate::policy::windows::Windows;
use crate::queue::depths::Depths;
use crate::queue::outbox::Outbox;
use crate::queue::{AnyQueue, Queue};
use crate::receipt::Senders;
use crate::record::{self, Consents, Losses, Record};
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use crate::telemetry::exporter::Exporter;
use crate::telemetry::metrics::{self, AgendaMetrics, DispatchMetrics, Key};
use crate::telemetry::traces::{self, Traces};

use self::backends::Backends;
use self::binds::Node;
pub use self::doctor::{Logins, examine};
pub use self::error::StartError;
pub use self::first_start::FirstKey;
use self::follow_ups::FollowUps;
use self::running::Addresses;
pub use self::running::Running;

/// Reports of providers that wait to be made durable; more wait at the providers.
const INBOX_MAX: usize = 4 * 1024;

/// The groups of tasks, in the order in which they are stopped: each needs only those after it.
#[derive(Clone, Debug, Default)]
struct Groups {
    /// gRPC.
    front: Tasks,
    /// Lanes and the agenda.
    work: Tasks,
    /// Providers.
    channels: Tasks,
    /// What providers call back with.
    callbacks: Tasks,
    /// What providers report.
    receive: Tasks,
    /// Frames and facts to the ledger.
    record: Tasks,
    /// Publishing.
    publish: Tasks,
    /// Backends, caches, metrics.
    backends: Tasks,
}

/// The limits that all parts ask.
type SharedLimits = Measured<AnyLimits>;

/// What every part may use.
struct Base {
    settings: Settings,
    clock: Clock,
    groups: Groups,
    sealer: Sealer,
    queue: AnyQueue,
    limits: SharedLimits,
    ledger: AnyLedger,
    directory: Directory,
    templates: Templates,
    routes: Arc<Routes>,
    extensions: Arc<Extensions>,
    windows: Arc<Windows>,
    pacer: Pacer<SharedLimits>,
    depths: Depths,
    envelopes: Outbox<AnyQueue, Envelope>,
    checks: Outbox<AnyQueue, Check>,
    facts: Outbox<AnyQueue, Fact>,
    /// The last number in the ledger that a recorder of this process has committed.
    committed: watch::Sender<i64>,
    /// Who wrote to whom lately.
    senders: Senders,
    /// This node among the others.
    node: Node,
    /// The calls that ask what to say.
    switchboards: providers::Switchboards,
}

/// Connects the backends and starts the parts that the settings name.
///
/// Boxed, so that the service is compiled here, once, and not again in every program that starts it.
///
/// # Errors
/// [`StartError`]: what could not be had, and the way out. Nothing is left running.
pub fn start(settings: Settings, clock: Clock, exporter: &Exporter) -> BoxFuture<'_, Result<Running, StartError>> {
    Box::pin(async move {
        let groups = Groups::default();
        let started = start_parts(settings, clock.clone(), exporter, &groups).await;
        if started.is_err() {
            groups.stop(&clock, std::time::Duration::from_secs(5)).await;
        }
        started
    })
}

async fn start_parts(
    settings: Settings,
    clock: Clock,
    exporter: &Exporter,
    groups: &Groups,
) -> Result<Running, StartError> {
    let metrics = match settings.metrics_listen {
        Some(listen) => {
            let bind = |error| StartError::Listen { what: "metrics.listen", listen, error };
            Some(exporter.bind(listen).await.map_err(bind)?)
        }
        None => None,
    };
    let traces = traces(&settings)?;
    let base = base(settings, clock, groups).await?;
    let first_key = match base.settings.runs(Role::Front) {
        true => first_start::tenant(&base).await?,
        false => None,
    };
    base.queue.declare(&base.routes.lanes()).await?;
    if base.settings.runs(Role::Record) {
        base.record();
    }
    let (providers, callbacks) = base.work_and_receive().await?;
    if base.settings.runs(Role::Feed) {
        base.feed().await?;
    }
    let front = match base.settings.runs(Role::Front) {
        true => Some(base.front(providers).await?),
        false => None,
    };
    exporter.keep_up(&base.clock, &base.groups.backends);
    let metrics_address = metrics.as_ref().and_then(|listener| listener.address().ok());
    if let Some(listener) = metrics {
        listener.spawn(&base.clock, &base.groups.backends);
    }
    Ok(Running::new((base, traces), front, Addresses { metrics: metrics_address, callbacks }, first_key))
}

/// Begins to send spans, if they are to go anywhere.
fn traces(settings: &Settings) -> Result<Option<Traces>, StartError> {
    let Some(set) = &settings.traces else { return Ok(None) };
    let roles = settings.roles.iter().map(|role| role.as_str()).collect::<Vec<_>>().join(",");
    Ok(Some(traces::start(&set.endpoint, set.sample, &roles)?))
}

async fn base(settings: Settings, clock: Clock, groups: &Groups) -> Result<Base, StartError> {
    std::fs::create_dir_all(&settings.data_dir)
        .map_err(|error| StartError::DataDir { path: settings.data_dir.clone(), error })?;
    let sealer = Sealer::open_or_create(&settings.key_file, clock.now())?;
    metrics::key_expires(Key::Seal, sealer.use_until());
    let Backends { queue, limits, ledger } = backends::open(&settings, &groups.backends, &clock).await?;
    let limits = Measured::new(limits, clock.clone());
    let directory = Directory::load(&ledger).await?;
    directory.keep_fresh(ledger.clone(), &groups.backends, clock.clone());
    let templates = Templates::load(&ledger, sealer.clone()).await?;
    templates.keep_fresh(ledger.clone(), &groups.backends, clock.clone());
    let routes = Arc::new(Routes::new(&providers::members(&settings)));
    house::watch(&settings, (&directory, &routes), &groups.backends, &clock);
    let extensions = Arc::new(Extensions::new(&settings.extensions));
    let windows = Arc::new(Windows::new(settings.windows.rules.clone(), settings.windows.calendars.clone()));
    calendars::watch(&windows, &directory, &groups.backends, &clock);
    Ok(Base {
        pacer: Pacer::new(limits.clone(), clock.clone()),
        depths: Depths::watch(queue.clone(), routes.lanes(), clock.clone(), &groups.publish),
        envelopes: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), groups.publish.clone()),
        checks: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), groups.publish.clone()),
        facts: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), groups.publish.clone()),
        committed: watch::Sender::new(0),
        senders: Senders::new(),
        node: Node::of(&settings.data_dir),
        switchboards: providers::switchboards(&settings),
        groups: groups.clone(),
        settings,
        clock,
        sealer,
        queue,
        limits,
        ledger,
        directory,
        templates,
        routes,
        extensions,
        windows,
    })
}

impl Base {
    fn record(&self) {
        let settings =
            record::Settings { receipt_deadline: self.settings.receipt_deadline, ..record::Settings::default() };
        let pen = Record {
            queue: self.queue.clone(),
            limits: self.limits.clone(),
            follow_ups: Arc::new(FollowUps::new(self)),
            ledger: self.ledger.clone(),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            tasks: self.groups.record.clone(),
            settings,
            committed: self.committed.clone(),
        }
        .spawn();
        Losses {
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            directory: self.directory.clone(),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            tasks: self.groups.record.clone(),
            committed: self.committed.subscribe(),
            pen: pen.clone(),
        }
        .spawn();
        Consents {
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            counted: providers::counted(&self.settings),
            sealer: self.sealer.clone(),
            clock: self.clock.clone(),
            tasks: self.groups.record.clone(),
            committed: self.committed.subscribe(),
            pen,
        }
        .spawn();
    }

    /// Starts dispatch and callbacks, as far as they run here, and what takes their reports.
    async fn work_and_receive(&self) -> Result<(Vec<ProviderEntry>, Option<SocketAddr>), StartError> {
        let callbacks = self.settings.runs(Role::Receive) && self.settings.takes_callbacks();
        if !callbacks && !self.settings.runs(Role::Dispatch) {
            return Ok((providers::listed(&self.settings), None));
        }
        let (inbox, reports) = mpsc::channel::<Inbound>(INBOX_MAX);
        self.receive(reports);
        let callbacks = if callbacks { Some(self.callbacks(inbox.clone()).await?) } else { None };
        let providers = if self.settings.runs(Role::Dispatch) {
            self.dispatch(&inbox).await?
        } else {
            providers::listed(&self.settings)
        };
        Ok((providers, callbacks))
    }

    async fn dispatch(&self, inbox: &mpsc::Sender<Inbound>) -> Result<Vec<ProviderEntry>, StartError> {
        let providers::Started { gates, entries } = providers::start(self, inbox)?;
        let context = dispatch::Context {
            queue: self.queue.clone(),
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            directory: self.directory.clone(),
            templates: self.templates.clone(),
            extensions: Arc::clone(&self.extensions),
            windows: Arc::clone(&self.windows),
            sealer: self.sealer.clone(),
            lives: self.settings.expires_after,
            clock: self.clock.clone(),
            tasks: self.groups.work.clone(),
            gates,
            pacer: self.pacer.clone(),
            facts: self.facts.clone(),
            work: self.envelopes.clone(),
            checks: self.checks.clone(),
            senders: self.senders.clone(),
            ringing: dispatch::Ringing::default(),
            metrics: Arc::new(DispatchMetrics::new()),
        };
        let context = Arc::new(context);
        dispatch::Recovery::new(Arc::clone(&context)).spawn();
        dispatch::spawn(context).await?;
        Ok(entries)
    }

    async fn feed(&self) -> Result<(), StartError> {
        let context = agenda::Context {
            queue: self.queue.clone(),
            ledger: self.ledger.clone(),
            directory: self.directory.clone(),
            sealer: self.sealer.clone(),
            lives: self.settings.expires_after,
            clock: self.clock.clone(),
            tasks: self.groups.work.clone(),
            routes: Arc::clone(&self.routes),
            limits: self.limits.clone(),
            pacer: self.pacer.clone(),
            depths: self.depths.clone(),
            order: agenda::Sequence::by(&self.clock),
            work: self.envelopes.clone(),
            checks: self.checks.clone(),
            facts: self.facts.clone(),
            metrics: AgendaMetrics::new(),
        };
        Ok(agenda::spawn(Arc::new(context)).await?)
    }

    fn admission(&self) -> Admission<AnyQueue, SharedLimits, AnyLedger> {
        let ports = admission::Ports {
            outbox: self.envelopes.clone(),
            depths: self.depths.clone(),
            sealer: self.sealer.clone(),
            limits: self.limits.clone(),
            ledger: self.ledger.clone(),
            pacer: self.pacer.clone(),
        };
        let settings = admission::Settings {
            routes: Arc::clone(&self.routes),
            windows: Arc::clone(&self.windows),
            expiry: self.settings.expires_after,
        };
        Admission::new(ports, settings, self.clock.clone(), self.groups.publish.clone())
    }
}
