//! What Twilio says in its callbacks about calls: how one goes, or that one waits for its next document. Pure.
//! Source: twilio.com/docs/voice/api/call-resource#statuscallback, /docs/voice/twiml#request-parameters.

use std::fmt;
use std::time::Duration;

use super::Attempt;
use crate::channel::callback::{Refused, clipped};
use crate::channel::sms::twilio::callback::Fields;
use crate::domain::ids::JobId;

/// Most keys of one question; a flow takes 16.
const KEYS_MAX: usize = 32;
/// What a keypad has.
const KEYS: &str = "0123456789*#";
/// Most bytes of a call's id, which has 34, and of where a recording is.
const SID_LEN_MAX: usize = 64;
const URL_LEN_MAX: usize = 256;
/// Longer than any call may last.
const TALK_MAX: u64 = 24 * 3_600;

/// One callback.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    /// Which attempt it is about: what its URL carries.
    pub(super) attempt: Attempt,
    /// Twilio's id of the call.
    pub(super) call: Box<str>,
    /// What it says.
    pub(super) says: Says,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Says {
    Status(Status),
    Turn(Turn),
}

/// How a call goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Status {
    pub(super) progress: Progress,
    /// How long was talked, where that is said.
    pub(super) talk: Option<Duration>,
    /// The network's last answer to a call that failed: a SIP status.
    pub(super) sip: Option<u16>,
    /// Who answered, where Twilio listened.
    pub(super) answered_by: Option<Who>,
}

/// How far a call has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    /// It is being made.
    Waiting,
    /// It rings.
    Ringing,
    /// Somebody answered.
    Answered,
    /// It is over.
    Ended(End),
}

/// How a call ended, in Twilio's words.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum End {
    Completed,
    Busy,
    NoAnswer,
    Failed,
    Canceled,
}

/// Who answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Who {
    Human,
    Machine,
}

/// A call waits for its next document.
#[derive(Clone, PartialEq, Eq, Default)]
pub(super) struct Turn {
    /// The document's number.
    pub(super) step: u32,
    /// What was pressed.
    pub(super) keys: Box<str>,
    /// Where the recording is; empty: there is none.
    pub(super) recording: Box<str>,
    /// Who answered, where Twilio listened.
    pub(super) answered_by: Option<Who>,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never what was pressed: this ends in logs and panics.
        f.debug_struct("Turn").field("step", &self.step).finish_non_exhaustive()
    }
}

impl Word {
    /// Reads a callback whose signature is good.
    ///
    /// # Errors
    /// [`Refused::Unreadable`]: it is about no attempt of ours, or no call.
    pub(super) fn read(query: &Fields<'_>, form: &Fields<'_>) -> Result<Self, Refused> {
        let number = |name| query.get(name).and_then(|text| text.parse::<u32>().ok());
        let job = query.get("job").and_then(|job| job.parse::<JobId>().ok());
        let attempt = number("attempt").and_then(|number| u16::try_from(number).ok());
        let (Some(job), Some(attempt)) = (job, attempt) else { return Err(Refused::Unreadable) };
        let call = form.get("CallSid").filter(|sid| !sid.is_empty()).ok_or(Refused::Unreadable)?;
        let says = match (query.get("step"), number("step")) {
            (Some(_), Some(step)) => Says::Turn(turn(form, step)),
            (Some(_), None) => return Err(Refused::Unreadable),
            (None, _) => Says::Status(status(form).ok_or(Refused::Unreadable)?),
        };
        let attempt = Attempt { job, number: attempt };
        Ok(Self { attempt, call: clipped(call, SID_LEN_MAX), says })
    }
}

fn turn(form: &Fields<'_>, step: u32) -> Turn {
    // A recording that ends because the caller hangs up has the word `hangup` for its keys.
    let keys = form.get("Digits").filter(|keys| keys.chars().all(|key| KEYS.contains(key))).unwrap_or_default();
    Turn {
        step,
        keys: clipped(keys, KEYS_MAX),
        recording: clipped(form.get("RecordingUrl").unwrap_or_default(), URL_LEN_MAX),
        answered_by: who(form.get("AnsweredBy").unwrap_or_default()),
    }
}

fn status(form: &Fields<'_>) -> Option<Status> {
    let number = |name| form.get(name).and_then(|text| text.trim().parse::<u64>().ok());
    Some(Status {
        progress: progress(form.get("CallStatus")?),
        talk: number("CallDuration").map(|seconds| Duration::from_secs(seconds.min(TALK_MAX))),
        sip: number("SipResponseCode").and_then(|code| u16::try_from(code).ok()),
        answered_by: who(form.get("AnsweredBy").unwrap_or_default()),
    })
}

/// Returns what a status says; `queued`, `initiated` and what will be invented: it is not over.
pub(super) fn progress(status: &str) -> Progress {
    match status {
        "ringing" => Progress::Ringing,
        "in-progress" => Progress::Answered,
        "completed" => Progress::Ended(End::Completed),
        "busy" => Progress::Ended(End::Busy),
        "no-answer" => Progress::Ended(End::NoAnswer),
        "failed" => Progress::Ended(End::Failed),
        "canceled" => Progress::Ended(End::Canceled),
        _ => Progress::Waiting,
    }
}

/// Returns who answered. Of `unknown` nothing is known.
pub(super) fn who(answered_by: &str) -> Option<Who> {
    match answered_by {
        "human" => Some(Who::Human),
        "fax" => Some(Who::Machine),
        other => other.starts_with("machine").then_some(Who::Machine),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11";

    fn read(query: &str, form: &str) -> Result<Says, Refused> {
        let (query, form) = (query.replace("JOB", JOB), format!("CallSid=CA1&{form}"));
        Word::read(&Fields::read(query.as_bytes()), &Fields::read(form.as_bytes())).map(|word| word.says)
    }

    fn said(status: &str) -> Progress {
        match read("job=JOB&attempt=2", &format!("CallStatus={status}")) {
            Ok(Says::Status(status)) => status.progress,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_status_has_its_meaning() {
        for (status, expected) in [
            ("queued", Progress::Waiting),
            ("initiated", Progress::Waiting),
            ("ringing", Progress::Ringing),
            ("in-progress", Progress::Answered),
            ("completed", Progress::Ended(End::Completed)),
            ("busy", Progress::Ended(End::Busy)),
            ("no-answer", Progress::Ended(End::NoAnswer)),
            ("failed", Progress::Ended(End::Failed)),
            ("canceled", Progress::Ended(End::Canceled)),
            ("something-new", Progress::Waiting),
        ] {
            assert_eq!(said(status), expected, "{status}");
        }
    }

    #[test]
    fn what_is_said_beside_the_status_is_read() {
        let form = "CallStatus=completed&CallDuration=17&SipResponseCode=200&AnsweredBy=machine_end_beep";
        let Ok(Says::Status(status)) = read("job=JOB&attempt=1", form) else { panic!("a status") };
        let read = (status.talk, status.sip, status.answered_by);
        assert_eq!(read, (Some(Duration::from_secs(17)), Some(200), Some(Who::Machine)));
        assert_eq!(
            [who("human"), who("fax"), who("unknown"), who("")],
            [Some(Who::Human), Some(Who::Machine), None, None]
        );
    }

    #[test]
    fn a_question_brings_keys_and_recordings() {
        let turn = |form| match read("job=JOB&attempt=1&step=3", form) {
            Ok(Says::Turn(turn)) => (turn.step, turn.keys, turn.recording),
            other => panic!("{other:?}"),
        };
        assert_eq!(turn("Digits=12%23"), (3, "12#".into(), "".into()));
        assert_eq!(
            turn("Digits=hangup&RecordingUrl=https%3A%2F%2Fapi.twilio.com%2FRE1"),
            (3, "".into(), "https://api.twilio.com/RE1".into())
        );
        assert_eq!(turn(&format!("Digits={}", "1".repeat(99))).1.len(), KEYS_MAX);
    }

    #[test]
    fn what_is_about_no_attempt_of_ours_is_not_understood() {
        for (query, form) in [
            ("", "CallStatus=ringing"),
            ("job=JOB", "CallStatus=ringing"),
            ("job=x&attempt=1", "CallStatus=ringing"),
            ("job=JOB&attempt=70000", "CallStatus=ringing"),
            ("job=JOB&attempt=1&step=-1", "Digits=1"),
            ("job=JOB&attempt=1", "Digits=1"),
        ] {
            assert_eq!(read(query, form), Err(Refused::Unreadable), "{query} {form}");
        }
    }
}
