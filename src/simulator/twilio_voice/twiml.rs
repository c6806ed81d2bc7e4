//! Documents as a simulated Twilio reads them: every verb that it knows, checked as Twilio checks it. Pure.

use std::time::Duration;

use roxmltree::{Document, Node, ParsingOptions};

/// Something that a document says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Say(String),
    Play(String),
    Gather {
        action: String,
        most: usize,
        wait: Duration,
        /// The key that ends the input; `None`: none does.
        finish: Option<char>,
        /// Whether the action is asked for even if nothing was pressed.
        empty: bool,
        prompts: Vec<Verb>,
    },
    Record {
        action: String,
    },
    Dial {
        number: String,
        action: String,
    },
    Redirect(String),
    Hangup,
}

/// Reads a document.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(text: &str) -> Result<Vec<Verb>, String> {
    let options = ParsingOptions { allow_dtd: false, nodes_limit: 2_000, ..ParsingOptions::default() };
    let document = Document::parse_with_options(text, options).map_err(|error| format!("12100 {error}"))?;
    let root = document.root_element();
    if !root.has_tag_name("Response") {
        return Err("12102 no Response".into());
    }
    root.children().filter(Node::is_element).map(verb).collect()
}

fn verb(node: Node<'_, '_>) -> Result<Verb, String> {
    let text = || node.text().unwrap_or_default().to_owned();
    let attribute = |name: &str| node.attribute(name).unwrap_or_default().to_owned();
    let known = |names: &[&str]| match node.attributes().find(|found| !names.contains(&found.name())) {
        Some(unknown) => Err(format!("12200 {} has no {}", node.tag_name().name(), unknown.name())),
        None => Ok(()),
    };
    let number = |name: &str, usual: u64| {
        node.attribute(name).map_or(Ok(usual), |text| text.parse().map_err(|_| format!("12200 {name}")))
    };
    match node.tag_name().name() {
        "Say" => known(&["language", "voice", "loop"]).map(|()| Verb::Say(text())),
        "Play" => known(&["loop", "digits"]).map(|()| Verb::Play(text())),
        "Redirect" => known(&["method"]).map(|()| Verb::Redirect(text())),
        "Hangup" => known(&[]).map(|()| Verb::Hangup),
        "Record" => {
            known(&["action", "method", "maxLength", "timeout", "finishOnKey", "playBeep", "transcribe"])?;
            Ok(Verb::Record { action: attribute("action") })
        }
        "Dial" => {
            known(&["callerId", "timeout", "action", "method"])?;
            let number = node.children().find(|child| child.has_tag_name("Number")).and_then(|number| number.text());
            Ok(Verb::Dial { number: number.unwrap_or_default().to_owned(), action: attribute("action") })
        }
        "Gather" => {
            known(&["input", "action", "method", "actionOnEmptyResult", "numDigits", "timeout", "finishOnKey"])?;
            let prompts = node.children().filter(Node::is_element).map(verb).collect::<Result<Vec<_>, _>>()?;
            if prompts.iter().any(|prompt| !matches!(prompt, Verb::Say(_) | Verb::Play(_))) {
                return Err("12200 only prompts stand in Gather".into());
            }
            Ok(Verb::Gather {
                action: attribute("action"),
                most: usize::try_from(number("numDigits", 100)?).unwrap_or(usize::MAX),
                wait: Duration::from_secs(number("timeout", 5)?),
                finish: node.attribute("finishOnKey").map_or(Some('#'), |key| key.chars().next()),
                empty: node.attribute("actionOnEmptyResult") == Some("true"),
                prompts,
            })
        }
        other => Err(format!("12200 {other} is no verb")),
    }
}
