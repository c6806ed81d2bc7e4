//! Decides what becomes of a hand-over. Pure: chance comes from the job's id, the attempt, and a seed.

use std::time::Duration;

use fastrand::Rng;

use super::{Behaviour, Calls, Receipts, Replies};
use crate::channel::{Answer, Handover};
use crate::domain::event::{Fate, Report, State};
use crate::domain::job::Kind;

/// What becomes of a hand-over.
pub(crate) struct Plan {
    /// When it is answered.
    pub(crate) answer_after: Duration,
    /// The answer.
    pub(crate) answer: Answer,
    /// Whether it reaches its recipient.
    pub(crate) reaches: bool,
    /// What is heard of it later.
    pub(crate) news: Vec<Later>,
}

/// Something that is said after (or shortly before) the answer.
pub(crate) struct Later {
    /// When, counted from the hand-over.
    pub(crate) after: Duration,
    /// What.
    pub(crate) word: Word,
}

/// What a provider says by itself.
pub(crate) enum Word {
    /// About one segment, by its place in the answer's message ids.
    Segment(usize, Report),
    /// About the job, by our reference.
    Job(Report, Box<str>),
    /// From the recipient.
    Reply(&'static str),
}

const STOP: &[&str] = &["STOP", "stop", " T ", "TD", "退订", "Unsubscribe.", "N"];
const OTHER: &[&str] = &["thanks", "收到", "T恤多少钱", "who is this?", "please stop by tomorrow"];

/// Draws what becomes of a hand-over. `message_ids` are given where the provider has ids for segments.
pub(crate) fn draw(handover: &Handover, behaviour: &Behaviour, seed: u64, message_ids: Vec<Box<str>>) -> Plan {
    let mut chance = Rng::with_seed(mix(seed, handover.job.0.as_u128(), handover.attempt.into()));
    let answer_after = spread(behaviour.latency, &mut chance);
    let plain = |answer, reaches| Plan { answer_after, answer, reaches, news: Vec::new() };
    let mut lot = chance.f64();
    let mut hit = |share: f64| {
        lot -= share;
        lot < 0.0
    };
    if hit(behaviour.throttled) {
        return plain(Answer::Throttled { retry_after: None }, false);
    }
    if hit(behaviour.refused) {
        return plain(Answer::Refused { code: "invalid_destination".into() }, false);
    }
    if hit(behaviour.not_sent) {
        return plain(Answer::NotSent { code: "system_error".into(), retry_after: None }, false);
    }
    let unanswered = hit(behaviour.unanswered);
    let segments = u8::try_from(message_ids.len().max(1)).unwrap_or(u8::MAX);
    let news = news(handover, behaviour, (answer_after, message_ids.len()), &mut chance);
    let answer = if unanswered {
        Answer::NoAnswer
    } else {
        Answer::Taken { message_ids, segments, receipt_expected: behaviour.receipts.is_some() }
    };
    Plan { answer_after, answer, reaches: true, news }
}

/// Returns the seed by which an attempt is drawn that was throttled `times` times: a throttled one keeps its number, and would
/// be throttled for ever.
pub(crate) fn again(seed: u64, times: u16) -> u64 {
    seed ^ u64::from(times).wrapping_mul(0xff51_afd7_ed55_8ccd)
}

fn news(handover: &Handover, behaviour: &Behaviour, answered: (Duration, usize), chance: &mut Rng) -> Vec<Later> {
    let (answer_after, segments) = answered;
    let mut news = Vec::new();
    if let Some(receipts) = &behaviour.receipts {
        match handover.kind {
            Kind::Sms => texts(receipts, answer_after, segments, chance, &mut news),
            Kind::Template => {
                let (fate, code) = fate(receipts, chance);
                report(receipts, answer_after, chance, &mut news, || Word::Job(Report::Final(fate), code.into()));
            }
            Kind::Call => call(&behaviour.calls, answer_after, chance, &mut news),
        }
    }
    if handover.kind == Kind::Sms {
        reply(handover, &behaviour.replies, answer_after, chance, &mut news);
    }
    news
}

fn texts(receipts: &Receipts, answered: Duration, segments: usize, chance: &mut Rng, news: &mut Vec<Later>) {
    // A text fares as a whole: its segments go to the same phone.
    let (fate, _) = fate(receipts, chance);
    for segment in 0..segments {
        report(receipts, answered, chance, news, || Word::Segment(segment, Report::Final(fate)));
    }
}

fn fate(receipts: &Receipts, chance: &mut Rng) -> (Fate, &'static str) {
    if chance.f64() < receipts.undelivered { (Fate::Undelivered, "absent_subscriber") } else { (Fate::Delivered, "") }
}

/// Says a word once, twice, early, late or never.
fn report(receipts: &Receipts, answered: Duration, chance: &mut Rng, news: &mut Vec<Later>, word: impl Fn() -> Word) {
    let mut after = answered + spread(receipts.after, chance);
    let [missing, early, late, doubled] =
        [receipts.missing, receipts.early, receipts.late, receipts.doubled].map(|share| chance.f64() < share);
    if missing {
        return;
    }
    if early {
        after = answered / 2;
    } else if late {
        after = answered + receipts.after * 10;
    }
    news.push(Later { after, word: word() });
    if doubled {
        news.push(Later { after: after + receipts.after / 2, word: word() });
    }
}

fn call(calls: &Calls, answered: Duration, chance: &mut Rng, news: &mut Vec<Later>) {
    let mut at = answered;
    let mut say = |after: Duration, report: Report, code: &str| {
        at += after;
        news.push(Later { after: at, word: Word::Job(report, code.into()) });
    };
    let lot = chance.f64();
    let (ring, talk) = (spread(calls.ring, chance), spread(calls.talk, chance));
    if lot < calls.busy {
        return say(ring / 4, Report::Final(Fate::Undelivered), "busy");
    }
    say(ring / 4, Report::Progress(State::Ringing), "");
    if lot < calls.busy + calls.no_answer {
        return say(ring * 3, Report::Final(Fate::Undelivered), "no_answer");
    }
    say(ring, Report::Progress(State::Answered), "");
    say(talk, Report::Final(Fate::Completed), "");
}

fn reply(handover: &Handover, replies: &Replies, answered: Duration, chance: &mut Rng, news: &mut Vec<Later>) {
    let number = handover.recipient.phone.as_ref().map_or("", |phone| phone.as_str());
    let who = number.bytes().fold(0_u128, |sum, digit| sum.wrapping_mul(31).wrapping_add(digit.into()));
    let after = answered + spread(replies.after, chance);
    // Whether somebody is of the kind that says STOP does not depend on the job.
    if Rng::with_seed(mix(0, who, 0)).f64() < replies.stop {
        news.push(Later { after, word: Word::Reply(STOP[chance.usize(..STOP.len())]) });
    } else if chance.f64() < replies.other {
        news.push(Later { after, word: Word::Reply(OTHER[chance.usize(..OTHER.len())]) });
    }
}

fn spread(average: Duration, chance: &mut Rng) -> Duration {
    average.mul_f64(0.5 + chance.f64())
}

#[expect(clippy::cast_possible_truncation, reason = "both halves of the id go into the seed")]
fn mix(seed: u64, id: u128, attempt: u64) -> u64 {
    // Multiplied by odd constants (those of SplitMix64), so that neighbouring ids and attempts differ in every bit.
    let id = (id as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ ((id >> 64) as u64).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    seed ^ id ^ attempt.wrapping_mul(0x94d0_49bb_1331_11eb)
}
