//! One call, from the moment Asterisk has its channel until it is gone.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::cause::{self, Reached};
use super::event::Signal;
use super::{ChannelId, Shared, locale};
use crate::channel::call::flow::{Flow, OptOut};
use crate::channel::call::runner::{Command, Event, Runner};
use crate::channel::call::{CallNews, Carried, Followed, OptedOut, Step};
use crate::channel::{Handover, News};
use crate::domain::call::{CallReport, CallResult};
use crate::domain::event::State;
use crate::domain::ids::JobId;
use crate::domain::recipient::Recipient;
use crate::domain::time::Stopwatch;
use crate::rate_limited;

/// Asterisk's own ring time comes first; ours ends what it does not.
const RING_SLACK: Duration = Duration::from_secs(5);
/// How long Asterisk may take to end a call, and how often it is told to.
const END_MAX: Duration = Duration::from_secs(5);
const ENDS_MAX: u32 = 4;
/// How long a call that is over stays up for a job that follows from it and is not accepted yet.
const FOLLOW_MAX: Duration = Duration::from_secs(2);
/// How long a text that was not known before the call may take to be spoken.
const SPEAK_MAX: Duration = Duration::from_secs(3);

pub(super) struct Conversation {
    shared: Arc<Shared>,
    channel: Box<str>,
    job: JobId,
    attempt: u16,
    recipient: Arc<Recipient>,
    locale: Box<str>,
    carried: Arc<Carried>,
    talk_max: Duration,
    runner: Runner,
    signals: mpsc::Receiver<Signal>,
    watch: Stopwatch,
    reached: Reached,
    /// Since somebody answered.
    talk: Option<Stopwatch>,
    started: bool,
    /// The prompt that is heard.
    playing: Option<Box<str>>,
    prompts: u32,
    recording: Box<str>,
    /// Jobs that follow from the call, on their way to be accepted.
    follow_ups: Vec<JoinHandle<()>>,
    /// The runner's timer: its number, and when it is up, on `watch`.
    timer: Option<(u32, Duration)>,
    /// When the call is ended whatever it does, on `watch`.
    limit: Duration,
    ends: u32,
    hung_up_by: &'static str,
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
            job,
            attempt,
            recipient: Arc::clone(&handover.recipient),
            locale: locale(&flow, handover),
            carried,
            talk_max: flow.talk_max(),
            runner: Runner::new(flow, handover.params.clone()),
            signals,
            watch: shared.clock.stopwatch(),
            reached: Reached::Nothing,
            talk: None,
            started: false,
            playing: None,
            prompts: 0,
            recording: "".into(),
            follow_ups: vec![],
            timer: None,
            limit: Duration::ZERO,
            ends: 0,
            hung_up_by: "",
            shared,
        }
    }

    /// Drives the call to its end, and says how it went.
    pub(super) async fn run(mut self, ring_max: Duration) {
        self.limit = ring_max + RING_SLACK;
        self.moved(State::Dialing);
        let gone = loop {
            let next = self.timer.map_or(self.limit, |(_, at)| at.min(self.limit)).saturating_sub(self.watch.elapsed());
            let gone = match self.shared.clock.timeout(next, self.signals.recv()).await {
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
            Signal::Started => self.start().await,
            Signal::Played(playback) if self.playing.as_ref() == Some(&playback) => {
                self.playing = None;
                self.feed(Event::Prompted).await;
            }
            // The end of one that was given up.
            Signal::Played(_) => {}
            Signal::Key(key) => self.feed(Event::Key(key)).await,
            Signal::Recorded(done) => self.feed(if done { Event::Recorded } else { Event::Failed }).await,
            Signal::HangsUp if self.hung_up_by.is_empty() => self.hung_up_by = "callee",
            Signal::HangsUp => {}
            Signal::Destroyed(cause) => return Some(Gone::With(cause)),
            Signal::Missed => return self.ask().await,
        }
        None
    }

    fn ringing(&mut self) {
        if self.reached < Reached::Ringing {
            self.reached = Reached::Ringing;
            self.moved(State::Ringing);
        }
    }

    fn up(&mut self) {
        if self.talk.is_none() {
            self.reached = Reached::Answered;
            self.talk = Some(self.shared.clock.stopwatch());
            self.limit = self.watch.elapsed() + self.talk_max;
            self.carried.line.answered();
            self.moved(State::Answered);
        }
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
        self.followed().await;
        if self.hung_up_by.is_empty() {
            self.hung_up_by = "us";
        }
        // Whatever comes of it, the channel's end is told, or is asked for.
        let _gone = self.shared.ari.hang_up(&self.channel).await;
    }

    /// Waits until the jobs that follow from the call are accepted: their callee is to be on the line then.
    async fn followed(&mut self) {
        let accepted = join_all(self.follow_ups.drain(..));
        // One that takes longer is accepted all the same, after the call.
        let _late = self.shared.clock.timeout(FOLLOW_MAX, accepted).await;
    }

    /// Asks what the channel is like, after its events may have been missed.
    async fn ask(&mut self) -> Option<Gone> {
        match self.shared.ari.channel(&self.channel).await {
            Ok(None) => return Some(Gone::Unseen),
            Ok(Some(found)) if found.state == "Up" => {
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
            Command::OptOut(scope) => self.opt_out(scope),
            Command::Submit(follow_up) => {
                let (shared, recipient) = (Arc::clone(&self.carried.shared), (*self.recipient).clone());
                let followed = Box::new(Followed { job: self.job, shared, recipient, follow_up });
                self.follow_ups.push(self.shared.mention(News::FollowUp(followed)));
            }
            Command::Record(longest) => {
                let name = format!("{}-{}", self.channel, self.prompts);
                self.prompts += 1;
                if self.shared.ari.record(&self.channel, &name, longest).await.is_err() {
                    return Some(Event::Failed);
                }
                self.recording = name.into();
            }
            // Refused before the call was made.
            Command::Transfer(_) => return Some(Event::Failed),
            Command::HangUp => self.hang_up().await,
        }
        None
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

    fn opt_out(&self, scope: OptOut) {
        let Some(phone) = &self.recipient.phone else { return };
        self.shared.mention(News::OptOut(OptedOut {
            tenant: self.carried.shared.tenant.clone(),
            number: phone.as_str().into(),
            everything: scope == OptOut::Everything,
            at: self.shared.clock.now(),
        }));
    }

    fn moved(&self, state: State) {
        self.shared.mention(self.news(Step::Moved(state)).into());
    }

    fn news(&self, step: Step) -> CallNews {
        let (provider, at) = (self.shared.settings.provider.clone(), self.shared.clock.now());
        CallNews { provider, job: self.job, attempt: self.attempt, at, step }
    }

    async fn tell_end(mut self, gone: &Gone) {
        self.runner.take(Event::HungUp);
        let result = match gone {
            Gone::With(cause) => Some(cause::result(*cause, self.reached)),
            Gone::Unseen if self.reached == Reached::Answered => Some(CallResult::Completed),
            Gone::Unseen => None,
        };
        self.carried.line.ended(result);
        let step = match result {
            Some(result) => {
                Step::Ended(self.report(result), Some(Box::new(self.carried.again(self.shared.clock.now()))))
            }
            None => Step::Lost,
        };
        self.shared.say(self.news(step).into()).await;
    }

    fn report(&self, result: CallResult) -> CallReport {
        CallReport {
            digits: self.runner.digits().into(),
            tags: self.runner.tags().to_vec(),
            talk: self.talk.map(|talk| talk.elapsed()).unwrap_or_default(),
            hung_up_by: if result.reached() { self.hung_up_by } else { "" }.into(),
            recording: self.recording.clone(),
            ..CallReport::unanswered(result)
        }
    }
}
