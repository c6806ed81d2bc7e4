//! A scenario: what is asked of the service, how fast, and what must come out of it. See `load-tests/README.md`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use postrider::domain::cap::{CapRule, OnLimit, Window};
use postrider::domain::job::Class;
use serde::{Deserialize, Deserializer};

/// What one run does.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// Its name, for the result.
    pub(crate) name: String,
    /// Which stores the service stands on.
    pub(crate) backends: Backends,
    /// Time before measuring begins.
    #[serde(deserialize_with = "duration")]
    pub(crate) warmup: Duration,
    /// Time that is measured.
    #[serde(deserialize_with = "duration")]
    pub(crate) duration: Duration,
    /// Longest wait for outcomes after the end.
    #[serde(deserialize_with = "duration")]
    pub(crate) settle_max: Duration,
    /// Who submits; one without a rate where none is named.
    #[serde(default, rename = "tenant")]
    pub(crate) tenants: Vec<Tenant>,
    /// What is submitted, side by side.
    #[serde(rename = "load")]
    pub(crate) loads: Vec<Load>,
    /// The tenant's caps.
    #[serde(default, rename = "cap")]
    pub(crate) caps: Vec<Cap>,
    /// Campaigns that are cancelled.
    #[serde(default, rename = "cancel")]
    pub(crate) cancels: Vec<Cancel>,
    /// Stretches of the run whose latencies are told apart.
    #[serde(default, rename = "part")]
    pub(crate) parts: Vec<Part>,
    /// The provider that carries everything.
    #[serde(default)]
    pub(crate) provider: Provider,
    /// How the sink behaves.
    #[serde(default)]
    pub(crate) sink: Sink,
    /// What phone calls go over; absent: there are none.
    #[serde(default)]
    pub(crate) trunk: Option<Trunk>,
    /// What must be reached.
    #[serde(default)]
    pub(crate) targets: Targets,
}

/// Which stores the service stands on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Backends {
    /// A data directory.
    Embedded,
    /// RabbitMQ, Redis and PostgreSQL.
    Production,
}

/// Who submits.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tenant {
    /// Its name in the scenario.
    pub(crate) name: String,
    /// How fast its jobs leave, in jobs per second; 0: as fast as the provider allows.
    #[serde(default)]
    pub(crate) rate: u32,
}

/// Cancels what is left of a campaign.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cancel {
    /// The load whose campaign it is.
    pub(crate) load: String,
    /// When, after the first call.
    #[serde(deserialize_with = "duration")]
    pub(crate) at: Duration,
}

/// A stretch of the run. Those of one name are one part: what comes by turns meets the same machine.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    /// Its name, for the result.
    pub(crate) name: String,
    /// What was due from then on, after the first call.
    #[serde(deserialize_with = "duration")]
    pub(crate) from: Duration,
    /// And before then.
    #[serde(deserialize_with = "duration")]
    pub(crate) to: Duration,
}

/// By which call jobs are handed in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Call {
    /// `SubmitBatch`.
    Batch,
    /// `Submit`, one job a call.
    Unary,
    /// `SubmitStream`, one stream for each connection.
    Stream,
}

/// What jobs are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Texts, to the sink.
    #[default]
    Sms,
    /// Phone calls over the trunk, each tried once; whoever presses 1 gets a text, which goes to the sink.
    Call,
}

/// Jobs of one sort at a steady rate.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    /// Its name, for the result.
    pub(crate) name: String,
    /// By which call.
    pub(crate) call: Call,
    /// What its jobs are.
    #[serde(default)]
    pub(crate) kind: Kind,
    /// Jobs per second.
    pub(crate) rate: u32,
    /// Jobs in a call; 1 but for batches.
    #[serde(default = "one")]
    pub(crate) batch: u32,
    /// Their class.
    #[serde(deserialize_with = "class")]
    pub(crate) class: Class,
    /// Characters of the text, all of them one septet in GSM-7.
    #[serde(default = "text_chars")]
    pub(crate) text_chars: usize,
    /// Recipients that take turns; 0: every job has its own, and all share the text.
    #[serde(default)]
    pub(crate) recipients: u64,
    /// Sent this much later than submitted; 0: at once.
    #[serde(default, deserialize_with = "duration")]
    pub(crate) delay: Duration,
    /// HTTP/2 connections.
    #[serde(default = "one")]
    pub(crate) connections: u32,
    /// Its tenant; the first where none is named.
    #[serde(default)]
    pub(crate) tenant: String,
    /// Whether its jobs are a campaign that is named like it.
    #[serde(default)]
    pub(crate) campaign: bool,
    /// Its first call is due this much after those of other loads.
    #[serde(default, deserialize_with = "duration")]
    pub(crate) start: Duration,
    /// Most jobs; 0: as long as the run lasts.
    #[serde(default)]
    pub(crate) jobs: u64,
    /// Most calls without an answer; beyond it calls start late, and count from when they should have started.
    #[serde(default = "in_flight_max")]
    pub(crate) in_flight_max: usize,
    /// Whether each call has an idempotency key.
    #[serde(default)]
    pub(crate) keyed: bool,
}

/// A rolling cap of the tenant.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cap {
    pub(crate) name: String,
    pub(crate) limit: u32,
    #[serde(deserialize_with = "duration")]
    pub(crate) window: Duration,
    #[serde(deserialize_with = "on_limit")]
    pub(crate) on_limit: OnLimit,
}

/// The provider that carries everything.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Provider {
    /// Connections.
    pub(crate) binds: u32,
    /// Messages without an answer, for each connection.
    pub(crate) window: u32,
    /// Messages per second.
    pub(crate) rate: u32,
}

/// A trunk inside the service: callees are drawn by chance, as a simulated trunk does by default.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Trunk {
    /// Phone calls at a time.
    pub(crate) lines: u32,
    /// New ones per second.
    pub(crate) calls_per_s: u32,
    /// How long it rings on average until somebody answers or declines.
    #[serde(deserialize_with = "duration")]
    pub(crate) ring: Duration,
    /// How long callees think on average before they press a key.
    #[serde(deserialize_with = "duration")]
    pub(crate) thinks: Duration,
    /// Part of the calls that nobody answers, 0 to 1; they ring for ten seconds.
    pub(crate) no_answer: f64,
}

/// How the sink behaves.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Sink {
    /// Whether it sends receipts; the provider is told whether to ask for them.
    pub(crate) receipts: bool,
    /// Answers this much later.
    #[serde(deserialize_with = "duration")]
    pub(crate) answer_delay: Duration,
    /// Receipts follow the answer this much later.
    #[serde(deserialize_with = "duration")]
    pub(crate) receipt_delay: Duration,
    /// Refuses every Nth message as too fast; 0: none.
    pub(crate) throttle_every: u64,
    /// Takes every Nth message and never answers; 0: none.
    pub(crate) silent_every: u64,
    /// Is away from then on, counted from its start, which is about a second before the first call.
    #[serde(deserialize_with = "duration")]
    pub(crate) away_after: Duration,
    /// Is away for this long; 0: never.
    #[serde(deserialize_with = "duration")]
    pub(crate) away_for: Duration,
}

/// What must be reached, on the machine that the README names. Absent: not asked.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Targets {
    /// Jobs per second, accepted and handed over.
    pub(crate) jobs_per_s_min: Option<f64>,
    /// From the end of the load until the ledger has every outcome.
    pub(crate) drain_s_max: Option<f64>,
    /// Memory of the service at its highest.
    pub(crate) rss_mib_max: Option<f64>,
    /// 99th percentile of the time from the intended start of a call to its answer.
    pub(crate) accept_p99_ms_max: Option<f64>,
    /// 99th percentile of the time from when a job was due to its hand-over, over all loads and the whole run.
    pub(crate) lag_p99_ms_max: Option<f64>,
    /// From the answer to a cancellation to the last hand-over of what it named.
    pub(crate) cancel_s_max: Option<f64>,
    /// Part of the trunk's lines that is in use on average in the measured time, 0 to 1.
    pub(crate) lines_busy_min: Option<f64>,
    /// Jobs that follow from calls and were accepted more than a second after the call asked for them.
    pub(crate) follow_ups_late_max: Option<u64>,
    /// Loads that must be as fast in the second part as in the first.
    #[serde(default, rename = "steady")]
    pub(crate) steady: Vec<Steady>,
}

/// A load whose 99th percentile of latency may not grow from the first part to the second by more than a factor, or some
/// milliseconds, whichever is more.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Steady {
    pub(crate) load: String,
    pub(crate) factor: f64,
    #[serde(default)]
    pub(crate) or_ms: f64,
}

/// Why a scenario cannot be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScenarioError {
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Syntax { path: PathBuf, source: Box<toml::de::Error> },
    #[error("{}: {reason}", path.display())]
    Invalid { path: PathBuf, reason: String },
}

impl Scenario {
    /// Reads and checks a scenario.
    pub(crate) fn read(path: &Path) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Read { path: path.into(), source })?;
        let scenario: Self = toml::from_str(&text)
            .map_err(|source| ScenarioError::Syntax { path: path.into(), source: Box::new(source) })?;
        match scenario.fault() {
            None => Ok(scenario),
            Some(reason) => Err(ScenarioError::Invalid { path: path.into(), reason }),
        }
    }

    fn fault(&self) -> Option<String> {
        if self.loads.is_empty() {
            return Some("needs at least one [[load]]".into());
        }
        if self.duration.is_zero() {
            return Some("`duration` must not be zero".into());
        }
        if self.loads.len() > 10 {
            return Some("at most ten loads: a digit of the number tells them apart".into());
        }
        let unknown = |name: &str| self.loads.iter().all(|load| load.name != name);
        let steady = self.targets.steady.iter().map(|steady| &steady.load);
        if let Some(name) = self.cancels.iter().map(|cancel| &cancel.load).chain(steady).find(|name| unknown(name)) {
            return Some(format!("there is no load `{name}`"));
        }
        if !self.targets.steady.is_empty() && self.part_names().len() < 2 {
            return Some("`steady` compares the first two parts".into());
        }
        if self.loads.iter().any(|load| (load.kind == Kind::Call) != self.trunk.is_some()) {
            return Some("a [trunk] carries calls, and a run with one has loads of calls alone".into());
        }
        let known = |name: &str| name.is_empty() || self.tenants.iter().any(|tenant| tenant.name == name);
        if let Some(load) = self.loads.iter().find(|load| !known(&load.tenant)) {
            return Some(format!("load `{}`: there is no tenant `{}`", load.name, load.tenant));
        }
        self.loads.iter().find_map(|load| load.fault().map(|fault| format!("load `{}`: {fault}", load.name)))
    }

    /// Returns who submits.
    pub(crate) fn tenants(&self) -> Vec<Tenant> {
        match self.tenants[..] {
            [] => vec![Tenant { name: String::new(), rate: 0 }],
            ref tenants => tenants.to_vec(),
        }
    }

    /// Returns the names of the parts, in the order in which they come first.
    pub(crate) fn part_names(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for part in &self.parts {
            if !names.contains(&part.name.as_str()) {
                names.push(&part.name);
            }
        }
        names
    }

    /// Returns the number of a load.
    pub(crate) fn load(&self, name: &str) -> usize {
        self.loads.iter().position(|load| load.name == name).unwrap_or_default()
    }

    /// Returns the caps as rules of the service.
    pub(crate) fn rules(&self) -> Result<Vec<CapRule>, String> {
        let rule = |cap: &Cap| {
            let name = cap.name.parse().map_err(|error| format!("cap `{}`: {error}", cap.name))?;
            Ok(CapRule { on_limit: cap.on_limit, ..CapRule::new(name, cap.limit, Window::Rolling(cap.window)) })
        };
        self.caps.iter().map(rule).collect()
    }
}

impl Load {
    fn fault(&self) -> Option<&'static str> {
        if self.rate == 0 || self.connections == 0 || self.in_flight_max == 0 {
            return Some("`rate`, `connections` and `in_flight_max` must be at least 1");
        }
        match self.call {
            Call::Batch if !(1..=10_000).contains(&self.batch) => Some("`batch` must be 1 to 10000"),
            Call::Unary | Call::Stream if self.batch != 1 => Some("only batches have a `batch`"),
            Call::Batch | Call::Unary | Call::Stream if !(40..=160).contains(&self.text_chars) => {
                Some("`text_chars` must be 40 to 160: one segment, with room for number and time")
            }
            Call::Batch | Call::Unary | Call::Stream => None,
        }
    }
}

impl Default for Provider {
    fn default() -> Self {
        Self { binds: 2, window: 1000, rate: 60_000 }
    }
}

fn one() -> u32 {
    1
}

fn text_chars() -> usize {
    140
}

fn in_flight_max() -> usize {
    1024
}

fn duration<'de, D: Deserializer<'de>>(raw: D) -> Result<Duration, D::Error> {
    humantime::parse_duration(&String::deserialize(raw)?).map_err(serde::de::Error::custom)
}

fn class<'de, D: Deserializer<'de>>(raw: D) -> Result<Class, D::Error> {
    let word = String::deserialize(raw)?;
    Class::from_word(&word).ok_or_else(|| serde::de::Error::custom(format!("no such class: {word}")))
}

fn on_limit<'de, D: Deserializer<'de>>(raw: D) -> Result<OnLimit, D::Error> {
    let word = String::deserialize(raw)?;
    OnLimit::from_word(&word).ok_or_else(|| serde::de::Error::custom("defer or drop"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_committed_scenario_can_be_run() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("load-tests/scenarios");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let scenario = Scenario::read(&path).unwrap();
            scenario.rules().unwrap();
            assert_eq!(path.file_stem().unwrap().to_str(), Some(scenario.name.as_str()));
            count += 1;
        }
        assert!(count >= 4);
    }
}
