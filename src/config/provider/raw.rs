//! Providers as serde reads them, one form for each kind: complete, because the defaults are part of them, and not yet
//! checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Table, Value};

/// The kinds of providers, each with the document that its defaults stand in.
pub(in crate::config) const DOCUMENTS: &[(&str, &str)] = &[
    ("smpp", include_str!("../smpp.toml")),
    ("twilio", include_str!("../twilio.toml")),
    ("aliyun-sms", include_str!("../aliyun-sms.toml")),
    ("tencent-sms", include_str!("../tencent-sms.toml")),
    ("http", include_str!("../http.toml")),
    ("asterisk", include_str!("../asterisk.toml")),
    ("simulated", include_str!("../simulated.toml")),
    ("wechat", include_str!("../wechat.toml")),
    ("wecom", include_str!("../wecom.toml")),
];

/// A provider, by its kind.
pub(in crate::config) enum RawProvider {
    Smpp(Box<RawSmpp>),
    Simulated(Box<RawSimulated>),
    Twilio(Box<RawTwilio>),
    Aliyun(Box<RawAliyun>),
    Tencent(Box<RawTencent>),
    Http(Box<RawHttp>),
    Asterisk(Box<RawAsterisk>),
    Wechat(Box<RawWechat>),
    Wecom(Box<RawWecom>),
}

impl RawProvider {
    /// Reads a provider of that kind; `None` for a kind that there is not.
    pub(in crate::config) fn read(kind: &str, table: Table) -> Option<Result<Self, toml::de::Error>> {
        let table = Value::Table(table);
        Some(match kind {
            "smpp" => table.try_into().map(Self::Smpp),
            "simulated" => table.try_into().map(Self::Simulated),
            "twilio" => table.try_into().map(Self::Twilio),
            "aliyun-sms" => table.try_into().map(Self::Aliyun),
            "tencent-sms" => table.try_into().map(Self::Tencent),
            "http" => table.try_into().map(Self::Http),
            "asterisk" => table.try_into().map(Self::Asterisk),
            "wechat" => table.try_into().map(Self::Wechat),
            "wecom" => table.try_into().map(Self::Wecom),
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSmpp {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) address: String,
    pub(in crate::config) system_id: String,
    pub(in crate::config) password: String,
    pub(in crate::config) password_env: String,
    pub(in crate::config) password_file: String,
    pub(in crate::config) system_type: String,
    pub(in crate::config) tls: bool,
    pub(in crate::config) tls_ca: String,
    pub(in crate::config) tls_name: String,
    pub(in crate::config) binds: i64,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
    pub(in crate::config) price: String,
    pub(in crate::config) receipts: bool,
    pub(in crate::config) counting: String,
    pub(in crate::config) alphabet: String,
    pub(in crate::config) submit_ids: String,
    pub(in crate::config) receipt_ids: String,
    pub(in crate::config) sender: String,
    pub(in crate::config) response_timeout: String,
    pub(in crate::config) enquire_link: String,
    pub(in crate::config) reconnect_delay: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSimulated {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
    pub(in crate::config) price: String,
    pub(in crate::config) receipts: bool,
    pub(in crate::config) latency: String,
    pub(in crate::config) receipt_after: String,
    pub(in crate::config) throttled: f64,
    pub(in crate::config) refused: f64,
    pub(in crate::config) unanswered: f64,
    pub(in crate::config) undelivered: f64,
    pub(in crate::config) stop_replies: f64,
    pub(in crate::config) response_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTwilio {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) endpoint: String,
    pub(in crate::config) tls_ca: String,
    pub(in crate::config) account_sid: String,
    pub(in crate::config) auth_token: String,
    pub(in crate::config) auth_token_env: String,
    pub(in crate::config) auth_token_file: String,
    pub(in crate::config) sender: String,
    pub(in crate::config) connections: i64,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
    pub(in crate::config) price: String,
    pub(in crate::config) receipts: bool,
    pub(in crate::config) response_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAliyun {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) endpoint: String,
    pub(in crate::config) tls_ca: String,
    pub(in crate::config) access_key_id: String,
    pub(in crate::config) access_key_secret: String,
    pub(in crate::config) access_key_secret_env: String,
    pub(in crate::config) access_key_secret_file: String,
    pub(in crate::config) sign_name: String,
    pub(in crate::config) template: String,
    pub(in crate::config) text_variable: String,
    pub(in crate::config) batch_max: i64,
    pub(in crate::config) callback_token: String,
    pub(in crate::config) callback_token_env: String,
    pub(in crate::config) callback_token_file: String,
    pub(in crate::config) connections: i64,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
    pub(in crate::config) price: String,
    pub(in crate::config) receipts: bool,
    pub(in crate::config) response_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawTencent {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) endpoint: String,
    pub(in crate::config) tls_ca: String,
    pub(in crate::config) secret_id: String,
    pub(in crate::config) secret_key: String,
    pub(in crate::config) secret_key_env: String,
    pub(in crate::config) secret_key_file: String,
    pub(in crate::config) sign_name: String,
    pub(in crate::config) app_id: String,
    pub(in crate::config) region: String,
    pub(in crate::config) template: String,
    pub(in crate::config) parameters: Vec<String>,
    pub(in crate::config) batch_max: i64,
    pub(in crate::config) callback_token: String,
    pub(in crate::config) callback_token_env: String,
    pub(in crate::config) callback_token_file: String,
    pub(in crate::config) connections: i64,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
    pub(in crate::config) price: String,
    pub(in crate::config) receipts: bool,
    pub(in crate::config) response_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawHttp {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) endpoint: String,
    pub(in crate::config) tls_ca: String,
    pub(in crate::config) method: String,
    pub(in crate::config) path: String,
    pub(in crate::config) headers: BTreeMap<String, String>,
    pub(in crate::config) content_type: String,
    pub(in crate::config) body: String,
    pub(in crate::config) secret: String,
    pub(in crate::config) secret_env: String,
    pub(in crate::config) secret_file: String,
    pub(in crate::config) sender: String,
    pub(in crate::config) text_max: i64,
    pub(in crate::config) throttled: String,
    pub(in crate::config) refused: String,
    pub(in crate::config) not_sent: String,
    pub(in crate::config) taken: String,
    pub(in crate::config) message_id: String,
    pub(in crate::config) code: String,
    pub(in crate::config) callback_token: String,
    pub(in crate::config) callback_token_env: String,
    pub(in crate::config) callback_token_file: String,
    pub(in crate::config) callback_items: String,
    pub(in crate::config) callback_message_id: String,
    pub(in crate::config) callback_job: String,
    pub(in crate::config) callback_delivered: String,
    pub(in crate::config) callback_undelivered: String,
    pub(in crate::config) callback_code: String,
    pub(in crate::config) callback_from: String,
    pub(in crate::config) callback_to: String,
    pub(in crate::config) callback_text: String,
    pub(in crate::config) callback_answer: String,
    pub(in crate::config) connections: i64,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
    pub(in crate::config) price: String,
    pub(in crate::config) receipts: bool,
    pub(in crate::config) response_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawWechat {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) endpoint: String,
    pub(in crate::config) tls_ca: String,
    pub(in crate::config) appid: String,
    pub(in crate::config) secret: String,
    pub(in crate::config) secret_env: String,
    pub(in crate::config) secret_file: String,
    pub(in crate::config) tenant: String,
    pub(in crate::config) messages: String,
    pub(in crate::config) callback_token: String,
    pub(in crate::config) callback_token_env: String,
    pub(in crate::config) callback_token_file: String,
    pub(in crate::config) aes_key: String,
    pub(in crate::config) aes_key_env: String,
    pub(in crate::config) aes_key_file: String,
    pub(in crate::config) connections: i64,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
    pub(in crate::config) price: String,
    pub(in crate::config) receipts: bool,
    pub(in crate::config) response_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawAsterisk {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) endpoint: String,
    pub(in crate::config) tls_ca: String,
    pub(in crate::config) user: String,
    pub(in crate::config) password: String,
    pub(in crate::config) password_env: String,
    pub(in crate::config) password_file: String,
    pub(in crate::config) app: String,
    pub(in crate::config) trunk: String,
    pub(in crate::config) lines: i64,
    pub(in crate::config) lines_per_port: i64,
    pub(in crate::config) calls_per_s: i64,
    pub(in crate::config) price: String,
    pub(in crate::config) tenant_lines: i64,
    pub(in crate::config) campaign_lines: i64,
    pub(in crate::config) callers: Vec<String>,
    pub(in crate::config) caller_lines: i64,
    pub(in crate::config) caller_day_max: i64,
    pub(in crate::config) caller_rest: String,
    pub(in crate::config) speech: Vec<String>,
    pub(in crate::config) speech_dir: String,
    pub(in crate::config) media_dir: String,
    pub(in crate::config) connections: i64,
    pub(in crate::config) response_timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawWecom {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
    pub(in crate::config) order: i64,
    pub(in crate::config) weight: i64,
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) endpoint: String,
    pub(in crate::config) tls_ca: String,
    pub(in crate::config) corp_id: String,
    pub(in crate::config) agent_id: i64,
    pub(in crate::config) secret: String,
    pub(in crate::config) secret_env: String,
    pub(in crate::config) secret_file: String,
    pub(in crate::config) tenant: String,
    pub(in crate::config) batch_max: i64,
    pub(in crate::config) callback_token: String,
    pub(in crate::config) callback_token_env: String,
    pub(in crate::config) callback_token_file: String,
    pub(in crate::config) aes_key: String,
    pub(in crate::config) aes_key_env: String,
    pub(in crate::config) aes_key_file: String,
    pub(in crate::config) connections: i64,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
    pub(in crate::config) price: String,
    pub(in crate::config) response_timeout: String,
}
