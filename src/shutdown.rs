//! Stopping in order: a token that says "take no more", and a tracker that knows when everything has ended.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

use crate::domain::time::Clock;

/// Starts tasks, tells them to stop, and waits for them. Cheap to clone; all clones are one group.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Tasks {
    /// Returns an empty group.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a task under a span of its own.
    #[expect(clippy::disallowed_methods, reason = "this is the tracker that the rule points to")]
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(future.instrument(tracing::info_span!("task", name))))
    }

    /// Returns the token that is cancelled when the group is told to stop.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    /// Returns whether the group was told to stop.
    pub fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Tells every task to stop and waits for at most `grace`; returns how many are left then.
    pub async fn finish(&self, clock: &Clock, grace: Duration) -> usize {
        self.stop.cancel();
        self.tracker.close();
        let _late = clock.timeout(grace, self.tracker.wait()).await;
        self.tracker.len()
    }
}

/// The signals that ask the process to stop: SIGTERM and SIGINT.
#[derive(Debug)]
pub struct Signals {
    seen: watch::Receiver<u32>,
}

// === impl Signals ===

impl Signals {
    /// Starts to listen.
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process, in no group")]
    pub fn listen() -> Self {
        let (count, seen) = watch::channel(0);
        let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
        for mut signal in kinds.into_iter().filter_map(|kind| signal(kind).ok()) {
            let count = count.clone();
            tokio::spawn(async move {
                while signal.recv().await.is_some() {
                    count.send_modify(|count| *count += 1);
                }
            });
        }
        Self { seen }
    }

    /// Waits for the next signal that has not been waited for.
    pub async fn next(&mut self) {
        // The senders live in tasks that never end.
        let _closed = self.seen.changed().await;
    }
}
