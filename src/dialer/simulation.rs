//! A day of a call centre, by the cores alone: dialer, send windows, caps and retries, with time as an argument. An oracle
//! that knows nothing of them looks at what was dialled.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use fastrand::Rng;
use jiff::tz::TimeZone;

use super::*;
use crate::domain::call::{Tries, retry_after};
use crate::domain::cap::{Mode, OnLimit};
use crate::domain::ids::{JobId, PoolId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{AddressKey, RecipientKey};
use crate::domain::window::{Calendars, Means, WindowRule};
use crate::limits::core::{self, People, When};
use crate::limits::{Against, Claim, Decision, Once, Span, Take};
use crate::policy::windows::{Bound, Windows};

const DAY: Duration = Duration::from_secs(24 * 3600);
/// Where callees are: somewhere it is always day.
const ZONES: [&str; 6] =
    ["Asia/Shanghai", "Asia/Kolkata", "Europe/Berlin", "America/Sao_Paulo", "America/Los_Angeles", "Pacific/Auckland"];
const HOURS: [&str; 2] = ["09:00-12:00", "14:00-20:00"];
/// Calls to a callee in any day, and at least this long from one to the next.
const CALLS_A_DAY: u32 = 2;
const GAP: Duration = Duration::from_secs(1800);

/// How large a day is.
struct Size {
    jobs: u32,
    lines: u32,
    tenants: u32,
    calls_per_s: u32,
}

struct Job {
    callee: u32,
    tries: Tries,
    attempt: u16,
}

/// What happens next, and when.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Answered(u32),
    Ended(u32),
    Due(u32),
}

struct Day {
    size: Size,
    dialer: Dialer,
    people: People,
    bound: Bound,
    zones: Vec<TimeZone>,
    tenants: Vec<TenantId>,
    jobs: Vec<Job>,
    /// By tenant and zone.
    waiting: Vec<[VecDeque<u32>; ZONES.len()]>,
    open: [bool; ZONES.len()],
    /// The zones are as they are for this minute.
    minute: i64,
    calls: HashMap<u32, (Permit, CallResult)>,
    next: BinaryHeap<Reverse<(UnixMicros, Next)>>,
    turn: usize,
    chance: Rng,
    dialled: Vec<Dialled>,
    results: BTreeMap<&'static str, u32>,
    /// Line time while work waited: used, and there.
    used: u128,
    there: u128,
    finished: u32,
}

/// One call as the callee's exchange would note it.
struct Dialled {
    at: UnixMicros,
    until: UnixMicros,
    number: u32,
    campaign: bool,
    caller: Box<str>,
}

fn zone(callee: u32) -> usize {
    (callee % 6) as usize
}

fn callee_number(callee: u32) -> String {
    format!("+86138{callee:08}")
}

impl Day {
    fn new(size: Size) -> Self {
        let most = |number| NonZeroU32::new(number).unwrap();
        let callers = (0..20).map(|number| CallerRule {
            number: format!("+8620{number:08}").into(),
            near: if number < 10 { format!("+86138{:02}", number).into() } else { "".into() },
            lines: Some(most(size.lines / 8)),
            day_max: Some(most(size.jobs / 6)),
        });
        let rules = TrunkRules {
            lines: most(size.lines),
            lines_per_port: most(1),
            calls_per_s: most(size.calls_per_s),
            tenant_lines: Some(most(size.lines / 4)),
            campaign_lines: Some(most(size.lines / 5)),
            callers: callers.collect(),
            caller_rest: Duration::from_secs(600),
        };
        let rule = WindowRule {
            name: "calls".parse().unwrap(),
            classes: vec![],
            kinds: vec![],
            topics: vec![],
            senders: vec![],
            pools: vec![],
            hours: HOURS.iter().map(|hours| hours.parse().unwrap()).collect(),
            on_missed: crate::domain::job::OnMissed::Defer,
        };
        let pool: PoolId = "voice".parse().unwrap();
        let means = Means { class: Class::Marketing, kind: Kind::Call, topic: "", sender: "", pool: &pool };
        let bound = Windows::new(vec![rule], Calendars::new()).bind(&[], &means, &[]);
        let callees = size.jobs * 2 / 3;
        let job = |number: u32| Job {
            callee: number.wrapping_mul(2_654_435_761) % callees,
            tries: Tries::default(),
            attempt: 0,
        };
        let jobs: Vec<Job> = (0..size.jobs).map(job).collect();
        let mut waiting: Vec<[VecDeque<u32>; ZONES.len()]> = (0..size.tenants).map(|_| Default::default()).collect();
        for (number, job) in jobs.iter().enumerate() {
            waiting[number % size.tenants as usize][zone(job.callee)].push_back(number as u32);
        }
        Self {
            dialer: Dialer::new(rules),
            people: People::default(),
            bound,
            zones: ZONES.iter().map(|name| TimeZone::get(name).unwrap()).collect(),
            tenants: (0..size.tenants).map(|number| format!("tenant-{number}").parse().unwrap()).collect(),
            jobs,
            waiting,
            open: [false; ZONES.len()],
            minute: i64::MIN,
            calls: HashMap::new(),
            next: BinaryHeap::new(),
            turn: 0,
            chance: Rng::with_seed(7),
            dialled: vec![],
            results: BTreeMap::new(),
            used: 0,
            there: 0,
            finished: 0,
            size,
        }
    }

    fn run(&mut self) {
        let start = UnixMicros::from_secs(20_000 * 24 * 3600);
        let (mut now, end) = (start, start.plus(DAY));
        while now < end {
            self.happen(now);
            let paced = self.dial(now);
            let waits = self.turn_of_somebody().is_some();
            let minute = UnixMicros::from_secs((now.as_secs() / 60 + 1) * 60);
            let happens = self.next.peek().map_or(UnixMicros::MAX, |Reverse((at, _))| *at);
            let then = [minute, happens, paced.unwrap_or(UnixMicros::MAX), end].into_iter().min().unwrap();
            if waits {
                let length = then.since(now).as_micros();
                self.used += u128::from(self.dialer.in_use()) * length;
                self.there += u128::from(self.size.lines) * length;
            }
            now = then;
        }
    }

    /// Lets happen what is due.
    fn happen(&mut self, now: UnixMicros) {
        if self.minute != now.as_secs() / 60 {
            self.minute = now.as_secs() / 60;
            for (open, zone) in self.open.iter_mut().zip(&self.zones) {
                *open = self.bound.check(Some(zone), now).is_ok();
            }
        }
        while let Some(Reverse((at, _))) = self.next.peek()
            && *at <= now
        {
            match self.next.pop().unwrap().0.1 {
                Next::Answered(job) => self.dialer.answered(&mut self.calls.get_mut(&job).unwrap().0),
                Next::Ended(job) => self.ended(job, now),
                Next::Due(job) => self.wait(job),
            }
        }
    }

    fn wait(&mut self, job: u32) {
        let callee = self.jobs[job as usize].callee;
        self.waiting[job as usize % self.size.tenants as usize][zone(callee)].push_back(job);
    }

    fn ended(&mut self, number: u32, now: UnixMicros) {
        let (permit, result) = self.calls.remove(&number).unwrap();
        self.dialer.end(permit, Some(result), now);
        *self.results.entry(result.as_str()).or_default() += 1;
        let job = &mut self.jobs[number as usize];
        job.tries.count(result);
        match retry_after(result, job.tries, &[], self.chance.f64()) {
            Some(after) => self.next.push(Reverse((now.plus(after), Next::Due(number)))),
            None => self.finished += 1,
        }
    }

    /// Returns a tenant that has work where it is day, and lines; each in turn.
    fn turn_of_somebody(&self) -> Option<(usize, usize)> {
        let tenants = self.waiting.len();
        (0..tenants).map(|step| (self.turn + step) % tenants).find_map(|tenant| {
            let zone = (0..ZONES.len()).find(|&zone| self.open[zone] && !self.waiting[tenant][zone].is_empty())?;
            Some((tenant, zone))
        })
    }

    /// Dials for as long as there are lines and work; returns when the trunk takes another call.
    fn dial(&mut self, now: UnixMicros) -> Option<UnixMicros> {
        let mut full = 0;
        while self.dialer.free() > 0 && full < self.waiting.len() {
            let (tenant, zone) = self.turn_of_somebody()?;
            self.turn = tenant + 1;
            let number = *self.waiting[tenant][zone].front().unwrap();
            let callee = callee_number(self.jobs[number as usize].callee);
            let campaign = if number.is_multiple_of(3) { "spring" } else { "" };
            let ask = Ask { tenant: &self.tenants[tenant], campaign, callee: &callee, sender: "" };
            let permit = match self.dialer.dial(ask, now) {
                Ok(permit) => permit,
                Err(NoLine::Rate(at) | NoLine::Broken(at) | NoLine::Caller(Some(at))) => return Some(at),
                Err(NoLine::Trunk | NoLine::Caller(None)) => return None,
                Err(NoLine::Campaign) => {
                    // Another of the tenant's may have a line.
                    self.waiting[tenant][zone].rotate_left(1);
                    full += 1;
                    continue;
                }
                Err(NoLine::Tenant) => {
                    full += 1;
                    continue;
                }
            };
            self.waiting[tenant][zone].pop_front();
            match self.claim(number, now) {
                Ok(()) => self.connect(number, permit, now),
                Err(turn_at) => {
                    self.dialer.end(permit, None, now);
                    self.next.push(Reverse((turn_at, Next::Due(number))));
                }
            }
        }
        None
    }

    /// Takes the callee's caps, or says when to come again.
    fn claim(&mut self, number: u32, now: UnixMicros) -> Result<(), UnixMicros> {
        let job = &mut self.jobs[number as usize];
        let take = |rule, limit, length| Take {
            rule,
            log: None,
            limit,
            need: 1,
            span: Span::Rolling(length),
            once: Once::Attempt,
            on_limit: OnLimit::Defer,
            mode: Mode::Enforce,
        };
        let mut key = [0; 16];
        key[..4].copy_from_slice(&job.callee.to_le_bytes());
        // Across campaigns and tenants: all of them are one brand here.
        let id = uuid::Uuid::from_u128(u128::from(number) + 1);
        let claim = Claim {
            tenant: self.tenants[0].clone(),
            recipient: RecipientKey(key),
            job: JobId(id),
            attempt: job.attempt + 1,
            supersedes: job.attempt,
            token: self.chance.u64(..),
            deadline: now,
            seen: None,
            touch: id,
            takes: vec![take(1, CALLS_A_DAY, DAY), take(2, 1, GAP)],
            expires_at: UnixMicros::MAX,
            against: Against {
                kind: Kind::Call,
                class: Class::Marketing,
                address: AddressKey(key),
                sender: None,
                signature: None,
                topic: None,
                cancel_key: None,
                batch: None,
                campaign: None,
                run: None,
                collapse_key: None,
                accepted_at: now,
                moved_at: None,
            },
        };
        match core::claim(&mut self.people, When { now, changed_at: UnixMicros(0) }, &claim, None, |_| {}) {
            Decision::Claimed => Ok(()),
            Decision::OverCap { turn_at, .. } => Err(turn_at.max(now.plus(Duration::from_secs(1)))),
            other => panic!("{other:?}"),
        }
    }

    fn connect(&mut self, number: u32, permit: Permit, now: UnixMicros) {
        self.jobs[number as usize].attempt += 1;
        let ring = Duration::from_millis(self.chance.u64(2_000..12_000));
        let talk = Duration::from_millis(self.chance.u64(5_000..35_000));
        let (result, length) = match self.chance.u32(..100) {
            0..8 => (CallResult::Busy, ring / 4),
            8..25 => (CallResult::NoAnswer, Duration::from_secs(30)),
            25..30 => (CallResult::Declined, ring),
            30..32 => (CallResult::InvalidNumber, Duration::from_millis(300)),
            32..34 => (CallResult::Network, Duration::from_millis(200)),
            _ => {
                self.next.push(Reverse((now.plus(ring), Next::Answered(number))));
                (CallResult::Completed, ring + talk)
            }
        };
        let until = now.plus(length);
        let (campaign, caller) = (!permit.campaign.is_empty(), self.dialer.caller(&permit).into());
        self.dialled.push(Dialled { at: now, until, number, campaign, caller });
        self.next.push(Reverse((until, Next::Ended(number))));
        self.calls.insert(number, (permit, result));
    }

    /// Looks at what was dialled as somebody would who has only the rules.
    fn judge(&self) {
        self.judge_times();
        let size = &self.size;
        let tenant = |call: &Dialled| call.number % size.tenants;
        let judge_lines = |what: &str, most: u32, key: &dyn Fn(&Dialled) -> Key| {
            let lines = self.lines_at_once(key);
            assert!(lines <= most, "{lines} lines of a {what} at a time, {most} allowed");
        };
        judge_lines("trunk", size.lines, &|_| Some(0));
        judge_lines("tenant", size.lines / 4, &|call| Some(tenant(call).into()));
        judge_lines("campaign", size.lines / 5, &|call| call.campaign.then(|| tenant(call).into()));
        judge_lines("number", size.lines / 8, &|call| call.caller.strip_prefix("+8620")?.parse().ok());
        let mut today: HashMap<&str, u32> = HashMap::new();
        self.dialled.iter().for_each(|call| *today.entry(&call.caller).or_default() += 1);
        assert!(today.values().all(|&calls| calls <= size.jobs / 6), "calls of a number: {today:?}");
        assert!(today.len() == 20 && self.finished > size.jobs / 2, "{} finished: {today:?}", self.finished);
        let busy = self.used * 1_000 / self.there.max(1);
        let (calls, finished) = (self.dialled.len(), self.finished);
        println!("{calls} calls, {finished} jobs finished, lines {busy} ‰ busy while work waited: {:?}", self.results);
        assert!(busy >= 950, "lines were {busy} ‰ busy while work waited");
    }

    /// Hours, caps and calls per second.
    fn judge_times(&self) {
        let mut callees: HashMap<u32, Vec<UnixMicros>> = HashMap::new();
        for &Dialled { at, number, .. } in &self.dialled {
            let callee = self.jobs[number as usize].callee;
            let local = jiff::Timestamp::from_microsecond(at.0).unwrap().to_zoned(self.zones[zone(callee)].clone());
            assert!(matches!(local.hour(), 9..12 | 14..20), "{local} is no time to call anybody");
            callees.entry(callee).or_default().push(at);
        }
        for times in callees.values() {
            let close = |pair: &[UnixMicros]| pair[1].since(pair[0]) < GAP;
            assert!(!times.windows(2).any(close), "called again too soon");
            let many = |some: &[UnixMicros]| some[CALLS_A_DAY as usize].since(some[0]) < DAY;
            assert!(!times.windows(CALLS_A_DAY as usize + 1).any(many), "called too often");
        }
        let per_s = self.size.calls_per_s as usize;
        let crowded = |some: &[Dialled]| some[per_s].at.since(some[0].at) < Duration::from_secs(1);
        assert!(!self.dialled.windows(per_s + 1).any(crowded), "more calls in a second than allowed");
    }

    /// Returns how many calls of one key were up at the same time, at most.
    fn lines_at_once(&self, key: &dyn Fn(&Dialled) -> Key) -> u32 {
        let (mut up, mut most) = (HashMap::<u64, u32>::new(), 0);
        let mut ends = BinaryHeap::new();
        for call in &self.dialled {
            while let Some(&Reverse((until, ended))) = ends.peek()
                && until <= call.at
            {
                ends.pop();
                *up.entry(ended).or_default() -= 1;
            }
            if let Some(key) = key(call) {
                ends.push(Reverse((call.until, key)));
                let lines = up.entry(key).or_default();
                *lines += 1;
                most = most.max(*lines);
            }
        }
        most
    }
}

/// Whose line a call takes; `None`: nobody's who is asked about.
type Key = Option<u64>;

#[test]
fn a_day_of_calls_keeps_every_limit_and_leaves_no_line_idle() {
    let mut day = Day::new(Size { jobs: 20_000, lines: 16, tenants: 20, calls_per_s: 2 });
    day.run();
    day.judge();
}

/// Prints how it went: `cargo test --release --lib a_day_of_a_million -- --ignored --nocapture`.
#[test]
#[ignore = "takes a minute without optimization"]
fn a_day_of_a_million_calls_keeps_every_limit_and_leaves_no_line_idle() {
    let mut day = Day::new(Size { jobs: 1_000_000, lines: 500, tenants: 20, calls_per_s: 60 });
    day.run();
    day.judge();
}
