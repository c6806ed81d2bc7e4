//! Opt-outs and cancellations: who or what must not be sent any more.

use super::ids::{JobId, TenantId};
use super::job::words;
use super::keys::{AddressKey, RecipientKey, WordKey};
use super::time::UnixMicros;
use uuid::Uuid;

/// How far an opt-out reaches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Scope {
    /// What this sender or signature sends.
    Sender(WordKey),
    /// What is about this topic.
    Topic(WordKey),
    /// The tenant's marketing and notification, in every kind that uses the address: what STOP means.
    Brand,
    /// Everything of the tenant, one-time passwords included.
    Everything,
}

words! {
    /// Where an opt-out came from.
    Source {
        /// A reply with an opt-out word.
        Keyword = "keyword",
        /// A call of the API.
        Api = "api",
        /// A provider's report.
        Provider = "provider",
    }
}

/// An opt-out of an address from what a tenant sends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Suppression {
    /// Whose jobs it binds.
    pub tenant: TenantId,
    /// The address.
    pub address: AddressKey,
    /// How far it reaches.
    pub scope: Scope,
    /// Where it came from.
    pub source: Source,
    /// When it was acknowledged.
    pub at: UnixMicros,
}

/// What a cancellation names.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum CancelBy {
    /// One job.
    Job(JobId),
    /// Every job with this cancel key.
    Key(WordKey),
    /// Every job for this recipient.
    Recipient(RecipientKey),
    /// A batch.
    Batch(Uuid),
    /// A campaign.
    Campaign(WordKey),
    /// A run.
    Run(WordKey),
}

/// Binds jobs of a tenant that were accepted up to `at`, and not claimed yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CancelRule {
    /// Whose jobs.
    pub tenant: TenantId,
    /// Which of them.
    pub by: CancelBy,
    /// Jobs accepted later are not bound.
    pub at: UnixMicros,
}
