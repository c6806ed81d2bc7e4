//! Every setting with its value and where it came from.

use std::fmt::Write as _;

use toml::Value;

use super::secret::ServerUrl;
use super::tree::{CAP, EXTENSION, Origin, ROUTE, Tree, entries, variable};

/// Settings whose values are shown to nobody.
const SECRETS: &[&str] = &["password", "auth_token", "access_key_secret", "secret_key", "secret", "callback_token"];

pub(super) fn settings(tree: &Tree) -> String {
    let (mut text, mut section) = (String::new(), "");
    for (entry, value, origin) in tree.values() {
        let (inside, name) = entry.key.rsplit_once('.').unwrap_or(("", &entry.key));
        if inside != section {
            let _infallible = writeln!(text, "\n[{inside}]");
            section = inside;
        }
        let origin = match origin {
            Origin::Default => "default".to_owned(),
            Origin::File => "file".to_owned(),
            Origin::Environment => variable(&entry.key),
        };
        let _infallible = writeln!(text, "{name} = {} # {origin}", masked(name, value));
    }
    // What does not hold is said by `config check`.
    for (window, origin) in tree.windows().unwrap_or_default() {
        let origin = if origin == Origin::Default { "default" } else { "file" };
        let _infallible = writeln!(text, "\n[[window]] # {origin}");
        window.iter().for_each(|(name, value)| {
            let _infallible = writeln!(text, "{name} = {value}");
        });
    }
    for (name, document, tables) in
        [("cap", CAP, tree.caps()), ("route", ROUTE, tree.routes()), ("extension", EXTENSION, tree.extensions())]
    {
        for table in tables {
            let _infallible = writeln!(text, "\n[[{name}]]");
            for entry in entries(document) {
                let value = table.get(&entry.key).unwrap_or(&entry.default);
                if *value != entry.default {
                    let _infallible = writeln!(text, "{} = {value} # file", entry.key);
                }
            }
        }
    }
    for (document, provider) in tree.providers() {
        let _infallible = writeln!(text, "\n[[provider]]");
        for entry in entries(document) {
            let value = provider.get(&entry.key).unwrap_or(&entry.default);
            let origin = if *value == entry.default && entry.key != "kind" { "default" } else { "file" };
            let _infallible = writeln!(text, "{} = {} # {origin}", entry.key, masked(&entry.key, value));
        }
    }
    text
}

fn masked(name: &str, value: &Value) -> String {
    match (name, value) {
        (name, Value::String(text)) if SECRETS.contains(&name) && !text.is_empty() => "\"***\"".to_owned(),
        ("url", Value::String(text)) => Value::String(ServerUrl::new(text).to_string()).to_string(),
        _ => value.to_string(),
    }
}
