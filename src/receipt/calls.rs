//! What calls bring: how they go, opt-outs, and jobs that follow at once, while somebody is still on the line.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use hashbrown::HashMap;
use tokio::sync::oneshot;
use tracing::warn;

use super::replies::NotTaken;
use super::{Reception, tell};
use crate::channel::call::{CallNews, Followed, OptedOut, Step};
use crate::domain::call::CallReport;
use crate::domain::event::{CallStep, Called, Fact};
use crate::domain::ids::ProviderId;
use crate::domain::job::Kind;
use crate::domain::money::Money;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::queue::Queue;
use crate::queue::frame::seal_report;
use crate::seal::Sealer;
use crate::telemetry::metrics::{self, CallMetrics, CostMetrics};

/// Tries to hand in a job that follows, and the wait between them: with a caller on the line there is no more time.
const TRIES: u32 = 5;
const RETRY: Duration = Duration::from_millis(200);

/// Takes jobs that follow from calls.
pub trait FollowUps: Send + Sync {
    /// Hands a job in. Handed in again, it is the same job.
    ///
    /// # Errors
    /// [`NotFollowed`]: whether to try again.
    fn submit<'a>(&'a self, followed: &'a Followed) -> BoxFuture<'a, Result<(), NotFollowed>>;
}

/// Why a job that was to follow from a call is not known to be accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NotFollowed {
    /// Not now.
    #[error("{0}")]
    NotNow(Box<str>),
    /// Never.
    #[error("{0}")]
    Never(Box<str>),
}

/// What minutes of calls cost.
#[derive(Default)]
pub struct Prices(HashMap<ProviderId, (Money, CostMetrics)>);

impl Prices {
    /// Returns what a minute costs at each of these.
    pub fn new(prices: impl IntoIterator<Item = (ProviderId, Money)>) -> Self {
        let each = prices.into_iter().map(|(provider, price)| {
            let spent = CostMetrics::new(&provider, price.currency);
            (provider, (price, spent))
        });
        Self(each.collect())
    }

    /// Returns what a call cost, and counts it.
    fn charge(&self, provider: &ProviderId, report: &CallReport) -> Option<Money> {
        let (price, spent) = self.0.get(provider)?;
        let cost = price.times(report.minutes());
        spent.spent(cost);
        Some(cost)
    }
}

/// Returns what record is told of a call.
pub(super) fn fact(news: CallNews, sealer: &Sealer, (meters, prices): (&CallMetrics, &Prices)) -> Called {
    let CallNews { provider, job, attempt, at, step } = news;
    let step = match step {
        Step::Moved(state) => CallStep::Moved(state),
        Step::Ended(report, left) => {
            meters.ended(report.result, report.talk);
            let cost = prices.charge(&provider, &report);
            CallStep::Ended { result: report.result, report: seal_report(&report, sealer), cost, left }
        }
        Step::Withdrawn(outcome) => CallStep::Withdrawn(outcome),
        Step::Lost => CallStep::Lost,
    };
    Called { provider, job, attempt, at, step }
}

/// Opts a callee out; tells the driver once that binds and is durable.
pub(super) fn opt_out<Q: Queue, L: Limits, B: Ledger>(
    reception: &Arc<Reception<Q, L, B>>,
    opted_out: OptedOut,
    done: oneshot::Sender<()>,
) {
    let here = Arc::clone(reception);
    reception.tasks.spawn("call_opt_out", async move {
        match here.bind_opt_out(opted_out).await {
            Ok(()) => tell(done),
            Err(problem) => warn!(%problem, "an opt-out from a call is not durable; its driver says it again"),
        }
    });
}

/// Hands in a job that follows from a call.
pub(super) fn follow_up<Q: Queue, L: Limits, B: Ledger>(
    reception: &Arc<Reception<Q, L, B>>,
    followed: Followed,
    meters: &Arc<CallMetrics>,
    done: oneshot::Sender<()>,
) {
    let (here, meters) = (Arc::clone(reception), Arc::clone(meters));
    reception.tasks.spawn("call_follow_up", async move {
        for _ in 0..TRIES {
            match here.follow_ups.submit(&followed).await {
                Ok(()) => {
                    meters.followed(here.clock.now().since(followed.at));
                    return tell(done);
                }
                Err(NotFollowed::Never(why)) => {
                    warn!(job = %followed.job, %why, "a job that was to follow from a call is refused");
                    return tell(done);
                }
                Err(NotFollowed::NotNow(why)) => {
                    warn!(job = %followed.job, %why, "a job that is to follow from a call is not accepted yet");
                    here.clock.pause(RETRY).await;
                }
            }
        }
        // Its driver, who is not told that it is durable, says it again.
    });
}

impl<Q: Queue, L: Limits, B: Ledger> Reception<Q, L, B> {
    async fn bind_opt_out(&self, opted_out: OptedOut) -> Result<(), NotTaken> {
        let (suppression, plain) = opted_out.suppression(&self.sealer);
        self.insist(|| self.limits.suppress(std::slice::from_ref(&suppression))).await?;
        metrics::opted_out(Kind::Call, suppression.source);
        Ok(self.publish(vec![Fact::Suppressed(suppression, plain)]).await?)
    }
}
