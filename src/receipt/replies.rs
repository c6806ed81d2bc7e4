//! Replies: opt-outs bind before anybody is told, and are never lost.
//!
//! # Whose opt-out
//! STOP names no brand. It binds the tenant whose number was written to, and where the number is a signature's, that
//! signature's messages; else the tenant that wrote to the address last,
//! by this process's own memory and by the ledger, and where the two differ it binds both. Where nobody can say, because
//! the ledger is away or has not heard of the job yet, it binds every tenant: a person who is written to less than they
//! wished takes it back with START, one who is written to after STOP does not forgive it.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use tokio::sync::{mpsc, oneshot};
use tracing::warn;

use super::keywords::{Keyword, normal, own, shipped};
use super::{Reception, tell};
use crate::domain::event::{Fact, Reply};
use crate::domain::ids::TenantId;
use crate::domain::job::Kind;
use crate::domain::keys::{AddressKey, space};
use crate::domain::recipient::Msisdn;
use crate::domain::suppression::{Plain, Scope, Source, Suppression};
use crate::ledger::Ledger;
use crate::limits::{Limits, LimitsError};
use crate::policy::extensions::Owner;
use crate::queue::{PublishError, Queue};
use crate::seal::Sealer;
use crate::telemetry::metrics;

/// Workers; replies from one address go to the same one, in order, so that START after STOP stays after it.
const WORKERS: usize = 8;
/// Replies that wait for a worker.
const WAITING_MAX: usize = 64;
/// How long the ledger may take to say whose job it was.
const LEDGER_PATIENCE: Duration = Duration::from_secs(2);
/// How long to wait for a job that the ledger has not heard of yet, in tries.
const LOOKS: u32 = 3;
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Tries of a call to limits, and the wait between them. After that the provider says it again.
const TRIES: u32 = 10;
const RETRY: Duration = Duration::from_millis(500);
/// A hand-over that is older than this is in the ledger; one that is younger is likely to be the one that is answered.
const LEDGER_BEHIND: Duration = Duration::from_secs(600);
/// Longest text of a reply that is kept.
const TEXT_BYTES_MAX: usize = 4 * 1024;

/// Takes replies and hands them to its workers.
pub(super) struct Desk {
    workers: Vec<mpsc::Sender<(Reply, oneshot::Sender<()>)>>,
}

/// Why a reply is not durable.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error(transparent)]
    Limits(#[from] LimitsError),
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Desk {
    /// Starts the workers.
    pub(super) fn open<Q: Queue, L: Limits, B: Ledger>(reception: &Arc<Reception<Q, L, B>>) -> Self {
        let worker = |_| {
            let (to_worker, replies) = mpsc::channel(WAITING_MAX);
            reception.tasks.spawn("replies", work(Arc::clone(reception), replies));
            to_worker
        };
        Self { workers: (0..WORKERS).map(worker).collect() }
    }

    /// Hands a reply to the worker of its sender; waits while that one has too many.
    pub(super) async fn hand(&self, mut reply: Reply, done: oneshot::Sender<()>, sealer: &Sealer) {
        reply.from = international(&reply.from);
        truncate(&mut reply.text);
        let mut hasher = std::hash::DefaultHasher::new();
        sealer.address_key(&reply.from).hash(&mut hasher);
        let worker = usize::try_from(hasher.finish() % WORKERS as u64).unwrap_or(0);
        // A worker ends only when this desk does.
        let _stopped = self.workers[worker].send((reply, done)).await;
    }
}

async fn work<Q: Queue, L: Limits, B: Ledger>(
    reception: Arc<Reception<Q, L, B>>,
    mut replies: mpsc::Receiver<(Reply, oneshot::Sender<()>)>,
) {
    while let Some((reply, done)) = replies.recv().await {
        match reception.reply(reply).await {
            Ok(()) => tell(done),
            Err(problem) => warn!(%problem, "a reply is not durable; the provider keeps it"),
        }
    }
}

impl<Q: Queue, L: Limits, B: Ledger> Reception<Q, L, B> {
    /// Takes a reply; returns once what it asks for binds and is durable.
    async fn reply(&self, mut reply: Reply) -> Result<(), NotTaken> {
        let address = self.sealer.address_key(&reply.from);
        let owner = self.extensions.owner(&reply.provider, &reply.to);
        let asked = match normal(&reply.text) {
            Some(word) => self.asked(&word, address, (&reply.from, owner)).await,
            None => vec![],
        };
        let facts = if asked.is_empty() {
            reply.tenant = reply.tenant.or_else(|| owner.map(|owner| owner.tenant.clone()));
            vec![Fact::Reply(reply)]
        } else {
            self.bind(&asked, address, (owner.map_or("", |owner| &owner.signature), reply)).await?
        };
        Ok(self.publish(facts).await?)
    }

    /// Returns what a word asks of whom. A tenant's own words come before the shipped ones. Whose message is answered is
    /// searched for only where the word is one of anybody's.
    async fn asked(
        &self,
        word: &str,
        address: AddressKey,
        (from, owner): (&str, Option<&Owner>),
    ) -> Vec<(TenantId, Keyword)> {
        let shipped = shipped(word, from);
        let all = self.directory.tenants();
        let own: HashMap<&TenantId, Keyword> =
            all.iter().filter_map(|tenant| Some((&tenant.id, own(word, tenant)?))).collect();
        if shipped.is_none() && own.is_empty() {
            return vec![];
        }
        let tenants = match owner {
            Some(owner) => vec![owner.tenant.clone()],
            None => self.tenants(address).await,
        };
        let asked = |tenant: TenantId| {
            let asked = own.get(&tenant).copied().or(shipped)?;
            Some((tenant, asked))
        };
        tenants.into_iter().filter_map(asked).collect()
    }

    /// Makes an opt-out or an opt-in bind, of one signature or, if that is empty, of all that the tenant sends; returns the
    /// facts of it.
    async fn bind(
        &self,
        asked: &[(TenantId, Keyword)],
        address: AddressKey,
        (signature, reply): (&str, Reply),
    ) -> Result<Vec<Fact>, NotTaken> {
        let mut facts = Vec::with_capacity(asked.len() + 1);
        for (tenant, asked) in asked {
            let scope = match signature {
                "" => Scope::Brand,
                signature => Scope::Signature(self.sealer.word_key(tenant, space::SIGNATURE, signature)),
            };
            let source = Source::Keyword;
            let suppression = Suppression { tenant: tenant.clone(), address, scope, kind: None, source, at: reply.at };
            match asked {
                Keyword::OptOut => {
                    self.insist(|| self.limits.suppress(std::slice::from_ref(&suppression))).await?;
                    let plain = Plain { address: reply.from.clone(), word: signature.into() };
                    facts.push(Fact::Suppressed(suppression, plain));
                }
                Keyword::OptIn => {
                    self.insist(|| self.limits.unsuppress(&suppression, source)).await?;
                    facts.push(Fact::Unsuppressed(suppression, source));
                }
            }
        }
        if asked.iter().any(|(_, asked)| *asked == Keyword::OptOut) {
            metrics::opted_out(Kind::Sms, Source::Keyword);
        } else {
            // It may also be an answer to a question.
            facts.push(Fact::Reply(reply));
        }
        Ok(facts)
    }

    /// Calls limits until it is done, or gives up after some tries.
    pub(super) async fn insist<F>(&self, call: impl Fn() -> F) -> Result<(), LimitsError>
    where
        F: Future<Output = Result<(), LimitsError>>,
    {
        for _ in 1..TRIES {
            match call().await {
                Ok(()) => return Ok(()),
                Err(problem) => warn!(%problem, "an opt-out is not bound yet; trying again"),
            }
            self.clock.pause(RETRY.mul_f64(0.5 + fastrand::f64())).await;
        }
        call().await
    }

    /// Returns whose messages a recipient may mean who writes from this address; never none, if there is any tenant.
    async fn tenants(&self, address: AddressKey) -> Vec<TenantId> {
        let mut tenants = Vec::with_capacity(2);
        for look in 1..=LOOKS {
            let now = self.clock.now();
            let remembered = self.senders.last(address);
            let found = self.clock.timeout(LEDGER_PATIENCE, self.ledger.last_job_to(address, now)).await;
            match (found, remembered) {
                (Ok(Ok(Some((tenant, _)))), remembered) => {
                    let later = remembered.filter(|(_, at)| now.since(*at) < LEDGER_BEHIND).map(|(tenant, _)| tenant);
                    tenants.extend(later.filter(|later| *later != tenant));
                    tenants.push(tenant);
                    return tenants;
                }
                (Ok(Ok(None)), Some((tenant, _))) => return vec![tenant],
                (Ok(Ok(None)), None) if look < LOOKS => self.clock.pause(LOOK_AGAIN).await,
                (Ok(Ok(None)), None) => {}
                (Ok(Err(_)) | Err(_), Some((tenant, at))) if now.since(at) < LEDGER_BEHIND => return vec![tenant],
                (Ok(Err(_)) | Err(_), _) => break,
            }
        }
        warn!("whose opt-out it is cannot be told; it binds every tenant");
        self.directory.tenants().iter().map(|tenant| tenant.id.clone()).collect()
    }
}

/// Returns a number in the form in which jobs name it: with `+` in front.
fn international(from: &str) -> Box<str> {
    let digits = from.strip_prefix('+').or_else(|| from.strip_prefix("00")).unwrap_or(from);
    let number = format!("+{digits}");
    if number.parse::<Msisdn>().is_ok() { number.into() } else { from.into() }
}

fn truncate(text: &mut Box<str>) {
    if text.len() > TEXT_BYTES_MAX {
        let end = (0..=TEXT_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        *text = text[..end].into();
    }
}
