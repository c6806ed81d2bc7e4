//! Bad input: each field of each request with values that cannot be, requests that are too large, bytes that are no
//! protocol at all. Each gets a clear error, and the service goes on.

mod raw;
mod rules;
mod sweep;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::time::Duration;

use postrider::domain::time::Clock;
use postrider::pb::{self, Class, SubmitBatchRequest, SubmitRequest};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::support::api::{self, Client};
use crate::support::service::{Backends, Service, smpp_provider};
use crate::support::sink::Sink;

/// A number that must appear in no log.
const CANARY: &str = "+4915199887766";

#[tokio::test]
async fn every_field_of_every_request_refuses_what_it_cannot_mean() {
    let service = Service::start(&Backends::Embedded, "");
    let wrong = sweep::every_field(&service).await;
    assert!(wrong.is_empty(), "{} answers are not clear errors:\n{}", wrong.len(), wrong.join("\n"));
    assert!(!service.log().contains("9988776"), "the log shows a number:\n{}", service.log());
    still_works(&service).await;
}

#[tokio::test]
async fn what_is_wrong_is_named() {
    let service = Service::start(&Backends::Embedded, "");
    let client = api::jobs(&service);
    for (what, change, code, field) in SUBMITS {
        let mut request = api::submit("", api::text(Class::Marketing, "hello"), "+4915112345678");
        change(&mut request);
        let status = client.clone().submit(request).await.expect_err(what);
        named(what, &status, *code, field);
    }
    let numbers = vec!["+4915112345678".to_owned(); 10_001];
    let request = api::batch("", api::text(Class::Marketing, "hello"), &numbers);
    named("10 001 items", &client.clone().submit_batch(request).await.unwrap_err(), Code::InvalidArgument, "items");
    bad_items_alone(&client).await;
    still_works(&service).await;
}

type Change = fn(&mut SubmitRequest);

/// What is changed in a good request, and which field the answer names; empty: none.
const SUBMITS: &[(&str, Change, Code, &str)] = &[
    ("no spec", |r| r.spec = None, Code::InvalidArgument, "spec"),
    ("no recipient", |r| r.recipient = None, Code::InvalidArgument, "recipient"),
    ("no class", |r| spec(r).class = 0, Code::InvalidArgument, "spec.class"),
    ("an unknown class", |r| spec(r).class = 99, Code::InvalidArgument, "spec.class"),
    ("no content", |r| spec(r).content = None, Code::InvalidArgument, "spec.content"),
    ("an empty text", |r| *spec(r) = api::text(Class::Otp, ""), Code::InvalidArgument, "spec.sms.text"),
    (
        "a text of 2 001",
        |r| *spec(r) = api::text(Class::Otp, &"x".repeat(2_001)),
        Code::InvalidArgument,
        "spec.sms.text",
    ),
    ("an empty number", |r| number(r, ""), Code::InvalidArgument, "recipient"),
    ("a national number", |r| number(r, "015112345678"), Code::InvalidArgument, "recipient.phone"),
    ("letters for a number", |r| number(r, "+49call-me"), Code::InvalidArgument, "recipient.phone"),
    ("a number of 16", |r| number(r, "+1234567890123456"), Code::InvalidArgument, "recipient.phone"),
    ("a number of 3", |r| number(r, "+123"), Code::InvalidArgument, "recipient.phone"),
    ("a long key", |r| r.idempotency_key = "k".repeat(129), Code::InvalidArgument, "idempotency_key"),
    ("a key with a bell", |r| r.idempotency_key = "k\u{7}".into(), Code::InvalidArgument, "idempotency_key"),
    ("a long cancel key", |r| r.cancel_key = "k".repeat(129), Code::InvalidArgument, "cancel_key"),
    ("a topic with a zero", |r| spec(r).topic = "a\0b".into(), Code::InvalidArgument, "spec.topic"),
    ("a long sender", |r| spec(r).sender = "s".repeat(65), Code::InvalidArgument, "spec.sender"),
    ("a priority of 101", |r| spec(r).priority = 101, Code::InvalidArgument, "spec.priority"),
    (
        "a zone on Mars",
        |r| recipient(r).time_zone = "Mars/Olympus".into(),
        Code::InvalidArgument,
        "recipient.time_zone",
    ),
    ("an expired expiry", |r| expires(r, 1_000_000_000), Code::InvalidArgument, "spec.schedule.expires_at"),
    ("an expiry that is no time", |r| expires(r, i64::MAX), Code::InvalidArgument, "spec.schedule.expires_at"),
    (
        "a start in 2099",
        |r| *spec(r) = api::at(spec(r).clone(), 4_070_908_800),
        Code::InvalidArgument,
        "spec.schedule.send_at",
    ),
    ("links", |r| spec(r).links.push(pb::Link::default()), Code::Unimplemented, ""),
    (
        "a fallback that says nothing",
        |r| spec(r).fallback.push(pb::FallbackStep::default()),
        Code::InvalidArgument,
        "spec.fallback[0].content",
    ),
];

fn spec(request: &mut SubmitRequest) -> &mut pb::JobSpec {
    request.spec.as_mut().unwrap()
}

fn recipient(request: &mut SubmitRequest) -> &mut pb::Recipient {
    request.recipient.as_mut().unwrap()
}

fn number(request: &mut SubmitRequest, number: &str) {
    recipient(request).phone = number.to_owned();
}

fn expires(request: &mut SubmitRequest, seconds: i64) {
    let expires_at = Some(prost_types::Timestamp { seconds, nanos: 0 });
    spec(request).schedule = Some(pb::Schedule { expires_at, ..pb::Schedule::default() });
}

#[track_caller]
fn named(what: &str, status: &Status, code: Code, field: &str) {
    assert_eq!(status.code(), code, "{what}: {status:?}");
    let named = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
    let named = named.first().map(|violation| violation.field.clone()).unwrap_or_default();
    assert_eq!(named, field, "{what}: {status:?}");
    assert!(status.message().len() > 10, "{what}: no sentence for people: {status:?}");
}

/// A bad item is refused alone, with its index and field; the rest is accepted.
async fn bad_items_alone(client: &Client) {
    let numbers = ["+4915112345678", "12345", "+4915112345679"].map(str::to_owned);
    let request: SubmitBatchRequest = api::batch("", api::text(Class::Marketing, "hello"), &numbers);
    let answer = client.clone().submit_batch(request).await.unwrap().into_inner();
    assert_eq!((answer.accepted, answer.refused), (2, 1));
    let Some(pb::batch_item_result::Result::Refusal(refusal)) = &answer.results[1].result else { panic!("refused") };
    assert_eq!((answer.results[1].index, refusal.field.as_str()), (1, "items[1].recipient.phone"));
    assert_eq!(refusal.code, i32::from(Code::InvalidArgument));
}

#[tokio::test]
async fn a_request_of_5_mib_is_refused() {
    let service = Service::start(&Backends::Embedded, "");
    let mut request = api::submit("", api::text(Class::Marketing, "hello"), "+4915112345678");
    spec(&mut request).labels.insert("a".into(), "x".repeat(5 * 1024 * 1024));
    let status = api::jobs(&service).submit(request).await.unwrap_err();
    assert!([Code::OutOfRange, Code::ResourceExhausted, Code::InvalidArgument].contains(&status.code()), "{status:?}");
    still_works(&service).await;
}

#[tokio::test]
async fn garbage_on_the_grpc_port_harms_nobody() {
    let service = Service::start(&Backends::Embedded, "");
    let before = memory_kib(service.pid());
    let mut noise = fastrand::Rng::with_seed(7);
    let mut random = || (0..64 * 1024).map(|_| noise.u8(..)).collect::<Vec<_>>();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    let frames = |frame: &[u8]| [&preface[..], frame].concat();
    let pieces: Vec<Vec<u8>> = vec![
        vec![0; 1024 * 1024],
        random(),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        preface[..10].to_vec(),
        frames(&random()),
        // A frame of 16 MiB, one of an unknown type, data on a stream that was never opened, a window of nothing.
        frames(b"\xff\xff\xff\x00\x00\x00\x00\x00\x01"),
        frames(b"\x00\x00\x04\xfa\x00\x00\x00\x00\x00abcd"),
        frames(b"\x00\x00\x04\x00\x00\x00\x00\x00\x09abcd"),
        frames(b"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
    ];
    for _ in 0..20 {
        for piece in &pieces {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, service.grpc_port())).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            // The service may close before it has read all.
            let _closed = stream.write_all(piece);
            let _answer = stream.read(&mut [0; 1024]);
        }
    }
    still_works(&service).await;
    let grown = memory_kib(service.pid()).saturating_sub(before);
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_from_an_smsc_harms_nobody() {
    let sink = Sink::start(&[]);
    let garbage = garbage_smsc();
    let mad = smpp_provider(garbage, "reconnect_delay = \"10ms\"").replace("carrier-a", "mad");
    let sane = smpp_provider(sink.port(), "");
    let service = Service::start(&Backends::Embedded, &format!("{mad}{sane}"));
    let before = memory_kib(service.pid());
    let clock = Clock::system();
    let client = api::jobs(&service);
    for number in 0..100 {
        let request = api::submit("", api::text(Class::Transactional, "hello"), &format!("+49151{number:08}"));
        client.clone().submit(request).await.unwrap();
        clock.pause(Duration::from_millis(20)).await;
    }
    let watch = clock.stopwatch();
    while sink.taken().len() < 100 {
        assert!(
            watch.elapsed() < Duration::from_secs(30),
            "{} of 100 jobs left\n{}",
            sink.taken().len(),
            service.log()
        );
        clock.pause(Duration::from_millis(100)).await;
    }
    still_works(&service).await;
    let grown = memory_kib(service.pid()).saturating_sub(before);
    assert!(grown < 64 * 1024, "memory grew by {grown} KiB");
}

/// Accepts every connection, and says something else to each that is no SMPP.
fn garbage_smsc() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut noise = fastrand::Rng::with_seed(11);
        let random: Vec<_> = (0..64 * 1024).map(|_| noise.u8(..)).collect();
        let bound = b"\x00\x00\x00\x11\x80\x00\x00\x09\x00\x00\x00\x00\x00\x00\x00\x01\x00";
        let after_bind = |garbage: &[u8]| [&bound[..], garbage].concat();
        let pieces: Vec<Vec<u8>> = vec![
            random.clone(),
            vec![0; 256],
            b"\xff\xff\xff\xff\x80\x00\x00\x09".to_vec(),
            b"\x00\x00\x00\x05\x80".to_vec(),
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            bound[..9].to_vec(),
            after_bind(&random),
            after_bind(b"\x00\x00\x00\x10\x80\x00\x00\x04\x00\x00\x00\x00\x7f\xff\xff\xff"),
            after_bind(b"\x00\x00\x00\x12\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00"),
            after_bind(b"\x7f\xff\xff\xff\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\x01"),
        ];
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let piece = pieces[number % pieces.len()].clone();
            std::thread::spawn(move || {
                let mut stream = stream;
                let _bind = stream.read(&mut [0; 1024]);
                let _closed = stream.write_all(&piece);
                std::thread::sleep(Duration::from_millis(50));
            });
        }
    });
    port
}

/// A good request still gets a good answer.
async fn still_works(service: &Service) {
    let client = api::jobs(service);
    let mut other = client.clone();
    let job = other.submit(api::submit("", api::text(Class::Otp, "still here"), CANARY)).await.unwrap().into_inner();
    let request = pb::GetJobRequest { job_id: job.job_id, ..pb::GetJobRequest::default() };
    client.clone().get_job(request).await.unwrap();
    assert!(!service.ended());
    assert!(!service.log().contains("9988776"), "the log shows a number:\n{}", service.log());
    assert!(!service.log().contains("panicked"), "a panic:\n{}", service.log());
}

fn memory_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
