//! One call from the request that makes it to its end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot};

use super::line::{Heard, What};
use super::rest::{Create, EndIt};
use super::script::{Effect, Script};
use super::twiml;
use super::word::{End, Progress, Status, Turn, Who};
use super::{Attempt, Shared, ended};
use crate::channel::call::Carried;
use crate::channel::call::flow::{Flow, OptOut};
use crate::channel::call::teller::Teller;
use crate::channel::http::Bytes;
use crate::channel::{Answer, Handover};
use crate::domain::call::{CallReport, CallResult};
use crate::domain::event::State;
use crate::domain::time::{Stopwatch, UnixMicros};

/// Twilio's own ring time comes first, and a call may wait for its turn there; ours ends what Twilio does not.
const RING_SLACK: Duration = Duration::from_secs(15);
/// Twilio ends a call itself when its time is up.
const TALK_SLACK: Duration = Duration::from_secs(5);
/// A call of which so long nothing was heard is asked for: its last callback may be lost.
const SILENT_MAX: Duration = Duration::from_secs(60);
/// How long Twilio may take to end a call, and how often it is told to.
const END_MAX: Duration = Duration::from_secs(5);
const ENDS_MAX: u32 = 4;
/// How long the last word of a recording may take after the end of its call.
const LAST_WORD_MAX: Duration = Duration::from_secs(3);
/// Which part of the time for an answer a callback may take that proves a call whose answer was lost.
const PROOF_PARTS: u32 = 4;

pub(super) struct Conversation {
    shared: Arc<Shared>,
    attempt: Attempt,
    number: Box<str>,
    caller: Box<str>,
    /// When it is not to be made any more.
    too_late: UnixMicros,
    ring: Duration,
    talk_max: Duration,
    teller: Teller,
    script: Script,
    heard: mpsc::Receiver<Heard>,
    /// Twilio's id of the call, once it is known.
    call: Option<Box<str>>,
    watch: Stopwatch,
    /// When something was heard last, and when the call is ended whatever it does, on `watch`.
    last: Duration,
    limit: Duration,
    ends: u32,
    rang: bool,
    /// Since somebody answered.
    talk: Option<Stopwatch>,
    answered_by: Option<Who>,
    hung_up_by: &'static str,
    recording: Box<str>,
    /// The end, while the last word of a recording or a transfer is still to come.
    closing: Option<Gone>,
    /// Who waits to hear that the end is durable.
    told: Vec<oneshot::Sender<()>>,
}

/// How far the request that makes the call is.
enum Made<'a> {
    /// It is on its way.
    Asked(BoxFuture<'a, Answer>),
    /// Its answer was lost; a callback may still prove it, until then.
    Lost(Duration),
    /// It was answered.
    Told,
}

/// What came of a call.
pub(super) enum Over<F> {
    /// Its end was told.
    Told,
    /// Nobody knows how it ended.
    Lost,
    /// It was not made; this is to be answered.
    NotMade(Answer, F),
}

/// How a call is gone.
enum Gone {
    With(End, Status),
    /// Twilio does not say, however often it is asked.
    Unseen,
    /// It was never made.
    NotMade(Answer),
}

impl Conversation {
    pub(super) fn new(
        shared: Arc<Shared>,
        handover: &Handover,
        carried: Arc<Carried>,
        flow: Arc<Flow>,
        heard: mpsc::Receiver<Heard>,
    ) -> Self {
        let attempt = Attempt { job: handover.job, number: handover.attempt };
        let (manner, talk_max) = (shared.manner(&flow, handover), flow.talk_max());
        let script = Script::new(flow, handover.params.clone(), manner, &shared.url(attempt));
        let ring = handover.content.plan().ring_max;
        let limit = ring + RING_SLACK + shared.settings.response_timeout;
        Self {
            attempt,
            number: handover.recipient.phone.as_ref().map_or("", |phone| phone.as_str()).into(),
            caller: handover.sender.clone(),
            too_late: handover.expires_at,
            ring,
            talk_max,
            teller: Teller::new(&shared.voice, handover, carried),
            script,
            heard,
            call: None,
            watch: shared.clock.stopwatch(),
            last: Duration::ZERO,
            limit,
            ends: 0,
            rang: false,
            talk: None,
            answered_by: None,
            hung_up_by: "",
            recording: "".into(),
            closing: None,
            told: vec![],
            shared,
        }
    }

    /// Makes the call, answers whether Twilio has it, drives it to its end, and says how it went. That it was not made is
    /// left to the caller to answer.
    pub(super) async fn run<F: FnOnce(Answer) + Send>(mut self, answer: F) -> Over<F> {
        let (shared, url) = (Arc::clone(&self.shared), self.shared.url(self.attempt));
        let (to, from) = (self.number.clone(), self.caller.clone());
        let (ring, talk, too_late) = (self.ring, self.talk_max, self.too_late);
        let mut made = Made::Asked(Box::pin(async move {
            let detect = shared.settings.link.detect;
            shared.rest.create(&Create { to: &to, from: &from, url: &url, too_late, ring, talk, detect }).await
        }));
        let mut answer = Some(answer);
        let gone = loop {
            let gone = self.next(&mut made).await;
            if let Some(found) = self.answer(&mut made)
                && let Some(answer) = answer.take()
            {
                answer(found);
            }
            if let Some(gone) = gone {
                break gone;
            }
        };
        let gone = match (gone, answer.take()) {
            (Gone::NotMade(found), Some(answer)) => {
                // Its line is free before anybody asks for one again.
                self.teller.carried().line.ended(None);
                return Over::NotMade(found, answer);
            }
            (gone, Some(answer)) => {
                answer(self.taken().unwrap_or(Answer::NoAnswer));
                gone
            }
            (gone, None) => gone,
        };
        self.tell_end(gone).await
    }

    /// Waits for the next thing that happens, and takes it in.
    async fn next(&mut self, made: &mut Made<'_>) -> Option<Gone> {
        let now = self.watch.elapsed();
        let mut until = self.limit.min(self.last + SILENT_MAX);
        if let Made::Lost(proof) = made {
            until = until.min(*proof);
        }
        let rings = self.ends == 0 && self.talk.is_none() && self.call.is_some();
        let clock = self.shared.clock.clone();
        let heard = tokio::select! {
            answer = asked(made) => return self.made(answer, made),
            heard = clock.timeout(until.saturating_sub(now), self.heard.recv()) => heard,
            () = self.teller.carried().withdrawal.told(), if rings => {
                self.end(EndIt::Unanswered).await;
                return None;
            }
        };
        match heard {
            Ok(Some(heard)) => self.take(heard).await,
            // Its place on the switchboard is given up only after it has ended.
            Ok(None) => Some(Gone::Unseen),
            Err(_) if matches!(made, Made::Lost(_)) => None,
            Err(_) => self.time_up().await,
        }
    }

    /// Takes in the answer to the request that makes the call.
    fn made(&mut self, answer: Answer, made: &mut Made<'_>) -> Option<Gone> {
        *made = Made::Told;
        self.shared.note(&answer);
        match answer {
            Answer::Taken { ref message_ids, .. } => {
                self.call = message_ids.first().cloned();
                self.teller.moved(State::Dialing);
                *made = Made::Lost(Duration::ZERO);
                None
            }
            Answer::NoAnswer => {
                *made = Made::Lost(self.watch.elapsed() + self.shared.settings.response_timeout / PROOF_PARTS);
                None
            }
            unsent if self.call.is_none() => Some(Gone::NotMade(unsent)),
            // It rings already: whatever was answered, it was made.
            _ => {
                *made = Made::Lost(Duration::ZERO);
                None
            }
        }
    }

    /// Returns what is answered, once that is known.
    fn answer(&self, made: &mut Made<'_>) -> Option<Answer> {
        let Made::Lost(proof) = made else { return None };
        let found = self.taken();
        if found.is_none() && self.watch.elapsed() < *proof {
            return None;
        }
        *made = Made::Told;
        Some(found.unwrap_or(Answer::NoAnswer))
    }

    fn taken(&self) -> Option<Answer> {
        let call = self.call.clone()?;
        Some(Answer::Taken { message_ids: vec![call], segments: 1, receipt_expected: true })
    }

    async fn take(&mut self, heard: Heard) -> Option<Gone> {
        self.last = self.watch.elapsed();
        if self.call.is_none() {
            self.call = Some(heard.call);
            self.teller.moved(State::Dialing);
        }
        match heard.what {
            What::Status(status, told) => {
                match self.status(status) {
                    None => {
                        // Whoever said it may have given up.
                        let _gone = told.send(());
                        None
                    }
                    Some(gone) => {
                        // Told once that is durable.
                        self.told.push(told);
                        self.closes(gone)
                    }
                }
            }
            What::Turn(turn, reply) => {
                let document = self.turn(&turn).await;
                // If Twilio has gone away meanwhile, it asks again.
                let _gone = reply.send(document);
                self.closing.take()
            }
        }
    }

    fn status(&mut self, status: Status) -> Option<Gone> {
        self.answered_by = status.answered_by.or(self.answered_by);
        match status.progress {
            Progress::Waiting => {}
            Progress::Ringing => self.ringing(),
            Progress::Answered => self.up(),
            Progress::Ended(end) => return Some(Gone::With(end, status)),
        }
        None
    }

    /// Who hangs up ends a recording as well, and that may be told after the end of the call.
    fn closes(&mut self, gone: Gone) -> Option<Gone> {
        if self.closing.is_none() && self.script.last_word() {
            self.closing = Some(gone);
            self.limit = self.watch.elapsed() + LAST_WORD_MAX;
            return None;
        }
        Some(gone)
    }

    fn ringing(&mut self) {
        if !self.rang && self.talk.is_none() {
            self.rang = true;
            self.teller.moved(State::Ringing);
        }
    }

    fn up(&mut self) {
        if self.talk.is_none() {
            self.talk = Some(self.shared.clock.stopwatch());
            self.limit = self.watch.elapsed() + self.talk_max + TALK_SLACK;
            self.ends = 0;
            self.teller.carried().line.answered();
            self.teller.moved(State::Answered);
        }
    }

    /// Returns the document that is asked for. A machine is not talked to.
    async fn turn(&mut self, turn: &Turn) -> Bytes {
        self.up();
        self.answered_by = turn.answered_by.or(self.answered_by);
        if !turn.recording.is_empty() {
            self.recording = turn.recording.clone();
        }
        if self.answered_by == Some(Who::Machine) {
            self.over();
            return twiml::hang_up().into();
        }
        for effect in self.script.turn(turn.step, &turn.keys) {
            match effect {
                Effect::OptOut(scope) => self.teller.opt_out(scope == OptOut::Everything),
                Effect::Submit(follow_up) => self.teller.submit(follow_up),
            }
        }
        if self.script.over() {
            self.teller.followed().await;
            self.over();
        }
        self.script.document().to_owned().into()
    }

    /// Notes that we hang up.
    fn over(&mut self) {
        if self.hung_up_by.is_empty() {
            self.hung_up_by = "us";
            self.limit = self.watch.elapsed() + END_MAX;
        }
    }

    /// Asks how a call goes of which nothing was heard for long, and ends one whose time is up.
    async fn time_up(&mut self) -> Option<Gone> {
        if let Some(gone) = self.closing.take() {
            return Some(gone);
        }
        let over = self.watch.elapsed() >= self.limit;
        self.last = self.watch.elapsed();
        if self.ends > ENDS_MAX {
            return Some(Gone::Unseen);
        }
        let Some(call) = self.call.clone() else {
            // Nobody knows under which name it would be there.
            return over.then_some(Gone::Unseen);
        };
        match self.shared.rest.look(&call).await {
            Ok(status) => {
                let answered = self.talk.is_some();
                if let Some(gone) = self.status(status) {
                    return Some(gone);
                }
                if !answered && self.talk.is_some() {
                    // Somebody has answered meanwhile, who gets their time.
                    return None;
                }
            }
            Err(_) if !over => return None,
            Err(_) => {}
        }
        if over {
            self.end(if self.talk.is_some() { EndIt::Now } else { EndIt::Unanswered }).await;
        }
        None
    }

    async fn end(&mut self, how: EndIt) {
        self.ends += 1;
        self.limit = self.watch.elapsed() + END_MAX;
        if how == EndIt::Now {
            self.teller.followed().await;
            self.over();
        }
        if let Some(call) = self.call.clone() {
            // Whatever comes of it, the call's end is told, or is asked for.
            let _gone = self.shared.rest.end(&call, how).await;
        }
    }

    async fn tell_end<F>(self, gone: Gone) -> Over<F> {
        let mut over = Over::Told;
        if self.talk.is_none()
            && !matches!(gone, Gone::With(End::Completed, _))
            && let Some(outcome) = self.teller.carried().withdrawal.outcome()
        {
            self.teller.withdrawn(outcome.clone()).await;
        } else {
            match gone {
                Gone::With(end, status) => {
                    let result = match end {
                        // It waited at Twilio until we took it back.
                        End::Canceled if !self.rang => CallResult::Network,
                        end => ended::result(end, status.sip, status.answered_by.or(self.answered_by)),
                    };
                    self.teller.ended(self.script.runner(), self.report(result, status.talk)).await;
                }
                Gone::Unseen if self.talk.is_some() => {
                    let result = ended::result(End::Completed, None, self.answered_by);
                    self.teller.ended(self.script.runner(), self.report(result, None)).await;
                }
                Gone::Unseen | Gone::NotMade(_) => {
                    self.teller.lost().await;
                    over = Over::Lost;
                }
            }
        }
        for told in self.told {
            // Whoever said it may have given up: then it is said again, and the same.
            let _gone = told.send(());
        }
        over
    }

    /// Returns where Twilio puts what it writes down of a recording (its transcriptions, a list below the recording).
    fn transcript(&self) -> Box<str> {
        match self.shared.settings.link.transcribe && !self.recording.is_empty() {
            true => format!("{}/Transcriptions.json", self.recording).into(),
            false => "".into(),
        }
    }

    fn report(&self, result: CallResult, talk: Option<Duration>) -> CallReport {
        let talked = talk.or_else(|| self.talk.map(|talk| talk.elapsed())).unwrap_or_default();
        let reached = result.reached();
        let us = if talked >= self.talk_max { "us" } else { self.hung_up_by };
        CallReport {
            talk: if reached { talked } else { Duration::ZERO },
            // Twilio does not say who hung up: if it was not us, it was the callee, or the line.
            hung_up_by: match (reached, us) {
                (true, "") => "callee",
                (true, us) => us,
                (false, _) => "",
            }
            .into(),
            answered_by: self.answered_by.map_or("", Who::as_str).into(),
            transcript: self.transcript(),
            recording: self.recording.clone(),
            ..self.script.runner().report(result)
        }
    }
}

/// Returns the answer to the request that makes the call; never, once it was answered.
async fn asked(made: &mut Made<'_>) -> Answer {
    match made {
        Made::Asked(answer) => answer.await,
        Made::Lost(_) | Made::Told => std::future::pending().await,
    }
}
