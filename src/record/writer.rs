//! Writes batch after batch: reads what is missing, merges, publishes what goes out again, commits, then acknowledges.
//!
//! # Crashes
//! Nothing is acknowledged before its recording is committed, so a crash at any point brings the batch again; frames that
//! were committed are then dropped by their id. An unanswered hand-over that goes out again is published before its
//! decision is committed: a crash between the two publishes it twice, and the second copy meets the claim of the first.
//! What follows a call is brought before the recording that says how the call ended: a crash between brings it again, which
//! changes nothing. A step of a fallback chain is a part of the recording, row and agenda entry: it starts with what it follows from, or not.
//!
//! # Two writers
//! When the broker takes the queue from a recorder that still writes, the fence of [`crate::ledger::Recording::after`] lets one of the
//! two through. The other forgets what it knew and begins again with what the ledger says.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hashbrown::HashSet;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};
use uuid::Uuid;

use super::ahead::Reading;
use super::batches::Batches;
use super::intake::{Body, Work, is_full, open};
use super::merge::{Merged, Merger};
use super::meters::Meters;
use super::owed::Means;
use super::resend::Resender;
use super::{Settings, calls, chains, owed, reads};
use crate::crash::{self, Point};
use crate::domain::job::Kind;
use crate::domain::suppression::Source;
use crate::domain::time::{Clock, UnixMicros};
use crate::domain::trace::Trace;
use crate::ledger::{Ledger, LedgerError, SealedReply, SealedSuppression};
use crate::limits::Limits;
use crate::queue::dead::{self, Why};
use crate::queue::frame::{seal_plain, seal_reply, seal_signal};
use crate::queue::{Queue, QueueName};
use crate::receipt::FollowUps;
use crate::seal::Sealer;
use crate::telemetry::metrics;
use crate::telemetry::traces::{self, Piece, With};

/// The first wait after a failure, and the longest.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Refusals after which a batch is written frame by frame, to find the one that cannot be.
const REFUSED_TOGETHER: u32 = 2;
/// Refusals after which a frame alone is given up, while others are written.
const REFUSED_ALONE: u32 = 3;
/// Events that the deadline sweep judges in one transaction.
const SWEEP_PAGE: u32 = 5_000;
/// Items merged in one turn; that takes a few tenths of a millisecond.
const ITEMS_A_TURN: usize = 128;
/// How long the ledger is left alone after a batch that was not full: a commit of a few rows costs its disk about as much
/// as one of many, and on the same disk others write what somebody waits for.
const REST: Duration = Duration::from_millis(20);
/// How often the deadline sweep looks, at most and at least.
const SWEEP_EVERY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// The one that holds the pen.
pub(super) struct Writer<Q, L, M> {
    pub(super) queue: Q,
    pub(super) limits: M,
    pub(super) follow_ups: Arc<dyn FollowUps>,
    pub(super) ledger: L,
    pub(super) sealer: Sealer,
    pub(super) clock: Clock,
    pub(super) stop: CancellationToken,
    pub(super) settings: Settings,
    pub(super) committed: watch::Sender<i64>,
    pub(super) meters: Meters,
    pub(super) merger: Merger,
    /// Whether what the merger knows is what the ledger says.
    pub(super) current: Arc<AtomicBool>,
    /// Told when somebody else has written.
    pub(super) reading: Reading,
}

/// Returns the traces whose jobs are in a batch, one for each run of jobs.
fn traces_of(batch: &[Work]) -> Vec<Trace> {
    let jobs = batch.iter().filter_map(|work| if let Some(Body::Jobs(jobs)) = &work.body { Some(jobs) } else { None });
    let mut traces: Vec<_> = jobs.flatten().filter_map(|job| job.trace).collect();
    traces.dedup();
    traces
}

fn of_signals(batch: &[Work]) -> bool {
    batch.first().is_some_and(|work| work.from == QueueName::Signals)
}

/// Takes one item after the other, and lets others on this thread work in between.
async fn in_turns<T>(items: Vec<T>, mut take: impl FnMut(T)) {
    let mut items = items.into_iter();
    while items.len() > 0 {
        items.by_ref().take(ITEMS_A_TURN).for_each(&mut take);
        tokio::task::yield_now().await;
    }
}

/// How an attempt to write ended.
pub(super) enum Written {
    /// All is in the ledger, or back in its queue.
    Whole,
    /// The service stops; what is left goes back to the queue.
    Stopped,
}

impl<Q: Queue, L: Ledger, M: Limits> Writer<Q, L, M> {
    /// Writes until there are no more batches.
    pub(super) async fn run(mut self, mut batches: Batches) {
        let every = (self.settings.receipt_deadline / 20).clamp(SWEEP_EVERY.0, SWEEP_EVERY.1);
        // The first look says at once, even if nothing comes, whether this one holds the pen: what follows outcomes waits for it.
        let mut sweep_at = self.clock.now().plus(SWEEP_EVERY.0);
        loop {
            let batch = tokio::select! {
                batch = batches.recv() => batch,
                () = self.clock.sleep_until(sweep_at) => {
                    let more = self.sweep(&mut batches).await;
                    sweep_at = if more { self.clock.now() } else { self.clock.now().plus(every) };
                    continue;
                }
            };
            let Some(batch) = batch else { return };
            let rest =
                if is_full(&batch) || of_signals(&batch) && batches.others_wait() { Duration::ZERO } else { REST };
            if let Written::Stopped = self.write(batch, &mut batches).await {
                return;
            }
            let _stopped = self.stop.run_until_cancelled(self.clock.pause(rest)).await;
        }
    }

    /// Writes a batch, however long the ledger is away.
    pub(super) async fn write(&mut self, mut batch: Vec<Work>, batches: &mut Batches) -> Written {
        let mut failures = Failures::default();
        let began = self.clock.now();
        loop {
            let problem = match self.try_write(&mut batch).await {
                Ok(()) => return Written::Whole,
                Err(problem) => problem,
            };
            if problem == LedgerError::Overtaken {
                self.overtaken(batches);
                if of_signals(&batch) {
                    return Written::Whole;
                }
            }
            self.meters.behind(began, self.clock.now());
            if failures.count(&problem) >= REFUSED_TOGETHER {
                match self.write_apart(&mut batch).await {
                    Ok(()) if batch.is_empty() => return Written::Whole,
                    // One frame may be at fault, or the store: others show which.
                    Ok(()) => batch.extend(batches.try_recv().unwrap_or_default()),
                    Err(problem) => warn!(%problem, "cannot write to the ledger"),
                }
            }
            if failures.wait(&problem, &self.clock, &self.stop).await.is_none() {
                return Written::Stopped;
            }
        }
    }

    /// Leaves signals to whoever has written since, who reads them now: somebody waits for each. Everything else waits here
    /// until this one has caught up.
    fn overtaken(&self, batches: &mut Batches) {
        self.reading.ends();
        batches.give_signals_back();
    }

    /// Writes what of a batch is not in the ledger yet, and acknowledges it.
    pub(super) async fn try_write(&mut self, batch: &mut Vec<Work>) -> Result<(), LedgerError> {
        self.drop_recorded(batch).await?;
        self.bury_unreadable(batch).await;
        if batch.is_empty() {
            return Ok(());
        }
        for work in batch.iter_mut().filter(|work| work.body.is_none()) {
            work.body = Some(open(&work.delivery.frame, &self.sealer));
        }
        let now = self.clock.now();
        reads::load(&self.ledger, &mut self.merger, batch, now).await?;
        reads::attribute(&self.ledger, &self.sealer, batch).await?;
        let traces = traces_of(batch);
        self.merge(batch, now).await;
        calls::follow(&self.ledger, &mut self.merger, &self.sealer).await?;
        chains::follow(&self.ledger, &mut self.merger, &self.sealer, now).await?;
        let merged = self.merger.finish();
        // Of a full batch both take a while.
        tokio::task::yield_now().await;
        self.commit(merged).await?;
        let to = self.clock.now();
        for trace in traces {
            traces::note(trace, Piece { name: "record", with: With::Queue, from: now, to, says: &[] });
        }
        batch.drain(..).for_each(|work| work.delivery.ack());
        Ok(())
    }

    /// Makes memory and ledger agree, and drops frames that were recorded before.
    async fn drop_recorded(&mut self, batch: &mut Vec<Work>) -> Result<(), LedgerError> {
        let current = self.current.load(Ordering::Relaxed);
        if !current {
            self.catch_up().await?;
        } else if batch.iter().all(|work| work.delivery.count <= 1) {
            return Ok(());
        }
        let frames: Vec<Uuid> = batch.iter().map(|work| work.delivery.id).collect();
        let recorded: HashSet<Uuid> = self.ledger.recorded(&frames).await?.into_iter().collect();
        if !recorded.is_empty() {
            batch.extract_if(.., |work| recorded.contains(&work.delivery.id)).for_each(|work| work.delivery.ack());
        }
        Ok(())
    }

    /// Begins again with what the ledger says.
    async fn catch_up(&mut self) -> Result<i64, LedgerError> {
        let (last, swept_to) = self.ledger.last_seq().await?;
        self.merger.reset(last);
        self.committed.send_replace(last);
        self.current.store(true, Ordering::Relaxed);
        Ok(swept_to)
    }

    /// Moves frames that nobody can read out of the way.
    async fn bury_unreadable(&self, batch: &mut Vec<Work>) {
        let unreadable = batch.extract_if(.., |work| matches!(work.body, Some(Body::Unreadable(_))));
        for work in unreadable.collect::<Vec<_>>() {
            let Some(Body::Unreadable(problem)) = &work.body else { continue };
            let problem = problem.to_string();
            error!(problem, frame = %work.delivery.id, queue = %work.from, "a frame for the ledger cannot be read");
            self.bury(work, &problem).await;
        }
    }

    /// Moves a frame to the dead-letter queue. If that fails it goes back to where it came from.
    async fn bury(&self, work: Work, reason: &str) {
        let why = Why { from: work.from, reason, at: self.clock.now() };
        if let Err(problem) = dead::bury(&self.queue, work.delivery, why).await {
            error!(%problem, "cannot move a frame to the dead-letter queue");
        }
    }

    /// Merges a batch into what is known, some items in a turn: others wait for this thread.
    async fn merge(&mut self, batch: &mut [Work], now: UnixMicros) {
        let mut frames = HashSet::with_capacity(batch.len());
        for work in batch {
            let body = work.body.take();
            if !frames.insert(work.delivery.id) {
                // The same frame twice in one batch: the connection was lost in between.
                continue;
            }
            self.merger.frame(work.delivery.id);
            match body {
                Some(Body::Jobs(jobs)) => in_turns(jobs, |job| self.merger.accept(job)).await,
                Some(Body::Facts(facts)) => in_turns(facts, |fact| self.merger.fact(fact)).await,
                Some(Body::Checks(checks)) => in_turns(checks, |check| self.merger.check(&check, now)).await,
                Some(Body::Unreadable(_)) | None => {}
            }
        }
    }

    async fn commit(&mut self, merged: Merged) -> Result<(), LedgerError> {
        let Merged { mut recording, replies, signals, mut suppressed, resends, starts, mut timers, withdrawn, .. } =
            merged;
        let means =
            Means { limits: &self.limits, follow_ups: &*self.follow_ups, sealer: &self.sealer, clock: &self.clock };
        let mut paid = means.bring(merged.owed).await;
        let opted_out = paid.suppressed.len();
        suppressed.append(&mut paid.suppressed);
        recording.replies.extend(replies.into_iter().map(|(seq, reply)| SealedReply {
            seq,
            tenant: reply.tenant.clone(),
            in_reply_to: reply.in_reply_to,
            at: reply.at,
            sealed: seal_reply(&reply, &self.sealer),
            signal: None,
        }));
        recording.replies.extend(signals.into_iter().map(|(seq, signal)| SealedReply {
            seq,
            tenant: Some(signal.tenant.clone()),
            in_reply_to: None,
            at: signal.at,
            sealed: seal_signal(&signal, &self.sealer),
            signal: Some(signal.id),
        }));
        recording.suppressed.extend(
            suppressed.into_iter().map(|(suppression, plain)| SealedSuppression {
                suppression,
                sealed: seal_plain(&plain, &self.sealer),
            }),
        );
        // Until the commit is known, memory is ahead of the ledger.
        self.current.store(false, Ordering::Relaxed);
        timers.extend(chains::withdraw(&self.limits, withdrawn, self.clock.now()).await);
        recording.entries = chains::entries(starts, timers, &self.sealer)?;
        recording.entries.extend(owed::entries(paid.still, merged.checks, &self.sealer, self.clock.now())?);
        let resender = Resender { queue: &self.queue, ledger: &self.ledger, sealer: &self.sealer };
        resender.resend(resends, self.clock.now()).await?;
        crash::point(Point::BeforeRecord);
        self.ledger.record(&recording).await?;
        crash::point(Point::AfterRecord);
        self.current.store(true, Ordering::Relaxed);
        self.committed.send_replace(self.merger.last());
        self.meters.count(&recording, &merged.tally, self.clock.now());
        // Those that a recipient sent were counted when they came.
        (0..opted_out).for_each(|_| metrics::opted_out(Kind::Call, Source::Keyword));
        Ok(())
    }

    /// Writes a refused batch frame by frame; what is refused alone stays in it. Frames that are refused again and again
    /// while others are written are moved to the dead-letter queue.
    async fn write_apart(&mut self, batch: &mut Vec<Work>) -> Result<(), LedgerError> {
        let mut refused = std::mem::take(batch);
        for round in 1..=REFUSED_ALONE {
            let before = refused.len();
            for work in std::mem::take(&mut refused) {
                let mut alone = vec![work];
                match self.try_write(&mut alone).await {
                    Ok(()) => {}
                    Err(LedgerError::Refused(_) | LedgerError::Corrupt(_)) => refused.append(&mut alone),
                    Err(problem) => {
                        batch.append(&mut alone);
                        batch.append(&mut refused);
                        return Err(problem);
                    }
                }
            }
            if refused.len() == before && round == 1 {
                // Nothing can be written: the store is at fault, not a frame.
                break;
            }
            if round == REFUSED_ALONE {
                for work in std::mem::take(&mut refused) {
                    error!(frame = %work.delivery.id, queue = %work.from, "the ledger refuses a frame");
                    self.bury(work, "the ledger refuses it").await;
                }
            }
        }
        *batch = refused;
        Ok(())
    }

    /// Settles as unknown what has waited too long; returns whether there may be more.
    async fn sweep(&mut self, batches: &mut Batches) -> bool {
        match self.try_sweep(batches).await {
            Ok(more) => more,
            Err(LedgerError::Overtaken) => {
                self.overtaken(batches);
                false
            }
            Err(problem) => {
                warn!(%problem, "cannot look for jobs whose receipt never came");
                false
            }
        }
    }

    async fn try_sweep(&mut self, batches: &mut Batches) -> Result<bool, LedgerError> {
        let (last, swept_to) = self.ledger.last_seq().await?;
        let current = self.current.load(Ordering::Relaxed);
        if !current || last != self.merger.last() {
            // Somebody else holds the pen, or did. If nobody does, the next look finds this number again.
            if current {
                self.overtaken(batches);
            }
            self.catch_up().await?;
            return Ok(false);
        }
        let now = self.clock.now();
        let until = now.minus(self.settings.receipt_deadline);
        let (events, complete_to) = self.ledger.events(None, swept_to, SWEEP_PAGE).await?;
        let wanted = self.merger.sweep_wants(&events, until);
        reads::trails(&self.ledger, &mut self.merger, wanted).await?;
        let judged = self.merger.sweep(&events, until, now);
        let to_the_end = judged == events.last().map(|last| last.seq);
        // Numbers at the end of the page that are no events need no judgement.
        let to = if to_the_end { complete_to } else { judged.unwrap_or(swept_to) };
        if to > swept_to {
            self.merger.swept(to);
            chains::follow(&self.ledger, &mut self.merger, &self.sealer, now).await?;
            let merged = self.merger.finish();
            self.commit(merged).await?;
        }
        Ok(to_the_end && complete_to < last)
    }
}

/// Failures in a row.
#[derive(Default)]
struct Failures {
    all: u32,
    refused: u32,
}

impl Failures {
    /// Counts a failure, and returns how many refusals there were.
    fn count(&mut self, problem: &LedgerError) -> u32 {
        match problem {
            LedgerError::Refused(_) | LedgerError::Corrupt(_) => self.refused += 1,
            LedgerError::Unreachable(_) | LedgerError::Overtaken => {}
        }
        self.refused
    }

    /// Waits before the next attempt; `None` when the service stops.
    async fn wait(&mut self, problem: &LedgerError, clock: &Clock, stop: &CancellationToken) -> Option<()> {
        self.all += 1;
        if *problem != LedgerError::Overtaken {
            warn!(%problem, failures = self.all, "cannot write to the ledger; recording waits");
        }
        let (shortest, longest) = RETRY;
        let wait = (shortest * 2_u32.pow(self.all.min(10))).min(longest);
        stop.run_until_cancelled(clock.pause(wait.mul_f64(0.5 + fastrand::f64() / 2.0))).await
    }
}
