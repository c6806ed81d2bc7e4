//! The contract of limits, on every backend. One suite: a backend that passes it may stand behind a dispatcher.

mod attempts;
mod caps;
mod claims;
mod concurrency;
mod consents;
mod equivalence;
mod faults;
mod places;
mod quotas;
mod rates;
mod recovery;
mod refusals;
mod rules;
mod shared;
mod shares;
mod submits;
mod vacating;
mod windows;

use std::time::Duration;

use postrider::domain::cap::{Mode, OnLimit};
use postrider::domain::ids::{JobId, TenantId};
use postrider::domain::job::{Class, Kind};
use postrider::domain::keys::{AddressKey, RecipientKey};
use postrider::domain::time::{Clock, UnixMicros};
use postrider::limits::embedded::Embedded;
use postrider::limits::redis::{Redis, Settings};
use postrider::limits::{
    Against, AnyLimits, Claim, Decision, Limits, Need, Once, Remember, Remembered, Span, Spend, Take,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::support::servers;

/// A store of a test's own.
pub(super) struct Store {
    pub(super) limits: AnyLimits,
    _dir: Option<TempDir>,
}

pub(super) const NOW: UnixMicros = UnixMicros::from_secs(1_800_000_000);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// Runs each check on each backend, with a store of its own.
macro_rules! on_every_backend {
    ($($check:ident)+) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check(crate::limits_contract::whole(crate::limits_contract::embedded()).await).await;
            })+
        }
        mod redis {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                super::$check(crate::limits_contract::whole(crate::limits_contract::redis()).await).await;
            })+
        }
    };
}
pub(super) use on_every_backend;

/// Returns embedded limits, whose memory began long ago.
pub(super) fn embedded() -> Store {
    let dir = tempfile::tempdir().unwrap();
    let limits = Embedded::open(dir.path(), NOW.minus(DAY * 30)).unwrap();
    Store { limits: AnyLimits::Embedded(limits), _dir: Some(dir) }
}

/// Returns limits in an empty database, whose memory began long ago.
pub(super) fn redis() -> Store {
    let settings = Settings::new(&servers::redis().database());
    let limits = Redis::new(&settings, &Clock::virtual_at(NOW.minus(DAY * 30))).unwrap();
    Store { limits: AnyLimits::Redis(limits), _dir: None }
}

/// Returns a store that has nothing to reload.
pub(super) async fn whole(store: Store) -> Store {
    let identity = store.limits.identity().await.unwrap();
    assert!(store.limits.recovered(&identity).await.unwrap());
    store
}

/// Returns a claim of a marketing text without caps, asked with the job's number as token.
pub(super) fn claim(recipient: u8, job: u64) -> Claim {
    Claim {
        tenant: acme(),
        recipient: RecipientKey([recipient; 16]),
        job: JobId(Uuid::from_u128(u128::from(job))),
        attempt: 1,
        supersedes: 0,
        token: job,
        deadline: NOW.plus(Duration::from_secs(30)),
        seen: None,
        touch: Uuid::from_u128(u128::from(job)),
        expires_at: UnixMicros::MAX,
        takes: vec![],
        against: Against {
            kind: Kind::Sms,
            class: Class::Marketing,
            address: AddressKey([recipient; 16]),
            sender: None,
            signature: None,
            topic: None,
            cancel_key: None,
            batch: None,
            campaign: None,
            run: None,
            collapse_key: None,
            accepted_at: NOW,
            moved_at: None,
        },
    }
}

/// Returns a claim that needs room in caps.
pub(super) fn capped(recipient: u8, job: u64, takes: &[Take]) -> Claim {
    Claim { takes: takes.to_vec(), ..claim(recipient, job) }
}

/// Returns a cap that defers.
pub(super) fn take(rule: u32, limit: u32, window: Duration) -> Take {
    spanning(rule, limit, Span::Rolling(window))
}

/// Returns a cap of some window that defers.
pub(super) fn spanning(rule: u32, limit: u32, span: Span) -> Take {
    Take { rule, log: None, limit, need: 1, span, once: Once::Touch, on_limit: OnLimit::Defer, mode: Mode::Enforce }
}

/// Returns the answer that a cap is full, the turn aside.
pub(super) fn full(take: usize, open_at: UnixMicros) -> Decision {
    Decision::OverCap { take, open_at, turn_at: open_at }
}

/// Returns an answer with the turn aside, which depends on who else waits.
pub(super) fn aside(decision: Decision) -> Decision {
    match decision {
        Decision::OverCap { take, open_at, .. } => full(take, open_at),
        other => other,
    }
}

/// Asks for one claim; the turn aside.
pub(super) async fn ask(store: &Store, now: UnixMicros, claim: &Claim) -> Decision {
    ask_all(store, now, std::slice::from_ref(claim)).await.remove(0)
}

/// Asks for claims in one call; turns aside.
pub(super) async fn ask_all(store: &Store, now: UnixMicros, claims: &[Claim]) -> Vec<Decision> {
    store.limits.claim(now, claims).await.unwrap().into_iter().map(aside).collect()
}

/// Gives one claim back.
pub(super) async fn give_back(store: &Store, claim: &Claim) {
    store.limits.give_back(&[claim.give_back()]).await.unwrap();
}

/// Asks for submits with keys and without quotas.
pub(super) async fn remember(limits: &AnyLimits, now: UnixMicros, submits: &[Remember]) -> Vec<Remembered> {
    let spend = |key: &Remember| Spend { tenant: acme(), key: Some(*key), from: vec![], items: vec![Need::default()] };
    let spends: Vec<_> = submits.iter().map(spend).collect();
    limits.spend(now, &spends).await.unwrap().into_iter().map(|spent| spent.met).collect()
}

pub(super) fn acme() -> TenantId {
    "acme".parse().unwrap()
}
