//! A trunk inside the process that calls nobody: its callees are busy, ring, answer, listen, press keys and hang up as chance
//! has it. Flows run on it as on any other, in the service's time, which may be virtual.
//!
//! What a callee does comes from the job's id, the attempt and the seed alone, so that a run can be repeated whatever the
//! timing.

mod callee;
mod talk;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;

use self::callee::Callee;
use super::flow::Flow;
use super::runner::Runner;
use super::teller::{Teller, Voice};
use super::{Carried, flow_of};
use crate::channel::{Answer, Answered, Channel, Handover, Health, Inbound};
use crate::config;
use crate::domain::call::{CallReport, CallResult};
use crate::domain::event::State;
use crate::domain::ids::ProviderId;
use crate::domain::time::Clock;
use crate::shutdown::Tasks;

/// What a simulated trunk is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The provider.
    pub provider: ProviderId,
    /// What it carries, and how its callees behave.
    pub link: config::SimulatedTrunk,
}

/// A simulated trunk. When the service stops, everybody is hung up on.
pub struct Trunk {
    shared: Arc<Shared>,
}

struct Shared {
    link: config::SimulatedTrunk,
    voice: Voice,
    calls: AtomicU32,
}

/// How a call ended before anybody answered.
enum Unanswered {
    With(CallResult),
    Withdrawn,
}

impl Trunk {
    /// Returns a trunk of which nothing is in use.
    pub fn new(settings: Settings, inbox: mpsc::Sender<Inbound>, tasks: &Tasks, clock: &Clock) -> Self {
        let Settings { provider, link } = settings;
        let voice = Voice { provider, inbox, clock: clock.clone(), tasks: tasks.clone() };
        Self { shared: Arc::new(Shared { link, voice, calls: AtomicU32::new(0) }) }
    }
}

impl Channel for Trunk {
    fn cost(&self, _handover: &Handover) -> u32 {
        1
    }

    fn submit(&self, handovers: Vec<Handover>, answers: mpsc::UnboundedSender<Answered>) {
        for (place, handover) in handovers.into_iter().enumerate() {
            let (shared, answers) = (Arc::clone(&self.shared), answers.clone());
            self.shared.voice.tasks.spawn("simulated call", async move {
                let answer = |answer| {
                    // Whoever asked may be gone: then nobody waits for this.
                    let _gone = answers.send((place, answer));
                };
                shared.calls.fetch_add(1, Ordering::Relaxed);
                shared.call(&handover, answer).await;
                shared.calls.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    fn health(&self) -> Health {
        let carries = &self.shared.link.carries;
        Health {
            up: true,
            rate_per_s: f64::from(carries.calls_per_s.get()),
            in_flight: self.shared.calls.load(Ordering::Relaxed),
            window: carries.lines.get(),
        }
    }
}

impl fmt::Debug for Trunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trunk").field("provider", &self.shared.voice.provider).finish_non_exhaustive()
    }
}

impl Shared {
    async fn call(&self, handover: &Handover, answer: impl FnOnce(Answer)) {
        let (flow, carried) = match self.check(handover) {
            Ok(checked) => checked,
            Err(refusal) => return answer(refusal),
        };
        let callee = Callee::draw(&self.link, handover.job, handover.attempt);
        if !self.pass(callee.latency).await {
            carried.line.ended(None);
            return answer(Answer::NotSent { code: "stopping".into(), retry_after: None });
        }
        answer(Answer::Taken { message_ids: vec![], segments: 1, receipt_expected: true });
        let teller = Teller::new(&self.voice, handover, carried);
        let mut runner = Runner::new(Arc::clone(&flow), handover.params.clone());
        teller.moved(State::Dialing);
        match self.ring(&teller, &callee, handover).await {
            Ok(()) => {
                teller.carried().line.answered();
                teller.moved(State::Answered);
                let said = self.talk(&teller, &mut runner, callee, flow.talk_max()).await;
                teller.ended(&runner, said).await;
            }
            Err(Unanswered::With(result)) => teller.ended(&runner, CallReport::unanswered(result)).await,
            Err(Unanswered::Withdrawn) => match teller.carried().withdrawal.outcome() {
                Some(outcome) => teller.withdrawn(outcome.clone()).await,
                None => teller.lost().await,
            },
        }
    }

    fn check(&self, handover: &Handover) -> Result<(Arc<Flow>, Arc<Carried>), Answer> {
        let refused = |code: &str| Answer::Refused { code: code.into() };
        if self.voice.tasks.stopping() {
            return Err(Answer::NotSent { code: "stopping".into(), retry_after: None });
        }
        if handover.recipient.phone.is_none() {
            return Err(refused("no_phone"));
        }
        let Some(carried) = &handover.call else { return Err(refused("not_a_call")) };
        Ok((flow_of(handover).map_err(refused)?, Arc::clone(carried)))
    }

    /// Lets so much time pass; returns whether the service goes on.
    async fn pass(&self, time: Duration) -> bool {
        self.voice.tasks.stop().run_until_cancelled(self.voice.clock.sleep(time)).await.is_some()
    }

    /// Lets the phone ring until somebody answers.
    async fn ring(&self, teller: &Teller, callee: &Callee, handover: &Handover) -> Result<(), Unanswered> {
        let ring_max = handover.content.plan().ring_max;
        let (rings, then) = match callee.result {
            // Nothing rings: the network says so at once.
            CallResult::Busy | CallResult::InvalidNumber | CallResult::Unreachable | CallResult::Network => {
                let _stopped = self.pass(callee.latency).await;
                return Err(Unanswered::With(callee.result));
            }
            CallResult::NoAnswer => (ring_max, Err(Unanswered::With(CallResult::NoAnswer))),
            _ if callee.ring >= ring_max => (ring_max, Err(Unanswered::With(CallResult::NoAnswer))),
            CallResult::Declined => (callee.ring, Err(Unanswered::With(CallResult::Declined))),
            CallResult::Completed | CallResult::Machine => (callee.ring, Ok(())),
        };
        teller.moved(State::Ringing);
        tokio::select! {
            () = self.voice.clock.sleep(rings) => then,
            () = teller.carried().withdrawal.told() => Err(Unanswered::Withdrawn),
            () = self.voice.tasks.stop().cancelled() => Err(Unanswered::With(CallResult::NoAnswer)),
        }
    }
}
