//! Requests about calls (twilio.com/docs/voice/api/call-resource): make one, look at it, end it.

use std::time::Duration;

use form_urlencoded::Serializer;
use serde::Deserialize;

use super::AGAIN;
use super::word::{Status, progress, who};
use crate::channel::Answer;
use crate::channel::http::client::{Client, Failure, TOO_LATE};
use crate::channel::http::{Bytes, HeaderValue, Request, Response, StatusCode, header};
use crate::channel::sms::cloud::{closed, foreign, not_sent, throttled};
use crate::channel::sms::twilio::{authorization, refusal};
use crate::config;
use crate::domain::time::UnixMicros;

/// How long Twilio may take for something in a call that is up.
const COMMAND_MAX: Duration = Duration::from_secs(5);
/// How long Twilio listens until it says who has answered, in seconds; its own default is 30, in which nothing is heard.
const DETECTION_MAX: u64 = 10;
/// The events of a call that are called back.
const EVENTS: [&str; 4] = ["initiated", "ringing", "answered", "completed"];

/// One account.
pub(super) struct Rest {
    client: Client,
    calls: Box<str>,
    authorization: HeaderValue,
    limit: Duration,
}

/// A call to be made.
pub(super) struct Create<'a> {
    /// Whom, with `+`.
    pub(super) to: &'a str,
    /// From which number.
    pub(super) from: &'a str,
    /// Where its callbacks come, with its attempt.
    pub(super) url: &'a str,
    /// When it is not to be made any more.
    pub(super) too_late: UnixMicros,
    /// How long it rings.
    pub(super) ring: Duration,
    /// How long is talked at most.
    pub(super) talk: Duration,
    /// Whether Twilio listens who has answered.
    pub(super) detect: bool,
}

/// How Twilio is told to end a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EndIt {
    /// Only if nobody has answered.
    Unanswered,
    /// In any case.
    Now,
}

/// Twilio did not do it, or does not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotDone;

/// A call as Twilio has it; or a refusal.
#[derive(Deserialize)]
struct Found {
    sid: Option<Box<str>>,
    status: Option<serde_json::Value>,
    /// In seconds, as text.
    duration: Option<Box<str>>,
    answered_by: Option<Box<str>>,
    /// Of a refused request.
    code: Option<u32>,
}

// === impl Rest ===

impl Rest {
    pub(super) fn new(account: &config::Twilio, client: Client, limit: Duration) -> Self {
        let calls = format!("{}/2010-04-01/Accounts/{}/Calls", account.api.endpoint.path(), account.account_sid).into();
        // Base64 is always a header's value.
        let mut authorization =
            HeaderValue::from_str(&authorization(account)).unwrap_or_else(|_| HeaderValue::from_static(""));
        authorization.set_sensitive(true);
        Self { client, calls, authorization, limit }
    }

    /// Makes a call. Never sent twice: Twilio would call twice.
    pub(super) async fn create(&self, call: &Create<'_>) -> Answer {
        match self.post(&format!("{}.json", self.calls), call.form(), (call.too_late, self.limit)).await {
            Ok(answer) => made(&answer),
            Err(Failure::NotSent(TOO_LATE)) => Answer::too_late(),
            Err(Failure::NotSent(code)) => not_sent(code),
            Err(Failure::NoAnswer) => Answer::NoAnswer,
        }
    }

    /// Ends a call.
    pub(super) async fn end(&self, call: &str, how: EndIt) -> Result<(), NotDone> {
        let status = match how {
            EndIt::Unanswered => "canceled",
            EndIt::Now => "completed",
        };
        let form = Serializer::new(String::new()).append_pair("Status", status).finish();
        match self.post(&self.one(call), form, (UnixMicros::MAX, COMMAND_MAX)).await {
            Ok(answer) if answer.status().is_success() => Ok(()),
            Ok(_) | Err(_) => Err(NotDone),
        }
    }

    /// Asks how a call goes.
    pub(super) async fn look(&self, call: &str) -> Result<Status, NotDone> {
        let request = Request::get(self.one(call)).header(header::AUTHORIZATION, &self.authorization);
        let request = request.body(Bytes::new()).map_err(|_| NotDone)?;
        let answer = self.client.send(request, COMMAND_MAX).await.map_err(|_| NotDone)?;
        let found: Found = serde_json::from_slice(answer.body()).map_err(|_| NotDone)?;
        let status = found.status.as_ref().and_then(serde_json::Value::as_str).ok_or(NotDone)?;
        if !answer.status().is_success() {
            return Err(NotDone);
        }
        let talk = found.duration.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        let answered_by = who(found.answered_by.as_deref().unwrap_or_default());
        Ok(Status { progress: progress(status), talk, sip: None, answered_by })
    }

    fn one(&self, call: &str) -> String {
        // A call's id is what Twilio said; it is nobody's path.
        let plain: String = call.chars().filter(char::is_ascii_alphanumeric).collect();
        format!("{}/{plain}.json", self.calls)
    }

    async fn post(
        &self,
        path: &str,
        form: String,
        (too_late, limit): (UnixMicros, Duration),
    ) -> Result<Response<Bytes>, Failure> {
        let request = Request::post(path)
            .header(header::AUTHORIZATION, &self.authorization)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.into())
            .map_err(|_| Failure::NotSent("no_request"))?;
        self.client.send_before(too_late, request, limit).await
    }
}

// === impl Create ===

impl Create<'_> {
    fn form(&self) -> String {
        let mut form = Serializer::new(String::new());
        form.append_pair("To", self.to);
        form.append_pair("From", self.from);
        form.append_pair("Url", &format!("{}&step=0{AGAIN}", self.url));
        form.append_pair("Method", "POST");
        form.append_pair("StatusCallback", &format!("{}{AGAIN}", self.url));
        form.append_pair("StatusCallbackMethod", "POST");
        for event in EVENTS {
            form.append_pair("StatusCallbackEvent", event);
        }
        form.append_pair("Timeout", &self.ring.as_secs().to_string());
        form.append_pair("TimeLimit", &self.talk.as_secs().max(1).to_string());
        if self.detect {
            form.append_pair("MachineDetection", "Enable");
            form.append_pair("MachineDetectionTimeout", &DETECTION_MAX.to_string());
        }
        form.finish()
    }
}

/// Returns what the answer to the request means that makes a call.
fn made(answer: &Response<Bytes>) -> Answer {
    let Ok(found) = serde_json::from_slice::<Found>(answer.body()) else { return foreign(answer) };
    match (answer.status(), found) {
        // One that fails at once is told of by its callback.
        (status, Found { sid: Some(sid), .. }) if status.is_success() => {
            Answer::Taken { message_ids: vec![sid], segments: 1, receipt_expected: true }
        }
        (StatusCode::TOO_MANY_REQUESTS, _) => throttled(answer),
        // As many calls at a time as the account may have.
        (status, Found { code: Some(10_004), .. }) if status.is_client_error() => throttled(answer),
        // The account, or the number that it calls from: not the job's fault.
        (status, Found { code: Some(number @ (10_001 | 10_002 | 21_210 | 21_212 | 21_219)), .. })
            if status.is_client_error() =>
        {
            closed(number.to_string())
        }
        (status, Found { code: Some(number), .. }) if status.is_client_error() => refusal(number, answer),
        _ => foreign(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: u16, body: &str) -> Answer {
        let mut answer = Response::new(Bytes::from(body.to_owned()));
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        made(&answer)
    }

    #[test]
    fn each_answer_says_whether_there_is_a_call() {
        let taken = Answer::Taken { message_ids: vec!["CA1".into()], segments: 1, receipt_expected: true };
        assert_eq!(said(201, r#"{"sid": "CA1", "status": "queued"}"#), taken);
        let refused = Answer::Refused { code: "21211".into() };
        assert_eq!(said(400, r#"{"code": 21211, "message": "x", "status": 400}"#), refused);
        assert!(matches!(said(401, r#"{"code": 20003, "status": 401}"#), Answer::Closed { .. }));
        assert!(matches!(said(400, r#"{"code": 21212, "status": 400}"#), Answer::Closed { .. }));
        assert!(matches!(said(429, r#"{"code": 20429, "status": 429}"#), Answer::Throttled { .. }));
        assert!(matches!(said(400, r#"{"code": 10004, "status": 400}"#), Answer::Throttled { .. }));
        // It may have called all the same.
        assert_eq!(said(500, r#"{"code": 20500, "status": 500}"#), Answer::NoAnswer);
        assert_eq!(said(201, "<html>"), Answer::NoAnswer);
        assert!(matches!(said(404, "<html>"), Answer::NotSent { .. }));
    }
}
