//! One change of the memory, and its bytes in the log. Little-endian; the numbers of forms never change their meaning.

use std::num::NonZeroU32;

use super::Key;
use super::buckets::Bucket;
use super::consents::Consent;
use super::counters::Counter;
use super::memos::Memo;
use super::people::Entry;
use super::refusals::Optout;
use super::rules::{Bound, Filter, Target};
use super::rulesets::Kept;
use crate::domain::job::Kind;
use crate::domain::keys::WordKey;
use crate::domain::rate::Rate;
use crate::domain::rule::{Act, Names};
use crate::domain::suppression::{Scope, Source};
use crate::domain::time::UnixMicros;
use crate::limits::Until;
use crate::limits::spend::ALL_ITEMS;

/// An absolute statement about one key: saying it twice is saying it once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A recipient has this entry.
    Entry {
        /// Whose.
        person: Key,
        /// The claim.
        entry: Entry,
        /// The places it holds.
        kept: Vec<Kept>,
    },
    /// A recipient does not have the entry of this job and token.
    Gone {
        /// Whose.
        person: Key,
        /// The job, in short.
        job: u64,
        /// The asking.
        token: u64,
    },
    /// A recipient's entries of this touch hold no places of these rules.
    Vacated {
        /// Whose.
        person: Key,
        /// What counts as one touch, in short.
        touch: u64,
        /// The rules.
        rules: Vec<u32>,
    },
    /// A submit is remembered.
    Memo {
        /// The job's id.
        id: Key,
        /// What of it.
        memo: Memo,
    },
    /// An address has opted out.
    Optout {
        /// Which, of which tenant.
        address: Key,
        /// Of what.
        optout: Optout,
    },
    /// An address has opted in again.
    Optin {
        /// Which, of which tenant.
        address: Key,
        /// To what.
        scope: Scope,
        /// Of which kind.
        kind: Option<Kind>,
        /// Whose opt-outs are taken back.
        source: Source,
    },
    /// A rule binds what one name stands for.
    Rule {
        /// What.
        target: Target,
        /// How, and how long.
        bound: Bound,
    },
    /// A rule binds what several names stand for, or none.
    Filter {
        /// Whose jobs.
        tenant: Key,
        /// Which, how, and how long.
        filter: Filter,
    },
    /// So much was taken of quotas, and the submit that took it is remembered; one change, so that neither is ever there
    /// without the other.
    Spent {
        /// Of each, what is taken by now.
        counters: Vec<(Key, Counter)>,
        /// The submit, if it has a key.
        memo: Option<(Key, Memo)>,
    },
    /// So much is known of the consents of a person to a template.
    Consent {
        /// Which.
        of: Key,
        /// What.
        consent: Consent,
    },
    /// A bucket is at a level.
    Bucket {
        /// Which.
        name: Box<str>,
        /// Its level.
        bucket: Bucket,
    },
}

/// The bytes are no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("damaged record")]
pub struct Damaged;

/// Reads changes one after the other; stops at the end or at the first damaged one.
pub struct Reader<'a>(&'a [u8]);

/// An entry whose places are all alike: of weight 1, each with a life. No longer written.
const FIRST_ENTRY: u8 = 1;
const GONE: u8 = 2;
const MEMO: u8 = 3;
const RULE: u8 = 6;
const BUCKET: u8 = 7;
// 4 and 5 were opt-outs without a kind.
const OPTOUT: u8 = 8;
const OPTIN: u8 = 9;
const FILTER: u8 = 10;
/// A memo of a submit of which some items were let in.
const CUT_MEMO: u8 = 11;
const SPENT: u8 = 12;
const CONSENT: u8 = 13;
const ENTRY: u8 = 20;
const VACATED: u8 = 21;

const AFTER: u8 = 0;
const AT: u8 = 1;

// === impl Change ===

impl Change {
    /// Appends the change's bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Entry { person, entry, kept } => write_entry(out, person, entry, kept),
            Self::Gone { person, job, token } => {
                out.push(GONE);
                out.extend_from_slice(person);
                out.extend_from_slice(&job.to_le_bytes());
                out.extend_from_slice(&token.to_le_bytes());
            }
            Self::Vacated { person, touch, rules } => {
                out.push(VACATED);
                out.extend_from_slice(person);
                out.extend_from_slice(&touch.to_le_bytes());
                out.push(u8::try_from(rules.len()).unwrap_or(u8::MAX));
                rules.iter().take(usize::from(u8::MAX)).for_each(|rule| out.extend_from_slice(&rule.to_le_bytes()));
            }
            Self::Memo { id, memo } => write_memo(out, id, memo),
            Self::Optout { address, optout } => {
                out.push(OPTOUT);
                out.extend_from_slice(address);
                write_scope(out, optout.scope);
                out.push(kind_number(optout.kind));
                out.push(source_number(optout.source));
                out.extend_from_slice(&optout.at.0.to_le_bytes());
            }
            Self::Optin { address, scope, kind, source } => {
                out.push(OPTIN);
                out.extend_from_slice(address);
                write_scope(out, *scope);
                out.push(kind_number(*kind));
                out.push(source_number(*source));
            }
            Self::Rule { target, bound } => {
                out.extend_from_slice(&[RULE, target.form]);
                out.extend_from_slice(&target.key);
                write_bound(out, bound);
            }
            Self::Filter { tenant, filter } => {
                out.push(FILTER);
                out.extend_from_slice(tenant);
                write_bound(out, &filter.bound);
                let names = filter.names.to_bytes();
                out.extend_from_slice(&u16::try_from(names.len()).unwrap_or(u16::MAX).to_le_bytes());
                out.extend_from_slice(&names);
            }
            Self::Spent { counters, memo } => {
                out.extend_from_slice(&[SPENT, u8::try_from(counters.len()).unwrap_or(u8::MAX)]);
                for (key, counter) in counters.iter().take(usize::from(u8::MAX)) {
                    out.extend_from_slice(key);
                    out.extend_from_slice(&counter.used.to_le_bytes());
                    out.extend_from_slice(&counter.until.0.to_le_bytes());
                }
                out.push(u8::from(memo.is_some()));
                memo.iter().for_each(|(id, memo)| write_memo(out, id, memo));
            }
            Self::Consent { of, consent } => {
                out.push(CONSENT);
                out.extend_from_slice(of);
                consent.write(out);
            }
            Self::Bucket { name, bucket } => write_bucket(out, name, bucket),
        }
    }
}

/// Appends [`Change::Entry`] from borrowed parts.
pub(in crate::limits) fn write_entry(out: &mut Vec<u8>, person: &Key, entry: &Entry, kept: &[Kept]) {
    out.push(ENTRY);
    out.extend_from_slice(person);
    out.extend_from_slice(&entry.at.0.to_le_bytes());
    out.extend_from_slice(&entry.deadline.0.to_le_bytes());
    out.extend_from_slice(&entry.job.to_le_bytes());
    out.extend_from_slice(&entry.token.to_le_bytes());
    out.extend_from_slice(&entry.touch.to_le_bytes());
    out.extend_from_slice(&entry.attempt.to_le_bytes());
    out.extend_from_slice(&u16::try_from(kept.len()).unwrap_or(u16::MAX).to_le_bytes());
    for kept in kept.iter().take(usize::from(u16::MAX)) {
        let (form, until) = match kept.until {
            Until::After(life) => (AFTER, life),
            Until::At(end) => (AT, end.0),
        };
        out.extend_from_slice(&kept.rule.to_le_bytes());
        out.extend_from_slice(&kept.weight.to_le_bytes());
        out.push(form);
        out.extend_from_slice(&until.to_le_bytes());
    }
}

/// Appends [`Change::Memo`] from borrowed parts.
pub(in crate::limits) fn write_memo(out: &mut Vec<u8>, id: &Key, memo: &Memo) {
    out.push(if memo.items == ALL_ITEMS { MEMO } else { CUT_MEMO });
    out.extend_from_slice(id);
    out.extend_from_slice(&memo.fingerprint.to_le_bytes());
    out.extend_from_slice(&memo.until_s.to_le_bytes());
    out.push(u8::from(memo.accepted));
    if memo.items != ALL_ITEMS {
        out.extend_from_slice(&memo.items.to_le_bytes());
    }
}

/// Appends [`Change::Bucket`] from borrowed parts.
pub(in crate::limits) fn write_bucket(out: &mut Vec<u8>, name: &str, bucket: &Bucket) {
    out.push(BUCKET);
    out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_le_bytes());
    out.extend_from_slice(&name.as_bytes()[..name.len().min(usize::from(u16::MAX))]);
    out.extend_from_slice(&bucket.level.to_le_bytes());
    out.extend_from_slice(&bucket.at.0.to_le_bytes());
    out.extend_from_slice(&bucket.rate.per_s.get().to_le_bytes());
    out.extend_from_slice(&bucket.rate.burst.get().to_le_bytes());
}

fn write_bound(out: &mut Vec<u8>, bound: &Bound) {
    out.push(bound.act.number());
    out.extend_from_slice(&bound.act.detail());
    out.extend_from_slice(&bound.at.0.to_le_bytes());
    out.extend_from_slice(&bound.keep_until.0.to_le_bytes());
}

fn write_scope(out: &mut Vec<u8>, scope: Scope) {
    out.push(scope.width());
    out.extend_from_slice(&scope.word().unwrap_or(WordKey([0; 16])).0);
}

/// Returns a kind as one byte; 255: every kind.
pub(in crate::limits) fn kind_number(kind: Option<Kind>) -> u8 {
    match kind {
        Some(Kind::Sms) => 0,
        Some(Kind::Template) => 1,
        Some(Kind::Call) => 2,
        None => 255,
    }
}

/// Reads [`kind_number`].
pub(in crate::limits) fn kind_of(number: u8) -> Option<Option<Kind>> {
    match number {
        0 => Some(Some(Kind::Sms)),
        1 => Some(Some(Kind::Template)),
        2 => Some(Some(Kind::Call)),
        255 => Some(None),
        _ => None,
    }
}

/// Returns a source's number.
pub(in crate::limits) fn source_number(source: Source) -> u8 {
    match source {
        Source::Keyword => 0,
        Source::Api => 1,
        Source::Provider => 2,
        Source::Import => 3,
    }
}

/// Reads [`source_number`].
pub(in crate::limits) fn source_of(number: u8) -> Option<Source> {
    Source::ALL.iter().copied().find(|&source| source_number(source) == number)
}

// === impl Reader ===

impl<'a> Reader<'a> {
    /// Returns a reader of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn change(&mut self) -> Result<Change, Damaged> {
        Ok(match self.u8()? {
            form @ (ENTRY | FIRST_ENTRY) => {
                let person = self.array()?;
                let entry = Entry {
                    at: self.time()?,
                    deadline: self.time()?,
                    job: self.u64()?,
                    token: self.u64()?,
                    touch: self.u64()?,
                    attempt: self.u16()?,
                };
                Change::Entry { person, entry, kept: self.kept(form)? }
            }
            GONE => Change::Gone { person: self.array()?, job: self.u64()?, token: self.u64()? },
            VACATED => {
                let (person, touch, count) = (self.array()?, self.u64()?, self.u8()?);
                let rules = (0..count).map(|_| self.u32()).collect::<Result<_, _>>()?;
                Change::Vacated { person, touch, rules }
            }
            form @ (MEMO | CUT_MEMO) => {
                let (id, memo) = self.memo(form)?;
                Change::Memo { id, memo }
            }
            SPENT => {
                let count = self.u8()?;
                let counter = |_| Ok((self.array()?, Counter { used: self.u64()?, until: self.time()? }));
                let counters = (0..count).map(counter).collect::<Result<_, _>>()?;
                let memo = match self.u8()? {
                    0 => None,
                    _ => {
                        let form = self.u8()?;
                        Some(self.memo(form)?)
                    }
                };
                Change::Spent { counters, memo }
            }
            CONSENT => Change::Consent { of: self.array()?, consent: self.consent()? },
            OPTOUT => {
                let address = self.array()?;
                let optout =
                    Optout { scope: self.scope()?, kind: self.kind()?, source: self.source()?, at: self.time()? };
                Change::Optout { address, optout }
            }
            OPTIN => Change::Optin {
                address: self.array()?,
                scope: self.scope()?,
                kind: self.kind()?,
                source: self.source()?,
            },
            RULE => {
                let target = Target::new(self.u8()?, self.array()?).ok_or(Damaged)?;
                Change::Rule { target, bound: self.bound()? }
            }
            FILTER => {
                let (tenant, bound) = (self.array()?, self.bound()?);
                let length = usize::from(self.u16()?);
                let names = Names::from_bytes(self.bytes(length)?).map_err(|_| Damaged)?;
                Change::Filter { tenant, filter: Filter { names, bound } }
            }
            BUCKET => {
                let length = usize::from(self.u16()?);
                let name = str::from_utf8(self.bytes(length)?).map_err(|_| Damaged)?.into();
                let (level, at) = (self.time()?.0, self.time()?);
                let rate = Rate { per_s: self.positive()?, burst: self.positive()? };
                Change::Bucket { name, bucket: Bucket { level, at, rate } }
            }
            _ => return Err(Damaged),
        })
    }

    fn memo(&mut self, form: u8) -> Result<(Key, Memo), Damaged> {
        let (id, fingerprint, until_s, accepted) = (self.array()?, self.u64()?, self.u32()?, self.u8()? != 0);
        let items = match form {
            MEMO => ALL_ITEMS,
            CUT_MEMO => self.u32()?,
            _ => return Err(Damaged),
        };
        Ok((id, Memo { fingerprint, until_s, accepted, items }))
    }

    fn kept(&mut self, form: u8) -> Result<Vec<Kept>, Damaged> {
        let count = usize::from(self.u16()?);
        let kept = |_| {
            let rule = self.u32()?;
            if form == FIRST_ENTRY {
                return Ok(Kept { rule, weight: 1, until: Until::After(self.time()?.0) });
            }
            let weight = self.u32()?;
            let until = match self.u8()? {
                AFTER => Until::After(self.time()?.0),
                AT => Until::At(self.time()?),
                _ => return Err(Damaged),
            };
            Ok(Kept { rule, weight, until })
        };
        (0..count).map(kept).collect()
    }

    fn bound(&mut self) -> Result<Bound, Damaged> {
        let act = Act::of(self.u8()?, self.array()?).ok_or(Damaged)?;
        Ok(Bound { at: self.time()?, keep_until: self.time()?, act })
    }

    fn scope(&mut self) -> Result<Scope, Damaged> {
        Scope::of_width(self.u8()?, WordKey(self.array()?)).ok_or(Damaged)
    }

    fn kind(&mut self) -> Result<Option<Kind>, Damaged> {
        kind_of(self.u8()?).ok_or(Damaged)
    }

    fn source(&mut self) -> Result<Source, Damaged> {
        source_of(self.u8()?).ok_or(Damaged)
    }

    fn positive(&mut self) -> Result<NonZeroU32, Damaged> {
        NonZeroU32::new(self.u32()?).ok_or(Damaged)
    }

    fn consent(&mut self) -> Result<Consent, Damaged> {
        let [left, exact, given, jobs] = self.array()?;
        let (exact, withdrawn_at) = (exact != 0, self.u32()?);
        let given = (0..given).map(|_| Ok((self.u64()?, self.u32()?))).collect::<Result<_, _>>()?;
        let jobs = (0..jobs).map(|_| Ok((self.u64()?, self.u8()?))).collect::<Result<_, _>>()?;
        Ok(Consent { left, exact, withdrawn_at, given, jobs, until: self.time()? })
    }

    fn time(&mut self) -> Result<UnixMicros, Damaged> {
        self.array().map(i64::from_le_bytes).map(UnixMicros)
    }

    fn u64(&mut self) -> Result<u64, Damaged> {
        self.array().map(u64::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Damaged> {
        self.array().map(u32::from_le_bytes)
    }

    fn u16(&mut self) -> Result<u16, Damaged> {
        self.array().map(u16::from_le_bytes)
    }

    fn u8(&mut self) -> Result<u8, Damaged> {
        self.array().map(|[byte]: [u8; 1]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Damaged> {
        let (head, rest) = self.0.split_first_chunk().ok_or(Damaged)?;
        self.0 = rest;
        Ok(*head)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (head, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(head)
    }
}

impl Iterator for Reader<'_> {
    type Item = Result<Change, Damaged>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let change = self.change();
        if change.is_err() {
            self.0 = &[];
        }
        Some(change)
    }
}
