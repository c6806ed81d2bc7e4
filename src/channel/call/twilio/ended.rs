//! What it means how a call of Twilio's ended. Pure.

use super::word::{End, Status, Who};
use crate::domain::call::{CallReport, CallResult};

/// Returns the result of a call that ended so. Of a call that failed the network's last answer says why (RFC 3261 and RFC
/// 8197, 21); Twilio says `busy` and `no-answer` by itself.
pub(super) fn result(end: End, sip: Option<u16>, answered_by: Option<Who>) -> CallResult {
    match (end, answered_by) {
        (End::Completed, Some(Who::Machine)) => CallResult::Machine,
        (End::Completed, Some(Who::Human) | None) => CallResult::Completed,
        (End::Busy, _) => CallResult::Busy,
        // Nobody cancels but us, because it rang for too long.
        (End::NoAnswer | End::Canceled, _) => CallResult::NoAnswer,
        (End::Failed, _) => failed(sip),
    }
}

fn failed(sip: Option<u16>) -> CallResult {
    match sip {
        Some(404 | 410 | 484 | 604) => CallResult::InvalidNumber,
        Some(480) => CallResult::Unreachable,
        Some(403 | 603 | 607 | 608) => CallResult::Declined,
        Some(486 | 600) => CallResult::Busy,
        Some(408 | 487) => CallResult::NoAnswer,
        Some(_) | None => CallResult::Network,
    }
}

/// Returns all that is known of a call that nobody here drove.
pub(super) fn report(end: End, status: &Status) -> CallReport {
    let result = result(end, status.sip, status.answered_by);
    CallReport {
        talk: status.talk.filter(|_| result.reached()).unwrap_or_default(),
        answered_by: status.answered_by.map_or("", Who::as_str).into(),
        ..CallReport::unanswered(result)
    }
}

impl Who {
    /// Returns the word of reports.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Machine => "machine",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_result() {
        use CallResult::{Busy, Completed, Declined, InvalidNumber, Machine, Network, NoAnswer, Unreachable};
        for (end, sip, who, expected) in [
            (End::Completed, Some(200), None, Completed),
            (End::Completed, Some(200), Some(Who::Human), Completed),
            (End::Completed, Some(200), Some(Who::Machine), Machine),
            (End::Busy, Some(486), None, Busy),
            (End::NoAnswer, Some(487), None, NoAnswer),
            (End::Canceled, None, None, NoAnswer),
            (End::Failed, Some(404), None, InvalidNumber),
            (End::Failed, Some(484), None, InvalidNumber),
            (End::Failed, Some(480), None, Unreachable),
            (End::Failed, Some(603), None, Declined),
            (End::Failed, Some(503), None, Network),
            (End::Failed, None, None, Network),
        ] {
            assert_eq!(result(end, sip, who), expected, "{end:?} {sip:?} {who:?}");
        }
    }
}
