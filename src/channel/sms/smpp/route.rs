//! What the binds of one route share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::exchange::{Batch, Load, Pace, Stats};
use super::settings::{Receipts, Settings};
use crate::channel::Inbound;
use crate::domain::time::{Clock, Stopwatch};
use crate::telemetry::metrics::{LinkEvent, LinkMetrics};

/// What the binds of one route share.
pub(super) struct Route {
    settings: Settings,
    clock: Clock,
    /// Real time since the route started, which is what deadlines of I/O are made of.
    watch: Stopwatch,
    stop: CancellationToken,
    inbox: mpsc::Sender<Inbound>,
    desk: Desk,
    binds: Vec<Bind>,
    /// How many of them may be up, the first ones.
    allowed: watch::Sender<u32>,
    /// Window units taken on all binds.
    load: Arc<AtomicU32>,
    events: [AtomicU64; LinkEvent::ALL.len()],
    metrics: LinkMetrics,
}

/// What others know of one bind.
pub(super) struct Bind {
    up: AtomicBool,
    /// It is up, or may be any moment.
    busy: AtomicBool,
    /// Window units taken on it.
    pub(super) load: Load,
    jobs: mpsc::UnboundedSender<Batch>,
}

/// Why a job finds no place on a route.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NoPlace {
    /// No bind is up.
    NotConnected,
    /// The windows are full.
    Full,
}

// === impl Route ===

impl Route {
    /// Returns a route, and where each of its binds gets its jobs.
    pub(super) fn new(
        settings: Settings,
        clock: Clock,
        stop: CancellationToken,
        inbox: mpsc::Sender<Inbound>,
    ) -> (Self, Vec<mpsc::UnboundedReceiver<Batch>>) {
        let load = Arc::<AtomicU32>::default();
        let (binds, jobs) = (0..settings.binds.get())
            .map(|_| {
                let (sender, receiver) = mpsc::unbounded_channel();
                let load = Load { bind: Arc::default(), route: Arc::clone(&load) };
                (Bind { up: AtomicBool::new(false), busy: AtomicBool::new(false), load, jobs: sender }, receiver)
            })
            .unzip();
        let desk = Desk::new(settings.provider.clone(), settings.style.alphabet, settings.ids.receipt);
        let (watch, metrics) = (clock.stopwatch(), LinkMetrics::new(&settings.provider));
        let (events, allowed) = (Default::default(), watch::Sender::new(0));
        (Self { settings, clock, watch, stop, inbox, desk, binds, allowed, load, events, metrics }, jobs)
    }

    pub(super) const fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) const fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    pub(super) const fn inbox(&self) -> &mpsc::Sender<Inbound> {
        &self.inbox
    }

    pub(super) const fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Counts an event.
    pub(super) fn note(&self, event: LinkEvent) {
        self.note_many(event, 1);
    }

    /// Counts what an exchange came across.
    pub(super) fn note_all(&self, stats: Stats) {
        self.note_many(LinkEvent::StrayAnswer, stats.stray_answers);
        self.note_many(LinkEvent::TornJob, stats.torn_jobs);
        self.note_many(LinkEvent::UnansweredJob, stats.unanswered_jobs);
    }

    /// Returns how often an event was counted.
    pub(super) fn noted(&self, event: LinkEvent) -> u64 {
        self.events[event as usize].load(Ordering::Relaxed)
    }

    fn note_many(&self, event: LinkEvent, times: u64) {
        self.events[event as usize].fetch_add(times, Ordering::Relaxed);
        self.metrics.note(event, times);
    }

    /// Returns the real time since the route started.
    pub(super) fn now(&self) -> Duration {
        self.watch.elapsed()
    }

    pub(super) fn bind(&self, index: usize) -> &Bind {
        &self.binds[index]
    }

    pub(super) fn pace(&self) -> Pace {
        let window = self.settings.window.get() as usize;
        Pace {
            window,
            // More than one bind gets, since a job goes where most room is; never more than the whole route is given.
            jobs_max: window * self.binds.len(),
            response_timeout: self.settings.response_timeout,
            receipt_expected: self.settings.receipts == Receipts::Final,
        }
    }

    /// Returns the window units taken.
    pub(super) fn in_flight(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }

    /// Lets the first so many binds be up; the others end in order.
    pub(super) fn allow(&self, binds: u32) {
        self.allowed.send_if_modified(|allowed| std::mem::replace(allowed, binds) != binds);
    }

    /// Returns how many binds may be up, as that changes.
    pub(super) fn allowed(&self) -> watch::Receiver<u32> {
        self.allowed.subscribe()
    }

    /// Returns how many binds are up, or may be any moment.
    pub(super) fn busy(&self) -> u32 {
        self.binds.iter().filter(|bind| bind.busy.load(Ordering::SeqCst)).count() as u32
    }

    /// Returns how many binds are up.
    pub(super) fn up(&self) -> u32 {
        self.binds.iter().filter(|bind| bind.is_up()).count() as u32
    }

    /// Takes `units` of the window, all on the bind that has most room.
    pub(super) fn place(&self, units: u32) -> Result<usize, NoPlace> {
        let up = self.binds.iter().enumerate().filter(|(_, bind)| bind.is_up());
        let (index, bind) = up.min_by_key(|(_, bind)| bind.units()).ok_or(NoPlace::NotConnected)?;
        let window = self.settings.window.get().saturating_mul(self.up());
        // A text longer than the whole window may go when nothing else does.
        let taken = self.load.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
            (taken == 0 || taken + units <= window).then_some(taken + units)
        });
        taken.map_err(|_| NoPlace::Full)?;
        bind.load.bind.fetch_add(units, Ordering::Relaxed);
        Ok(index)
    }
}

// === impl Bind ===

impl Bind {
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    /// Says whether it is up, or may be any moment: before it is looked whether it may, so that whoever took that back and
    /// then finds it idle is right.
    pub(super) fn set_busy(&self, busy: bool) {
        self.busy.store(busy, Ordering::SeqCst);
    }

    fn units(&self) -> u32 {
        self.load.bind.load(Ordering::Relaxed)
    }

    /// Gives jobs to the bind; one that has ended for good answers them.
    pub(super) fn give(&self, batch: Batch) {
        if let Err(mpsc::error::SendError(batch)) = self.jobs.send(batch) {
            self.load.refuse(batch, "stopping");
        }
    }
}
