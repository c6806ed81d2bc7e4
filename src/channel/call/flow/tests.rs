//! Flows as people write them, right and wrong.

use super::*;

const ORDER: &str = r##"
start = "hello"
talk_max = "2m"
locale = "zh-CN"

[nodes.hello]
say = { text = "您好 {name}，订单 {order} 已发货。确认请按1，退订请按2。", repeats = 2 }
next = "menu"

[nodes.menu]
gather = { menu = { "1" = "link", "2" = "stop", "#" = "agent" }, otherwise = "bye", wait = "6s", retries = 1 }

[nodes.link]
submit = { kind = "sms", template = "order-link", params = { order = "{order}" } }
next = "confirmed"

[nodes.confirmed]
tag = "confirmed"
next = "bye"

[nodes.stop]
opt_out = "brand"
next = "bye"

[nodes.agent]
transfer = "{desk}"

[nodes.bye]
say = { text = "谢谢，再见" }
next = "end"

[nodes.end]
hang_up = {}
"##;

#[track_caller]
fn wrong(text: &str, expected: &[&str]) {
    let problems = parse(text, Form::Toml).unwrap_err();
    let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), expected.len(), "{said:#?}");
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.contains(expected), "`{said}` does not say `{expected}`");
    }
}

#[test]
fn a_flow_knows_its_nodes_ways_and_variables() {
    let flow = parse(ORDER, Form::Toml).unwrap();
    assert_eq!((flow.start(), flow.talk_max(), flow.locale()), ("hello", Duration::from_secs(120), "zh-CN"));
    assert_eq!(flow.nodes().count(), 8);
    assert_eq!(flow.variables(), ["desk", "name", "order"]);
    let menu = flow.node("menu").unwrap();
    assert_eq!(menu.ways(), [("#", "agent"), ("1", "link"), ("2", "stop"), ("otherwise", "bye")]);
    let Act::Gather { digits_max: 1, wait, retries: 1, .. } = menu.act else { panic!("{menu:?}") };
    assert_eq!(wait, Duration::from_secs(6));
}

#[test]
fn json_says_the_same_as_toml() {
    let value: toml::Table = ORDER.parse().unwrap();
    let json = serde_json::to_string(&value).unwrap();
    assert_eq!(parse(&json, Form::Json), parse(ORDER, Form::Toml));
}

#[test]
fn the_drawing_has_every_node_and_way() {
    let drawing = parse(ORDER, Form::Toml).unwrap().to_mermaid();
    // agent, bye, confirmed, end, hello, link, menu, stop: numbered in order of name.
    assert!(drawing.starts_with("flowchart TD\n"));
    for line in [
        "answered --> n5",
        "n7{\"menu<br/>gather 1 within 6s, asked up to 2 times\"}",
        "n7 -- \"#35;\" --> n1",
        "n7 -- \"otherwise\" --> n2",
        "n6[[\"link<br/>submit sms: order-link\"]]",
        "n1 --> ended",
        "n4 --> ended",
    ] {
        assert!(drawing.lines().any(|found| found.trim() == line), "no line `{line}` in\n{drawing}");
    }
}

#[test]
fn a_text_cannot_break_out_of_the_drawing() {
    let flow = "start = \"a\"\n[nodes.a]\nsay = { text = '\"]; click a \"javascript:x\" <b>' }\n";
    let drawing = parse(flow, Form::Toml).unwrap().to_mermaid();
    let line = drawing.lines().find(|line| line.contains("n1[")).unwrap();
    assert_eq!(line.matches('"').count(), 2, "{line}");
    assert!(!line.contains("<b>"));
}

#[test]
fn every_problem_is_named_with_its_field() {
    wrong("", &["nodes: a flow has 1 to 64 nodes, this one has 0"]);
    wrong(
        "start = \"a\"\n[nodes.a]\nsay = { text = 'x' }\nnext = 'b'\n",
        &["nodes.a.next: leads to `b`, which is no node"],
    );
    wrong("start = 'b'\n[nodes.a]\nhang_up = {}\n", &["start: names `b`, which is no node"]);
    wrong("start = 'a'\n[nodes.a]\n", &["nodes.a: a node does one thing"]);
    wrong("start = 'a'\n[nodes.a]\ntag = 'x'\nhang_up = {}\n", &["this one has tag and hang_up"]);
    wrong("start = 'a'\n[nodes.a]\nhang_up = {}\nnext = 'a'\n", &["nodes.a.next: is not used by hang_up"]);
    wrong("start = 'a'\n[nodes.a]\nhang_up = {}\n[nodes.b]\nhang_up = {}\n", &["nodes.b: nothing leads here"]);
    wrong("start = 'a'\ncolour = 'red'\n", &["document: "]);
    wrong(
        "start = 'a'\ntalk_max = '2h'\n[nodes.a]\nsay = { text = '', repeats = 6 }\n",
        &[
            "nodes.a.say.repeats: must be 1 to 5, is 6",
            "nodes.a.say.text: must have 1 to 1000",
            "talk_max: must be 1s to 1h",
        ],
    );
    wrong(
        "start = 'a'\n[nodes.a]\ngather = { menu = { '12' = 'a', 'x' = 'a' }, wait = 'long', retries = 9 }\n",
        &["`12` can never be entered", "`x` can never be entered", "retries: must be 0 to 5", "`long` is no duration"],
    );
    wrong(
        "start = 'a'\n[nodes.a]\nplay = { media = '../../etc/passwd' }\n",
        &["nodes.a.play.media: names a recording below"],
    );
    wrong("start = 'a'\n[nodes.a]\nopt_out = 'world'\n", &["nodes.a.opt_out: is `brand` or `everything`"]);
    wrong(
        "start = 'a'\n[nodes.a]\nsubmit = { kind = 'fax', template = '' }\n",
        &["submit.kind: is sms", "submit.template"],
    );
    wrong("start = 'a'\n[nodes.'a b']\nhang_up = {}\n", &["nodes.a b: a node's name"]);
}

#[test]
fn a_circle_is_shown_and_a_long_way_refused() {
    wrong(
        "start = 'a'\n[nodes.a]\ntag = 'x'\nnext = 'b'\n[nodes.b]\ngather = { menu = { '1' = 'a' } }\n",
        &["nodes.a: leads round in a circle (a → b → a)"],
    );
    let chain = |length: usize| {
        let mut text = String::from("start = 'n1'\n");
        for number in 1..length {
            text += &format!("[nodes.n{number}]\ntag = 'x'\nnext = 'n{}'\n", number + 1);
        }
        text + &format!("[nodes.n{length}]\nhang_up = {{}}\n")
    };
    assert!(parse(&chain(DEPTH_MAX), Form::Toml).is_ok());
    wrong(&chain(DEPTH_MAX + 1), &["the longest way through has 17 nodes"]);
    wrong(&chain(NODES_MAX + 1), &["nodes: a flow has 1 to 64 nodes, this one has 65"]);
}
