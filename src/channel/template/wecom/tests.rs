//! What is asked, and what answers and callbacks mean.

use std::time::Duration;

use super::callback::Desk;
use super::*;
use crate::channel::callback::{Call, Callbacks, Refused};
use crate::channel::http::{HeaderMap, StatusCode, answer};
use crate::channel::sms::cloud::closed;
use crate::channel::template::crypt::Crypt;
use crate::channel::template::token::Alone;
use crate::channel::{Filled, News};
use crate::domain::job::{Class, Kind};
use crate::domain::recipient::{Recipient, RecipientKind};
use crate::domain::signal::Told;
use crate::domain::template::Template;
use crate::domain::time::UnixMicros;

const SETTINGS: &str = r#"
[[provider]]
id = "corp"
kind = "wecom"
corp_id = "ww0123456789"
agent_id = 1000002
secret = "secret"
tenant = "acme"
callback_token = "token"
aes_key = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
"#;
const NOW: i64 = 1_767_225_600;

fn settings() -> config::Wecom {
    let loaded = config::parse(Some((std::path::Path::new("test"), SETTINGS)), &[]).unwrap();
    let config::Link::Wecom(link) = &loaded.settings.providers[0].link else { panic!("wecom") };
    link.clone()
}

fn application() -> Wecom {
    Wecom::new(settings(), Arc::new(Alone), &Clock::system())
}

fn job(userid: &str, text: &str) -> Handover {
    let template = Template {
        name: "reminder".into(),
        version: 1,
        variables: vec![],
        bodies: vec![],
        providers: vec![],
        stored_at: UnixMicros(0),
    };
    let (name, signature) = ("reminder".into(), "".into());
    let recipient =
        Recipient { wecom_userid: Some(userid.into()), kind: RecipientKind::Operator, ..Recipient::default() };
    Handover {
        job: "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11".parse().unwrap(),
        attempt: 1,
        kind: Kind::Template,
        class: Class::Notification,
        recipient: Arc::new(recipient),
        sender: "".into(),
        content: Content::Template { name, version: 1, locale: "".into(), signature, plan: Arc::default() },
        params: vec![],
        template: Some(Filled { template: Arc::new(template), locale: "".into(), text: text.into(), id: None }),
        validity: Duration::from_secs(60),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

#[test]
fn those_who_are_told_the_same_share_a_request() {
    let (wecom, zhang) = (application(), job("zhang", "three posts wait"));
    let joins = |other: &Handover| wecom.joins(std::slice::from_ref(&zhang), other);
    assert!(joins(&job("li", "three posts wait")));
    assert!(!joins(&job("li", "two posts wait")) && !joins(&job("Zhang", "three posts wait")));
    let moment = Moment { now: UnixMicros(0), nonce: uuid::Uuid::nil() };
    let request = wecom.request(&[zhang.clone(), job("li", "three posts wait")], moment).unwrap();
    assert_eq!(request.uri(), "/cgi-bin/message/send");
    let said: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    let expected = json!({
        "touser": "zhang|li", "msgtype": "text", "agentid": 1_000_002, "text": {"content": "three posts wait"},
    });
    assert_eq!(said, expected);
    let refused = |job: &Handover| match wecom.check(job) {
        Err(Answer::Refused { code }) => code.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(refused(&zhang), "Ok(())");
    assert_eq!(refused(&job("", "hi")), "no_userid");
    assert_eq!(refused(&job("zhang|li", "hi")), "no_userid");
    assert_eq!(refused(&job("@all", "hi")), "no_userid", "which is everybody");
    assert_eq!(refused(&job("zhang", "")), "no_wecom_text");
    assert_eq!(refused(&job("zhang", &"好".repeat(683))), "text_length");
}

#[track_caller]
fn means(body: &str, users: &[&str], expected: Meaning) {
    let jobs: Vec<_> = users.iter().map(|user| job(user, "hi")).collect();
    let said = answer(StatusCode::OK, "application/json", body.to_owned());
    assert_eq!(application().read(&jobs, &said), expected, "{body}");
}

#[test]
fn each_employee_has_an_answer_of_his_own() {
    let taken = || Answer::Taken { message_ids: vec!["m1".into()], segments: 1, receipt_expected: false };
    let some = r#"{"errcode":0,"errmsg":"ok","invaliduser":"wang|zhao","unlicenseduser":"sun","msgid":"m1"}"#;
    let each = vec![taken(), refused("invaliduser"), refused("unlicenseduser"), taken()];
    means(some, &["li", "Wang", "sun", "zha"], Meaning::Each(each));
    means(r#"{"errcode":81013}"#, &["li", "wang"], Meaning::Alone);
    means(r#"{"errcode":81013}"#, &["li"], Meaning::All(refused("81013")));
    for code in [40_001, 40_014, 42_001] {
        means(&format!(r#"{{"errcode":{code}}}"#), &["li"], Meaning::NotLetIn);
    }
    let minute = Some(Duration::from_secs(60));
    means(r#"{"errcode":45009}"#, &["li", "wang"], Meaning::All(Answer::Throttled { retry_after: minute }));
    means(r#"{"errcode":45033}"#, &["li"], Meaning::All(Answer::Throttled { retry_after: None }));
    means(r#"{"errcode":60020}"#, &["li", "wang"], Meaning::All(closed("60020")));
    // Whom a job names is no matter of the account's.
    means(r#"{"errcode":60011}"#, &["li", "wang"], Meaning::Alone);
    means(r#"{"errcode":60011}"#, &["li"], Meaning::All(refused("60011")));
    means(r#"{"errcode":-1}"#, &["li"], Meaning::All(not_sent("-1")));
    means("<html>", &["li", "wang"], Meaning::All(Answer::NoAnswer));
}

fn crypt(corp_id: &str) -> Crypt {
    Crypt::new(settings().callbacks.unwrap(), corp_id)
}

fn desk() -> Desk {
    Desk::new("corp".parse().unwrap(), &settings(), settings().callbacks.unwrap())
}

fn read(crypt: &Crypt, inner: &str) -> Result<Vec<News>, Refused> {
    let said = format!(
        "<xml><FromUserName>sys</FromUserName><CreateTime>1403610513</CreateTime><MsgType>event</MsgType>{inner}</xml>"
    );
    let encrypted = crypt.seal(said.as_bytes(), [1; 16]);
    let at = NOW.to_string();
    let signature = crypt.sign(&at, "n", Some(&encrypted));
    let target = format!("/callback/corp?timestamp={at}&nonce=n&msg_signature={signature}");
    let body = Bytes::from(format!("<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"));
    desk()
        .read(&Call { token: "", target: &target, headers: &HeaderMap::new(), body: &body }, UnixMicros::from_secs(NOW))
}

/// Returns what an event tells: what, of whom, and its details.
fn told(inner: &str) -> Vec<(Told, String, String)> {
    let signal = |news| match news {
        News::Signal(signal) => {
            assert_eq!((signal.tenant.as_str(), &*signal.to), ("acme", "ww0123456789"));
            let details: Vec<_> = signal.details.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let Recipient { wecom, wecom_chat_id, wecom_userid, .. } = &signal.recipient;
            let person = wecom.as_ref().map(|at| &*at.external_userid);
            let who = [person, wecom_chat_id.as_deref(), wecom_userid.as_deref()].into_iter().flatten();
            (signal.told, who.collect::<Vec<_>>().join("@"), details.join(" "))
        }
        other => panic!("{other:?}"),
    };
    read(&crypt("ww0123456789"), inner).unwrap().into_iter().map(signal).collect()
}

#[test]
fn what_customers_do_is_a_signal() {
    let contact = |change: &str, more: &str| {
        told(&format!(
            "<Event>change_external_contact</Event><ChangeType>{change}</ChangeType><UserID>zhang</UserID>\
             <ExternalUserID>wm1</ExternalUserID>{more}"
        ))
    };
    let added = contact("add_external_contact", "<State>shop-7</State><WelcomeCode>w1</WelcomeCode>");
    let details = "userid=zhang state=shop-7 welcome_code=w1".to_owned();
    assert_eq!(added, [(Told::FriendAdded, "wm1".into(), details)]);
    assert_eq!(
        contact("del_follow_user", ""),
        [(Told::FriendRemoved, "wm1".into(), "userid=zhang by=customer".into())]
    );
    assert_eq!(contact("del_external_contact", "")[0].2, "userid=zhang by=employee");
    assert_eq!(contact("edit_external_contact", ""), []);
    let group = |detail: &str, more: &str| {
        told(&format!(
            "<Event>change_external_chat</Event><ChatId>wr1</ChatId><ChangeType>update</ChangeType>\
             <UpdateDetail>{detail}</UpdateDetail>{more}"
        ))
    };
    let members = "<JoinScene>3</JoinScene><MemChangeCnt>2</MemChangeCnt><MemChangeList><Item>wm1</Item>\
                   <Item>wm2</Item></MemChangeList>";
    let joined = |who: &str| (Told::GroupJoined, who.to_owned(), "scene=3".to_owned());
    assert_eq!(group("add_member", members), [joined("wm1@wr1"), joined("wm2@wr1")]);
    let left = group("del_member", "<QuitScene>0</QuitScene><MemChangeCnt>1</MemChangeCnt>");
    assert_eq!(left, [(Told::GroupLeft, "wr1".into(), "scene=0 members=1".into())]);
    assert_eq!(group("change_name", ""), []);
    let place = told("<Event>LOCATION</Event><Latitude>23.1</Latitude><Longitude>113.3</Longitude>");
    assert_eq!(place, [(Told::Location, "sys".into(), "latitude=23.1 longitude=113.3".into())]);
}

#[test]
fn what_is_another_corporations_says_nothing() {
    assert_eq!(read(&crypt("ww9"), "<Event>x</Event>"), Err(Refused::Signature));
    assert_eq!(read(&crypt("ww0123456789"), "<Event>x</Event>"), Ok(vec![]));
    let nobody = "<Event>change_external_contact</Event><ChangeType>add_external_contact</ChangeType>";
    assert_eq!(read(&crypt("ww0123456789"), nobody), Err(Refused::Unreadable));
    let (crypt, at) = (crypt("ww0123456789"), NOW.to_string());
    let greet = |word: &str| {
        let target = form_urlencoded::Serializer::new("/callback/corp?".to_owned())
            .append_pair("msg_signature", &crypt.sign(&at, "n", Some(word)))
            .append_pair("timestamp", &at)
            .append_pair("nonce", "n")
            .append_pair("echostr", word)
            .finish();
        let call = Call { token: "", target: &target, headers: &HeaderMap::new(), body: &Bytes::new() };
        desk().greet(&call, UnixMicros::from_secs(NOW)).unwrap().map(Response::into_body)
    };
    assert_eq!(greet(&crypt.seal(b"1616140317555161061", [2; 16])), Ok(Bytes::from("1616140317555161061")));
    assert_eq!(greet("in the clear"), Err(Refused::Signature));
}

#[test]
fn a_welcome_has_its_code_and_no_more_than_its_time() {
    let welcome = welcome::Welcome::new(settings(), Arc::new(Alone), &Clock::system());
    let mut job = job("", "Welcome, Li");
    job.validity = Duration::from_secs(20);
    let refused = |job: &Handover| match welcome.check(job) {
        Err(Answer::Refused { code }) => code.to_string(),
        other => format!("{other:?}"),
    };
    assert_eq!(refused(&job), "no_welcome_code");
    job.params = vec![("welcome_code".into(), "CODE".into())];
    assert_eq!(refused(&job), "Ok(())");
    assert_eq!(refused(&Handover { validity: Duration::from_millis(20_001), ..job.clone() }), "expires_too_late");
    assert_eq!(refused(&Handover { template: None, ..job.clone() }), "no_wecom_text");
    let moment = Moment { now: UnixMicros(0), nonce: uuid::Uuid::nil() };
    let request = welcome.request(std::slice::from_ref(&job), moment).unwrap();
    assert_eq!(request.uri(), "/cgi-bin/externalcontact/send_welcome_msg");
    let said: serde_json::Value = serde_json::from_slice(request.body()).unwrap();
    assert_eq!(said, json!({"welcome_code": "CODE", "text": {"content": "Welcome, Li"}}));
    let means = |body: &str| {
        welcome.read(std::slice::from_ref(&job), &answer(StatusCode::OK, "application/json", body.to_owned()))
    };
    let taken = Answer::Taken { message_ids: vec![], segments: 1, receipt_expected: false };
    assert_eq!(means(r#"{"errcode":0}"#), Meaning::All(taken));
    assert_eq!(means(r#"{"errcode":41051}"#), Meaning::All(Answer::Refused { code: "41051".into() }));
    assert_eq!(means(r#"{"errcode":41096}"#), Meaning::All(not_sent("41096")));
    assert_eq!(means(r#"{"errcode":42001}"#), Meaning::NotLetIn);
    assert_eq!(means("<html>"), Meaning::All(Answer::NoAnswer));
}
