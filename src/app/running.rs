//! The running service, and its end in order.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tracing::{info, warn};

use super::front::Front;
use super::{Base, FirstKey, Groups};
use crate::domain::time::Clock;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::queue::Queue;
use crate::telemetry::traces::Traces;

/// Calls in work get one part in so many of the grace time; after that they are cut off, and their callers retry.
const FRONT_PARTS: u32 = 4;

/// A running service.
pub struct Running {
    base: Base,
    traces: Option<Traces>,
    front: Option<Front>,
    addresses: Addresses,
    first_key: Option<FirstKey>,
}

/// Where it listens, apart from gRPC.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub(super) metrics: Option<SocketAddr>,
    pub(super) callbacks: Option<SocketAddr>,
}

impl Running {
    pub(super) fn new(
        (base, traces): (Base, Option<Traces>),
        front: Option<Front>,
        addresses: Addresses,
        first_key: Option<FirstKey>,
    ) -> Self {
        Self { base, traces, front, addresses, first_key }
    }

    /// Returns where gRPC listens.
    pub fn grpc(&self) -> Option<SocketAddr> {
        self.front.as_ref().map(Front::address)
    }

    /// Returns where metrics are scraped.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.addresses.metrics
    }

    /// Returns where providers call back.
    pub fn callbacks(&self) -> Option<SocketAddr> {
        self.addresses.callbacks
    }

    /// Returns the key that the first start made.
    pub fn first_key(&self) -> Option<&FirstKey> {
        self.first_key.as_ref()
    }

    /// Stops in order: says NOT_SERVING, waits for load balancers to notice, drains calls, finishes what is in flight,
    /// flushes, closes. Takes at most about the grace time; what is left then is found again by the next start.
    pub fn finish(self) -> BoxFuture<'static, ()> {
        Box::pin(self.finish_in_order())
    }

    async fn finish_in_order(self) {
        let Self { base, traces, front, .. } = self;
        let watch = base.clock.stopwatch();
        let grace = base.settings.shutdown.grace;
        if let Some(front) = front {
            front.not_serving().await;
            base.clock.pause(base.settings.shutdown.lame_duck).await;
        }
        let left = base.groups.stop(&base.clock, grace.saturating_sub(watch.elapsed())).await;
        if left > 0 {
            warn!(tasks = left, "grace period over, stopping now");
        }
        let close = async {
            base.queue.close().await;
            base.limits.close().await;
            base.ledger.close().await;
        };
        let _late = base.clock.timeout(grace.saturating_sub(watch.elapsed()).max(Duration::from_secs(1)), close).await;
        base.groups.backends.finish(&base.clock, Duration::from_secs(1)).await;
        if let Some(traces) = traces {
            let _lost = tokio::task::spawn_blocking(move || traces.finish()).await;
        }
        info!("drained");
    }
}

impl Groups {
    /// Stops all groups but the backends', each when those that need it have ended; returns how many tasks are left
    /// when the time is up.
    pub(super) async fn stop(&self, clock: &Clock, grace: Duration) -> usize {
        let watch = clock.stopwatch();
        // Peers that hang must not take the time that work in flight needs.
        let mut left = self.front.finish(clock, grace / FRONT_PARTS).await;
        for group in [&self.work, &self.channels, &self.callbacks, &self.receive, &self.record, &self.publish] {
            left += group.finish(clock, grace.saturating_sub(watch.elapsed())).await;
        }
        left
    }
}
