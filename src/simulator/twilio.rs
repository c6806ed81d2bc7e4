//! Twilio Messages, simulated: authentication, the fields and the errors of the API, signed status callbacks, and signed
//! messages from recipients.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::Serializer;
use serde_json::json;

use super::{Fared, Message, Post, Vendor, Wrong};
use crate::channel::http::{Bytes, Method, Parts, Response, StatusCode, answer, header};
use crate::channel::sms::text::{self, Counting};
use crate::channel::sms::twilio::signature;
use crate::domain::event::Fate;

/// A simulated account.
#[derive(Clone, Debug)]
pub struct Twilio {
    /// The account, as `AC...`.
    pub account_sid: String,
    /// Its token.
    pub auth_token: String,
    /// Where messages from recipients go; `None`: nowhere. A whole URL.
    pub inbound: Option<String>,
}

// === impl Twilio ===

impl Twilio {
    pub(super) fn authentic(&self, head: &Parts) -> bool {
        let expected = format!("Basic {}", STANDARD.encode(format!("{}:{}", self.account_sid, self.auth_token)));
        head.headers.get(header::AUTHORIZATION).is_some_and(|found| found.as_bytes() == expected.as_bytes())
    }

    /// Returns what is said of the account, where that is what is asked.
    pub(super) fn asked_about(&self, head: &Parts) -> Option<Wrong> {
        let path = format!("/2010-04-01/Accounts/{}.json", self.account_sid);
        let said = json!({"sid": self.account_sid, "status": "active", "type": "Full", "friendly_name": "simulated"});
        (head.method == Method::GET && head.uri.path() == path).then(|| Box::new(json_answer(StatusCode::OK, &said)))
    }

    /// Returns a form, signed, on its way to a URL.
    pub(super) fn signed(&self, url: &str, form: String) -> Post {
        let signature = signature::sign(&self.auth_token, url, form.as_bytes());
        let headers = vec![
            ("content-type", "application/x-www-form-urlencoded; charset=UTF-8".to_owned()),
            (signature::HEADER, signature),
        ];
        Post { url: url.to_owned(), headers, body: form }
    }
}

impl Vendor for Twilio {
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong> {
        if !self.authentic(head) {
            return Err(wrong(StatusCode::UNAUTHORIZED, 20_003, "Authenticate"));
        }
        if let Some(said) = self.asked_about(head) {
            return Err(said);
        }
        let account = format!("/2010-04-01/Accounts/{}", self.account_sid);
        if head.uri.path() != format!("{account}/Messages.json") {
            return Err(wrong(StatusCode::NOT_FOUND, 20_404, "The requested resource was not found"));
        }
        if head.method != Method::POST {
            return Err(wrong(StatusCode::METHOD_NOT_ALLOWED, 20_004, "Method not allowed"));
        }
        let fields: Vec<(String, String)> = form_urlencoded::parse(body).into_owned().collect();
        let field = |name: &str| {
            fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let from = [field("From"), field("MessagingServiceSid")].into_iter().find(|sender| !sender.is_empty());
        let (to, text) = (field("To"), field("Body"));
        let bad = |code, what| Err(wrong(StatusCode::BAD_REQUEST, code, what));
        let Some(from) = from else { return bad(21_603, "A 'From' phone number is required") };
        if to.is_empty() {
            return bad(21_604, "A 'To' phone number is required");
        }
        if !to.strip_prefix('+').is_some_and(|digits| (7..=15).contains(&digits.len())) {
            return bad(21_211, "Invalid 'To' Phone Number");
        }
        if text.is_empty() {
            return bad(21_602, "Message body is required");
        }
        if text.chars().count() > 1_600 {
            return bad(21_617, "The concatenated message body exceeds the 1600 character limit");
        }
        let id = format!("SM{:032x}", number());
        Ok(vec![Message { id, from, to, text, reference: field("StatusCallback") }])
    }

    fn is_code(&self, code: &str) -> bool {
        code.parse::<u32>().is_ok_and(|code| code > 0)
    }

    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes> {
        match messages {
            [(message, Fared::Taken(_)), ..] => {
                let path = format!("/2010-04-01/Accounts/{}/Messages/{}.json", self.account_sid, message.id);
                let said = json!({
                    "account_sid": self.account_sid,
                    "api_version": "2010-04-01",
                    "body": message.text,
                    "date_created": null,
                    "date_sent": null,
                    "date_updated": null,
                    "direction": "outbound-api",
                    "error_code": null,
                    "error_message": null,
                    "from": message.from,
                    "messaging_service_sid": null,
                    "num_media": "0",
                    "num_segments": text::segments(&message.text, Counting::GsmIntl).to_string(),
                    "price": null,
                    "price_unit": "USD",
                    "sid": message.id,
                    "status": "queued",
                    "subresource_uris": {},
                    "to": message.to,
                    "uri": path,
                });
                json_answer(StatusCode::CREATED, &said)
            }
            [(_, Fared::Error(code)), ..] => by_code(code.parse().unwrap_or(20_500)),
            [(_, Fared::Throttled), ..] => by_code(20_429),
            [(_, Fared::Refused), ..] => {
                error(StatusCode::BAD_REQUEST, 21_610, "Attempt to send to unsubscribed recipient")
            }
            [(_, Fared::Failed), ..] | [] => by_code(20_500),
        }
    }

    fn receipt(&self, message: &Message, fate: Fate) -> Option<Post> {
        if message.reference.is_empty() {
            return None;
        }
        let status = if fate == Fate::Delivered { "delivered" } else { "undelivered" };
        let mut form = Serializer::new(String::new());
        form.append_pair("ApiVersion", "2010-04-01");
        form.append_pair("AccountSid", &self.account_sid);
        if fate != Fate::Delivered {
            form.append_pair("ErrorCode", "30003");
        }
        form.append_pair("From", &message.from);
        form.append_pair("MessageSid", &message.id);
        form.append_pair("MessageStatus", status);
        form.append_pair("SmsSid", &message.id);
        form.append_pair("SmsStatus", status);
        form.append_pair("To", &message.to);
        Some(self.signed(&message.reference, form.finish()))
    }

    fn reply(&self, from: &str, to: &str, text: &str) -> Option<Post> {
        let url = self.inbound.as_ref()?;
        // Twilio has a new id for each message; two recipients may say the same.
        let sid = format!("SM{}", uuid::Uuid::new_v4().simple());
        let mut form = Serializer::new(String::new());
        for (name, value) in [
            ("AccountSid", &*self.account_sid),
            ("ApiVersion", "2010-04-01"),
            ("Body", text),
            ("From", from),
            ("MessageSid", &sid),
            ("NumMedia", "0"),
            ("NumSegments", "1"),
            ("SmsMessageSid", &sid),
            ("SmsSid", &sid),
            ("SmsStatus", "received"),
            ("To", to),
        ] {
            form.append_pair(name, value);
        }
        Some(self.signed(url, form.finish()))
    }
}

/// Answers with an error as Twilio does: its code says which status it has.
pub(super) fn by_code(code: u32) -> Response<Bytes> {
    match code {
        20_003 => error(StatusCode::UNAUTHORIZED, code, "Authenticate"),
        20_005 => error(StatusCode::FORBIDDEN, code, "Account is not active"),
        20_404 => error(StatusCode::NOT_FOUND, code, "The requested resource was not found"),
        20_429 => {
            let mut slow = error(StatusCode::TOO_MANY_REQUESTS, code, "Too Many Requests");
            slow.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("1"));
            slow
        }
        20_500 => error(StatusCode::INTERNAL_SERVER_ERROR, code, "An internal server error has occurred"),
        20_503 => error(StatusCode::SERVICE_UNAVAILABLE, code, "Service unavailable"),
        _ => error(StatusCode::BAD_REQUEST, code, "As the script says"),
    }
}

pub(super) fn wrong(status: StatusCode, code: u32, message: &str) -> Wrong {
    Box::new(error(status, code, message))
}

pub(super) fn error(status: StatusCode, code: u32, message: &str) -> Response<Bytes> {
    let more_info = format!("https://www.twilio.com/docs/errors/{code}");
    json_answer(status, &json!({"code": code, "message": message, "more_info": more_info, "status": status.as_u16()}))
}

pub(super) fn json_answer(status: StatusCode, said: &serde_json::Value) -> Response<Bytes> {
    answer(status, "application/json", said.to_string())
}
