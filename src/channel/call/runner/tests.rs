//! Calls through flows, key by key; and any flow with any events ends within its bounds.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::flow::{Form, parse};
use super::*;

const ORDER: &str = r##"
start = "hello"

[nodes.hello]
say = { text = "Hello {name}", repeats = 2 }
next = "ask"

[nodes.ask]
say = { text = "Press 1 for a link, 2 to opt out" }
next = "menu"

[nodes.menu]
gather = { menu = { "1" = "link", "2" = "stop", "9" = "desk", "30" = "pin" }, otherwise = "bye", digits_max = 2, wait = "6s", retries = 1 }

[nodes.link]
submit = { kind = "sms", template = "order-link", params = { text = "for {name}: {menu}" } }
next = "marked"

[nodes.marked]
tag = "confirmed"
next = "bye"

[nodes.stop]
opt_out = "brand"
next = "bye"

[nodes.desk]
transfer = "{desk}"
next = "bye"

[nodes.pin]
gather = { digits_max = 4, wait = "3s", otherwise = "known", retries = 2 }

[nodes.known]
branch = { variable = "pin", cases = { "1234" = "record" }, otherwise = "bye" }

[nodes.record]
record = { length_max = "30s" }
next = "bye"

[nodes.bye]
say = { text = "Bye" }
"##;

fn runner() -> Runner {
    let flow = Arc::new(parse(ORDER, Form::Toml).unwrap());
    let params = [("desk", "+8602012345678"), ("name", "Li")].map(|(name, value)| (name.into(), value.into()));
    Runner::new(flow, params.into())
}

/// Plays events, each with what must follow.
#[track_caller]
fn play(events: &[(Event, &[Command])]) -> Runner {
    let mut runner = runner();
    for (number, (event, expected)) in events.iter().enumerate() {
        assert_eq!(runner.take(event.clone()), *expected, "event {number}: {event:?}");
    }
    runner
}

fn say(text: &str) -> Command {
    Command::Say(text.into())
}

fn wait(timer: u32, secs: u64) -> Command {
    Command::Wait(timer, Duration::from_secs(secs))
}

/// To the end of the prompts, where the menu waits with timer 1.
fn asked() -> Vec<(Event, Vec<Command>)> {
    vec![
        (Event::Answered, vec![say("Hello Li")]),
        (Event::Prompted, vec![say("Hello Li")]),
        (Event::Prompted, vec![say("Press 1 for a link, 2 to opt out")]),
        (Event::Prompted, vec![wait(1, 6)]),
    ]
}

#[track_caller]
fn then(more: &[(Event, &[Command])]) -> Runner {
    let asked = asked();
    let mut events: Vec<_> = asked.iter().map(|(event, commands)| (event.clone(), &commands[..])).collect();
    events.extend(more.iter().cloned());
    play(&events)
}

fn link() -> Command {
    let params = [("text", "for Li: 1"), ("desk", "+8602012345678"), ("name", "Li"), ("menu", "1")];
    let params = params.map(|(name, value)| (name.into(), value.into())).into();
    Command::Submit(FollowUp { from: "link".into(), kind: Kind::Sms, template: "order-link".into(), params })
}

#[test]
fn a_key_leads_where_the_menu_says() {
    let runner = then(&[(Event::Key('1'), &[link(), say("Bye")]), (Event::Prompted, &[Command::HangUp])]);
    assert_eq!((runner.digits(), runner.tags(), runner.ended()), ("1", &["confirmed".into()][..], true));
    then(&[(Event::Key('2'), &[Command::OptOut(OptOut::Brand), say("Bye")])]);
    then(&[
        (Event::Key('9'), &[Command::Transfer("+8602012345678".into())]),
        (Event::Key('5'), &[]),
        (Event::Transferred, &[say("Bye")]),
    ]);
}

#[test]
fn a_key_during_the_prompts_answers_at_once() {
    play(&[
        (Event::Answered, &[say("Hello Li")]),
        (Event::Key('1'), &[Command::StopPrompt]),
        (Event::Prompted, &[link(), say("Bye")]),
        (Event::Key('7'), &[]),
        (Event::Prompted, &[Command::HangUp]),
    ]);
}

#[test]
fn a_wrong_key_or_silence_asks_again_and_then_goes_on() {
    let again = [say("Hello Li")];
    let second = [say("Press 1 for a link, 2 to opt out")];
    then(&[
        (Event::TimeUp(1), &again),
        (Event::Prompted, &second),
        (Event::TimeUp(1), &[]),
        (Event::Prompted, &[wait(2, 6)]),
        (Event::TimeUp(1), &[]),
        (Event::TimeUp(2), &[say("Bye")]),
    ]);
    // 3 may become 30; 31 is nothing.
    then(&[
        (Event::Key('3'), &[wait(2, 6)]),
        (Event::Key('1'), &again),
        (Event::Key('2'), &[Command::StopPrompt]),
        (Event::Prompted, &[Command::OptOut(OptOut::Brand), say("Bye")]),
    ]);
}

#[test]
fn what_is_entered_is_a_variable() {
    let pin = [(Event::Key('3'), &[wait(2, 6)][..]), (Event::Key('0'), &[wait(3, 3)])];
    let entered = |keys: &str, last: Command| {
        let (mut events, last) = (pin.to_vec(), [last]);
        let waits: Vec<_> = (4..).take(keys.len()).map(|timer| [wait(timer, 3)]).collect();
        for (place, key) in keys.chars().enumerate() {
            events.push((Event::Key(key), if place + 1 == keys.len() { &last } else { &waits[place] }));
        }
        then(&events)
    };
    entered("1234", Command::Record(Duration::from_secs(30)));
    entered("99#", say("Bye"));
}

#[test]
fn a_call_that_breaks_off_ends() {
    for event in [Event::HungUp, Event::Failed] {
        let mut runner = runner();
        runner.take(Event::Answered);
        let commands = runner.take(event.clone());
        assert_eq!(commands.contains(&Command::HangUp), event == Event::Failed);
        assert!(runner.ended() && runner.take(Event::Prompted).is_empty());
    }
}

/// A flow of `nodes`, each drawn from a number, that only leads forward.
fn drawn(acts: &[u8]) -> Flow {
    let last = acts.len() - 1;
    let next = |place: usize, step: usize| format!("n{}", (place + step).min(last));
    let mut text = String::from("start = \"n0\"\n");
    for (place, act) in acts.iter().enumerate() {
        let (one, two) = (next(place, 1), next(place, 2));
        let body = match act % 8 {
            _ if place == last => "hang_up = {}".to_owned(),
            0 => format!("say = {{ text = \"x\", repeats = 5 }}\nnext = \"{one}\""),
            1 => format!(
                "gather = {{ menu = {{ \"1\" = \"{one}\", \"22\" = \"{two}\" }}, otherwise = \"{one}\", digits_max = 3, retries = 5 }}"
            ),
            2 => format!("gather = {{ digits_max = 4, otherwise = \"{one}\", retries = 3 }}"),
            3 => format!("branch = {{ variable = \"n0\", cases = {{ \"1\" = \"{two}\" }}, otherwise = \"{one}\" }}"),
            4 => format!("submit = {{ kind = \"sms\", template = \"t\" }}\nnext = \"{one}\""),
            5 => format!("transfer = \"100\"\nnext = \"{one}\""),
            6 => format!("record = {{ length_max = \"9s\" }}\nnext = \"{one}\""),
            _ => format!("play = {{ media = \"m\", repeats = 3 }}\nnext = \"{one}\""),
        };
        text.push_str(&format!("[nodes.n{place}]\n{body}\n"));
    }
    parse(&text, Form::Toml).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"))
}

proptest! {
    #[test]
    fn every_call_ends_and_submits_at_most_once_a_node(
        acts in prop::collection::vec(any::<u8>(), 2..12),
        keys in prop::collection::vec((any::<bool>(), 0_usize..12), 0..400),
    ) {
        let flow = Arc::new(drawn(&acts));
        let mut runner = Runner::new(Arc::clone(&flow), vec![]);
        let mut commands = runner.take(Event::Answered);
        let (mut submitted, mut keys, mut answers) = (BTreeMap::<_, u32>::new(), keys.into_iter(), 0);
        while let Some(last) = commands.last().cloned() {
            for command in &commands {
                if let Command::Submit(follow_up) = command {
                    *submitted.entry(follow_up.from.clone()).or_default() += 1;
                }
            }
            prop_assert!(commands.iter().filter(|command| **command == Command::HangUp).count() <= 1);
            // Each asking has one answer; keys come in between as they like.
            let answer = match last {
                Command::HangUp => break,
                Command::Say(_) | Command::Play(_) | Command::StopPrompt => Event::Prompted,
                Command::Wait(timer, _) => Event::TimeUp(timer),
                Command::Record(_) => Event::Recorded,
                Command::Transfer(_) => Event::Transferred,
                Command::OptOut(_) | Command::Submit(_) => unreachable!("nothing waits for these"),
            };
            answers += 1;
            prop_assert!(answers < 5_000, "it goes on and on");
            if let Some((true, key)) = keys.next() {
                let pressed = runner.take(Event::Key("1234567890*#".chars().nth(key).unwrap()));
                if !pressed.is_empty() {
                    // It answers what was asked, so what was asked for is over.
                    commands = pressed;
                    continue;
                }
            }
            commands = runner.take(answer);
        }
        prop_assert!(runner.ended());
        prop_assert!(submitted.values().all(|&times| times == 1), "{submitted:?}");
    }
}
