//! What callbacks of providers come to.

use hashbrown::HashMap;
use metrics::{Counter, counter};

use crate::domain::ids::ProviderId;
use crate::domain::job::words;

words! {
    /// What became of a callback.
    CallbackResult {
        /// What it says is durable.
        Taken = "taken",
        /// It was taken before, and was only thanked for.
        Replayed = "replayed",
        /// It could not be made durable in time: the provider says it again.
        NotDurable = "not_durable",
        /// It is not signed by the provider.
        Signature = "signature",
        /// It says nothing that is understood.
        Unreadable = "unreadable",
        /// The provider signed it at another time.
        Stale = "stale",
        /// Its body is too long, or breaks off.
        Body = "body",
        /// No provider has that path.
        Unknown = "unknown",
    }
}

/// Counts callbacks.
#[derive(Debug)]
pub struct CallbackMetrics {
    providers: HashMap<ProviderId, Vec<Counter>>,
    unknown: Counter,
}

impl CallbackMetrics {
    /// Makes the handles of these providers.
    pub fn new<'a>(providers: impl IntoIterator<Item = &'a ProviderId>) -> Self {
        let handles = |id: &ProviderId| {
            let handle = |result: &CallbackResult| counter(id.as_str(), *result);
            (id.clone(), CallbackResult::ALL.iter().map(handle).collect())
        };
        let unknown = counter("unknown", CallbackResult::Unknown);
        Self { providers: providers.into_iter().map(handles).collect(), unknown }
    }

    /// Counts a callback to a provider.
    pub fn count(&self, provider: &ProviderId, result: CallbackResult) {
        self.providers.get(provider).map_or(&self.unknown, |counters| &counters[result as usize]).increment(1);
    }

    /// Counts a callback to no provider of ours.
    pub fn unknown(&self) {
        self.unknown.increment(1);
    }
}

fn counter(provider: &str, result: CallbackResult) -> Counter {
    counter!(super::CALLBACKS, "provider" => provider.to_owned(), "result" => result.as_str())
}
