//! What a text costs on its way to an SMSC. Run it with `cargo bench --bench sms`.
//!
//! Modelled: counting segments (admission and every permit do it), writing a hand-over as `submit_sm`s, and reading
//! what an SMSC answers. Figures are per text, hand-over or PDU.

#![expect(clippy::unwrap_used, reason = "a bench ends at the first surprise")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use postrider::channel::Handover;
use postrider::channel::sms::smpp::{Account, Settings, submit, wire};
use postrider::channel::sms::text::{Counting, segments};
use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, Kind};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::UnixMicros;

/// PDUs read at once: what a full window of 500 answers comes to.
const PDUS: usize = 500;

fn texts() -> [(&'static str, String); 4] {
    [
        ("gsm7_140", "x".repeat(140)),
        ("gsm7_500", "Your order {1} is ready: 20€ off ".repeat(15)),
        ("ucs2_60", "您的订单已发货，预计明天送达，请注意查收。".repeat(3)),
        ("ucs2_200", "您的订单已发货，预计明天送达，请注意查收。".repeat(10)),
    ]
}

fn handover(text: &str) -> Handover {
    let phone = Some("+8613800000000".parse().unwrap());
    Handover {
        job: JobId::new(UnixMicros::from_secs(1_700_000_000), 7 << 64),
        attempt: 1,
        kind: Kind::Sms,
        class: Class::Marketing,
        recipient: Arc::new(Recipient { phone, ..Recipient::default() }),
        sender: "10690000".into(),
        content: Content::Text(text.into()),
        params: Vec::new(),
        template: None,
        validity: Duration::from_secs(86_400),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

fn pdu(id: u32, sequence: u32, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(16 + body.len()).unwrap();
    [len, id, 0, sequence].into_iter().flat_map(u32::to_be_bytes).chain(body.iter().copied()).collect()
}

fn count(c: &mut Criterion) {
    let mut group = c.benchmark_group("segments");
    group.throughput(Throughput::Elements(1));
    for (name, text) in texts() {
        for (mode, counting) in [("intl", Counting::GsmIntl), ("cn", Counting::CnDomestic)] {
            group.bench_function(format!("{name}_{mode}"), |b| b.iter(|| segments(black_box(&text), counting)));
        }
    }
}

fn write(c: &mut Criterion) {
    let account = Account::new("postrider", "secret", "").unwrap();
    let settings = Settings::new("carrier-a".parse().unwrap(), "localhost:2775", account);
    let mut group = c.benchmark_group("submit_sm");
    group.throughput(Throughput::Elements(1));
    for (name, text) in texts() {
        let handover = handover(&text);
        group.bench_function(name, |b| b.iter(|| submit::segments(&settings, black_box(&handover)).unwrap()));
    }
}

fn read(c: &mut Criterion) {
    let receipt = b"\0\x01\x018613800000000\0\x01\x0110690000\0\x04\0\0\0\0\0\0\0\0\x6b\
        id:0000000001 sub:001 dlvrd:001 submit date:2611212116 done date:2611212117 stat:DELIVRD err:000 text:hello\
        \x04\x27\0\x01\x02\0\x1E\0\x09\x30\x30\x30\x30\x30\x30\x30\x31\0";
    let numbered = |id, body: &[u8]| (0..PDUS as u32).flat_map(|number| pdu(id, number, body)).collect::<Vec<_>>();
    let mut group = c.benchmark_group("read");
    group.throughput(Throughput::Elements(PDUS as u64));
    for (name, bytes) in
        [("submit_sm_resp", numbered(0x8000_0004, b"0A1B2C3D\0")), ("deliver_sm", numbered(0x5, receipt))]
    {
        let drain = |mut input: BytesMut| {
            let mut pdus = 0;
            while let Some(incoming) = wire::take(&mut input).unwrap() {
                assert_ne!(black_box(incoming).body, wire::Body::Unreadable);
                pdus += 1;
            }
            assert_eq!(pdus, PDUS);
        };
        group.bench_function(name, |b| b.iter_batched(|| BytesMut::from(&bytes[..]), drain, BatchSize::SmallInput));
    }
}

criterion_group!(benches, count, write, read);
criterion_main!(benches);
