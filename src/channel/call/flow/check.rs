//! Checks a flow that was written: every problem at once, each with its field. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::document::{self, Document};
use super::{
    Act, CASES_MAX, DEPTH_MAX, Flow, NODE_NAME_LEN_MAX, NODES_MAX, Node, NodeName, OptOut, Problem, TALK_MAX,
    node_field,
};
use crate::domain::job::Kind;
use crate::domain::text;

/// Talk time where the flow names none.
const TALK: Duration = Duration::from_secs(300);
/// What may follow digits on a keypad.
const KEYS: &str = "0123456789*#";

/// Collects what is wrong.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

/// Returns the flow, or everything that is wrong with it.
pub(super) fn flow(document: Document) -> Result<Flow, Vec<Problem>> {
    let mut checker = Checker::default();
    let talk_max = checker.duration("talk_max", document.talk_max.as_deref(), (TALK, TALK_MAX));
    checker.chars("locale", &document.locale, 0, 35);
    checker.nodes(document.nodes.len());
    let mut nodes = BTreeMap::new();
    for (name, node) in document.nodes {
        let field = node_field(&name);
        checker.name(&field, &name);
        if let Some(node) = checker.node(&field, node) {
            nodes.insert(NodeName::from(name), node);
        }
    }
    let flow = Flow { start: document.start.into(), nodes, talk_max, locale: document.locale.into() };
    // The ways are judged only where each node is known: otherwise every way to it would be a problem of its own.
    if checker.problems.is_empty() {
        checker.ways(&flow);
    }
    checker.problems.sort_unstable();
    if checker.problems.is_empty() { Ok(flow) } else { Err(checker.problems) }
}

impl Checker {
    fn wrong(&mut self, field: &str, what: impl Into<String>) {
        self.problems.push(Problem { field: field.to_owned(), what: what.into() });
    }

    fn nodes(&mut self, count: usize) {
        if count == 0 || count > NODES_MAX {
            self.wrong("nodes", format!("a flow has 1 to {NODES_MAX} nodes, this one has {count}"));
        }
    }

    fn name(&mut self, field: &str, name: &str) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if name.is_empty() || name.len() > NODE_NAME_LEN_MAX || !name.chars().all(plain) {
            self.wrong(field, "a node's name is 1 to 32 letters, digits, `_` or `-`");
        }
    }

    fn chars(&mut self, field: &str, text: &str, least: usize, most: usize) {
        let count = text.chars().count();
        if count < least || count > most {
            self.wrong(field, format!("must have {least} to {most} characters, has {count}"));
        } else if let Some(bad) = text.chars().find(|c| c.is_control() && *c != '\n') {
            self.wrong(field, format!("has the control character {bad:?}"));
        }
    }

    fn number(&mut self, field: &str, number: Option<u32>, default: u8, range: RangeInclusive<u8>) -> u8 {
        let Some(number) = number else { return default };
        match u8::try_from(number).ok().filter(|number| range.contains(number)) {
            Some(number) => number,
            None => {
                self.wrong(field, format!("must be {} to {}, is {number}", range.start(), range.end()));
                default
            }
        }
    }

    fn duration(&mut self, field: &str, text: Option<&str>, (default, most): (Duration, Duration)) -> Duration {
        let Some(text) = text else { return default };
        match humantime::parse_duration(text) {
            Ok(duration) if (Duration::from_secs(1)..=most).contains(&duration) => return duration,
            Ok(_) => self.wrong(field, format!("must be 1s to {}, is {text}", humantime::format_duration(most))),
            Err(error) => self.wrong(field, format!("`{text}` is no duration such as 5s or 2m: {error}")),
        }
        default
    }

    /// Returns the node, if it does exactly one thing.
    fn node(&mut self, field: &str, node: document::Node) -> Option<Node> {
        let mut acts = Vec::new();
        let mut add = |word: &'static str, act: Option<Act>| acts.extend(act.map(|act| (word, act)));
        let at = |word: &str| format!("{field}.{word}");
        add("say", node.say.map(|say| self.say(&at("say"), say)));
        add("play", node.play.map(|play| self.play(&at("play"), play)));
        add("gather", node.gather.map(|gather| self.gather(&at("gather"), gather)));
        add("branch", node.branch.map(|branch| self.branch(&at("branch"), branch)));
        add("tag", node.tag.map(|tag| self.tag(&at("tag"), tag)));
        add("opt_out", node.opt_out.map(|scope| self.opt_out(&at("opt_out"), &scope)));
        add("transfer", node.transfer.map(|target| self.transfer(&at("transfer"), target)));
        add("record", node.record.map(|record| self.record(&at("record"), &record)));
        add("submit", node.submit.map(|submit| self.submit(&at("submit"), submit)));
        add("hang_up", node.hang_up.map(|_| Act::HangUp));
        if acts.len() != 1 {
            let found = if acts.is_empty() {
                "none".into()
            } else {
                acts.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(" and ")
            };
            self.wrong(
                field,
                format!(
                    "a node does one thing: say, play, gather, branch, tag, opt_out, transfer, record, submit or \
                         hang_up; this one has {found}"
                ),
            );
            return None;
        }
        let (word, act) = acts.pop()?;
        let chooses = matches!(act, Act::Gather { .. } | Act::Branch { .. } | Act::HangUp);
        if chooses && node.next.is_some() {
            self.wrong(&at("next"), format!("is not used by {word}: leave it out"));
        }
        Some(Node { act, next: node.next.map(Into::into) })
    }

    fn say(&mut self, field: &str, say: document::Say) -> Act {
        self.chars(&format!("{field}.text"), &say.text, 1, 1_000);
        let repeats = self.number(&format!("{field}.repeats"), say.repeats, 1, 1..=5);
        Act::Say { text: say.text.into(), repeats }
    }

    fn play(&mut self, field: &str, play: document::Play) -> Act {
        let name = format!("{field}.media");
        self.chars(&name, &play.media, 1, 256);
        if play.media.starts_with('/') || play.media.split('/').any(|part| part == "..") {
            self.wrong(&name, "names a recording below the media directory: no leading `/`, no `..`");
        }
        let repeats = self.number(&format!("{field}.repeats"), play.repeats, 1, 1..=5);
        Act::Play { media: play.media.into(), repeats }
    }

    fn gather(&mut self, field: &str, gather: document::Gather) -> Act {
        let digits_max = self.number(&format!("{field}.digits_max"), gather.digits_max, 1, 1..=16);
        let menu = self.cases(&format!("{field}.menu"), gather.menu);
        for input in menu.keys() {
            if input.is_empty() || input.len() > usize::from(digits_max) || !input.chars().all(|key| KEYS.contains(key))
            {
                self.wrong(
                    &format!("{field}.menu"),
                    format!("`{input}` can never be entered: 1 to {digits_max} of the keys {KEYS}"),
                );
            }
        }
        let wait = Duration::from_secs(5);
        let wait = self.duration(&format!("{field}.wait"), gather.wait.as_deref(), (wait, Duration::from_secs(60)));
        let retries = self.number(&format!("{field}.retries"), gather.retries, 0, 0..=5);
        Act::Gather { menu, otherwise: gather.otherwise.map(Into::into), digits_max, wait, retries }
    }

    fn branch(&mut self, field: &str, branch: document::Branch) -> Act {
        if !text::is_name(&branch.variable) {
            self.wrong(&format!("{field}.variable"), "is 1 to 64 letters, digits, `_`, `-` or `.`");
        }
        let cases = self.cases(&format!("{field}.cases"), branch.cases);
        Act::Branch { variable: branch.variable.into(), cases, otherwise: branch.otherwise.map(Into::into) }
    }

    fn cases(&mut self, field: &str, cases: BTreeMap<String, String>) -> BTreeMap<Box<str>, NodeName> {
        if cases.len() > CASES_MAX {
            self.wrong(field, format!("has {} entries, at most {CASES_MAX} are allowed", cases.len()));
        }
        cases.into_iter().map(|(case, to)| (case.into(), to.into())).collect()
    }

    fn tag(&mut self, field: &str, tag: String) -> Act {
        self.chars(field, &tag, 1, 64);
        Act::Tag(tag.into())
    }

    fn opt_out(&mut self, field: &str, scope: &str) -> Act {
        let known = OptOut::from_word(scope);
        if known.is_none() {
            self.wrong(field, format!("is `brand` or `everything`, not `{scope}`"));
        }
        Act::OptOut(known.unwrap_or(OptOut::Brand))
    }

    fn transfer(&mut self, field: &str, target: String) -> Act {
        self.chars(field, &target, 1, 64);
        Act::Transfer(target.into())
    }

    fn record(&mut self, field: &str, record: &document::Record) -> Act {
        let (field, longest) = (format!("{field}.length_max"), Duration::from_secs(300));
        Act::Record(self.duration(&field, record.length_max.as_deref(), (Duration::from_secs(60), longest)))
    }

    fn submit(&mut self, field: &str, submit: document::Submit) -> Act {
        let kind = Kind::from_word(&submit.kind);
        if kind.is_none() {
            self.wrong(&format!("{field}.kind"), format!("is sms, template or call, not `{}`", submit.kind));
        }
        self.chars(&format!("{field}.template"), &submit.template, 1, 63);
        if submit.params.len() > 32 {
            self.wrong(&format!("{field}.params"), format!("has {} entries, at most 32", submit.params.len()));
        }
        let params = submit.params.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Act::Submit { kind: kind.unwrap_or(Kind::Sms), template: submit.template.into(), params }
    }

    /// Checks where the nodes lead: to nodes that are there, never back, not too far, and to each of them.
    fn ways(&mut self, flow: &Flow) {
        if flow.node(&flow.start).is_none() {
            return self.wrong("start", format!("names `{}`, which is no node: name the first one", flow.start));
        }
        for (name, node) in flow.nodes() {
            for (case, to) in node.ways() {
                if flow.node(to).is_none() {
                    let case = if case.is_empty() { "next".to_owned() } else { format!("{}.{case}", node.act.word()) };
                    self.wrong(&format!("nodes.{name}.{case}"), format!("leads to `{to}`, which is no node"));
                }
            }
        }
        if !self.problems.is_empty() {
            return;
        }
        let mut depths = BTreeMap::new();
        match depth(flow, &flow.start, &mut Vec::new(), &mut depths) {
            Ok(depth) if depth > DEPTH_MAX => {
                self.wrong(
                    "nodes",
                    format!("the longest way through has {depth} nodes, at most {DEPTH_MAX} are allowed"),
                );
            }
            Ok(_) => {}
            Err(cycle) => {
                let what = format!(
                    "leads round in a circle ({}): a call must end; ask again with `retries`, say again with `repeats`",
                    cycle.join(" → ")
                );
                return self.wrong(&format!("nodes.{}", cycle[0]), what);
            }
        }
        for (name, _) in flow.nodes().filter(|(name, _)| !depths.contains_key(name)) {
            self.wrong(&format!("nodes.{name}"), "nothing leads here: lead there, or leave it out");
        }
    }
}

/// Returns how many nodes the longest way from `name` has, or the circle that a way from it leads into. Each node is
/// looked at once.
fn depth<'a>(
    flow: &'a Flow,
    name: &'a str,
    way: &mut Vec<&'a str>,
    known: &mut BTreeMap<&'a str, usize>,
) -> Result<usize, Vec<&'a str>> {
    if let Some(depth) = known.get(name) {
        return Ok(*depth);
    }
    if let Some(from) = way.iter().position(|&before| before == name) {
        let mut circle = way[from..].to_vec();
        circle.push(name);
        return Err(circle);
    }
    way.push(name);
    let mut longest = 0;
    for (_, to) in flow.node(name).map(Node::ways).unwrap_or_default() {
        longest = longest.max(depth(flow, to, way, known)?);
    }
    way.pop();
    known.insert(name, longest + 1);
    Ok(longest + 1)
}
