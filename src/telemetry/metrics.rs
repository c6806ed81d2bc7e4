//! The metrics: one table of names, and the handles that count.

mod admission;
mod agenda;
mod bounded;
mod call;
mod callback;
mod dispatch;
mod link;
mod poll;
mod provider;
mod queue;
mod record;

pub use admission::{AdmissionMetrics, RefusedAs};
pub use agenda::{AgendaMetrics, LaneDepth};
pub use bounded::LABELS_MAX;
pub use call::{CallMetrics, TrunkMetrics};
pub use callback::{CallbackMetrics, CallbackResult};
pub use dispatch::{CapDecision, DispatchMetrics, OptOutsAsked};
pub use link::{LinkEvent, LinkMetrics};
pub use poll::{PollMetrics, PollResult};
pub use provider::{Breaker, CostMetrics, ProviderMetrics, Verdict};
pub use queue::{LimitsMetrics, LimitsOp, QueueHealth, QueueMetrics, limits_recovering};
pub use record::{RecordMetrics, fallback_step, opted_out};

use super::reference;
use crate::domain::job::words;
use crate::domain::time::UnixMicros;

/// What a metric is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds up to 10, for what a caller waits for.
    FastSeconds,
    /// Seconds up to three days, for what a job waits for.
    SlowSeconds,
}

/// One metric.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Metric {
    /// Its full name.
    pub name: &'static str,
    /// What it is.
    pub shape: Shape,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// What it counts or measures, in a sentence.
    pub help: &'static str,
}

/// Buckets of [`Shape::FastSeconds`].
pub const FAST_SECONDS: &[f64] = &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];
/// Buckets of [`Shape::SlowSeconds`].
pub const SLOW_SECONDS: &[f64] = &[
    0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 28_800.0,
    86_400.0, 259_200.0,
];

macro_rules! metrics {
    ($(#[doc = $help:literal] $name:ident = $text:literal, $shape:ident, [$($label:literal),*];)+) => {
        $(#[doc = $help] pub const $name: &str = $text;)+

        /// Every metric of the service, in the order in which it is documented.
        pub const TABLE: &[Metric] = &[$(
            Metric { name: $text, shape: Shape::$shape, labels: &[$($label),*], help: $help.trim_ascii() },
        )+];
    };
}

metrics! {
    /// Jobs accepted.
    JOBS_ACCEPTED = "postrider_jobs_accepted_total", Counter, ["kind", "class"];
    /// Jobs accepted by tenant; the first 200 tenants of a process, then `other`.
    TENANT_JOBS_ACCEPTED = "postrider_tenant_jobs_accepted_total", Counter, ["tenant"];
    /// Jobs refused at the door.
    JOBS_REFUSED = "postrider_jobs_refused_total", Counter, ["reason"];
    /// Jobs refused at the door by tenant; the first 200 tenants of a process, then `other`.
    TENANT_JOBS_REFUSED = "postrider_tenant_jobs_refused_total", Counter, ["tenant"];
    /// Keyed urgent jobs accepted without a look at their key, because limits were away.
    KEYS_UNCHECKED = "postrider_keys_unchecked_total", Counter, [];
    /// From the call to the durable answer.
    ACCEPT_SECONDS = "postrider_accept_seconds", FastSeconds, [];
    /// Frames published by admission; accepted jobs divided by this is the mean of jobs per frame.
    FRAMES_ACCEPTED = "postrider_frames_accepted_total", Counter, [];
    /// Frames that were not known to be durable in time.
    PUBLISH_FAILURES = "postrider_publish_failures_total", Counter, ["reason"];
    /// From the publish to its confirm.
    PUBLISH_SECONDS = "postrider_publish_seconds", FastSeconds, [];
    /// 1 while there is a connection to the queue server, or none is needed.
    QUEUE_UP = "postrider_queue_up", Gauge, [];
    /// Frames in the dead-letter queue: what could not be read, and what ended dispatch again and again.
    DEAD_LETTERS = "postrider_dead_letters", Gauge, [];
    /// Calls to limits.
    LIMITS_SECONDS = "postrider_limits_seconds", FastSeconds, ["op"];
    /// Calls to limits that failed.
    LIMITS_FAILURES = "postrider_limits_failures_total", Counter, ["op"];
    /// 1 while limits reload what they lost: only one-time passwords and transactional jobs leave.
    LIMITS_RECOVERING = "postrider_limits_recovering", Gauge, [];
    /// Jobs handed over without limits while those were away or recovering, by whether the ledger was asked for opt-outs (`ledger`), or could not be (`unknown`).
    WITHOUT_LIMITS = "postrider_without_limits_total", Counter, ["class", "opt_outs"];
    /// Jobs that a claim was asked for, by cap (the first 200 names, then `other`) and what it said.
    CAPS_DECISIONS = "postrider_caps_decisions_total", Counter, ["rule", "decision", "mode"];
    /// Frames that wait in a lane.
    LANE_DEPTH = "postrider_lane_depth", Gauge, ["class", "pool"];
    /// Jobs that wait in the agenda.
    AGENDA_DEPTH = "postrider_agenda_depth", Gauge, [];
    /// How long the first entry of the agenda has been due; 0 while nothing is late.
    AGENDA_OLDEST_DUE_SECONDS = "postrider_agenda_oldest_due_seconds", Gauge, [];
    /// Jobs released from the agenda or the timing wheel into a lane.
    JOBS_RELEASED = "postrider_jobs_released_total", Counter, ["class"];
    /// Jobs put back to wait, by cap, send window (`window:` and its name), what their provider said (`provider:` and its code) or cause (the first 200, then `other`).
    JOBS_DEFERRED = "postrider_jobs_deferred_total", Counter, ["reason"];
    /// Jobs stopped by an opt-out or a cap (the first 200, then `other`).
    JOBS_SUPPRESSED = "postrider_jobs_suppressed_total", Counter, ["reason"];
    /// From the time a job was accepted or due, whichever is later, to its hand-over.
    TIME_IN_QUEUE_SECONDS = "postrider_time_in_queue_seconds", SlowSeconds, ["class"];
    /// From the due time to the provider's answer.
    SEND_LAG_SECONDS = "postrider_send_lag_seconds", SlowSeconds, ["class"];
    /// Hand-overs that ended.
    ATTEMPTS = "postrider_attempts_total", Counter, ["provider", "verdict"];
    /// From the hand-over to the provider's answer.
    SUBMIT_SECONDS = "postrider_submit_seconds", FastSeconds, ["provider"];
    /// From the provider's answer to its last receipt.
    RECEIPT_SECONDS = "postrider_receipt_seconds", SlowSeconds, ["provider"];
    /// Receipts.
    RECEIPTS = "postrider_receipts_total", Counter, ["provider", "state"];
    /// Callbacks of providers over HTTP, and what became of them; those to no provider of ours count under `unknown`.
    CALLBACKS = "postrider_callbacks_total", Counter, ["provider", "result"];
    /// What came of asking a provider about messages that it calls nobody back about.
    POLLS = "postrider_polls_total", Counter, ["provider", "result"];
    /// Receipts that wait for a hand-over they belong to.
    RECEIPTS_UNMATCHED = "postrider_receipts_unmatched_total", Counter, [];
    /// Unanswered hand-overs that record decided to repeat.
    JOBS_RESENT = "postrider_jobs_resent_total", Counter, [];
    /// Steps of fallback chains that started: jobs that nobody submitted, beside those accepted.
    FALLBACK_STEPS = "postrider_fallback_steps_total", Counter, ["kind", "class"];
    /// Jobs released again because nothing was heard of them long after they were due.
    STRAYS = "postrider_strays_total", Counter, [];
    /// Opt-outs.
    OPTOUTS = "postrider_optouts_total", Counter, ["kind", "source"];
    /// 1 while the provider can be reached.
    PROVIDER_UP = "postrider_provider_up", Gauge, ["provider"];
    /// Hand-overs per second that the provider is believed to carry now.
    PROVIDER_RATE_LIMIT = "postrider_provider_rate_limit", Gauge, ["provider"];
    /// Hand-overs that wait for the provider's answer.
    PROVIDER_WINDOW_IN_USE = "postrider_provider_window_in_use", Gauge, ["provider"];
    /// 0 closed (work flows), 1 half open (one is tried), 2 open (nothing flows).
    BREAKER_STATE = "postrider_breaker_state", Gauge, ["provider"];
    /// What hand-overs cost that the provider took and has a price for, in millionths of the currency's unit.
    COST_MICROS = "postrider_cost_micros_total", Counter, ["provider", "currency"];
    /// Lines of the trunk that are in use: calls that are being set up, ring or are talked in.
    CALLS_IN_PROGRESS = "postrider_calls_in_progress", Gauge, ["trunk"];
    /// Calls that ended, each try of a job on its own.
    CALL_RESULTS = "postrider_call_results_total", Counter, ["result"];
    /// How long was talked in calls that were answered.
    CALL_TALK_SECONDS = "postrider_call_talk_seconds", SlowSeconds, [];
    /// From the moment that a call asks for a job that follows from it until that is accepted.
    CALL_FOLLOW_UP_SECONDS = "postrider_call_follow_up_seconds", FastSeconds, [];
    /// Binds to the provider that came, ended or failed, and what came over them that fits nothing.
    LINK_EVENTS = "postrider_link_events_total", Counter, ["provider", "event"];
    /// Jobs that reached their outcome.
    JOBS_FINISHED = "postrider_jobs_finished_total", Counter, ["kind", "class", "outcome"];
    /// Jobs that reached their outcome by tenant; the first 200 tenants of a process, then `other`.
    TENANT_JOBS_FINISHED = "postrider_tenant_jobs_finished_total", Counter, ["tenant"];
    /// Hand-overs without an answer that were written since this process started, less those that found one.
    UNRESOLVED_JOBS = "postrider_unresolved_jobs", Gauge, [];
    /// Age of the last fact that record wrote; while it cannot write, how long it has been trying.
    LEDGER_LAG_SECONDS = "postrider_ledger_lag_seconds", Gauge, [];
    /// When the certificate of gRPC expires, in seconds since 1970; not there without TLS. The first of its chain counts.
    CERTIFICATE_EXPIRES = "postrider_certificate_expires_timestamp_seconds", Gauge, [];
    /// When the first key expires, in seconds since 1970, or infinity while none does: of the API keys made for two weeks or more (`api`), or the key that seals (`seal`).
    KEY_EXPIRES = "postrider_key_expires_timestamp_seconds", Gauge, ["key"];
    /// Always 1; its label says which version runs.
    BUILD_INFO = "postrider_build_info", Gauge, ["version"];
}

/// Shows when the certificate of gRPC expires, in seconds since 1970.
pub fn certificate_expires(at_secs: i64) {
    metrics::gauge!(CERTIFICATE_EXPIRES).set(at_secs as f64);
}

words! {
    /// What kind of key expires.
    Key {
        /// One that callers present.
        Api = "api",
        /// The one that seals.
        Seal = "seal",
    }
}

/// Shows when the first key of a kind expires.
pub fn key_expires(key: Key, at: Option<UnixMicros>) {
    let at_secs = at.map_or(f64::INFINITY, |at| at.as_secs() as f64);
    metrics::gauge!(KEY_EXPIRES, "key" => key.as_str()).set(at_secs);
}

/// Returns the table of metrics for the README, in Markdown.
pub fn reference() -> String {
    reference::metrics(TABLE)
}

#[cfg(test)]
mod tests;
