//! Draws a flow as a Mermaid flowchart (mermaid.js.org, flowchart syntax). Pure.

use std::fmt::Write as _;

use super::{Act, Flow, Node};

/// Longest piece of a text that is shown.
const SHOWN_MAX: usize = 60;

/// Returns the drawing.
pub(super) fn mermaid(flow: &Flow) -> String {
    let ids: Vec<&str> = flow.nodes().map(|(name, _)| name).collect();
    // Numbers, since a name may be a word of the drawing language.
    let id = |name: &str| ids.iter().position(|known| *known == name).map_or(0, |index| index + 1);
    let mut drawing = String::from("flowchart TD\n    answered([answered])\n    ended([call ends])\n");
    let mut line = |text: std::fmt::Arguments<'_>| {
        // Writing to a string cannot fail.
        let _ok = drawing.write_fmt(format_args!("    {text}\n"));
    };
    for (name, node) in flow.nodes() {
        let (open, close) = shape(&node.act);
        line(format_args!("n{}{open}\"{}<br/>{}\"{close}", id(name), quoted(name), quoted(&label(&node.act))));
    }
    line(format_args!("answered --> n{}", id(flow.start())));
    for (name, node) in flow.nodes() {
        for (case, to) in node.ways() {
            match case {
                "" => line(format_args!("n{} --> n{}", id(name), id(to))),
                case => line(format_args!("n{} -- \"{}\" --> n{}", id(name), quoted(case), id(to))),
            }
        }
        if ends(node) {
            line(format_args!("n{} --> ended", id(name)));
        }
    }
    drawing
}

/// Returns whether the call may end after a node.
fn ends(node: &Node) -> bool {
    match &node.act {
        Act::Gather { otherwise, .. } | Act::Branch { otherwise, .. } => otherwise.is_none(),
        Act::HangUp => true,
        Act::Say { .. }
        | Act::Play { .. }
        | Act::Tag(_)
        | Act::OptOut(_)
        | Act::Transfer(_)
        | Act::Record(_)
        | Act::Submit { .. } => node.next.is_none(),
    }
}

/// Returns the brackets that give a node its shape: a question is a diamond, an end is round.
fn shape(act: &Act) -> (&'static str, &'static str) {
    match act {
        Act::Gather { .. } | Act::Branch { .. } => ("{", "}"),
        Act::HangUp => ("(", ")"),
        Act::Submit { .. } => ("[[", "]]"),
        Act::Say { .. } | Act::Play { .. } | Act::Tag(_) | Act::OptOut(_) | Act::Transfer(_) | Act::Record(_) => {
            ("[", "]")
        }
    }
}

fn label(act: &Act) -> String {
    let times = |repeats: u8| if repeats > 1 { format!(" ×{repeats}") } else { String::new() };
    match act {
        Act::Say { text, repeats } => format!("say{}: {}", times(*repeats), short(text)),
        Act::Play { media, repeats } => format!("play{}: {}", times(*repeats), short(media)),
        Act::Gather { digits_max, wait, retries, .. } => format!(
            "gather {digits_max} within {}, asked {}",
            humantime::format_duration(*wait),
            match retries {
                0 => "once".to_owned(),
                retries => format!("up to {} times", retries + 1),
            }
        ),
        Act::Branch { variable, .. } => format!("branch by {variable}"),
        Act::Tag(tag) => format!("tag: {}", short(tag)),
        Act::OptOut(scope) => format!("opt out: {scope}"),
        Act::Transfer(target) => format!("transfer to {}", short(target)),
        Act::Record(longest) => format!("record up to {}", humantime::format_duration(*longest)),
        Act::Submit { kind, template, .. } => format!("submit {kind}: {}", short(template)),
        Act::HangUp => "hang up".into(),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Returns the text as it may stand between quotes: what could end them or be read as markup is written as an entity.
fn quoted(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '<' | '>' | '&' | '#' | ';' | '`' => {
                let _ok = write!(safe, "#{};", u32::from(c));
            }
            '\n' => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}
