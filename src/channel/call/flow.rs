//! Call flows: what a call says and does, as a small document that is checked whole before any call runs it.
//!
//! A flow is a set of named nodes without a cycle. What is repeated is repeated within a node (`repeats`, `retries`), so
//! every call ends.

mod check;
mod document;
mod draw;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

pub use crate::domain::call::TALK_MAX;
use crate::domain::job::Kind;
use crate::domain::text;

pub use document::{BYTES_MAX, Form, parse};

/// Most nodes in a flow.
pub const NODES_MAX: usize = 64;
/// Longest name of a node, in bytes.
const NODE_NAME_LEN_MAX: usize = 32;
/// Most nodes on the way from the first to the last.
pub const DEPTH_MAX: usize = 16;
/// Most entries of a menu or a branch.
pub const CASES_MAX: usize = 32;

/// A flow that was checked: every name it uses is a node of its own, and every way through it ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flow {
    start: NodeName,
    nodes: BTreeMap<NodeName, Node>,
    talk_max: Duration,
    locale: Box<str>,
}

/// The name of a node: 1 to 32 letters, digits, `_` or `-`.
pub type NodeName = Box<str>;

/// Returns the field of a node, for errors: with as much of its name as a name may have.
pub fn node_field(name: &str) -> String {
    match name.char_indices().nth(NODE_NAME_LEN_MAX) {
        Some((end, _)) => format!("nodes.{}…", &name[..end]),
        None => format!("nodes.{name}"),
    }
}

/// One thing that a flow does, and what follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What it does.
    pub act: Act,
    /// The node that follows; `None`: the call ends. Never set where the act itself chooses or ends the call.
    pub next: Option<NodeName>,
}

/// What a node does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Says a text.
    Say {
        /// The text, with `{name}` for parameters.
        text: Box<str>,
        /// How often.
        repeats: u8,
    },
    /// Plays a recording.
    Play {
        /// Its name.
        media: Box<str>,
        /// How often.
        repeats: u8,
    },
    /// Waits for digits.
    Gather {
        /// The node that follows each input.
        menu: BTreeMap<Box<str>, NodeName>,
        /// The node that follows any other input, or none; `None`: the call ends.
        otherwise: Option<NodeName>,
        /// How many digits.
        digits_max: u8,
        /// How long it waits.
        wait: Duration,
        /// How often it asks again.
        retries: u8,
    },
    /// Chooses by a variable.
    Branch {
        /// The variable.
        variable: Box<str>,
        /// The node for each value.
        cases: BTreeMap<Box<str>, NodeName>,
        /// The node for any other value; `None`: the call ends.
        otherwise: Option<NodeName>,
    },
    /// Sets a tag on the result.
    Tag(Box<str>),
    /// Opts the recipient out.
    OptOut(OptOut),
    /// Connects the call to a number or extension, with `{name}` for parameters.
    Transfer(Box<str>),
    /// Records what the callee says, at most for so long.
    Record(Duration),
    /// Hands in a follow-up job for the same recipient, at once.
    Submit {
        /// By which means.
        kind: Kind,
        /// The template that it uses.
        template: Box<str>,
        /// Values for its placeholders.
        params: BTreeMap<Box<str>, Box<str>>,
    },
    /// Ends the call.
    HangUp,
}

crate::domain::job::words! {
    /// How far an opt-out of a flow reaches.
    OptOut {
        /// The tenant's marketing and notification.
        Brand = "brand",
        /// Everything of the tenant.
        Everything = "everything",
    }
}

/// Something that is wrong with a flow.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// Where: a field of the flow, or of a node as `nodes.menu.gather.wait`.
    pub field: String,
    /// What is wrong, and the way out.
    pub what: String,
}

// === impl Flow ===

impl Flow {
    /// Returns the node that runs when the call is answered.
    pub fn start(&self) -> &str {
        &self.start
    }

    /// Returns a node.
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.get(name)
    }

    /// Returns the nodes by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(name, node)| (&**name, node))
    }

    /// Returns the longest talk time; the call is hung up then.
    pub fn talk_max(&self) -> Duration {
        self.talk_max
    }

    /// Returns the BCP 47 locale of what is said; empty: the recipient's.
    pub fn locale(&self) -> &str {
        &self.locale
    }

    /// Returns the parameters that a job must bring, each once, in order of name. What was pressed at a gather node has
    /// the node's name, so no job brings that.
    pub fn variables(&self) -> Vec<&str> {
        let asked = |name: &str| matches!(self.node(name), Some(Node { act: Act::Gather { .. }, .. }));
        let mut names: Vec<&str> = self.nodes.values().flat_map(|node| node.act.variables()).collect();
        names.retain(|name| !asked(name));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Returns a drawing of the flow as a Mermaid flowchart.
    pub fn to_mermaid(&self) -> String {
        draw::mermaid(self)
    }
}

// === impl Node ===

impl Node {
    /// Returns the nodes that may follow, each with what leads there: an input, a value, or nothing.
    pub fn ways(&self) -> Vec<(&str, &str)> {
        match &self.act {
            Act::Gather { menu, otherwise, .. } => ways(menu, otherwise.as_deref()),
            Act::Branch { cases, otherwise, .. } => ways(cases, otherwise.as_deref()),
            Act::HangUp => vec![],
            Act::Say { .. }
            | Act::Play { .. }
            | Act::Tag(_)
            | Act::OptOut(_)
            | Act::Transfer(_)
            | Act::Record(_)
            | Act::Submit { .. } => self.next.iter().map(|to| ("", &**to)).collect(),
        }
    }
}

fn ways<'a>(cases: &'a BTreeMap<Box<str>, NodeName>, otherwise: Option<&'a str>) -> Vec<(&'a str, &'a str)> {
    let cases = cases.iter().map(|(case, to)| (&**case, &**to));
    cases.chain(otherwise.map(|to| ("otherwise", to))).collect()
}

// === impl Act ===

impl Act {
    /// Returns the word for what it does, as the document has it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Say { .. } => "say",
            Self::Play { .. } => "play",
            Self::Gather { .. } => "gather",
            Self::Branch { .. } => "branch",
            Self::Tag(_) => "tag",
            Self::OptOut(_) => "opt_out",
            Self::Transfer(_) => "transfer",
            Self::Record(_) => "record",
            Self::Submit { .. } => "submit",
            Self::HangUp => "hang_up",
        }
    }

    fn variables(&self) -> Vec<&str> {
        match self {
            Self::Say { text, .. } => text::placeholders(text).collect(),
            Self::Transfer(target) => text::placeholders(target).collect(),
            Self::Branch { variable, .. } => vec![variable],
            Self::Submit { params, .. } => params.values().flat_map(|value| text::placeholders(value)).collect(),
            Self::Play { .. }
            | Self::Gather { .. }
            | Self::Tag(_)
            | Self::OptOut(_)
            | Self::Record(_)
            | Self::HangUp => {
                vec![]
            }
        }
    }
}

// === impl Problem ===

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

#[cfg(test)]
mod tests;
