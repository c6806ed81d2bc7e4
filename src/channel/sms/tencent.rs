//! Tencent Cloud SMS (API 2021-01-11): SendSms with up to 200 numbers, signed, with a result for each; receipts and
//! replies come as callbacks. Source: cloud.tencent.com/document/api/382/55981, /document/product/382/59177 and /59178.
//!
//! A text goes through one approved template, whose parameters all numbers of a request share: jobs join a batch when
//! signature and parameters are equal, and all numbers are of mainland China, or none is.

pub mod callback;
pub mod signature;

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use self::signature::Signed;
use super::super::callback::code;
use super::super::http::{Bytes, Request, Response, header};
use super::super::login::Login;
use super::super::{Answer, Handover, Opens};
use super::cloud::{
    Api, CHINA, Meaning, Moment, closed, foreign, not_sent, refused, signed_segments, stranger, throttled,
};
use crate::config;
use crate::domain::job::Content;

/// The version of the API.
pub const VERSION: &str = "2021-01-11";
const JSON: &str = "application/json; charset=utf-8";
/// Longest text with its signature, in characters.
const TEXT_MAX: usize = 500;
/// Mainland China.
const MAINLAND: &str = "+86";

/// An account that sends texts.
pub struct Tencent {
    settings: config::Tencent,
    receipts: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    response: Outer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Outer {
    error: Option<Failed>,
    send_status_set: Option<Vec<Status>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failed {
    code: Box<str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    serial_no: Box<str>,
    phone_number: Box<str>,
    fee: u64,
    code: Box<str>,
}

// === impl Tencent ===

impl Tencent {
    /// Returns the account that the settings describe. `receipts`: whether its receipts come.
    pub fn new(settings: config::Tencent, receipts: bool) -> Self {
        Self { settings, receipts }
    }

    fn sign_name<'a>(&'a self, job: &'a Handover) -> &'a str {
        if job.sender.is_empty() { &self.settings.sign_name } else { &job.sender }
    }

    /// Returns the template: what the job names where that is approved here, else the account's.
    fn template<'a>(&'a self, job: &'a Handover) -> &'a str {
        job.template_id().unwrap_or(&self.settings.template)
    }

    /// Returns the template's parameters, in order; `None` when the job lacks one. Those of a stored template are its
    /// variables, in its order.
    fn parameters<'a>(&self, job: &'a Handover) -> Option<Vec<&'a str>> {
        let Content::Text(text) = &job.content else { return None };
        if job.template_id().is_some() {
            return Some(job.params.iter().map(|(_, value)| &**value).collect());
        }
        if self.settings.parameters.is_empty() {
            return Some(vec![text]);
        }
        let value = |wanted: &str| job.params.iter().find(|(name, _)| **name == *wanted).map(|(_, value)| &**value);
        self.settings.parameters.iter().map(|name| value(name)).collect()
    }

    /// Returns the signed request for an action.
    fn signed(&self, action: &str, said: &Value, moment: Moment) -> Option<Request<Bytes>> {
        let body = said.to_string();
        let host = self.settings.api.endpoint.authority();
        let headers = [("content-type", JSON), ("host", &*host), ("x-tc-action", &*action.to_lowercase())];
        let signed = Signed { service: "sms", headers: &headers, body: body.as_bytes(), at: moment.now };
        Request::post(format!("{}/", self.settings.api.endpoint.path()))
            .header(
                header::AUTHORIZATION,
                signed.authorization(&self.settings.secret_id, self.settings.secret_key.reveal()),
            )
            .header(header::CONTENT_TYPE, JSON)
            .header(header::HOST, &*host)
            .header("x-tc-action", action)
            .header("x-tc-version", VERSION)
            .header("x-tc-timestamp", moment.now.as_secs().to_string())
            .header("x-tc-region", &*self.settings.region)
            .body(body.into())
            .ok()
    }

    fn answer(&self, status: &Status, whole: &Response<Bytes>) -> Answer {
        match &*status.code {
            "Ok" => Answer::Taken {
                message_ids: vec![status.serial_no.clone()],
                segments: u8::try_from(status.fee).unwrap_or(u8::MAX).max(1),
                receipt_expected: self.receipts,
            },
            found => refusal(found, whole),
        }
    }
}

impl Api for Tencent {
    fn batch_max(&self) -> usize {
        self.settings.batch_max.get() as usize
    }

    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        let Content::Text(text) = &handover.content else { return Err(refused("not_a_text")) };
        if handover.recipient.phone.is_none() {
            Err(refused("no_phone"))
        } else if text.is_empty() || text.chars().count() + self.sign_name(handover).chars().count() + 2 > TEXT_MAX {
            Err(refused("text_length"))
        } else if self.parameters(handover).is_none() {
            Err(refused("parameter_missing"))
        } else {
            Ok(())
        }
    }

    fn joins(&self, batch: &[Handover], handover: &Handover) -> bool {
        let Some(first) = batch.first() else { return false };
        self.sign_name(first) == self.sign_name(handover)
            && self.template(first) == self.template(handover)
            && self.parameters(first) == self.parameters(handover)
            && first.extension == handover.extension
            && is_mainland(first) == is_mainland(handover)
            && batch.iter().all(|job| job.recipient.phone != handover.recipient.phone)
    }

    fn segments(&self, handover: &Handover) -> u32 {
        signed_segments(handover, self.sign_name(handover))
    }

    fn request(&self, jobs: &[Handover], moment: Moment) -> Result<Request<Bytes>, Answer> {
        let Some(first) = jobs.first() else { return Err(not_sent("no_job")) };
        let numbers: Vec<_> = jobs.iter().map(phone).collect();
        let mut said = json!({
            "PhoneNumberSet": numbers,
            "SmsSdkAppId": self.settings.app_id,
            "TemplateId": self.template(first),
            "SignName": self.sign_name(first),
            "TemplateParamSet": self.parameters(first).unwrap_or_default(),
        });
        if let Some(code) = &first.extension {
            said["ExtendCode"] = (**code).into();
        }
        if let [job] = jobs {
            said["SessionContext"] = job.job.to_string().into();
        }
        self.signed("SendSms", &said, moment).ok_or_else(|| not_sent("no_request"))
    }

    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        let Ok(said) = serde_json::from_slice::<Said>(answer.body()) else { return Meaning::All(foreign(answer)) };
        match said.response {
            Outer { error: Some(Failed { code }), .. } => match refusal(&code, answer) {
                // Of many jobs, one is to blame.
                Answer::Refused { .. } if jobs.len() > 1 => Meaning::Alone,
                one => Meaning::All(one),
            },
            Outer { send_status_set: Some(each), .. } => {
                let of = |job: &Handover| each.iter().find(|status| *status.phone_number == *phone(job));
                let answer_to = |job| of(job).map_or(Answer::NoAnswer, |status| self.answer(status, answer));
                Meaning::Each(jobs.iter().map(answer_to).collect())
            }
            Outer { .. } => Meaning::All(Answer::NoAnswer),
        }
    }

    /// How many texts went out in this hour (cloud.tencent.com/document/api/382/55965).
    fn question(&self, moment: Moment) -> Option<Request<Bytes>> {
        let hour = jiff::Timestamp::from_second(moment.now.as_secs()).ok()?;
        let hour = jiff::tz::Offset::constant(8).to_datetime(hour).strftime("%Y%m%d%H").to_string();
        let said = json!({
            "BeginTime": hour, "EndTime": hour, "SmsSdkAppId": self.settings.app_id, "Limit": 0, "Offset": 0,
        });
        self.signed("SendStatusStatistics", &said, moment)
    }

    fn admitted(&self, answer: &Response<Bytes>) -> Login {
        let Ok(Said { response }) = serde_json::from_slice(answer.body()) else { return stranger(answer) };
        let Some(Failed { code }) = response.error else { return Login::Good };
        match code.split_once('.').map_or(&*code, |(group, _)| group) {
            // The key may be one that may send and not ask.
            _ if &*code == "AuthFailure.UnauthorizedOperation" => Login::Known(code),
            "AuthFailure" | "UnauthorizedOperation" | "InvalidParameter" | "InvalidParameterValue" => {
                Login::Refused(code)
            }
            "InternalError" => Login::Unreachable(code),
            _ => Login::Known(code),
        }
    }
}

impl fmt::Debug for Tencent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tencent").field("template", &self.settings.template).finish_non_exhaustive()
    }
}

/// Returns what an error code means, of a request or of a number (cloud.tencent.com/document/api/382/55981).
fn refusal(found: &str, answer: &Response<Bytes>) -> Answer {
    let (group, detail) = found.split_once('.').unwrap_or((found, ""));
    let short = || code(if detail.is_empty() { group } else { detail });
    let later = |seconds| Answer::NotSent { code: short(), retry_after: Some(Duration::from_secs(seconds)) };
    match (group, detail) {
        ("RequestLimitExceeded", _) => throttled(answer),
        ("LimitExceeded", "PhoneNumberThirtySecondLimit") => later(30),
        ("LimitExceeded", "DeliveryFrequencyLimit") => later(60),
        ("LimitExceeded", "PhoneNumberOneHourLimit") => later(3_600),
        ("LimitExceeded", "PhoneNumberDailyLimit" | "PhoneNumberSameContentDailyLimit") => later(24 * 3_600),
        ("LimitExceeded", "AppDailyLimit" | "DailyLimit") => {
            Answer::Closed { code: short(), opens: Opens::NextDay { ahead: CHINA } }
        }
        // Numbers of one country may have had their day while others go on.
        ("LimitExceeded", "AppMainlandChinaDailyLimit" | "AppCountryOrRegionDailyLimit" | "AppGlobalDailyLimit") => {
            not_sent(short())
        }
        ("FailedOperation", "MarketingSendTimeConstraint") => later(3_600),
        ("FailedOperation", "InsufficientBalanceInSmsPackage") | ("UnauthorizedOperation" | "AuthFailure", _) => {
            closed(short())
        }
        // Something broke, and nobody knows when.
        ("InternalError", _) => Answer::NoAnswer,
        _ => refused(short()),
    }
}

fn phone(job: &Handover) -> &str {
    job.recipient.phone.as_ref().map_or("", |phone| phone.as_str())
}

fn is_mainland(job: &Handover) -> bool {
    phone(job).starts_with(MAINLAND)
}

#[cfg(test)]
mod tests;
