//! Submits: one, many, one after the other.

use std::mem;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _};
use prost::Message as _;
use tonic::Status;

use super::Jobs;
use crate::admission::{Accepted, Batch, Fallback, ITEMS_MAX, Item, Request};
use crate::api::convert::{self, Invalid, Problem, Spec};
use crate::api::status::Error;
use crate::channel::call::asks;
use crate::domain::ids::JobId;
use crate::domain::keys::Fingerprint;
use crate::domain::trace::Trace;
use crate::ledger::{Ledger, Tenant};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;
use crate::telemetry::traces::Call;

/// Most characters in an idempotency key.
const KEY_CHARS_MAX: usize = 128;
/// Jobs of one stream in work at a time.
const STREAM_IN_WORK_MAX: usize = 1024;
/// Items that are checked before others get a turn of the processor.
const ITEMS_A_TURN: usize = 512;

type Key = Option<(Box<str>, Fingerprint)>;

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Accepts one job.
    pub(super) async fn submit_one(
        &self,
        tenant: &Arc<Tenant>,
        raw: pb::SubmitRequest,
        trace: Option<Trace>,
    ) -> Result<pb::SubmitResponse, Error> {
        let accepted = match self.checked(tenant, raw).await {
            Ok(request) => self.ports.admission.submit(Request { trace, ..request }).await.map_err(Error::from),
            Err(error) => Err(error),
        };
        match accepted {
            Ok(Accepted { jobs, scheduled, .. }) => Ok(pb::SubmitResponse {
                job_id: jobs.first().map(|(_, id)| id.to_string()).unwrap_or_default(),
                state: if scheduled { pb::State::Scheduled } else { pb::State::Accepted }.into(),
            }),
            Err(error) => Err(self.refused(tenant, error, 1)),
        }
    }

    /// Accepts the items of a batch that pass their checks; the others are refused alone.
    pub(super) async fn submit_many(
        &self,
        tenant: &Arc<Tenant>,
        raw: pb::SubmitBatchRequest,
        trace: Option<Trace>,
    ) -> Result<pb::SubmitBatchResponse, Error> {
        let count = raw.items.len();
        match self.try_submit_many(tenant, raw, trace).await {
            Ok(response) => Ok(response),
            Err(error) => Err(self.refused(tenant, error, count)),
        }
    }

    async fn try_submit_many(
        &self,
        tenant: &Arc<Tenant>,
        mut raw: pb::SubmitBatchRequest,
        trace: Option<Trace>,
    ) -> Result<pb::SubmitBatchResponse, Error> {
        convert::check_count("items", raw.items.len(), ITEMS_MAX)?;
        if raw.items.is_empty() {
            return Err(Invalid::new("items", Problem::Missing).into());
        }
        let key = mem::take(&mut raw.idempotency_key);
        let key = self.key(key, || raw.encode_to_vec())?;
        let spec = self.named(tenant, self.spec(raw.spec)?).await?;
        let (items, refusals) = check_items(raw.items, &spec).await;
        let mut results: Vec<_> = refusals.into_iter().map(|(index, invalid)| refused(index, invalid)).collect();
        if !results.is_empty() {
            self.metrics.refused(
                Some(&tenant.id),
                Error::Invalid(Invalid::new("", Problem::Missing)).counted(),
                results.len(),
            );
        }
        let request = request(tenant, spec, key, (Batch::Many, items));
        let accepted = self.ports.admission.submit(Request { trace, ..request }).await?;
        for (index, refusal) in accepted.refused {
            let error = Error::Refused(refusal);
            self.metrics.refused(Some(&tenant.id), error.counted(), 1);
            results.push(refused_item(index, error));
        }
        let refused = results.len();
        results.extend(accepted.jobs.iter().map(|(index, id)| taken(*index, *id)));
        results.sort_unstable_by_key(|result| result.index);
        Ok(pb::SubmitBatchResponse {
            batch_id: accepted.batch.map(|batch| batch.to_string()).unwrap_or_default(),
            accepted: u32::try_from(accepted.jobs.len()).unwrap_or(u32::MAX),
            refused: u32::try_from(refused).unwrap_or(u32::MAX),
            results,
        })
    }

    /// Accepts what comes in on a stream, and answers each. Nothing more is read while [`STREAM_IN_WORK_MAX`] are in
    /// work, or once the process stops.
    pub(super) fn submit_each(
        self,
        (tenant, call): (Arc<Tenant>, Call),
        incoming: impl Stream<Item = Result<pb::SubmitStreamRequest, Status>>,
    ) -> impl Stream<Item = Result<pb::SubmitStreamResponse, Status>> {
        let stop = self.ports.tasks.stop().clone();
        // It ends with the stream.
        let call = Arc::new(call);
        incoming
            .take_until(stop.cancelled_owned())
            .map(move |incoming| {
                let (this, tenant, trace) = (self.clone(), Arc::clone(&tenant), call.trace());
                async move {
                    let pb::SubmitStreamRequest { sequence, job } = incoming?;
                    let result = match job {
                        Some(job) => this.submit_one(&tenant, job, trace).await,
                        None => Err(this.refused(&tenant, Invalid::new("job", Problem::Missing).into(), 1)),
                    };
                    let result = match result {
                        Ok(accepted) => pb::submit_stream_response::Result::Accepted(accepted),
                        Err(error) => pb::submit_stream_response::Result::Refusal(error.into()),
                    };
                    Ok(pb::SubmitStreamResponse { sequence, result: Some(result) })
                }
            })
            .buffer_unordered(STREAM_IN_WORK_MAX)
    }

    async fn checked(&self, tenant: &Arc<Tenant>, mut raw: pb::SubmitRequest) -> Result<Request, Error> {
        let key = mem::take(&mut raw.idempotency_key);
        let key = self.key(key, || raw.encode_to_vec())?;
        let spec = self.named(tenant, self.spec(raw.spec)?).await?;
        let item = pb::BatchItem {
            recipient: raw.recipient,
            params: raw.params,
            cancel_key: raw.cancel_key,
            collapse_key: raw.collapse_key,
            send_at: None,
        };
        let item = convert::item(0, item, &spec)?;
        Ok(request(tenant, spec, key, (Batch::Single, vec![item])))
    }

    pub(super) fn spec(&self, raw: Option<pb::JobSpec>) -> Result<Spec, Invalid> {
        let spec = convert::spec(raw, self.ports.clock.now()).map_err(|invalid| invalid.within("spec"))?;
        let calendars = self.ports.windows.calendars();
        convert::calendars(&spec.when.windows, calendars).map_err(|invalid| invalid.within("spec.schedule"))?;
        Ok(spec)
    }

    /// Checks an idempotency key, and takes the fingerprint of what was asked under it.
    fn key(&self, key: String, body: impl FnOnce() -> Vec<u8>) -> Result<Key, Invalid> {
        let key = convert::text("idempotency_key", key, KEY_CHARS_MAX)?;
        Ok(if key.is_empty() { None } else { Some((key, self.ports.sealer.fingerprint(&body()))) })
    }

    fn refused(&self, tenant: &Tenant, error: Error, jobs: usize) -> Error {
        self.metrics.refused(Some(&tenant.id), error.counted(), jobs);
        error
    }
}

pub(super) async fn check_items(raw: Vec<pb::BatchItem>, spec: &Spec) -> (Vec<Item>, Vec<(u32, Invalid)>) {
    let (mut items, mut refusals) = (Vec::with_capacity(raw.len()), Vec::new());
    for (at, raw) in raw.into_iter().enumerate() {
        if at % ITEMS_A_TURN == ITEMS_A_TURN - 1 {
            tokio::task::yield_now().await;
        }
        let index = u32::try_from(at).unwrap_or(u32::MAX);
        match convert::item(index, raw, spec) {
            Ok(item) => items.push(item),
            Err(invalid) => refusals.push((index, invalid.at("items", at))),
        }
    }
    (items, refusals)
}

pub(super) fn request(tenant: &Arc<Tenant>, spec: Spec, key: Key, (batch, items): (Batch, Vec<Item>)) -> Request {
    Request {
        tenant: Arc::clone(tenant),
        kind: spec.kind,
        class: spec.class,
        asks: asks(spec.kind, &spec.content, spec.template.as_deref()),
        content: spec.content,
        fallback: spec.fallback.into_iter().map(step).collect(),
        sender: spec.sender,
        topic: spec.topic,
        labels: spec.labels,
        origin: spec.origin,
        priority: spec.priority,
        on_missed: spec.when.on_missed,
        start: spec.when.start,
        windows: spec.when.windows,
        expires_at: spec.when.expires_at,
        key,
        trace: None,
        batch,
        items,
    }
}

fn step(step: convert::Fallback) -> Fallback {
    let convert::Fallback { kind, content, sender, after, template, .. } = step;
    Fallback { kind, asks: asks(kind, &content, template.as_deref()), content, sender, after }
}

fn refused(index: u32, invalid: Invalid) -> pb::BatchItemResult {
    let refusal = pb::batch_item_result::Result::Refusal(Error::Invalid(invalid).into());
    pb::BatchItemResult { index, result: Some(refusal) }
}

/// Shows what admission says of an item.
fn refused_item(index: u32, error: Error) -> pb::BatchItemResult {
    pb::BatchItemResult { index, result: Some(pb::batch_item_result::Result::Refusal(refusal_of(index, error))) }
}

/// Returns what admission says of an item; what is about the item is under its index.
pub(super) fn refusal_of(index: u32, error: Error) -> pb::Refusal {
    let mut refusal = pb::Refusal::from(error);
    if refusal.field.starts_with("recipient.") {
        refusal.field.insert_str(0, &format!("items[{index}]."));
    }
    refusal
}

fn taken(index: u32, id: JobId) -> pb::BatchItemResult {
    pb::BatchItemResult { index, result: Some(pb::batch_item_result::Result::JobId(id.to_string())) }
}
