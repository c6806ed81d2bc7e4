//! What Aliyun calls back with: arrays of how calls go (VoiceCallReport) and how they ended (VoiceReport). Nothing signs
//! them; the secret at the end of the path does it.

use std::fmt;

use serde::Deserialize;

use super::super::super::News;
use super::super::super::callback::{Call, Callbacks, Refused, clipped, code, same};
use super::super::super::http::{Bytes, Response, StatusCode, answer};
use crate::config::Secret;
use crate::domain::call::CallResult;
use crate::domain::event::{Fate, Receipt, Report, State};
use crate::domain::ids::ProviderId;
use crate::domain::time::UnixMicros;

/// Most bytes of an id.
const ID_LEN_MAX: usize = 100;

/// Reads Aliyun's callbacks.
pub struct Desk {
    provider: ProviderId,
    token: Secret,
}

/// One element.
#[derive(Deserialize)]
struct Item {
    call_id: Box<str>,
    status_code: Code,
}

/// Some reports write numbers as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Code {
    Text(Box<str>),
    Number(u64),
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
        let news = |item: Item| {
            let status = match item.status_code {
                Code::Text(text) => text,
                Code::Number(number) => number.to_string().into(),
            };
            let (provider, message_id) = (self.provider.clone(), clipped(&item.call_id, ID_LEN_MAX));
            let (report, code) = (report(&status), code(&status));
            News::Receipt(Receipt { provider, message_id, job: None, report, code, at })
        };
        Ok(items.into_iter().map(news).collect())
    }

    fn thanks(&self) -> Response<Bytes> {
        answer(StatusCode::OK, "application/json; charset=utf-8", r#"{"code":0,"msg":"接收成功"}"#)
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

    fn read(token: &str, body: &str) -> Result<Vec<(Box<str>, Report)>, Refused> {
        let desk = Desk::new("voice".parse().unwrap(), Secret::new("a-secret-in-the-path"));
        let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
        let call = Call { token, target: "/callback/voice", headers: &headers, body: &body };
        let news = desk.read(&call, UnixMicros(7))?;
        Ok(news
            .into_iter()
            .map(|news| match news {
                News::Receipt(receipt) => (receipt.message_id, receipt.report),
                other => panic!("{other:?}"),
            })
            .collect())
    }

    #[test]
    fn reports_of_calls_read_as_the_vendor_writes_them() {
        let body = r#"[
            {"call_id": "116012^100", "status_code": "200201", "status_time": "2026-01-01 08:00:00", "out_id": ""},
            {"call_id": "116012^100", "status_code": 200000, "duration": "10", "hangup_direction": "CALLEE"},
            {"call_id": "116012^101", "status_code": "200002", "status_msg": "用户占线"},
            {"call_id": "116012^102", "status_code": "200118"},
            {"call_id": "116012^103", "status_code": "300000", "dtmf": "1"}]"#;
        let expected = [
            ("116012^100", Report::Progress(State::Ringing)),
            ("116012^100", Report::Called(CallResult::Completed)),
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
