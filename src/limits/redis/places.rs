//! Which places are taken in caps, and places that turn out not to count.

use super::{Inner, link, wire};
use crate::domain::time::UnixMicros;
use crate::limits::{Claim, Held, LimitsError, Vacate};

impl Inner {
    /// Returns the places that are taken at `now` in the cap of each take, newest first.
    pub(super) async fn places(&self, now: UnixMicros, claim: &Claim) -> Result<Vec<Vec<Held>>, LimitsError> {
        let log = |log| self.names.recipient(&claim.tenant, log);
        let logs = claim.takes.iter().map(|take| log(take.log.unwrap_or(claim.recipient).0));
        let keys: Vec<_> = std::iter::once(self.names.identity()).chain(logs).collect();
        let mut packed = Vec::new();
        wire::put_takes(&mut packed, &claim.takes, |_| 0);
        let question = |live: &link::Live| {
            let mut call = self.scripts.places.call(&keys);
            call.arg(&*live.identity.id).arg(now.0).arg(&packed);
            call
        };
        let answer: Vec<u8> = self.link.ask(&self.scripts, question).await?;
        Ok(wire::held(&answer, claim.takes.len())?)
    }

    /// Frees the places that touches hold in some caps.
    pub(super) async fn vacate(&self, places: &[Vacate]) -> Result<(), LimitsError> {
        let (mut keys, mut packed) = (vec![self.names.identity()], Vec::with_capacity(places.len() * 16));
        for vacate in places {
            for log in std::iter::once(&vacate.recipient).chain(&vacate.logs) {
                keys.push(self.names.recipient(&vacate.tenant, log.0));
                wire::put_vacate(&mut packed, vacate);
            }
        }
        let question = |_: &link::Live| {
            let mut call = self.scripts.vacate.call(&keys);
            call.arg(&packed);
            call
        };
        self.link.ask::<()>(&self.scripts, question).await
    }
}
