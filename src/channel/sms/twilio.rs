//! Twilio Messages (API 2010-04-01): one text a request, basic authentication, form encoded; receipts and replies come as
//! signed callbacks. Source: twilio.com/docs/messaging/api/message-resource and /docs/usage/security.
//!
//! The status callback carries the job's id in its URL, so a receipt finds its job even when the answer was lost.

pub mod callback;
pub mod signature;

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use form_urlencoded::Serializer;
use serde::Deserialize;

use super::super::http::{Bytes, Request, Response, StatusCode, header};
use super::super::login::Login;
use super::super::{Answer, Handover};
use super::cloud::{Api, Meaning, Moment, closed, foreign, not_sent, refused, segments, stranger, throttled};
use crate::config;
use crate::domain::job::Content;

/// Longest text, in characters.
const TEXT_MAX: usize = 1_600;
/// Longest time that Twilio may try, in seconds.
const VALIDITY_MAX: u64 = 36_000;
/// How the id of a messaging service begins, which may stand for a sender.
const SERVICE: &str = "MG";

/// An account that sends messages.
pub struct Twilio {
    /// The account's path, without an ending.
    account: Box<str>,
    path: Box<str>,
    authorization: Box<str>,
    sender: Box<str>,
    /// Where receipts go, without the job; `None`: none are asked for.
    callback: Option<Box<str>>,
}

/// What Twilio answers, as far as it matters.
#[derive(Deserialize)]
struct Message {
    sid: Option<Box<str>>,
    status: Option<serde_json::Value>,
    /// Of a refused request.
    code: Option<u32>,
    /// Of a message that failed at once.
    error_code: Option<u32>,
    num_segments: Option<Box<str>>,
}

// === impl Twilio ===

impl Twilio {
    /// Returns the account that the settings describe. `callback`: where its callbacks come, if receipts are wanted.
    pub fn new(settings: &config::Twilio, callback: Option<&str>) -> Self {
        let account = format!("{}/2010-04-01/Accounts/{}", settings.api.endpoint.path(), settings.account_sid);
        Self {
            path: format!("{account}/Messages.json").into(),
            account: account.into(),
            authorization: authorization(settings).into(),
            sender: settings.sender.clone(),
            callback: callback.map(Into::into),
        }
    }

    fn sender<'a>(&'a self, handover: &'a Handover) -> &'a str {
        let named = if handover.sender.is_empty() { &self.sender } else { &handover.sender };
        handover.extension.as_ref().unwrap_or(named)
    }
}

impl Api for Twilio {
    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        let Content::Text(text) = &handover.content else { return Err(refused("not_a_text")) };
        if handover.recipient.phone.is_none() {
            Err(refused("no_phone"))
        } else if self.sender(handover).is_empty() {
            Err(refused("no_sender"))
        } else if text.is_empty() || text.chars().count() > TEXT_MAX {
            Err(refused("text_length"))
        } else {
            Ok(())
        }
    }

    fn segments(&self, handover: &Handover) -> u32 {
        segments(handover)
    }

    fn request(&self, jobs: &[Handover], _moment: Moment) -> Result<Request<Bytes>, Answer> {
        let [job] = jobs else { return Err(not_sent("not_one_job")) };
        let (Content::Text(text), Some(phone)) = (&job.content, &job.recipient.phone) else {
            return Err(refused("not_a_text"));
        };
        let sender = self.sender(job);
        let mut form = Serializer::new(String::new());
        form.append_pair("To", phone.as_str());
        form.append_pair(if is_service(sender) { "MessagingServiceSid" } else { "From" }, sender);
        form.append_pair("Body", text);
        form.append_pair("ValidityPeriod", &validity(job.validity).to_string());
        if let Some(callback) = &self.callback {
            form.append_pair("StatusCallback", &format!("{callback}?job={}", job.job));
        }
        Request::post(&*self.path)
            .header(header::AUTHORIZATION, &*self.authorization)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form.finish().into())
            .map_err(|_| not_sent("no_request"))
    }

    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        let Ok(message) = serde_json::from_slice::<Message>(answer.body()) else {
            return Meaning::All(foreign(answer));
        };
        let counted = || jobs.first().map_or(1, |job| u8::try_from(segments(job)).unwrap_or(u8::MAX));
        Meaning::All(match (answer.status(), message) {
            (status, Message { sid: Some(sid), status: state, error_code, num_segments, .. })
                if status.is_success() =>
            {
                match state.as_ref().and_then(serde_json::Value::as_str) {
                    Some("failed" | "undelivered" | "canceled") => refused(code(error_code)),
                    _ => Answer::Taken {
                        message_ids: vec![sid],
                        segments: num_segments.and_then(|count| count.parse().ok()).unwrap_or_else(counted).max(1),
                        receipt_expected: self.callback.is_some(),
                    },
                }
            }
            (StatusCode::TOO_MANY_REQUESTS, _) => throttled(answer),
            (status, Message { code: Some(number), .. }) if status.is_client_error() => refusal(number, answer),
            _ => foreign(answer),
        })
    }

    /// The account itself (twilio.com/docs/iam/api/account).
    fn question(&self, _moment: Moment) -> Option<Request<Bytes>> {
        let request = Request::get(format!("{}.json", self.account));
        request.header(header::AUTHORIZATION, &*self.authorization).body(Bytes::new()).ok()
    }

    fn admitted(&self, answer: &Response<Bytes>) -> Login {
        let said = serde_json::from_slice::<Message>(answer.body()).ok();
        match (answer.status(), said) {
            (StatusCode::TOO_MANY_REQUESTS, _) => Login::Known("too many requests".into()),
            (status, Some(said)) if status.is_success() => {
                match said.status.as_ref().and_then(|status| status.as_str()) {
                    Some("active") => Login::Good,
                    Some(state) => Login::Refused(format!("the account is {state}").into()),
                    None => stranger(answer),
                }
            }
            (status, Some(Message { code: Some(number), .. })) if status.is_client_error() => {
                Login::Refused(number.to_string().into())
            }
            _ => stranger(answer),
        }
    }
}

impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the authorization: this ends in logs.
        f.debug_struct("Twilio").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Returns what requests of an account are authorized with.
pub(in crate::channel) fn authorization(account: &config::Twilio) -> String {
    let pair = format!("{}:{}", account.account_sid, account.auth_token.reveal());
    format!("Basic {}", STANDARD.encode(pair))
}

/// Returns what an error code of the API means (twilio.com/docs/api/errors).
pub(in crate::channel) fn refusal(number: u32, answer: &Response<Bytes>) -> Answer {
    match number {
        // Too many requests; the queue of the sender is full; the rate of the account.
        20_429 | 21_611 | 14_107 => throttled(answer),
        // Authentication, a suspended or unknown account, a permission of the key: not the job's fault.
        20_001..=20_010 | 20_403 | 20_404 => closed(number.to_string()),
        number => refused(number.to_string()),
    }
}

fn code(number: Option<u32>) -> String {
    number.map_or_else(|| "failed".to_owned(), |number| number.to_string())
}

fn is_service(sender: &str) -> bool {
    sender.len() == 34 && sender.starts_with(SERVICE)
}

fn validity(validity: Duration) -> u64 {
    validity.as_secs().clamp(1, VALIDITY_MAX)
}

#[cfg(test)]
mod tests;
