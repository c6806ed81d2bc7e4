//! What recipients wrote, as it is stored.

use bytes::Bytes;

use crate::domain::ids::{JobId, TenantId};
use crate::domain::time::UnixMicros;

/// A reply with its personal part sealed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SealedReply {
    /// Number in the watch order; replies share it with events.
    pub seq: i64,
    /// Its tenant, if known.
    pub tenant: Option<TenantId>,
    /// The job it answers, if known.
    pub in_reply_to: Option<JobId>,
    /// When it came.
    pub at: UnixMicros,
    /// The whole reply, sealed.
    pub sealed: Bytes,
}
