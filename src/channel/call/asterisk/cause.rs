//! What it means how a channel of Asterisk ended. Pure.

use crate::domain::call::CallResult;

/// How far a call had come when it ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Reached {
    /// Nothing was heard of the callee.
    Nothing,
    /// The phone rang.
    Ringing,
    /// Somebody answered.
    Answered,
}

/// Returns the result of a call whose channel was destroyed with this cause (ITU-T Q.850), having come so far.
///
/// The dial status is not asked: for a number that does not exist it says that nobody answered, and of a phone that rang
/// until the end it says nothing. Who answered has answered, however it ended then.
pub(super) fn result(cause: u16, reached: Reached) -> CallResult {
    match (cause, reached) {
        (_, Reached::Answered) => CallResult::Completed,
        (17, _) => CallResult::Busy,
        // 20: subscriber absent; 27 is the network's word for the far side's failure.
        (20, _) => CallResult::Unreachable,
        (18 | 19, _) => CallResult::NoAnswer,
        (21, _) => CallResult::Declined,
        (1 | 22 | 28, _) => CallResult::InvalidNumber,
        // Asterisk gives up after the ring time without a cause; a cancelled INVITE comes back as 127.
        (0 | 16 | 127, Reached::Ringing) => CallResult::NoAnswer,
        _ => CallResult::Network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sip_answer_has_its_result() {
        use CallResult::{Busy, Completed, Declined, InvalidNumber, Network, NoAnswer, Unreachable};
        // The causes that Asterisk 16 makes of these final answers.
        for (answer, cause, reached, expected) in [
            ("200", 16, Reached::Answered, Completed),
            ("200 and a broken line", 38, Reached::Answered, Completed),
            ("ring time over", 0, Reached::Ringing, NoAnswer),
            ("nothing at all", 0, Reached::Nothing, Network),
            ("403", 21, Reached::Nothing, Declined),
            ("404", 1, Reached::Nothing, InvalidNumber),
            ("408", 18, Reached::Nothing, NoAnswer),
            ("410", 22, Reached::Nothing, InvalidNumber),
            ("480", 19, Reached::Nothing, NoAnswer),
            ("484", 28, Reached::Nothing, InvalidNumber),
            ("486", 17, Reached::Nothing, Busy),
            ("487", 127, Reached::Ringing, NoAnswer),
            ("488", 58, Reached::Nothing, Network),
            ("500", 38, Reached::Nothing, Network),
            ("502", 27, Reached::Nothing, Network),
            ("503", 34, Reached::Nothing, Network),
            ("504", 102, Reached::Nothing, Network),
            ("600", 17, Reached::Ringing, Busy),
            ("603", 21, Reached::Ringing, Declined),
            ("absent", 20, Reached::Nothing, Unreachable),
        ] {
            assert_eq!(result(cause, reached), expected, "{answer}");
        }
    }
}
