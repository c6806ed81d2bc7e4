//! What the binds of one route share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::exchange::{Batch, Load, Pace, Stats};
use super::settings::{Receipts, Settings};
use crate::channel::Inbound;
use crate::domain::time::{Clock, Stopwatch};

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
    /// Window units taken on all binds.
    load: Arc<AtomicU32>,
    counters: Counters,
}

/// What others know of one bind.
pub(super) struct Bind {
    up: AtomicBool,
    /// Window units taken on it.
    pub(super) load: Load,
    jobs: mpsc::UnboundedSender<Batch>,
}

/// What happened on a route, counted since it started.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) binds: AtomicU64,
    pub(super) ends: AtomicU64,
    pub(super) bind_failures: AtomicU64,
    pub(super) garbage: AtomicU64,
    pub(super) unreadable: AtomicU64,
    pub(super) meaningless: AtomicU64,
    stray_answers: AtomicU64,
    torn_jobs: AtomicU64,
    unanswered_jobs: AtomicU64,
}

/// What happened on a route, counted since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Binds that came about.
    pub binds: u64,
    /// Binds that ended.
    pub ends: u64,
    /// Attempts to bind that failed.
    pub bind_failures: u64,
    /// Connections dropped because what came was not SMPP.
    pub garbage: u64,
    /// Deliveries that did not read, and were refused.
    pub unreadable: u64,
    /// Deliveries of no use: acknowledgements, receipts about nothing.
    pub meaningless: u64,
    /// Answers to nothing: late ones, doubled ones.
    pub stray_answers: u64,
    /// Jobs without an answer of which some segments were taken.
    pub torn_jobs: u64,
    /// Jobs without an answer.
    pub unanswered_jobs: u64,
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
                (Bind { up: AtomicBool::new(false), load, jobs: sender }, receiver)
            })
            .unzip();
        let desk = Desk::new(settings.provider.clone(), settings.style.alphabet, settings.ids.receipt);
        let watch = clock.stopwatch();
        let route = Self { settings, clock, watch, stop, inbox, desk, binds, load, counters: Counters::default() };
        (route, jobs)
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

    pub(super) const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Returns the real time since the route started.
    pub(super) fn now(&self) -> Duration {
        self.watch.elapsed()
    }

    pub(super) fn bind(&self, index: usize) -> &Bind {
        &self.binds[index]
    }

    pub(super) fn pace(&self) -> Pace {
        let window = usize::from(self.settings.window.get());
        Pace {
            window,
            jobs_max: window * self.binds.len(),
            response_timeout: self.settings.response_timeout,
            receipt_expected: self.settings.receipts == Receipts::Final,
        }
    }

    /// Returns the window units taken.
    pub(super) fn in_flight(&self) -> u32 {
        self.load.load(Ordering::Relaxed)
    }

    /// Returns how many binds are up.
    pub(super) fn up(&self) -> u32 {
        self.binds.iter().filter(|bind| bind.is_up()).count() as u32
    }

    /// Takes `units` of the window, all on the bind that has most room.
    pub(super) fn place(&self, units: u32) -> Result<usize, NoPlace> {
        let up = self.binds.iter().enumerate().filter(|(_, bind)| bind.is_up());
        let (index, bind) = up.min_by_key(|(_, bind)| bind.units()).ok_or(NoPlace::NotConnected)?;
        let window = u32::from(self.settings.window.get()) * self.up();
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

// === impl Counters ===

impl Counters {
    pub(super) fn add(&self, stats: Stats) {
        self.stray_answers.fetch_add(stats.stray_answers, Ordering::Relaxed);
        self.torn_jobs.fetch_add(stats.torn_jobs, Ordering::Relaxed);
        self.unanswered_jobs.fetch_add(stats.unanswered_jobs, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            binds: load(&self.binds),
            ends: load(&self.ends),
            bind_failures: load(&self.bind_failures),
            garbage: load(&self.garbage),
            unreadable: load(&self.unreadable),
            meaningless: load(&self.meaningless),
            stray_answers: load(&self.stray_answers),
            torn_jobs: load(&self.torn_jobs),
            unanswered_jobs: load(&self.unanswered_jobs),
        }
    }
}
