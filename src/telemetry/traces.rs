//! Traces: spans of sampled calls, from the gRPC call over the queue to the provider's answer and the ledger, sent by
//! OTLP. Without an endpoint nothing is sampled, no frame carries a trace, and no span is made.
//!
//! What spans say is what metrics may say, and ids: of tenants, jobs and providers. Never a number, a name or a text.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span};

use crate::domain::time::UnixMicros;
use crate::domain::trace::Trace;

/// How often spans are sent: soon enough to look at what just happened.
const SEND_EVERY: Duration = Duration::from_secs(1);
/// Most spans that wait to be sent; more are dropped, and nobody waits for them.
const WAITING_MAX: usize = 4_096;
/// How long the collector may take.
const SEND_MAX: Duration = Duration::from_secs(5);

/// What makes the spans of this process, once it is started.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// What sends the spans of this process.
#[derive(Debug)]
pub struct Traces {
    provider: SdkTracerProvider,
}

/// The endpoint of traces cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("traces.endpoint: {0}")]
pub struct BadEndpoint(Box<str>);

/// A call that came in, while it is in work.
#[derive(Debug)]
pub struct Call(Option<Span>);

/// A piece of work on a job that is over.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// What it was.
    pub name: &'static str,
    /// Whom it was done with.
    pub with: With,
    /// When it began.
    pub from: UnixMicros,
    /// When it ended.
    pub to: UnixMicros,
    /// What there is to say of it; never anything personal.
    pub says: &'a [(&'static str, &'a str)],
}

/// Whom work is done with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum With {
    /// Nobody else.
    Ourselves,
    /// A server or provider that is asked.
    Asked,
    /// The queue, which it came from.
    Queue,
}

/// Starts to send spans to an OTLP endpoint over gRPC, of that part of the calls whose callers have not decided
/// themselves (W3C `traceparent`). It connects when there is something to send, and drops what cannot be sent.
///
/// # Errors
/// [`BadEndpoint`] where it is no URL.
pub fn start(endpoint: &str, sample: f64, roles: &str) -> Result<Traces, BadEndpoint> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).with_timeout(SEND_MAX).build();
    let exporter = exporter.map_err(|error| BadEndpoint(error.to_string().into()))?;
    let config =
        BatchConfigBuilder::default().with_scheduled_delay(SEND_EVERY).with_max_queue_size(WAITING_MAX).build();
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config).build();
    let about = [
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("postrider.roles", roles.to_owned()),
    ];
    let resource = Resource::builder().with_service_name("postrider").with_attributes(about).build();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(processor)
        .with_sampler(Sampler::parent_based(Sampler::TraceIdRatioBased(sample)))
        .with_resource(resource)
        .build();
    // A second start in one process, as in tests, goes on with the first.
    let _first = TRACER.set(provider.tracer("postrider"));
    Ok(Traces { provider })
}

/// Notes a piece of work on a job that belongs to a trace.
pub fn note(trace: Trace, piece: Piece<'_>) {
    let Some(tracer) = TRACER.get() else { return };
    let kind = match piece.with {
        With::Ourselves => SpanKind::Internal,
        With::Asked => SpanKind::Client,
        With::Queue => SpanKind::Consumer,
    };
    let says = piece.says.iter().map(|(name, value)| KeyValue::new(*name, (*value).to_owned()));
    let span =
        SpanBuilder::from_name(piece.name).with_kind(kind).with_start_time(system(piece.from)).with_attributes(says);
    span.start_with_context(tracer, &context(trace)).end_with_timestamp(system(piece.to));
}

// === impl Traces ===

impl Traces {
    /// Sends what is left. Blocks, for a few seconds at most.
    pub fn finish(&self) {
        // What the collector does not take now is lost, as it would be later.
        let _lost = self.provider.shutdown_with_timeout(SEND_MAX);
    }
}

// === impl Call ===

impl Call {
    /// Begins a call with these headers.
    pub fn begin<'a>(method: &'static str, header: impl Fn(&str) -> Option<&'a str>, now: UnixMicros) -> Self {
        let Some(tracer) = TRACER.get() else { return Self(None) };
        let names = ["traceparent", "tracestate"];
        let headers = Headers(names.map(|name| (name, header(name))));
        let parent = TraceContextPropagator::new().extract_with_context(&Context::new(), &headers);
        let span = SpanBuilder::from_name(method).with_kind(SpanKind::Server).with_start_time(system(now));
        let span = span.start_with_context(tracer, &parent);
        Self(Some(span).filter(|span| span.span_context().is_sampled()))
    }

    /// Returns where its jobs stand, if it is sampled.
    pub fn trace(&self) -> Option<Trace> {
        let context = self.0.as_ref()?.span_context();
        Some(Trace { trace: context.trace_id().to_bytes(), span: context.span_id().to_bytes() })
    }

    /// Ends it: with so many jobs, or refused for a reason, of which only the constant word is kept.
    pub fn end(mut self, tenant: &str, done: Result<usize, &'static str>, now: UnixMicros) {
        let Some(span) = &mut self.0 else { return };
        span.set_attribute(KeyValue::new("postrider.tenant", tenant.to_owned()));
        match done {
            Ok(jobs) => span.set_attribute(KeyValue::new("postrider.jobs", i64::try_from(jobs).unwrap_or(i64::MAX))),
            Err(reason) => span.set_status(Status::error(reason)),
        }
        span.end_with_timestamp(system(now));
    }
}

/// The headers that a trace comes in.
struct Headers<'a>([(&'static str, Option<&'a str>); 2]);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(name, _)| *name == key).and_then(|(_, value)| *value)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| *name).collect()
    }
}

/// Returns the span that accepted a job as what others are children of.
fn context(trace: Trace) -> Context {
    let (id, span) = (TraceId::from_bytes(trace.trace), SpanId::from_bytes(trace.span));
    let parent = SpanContext::new(id, span, TraceFlags::SAMPLED, true, TraceState::default());
    Context::new().with_remote_span_context(parent)
}

fn system(at: UnixMicros) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(at.0).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn calls_are_sampled_as_their_callers_say_and_anything_else_is_no_parent() {
        let begin = |parent: Option<&'static str>| {
            Call::begin("Submit", move |name| parent.filter(|_| name == "traceparent"), UnixMicros(1)).trace()
        };
        assert_eq!(begin(Some(PARENT)), None, "not started");
        // Nobody listens there: what is sent is dropped.
        let traces = start("http://127.0.0.1:9", 0.0, "front").unwrap();
        let trace = begin(Some(PARENT)).unwrap();
        assert_eq!(trace.trace[..4], [0x0a, 0xf7, 0x65, 0x19]);
        assert_ne!(trace.span, [0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31], "a span of its own");
        for parent in [
            None,
            Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
            Some("00-00000000000000000000000000000000-b7ad6b7169203331-01"),
            Some("00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"),
            Some("ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            Some("00-é"),
            Some(""),
        ] {
            assert_eq!(begin(parent), None, "{parent:?}");
        }
        note(trace, Piece { name: "attempt", with: With::Asked, from: UnixMicros(1), to: UnixMicros(2), says: &[] });
        drop(traces);
        start("no url", 0.0, "front").unwrap_err();
    }
}
