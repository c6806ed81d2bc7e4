//! The admin service: acts on the running service itself.

mod dead;

use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Response, Status};

use super::Ports;
use super::convert::{self, Invalid, Problem};
use super::status::Error;
use crate::ledger::Ledger;
use crate::limits::Limits;
use crate::pb;
use crate::queue::Queue;

/// Longest step of the virtual clock: as far ahead as jobs are scheduled.
const STEP_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

/// Moves the virtual clock, shows dead letters and puts them back to work.
pub(super) struct Admin<Q, L, B> {
    ports: Arc<Ports<Q, L, B>>,
}

impl<Q: Queue, L: Limits, B: Ledger> Admin<Q, L, B> {
    pub(super) fn new(ports: Arc<Ports<Q, L, B>>) -> Self {
        Self { ports }
    }

    fn advance(&self, by: Option<prost_types::Duration>) -> Result<pb::AdvanceClockResponse, Error> {
        let by = by.ok_or_else(|| Invalid::new("by", Problem::Missing))?;
        let by = convert::duration("by", by)?;
        if by.is_zero() || by > STEP_MAX {
            let is = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
            return Err(Invalid::new("by", Problem::OutOfRange { is, least: 1, most: 400 * 24 * 3600 }).into());
        }
        let now = self.ports.clock.advance(by).ok_or(Error::RealClock)?;
        Ok(pb::AdvanceClockResponse { now: Some(convert::moment_to_pb(now)) })
    }
}

#[tonic::async_trait]
impl<Q: Queue, L: Limits, B: Ledger> pb::admin_service_server::AdminService for Admin<Q, L, B> {
    async fn advance_clock(
        &self,
        request: Request<pb::AdvanceClockRequest>,
    ) -> Result<Response<pb::AdvanceClockResponse>, Status> {
        Ok(Response::new(self.advance(request.into_inner().by)?))
    }

    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Result<Response<pb::ListDeadLettersResponse>, Status> {
        Ok(Response::new(self.dead_letters(request.get_ref()).await?))
    }

    async fn redrive(&self, request: Request<pb::RedriveRequest>) -> Result<Response<pb::RedriveResponse>, Status> {
        Ok(Response::new(self.back_to_work(request.get_ref()).await?))
    }
}
