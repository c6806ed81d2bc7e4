//! The jobs of one delivery, from claim to verdict. What follows from each is collected in [`Out`]; nothing is
//! published here.

mod answers;
mod consents;
mod item;
mod lines;
mod rules;
mod templates;

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashSet;

use self::answers::{Claimed, Late};
use self::item::paced;
pub(super) use self::item::{Item, ground};
use self::rules::Moved;
use super::gate::{Permit, Wish};
use super::out::Out;
use super::{Context, HOLD};
use crate::channel::Channel;
use crate::crash;
use crate::domain::event::{Change, Fate, Outcome};
use crate::domain::job::{Envelope, Shared};
use crate::domain::time::{Stopwatch, UnixMicros};
use crate::leave::{self, Asking, Ground, Next, filled};
use crate::ledger::Ledger;
use crate::limits::{Decision, LeaseMode, Limits};
use crate::queue::Queue;

/// Released work that is later than this has lost its reserved place in the tenant's rate and reserves anew. With the
/// life of a lease, the time that it may be reserved ahead, and the wait for a permit, its token is 5 s old at most.
const RESERVED_FOR: Duration = Duration::from_millis(2_500);
/// A place that a refused job leaves within this time goes to another.
const CREDITED_WITHIN: Duration = Duration::from_millis(250);
/// The claim's deadline is this long after the provider's own time-out.
pub(super) const DEADLINE_SLACK: Duration = Duration::from_secs(5);
/// How old the rules may be by which a job is claimed: with the directory's own age, less than 5 s.
const RULES_READ_EVERY: Duration = Duration::from_secs(2);
/// What nobody can decide now is looked at again after this, or up to twice as long.
const WAIT_FOR_LIMITS: Duration = Duration::from_secs(5);
/// How long a job alone may wait for a permit: long enough for one that is about to be free.
const BRIEF: Duration = Duration::from_millis(50);

/// The jobs of a delivery that are not decided yet.
pub(super) struct Hand<'a, Q, L, B> {
    pub(super) context: &'a Arc<Context<Q, L, B>>,
    pub(super) line: VecDeque<Item>,
    moved: Vec<Moved>,
    /// Their template is not in memory.
    unfilled: Vec<Item>,
    pub(super) watch: Stopwatch,
    /// How long a job may be held without a permit.
    hold: Duration,
    /// Since the rules of the line's tenants were read.
    rules_read: Stopwatch,
    /// Limits did not answer: the frame must not be acknowledged.
    pub(super) given_up: bool,
    pub(super) out: Out,
}

impl<'a, Q: Queue, L: Limits, B: Ledger> Hand<'a, Q, L, B> {
    /// Takes the jobs of envelopes in hand. `again`: the frame was delivered before, so a copy may have been handed
    /// over.
    pub(super) fn new(context: &'a Arc<Context<Q, L, B>>, envelopes: Vec<Envelope>, again: bool) -> Self {
        crash::taste(envelopes.iter().flat_map(|envelope| envelope.jobs.iter().map(|job| job.id)));
        let mut line = VecDeque::with_capacity(envelopes.iter().map(|envelope| envelope.jobs.len()).sum());
        let mut unfilled = Vec::new();
        for envelope in envelopes {
            let tenant = context.directory.tenant(&envelope.shared.tenant);
            let current = leave::current(&envelope.shared, tenant.as_deref(), UnixMicros::MAX);
            let paced = paced(&current, tenant.as_deref());
            let ground = ground(context, &current, tenant.as_ref());
            let template = filled::known(&context.templates, &current);
            for mut job in envelope.jobs {
                if again {
                    job.seen = Some(job.seen.map_or(envelope.due_at, |seen| seen.min(envelope.due_at)));
                }
                let (shared, ground) = (Arc::clone(&envelope.shared), Arc::clone(&ground));
                let mut item = Item::new(shared, job, envelope.due_at, ground, template.as_ref());
                item.paced = Arc::clone(&paced);
                item.leave_from(&current.sender);
                if item.is_filled() {
                    line.push_back(item);
                } else {
                    unfilled.push(item);
                }
            }
        }
        let mut hand = Self {
            context,
            line,
            moved: Vec::new(),
            unfilled,
            watch: context.clock.stopwatch(),
            hold: HOLD,
            rules_read: context.clock.stopwatch(),
            given_up: false,
            out: Out::new(Arc::clone(&context.metrics)),
        };
        hand.order();
        hand
    }

    /// A time that is reserved a moment ahead holds up nobody else; of what is due the higher class, then the higher
    /// priority, has the first word.
    fn order(&mut self) {
        let now = self.context.clock.now();
        let rank = |item: &Item| (item.due_at.max(now), item.shared.class, Reverse(item.shared.priority));
        self.line.make_contiguous().sort_by_key(rank);
    }

    /// Holds nothing without a permit. Whatever is in hand when a process is killed counts a delivery, so a suspect that
    /// only waited would die of other kills than its own; in the agenda it waits uncounted.
    pub(super) fn be_brief(&mut self) {
        self.hold = BRIEF;
    }

    /// Returns whether nothing is held without a permit.
    pub(super) fn brief(&self) -> bool {
        self.hold < HOLD
    }

    /// Works until each job has a verdict or the frame has been held long enough.
    pub(super) async fn run(&mut self) -> Vec<Late> {
        let mut late = Vec::new();
        self.fill_in().await;
        if self.brief() {
            self.watch = self.context.clock.stopwatch();
        }
        while self.watch.elapsed() < self.hold && !self.given_up && !self.context.tasks.stopping() {
            self.drop_expired().await;
            let Some(front) = self.line.front() else { break };
            if front.due_at > self.context.clock.now() {
                self.context.clock.sleep_until(front.due_at).await;
                continue;
            }
            self.reserve_late().await;
            let Some(mut permit) = self.permit().await else {
                self.wait_for_limits().await;
                continue;
            };
            self.read_rules();
            let chunk: Vec<Item> = self.line.drain(..permit.jobs).collect();
            let chunk = self.take_lines(chunk, &mut permit).await;
            let claimed = self.claim(chunk, &mut permit).await;
            let claimed = self.take_consents(claimed, &permit).await;
            let now = self.context.clock.now();
            claimed.iter().for_each(|claimed| {
                self.context.metrics.waited(claimed.item.shared.class, now.since(claimed.item.due_at));
            });
            permit.shrink(claimed.len(), claimed.iter().map(|claimed| claimed.units).sum());
            if !claimed.is_empty() {
                crash::point(crash::Point::AfterClaim);
                late.extend(self.hand_over(claimed, permit).await);
            }
        }
        self.let_go();
        late
    }

    /// Reserves rates anew for work that comes late; what gets none goes back to the agenda.
    async fn reserve_late(&mut self) {
        let now = self.context.clock.now();
        let late = |item: &Item| now.since(item.due_at) > RESERVED_FOR && !item.shared.class.urgent();
        if !self.line.iter().any(|item| late(item) && !item.paced.is_empty()) {
            return;
        }
        let mut empty: HashSet<Box<str>> = HashSet::new();
        for mut item in std::mem::take(&mut self.line) {
            if !late(&item) || item.paced.is_empty() {
                self.line.push_back(item);
                continue;
            }
            let short = |index: usize| item.paced.get(index).map(|bucket| bucket.name.clone());
            let taken = match item.paced.iter().any(|bucket| empty.contains(&bucket.name)) {
                true => None,
                // From this node's purse, mostly.
                false => self.context.pacer.take_all(&item.paced, 1, LeaseMode::UpTo).await.ok(),
            };
            if taken.is_some_and(|taken| taken.tokens == 1) {
                item.due_at = now;
                self.line.push_back(item);
            } else {
                empty.extend(taken.and_then(|taken| taken.short).and_then(|(index, _)| short(index)));
                self.out.wait(item, now.plus(Duration::from_secs(1)));
            }
        }
    }

    /// Waits for leave to hand over some of the jobs in front.
    async fn permit(&self) -> Option<Permit> {
        let front = self.line.front()?;
        let (tenant, class, kind) = (&front.shared.tenant, front.shared.class, front.shared.kind);
        let now = self.context.clock.now();
        let same = |item: &&Item| {
            let Item { shared, due_at, avoid, .. } = item;
            shared.kind == kind && shared.class == class && *due_at <= now && *avoid == front.avoid
        };
        let costs = |channel: &dyn Channel| {
            self.line.iter().take_while(same).map(|item| channel.cost(&item.handover)).collect::<Vec<_>>()
        };
        let wish = Wish { tenant, class, kind, avoid: &front.avoid, costs: &costs };
        let gate = self.context.gates.get(&front.shared.pool);
        let patience = self.hold.saturating_sub(self.watch.elapsed()).min(Duration::from_secs(1));
        match gate {
            Some(gate) => gate.acquire(wish, patience).await,
            None => {
                // The pool's providers are on other nodes, or gone from the settings: wait like for a provider.
                self.context.clock.pause(patience).await;
                None
            }
        }
    }

    /// Reads the rules of the line's tenants again, if the line has waited: a change binds what is claimed after it.
    fn read_rules(&mut self) {
        if self.rules_read.elapsed() < RULES_READ_EVERY {
            return;
        }
        self.rules_read = self.context.clock.stopwatch();
        let mut read: Option<(Arc<Shared>, Arc<Shared>, Arc<Ground>)> = None;
        for item in &mut self.line {
            if !read.as_ref().is_some_and(|(old, ..)| Arc::ptr_eq(old, &item.shared)) {
                let tenant = self.context.directory.tenant(&item.shared.tenant);
                let current = leave::current(&item.shared, tenant.as_deref(), UnixMicros::MAX);
                let ground = ground(self.context, &current, tenant.as_ref());
                read = Some((Arc::clone(&item.shared), current, ground));
            }
            if let Some((_, current, ground)) = &read {
                item.renew(&current.sender, ground);
            }
        }
    }

    /// Claims a chunk; returns the jobs to hand over.
    async fn claim(&mut self, chunk: Vec<Item>, permit: &mut Permit) -> Vec<Claimed> {
        let now = self.context.clock.now();
        let deadline = now.plus(permit.provider.profile.response_timeout).plus(DEADLINE_SLACK);
        let mut asked = Vec::with_capacity(chunk.len());
        let mut claims = Vec::with_capacity(chunk.len());
        for item in chunk {
            if let Some(next) = item.ground.closed(&item.shared, &item.job, now) {
                self.follow(item, next, now);
                continue;
            }
            let units = permit.provider.channel.segments(&item.handover);
            if let Some(rule) = item.ground.caps().never(units) {
                let next = leave::over(rule, &item.shared, UnixMicros::MAX, UnixMicros::MAX);
                self.follow(item, next, now);
                continue;
            }
            let asking = Asking { now, deadline, units };
            match item.ground.claim(&item.shared, &item.job, asking, &self.context.sealer) {
                Some(claim) => {
                    asked.push(item);
                    claims.push(claim);
                }
                None => self.out.settle(&item, Outcome::new(Fate::Rejected, "no_address"), now),
            }
        }
        let Some(decisions) = self.decide(&asked, &claims).await else {
            permit.shrink(0, 0);
            self.ask_again(asked, claims).await;
            return vec![];
        };
        let mut claimed = Vec::with_capacity(asked.len());
        let mut taken: Vec<(Arc<Ground>, usize)> = Vec::new();
        for ((item, claim), decision) in asked.into_iter().zip(claims).zip(decisions) {
            if decision != Decision::Claimed {
                for (rule, said) in item.ground.caps().said(&decision) {
                    self.context.metrics.cap(rule.name.as_str(), said, rule.mode, 1);
                }
            }
            let plain = decision == Decision::Claimed;
            match item.ground.next(&item.shared, decision) {
                Next::Go => {
                    match taken.iter_mut().find(|(ground, _)| Arc::ptr_eq(ground, &item.ground)) {
                        Some((_, jobs)) => *jobs += usize::from(plain),
                        None => taken.push((Arc::clone(&item.ground), usize::from(plain))),
                    }
                    let units = permit.provider.channel.cost(&item.handover);
                    self.context.senders.note(&item.shared.tenant, [claim.against.address], now);
                    claimed.push(Claimed { give_back: claim.give_back(), item, units, consent: None });
                }
                next => self.follow(item, next, now),
            }
        }
        for (ground, jobs) in taken {
            for (rule, said) in ground.caps().said(&Decision::Claimed) {
                self.context.metrics.cap(rule.name.as_str(), said, rule.mode, jobs);
            }
        }
        claimed
    }

    /// Does what follows from a claim that was not granted. The place in the tenant's rate is free for another job.
    pub(super) fn follow(&mut self, mut item: Item, next: Next, now: UnixMicros) {
        let stays = match next {
            Next::Go | Next::AskUnseen => true,
            Next::Move { due_at, .. } => due_at <= now,
            Next::Settle(_) | Next::Defer { .. } | Next::Check { .. } | Next::Unresolved | Next::Wait => false,
        };
        if !stays && now.since(item.due_at) <= CREDITED_WITHIN {
            self.context.pacer.credit(&item.paced, 1);
        }
        match next {
            Next::Go => {}
            Next::Settle(outcome) => self.out.settle(&item, outcome, now),
            Next::Defer { rule, until, open_at } => {
                item.job.seen = None;
                self.defer(item, rule, (until, open_at), now);
            }
            Next::Move { at, due_at, expires_at } => self.take_elsewhere(item, (at, due_at, expires_at), now),
            Next::Check { attempt, deadline } => self.out.check(item, attempt, deadline),
            Next::Unresolved => self.out.event(&item, Change::Unresolved { provider: None }, now),
            Next::AskUnseen => {
                item.job.seen = None;
                self.line.push_front(item);
            }
            Next::Wait => {
                let until = now.plus(WAIT_FOR_LIMITS.mul_f64(1.0 + fastrand::f64()));
                self.out.wait(item, until);
            }
        }
    }

    /// Puts a job off until `until`, or the first moment after it that its windows allow. A turn that comes too late for
    /// them gives way to the first opening.
    fn defer(&mut self, item: Item, reason: Box<str>, (until, open_at): (UnixMicros, UnixMicros), now: UnixMicros) {
        match item.ground.put_off(&item.shared, &item.job, (until, open_at)) {
            Ok(until) => self.out.defer(item, reason, until, now),
            Err(outcome) => self.out.settle(&item, outcome, now),
        }
    }

    /// Lets go of what has no permit yet: it waits in the agenda.
    fn let_go(&mut self) {
        let again_at = self.context.clock.now().plus(Duration::from_secs(1));
        for item in std::mem::take(&mut self.line) {
            let until = item.due_at.max(again_at);
            self.out.wait(item, until);
        }
    }
}
