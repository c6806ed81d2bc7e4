//! The feeder on a real queue, ledger and limits, on a virtual clock: who goes when, round by round.

mod dead;

use std::collections::BTreeMap;

use tempfile::TempDir;
use uuid::Uuid;

use super::grant::Part;
use super::release::pause;
use super::round::Memory;
use super::*;
use crate::config::Counting;
use crate::domain::cap::{CapRule, Window};
use crate::domain::ids::{JobId, Lane, PoolId, TenantId};
use crate::domain::job::{Kind, Shared, samples};
use crate::domain::rate::Rate;
use crate::domain::recipient::Recipient;
use crate::domain::time::UnixMicros;
use crate::ledger::sqlite::Sqlite;
use crate::ledger::{Entry, SenderRate, Tenant};
use crate::limits::embedded::Embedded as EmbeddedLimits;
use crate::policy::routes::Member;
use crate::queue::embedded::{Embedded, Options};

const START: UnixMicros = UnixMicros::from_secs(1_000_000);
/// How often the feeder looks.
const TICK: Duration = Duration::from_millis(100);

struct Rig {
    feeder: Context<Embedded, EmbeddedLimits, Sqlite>,
    memory: Memory,
    next: u128,
    _dir: TempDir,
}

fn rate(raw: &str) -> Rate {
    raw.parse().unwrap()
}

fn tenant(id: &str, paced: Option<&str>) -> Tenant {
    Tenant { rate: paced.map(rate), ..Tenant::new(id.parse().unwrap(), START) }
}

/// What the jobs of an envelope have in common, as far as it matters here.
#[derive(Clone, Copy)]
struct Of<'a> {
    tenant: &'a str,
    class: Class,
    pool: &'a str,
    sender: &'a str,
    priority: i8,
}

const ACME: Of<'_> = Of { tenant: "acme", class: Class::Marketing, pool: "fast", sender: "", priority: 0 };

impl Rig {
    async fn new(pools: &[(&str, &str)], tenants: &[Tenant]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, tasks) = (Clock::virtual_at(START), Tasks::new());
        let ledger = Sqlite::open(&dir.path().join("ledger.db"), clock.clone()).unwrap();
        ledger.migrate().await.unwrap();
        for tenant in tenants {
            ledger.put_tenant(tenant).await.unwrap();
        }
        let queue = Embedded::open(&dir.path().join("queue"), Options::default(), &tasks, &clock).await.unwrap();
        let limits = EmbeddedLimits::open(&dir.path().join("limits"), START).unwrap();
        let member = |(pool, per_s): &(&str, &str)| Member {
            pool: pool.parse().unwrap(),
            kinds: vec![Kind::Sms],
            rate: Some(rate(per_s)),
            price: None,
            counting: Counting::GsmIntl,
            signature: "".into(),
            notices_only: false,
            skills: vec![],
        };
        let routes = Arc::new(Routes::new(&pools.iter().map(member).collect::<Vec<_>>()));
        queue.declare(&routes.lanes()).await.unwrap();
        let sealer = Sealer::ephemeral().unwrap();
        let feeder = Context {
            directory: Directory::load(&ledger).await.unwrap(),
            pacer: Pacer::new(limits.clone(), clock.clone()),
            limits,
            lives: [Duration::from_secs(3_600); Class::ALL.len()],
            // Nobody consumes, and the lanes of this test are as short as they should be.
            depths: Depths::watch(queue.clone(), vec![], clock.clone(), &tasks),
            order: Sequence(Some(Mutex::default())),
            work: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            checks: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            facts: Outbox::new(queue.clone(), sealer.clone(), clock.clone(), tasks.clone()),
            metrics: AgendaMetrics::new(),
            queue,
            ledger,
            sealer,
            clock,
            tasks,
            routes,
        };
        Self { feeder, memory: Memory::default(), next: 0, _dir: dir }
    }

    /// Puts `entries` entries of `jobs` jobs each into the agenda.
    async fn waits(&mut self, of: Of<'_>, entries: usize, jobs: usize, due_at: UnixMicros) {
        let mut made: Vec<Entry> = vec![];
        for _ in 0..entries {
            let envelope = self.envelope(of, jobs, due_at);
            self.next += 1;
            made.extend(later::jobs_entry(&self.feeder, Uuid::from_u128(self.next), envelope, due_at));
        }
        self.feeder.ledger.put_entries(&made).await.unwrap();
    }

    /// Returns an envelope to the same people each time.
    fn envelope(&mut self, of: Of<'_>, jobs: usize, due_at: UnixMicros) -> Envelope {
        let shared = Shared {
            tenant: of.tenant.parse().unwrap(),
            pool: of.pool.parse().unwrap(),
            sender: of.sender.into(),
            priority: of.priority,
            expires_at: START.plus(Duration::from_secs(24 * 3600)),
            ..samples::shared(of.class, START)
        };
        let job = |person: usize| {
            let phone = Some(format!("+49151{person:08}").parse().unwrap());
            let id = JobId::new(START, u128::from(fastrand::u64(..)));
            samples::job(id, Recipient { phone, ..Recipient::default() })
        };
        Envelope { shared: Arc::new(shared), due_at, jobs: (0..jobs).map(job).collect() }
    }

    /// Lets the feeder look once, as often in a row as it wants to; returns the jobs released by tenant, lane and
    /// sender.
    async fn look(&mut self) -> Released {
        let mut released = Released::default();
        loop {
            let plan = self.feeder.plan(&mut self.memory).await.unwrap();
            for part in &plan.parts {
                let shared = &part.now.shared;
                let key = (shared.tenant.clone(), part.now.lane(), shared.sender.to_string());
                *released.0.entry(key).or_default() += part.now.jobs.len();
            }
            let more = plan.more;
            if self.feeder.publish(plan).await.unwrap() == 0 || !more {
                return released;
            }
        }
    }

    fn tick(&self) {
        self.feeder.clock.advance(TICK);
    }
}

#[derive(Default)]
struct Released(BTreeMap<(TenantId, Lane, String), usize>);

impl Released {
    fn sum(&self, of: impl Fn(&(TenantId, Lane, String)) -> bool) -> usize {
        self.0.iter().filter(|(key, _)| of(key)).map(|(_, jobs)| jobs).sum()
    }

    fn pool(&self, pool: &str) -> usize {
        let pool: PoolId = pool.parse().unwrap();
        self.sum(|(_, lane, _)| lane.pool == pool)
    }

    fn tenant(&self, tenant: &str) -> usize {
        self.sum(|(id, _, _)| id.as_str() == tenant)
    }
}

#[tokio::test]
async fn a_slow_pool_holds_up_no_fast_one() {
    let mut rig = Rig::new(&[("slow", "10/s"), ("fast", "5000/s")], &[tenant("acme", None)]).await;
    rig.waits(Of { pool: "slow", ..ACME }, 2_000, 1, START).await;
    rig.waits(ACME, 200, 128, START).await;
    let (mut slow, mut fast) = (0, 0);
    for _ in 0..20 {
        let released = rig.look().await;
        slow += released.pool("slow");
        fast += released.pool("fast");
        rig.tick();
    }
    // Two seconds: what the rates bring, and the bursts.
    assert!((15..=25).contains(&slow), "{slow} to the slow pool");
    assert!((9_000..=11_500).contains(&fast), "{fast} to the fast pool");
}

#[tokio::test]
async fn the_opening_rush_is_paced_and_the_higher_class_passes_it() {
    let mut rig = Rig::new(&[("fast", "1000/s")], &[tenant("acme", None), tenant("bolt", None)]).await;
    let open = START.plus(Duration::from_secs(5));
    rig.waits(ACME, 400, 128, open).await;
    let mut per_tick = vec![];
    for tick in 0..100 {
        if tick == 70 {
            rig.waits(Of { tenant: "bolt", class: Class::Notification, ..ACME }, 1, 50, rig.feeder.clock.now()).await;
        }
        let released = rig.look().await;
        if tick < 50 {
            assert_eq!(released.pool("fast"), 0, "early");
        }
        if tick == 70 {
            assert_eq!(released.tenant("bolt"), 50, "it goes at once, before what waits since the opening");
        }
        per_tick.push(released.pool("fast"));
        rig.tick();
    }
    for second in per_tick[50..].windows(10) {
        let jobs: usize = second.iter().sum();
        assert!((850..=1_000 + 250).contains(&jobs), "{jobs} jobs in a second");
    }
}

#[tokio::test]
async fn tenants_go_in_turn_and_none_waits_behind_anothers_rate() {
    let tenants: Vec<_> =
        (0..20).map(|n| tenant(&format!("t{n}"), None)).chain([tenant("slow", Some("1/s"))]).collect();
    let mut rig = Rig::new(&[("fast", "2000/s")], &tenants).await;
    for n in 0..20 {
        rig.waits(Of { tenant: &format!("t{n}"), ..ACME }, 10, 128, START).await;
    }
    rig.waits(Of { tenant: "slow", ..ACME }, 3_000, 1, START.minus(Duration::from_secs(60))).await;
    let mut sums = BTreeMap::<String, usize>::new();
    for _ in 0..60 {
        for ((id, _, _), jobs) in rig.look().await.0 {
            *sums.entry(id.to_string()).or_default() += jobs;
        }
        rig.tick();
    }
    let slow = sums.remove("slow").unwrap();
    assert!((6..=8).contains(&slow), "{slow} of the slow tenant in six seconds");
    let (least, most) = (sums.values().min().unwrap(), sums.values().max().unwrap());
    assert!(sums.len() == 20 && most - least <= 256, "{sums:?}");
    assert!(sums.values().sum::<usize>() > 11_000, "the rate is used: {sums:?}");
}

#[tokio::test]
async fn a_sender_keeps_its_rate_and_holds_up_no_other_even_if_it_gets_it_late() {
    let mut acme = tenant("acme", None);
    let mut rig = Rig::new(&[("fast", "2000/s")], std::slice::from_ref(&acme)).await;
    rig.waits(Of { sender: "slow", ..ACME }, 500, 1, START.plus(Duration::from_secs(1))).await;
    rig.waits(Of { sender: "other", ..ACME }, 500, 1, START.plus(Duration::from_secs(2))).await;
    acme.sender_rates = vec![SenderRate { sender: "slow".into(), rate: rate("2/s") }];
    rig.feeder.directory.put_tenant(&rig.feeder.ledger, &acme).await.unwrap();
    rig.feeder.clock.advance(Duration::from_secs(10));
    let (mut slow, mut other) = (0, 0);
    for _ in 0..30 {
        let released = rig.look().await;
        slow += released.sum(|(_, _, sender)| sender == "slow");
        other += released.sum(|(_, _, sender)| sender == "other");
        rig.tick();
    }
    assert_eq!(other, 500);
    assert!((6..=9).contains(&slow), "{slow} of two a second in three seconds");
}

#[tokio::test]
async fn of_jobs_for_one_recipient_the_higher_is_reserved_an_earlier_time() {
    let mut acme = tenant("acme", None);
    acme.caps = vec![CapRule::new("daily".parse().unwrap(), 1, Window::Rolling(Duration::from_secs(24 * 3600)))];
    let mut rig = Rig::new(&[("fast", "100000/s")], &[acme, tenant("bolt", None)]).await;
    let of = [
        ACME,
        Of { priority: 50, ..ACME },
        Of { class: Class::Notification, priority: -100, ..ACME },
        Of { priority: 50, ..ACME },
        Of { tenant: "bolt", ..ACME },
    ];
    let envelopes = of.map(|of| rig.envelope(of, 2, START)).to_vec();
    let reserved = rig.feeder.reserve(envelopes);
    let after: Vec<_> = reserved.iter().map(|of| of[0].due_at.since(START).as_millis()).collect();
    assert!(reserved.iter().all(|of| of.len() == 1 && of[0].jobs.len() == 2), "an envelope stays whole where it can");
    assert_eq!(after, [300, 150, 0, 150, 0], "by class, then by priority; nobody else waits");
}

#[tokio::test]
async fn a_changed_rate_paces_what_waits_from_then_on() {
    let mut acme = tenant("acme", Some("10/s"));
    let mut rig = Rig::new(&[("fast", "5000/s")], std::slice::from_ref(&acme)).await;
    rig.waits(ACME, 100, 128, START).await;
    let mut seconds = vec![];
    for second in 0..6 {
        if second == 3 {
            acme.rate = Some(rate("500/s"));
            rig.feeder.directory.put_tenant(&rig.feeder.ledger, &acme).await.unwrap();
        }
        let mut sum = 0;
        for _ in 0..10 {
            sum += rig.look().await.tenant("acme");
            rig.tick();
        }
        seconds.push(sum);
    }
    assert!(seconds[1..3].iter().all(|jobs| (9..=11).contains(jobs)), "{seconds:?}");
    assert!(seconds[4..].iter().all(|jobs| (450..=550).contains(jobs)), "{seconds:?}");
}

#[tokio::test]
async fn work_past_the_agenda_draws_from_the_same_credit() {
    let rig = Rig::new(&[("fast", "3000/s")], &[tenant("noisy", None), tenant("quiet", None)]).await;
    let lane = Lane { class: Class::Marketing, pool: "fast".parse().unwrap() };
    let (noisy, quiet): (TenantId, TenantId) = ("noisy".parse().unwrap(), "quiet".parse().unwrap());
    let (mut loud, mut still) = (0, 0);
    // A hundred steps a second: noisy asks for 128 jobs in each, quiet for ten in every tenth.
    for step in 0..500 {
        loud += rig.feeder.grant(&noisy, &[], &lane, (128, Part::Whole)).await.jobs;
        if step % 10 == 0 {
            still += rig.feeder.grant(&quiet, &[], &lane, (10, Part::Whole)).await.jobs;
        }
        rig.feeder.clock.advance(Duration::from_millis(10));
    }
    assert!((13_000..=15_000 + 750).contains(&(loud + still)), "{loud} and {still} in five seconds");
    assert_eq!(still, 500, "who takes its share hardly feels who takes more");
}

#[tokio::test]
async fn a_bucket_that_is_empty_rests_for_a_moment_and_the_feeder_looks_when_that_ends() {
    let mut rig = Rig::new(&[("fast", "1000/s")], &[tenant("acme", None)]).await;
    rig.waits(ACME, 100, 128, START).await;
    let millis = Duration::from_millis;
    assert!(rig.look().await.pool("fast") > 0);
    let rests = |rig: &Rig, took| pause(took, (Some(&rig.memory), None), rig.feeder.clock.now());
    assert_eq!(rests(&rig, millis(1)), millis(40), "not the millisecond in which one job has a token");
    assert_eq!(rests(&rig, millis(10)), millis(50), "looking takes a fifth of the time at most");
    rig.feeder.clock.advance(millis(39));
    assert_eq!((rig.look().await.pool("fast"), rests(&rig, millis(0))), (0, millis(2)));
    rig.feeder.clock.advance(millis(1));
    assert_eq!(rig.look().await.pool("fast"), 40, "what came in meanwhile goes together");
    // Nobody waits for a bucket.
    assert_eq!(pause(millis(1), (None, None), START), millis(100));
    assert_eq!(pause(millis(200), (Some(&Memory::default()), None), START), millis(400));
}
