//! Aliyun SMS (Dysmsapi 2017-05-25): one text by SendSms, many by SendBatchSms, signed; receipts (SmsReport) and replies
//! (SmsUp) come as callbacks. Source: help.aliyun.com/document_detail/419273.html, 419274.html, 101346.html, 101867.html.
//!
//! A text goes through one approved template. A job that goes alone carries its id as `OutId`, which its receipt brings
//! back, even when the answer was lost. The jobs of a batch share one `BizId`, so their receipts are told apart by it and
//! a short hash of the number; two numbers with the same hash never share a batch.

pub mod callback;
pub mod signature;

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value};

use self::signature::{Signed, query};
use super::super::callback::code;
use super::super::digest::sha256;
use super::super::http::{Bytes, Request, Response, header};
use super::super::login::Login;
use super::super::{Answer, Handover, Opens};
use super::cloud::{
    Api, CHINA, Meaning, Moment, closed, foreign, not_sent, refused, signed_segments, stranger, throttled,
};
use crate::config;
use crate::domain::job::Content;
use crate::domain::recipient::Msisdn;

/// The version of the API.
pub const VERSION: &str = "2017-05-25";
const FORM: &str = "application/x-www-form-urlencoded";
/// Longest text with its signature, in characters (help.aliyun.com/document_detail/44335.htm).
const TEXT_MAX: usize = 500;

/// An account that sends texts.
pub struct Aliyun {
    settings: config::Aliyun,
    receipts: bool,
}

/// What Aliyun answers, in success and in failure.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    code: Box<str>,
    #[serde(default)]
    message: Box<str>,
    biz_id: Option<Box<str>>,
}

// === impl Aliyun ===

impl Aliyun {
    /// Returns the account that the settings describe. `receipts`: whether its receipts come.
    pub fn new(settings: config::Aliyun, receipts: bool) -> Self {
        Self { settings, receipts }
    }

    fn sign_name<'a>(&'a self, job: &'a Handover) -> &'a str {
        if job.sender.is_empty() { &self.settings.sign_name } else { &job.sender }
    }

    /// Returns the template: what the job names where that is approved here, else the account's.
    fn template<'a>(&'a self, job: &'a Handover) -> &'a str {
        job.template_id().unwrap_or(&self.settings.template)
    }

    /// Returns the template's variables.
    fn variables(&self, job: &Handover) -> Value {
        let text = match &job.content {
            Content::Text(text) => &**text,
            Content::Template { .. } | Content::Call { .. } => "",
        };
        let variables: Map<String, Value> = if self.settings.text_variable.is_empty() || job.template_id().is_some() {
            job.params.iter().map(|(name, value)| (name.to_string(), Value::from(&**value))).collect()
        } else {
            [(self.settings.text_variable.to_string(), Value::from(text))].into_iter().collect()
        };
        Value::Object(variables)
    }

    /// Returns the action, and its parameters in the query and in the body.
    fn parameters(&self, jobs: &[Handover]) -> (&'static str, Vec<(String, String)>, String) {
        let number = |job: &Handover| job.recipient.phone.as_ref().map(written).unwrap_or_default();
        let code = jobs.first().map_or("", |job| self.template(job));
        let template = ("TemplateCode".to_owned(), code.to_owned());
        if let [job] = jobs {
            let query = vec![
                ("OutId".to_owned(), job.job.to_string()),
                ("PhoneNumbers".to_owned(), number(job)),
                ("SignName".to_owned(), self.sign_name(job).to_owned()),
                template,
                ("TemplateParam".to_owned(), self.variables(job).to_string()),
            ];
            let extended = job.extension.iter().map(|code| ("SmsUpExtendCode".to_owned(), code.to_string()));
            let query = query.into_iter().chain(extended).collect();
            return ("SendSms", query, String::new());
        }
        let list = |each: &dyn Fn(&Handover) -> Value| Value::Array(jobs.iter().map(each).collect()).to_string();
        let body = [
            ("PhoneNumberJson".to_owned(), list(&|job| number(job).into())),
            ("SignNameJson".to_owned(), list(&|job| self.sign_name(job).into())),
            ("TemplateParamJson".to_owned(), list(&|job| self.variables(job))),
        ];
        let extended = jobs.iter().all(|job| job.extension.is_some());
        let codes = || ("SmsUpExtendCodeJson".to_owned(), list(&|job| job.extension.as_deref().into()));
        let body: Vec<_> = body.into_iter().chain(extended.then(codes)).collect();
        ("SendBatchSms", vec![template], query(&body))
    }

    /// Returns the signed request for an action.
    fn signed(
        &self,
        (action, parameters, body): (&str, Vec<(String, String)>, String),
        moment: Moment,
    ) -> Option<Request<Bytes>> {
        let endpoint = &self.settings.api.endpoint;
        let (host, date) = (endpoint.authority(), date(moment));
        let (nonce, body_hash) = (moment.nonce.simple().to_string(), sha256(body.as_bytes()));
        let path = format!("{}/", endpoint.path());
        let mut headers = vec![
            ("host", &*host),
            ("x-acs-action", action),
            ("x-acs-version", VERSION),
            ("x-acs-date", &date),
            ("x-acs-signature-nonce", &nonce),
            ("x-acs-content-sha256", &body_hash),
        ];
        if !body.is_empty() {
            headers.push(("content-type", FORM));
        }
        let signed =
            Signed { method: "POST", path: &path, query: &parameters, headers: &headers, body_hash: &body_hash };
        let secret = self.settings.access_key_secret.reveal();
        let authorization = signed.authorization(&self.settings.access_key_id, secret);
        let request =
            headers.iter().fold(Request::post(format!("{path}?{}", query(&parameters))), |request, header| {
                request.header(header.0, header.1)
            });
        request
            .header(header::AUTHORIZATION, authorization)
            .header(header::ACCEPT, "application/json")
            .body(body.into())
            .ok()
    }

    fn taken(&self, jobs: &[Handover], biz_id: &str) -> Meaning {
        let alone = jobs.len() == 1;
        let each = jobs.iter().map(|job| {
            let phone = job.recipient.phone.as_ref();
            let id = if alone { biz_id.into() } else { message_id(biz_id, phone.map_or("", |phone| phone.digits())) };
            Answer::Taken {
                message_ids: vec![id],
                segments: u8::try_from(self.segments(job)).unwrap_or(u8::MAX),
                receipt_expected: self.receipts,
            }
        });
        Meaning::Each(each.collect())
    }
}

impl Api for Aliyun {
    fn batch_max(&self) -> usize {
        self.settings.batch_max.get() as usize
    }

    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        let Content::Text(text) = &handover.content else { return Err(refused("not_a_text")) };
        if handover.recipient.phone.is_none() {
            Err(refused("no_phone"))
        } else if self.sign_name(handover).is_empty() {
            Err(refused("no_sender"))
        } else if text.is_empty() || text.chars().count() + self.sign_name(handover).chars().count() + 2 > TEXT_MAX {
            Err(refused("text_length"))
        } else {
            Ok(())
        }
    }

    fn joins(&self, batch: &[Handover], handover: &Handover) -> bool {
        let tag_of = |job: &Handover| job.recipient.phone.as_ref().map(|phone| tag(phone.digits()));
        let own = tag_of(handover);
        let extended = handover.extension.is_some();
        let joins = |job: &Handover| tag_of(job) != own && self.template(job) == self.template(handover);
        batch.iter().all(|job| joins(job) && job.extension.is_some() == extended)
    }

    fn segments(&self, handover: &Handover) -> u32 {
        signed_segments(handover, self.sign_name(handover))
    }

    fn request(&self, jobs: &[Handover], moment: Moment) -> Result<Request<Bytes>, Answer> {
        self.signed(self.parameters(jobs), moment).ok_or_else(|| not_sent("no_request"))
    }

    fn read(&self, jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        let Ok(said) = serde_json::from_slice::<Said>(answer.body()) else { return Meaning::All(foreign(answer)) };
        match (&*said.code, said.biz_id) {
            ("OK", Some(biz_id)) => self.taken(jobs, &biz_id),
            ("OK", None) => Meaning::All(Answer::NoAnswer),
            (found, _) => match refusal(found, &said.message, answer) {
                // Of many jobs, one is to blame.
                Answer::Refused { .. } if jobs.len() > 1 => Meaning::Alone,
                _ if jobs.len() > 1 && found == FREQUENCY => Meaning::Alone,
                one => Meaning::All(one),
            },
        }
    }

    /// The first of the account's signatures.
    fn question(&self, moment: Moment) -> Option<Request<Bytes>> {
        let page = ["PageIndex", "PageSize"].map(|name| (name.to_owned(), "1".to_owned()));
        self.signed(("QuerySmsSignList", page.to_vec(), String::new()), moment)
    }

    fn admitted(&self, answer: &Response<Bytes>) -> Login {
        let Ok(said) = serde_json::from_slice::<Said>(answer.body()) else { return stranger(answer) };
        match &*said.code {
            "OK" => Login::Good,
            // The key may be one that may send and not ask.
            "isp.RAM_PERMISSION_DENY" | "NoPermission" | "Forbidden.RAM" => Login::Known(said.code),
            found if found.starts_with("Throttling") => Login::Known(said.code),
            _ if answer.status().is_server_error() => stranger(answer),
            _ => Login::Refused(said.code),
        }
    }
}

impl fmt::Debug for Aliyun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aliyun").field("template", &self.settings.template).finish_non_exhaustive()
    }
}

/// Too many texts to one number.
const FREQUENCY: &str = "isv.BUSINESS_LIMIT_CONTROL";

/// Returns what an error code means (help.aliyun.com/document_detail/101346.html).
fn refusal(found: &str, message: &str, answer: &Response<Bytes>) -> Answer {
    let account = || closed(code(found));
    let until = |opens| Answer::Closed { code: code(found), opens };
    match found {
        FREQUENCY => Answer::NotSent { code: code(found), retry_after: Some(window(message)) },
        "isv.DAY_LIMIT_CONTROL" => until(Opens::NextDay { ahead: CHINA }),
        "isv.MONTH_LIMIT_CONTROL" => until(Opens::NextMonth { ahead: CHINA }),
        "isv.AMOUNT_NOT_ENOUGH"
        | "isv.OUT_OF_SERVICE"
        | "isv.ACCOUNT_ABNORMAL"
        | "isv.ACCOUNT_NOT_EXISTS"
        | "isv.DENY_IP_RANGE"
        | "isv.PRODUCT_UN_SUBSCRIPT"
        | "isv.PRODUCT_UNSUBSCRIBE"
        | "isp.RAM_PERMISSION_DENY"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "SignatureNonceUsed" => account(),
        found if found.starts_with("Throttling") => throttled(answer),
        found
            if ["InvalidAccessKeyId", "InvalidTimeStamp", "Forbidden", "NoPermission"]
                .iter()
                .any(|start| found.starts_with(start)) =>
        {
            account()
        }
        // Something broke, and nobody knows when.
        "isp.SYSTEM_ERROR" | "InternalError" | "ServiceUnavailable" | "UnknownError" => Answer::NoAnswer,
        found => refused(code(found)),
    }
}

/// Returns how long the window is that is full for a number, which the message says: of a minute, an hour or a day.
pub(in crate::channel) fn window(message: &str) -> Duration {
    let says = |words: [&str; 2]| words.iter().any(|word| message.contains(word));
    Duration::from_secs(if says(["分钟", "inute"]) {
        60
    } else if says(["小时", "our"]) {
        3_600
    } else {
        24 * 3_600
    })
}

/// Returns a number as the API wants it: without the country code for mainland China, else with it, never with `+`.
fn written(phone: &Msisdn) -> String {
    national(phone.digits()).to_owned()
}

/// Returns a number as receipts may or may not write it, in one form.
pub(in crate::channel) fn national(digits: &str) -> &str {
    let mainland = digits.strip_prefix("86").filter(|rest| rest.len() == 11 && rest.starts_with('1'));
    mainland.unwrap_or(digits)
}

/// Returns the id of a batch's message to a number.
pub(super) fn message_id(biz_id: &str, digits: &str) -> Box<str> {
    format!("{biz_id}/{}", tag(digits)).into()
}

/// Returns 20 bits of a hash: enough to tell the numbers of a batch apart, too few to tell whose number it is.
fn tag(digits: &str) -> String {
    let digits = digits.trim_start_matches('+').trim_start_matches("00");
    sha256(national(digits).as_bytes())[..5].to_owned()
}

pub(in crate::channel) fn date(moment: Moment) -> String {
    jiff::Timestamp::from_second(moment.now.as_secs()).map(|time| time.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
