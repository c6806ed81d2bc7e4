//! The tables of settings as people read them.

use std::fmt::Write as _;

use super::tree::{CAP, EXTENSION, Entry, ROUTE, Tree, entries, provider_document, variable};

/// Returns the table of settings for the README, in Markdown.
pub fn reference() -> String {
    let mut text = String::from("| setting | environment | default | meaning |\n|---|---|---|---|\n");
    for (entry, _, _) in Tree::defaults().values() {
        let variable = variable(&entry.key);
        let _infallible = writeln!(text, "| `{}` | `{variable}` | {} | {} |", entry.key, default(entry), entry.help);
    }
    text
}

/// Returns the table of a provider's settings for the README, in Markdown; empty for a kind that there is not.
pub fn provider_reference(kind: &str) -> String {
    table(provider_document(kind).map(entries).unwrap_or_default())
}

/// Returns the table of a cap's settings for the README, in Markdown.
pub fn cap_reference() -> String {
    table(entries(CAP))
}

/// Returns the table of a route's settings for the README, in Markdown.
pub fn route_reference() -> String {
    table(entries(ROUTE))
}

/// Returns the table of an extension's settings for the README, in Markdown.
pub fn extension_reference() -> String {
    table(entries(EXTENSION))
}

fn table(entries: Vec<Entry>) -> String {
    let mut text = String::from("| setting | default | meaning |\n|---|---|---|\n");
    for entry in entries {
        let _infallible = writeln!(text, "| `{}` | {} | {} |", entry.key, default(&entry), entry.help);
    }
    text
}

fn default(entry: &Entry) -> String {
    match entry.default.as_str() {
        Some("") => String::new(),
        None if entry.default.as_integer() == Some(-1) => String::new(),
        _ => format!("`{}`", entry.default),
    }
}
