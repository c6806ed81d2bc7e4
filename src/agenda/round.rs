//! One round of the feeder: what is due, and whose of it may go now.
//!
//! Only groups that may go are read: one that waits for its rate, its pool's credit or its lane takes no room from
//! another. In a pool the higher class goes first, and within a class the tenants go in turn.

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashMap;

use super::grant::{Leave, Part, Short};
use super::release::Portion;
use super::{Context, fair::Fair};
use crate::domain::ids::{Lane, TenantId};
use crate::domain::job::Class;
use crate::domain::time::UnixMicros;
use crate::ledger::{Entry, Group, Ledger, LedgerError, Release, Shards, Sort};
use crate::limits::Limits;
use crate::limits::rates::Bucket;
use crate::queue::Queue;

/// Entries read in one round: 32 MiB at most, and a tenth of that as envelopes usually are.
const ENTRIES_MAX: usize = 512;
/// Entries read of one group in one round.
const PER_GROUP_MAX: u32 = 256;
/// Of a group with a rate, no more is read than goes in this part of a second.
const PARTS_OF_SECOND: u32 = 5;
/// Groups whose entries' size is remembered at most.
const SIZES_MAX: usize = 4_096;
/// Longest that a bucket without tokens is left alone: its rate may have changed.
const REST_MAX: Duration = Duration::from_secs(1);
/// And shortest, unless it is full before: releasing a part of an entry writes the rest of it anew, whether one job goes
/// or a hundred.
const REST_MIN: Duration = Duration::from_millis(40);

/// What a feeder remembers from round to round.
#[derive(Default)]
pub(super) struct Memory {
    /// What it leads, without those of which something may have been left by the feeder before.
    pub(super) shards: Shards,
    /// How far each tenant has come, by lane.
    fair: HashMap<Lane, Fair<TenantId>>,
    /// Buckets that are empty until a time, by name.
    empty: HashMap<Box<str>, UnixMicros>,
    /// How many jobs an entry of a group held when it was last read, so that no more is read than can go.
    sizes: HashMap<Key, u32>,
}

/// What tells groups of jobs apart.
type Key = (TenantId, Lane, u32);

/// What a round does.
#[derive(Default)]
pub(super) struct Plan {
    /// What goes to the lanes.
    pub(super) parts: Vec<Portion>,
    /// What goes to record.
    pub(super) checks: Vec<Entry>,
    /// What ends or stays without being published.
    pub(super) ended: Vec<Release>,
    /// More may be due of which nothing was read.
    pub(super) more: bool,
}

/// The due entries of one tenant in a lane, by sender with a rate of its own.
type Line = Vec<VecDeque<Entry>>;

impl<Q: Queue, L: Limits, B: Ledger> Context<Q, L, B> {
    /// Finds out what goes now.
    pub(super) async fn plan(&self, memory: &mut Memory) -> Result<Plan, LedgerError> {
        let now = self.clock.now();
        memory.empty.retain(|_, until| *until > now);
        let groups = self.readable(self.ledger.agenda_groups(memory.shards).await?, memory, now);
        if groups.is_empty() {
            return Ok(Plan::default());
        }
        let entries = self.ledger.due_entries(&groups, now).await?;
        let mut plan = Plan { more: groups.len() == ENTRIES_MAX, ..Plan::default() };
        let mut lanes: HashMap<Lane, HashMap<TenantId, Line>> = HashMap::new();
        let mut entries = entries.into_iter().peekable();
        for (group, most) in groups {
            let mut line = VecDeque::new();
            while let Some(entry) = entries.next_if(|entry| group.holds(entry)) {
                line.push_back(entry);
            }
            plan.more |= line.len() >= most as usize;
            memory.note_size(&group, &line);
            match group.sort {
                Sort::Check => plan.checks.extend(line),
                Sort::Timer => plan.checks.extend(line),
                Sort::Send if line.is_empty() => {}
                Sort::Send => lanes.entry(group.lane).or_default().entry(group.tenant).or_default().push(line),
            }
        }
        let mut lanes: Vec<_> = lanes.into_iter().collect();
        lanes.sort_by(|(one, _), (other, _)| (one.class, &one.pool).cmp(&(other.class, &other.pool)));
        for (lane, tenants) in lanes {
            self.plan_lane(&lane, tenants, memory, &mut plan).await;
        }
        Ok(plan)
    }

    /// Returns the due groups of which something may go, with how many entries to read of each.
    fn readable(&self, mut groups: Vec<Group>, memory: &Memory, now: UnixMicros) -> Vec<(Group, u32)> {
        let mut rates = HashMap::new();
        groups.retain(|group| group.first_due <= now && self.may_go(group, memory, &mut rates));
        // Whoever came least far in its lane is read first, should there be too many.
        let start = |group: &Group| memory.fair.get(&group.lane).map_or(0, |fair| fair.start(&group.tenant));
        groups.sort_by_cached_key(|group| (group.lane.class, start(group)));
        groups.truncate(ENTRIES_MAX);
        let share = u32::try_from(ENTRIES_MAX / groups.len().max(1)).unwrap_or(1).min(PER_GROUP_MAX);
        let most = |group: &Group| match rates.get(&key(group)) {
            Some(per_s) => share.min((per_s / PARTS_OF_SECOND / memory.size(group)).max(4)),
            None => share,
        };
        let with_most = |group: Group| {
            let most = most(&group);
            (group, most)
        };
        groups.into_iter().map(with_most).collect()
    }

    /// Returns whether anything of a group may go, and notes how many jobs a second at most.
    fn may_go(&self, group: &Group, memory: &Memory, rates: &mut HashMap<Key, u32>) -> bool {
        if group.sort != Sort::Send || group.lane.class == Class::Otp {
            return true;
        }
        if self.depths.crowded(&group.lane) {
            return false;
        }
        let buckets: Vec<_> =
            self.paced_by_mark(&group.tenant, group.sender).into_iter().chain(self.credit(&group.lane)).collect();
        if let Some(per_s) = buckets.iter().map(|bucket| bucket.rate.per_s.get()).min() {
            rates.insert(key(group), per_s);
        }
        !buckets.iter().any(|bucket| memory.empty.contains_key(&bucket.name))
    }

    /// Chooses what goes to one lane.
    async fn plan_lane(&self, lane: &Lane, mut tenants: HashMap<TenantId, Line>, memory: &mut Memory, plan: &mut Plan) {
        let now = self.clock.now();
        let mut rest = |bucket: &Bucket, until: UnixMicros| {
            let until = until.max(now.plus(shortest_rest(bucket)));
            memory.empty.insert(bucket.name.clone(), until.min(now.plus(REST_MAX)));
        };
        let mut round = memory.fair.entry(lane.clone()).or_default().round(tenants.keys().cloned());
        while let Some(tenant) = round.next() {
            let Some(line) = tenants.get_mut(&tenant) else { continue };
            let Some(at) = first(line) else { continue };
            let Some(entry) = line[at].pop_front() else { continue };
            let (mark, paced) = (entry.sender, self.paced_by_mark(&tenant, entry.sender));
            let Leave { jobs, short } = self.grant(&tenant, &paced, lane, (entry.jobs, Part::UpTo)).await;
            if jobs > 0 {
                match self.divide(entry, jobs) {
                    Ok(portion) => plan.parts.push(portion),
                    Err(release) => {
                        self.ungrant(&paced, lane, jobs);
                        plan.ended.push(release);
                    }
                }
            }
            match short {
                None => {}
                Some(Short::Lane) => return,
                Some(Short::Pool(until)) => {
                    round.charge(tenant, jobs, false);
                    self.credit(lane).iter().for_each(|bucket| rest(bucket, until));
                    return;
                }
                Some(Short::Rate(bucket, until)) => {
                    let of_sender = mark != 0 && paced.last().is_some_and(|narrow| narrow.name == bucket);
                    paced.iter().filter(|paced| paced.name == bucket).for_each(|bucket| rest(bucket, until));
                    if of_sender { line[at].clear() } else { line.clear() }
                }
            }
            let has_more = first(line).is_some();
            round.charge(tenant, jobs, has_more);
        }
    }
}

// === impl Memory ===

impl Memory {
    /// Returns when the first of the buckets that are left alone is looked at again.
    pub(super) fn rests_until(&self) -> Option<UnixMicros> {
        self.empty.values().min().copied()
    }

    /// Returns how many jobs an entry of a group holds, as far as is known: where it holds fewer, the next round follows
    /// at once.
    fn size(&self, group: &Group) -> u32 {
        self.sizes.get(&key(group)).copied().unwrap_or(1)
    }

    fn note_size(&mut self, group: &Group, read: &VecDeque<Entry>) {
        let (jobs, entries) =
            (read.iter().map(|entry| entry.jobs).sum::<u32>(), u32::try_from(read.len()).unwrap_or(1));
        if self.sizes.len() >= SIZES_MAX {
            self.sizes.clear();
        }
        if let Some(size) = jobs.checked_div(entries) {
            self.sizes.insert(key(group), size.max(1));
        }
    }
}

/// Returns how long an empty bucket is left alone at least: never until it overflows.
fn shortest_rest(bucket: &Bucket) -> Duration {
    let fills_in = Duration::from_secs(1) * bucket.rate.burst.get() / bucket.rate.per_s.get();
    REST_MIN.min(fills_in / 4)
}

fn key(group: &Group) -> Key {
    (group.tenant.clone(), group.lane.clone(), group.sender)
}

/// Returns which part of a line goes first: what is due in the earliest second, then by priority.
fn first(line: &Line) -> Option<usize> {
    let turn = |entry: &Entry| (entry.due_at.as_secs(), -i16::from(entry.priority), entry.due_at);
    let fronts = line.iter().enumerate().filter_map(|(at, part)| Some((turn(part.front()?), at)));
    fronts.min().map(|(_, at)| at)
}
