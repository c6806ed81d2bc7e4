//! Tencent Cloud SMS, simulated: TC3 signatures, SendSms with a result for each number, receipts and replies.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Fared, Message, Post, Vendor, Wrong};
use crate::channel::http::{Bytes, Parts, Response, StatusCode, answer};
use crate::channel::sms::tencent::VERSION;
use crate::channel::sms::tencent::signature::Signed;
use crate::domain::event::Fate;
use crate::domain::time::UnixMicros;

/// Most numbers in a request.
const NUMBERS_MAX: usize = 200;

/// A simulated account.
#[derive(Clone, Debug)]
pub struct Tencent {
    /// The key.
    pub secret_id: String,
    /// Its secret.
    pub secret_key: String,
    /// The application.
    pub app_id: String,
    /// Where receipts and replies go; `None`: nowhere. A whole URL.
    pub callback: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendSms {
    phone_number_set: Vec<String>,
    sms_sdk_app_id: String,
    template_id: String,
    #[serde(default)]
    sign_name: String,
    #[serde(default)]
    template_param_set: Vec<String>,
    #[serde(default)]
    session_context: String,
}

// === impl Tencent ===

impl Tencent {
    /// Checks who asks.
    fn authentic(&self, head: &Parts, body: &Bytes) -> Result<(), Wrong> {
        let of = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let authorization = of("authorization");
        let field = |name: &str| {
            let rest = authorization.split_once(&format!("{name}="))?.1;
            Some(rest.split(',').next().unwrap_or_default())
        };
        let credential = field("Credential").unwrap_or_default();
        if credential.split('/').next() != Some(&*self.secret_id) {
            return Err(wrong("AuthFailure.SecretIdNotFound", "The SecretId is not found."));
        }
        let names: Vec<&str> = field("SignedHeaders").unwrap_or_default().split(';').collect();
        let lower: Vec<String> = names.iter().map(|name| of(name).to_ascii_lowercase()).collect();
        let headers: Vec<_> = names.iter().copied().zip(lower.iter().map(String::as_str)).collect();
        let seconds = of("x-tc-timestamp").parse().unwrap_or(0);
        let signed = Signed { service: "sms", headers: &headers, body, at: UnixMicros::from_secs(seconds) };
        let expected = signed.authorization(&self.secret_id, &self.secret_key);
        let tail = |text: &str| text.rsplit_once("Signature=").map(|(_, signature)| signature.to_owned());
        if tail(&expected) != tail(authorization) || !names.contains(&"host") || !names.contains(&"content-type") {
            return Err(wrong("AuthFailure.SignatureFailure", "The provided credentials could not be validated."));
        }
        Ok(())
    }

    /// Answers how much was sent.
    fn statistics(&self, body: &Bytes) -> Response<Bytes> {
        let asked = serde_json::from_slice::<Value>(body).unwrap_or_default();
        if asked["SmsSdkAppId"] != *self.app_id {
            return *wrong("UnauthorizedOperation.SmsSdkAppIdVerifyFail", "SmsSdkAppId verification failed.");
        }
        let counted = json!({"FeeCount": 0, "RequestCount": 0, "RequestSuccessCount": 0});
        respond(&json!({"SendStatusStatistics": counted, "RequestId": uuid::Uuid::new_v4().to_string()}))
    }
}

impl Vendor for Tencent {
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong> {
        self.authentic(head, body)?;
        let of = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if of("x-tc-version") != VERSION {
            return Err(wrong("NoSuchVersion", "The Version is not found."));
        }
        match of("x-tc-action") {
            "SendSms" => {}
            "SendStatusStatistics" => return Err(Box::new(self.statistics(body))),
            _ => return Err(wrong("InvalidAction", "The Action is not found.")),
        }
        let Ok(asked) = serde_json::from_slice::<SendSms>(body) else {
            return Err(wrong("InvalidParameter", "The parameters are wrong."));
        };
        if asked.sms_sdk_app_id != self.app_id {
            return Err(wrong("UnauthorizedOperation.SmsSdkAppIdVerifyFail", "SmsSdkAppId verification failed."));
        }
        if asked.template_id.parse::<u64>().is_err() {
            return Err(wrong("FailedOperation.TemplateIncorrectOrUnapproved", "The template is not approved."));
        }
        let mainland = asked.phone_number_set.iter().filter(|number| number.starts_with("+86")).count();
        let count = asked.phone_number_set.len();
        if count == 0 || count > NUMBERS_MAX {
            return Err(wrong("LimitExceeded.PhoneNumberCountLimit", "Too many numbers, or none."));
        }
        if mainland != 0 && mainland != count {
            return Err(wrong("UnsupportedOperation.ContainDomesticAndInternationalPhoneNumber", "Mixed numbers."));
        }
        if mainland > 0 && asked.sign_name.is_empty() {
            return Err(wrong("FailedOperation.SignatureIncorrectOrUnapproved", "The signature is not approved."));
        }
        let text = asked.template_param_set.join("\n");
        let each = asked.phone_number_set.into_iter().map(|to| Message {
            id: format!("5000:{:020}", number()),
            from: asked.sign_name.clone(),
            to,
            text: text.clone(),
            reference: asked.session_context.clone(),
        });
        Ok(each.collect())
    }

    fn is_code(&self, code: &str) -> bool {
        code != "Ok" && code.starts_with(|first: char| first.is_ascii_uppercase())
    }

    /// Those of all products at Tencent Cloud are, which are single words but for those about the signature.
    fn is_of_request(&self, code: &str) -> bool {
        !code.contains('.') || code.starts_with("AuthFailure.")
    }

    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes> {
        if let [(_, Fared::Error(code)), ..] = messages
            && self.is_of_request(code)
        {
            return *wrong(code, "As the script says.");
        }
        let status = |(message, fared): &(Message, Fared)| {
            let (serial, fee, code, said) = match fared {
                Fared::Taken(_) => (&*message.id, 1, "Ok", "send success"),
                Fared::Error(code) => ("", 0, &**code, "as the script says"),
                Fared::Throttled => ("", 0, "RequestLimitExceeded", "too many requests"),
                Fared::Refused => ("", 0, "FailedOperation.PhoneNumberInBlacklist", "phone number in blacklist"),
                Fared::Failed => ("", 0, "InternalError.OtherError", "other error"),
            };
            json!({
                "SerialNo": serial,
                "PhoneNumber": message.to,
                "Fee": fee,
                "SessionContext": message.reference,
                "Code": code,
                "Message": said,
                "IsoCode": "CN",
            })
        };
        let each: Vec<_> = messages.iter().map(status).collect();
        respond(&json!({"SendStatusSet": each, "RequestId": uuid::Uuid::new_v4().to_string()}))
    }

    fn receipt(&self, message: &Message, fate: Fate) -> Option<Post> {
        let delivered = fate == Fate::Delivered;
        let (nation, mobile) = number(&message.to);
        let said = json!([{
            "user_receive_time": "2026-01-01 08:00:01",
            "nationcode": nation,
            "mobile": mobile,
            "report_status": if delivered { "SUCCESS" } else { "FAIL" },
            "errmsg": if delivered { "DELIVRD" } else { "MK:0001" },
            "description": if delivered { "用户短信送达成功" } else { "空号" },
            "sid": message.id,
        }]);
        Some(post(self.callback.as_ref()?, &said))
    }

    fn reply(&self, from: &str, to: &str, text: &str) -> Option<Post> {
        let (nation, mobile) = number(from);
        let said = json!({
            "extend": "01",
            "mobile": mobile,
            "nationcode": nation,
            "sign": to,
            "text": text,
            "time": uuid::Uuid::new_v4().as_u64_pair().0 >> 33,
        });
        Some(post(self.callback.as_ref()?, &said))
    }
}

/// Returns a number in two parts, as the callbacks have it; country codes other than 86 are taken to have two digits.
fn number(number: &str) -> (&str, &str) {
    let digits = number.trim_start_matches('+');
    digits.split_at(digits.len().min(2))
}

fn post(url: &str, said: &Value) -> Post {
    Post { url: url.to_owned(), headers: vec![("content-type", "application/json".to_owned())], body: said.to_string() }
}

fn wrong(code: &str, message: &str) -> Wrong {
    let error = json!({"Code": code, "Message": message});
    Box::new(respond(&json!({"Error": error, "RequestId": uuid::Uuid::new_v4().to_string()})))
}

fn respond(response: &Value) -> Response<Bytes> {
    answer(StatusCode::OK, "application/json", json!({ "Response": response }).to_string())
}
