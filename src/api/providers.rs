//! The provider service.

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::Ports;
use super::access::{Caller, caller};
use super::convert::{self, Invalid, Problem};
use super::status::Error;
use super::tenants::named;
use crate::channel::{Channel, Profile};
use crate::domain::hold::Hold;
use crate::domain::ids::{PoolId, ProviderId};
use crate::domain::sender;
use crate::domain::time::UnixMicros;
use crate::ledger::{Filter, Ledger, Tenant};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;
use crate::queue::frame::Frame;
use crate::telemetry::metrics::Breaker;

/// When a tenant's settings bind on every node: they are read every 2 s, and held to for 2 s by what is in hand.
const BINDS_AFTER: Duration = Duration::from_secs(6);
/// No job waits for longer: it may be scheduled 400 days ahead, and wait a month for a cap.
const WAITS_MAX: Duration = Duration::from_secs(431 * 24 * 3_600);
/// Agenda entries read at a time to count their jobs, and counted at most.
const COUNTED_AT_ONCE: u32 = 500;
const COUNTED_MAX: u64 = 100_000;

/// A provider of the settings.
#[derive(Clone)]
pub struct Entry {
    /// What it is.
    pub profile: Profile,
    /// How it works: `smpp`, `simulated`, ...
    pub protocol: Box<str>,
    /// The pool it is in.
    pub pool: PoolId,
    /// Itself, where this process hands jobs to it.
    pub works: Option<Works>,
}

/// A provider of this process, as it works.
#[derive(Clone)]
pub struct Works {
    /// Its connection.
    pub channel: Arc<dyn Channel>,
    /// Returns whether work flows to it.
    pub breaker: Arc<dyn Fn() -> Breaker + Send + Sync>,
}

/// Lists providers with their health, holds them back and lets them work.
pub(super) struct Providers<Q, L, B> {
    ports: Arc<Ports<Q, L, B>>,
    /// By id.
    entries: Vec<Entry>,
}

impl<Q: Queue, L: Limits, B: Ledger> Providers<Q, L, B> {
    pub(super) fn new(ports: Arc<Ports<Q, L, B>>) -> Self {
        let mut entries = ports.providers.clone();
        entries.sort_by(|a, b| a.profile.id.cmp(&b.profile.id));
        Self { ports, entries }
    }

    /// Holds a provider of the settings back, or lets it work; returns how it is then.
    async fn hold(&self, id: &str, hold: Option<Hold>) -> Result<pb::Provider, Error> {
        let id: ProviderId = convert::name("provider_id", id)?;
        let entry = self.entries.iter().find(|entry| entry.profile.id == id).ok_or(Error::NotFound("provider"))?;
        let Ports { directory, ledger, .. } = &*self.ports;
        directory.put_hold(ledger, &id, hold).await?;
        tracing::info!(provider = %id, hold = hold.map_or("none", Hold::as_str), "provider held or let go");
        Ok(show(entry, directory.hold(&id)))
    }

    /// Lets one sender of the caller's tenant take over from another, and waits until that binds everywhere.
    async fn reassign(
        &self,
        caller: &Caller,
        raw: pb::ReassignSenderRequest,
    ) -> Result<pb::ReassignSenderResponse, Error> {
        let Ports { admission, directory, ledger, clock, .. } = &*self.ports;
        let before = named(directory, caller, "")?;
        let (from, to) = convert::reassignment(&before, raw)?;
        // Asked before anything changes: where limits do not answer, nothing has.
        let recipients = admission.kept_to(&before, &from, clock.now()).await?;
        // As it is by now: others may have changed it meanwhile.
        let (before, now) = (named(directory, caller, "")?, clock.now());
        // As of when it is known everywhere: until then `from` may still be given to jobs and recipients.
        let at = now.plus(BINDS_AFTER);
        let mut tenant = before.as_ref().clone();
        let times = (at, now.minus(WAITS_MAX));
        if !sender::reassign(&mut tenant.sender_pools, &mut tenant.reassigned, (&from, &to), times) {
            return Err(convert::too_many_reassigned().into());
        }
        directory.put_tenant(ledger, &tenant).await?;
        tracing::info!(tenant = %tenant.id, "a sender took over from another");
        clock.sleep_until(at).await;
        let jobs = self.waiting(&before, &from, at).await?;
        Ok(pb::ReassignSenderResponse { jobs, recipients })
    }

    /// Counts the jobs that would leave from a sender, were accepted up to `at`, and wait in the agenda.
    async fn waiting(&self, tenant: &Tenant, sender: &str, at: UnixMicros) -> Result<u64, Error> {
        let Ports { ledger, sealer, .. } = &*self.ports;
        let (mut jobs, mut after) = (0, Default::default());
        loop {
            let page = ledger.entries_of(&tenant.id, &Filter::default(), after, COUNTED_AT_ONCE).await?;
            for entry in &page.0 {
                let Ok(Frame::Jobs(envelopes)) = Frame::decode(&entry.payload, sealer) else { continue };
                let of_sender = envelopes
                    .iter()
                    .map(|envelope| (&envelope.shared, envelope.jobs.len() as u64))
                    .filter(|(shared, _)| shared.accepted_at <= at && tenant.sender_of(shared, at) == sender);
                jobs += of_sender.map(|(_, jobs)| jobs).sum::<u64>();
            }
            match page.1 {
                Some(next) if jobs < COUNTED_MAX => after = next,
                Some(_) | None => return Ok(jobs.min(COUNTED_MAX)),
            }
        }
    }
}

fn show(entry: &Entry, hold: Option<Hold>) -> pb::Provider {
    let health = entry.works.as_ref().map(|works| works.channel.health());
    let in_flight = health.map_or(0, |health| health.in_flight);
    pb::Provider {
        provider_id: entry.profile.id.as_str().into(),
        kinds: entry.profile.kinds.iter().map(|&kind| convert::kind_to_pb(kind).into()).collect(),
        protocol: entry.protocol.as_ref().into(),
        state: state(entry.works.as_ref(), hold, in_flight).into(),
        rate_per_second: health.map_or(0.0, |health| health.rate_per_s),
        in_flight,
        window: health.map_or(0, |health| health.window),
        pools: vec![entry.pool.as_str().into()],
        price: entry.profile.price.map(convert::money_to_pb),
    }
}

fn state(works: Option<&Works>, hold: Option<Hold>, in_flight: u32) -> pb::ProviderState {
    match (hold, works) {
        (Some(Hold::Draining), Some(_)) if in_flight > 0 => pb::ProviderState::Draining,
        (Some(Hold::Paused | Hold::Draining), _) => pb::ProviderState::Paused,
        (None, None) => pb::ProviderState::Unspecified,
        (None, Some(works)) if works.channel.health().up && (works.breaker)() == Breaker::Closed => {
            pb::ProviderState::Up
        }
        (None, Some(_)) => pb::ProviderState::Down,
    }
}

#[tonic::async_trait]
impl<Q: Queue, L: Limits, B: Ledger> pb::provider_service_server::ProviderService for Providers<Q, L, B> {
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
        let hold = |entry: &Entry| self.ports.directory.hold(&entry.profile.id);
        let providers: Vec<_> = left.by_ref().take(size).map(|entry| show(entry, hold(entry))).collect();
        let last = providers.last().map(|provider| provider.provider_id.clone());
        let next_page_token = left.next().and(last).unwrap_or_default();
        Ok(Response::new(pb::ProviderServiceListResponse { providers, next_page_token }))
    }

    async fn pause(
        &self,
        request: Request<pb::ProviderServicePauseRequest>,
    ) -> Result<Response<pb::ProviderServicePauseResponse>, Status> {
        let provider = Some(self.hold(&request.get_ref().provider_id, Some(Hold::Paused)).await?);
        Ok(Response::new(pb::ProviderServicePauseResponse { provider }))
    }

    async fn resume(
        &self,
        request: Request<pb::ProviderServiceResumeRequest>,
    ) -> Result<Response<pb::ProviderServiceResumeResponse>, Status> {
        let provider = Some(self.hold(&request.get_ref().provider_id, None).await?);
        Ok(Response::new(pb::ProviderServiceResumeResponse { provider }))
    }

    async fn reassign_sender(
        &self,
        request: Request<pb::ReassignSenderRequest>,
    ) -> Result<Response<pb::ReassignSenderResponse>, Status> {
        let caller = caller(&request)?;
        Ok(Response::new(self.reassign(&caller, request.into_inner()).await?))
    }

    async fn drain(
        &self,
        request: Request<pb::ProviderServiceDrainRequest>,
    ) -> Result<Response<pb::ProviderServiceDrainResponse>, Status> {
        let provider = Some(self.hold(&request.get_ref().provider_id, Some(Hold::Draining)).await?);
        Ok(Response::new(pb::ProviderServiceDrainResponse { provider }))
    }
}
