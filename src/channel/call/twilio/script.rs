//! Turns a flow into documents, one after the other: what is said until Twilio is to ask again. Pure.
//!
//! A document ends with a verb that asks for the next one: a question, a recording, a transfer, or just the next step. It
//! holds prompts only as far as nothing else happens between them, so a job is handed in, an opt-out is taken and a tag is
//! set when Twilio asks for what follows, and not before what comes before it was heard. The one exception: a tag in front of
//! a question is set when the question is over, so that a key may cut its prompts short.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::AGAIN;
use super::twiml::{Document, Keys, Speech};
use crate::channel::call::flow::{Flow, OptOut};
use crate::channel::call::runner::{Command, Event, FollowUp, Runner};

/// Most prompts in a document, and most of their characters: Twilio takes 64 KiB.
const PROMPTS_MAX: usize = 12;
const CHARACTERS_MAX: usize = 8_000;
/// What is written otherwise in the name of a recording, whose parts a slash divides (RFC 3986, 2.3).
const NAME: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One call's way through its flow, as documents.
pub(super) struct Script {
    runner: Runner,
    manner: Manner,
    /// Where Twilio asks for the next document, without its number.
    url: Box<str>,
    /// The number of the document that is asked for next.
    step: u32,
    /// The last one.
    document: String,
    /// How it ends.
    open: Open,
    /// The prompts in it.
    prompts: usize,
}

/// How a call is written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Manner {
    /// The language of what is said; empty: Twilio's default.
    pub(super) language: Box<str>,
    /// The voice; empty: Twilio's default.
    pub(super) voice: Box<str>,
    /// What URLs of recordings begin with.
    pub(super) media: Box<str>,
    /// Whom people see that the call is put through to.
    pub(super) caller: Box<str>,
    /// Whether what is recorded is written down.
    pub(super) transcribe: bool,
}

/// What a document waits for at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Open {
    /// There is none yet.
    Answer,
    /// Just to be asked again.
    Step,
    Keys,
    Recording,
    Transfer,
    /// Nothing: it hangs up.
    Over,
}

/// Something that a flow does besides talking.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Effect {
    OptOut(OptOut),
    Submit(FollowUp),
}

// === impl Script ===

impl Script {
    /// Returns the beginning of a call whose job brings `params`; Twilio asks `url` for its documents.
    pub(super) fn new(flow: Arc<Flow>, params: Vec<(Box<str>, Box<str>)>, manner: Manner, url: &str) -> Self {
        let runner = Runner::new(flow, params);
        Self { runner, manner, url: url.into(), step: 0, document: String::new(), open: Open::Answer, prompts: 0 }
    }

    /// Returns the way through the flow so far.
    pub(super) fn runner(&self) -> &Runner {
        &self.runner
    }

    /// Returns the last document.
    pub(super) fn document(&self) -> &str {
        &self.document
    }

    /// Returns whether something is asked for even after the callee has hung up: what a recording or a transfer came to.
    pub(super) fn last_word(&self) -> bool {
        matches!(self.open, Open::Recording | Open::Transfer)
    }

    /// Returns whether the last document hangs up.
    pub(super) fn over(&self) -> bool {
        self.open == Open::Over
    }

    /// Writes the document with this number, after `keys` were pressed; returns what is to be done besides. A number that
    /// is not the next one changes nothing: it was asked for before.
    pub(super) fn turn(&mut self, step: u32, keys: &str) -> Vec<Effect> {
        if step != self.step || self.open == Open::Over {
            return vec![];
        }
        let (mut effects, mut waiting) = (vec![], None);
        for _ in 0..self.prompts {
            self.feed(Event::Prompted, &mut waiting, &mut effects);
        }
        match self.open {
            Open::Answer => self.feed(Event::Answered, &mut waiting, &mut effects),
            Open::Keys => self.pressed(keys, &mut waiting, &mut effects),
            Open::Recording => self.feed(Event::Recorded, &mut waiting, &mut effects),
            Open::Transfer => self.feed(Event::Transferred, &mut waiting, &mut effects),
            Open::Step | Open::Over => {}
        }
        self.step += 1;
        self.write(waiting.unwrap_or(Command::HangUp));
        effects
    }

    /// Takes in the keys of a question, and that it is over.
    fn pressed(&mut self, keys: &str, waiting: &mut Option<Command>, effects: &mut Vec<Effect>) {
        let asked = self.runner.question().map(|question| question.asked);
        for key in keys.chars() {
            self.feed(Event::Key(key), waiting, effects);
        }
        // Twilio waits no longer: the time was up, or `#` was pressed.
        if let Some(question) = self.runner.question().filter(|question| Some(&question.asked) == asked.as_ref()) {
            self.feed(Event::TimeUp(question.timer), waiting, effects);
        }
    }

    /// Lets the flow take in what happened. `waiting` becomes what it does now.
    fn feed(&mut self, event: Event, waiting: &mut Option<Command>, effects: &mut Vec<Effect>) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for command in self.runner.take(event) {
                match command {
                    Command::OptOut(scope) => effects.push(Effect::OptOut(scope)),
                    Command::Submit(follow_up) => effects.push(Effect::Submit(follow_up)),
                    Command::StopPrompt => events.push(Event::Prompted),
                    other => *waiting = Some(other),
                }
            }
        }
    }

    /// Writes a document that begins with `first`, as far as nothing but talking happens.
    fn write(&mut self, first: Command) {
        let url = format!("{}&step={}{AGAIN}", self.url, self.step);
        let (mut ahead, mut next, mut said) = (self.runner.clone(), first, vec![]);
        let mut characters = 0;
        loop {
            match next {
                Command::Say(ref text) => characters += text.chars().count(),
                Command::Play(_) => {}
                other => return self.close(&said, other, &ahead, &url),
            }
            said.push(next);
            let mut after = ahead.clone();
            let mut commands = after.take(Event::Prompted);
            let tagged = after.tags() != ahead.tags();
            match (commands.pop(), commands.is_empty()) {
                (Some(command), true)
                    if said.len() < PROMPTS_MAX && characters < CHARACTERS_MAX && talks(&command, tagged) =>
                {
                    (ahead, next) = (after, command);
                }
                // Something else comes first; it waits until this was heard.
                _ => return self.close(&said, Command::HangUp, &ahead, &url),
            }
        }
    }

    /// Writes the prompts, and what ends the document. After prompts, hanging up is a step of its own.
    fn close(&mut self, said: &[Command], end: Command, at: &Runner, url: &str) {
        let mut document = Document::new();
        self.prompts = said.len();
        self.open = match end {
            Command::Wait(_, wait) => {
                let question = at.question();
                let (most, hash) = question.map_or((1, false), |question| (question.keys_max, question.hash));
                document.gather(Keys { most, wait, hash }, url);
                self.prompt(said, &mut document);
                document.gathered();
                Open::Keys
            }
            Command::Record(longest) => {
                self.prompt(said, &mut document);
                document.record((longest, self.manner.transcribe), url);
                Open::Recording
            }
            Command::Transfer(target) => {
                self.prompt(said, &mut document);
                // Only numbers are dialled: what a job brings is nothing else.
                let dialled = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'*' | b'#');
                match !target.is_empty() && target.bytes().all(dialled) {
                    true => document.dial(&target, &self.manner.caller, url),
                    false => document.redirect(url),
                }
                Open::Transfer
            }
            _ if said.is_empty() => {
                document.hang_up();
                Open::Over
            }
            _ => {
                self.prompt(said, &mut document);
                document.redirect(url);
                Open::Step
            }
        };
        self.document = document.finish();
    }

    fn prompt(&self, said: &[Command], document: &mut Document) {
        let Manner { language, voice, media, .. } = &self.manner;
        for command in said {
            match command {
                Command::Say(text) => document.say(text, Speech { language, voice }),
                Command::Play(name) => document.play(&format!("{media}{}", utf8_percent_encode(name, NAME))),
                _ => {}
            }
        }
    }
}

/// Returns whether a command may follow a prompt in the same document.
fn talks(command: &Command, tagged: bool) -> bool {
    match command {
        Command::Say(_) | Command::Play(_) | Command::Record(_) | Command::Transfer(_) => !tagged,
        Command::Wait(..) => true,
        Command::StopPrompt | Command::OptOut(_) | Command::Submit(_) | Command::HangUp => false,
    }
}

#[cfg(test)]
mod tests;
