//! The admin service: acts on the running service itself.

use std::time::Duration;

use tonic::{Request, Response, Status};

use super::convert::{self, Invalid, Problem};
use super::status::Error;
use crate::domain::time::Clock;
use crate::pb;

/// Longest step of the virtual clock: as far ahead as jobs are scheduled.
const STEP_MAX: Duration = Duration::from_secs(400 * 24 * 3600);

/// Moves the virtual clock.
pub(super) struct Admin {
    clock: Clock,
}

impl Admin {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock }
    }

    fn advance(&self, by: Option<prost_types::Duration>) -> Result<pb::AdvanceClockResponse, Error> {
        let by = by.ok_or_else(|| Invalid::new("by", Problem::Missing))?;
        let by = convert::duration("by", by)?;
        if by.is_zero() || by > STEP_MAX {
            let is = i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
            return Err(Invalid::new("by", Problem::OutOfRange { is, least: 1, most: 400 * 24 * 3600 }).into());
        }
        let now = self.clock.advance(by).ok_or(Error::RealClock)?;
        Ok(pb::AdvanceClockResponse { now: Some(convert::moment_to_pb(now)) })
    }
}

#[tonic::async_trait]
impl pb::admin_service_server::AdminService for Admin {
    async fn advance_clock(
        &self,
        request: Request<pb::AdvanceClockRequest>,
    ) -> Result<Response<pb::AdvanceClockResponse>, Status> {
        Ok(Response::new(self.advance(request.into_inner().by)?))
    }
}
