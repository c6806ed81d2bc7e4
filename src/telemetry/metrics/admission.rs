//! What admission counts.

use std::time::Duration;

use metrics::{Counter, Histogram, counter, histogram};

use super::bounded::Bounded;
use crate::domain::ids::TenantId;
use crate::domain::job::{Class, Kind, words};

words! {
    /// Why a job was refused.
    RefusedAs {
        /// A field can never work.
        Invalid = "invalid",
        /// No or bad credential.
        Unauthenticated = "unauthenticated",
        /// A credential whose time is over.
        ExpiredKey = "expired_key",
        /// Nothing carries its kind.
        NoProvider = "no_provider",
        /// The key was used for something else.
        KeyConflict = "key_conflict",
        /// Faster than the tenant may submit.
        Rate = "rate",
        /// More open jobs than the tenant may have.
        Quota = "quota",
        /// Not known to be durable.
        NotDurable = "not_durable",
        /// Keys could not be checked.
        KeysAway = "keys_away",
        /// The process is stopping.
        Draining = "draining",
    }
}

/// What admission counts.
#[derive(Debug)]
pub struct AdmissionMetrics {
    accepted: Vec<Vec<Counter>>,
    accepted_by_tenant: Bounded<Counter>,
    refused: Vec<Counter>,
    refused_by_tenant: Bounded<Counter>,
    deferred: Bounded<Counter>,
    keys_unchecked: Counter,
    accept_seconds: Histogram,
}

impl AdmissionMetrics {
    /// Makes the handles.
    pub fn new() -> Self {
        let accepted = |kind: &Kind| {
            let with =
                |class: &Class| counter!(super::JOBS_ACCEPTED, "kind" => kind.as_str(), "class" => class.as_str());
            Class::ALL.iter().map(with).collect()
        };
        Self {
            accepted: Kind::ALL.iter().map(accepted).collect(),
            accepted_by_tenant: Bounded::new(
                |tenant| counter!(super::TENANT_JOBS_ACCEPTED, "tenant" => String::from(tenant)),
            ),
            refused: (RefusedAs::ALL.iter())
                .map(|reason| counter!(super::JOBS_REFUSED, "reason" => reason.as_str()))
                .collect(),
            refused_by_tenant: Bounded::new(
                |tenant| counter!(super::TENANT_JOBS_REFUSED, "tenant" => String::from(tenant)),
            ),
            deferred: Bounded::new(|reason| counter!(super::JOBS_DEFERRED, "reason" => String::from(reason))),
            keys_unchecked: counter!(super::KEYS_UNCHECKED),
            accept_seconds: histogram!(super::ACCEPT_SECONDS),
        }
    }

    /// Counts jobs of one call that were accepted after `elapsed`.
    pub fn accepted(&self, tenant: &TenantId, (kind, class): (Kind, Class), jobs: usize, elapsed: Duration) {
        self.accepted[kind as usize][class as usize].increment(jobs as u64);
        self.accepted_by_tenant.get(tenant.as_str()).increment(jobs as u64);
        self.accept_seconds.record(elapsed);
    }

    /// Counts jobs that were refused; `tenant` where it is known.
    pub fn refused(&self, tenant: Option<&TenantId>, reason: RefusedAs, jobs: usize) {
        self.refused[reason as usize].increment(jobs as u64);
        if let Some(tenant) = tenant {
            self.refused_by_tenant.get(tenant.as_str()).increment(jobs as u64);
        }
    }

    /// Counts accepted jobs that wait because of `reason`: a send window.
    pub fn deferred(&self, reason: &str, jobs: usize) {
        self.deferred.get(reason).increment(jobs as u64);
    }

    /// Counts a keyed job that was accepted without a look at its key.
    pub fn keys_away(&self) {
        self.keys_unchecked.increment(1);
    }
}

impl Default for AdmissionMetrics {
    fn default() -> Self {
        Self::new()
    }
}
