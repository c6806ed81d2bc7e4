//! Limits in memory, with a log that makes them last: the backend of one process with one data directory.
//!
//! - A change is made in memory and appended to the log under one lock, so the log has the changes of a key in order.
//!   One thread writes the log; all calls that wait share one fdatasync, and `Ok` comes after it.
//! - What may be lost rides along without a wait: a lost `accepted` costs a second publish under the same id. A lost
//!   `give_back` leaves a claim and its places standing, so the job is checked instead of sent, and the cap is too
//!   strict until the window ends; never the reverse. Leases precede the claims that use them in the same log, so every
//!   token that led to a hand-over is remembered whenever the hand-over is.
//! - A snapshot replaces the log in the background once the log has become longer than what is live. A failed write or
//!   fsync ends the store: what the disk holds is not known any more.

mod block;
mod files;
mod log;
mod shelf;
mod state;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use self::files::Files;
use self::log::{Compaction, Log, Offset, Start};
use self::shelf::Kept;
use self::state::{Locked, State};
use super::core::{self, When, key_of};
use super::{
    Borrow, Borrowed, Claim, ConsentAct, Consented, Decision, GiveBack, Granted, Held, Identity, Lease, Limits,
    LimitsError, Share, Shared, Spend, Spent, Touch, Vacate,
};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::keys::{AddressKey, WordKey};
use crate::domain::rule::JobRule;
use crate::domain::suppression::{Source, Suppression};
use crate::domain::time::UnixMicros;

/// Opt-outs that are taken in under one lock: a fraction of a millisecond.
const REFUSALS_TOGETHER: usize = 1_024;

/// The embedded limits. Cheap to clone; all clones are one store.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    state: Arc<State>,
    log: Log,
    identity: Identity,
    dir: PathBuf,
    /// As the identity's, which says how it was at the start.
    recovering: AtomicBool,
    compactor: Mutex<Option<JoinHandle<()>>>,
    shelf: Kept,
}

// === impl Embedded ===

impl Embedded {
    /// Opens the limits in `dir`, which is made if need be. Reads the whole memory, so it blocks: about a second for
    /// three million claims.
    ///
    /// # Errors
    /// [`LimitsError::Storage`]; also when another process uses the directory. Damage is no error: what can be read is
    /// kept, and the identity says that something was lost.
    pub fn open(dir: &Path, now: UnixMicros) -> Result<Self, LimitsError> {
        Self::open_with(dir, now, log::COMPACT_BYTES)
    }

    fn open_with(dir: &Path, now: UnixMicros, compact_bytes: u64) -> Result<Self, LimitsError> {
        let files = Arc::new(Files::open(dir)?);
        let state = Arc::new(State::new());
        let mut readable = true;
        let found = files.load(|payload| readable &= state.replay(payload))?;
        let lost = found.lost || !readable;
        state.now(now);
        let identity = files.identity(now, lost)?;
        let mut start =
            Start { number: found.last + 1, before: found.last_bytes.unwrap_or(0), log_bytes: found.log_bytes };
        if lost {
            tracing::error!("limits were damaged and have lost something: jobs from before now are not sent blindly");
        }
        if lost || found.salvaged {
            // So that the next start does not find the same damage and call it a new loss; and so that what was salvaged and
            // is asked for again is in the files when it is confirmed.
            files.snapshot(found.last, |block| state.dump(block))?;
            start = Start { before: 0, log_bytes: 0, ..start };
        }
        let (sender, compactions) = mpsc::sync_channel(1);
        let compactor = spawn_compactor(Arc::clone(&files), Arc::clone(&state), compactions, compact_bytes)?;
        let log = Log::start(files, &start, compact_bytes, sender)?;
        let recovering = AtomicBool::new(identity.recovering);
        let (compactor, shelf) = (Mutex::new(Some(compactor)), Kept::open(dir));
        Ok(Self { inner: Arc::new(Inner { state, log, identity, dir: dir.to_owned(), recovering, compactor, shelf }) })
    }

    /// Returns how many recipients are remembered.
    pub fn recipients(&self) -> usize {
        self.inner.state.people()
    }

    fn claim_one(&self, now: UnixMicros, claim: &Claim) -> (Decision, Option<Offset>) {
        let Inner { state, log, identity, .. } = &*self.inner;
        let recovering = self.inner.recovering.load(Ordering::Acquire);
        let waits = (recovering && claim.against.touting()).then_some(Decision::Recovering { claimed: false });
        let refusal = waits.or_else(|| state.refusals().against(now, claim));
        let mut memory = self.logs(claim);
        let mut end = None;
        let append = |change| end = Some(log.append(&change));
        let decision = core::claim(&mut memory, When { now, changed_at: identity.changed_at }, claim, refusal, append);
        let claimed = recovering && decision.claimed();
        (if claimed { Decision::Recovering { claimed } } else { decision }, end)
    }

    fn peek_one(&self, now: UnixMicros, claim: &Claim) -> Decision {
        let Inner { state, identity, .. } = &*self.inner;
        let recovering = self.inner.recovering.load(Ordering::Acquire);
        let waits = (recovering && claim.against.touting()).then_some(Decision::Recovering { claimed: false });
        let refusal = waits.or_else(|| state.refusals().against(now, claim));
        let mut memory = self.logs(claim);
        let when = When { now, changed_at: identity.changed_at };
        let decision = core::peek(&mut memory, when, claim, refusal);
        let claimed = recovering && decision.claimed();
        if claimed { Decision::Recovering { claimed } } else { decision }
    }

    /// Locks the logs that a claim is about.
    fn logs(&self, claim: &Claim) -> Locked<'_> {
        let logs = std::iter::once(claim.recipient).chain(claim.takes.iter().filter_map(|take| take.log));
        self.inner.state.lock(logs.map(|log| key_of(&claim.tenant, log.0)))
    }

    /// Makes a change of the refusals durable.
    async fn refuse(&self, change: impl FnOnce(&State, &Log) -> Offset + Send) -> Result<(), LimitsError> {
        self.inner.log.check()?;
        let end = change(&self.inner.state, &self.inner.log);
        self.inner.log.durable(end).await
    }
}

impl Limits for Embedded {
    async fn identity(&self) -> Result<Identity, LimitsError> {
        self.inner.log.check()?;
        Ok(Identity { recovering: self.inner.recovering.load(Ordering::Acquire), ..self.inner.identity.clone() })
    }

    async fn spend(&self, now: UnixMicros, spends: &[Spend]) -> Result<Vec<Spent>, LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let now = state.now(now);
        let spend = |spend: &Spend| {
            let mut counters = state.counters();
            let id = spend.key.as_ref().map_or([0; 16], |key| key.id.0.into_bytes());
            let (spent, change) = counters.spend(&mut state.shard(&id).memos, now, spend);
            // Still under the lock: the log has the changes of a counter in order.
            change.inspect(|change| {
                log.append(change);
            });
            spent
        };
        let spent = spends.iter().map(spend).collect();
        // Also for what was there before: the call that took it may not have seen it to the disk yet.
        log.durable(log.end()).await.map(|()| spent)
    }

    async fn taken(&self, tenant: &TenantId, allowances: &[WordKey]) -> Result<u64, LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let counters = state.counters();
        Ok(allowances.iter().map(|key| counters.used(key_of(tenant, key.0))).sum())
    }

    async fn accepted(&self, ids: &[JobId]) -> Result<(), LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let mut end = Offset::default();
        for &id in ids {
            let mut shard = state.shard(&id.0.into_bytes());
            end = shard.memos.accept(id).map_or(end, |change| log.append(&change));
        }
        log.lazy(end).await
    }

    async fn claim(&self, now: UnixMicros, claims: &[Claim]) -> Result<Vec<Decision>, LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let now = state.now(now);
        let mut end = Offset::default();
        let claim = |claim: &Claim| {
            let (decision, change) = self.claim_one(now, claim);
            end = change.unwrap_or(end);
            decision
        };
        let decisions: Vec<Decision> = claims.iter().map(claim).collect();
        if decisions.iter().any(Decision::claimed) {
            // Also for a repeated call, whose claims the first one may not have seen to the disk yet.
            end = end.max(log.end());
        }
        log.durable(end).await.map(|()| decisions)
    }

    async fn peek(&self, now: UnixMicros, claims: &[Claim]) -> Result<Vec<Decision>, LimitsError> {
        self.inner.log.check()?;
        let now = now.max(self.inner.state.latest());
        Ok(claims.iter().map(|claim| self.peek_one(now, claim)).collect())
    }

    async fn places(&self, now: UnixMicros, claim: &Claim) -> Result<Vec<Vec<Held>>, LimitsError> {
        self.inner.log.check()?;
        Ok(core::places(&mut self.logs(claim), claim, now))
    }

    async fn give_back(&self, claims: &[GiveBack]) -> Result<(), LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let mut end = Offset::default();
        for claim in claims {
            let logs = std::iter::once(&claim.recipient).chain(&claim.logs);
            let mut memory = state.lock(logs.map(|log| key_of(&claim.tenant, log.0)));
            core::give_back(&mut memory, claim, |change| end = log.append(&change));
        }
        log.lazy(end).await
    }

    async fn vacate(&self, places: &[Vacate]) -> Result<(), LimitsError> {
        let Inner { state, log, recovering, .. } = &*self.inner;
        log.check()?;
        if recovering.load(Ordering::Acquire) {
            return Err(LimitsError::Recovering);
        }
        for vacate in places {
            let logs = std::iter::once(&vacate.recipient).chain(&vacate.logs);
            let mut memory = state.lock(logs.map(|log| key_of(&vacate.tenant, log.0)));
            core::vacate(&mut memory, vacate, |change| _ = log.append(&change));
        }
        // Also for what was freed before: the call that freed it may not have seen it to the disk yet.
        log.durable(log.end()).await
    }

    async fn suppress(&self, suppressions: &[Suppression]) -> Result<(), LimitsError> {
        // In parts, so that claims never wait for a long list.
        for part in suppressions.chunks(REFUSALS_TOGETHER) {
            self.refuse(|state, log| {
                let mut refusals = state.refusals_mut();
                part.iter().map(|suppression| log.append(&refusals.suppress(suppression))).last().unwrap_or_default()
            })
            .await?;
        }
        Ok(())
    }

    async fn unsuppress(&self, suppression: &Suppression, source: Source) -> Result<(), LimitsError> {
        if self.inner.recovering.load(Ordering::Acquire) {
            return Err(LimitsError::Recovering);
        }
        self.refuse(|state, log| {
            let mut refusals = state.refusals_mut();
            log.append(&refusals.unsuppress(suppression, source))
        })
        .await
    }

    async fn suppressions(&self, tenant: &TenantId, address: AddressKey) -> Result<Vec<Suppression>, LimitsError> {
        self.inner.log.check()?;
        Ok(self.inner.state.refusals().of(tenant, address))
    }

    async fn rule(&self, rules: &[JobRule], keep_until: UnixMicros) -> Result<(), LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let mut end = Offset::default();
        {
            let (mut refusals, now) = (state.refusals_mut(), state.latest());
            refusals.rules.prune(now);
            for rule in rules {
                end = log.append(&refusals.rules.add(now, rule, keep_until)?);
            }
        }
        log.durable(end).await
    }

    async fn lease(&self, now: UnixMicros, leases: &[Lease]) -> Result<Vec<Granted>, LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let now = state.now(now);
        let mut end = Offset::default();
        let granted = {
            let mut buckets = state.buckets();
            let lease = |lease: &Lease| {
                let (granted, change) = buckets.lease(now, lease);
                end = log.append(&change);
                granted
            };
            leases.iter().map(lease).collect()
        };
        log.lazy(end).await.map(|()| granted)
    }

    async fn unlease(&self, bucket: &str, tokens: u32) -> Result<(), LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let end = {
            let mut buckets = state.buckets();
            buckets.unlease(bucket, tokens).map(|change| log.append(&change))
        };
        log.lazy(end.unwrap_or_default()).await
    }

    /// All of them: the directory has one process.
    async fn share(&self, _now: UnixMicros, share: &Share) -> Result<u16, LimitsError> {
        self.inner.log.check().map(|()| if share.leaves { 0 } else { share.total })
    }

    /// Always leads: the directory has one process.
    async fn lead_recovery(&self, _now: UnixMicros, _who: u64) -> Result<bool, LimitsError> {
        self.inner.log.check().map(|()| true)
    }

    async fn restore(&self, touches: &[Touch]) -> Result<(), LimitsError> {
        let Inner { log, .. } = &*self.inner;
        log.check()?;
        let mut end = Offset::default();
        for touch in touches {
            let mut memory = self.logs(&touch.claim);
            core::restore(&mut memory, touch, |change| end = log.append(&change));
        }
        log.durable(end).await
    }

    async fn recovered(&self, identity: &Identity) -> Result<bool, LimitsError> {
        let inner = Arc::clone(&self.inner);
        if identity.id != inner.identity.id {
            return Ok(false);
        }
        let written = tokio::task::spawn_blocking(move || {
            let whole = Identity { recovering: false, ..inner.identity.clone() };
            files::write_identity(&inner.dir, &whole).map(|()| inner.recovering.store(false, Ordering::Release))
        });
        written.await.map_err(|error| LimitsError::Storage(error.to_string().into()))?.map(|()| true)
    }

    async fn borrow(&self, now: UnixMicros, asked: &Borrow<'_>) -> Result<Borrowed, LimitsError> {
        let now = self.inner.state.now(now);
        Ok(self.inner.shelf.borrow(now, asked))
    }

    async fn lend(&self, _now: UnixMicros, (name, who): (&str, u64), value: &Shared) -> Result<bool, LimitsError> {
        let (inner, name, value) = (Arc::clone(&self.inner), name.to_owned(), value.clone());
        let lend = move || inner.shelf.lend(&name, who, value);
        // It writes a file, which blocks.
        tokio::task::spawn_blocking(lend).await.map_err(|_| LimitsError::Storage("the shelf is not written".into()))?
    }

    async fn consent(&self, now: UnixMicros, acts: &[ConsentAct]) -> Result<Vec<Consented>, LimitsError> {
        let Inner { state, log, .. } = &*self.inner;
        log.check()?;
        let now = state.now(now);
        let act = |act: &ConsentAct| {
            let mut shard = state.shard(&key_of(&act.tenant, act.of.0));
            let (known, change) = shard.consents.act(now, act);
            // Still under the lock: the log has the changes of a key in order.
            change.inspect(|change| {
                log.append(change);
            });
            known
        };
        let known = acts.iter().map(act).collect();
        // Also for what was there before: the call that did it may not have seen it to the disk yet.
        log.durable(log.end()).await.map(|()| known)
    }

    async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        // Threads are waited for, which blocks.
        let _panicked = tokio::task::spawn_blocking(move || inner.close()).await;
    }
}

impl Inner {
    fn close(&self) {
        self.log.close();
        let compactor = self.compactor.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(compactor) = compactor {
            let _panicked = compactor.join();
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("identity", &self.inner.identity).finish_non_exhaustive()
    }
}

/// Starts the thread that makes snapshots; it ends when the log's writer does.
fn spawn_compactor(
    files: Arc<Files>,
    state: Arc<State>,
    compactions: mpsc::Receiver<Compaction>,
    compact_bytes: u64,
) -> Result<JoinHandle<()>, LimitsError> {
    let work = move || {
        for Compaction { number, next_at } in compactions {
            match files.snapshot(number, |block| state.dump(block)) {
                Ok(bytes) => next_at.store(bytes.max(compact_bytes), Ordering::Relaxed),
                Err(error) => tracing::warn!(%error, "cannot make a snapshot of limits, the log grows on"),
            }
        }
    };
    std::thread::Builder::new().name("limits-snapshot".into()).spawn(work).map_err(storage)
}

/// Returns the port's error for a disk's.
fn storage(error: std::io::Error) -> LimitsError {
    LimitsError::Storage(error.to_string().into())
}

#[cfg(test)]
mod tests;
