//! Providers from the settings: their channels, and their places in the pools.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::{Base, SharedLimits, StartError};
use crate::api::ProviderEntry;
use crate::channel::simulated::{self, Simulated};
use crate::channel::sms::smpp::{self, Smpp};
use crate::channel::{Channel, Inbound, Profile};
use crate::config::{Link, Provider, Settings};
use crate::dispatch::{self, Gate, Gates};
use crate::policy::routes::Member;

/// How often a provider's health is shown in the metrics.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Returns every provider's place among the pools.
pub(super) fn members(settings: &Settings) -> Vec<Member> {
    let member = |provider: &Provider| Member {
        pool: provider.pool.clone(),
        kinds: provider.kinds.clone(),
        rate: provider.rate,
    };
    settings.providers.iter().map(member).collect()
}

/// The providers as they run.
pub(super) struct Started {
    /// The gates of their pools.
    pub(super) gates: Gates<SharedLimits>,
    /// What the API lists.
    pub(super) entries: Vec<ProviderEntry>,
}

/// Starts every provider.
pub(super) fn start(base: &Base, inbox: &mpsc::Sender<Inbound>) -> Result<Started, StartError> {
    let mut entries = Vec::new();
    let mut pools: hashbrown::HashMap<_, Vec<_>> = hashbrown::HashMap::new();
    for provider in &base.settings.providers {
        let profile = Profile {
            id: provider.id.clone(),
            kinds: provider.kinds.clone(),
            response_timeout: provider.response_timeout,
        };
        let channel = channel(base, provider, inbox.clone())?;
        entries.push(ProviderEntry {
            profile: profile.clone(),
            protocol: protocol(&provider.link).into(),
            pool: provider.pool.clone(),
            channel: Arc::clone(&channel),
        });
        let provider_in_pool = dispatch::Provider::new(profile, channel, provider.rate, base.clock.now());
        pools.entry(provider.pool.clone()).or_default().push(Arc::new(provider_in_pool));
    }
    let all: Vec<_> = pools.values().flatten().cloned().collect();
    let (clock, stop) = (base.clock.clone(), base.groups.backends.stop().clone());
    base.groups.backends.spawn("provider_health", async move {
        while stop.run_until_cancelled(clock.pause(SHOW_EVERY)).await.is_some() {
            all.iter().for_each(|provider| provider.show(clock.now()));
        }
    });
    let gate = |providers| Arc::new(Gate::new(providers, base.pacer.clone(), base.clock.clone()));
    let gates = pools.into_iter().map(|(pool, providers)| (pool, gate(providers))).collect();
    Ok(Started { gates, entries })
}

fn protocol(link: &Link) -> &'static str {
    match link {
        Link::Smpp(_) => "smpp",
        Link::Simulated(_) => "simulated",
    }
}

fn channel(base: &Base, provider: &Provider, inbox: mpsc::Sender<Inbound>) -> Result<Arc<dyn Channel>, StartError> {
    let (tasks, clock) = (&base.groups.channels, &base.clock);
    match &provider.link {
        Link::Smpp(link) => {
            let wrong = |error: smpp::settings::InvalidRoute| StartError::Provider {
                id: provider.id.as_str().into(),
                reason: error.to_string().into(),
            };
            Ok(Smpp::start(smpp::Settings::of(provider, link).map_err(wrong)?, inbox, tasks, clock))
        }
        Link::Simulated(link) => {
            Ok(Arc::new(Simulated::spawn(simulated::Settings::of(provider, link), clock, tasks, inbox)))
        }
    }
}
