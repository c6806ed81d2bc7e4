//! The suppression service.

mod bulk;

use std::sync::Arc;

use tonic::codegen::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use super::Ports;
use super::access::{Caller, caller};
use super::convert::{self, Invalid, Problem};
use super::status::Error;
use crate::domain::event::Fact;
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;
use crate::domain::suppression::{Plain, Scope, Source, Suppression};
use crate::ledger::{Ledger, Role};
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;
use crate::telemetry::metrics;

/// Adds, removes and looks up opt-outs.
pub(super) struct Suppressions<Q, L, B> {
    ports: Arc<Ports<Q, L, B>>,
}

impl<Q: Queue, L: Limits, B: Ledger> Suppressions<Q, L, B> {
    pub(super) fn new(ports: Arc<Ports<Q, L, B>>) -> Self {
        Self { ports }
    }

    async fn try_add(&self, caller: &Caller, shown: pb::Suppression) -> Result<Suppression, Error> {
        let (suppression, plain) = self.ports.opt_out(&caller.tenant.id, shown, Source::Api)?;
        may_say(caller, &suppression, "SuppressionService/Add with this scope")?;
        self.ports.suppress(vec![(suppression.clone(), plain)]).await?;
        Ok(suppression)
    }

    /// Record first: should limits be lost, the ledger must not bring back what was taken back.
    async fn try_remove(&self, caller: &Caller, shown: pb::Suppression) -> Result<(), Error> {
        let (suppression, _) = self.ports.opt_out(&caller.tenant.id, shown, Source::Api)?;
        may_say(caller, &suppression, "SuppressionService/Remove with this scope")?;
        let fact = Fact::Unsuppressed(suppression.clone(), Source::Api);
        self.ports.record(vec![fact]).await.map_err(Error::NotDurable)?;
        self.ports.limits.unsuppress(&suppression, Source::Api).await?;
        Ok(())
    }

    /// Asks limits, which know first; while they are away, the ledger.
    async fn try_check(&self, tenant: &TenantId, address: Option<pb::Recipient>) -> Result<Vec<Suppression>, Error> {
        let address = convert::one_address(address).map_err(|invalid| invalid.within("address"))?;
        let key = self.ports.sealer.address_key(&address);
        match self.ports.limits.suppressions(tenant, key).await {
            Ok(found) => Ok(found),
            Err(error) => {
                tracing::warn!(%error, "limits gave no answer, asking the ledger for opt-outs");
                Ok(self.ports.ledger.suppressions(tenant, key).await?)
            }
        }
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Ports<Q, L, B> {
    /// Checks an opt-out that a caller names; the path of a problem starts at the request.
    fn opt_out(
        &self,
        tenant: &TenantId,
        shown: pb::Suppression,
        source: Source,
    ) -> Result<(Suppression, Plain), Invalid> {
        let parsed = convert::suppression(shown, tenant, &self.sealer);
        let (address, (scope, kind), word) = parsed.map_err(|invalid| invalid.within("suppression"))?;
        let (key, at) = (self.sealer.address_key(&address), self.clock.now());
        let suppression = Suppression { tenant: tenant.clone(), address: key, scope, kind, source, at };
        Ok((suppression, Plain { address, word }))
    }

    /// Makes opt-outs bind: limits first, since they bind claims; then record, for the ledger. Nothing of it needs the
    /// ledger.
    async fn suppress(&self, opt_outs: Vec<(Suppression, Plain)>) -> Result<(), Error> {
        let (suppressions, plains): (Vec<_>, Vec<_>) = opt_outs.into_iter().unzip();
        self.limits.suppress(&suppressions).await?;
        for (suppression, plain) in suppressions.iter().zip(&plains) {
            let by_address = if plain.address.starts_with('+') { Kind::Sms } else { Kind::Template };
            metrics::opted_out(suppression.kind.unwrap_or(by_address), suppression.source);
        }
        let facts =
            suppressions.into_iter().zip(plains).map(|(suppression, plain)| Fact::Suppressed(suppression, plain));
        self.record(facts.collect()).await.map_err(Error::NotDurable)
    }
}

/// Only operators speak for every tenant.
fn may_say(caller: &Caller, suppression: &Suppression, what: &'static str) -> Result<(), Error> {
    let allowed = suppression.scope != Scope::Global || caller.role == Role::Operator;
    if allowed { Ok(()) } else { Err(Error::Denied(what)) }
}

fn given(suppression: Option<pb::Suppression>) -> Result<pb::Suppression, Error> {
    suppression.ok_or_else(|| Invalid::new("suppression", Problem::Missing).into())
}

#[tonic::async_trait]
impl<Q: Queue, L: Limits, B: Ledger> pb::suppression_service_server::SuppressionService for Suppressions<Q, L, B> {
    async fn add(
        &self,
        request: Request<pb::SuppressionServiceAddRequest>,
    ) -> Result<Response<pb::SuppressionServiceAddResponse>, Status> {
        let caller = caller(&request)?;
        let shown = given(request.into_inner().suppression)?;
        let kept = self.try_add(&caller, shown.clone()).await?;
        let suppression = Some(convert::suppression_to_pb(&kept, Some(&shown)));
        Ok(Response::new(pb::SuppressionServiceAddResponse { suppression }))
    }

    async fn remove(
        &self,
        request: Request<pb::SuppressionServiceRemoveRequest>,
    ) -> Result<Response<pb::SuppressionServiceRemoveResponse>, Status> {
        let caller = caller(&request)?;
        let shown = given(request.into_inner().suppression)?;
        self.try_remove(&caller, shown).await?;
        Ok(Response::new(pb::SuppressionServiceRemoveResponse {}))
    }

    async fn check(
        &self,
        request: Request<pb::SuppressionServiceCheckRequest>,
    ) -> Result<Response<pb::SuppressionServiceCheckResponse>, Status> {
        let caller = caller(&request)?;
        let found = self.try_check(&caller.tenant.id, request.into_inner().address).await?;
        let whole = |found: &Suppression| {
            found.kind.is_none() && matches!(found.scope, Scope::Brand | Scope::Everything | Scope::Global)
        };
        Ok(Response::new(pb::SuppressionServiceCheckResponse {
            suppressed: found.iter().any(whole),
            suppressions: found.iter().map(|found| convert::suppression_to_pb(found, None)).collect(),
        }))
    }

    async fn import(
        &self,
        request: Request<Streaming<pb::SuppressionServiceImportRequest>>,
    ) -> Result<Response<BoxStream<pb::SuppressionServiceImportResponse>>, Status> {
        let caller = caller(&request)?;
        let answers = bulk::import(Arc::clone(&self.ports), caller, request.into_inner());
        Ok(Response::new(Box::pin(answers)))
    }

    async fn export(
        &self,
        request: Request<pb::SuppressionServiceExportRequest>,
    ) -> Result<Response<BoxStream<pb::SuppressionServiceExportResponse>>, Status> {
        let caller = caller(&request)?;
        let token = request.into_inner().page_token;
        let pages = bulk::export(Arc::clone(&self.ports), caller.tenant.id.clone(), &token)?;
        Ok(Response::new(Box::pin(pages)))
    }
}
