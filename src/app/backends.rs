//! Opens the backends that the settings name: each embedded, or a server.

use crate::app::StartError;
use crate::config::Settings;
use crate::domain::time::Clock;
use crate::ledger::{AnyLedger, Ledger, postgres, sqlite};
use crate::limits::{AnyLimits, Limits as _, embedded as embedded_limits, redis};
use crate::queue::{AnyQueue, amqp, embedded as embedded_queue};
use crate::shutdown::Tasks;

/// The three ports, open.
pub(super) struct Backends {
    pub(super) queue: AnyQueue,
    pub(super) limits: AnyLimits,
    pub(super) ledger: AnyLedger,
}

/// Opens them, and brings the ledger's schema up to date.
pub(super) async fn open(settings: &Settings, tasks: &Tasks, clock: &Clock) -> Result<Backends, StartError> {
    let queue = queue(settings, tasks, clock).await?;
    let limits = limits(settings, clock).await?;
    let ledger = ledger(settings, clock)?;
    ledger.migrate().await?;
    Ok(Backends { queue, limits, ledger })
}

async fn queue(settings: &Settings, tasks: &Tasks, clock: &Clock) -> Result<AnyQueue, StartError> {
    let set = &settings.queue;
    let Some(url) = &set.url else {
        let options = embedded_queue::Options {
            publish_timeout: set.publish_timeout,
            lane_length_max: usize::try_from(set.lane_frames_max.get()).unwrap_or(usize::MAX),
            backlog_length_max: usize::try_from(set.record_frames_max.get()).unwrap_or(usize::MAX),
            ..embedded_queue::Options::default()
        };
        let opened = embedded_queue::Embedded::open(&settings.data_dir.join("queue"), options, tasks, clock).await?;
        return Ok(AnyQueue::Embedded(opened));
    };
    let options = amqp::Options {
        publish_timeout: set.publish_timeout,
        lane_length_max: u32::try_from(set.lane_frames_max.get()).unwrap_or(u32::MAX),
        backlog_length_max: u32::try_from(set.record_frames_max.get()).unwrap_or(u32::MAX),
        ..amqp::Options::new(url.reveal())
    };
    Ok(AnyQueue::Amqp(amqp::Amqp::connect(options, tasks, clock).await?))
}

async fn limits(settings: &Settings, clock: &Clock) -> Result<AnyLimits, StartError> {
    let Some(url) = &settings.limits.url else {
        let opened = embedded_limits::Embedded::open(&settings.data_dir.join("limits"), clock.now())?;
        return Ok(AnyLimits::Embedded(opened));
    };
    let set = redis::Settings { timeout: settings.limits.timeout, ..redis::Settings::new(url.reveal()) };
    let limits = redis::Redis::new(&set, clock)?;
    limits.identity().await?;
    Ok(AnyLimits::Redis(limits))
}

fn ledger(settings: &Settings, clock: &Clock) -> Result<AnyLedger, StartError> {
    let Some(url) = &settings.ledger.url else {
        let opened = sqlite::Sqlite::open(&settings.data_dir.join("ledger.sqlite"), clock.clone())?;
        return Ok(AnyLedger::Sqlite(opened));
    };
    Ok(AnyLedger::Postgres(postgres::Postgres::new(url.reveal(), clock.clone())?))
}
