//! Submits jobs by a fixed schedule: call number k of a load is due at `begin + k * batch / rate`, whatever the service
//! does. Latency counts from that moment, so a slow service cannot hide behind a slow generator.

mod calls;
mod counts;
mod phone_call;
mod text;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use postrider::domain::time::{Clock, UnixMicros};
use postrider::pb::job_service_client::JobServiceClient;
use postrider::shutdown::Tasks;
use tokio::sync::{Semaphore, oneshot};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};

use self::calls::Caller;
pub(crate) use self::counts::{Counts, LoadCounts};
pub(crate) use self::phone_call::FOLLOW_UP;
use crate::scenario::{Call, Load};

/// How long a call may take; then it counts as unknown.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// When what is submitted counts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    /// When the first call is due.
    pub(crate) begin: UnixMicros,
    /// When measuring begins.
    pub(crate) measure: UnixMicros,
    /// When no further call is due, and measuring ends.
    pub(crate) end: UnixMicros,
}

/// Where and as whom jobs are submitted.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) endpoint: Endpoint,
    pub(crate) authorization: MetadataValue<Ascii>,
}

/// One load with its connections, ready to run.
struct Generator {
    load: Load,
    schedule: Schedule,
    callers: Vec<Caller>,
    counts: Arc<LoadCounts>,
    clock: Clock,
    tasks: Tasks,
}

/// A load that runs.
pub(crate) struct Running {
    /// What it counts, while it runs and after.
    pub(crate) counts: Arc<LoadCounts>,
    /// Told when its last call is answered, or that the service cannot be reached.
    pub(crate) ended: oneshot::Receiver<Result<(), tonic::transport::Error>>,
}

/// Connects load number `index`, and makes every call of the schedule, on a thread of its own: a batch of one load that is
/// being written must not make the calls of another late, which would look as if the service were.
///
/// # Errors
/// What the system says of the thread or its runtime.
pub(crate) fn start(load: &Load, index: usize, target: Target, schedule: Schedule) -> io::Result<Running> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let counts = Arc::new(LoadCounts::new(schedule));
    let (end, ended) = oneshot::channel();
    let (load, of_load) = (load.clone(), Arc::clone(&counts));
    let work = move || {
        let made = runtime.block_on(async {
            let generator = Generator::connect((&load, index), &target, schedule, of_load).await?;
            generator.run().await;
            Ok(())
        });
        let _gone = end.send(made);
    };
    std::thread::Builder::new().name("load".into()).spawn(work)?;
    Ok(Running { counts, ended })
}

// === impl Schedule ===

impl Schedule {
    /// Returns whether a moment is measured.
    pub(crate) fn measures(&self, at: UnixMicros) -> bool {
        self.measure <= at && at < self.end
    }
}

// === impl Target ===

impl Target {
    async fn connect(&self) -> Result<JobServiceClient<Channel>, tonic::transport::Error> {
        Ok(JobServiceClient::new(self.endpoint.connect().await?))
    }
}

// === impl Generator ===

impl Generator {
    async fn connect(
        (load, index): (&Load, usize),
        target: &Target,
        schedule: Schedule,
        counts: Arc<LoadCounts>,
    ) -> Result<Self, tonic::transport::Error> {
        let clock = Clock::system();
        let mut callers = Vec::with_capacity(load.connections as usize);
        for _ in 0..load.connections {
            let client = target.connect().await?;
            let authorization = target.authorization.clone();
            callers.push(Caller::new(client, authorization, load, index, (Arc::clone(&counts), clock.clone())));
        }
        Ok(Self { load: load.clone(), schedule, callers, counts, clock, tasks: Tasks::new() })
    }

    /// Makes every call of the schedule, and returns when the last is answered.
    async fn run(self) {
        match self.load.call {
            Call::Batch | Call::Unary => self.run_calls().await,
            Call::Stream => self.run_streams().await,
        }
    }

    async fn run_calls(self) {
        let permits = Arc::new(Semaphore::new(self.load.in_flight_max));
        for number in 0.. {
            let due = self.due(number);
            if self.over(number, due) {
                break;
            }
            self.wait_for(due).await;
            // Beyond the bound calls start late and still count from when they were due.
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let mut caller = self.callers[number as usize % self.callers.len()].clone();
            self.tasks.spawn("call", async move {
                caller.call(number, due).await;
                drop(permit);
            });
        }
        let all = u32::try_from(self.load.in_flight_max).unwrap_or(u32::MAX);
        let _answered = permits.acquire_many(all).await;
    }

    async fn run_streams(self) {
        let mut streams = vec![];
        for caller in &self.callers {
            let (stream, answers) = caller.clone().open_stream(self.load.in_flight_max);
            streams.push((stream, self.tasks.spawn("stream", answers)));
        }
        for number in 0.. {
            let due = self.due(number);
            if self.over(number, due) {
                break;
            }
            self.wait_for(due).await;
            let at = number as usize % streams.len();
            if streams[at].0.submit(number, due).await.is_err() {
                self.counts.unknown(1);
            }
        }
        for (stream, answers) in streams {
            drop(stream);
            let _ended = answers.await;
        }
    }

    /// Returns whether call number `number`, which is due at `due`, is not made any more.
    fn over(&self, number: u64, due: UnixMicros) -> bool {
        let most = self.load.jobs;
        due >= self.schedule.end || (most > 0 && number * u64::from(self.load.batch) >= most)
    }

    fn due(&self, number: u64) -> UnixMicros {
        let micros = u128::from(number) * u128::from(self.load.batch) * 1_000_000 / u128::from(self.load.rate);
        self.schedule.begin.plus(self.load.start).plus(Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)))
    }

    async fn wait_for(&self, due: UnixMicros) {
        if self.clock.now() < due {
            self.clock.sleep_until(due).await;
        }
    }
}
