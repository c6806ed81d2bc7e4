//! From a checked request to durable jobs.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::quota::Quota;
use super::{AHEAD_MAX, Accepted, Batch, Guard, Item, KEY_LIFE, Refusal, Request};
use crate::domain::ids::{JobId, Lane, PoolId};
use crate::domain::job::{Class, ENVELOPE_JOBS_MAX, Envelope, Job, Shared};
use crate::domain::time::{Clock, UnixMicros};
use crate::ledger::Ledger;
use crate::limits::pacer::Pacer;
use crate::limits::{LeaseMode, Limits, Remember, Remembered, rates};
use crate::policy::routes::Routes;
use crate::queue::depths::Depths;
use crate::queue::outbox::Outbox;
use crate::queue::{FRAME_BYTES_MAX, Queue, QueueName, Route};
use crate::shutdown::Tasks;
use crate::telemetry::metrics::AdmissionMetrics;

/// Work due within this time is kept un-acknowledged by a feeder instead of going through the agenda.
const SOON: Duration = Duration::from_secs(30);
/// A job's own bytes at most, so that with names and seals it fits a frame.
const JOB_BYTES_MAX: usize = FRAME_BYTES_MAX * 3 / 4;
/// Marks of accepted keys that may wait to be written; more are dropped, which costs a second publish on a retry.
const MARKS_WAITING_MAX: usize = 16 * 1024;

/// What admission needs to know besides its ports.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which pool carries what.
    pub routes: Arc<Routes>,
    /// How long a job of each class lives after its due time, in the order of [`Class::ALL`].
    pub expiry: [Duration; 4],
}

/// Lets jobs in. Cheap to clone.
#[derive(Clone)]
pub struct Admission<Q, L, B> {
    limits: L,
    ledger: B,
    pacer: Pacer<L>,
    clock: Clock,
    tasks: Tasks,
    settings: Settings,
    guard: Arc<Guard>,
    quota: Quota<B>,
    depths: Depths,
    outbox: Outbox<Q, Envelope>,
    marks: mpsc::Sender<JobId>,
    metrics: Arc<AdmissionMetrics>,
}

/// The ports that admission asks.
pub struct Ports<Q, L, B> {
    /// Where envelopes go.
    pub outbox: Outbox<Q, Envelope>,
    /// How long the lanes are.
    pub depths: Depths,
    /// Keys and rates.
    pub limits: L,
    /// The second witness of keys.
    pub ledger: B,
    /// Tokens of shared buckets.
    pub pacer: Pacer<L>,
}

// === impl Admission ===

impl<Q: Queue, L: Limits, B: Ledger> Admission<Q, L, B> {
    /// Returns an admission whose tasks are of the group `tasks`.
    pub fn new(ports: Ports<Q, L, B>, settings: Settings, clock: Clock, tasks: Tasks) -> Self {
        let (marks, waiting) = mpsc::channel(MARKS_WAITING_MAX);
        tasks.spawn("mark_accepted", mark_accepted(ports.limits.clone(), waiting));
        Self {
            outbox: ports.outbox,
            limits: ports.limits,
            quota: Quota::new(ports.ledger.clone()),
            ledger: ports.ledger,
            pacer: ports.pacer,
            clock,
            tasks,
            settings,
            guard: Arc::default(),
            depths: ports.depths,
            marks,
            metrics: Arc::new(AdmissionMetrics::new()),
        }
    }

    /// Accepts the jobs of a request: all of its items, or none.
    ///
    /// # Errors
    /// A [`Refusal`]. After [`Refusal::NotDurable`] the jobs may have been accepted: retry with the same key.
    pub async fn submit(&self, request: Request) -> Result<Accepted, Refusal> {
        let watch = self.clock.stopwatch();
        let (tenant, jobs) = (Arc::clone(&request.tenant), request.items.len());
        let means = (request.kind, request.class);
        let accepted = self.admit(request).await?;
        self.metrics.accepted(&tenant.id, means, jobs, watch.elapsed());
        Ok(accepted)
    }

    async fn admit(&self, request: Request) -> Result<Accepted, Refusal> {
        if self.tasks.stopping() {
            return Err(Refusal::Draining);
        }
        let pool = self.settings.routes.pool(request.kind).ok_or(Refusal::NoProvider(request.kind))?.clone();
        let now = self.clock.now();
        let times = self.times(&request, now)?;
        if request.items.iter().any(|item| item.weight() + request.content.len() > JOB_BYTES_MAX) {
            return Err(Refusal::TooLarge);
        }
        let Some(jobs) = u32::try_from(request.items.len()).ok().and_then(NonZeroU32::new) else {
            return Ok(Accepted { batch: None, jobs: vec![], scheduled: false });
        };
        self.guard.admit(&request.tenant, jobs)?;
        self.quota.admit(&request.tenant, jobs.get(), now).await?;
        let root = match &request.key {
            Some((key, _)) => JobId::keyed(&request.tenant.id, key),
            None => JobId::new(now, fastrand::u128(..)),
        };
        let ids = ids(&request, root, now);
        let accepted = Accepted {
            batch: (request.batch == Batch::Many).then_some(root.0),
            jobs: request.items.iter().zip(&ids).map(|(item, id)| (item.index, *id)).collect(),
            scheduled: times.due_at > now,
        };
        let seen = match self.first_time(&request, root, &ids, times).await? {
            Remembered::New => None,
            Remembered::Pending => Some(now),
            Remembered::Accepted => return Ok(accepted),
            Remembered::Conflict => return Err(Refusal::KeyConflict),
        };
        let keyed = request.key.is_some();
        let to = self.route(&request, &pool, times, now).await;
        let batch = accepted.batch;
        let envelopes = envelopes(request, ids, Place { pool, batch, times, seen });
        self.outbox.publish(envelopes, Route::Accept(to)).await.map_err(Refusal::NotDurable)?;
        if keyed {
            // A lost mark costs a second publish under the same id when the caller asks again.
            let _full = self.marks.try_send(root);
        }
        Ok(accepted)
    }

    fn times(&self, request: &Request, now: UnixMicros) -> Result<Times, Refusal> {
        let due_at = request.due_at.unwrap_or(now).max(now);
        if due_at > now.plus(AHEAD_MAX) {
            return Err(Refusal::TooFar);
        }
        let life = Class::ALL.iter().position(|&class| class == request.class).map(|at| self.settings.expiry[at]);
        let expires_at = request.expires_at.unwrap_or_else(|| due_at.plus(life.unwrap_or_default()));
        if expires_at <= due_at {
            return Err(Refusal::ExpiresFirst);
        }
        Ok(Times { now, due_at, expires_at })
    }

    /// Asks whether a keyed request was seen before. With limits away, what is urgent goes on: its resend carries the
    /// same reference.
    async fn first_time(
        &self,
        request: &Request,
        root: JobId,
        ids: &[JobId],
        times: Times,
    ) -> Result<Remembered, Refusal> {
        let now = times.now;
        let Some((_, fingerprint)) = request.key else { return Ok(Remembered::New) };
        let remember = Remember { id: root, fingerprint, until: times.due_at.plus(KEY_LIFE) };
        match self.limits.remember(now, std::slice::from_ref(&remember)).await {
            Ok(known) => match known.first() {
                Some(Remembered::New) | None => Ok(self.second_witness(request, ids, now).await),
                Some(&known) => Ok(known),
            },
            Err(_) if request.class.urgent() => {
                self.metrics.keys_away();
                Ok(Remembered::New)
            }
            Err(_) => Err(Refusal::KeysAway),
        }
    }

    /// Asks the ledger for a key that limits do not know, while limits are younger than keys live: they may have lost
    /// it.
    async fn second_witness(&self, request: &Request, ids: &[JobId], now: UnixMicros) -> Remembered {
        let young = |identity: &crate::limits::Identity| now.since(identity.changed_at) < KEY_LIFE;
        if !self.limits.identity().await.is_ok_and(|identity| young(&identity)) {
            return Remembered::New;
        }
        let Some(&first) = ids.first() else { return Remembered::New };
        match self.ledger.job(&request.tenant.id, first).await {
            Ok(Some(_)) => Remembered::Accepted,
            Ok(None) | Err(_) => Remembered::New,
        }
    }

    /// Chooses the work queue. Straight to a lane goes what is urgent, and what rate and credit grant whole, now.
    async fn route(&self, request: &Request, pool: &PoolId, times: Times, now: UnixMicros) -> QueueName {
        if times.due_at > now.plus(SOON) {
            return QueueName::Later;
        }
        if times.due_at > now {
            return QueueName::Soon;
        }
        let lane = Lane { class: request.class, pool: pool.clone() };
        let jobs = u32::try_from(request.items.len()).unwrap_or(u32::MAX);
        let mode = if request.class == Class::Otp { LeaseMode::Force } else { LeaseMode::Whole };
        let tenant_bucket = request.tenant.rate.map(|rate| (rates::tenant(&request.tenant.id), rate));
        if let Some((bucket, rate)) = &tenant_bucket {
            let granted = self.pacer.take(bucket, *rate, jobs, mode).await;
            if !granted.is_ok_and(|granted| granted.tokens == jobs) && request.class != Class::Otp {
                return QueueName::Soon;
            }
        }
        if request.class.urgent() {
            return QueueName::Lane(lane);
        }
        if self.depths.crowded(&lane) {
            return QueueName::Soon;
        }
        let Some(credit) = self.settings.routes.credit(pool) else { return QueueName::Lane(lane) };
        match self.pacer.take(&rates::pool(pool), credit, jobs, LeaseMode::Whole).await {
            Ok(granted) if granted.tokens == jobs => QueueName::Lane(lane),
            Ok(_) | Err(_) => {
                tenant_bucket.inspect(|(bucket, _)| self.pacer.credit(bucket, jobs));
                QueueName::Soon
            }
        }
    }
}

/// When the jobs of a request were accepted, are due and expire.
#[derive(Clone, Copy)]
struct Times {
    now: UnixMicros,
    due_at: UnixMicros,
    expires_at: UnixMicros,
}

/// Returns the ids of a request's jobs: with a key the same every time, else drawn, so that they sort by time.
fn ids(request: &Request, root: JobId, now: UnixMicros) -> Vec<JobId> {
    let id = |item: &Item| match (request.batch, &request.key) {
        (Batch::Single, _) => root,
        (Batch::Many, Some(_)) => root.item(item.index),
        (Batch::Many, None) => JobId::new(now, fastrand::u128(..)),
    };
    request.items.iter().map(id).collect()
}

/// What admission has decided of a request's jobs.
struct Place {
    pool: PoolId,
    batch: Option<Uuid>,
    times: Times,
    seen: Option<UnixMicros>,
}

fn envelopes(request: Request, ids: Vec<JobId>, place: Place) -> Vec<Envelope> {
    let Place { pool, batch, times, seen } = place;
    let shared = Arc::new(Shared {
        tenant: request.tenant.id.clone(),
        kind: request.kind,
        class: request.class,
        pool,
        content: request.content,
        sender: request.sender,
        topic: request.topic,
        labels: request.labels,
        origin: request.origin,
        batch,
        priority: request.priority,
        accepted_at: times.now,
        expires_at: times.expires_at,
        on_missed: request.on_missed,
    });
    let mut jobs = request.items.into_iter().zip(ids).map(|(item, id)| job(id, item, seen));
    let mut envelopes = Vec::new();
    loop {
        let part: Vec<Job> = jobs.by_ref().take(ENVELOPE_JOBS_MAX).collect();
        if part.is_empty() {
            return envelopes;
        }
        envelopes.push(Envelope { shared: Arc::clone(&shared), due_at: times.due_at, jobs: part });
    }
}

fn job(id: JobId, item: Item, seen: Option<UnixMicros>) -> Job {
    Job {
        id,
        recipient: item.recipient,
        params: item.params,
        cancel_key: item.cancel_key,
        collapse_key: item.collapse_key,
        attempt: 0,
        supersedes: 0,
        seen,
    }
}

/// Writes the marks of accepted keys, many at a time, until admission is gone.
async fn mark_accepted<L: Limits>(limits: L, mut waiting: mpsc::Receiver<JobId>) {
    let mut ids: Vec<JobId> = Vec::new();
    while waiting.recv_many(&mut ids, 1024).await > 0 {
        // Lost marks cost a second publish under the same id, nothing more.
        let _lost = limits.accepted(&ids).await;
        ids.clear();
    }
}
