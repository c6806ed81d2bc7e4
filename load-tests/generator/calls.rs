//! The calls themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use postrider::domain::job::Class;
use postrider::domain::time::{Clock, UnixMicros};
use postrider::pb;
use postrider::pb::batch_item_result::Result as ItemResult;
use postrider::pb::job_service_client::JobServiceClient;
use postrider::pb::submit_stream_response::Result as StreamResult;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request};

use super::{CALL_TIMEOUT, LoadCounts, phone_call, text};
use crate::scenario::{Call, Kind, Load};

/// Makes the calls of one load over one connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Caller {
    client: JobServiceClient<Channel>,
    authorization: MetadataValue<Ascii>,
    load: Arc<Load>,
    index: usize,
    counts: Arc<LoadCounts>,
    clock: Clock,
}

/// A stream that jobs are submitted on.
pub(super) struct Stream {
    caller: Caller,
    to: mpsc::Sender<pb::SubmitStreamRequest>,
    /// Jobs without an answer, by number, with the time each was due.
    waiting: Arc<Mutex<HashMap<u64, UnixMicros>>>,
}

/// The stream has ended.
pub(super) struct Ended;

// === impl Caller ===

impl Caller {
    pub(super) fn new(
        client: JobServiceClient<Channel>,
        authorization: MetadataValue<Ascii>,
        load: &Load,
        index: usize,
        (counts, clock): (Arc<LoadCounts>, Clock),
    ) -> Self {
        Self { client, authorization, load: Arc::new(load.clone()), index, counts, clock }
    }

    /// Makes call number `number`, which was to start at `due`.
    pub(super) async fn call(&mut self, number: u64, due: UnixMicros) {
        let jobs = u64::from(self.load.batch);
        self.counts.attempted(jobs);
        let failed = match self.load.call {
            Call::Batch => self.batch(number, due).await,
            Call::Unary | Call::Stream => self.submit(number, due).await,
        };
        if let Err(status) = failed {
            self.counts.failed(jobs, &status);
        }
        self.counts.answered(due, self.clock.now());
    }

    async fn batch(&mut self, number: u64, due: UnixMicros) -> Result<(), tonic::Status> {
        let first = number * u64::from(self.load.batch);
        let request = pb::SubmitBatchRequest {
            idempotency_key: self.key(number),
            spec: Some(self.spec(due)),
            items: (first..first + u64::from(self.load.batch)).map(|job| self.item(job)).collect(),
        };
        let request = self.request(request);
        let answer = self.client.submit_batch(request).await?.into_inner();
        self.counts.accepted(answer.accepted.into(), self.clock.now());
        if answer.refused > 0 {
            for result in answer.results {
                if let Some(ItemResult::Refusal(refusal)) = result.result {
                    self.counts.refused(1, Code::from_i32(refusal.code));
                }
            }
        }
        Ok(())
    }

    async fn submit(&mut self, number: u64, due: UnixMicros) -> Result<(), tonic::Status> {
        let request = self.request(self.single(number, due));
        self.client.submit(request).await?;
        self.counts.accepted(1, self.clock.now());
        Ok(())
    }

    /// Opens a stream; the second part takes its answers and ends with it.
    pub(super) fn open_stream(mut self, room: usize) -> (Stream, impl Future<Output = ()> + Send + 'static) {
        let (to, jobs) = mpsc::channel(room);
        let waiting = Arc::new(Mutex::new(HashMap::new()));
        let stream = Stream { caller: self.clone(), to, waiting: Arc::clone(&waiting) };
        let answers = async move {
            let mut request = Request::new(ReceiverStream::new(jobs));
            request.metadata_mut().insert("authorization", self.authorization.clone());
            if let Ok(answers) = self.client.submit_stream(request).await {
                let mut answers = answers.into_inner();
                while let Ok(Some(answer)) = answers.message().await {
                    self.stream_answer(&waiting, answer);
                }
            }
            let left = waiting.lock().unwrap_or_else(PoisonError::into_inner).len();
            self.counts.unknown(left as u64);
        };
        (stream, answers)
    }

    fn stream_answer(&self, waiting: &Mutex<HashMap<u64, UnixMicros>>, answer: pb::SubmitStreamResponse) {
        let now = self.clock.now();
        let Some(due) = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&answer.sequence) else { return };
        self.counts.answered(due, now);
        match answer.result {
            Some(StreamResult::Accepted(_)) => self.counts.accepted(1, now),
            Some(StreamResult::Refusal(refusal)) => {
                self.counts.failed(1, &tonic::Status::new(Code::from_i32(refusal.code), ""));
            }
            None => self.counts.unknown(1),
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("authorization", self.authorization.clone());
        request.set_timeout(CALL_TIMEOUT);
        request
    }

    fn single(&self, number: u64, due: UnixMicros) -> pb::SubmitRequest {
        let item = self.item(number);
        pb::SubmitRequest {
            idempotency_key: self.key(number),
            spec: Some(self.spec(due)),
            recipient: item.recipient,
            params: item.params,
            ..pb::SubmitRequest::default()
        }
    }

    fn item(&self, job: u64) -> pb::BatchItem {
        let phone = text::phone(&self.load, self.index, job);
        let mut item = pb::BatchItem {
            recipient: Some(pb::Recipient { phone, ..pb::Recipient::default() }),
            ..pb::BatchItem::default()
        };
        if self.load.recipients > 0 {
            item.params.insert(text::NUMBER.to_owned(), text::number(job));
        }
        item
    }

    /// Returns what is asked of a call that was to start at `due`; the text says when its jobs are due.
    fn spec(&self, due: UnixMicros) -> pb::JobSpec {
        // Whole milliseconds, because that is what the text can say.
        let due = UnixMicros::from_millis(due.plus(self.load.delay).as_millis());
        let send_at = (!self.load.delay.is_zero()).then_some(due);
        let content = match self.load.kind {
            Kind::Sms => {
                let text = text::text(&self.load, due);
                pb::job_spec::Content::Sms(pb::SmsContent { text, ..pb::SmsContent::default() })
            }
            Kind::Call => pb::job_spec::Content::Call(phone_call::content()),
        };
        let campaign_id = if self.load.campaign { self.load.name.clone() } else { String::new() };
        pb::JobSpec {
            content: Some(content),
            origin: Some(pb::Origin { campaign_id, ..pb::Origin::default() }),
            class: class(self.load.class).into(),
            schedule: send_at.map(|at| pb::Schedule {
                start: Some(pb::schedule::Start::SendAt(timestamp(at))),
                ..pb::Schedule::default()
            }),
            ..pb::JobSpec::default()
        }
    }

    fn key(&self, number: u64) -> String {
        if self.load.keyed { format!("{}-{number}", self.load.name) } else { String::new() }
    }
}

// === impl Stream ===

impl Stream {
    /// Hands job number `number` in, which was to start at `due`; waits while the stream is full.
    pub(super) async fn submit(&self, number: u64, due: UnixMicros) -> Result<(), Ended> {
        self.caller.counts.attempted(1);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(number, due);
        let job = pb::SubmitStreamRequest { sequence: number, job: Some(self.caller.single(number, due)) };
        self.to.send(job).await.map_err(|_| {
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
            Ended
        })
    }
}

fn class(class: Class) -> pb::Class {
    match class {
        Class::Otp => pb::Class::Otp,
        Class::Transactional => pb::Class::Transactional,
        Class::Notification => pb::Class::Notification,
        Class::Marketing => pb::Class::Marketing,
    }
}

fn timestamp(at: UnixMicros) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: at.as_secs(), nanos: (at.0.rem_euclid(1_000_000) * 1_000) as i32 }
}
