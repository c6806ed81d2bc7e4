//! The form in which people write flows: TOML or JSON, the same fields in both.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Flow, Problem, check};

/// Which form a document has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

/// Most bytes of a document.
pub const BYTES_MAX: usize = 256 * 1024;

/// Reads and checks a flow.
///
/// # Errors
/// Everything that is wrong with it, in order of the fields.
pub fn parse(text: &str, form: Form) -> Result<Flow, Vec<Problem>> {
    let whole = |what: String| vec![Problem { field: "document".into(), what }];
    if text.len() > BYTES_MAX {
        return Err(whole(format!("has {} bytes, at most {BYTES_MAX} are allowed", text.len())));
    }
    let document: Document = match form {
        Form::Toml => toml::from_str(text).map_err(|error| whole(error.to_string()))?,
        Form::Json => serde_json::from_str(text).map_err(|error| whole(error.to_string()))?,
    };
    check::flow(document)
}

/// A flow as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    #[serde(default)]
    pub(super) start: String,
    #[serde(default)]
    pub(super) nodes: BTreeMap<String, Node>,
    pub(super) talk_max: Option<String>,
    #[serde(default)]
    pub(super) locale: String,
}

/// A node as it is written: one act, and what follows.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) say: Option<Say>,
    pub(super) play: Option<Play>,
    pub(super) gather: Option<Gather>,
    pub(super) branch: Option<Branch>,
    pub(super) tag: Option<String>,
    pub(super) opt_out: Option<String>,
    pub(super) transfer: Option<String>,
    pub(super) record: Option<Record>,
    pub(super) submit: Option<Submit>,
    pub(super) hang_up: Option<HangUp>,
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Say {
    pub(super) text: String,
    pub(super) repeats: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Play {
    pub(super) media: String,
    pub(super) repeats: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gather {
    #[serde(default)]
    pub(super) menu: BTreeMap<String, String>,
    pub(super) otherwise: Option<String>,
    pub(super) digits_max: Option<u32>,
    pub(super) wait: Option<String>,
    pub(super) retries: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Branch {
    pub(super) variable: String,
    #[serde(default)]
    pub(super) cases: BTreeMap<String, String>,
    pub(super) otherwise: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    pub(super) length_max: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Submit {
    pub(super) kind: String,
    pub(super) template: String,
    #[serde(default)]
    pub(super) params: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HangUp {}
