//! What happens to jobs, as a stream that can be resumed.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tonic::Status;

use super::Jobs;
use crate::api::convert::{self, Invalid, Problem};
use crate::api::status::Error;
use crate::api::tail::Place;
use crate::api::{Ports, tokens};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::Kind;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;
use crate::queue::frame::{Heard, open_heard};

/// Most events in one answer.
const EVENTS_MAX: u32 = 500;
/// An answer without events comes at least this often, so that a watcher knows that it still watches.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// What a resume token is for.
const WATCH: &[u8] = b"watch";

/// A watcher: what it wants, and how far it has come.
struct Watcher<Q, L, B> {
    ports: Arc<Ports<Q, L, B>>,
    place: Place,
    tenant: TenantId,
    wanted: Wanted,
    after: i64,
}

struct Wanted {
    jobs: Option<BTreeSet<JobId>>,
    kind: Option<Kind>,
    signals: bool,
}

impl<Q: Queue, L: Limits, B: Ledger> Jobs<Q, L, B> {
    /// Streams the events of `tenant`'s jobs.
    pub(super) async fn watch(
        &self,
        tenant: TenantId,
        raw: &pb::WatchEventsRequest,
    ) -> Result<impl Stream<Item = Result<pb::WatchEventsResponse, Status>> + Send + use<Q, L, B>, Error> {
        let wanted = wanted(raw)?;
        let ports = Arc::clone(&self.ports);
        let after = match (raw.resume_token.as_str(), raw.from_start) {
            ("", true) => 0,
            ("", false) => ports.ledger.last_seq().await?.0,
            (_, true) => return Err(Invalid::new("from_start", Problem::Excludes("resume_token")).into()),
            (token, false) => i64::from_be_bytes(tokens::take(&ports.sealer, &tenant, WATCH, ("resume_token", token))?),
        };
        let watcher = Watcher { place: self.tail.place()?, ports, tenant, wanted, after };
        Ok(stream::try_unfold(watcher, |mut watcher| async move {
            let answer = watcher.next().await?;
            Ok(answer.map(|answer| (answer, watcher)))
        }))
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Watcher<Q, L, B> {
    /// Returns the next answer; `None` once the process stops: the watcher resumes elsewhere.
    async fn next(&mut self) -> Result<Option<pb::WatchEventsResponse>, Error> {
        let watch = self.ports.clock.stopwatch();
        let stop = self.ports.tasks.stop().clone();
        loop {
            if stop.is_cancelled() {
                return Ok(None);
            }
            let before = self.after;
            let events = self.read().await?;
            let quiet = watch.elapsed();
            if !events.is_empty() || quiet >= SIGN_OF_LIFE {
                let token = tokens::give(&self.ports.sealer, &self.tenant, WATCH, &self.after.to_be_bytes());
                return Ok(Some(pb::WatchEventsResponse { events, resume_token: token }));
            }
            if self.after == before {
                let grown = self.place.grown(self.after, &self.ports.clock, SIGN_OF_LIFE.saturating_sub(quiet));
                stop.run_until_cancelled(grown).await;
            }
        }
    }

    /// Reads on, and returns what of it is wanted.
    async fn read(&mut self) -> Result<Vec<pb::Event>, Error> {
        let ledger = &self.ports.ledger;
        let (events, complete) = ledger.events(Some(&self.tenant), self.after, EVENTS_MAX).await?;
        // Replies are read second, so every one up to `complete` is there, unless there are more than a page.
        let replies =
            if self.wanted.signals { ledger.replies(&self.tenant, self.after, EVENTS_MAX).await? } else { vec![] };
        let page_full = usize::try_from(EVENTS_MAX).is_ok_and(|most| replies.len() >= most);
        let to = match replies.last() {
            Some(last) if page_full => complete.min(last.seq),
            _ => complete,
        };
        let mut found = Vec::with_capacity(events.len() + replies.len());
        for numbered in events.iter().filter(|numbered| numbered.seq <= to) {
            if self.wanted.takes(numbered.event.job, Some(numbered.event.kind)) {
                found.push((numbered.seq, convert::event_to_pb(&numbered.event)));
            }
        }
        for reply in replies.iter().filter(|reply| reply.seq <= to) {
            let answers = self.wanted.jobs.is_none() && self.wanted.kind.is_none();
            if answers || reply.in_reply_to.is_some_and(|job| self.wanted.takes(job, None)) {
                match open_heard(&reply.sealed, &self.ports.sealer) {
                    Ok(Heard::Reply(mut plain)) => {
                        plain.in_reply_to = reply.in_reply_to;
                        found.push((reply.seq, convert::reply_to_pb(&plain)));
                    }
                    Ok(Heard::Signal(signal)) => found.push((reply.seq, convert::signal_to_pb(*signal))),
                    Err(error) => tracing::error!(%error, "cannot open a stored reply or signal"),
                }
            }
        }
        found.sort_by_key(|(seq, _)| *seq);
        self.after = self.after.max(to);
        Ok(found.into_iter().map(|(_, event)| event).collect())
    }
}

impl Wanted {
    fn takes(&self, job: JobId, kind: Option<Kind>) -> bool {
        self.jobs.as_ref().is_none_or(|jobs| jobs.contains(&job)) && (self.kind.is_none() || self.kind == kind)
    }
}

fn wanted(raw: &pb::WatchEventsRequest) -> Result<Wanted, Invalid> {
    let jobs = if raw.job_ids.is_empty() {
        None
    } else {
        Some(convert::job_ids("job_ids", &raw.job_ids)?.into_iter().collect())
    };
    Ok(Wanted { jobs, kind: convert::kind_filter("kind", raw.kind)?, signals: !raw.without_signals })
}
