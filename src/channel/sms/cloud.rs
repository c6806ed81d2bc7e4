//! Texts and template messages through the HTTP API of a cloud: what all clouds have in common. What makes one of them is
//! its [`Api`].
//!
//! | what happens | the jobs of the request |
//! |---|---|
//! | no connection, or it ended before the request was written | not sent |
//! | the API answers | what [`Api::read`] makes of it |
//! | the connection breaks, the time is up, the answer does not read | no answer: each may have been taken |
//! | a batch is refused because of one of its jobs | each goes again alone, in the time that is left |
//! | the access token of a cloud that has such is refused | they go again with a new one, once |

use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::super::http::client::{Client, Failure, NO_CONNECTION, TOO_LATE};
use super::super::http::{Bytes, Request, Response, StatusCode, header};
use super::super::login::Login;
use super::super::template::token::{NoToken, Tokens};
use super::super::{Answer, Answered, Channel, Handover, Health, Opens};
use super::text::{self, Counting};
use crate::domain::ids::{ProviderId, TenantId};
use crate::domain::job::Content;
use crate::domain::time::{Clock, Stopwatch, UnixMicros};
use crate::rate_limited;
use crate::shutdown::Tasks;

/// After a failure to connect the cloud counts as down for this long, doubled with each further one.
const DOWN_MIN: Duration = Duration::from_millis(500);
const DOWN_MAX: Duration = Duration::from_secs(30);
/// Until an account is tried again that has no money, is suspended, or does not let the key in: somebody sees to it.
pub(super) const ACCOUNT_HOLD: Duration = Duration::from_secs(60);
/// How far the clocks are ahead that days and months of accounts in China go by.
pub(in crate::channel) const CHINA: Duration = Duration::from_secs(8 * 3_600);
/// Batches that are looked through for one that a job may join; jobs that go together come together.
const OPEN_BATCHES: usize = 8;

/// What makes a cloud: how jobs become requests, and what its answers mean. Pure: time and randomness are arguments.
pub trait Api: Send + Sync + 'static {
    /// Returns how many jobs may share a request.
    fn batch_max(&self) -> usize {
        1
    }

    /// Checks whether a job can go through this cloud at all.
    ///
    /// # Errors
    /// The answer to it, where it cannot.
    fn check(&self, handover: &Handover) -> Result<(), Answer>;

    /// Returns whether a job may share the request of `batch`, which is not full.
    fn joins(&self, _batch: &[Handover], _handover: &Handover) -> bool {
        false
    }

    /// Returns how many segments the cloud counts a job as, at least 1.
    fn segments(&self, _handover: &Handover) -> u32 {
        1
    }

    /// As [`Channel::consent`].
    fn consent(&self, _handover: &Handover, _provider: &ProviderId) -> Option<(TenantId, String)> {
        None
    }

    /// As [`Channel::says_no_consent`].
    fn says_no_consent(&self, _code: &str) -> bool {
        false
    }

    /// Returns the request that hands jobs over: one, or a batch that was joined.
    ///
    /// # Errors
    /// The answer to all of them, where there is no such request.
    fn request(&self, jobs: &[Handover], moment: Moment) -> Result<Request<Bytes>, Answer>;

    /// Returns who has the token that requests carry as `access_token`; `None`: they are signed, or carry a key.
    fn tokens(&self) -> Option<&Tokens> {
        None
    }

    /// Returns what an answer means for these jobs.
    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning;

    /// Returns a question that logs in and sends nothing, where the cloud has one.
    fn question(&self, _moment: Moment) -> Option<Request<Bytes>> {
        None
    }

    /// Returns what the answer to that question says about the account.
    fn admitted(&self, _answer: &Response<Bytes>) -> Login {
        Login::Untried
    }
}

/// Asks a cloud whether it knows the account, and sends nothing. Takes at most `limit`.
pub async fn log_in(api: &dyn Api, client: &Client, limit: Duration, clock: &Clock) -> Login {
    let Some(question) = api.question(Moment { now: clock.now(), nonce: Uuid::new_v4() }) else {
        let reached = client.reach(limit).await;
        return reached.map_or_else(|failure| Login::Unreachable(failure.to_string().into()), |()| Login::Untried);
    };
    match client.send(question, limit).await {
        Ok(answer) => api.admitted(&answer),
        Err(failure) => Login::Unreachable(failure.to_string().into()),
    }
}

/// What a request is signed with.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now.
    pub now: UnixMicros,
    /// A number that is used once.
    pub nonce: Uuid,
}

/// What an answer means for the jobs of its request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Meaning {
    /// This for each, in their order.
    Each(Vec<Answer>),
    /// The same for all.
    All(Answer),
    /// Nothing went out, because of one of them: each is to go alone.
    Alone,
    /// Nothing went out, because the token is none any more.
    NotLetIn,
    /// Nothing went out, because some had expired.
    Late,
}

/// How a cloud is used.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider.
    pub provider: ProviderId,
    /// Most jobs in flight.
    pub window: NonZeroU32,
    /// Jobs per second that it is known to carry, or 0; only said in the health.
    pub rate_per_s: f64,
    /// How long a job may be without its answer.
    pub response_timeout: Duration,
}

/// A cloud that texts can be handed to.
pub struct Cloud {
    shared: Arc<Shared>,
}

struct Shared {
    api: Box<dyn Api>,
    client: Client,
    settings: Settings,
    clock: Clock,
    tasks: Tasks,
    in_flight: AtomicU32,
    down: Mutex<Down>,
}

/// Whether connecting failed lately.
#[derive(Default)]
struct Down {
    failures: u32,
    since: Option<Stopwatch>,
}

/// Jobs that share a request, with their places in the caller's list.
#[derive(Default)]
struct Batch {
    places: Vec<usize>,
    jobs: Vec<Handover>,
}

// === impl Cloud ===

impl Cloud {
    /// Returns a cloud. It answers what is in flight after `tasks` are told to stop, and takes nothing more.
    pub fn new(api: Box<dyn Api>, client: Client, settings: Settings, tasks: &Tasks, clock: &Clock) -> Self {
        let (tasks, clock) = (tasks.clone(), clock.clone());
        let (in_flight, down) = (AtomicU32::new(0), Mutex::default());
        Self { shared: Arc::new(Shared { api, client, settings, clock, tasks, in_flight, down }) }
    }

    fn admit(&self, handover: &Handover) -> Result<(), Answer> {
        if self.shared.tasks.stopping() {
            return Err(not_sent("stopping"));
        }
        self.shared.api.check(handover)?;
        if handover.expires_at <= self.shared.clock.now() {
            return Err(Answer::too_late());
        }
        if self.shared.enter() { Ok(()) } else { Err(Answer::Throttled { retry_after: None }) }
    }
}

impl Channel for Cloud {
    fn cost(&self, _handover: &Handover) -> u32 {
        1
    }

    fn segments(&self, handover: &Handover) -> u32 {
        self.shared.api.segments(handover).max(1)
    }

    fn consent(&self, handover: &Handover, provider: &ProviderId) -> Option<(TenantId, String)> {
        self.shared.api.consent(handover, provider)
    }

    fn says_no_consent(&self, code: &str) -> bool {
        self.shared.api.says_no_consent(code)
    }

    fn submit(&self, handovers: Vec<Handover>, answers: mpsc::UnboundedSender<Answered>) {
        let most = self.shared.api.batch_max();
        let mut batches: Vec<Batch> = Vec::new();
        for (place, handover) in handovers.into_iter().enumerate() {
            if let Err(answer) = self.admit(&handover) {
                // Whoever asked may be gone: then nobody waits for this.
                let _gone = answers.send((place, answer));
                continue;
            }
            let fits = |batch: &&mut Batch| batch.jobs.len() < most && self.shared.api.joins(&batch.jobs, &handover);
            let open = batches.iter_mut().rev().take(if most > 1 { OPEN_BATCHES } else { 0 });
            match open.into_iter().find(fits) {
                Some(batch) => batch.push(place, handover),
                None => batches.push(Batch { places: vec![place], jobs: vec![handover] }),
            }
        }
        for batch in batches {
            let (shared, answers) = (Arc::clone(&self.shared), answers.clone());
            self.shared.tasks.spawn("cloud_request", async move { shared.hand_over(batch, &answers).await });
        }
    }

    fn health(&self) -> Health {
        let Settings { window, rate_per_s, .. } = self.shared.settings;
        let in_flight = self.shared.in_flight.load(Ordering::Relaxed);
        Health { up: self.shared.up(), rate_per_s, in_flight, window: window.get() }
    }
}

impl fmt::Debug for Cloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cloud").field("provider", &self.shared.settings.provider).finish_non_exhaustive()
    }
}

// === impl Shared ===

impl Shared {
    /// Hands a batch over and answers each of its jobs.
    async fn hand_over(self: Arc<Self>, mut batch: Batch, answers: &mpsc::UnboundedSender<Answered>) {
        let watch = self.clock.stopwatch();
        let limit = self.settings.response_timeout;
        let meaning = loop {
            let meaning = self.exchange(&batch.jobs, limit.saturating_sub(watch.elapsed())).await;
            let before = batch.jobs.len();
            if meaning == Meaning::Late {
                batch = self.in_time(batch, answers);
            }
            match batch.jobs.len() {
                0 => return,
                left if left == before => break meaning,
                _ => {} // Those that are left go together.
            }
        };
        let each = match meaning {
            Meaning::Each(each) if each.len() == batch.jobs.len() => each,
            // One of the answers is missing, and nobody knows whose.
            Meaning::Each(_) => vec![Answer::NoAnswer; batch.jobs.len()],
            Meaning::All(answer) => vec![answer; batch.jobs.len()],
            Meaning::Alone if batch.jobs.len() > 1 => {
                let left = limit.saturating_sub(watch.elapsed());
                for (place, job) in batch.places.into_iter().zip(batch.jobs) {
                    let (shared, answers) = (Arc::clone(&self), answers.clone());
                    self.tasks.spawn("cloud_request", async move {
                        let answer = shared.alone(&job, left).await;
                        shared.settle(place, answer, &answers);
                    });
                }
                return;
            }
            Meaning::Late => vec![Answer::too_late(); batch.jobs.len()],
            Meaning::Alone | Meaning::NotLetIn => vec![not_sent("batch_refused"); batch.jobs.len()],
        };
        for (place, answer) in batch.places.into_iter().zip(each) {
            self.settle(place, answer, answers);
        }
    }

    /// Answers those of a batch that have expired; returns the others.
    fn in_time(&self, batch: Batch, answers: &mpsc::UnboundedSender<Answered>) -> Batch {
        let (now, mut left) = (self.clock.now(), Batch::default());
        for (place, job) in batch.places.into_iter().zip(batch.jobs) {
            if job.expires_at <= now {
                self.settle(place, Answer::too_late(), answers);
            } else {
                left.push(place, job);
            }
        }
        left
    }

    /// Hands over a job whose batch was refused.
    async fn alone(&self, job: &Handover, limit: Duration) -> Answer {
        if limit < self.settings.response_timeout / 4 {
            return not_sent("batch_refused");
        }
        match self.exchange(std::slice::from_ref(job), limit).await {
            Meaning::Each(mut each) => each.pop().unwrap_or(Answer::NoAnswer),
            Meaning::All(answer) => answer,
            Meaning::Late => Answer::too_late(),
            Meaning::Alone | Meaning::NotLetIn => not_sent("batch_refused"),
        }
    }

    /// Asks, once more if the token was refused; says what it means for each job.
    async fn exchange(&self, jobs: &[Handover], limit: Duration) -> Meaning {
        let watch = self.clock.stopwatch();
        let (mut meaning, token) = self.ask(jobs, None, limit).await;
        if let (Meaning::NotLetIn, Some(refused)) = (&meaning, &token) {
            let left = limit.saturating_sub(watch.elapsed());
            (meaning, _) = self.ask(jobs, Some(&**refused), left).await;
        }
        let all = match meaning {
            Meaning::NotLetIn => Meaning::All(closed("not_let_in")),
            other => other,
        };
        self.warn(jobs.len(), all)
    }

    /// Asks with a token other than `refused`, if it takes one; returns the answer's meaning and the token.
    async fn ask(&self, jobs: &[Handover], refused: Option<&str>, limit: Duration) -> (Meaning, Option<Arc<str>>) {
        let watch = self.clock.stopwatch();
        let moment = Moment { now: self.clock.now(), nonce: Uuid::new_v4() };
        let mut request = match self.api.request(jobs, moment) {
            Ok(request) => request,
            Err(answer) => return (Meaning::All(answer), None),
        };
        let mut token = None;
        if let Some(tokens) = self.api.tokens() {
            match tokens.get(refused, &self.client, limit / 2).await {
                Ok(found) => request = with_token(request, token.insert(found)),
                Err(NoToken { code }) => {
                    if *code == *NO_CONNECTION {
                        self.failed();
                    }
                    return (Meaning::All(not_sent(code)), None);
                }
            }
        }
        let meaning = self.send(jobs, request, limit.saturating_sub(watch.elapsed())).await;
        (meaning, token)
    }

    async fn send(&self, jobs: &[Handover], request: Request<Bytes>, limit: Duration) -> Meaning {
        let too_late = jobs.iter().map(|job| job.expires_at).min().unwrap_or(UnixMicros::MAX);
        match self.client.send_before(too_late, request, limit).await {
            Err(Failure::NotSent(TOO_LATE)) => Meaning::Late,
            Ok(answer) => {
                self.heard();
                self.api.read(jobs, &answer)
            }
            Err(Failure::NoAnswer) => Meaning::All(Answer::NoAnswer),
            Err(Failure::NotSent(code)) => {
                if code == NO_CONNECTION {
                    self.failed();
                }
                rate_limited!(per_min = 6, warn, provider = %self.settings.provider, code, "request not sent");
                Meaning::All(not_sent(code))
            }
        }
    }

    /// Says in the log that the account, not a job, is what the cloud refuses.
    fn warn(&self, jobs: usize, meaning: Meaning) -> Meaning {
        if let Meaning::All(Answer::NotSent { code, .. } | Answer::Closed { code, .. }) = &meaning {
            rate_limited!(per_min = 6, warn, provider = %self.settings.provider, %code, jobs, "request refused");
        }
        meaning
    }

    fn settle(&self, place: usize, answer: Answer, answers: &mpsc::UnboundedSender<Answered>) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        // Whoever asked may be gone: then nobody waits for this.
        let _gone = answers.send((place, answer));
    }

    fn enter(&self) -> bool {
        let window = self.settings.window.get();
        let within = |in_flight: u32| (in_flight < window).then_some(in_flight + 1);
        self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, within).is_ok()
    }

    fn up(&self) -> bool {
        let down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        let hold = DOWN_MIN.saturating_mul(1 << down.failures.saturating_sub(1).min(16)).min(DOWN_MAX);
        down.since.is_none_or(|since| since.elapsed() >= hold)
    }

    fn heard(&self) {
        *self.down.lock().unwrap_or_else(PoisonError::into_inner) = Down::default();
    }

    fn failed(&self) {
        let up = self.up();
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        // What fails while it counts as down was begun before.
        if up {
            *down = Down { failures: down.failures.saturating_add(1), since: Some(self.clock.stopwatch()) };
        }
    }
}

impl Batch {
    fn push(&mut self, place: usize, job: Handover) {
        self.places.push(place);
        self.jobs.push(job);
    }
}

// === what jobs have in common ===

/// Returns how many segments a text takes abroad.
pub(super) fn segments(job: &Handover) -> u32 {
    match &job.content {
        Content::Text(text) => text::segments(text, Counting::GsmIntl),
        Content::Template { .. } | Content::Call { .. } => 1,
    }
}

/// Returns how many segments a text takes in China, behind the signature that the cloud puts in front of it.
pub(super) fn signed_segments(job: &Handover, signature: &str) -> u32 {
    match &job.content {
        Content::Text(text) => text::segments(&format!("【{signature}】{text}"), Counting::CnDomestic),
        Content::Template { .. } | Content::Call { .. } => 1,
    }
}

// === what answers have in common ===

/// Returns the answer that says: definitely not sent, try again.
pub(in crate::channel) fn not_sent(code: impl Into<Box<str>>) -> Answer {
    Answer::NotSent { code: code.into(), retry_after: None }
}

/// Returns the answer that says: nothing goes, until somebody has seen to the account.
pub(in crate::channel) fn closed(code: impl Into<Box<str>>) -> Answer {
    Answer::Closed { code: code.into(), opens: Opens::After(ACCOUNT_HOLD) }
}

/// Returns the answer that says: never.
pub(in crate::channel) fn refused(code: impl Into<Box<str>>) -> Answer {
    Answer::Refused { code: code.into() }
}

/// Returns the answer that says: slower.
pub(in crate::channel) fn throttled(answer: &Response<Bytes>) -> Answer {
    Answer::Throttled { retry_after: retry_after(answer) }
}

/// Returns what an answer says of an account, where it is not in the cloud's own words.
pub(super) fn stranger(answer: &Response<Bytes>) -> Login {
    Login::Unreachable(format!("HTTP {}", answer.status().as_u16()).into())
}

/// Returns what an answer means that is not in the cloud's own words: from something in front of it.
pub(in crate::channel) fn foreign(answer: &Response<Bytes>) -> Answer {
    match answer.status() {
        StatusCode::TOO_MANY_REQUESTS => throttled(answer),
        // It never came to the cloud: no such path or host, no such account, a request that is no request.
        status if status.is_client_error() && status != StatusCode::REQUEST_TIMEOUT => {
            not_sent(format!("http_{}", status.as_u16()))
        }
        // A gateway's 5xx may hide a cloud that took it, and a success that does not read is nobody's word.
        _ => Answer::NoAnswer,
    }
}

/// Returns a request with its token in the query.
pub(in crate::channel) fn with_token(mut request: Request<Bytes>, token: &str) -> Request<Bytes> {
    let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let joint = if path.contains('?') { '&' } else { '?' };
    if let Ok(uri) = format!("{path}{joint}access_token={token}").parse() {
        *request.uri_mut() = uri;
    }
    request
}

/// Returns when to ask again, where the answer says it in seconds; at most an hour.
fn retry_after(answer: &Response<Bytes>) -> Option<Duration> {
    let seconds = answer.headers().get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(Duration::from_secs(3_600)))
}
