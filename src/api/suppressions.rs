//! The suppression service.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::Ports;
use super::access::caller;
use super::convert::{self, Invalid, Problem};
use super::status::Error;
use crate::domain::event::Fact;
use crate::domain::ids::TenantId;
use crate::domain::suppression::{Scope, Source, Suppression};
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// Adds, removes and looks up opt-outs.
pub(super) struct Suppressions<Q, L, B> {
    ports: Arc<Ports<Q, L, B>>,
}

impl<Q: Queue, L: Limits, B: Ledger> Suppressions<Q, L, B> {
    pub(super) fn new(ports: Arc<Ports<Q, L, B>>) -> Self {
        Self { ports }
    }

    /// Limits first, since they bind claims; then record, for the ledger; then the answer.
    async fn try_add(&self, tenant: &TenantId, shown: &pb::Suppression) -> Result<Suppression, Error> {
        let suppression = self.parse(tenant, shown)?;
        self.ports.limits.suppress(&suppression).await?;
        self.ports.record(vec![Fact::Suppressed(suppression.clone())]).await.map_err(Error::NotDurable)?;
        Ok(suppression)
    }

    /// Record first: should limits be lost, the ledger must not bring back what was taken back.
    async fn try_remove(&self, tenant: &TenantId, shown: &pb::Suppression) -> Result<(), Error> {
        let suppression = self.parse(tenant, shown)?;
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

    fn parse(&self, tenant: &TenantId, shown: &pb::Suppression) -> Result<Suppression, Invalid> {
        let within = |invalid: Invalid| invalid.within("suppression");
        let address = convert::one_address(shown.address.clone()).map_err(|e| within(e.within("address")))?;
        Ok(Suppression {
            tenant: tenant.clone(),
            address: self.ports.sealer.address_key(&address),
            scope: convert::scope(shown, tenant, &self.ports.sealer).map_err(within)?,
            source: Source::Api,
            at: self.ports.clock.now(),
        })
    }
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
        let kept = self.try_add(&caller.tenant.id, &shown).await?;
        let suppression = Some(convert::suppression_to_pb(&kept, Some(&shown)));
        Ok(Response::new(pb::SuppressionServiceAddResponse { suppression }))
    }

    async fn remove(
        &self,
        request: Request<pb::SuppressionServiceRemoveRequest>,
    ) -> Result<Response<pb::SuppressionServiceRemoveResponse>, Status> {
        let caller = caller(&request)?;
        let shown = given(request.into_inner().suppression)?;
        self.try_remove(&caller.tenant.id, &shown).await?;
        Ok(Response::new(pb::SuppressionServiceRemoveResponse {}))
    }

    async fn check(
        &self,
        request: Request<pb::SuppressionServiceCheckRequest>,
    ) -> Result<Response<pb::SuppressionServiceCheckResponse>, Status> {
        let caller = caller(&request)?;
        let found = self.try_check(&caller.tenant.id, request.into_inner().address).await?;
        Ok(Response::new(pb::SuppressionServiceCheckResponse {
            suppressed: found.iter().any(|found| matches!(found.scope, Scope::Brand | Scope::Everything)),
            suppressions: found.iter().map(|found| convert::suppression_to_pb(found, None)).collect(),
        }))
    }
}
