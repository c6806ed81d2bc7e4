//! The settings as serde reads them: complete, because the defaults are part of them, and not yet checked.

use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSettings {
    pub(super) roles: Vec<String>,
    pub(super) data_dir: String,
    pub(super) grpc: RawGrpc,
    pub(super) metrics: RawMetrics,
    pub(super) queue: RawQueue,
    pub(super) limits: RawLimits,
    pub(super) ledger: RawLedger,
    pub(super) seal: RawSeal,
    pub(super) record: RawRecord,
    pub(super) class: RawClasses,
    pub(super) shutdown: RawShutdown,
    pub(super) log: RawLog,
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

/// A provider, by its kind.
pub(super) enum RawProvider {
    Smpp(Box<RawSmpp>),
    Simulated(Box<RawSimulated>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSmpp {
    pub(super) id: String,
    pub(super) pool: String,
    pub(super) kinds: Vec<String>,
    pub(super) address: String,
    pub(super) system_id: String,
    pub(super) password: String,
    pub(super) password_env: String,
    pub(super) password_file: String,
    pub(super) system_type: String,
    pub(super) tls: bool,
    pub(super) tls_ca: String,
    pub(super) tls_name: String,
    pub(super) binds: i64,
    pub(super) window: i64,
    pub(super) rate: String,
    pub(super) receipts: bool,
    pub(super) counting: String,
    pub(super) alphabet: String,
    pub(super) submit_ids: String,
    pub(super) receipt_ids: String,
    pub(super) sender: String,
    pub(super) response_timeout: String,
    pub(super) enquire_link: String,
    pub(super) reconnect_delay: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSimulated {
    pub(super) id: String,
    pub(super) pool: String,
    pub(super) kinds: Vec<String>,
    pub(super) window: i64,
    pub(super) rate: String,
    pub(super) receipts: bool,
    pub(super) latency: String,
    pub(super) receipt_after: String,
    pub(super) throttled: f64,
    pub(super) refused: f64,
    pub(super) unanswered: f64,
    pub(super) undelivered: f64,
    pub(super) stop_replies: f64,
    pub(super) response_timeout: String,
}
