//! How fast recordings are written, and what that costs in CPU, on both sides. Run by hand:
//! `cargo test --release --test it -- --ignored --nocapture --test-threads 1 ledger_contract::speed`.

use postrider::domain::ids::JobId;
use postrider::domain::keys::AddressKey;
use postrider::domain::time::Clock;
use postrider::ledger::{JobRow, Ledger, NumberedEvent, Recording};

use super::Fixture;
use super::samples::{at, event, job, sent, uuid};

/// Jobs in a recording; each has one event, a hundred share a frame, a thousand a batch.
const JOBS: u32 = 5_000;
const RECORDINGS: u32 = 60;

#[tokio::test]
#[ignore = "a measurement"]
async fn sqlite() {
    measure("sqlite", Fixture::sqlite().await).await;
}

#[tokio::test]
#[ignore = "a measurement"]
async fn postgres() {
    measure("postgres", Fixture::postgres().await).await;
}

async fn measure(backend: &str, Fixture { ledger, .. }: Fixture) {
    let clock = Clock::system();
    let (mut writing, mut reading) = (Spent::default(), Spent::default());
    for round in 0..RECORDINGS {
        let recording = recording(round);
        let before = Spent::so_far(&clock);
        ledger.record(&recording).await.unwrap();
        let written = Spent::so_far(&clock);
        let ids: Vec<JobId> = recording.jobs.iter().map(|job| job.id).collect();
        for ids in ids.chunks(1_000) {
            assert!(ledger.trails(ids).await.unwrap().iter().all(Option::is_some));
        }
        writing.add(&before, &written);
        reading.add(&written, &Spent::so_far(&clock));
    }
    let jobs = f64::from(JOBS * RECORDINGS);
    println!("{backend}: {:.0} jobs/s written, each with an event", jobs / writing.wall);
    for (what, spent) in [("write", writing), ("trail", reading)] {
        let [wall, ours, servers] = [spent.wall, spent.ours, spent.servers].map(|secs| secs * 1e6 / jobs);
        println!("  a {what} took {wall:.1} us, {ours:.1} us of CPU here and {servers:.1} us in PostgreSQL");
    }
}

fn recording(round: u32) -> Recording {
    let (first, after) = (round * JOBS, i64::from(round * JOBS));
    let row = |n: u32| JobRow {
        id: JobId::new(at(i64::from(round)), fastrand::u128(..)),
        accepted_at: at(i64::from(round)),
        due_at: at(i64::from(round)),
        address: AddressKey(uuid(n).into_bytes()),
        batch: Some(uuid(n / 1_000)),
        ..job(n)
    };
    let jobs: Vec<JobRow> = (first..first + JOBS).map(row).collect();
    let event = |(seq, job): (i64, &JobRow)| {
        let mut happened = event(seq, 1, sent());
        (happened.event.job, happened.event.at) = (job.id, job.accepted_at);
        happened
    };
    let events: Vec<NumberedEvent> = (after + 1..).zip(&jobs).map(event).collect();
    Recording {
        after,
        frames: (first..).step_by(100).take(50).map(uuid).collect(),
        jobs,
        events,
        ..Recording::default()
    }
}

/// Seconds.
#[derive(Default)]
struct Spent {
    wall: f64,
    ours: f64,
    servers: f64,
}

impl Spent {
    fn so_far(clock: &Clock) -> Self {
        let wall = clock.now().0 as f64 / 1e6;
        let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
        let servers = processes
            .filter(|path| std::fs::read_to_string(path.join("comm")).is_ok_and(|name| name.starts_with("postgres")));
        let servers = servers.filter_map(|path| cpu(path.join("stat").to_str()?)).sum();
        Self { wall, ours: cpu("/proc/self/stat").unwrap(), servers }
    }

    fn add(&mut self, from: &Self, to: &Self) {
        self.wall += to.wall - from.wall;
        self.ours += to.ours - from.ours;
        self.servers += to.servers - from.servers;
    }
}

/// Returns the CPU time of a process, at the kernel's hundred ticks per second.
fn cpu(stat: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(stat).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some((fields[11].parse::<f64>().ok()? + fields[12].parse::<f64>().ok()?) / 100.0)
}
