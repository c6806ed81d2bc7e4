//! Flows as documents: what each holds, and what happens when the next one is asked for.

use roxmltree::{Document, Node};

use super::*;
use crate::channel::call::flow::{Form, parse};
use crate::domain::job::Kind;

fn script(nodes: &str) -> Script {
    let flow = parse(&format!("start = \"a\"\n{nodes}"), Form::Toml).unwrap();
    let params = vec![("name".into(), "Li".into())];
    let manner = Manner {
        language: "zh-CN".into(),
        voice: "".into(),
        media: "https://media.example.com/".into(),
        caller: "+15005550006".into(),
        transcribe: true,
    };
    Script::new(Arc::new(flow), params, manner, "https://x/callback/voice?job=1&attempt=1")
}

/// Returns the verbs of a document, one line for each, with what they hold.
fn verbs(script: &Script) -> Vec<String> {
    let document = Document::parse(script.document()).unwrap();
    fn verb(node: Node<'_, '_>) -> String {
        let inside: Vec<_> = node.children().filter(Node::is_element).map(verb).collect();
        let text = node.text().unwrap_or_default();
        match (node.tag_name().name(), inside.is_empty()) {
            ("Redirect", _) => {
                format!("Redirect {}", text.rsplit("step=").next().unwrap().trim_end_matches(AGAIN))
            }
            (name, true) if text.is_empty() => name.to_owned(),
            (name, true) => format!("{name} {text}"),
            (name, false) => format!("{name}({})", inside.join(", ")),
        }
    }
    document.root_element().children().filter(Node::is_element).map(verb).collect()
}

#[test]
fn a_question_holds_the_prompts_before_it() {
    let mut script = script(
        "[nodes.a]\nsay = { text = \"hello {name}\" }\nnext = \"b\"\n[nodes.b]\nplay = { media = \"menu.mp3\" }\nnext = \"c\"\n\
         [nodes.c.gather]\ndigits_max = 2\nwait = \"7s\"\nmenu = { 1 = \"d\", 22 = \"d\" }\n[nodes.d]\ntag = \"yes\"\n",
    );
    assert!(script.turn(0, "").is_empty());
    assert_eq!(verbs(&script), ["Gather(Say hello Li, Play https://media.example.com/menu.mp3)"]);
    let document = script.document().to_owned();
    for expected in
        ["numDigits=\"2\"", "timeout=\"7\"", "finishOnKey=\"#\"", "step=1#rc=5&amp;rp=all\"", "language=\"zh-CN\""]
    {
        assert!(document.contains(expected), "{expected}: {document}");
    }
    // Asked for again, it is the same, whatever is pressed.
    assert!(script.turn(0, "1").is_empty());
    assert_eq!((script.document(), script.runner().digits()), (&*document, ""));
    script.turn(1, "1");
    assert_eq!(verbs(&script), ["Hangup"]);
    assert_eq!((script.runner().digits(), script.runner().tags()), ("1", &["yes".into()][..]));
    assert!(script.over());
    script.turn(2, "1");
    assert_eq!(script.runner().digits(), "1", "after the end nothing happens");
}

#[test]
fn a_job_is_handed_in_when_what_comes_before_was_heard_and_once() {
    let mut script = script(
        "[nodes.a]\nsay = { text = \"one\" }\nnext = \"b\"\n[nodes.b]\nsay = { text = \"two\" }\nnext = \"c\"\n\
         [nodes.c]\nsubmit = { kind = \"sms\", template = \"link\" }\nnext = \"d\"\n[nodes.d]\nopt_out = \"brand\"\nnext = \"e\"\n\
         [nodes.e]\nsay = { text = \"three\" }\n",
    );
    assert!(script.turn(0, "").is_empty());
    assert_eq!(verbs(&script), ["Say one", "Say two", "Redirect 1"]);
    let effects = script.turn(1, "");
    let [Effect::Submit(follow_up), Effect::OptOut(OptOut::Brand)] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((&*follow_up.from, follow_up.kind, &*follow_up.template), ("c", Kind::Sms, "link"));
    assert_eq!(verbs(&script), ["Say three", "Redirect 2"]);
    assert!(script.turn(1, "").is_empty(), "asked for again, nothing happens twice");
    assert!(script.turn(2, "").is_empty());
    assert_eq!(verbs(&script), ["Hangup"]);
}

#[test]
fn silence_asks_again_and_then_goes_on() {
    let mut script = script(
        "[nodes.a]\nsay = { text = \"menu\" }\nnext = \"b\"\n[nodes.b.gather]\nretries = 1\notherwise = \"c\"\n\
         menu = { 1 = \"d\", \"*\" = \"d\", \"#\" = \"d\" }\n[nodes.c]\nsay = { text = \"nothing\" }\n[nodes.d]\ntag = \"some\"\n",
    );
    script.turn(0, "");
    assert!(script.document().contains("finishOnKey=\"\""), "the menu has a use for it: {}", script.document());
    script.turn(1, "");
    assert_eq!(verbs(&script), ["Gather(Say menu)"]);
    // A key that is not on the menu, after the last retry.
    script.turn(2, "7");
    assert_eq!(verbs(&script), ["Say nothing", "Redirect 3"]);
    assert_eq!(script.runner().digits(), "7");
}

#[test]
fn what_is_entered_ends_with_the_wait() {
    let nodes = "[nodes.a.gather]\ndigits_max = 6\notherwise = \"b\"\n[nodes.b]\nsay = { text = \"you said {a}\" }\n";
    let mut script = script(nodes);
    script.turn(0, "");
    script.turn(1, "042");
    assert_eq!(verbs(&script), ["Say you said 042", "Redirect 2"]);
}

#[test]
fn keys_pressed_ahead_answer_the_next_question() {
    let mut script = script(
        "[nodes.a.gather]\ndigits_max = 2\nmenu = { 1 = \"b\" }\n[nodes.b]\nsay = { text = \"and\" }\nnext = \"c\"\n\
         [nodes.c.gather]\nmenu = { 5 = \"d\" }\n[nodes.d]\ntag = \"five\"\n",
    );
    script.turn(0, "");
    script.turn(1, "15");
    assert_eq!((verbs(&script), script.runner().tags()), (vec!["Hangup".to_owned()], &["five".into()][..]));
}

#[test]
fn a_recording_and_a_transfer_ask_when_they_are_over() {
    let mut script = script(
        "[nodes.a]\nsay = { text = \"speak\" }\nnext = \"b\"\n[nodes.b]\nrecord = { length_max = \"20s\" }\nnext = \"c\"\n\
         [nodes.c]\ntransfer = \"+8610{name}\"\nnext = \"d\"\n[nodes.d]\ntransfer = \"+861050\"\nnext = \"e\"\n\
         [nodes.e]\ntag = \"after\"\n",
    );
    script.turn(0, "");
    assert_eq!(verbs(&script), ["Say speak", "Record", "Redirect 1"]);
    assert!(script.document().contains("maxLength=\"20\"") && script.document().contains("transcribe=\"true\""));
    script.turn(1, "");
    assert_eq!(verbs(&script), ["Redirect 2"], "a name is nothing to dial");
    script.turn(2, "");
    assert_eq!(verbs(&script), ["Dial(Number +861050)"]);
    assert!(script.document().contains("callerId=\"+15005550006\""));
    script.turn(3, "");
    assert_eq!((verbs(&script), script.runner().tags()), (vec!["Hangup".to_owned()], &["after".into()][..]));
}

#[test]
fn a_tag_waits_until_what_comes_before_it_was_heard() {
    let mut script = script(
        "[nodes.a]\nsay = { text = \"one\" }\nnext = \"b\"\n[nodes.b]\ntag = \"heard\"\nnext = \"c\"\n\
         [nodes.c]\nsay = { text = \"two\" }\n",
    );
    script.turn(0, "");
    assert_eq!(
        (verbs(&script), script.runner().tags().len()),
        (vec!["Say one".to_owned(), "Redirect 1".to_owned()], 0)
    );
    script.turn(1, "");
    assert_eq!(
        (verbs(&script), script.runner().tags().len()),
        (vec!["Say two".to_owned(), "Redirect 2".to_owned()], 1)
    );
}

#[test]
fn long_talks_are_cut_into_documents() {
    let text = "x".repeat(1_000);
    let nodes: String = (0..12)
        .map(|at| format!("[nodes.n{at}]\nsay = {{ text = \"{text}\", repeats = 5 }}\nnext = \"n{}\"\n", at + 1))
        .collect();
    let flow = format!("start = \"n0\"\n{nodes}[nodes.n12]\nhang_up = {{}}\n");
    let flow = parse(&flow, Form::Toml).unwrap();
    let manner =
        Manner { language: "".into(), voice: "".into(), media: "".into(), caller: "".into(), transcribe: false };
    let mut script = Script::new(Arc::new(flow), vec![], manner, "https://x/?a=1");
    let mut says = 0;
    for step in 0.. {
        script.turn(step, "");
        assert!(script.document().len() < 32 * 1024);
        says += verbs(&script).iter().filter(|verb| verb.starts_with("Say")).count();
        if script.over() {
            break;
        }
    }
    assert_eq!(says, 60);
}
