//! Aliyun voice, simulated: SingleCallByTts and SmartCall with their checks and errors, VoiceCallReport, VoiceReport, and
//! VoiceRecordReport of robots' calls that are to be recorded.
//!
//! Callees that are not reached do by the last digit of their number: 3 is busy, 4 does not answer, 5 does not exist, 6 is
//! switched off, any other is restricted.

use serde_json::{Value, json};

use super::aliyun::{Aliyun, by_code, failed, form, is_code, post, request_id, wrong};
use super::{Fared, Message, Post, Vendor, Wrong};
use crate::channel::http::{Bytes, Parts, Response, StatusCode, answer};
use crate::domain::event::Fate;

/// What ids of calls begin with, and of those that are recorded.
const CALLS: u64 = 116;
const RECORDED_CALLS: u64 = 117;
/// Longest parameters of a template.
const PARAM_LEN_MAX: usize = 250;
/// Longest reference.
const OUT_ID_LEN_MAX: usize = 15;

/// A simulated account; its callbacks are those of calls.
#[derive(Debug)]
pub struct AliyunVoice(pub Aliyun);

// === impl AliyunVoice ===

impl Vendor for AliyunVoice {
    fn read(&self, head: &Parts, body: &Bytes, number: &mut dyn FnMut() -> u64) -> Result<Vec<Message>, Wrong> {
        let query = form(head.uri.query().unwrap_or_default().as_bytes());
        self.0.authentic(head, &query, body)?;
        let field = |name: &str| {
            query.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str()).unwrap_or_default()
        };
        let action = head.headers.get("x-acs-action").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (template, params) = match action {
            "SingleCallByTts" => (field("TtsCode"), field("TtsParam")),
            "SmartCall" => (field("VoiceCode"), field("VoiceCodeParam")),
            _ => return Err(wrong(StatusCode::NOT_FOUND, "InvalidAction.NotFound", "Specified api is not found.")),
        };
        let business = |code: &str| Err(Box::new(failed(StatusCode::OK, code, code)));
        let called = field("CalledNumber");
        let dialable = (5..=20).contains(&called.len()) && called.bytes().all(|byte| byte.is_ascii_digit());
        if !dialable {
            return business("isv.MOBILE_NUMBER_ILLEGAL");
        }
        if !template.starts_with("TTS_") {
            return business("isv.TTS_TEMPLATE_ILLEGAL");
        }
        if params.len() > PARAM_LEN_MAX || !serde_json::from_str::<Value>(params).is_ok_and(|value| value.is_object()) {
            return business("isv.INVALID_JSON_PARAM");
        }
        if field("OutId").len() > OUT_ID_LEN_MAX {
            return business("isv.INVALID_PARAMETERS");
        }
        if !matches!(field("PlayTimes"), "" | "1" | "2" | "3") {
            return business("isv.INVALID_PARAMETERS");
        }
        // The vendor's libraries write it in their languages' ways.
        let recorded = match (action, &*field("RecordFlag").to_ascii_lowercase()) {
            (_, "" | "false") => false,
            ("SmartCall", "true") => true,
            (_, _) => return business("isv.INVALID_PARAMETERS"),
        };
        Ok(vec![Message {
            id: format!("{:012}^{:012}", if recorded { RECORDED_CALLS } else { CALLS }, number()),
            from: field("CalledShowNumber").to_owned(),
            to: called.to_owned(),
            text: params.to_owned(),
            reference: field("OutId").to_owned(),
        }])
    }

    fn is_code(&self, code: &str) -> bool {
        is_code(code)
    }

    fn answer(&self, messages: &[(Message, Fared)]) -> Response<Bytes> {
        match messages {
            [(message, Fared::Taken(_)), ..] => {
                let said = json!({"Message": "OK", "RequestId": request_id(), "Code": "OK", "CallId": message.id});
                answer(StatusCode::OK, "application/json;charset=utf-8", said.to_string())
            }
            [(_, Fared::Error(code)), ..] => by_code(code),
            [(_, Fared::Throttled), ..] => by_code("Throttling.User"),
            [(_, Fared::Refused), ..] => by_code("isv.VOICE_FILE_NOT_EXIST"),
            [(_, Fared::Failed), ..] | [] => by_code("isp.SYSTEM_ERROR"),
        }
    }

    fn receipt(&self, message: &Message, fate: Fate) -> Option<Post> {
        let status = match (fate, message.to.bytes().last()) {
            (Fate::Delivered, _) => "200000",
            (_, Some(b'3')) => "200002",
            (_, Some(b'4')) => "200003",
            (_, Some(b'5')) => "200004",
            (_, Some(b'6')) => "200010",
            (_, _) => "200105",
        };
        let (seconds, key, by) = if fate == Fate::Delivered { ("9", "1", "机器") } else { ("0", "", "") };
        let intermediate = json!({
            "call_id": message.id, "status_code": "200201", "status_time": "2026-01-01 08:00:00",
            "out_id": message.reference,
        });
        let last = json!({
            "call_id": message.id, "status_code": status, "originate_time": "2026-01-01 08:00:00",
            "start_time": "2026-01-01 08:00:01", "end_time": "2026-01-01 08:00:10", "duration": seconds,
            "caller": message.from, "callee": message.to, "out_id": message.reference, "hangup_direction": by,
            "dtmf": key, "toll_type": "LOCAL", "voice_type": "tts",
        });
        let mut reports = vec![intermediate, last];
        if fate == Fate::Delivered && message.id.starts_with(&format!("{RECORDED_CALLS:012}")) {
            reports.push(json!({
                "call_id": message.id, "status_code": status, "start_time": "2026-01-01 08:00:01",
                "end_time": "2026-01-01 08:00:10", "duration": seconds, "out_id": message.reference,
                "record_begin_time": "2026-01-01 08:00:01",
                "record_file": format!("http://record.oss.example/{}.mp3?Expires=1", message.id),
            }));
        }
        Some(post(self.0.callback.as_ref()?, &json!(reports)))
    }

    fn reply(&self, _from: &str, _to: &str, _text: &str) -> Option<Post> {
        None
    }
}
