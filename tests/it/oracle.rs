//! A campaign on the virtual clock, with send windows and seven caps, against an oracle: none early, none too often, none
//! later than it could have been, none lost. The oracle knows rules only as they are written down: it walks time in steps
//! and counts.
//!
//! The clock is moved to the next moment for which any job waits, and stands there until each of them has been decided,
//! so that every decision has an exact time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use postrider::domain::time::Clock;
use postrider::pb::admin_service_client::AdminServiceClient;
use postrider::pb::cap_window::Window;
use postrider::pb::tenant_service_client::TenantServiceClient;
use postrider::pb::{self, Class, Fate, OnMissed, Recipient, State, event};

use crate::support::api::{self, Client};
use crate::support::service::{Backends, Service};

/// Answers at once and sends no receipts: the clock stands still between two steps, and so would its answers.
const SETTINGS: &str = "\n[windows]\ndefaults = \"shipped\"\n[[provider]]\nid = \"sim\"\nkind = \"simulated\"\n\
                        latency = \"0s\"\nreceipts = false\n";
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// Everything here begins and ends at whole half hours: starts, windows, days of half-hour zones, and so every opening.
const GRID: i64 = HOUR / 2;
/// Where people live; the second has half an hour in its offset, the last two change their clocks.
const ZONES: [&str; 4] = ["Asia/Shanghai", "Asia/Kolkata", "Europe/Berlin", "America/New_York"];
/// Shipped: marketing texts from eight to eight.
const OPEN: std::ops::Range<i8> = 8..20;
/// Longer than any step takes on a machine that compiles.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn two_days_of_a_campaign_go_as_an_oracle_says() {
    campaign(150, 900, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "long: a month, a hundred thousand people"]
async fn a_month_of_a_campaign_goes_as_an_oracle_says() {
    campaign(100_000, 600_000, 31).await;
}

// === The oracle ===

/// How a cap counts.
#[derive(Clone, Copy)]
enum Counts {
    Rolling(i64),
    Day,
    ClockHour,
    FromFirst(i64),
    Bucket(i64),
}

/// A cap: its name, how many, how they count; for one topic alone it drops.
struct Cap {
    name: &'static str,
    limit: usize,
    counts: Counts,
    topic: &'static str,
}

const CAPS: [Cap; 7] = [
    Cap { name: "day", limit: 2, counts: Counts::Day, topic: "" },
    Cap { name: "week", limit: 5, counts: Counts::Rolling(7 * DAY), topic: "" },
    Cap { name: "gap", limit: 1, counts: Counts::Rolling(2 * HOUR), topic: "" },
    Cap { name: "hour", limit: 1, counts: Counts::ClockHour, topic: "" },
    Cap { name: "first", limit: 3, counts: Counts::FromFirst(DAY), topic: "" },
    Cap { name: "bucket", limit: 2, counts: Counts::Bucket(8 * HOUR), topic: "" },
    Cap { name: "flash", limit: 1, counts: Counts::Rolling(DAY), topic: "flash" },
];

impl Cap {
    /// Returns whether there is a place at `at` after those that were taken at `taken`, oldest first.
    fn room(&self, taken: &[i64], at: i64, zone: &TimeZone) -> bool {
        let since = |from: i64| taken.iter().filter(|taken| **taken > from).count();
        match self.counts {
            Counts::Rolling(length) => since(at - length) < self.limit,
            Counts::Day => {
                let day = |at| wall(zone, at).date();
                taken.iter().filter(|taken| day(**taken) == day(at)).count() < self.limit
            }
            Counts::ClockHour => since(at - at.rem_euclid(HOUR) - 1) < self.limit,
            Counts::FromFirst(length) => {
                let (mut first, mut places) = (i64::MIN / 2, 0);
                for &taken in taken {
                    if taken >= first + length {
                        (first, places) = (taken, 0);
                    }
                    places += 1;
                }
                at >= first + length || places < self.limit
            }
            Counts::Bucket(refill) => {
                // In seconds of refilling: a place is one refill.
                let full = i64::try_from(self.limit).unwrap() * refill;
                let (mut level, mut last) = (full, i64::MIN / 2);
                for &taken in taken {
                    level = full.min(level.saturating_add(taken - last)) - refill;
                    last = taken;
                }
                full.min(level.saturating_add(at - last)) >= refill
            }
        }
    }

    fn counts(&self, topic: &str) -> bool {
        self.topic.is_empty() || self.topic == topic
    }

    fn to_pb(&self) -> pb::CapRule {
        let length = |seconds| prost_types::Duration { seconds, nanos: 0 };
        let window = match self.counts {
            Counts::Rolling(of) if self.name == "gap" => Window::Gap(length(of)),
            Counts::Rolling(of) => Window::Rolling(length(of)),
            Counts::Day => Window::Calendar(pb::CalendarUnit::Day.into()),
            Counts::ClockHour => Window::Clock(pb::ClockUnit::Hour.into()),
            Counts::FromFirst(of) => Window::FromFirst(length(of)),
            Counts::Bucket(of) => Window::Bucket(pb::BucketWindow { refill: Some(length(of)) }),
        };
        let topics = if self.topic.is_empty() { vec![] } else { vec![self.topic.to_owned()] };
        let on_limit = if self.topic.is_empty() { pb::OnLimit::Defer } else { pb::OnLimit::Drop };
        pb::CapRule {
            name: self.name.into(),
            filter: Some(pb::RuleFilter { topics, ..pb::RuleFilter::default() }),
            limit: u32::try_from(self.limit).unwrap(),
            window: Some(pb::CapWindow { window: Some(window), ..pb::CapWindow::default() }),
            on_limit: on_limit.into(),
            ..pb::CapRule::default()
        }
    }
}

fn wall(zone: &TimeZone, at: i64) -> jiff::civil::DateTime {
    zone.to_datetime(Timestamp::from_second(at).unwrap())
}

/// What jobs have in common that are submitted together.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Sort {
    class: Class,
    topic: &'static str,
    drop: bool,
    /// It expires when the first of its days is over.
    hurried: bool,
}

const SORTS: [Sort; 5] = [
    Sort { class: Class::Marketing, topic: "sale", drop: false, hurried: false },
    Sort { class: Class::Marketing, topic: "sale", drop: true, hurried: false },
    Sort { class: Class::Marketing, topic: "sale", drop: false, hurried: true },
    Sort { class: Class::Marketing, topic: "flash", drop: false, hurried: false },
    Sort { class: Class::Notification, topic: "points", drop: false, hurried: false },
];

/// A job, and what is known of it.
struct Job {
    person: usize,
    sort: Sort,
    start: i64,
    expires: i64,
    /// The moment at which it is decided next; `None`: it has its outcome.
    wakes: Option<i64>,
}

/// What was decided of a job, and when.
#[derive(Debug)]
enum Decided {
    Deferred { reason: String, until: i64 },
    Ended { fate: Fate, reason: String },
}

struct Oracle {
    zones: Vec<TimeZone>,
    /// Of each person, what was sent: when, and about what.
    sent: Vec<Vec<(i64, &'static str)>>,
}

impl Oracle {
    fn open(&self, job: &Job, at: i64) -> bool {
        job.sort.class != Class::Marketing || OPEN.contains(&wall(&self.zones[job.person % ZONES.len()], at).hour())
    }

    /// Returns the first cap without a place for a job, those that drop first.
    fn full(&self, job: &Job, at: i64) -> Option<&'static Cap> {
        let full = |cap: &&Cap| {
            let counted = self.sent[job.person].iter().filter(|(_, topic)| cap.counts(topic));
            let taken: Vec<i64> = counted.map(|(at, _)| *at).collect();
            cap.counts(job.sort.topic) && !cap.room(&taken, at, &self.zones[job.person % ZONES.len()])
        };
        CAPS.iter().rev().find(full)
    }

    /// Returns the first moment from `from` on that a condition allows, before the job expires.
    fn first(&self, job: &Job, from: i64, allowed: impl Fn(i64) -> bool) -> Option<i64> {
        let grid = (from + GRID - 1).div_euclid(GRID) * GRID;
        (grid..job.expires).step_by(GRID as usize).find(|&at| allowed(at))
    }

    /// Checks what was decided of a job at `at`; `alone`: no other job of the person was waiting.
    fn check(&mut self, job: &Job, at: i64, decided: &Decided, alone: bool) {
        let (open, full) = (self.open(job, at), self.full(job, at));
        let what = || {
            let wall = |at| wall(&self.zones[job.person % ZONES.len()], at).to_string();
            let sent: Vec<_> =
                self.sent[job.person].iter().map(|(at, topic)| format!("{} {topic}", wall(*at))).collect();
            format!(
                "{decided:?} at {at}, which is {}; started {}, expires {}, {}, open: {open}, full: {:?}, alone: {alone}, \
                 sent: {sent:?}",
                wall(at),
                wall(job.start),
                wall(job.expires),
                job.sort.topic,
                full.map(|cap| cap.name)
            )
        };
        assert!(at >= job.start && at < job.expires, "early or late: {}", what());
        match decided {
            Decided::Ended { fate: Fate::Sent, .. } => {
                assert!(open, "outside its window: {}", what());
                assert!(full.is_none(), "over {}: {}", full.unwrap().name, what());
                self.sent[job.person].push((at, job.sort.topic));
            }
            Decided::Ended { fate: Fate::Expired, reason } if reason.starts_with("window:") => {
                let never = self.first(job, at, |at| self.open(job, at) && self.full(job, at).is_none()).is_none();
                assert!(!open && job.sort.drop || never, "it could have gone: {}", what());
            }
            Decided::Ended { fate: Fate::Expired, .. } => {
                let never = self.first(job, at, |at| self.full(job, at).is_none()).is_none();
                assert!(never, "it could have gone: {}", what());
            }
            Decided::Ended { fate: Fate::Suppressed, reason } => {
                assert!(open && reason == "flash" && full.is_some_and(|cap| cap.name == "flash"), "{}", what());
            }
            Decided::Ended { .. } => panic!("{}", what()),
            Decided::Deferred { reason, until } => {
                assert!(self.open(job, *until) && *until > at && *until < job.expires, "{}", what());
                assert_eq!(reason.starts_with("window:"), !open, "{}", what());
                // With others, it may have to let them go first.
                if alone {
                    let next = self.first(job, at, |at| self.open(job, at) && (!open || self.full(job, at).is_none()));
                    assert_eq!(next, Some(*until), "{}", what());
                }
            }
        }
    }
}

// === The play ===

struct Stage {
    service: Service,
    jobs: Client,
    token: String,
}

impl Stage {
    /// Moves the clock to a time that has not passed, and returns the time it shows.
    async fn go(&self, to: i64) -> i64 {
        let now = self.advance(Duration::from_micros(1)).await;
        let now = i128::from(now.seconds) * 1_000_000_000 + i128::from(now.nanos);
        let left = u64::try_from(i128::from(to) * 1_000_000_000 - now).unwrap_or(0);
        self.advance(Duration::from_nanos(left)).await.seconds
    }

    async fn advance(&self, by: Duration) -> prost_types::Timestamp {
        let by = prost_types::Duration { seconds: by.as_secs().cast_signed(), nanos: by.subsec_nanos().cast_signed() };
        let mut admin = AdminServiceClient::new(self.service.connect());
        admin.advance_clock(pb::AdvanceClockRequest { by: Some(by) }).await.unwrap().into_inner().now.unwrap()
    }

    /// Takes in what was decided within `time`, in its order.
    async fn follow(&mut self, time: Duration) -> Vec<(String, i64, Decided)> {
        let (clock, mut decided) = (Clock::system(), Vec::new());
        let request = pb::WatchEventsRequest {
            resume_token: self.token.clone(),
            from_start: self.token.is_empty(),
            ..pb::WatchEventsRequest::default()
        };
        let watch = clock.stopwatch();
        let Ok(Ok(answer)) = clock.timeout(time, self.jobs.watch_events(request)).await else { return decided };
        let mut stream = answer.into_inner();
        while let Ok(Ok(Some(answer))) = clock.timeout(time.saturating_sub(watch.elapsed()), stream.message()).await {
            self.token = answer.resume_token;
            decided.extend(answer.events.into_iter().filter_map(decision));
            if !decided.is_empty() {
                break;
            }
        }
        decided
    }
}

fn decision(event: pb::Event) -> Option<(String, i64, Decided)> {
    let at = event.at?.seconds;
    let Some(event::What::StateChange(change)) = event.what else { return None };
    let decided = match (change.state(), change.outcome) {
        (State::Settled, Some(outcome)) => Decided::Ended { fate: outcome.fate(), reason: outcome.reason },
        (State::Scheduled, None) => {
            let until = change.until.unwrap();
            assert_eq!(until.nanos, 0, "every opening is at a whole half hour");
            Decided::Deferred { reason: change.reason, until: until.seconds }
        }
        _ => return None,
    };
    Some((event.job_id, at, decided))
}

async fn campaign(people: usize, count: usize, days: i64) {
    let service = Service::prepare(&Backends::Embedded, SETTINGS, &["--clock", "virtual"]);
    service.restart(None);
    let mut stage = Stage { jobs: api::jobs(&service), service, token: String::new() };
    let tenant =
        pb::Tenant { tenant_id: "default".into(), caps: CAPS.iter().map(Cap::to_pb).collect(), ..Default::default() };
    let update_mask = Some(prost_types::FieldMask { paths: vec!["caps".into()] });
    let request = pb::UpdateTenantRequest { tenant: Some(tenant), update_mask };
    TenantServiceClient::new(stage.service.connect()).update_tenant(request).await.unwrap();

    let watch = Clock::system().stopwatch();
    let now = stage.advance(Duration::from_micros(1)).await.seconds;
    let begin = stage.go((now + DAY).div_euclid(DAY) * DAY).await;
    let zones = ZONES.iter().map(|zone| TimeZone::get(zone).unwrap()).collect();
    let mut oracle = Oracle { zones, sent: vec![vec![]; people] };
    let mut jobs = submit(&stage, &oracle, (people, count, days), begin).await;
    let accepted = jobs.len();

    let (mut moments, mut ends, mut deferrals) = (0, BTreeMap::<String, usize>::new(), 0);
    // Of each person, how many jobs have been decided on and wait.
    let mut waiting = vec![0_usize; people];
    while let Some(at) = jobs.values().filter_map(|job| job.wakes).min() {
        stage.go(at).await;
        moments += 1;
        let mut awake: HashSet<String> =
            jobs.iter().filter(|(_, job)| job.wakes == Some(at)).map(|(id, _)| id.clone()).collect();
        let mut by_person = vec![0_usize; people];
        awake.iter().for_each(|id| by_person[jobs[id].person] += 1);
        let (step, mut all) = (Clock::system().stopwatch(), Vec::new());
        while !awake.is_empty() {
            for (id, decided_at, decided) in stage.follow(Duration::from_millis(500)).await {
                assert!(awake.remove(&id), "{id} was decided unasked: {decided:?}");
                assert_eq!(decided_at, at, "decided at another time than it waited for");
                all.push((id, decided));
            }
            let log = || stage.service.log();
            assert!(step.elapsed() < PATIENCE, "{} jobs are not decided; the service said:\n{}", awake.len(), log());
        }
        // Of decisions of one moment, it is not told which came first: what was sent stood in the way of the rest.
        all.sort_by_key(|(_, decided)| !matches!(decided, Decided::Ended { fate: Fate::Sent, .. }));
        for (id, decided) in all {
            let job = jobs.get_mut(&id).expect("an accepted job");
            let alone = by_person[job.person] == 1 && waiting[job.person] == 0;
            oracle.check(job, at, &decided, alone);
            job.wakes = match decided {
                Decided::Deferred { until, .. } => {
                    deferrals += 1;
                    Some(until)
                }
                Decided::Ended { fate, reason } => {
                    *ends.entry(format!("{fate:?} {reason}")).or_default() += 1;
                    None
                }
            };
        }
        waiting.fill(0);
        for job in jobs.values_mut().filter(|job| job.wakes.is_some_and(|wakes| wakes > at)) {
            // Those that have not come to their first moment stand in nobody's way.
            waiting[job.person] += usize::from(job.start <= at);
        }
    }
    let ended: usize = ends.values().sum();
    assert_eq!(ended, accepted, "each job has one end");
    assert!(ends.len() >= 4 && deferrals > accepted / 100, "the rules have work: {ends:?}, {deferrals} deferrals");
    println!(
        "{accepted} jobs for {people} people over {days} days, {moments} moments, {deferrals} deferrals, {:.1} s: {ends:?}",
        watch.elapsed().as_secs_f64()
    );
}

/// Submits jobs that start at any half hour of the days, and checks that those are refused that the oracle says.
async fn submit(
    stage: &Stage,
    oracle: &Oracle,
    (people, count, days): (usize, usize, i64),
    begin: i64,
) -> HashMap<String, Job> {
    let mut random = fastrand::Rng::with_seed(7);
    let mut jobs = HashMap::new();
    let lot = 500.min(count / SORTS.len());
    for number in 0..count / lot {
        let sort = SORTS[number % SORTS.len()];
        let end = sort.hurried.then_some(begin + DAY + 9 * HOUR);
        let mut drawn = Vec::with_capacity(lot);
        for _ in 0..lot {
            let start = begin + random.i64(1..days * DAY / GRID) * GRID;
            let mut job = Job { person: random.usize(..people), sort, start, expires: i64::MAX / 2, wakes: None };
            let first = (start..).step_by(GRID as usize).find(|&at| sort.drop || oracle.open(&job, at)).unwrap();
            let life = if sort.class == Class::Marketing { 48 * HOUR } else { 24 * HOUR };
            job.expires = end.unwrap_or(first + life);
            job.wakes = (first < job.expires).then_some(first);
            drawn.push(job);
        }
        let schedule = pb::Schedule {
            expires_at: end.map(|seconds| prost_types::Timestamp { seconds, nanos: 0 }),
            on_missed: if sort.drop { OnMissed::Drop } else { OnMissed::Defer }.into(),
            ..pb::Schedule::default()
        };
        let spec =
            pb::JobSpec { topic: sort.topic.into(), schedule: Some(schedule), ..api::text(sort.class, "member day") };
        let item = |job: &Job| pb::BatchItem {
            recipient: Some(Recipient {
                phone: format!("+1202{:07}", job.person),
                time_zone: ZONES[job.person % ZONES.len()].into(),
                ..Recipient::default()
            }),
            send_at: Some(prost_types::Timestamp { seconds: job.start, nanos: 0 }),
            ..pb::BatchItem::default()
        };
        let items = drawn.iter().map(item).collect();
        let request = pb::SubmitBatchRequest { spec: Some(spec), items, ..pb::SubmitBatchRequest::default() };
        let answer = stage.jobs.clone().submit_batch(request).await.unwrap().into_inner();
        for (job, result) in drawn.into_iter().zip(answer.results) {
            match result.result.unwrap() {
                pb::batch_item_result::Result::JobId(id) => {
                    assert!(job.wakes.is_some(), "it can never go, and was accepted");
                    jobs.insert(id, job);
                }
                pb::batch_item_result::Result::Refusal(refusal) => {
                    assert!(job.wakes.is_none() && refusal.field == "spec.schedule.expires_at", "{refusal:?}");
                }
            }
        }
    }
    jobs
}
