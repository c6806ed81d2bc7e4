//! Shows what rules say of a job.

use std::collections::HashMap;

use super::moment_to_pb;
use super::show::{deferred_code, in_words, settled_code};
use crate::domain::event::Outcome;
use crate::domain::ids::JobId;
use crate::leave::{Places, RECOVERING, RESCHEDULED, Ruling, SEND_AT, Said};
use crate::pb;

/// Most jobs that are shown for the places of a cap.
const HOLDERS_MAX: usize = 20;

/// Shows a ruling; `names` has the ids of jobs by their short forms.
pub(crate) fn ruling_to_pb(ruling: &Ruling, names: &HashMap<u64, JobId>) -> pb::RuleDecision {
    let holders = ruling.places.iter().flat_map(|places| &places.holders).filter_map(|holder| names.get(holder));
    pb::RuleDecision {
        at: Some(moment_to_pb(ruling.at)),
        rule: in_words(&ruling.rule).into(),
        verdict: match ruling.said {
            Said::Pass => pb::RuleVerdict::Pass,
            Said::Defer => pb::RuleVerdict::Defer,
            Said::Stop(_) => pb::RuleVerdict::Suppress,
        }
        .into(),
        reason_code: code(ruling).into(),
        limit: ruling.places.as_ref().map_or(0, |places| places.limit),
        used: ruling.places.as_ref().map_or(0, |places| places.used),
        left: ruling.places.as_ref().map_or(0, Places::left),
        open_at: ruling.open_at.map(moment_to_pb),
        holders: holders.take(HOLDERS_MAX).map(ToString::to_string).collect(),
        shadow: ruling.shadow,
    }
}

/// Returns what a ruling is about, for programs.
fn code(ruling: &Ruling) -> pb::ReasonCode {
    match (&ruling.places, ruling.said) {
        (Some(_), _) => pb::ReasonCode::Cap,
        (None, Said::Stop(fate)) => settled_code(&Outcome::new(fate, ruling.rule.clone())),
        (None, Said::Pass | Said::Defer) if [SEND_AT, RESCHEDULED, RECOVERING].contains(&&*ruling.rule) => {
            pb::ReasonCode::Unspecified
        }
        (None, Said::Pass | Said::Defer) => deferred_code(&ruling.rule),
    }
}
