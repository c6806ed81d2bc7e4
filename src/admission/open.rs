//! Guards how many open jobs a tenant may have. As exact as the ledger is fresh: what was accepted in the last seconds
//! is added to what the ledger counts, so a tenant may be held back a moment too long, never let in without bound.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hashbrown::HashMap;

use super::Refusal;
use crate::domain::ids::TenantId;
use crate::domain::time::UnixMicros;
use crate::ledger::{Count, Ledger, Tenant};

/// How old a count may be.
const FRESH_FOR: Duration = Duration::from_secs(2);
/// What was accepted this recently may not be in the ledger yet.
const UNDERWAY_FOR: Duration = Duration::from_secs(10);
/// When a tenant with too many may come back: open jobs end all the time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The open jobs of the tenants that have a limit.
pub(super) struct Open<B> {
    ledger: B,
    known: Arc<Mutex<HashMap<TenantId, Known>>>,
}

#[derive(Default)]
struct Known {
    open: i64,
    asked_at: Option<UnixMicros>,
    underway: VecDeque<(UnixMicros, u32)>,
}

impl<B: Clone> Clone for Open<B> {
    fn clone(&self) -> Self {
        Self { ledger: self.ledger.clone(), known: Arc::clone(&self.known) }
    }
}

impl<B: Ledger> Open<B> {
    pub(super) fn new(ledger: B) -> Self {
        Self { ledger, known: Arc::default() }
    }

    /// Lets `jobs` more of a tenant in.
    ///
    /// # Errors
    /// [`Refusal::TooManyOpen`].
    pub(super) async fn admit(&self, tenant: &Tenant, jobs: u32, now: UnixMicros) -> Result<(), Refusal> {
        let Some(most) = tenant.outstanding_max else { return Ok(()) };
        if self.stale(&tenant.id, now) {
            // With the ledger away the last known count stands, and what comes in is added to it.
            if let Ok(counts) = self.ledger.counts(Some(&tenant.id), UnixMicros(0), UnixMicros::MAX).await {
                self.update(&tenant.id, |known| known.open = open(&counts));
            }
        }
        self.update(&tenant.id, |known| {
            while known.underway.front().is_some_and(|(at, _)| now.since(*at) > UNDERWAY_FOR) {
                known.underway.pop_front();
            }
            let underway: u64 = known.underway.iter().map(|(_, jobs)| u64::from(*jobs)).sum();
            let open = u64::try_from(known.open).unwrap_or(0).saturating_add(underway);
            if open.saturating_add(u64::from(jobs)) > most {
                return Err(Refusal::TooManyOpen { retry_after: RETRY_AFTER });
            }
            known.underway.push_back((now, jobs));
            Ok(())
        })
    }

    /// Takes back what was let in at `now` and is refused all the same.
    pub(super) fn give_back(&self, tenant: &Tenant, jobs: usize, now: UnixMicros) {
        if tenant.outstanding_max.is_none() || jobs == 0 {
            return;
        }
        self.update(&tenant.id, |known| {
            if let Some((_, underway)) = known.underway.iter_mut().rev().find(|(at, _)| *at == now) {
                *underway = underway.saturating_sub(u32::try_from(jobs).unwrap_or(u32::MAX));
            }
        });
    }

    /// Returns whether the caller is the one to ask the ledger again.
    fn stale(&self, tenant: &TenantId, now: UnixMicros) -> bool {
        self.update(tenant, |known| {
            let stale = known.asked_at.is_none_or(|at| now.since(at) > FRESH_FOR);
            if stale {
                known.asked_at = Some(now);
            }
            stale
        })
    }

    fn update<T>(&self, tenant: &TenantId, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        change(known.entry(tenant.clone()).or_default())
    }
}

/// Returns how many jobs were accepted and have no outcome.
fn open(counts: &[Count]) -> i64 {
    let sign = |count: &Count| match &*count.what {
        "accepted" => count.jobs,
        _ if count.fate().is_some() => -count.jobs,
        _ => 0,
    };
    counts.iter().map(sign).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::job::{Class, Kind};

    #[test]
    fn open_jobs_are_those_without_an_outcome() {
        let count = |what: &str, jobs| Count {
            tenant: "acme".parse().unwrap(),
            hour: UnixMicros(0),
            kind: Kind::Sms,
            class: Class::Otp,
            what: what.into(),
            reason: "".into(),
            jobs,
        };
        assert_eq!(open(&[count("accepted", 10), count("delivered", 3), count("sent", 5)]), 7);
    }
}
