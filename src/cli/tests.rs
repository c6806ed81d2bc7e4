//! Command lines, parsed.

use clap::{CommandFactory as _, Parser};

use super::args::{Address, Cap, Fallback, InvalidArg, Moment};
use super::*;

#[derive(Parser)]
#[command(name = "postrider")]
struct Root {
    #[command(subcommand)]
    command: Command,
}

#[track_caller]
fn parses(line: &str, expected: bool) {
    let words = line.split_whitespace();
    let parsed = Root::try_parse_from(words);
    assert_eq!(parsed.is_ok(), expected, "{line}: {:?}", parsed.err().map(|error| error.to_string()));
}

#[test]
fn the_commands_hold_together() {
    Root::command().debug_assert();
}

#[test]
fn command_lines_of_the_manual_parse() {
    parses("postrider submit sms --to +8613800000000 --text hello --json", true);
    parses("postrider submit sms --to +1 --to +2 --text x --class otp --at +2h --priority -5", true);
    parses("postrider submit template --template t --to wechat:wx1/o1 --endpoint http://h:1 --key pr_x", true);
    parses("postrider submit sms --template t --to +1 --param a=b", true);
    parses(
        "postrider submit template --template t --to wechat:wx1/o1,+1 --fallback sms:10m=hi --fallback call=f",
        true,
    );
    parses("postrider template put a.toml b.json", true);
    parses("postrider template preview t --kind call --param a=b --locale en", true);
    parses("postrider template get t --version 3 --json", true);
    parses("postrider job get x --json", true);
    parses("postrider job cancel a b c", true);
    parses("postrider job cancel --campaign spring", true);
    parses("postrider job cancel --campaign spring --class marketing --accepted-from 2026-12-24T00:00:00+08:00", true);
    parses("postrider job cancel --all", true);
    parses("postrider job reschedule --cancel-key k --at +1h --expires +2h", true);
    parses("postrider job reschedule a b --at +0s --json", true);
    parses("postrider job explain x --json", true);
    parses("postrider job list --kind sms --class otp --limit 5", true);
    parses("postrider rehearse sms --to +8613800000000 --text hello --each --json", true);
    parses("postrider rehearse call --flow f --to-file numbers.txt --at +2h", true);
    parses("postrider job watch --from-start", true);
    parses("postrider tenant set acme --cap daily=3/24h,drop --rate 10/s:20", true);
    parses("postrider key create --tenant acme --role admin", true);
    parses("postrider suppress check +8613800000000", true);
    parses("postrider stats --from 2026-01-01T00:00:00Z", true);
    parses("postrider clock advance 30d", true);
    parses("postrider flow check a.toml b.json --json", true);
    parses("postrider flow draw", false);
    parses("postrider provider list", true);
    parses("postrider completions bash", true);
}

#[test]
fn wrong_command_lines_do_not() {
    parses("postrider submit sms --text hello", false);
    parses("postrider submit sms --to 49151 --text hello", false);
    parses("postrider submit sms --to +1", false);
    parses("postrider submit sms --to +1 --text x --template t", false);
    parses("postrider submit sms --to +1 --text x --fallback fax:10m=x", false);
    parses("postrider submit sms --to +1 --text x --fallback sms:soon=x", false);
    parses("postrider submit sms --to +1 --text x --fallback sms:10m", false);
    parses("postrider submit fax --to +1 --text hello", false);
    parses("postrider job cancel", false);
    parses("postrider job cancel x --campaign a", false);
    parses("postrider job reschedule --campaign a", false);
    parses("postrider job reschedule --at +1h", false);
    parses("postrider rehearse sms --text x", false);
    parses("postrider job watch --from-start --resume x", false);
    parses("postrider tenant set acme --rate 10 --no-rate", false);
    parses("postrider clock advance soon", false);
}

#[test]
fn addresses_reach_their_field() {
    let parse = |raw: &str| raw.parse::<Address>().map(|Address(recipient)| recipient);
    assert_eq!(parse("+491511").unwrap().phone, "+491511");
    assert_eq!(parse("wechat:wx/o").unwrap().wechat[0].openid, "o");
    assert_eq!(parse("wecom:c/u").unwrap().wecom.unwrap().external_userid, "u");
    assert_eq!(parse("chat:g").unwrap().wecom_chat_id, "g");
    assert_eq!(parse("user:u").unwrap().wecom_userid, "u");
    let both = parse("wechat:wx/o,+491511").unwrap();
    assert_eq!((both.phone.as_str(), both.wechat.len()), ("+491511", 1));
    for raw in ["", "491511", "wechat:o", "mail:a@b", "+491511,", "+491511,+491512"] {
        assert_eq!(parse(raw).err(), Some(InvalidArg::Address), "{raw}");
    }
}

#[test]
fn steps_read_like_people_write_them() {
    use crate::pb::fallback_step::Content;
    let parse = |raw: &str| raw.parse::<Fallback>().map(|Fallback(step)| (step.content.unwrap(), step.after));
    let secs = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    let text = |text: &str, template: &str| {
        Content::Sms(crate::pb::SmsContent { text: text.into(), template: template.into() })
    };
    assert_eq!(parse("sms:10m=1+1=2").unwrap(), (text("1+1=2", ""), secs(600)));
    assert_eq!(parse("sms-template:1h=order").unwrap(), (text("", "order"), secs(3_600)));
    let (template, after) = parse("template=order").unwrap();
    assert!(matches!(template, Content::Template(template) if template.template == "order"));
    assert_eq!(after, None);
    assert!(matches!(parse("call:30m=flow").unwrap().0, Content::Call(_)));
    for raw in ["sms", "fax=x", "sms:later=x", "=x"] {
        assert_eq!(parse(raw).err(), Some(InvalidArg::Fallback), "{raw}");
    }
}

#[test]
fn caps_read_like_people_write_them() {
    let Cap(cap) = "daily=3/24h,drop,class=marketing,kind=sms,topic=sale".parse().unwrap();
    let filter = cap.filter.clone().unwrap();
    assert_eq!((cap.name.as_str(), cap.limit, cap.on_limit()), ("daily", 3, crate::pb::OnLimit::Drop));
    assert_eq!((filter.classes.len(), filter.kinds.len(), filter.topics.len()), (1, 1, 1));
    let Cap(cap) = "hourly=5/clock hour +08:00,shadow,per=recipient+sender,reserve=2".parse().unwrap();
    assert_eq!(
        (cap.mode(), cap.per(), cap.reserve),
        (crate::pb::RuleMode::Shadow, crate::pb::CapPer::RecipientSender, 2)
    );
    assert_eq!(cap.window.unwrap().clock_offset_minutes, 480);
    let Cap(cap) = "tries=3/calendar day,attempted,per=recipient+campaign,kind=call".parse().unwrap();
    assert_eq!((cap.count(), cap.per()), (crate::pb::CapCount::Attempted, crate::pb::CapPer::RecipientCampaign));
    let Cap(cap) = "preset=aliyun-sms,sender=Acme".parse().unwrap();
    assert_eq!((cap.preset.as_str(), cap.name.as_str(), &*cap.filter.unwrap().senders[0]), ("aliyun-sms", "", "Acme"));
    let error = |raw: &str| raw.parse::<Cap>().unwrap_err();
    assert_eq!(error("daily"), InvalidArg::Cap);
    assert_eq!(error("daily=3/soon"), InvalidArg::Cap);
    assert_eq!(error("daily=3/24h,class=urgent"), InvalidArg::CapOption("class=urgent".into()));
    // What it says can be written can be, and what can be it says.
    let said = error("daily=3/24h,often").to_string();
    let options = said.rsplit_once("use ").unwrap().1.replace(" or ", ", ");
    let plain: Vec<_> = options.split(", ").filter(|option| !option.ends_with('=')).collect();
    assert_eq!(plain, ["defer", "drop", "shadow", "segments", "delivered", "attempted"]);
    for option in plain {
        assert!(format!("daily=3/24h,{option}").parse::<Cap>().is_ok(), "{option}");
    }
}

#[test]
fn moments_are_absolute_or_from_now() {
    let now = prost_types::Timestamp { seconds: 1_000, nanos: 5 };
    let resolve = |raw: &str| raw.parse::<Moment>().map(|moment| moment.resolve(now).seconds);
    assert_eq!(resolve("+90m"), Ok(1_000 + 90 * 60));
    assert_eq!(resolve("1970-01-01T00:01:00Z"), Ok(60));
    assert_eq!(resolve("tomorrow"), Err(InvalidArg::Moment));
}
