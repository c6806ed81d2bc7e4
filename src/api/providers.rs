//! The provider service.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::convert::{self, Invalid, Problem};
use super::status::Error;
use crate::channel::{Channel, Profile};
use crate::domain::ids::PoolId;
use crate::pb;

/// A provider of this process.
#[derive(Clone)]
pub struct Entry {
    /// What it is.
    pub profile: Profile,
    /// How it works: `smpp`, `simulated`, ...
    pub protocol: Box<str>,
    /// The pool it is in.
    pub pool: PoolId,
    /// Itself.
    pub channel: Arc<dyn Channel>,
}

/// Lists providers with their health.
pub(super) struct Providers {
    /// By id.
    entries: Vec<Entry>,
}

impl Providers {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        entries.sort_by(|a, b| a.profile.id.cmp(&b.profile.id));
        Self { entries }
    }
}

fn show(entry: &Entry) -> pb::Provider {
    let health = entry.channel.health();
    let state = if health.up { pb::ProviderState::Up } else { pb::ProviderState::Down };
    pb::Provider {
        provider_id: entry.profile.id.as_str().into(),
        kinds: entry.profile.kinds.iter().map(|&kind| convert::kind_to_pb(kind).into()).collect(),
        protocol: entry.protocol.as_ref().into(),
        state: state.into(),
        rate_per_second: health.rate_per_s,
        in_flight: health.in_flight,
        window: health.window,
        pools: vec![entry.pool.as_str().into()],
        price: entry.profile.price.map(convert::money_to_pb),
    }
}

#[tonic::async_trait]
impl pb::provider_service_server::ProviderService for Providers {
    async fn list(
        &self,
        request: Request<pb::ProviderServiceListRequest>,
    ) -> Result<Response<pb::ProviderServiceListResponse>, Status> {
        let raw = request.get_ref();
        let size = usize::try_from(convert::page_size(raw.page_size).map_err(Error::from)?).unwrap_or(usize::MAX);
        let known = |entry: &Entry| entry.profile.id.as_str() == raw.page_token;
        if !raw.page_token.is_empty() && !self.entries.iter().any(known) {
            return Err(Error::from(Invalid::new("page_token", Problem::Token)).into());
        }
        // Provider ids are in the operator's own settings: the last one shown serves as the token.
        let after = |entry: &&Entry| raw.page_token.is_empty() || entry.profile.id.as_str() > raw.page_token.as_str();
        let mut left = self.entries.iter().filter(after);
        let providers: Vec<_> = left.by_ref().take(size).map(show).collect();
        let last = providers.last().map(|provider| provider.provider_id.clone());
        let next_page_token = left.next().and(last).unwrap_or_default();
        Ok(Response::new(pb::ProviderServiceListResponse { providers, next_page_token }))
    }
}
