//! Smart calls: what they say and do, and what drivers are given and say.

pub mod aliyun;
pub mod asterisk;
pub mod flow;
pub mod runner;
pub mod simulated;
mod teller;
pub mod twilio;

use std::fmt;
use std::sync::Arc;

use tokio::sync::SetOnce;

use self::flow::{Flow, Form};
use self::runner::FollowUp;
use crate::channel::Handover;
use crate::domain::call::{CallReport, CallResult, Skill};
use crate::domain::event::{Left, Outcome, State};
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::job::{Content, Envelope, Job, Kind, Shared};
use crate::domain::recipient::Recipient;
use crate::domain::suppression::{Plain, Scope, Source, Suppression};
use crate::domain::template::Template;
use crate::domain::time::UnixMicros;
use crate::seal::Sealer;

/// What a call is given besides what every hand-over is.
pub struct Carried {
    /// What its job shares with others.
    pub shared: Arc<Shared>,
    /// Its job.
    pub job: Job,
    /// What it holds for as long as it lasts.
    pub line: Arc<dyn Line>,
    /// By which its driver is told to hang up, as long as nobody has answered.
    pub withdrawal: Withdrawal,
}

/// Tells the driver of a call that it is not to reach anybody any more.
#[derive(Default)]
pub struct Withdrawal(SetOnce<Outcome>);

/// A line of a trunk, held by one call. Dropped, it is free again.
pub trait Line: Send + Sync {
    /// Notes that somebody answered.
    fn answered(&self);

    /// Returns whether it is held, and nobody has answered.
    fn rings(&self) -> bool;

    /// Frees it; `None`: nobody knows how the call ended.
    fn ended(&self, result: Option<CallResult>);
}

/// What a driver says of one attempt to call somebody.
#[derive(Clone, PartialEq, Eq)]
pub struct CallNews {
    /// Who says it.
    pub provider: ProviderId,
    /// The job.
    pub job: JobId,
    /// The attempt.
    pub attempt: u16,
    /// When it happened.
    pub at: UnixMicros,
    /// What happened.
    pub step: Step,
}

/// What happened in a call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// It moved on.
    Moved(State),
    /// It ended: how, and what is left of it for what follows, unless nobody has its job any more.
    Ended(CallReport, Option<Box<Left>>),
    /// It was hung up before anybody answered, because its job was taken back: this is the job's outcome.
    Withdrawn(Outcome),
    /// It is gone, and nobody knows how it ended.
    Lost,
}

/// A callee opted out.
#[derive(Clone, PartialEq, Eq)]
pub struct OptedOut {
    /// Of whose messages.
    pub tenant: TenantId,
    /// The number.
    pub number: Box<str>,
    /// Of everything, not only of what the brand sends.
    pub everything: bool,
    /// When.
    pub at: UnixMicros,
}

/// A job that follows from a call.
#[derive(Clone, PartialEq, Eq)]
pub struct Followed {
    /// The call.
    pub job: JobId,
    /// What the call shares with others.
    pub shared: Arc<Shared>,
    /// Whom it reached.
    pub recipient: Recipient,
    /// What follows.
    pub follow_up: FollowUp,
    /// When it was asked for.
    pub at: UnixMicros,
}

// === impl Withdrawal ===

impl Withdrawal {
    /// Withdraws the call; the job's outcome is the first that is told.
    pub fn tell(&self, outcome: Outcome) {
        // Told before is as well.
        let _told = self.0.set(outcome);
    }

    /// Waits until the call is withdrawn.
    pub async fn told(&self) {
        self.0.wait().await;
    }

    /// Returns the outcome, once the call is withdrawn.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.0.get()
    }
}

// === impl OptedOut ===

impl OptedOut {
    /// Returns the opt-out that binds, and what its keys stand for.
    pub fn suppression(self, sealer: &Sealer) -> (Suppression, Plain) {
        let Self { tenant, number, everything, at } = self;
        let (address, scope) = (sealer.address_key(&number), if everything { Scope::Everything } else { Scope::Brand });
        let suppression = Suppression { tenant, address, scope, kind: None, source: Source::Keyword, at };
        (suppression, Plain { address: number, word: "".into() })
    }
}

// === impl Carried ===

impl Carried {
    /// Returns the job as it would be called again.
    pub fn again(&self, due_at: UnixMicros) -> Envelope {
        Envelope { shared: Arc::clone(&self.shared), due_at, jobs: vec![self.job.clone()] }
    }
}

/// Returns the flow that a call runs: its own, its template's, or one that says the template's text once.
///
/// # Errors
/// A code that says why there is none.
fn flow_of(handover: &Handover) -> Result<Arc<Flow>, &'static str> {
    let document = match (&handover.content, &handover.template) {
        (Content::Call { plan, .. }, _) if !plan.document.is_empty() => plan.document.clone(),
        (Content::Template { .. }, Some(filled)) => match filled.template.body(&filled.locale, Kind::Call) {
            Some(body) if !body.call_flow.is_empty() => body.call_flow.clone(),
            Some(_) if !filled.text.is_empty() => said_once(&filled.text, &filled.locale),
            Some(_) | None => return Err("unknown_flow"),
        },
        (Content::Call { .. } | Content::Text(_) | Content::Template { .. }, _) => return Err("unknown_flow"),
    };
    flow::parse(&document, Form::Json).map(Arc::new).map_err(|_| "bad_flow")
}

/// Returns what jobs ask of whoever makes their calls; `template` is the one that they name, if there is one.
pub fn asks(kind: Kind, content: &Content, template: Option<&Template>) -> Vec<Skill> {
    match (content, template) {
        (_, _) if kind != Kind::Call => vec![],
        (Content::Call { plan, .. }, _) if !plan.document.is_empty() => asked_by(&plan.document),
        // Where a vendor has it, the vendor knows what it does.
        (Content::Template { .. }, Some(template)) if template.providers.is_empty() => {
            let flows = template.bodies.iter().map(|body| &body.call_flow).filter(|flow| !flow.is_empty());
            flows.flat_map(|flow| asked_by(flow)).collect()
        }
        (Content::Call { .. }, _) => vec![Skill::NamedFlow],
        (Content::Template { .. } | Content::Text(_), _) => vec![],
    }
}

fn asked_by(document: &str) -> Vec<Skill> {
    let Ok(flow) = flow::parse(document, Form::Json) else { return vec![] };
    let does = |wanted: fn(&flow::Act) -> bool| flow.nodes().any(|(_, node)| wanted(&node.act));
    let transfers = does(|act| matches!(act, flow::Act::Transfer(_))).then_some(Skill::Transfer);
    let plays = does(|act| matches!(act, flow::Act::Play { .. })).then_some(Skill::Play);
    [Some(Skill::Flow), transfers, plays].into_iter().flatten().collect()
}

/// Returns the flow of a call that says a text once.
fn said_once(text: &str, locale: &str) -> Box<str> {
    let nodes = serde_json::json!({ "say": { "say": { "text": text } } });
    serde_json::json!({ "start": "say", "nodes": nodes, "locale": locale }).to_string().into()
}

impl fmt::Debug for CallNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallNews").field("job", &self.job).field("step", &self.step).finish_non_exhaustive()
    }
}

impl fmt::Debug for OptedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the number: this ends in logs and panics.
        f.debug_struct("OptedOut").field("tenant", &self.tenant).finish_non_exhaustive()
    }
}

impl fmt::Debug for Followed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never recipient or parameters.
        f.debug_struct("Followed").field("job", &self.job).finish_non_exhaustive()
    }
}
