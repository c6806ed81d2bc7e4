//! Jobs as tests want them that look below the API: whatever does not matter is as plain as it can be.

use std::time::Duration;

use postrider::domain::ids::JobId;
use postrider::domain::job::{Class, Content, Job, Kind, OnMissed, Origin, Shared};
use postrider::domain::recipient::Recipient;
use postrider::domain::time::UnixMicros;

/// Returns what texts of a tenant `acme` have in common that live for an hour.
pub(crate) fn shared(class: Class, accepted_at: UnixMicros) -> Shared {
    Shared {
        tenant: "acme".parse().unwrap(),
        kind: Kind::Sms,
        class,
        pool: "default".parse().unwrap(),
        content: Content::Text("hello".into()),
        sender: "".into(),
        topic: "".into(),
        labels: vec![],
        origin: Origin::default(),
        batch: None,
        priority: 0,
        accepted_at,
        expires_at: accepted_at.plus(Duration::from_secs(3600)),
        windows: vec![],
        on_missed: OnMissed::Defer,
        moved_at: None,
        chain: None,
        trace: None,
    }
}

/// Returns a job that was never tried.
pub(crate) fn job(id: JobId, recipient: Recipient) -> Job {
    Job {
        id,
        recipient,
        params: vec![],
        cancel_key: "".into(),
        collapse_key: "".into(),
        attempt: 0,
        supersedes: 0,
        seen: None,
    }
}
