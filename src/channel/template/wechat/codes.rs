//! What WeChat's error codes mean to a job (developers.weixin.qq.com/doc/oplatform/Return_codes/Return_code_descriptions_new).

/// What an error code means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Sense {
    /// It has the job, or had it before.
    Taken,
    /// The token is none, or none any more.
    NotLetIn,
    /// The account's quota of the day is used up.
    OverDay,
    /// Too many a minute.
    TooFast,
    /// WeChat did not get to it.
    Busy,
    /// Nothing of the account goes out; somebody must act.
    Closed,
    /// This job not before so many seconds.
    Later(u64),
    /// This job never.
    Never,
}

impl Sense {
    pub(super) fn of(code: i64) -> Self {
        match code {
            // 45065: the client_msg_id was sent already, by an attempt whose answer was lost.
            0 | 45_065 => Self::Taken,
            40_001 | 40_014 | 41_001 | 42_001 => Self::NotLetIn,
            45_009 => Self::OverDay,
            45_011 => Self::TooFast,
            -1 => Self::Busy,
            // 45066: the same client_msg_id is asked for too often.
            45_066 => Self::Later(60),
            // No such account or secret, an address that is not on its list, an API that it may not use, an account that
            // is frozen.
            40_013 | 40_125 | 40_164 | 48_001 | 50_002 | 61_004 => Self::Closed,
            // 40003 no such openid, 43004 not following, 43019 blacklisted, 43101 refused or no consent left, 48002 refuses
            // all, 40036 and 40037 no such template, 47003 parameters, 40249 content, 45109, and whatever else there is.
            _ => Self::Never,
        }
    }
}
