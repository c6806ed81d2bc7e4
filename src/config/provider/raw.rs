//! Providers as serde reads them, one form for each kind: complete, because the defaults are part of them, and not yet
//! checked.

use serde::Deserialize;
use toml::{Table, Value};

/// The kinds of providers, each with the document that its defaults stand in.
pub(in crate::config) const DOCUMENTS: &[(&str, &str)] = &[
    ("smpp", include_str!("../smpp.toml")),
    ("twilio", include_str!("../twilio.toml")),
    ("simulated", include_str!("../simulated.toml")),
];

/// A provider, by its kind.
pub(in crate::config) enum RawProvider {
    Smpp(Box<RawSmpp>),
    Simulated(Box<RawSimulated>),
    Twilio(Box<RawTwilio>),
}

impl RawProvider {
    /// Reads a provider of that kind; `None` for a kind that there is not.
    pub(in crate::config) fn read(kind: &str, table: Table) -> Option<Result<Self, toml::de::Error>> {
        let table = Value::Table(table);
        Some(match kind {
            "smpp" => table.try_into().map(Self::Smpp),
            "simulated" => table.try_into().map(Self::Simulated),
            "twilio" => table.try_into().map(Self::Twilio),
            _ => return None,
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::config) struct RawSmpp {
    pub(in crate::config) id: String,
    pub(in crate::config) pool: String,
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
    pub(in crate::config) kinds: Vec<String>,
    pub(in crate::config) window: i64,
    pub(in crate::config) rate: String,
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
    pub(in crate::config) receipts: bool,
    pub(in crate::config) response_timeout: String,
}
