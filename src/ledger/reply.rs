//! What recipients wrote, and what platforms told of them, as it is stored.

use bytes::Bytes;
use uuid::Uuid;

use crate::domain::ids::{JobId, TenantId};
use crate::domain::time::UnixMicros;

/// A reply or a signal with its personal part sealed.
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
    /// The whole reply or signal, sealed.
    pub sealed: Bytes,
    /// The signal's id, by which it is kept once; `None`: a reply.
    pub signal: Option<Uuid>,
}
