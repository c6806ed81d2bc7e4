//! What hand-overs cost from frames in memory to the provider's answer, over real sockets. Run it with
//! `cargo bench --bench providers`.
//!
//! Modelled: sealed frames that are opened, and their jobs handed over as permits come free: never more than the window at
//! once. Over SMPP, one bind with a window of 100 to `postrider-load sink`, a process of its own; through a cloud, Aliyun
//! SMS to its simulator, which answers after 20 ms, in a thread of its own. What is not: queue, claims and ledger. Printed
//! besides: the processor time of the thread that hands over, for each hand-over.

#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postrider::channel::http::client::Client;
use postrider::channel::sms::aliyun::Aliyun;
use postrider::channel::sms::cloud::{self, Cloud};
use postrider::channel::sms::smpp::{Account, Settings, Smpp};
use postrider::channel::{Answer, Channel, Handover};
use postrider::config::{self, Link};
use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, ENVELOPE_JOBS_MAX, Envelope, Job, Kind, OnMissed, Origin, Shared};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::leave::filled;
use postrider::queue::frame::{FRAME_JOBS_MAX, Frame};
use postrider::seal::Sealer;
use postrider::shutdown::Tasks;
use postrider::simulator::{Behaviour, Simulator, aliyun};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Hand-overs of one measurement.
const JOBS: usize = 20_000;
/// Jobs that one call of dispatch hands over at most.
const CALL: usize = 128;

/// The sink, which ends with its standard input.
struct Sink {
    child: Child,
    address: String,
}

// === impl Sink ===

impl Sink {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_postrider-load"));
        let mut child = command
            .args(["sink", "--listen", "127.0.0.1:0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let said: serde_json::Value = serde_json::from_str(&line).unwrap();
        let address = said["listening"].as_str().unwrap().to_owned();
        Self { child, address }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // One that ended before is as good.
        let _ended = self.child.wait();
    }
}

/// Returns frames as dispatch takes them from a lane, sealed.
fn frames(sealer: &Sealer) -> Vec<Bytes> {
    let shared = Arc::new(Shared {
        tenant: "acme".parse().unwrap(),
        kind: Kind::Sms,
        class: Class::Marketing,
        pool: "sms".parse().unwrap(),
        content: Content::Text("x".repeat(140).into()),
        sender: "10690000".into(),
        topic: "sale".into(),
        labels: vec![],
        origin: Origin::default(),
        batch: None,
        priority: 0,
        accepted_at: UnixMicros::from_secs(1_700_000_000),
        expires_at: UnixMicros::from_secs(1_700_086_400),
        windows: vec![],
        on_missed: OnMissed::Defer,
        moved_at: None,
        chain: None,
        trace: None,
    });
    let job = |number: usize| Job {
        id: JobId::new(UnixMicros::from_secs(1_700_000_000), (number as u128) << 64),
        recipient: Recipient { phone: Some(format!("+86138{number:08}").parse().unwrap()), ..Recipient::default() },
        params: vec![],
        cancel_key: "".into(),
        collapse_key: "".into(),
        attempt: 0,
        supersedes: 0,
        seen: None,
    };
    let numbers: Vec<_> = (0..JOBS).collect();
    let envelope = |numbers: &[usize]| Envelope {
        shared: Arc::clone(&shared),
        due_at: shared.accepted_at,
        jobs: numbers.iter().copied().map(job).collect(),
    };
    let frame = |numbers: &[usize]| Frame::Jobs(numbers.chunks(ENVELOPE_JOBS_MAX).map(envelope).collect());
    numbers.chunks(FRAME_JOBS_MAX).map(|numbers| frame(numbers).encode(sealer).unwrap()).collect()
}

/// Opens a frame and makes of its jobs what is handed over, as dispatch does.
fn opened(frame: &Bytes, sealer: &Sealer) -> Vec<Handover> {
    let Frame::Jobs(envelopes) = Frame::decode(frame, sealer).unwrap() else { panic!("no jobs") };
    let handovers = envelopes.iter().flat_map(|envelope| {
        envelope.jobs.iter().map(|job| filled::handover(&envelope.shared, job, envelope.due_at, None))
    });
    handovers.collect()
}

/// Hands all over, never more than `window` without an answer, as dispatch does with its permits.
async fn hand_over(channel: &dyn Channel, (frames, sealer): (&[Bytes], &Sealer), window: usize) {
    let (sender, mut answers) = mpsc::unbounded_channel();
    let mut jobs = frames.iter().flat_map(|frame| opened(frame, sealer)).peekable();
    let (mut free, mut left) = (window, JOBS);
    let mut come = Vec::with_capacity(CALL);
    while left > 0 {
        while free > 0 && jobs.peek().is_some() {
            let next: Vec<_> = jobs.by_ref().take(free.min(CALL)).collect();
            free -= next.len();
            channel.submit(next, sender.clone());
        }
        answers.recv_many(&mut come, CALL).await;
        (free, left) = (free + come.len(), left - come.len());
        for (_, answer) in come.drain(..) {
            assert!(matches!(answer, Answer::Taken { .. }), "{answer:?}");
        }
    }
}

/// Returns the processor time of this thread so far, in s.
fn busy() -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: f64 = spent.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or_default();
    nanos / 1e9
}

fn measure(c: &mut Criterion, name: &str, runtime: &Runtime, channel: &dyn Channel, window: usize) {
    let mut group = c.benchmark_group("hand over");
    group.throughput(Throughput::Elements(JOBS as u64)).sample_size(10);
    let (mut spent, mut handed) = (0.0, 0);
    let sealer = Sealer::ephemeral().unwrap();
    let frames = frames(&sealer);
    group.bench_function(name, |b| {
        b.iter(|| {
            let before = busy();
            runtime.block_on(hand_over(channel, (&frames, &sealer), window));
            spent += busy() - before;
            handed += JOBS;
        });
    });
    println!("{name}: {:.2} us of the processor for each of {handed} hand-overs", spent * 1e6 / handed as f64);
    group.finish();
}

fn over_smpp(c: &mut Criterion) {
    const WINDOW: u32 = 100;
    let (sink, runtime) = (Sink::start(), Builder::new_current_thread().enable_all().build().unwrap());
    let (tasks, clock) = (Tasks::new(), Clock::system());
    let account = Account::new("bench", "secret", "").unwrap();
    let settings = Settings::new("carrier-a".parse().unwrap(), &sink.address, account);
    let settings = Settings { window: WINDOW.try_into().unwrap(), ..settings };
    let (inbox, _news) = mpsc::channel(16);
    let channel = runtime.block_on(async {
        let channel = Smpp::start(settings, inbox, &tasks, &clock);
        while !channel.health().up {
            clock.pause(Duration::from_millis(5)).await;
        }
        channel
    });
    measure(c, "smpp, one bind, window 100", &runtime, &*channel, WINDOW as usize);
    assert_eq!(runtime.block_on(tasks.finish(&clock, Duration::from_secs(5))), 0);
}

fn through_a_cloud(c: &mut Criterion) {
    let (address, serving) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let vendor = aliyun::Aliyun {
            access_key_id: "LTAI5t".into(),
            access_key_secret: "geheim".into(),
            callback: None,
            nonces: aliyun::Nonces::default(),
        };
        let behaviour = Behaviour { latency: Duration::from_millis(20), ..Behaviour::default() };
        let (runtime, tasks) = (Builder::new_current_thread().enable_all().build().unwrap(), Tasks::new());
        runtime.block_on(async {
            let (listen, clock) = (([127, 0, 0, 1], 0).into(), Clock::system());
            let simulator = Simulator::start(Box::new(vendor), listen, (behaviour, 7), &tasks, &clock).await.unwrap();
            address.send(simulator.address()).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let settings = format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"aliyun-sms\"\nendpoint = \"http://{}\"\naccess_key_id = \"LTAI5t\"\n\
         access_key_secret = \"geheim\"\nsign_name = \"晨星\"\ntemplate = \"SMS_1\"\nreceipts = false\n",
        serving.recv().unwrap()
    );
    let loaded = config::parse(Some((std::path::Path::new("bench"), &settings)), &[]).unwrap();
    let provider = &loaded.settings.providers[0];
    let Link::Aliyun(link) = &provider.link else { panic!("aliyun") };
    let (runtime, tasks, clock) =
        (Builder::new_current_thread().enable_all().build().unwrap(), Tasks::new(), Clock::system());
    let channel = runtime.block_on(async {
        let client = Client::new(&link.api.endpoint, None, link.api.connections, &tasks, &clock).unwrap();
        let settings = cloud::Settings {
            provider: provider.id.clone(),
            window: link.api.window,
            rate_per_s: 0.0,
            response_timeout: provider.response_timeout,
        };
        Cloud::new(Box::new(Aliyun::new(link.clone(), false)), client, settings, &tasks, &clock)
    });
    measure(c, "aliyun, 20 ms, window 2000", &runtime, &channel, link.api.window.get() as usize);
    assert_eq!(runtime.block_on(tasks.finish(&clock, Duration::from_secs(5))), 0);
}

criterion_group!(benches, over_smpp, through_a_cloud);
criterion_main!(benches);
