//! The merge: accepted jobs, events, receipts and checks in the order of the record queue, into one recording. Pure: no
//! clock, no I/O.
//!
//! Before anything is merged, the ledger is asked for what is not in memory (see `reads`); what is in memory about a job
//! is therefore always complete. The recording's fence keeps it so: another recorder cannot have written in between.

mod calls;
mod chains;
mod checks;
mod counts;
mod receipts;
mod segments;

use std::collections::BTreeSet;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};
use uuid::Uuid;

pub(super) use self::chains::{Timer, Withdrawal};
use self::counts::Counts;
use self::segments::{MessageKey, MessageRef, Segments};
use super::standing::{Admission, Standing};
use super::tally::Tally;
use crate::domain::call::CallResult;
use crate::domain::event::{Change, Event, Fact, Fate, Owed, Receipt, Reply};
use crate::domain::ids::{JobId, ProviderId, TenantId};
use crate::domain::job::{Check, Class, Envelope, Kind};
use crate::domain::keys::WordKey;
use crate::domain::recent::Recent;
use crate::domain::rule::{Act, JobRule, Names};
use crate::domain::signal::Signal;
use crate::domain::suppression::{Plain, Suppression};
use crate::domain::time::UnixMicros;
use crate::domain::trace::Trace;
use crate::ledger::{COST, COST_FINALLY, JobRow, NumberedEvent, Recording, SENT_FINALLY, Segment, Trail};

/// How many waiting jobs are remembered for each that more is known of: an id takes so much less.
const WAITING_PER_KNOWN: usize = 18;

/// A job as it was accepted, on its way into the ledger.
#[derive(Clone, Debug)]
pub(super) struct Accepted {
    pub(super) row: JobRow,
    /// The trace that it belongs to.
    pub(super) trace: Option<Trace>,
    /// No frame can have brought this job before.
    pub(super) fresh: bool,
    /// Its collapse key: it replaces older jobs.
    pub(super) collapse_key: Option<WordKey>,
}

/// What a batch comes to.
pub(super) struct Merged {
    pub(super) recording: Recording,
    /// Replies with their numbers, to be sealed into the recording.
    pub(super) replies: Vec<(i64, Reply)>,
    /// Signals with their numbers, to be sealed into the recording.
    pub(super) signals: Vec<(i64, Box<Signal>)>,
    /// Opt-outs with what their keys stand for, to be sealed into the recording.
    pub(super) suppressed: Vec<(Suppression, Plain)>,
    /// What goes out a second time: published before the recording is written.
    pub(super) resends: Vec<Envelope>,
    /// Steps of fallback chains that start, each alone: put into the agenda with the recording.
    pub(super) starts: Vec<Envelope>,
    /// Jobs of chains that are being given time to be delivered: their timers are set with the recording.
    pub(super) timers: Vec<Timer>,
    /// What follows calls: carried out before the recording is written.
    pub(super) owed: Vec<Owed>,
    /// Checks of calls whose own were lost: put into the agenda with the recording.
    pub(super) checks: Vec<Check>,
    /// Steps that are not to leave any more: told to limits before the recording is written.
    pub(super) withdrawn: Vec<Withdrawal>,
    pub(super) tally: Tally,
}

/// Merges batch after batch. Holds what it knows of recent jobs and messages, bounded.
pub(super) struct Merger {
    after: i64,
    next: i64,
    known: Recent<JobId, Known>,
    /// Jobs that wait for their time, and of which nothing was heard but their row: the ledger, which has long written it,
    /// need not be asked about them once their first event comes. Nothing hangs on them that an event does not bring.
    waiting: Recent<JobId, ()>,
    segments: Segments,
    /// Receipts whose job has not been found, of this batch and, where this batch may need them, of the ledger.
    parked: HashMap<MessageKey, Parked>,
    /// Calls of this batch that ended, and whose jobs are to be brought.
    ended_calls: Vec<(Event, CallResult)>,
    merged: Merged,
    counts: Counts,
    /// Signals of this batch, and those of them that the ledger has.
    heard: HashSet<Uuid>,
    /// Jobs of fallback chains that something happened to in this batch.
    touched: BTreeSet<JobId>,
}

struct Known {
    tenant: TenantId,
    kind: Kind,
    class: Class,
    /// Its row has come.
    accepted: bool,
    /// How long it may take to be delivered before the next step of its chain starts; `None`: nothing follows, as far as
    /// is known.
    fallback_after: Option<Duration>,
    /// When it was first handed over.
    handed_over_at: Option<UnixMicros>,
    standing: Standing,
}

struct Parked {
    receipt: Receipt,
    /// The ledger has it.
    stored: bool,
}

impl Merger {
    /// Returns a merger that knows nothing but the ledger's last number, and remembers about `jobs` jobs, and far more that
    /// wait.
    pub(super) fn new(last: i64, jobs: usize) -> Self {
        Self {
            after: last,
            next: last + 1,
            known: Recent::new(jobs),
            waiting: Recent::new(jobs.saturating_mul(WAITING_PER_KNOWN)),
            segments: Segments::new(jobs),
            parked: HashMap::new(),
            ended_calls: vec![],
            merged: Merged::after(last),
            counts: Counts::default(),
            heard: HashSet::new(),
            touched: BTreeSet::new(),
        }
    }

    /// Forgets everything: the ledger was written by somebody else, or may have been.
    pub(super) fn reset(&mut self, last: i64) {
        self.after = last;
        self.next = last + 1;
        self.known.clear();
        self.waiting.clear();
        self.segments.clear();
        self.parked.clear();
        self.ended_calls.clear();
        self.merged = Merged::after(last);
        self.counts = Counts::default();
        self.heard.clear();
        self.touched.clear();
    }

    /// Returns the last number that was written.
    pub(super) fn last(&self) -> i64 {
        self.after
    }

    /// Takes what the batch came to; the next batch builds on it.
    pub(super) fn finish(&mut self) -> Merged {
        let parked = self.parked.drain().map(|(_, parked)| parked);
        let recording = &mut self.merged.recording;
        recording.parked.extend(parked.filter(|parked| !parked.stored).map(|parked| parked.receipt));
        let matters = !recording.segments.is_empty() || !recording.parked.is_empty();
        if matters && self.next == self.after + 1 {
            // Nothing is numbered, but what another recorder may believe to know is changed.
            self.number();
        }
        let last = self.next - 1;
        let mut merged = std::mem::replace(&mut self.merged, Merged::after(last));
        self.after = last;
        self.known.age();
        self.waiting.age();
        self.segments.next_batch();
        self.heard.clear();
        merged.recording.counts = std::mem::take(&mut self.counts).into_counts();
        merged
    }

    // === what the ledger knows ===

    /// Returns whether the job's events are in memory.
    pub(super) fn knows(&self, job: JobId) -> bool {
        self.known.contains(&job)
    }

    /// Returns whether the next event of a job is its first, and the event and its row are all there is to know.
    pub(super) fn waits(&self, job: JobId) -> bool {
        self.waiting.contains(&job)
    }

    /// Takes in what the ledger says of a job.
    pub(super) fn learn(&mut self, job: JobId, trail: Trail) {
        let Trail { tenant, kind, class, accepted, fallback_after, events } = trail;
        let mut known = Known { accepted, fallback_after, ..Known::new(tenant, kind, class) };
        for NumberedEvent { event, .. } in &events {
            known.standing.admit(event.attempt, &event.change);
            known.note(event.at, &event.change);
        }
        self.known.insert(job, known);
    }

    /// Returns the job and attempt of a message, if that is in memory, and whether the fates of all segments of the
    /// attempt are.
    pub(super) fn message(&self, provider: &ProviderId, message_id: &str) -> Option<segments::Place> {
        self.segments.place(provider, message_id)
    }

    /// Takes in segments that the ledger holds: all of an attempt, unless it has but one.
    pub(super) fn learn_segments(&mut self, segments: Vec<Segment>) {
        for segment in segments {
            self.segments.learn(segment);
        }
    }

    /// Takes in a receipt that the ledger holds, because this batch may bring its job.
    pub(super) fn learn_parked(&mut self, receipt: Receipt) {
        let key = MessageKey(receipt.provider.clone(), receipt.message_id.clone());
        self.parked.insert(key, Parked { receipt, stored: true });
    }

    /// Takes in which signals the ledger has.
    pub(super) fn learn_signals(&mut self, signals: Vec<Uuid>) {
        self.heard.extend(signals);
    }

    // === what the batch brings ===

    /// Records that a frame is part of the batch.
    pub(super) fn frame(&mut self, id: Uuid) {
        self.merged.recording.frames.push(id);
    }

    /// Merges an accepted job.
    pub(super) fn accept(&mut self, accepted: Accepted) {
        let row = accepted.row;
        if let Some(key) = accepted.collapse_key {
            let names = Names { collapse_key: Some(key), ..Names::default() };
            let act = Act::Collapse { into: row.id };
            let rule = JobRule { tenant: row.tenant.clone(), names, at: row.accepted_at, act };
            self.merged.recording.ruled.push(rule);
        }
        match self.known.get_mut(&row.id) {
            // Published a second time under the same id. The ledger leaves a row alone that is there.
            Some(known) if known.accepted => self.merged.tally.doubled += 1,
            known => {
                self.counts.add((&row.tenant, row.kind, row.class), row.accepted_at, "accepted", "");
                match known {
                    // Its events came first.
                    Some(known) => {
                        (known.accepted, known.fallback_after) = (true, row.fallback_after);
                        self.touched.extend(row.fallback_after.map(|_| row.id));
                    }
                    None => self.know(&row),
                }
            }
        }
        self.merged.recording.jobs.push(row);
    }

    fn know(&mut self, row: &JobRow) {
        let known = Known::new(row.tenant.clone(), row.kind, row.class);
        let known = Known { accepted: true, fallback_after: row.fallback_after, ..known };
        self.known.insert(row.id, known);
        if row.fallback_after.is_none() && row.due_at > row.accepted_at {
            self.waiting.insert(row.id, ());
        }
    }

    /// Merges a fact.
    pub(super) fn fact(&mut self, fact: Fact) {
        match fact {
            Fact::Event(event) => _ = self.event(event),
            Fact::Receipt(receipt) => self.receipt(receipt),
            Fact::Called(called) => self.called(called),
            Fact::Reply(reply) => {
                let seq = self.number();
                self.merged.replies.push((seq, reply));
            }
            Fact::Suppressed(suppression, plain) => self.merged.suppressed.push((suppression, plain)),
            Fact::Unsuppressed(suppression, source) => {
                self.merged.recording.unsuppressed.push((suppression, source));
            }
            Fact::Ruled(rule) => self.merged.recording.ruled.push(rule),
            Fact::Elapsed(_, job) => _ = self.touched.insert(job),
            Fact::Owed(owed) => self.merged.owed.push(*owed),
            Fact::Signal(signal) => {
                if self.heard.insert(signal.id) {
                    let seq = self.number();
                    self.merged.signals.push((seq, signal));
                }
            }
        }
    }

    /// Merges an event: a change that happened to a job. Returns whether it was news.
    fn event(&mut self, event: Event) -> bool {
        if !self.admit(&event) {
            return false;
        }
        let early = match &event.change {
            Change::Sent { provider, message_ids, receipt_expected: true, .. } => {
                self.segments.sent(&event, provider, message_ids, &mut self.merged.recording.segments);
                self.unpark(provider, message_ids)
            }
            _ => Vec::new(),
        };
        self.chain_event(&event);
        let seq = self.number();
        self.merged.recording.events.push(NumberedEvent { seq, event });
        for receipt in early {
            self.receipt(receipt);
        }
        true
    }

    /// Counts an event, unless it is no news.
    fn admit(&mut self, event: &Event) -> bool {
        let (tenant, kind, class) = (&event.tenant, event.kind, event.class);
        let waited = self.waiting.take(&event.job).is_some();
        let Some(known) = self.known.get_mut(&event.job) else {
            // Unless it waited, not even its row has come: either way this is the first that is heard of it.
            self.known.insert(event.job, Known { accepted: waited, ..Known::new(tenant.clone(), kind, class) });
            return self.admit(event);
        };
        let (was_sent, was_unresolved) = (known.standing.sent(), known.standing.unresolved());
        let tally = &mut self.merged.tally;
        match known.standing.admit(event.attempt, &event.change) {
            Admission::New => {}
            Admission::Doubled => {
                tally.doubled += 1;
                return false;
            }
            Admission::Late => {
                tally.late += 1;
                return false;
            }
        }
        tally.unresolved += i64::from(known.standing.unresolved()) - i64::from(was_unresolved);
        tally.newest = tally.newest.max(event.at);
        match event.change.outcome() {
            Some(outcome) => {
                let reason = if outcome.fate == Fate::Sent { SENT_FINALLY } else { &outcome.reason };
                self.counts.add((tenant, kind, class), event.at, outcome.fate.as_str(), reason);
            }
            None if known.standing.sent() && !was_sent => self.counts.add((tenant, kind, class), event.at, "sent", ""),
            None => {}
        }
        if let Some(cost) = event.change.cost() {
            let what = if event.change.outcome().is_some() { COST_FINALLY } else { COST };
            self.counts.add_many((tenant, kind, class), event.at, (what, cost.currency.as_str()), cost.micros());
        }
        true
    }

    /// Returns the receipts that came before the messages they are about.
    fn unpark(&mut self, provider: &ProviderId, message_ids: &[Box<str>]) -> Vec<Receipt> {
        if self.parked.is_empty() {
            return Vec::new();
        }
        let early = message_ids.iter().filter_map(|id| {
            let (key, parked) = self.parked.remove_entry(&MessageRef(provider, id))?;
            if parked.stored {
                self.merged.recording.unparked.push((key.0, key.1));
            }
            Some(parked.receipt)
        });
        early.collect()
    }

    fn number(&mut self) -> i64 {
        let seq = self.next;
        self.next += 1;
        seq
    }
}

impl Known {
    /// Returns a job of which nothing is known but whose it is.
    fn new(tenant: TenantId, kind: Kind, class: Class) -> Self {
        let standing = Standing::default();
        Self { tenant, kind, class, accepted: false, fallback_after: None, handed_over_at: None, standing }
    }
}

impl Merged {
    fn after(last: i64) -> Self {
        Self {
            recording: Recording { after: last, ..Recording::default() },
            replies: Vec::new(),
            signals: Vec::new(),
            suppressed: Vec::new(),
            resends: Vec::new(),
            starts: Vec::new(),
            timers: Vec::new(),
            owed: Vec::new(),
            checks: Vec::new(),
            withdrawn: Vec::new(),
            tally: Tally::default(),
        }
    }
}

#[cfg(test)]
mod tests;
