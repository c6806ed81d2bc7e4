//! One call, from the moment Asterisk has its channel until it is gone.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::ari::{Originate, Unrecorded};
use super::cause::{self, Reached};
use super::event::Signal;
use super::{ChannelId, LEG, Shared, locale};
use crate::channel::Handover;
use crate::channel::call::Carried;
use crate::channel::call::flow::{Flow, OptOut};
use crate::channel::call::runner::{Command, Event, Runner};
use crate::channel::call::teller::Teller;
use crate::domain::call::{CallReport, CallResult};
use crate::domain::event::State;
use crate::domain::time::Stopwatch;
use crate::rate_limited;

/// Asterisk's own ring time comes first; ours ends what it does not.
const RING_SLACK: Duration = Duration::from_secs(5);
/// How long Asterisk may take to end a call, and how often it is told to.
const END_MAX: Duration = Duration::from_secs(5);
const ENDS_MAX: u32 = 4;
/// How long it rings for whom a call is put through to.
const LEG_RING: Duration = Duration::from_secs(30);
/// How long a text that was not known before the call may take to be spoken.
const SPEAK_MAX: Duration = Duration::from_secs(3);

pub(super) struct Conversation {
    shared: Arc<Shared>,
    channel: Box<str>,
    locale: Box<str>,
    teller: Teller,
    talk_max: Duration,
    runner: Runner,
    signals: mpsc::Receiver<Signal>,
    watch: Stopwatch,
    reached: Reached,
    /// Since somebody answered.
    talk: Option<Stopwatch>,
    started: bool,
    /// Who answered is being listened to, in the dial plan: nothing can be played yet.
    detecting: bool,
    /// The prompt that is heard.
    playing: Option<Box<str>>,
    prompts: u32,
    /// What is being recorded, by its name.
    records: Option<Box<str>>,
    /// What was recorded last, and is kept; empty: nothing.
    recording: Box<str>,
    /// The runner's timer: its number, and when it is up, on `watch`.
    timer: Option<(u32, Duration)>,
    /// When the call is ended whatever it does, on `watch`.
    limit: Duration,
    ends: u32,
    hung_up_by: &'static str,
    /// What was found by listening; empty: nothing, or nobody listened.
    answered_by: &'static str,
    /// The number that the call comes from.
    caller: Box<str>,
    /// Whom it is put through to.
    leg: Option<Leg>,
}

/// How far a transfer has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leg {
    Rings,
    Talks,
}

/// How a call is gone.
enum Gone {
    With(u16),
    /// Asterisk does not know it any more.
    Unseen,
}

impl Conversation {
    pub(super) fn new(
        shared: Arc<Shared>,
        handover: &Handover,
        carried: Arc<Carried>,
        flow: Arc<Flow>,
        signals: mpsc::Receiver<Signal>,
    ) -> Self {
        let (job, attempt) = (handover.job, handover.attempt);
        Self {
            channel: ChannelId { app: &shared.settings.link.app, job, attempt }.to_string().into(),
            locale: locale(&flow, handover),
            teller: Teller::new(&shared.voice, handover, carried),
            talk_max: flow.talk_max(),
            runner: Runner::new(flow, handover.params.clone()),
            signals,
            watch: shared.clock.stopwatch(),
            reached: Reached::Nothing,
            talk: None,
            started: false,
            detecting: false,
            playing: None,
            prompts: 0,
            records: None,
            recording: "".into(),
            timer: None,
            limit: Duration::ZERO,
            ends: 0,
            hung_up_by: "",
            answered_by: "",
            caller: handover.sender.clone(),
            leg: None,
            shared,
        }
    }

    /// Drives the call to its end, and says how it went.
    pub(super) async fn run(mut self, ring_max: Duration) {
        self.limit = ring_max + RING_SLACK;
        self.teller.moved(State::Dialing);
        let gone = loop {
            let next = self.timer.map_or(self.limit, |(_, at)| at.min(self.limit)).saturating_sub(self.watch.elapsed());
            let rings = self.ends == 0 && self.talk.is_none();
            let heard = tokio::select! {
                heard = self.shared.clock.timeout(next, self.signals.recv()) => heard,
                () = self.teller.carried().withdrawal.told(), if rings => {
                    self.hang_up().await;
                    continue;
                }
            };
            let gone = match heard {
                Ok(Some(signal)) => self.take(signal).await,
                // Its place in the list of calls is given up only after it has ended.
                Ok(None) => Some(Gone::Unseen),
                Err(_) => self.time_up().await,
            };
            if let Some(gone) = gone {
                break gone;
            }
        };
        self.tell_end(&gone).await;
    }

    async fn take(&mut self, signal: Signal) -> Option<Gone> {
        match signal {
            Signal::Ringing => self.ringing(),
            Signal::Up => self.up(),
            Signal::Started(None) => self.started().await,
            Signal::Started(Some(found)) => self.detected(&found).await,
            Signal::Played(playback) if self.playing.as_ref() == Some(&playback) => {
                self.playing = None;
                self.feed(Event::Prompted).await;
            }
            Signal::Unplayed(playback) if self.playing.as_ref() == Some(&playback) => self.unplayed().await,
            // The end of one that was given up.
            Signal::Played(_) | Signal::Unplayed(_) => {}
            Signal::Key(key) => self.feed(Event::Key(key)).await,
            Signal::Recorded(kept) => self.recorded(kept).await,
            Signal::HangsUp if self.hung_up_by.is_empty() => self.hung_up_by = "callee",
            Signal::HangsUp => {}
            Signal::Destroyed(cause) => return Some(Gone::With(cause)),
            Signal::LegUp => self.put_through().await,
            Signal::LegGone => self.leg_gone().await,
            Signal::Missed => return self.ask().await,
        }
        None
    }

    /// A callee who would hear nothing is not asked anything.
    async fn unplayed(&mut self) {
        self.playing = None;
        if self.hung_up_by.is_empty() {
            rate_limited!(per_min = 6, warn, provider = %self.shared.settings.provider, "a recording of a call is not there, or does not play; the call ends");
        }
        self.feed(Event::Failed).await;
    }

    /// The report names only what is kept.
    async fn recorded(&mut self, kept: bool) {
        let name = self.records.take();
        if !kept {
            self.warn_unrecorded();
            return self.feed(Event::Failed).await;
        }
        if let Some(name) = name {
            self.recording = name;
        }
        self.feed(Event::Recorded).await;
    }

    /// Who hung up before anything could be recorded is no reason to look for a fault.
    fn warn_unrecorded(&self) {
        if self.hung_up_by.is_empty() {
            rate_limited!(per_min = 6, warn, provider = %self.shared.settings.provider, "the exchange does not record what is said in a call, for want of its directory or of its beep; the call ends");
        }
    }

    fn ringing(&mut self) {
        if self.reached < Reached::Ringing {
            self.reached = Reached::Ringing;
            self.teller.moved(State::Ringing);
        }
    }

    fn up(&mut self) {
        if self.talk.is_none() {
            self.reached = Reached::Answered;
            self.talk = Some(self.shared.clock.stopwatch());
            self.limit = self.watch.elapsed() + self.talk_max;
            self.teller.carried().line.answered();
            self.teller.moved(State::Answered);
        }
    }

    /// The channel is ours to drive: who has answered is listened to first, if that is wanted.
    async fn started(&mut self) {
        self.up();
        let context = &self.shared.settings.link.detect;
        if !self.started && !context.is_empty() && self.shared.ari.detect(&self.channel, context).await.is_ok() {
            // It comes back with what was found.
            self.detecting = true;
            return;
        }
        self.start().await;
    }

    /// A machine is not talked to.
    async fn detected(&mut self, found: &str) {
        self.up();
        self.detecting = false;
        if found == "MACHINE" {
            self.answered_by = "machine";
            self.started = true;
            return self.hang_up().await;
        }
        self.answered_by = if found == "HUMAN" { "human" } else { "" };
        self.start().await;
    }

    async fn start(&mut self) {
        self.up();
        if !self.started {
            self.started = true;
            self.feed(Event::Answered).await;
        }
    }

    async fn time_up(&mut self) -> Option<Gone> {
        let now = self.watch.elapsed();
        if now < self.limit {
            if let Some((number, _)) = self.timer.take_if(|(_, at)| *at <= now) {
                self.feed(Event::TimeUp(number)).await;
            }
            return None;
        }
        // It rang or talked for as long as it may, or does not end although it was told to.
        if self.ends > ENDS_MAX {
            return Some(Gone::Unseen);
        }
        if self.ends > 0
            && let Some(gone) = self.ask().await
        {
            return Some(gone);
        }
        self.hang_up().await;
        None
    }

    async fn hang_up(&mut self) {
        self.ends += 1;
        self.timer = None;
        self.limit = self.watch.elapsed() + END_MAX;
        self.teller.followed().await;
        if self.hung_up_by.is_empty() {
            self.hung_up_by = "us";
        }
        // Whatever comes of it, the channel's end is told, or is asked for.
        let _gone = self.shared.ari.hang_up(&self.channel).await;
    }

    /// Asks what the channel is like, after its events may have been missed.
    async fn ask(&mut self) -> Option<Gone> {
        match self.shared.ari.channel(&self.channel).await {
            Ok(None) => return Some(Gone::Unseen),
            Ok(Some(found)) if found.state == "Up" && !self.detecting => {
                self.start().await;
                if let Some(playback) = self.playing.take() {
                    // If it was heard to its end meanwhile, this changes nothing.
                    let _heard = self.shared.ari.stop(&playback).await;
                    self.feed(Event::Prompted).await;
                }
            }
            Ok(Some(_)) | Err(_) => {}
        }
        None
    }

    /// Lets the flow take in what happened, and does what it asks for.
    async fn feed(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for command in self.runner.take(event) {
                events.extend(self.obey(command).await);
            }
        }
    }

    /// Does what the flow asks for; returns what has come of it already.
    async fn obey(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Say(text) => return self.say(&text).await,
            Command::Play(media) => {
                let media = match &self.shared.settings.link.media_dir {
                    Some(dir) => dir.join(&*media),
                    None => Path::new(&*media).to_owned(),
                };
                return self.play(&media).await;
            }
            Command::StopPrompt => {
                let playback = self.playing.take();
                if let Some(playback) = playback {
                    // If it has just ended by itself, that is as well.
                    let _over = self.shared.ari.stop(&playback).await;
                }
                return Some(Event::Prompted);
            }
            Command::Wait(number, wait) => self.timer = Some((number, self.watch.elapsed() + wait)),
            Command::OptOut(scope) => self.teller.opt_out(scope == OptOut::Everything),
            Command::Submit(follow_up) => self.teller.submit(follow_up),
            Command::Record(longest) => {
                let name = format!("{}-{}", self.channel, self.prompts);
                self.prompts += 1;
                let begun = self.shared.ari.record(&self.channel, &name, longest).await;
                if begun == Err(Unrecorded::Refused) {
                    self.warn_unrecorded();
                }
                if begun.is_err() {
                    return Some(Event::Failed);
                }
                self.records = Some(name.into());
            }
            Command::Transfer(target) => return self.transfer(&target).await,
            Command::HangUp => self.hang_up().await,
        }
        None
    }

    /// Calls somebody whom the callee is put through to. Only numbers are dialled: what a job brings is no endpoint.
    async fn transfer(&mut self, target: &str) -> Option<Event> {
        let dialled = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'*' | b'#');
        if target.is_empty() || !target.bytes().all(dialled) {
            return Some(Event::Transferred);
        }
        let channel = format!("{}{LEG}", self.channel);
        let longest = self.limit.saturating_sub(self.watch.elapsed()) + END_MAX;
        let leg = Originate { channel: &channel, number: target, caller: &self.caller, ring: LEG_RING, longest };
        let endpoint = &self.shared.settings.link.transfer;
        if self.shared.ari.dial(&leg, endpoint).await.is_err() {
            return Some(Event::Transferred);
        }
        self.leg = Some(Leg::Rings);
        None
    }

    async fn put_through(&mut self) {
        if self.leg != Some(Leg::Rings) {
            return;
        }
        let leg = format!("{}{LEG}", self.channel);
        if self.shared.ari.connect(&self.channel, [&self.channel, &leg]).await.is_ok() {
            self.leg = Some(Leg::Talks);
        } else {
            self.end_leg().await;
            self.feed(Event::Transferred).await;
        }
    }

    async fn leg_gone(&mut self) {
        if self.leg.is_some() {
            self.end_leg().await;
            self.feed(Event::Transferred).await;
        }
    }

    /// Takes away what is left of a transfer; what is gone already, or never was, is as well.
    async fn end_leg(&mut self) {
        self.leg = None;
        let _gone = self.shared.ari.disconnect(&self.channel).await;
        let _gone = self.shared.ari.hang_up(&format!("{}{LEG}", self.channel)).await;
    }

    async fn say(&mut self, text: &str) -> Option<Event> {
        match self.shared.speech.file(text, &self.locale, SPEAK_MAX).await {
            Ok(file) => self.play(&file).await,
            Err(problem) => {
                rate_limited!(per_min = 6, warn, provider = %self.shared.settings.provider, %problem, "a text in a call cannot be spoken; the call ends");
                Some(Event::Failed)
            }
        }
    }

    async fn play(&mut self, media: &Path) -> Option<Event> {
        self.prompts += 1;
        let playback = format!("{}-{}", self.channel, self.prompts);
        let media = format!("sound:{}", media.display());
        match self.shared.ari.play(&self.channel, &playback, &media).await {
            Ok(()) => {
                self.playing = Some(playback.into());
                None
            }
            // The callee has hung up, or there is no such recording.
            Err(_) => Some(Event::Failed),
        }
    }

    async fn tell_end(mut self, gone: &Gone) {
        self.runner.take(Event::HungUp);
        if self.leg.is_some() {
            self.end_leg().await;
        }
        if self.reached < Reached::Answered
            && let Some(outcome) = self.teller.carried().withdrawal.outcome()
        {
            return self.teller.withdrawn(outcome.clone()).await;
        }
        let result = match gone {
            _ if self.answered_by == "machine" => Some(CallResult::Machine),
            Gone::With(cause) => Some(cause::result(*cause, self.reached)),
            Gone::Unseen if self.reached == Reached::Answered => Some(CallResult::Completed),
            Gone::Unseen => None,
        };
        match result {
            Some(result) => self.teller.ended(&self.runner, self.report(result)).await,
            None => self.teller.lost().await,
        }
    }

    fn report(&self, result: CallResult) -> CallReport {
        // What came of a recording whose end was not told is not known: it may be there, where none before it is.
        let recording = if self.recording.is_empty() { self.records.as_ref() } else { Some(&self.recording) };
        CallReport {
            talk: self.talk.map(|talk| talk.elapsed()).unwrap_or_default(),
            hung_up_by: if result.reached() { self.hung_up_by } else { "" }.into(),
            answered_by: self.answered_by.into(),
            recording: recording.cloned().unwrap_or_default(),
            ..self.runner.report(result)
        }
    }
}

#[cfg(test)]
mod tests;
