//! Walks over every field of every request, as the API's descriptors name them, and puts values there that it cannot mean.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use postrider::domain::time::Clock;
use postrider::pb::{self, Class};
use prost::Message as _;
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FileDescriptorSet};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Request, Status};

use super::CANARY;
use super::raw::{Raw, double, nested, number};
use crate::support::api;
use crate::support::service::{Connection, Service};

/// How deep messages lie in each other; flows hold themselves.
const DEPTH_MAX: usize = 6;
/// More than any list allows.
const MANY: usize = 10_001;
/// Longer than any text may be.
const LONG: usize = 70 * 1024;

/// Fields that a request may carry because it holds a whole resource, and that are documented as not read.
const SET_BY_THE_SERVICE: &[&str] = &["source"];

/// One request: what is wrong with it, and its bytes on top of a good request.
struct Bad {
    what: String,
    bytes: Vec<u8>,
    /// Whether a good answer would be wrong: some values are merely odd.
    must_fail: bool,
}

/// Sends every bad request; returns those whose answer is no clear error.
pub(super) async fn every_field(service: &Service) -> Vec<String> {
    let descriptors = FileDescriptorSet::decode(pb::DESCRIPTORS).unwrap();
    let mut types = BTreeMap::new();
    for file in &descriptors.file {
        file.message_type.iter().for_each(|message| add_type(&mut types, &format!(".{}", file.package()), message));
    }
    let connection = service.connect();
    let (mut wrong, mut calls, mut methods) = (Vec::new(), 0, 0);
    for file in descriptors.file.iter().filter(|file| file.package() == "postrider.v1") {
        for (service, method) in
            file.service.iter().flat_map(|service| service.method.iter().map(move |m| (service, m)))
        {
            let path = format!("/postrider.v1.{}/{}", service.name(), method.name());
            methods += 1;
            let good = good_request(&path);
            if answer(&connection, &path, &good).await.is_err_and(|status| status.code() == Code::Unimplemented) {
                continue;
            }
            for bad in bad_values(types[method.input_type()], &types, 0) {
                calls += 1;
                let bytes = [&good[..], &bad.bytes].concat();
                if let Some(complaint) = complaint(&bad, answer(&connection, &path, &bytes).await) {
                    wrong.push(format!("{path} with {}: {complaint}", bad.what));
                }
            }
        }
    }
    println!("{calls} bad requests over {methods} methods");
    assert!(calls > 500, "the walk found only {calls} requests to send");
    wrong
}

/// Adds a message and those declared in it, such as the entries of its maps.
fn add_type<'a>(types: &mut BTreeMap<String, &'a DescriptorProto>, parent: &str, message: &'a DescriptorProto) {
    let name = format!("{parent}.{}", message.name());
    message.nested_type.iter().for_each(|inner| add_type(types, &name, inner));
    types.insert(name, message);
}

fn complaint(bad: &Bad, answer: Result<Answer, Status>) -> Option<String> {
    match answer {
        Ok(Answer::Good) if bad.must_fail => Some("accepted".into()),
        Ok(_) => None,
        Err(status) => {
            let clear = [
                Code::InvalidArgument,
                Code::NotFound,
                Code::FailedPrecondition,
                Code::Unimplemented,
                Code::AlreadyExists,
                Code::PermissionDenied,
                Code::OutOfRange,
            ];
            // What is no protobuf at all never comes as far as the service; tonic has one code for it.
            let no_message = status.message().starts_with("failed to decode Protobuf message");
            let told = no_message || clear.contains(&status.code()) && !status.message().is_empty();
            (!told).then(|| format!("{:?} {:?}", status.code(), status.message()))
        }
    }
}

/// Returns a request that would be accepted, or at least understood: what is wrong is added behind it, and in protobuf
/// the last value of a field holds.
fn good_request(path: &str) -> Vec<u8> {
    let job = api::submit("", api::text(Class::Marketing, "hello"), CANARY);
    let phone = Some(api::phone(CANARY));
    let suppression = pb::Suppression { address: phone.clone(), ..pb::Suppression::default() };
    match path.trim_start_matches("/postrider.v1.") {
        "JobService/Submit" => job.encode_to_vec(),
        "JobService/SubmitBatch" => {
            api::batch("", api::text(Class::Marketing, "hello"), &[CANARY.to_owned()]).encode_to_vec()
        }
        "JobService/SubmitStream" => pb::SubmitStreamRequest { sequence: 1, job: Some(job) }.encode_to_vec(),
        "JobService/CancelJobs" => {
            let by = Some(pb::job_selector::By::CancelKey("none".into()));
            pb::CancelJobsRequest { selector: Some(pb::JobSelector { by }) }.encode_to_vec()
        }
        "SuppressionService/Add" => pb::SuppressionServiceAddRequest { suppression: Some(suppression) }.encode_to_vec(),
        "SuppressionService/Remove" => {
            pb::SuppressionServiceRemoveRequest { suppression: Some(suppression) }.encode_to_vec()
        }
        "SuppressionService/Import" => {
            pb::SuppressionServiceImportRequest { suppressions: vec![suppression] }.encode_to_vec()
        }
        "SuppressionService/Check" => pb::SuppressionServiceCheckRequest { address: phone }.encode_to_vec(),
        _ => Vec::new(),
    }
}

/// Returns bad values for each field of a message, and for the fields of the messages in it.
fn bad_values(message: &DescriptorProto, types: &BTreeMap<String, &DescriptorProto>, depth: usize) -> Vec<Bad> {
    let mut found = Vec::new();
    for field in &message.field {
        let at = u32::try_from(field.number()).unwrap();
        let bad = |value: &str, bytes: Vec<u8>, must_fail: bool| Bad {
            what: format!("{} = {value}", field.name()),
            bytes,
            must_fail,
        };
        match field.r#type() {
            Type::String => {
                let long = "x".repeat(LONG);
                found.push(bad("70 KiB", nested(at, long.as_bytes()), true));
                found.push(bad("a zero", nested(at, b"a\0b"), true));
                found.push(bad("an escape", nested(at, b"\x1b[31m"), true));
                found.push(bad("no UTF-8", nested(at, b"\xff\xfe"), false));
                found.push(bad("SQL", nested(at, b"'; DROP TABLE job; --"), false));
                found.push(bad("nothing", nested(at, b""), false));
            }
            Type::Enum => {
                // What the service sets by itself is not read.
                let must_fail = !SET_BY_THE_SERVICE.contains(&field.name());
                found.push(bad("9999", number(at, 9_999), must_fail));
                found.push(bad("-1", number(at, u64::MAX), must_fail));
            }
            Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 => {
                found.push(bad("-1", number(at, u64::MAX), false));
                found.push(bad("the largest", number(at, i64::MAX.unsigned_abs()), false));
            }
            Type::Double => found.push(bad("no number", double(at, f64::NAN), false)),
            Type::Message => {
                let inner = types.get(field.type_name()).copied();
                found.push(bad("an empty message", nested(at, b""), false));
                if depth < DEPTH_MAX {
                    let inner = inner.map(|inner| bad_values(inner, types, depth + 1)).unwrap_or_else(no_time);
                    found.extend(inner.into_iter().map(|inner| Bad {
                        what: format!("{}.{}", field.name(), inner.what),
                        bytes: nested(at, &inner.bytes),
                        // Which field of a one-of holds is the last one's choice, so an outer good value may be gone.
                        must_fail: inner.must_fail,
                    }));
                }
            }
            Type::Bool
            | Type::Bytes
            | Type::Float
            | Type::Fixed32
            | Type::Fixed64
            | Type::Group
            | Type::Sfixed32
            | Type::Sfixed64
            | Type::Sint32
            | Type::Sint64 => found.push(bad("true", number(at, 1), false)),
        }
        if field.label() == Label::Repeated && depth == 0 {
            found.push(bad("10 001 entries", nested(at, b"").repeat(MANY), true));
        }
    }
    found
}

/// Seconds and nanos of google.protobuf.Timestamp and Duration that no time has.
fn no_time() -> Vec<Bad> {
    let bad = |what: &str, bytes| Bad { what: what.into(), bytes, must_fail: false };
    vec![
        bad("seconds = the largest", number(1, i64::MAX.unsigned_abs())),
        bad("seconds = the smallest", number(1, i64::MIN.unsigned_abs())),
        bad("nanos = 2 000 000 000", number(2, 2_000_000_000)),
        bad("nanos = -1", number(2, u64::MAX)),
    ]
}

enum Answer {
    Good,
    /// The call went well, and says that something in it was refused.
    Refused,
}

async fn answer(connection: &Connection, path: &str, request: &[u8]) -> Result<Answer, Status> {
    let mut grpc = Grpc::new(connection.clone());
    grpc.ready().await.unwrap();
    let request = Request::new(stream::iter([Bytes::copy_from_slice(request)]));
    let path: PathAndQuery = path.parse().unwrap();
    let answer = grpc.streaming(request, path.clone(), Raw).await?;
    // A watch has nothing to say for a while, and a unary call has one answer.
    let first = Clock::system().timeout(Duration::from_millis(100), answer.into_inner().message()).await;
    let Ok(first) = first else { return Ok(Answer::Good) };
    let first = first?.unwrap_or_default();
    let refused = match path.path() {
        "/postrider.v1.JobService/SubmitBatch" => pb::SubmitBatchResponse::decode(first).unwrap().refused > 0,
        "/postrider.v1.SuppressionService/Import" => {
            pb::SuppressionServiceImportResponse::decode(first).unwrap().refused > 0
        }
        "/postrider.v1.JobService/SubmitStream" => {
            let answer = pb::SubmitStreamResponse::decode(first).unwrap();
            matches!(answer.result, Some(pb::submit_stream_response::Result::Refusal(_)))
        }
        _ => false,
    };
    Ok(if refused { Answer::Refused } else { Answer::Good })
}
