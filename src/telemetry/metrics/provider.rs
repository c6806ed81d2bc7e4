//! What each provider counts.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::domain::event::Fate;
use crate::domain::ids::ProviderId;
use crate::domain::job::words;
use crate::domain::money::{Currency, Money};

words! {
    /// How a hand-over ended.
    Verdict {
        /// The provider has the job.
        Taken = "taken",
        /// It refused for good.
        Refused = "refused",
        /// It takes no more just now.
        Throttled = "throttled",
        /// It definitely did not go out.
        NotSent = "not_sent",
        /// Nobody knows.
        Unresolved = "unresolved",
    }
}

words! {
    /// Whether work flows to a provider.
    Breaker {
        /// It flows.
        Closed = "closed",
        /// One is tried.
        HalfOpen = "half_open",
        /// Nothing flows.
        Open = "open",
    }
}

/// What one provider counts.
#[derive(Debug)]
pub struct ProviderMetrics {
    attempts: Vec<Counter>,
    submit_seconds: Histogram,
    receipt_seconds: Histogram,
    receipts: Vec<Counter>,
    pending_receipts: Counter,
    up: Gauge,
    rate_limit: Gauge,
    window_in_use: Gauge,
    breaker: Gauge,
}

/// What hand-overs to one provider cost.
#[derive(Debug)]
pub struct CostMetrics {
    micros: Counter,
}

impl CostMetrics {
    /// Makes the handle of a provider with a price.
    pub fn new(provider: &ProviderId, currency: Currency) -> Self {
        let labels = [("provider", provider.to_string()), ("currency", currency.to_string())];
        Self { micros: counter!(super::COST_MICROS, &labels) }
    }

    /// Counts what one cost.
    pub fn spent(&self, cost: Money) {
        self.micros.increment(cost.micros().unsigned_abs());
    }
}

impl ProviderMetrics {
    /// Makes the handles of a provider.
    pub fn new(provider: &ProviderId) -> Self {
        let id = provider.to_string();
        let attempts =
            |verdict: &Verdict| counter!(super::ATTEMPTS, "provider" => id.clone(), "verdict" => verdict.as_str());
        let receipts = |state: &'static str| counter!(super::RECEIPTS, "provider" => id.clone(), "state" => state);
        Self {
            attempts: Verdict::ALL.iter().map(attempts).collect(),
            submit_seconds: histogram!(super::SUBMIT_SECONDS, "provider" => id.clone()),
            receipt_seconds: histogram!(super::RECEIPT_SECONDS, "provider" => id.clone()),
            receipts: Fate::ALL.iter().map(|fate| receipts(fate.as_str())).collect(),
            pending_receipts: receipts("pending"),
            up: gauge!(super::PROVIDER_UP, "provider" => id.clone()),
            rate_limit: gauge!(super::PROVIDER_RATE_LIMIT, "provider" => id.clone()),
            window_in_use: gauge!(super::PROVIDER_WINDOW_IN_USE, "provider" => id.clone()),
            breaker: gauge!(super::BREAKER_STATE, "provider" => id.clone()),
        }
    }

    /// Counts a hand-over that ended after `elapsed`.
    pub fn attempt(&self, verdict: Verdict, elapsed: Duration) {
        self.attempts[verdict as usize].increment(1);
        self.submit_seconds.record(elapsed);
    }

    /// Counts a receipt: its fate, or `None` for one that only says that the job is on its way.
    pub fn receipt(&self, fate: Option<Fate>) {
        fate.map_or(&self.pending_receipts, |fate| &self.receipts[fate as usize]).increment(1);
    }

    /// Measures the time between a provider's answer and its last receipt.
    pub fn receipt_after(&self, elapsed: Duration) {
        self.receipt_seconds.record(elapsed);
    }

    /// Sets how the provider is: reachable, how fast, how many hand-overs in flight.
    pub fn health(&self, up: bool, rate_per_s: f64, in_flight: u32) {
        self.up.set(f64::from(u8::from(up)));
        self.rate_limit.set(rate_per_s);
        self.window_in_use.set(f64::from(in_flight));
    }

    /// Sets whether work flows.
    pub fn breaker(&self, state: Breaker) {
        self.breaker.set(f64::from(state as u8));
    }
}
