//! What the path of a job spends on frames, seals and keyed hashes. Run it with `cargo bench --bench frame`.
//!
//! Modelled: batches of one text (140 GSM-7 characters) to numbers, 512 jobs a frame; single jobs coalesced, 32 a frame;
//! results of sends without receipts, 512 a frame. Figures are per job or fact.

#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use postrider::domain::event::{Change, Event, Fact};
use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, ENVELOPE_JOBS_MAX, Envelope, Job, Kind, OnMissed, Origin, Shared};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::UnixMicros;
use postrider::queue::frame::{self, FRAME_JOBS_MAX, Frame};
use postrider::seal::Sealer;
use uuid::Uuid;

const TEXT_CHARS: usize = 140;
const SINGLES: usize = 32;
const FACTS: usize = 512;

fn job(number: u128) -> Job {
    Job {
        id: JobId(Uuid::from_u128(number)),
        recipient: Recipient { phone: Some(format!("+86138{number:08}").parse().unwrap()), ..Recipient::default() },
        params: vec![],
        cancel_key: "".into(),
        collapse_key: "".into(),
        attempt: 0,
        supersedes: 0,
        seen: None,
    }
}

fn envelope(first: usize, jobs: usize) -> Envelope {
    let shared = Shared {
        tenant: "acme".parse().unwrap(),
        kind: Kind::Sms,
        class: Class::Marketing,
        pool: "sms".parse().unwrap(),
        content: Content::Text("x".repeat(TEXT_CHARS).into()),
        sender: "10690000".into(),
        topic: "sale".into(),
        labels: vec![],
        origin: Origin::default(),
        batch: Some(Uuid::from_u128(7)),
        priority: 0,
        accepted_at: UnixMicros::from_secs(1_700_000_000),
        expires_at: UnixMicros::from_secs(1_700_086_400),
        windows: vec![],
        on_missed: OnMissed::Defer,
        moved_at: None,
        chain: None,
        trace: None,
    };
    let jobs = (first..first + jobs).map(|number| job(number as u128)).collect();
    Envelope { shared: Arc::new(shared), due_at: UnixMicros::from_secs(1_700_000_000), jobs }
}

fn fact(number: usize) -> Fact {
    Fact::Event(Event {
        job: JobId(Uuid::from_u128(number as u128)),
        tenant: "acme".parse().unwrap(),
        kind: Kind::Sms,
        class: Class::Marketing,
        at: UnixMicros::from_secs(1_700_000_000),
        attempt: 1,
        change: Change::Sent {
            provider: "carrier-a".parse().unwrap(),
            message_ids: vec![format!("{number:08x}").into()],
            receipt_expected: false,
            cost: None,
        },
    })
}

fn codec(c: &mut Criterion) {
    let sealer = Sealer::ephemeral().unwrap();
    let frames = [
        ("batch", FRAME_JOBS_MAX, {
            let first = (0..FRAME_JOBS_MAX).step_by(ENVELOPE_JOBS_MAX);
            Frame::Jobs(first.map(|first| envelope(first, ENVELOPE_JOBS_MAX)).collect())
        }),
        ("singles", SINGLES, Frame::Jobs((0..SINGLES).map(|first| envelope(first, 1)).collect())),
        ("facts", FACTS, Frame::Facts((0..FACTS).map(fact).collect())),
    ];
    for (name, items, frame) in frames {
        let mut group = c.benchmark_group(format!("frame/{name}"));
        group.throughput(Throughput::Elements(items as u64));
        group.bench_function("encode", |b| b.iter(|| frame.encode(&sealer).unwrap()));
        let bytes = frame.encode(&sealer).unwrap();
        group.bench_function("decode", |b| b.iter(|| Frame::decode(black_box(&bytes), &sealer).unwrap()));
        group.finish();
    }
}

fn ledger(c: &mut Criterion) {
    let sealer = Sealer::ephemeral().unwrap();
    let batch = envelope(0, ENVELOPE_JOBS_MAX);
    let mut group = c.benchmark_group("seal/jobs");
    group.throughput(Throughput::Elements(ENVELOPE_JOBS_MAX as u64));
    group.bench_function("seal", |b| b.iter(|| frame::seal_jobs(black_box(&batch), &sealer)));
    let sealed = frame::seal_jobs(&batch, &sealer);
    group.bench_function("open", |b| {
        b.iter(|| sealed.iter().for_each(|sealed| drop(black_box(frame::open_job(sealed, &sealer).unwrap()))));
    });
    group.finish();
}

fn keys(c: &mut Criterion) {
    let sealer = Sealer::ephemeral().unwrap();
    let envelope = envelope(0, 1);
    let (tenant, recipient) = (&envelope.shared.tenant, &envelope.jobs[0].recipient);
    let mut group = c.benchmark_group("seal/keys");
    group.bench_function("address", |b| b.iter(|| sealer.address_key(black_box("+8613800000000"))));
    group.bench_function("recipient", |b| b.iter(|| sealer.recipient_key(tenant, black_box(recipient), Kind::Sms)));
    group.bench_function("word", |b| b.iter(|| sealer.word_key(tenant, "topic", black_box("sale"))));
    group.finish();
}

criterion_group!(benches, codec, ledger, keys);
criterion_main!(benches);
