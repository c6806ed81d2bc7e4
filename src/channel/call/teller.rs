//! What a driver says of its calls: again and again, until it is durable.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::runner::{FollowUp, Runner};
use super::{CallNews, Carried, Followed, OptedOut, Step};
use crate::channel::{Handover, Inbound, News};
use crate::domain::call::CallReport;
use crate::domain::event::{Left, Outcome, State};
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::recipient::Recipient;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// What is said of a call is said again after this, until it is durable.
const SAY_AGAIN: Duration = Duration::from_secs(1);
/// How long a call that is over stays up for what it brought and is not durable yet.
const FOLLOW_MAX: Duration = Duration::from_secs(2);

/// By which a driver speaks.
#[derive(Clone)]
pub(super) struct Voice {
    pub(super) provider: ProviderId,
    pub(super) inbox: mpsc::Sender<Inbound>,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
}

/// Tells of one call.
pub(super) struct Teller {
    voice: Voice,
    job: JobId,
    attempt: u16,
    recipient: Arc<Recipient>,
    carried: Arc<Carried>,
    /// Jobs and opt-outs on their way to be durable.
    under_way: Mutex<Vec<JoinHandle<()>>>,
}

// === impl Voice ===

impl Voice {
    /// Says something until it is durable; gives up only when nobody listens any more.
    pub(super) async fn say(&self, news: News) {
        loop {
            let (done, durable) = oneshot::channel();
            if self.inbox.send(Inbound { news: news.clone(), done }).await.is_err() || durable.await.is_ok() {
                return;
            }
            self.clock.pause(SAY_AGAIN).await;
        }
    }

    /// Says something without waiting until it is durable; whoever wants to know awaits what this returns.
    pub(super) fn mention(&self, news: News) -> JoinHandle<()> {
        let here = self.clone();
        self.tasks.spawn("call_news", async move { here.say(news).await })
    }
}

// === impl Teller ===

impl Teller {
    pub(super) fn new(voice: &Voice, handover: &Handover, carried: Arc<Carried>) -> Self {
        let (job, attempt, recipient) = (handover.job, handover.attempt, Arc::clone(&handover.recipient));
        Self { voice: voice.clone(), job, attempt, recipient, carried, under_way: Mutex::default() }
    }

    /// Returns what its call carries.
    pub(super) fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Returns a name for what is recorded of the call.
    pub(super) fn name(&self) -> Box<str> {
        format!("{}.{}", self.job, self.attempt).into()
    }

    /// Tells that the call moved on.
    pub(super) fn moved(&self, state: State) {
        self.voice.mention(self.news(Step::Moved(state)));
    }

    /// Hands in a job that follows at once.
    pub(super) fn submit(&self, follow_up: FollowUp) {
        let accepted = self.voice.mention(self.follows(follow_up));
        self.under_way().push(accepted);
    }

    /// Waits until the jobs that follow at once are accepted and opt-outs bind: whoever hangs up asks for this before, so
    /// that their callee is still on the line then.
    pub(super) async fn followed(&self) {
        let accepted = join_all(std::mem::take(&mut *self.under_way()));
        // One that takes longer is accepted all the same, after the call.
        let _late = self.voice.clock.timeout(FOLLOW_MAX, accepted).await;
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<JoinHandle<()>>> {
        // A push that panicked left the list good.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opts the callee out.
    pub(super) fn opt_out(&self, everything: bool) {
        if let Some(news) = self.opted_out(everything) {
            let bound = self.voice.mention(news);
            self.under_way().push(bound);
        }
    }

    /// Tells how the call ended, its line free again, and what follows it: record brings that with the end.
    pub(super) async fn ended(&self, runner: &Runner, report: CallReport) {
        self.carried.line.ended(Some(report.result));
        let again = self.carried.again(self.voice.clock.now());
        let follows = again.shared.content.plan().follows(report.result, &report.tags);
        let left = Left { again, follows, heard: runner.heard() };
        self.voice.say(self.news(Step::Ended(report, Some(Box::new(left))))).await;
    }

    /// Tells that the call was hung up before anybody answered, since its job was taken back.
    pub(super) async fn withdrawn(&self, outcome: Outcome) {
        self.carried.line.ended(None);
        self.voice.say(self.news(Step::Withdrawn(outcome))).await;
    }

    /// Tells that nobody knows how the call ended.
    pub(super) async fn lost(&self) {
        self.carried.line.ended(None);
        self.voice.say(self.news(Step::Lost)).await;
    }

    fn follows(&self, follow_up: FollowUp) -> News {
        let (shared, recipient) = (Arc::clone(&self.carried.shared), (*self.recipient).clone());
        let at = self.voice.clock.now();
        News::FollowUp(Box::new(Followed { job: self.job, shared, recipient, follow_up, at }))
    }

    fn opted_out(&self, everything: bool) -> Option<News> {
        let number = self.recipient.phone.as_ref()?.as_str().into();
        let (tenant, at) = (self.carried.shared.tenant.clone(), self.voice.clock.now());
        Some(News::OptOut(OptedOut { tenant, number, everything, at }))
    }

    fn news(&self, step: Step) -> News {
        let (provider, at) = (self.voice.provider.clone(), self.voice.clock.now());
        News::Call(CallNews { provider, job: self.job, attempt: self.attempt, at, step })
    }
}
