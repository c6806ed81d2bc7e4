//! What tests of dispatch work with: a provider that answers nothing by itself.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::Provider;
use crate::channel::{Answered, Channel, Handover, Health, Profile};
use crate::config::InPool;
use crate::domain::job::Kind;
use crate::domain::rate::Rate;
use crate::domain::time::UnixMicros;
use crate::ledger::Directory;

pub(super) const START: UnixMicros = UnixMicros::from_secs(1_000_000);

struct Silent;

impl Channel for Silent {
    fn cost(&self, _: &Handover) -> u32 {
        1
    }

    fn submit(&self, _: Vec<Handover>, _: mpsc::UnboundedSender<Answered>) {}

    fn health(&self) -> Health {
        Health { up: true, rate_per_s: 1_000.0, in_flight: 0, window: 10 }
    }
}

/// Returns a provider of every kind with a window of ten.
pub(super) fn provider(rate: Option<Rate>) -> Arc<Provider> {
    let profile = Profile {
        id: "carrier".parse().unwrap(),
        kinds: Kind::ALL.to_vec(),
        response_timeout: Duration::from_secs(1),
        price: None,
        confirmed: false,
    };
    let in_pool = (profile, InPool { order: 0, weight: 1 });
    Arc::new(Provider::new(in_pool, Arc::new(Silent), rate, Directory::default(), START))
}
