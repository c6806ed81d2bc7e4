//! SMPP 3.4: transceiver binds to an SMSC, built for throughput and for knowing what was sent.
//!
//! A job's segments are written at once, all on one bind. What its answers make of it:
//!
//! | the SMSC | the job |
//! |---|---|
//! | takes every segment | taken |
//! | throttles every segment | throttled: nothing went out |
//! | refuses one, takes none | refused: nothing went out |
//! | throttles some, takes others | the throttled segments are written again after a second, on the same bind, until the job's time is up |
//! | refuses some, takes others | no answer: a part is out, so a second hand-over is for the job's crash rule to decide |
//! | does not answer in time, or the connection breaks | no answer, if a byte of it may have been written; else not sent |
//!
//! ```text
//! submit ─► submit (PDUs) ─► route (which bind?) ─► exchange (window, answers) ◄─► session (socket) ◄─► SMSC
//!                                                                desk (receipts, messages) ◄─┘
//! ```

mod bind;
mod coding;
pub mod desk;
mod exchange;
pub mod ids;
mod parts;
mod receipt;
mod ring;
mod route;
mod session;
pub mod settings;
mod status;
pub mod submit;
pub mod wire;

use std::fmt;
use std::sync::Arc;

use tokio::sync::mpsc;

use self::exchange::{Batch, Message, not_sent};
use self::route::{NoPlace, Route};
pub use self::settings::{Account, Settings, style};
use super::super::login::Login;
use super::super::{Answer, Answered, Channel, Handover, Health, Inbound};
use crate::domain::job::Content;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;
use crate::telemetry::metrics::LinkEvent;

/// A route over SMPP: a provider that texts can be handed to.
pub struct Smpp {
    route: Arc<Route>,
}

// === impl Smpp ===

impl Smpp {
    /// Starts the binds of a route, all of them. What the SMSC says by itself goes to `inbox`; they end when `tasks` are told
    /// to stop.
    pub fn start(settings: Settings, inbox: mpsc::Sender<Inbound>, tasks: &Tasks, clock: &Clock) -> Arc<Self> {
        let smpp = Self::start_idle(settings, inbox, tasks, clock);
        smpp.allow(smpp.route.settings().binds.get());
        smpp
    }

    /// Starts a route whose binds wait until they are allowed.
    pub fn start_idle(settings: Settings, inbox: mpsc::Sender<Inbound>, tasks: &Tasks, clock: &Clock) -> Arc<Self> {
        let (route, jobs) = Route::new(settings, clock.clone(), tasks.stop().clone(), inbox);
        let route = Arc::new(route);
        for (bind, jobs) in jobs.into_iter().enumerate() {
            tasks.spawn("smpp_bind", bind::keep(Arc::clone(&route), bind, jobs));
        }
        Arc::new(Self { route })
    }

    /// Binds once with these settings, and unbinds again.
    pub async fn log_in(settings: &Settings, clock: &Clock) -> Login {
        bind::log_in(settings, clock).await
    }

    /// Lets so many binds be up; those beyond end in order.
    pub fn allow(&self, binds: u32) {
        self.route.allow(binds);
    }

    /// Returns how many binds are up, or may be any moment.
    pub fn busy(&self) -> u32 {
        self.route.busy()
    }

    /// Returns how often an event happened so far.
    pub fn noted(&self, event: LinkEvent) -> u64 {
        self.route.noted(event)
    }

    /// Returns the bind that takes `handover`, and its segments; or the answer, if none does.
    fn prepare(&self, handover: &Handover) -> Result<(usize, Vec<bytes::Bytes>), Answer> {
        if self.route.stop().is_cancelled() {
            return Err(not_sent("stopping"));
        }
        let segments = submit::segments(self.route.settings(), handover)
            .map_err(|error| Answer::Refused { code: error.to_string().into() })?;
        let bind = self.route.place(segments.len() as u32).map_err(|reason| match reason {
            NoPlace::NotConnected => not_sent("not_connected"),
            NoPlace::Full => Answer::Throttled { retry_after: None },
        })?;
        Ok((bind, segments))
    }
}

impl Channel for Smpp {
    fn cost(&self, handover: &Handover) -> u32 {
        match &handover.content {
            Content::Text(text) => self.route.settings().style.segments(text),
            Content::Template { .. } | Content::Call { .. } => 1,
        }
    }

    fn submit(&self, handovers: Vec<Handover>, answers: mpsc::UnboundedSender<Answered>) {
        let at = self.route.now();
        let binds = self.route.settings().binds.get() as usize;
        let mut messages: Vec<Vec<Message>> = (0..binds).map(|_| Vec::new()).collect();
        for (index, handover) in handovers.iter().enumerate() {
            match self.prepare(handover) {
                Ok((bind, segments)) => messages[bind].push(Message { index, segments }),
                // The caller may have gone: then nobody waits for the answer.
                Err(answer) => drop(answers.send((index, answer))),
            }
        }
        for (bind, messages) in messages.into_iter().enumerate().filter(|(_, messages)| !messages.is_empty()) {
            self.route.bind(bind).give(Batch { at, answers: answers.clone(), messages });
        }
    }

    fn health(&self) -> Health {
        let settings = self.route.settings();
        let up = self.route.up();
        Health {
            up: up > 0,
            rate_per_s: settings.rate_per_s,
            in_flight: self.route.in_flight(),
            window: settings.window.get().saturating_mul(up),
        }
    }

    fn has_place(&self) -> bool {
        *self.route.allowed().borrow() > 0
    }
}

impl fmt::Debug for Smpp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smpp").field("settings", self.route.settings()).finish_non_exhaustive()
    }
}
