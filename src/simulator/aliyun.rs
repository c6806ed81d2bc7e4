//! Aliyun SMS, simulated: signature version 3, SendSms and SendBatchSms with their checks and errors, SmsReport and SmsUp.

use hashbrown::HashSet;
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

use super::{Fared, Message, Post, Vendor, Wrong};
use crate::channel::digest::sha256;
use crate::channel::http::{Bytes, Parts, Response, StatusCode, answer, header};
use crate::channel::sms::aliyun::VERSION;
use crate::channel::sms::aliyun::signature::Signed;
use crate::domain::event::Fate;

/// Most numbers in a request.
const SEND_MAX: usize = 1_000;
const BATCH_MAX: usize = 100;
/// Most nonces that are remembered; older ones are forgotten all at once.
const NONCES_MAX: usize = 100_000;

/// A simulated account.
#[derive(Debug)]
pub struct Aliyun {
    /// The access key.
    pub access_key_id: String,
    /// Its secret.
    pub access_key_secret: String,
    /// Where receipts and replies go; `None`: nowhere. A whole URL.
    pub callback: Option<String>,
    /// Nonces that were used.
    pub nonces: Nonces,
}

/// Nonces that were used: none may come twice.
#[derive(Debug, Default)]
pub struct Nonces(Mutex<HashSet<String>>);

// === impl Aliyun ===

impl Aliyun {
    /// Checks who asks.
    pub(super) fn authentic(&self, head: &Parts, query: &[(String, String)], body: &Bytes) -> Result<(), Wrong> {
        let of = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let authorization = of("authorization");
        let field = |name: &str| {
            let rest = authorization.split_once(&format!("{name}="))?.1;
            Some(rest.split(',').next().unwrap_or_default())
        };
        if field("Credential") != Some(&*self.access_key_id) {
            return Err(wrong(
                StatusCode::NOT_FOUND,
                "InvalidAccessKeyId.NotFound",
                "Specified access key is not found.",
            ));
        }
        let names: Vec<&str> = field("SignedHeaders").unwrap_or_default().split(';').collect();
        let unsigned =
            head.headers.keys().find(|name| name.as_str().starts_with("x-acs-") && !names.contains(&name.as_str()));
        let headers: Vec<_> = names.iter().map(|name| (*name, of(name))).collect();
        let body_hash = sha256(body);
        let signed = Signed {
            method: head.method.as_str(),
            path: head.uri.path(),
            query,
            headers: &headers,
            body_hash: &body_hash,
        };
        let good = field("Signature") == Some(&signed.sign(&self.access_key_secret).1);
        if !good || unsigned.is_some() || of("x-acs-content-sha256") != body_hash || !names.contains(&"host") {
            let what = "Specified signature is not matched with our calculation.";
            return Err(wrong(StatusCode::BAD_REQUEST, "SignatureDoesNotMatch", what));
        }
        if !self.nonces.first(of("x-acs-signature-nonce")) {
            return Err(wrong(
                StatusCode::BAD_REQUEST,
                "SignatureNonceUsed",
                "Specified signature nonce was used already.",
            ));
        }
        if of("x-acs-version") != VERSION {
            return Err(wrong(StatusCode::BAD_REQUEST, "InvalidVersion", "Specified parameter Version is not valid."));
        }
        Ok(())
    }
}

impl Vendor for Aliyun {
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong> {
        let query = form(head.uri.query().unwrap_or_default().as_bytes());
        self.authentic(head, &query, body)?;
        let is_form = head
            .headers
            .get(header::CONTENT_TYPE)
            .is_some_and(|found| found.as_bytes().starts_with(b"application/x-www-form"));
        let mut fields = query;
        if is_form {
            fields.extend(form(body));
        }
        let field = |name: &str| {
            fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let business = |code: &str| Err(Box::new(failed(StatusCode::OK, code, code)));
        let list = |name: &str| serde_json::from_str::<Vec<Value>>(field(name)).unwrap_or_default();
        let said = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let action = head.headers.get("x-acs-action").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (numbers, signs, texts, most) = match action {
            "SendSms" => {
                let numbers: Vec<String> = field("PhoneNumbers").split(',').map(str::to_owned).collect();
                let count = numbers.len();
                (
                    numbers,
                    vec![field("SignName").to_owned(); count],
                    vec![field("TemplateParam").to_owned(); count],
                    SEND_MAX,
                )
            }
            "SendBatchSms" => {
                let of = |name: &str| list(name).iter().map(said).collect::<Vec<_>>();
                (of("PhoneNumberJson"), of("SignNameJson"), of("TemplateParamJson"), BATCH_MAX)
            }
            "QuerySmsSignList" => return Err(Box::new(no_signatures())),
            _ => return Err(wrong(StatusCode::NOT_FOUND, "InvalidAction.NotFound", "Specified api is not found.")),
        };
        if numbers.len() > most {
            return business("isv.MOBILE_COUNT_OVER_LIMIT");
        }
        if numbers.len() != signs.len() || numbers.len() != texts.len() {
            return business("isv.PARAM_NOT_MATCH");
        }
        let dialable = |number: &String| {
            (5..=20).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'+')
        };
        if numbers.is_empty() || !numbers.iter().all(dialable) {
            return business("isv.MOBILE_NUMBER_ILLEGAL");
        }
        if !field("TemplateCode").starts_with("SMS_") {
            return business("isv.SMS_TEMPLATE_ILLEGAL");
        }
        if signs.iter().any(String::is_empty) {
            return business("isv.SMS_SIGNATURE_ILLEGAL");
        }
        if !texts
            .iter()
            .all(|text| text.is_empty() || serde_json::from_str::<Value>(text).is_ok_and(|value| value.is_object()))
        {
            return business("isv.INVALID_JSON_PARAM");
        }
        let biz_id = format!("{:012}^0", number());
        let reference = field("OutId").to_owned();
        let each = numbers.into_iter().zip(signs).zip(texts).map(|((to, from), text)| Message {
            id: biz_id.clone(),
            from,
            to,
            text,
            reference: reference.clone(),
        });
        Ok(each.collect())
    }

    fn is_code(&self, code: &str) -> bool {
        is_code(code)
    }

    fn together(&self) -> bool {
        true
    }

    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes> {
        match messages {
            [(message, Fared::Taken(_)), ..] => {
                let said = json!({"Message": "OK", "RequestId": request_id(), "Code": "OK", "BizId": message.id});
                answer(StatusCode::OK, "application/json;charset=utf-8", said.to_string())
            }
            [(_, Fared::Error(code)), ..] => by_code(code),
            [(_, Fared::Throttled), ..] => by_code("Throttling.User"),
            [(_, Fared::Refused), ..] => by_code("isv.BLACK_KEY_CONTROL_LIMIT"),
            [(_, Fared::Failed), ..] | [] => by_code("isp.SYSTEM_ERROR"),
        }
    }

    fn receipt(&self, message: &Message, fate: Fate) -> Option<Post> {
        let delivered = fate == Fate::Delivered;
        let said = json!([{
            "phone_number": message.to,
            "send_time": "2026-01-01 08:00:00",
            "report_time": "2026-01-01 08:00:01",
            "success": delivered,
            "err_code": if delivered { "DELIVERED" } else { "MK:0001" },
            "err_msg": if delivered { "用户接收成功" } else { "空号" },
            "sms_size": "1",
            "biz_id": message.id,
            "out_id": message.reference,
        }]);
        Some(post(self.callback.as_ref()?, &said))
    }

    fn reply(&self, from: &str, to: &str, text: &str) -> Option<Post> {
        let said = json!([{
            "phone_number": from,
            "content": text,
            "send_time": "2026-01-01 08:00:00",
            "dest_code": to,
            "sign_name": to,
            "sequence_id": uuid::Uuid::new_v4().as_u64_pair().0 >> 12,
        }]);
        Some(post(self.callback.as_ref()?, &said))
    }
}

impl Nonces {
    fn first(&self, nonce: &str) -> bool {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() >= NONCES_MAX {
            used.clear();
        }
        used.insert(nonce.to_owned())
    }
}

/// Answers which signatures there are.
fn no_signatures() -> Response<Bytes> {
    let said = json!({"Code": "OK", "Message": "OK", "RequestId": request_id(), "CurrentPage": 1, "PageSize": 1,
        "TotalCount": 0, "SmsSignList": []});
    answer(StatusCode::OK, "application/json;charset=utf-8", said.to_string())
}

pub(super) fn post(url: &str, said: &Value) -> Post {
    let headers = vec![("content-type", "application/json;charset=UTF-8".to_owned())];
    Post { url: url.to_owned(), headers, body: said.to_string() }
}

/// Returns whether a word can be an error of Aliyun's.
pub(super) fn is_code(code: &str) -> bool {
    code != "OK" && code.starts_with(|first: char| first.is_ascii_alphabetic())
}

/// Answers with an error as Aliyun does: those of the product say so in an answer that went well over HTTP, those of the
/// gateway before it by the status, too.
pub(super) fn by_code(code: &str) -> Response<Bytes> {
    match code {
        _ if code.starts_with("isv.") || code.starts_with("isp.") => failed(StatusCode::OK, code, code),
        "InternalError" => failed(StatusCode::INTERNAL_SERVER_ERROR, code, "The request has failed."),
        "ServiceUnavailable" => failed(StatusCode::SERVICE_UNAVAILABLE, code, "The request has failed."),
        "Throttling.User" => failed(StatusCode::BAD_REQUEST, code, "Request was denied due to user flow control."),
        _ => failed(StatusCode::BAD_REQUEST, code, code),
    }
}

pub(super) fn wrong(status: StatusCode, code: &str, message: &str) -> Wrong {
    Box::new(failed(status, code, message))
}

pub(super) fn failed(status: StatusCode, code: &str, message: &str) -> Response<Bytes> {
    let said = json!({"Code": code, "Message": message, "RequestId": request_id(), "HostId": "dysmsapi.aliyuncs.com"});
    answer(status, "application/json;charset=utf-8", said.to_string())
}

pub(super) fn request_id() -> String {
    uuid::Uuid::new_v4().to_string().to_uppercase()
}

pub(super) fn form(bytes: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(bytes).into_owned().collect()
}
