//! What a job is to its fallback chain, and what follows it: in words and as data.

use crate::admission::moment;
use crate::api::convert;
use crate::api::status::Error;
use crate::domain::chain::{Chain, Passes};
use crate::domain::event::{Change, State};
use crate::domain::ids::JobId;
use crate::domain::job::Shared;
use crate::domain::time::UnixMicros;
use crate::ledger::{History, Ledger, Trail};
use crate::pb;

/// The rule that stands for the chain.
const FALLBACK: &str = "fallback";

/// What is said of a job's place in its chain.
#[derive(Default)]
pub(super) struct Place {
    pub(super) words: String,
    pub(super) decision: Option<pb::RuleDecision>,
}

/// How a job stands, as far as its chain is concerned.
struct Stand {
    ended: Option<(Passes, UnixMicros)>,
    handed_over_at: Option<UnixMicros>,
    /// An employee is asked.
    awaits_operator: bool,
}

impl Place {
    /// Returns what is said of `job`; nothing where it is of no chain.
    pub(super) async fn of<B: Ledger>(
        ledger: &B,
        shared: &Shared,
        job: JobId,
        history: &History,
    ) -> Result<Self, Error> {
        let Some(chain) = &shared.chain else { return Ok(Self::default()) };
        let ids: Vec<JobId> = chain.ids(job).collect();
        let others: Vec<(JobId, Trail)> =
            ids.iter().copied().zip(ledger.trails(&ids).await?).filter_map(|(id, trail)| Some((id, trail?))).collect();
        let reached = others.iter().find(|(id, trail)| *id != job && passes(trail) == Some(Passes::Reached));
        let next = chain.next_id(job);
        let started = others.iter().any(|(id, trail)| *id == next && trail.accepted).then_some(next);
        let stand = Stand::of(history);
        let mut sentences = Vec::new();
        if chain.step > 0 {
            sentences.push(format!("It is step {} of the fallback chain of job {}.", chain.step, chain.first(job)));
        }
        sentences.extend(reached.map(|(id, _)| format!("Job {id} of the chain reached the recipient.")));
        sentences.extend(follows(chain, &stand, started, reached.is_some()));
        let decision = chain.next.first().and_then(|step| {
            let waits_until = stand.handed_over_at.map(|at| at.plus(step.after));
            let waits = stand.ended.is_none() && started.is_none() && reached.is_none() && !stand.awaits_operator;
            let open = waits_until.filter(|_| waits);
            let at = stand.ended.map(|(_, at)| at).or(stand.handed_over_at)?;
            Some(pb::RuleDecision {
                at: Some(convert::moment_to_pb(at)),
                rule: FALLBACK.into(),
                verdict: pb::RuleVerdict::Pass.into(),
                open_at: open.map(convert::moment_to_pb),
                holders: started.iter().map(ToString::to_string).collect(),
                ..pb::RuleDecision::default()
            })
        });
        Ok(Self { words: sentences.join(" "), decision })
    }
}

impl Stand {
    fn of(history: &History) -> Self {
        let events = || history.events.iter().map(|numbered| &numbered.event);
        Self {
            ended: events().find_map(|event| Some((Passes::of(&event.change.outcome()?), event.at))),
            handed_over_at: events().find(|event| event.change.hands_over()).map(|event| event.at),
            awaits_operator: events().any(|event| event.change == Change::Progress(State::AwaitingOperator)),
        }
    }
}

fn passes(trail: &Trail) -> Option<Passes> {
    let outcome = trail.events.iter().find_map(|numbered| numbered.event.change.outcome())?;
    Some(Passes::of(&outcome))
}

/// Says what follows a job in its chain.
fn follows(chain: &Chain, stand: &Stand, started: Option<JobId>, reached: bool) -> Option<String> {
    let step = chain.next.first()?;
    if let Some(next) = started {
        return Some(format!("Job {next} ({}) follows it.", step.kind));
    }
    Some(match (&stand.ended, stand.handed_over_at) {
        _ if reached => "So nothing follows it.".to_owned(),
        (Some((Passes::Reached | Passes::Stopped, _)), _) => "So nothing follows it.".to_owned(),
        (Some((Passes::Failed, _)), _) => format!("No {} followed: the chain had expired.", step.kind),
        (None, _) if stand.awaits_operator => {
            format!("An employee is asked to let it go out; unless it does, a job by {} follows.", step.kind)
        }
        (None, Some(at)) => {
            let until = moment(at.plus(step.after));
            format!("Unless it is delivered by {until}, a job by {} follows.", step.kind)
        }
        (None, None) => format!(
            "If it fails, or is not delivered within {} s of its hand-over, a job by {} follows.",
            step.after.as_secs(),
            step.kind
        ),
    })
}
