//! Joins receipts with what was sent: whichever comes second settles.

use super::segments::{MessageKey, Place, Verdict};
use super::{Merger, Parked};
use crate::domain::event::{Change, Event, Fate, Outcome, Receipt, Report};
use crate::domain::ids::{JobId, ProviderId};
use crate::domain::time::UnixMicros;

impl Merger {
    /// Merges a receipt: by our reference where it carries one, else by the provider's id.
    pub(super) fn receipt(&mut self, receipt: Receipt) {
        match (receipt.job, receipt.report) {
            (_, Report::Pending) => {}
            (Some(job), report) => self.report(job, None, &receipt, report),
            (None, report @ (Report::Progress(_) | Report::Recorded)) => {
                match self.segments.place(&receipt.provider, &receipt.message_id) {
                    Some(place) => self.report(place.job, Some(place.attempt), &receipt, report),
                    // What matters of its way will be said again by the final report, and no recording is there before its
                    // call has long begun.
                    None => self.merged.tally.unmatched += 1,
                }
            }
            (None, Report::Final(fate)) => self.end_of_segment(receipt, fate),
            // A call has one segment; how it went is no matter of segments.
            (None, Report::Called(_)) => self.end_of_segment(receipt, Fate::Completed),
        }
    }

    fn end_of_segment(&mut self, receipt: Receipt, fate: Fate) {
        let rows = &mut self.merged.recording.segments;
        match self.segments.end(&receipt.provider, &receipt.message_id, fate, rows) {
            Verdict::End(place) => {
                self.waited(&receipt.provider, place, receipt.at);
                let report = match receipt.report {
                    Report::Called(_) => receipt.report,
                    Report::Pending | Report::Progress(_) | Report::Recorded | Report::Final(_) => Report::Final(fate),
                };
                self.report(place.job, Some(place.attempt), &receipt, report);
            }
            Verdict::Waits(place) => self.waited(&receipt.provider, place, receipt.at),
            Verdict::Doubled => self.merged.tally.doubled += 1,
            Verdict::Unknown => self.park(receipt),
        }
    }

    fn waited(&mut self, provider: &ProviderId, place: Place, at: UnixMicros) {
        self.merged.tally.waits.push((provider.clone(), at.since(place.at)));
    }

    /// Keeps a receipt until its job is known; the first one for a message stands.
    fn park(&mut self, receipt: Receipt) {
        self.merged.tally.unmatched += 1;
        let key = MessageKey(receipt.provider.clone(), receipt.message_id.clone());
        self.parked.entry(key).or_insert(Parked { receipt, stored: false });
    }

    /// Writes what a receipt says of a job.
    fn report(&mut self, job: JobId, attempt: Option<u16>, receipt: &Receipt, report: Report) {
        let Some(known) = self.known.get_mut(&job) else {
            // A reference that is not ours, or to a job that is no longer kept.
            self.merged.tally.unmatched += 1;
            return;
        };
        let change = match report {
            Report::Pending => return,
            Report::Progress(state) => Change::Progress(state),
            Report::Recorded => Change::Recorded { report: receipt.code.clone() },
            Report::Called(result) => {
                Change::Called { provider: receipt.provider.clone(), result, report: receipt.code.clone(), cost: None }
            }
            // A provider's code for "all is well" is no reason.
            Report::Final(fate @ (Fate::Delivered | Fate::Completed)) => Change::Settled(Outcome::new(fate, "")),
            Report::Final(fate) => Change::Settled(Outcome::new(fate, receipt.code.clone())),
        };
        let event = Event {
            job,
            tenant: known.tenant.clone(),
            kind: known.kind,
            class: known.class,
            at: receipt.at,
            // It reports on a hand-over, so there was one even if its event is still on its way.
            attempt: attempt.unwrap_or_else(|| known.standing.answered().max(1)),
            change,
        };
        match report {
            Report::Called(result) => self.call_reported(event, result),
            Report::Pending | Report::Progress(_) | Report::Recorded | Report::Final(_) => _ = self.event(event),
        }
    }
}
