//! Aliyun voice (Dyvmsapi 2017-05-25): a call that says an approved template (SingleCallByTts), or that a robot leads
//! (SmartCall); how it goes comes as callbacks (VoiceReport, VoiceCallReport). Requests are signed like those of Aliyun SMS.
//! Source: help.aliyun.com/zh/vms/voicereport-7, /voicecallreport-4; the library alibabacloud_dyvmsapi20170525 5.3.0.
//!
//! The API takes no reference as long as a job's id, so a report finds its job by the cloud's id of the call: a call whose
//! answer was lost stays unresolved, and its report finds nobody.

pub mod callback;

use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::super::callback::code;
use super::super::digest::sha256;
use super::super::http::{Bytes, Request, Response, header};
use super::super::sms::aliyun::signature::{Signed, query};
use super::super::sms::aliyun::{VERSION, date, national};
use super::super::sms::cloud::{Api, Meaning, Moment, closed, foreign, not_sent, refused, throttled};
use super::super::{Answer, Handover};
use crate::config;
use crate::domain::job::Kind;

/// Longest parameters of a template, as JSON, in bytes.
const PARAM_LEN_MAX: usize = 250;

/// An account that calls.
pub struct Aliyun {
    settings: config::AliyunVoice,
}

/// What Aliyun answers, in success and in failure.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Said {
    code: Box<str>,
    #[serde(default)]
    message: Box<str>,
    call_id: Option<Box<str>>,
}

// === impl Aliyun ===

impl Aliyun {
    /// Returns the account that the settings describe.
    pub fn new(settings: config::AliyunVoice) -> Self {
        Self { settings }
    }

    /// Returns the template: what the job names where that is approved here, else the account's, with its parameters.
    fn template<'a>(&'a self, job: &'a Handover) -> (&'a str, String) {
        let text = job.template.as_ref().map_or("", |filled| &*filled.text);
        let (id, values): (_, Map<String, Value>) = match job.template_id() {
            Some(id) => (id, job.params.iter().map(|(name, value)| (name.to_string(), (&**value).into())).collect()),
            None => {
                let whole = (self.settings.text_variable.to_string(), text.into());
                (&*self.settings.template, std::iter::once(whole).collect())
            }
        };
        (id, Value::Object(values).to_string())
    }

    /// Returns the number that a call comes from; empty: one of the account's shared ones.
    fn caller<'a>(&'a self, job: &'a Handover) -> &'a str {
        if job.sender.is_empty() { &self.settings.show_number } else { &job.sender }
    }

    fn parameters(&self, job: &Handover) -> (&'static str, Vec<(String, String)>) {
        let (template, params) = self.template(job);
        let number = job.recipient.phone.as_ref().map(|phone| national(phone.digits())).unwrap_or_default();
        let (action, code, param) = match self.settings.smart {
            false => ("SingleCallByTts", "TtsCode", "TtsParam"),
            true => ("SmartCall", "VoiceCode", "VoiceCodeParam"),
        };
        let mut query = vec![("CalledNumber", number.to_owned()), (code, template.to_owned()), (param, params)];
        if !self.caller(job).is_empty() {
            query.push(("CalledShowNumber", self.caller(job).to_owned()));
        }
        if !self.settings.smart {
            query.push(("PlayTimes", self.settings.play_times.to_string()));
        }
        if self.settings.record {
            query.push(("RecordFlag", "true".to_owned()));
        }
        (action, query.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }
}

impl Api for Aliyun {
    fn check(&self, handover: &Handover) -> Result<(), Answer> {
        if handover.kind != Kind::Call || handover.template.is_none() {
            // A flow of one's own needs lines of one's own.
            return Err(refused("not_a_template"));
        }
        let (template, params) = self.template(handover);
        if handover.recipient.phone.is_none() {
            Err(refused("no_phone"))
        } else if template.is_empty() {
            Err(refused("no_template"))
        } else if params.len() > PARAM_LEN_MAX {
            Err(refused("text_length"))
        } else {
            Ok(())
        }
    }

    fn request(&self, jobs: &[Handover], moment: Moment) -> Result<Request<Bytes>, Answer> {
        let [job] = jobs else { return Err(not_sent("not_one_job")) };
        let (action, parameters) = self.parameters(job);
        let endpoint = &self.settings.api.endpoint;
        let (host, date, nonce) = (endpoint.authority(), date(moment), moment.nonce.simple().to_string());
        let (path, body_hash) = (format!("{}/", endpoint.path()), sha256(b""));
        let headers = [
            ("host", &*host),
            ("x-acs-action", action),
            ("x-acs-version", VERSION),
            ("x-acs-date", &date),
            ("x-acs-signature-nonce", &nonce),
            ("x-acs-content-sha256", &body_hash),
        ];
        let signed =
            Signed { method: "POST", path: &path, query: &parameters, headers: &headers, body_hash: &body_hash };
        let secret = self.settings.access_key_secret.reveal();
        let authorization = signed.authorization(&self.settings.access_key_id, secret);
        let request = Request::post(format!("{path}?{}", query(&parameters)));
        headers
            .iter()
            .fold(request, |request, (name, value)| request.header(*name, *value))
            .header(header::AUTHORIZATION, authorization)
            .header(header::ACCEPT, "application/json")
            .body(Bytes::new())
            .map_err(|_| not_sent("no_request"))
    }

    fn read(&self, _jobs: &[Handover], answer: &Response<Bytes>) -> Meaning {
        let Ok(said) = serde_json::from_slice::<Said>(answer.body()) else { return Meaning::All(foreign(answer)) };
        Meaning::All(match (&*said.code, said.call_id) {
            ("OK", Some(call)) if !call.is_empty() => {
                Answer::Taken { message_ids: vec![call], segments: 1, receipt_expected: true }
            }
            ("OK", Some(_) | None) => Answer::NoAnswer,
            (found, _) => refusal(found, &said.message, answer),
        })
    }
}

impl fmt::Debug for Aliyun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aliyun").field("template", &self.settings.template).finish_non_exhaustive()
    }
}

/// Returns what an error code means (help.aliyun.com/document_detail/112804.htm): a number may be called once a minute, five
/// times an hour and twenty times a day.
fn refusal(found: &str, message: &str, answer: &Response<Bytes>) -> Answer {
    match found {
        "isv.BUSINESS_LIMIT_CONTROL" => {
            Answer::NotSent { code: code(found), retry_after: Some(super::super::sms::aliyun::window(message)) }
        }
        found if found.starts_with("Throttling") => throttled(answer),
        "isv.AMOUNT_NOT_ENOUGH"
        | "isv.OUT_OF_SERVICE"
        | "isv.ACCOUNT_ABNORMAL"
        | "isv.ACCOUNT_NOT_EXISTS"
        | "isp.RAM_PERMISSION_DENY"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "SignatureNonceUsed" => closed(code(found)),
        found
            if ["InvalidAccessKeyId", "InvalidTimeStamp", "Forbidden", "NoPermission"]
                .iter()
                .any(|start| found.starts_with(start)) =>
        {
            closed(code(found))
        }
        // Something broke, and nobody knows when.
        "isp.SYSTEM_ERROR" | "InternalError" | "ServiceUnavailable" | "UnknownError" => Answer::NoAnswer,
        found => refused(code(found)),
    }
}
