//! Runs a checked flow: what happens in the call comes in, what is to be done goes out. Pure: whoever drives the call owns
//! the clock and the line.
//!
//! Every run ends: nodes lead only forward, and what a node repeats is counted. What the driver is asked for one at a time
//! (a prompt, a wait, a recording, a transfer) it answers with one event; a timer that no longer matters is told apart by
//! its number.

mod input;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::input::{Input, Pressed};
use super::flow::{Act, Flow, Node, NodeName, OptOut};
use crate::domain::call::{CallReport, CallResult};
use crate::domain::job::Kind;
use crate::domain::text;

/// Keys pressed ahead of a question that are kept for it.
const AHEAD_MAX: usize = 16;

/// One call's way through its flow.
#[derive(Clone, Debug)]
pub struct Runner {
    flow: Arc<Flow>,
    /// The job's parameters, then what was pressed at each gather node, under the node's name.
    variables: Vec<(Box<str>, Box<str>)>,
    at: At,
    /// Keys pressed before anybody asked.
    ahead: VecDeque<char>,
    /// The prompts just before this place: what a question says again.
    prompts: Vec<NodeName>,
    /// The number of the last timer.
    timer: u32,
    digits: String,
    tags: Vec<Box<str>>,
    /// The node that the last choice from a menu led to.
    intent: Option<NodeName>,
}

/// Something that happened in the call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Somebody answered.
    Answered,
    /// The prompt was heard, or was stopped.
    Prompted,
    /// A key was pressed.
    Key(char),
    /// The timer with this number has run out.
    TimeUp(u32),
    /// The recording is over.
    Recorded,
    /// The transfer is over, or came to nothing.
    Transferred,
    /// What was asked for cannot be done.
    Failed,
    /// The callee hung up.
    HungUp,
}

/// Something to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Say a text; answered by [`Event::Prompted`].
    Say(Box<str>),
    /// Play a recording; answered by [`Event::Prompted`].
    Play(Box<str>),
    /// Stop the prompt; it is then answered.
    StopPrompt,
    /// Answer with [`Event::TimeUp`] and this number after so long.
    Wait(u32, Duration),
    /// Opt the callee out.
    OptOut(OptOut),
    /// Hand in a follow-up job, once for each node.
    Submit(FollowUp),
    /// Connect the call to this target; answered by [`Event::Transferred`].
    Transfer(Box<str>),
    /// Record the callee for at most so long; answered by [`Event::Recorded`].
    Record(Duration),
    /// End the call.
    HangUp,
}

/// What is asked for at this moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Question {
    /// Which question, and how often it may still be asked again: another one differs in this.
    pub asked: (NodeName, u8),
    /// The timer that runs.
    pub timer: u32,
    /// How many keys more it takes.
    pub keys_max: u8,
    /// Whether `#` is a key as any other, and does not end what is entered.
    pub hash: bool,
}

/// A job that follows from a call, for the same recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FollowUp {
    /// What it follows from, unique within the call: the node's name, or its place among what follows the call.
    pub from: Box<str>,
    /// By which means.
    pub kind: Kind,
    /// The template that it uses.
    pub template: Box<str>,
    /// Values for its placeholders.
    pub params: Vec<(Box<str>, Box<str>)>,
}

/// Where a call is.
#[derive(Clone, PartialEq, Eq, Debug)]
enum At {
    /// Nobody has answered.
    Waiting,
    /// A prompt of this node is heard; it comes so often after that.
    Prompt { node: NodeName, left: u8 },
    /// A question's prompts are said again, from this one on; then it waits for keys.
    Again { prompt: usize, node: NodeName, input: Input },
    /// Keys are waited for.
    Gather { node: NodeName, input: Input },
    /// Something else is done at this node.
    Busy { node: NodeName },
    /// It is over.
    Ended,
}

// === impl Runner ===

impl Runner {
    /// Returns the start of a call whose job brings `params`.
    pub fn new(flow: Arc<Flow>, params: Vec<(Box<str>, Box<str>)>) -> Self {
        Self {
            flow,
            variables: params,
            at: At::Waiting,
            ahead: VecDeque::new(),
            prompts: vec![],
            timer: 0,
            digits: String::new(),
            tags: vec![],
            intent: None,
        }
    }

    /// Returns the keys pressed, in order.
    pub fn digits(&self) -> &str {
        &self.digits
    }

    /// Returns the tags set, each once, in order.
    pub fn tags(&self) -> &[Box<str>] {
        &self.tags
    }

    /// Returns what the flow knows of a call that ended so: keys, tags, and as what the callee wanted the node that their
    /// last choice from a menu led to.
    pub fn report(&self, result: CallResult) -> CallReport {
        CallReport {
            digits: self.digits().into(),
            tags: self.tags.clone(),
            intent: self.intent.clone().unwrap_or_default(),
            ..CallReport::unanswered(result)
        }
    }

    /// Returns what was pressed, under the names of the nodes that asked for it.
    pub fn heard(&self) -> Vec<(Box<str>, Box<str>)> {
        let asks = |name: &str| matches!(self.flow.node(name).map(|node| &node.act), Some(Act::Gather { .. }));
        let asked = |(name, _): &&(Box<str>, Box<str>)| asks(name);
        self.variables.iter().filter(asked).cloned().collect()
    }

    /// Returns whether the flow is over.
    pub fn ended(&self) -> bool {
        self.at == At::Ended
    }

    /// Returns what keys are waited for, if any are.
    pub fn question(&self) -> Option<Question> {
        let At::Gather { node, input } = &self.at else { return None };
        let Some(Act::Gather { menu, digits_max, .. }) = self.flow.node(node).map(|node| &node.act) else {
            return None;
        };
        let pressed = u8::try_from(input.keys().len()).unwrap_or(u8::MAX);
        Some(Question {
            asked: (node.clone(), input.retries()),
            timer: self.timer,
            keys_max: digits_max.saturating_sub(pressed),
            hash: input::has_end(menu),
        })
    }

    /// Returns a follow-up job: its own values are filled in, and what it names none for, the call's hold.
    pub fn follow_up<'a>(
        &self,
        from: Box<str>,
        kind: Kind,
        template: &str,
        own: impl Iterator<Item = (&'a Box<str>, &'a Box<str>)>,
    ) -> FollowUp {
        FollowUp::filled(from, (kind, template), own, &self.variables)
    }

    /// Takes in what happened; returns what is to be done, in order.
    pub fn take(&mut self, event: Event) -> Vec<Command> {
        let mut out = Vec::new();
        if let Event::Key(key) = event {
            self.digits.push(key);
        }
        match (std::mem::replace(&mut self.at, At::Ended), event) {
            (At::Ended, _) | (_, Event::HungUp) => {}
            (_, Event::Failed) => out.push(Command::HangUp),
            (At::Waiting, Event::Answered) => self.enter(self.flow.start().into(), &mut out),
            (At::Prompt { node, left }, Event::Prompted) => self.prompted(node, left, &mut out),
            (At::Prompt { node, left }, Event::Key(key)) => self.key_in_prompt(node, left, key, &mut out),
            (At::Again { prompt, node, input }, Event::Prompted) => self.ask_again(prompt + 1, node, input, &mut out),
            (At::Again { prompt: _, node, input }, Event::Key(key)) => {
                // What is still to be said again is skipped: it was heard once.
                self.ahead(key);
                out.push(Command::StopPrompt);
                self.at = At::Again { prompt: self.prompts.len(), node, input };
            }
            (At::Gather { node, mut input }, Event::Key(key)) => {
                let pressed = self.press(&node, &mut input, key);
                self.pressed(node, input, pressed, &mut out);
            }
            (At::Gather { node, input }, Event::TimeUp(number)) if number == self.timer => {
                let pressed = self.silence(&node, &input);
                self.pressed(node, input, pressed, &mut out);
            }
            (At::Busy { node }, Event::Recorded | Event::Transferred) => self.go_on(&node, &mut out),
            (at, _) => self.at = at,
        }
        out
    }

    /// Runs from a node on until something takes time.
    fn enter(&mut self, first: NodeName, out: &mut Vec<Command>) {
        let flow = Arc::clone(&self.flow);
        let mut next = Some(first);
        while let Some(name) = next.take() {
            let Some(node) = flow.node(&name) else { break };
            if !matches!(node.act, Act::Say { .. } | Act::Play { .. } | Act::Gather { .. }) {
                self.prompts.clear();
            }
            match &node.act {
                Act::Say { repeats, .. } | Act::Play { repeats, .. } => {
                    self.prompts.push(name.clone());
                    if !self.ahead.is_empty() && self.leads_to_question(&name) {
                        // It was answered before it was asked.
                        next = node.next.clone();
                        continue;
                    }
                    out.push(self.prompt(node));
                    self.at = At::Prompt { node: name, left: repeats.saturating_sub(1) };
                    return;
                }
                Act::Gather { retries, .. } => return self.ask(name, Input::new(*retries), out),
                Act::Branch { variable, cases, otherwise } => {
                    let value = self.variable(variable).unwrap_or_default();
                    next = cases.get(value).or(otherwise.as_ref()).cloned();
                    continue;
                }
                Act::Tag(tag) => {
                    if !self.tags.contains(tag) {
                        self.tags.push(tag.clone());
                    }
                }
                Act::OptOut(scope) => out.push(Command::OptOut(*scope)),
                Act::Submit { kind, template, params } => {
                    out.push(Command::Submit(self.follow_up(name.clone(), *kind, template, params.iter())));
                }
                Act::Transfer(target) => {
                    out.push(Command::Transfer(self.filled(target)));
                    self.at = At::Busy { node: name };
                    return;
                }
                Act::Record(longest) => {
                    out.push(Command::Record(*longest));
                    self.at = At::Busy { node: name };
                    return;
                }
                Act::HangUp => break,
            }
            next = node.next.clone();
        }
        out.push(Command::HangUp);
        self.at = At::Ended;
    }

    fn go_on(&mut self, name: &str, out: &mut Vec<Command>) {
        match self.flow.node(name).and_then(|node| node.next.clone()) {
            Some(next) => self.enter(next, out),
            None => out.push(Command::HangUp),
        }
    }

    fn prompted(&mut self, name: NodeName, left: u8, out: &mut Vec<Command>) {
        let flow = Arc::clone(&self.flow);
        match (left.checked_sub(1), flow.node(&name)) {
            (Some(left), Some(node)) => {
                out.push(self.prompt(node));
                self.at = At::Prompt { node: name, left };
            }
            (None, _) | (_, None) => self.go_on(&name, out),
        }
    }

    /// A key during a prompt answers the question that follows it; where none follows, it changes nothing.
    fn key_in_prompt(&mut self, node: NodeName, left: u8, key: char, out: &mut Vec<Command>) {
        let asks = self.leads_to_question(&node);
        if asks {
            self.ahead(key);
            out.push(Command::StopPrompt);
        }
        self.at = At::Prompt { node, left: if asks { 0 } else { left } };
    }

    /// Returns whether only prompts and marks lie between a node and a question.
    fn leads_to_question(&self, from: &str) -> bool {
        let next = |name: &str| self.flow.node(name).and_then(|node| node.next.as_deref());
        let mut at = next(from);
        while let Some(node) = at.and_then(|name| self.flow.node(name)) {
            match node.act {
                Act::Gather { .. } => return true,
                Act::Say { .. } | Act::Play { .. } | Act::Tag(_) => at = node.next.as_deref(),
                Act::Branch { .. }
                | Act::OptOut(_)
                | Act::Transfer(_)
                | Act::Record(_)
                | Act::Submit { .. }
                | Act::HangUp => return false,
            }
        }
        false
    }

    fn ahead(&mut self, key: char) {
        if self.ahead.len() < AHEAD_MAX {
            self.ahead.push_back(key);
        }
    }

    /// Waits for keys at a gather node, beginning with those that were pressed ahead.
    fn ask(&mut self, node: NodeName, mut input: Input, out: &mut Vec<Command>) {
        while let Some(key) = self.ahead.pop_front() {
            let pressed = self.press(&node, &mut input, key);
            if pressed != Pressed::More {
                return self.pressed(node, input, pressed, out);
            }
        }
        self.wait(node, input, out);
    }

    fn wait(&mut self, node: NodeName, input: Input, out: &mut Vec<Command>) {
        if let Some(Act::Gather { wait, .. }) = self.flow.node(&node).map(|node| &node.act) {
            self.timer += 1;
            out.push(Command::Wait(self.timer, *wait));
        }
        self.at = At::Gather { node, input };
    }

    /// Says the prompts of a question again, from number `prompt` on, then waits for keys.
    fn ask_again(&mut self, prompt: usize, node: NodeName, input: Input, out: &mut Vec<Command>) {
        let flow = Arc::clone(&self.flow);
        match self.prompts.get(prompt).and_then(|name| flow.node(name)) {
            Some(said) => {
                out.push(self.prompt(said));
                self.at = At::Again { prompt, node, input };
            }
            None => self.ask(node, input, out),
        }
    }

    fn press(&self, node: &str, input: &mut Input, key: char) -> Pressed {
        match self.flow.node(node).map(|node| &node.act) {
            Some(Act::Gather { menu, digits_max, .. }) => input.press(key, menu, *digits_max),
            Some(_) | None => Pressed::Other,
        }
    }

    fn silence(&self, node: &str, input: &Input) -> Pressed {
        match self.flow.node(node).map(|node| &node.act) {
            Some(Act::Gather { menu, .. }) => input.silence(menu),
            Some(_) | None => Pressed::Other,
        }
    }

    /// Does what follows from a key, or from silence, at a gather node.
    fn pressed(&mut self, node: NodeName, mut input: Input, pressed: Pressed, out: &mut Vec<Command>) {
        match pressed {
            Pressed::More => self.wait(node, input, out),
            Pressed::Way(to) => {
                self.remember(&node, input.keys());
                self.intent = Some(to.clone());
                self.ahead.clear();
                self.enter(to, out);
            }
            Pressed::Other if input.try_again() => {
                self.ahead.clear();
                self.ask_again(0, node, input, out);
            }
            Pressed::Other | Pressed::Entered => {
                self.remember(&node, input.keys());
                self.ahead.clear();
                match self.flow.node(&node).map(|node| &node.act) {
                    Some(Act::Gather { otherwise: Some(to), .. }) => self.enter(to.clone(), out),
                    Some(_) | None => out.push(Command::HangUp),
                }
            }
        }
    }

    fn remember(&mut self, node: &str, keys: &str) {
        self.variables.retain(|(name, _)| **name != *node);
        self.variables.push((node.into(), keys.into()));
    }

    fn prompt(&self, node: &Node) -> Command {
        match &node.act {
            Act::Play { media, .. } => Command::Play(media.clone()),
            Act::Say { text, .. } => Command::Say(self.filled(text)),
            Act::Gather { .. }
            | Act::Branch { .. }
            | Act::Tag(_)
            | Act::OptOut(_)
            | Act::Transfer(_)
            | Act::Record(_)
            | Act::Submit { .. }
            | Act::HangUp => Command::HangUp,
        }
    }

    fn filled(&self, template: &str) -> Box<str> {
        text::fill(template, &self.variables).into()
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.variables.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value)
    }
}

// === impl FollowUp ===

impl FollowUp {
    /// Returns a follow-up job: its own values are filled in with the call's variables, and what it names none for, these
    /// hold.
    pub fn filled<'a>(
        from: Box<str>,
        (kind, template): (Kind, &str),
        own: impl Iterator<Item = (&'a Box<str>, &'a Box<str>)>,
        variables: &[(Box<str>, Box<str>)],
    ) -> Self {
        let filled = |value: &str| Box::from(text::fill(value, variables));
        let mut params: Vec<_> = own.map(|(name, value)| (name.clone(), filled(value))).collect();
        for (name, value) in variables {
            if !params.iter().any(|(known, _)| known == name) {
                params.push((name.clone(), value.clone()));
            }
        }
        Self { from, kind, template: template.into(), params }
    }
}

#[cfg(test)]
mod tests;
