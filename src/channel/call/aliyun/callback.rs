//! What Aliyun calls back with: arrays of how calls go (VoiceCallReport), how they ended (VoiceReport), and where their
//! recordings are (VoiceRecordReport). Nothing signs them; the secret at the end of the path does it.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::super::super::News;
use super::super::super::callback::{Call, Callbacks, Refused, clipped, code, same};
use super::super::super::http::{Bytes, Response, StatusCode, answer};
use crate::config::Secret;
use crate::domain::call::{CallReport, CallResult, TALK_MAX};
use crate::domain::event::{Fate, Receipt, Report, State};
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;

/// Most bytes of an id.
const ID_LEN_MAX: usize = 100;
/// Most bytes of where a recording is; a longer address would lead nowhere if it were cut.
const URL_LEN_MAX: usize = 1_024;
/// Most keys of a call that are kept.
const DIGITS_MAX: usize = 64;

/// Reads Aliyun's callbacks.
pub struct Desk {
    provider: ProviderId,
    token: Secret,
}

/// One element.
#[derive(Deserialize)]
struct Item {
    call_id: Box<str>,
    status_code: Number,
    /// Seconds, with or without their unit behind them.
    duration: Option<Number>,
    #[serde(default)]
    dtmf: Box<str>,
    #[serde(default)]
    hangup_direction: Box<str>,
    /// Where the recording is: of a recording alone (VoiceRecordReport).
    record_file: Option<serde_json::Value>,
}

/// Some reports write numbers as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Text(Box<str>),
    Whole(u64),
}

// === impl Desk ===

impl Desk {
    /// Returns a desk for callbacks whose path ends in `token`.
    pub fn new(provider: ProviderId, token: Secret) -> Self {
        Self { provider, token }
    }
}

impl Callbacks for Desk {
    fn read(&self, call: &Call<'_>, at: UnixMicros) -> Result<Vec<News>, Refused> {
        if !same(call.token.as_bytes(), self.token.reveal().as_bytes()) {
            return Err(Refused::Signature);
        }
        let items: Vec<Item> = serde_json::from_slice(call.body).map_err(|_| Refused::Unreadable)?;
        let news = |mut item: Item| {
            let recording: Option<Box<str>> =
                item.record_file.take().map(|file| file.as_str().unwrap_or_default().into());
            let status = item.status_code.text();
            let (provider, message_id) = (self.provider.clone(), clipped(&item.call_id, ID_LEN_MAX));
            // How the call went that was recorded is said beside it.
            let report = if recording.is_some() { Report::Recorded } else { report(&status) };
            let receipt = Receipt { provider, message_id, job: None, report, code: code(&status), at };
            match (report, recording) {
                (_, Some(recording)) if recording.is_empty() || recording.len() > URL_LEN_MAX => {
                    News::Receipt(Receipt { report: Report::Pending, ..receipt })
                }
                (_, Some(recording)) => {
                    let of = CallReport { recording, ..CallReport::unanswered(CallResult::Completed) };
                    News::CallReceipt(receipt, Box::new(of))
                }
                (Report::Called(result), None) => News::CallReceipt(receipt, Box::new(item.went(result))),
                (_, None) => News::Receipt(receipt),
            }
        };
        Ok(items.into_iter().map(news).collect())
    }

    fn thanks(&self) -> Response<Bytes> {
        answer(StatusCode::OK, "application/json; charset=utf-8", r#"{"code":0,"msg":"接收成功"}"#)
    }
}

// === impl Item ===

impl Item {
    /// Returns how a call went that ended so.
    fn went(&self, result: CallResult) -> CallReport {
        let seconds = self.duration.as_ref().map_or(0, Number::leading);
        let hung_up_by = match &*self.hangup_direction {
            // The callee; the machine, which is ours.
            "用户" => "callee",
            "机器" => "us",
            _ => "",
        };
        CallReport {
            digits: clipped(&self.dtmf, DIGITS_MAX),
            talk: Duration::from_secs(seconds).min(TALK_MAX),
            hung_up_by: hung_up_by.into(),
            ..CallReport::unanswered(result)
        }
    }
}

// === impl Number ===

impl Number {
    fn text(&self) -> Box<str> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Whole(number) => number.to_string().into(),
        }
    }

    /// Returns the number that it begins with; 0 where there is none.
    fn leading(&self) -> u64 {
        let text = self.text();
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        text.get(..digits).and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").field("provider", &self.provider).finish_non_exhaustive()
    }
}

/// Returns what a status says (help.aliyun.com/document_detail/55085.html).
fn report(status: &str) -> Report {
    match status {
        "200101" => Report::Progress(State::Dialing),
        "200201" => Report::Progress(State::Ringing),
        "200102" => Report::Progress(State::Answered),
        // Listened to the end; hung up before; pressed nothing in time.
        "200000" | "200001" | "200008" => Report::Called(CallResult::Completed),
        "200002" => Report::Called(CallResult::Busy),
        "200003" => Report::Called(CallResult::NoAnswer),
        "200004" => Report::Called(CallResult::InvalidNumber),
        // Unreachable or rejected, out of coverage, switched off.
        "200005" | "200007" | "200010" => Report::Called(CallResult::Unreachable),
        // Lost on the way; more calls at a time than the account may have.
        "200012" | "200121" => Report::Called(CallResult::Network),
        // Suspended, restricted, a bad number of ours, not at this hour, not so often: calling again helps nobody.
        "200011" | "200104" | "200105" | "200117" | "200118" | "200119" => Report::Final(Fate::Undelivered),
        "200130" | "999999" => Report::Final(Fate::Unknown),
        // It ended, a key was pressed, a turn of a robot: the final report says what matters.
        _ => Report::Pending,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::http::HeaderMap;

    /// Returns what a callback with this token in its path says.
    fn said(token: &str, body: &str) -> Result<Vec<News>, Refused> {
        let desk = Desk::new("voice".parse().unwrap(), Secret::new("a-secret-in-the-path"));
        let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
        desk.read(&Call { token, target: "/callback/voice", headers: &headers, body: &body }, UnixMicros(7))
    }

    fn read(token: &str, body: &str) -> Result<Vec<(Box<str>, Report)>, Refused> {
        let report = |news| match news {
            News::Receipt(receipt) | News::CallReceipt(receipt, _) => (receipt.message_id, receipt.report),
            other => panic!("{other:?}"),
        };
        Ok(said(token, body)?.into_iter().map(report).collect())
    }

    #[test]
    fn a_report_says_how_the_call_went() {
        let went = |item: &str| serde_json::from_str::<Item>(item).unwrap().went(CallResult::Completed);
        let head = r#""call_id": "1^2", "status_code": "200000""#;
        let report = went(&format!(r#"{{{head}, "duration": "10秒", "dtmf": "1#", "hangup_direction": "用户"}}"#));
        assert_eq!((report.talk.as_secs(), &*report.digits, &*report.hung_up_by), (10, "1#", "callee"));
        let report = went(&format!(r#"{{{head}, "duration": 7, "hangup_direction": "机器"}}"#));
        assert_eq!((report.talk.as_secs(), &*report.digits, &*report.hung_up_by), (7, "", "us"));
        let report = went(&format!(r#"{{{head}, "duration": "99999999999999999999", "hangup_direction": "?"}}"#));
        assert_eq!((report.talk.as_secs(), &*report.hung_up_by), (0, ""));
    }

    #[test]
    fn a_recording_is_where_it_is_said_to_be_or_nowhere() {
        let long = "x".repeat(URL_LEN_MAX + 1);
        let body = format!(
            r#"[{{"call_id": "1^2", "status_code": "200000", "duration": "10", "record_file": "https://oss.example/a?b=c"}},
                {{"call_id": "1^3", "status_code": "200000", "record_file": ""}},
                {{"call_id": "1^4", "status_code": "200000", "record_file": "{long}"}},
                {{"call_id": "1^5", "status_code": "200000", "record_file": 7}}]"#
        );
        let news = said("a-secret-in-the-path", &body).unwrap();
        let [News::CallReceipt(receipt, report), others @ ..] = &news[..] else { panic!("{news:?}") };
        let pending = |of: &News| matches!(of, News::Receipt(Receipt { report: Report::Pending, .. }));
        assert!(others.len() == 3 && others.iter().all(pending), "{others:?}");
        assert_eq!((receipt.report, &*report.recording), (Report::Recorded, "https://oss.example/a?b=c"));
    }

    #[test]
    fn reports_of_calls_read_as_the_vendor_writes_them() {
        let body = r#"[
            {"call_id": "116012^100", "status_code": "200201", "status_time": "2026-01-01 08:00:00", "out_id": ""},
            {"call_id": "116012^100", "status_code": 200000, "duration": "10", "hangup_direction": "用户"},
            {"call_id": "116012^100", "status_code": "200000", "record_file": "http://xxxx"},
            {"call_id": "116012^101", "status_code": "200002", "status_msg": "用户占线"},
            {"call_id": "116012^102", "status_code": "200118"},
            {"call_id": "116012^103", "status_code": "300000", "dtmf": "1"}]"#;
        let expected = [
            ("116012^100", Report::Progress(State::Ringing)),
            ("116012^100", Report::Called(CallResult::Completed)),
            ("116012^100", Report::Recorded),
            ("116012^101", Report::Called(CallResult::Busy)),
            ("116012^102", Report::Final(Fate::Undelivered)),
            ("116012^103", Report::Pending),
        ];
        let found = read("a-secret-in-the-path", body).unwrap();
        assert_eq!(found.iter().map(|(id, report)| (&**id, *report)).collect::<Vec<_>>(), expected);
        assert_eq!(read("another", body), Err(Refused::Signature));
        assert_eq!(read("a-secret-in-the-path", r#"[{"status_code": "200000"}]"#), Err(Refused::Unreadable));
        assert_eq!(read("a-secret-in-the-path", "[[["), Err(Refused::Unreadable));
    }
}
