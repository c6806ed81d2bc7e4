//! Limits in Redis, shared by all nodes. Wants `appendonly yes`, `appendfsync always` and `noeviction`;
//! [`Redis::warnings`] says what is missing.
//!
//! - One script a question, one file a script. A script is one step for everybody else: a job's claim, all its caps, and
//!   the opt-outs and rules that stand against it are one decision. A script that ran although its answer was
//!   lost is recognised by its tokens when it is asked again.
//! - A recipient's memory is one string under one key: packed entries are a third of the bytes of a hash of fields, and
//!   one read and one write a claim. Many claims share a call (`CLAIMS_PER_CALL`).
//! - Every script that promises something compares the identity first, and every new connection asks for it before
//!   anything else, so no claim is decided by a memory that is not the one its caller knows.
//! - With `appendfsync always` an answered write survives every crash, and a restart keeps the identity. With `everysec`
//!   the server may answer up to two seconds before it writes, so a restart counts as a loss: what may have been handed
//!   over before it is not sent blindly.
//! - A single server, or a primary with replicas. In Redis Cluster the keys of a claim lie in several slots: there a call
//!   would carry one recipient (its key alone is claim and caps), and opt-outs and rules would be read after it,
//!   with a hit giving the claim back. No script assumes more of its keys than that, but for a cap per sender: its log is
//!   the sender's, which many recipients share, so both keys must be in one server, and in Cluster such a rule would be
//!   taken first and given back where the recipient's refuse: too strict for a moment, never too lax.

mod asks;
mod bulk;
mod checkup;
mod consent;
mod link;
mod names;
mod places;
mod rules;
mod scripts;
mod shared;
mod spend;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures_util::future::try_join_all;

use self::asks::Asks;
use self::bulk::{Asked, Bulk};
pub use self::checkup::checkup;
use self::link::Link;
use self::names::Names;
use self::rules::Sort;
use self::scripts::Scripts;
use self::wire::Strange;
use super::core::source_number;
use super::{
    Borrow, Borrowed, Claim, ConsentAct, Consented, Decision, GiveBack, Granted, Held, Identity, Lease, Limits,
    LimitsError, RECOVERY_LEAD, Remembered, SHARE_LIFE, Share, Shared, Spend, Spent, Touch, Vacate,
};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::keys::{AddressKey, WordKey};
use crate::domain::rule::JobRule;
use crate::domain::suppression::{Source, Suppression};
use crate::domain::time::{Clock, UnixMicros};

/// Claims in one call. Measured on one core of Redis 7.0 by 64, opt-outs and cancellations looked up: 88 100 claims a second
/// with one cap, 83 800 with three, 78 700 with eight; so a call keeps others waiting for three quarters of a millisecond. By
/// an earlier script a claim alone in its call took 1.7 times what it takes by 64, and by 128 an eighth less.
const CLAIMS_PER_CALL: usize = 64;

/// Other keys in one call: each costs the server about a microsecond.
const KEYS_PER_CALL: usize = 256;

/// Where the server is and how it is used.
#[derive(Clone)]
pub struct Settings {
    /// `redis://`, with user, password and database as needed.
    pub url: Box<str>,
    /// Comes before every key, so that several installations can share a server. Short: it is in every key.
    pub prefix: Box<str>,
    /// How long an answer may take, and a connection.
    pub timeout: Duration,
}

/// The limits in Redis. Cheap to clone; all clones share one connection, which carries many questions at once.
#[derive(Clone)]
pub struct Redis {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    scripts: Scripts,
    names: Names,
    clock: Clock,
    latest: AtomicI64,
    bulk: Bulk,
    /// How long a place at the server is waited for: half as long as an answer, so that both together stay well below what
    /// a claim's deadline leaves for them.
    patience: Duration,
}

/// What is done with what claims need.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It is only looked at.
    Leave = 0,
    /// It is taken.
    Take = 1,
    /// It is taken as of the claim's deadline, whether there is room or not: the touch has happened.
    Restore = 2,
}

// === impl Settings ===

impl Settings {
    /// Returns settings with the default prefix and time limit.
    pub fn new(url: &str) -> Self {
        // Two seconds: a Redis that rewrites its file or fails over within the second is still waited for, and a
        // dispatcher with nothing but hung claims notices before its permits' deadline.
        Self { url: url.into(), prefix: "pr:".into(), timeout: Duration::from_secs(2) }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may hold a password.
        f.debug_struct("Settings").field("prefix", &self.prefix).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

// === impl Redis ===

impl Redis {
    /// Returns limits that connect at the first question.
    ///
    /// # Errors
    /// [`LimitsError::Refused`] when the URL is none.
    pub fn new(settings: &Settings, clock: &Clock) -> Result<Self, LimitsError> {
        let names = Names { prefix: settings.prefix.clone() };
        let link = Link::new(&settings.url, settings.timeout, names.identity(), clock.clone())?;
        let inner = Inner {
            link,
            scripts: Scripts::new(),
            names,
            clock: clock.clone(),
            latest: AtomicI64::new(i64::MIN),
            bulk: Bulk::default(),
            patience: settings.timeout / 2,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns what somebody should change on the server, in words; they are logged at every new connection too.
    ///
    /// # Errors
    /// As any question.
    pub async fn warnings(&self) -> Result<Vec<Box<str>>, LimitsError> {
        Ok(self.inner.link.live().await?.warnings.clone())
    }
}

impl Inner {
    /// Returns `now`, or the latest time it was given before.
    fn now(&self, now: UnixMicros) -> UnixMicros {
        UnixMicros(self.latest.fetch_max(now.0, Ordering::Relaxed).max(now.0))
    }

    async fn decide(&self, now: UnixMicros, claims: &[Claim], then: Then) -> Result<Vec<Decision>, LimitsError> {
        let asked = self.bulk.ask(claims.len());
        let calls = claims.chunks(asked.per_call()).map(|claims| self.decide_some(now, claims, then, &asked));
        Ok(try_join_all(calls).await?.concat())
    }

    /// The same in one call.
    async fn decide_some(
        &self,
        now: UnixMicros,
        claims: &[Claim],
        then: Then,
        asked: &Asked<'_>,
    ) -> Result<Vec<Decision>, LimitsError> {
        let urgent = then == Then::Take && claims.iter().any(|claim| claim.against.class.urgent());
        // Held until the answer; without one, nothing was asked.
        let _place = match urgent {
            true => None,
            false => self.clock.timeout(self.patience, asked.place()).await.map_err(|_| LimitsError::Timeout)?,
        };
        let names = &self.names;
        let mut tenants: Vec<&TenantId> = Vec::new();
        for claim in claims {
            if tenants.last() != Some(&&claim.tenant) && !tenants.contains(&&claim.tenant) {
                tenants.push(&claim.tenant);
            }
        }
        // A script counts its keys from 1; the identity, two keys a claim, three a tenant and one for all come first.
        let first = 2 * claims.len() + 3 * tenants.len() + 3;
        let mut others: Vec<Vec<u8>> = Vec::new();
        let mut asks = Asks::default();
        for claim in claims {
            let tenant = tenants.iter().position(|&tenant| *tenant == claim.tenant).unwrap_or_default();
            let mut other = |name: Vec<u8>| {
                let known = others.iter().position(|known| *known == name).unwrap_or_else(|| {
                    others.push(name);
                    others.len() - 1
                });
                u16::try_from(first + known).unwrap_or(u16::MAX)
            };
            let newest = claim.against.collapse_key.map_or(0, |key| other(names.newest(&claim.tenant, key)));
            let log = |log| other(names.recipient(&claim.tenant, log));
            asks.put(claim, u16::try_from(tenant).unwrap_or(u16::MAX), newest, log);
        }
        let mut keys = Vec::with_capacity(2 * claims.len() + 3 * tenants.len() + others.len() + 2);
        keys.push(names.identity());
        keys.extend(claims.iter().map(|claim| names.recipient(&claim.tenant, claim.recipient.0)));
        keys.extend(claims.iter().map(|claim| names.optouts(&claim.tenant, claim.against.address)));
        keys.extend(tenants.iter().flat_map(|tenant| Sort::ALL.map(|sort| names.rules(tenant, sort))));
        keys.push(names.globals());
        keys.append(&mut others);
        let question = |live: &link::Live| {
            let mut call = self.scripts.claim.call(&keys);
            call.arg(&*live.identity.id).arg(now.0).arg(live.identity.changed_at.0).arg(claims.len());
            call.arg(tenants.len()).arg(then as u8).arg(&asks.claims).arg(&asks.rests).arg(&asks.shared);
            call
        };
        let answer: Vec<u8> = self.link.ask(&self.scripts, question).await?;
        Ok(wire::decisions(&answer, claims)?)
    }

    async fn suppress(&self, suppressions: &[Suppression]) -> Result<(), LimitsError> {
        let mut keys = Vec::with_capacity(suppressions.len() + 1);
        keys.push(self.names.identity());
        let mut packed = Vec::with_capacity(suppressions.len() * wire::ADDRESSED_BYTES);
        for suppression in suppressions {
            keys.push(self.names.kept(suppression));
            packed.extend_from_slice(&suppression.address.0);
            wire::put_optout(&mut packed, suppression);
        }
        let question = |live: &link::Live| {
            let mut call = self.scripts.suppress.call(&keys);
            call.arg(&*live.identity.id).arg(&packed);
            call
        };
        self.link.ask::<()>(&self.scripts, question).await
    }

    async fn give_back(&self, claims: &[GiveBack]) -> Result<(), LimitsError> {
        let (mut keys, mut packed) = (Vec::with_capacity(claims.len()), Vec::with_capacity(claims.len() * 16));
        for claim in claims {
            for log in std::iter::once(&claim.recipient).chain(&claim.logs) {
                keys.push(self.names.recipient(&claim.tenant, log.0));
                wire::put_give_back(&mut packed, claim);
            }
        }
        let question = |_: &link::Live| {
            let mut call = self.scripts.give_back.call(&keys);
            call.arg(&packed);
            call
        };
        self.link.ask::<()>(&self.scripts, question).await
    }

    async fn lease(&self, now: UnixMicros, leases: &[Lease]) -> Result<Vec<Granted>, LimitsError> {
        let keys: Vec<_> = leases.iter().map(|lease| self.names.bucket(&lease.bucket)).collect();
        let mut packed = Vec::with_capacity(leases.len() * 17);
        leases.iter().for_each(|lease| wire::put_lease(&mut packed, lease));
        let question = |_: &link::Live| {
            let mut call = self.scripts.lease.call(&keys);
            call.arg(now.0).arg(&packed);
            call
        };
        let answer: Vec<u8> = self.link.ask(&self.scripts, question).await?;
        Ok(wire::granted(&answer, leases.len())?)
    }
}

impl Limits for Redis {
    async fn identity(&self) -> Result<Identity, LimitsError> {
        let Inner { link, scripts, names, .. } = &*self.inner;
        let keys = [names.identity()];
        // Asked of the memory itself: one that changed under the connection is noticed.
        let question = |live: &link::Live| {
            let mut call = scripts.standing.call(&keys);
            call.arg(&*live.identity.id);
            call
        };
        let recovering = link.ask::<u8>(scripts, question).await? == 1;
        Ok(Identity { recovering, ..link.live().await?.identity.clone() })
    }

    async fn spend(&self, now: UnixMicros, spends: &[Spend]) -> Result<Vec<Spent>, LimitsError> {
        let now = self.inner.now(now);
        // One after the other by the server: it answers in the order in which it was asked.
        try_join_all(spends.iter().map(|spend| self.inner.spend(now, spend))).await
    }

    async fn taken(&self, tenant: &TenantId, allowances: &[WordKey]) -> Result<u64, LimitsError> {
        self.inner.taken(tenant, allowances).await
    }

    async fn accepted(&self, ids: &[JobId]) -> Result<(), LimitsError> {
        let Inner { link, scripts, names, .. } = &*self.inner;
        let calls = ids.chunks(KEYS_PER_CALL).map(|ids| {
            let keys: Vec<_> = ids.iter().map(|&id| names.memo(id)).collect();
            link.ask::<()>(scripts, move |_| scripts.accepted.call(&keys))
        });
        try_join_all(calls).await.map(|_| ())
    }

    async fn claim(&self, now: UnixMicros, claims: &[Claim]) -> Result<Vec<Decision>, LimitsError> {
        let now = self.inner.now(now);
        self.inner.decide(now, claims, Then::Take).await
    }

    async fn peek(&self, now: UnixMicros, claims: &[Claim]) -> Result<Vec<Decision>, LimitsError> {
        let now = now.max(UnixMicros(self.inner.latest.load(Ordering::Relaxed)));
        self.inner.decide(now, claims, Then::Leave).await
    }

    async fn places(&self, now: UnixMicros, claim: &Claim) -> Result<Vec<Vec<Held>>, LimitsError> {
        self.inner.places(now, claim).await
    }

    async fn give_back(&self, claims: &[GiveBack]) -> Result<(), LimitsError> {
        let calls = claims.chunks(KEYS_PER_CALL).map(|claims| self.inner.give_back(claims));
        try_join_all(calls).await.map(|_| ())
    }

    async fn vacate(&self, places: &[Vacate]) -> Result<(), LimitsError> {
        let calls = places.chunks(CLAIMS_PER_CALL).map(|places| self.inner.vacate(places));
        try_join_all(calls).await.map(|_| ())
    }

    async fn suppress(&self, suppressions: &[Suppression]) -> Result<(), LimitsError> {
        let calls = suppressions.chunks(KEYS_PER_CALL).map(|suppressions| self.inner.suppress(suppressions));
        try_join_all(calls).await.map(|_| ())
    }

    async fn unsuppress(&self, suppression: &Suppression, source: Source) -> Result<(), LimitsError> {
        let Inner { link, scripts, names, .. } = &*self.inner;
        let keys = [names.identity(), names.kept(suppression)];
        let taken_back = wire::taken_back(suppression);
        let source = match source {
            Source::Api => String::new(),
            Source::Keyword | Source::Provider | Source::Import => source_number(source).to_string(),
        };
        let question = |_: &link::Live| {
            let mut call = scripts.unsuppress.call(&keys);
            call.arg(&suppression.address.0).arg(&taken_back).arg(&source);
            call
        };
        link.ask::<()>(scripts, question).await
    }

    async fn suppressions(&self, tenant: &TenantId, address: AddressKey) -> Result<Vec<Suppression>, LimitsError> {
        let Inner { link, scripts, names, .. } = &*self.inner;
        let keys = [names.optouts(tenant, address), names.globals()];
        let question = |_: &link::Live| {
            let mut call = scripts.suppressions.call(&keys);
            call.arg(&address.0);
            call
        };
        let optouts: Vec<u8> = link.ask(scripts, question).await?;
        Ok(wire::suppressions(&optouts, tenant, address)?)
    }

    async fn rule(&self, rules: &[JobRule], keep_until: UnixMicros) -> Result<(), LimitsError> {
        self.inner.rule(rules, keep_until).await
    }

    async fn lease(&self, now: UnixMicros, leases: &[Lease]) -> Result<Vec<Granted>, LimitsError> {
        let now = self.inner.now(now);
        let calls = leases.chunks(KEYS_PER_CALL).map(|leases| self.inner.lease(now, leases));
        Ok(try_join_all(calls).await?.concat())
    }

    async fn unlease(&self, bucket: &str, tokens: u32) -> Result<(), LimitsError> {
        let Inner { link, scripts, names, .. } = &*self.inner;
        let keys = [names.bucket(bucket)];
        let question = |_: &link::Live| {
            let mut call = scripts.unlease.call(&keys);
            call.arg(tokens);
            call
        };
        link.ask::<()>(scripts, question).await
    }

    async fn share(&self, now: UnixMicros, share: &Share) -> Result<u16, LimitsError> {
        let Inner { link, scripts, names, .. } = &*self.inner;
        let (keys, asked) = ([names.identity(), names.share(&share.what)], wire::share(share));
        // By one clock, the server's: who is no longer there is a question of seconds.
        let now = if link.stands() { now.0 } else { -1 };
        let question = |live: &link::Live| {
            let mut call = scripts.share.call(&keys);
            call.arg(&*live.identity.id).arg(now).arg(SHARE_LIFE.as_secs() * 1_000_000).arg(&asked);
            call
        };
        link.ask::<u16>(scripts, question).await
    }

    async fn lead_recovery(&self, now: UnixMicros, who: u64) -> Result<bool, LimitsError> {
        let Inner { link, scripts, names, .. } = &*self.inner;
        let (keys, now) = ([names.identity()], self.inner.now(now));
        let life = i64::try_from(RECOVERY_LEAD.as_micros()).unwrap_or(i64::MAX);
        let question = |live: &link::Live| {
            let mut call = scripts.lead.call(&keys);
            call.arg(&*live.identity.id).arg(now.0).arg(life).arg(who);
            call
        };
        Ok(link.ask::<u8>(scripts, question).await? == 1)
    }

    async fn restore(&self, touches: &[Touch]) -> Result<(), LimitsError> {
        let now = self.inner.now(self.inner.clock.now());
        let as_of = |touch: &Touch| Claim { deadline: touch.at, ..touch.claim.clone() };
        for part in touches.chunks(CLAIMS_PER_CALL) {
            let claims: Vec<_> = part.iter().map(as_of).collect();
            self.inner.decide_some(now, &claims, Then::Restore, &self.inner.bulk.ask(claims.len())).await?;
        }
        Ok(())
    }

    async fn recovered(&self, identity: &Identity) -> Result<bool, LimitsError> {
        let Inner { link, scripts, names, .. } = &*self.inner;
        let keys = [names.identity()];
        let question = |_: &link::Live| {
            let mut call = scripts.recovered.call(&keys);
            call.arg(&*identity.id);
            call
        };
        Ok(link.ask::<u8>(scripts, question).await? == 1)
    }

    async fn borrow(&self, now: UnixMicros, asked: &Borrow<'_>) -> Result<Borrowed, LimitsError> {
        self.inner.borrow(now, asked).await
    }

    async fn lend(&self, now: UnixMicros, by: (&str, u64), value: &Shared) -> Result<bool, LimitsError> {
        self.inner.lend(now, by, value).await
    }

    async fn consent(&self, _now: UnixMicros, acts: &[ConsentAct]) -> Result<Vec<Consented>, LimitsError> {
        let calls = acts.chunks(KEYS_PER_CALL).map(|acts| self.inner.consent(acts));
        Ok(try_join_all(calls).await?.concat())
    }

    async fn close(&self) {
        // Whatever was answered is the server's; the connection ends with its last clone.
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redis").field("prefix", &self.inner.names.prefix).finish_non_exhaustive()
    }
}

/// Reads what a submit met.
fn met(digit: u8) -> Result<Remembered, Strange> {
    match digit {
        b'0' => Ok(Remembered::New),
        b'1' => Ok(Remembered::Pending),
        b'2' => Ok(Remembered::Accepted),
        b'3' => Ok(Remembered::Conflict),
        _ => Err(Strange),
    }
}

impl From<Strange> for LimitsError {
    fn from(Strange: Strange) -> Self {
        Self::Refused("the server's answer is not a script's of this version".into())
    }
}
