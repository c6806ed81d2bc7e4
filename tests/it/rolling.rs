//! A rolling restart under load: two processes of each role on real servers, replaced one after the other by `SIGTERM`.
//! Nothing that was accepted is lost, and nobody is reached twice.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{Class, Fate, SubmitBatchRequest};
use postrider::shutdown::Tasks;

use crate::support::api::{self, Client, Watched};
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

/// The roles, in the order in which they are replaced: fronts last, as an upgrade does.
const ROLES: &[&str] = &["record", "feed", "dispatch", "front"];
/// Callers at a time, each with a batch of so many jobs after so long.
const CALLERS: usize = 4;
const BATCH: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);
/// Longer than any stop takes: the grace time, with room for a busy machine.
const STOP_MAX: Duration = Duration::from_secs(12);
/// How long every job may take to its outcome.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the callers know.
struct Load {
    /// A client of each front.
    fronts: Vec<Client>,
    clock: Clock,
    over: AtomicBool,
    /// What is replaced now: 0 nothing, else the number of its role, from 1.
    replaced: AtomicUsize,
    /// By number: the job's id.
    accepted: Mutex<HashMap<String, String>>,
    /// How long batches took to be accepted, by what was replaced when they were handed in.
    took: Mutex<[Vec<Duration>; ROLES.len() + 1]>,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_all_processes_are_replaced_under_load() {
    roll(Duration::from_secs(3), Duration::ZERO, 1).await;
}

/// Every process is replaced three times, each a while after the one before was ready, as the chart does it; callers
/// notice little. For a machine that does nothing else.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes two minutes, and a quiet machine"]
async fn callers_notice_little_when_all_processes_are_replaced_again_and_again() {
    let [quiet, rolling] = roll(Duration::from_secs(30), Duration::from_secs(5), 3).await;
    assert!(rolling <= 3 * quiet, "the 99th percentile of accepting a batch rose from {quiet:?} to {rolling:?}");
}

/// Replaces every process so many times, after so long without, with `between` after each; returns the 99th percentiles
/// of accepting a batch, before and meanwhile.
async fn roll(quiet: Duration, between: Duration, rounds: usize) -> [Duration; 2] {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let sink = Sink::start(&["--latency", "5"]);
    let keys = tempfile::tempdir().unwrap();
    let fleet = fleet(&sink, &keys.path().join("keys"));
    let load = Load::on(&fleet["front"], &clock);
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let load = Arc::clone(&load);
            tasks.spawn("caller", async move { load.call(caller).await })
        })
        .collect();
    clock.pause(quiet).await;
    let roles = (0..rounds).flat_map(|_| (1..).zip(ROLES));
    for (number, process) in roles.flat_map(|(number, role)| fleet[role].iter().map(move |process| (number, process))) {
        load.replaced.store(number, Ordering::Relaxed);
        let took = tokio::task::block_in_place(|| {
            let took = process.stop();
            process.restart(None);
            took
        });
        assert!(took < STOP_MAX, "it took {took:?} to stop:\n{}", process.log());
        clock.pause(between).await;
    }
    clock.pause(Duration::from_secs(1)).await;
    load.over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    let accepted = std::mem::take(&mut *load.accepted.lock().unwrap());
    let mut watched = Watched::default();
    let watch = clock.stopwatch();
    while !accepted.values().all(|id| watched.outcomes.contains_key(id)) && watch.elapsed() < PATIENCE {
        watched.follow(&load.fronts[0], Duration::from_millis(500)).await;
    }
    let percentiles = load.percentiles();
    println!("{} jobs; 99th percentile to accept a batch, quiet and rolling: {percentiles:?}", accepted.len());
    balance(&accepted, &sink, &watched);
    percentiles
}

/// Starts two processes of each role on servers of their own; the first of all makes the tenant and the keys.
fn fleet(sink: &Sink, keys: &Path) -> HashMap<&'static str, Vec<Service>> {
    let backends = Backends::servers();
    let settings = format!("[seal]\nkey_file = {keys:?}\n[shutdown]\ngrace = \"8s\"\nlame_duck = \"200ms\"\n")
        + &smpp_provider(sink.port(), "binds = 2\nwindow = 100\nreceipts = false\nresponse_timeout = \"3s\"\n");
    let first = Service::prepare(&backends, &settings, &["--roles", "front"]);
    first.restart(None);
    let second = first.join(&backends, "front", &settings);
    let mut fleet: HashMap<_, _> = ROLES[..ROLES.len() - 1]
        .iter()
        .map(|&role| (role, [(); 2].map(|()| first.join(&backends, role, &settings)).into()))
        .collect();
    fleet.insert("front", vec![first, second]);
    fleet
}

impl Load {
    fn on(fronts: &[Service], clock: &Clock) -> Arc<Self> {
        let key = fronts[0].key();
        let client =
            |front: &Service| Client::new(front.connect_with(&key)).max_decoding_message_size(64 * 1024 * 1024);
        Arc::new(Self {
            fronts: fronts.iter().map(client).collect(),
            clock: clock.clone(),
            over: AtomicBool::new(false),
            replaced: AtomicUsize::new(0),
            accepted: Mutex::default(),
            took: Mutex::default(),
        })
    }

    /// Submits batches to one front or the other until the restart is over.
    async fn call(&self, caller: usize) {
        let mut number = 0;
        while !self.over.load(Ordering::Relaxed) {
            let class = [Class::Marketing, Class::Otp, Class::Notification, Class::Transactional][number % 4];
            let numbers: Vec<_> =
                (0..BATCH).map(|item| format!("+86130{caller}{:07}", number * BATCH + item)).collect();
            let request = api::batch(&format!("{caller}-{number}"), api::text(class, "hello"), &numbers);
            let watch = self.clock.stopwatch();
            let ids = self.insist(&request, caller + number).await;
            self.took.lock().unwrap()[self.replaced.load(Ordering::Relaxed)].push(watch.elapsed());
            self.accepted.lock().unwrap().extend(numbers.into_iter().zip(ids));
            number += 1;
            self.clock.pause(PAUSE).await;
        }
    }

    /// Submits a batch, to the other front at once whenever one does not take it, and after a while again.
    async fn insist(&self, request: &SubmitBatchRequest, first: usize) -> Vec<String> {
        let mut refused = None;
        for attempt in first..first + 600 {
            if attempt > first + 1 {
                self.clock.pause(Duration::from_millis(20)).await;
            }
            let mut front = self.fronts[attempt % self.fronts.len()].clone();
            match front.submit_batch(request.clone()).await {
                Ok(answer) => return answer.into_inner().results.into_iter().map(api::accepted_id).collect(),
                Err(status) => {
                    assert_ne!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
                    refused = Some(status);
                }
            }
        }
        panic!("no front takes anything: {refused:?}");
    }

    /// Returns the 99th percentiles of how long batches took, with nothing replaced and with anything; prints them by role.
    fn percentiles(&self) -> [Duration; 2] {
        let took = std::mem::take(&mut *self.took.lock().unwrap());
        let percentile = |mut took: Vec<Duration>| {
            took.sort_unstable();
            took.get(took.len() * 99 / 100).copied().unwrap_or_default()
        };
        for (took, role) in took[1..].iter().zip(ROLES) {
            println!("{role} replaced: {} batches, 99th percentile {:?}", took.len(), percentile(took.clone()));
        }
        let [quiet, rolling @ ..] = took;
        [percentile(quiet), percentile(rolling.concat())]
    }
}

/// Each accepted job has one outcome and was handed over once.
fn balance(accepted: &HashMap<String, String>, sink: &Sink, watched: &Watched) {
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    for submit in sink.taken() {
        *taken.entry(format!("+{}", submit.to)).or_default() += 1;
    }
    let mut wrong = vec![];
    for (number, id) in accepted {
        let outcomes = watched.outcomes.get(id).map_or(&[][..], Vec::as_slice);
        let handed = taken.remove(number).unwrap_or_default();
        if !matches!(outcomes, [(Fate::Sent, _)]) || handed != 1 {
            wrong.push(format!("{id}: handed over {handed} times, outcomes {outcomes:?}"));
        }
    }
    assert!(accepted.len() > 1_000, "{} jobs are no load", accepted.len());
    assert!(wrong.is_empty(), "{} of {} jobs: {:#?}", wrong.len(), accepted.len(), &wrong[..wrong.len().min(20)]);
    assert!(taken.is_empty(), "handed over and never accepted: {taken:?}");
}
