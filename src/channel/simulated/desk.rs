//! The desk: takes hand-overs, answers each when its time has come, and hands what is said later to the mail.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::Arc;

use hashbrown::HashMap;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::log::Log;
use super::mail::Letter;
use super::plan::{self, Later, Word};
use super::{Behaviour, Shared, segments};
use crate::channel::{Answer, Answered, Handover, News};
use crate::domain::event::{Receipt, Reply, Report};
use crate::domain::ids::JobId;
use crate::domain::job::Kind;
use crate::domain::time::{Clock, UnixMicros};

/// Most hand-overs on their way to the desk.
pub(super) const SLIPS_MAX: usize = 8 * 1024;
/// Hand-overs that share a write of the log.
const TAKEN_MAX: usize = 512;

/// Throttled attempts that are remembered at most; then all are forgotten, and draw as if it were their first try.
const THROTTLED_MAX: usize = 64 * 1024;

/// A hand-over on its way to the desk.
pub(super) struct Slip {
    pub(super) index: usize,
    pub(super) handover: Handover,
    pub(super) units: u32,
    pub(super) behaviour: Behaviour,
    pub(super) answers: mpsc::UnboundedSender<Answered>,
}

pub(super) struct Desk {
    shared: Arc<Shared>,
    clock: Clock,
    slips: mpsc::Receiver<Slip>,
    mail: mpsc::Sender<Letter>,
    /// The next to be answered on top; bounded by the window.
    open: BinaryHeap<Reverse<Open>>,
    /// In front of this run's message ids, so that they differ from those of the run before.
    prefix: i64,
    number: u64,
    /// How often attempts were throttled that were not answered otherwise yet: they come again under the same number.
    throttled: HashMap<(JobId, u16), u16>,
}

/// A hand-over that waits for its answer.
struct Open {
    at: UnixMicros,
    number: u64,
    index: usize,
    units: u32,
    answer: Answer,
    answers: mpsc::UnboundedSender<Answered>,
}

impl Desk {
    pub(super) fn new(
        shared: Arc<Shared>,
        clock: Clock,
        slips: mpsc::Receiver<Slip>,
        mail: mpsc::Sender<Letter>,
    ) -> Self {
        let prefix = clock.now().as_millis();
        Self { shared, clock, slips, mail, open: BinaryHeap::new(), prefix, number: 0, throttled: HashMap::new() }
    }

    /// Works until it is told to stop and everything is answered.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut log = Log::open(self.shared.settings.log.as_deref()).await;
        let mut taken = Vec::with_capacity(TAKEN_MAX);
        let mut drained = false;
        while !(drained && self.open.is_empty()) {
            let next = self.open.peek().map_or(UnixMicros::MAX, |Reverse(open)| open.at);
            tokio::select! {
                count = self.slips.recv_many(&mut taken, TAKEN_MAX), if !drained => drained = count == 0,
                () = self.clock.sleep_until(next), if !self.open.is_empty() => {}
                // Nobody hands anything over once the service stops; what is in flight is still answered.
                () = stop.cancelled(), if !self.slips.is_closed() => self.slips.close(),
            }
            for slip in taken.drain(..) {
                self.take(slip, &mut log).await;
            }
            log.sync().await;
            self.answer();
        }
    }

    async fn take(&mut self, slip: Slip, log: &mut Log) {
        let Slip { index, handover, units, behaviour, answers } = slip;
        let now = self.clock.now();
        let message_ids = self.message_ids(&handover);
        let seed = plan::again(self.shared.settings.seed, self.throttled_before(&handover));
        let plan = plan::draw(&handover, &behaviour, seed, message_ids.clone());
        self.note_throttled(&handover, &plan.answer);
        if plan.reaches {
            log.add(&handover);
        }
        for later in plan.news {
            // Receipts wait here when nobody takes them, and with them the answers: a real provider throttles, too.
            let letter = self.letter(&handover, &message_ids, now, later);
            let _stopped = self.mail.send(letter).await;
        }
        let at = match plan.answer {
            Answer::NoAnswer => now.plus(self.shared.settings.profile.response_timeout),
            Answer::Taken { .. }
            | Answer::Refused { .. }
            | Answer::Throttled { .. }
            | Answer::NotSent { .. }
            | Answer::Closed { .. } => now.plus(plan.answer_after),
        };
        self.number += 1;
        self.open.push(Reverse(Open { at, number: self.number, index, units, answer: plan.answer, answers }));
    }

    /// Returns how often this attempt was throttled.
    fn throttled_before(&self, handover: &Handover) -> u16 {
        self.throttled.get(&(handover.job, handover.attempt)).copied().unwrap_or(0)
    }

    fn note_throttled(&mut self, handover: &Handover, answer: &Answer) {
        let key = (handover.job, handover.attempt);
        if !matches!(answer, Answer::Throttled { .. }) {
            self.throttled.remove(&key);
            return;
        }
        if self.throttled.len() >= THROTTLED_MAX {
            self.throttled.clear();
        }
        let times = self.throttled.entry(key).or_default();
        *times = times.saturating_add(1);
    }

    /// Only texts have ids of their own; what else it carries is reported by our reference.
    fn message_ids(&mut self, handover: &Handover) -> Vec<Box<str>> {
        let of = if handover.kind == Kind::Sms { segments(handover) } else { 0 };
        let next = |_| {
            self.number += 1;
            format!("{:x}-{:x}", self.prefix, self.number).into()
        };
        (0..of).map(next).collect()
    }

    fn letter(&self, handover: &Handover, message_ids: &[Box<str>], now: UnixMicros, later: Later) -> Letter {
        let (at, provider) = (now.plus(later.after), self.shared.settings.profile.id.clone());
        let news = match later.word {
            Word::Segment(segment, report) => {
                let code =
                    if matches!(report, Report::Final(fate) if fate.as_str() == "undelivered") { "027" } else { "" };
                let message_id = message_ids.get(segment).cloned().unwrap_or_default();
                News::Receipt(Receipt { provider, message_id, job: None, report, code: code.into(), at })
            }
            Word::Job(report, code) => {
                News::Receipt(Receipt { provider, message_id: "".into(), job: Some(handover.job), report, code, at })
            }
            Word::Reply(text) => {
                let from = handover.recipient.phone.as_ref().map_or("", |phone| phone.as_str()).into();
                let (to, text) = (handover.sender.clone(), text.into());
                News::Reply(Reply { provider, from, to, text, tenant: None, in_reply_to: None, at })
            }
        };
        Letter { at, news }
    }

    /// Answers what is due.
    fn answer(&mut self) {
        let now = self.clock.now();
        while self.open.peek().is_some_and(|Reverse(open)| open.at <= now) {
            let Some(Reverse(open)) = self.open.pop() else { return };
            self.shared.leave(open.units);
            // Whoever asked may have given up.
            let _gone = open.answers.send((open.index, open.answer));
        }
    }
}

// === impl Open ===

impl Ord for Open {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

impl PartialOrd for Open {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Open {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Open {}
