//! The job service.

mod explain;
mod read;
mod rehearse;
mod rules;
mod stats;
mod submit;
mod template;
mod watch;

use std::sync::Arc;

use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::Ports;
use super::access::caller;
use super::status::Error;
use super::tail::Tail;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;
use crate::telemetry::metrics::AdmissionMetrics;
use crate::telemetry::traces::Call;

/// Hands jobs in, asks after them, takes them back.
pub(super) struct Jobs<Q, L, B> {
    ports: Arc<Ports<Q, L, B>>,
    tail: Tail,
    metrics: Arc<AdmissionMetrics>,
}

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    pub(super) fn new(ports: Arc<Ports<Q, L, B>>) -> Self {
        let tail = Tail::start(ports.ledger.clone(), ports.clock.clone(), &ports.tasks);
        Self { ports, tail, metrics: Arc::new(AdmissionMetrics::new()) }
    }

    /// Begins a call, in the trace that its caller began.
    fn call<T>(&self, method: &'static str, request: &Request<T>) -> Call {
        let header = |name: &str| request.metadata().get(name).and_then(|value| value.to_str().ok());
        Call::begin(method, header, self.ports.clock.now())
    }
}

impl<Q, L, B> Clone for Jobs<Q, L, B> {
    fn clone(&self) -> Self {
        Self { ports: Arc::clone(&self.ports), tail: self.tail.clone(), metrics: Arc::clone(&self.metrics) }
    }
}

#[tonic::async_trait]
impl<Q: Queue, L: Limits, B: Ledger> pb::job_service_server::JobService for Jobs<Q, L, B> {
    async fn submit(&self, request: Request<pb::SubmitRequest>) -> Result<Response<pb::SubmitResponse>, Status> {
        let (caller, call) = (caller(&request)?, self.call("Submit", &request));
        let done = self.submit_one(&caller.tenant, request.into_inner(), call.trace()).await;
        let jobs = done.as_ref().map(|_| 1).map_err(Error::reason);
        call.end(caller.tenant.id.as_str(), jobs, self.ports.clock.now());
        Ok(Response::new(done?))
    }

    async fn submit_batch(
        &self,
        request: Request<pb::SubmitBatchRequest>,
    ) -> Result<Response<pb::SubmitBatchResponse>, Status> {
        let (caller, call) = (caller(&request)?, self.call("SubmitBatch", &request));
        let done = self.submit_many(&caller.tenant, request.into_inner(), call.trace()).await;
        let jobs = done.as_ref().map(|done| done.accepted as usize).map_err(Error::reason);
        call.end(caller.tenant.id.as_str(), jobs, self.ports.clock.now());
        Ok(Response::new(done?))
    }

    async fn submit_stream(
        &self,
        request: Request<Streaming<pb::SubmitStreamRequest>>,
    ) -> Result<Response<BoxStream<pb::SubmitStreamResponse>>, Status> {
        let (caller, call) = (caller(&request)?, self.call("SubmitStream", &request));
        Ok(Response::new(Box::pin(self.clone().submit_each((caller.tenant, call), request.into_inner()))))
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::GetJobResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.get(&caller.tenant.id, &request.into_inner()).await?))
    }

    async fn list_jobs(&self, request: Request<pb::ListJobsRequest>) -> Result<Response<pb::ListJobsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.list(&caller.tenant.id, request.into_inner()).await?))
    }

    async fn cancel_jobs(
        &self,
        request: Request<pb::CancelJobsRequest>,
    ) -> Result<Response<pb::CancelJobsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.cancel(&caller.tenant.id, request.into_inner()).await?))
    }

    async fn reschedule_jobs(
        &self,
        request: Request<pb::RescheduleJobsRequest>,
    ) -> Result<Response<pb::RescheduleJobsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.reschedule(&caller.tenant.id, request.into_inner()).await?))
    }

    async fn explain_job(
        &self,
        request: Request<pb::ExplainJobRequest>,
    ) -> Result<Response<pb::ExplainJobResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.explain(&caller.tenant, &request.into_inner()).await?))
    }

    async fn rehearse(&self, request: Request<pb::RehearseRequest>) -> Result<Response<pb::RehearseResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.rehearsed(&caller.tenant, request.into_inner()).await?))
    }

    async fn watch_events(
        &self,
        request: Request<pb::WatchEventsRequest>,
    ) -> Result<Response<BoxStream<pb::WatchEventsResponse>>, Status> {
        let caller = caller(&request)?;
        let answers = self.watch(caller.tenant.id.clone(), &request.into_inner()).await?;
        Ok(Response::new(Box::pin(answers)))
    }

    async fn get_stats(&self, request: Request<pb::GetStatsRequest>) -> Result<Response<pb::GetStatsResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.stats(&caller, request.into_inner()).await?))
    }
}
