//! What is asked and answered, and what both stores must decide alike: the numbers of a recording, the window of a watch,
//! whose a history is.

use std::time::Duration;

use uuid::Uuid;

use super::columns::Code;
use super::{JobRow, LedgerError, Loss, NumberedEvent, Recording};
use crate::domain::ids::{JobId, TenantId};
use crate::domain::job::{Class, Kind};
use crate::domain::keys::{AddressKey, RecipientKey, WordKey};
use crate::domain::rule::Names;
use crate::domain::time::UnixMicros;

/// Numbers that one watch of a single tenant looks through, at least: among the events of all, its own may be rare.
const WATCH_WINDOW: i64 = 1 << 16;

/// A job and its events so far, oldest first.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// The job; `None` while only its events have come.
    pub row: Option<JobRow>,
    /// Its events.
    pub events: Vec<NumberedEvent>,
}

/// What a recorder must know of a job: whose it is, and what happened to it. Without its sealed row, which is large.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trail {
    /// Its owner.
    pub tenant: TenantId,
    /// Its kind.
    pub kind: Kind,
    /// Its class.
    pub class: Class,
    /// Whether its row has come.
    pub accepted: bool,
    /// As in its row; `None` without one.
    pub fallback_after: Option<Duration>,
    /// Its events, oldest first.
    pub events: Vec<NumberedEvent>,
}

/// Which jobs a list shows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// This one.
    pub job: Option<JobId>,
    /// Of this batch.
    pub batch: Option<Uuid>,
    /// Of this campaign.
    pub campaign: Option<WordKey>,
    /// Of this run.
    pub run: Option<WordKey>,
    /// To this address.
    pub address: Option<AddressKey>,
    /// For this recipient, by the tenant's id.
    pub recipient: Option<RecipientKey>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Of this class.
    pub class: Option<Class>,
    /// With this cancel key.
    pub cancel_key: Option<WordKey>,
    /// Accepted from then on.
    pub from: Option<UnixMicros>,
    /// Accepted before.
    pub to: Option<UnixMicros>,
}

/// How many jobs wait, and how many do not any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Tally {
    /// Of which nothing but deferrals is known.
    pub waiting: u64,
    /// Handed over, or with an outcome.
    pub claimed: u64,
    /// There are more than were looked at.
    pub more: bool,
}

/// Returns the last number of a recording, after checking that its numbers follow [`Recording::after`] without gaps.
/// One that changes segments or parks receipts and has no number of its own takes one, so that the fence moves.
pub(super) fn last_seq(recording: &Recording) -> Result<i64, LedgerError> {
    let events = recording.events.iter().map(|event| event.seq);
    let mut numbers: Vec<i64> = events.chain(recording.replies.iter().map(|reply| reply.seq)).collect();
    numbers.sort_unstable();
    let mut last = recording.after;
    for number in numbers {
        if number != last + 1 {
            return Err(LedgerError::Refused(format!("number {number} does not follow {last}").into()));
        }
        last = number;
    }
    let matters = !recording.segments.is_empty() || !recording.parked.is_empty();
    Ok(last + i64::from(matters && last == recording.after))
}

/// Returns up to which number a watch reads at once: enough to fill its answer, and never the whole ledger.
pub(super) fn watch_to(tenant: Option<&TenantId>, after: i64, most: u32, last: i64) -> i64 {
    let most = i64::from(most);
    let window = if tenant.is_some() { most.max(WATCH_WINDOW) } else { most };
    last.min(after.saturating_add(window)).max(after)
}

/// Numbers that one look for losses goes through: enough that a backlog is worked off, few enough that a look is short.
const LOSS_WINDOW: i64 = 50_000;

/// Returns up to which number a look for losses reads at once.
pub(super) fn loss_to(after: i64, last: i64) -> i64 {
    last.min(after.saturating_add(LOSS_WINDOW)).max(after)
}

/// Returns those that reached nobody among losses that were read up to a number, and up to which number they are complete.
pub(super) fn losses(mut losses: Vec<Loss>, most: u32, to: i64) -> (Vec<Loss>, i64) {
    let complete = losses.last().filter(|_| losses.len() >= most as usize).map_or(to, |last| last.seq);
    losses.retain(|loss| loss.outcome.reached_nobody());
    (losses, complete)
}

/// Returns up to which number a watch's answer is complete: all of `to` unless it was filled before.
pub(super) fn watch_complete(events: &[NumberedEvent], most: u32, to: i64) -> i64 {
    match events.last() {
        Some(last) if events.len() >= most as usize => last.seq,
        _ => to,
    }
}

// === impl History ===

impl History {
    /// Returns the history if there is anything of it and it is this tenant's.
    pub(super) fn of(self, tenant: &TenantId) -> Option<Self> {
        let owner = match (&self.row, self.events.first()) {
            (Some(row), _) => &row.tenant,
            (None, Some(first)) => &first.event.tenant,
            (None, None) => return None,
        };
        (owner == tenant).then_some(self)
    }
}

// === impl Filter ===

impl Filter {
    /// Returns what finds the jobs that a rule with these names, given at `at`, may bind.
    pub fn bound(names: &Names, at: UnixMicros) -> Self {
        let Names { job, cancel_key, recipient, address, batch, campaign, run, kind, class, from, to, .. } = *names;
        let until = UnixMicros(at.0.saturating_add(1));
        // A recipient who is named by an address has no id that could be looked for.
        let recipient = recipient.filter(|_| address.is_none());
        let to = Some(to.map_or(until, |to| to.min(until)));
        Self { job, batch, campaign, run, address, recipient, kind, class, cancel_key, from, to }
    }

    /// Returns whether it names something of which a tenant's jobs are few, and which has an index.
    pub fn is_selective(&self) -> bool {
        self.job.is_some()
            || self.batch.is_some()
            || self.campaign.is_some()
            || self.run.is_some()
            || self.address.is_some()
            || self.recipient.is_some()
            || self.cancel_key.is_some()
    }

    /// Returns by which filter rows are read where they are only counted, and the SQL condition for those of them, as
    /// `j`, that count: kind and class have no index, so what matches them might be looked for without end.
    pub(super) fn scan(&self) -> (Self, String) {
        if self.is_selective() {
            return (self.clone(), "true".into());
        }
        let kind = self.kind.map(|kind| format!("j.kind = {}", kind.code()));
        let class = self.class.map(|class| format!("j.class = {}", class.code()));
        let meant: Vec<_> = kind.into_iter().chain(class).collect();
        let condition = if meant.is_empty() { "true".into() } else { meant.join(" and ") };
        (Self { kind: None, class: None, ..self.clone() }, condition)
    }
}

// === impl Tally ===

impl Tally {
    /// Counts whether jobs were handed over (`None`: not meant), of at most one more than `most`.
    pub(super) fn of(handed: impl IntoIterator<Item = Option<bool>>, most: u32) -> Self {
        let mut tally = Self::default();
        for (seen, handed) in (0..).zip(handed) {
            if seen >= u64::from(most) {
                tally.more = true;
                break;
            }
            match handed {
                Some(true) => tally.claimed += 1,
                Some(false) => tally.waiting += 1,
                None => {}
            }
        }
        tally
    }
}

// === impl Trail ===

impl Trail {
    /// Returns the trail of a job that has no row yet, if anything happened to it.
    pub(super) fn of(events: Vec<NumberedEvent>) -> Option<Self> {
        let first = &events.first()?.event;
        Some(Self {
            tenant: first.tenant.clone(),
            kind: first.kind,
            class: first.class,
            accepted: false,
            fallback_after: None,
            events,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::SealedReply;

    #[track_caller]
    fn check(after: i64, numbers: &[i64], expected: Option<i64>) {
        let reply = |&seq| SealedReply {
            seq,
            tenant: None,
            in_reply_to: None,
            at: Default::default(),
            sealed: "".into(),
            signal: None,
        };
        let recording = Recording { after, replies: numbers.iter().map(reply).collect(), ..Recording::default() };
        assert_eq!(last_seq(&recording).ok(), expected, "after {after}: {numbers:?}");
    }

    #[test]
    fn numbers_follow_without_gaps() {
        check(0, &[], Some(0));
        check(7, &[8, 9, 10], Some(10));
        check(7, &[9, 8], Some(9));
        check(7, &[9], None);
        check(7, &[8, 8], None);
        check(7, &[7, 8], None);
    }

    #[test]
    fn a_watch_never_claims_more_than_it_read() {
        let tenant: TenantId = "acme".parse().unwrap();
        assert_eq!(watch_to(None, 10, 5, 100), 15);
        assert_eq!(watch_to(None, 98, 5, 100), 100);
        assert_eq!(watch_to(Some(&tenant), 10, 5, 100), 100);
        assert_eq!(watch_to(None, 200, 5, 100), 200, "a token from the future stays where it is");
        assert_eq!(watch_complete(&[], 5, 15), 15);
    }
}
