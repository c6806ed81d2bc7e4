//! Jobs, events and entries to test with.

use bytes::Bytes;
use postrider::domain::event::{Change, Event, Fate, Outcome};
use postrider::domain::ids::{JobId, Lane, TenantId};
use postrider::domain::job::{Class, Kind};
use postrider::domain::keys::AddressKey;
use postrider::domain::time::UnixMicros;
use postrider::ledger::{Entry, JobRow, Ledger, NumberedEvent, Recording, Shards, Tag};
use uuid::Uuid;

/// Some time in 2026.
pub(crate) const T0: UnixMicros = UnixMicros::from_secs(1_800_000_000);

/// Returns `T0` and so many seconds.
pub(crate) fn at(secs: i64) -> UnixMicros {
    UnixMicros(T0.0 + secs * 1_000_000)
}

pub(crate) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// Returns the job of this number.
pub(crate) fn id(n: u32) -> JobId {
    JobId(Uuid::new_v5(&Uuid::NAMESPACE_OID, &n.to_be_bytes()))
}

/// Returns the frame or entry of this number.
pub(crate) fn uuid(n: u32) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, &n.to_be_bytes())
}

/// Returns a key that no other number has.
pub(crate) fn key(n: u32) -> [u8; 16] {
    uuid(n).into_bytes()
}

/// Returns a marketing SMS of `acme`, accepted `n` seconds after `T0` and due at once.
pub(crate) fn job(n: u32) -> JobRow {
    JobRow {
        id: id(n),
        tenant: tenant("acme"),
        kind: Kind::Sms,
        class: Class::Marketing,
        accepted_at: at(n.into()),
        due_at: at(n.into()),
        expires_at: at(i64::from(n) + 86_400),
        address: AddressKey(key(n)),
        recipient: None,
        batch: None,
        campaign: None,
        run: None,
        cancel_key: None,
        fallback_after: None,
        sealed: Bytes::from(vec![n as u8; 300]),
    }
}

/// Returns an event of job `n`.
pub(crate) fn event(seq: i64, n: u32, change: Change) -> NumberedEvent {
    let job = job(n);
    let event =
        Event { job: job.id, tenant: job.tenant, kind: job.kind, class: job.class, at: at(seq), attempt: 1, change };
    NumberedEvent { seq, event }
}

pub(crate) fn sent() -> Change {
    Change::Sent {
        provider: "carrier-a".parse().unwrap(),
        message_ids: vec!["a1".into()],
        receipt_expected: true,
        cost: None,
    }
}

pub(crate) fn delivered() -> Change {
    Change::Settled(Outcome::new(Fate::Delivered, ""))
}

/// Returns a recording of events of `acme`'s jobs, numbered after `after`.
pub(crate) fn events(after: i64, changes: Vec<(u32, Change)>) -> Recording {
    let number = |(index, (n, change))| event(after + 1 + index as i64, n, change);
    Recording { after, events: changes.into_iter().enumerate().map(number).collect(), ..Recording::default() }
}

/// Returns what is due, at most so many of each group.
pub(crate) async fn due_of_each(ledger: &impl Ledger, due_to: UnixMicros, most: u32) -> Vec<Entry> {
    let groups = ledger.agenda_groups(Shards::ALL).await.unwrap();
    let groups: Vec<_> = groups.into_iter().map(|group| (group, most)).collect();
    ledger.due_entries(&groups, due_to).await.unwrap()
}

/// Returns an entry of `acme`, with a payload of its own.
pub(crate) fn entry(n: u32, due_at: UnixMicros) -> Entry {
    Entry {
        id: uuid(n),
        tag: Tag::Send,
        tenant: tenant("acme"),
        lane: Lane { class: Class::Marketing, pool: "sms".parse().unwrap() },
        sender: 0,
        priority: 0,
        due_at,
        accepted_at: None,
        jobs: 10,
        releasing_since: None,
        payload: Bytes::from(n.to_be_bytes().repeat(200)),
    }
}
