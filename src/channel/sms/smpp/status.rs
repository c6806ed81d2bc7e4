//! What an SMSC's `command_status` means for a segment.

use std::borrow::Cow;

/// What a segment's answer says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// The SMSC has it.
    Taken,
    /// Not now: the same segment may be taken later.
    Throttled,
    /// Never.
    Refused,
    /// The SMSC does not know this bind any more: not now, and not here.
    NotBound,
}

/// It takes part of the load only: `ESME_RX_T_APPN`, our answer to what cannot be kept just now.
pub(super) const TRY_AGAIN: u32 = 0x64;
/// `ESME_RX_R_APPN`, our answer to what will never be readable.
pub(super) const REJECTED: u32 = 0x66;
/// `ESME_RINVCMDID`, our answer to a command that we do not know.
pub(super) const UNKNOWN_COMMAND: u32 = 0x03;

const OK: u32 = 0;
const NOT_BOUND: u32 = 0x04;
const ALREADY_BOUND: u32 = 0x05;
const SYSTEM_ERROR: u32 = 0x08;
const QUEUE_FULL: u32 = 0x14;
const THROTTLED: u32 = 0x58;

/// Returns what `status` means.
///
/// A system error counts as "not now": SMSCs answer so while they restart, and a job that is put off until it expires
/// is better than thousands that are refused for good in a bad minute. What the list does not name is a refusal.
pub(super) const fn meaning(status: u32) -> Meaning {
    match status {
        OK => Meaning::Taken,
        THROTTLED | QUEUE_FULL | SYSTEM_ERROR | TRY_AGAIN => Meaning::Throttled,
        NOT_BOUND => Meaning::NotBound,
        _ => Meaning::Refused,
    }
}

/// Returns whether a bind was refused because the account has all its binds, or the SMSC is busy: neither says anything
/// about the account.
pub(super) const fn is_full(status: u32) -> bool {
    matches!(status, ALREADY_BOUND | SYSTEM_ERROR | QUEUE_FULL | THROTTLED)
}

/// Returns the name of `status`, or its number.
pub(super) fn code(status: u32) -> Cow<'static, str> {
    Cow::Borrowed(match status {
        OK => "ESME_ROK",
        0x01 => "ESME_RINVMSGLEN",
        0x02 => "ESME_RINVCMDLEN",
        UNKNOWN_COMMAND => "ESME_RINVCMDID",
        NOT_BOUND => "ESME_RINVBNDSTS",
        ALREADY_BOUND => "ESME_RALYBND",
        0x06 => "ESME_RINVPRTFLG",
        0x07 => "ESME_RINVREGDLVFLG",
        SYSTEM_ERROR => "ESME_RSYSERR",
        0x0A => "ESME_RINVSRCADR",
        0x0B => "ESME_RINVDSTADR",
        0x0C => "ESME_RINVMSGID",
        0x0D => "ESME_RBINDFAIL",
        0x0E => "ESME_RINVPASWD",
        0x0F => "ESME_RINVSYSID",
        QUEUE_FULL => "ESME_RMSGQFUL",
        0x15 => "ESME_RINVSERTYP",
        0x43 => "ESME_RINVESMCLASS",
        0x45 => "ESME_RSUBMITFAIL",
        0x48 => "ESME_RINVSRCTON",
        0x49 => "ESME_RINVSRCNPI",
        0x50 => "ESME_RINVDSTTON",
        0x51 => "ESME_RINVDSTNPI",
        0x53 => "ESME_RINVSYSTYP",
        THROTTLED => "ESME_RTHROTTLED",
        0x61 => "ESME_RINVSCHED",
        0x62 => "ESME_RINVEXPIRY",
        TRY_AGAIN => "ESME_RX_T_APPN",
        0x65 => "ESME_RX_P_APPN",
        REJECTED => "ESME_RX_R_APPN",
        0xC0 => "ESME_RINVOPTPARSTREAM",
        0xC1 => "ESME_ROPTPARNOTALLWD",
        0xC2 => "ESME_RINVPARLEN",
        0xC3 => "ESME_RMISSINGOPTPARAM",
        0xC4 => "ESME_RINVOPTPARAMVAL",
        0xFE => "ESME_RDELIVERYFAILURE",
        0xFF => "ESME_RUNKNOWNERR",
        0x104 => "ESME_RINVDCS",
        other => return Cow::Owned(format!("0x{other:08X}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        for status in [0x58, 0x14, 0x08, 0x64] {
            assert_eq!(meaning(status), Meaning::Throttled, "{}", code(status));
        }
        for status in [0x01, 0x0A, 0x0B, 0x43, 0x45, 0x65, 0x66, 0xC2, 0xFE, 0x104, 0x0400] {
            assert_eq!(meaning(status), Meaning::Refused, "{}", code(status));
        }
        assert_eq!(meaning(0), Meaning::Taken);
        assert_eq!(code(0x0400), "0x00000400");
    }
}
