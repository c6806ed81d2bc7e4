//! The limits port: what must be asked and taken before a job goes out. Idempotency, claims, caps, opt-outs, rules
//! about jobs that wait, and rates.
//!
//! # Contract
//! - A call with many requests answers each, in order. A request takes all it needs or nothing.
//! - `Ok` means durable: what it took survives a crash of this process and a restart of the store.
//! - After an error a call may have been carried out; the same call may be repeated with the same tokens and takes
//!   nothing twice.
//! - An opt-out or a rule whose call returned `Ok` before a claim is asked binds that claim.
//! - `now` never steps back: a store uses the latest time it was given.
//! - A claim is decided in this order: held by another copy, forgotten, suppressed, cancelled, collapsed, moved, over a
//!   cap, claimed. A peek says what the same claim would be told at that moment.
//! - A memory that is new, or has lost something, is *recovering* until [`Limits::recovered`] is called: claims that
//!   opt-outs of a brand bind are answered [`Decision::Recovering`] where others follow on forgotten, and take nothing.

pub mod measured;
pub mod pacer;
pub mod rates;

mod against;
mod any;
pub mod consent;
pub mod core;
pub mod embedded;
pub mod redis;
mod share;
mod shared;
mod spend;
mod take;

use std::future::Future;
use std::time::Duration;

use uuid::Uuid;

pub use against::Words;
pub use any::AnyLimits;
pub use consent::{ConsentAct, Consented, Counted};
pub use core::{opens_at, short};
pub use share::{SHARE_LIFE, Share};
pub use shared::{Borrow, Borrowed, Shared};
pub use spend::{ALLOWANCES_MAX, Allowance, Counts, Need, Spend, Spent};
pub use take::{Held, Once, Span, Take, Until, Vacate};

use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{AddressKey, Fingerprint, RecipientKey, WordKey};
use crate::domain::rate::Rate;
use crate::domain::rule::{JobRule, Name, Names};
use crate::domain::suppression::{Scope, Source, Suppression};
use crate::domain::time::UnixMicros;

/// Most takes of one claim: each is a bit of [`Decision::Overshadowed`].
pub const TAKES_MAX: usize = 32;
/// How long a claim is remembered at least.
pub const CLAIM_LIFE: Duration = Duration::from_secs(24 * 3600);

/// Most rules of a tenant at a time that name jobs by more than one thing, or by none: every claim of the tenant reads
/// them all.
pub const FILTER_RULES_MAX: usize = 1_000;

/// Why limits gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitsError {
    /// No answer within the time limit; the call may have been carried out.
    #[error("limits did not answer in time")]
    Timeout,
    /// No connection.
    #[error("cannot reach limits: {0}")]
    Unreachable(Box<str>),
    /// The store answered and refused.
    #[error("limits refused: {0}")]
    Refused(Box<str>),
    /// They reload what they lost, and nothing may be taken back meanwhile: it could come back.
    #[error("limits are reloading what they lost; ask again later")]
    Recovering,
    /// The disk refused.
    #[error("cannot write limits: {0}")]
    Storage(Box<str>),
    /// The tenant has [`FILTER_RULES_MAX`] rules of that sort already.
    #[error("the tenant has {FILTER_RULES_MAX} rules by filter already")]
    TooManyRules,
}

/// Which memory this is, and since when it is whole: claims from before `changed_at` may be forgotten.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// The store's own name for its data.
    pub id: Box<str>,
    /// When that data began, or last lost something.
    pub changed_at: UnixMicros,
    /// Whether what was lost is not reloaded yet.
    pub recovering: bool,
}

/// A touch that limits may have lost: as [`Limits::restore`] takes it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Touch {
    /// The claim as it would be asked for now; what its takes count, the touch takes.
    pub claim: Claim,
    /// When the hand-over was answered.
    pub at: UnixMicros,
}

/// How long the lead of a recovery lasts unless it is asked for again.
pub const RECOVERY_LEAD: Duration = Duration::from_secs(15);

/// A submit with an idempotency key, to be remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remember {
    /// The id that tenant and key give (a batch's id for a batch key).
    pub id: JobId,
    /// What was asked.
    pub fingerprint: Fingerprint,
    /// How long it is remembered.
    pub until: UnixMicros,
}

/// What a submit with an idempotency key meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remembered {
    /// It is the first.
    New,
    /// The same was asked before and may not have become durable: publish it again under the same id.
    Pending,
    /// The same was asked before and accepted.
    Accepted,
    /// The key was used for something else.
    Conflict,
}

/// Asks to hand one job over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its owner.
    pub tenant: TenantId,
    /// Whom it reaches.
    pub recipient: RecipientKey,
    /// The job.
    pub job: JobId,
    /// The number of the attempt, from 1.
    pub attempt: u16,
    /// The attempt whose claim gives way, because record decided to repeat it; 0: none. Any other claim of the job,
    /// of whatever attempt, makes the answer [`Decision::Held`].
    pub supersedes: u16,
    /// Unique to this asking: the same token again, while the claim lives, is the same asking again.
    pub token: u64,
    /// When a hand-over without an answer may be checked.
    pub deadline: UnixMicros,
    /// When the earliest copy that may have been handed over was released.
    pub seen: Option<UnixMicros>,
    /// What counts as one touch: the job, or its fallback chain. A touch that is in a cap's log already is not taken
    /// again, but where each attempt counts.
    pub touch: Uuid,
    /// The caps it needs, at most [`TAKES_MAX`].
    pub takes: Vec<Take>,
    /// It is never handed over from then on: no turn is given it later.
    pub expires_at: UnixMicros,
    /// What may stand against it.
    pub against: Against,
}

/// What opt-outs and rules are looked up by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Against {
    /// The job's kind.
    pub kind: Kind,
    /// The job's class: only opt-outs from everything bind more than marketing and notification.
    pub class: Class,
    /// Where it would be sent.
    pub address: AddressKey,
    /// Its sender, if any.
    pub sender: Option<WordKey>,
    /// Its signature, if any.
    pub signature: Option<WordKey>,
    /// Its topic, if any.
    pub topic: Option<WordKey>,
    /// Its cancel key, if any.
    pub cancel_key: Option<WordKey>,
    /// Its batch, if any.
    pub batch: Option<Uuid>,
    /// Its campaign, if any.
    pub campaign: Option<WordKey>,
    /// Its run, if any.
    pub run: Option<WordKey>,
    /// Its collapse key, if any.
    pub collapse_key: Option<WordKey>,
    /// Rules bind what was accepted up to their time.
    pub accepted_at: UnixMicros,
    /// The time of the last rule that moved it and that it obeys already, if any: later ones bind.
    pub moved_at: Option<UnixMicros>,
}

impl Against {
    /// Returns whether opt-outs bind the job that are not from everything.
    pub fn touting(&self) -> bool {
        match self.class {
            Class::Otp | Class::Transactional => false,
            Class::Notification | Class::Marketing => true,
        }
    }

    /// Returns whether an opt-out of the job's address binds the job.
    pub fn bound_by(&self, scope: Scope, kind: Option<Kind>) -> bool {
        let touting = self.touting();
        let reaches = match scope {
            Scope::Everything => true,
            Scope::Brand | Scope::Global => touting,
            Scope::Sender(word) => touting && self.sender == Some(word),
            Scope::Signature(word) => touting && self.signature == Some(word),
            Scope::Topic(word) => touting && self.topic == Some(word),
        };
        reaches && kind.is_none_or(|kind| kind == self.kind)
    }
}

/// What a claim was answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Hand it over.
    Claimed,
    /// Hand it over; shadows that it took no place in had none: bit n stands for its take n. A repeated asking is told
    /// [`Decision::Claimed`].
    Overshadowed(u32),
    /// Another copy was claimed; what became of it is checked after the deadline.
    Held {
        /// That copy's attempt.
        attempt: u16,
        /// Its deadline.
        deadline: UnixMicros,
    },
    /// It was seen before limits lost their memory, or longer ago than claims live: it may have been handed over.
    Forgotten,
    /// Limits reload what they lost. Marketing and notification wait; anything else is claimed all the same, and its
    /// opt-outs are to be asked of the ledger.
    Recovering {
        /// Whether it is claimed.
        claimed: bool,
    },
    /// An opt-out binds it. Nothing was taken.
    Suppressed(Scope),
    /// It was cancelled. Nothing was taken.
    Cancelled,
    /// A newer job with its collapse key replaces it. Nothing was taken.
    Collapsed,
    /// It was moved to another time. Nothing was taken; asked again as `moved_at` this rule, it obeys.
    Moved {
        /// When the rule was given.
        at: UnixMicros,
        /// When it is due.
        due_at: UnixMicros,
        /// When it expires; `None`: by its class.
        expires_at: Option<UnixMicros>,
    },
    /// A cap has no room. Nothing was taken.
    OverCap {
        /// Which of its takes.
        take: usize,
        /// The earliest instant at which all its caps have room, as far as is known now.
        open_at: UnixMicros,
        /// When the job had better ask again: later than `open_at` where others were told to come then, and before the
        /// job expires if that can be.
        turn_at: UnixMicros,
    },
}

/// Gives back the claim and takes of an attempt that definitely did not go out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GiveBack {
    /// Its owner.
    pub tenant: TenantId,
    /// The recipient.
    pub recipient: RecipientKey,
    /// The job.
    pub job: JobId,
    /// The claim's token: a later claim of the job stands.
    pub token: u64,
    /// The claim's touch.
    pub touch: Uuid,
    /// The logs of its takes that are not the recipient's own.
    pub logs: Vec<RecipientKey>,
}

// === impl Claim ===

impl Claim {
    /// Returns what gives the claim back.
    pub fn give_back(&self) -> GiveBack {
        let mut logs: Vec<_> = self.takes.iter().filter_map(|take| take.log).collect();
        logs.sort_unstable();
        logs.dedup();
        let Self { tenant, recipient, job, token, touch, .. } = self;
        GiveBack { tenant: tenant.clone(), recipient: *recipient, job: *job, token: *token, touch: *touch, logs }
    }
}

// === impl Decision ===

impl Decision {
    /// Returns whether the job may be handed over.
    pub fn claimed(&self) -> bool {
        matches!(self, Self::Claimed | Self::Overshadowed(_) | Self::Recovering { claimed: true })
    }
}

/// Asks for tokens of a bucket that all nodes share.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    /// The bucket's name, such as `tenant:acme` or `provider:carrier-a`.
    pub bucket: Box<str>,
    /// The bucket's numbers as of now; a change binds from this call on.
    pub rate: Rate,
    /// Tokens that stay in the bucket for those who may take all: none of them is granted, but under
    /// [`LeaseMode::Force`].
    pub keep: u32,
    /// How many tokens are wanted; under [`LeaseMode::Whole`], more than the burst counts as the burst.
    pub want: u32,
    /// How the answer may fall short.
    pub mode: LeaseMode,
}

/// How a lease is granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeaseMode {
    /// As many as there are, up to the wish.
    UpTo,
    /// All or none.
    Whole,
    /// All, into debt if need be: others wait for it. For one-time passwords.
    Force,
}

/// What a lease was granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Granted {
    /// How many tokens.
    pub tokens: u32,
    /// When the next token, or the whole wish under [`LeaseMode::Whole`], can be had; `now` where all were granted.
    pub next_at: UnixMicros,
}

impl Claim {
    /// Returns everything that a rule can name the job by.
    pub(crate) fn names(&self) -> Names {
        let Against { cancel_key, batch, campaign, run, collapse_key, .. } = self.against;
        let (job, recipient) = (Some(self.job), Some(self.recipient));
        Names { job, cancel_key, recipient, batch, campaign, run, collapse_key, ..Names::default() }
    }

    /// Returns what names the job besides: the first job of its fallback chain, so that a chain is ruled as one.
    pub(crate) fn chain_name(&self) -> Option<Name> {
        let first = JobId(self.touch);
        (first != self.job).then(|| Names::job(first).only()).flatten()
    }
}

/// The one place that is asked before a job goes out. See the module's contract.
pub trait Limits: Clone + Send + Sync + 'static {
    /// Returns which memory this is.
    fn identity(&self) -> impl Future<Output = Result<Identity, LimitsError>> + Send;

    /// Takes of quotas what submits need, and remembers those that have a key as pending; a known one takes nothing.
    fn spend(&self, now: UnixMicros, spends: &[Spend]) -> impl Future<Output = Result<Vec<Spent>, LimitsError>> + Send;

    /// Returns how much was taken by now of some allowances of a tenant, all together.
    fn taken(&self, tenant: &TenantId, allowances: &[WordKey])
    -> impl Future<Output = Result<u64, LimitsError>> + Send;

    /// Marks remembered submits as accepted. Lost marks cost a second publish under the same id, nothing more.
    fn accepted(&self, ids: &[JobId]) -> impl Future<Output = Result<(), LimitsError>> + Send;

    /// Claims jobs with all they need, or nothing of each.
    fn claim(
        &self,
        now: UnixMicros,
        claims: &[Claim],
    ) -> impl Future<Output = Result<Vec<Decision>, LimitsError>> + Send;

    /// Says what these claims would be told now, each as if it were alone, and takes nothing.
    fn peek(
        &self,
        now: UnixMicros,
        claims: &[Claim],
    ) -> impl Future<Output = Result<Vec<Decision>, LimitsError>> + Send;

    /// Returns the places that are taken at `now` in the cap of each take of a claim, newest first, and takes nothing. Asked
    /// for an earlier time, it tells what is still remembered.
    fn places(
        &self,
        now: UnixMicros,
        claim: &Claim,
    ) -> impl Future<Output = Result<Vec<Vec<Held>>, LimitsError>> + Send;

    /// Gives back claims and takes; unknown or newer ones are left alone.
    fn give_back(&self, claims: &[GiveBack]) -> impl Future<Output = Result<(), LimitsError>> + Send;

    /// Frees places that touches hold in some caps, whenever they took them; their claims stand. Twice is once. Refused
    /// with [`LimitsError::Recovering`] while what was lost is reloaded, for the place could come back.
    fn vacate(&self, places: &[Vacate]) -> impl Future<Output = Result<(), LimitsError>> + Send;

    /// Adds opt-outs, which bind every claim asked after this returns.
    fn suppress(&self, suppressions: &[Suppression]) -> impl Future<Output = Result<(), LimitsError>> + Send;

    /// Takes back what `source` brought for this tenant, address, scope and kind; the API's word takes back every
    /// source's. Refused with [`LimitsError::Recovering`] while what was lost is reloaded.
    fn unsuppress(
        &self,
        suppression: &Suppression,
        source: Source,
    ) -> impl Future<Output = Result<(), LimitsError>> + Send;

    /// Returns the opt-outs of an address: the tenant's own and those that bind every tenant.
    fn suppressions(
        &self,
        tenant: &TenantId,
        address: AddressKey,
    ) -> impl Future<Output = Result<Vec<Suppression>, LimitsError>> + Send;

    /// Adds rules about jobs, kept until `keep_until`; they bind every claim asked after this returns. Of rules that say
    /// the same of the same names, the latest counts and the longest life. More than [`FILTER_RULES_MAX`] of a tenant
    /// that need more than one name are refused.
    fn rule(&self, rules: &[JobRule], keep_until: UnixMicros) -> impl Future<Output = Result<(), LimitsError>> + Send;

    /// Leases tokens.
    fn lease(
        &self,
        now: UnixMicros,
        leases: &[Lease],
    ) -> impl Future<Output = Result<Vec<Granted>, LimitsError>> + Send;

    /// Gives unused tokens back to a bucket, which never holds more than its burst.
    fn unlease(&self, bucket: &str, tokens: u32) -> impl Future<Output = Result<(), LimitsError>> + Send;

    /// Returns how many places a node may hold from now on: its even share, as far as the others have left it. All together
    /// never hold more than the total. A node that is not heard of for [`SHARE_LIFE`] holds none; while nobody could
    /// ask, nobody's time runs. A memory that was never asked, or may lack what was said last, gives nobody more than they
    /// hold before a third of that has passed: by then everybody who is there has asked it, also whoever waited for an answer
    /// of the one before.
    fn share(&self, now: UnixMicros, share: &Share) -> impl Future<Output = Result<u16, LimitsError>> + Send;

    /// Tries to become, or to stay, the one that reloads what was lost. The lead ends after [`RECOVERY_LEAD`].
    fn lead_recovery(&self, now: UnixMicros, who: u64) -> impl Future<Output = Result<bool, LimitsError>> + Send;

    /// Takes places for touches as of their times, whether there is room or not; one whose attempt is known takes nothing.
    fn restore(&self, touches: &[Touch]) -> impl Future<Output = Result<(), LimitsError>> + Send;

    /// Ends the recovery of the memory that `identity` names; returns whether that is still the one.
    fn recovered(&self, identity: &Identity) -> impl Future<Output = Result<bool, LimitsError>> + Send;

    /// Answers who asks for a value that all processes share, and names one of them to renew it. Such a value is no promise:
    /// lost, it is asked for again, and it need not outlive the process.
    fn borrow(&self, now: UnixMicros, asked: &Borrow<'_>)
    -> impl Future<Output = Result<Borrowed, LimitsError>> + Send;

    /// Takes the value of that name from the one who was named to renew it; returns whether it still is the one.
    fn lend(
        &self,
        now: UnixMicros,
        by: (&str, u64),
        value: &Shared,
    ) -> impl Future<Output = Result<bool, LimitsError>> + Send;

    /// Does what happens to one-time consents, up to 256 in order and more in any, and says what is known of each
    /// then. `Ok` means durable, but for what is returned: lost, a consent stays taken.
    fn consent(
        &self,
        now: UnixMicros,
        acts: &[ConsentAct],
    ) -> impl Future<Output = Result<Vec<Consented>, LimitsError>> + Send;

    /// Makes what is written durable and closes.
    fn close(&self) -> impl Future<Output = ()> + Send;
}
