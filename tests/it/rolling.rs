//! A rolling restart under load: two processes of each role on real servers, replaced one after the other by `SIGTERM`.
//! Nothing that was accepted is lost, and nobody is reached twice.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::job_service_client::JobServiceClient;
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
    rolling: AtomicBool,
    /// By number: the job's id.
    accepted: Mutex<HashMap<String, String>>,
    /// How long batches took to be accepted, before the restart and during it.
    took: Mutex<[Vec<Duration>; 2]>,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_when_all_processes_are_replaced_under_load() {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let sink = Sink::start(&["--latency", "5"]);
    let keys = tempfile::tempdir().unwrap();
    let fleet = fleet(&sink, &keys.path().join("keys"));
    let key = fleet["front"][0].key();
    let client =
        |front: &Service| JobServiceClient::new(front.connect_with(&key)).max_decoding_message_size(64 * 1024 * 1024);
    let load = Arc::new(Load {
        fronts: fleet["front"].iter().map(client).collect(),
        clock: clock.clone(),
        over: AtomicBool::new(false),
        rolling: AtomicBool::new(false),
        accepted: Mutex::default(),
        took: Mutex::default(),
    });
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let load = Arc::clone(&load);
            tasks.spawn("caller", async move { load.call(caller).await })
        })
        .collect();
    clock.pause(Duration::from_secs(3)).await;
    load.rolling.store(true, Ordering::Relaxed);
    for role in ROLES {
        for process in &fleet[role] {
            let took = tokio::task::block_in_place(|| {
                let took = process.stop();
                process.start_role();
                took
            });
            assert!(took < STOP_MAX, "{role} took {took:?} to stop:\n{}", process.log());
        }
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
    load.print(accepted.len());
    balance(&accepted, &sink, &watched);
}

/// Starts two processes of each role on servers of their own, the first front before the others: it makes the tenant.
fn fleet(sink: &Sink, keys: &Path) -> HashMap<&'static str, Vec<Service>> {
    let backends = Backends::servers();
    let mut fleet: HashMap<_, Vec<Service>> = HashMap::new();
    for &role in ROLES.iter().rev() {
        for _ in 0..2 {
            let mut settings = "[shutdown]\ngrace = \"8s\"\nlame_duck = \"200ms\"\n".to_owned();
            settings += &format!("[seal]\nkey_file = {keys:?}\n");
            settings += &smpp_provider(sink.port(), "binds = 2\nwindow = 100\nreceipts = false\n");
            let process = Service::prepare(&backends, &settings, &["--roles", role]);
            process.start_role();
            fleet.entry(role).or_default().push(process);
        }
    }
    fleet
}

impl Load {
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
            self.took.lock().unwrap()[usize::from(self.rolling.load(Ordering::Relaxed))].push(watch.elapsed());
            self.accepted.lock().unwrap().extend(numbers.into_iter().zip(ids));
            number += 1;
            self.clock.pause(PAUSE).await;
        }
    }

    /// Submits a batch, to the other front whenever one does not take it.
    async fn insist(&self, request: &SubmitBatchRequest, first: usize) -> Vec<String> {
        for attempt in first..first + 600 {
            let mut front = self.fronts[attempt % self.fronts.len()].clone();
            match front.submit_batch(request.clone()).await {
                Ok(answer) => return answer.into_inner().results.into_iter().map(api::accepted_id).collect(),
                Err(status) => assert_ne!(status.code(), tonic::Code::InvalidArgument, "{status:?}"),
            }
            self.clock.pause(Duration::from_millis(20)).await;
        }
        panic!("no front takes anything");
    }

    /// Prints how long batches took; what that means is for the load tests to say.
    fn print(&self, jobs: usize) {
        let mut took = self.took.lock().unwrap();
        let mut p99 = |which: usize| {
            took[which].sort_unstable();
            (took[which].len(), took[which].get(took[which].len() * 99 / 100).copied())
        };
        println!(
            "{jobs} jobs; batches and the 99th percentile to accept one: quiet {:?}, rolling {:?}",
            p99(0),
            p99(1)
        );
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
