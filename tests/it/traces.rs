//! Traces: a small OTLP receiver sees the spans of one job, connected over three processes on the servers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use postrider::domain::time::Clock;
use postrider::pb::Class;
use postrider::shutdown::Tasks;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::support::api;
use crate::support::service::{Backends, Service};

/// The trace that the caller began, and its span.
const TRACE: [u8; 16] = *b"\x0a\xf7\x65\x19\x16\xcd\x43\xdd\x84\x48\xeb\x21\x1c\x80\x31\x9c";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const PARENT_SPAN: [u8; 8] = *b"\xb7\xad\x6b\x71\x69\x20\x33\x31";
const NUMBER: &str = "+8613812345678";
const TEXT: &str = "a text that nobody else reads";
/// How long the spans may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came, each span with the roles of the process that made it.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Vec<(String, Span)>>>);

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        for spans in request.into_inner().resource_spans {
            let roles = said(&spans.resource.unwrap_or_default().attributes, "postrider.roles");
            let all = spans.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.0.lock().unwrap().extend(all.map(|span| (roles.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn said(attributes: &[KeyValue], name: &str) -> String {
    let value = attributes.iter().find(|of| of.key == name).and_then(|of| of.value.as_ref()?.value.clone());
    if let Some(any_value::Value::StringValue(text)) = value { text } else { String::new() }
}

async fn receive(tasks: &Tasks) -> (Receiver, SocketAddr) {
    let (receiver, listener) = (Receiver::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(TraceServiceServer::new(receiver.clone()));
    tasks.spawn("receiver", async move { server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap() });
    (receiver, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_jobs_spans_are_connected_over_three_processes_and_others_have_none() {
    let (clock, tasks) = (Clock::system(), Tasks::new());
    let (receiver, address) = receive(&tasks).await;
    let (backends, keys) = (Backends::servers(), tempfile::tempdir().unwrap());
    let settings = format!(
        "[seal]\nkey_file = {:?}\n[traces]\nendpoint = \"http://{address}\"\nsample = 0.0\n\
         [[provider]]\nid = \"carrier-a\"\nkind = \"simulated\"\n",
        keys.path().join("keys")
    );
    let front = Service::prepare(&backends, &settings, &["--roles", "front,feed"]);
    front.restart(None);
    let dispatch = front.join(&backends, "dispatch", &settings);
    let record = front.join(&backends, "record", &settings);
    let mut jobs = api::jobs(&front);
    for _ in 0..3 {
        jobs.submit(api::submit("", api::text(Class::Transactional, TEXT), NUMBER)).await.unwrap();
    }
    let mut sampled = Request::new(api::submit("", api::text(Class::Transactional, TEXT), NUMBER));
    sampled.metadata_mut().insert("traceparent", PARENT.parse().unwrap());
    let job = jobs.submit(sampled).await.unwrap().into_inner().job_id;

    let watch = clock.stopwatch();
    let names = ["Submit", "attempt", "record", "wait"];
    let spans = loop {
        let all = receiver.0.lock().unwrap().clone();
        let spans: BTreeMap<_, _> = all.into_iter().map(|(roles, span)| (span.name.clone(), (roles, span))).collect();
        if spans.len() == names.len() {
            break spans;
        }
        let logs = [&front, &dispatch, &record].map(Service::log).concat();
        assert!(watch.elapsed() < PATIENCE, "{:?} of {names:?}\n{logs}", spans.keys());
        clock.pause(Duration::from_millis(100)).await;
    };
    assert_eq!(spans.keys().map(String::as_str).collect::<Vec<_>>(), names);
    let (_, submit) = &spans["Submit"];
    assert_eq!(submit.parent_span_id, PARENT_SPAN);
    for (name, roles) in [("Submit", "front,feed"), ("wait", "dispatch"), ("attempt", "dispatch"), ("record", "record")]
    {
        let (of, span) = &spans[name];
        assert_eq!((of.as_str(), &span.trace_id[..]), (roles, &TRACE[..]), "{name}");
        assert!(name == "Submit" || span.parent_span_id == submit.span_id, "{name} is a child of the call");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano, "{name}");
    }
    let (_, attempt) = &spans["attempt"];
    let about =
        ["postrider.job", "postrider.provider", "postrider.verdict"].map(|name| said(&attempt.attributes, name));
    assert_eq!(about, [job, "carrier-a".into(), "taken".into()]);
    // Nothing of the jobs that nobody sampled, and nothing personal.
    let all = receiver.0.lock().unwrap().clone();
    assert_eq!(all.len(), names.len(), "{all:?}");
    let text = format!("{all:?}");
    assert!(!text.contains(&NUMBER[1..]) && !text.contains(TEXT), "{text}");
}
