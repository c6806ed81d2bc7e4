//! The settings as serde reads them: complete, because the defaults are part of them, and not yet checked.

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSettings {
    pub(super) roles: Vec<String>,
    pub(super) data_dir: String,
    pub(super) grpc: RawGrpc,
    pub(super) metrics: RawMetrics,
    pub(super) receive: RawReceive,
    pub(super) queue: RawQueue,
    pub(super) limits: RawLimits,
    pub(super) ledger: RawLedger,
    pub(super) seal: RawSeal,
    pub(super) record: RawRecord,
    pub(super) class: RawClasses,
    pub(super) windows: RawWindows,
    pub(super) shutdown: RawShutdown,
    pub(super) log: RawLog,
    pub(super) traces: RawTraces,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawGrpc {
    pub(super) listen: String,
    pub(super) tls_cert: String,
    pub(super) tls_key: String,
    pub(super) allow_plaintext: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMetrics {
    pub(super) listen: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawReceive {
    pub(super) listen: String,
    pub(super) public_url: String,
    pub(super) allow_plaintext: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawQueue {
    pub(super) url: String,
    pub(super) publish_timeout: String,
    pub(super) lane_frames_max: i64,
    pub(super) record_frames_max: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLimits {
    pub(super) url: String,
    pub(super) timeout: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLedger {
    pub(super) url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSeal {
    pub(super) key_file: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRecord {
    pub(super) receipt_deadline: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClasses {
    pub(super) otp: RawClass,
    pub(super) transactional: RawClass,
    pub(super) notification: RawClass,
    pub(super) marketing: RawClass,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawClass {
    pub(super) expires_after: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawShutdown {
    pub(super) grace: String,
    pub(super) lame_duck: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLog {
    pub(super) level: String,
    pub(super) format: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTraces {
    pub(super) endpoint: String,
    pub(super) sample: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWindows {
    /// Read with the rules themselves.
    #[serde(rename = "defaults")]
    pub(super) _defaults: String,
    pub(super) calendars: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawWindow {
    pub(super) name: String,
    #[serde(default)]
    pub(super) classes: Vec<String>,
    #[serde(default)]
    pub(super) kinds: Vec<String>,
    #[serde(default)]
    pub(super) topics: Vec<String>,
    #[serde(default)]
    pub(super) senders: Vec<String>,
    #[serde(default)]
    pub(super) pools: Vec<String>,
    pub(super) hours: Vec<String>,
    #[serde(default = "defer")]
    pub(super) on_missed: String,
}

fn defer() -> String {
    "defer".into()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawExtension {
    pub(super) provider: String,
    pub(super) number: String,
    pub(super) code: String,
    pub(super) tenant: String,
    pub(super) signature: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    pub(super) tenant: String,
    pub(super) kinds: Vec<String>,
    pub(super) classes: Vec<String>,
    pub(super) topics: Vec<String>,
    pub(super) senders: Vec<String>,
    pub(super) countries: Vec<String>,
    pub(super) prefixes: Vec<String>,
    pub(super) carriers: Vec<String>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) pool: String,
    pub(super) sender: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCap {
    pub(super) tenant: String,
    pub(super) name: String,
    pub(super) preset: String,
    pub(super) classes: Vec<String>,
    pub(super) kinds: Vec<String>,
    pub(super) topics: Vec<String>,
    pub(super) senders: Vec<String>,
    pub(super) limit: i64,
    pub(super) window: String,
    pub(super) on_limit: String,
    pub(super) per: String,
    pub(super) unit: String,
    pub(super) count: String,
    pub(super) reserve: i64,
    pub(super) mode: String,
}
