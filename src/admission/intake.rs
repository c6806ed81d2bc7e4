//! From a checked request to durable jobs.

mod chains;
mod envelopes;
mod rehearse;
mod senders;

pub use rehearse::{Expected, Rehearsal};

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;

use self::chains::Ways;
use self::envelopes::{Place, envelopes};
use self::senders::Keeps;
use super::open::Open;
use super::plan::{self, Group, Plan};
use super::quotas::Till;
use super::{Accepted, Batch, Guard, Item, KEY_LIFE, Refusal, Request};
use crate::domain::ids::{JobId, Lane, PoolId};
use crate::domain::job::{Class, Envelope};
use crate::domain::keys::space;
use crate::domain::rule::{Act, JobRule, Names};
use crate::domain::time::{Clock, UnixMicros};
use crate::domain::window::Means;
use crate::ledger::Ledger;
use crate::limits::pacer::Pacer;
use crate::limits::{LeaseMode, Limits, Remember, Remembered, Spend, Spent, rates};
use crate::policy::routes::Routes;
use crate::policy::windows::{self, Windows};
use crate::queue::depths::Depths;
use crate::queue::outbox::Outbox;
use crate::queue::{FRAME_BYTES_MAX, Queue, QueueName, Route};
use crate::seal::Sealer;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::AdmissionMetrics;

/// Work due within this time is kept un-acknowledged by a feeder instead of going through the agenda.
const SOON: Duration = Duration::from_secs(30);
/// A job's own bytes at most, so that with names and seals it fits a frame.
const JOB_BYTES_MAX: usize = FRAME_BYTES_MAX * 3 / 4;
/// How much longer than its job lives the note is kept that it replaced older ones: those may have been moved.
const COLLAPSE_SPARE: Duration = Duration::from_secs(7 * 24 * 3600);
/// Marks of accepted keys that may wait to be written; more are dropped, which costs a second publish on a retry.
const MARKS_WAITING_MAX: usize = 16 * 1024;

/// What admission needs to know besides its ports.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which pool carries what.
    pub routes: Arc<Routes>,
    /// The send windows of tenants that have none of their own.
    pub windows: Arc<Windows>,
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
    open: Open<B>,
    depths: Depths,
    sealer: Sealer,
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
    /// Keys of words.
    pub sealer: Sealer,
    /// Idempotency keys, rates, and what replaces what.
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
            open: Open::new(ports.ledger.clone()),
            ledger: ports.ledger,
            pacer: ports.pacer,
            clock,
            tasks,
            settings,
            guard: Arc::default(),
            depths: ports.depths,
            sealer: ports.sealer,
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
        let (tenant, means) = (Arc::clone(&request.tenant), (request.kind, request.class));
        let accepted = self.admit(request).await?;
        self.metrics.accepted(&tenant.id, means, accepted.jobs.len(), watch.elapsed());
        Ok(accepted)
    }

    /// Returns the pools, and which carries what.
    pub fn routes(&self) -> &Routes {
        &self.settings.routes
    }

    /// Returns how long a job of a class lives after its due time, unless it says so itself.
    pub fn life(&self, class: Class) -> Duration {
        self.settings.expiry[class as usize]
    }

    async fn admit(&self, request: Request) -> Result<Accepted, Refusal> {
        if self.tasks.stopping() {
            return Err(Refusal::Draining);
        }
        let ways = self.places(&request)?;
        let now = self.clock.now();
        let Some(jobs) = u32::try_from(request.items.len()).ok().and_then(NonZeroU32::new) else {
            return Ok(Accepted { batch: None, jobs: vec![], refused: vec![], scheduled: false });
        };
        self.guard.admit(&request.tenant, jobs)?;
        let root = match &request.key {
            Some((key, _)) => JobId::keyed(&request.tenant.id, key),
            None => JobId::new(now, fastrand::u128(..)),
        };
        let ids = ids(&request, root, now);
        let mut plan = match self.plan(&request, &ways, now) {
            Ok(plan) => plan,
            Err(refusal) => return self.accepted_before(&request, root, &ids, now).await?.ok_or(refusal),
        };
        if plan.jobs() == 0 {
            let accepted = accepted(&request, root, &ids, (&plan, now));
            return Ok(self.accepted_before(&request, root, &ids, now).await?.unwrap_or(accepted));
        }
        let planned = plan.jobs();
        self.open.admit(&request.tenant, u32::try_from(planned).unwrap_or(u32::MAX), now).await?;
        let met = self.let_in(&request, &ways, &mut plan, (root, &ids, now)).await;
        self.open.give_back(&request.tenant, if met.is_ok() { planned - plan.jobs() } else { planned }, now);
        let accepted = accepted(&request, root, &ids, (&plan, now));
        let seen = match met? {
            _ if plan.jobs() == 0 => return Ok(accepted),
            Remembered::New => None,
            Remembered::Pending => Some(now),
            Remembered::Accepted => return Ok(accepted),
            Remembered::Conflict => return Err(Refusal::KeyConflict),
        };
        plan.deferred().for_each(|(reason, jobs)| self.metrics.deferred(reason, jobs));
        let keyed = request.key.is_some();
        let urgent = request.class.urgent();
        let newer = self.newer(&request, &accepted, now);
        let last = plan.groups.iter().map(|group| group.expires_at).max().unwrap_or(now);
        self.choose_senders(&request, &mut plan, (now, Keeps::Notes)).await;
        let place = Place { pools: ways.places.pools, chains: ways.chains, batch: accepted.batch, now, seen };
        self.publish(request, ids, plan.groups, place).await?;
        // After the publish, so that nothing is replaced by a job that is not there; before the answer, so that nothing
        // older leaves after it. Until the mark below, a repetition under the same key comes here again.
        if !newer.is_empty() {
            let replaced = self.limits.rule(&newer, last.plus(COLLAPSE_SPARE)).await;
            if replaced.is_err() && !urgent {
                return Err(Refusal::CollapseAway);
            }
        }
        if keyed {
            // A lost mark costs a second publish under the same id when the caller asks again.
            let _full = self.marks.try_send(root);
        }
        Ok(accepted)
    }

    /// Returns how long a job of each class lives after its due time, in the order of [`Class::ALL`].
    pub fn lives(&self) -> &[Duration; Class::ALL.len()] {
        &self.settings.expiry
    }

    /// Returns the rules by which accepted jobs with a collapse key replace older ones.
    fn newer(&self, request: &Request, accepted: &Accepted, now: UnixMicros) -> Vec<JobRule> {
        let tenant = &request.tenant.id;
        let keyed = request.items.iter().filter(|item| !item.collapse_key.is_empty());
        let rule = |item: &Item| {
            let at = accepted.jobs.binary_search_by_key(&item.index, |(index, _)| *index).ok()?;
            let key = self.sealer.word_key(tenant, space::COLLAPSE_KEY, &item.collapse_key);
            let names = Names { collapse_key: Some(key), ..Names::default() };
            let act = Act::Collapse { into: accepted.jobs[at].1 };
            Some(JobRule { tenant: tenant.clone(), names, at: now, act })
        };
        keyed.filter_map(rule).collect()
    }

    /// Finds the pool of each job, each of which must fit a frame, and of what follows it.
    fn places(&self, request: &Request) -> Result<Ways, Refusal> {
        let content = request.content.len() + request.fallback.iter().map(|step| step.content.len()).sum::<usize>();
        if request.items.iter().any(|item| item.weight() + content > JOB_BYTES_MAX) {
            return Err(Refusal::TooLarge);
        }
        self.ways(request)
    }

    /// Finds the first moment of each job. A single job that has none is refused as a request is.
    fn plan(&self, request: &Request, ways: &Ways, now: UnixMicros) -> Result<Plan, Refusal> {
        let Request { class, kind, topic, sender, .. } = request;
        let bound = |pool| {
            let means = Means { class: *class, kind: *kind, topic, sender, pool };
            self.settings.windows.bind(&request.tenant.windows, &means, &request.windows)
        };
        let places = &ways.places;
        let bounds: Vec<_> = places.pools.iter().map(bound).collect();
        if let Some(rule) = bounds.iter().find_map(|bound| bound.never_met()) {
            return Err(Refusal::NeverOpen(windows::reason(rule)));
        }
        let mut plan = plan::plan(request, (places, &bounds), self.settings.expiry[*class as usize], now);
        self.plan_steps(request, ways, &mut plan)?;
        match plan.refused.pop() {
            Some((_, refusal)) if request.batch == Batch::Single => return Err(refusal),
            last => plan.refused.extend(last),
        }
        Ok(plan)
    }

    /// Returns what was accepted under the request's key before: it stays accepted, whatever windows say by now.
    async fn accepted_before(
        &self,
        request: &Request,
        root: JobId,
        ids: &[JobId],
        now: UnixMicros,
    ) -> Result<Option<Accepted>, Refusal> {
        let Some(key) = remember(request, root, now) else { return Ok(None) };
        let spend = Spend { tenant: request.tenant.id.clone(), key: Some(key), from: vec![], items: vec![] };
        let Met { remembered, items, .. } = self.meet(request, ids, spend, now).await?;
        match remembered {
            Remembered::Accepted => {}
            Remembered::Conflict => return Err(Refusal::KeyConflict),
            // The mark may be lost. Known to be durable only if the ledger has it.
            Remembered::New | Remembered::Pending => match ids.first() {
                Some(&first) if matches!(self.ledger.job(&request.tenant.id, first).await, Ok(Some(_))) => {}
                Some(_) | None => return Ok(None),
            },
        }
        let jobs = request.items.iter().zip(ids).take(items).map(|(item, id)| (item.index, *id)).collect();
        let refused = request.items.iter().skip(items).map(|item| (item.index, Refusal::OverQuotaBefore)).collect();
        let batch = (request.batch == Batch::Many).then_some(root.0);
        Ok(Some(Accepted { batch, jobs, refused, scheduled: false }))
    }

    /// Publishes the jobs, each group to its queue.
    async fn publish(
        &self,
        request: Request,
        ids: Vec<JobId>,
        groups: Vec<Group>,
        place: Place,
    ) -> Result<(), Refusal> {
        let mut queues: Vec<(QueueName, Vec<Envelope>)> = Vec::new();
        let mut targets = Vec::with_capacity(groups.len());
        for group in &groups {
            let jobs = u32::try_from(group.items.len()).unwrap_or(u32::MAX);
            let way = (&request, &place.pools[group.pool], &*group.sender);
            targets.push(self.route(way, jobs, group.due_at, place.now).await);
        }
        for (envelopes, to) in envelopes(request, ids, groups, place).into_iter().zip(targets) {
            match queues.iter_mut().find(|(queue, _)| *queue == to) {
                Some((_, all)) => all.extend(envelopes),
                None => queues.push((to, envelopes)),
            }
        }
        let publish = |(to, envelopes)| self.outbox.publish(envelopes, Route::Accept(to));
        try_join_all(queues.into_iter().map(publish)).await.map_err(Refusal::NotDurable)?;
        Ok(())
    }

    /// Settles whether a request is new, and takes what it needs of its tenant's quotas; what they have no room for leaves
    /// the plan.
    async fn let_in(
        &self,
        request: &Request,
        Ways { places, chains }: &Ways,
        plan: &mut Plan,
        (root, ids, now): (JobId, &[JobId], UnixMicros),
    ) -> Result<Remembered, Refusal> {
        let key = remember(request, root, plan.last_due().unwrap_or(now));
        if key.is_none() && request.tenant.quotas.is_empty() {
            return Ok(Remembered::New);
        }
        let asking = |pool| (pool, self.settings.routes.tariff(pool));
        let pools = places.pools.iter().map(asking).collect();
        let steps = chains.iter().map(|chain| chain.next.iter().map(|step| asking(&step.pool)).collect()).collect();
        let till = Till { pools, steps, senders: &places.senders, of: &places.of, sealer: &self.sealer, now };
        let spend = Spend { key, ..till.spend(request, plan)? };
        let Met { remembered, items, full } = self.meet(request, ids, spend, now).await?;
        let refusal = till.refusal(request, full);
        plan.refuse_from(items, &refusal);
        match remembered {
            Remembered::New if request.batch == Batch::Single && plan.jobs() == 0 => Err(refusal),
            met => Ok(met),
        }
    }

    /// Asks limits for what a request needs. With limits away, what is urgent goes on: its resend carries the same
    /// reference.
    async fn meet(&self, request: &Request, ids: &[JobId], spend: Spend, now: UnixMicros) -> Result<Met, Refusal> {
        let met = |remembered| Met { remembered, items: request.items.len(), full: None };
        let (all, accepted) = (met(Remembered::New), met(Remembered::Accepted));
        if spend.key.is_some() && self.second_witness(request, ids, now).await {
            // Limits may know how much of a batch was let in, and of which body; what they have lost was accepted.
            let look = Spend { from: vec![], items: vec![], ..spend };
            return match self.limits.spend(now, &[look]).await {
                Ok(spent) => Ok(match spent.first() {
                    Some(&spent) if spent.met != Remembered::New => Met::of(spent),
                    Some(_) | None => accepted,
                }),
                Err(_) if request.class.urgent() => {
                    self.metrics.keys_away();
                    Ok(accepted)
                }
                Err(_) => Err(Refusal::KeysAway),
            };
        }
        match self.limits.spend(now, std::slice::from_ref(&spend)).await {
            Ok(spent) => Ok(spent.first().map_or(all, |&spent| Met::of(spent))),
            Err(_) if request.class.urgent() => {
                self.metrics.keys_away();
                Ok(all)
            }
            Err(_) if spend.key.is_some() => Err(Refusal::KeysAway),
            Err(_) => Err(Refusal::QuotasAway),
        }
    }

    /// Returns whether the ledger knows a key's job, while limits are younger than keys live: they may have lost it. Asked
    /// first, so that nothing is taken of a quota for what was accepted long ago.
    async fn second_witness(&self, request: &Request, ids: &[JobId], now: UnixMicros) -> bool {
        let young = |identity: &crate::limits::Identity| now.since(identity.changed_at) < KEY_LIFE;
        if !self.limits.identity().await.is_ok_and(|identity| young(&identity)) {
            return false;
        }
        let Some(&first) = ids.first() else { return false };
        matches!(self.ledger.job(&request.tenant.id, first).await, Ok(Some(_)))
    }

    /// Chooses the work queue. Straight to a lane goes what is urgent, and what rate and credit grant whole, now.
    async fn route(
        &self,
        (request, pool, sender): (&Request, &PoolId, &str),
        jobs: u32,
        due_at: UnixMicros,
        now: UnixMicros,
    ) -> QueueName {
        if due_at > now.plus(SOON) {
            return QueueName::Later;
        }
        if due_at > now {
            return QueueName::Soon;
        }
        let (tenant, lane) = (&request.tenant, Lane { class: request.class, pool: pool.clone() });
        let mode = if lane.class == Class::Otp { LeaseMode::Force } else { LeaseMode::Whole };
        let paced = rates::of_jobs(&tenant.id, tenant.rate, sender, tenant.sender_rate(sender));
        let taken = self.pacer.take_all(&paced, jobs, mode).await.map_or(0, |taken| taken.tokens);
        if taken < jobs && lane.class != Class::Otp {
            self.pacer.credit(&paced, taken);
            return QueueName::Soon;
        }
        if lane.class.urgent() {
            return QueueName::Lane(lane);
        }
        let credit = self.settings.routes.credit(pool);
        let credit = credit.map(|credit| self.pacer.share(rates::pool(pool, credit), &tenant.id, jobs));
        let granted = match &credit {
            _ if self.depths.crowded(&lane) => 0,
            None => jobs,
            Some(credit) => {
                let granted = self.pacer.take(credit, jobs, LeaseMode::Whole).await;
                granted.map_or(0, |granted| granted.tokens)
            }
        };
        if granted < jobs {
            self.pacer.credit(credit.as_slice(), granted);
            self.pacer.credit(&paced, jobs);
            return QueueName::Soon;
        }
        self.depths.released(&lane, usize::try_from(jobs).unwrap_or(usize::MAX));
        QueueName::Lane(lane)
    }
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

/// Returns what is remembered under a request's key, if it has one.
fn remember(request: &Request, root: JobId, last_due: UnixMicros) -> Option<Remember> {
    let (_, fingerprint) = request.key.as_ref()?;
    Some(Remember { id: root, fingerprint: *fingerprint, until: last_due.plus(KEY_LIFE) })
}

/// Returns what a request is answered whose plan comes true.
fn accepted(request: &Request, root: JobId, ids: &[JobId], (plan, now): (&Plan, UnixMicros)) -> Accepted {
    let refused = |(place, refusal): &(usize, Refusal)| (request.items[*place].index, refusal.clone());
    let taken = |(place, _): &(usize, _)| plan.refused.binary_search_by_key(place, |(place, _)| *place).is_err();
    let jobs = request.items.iter().zip(ids).enumerate().filter(taken);
    Accepted {
        batch: (request.batch == Batch::Many).then_some(root.0),
        jobs: jobs.map(|(_, (item, id))| (item.index, *id)).collect(),
        refused: plan.refused.iter().map(refused).collect(),
        scheduled: plan.groups.iter().all(|group| group.due_at > now),
    }
}

/// What a request met in limits: whether it was there before, how many of its items are let in, and which quota has no
/// room for the next.
struct Met {
    remembered: Remembered,
    items: usize,
    full: Option<usize>,
}

impl Met {
    fn of(Spent { met, items, full }: Spent) -> Self {
        // Nothing is cut off a request that is refused as a whole.
        let items = if met == Remembered::Conflict { u32::MAX } else { items };
        Self { remembered: met, items: usize::try_from(items).unwrap_or(usize::MAX), full }
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
