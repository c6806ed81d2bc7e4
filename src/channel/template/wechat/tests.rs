//! What is asked, and what answers and callbacks mean.

use super::callback::Desk;
use super::*;
use crate::channel::callback::{Call, Callbacks, Refused};
use crate::channel::http::{HeaderMap, StatusCode, answer};
use crate::channel::template::crypt::Crypt;
use crate::channel::template::token::Alone;
use crate::channel::{Filled, News};
use crate::domain::event::{Fate, Report};
use crate::domain::job::Kind;
use crate::domain::recipient::{Recipient, Wechat as At};
use crate::domain::signal::Told;
use crate::domain::template::Template;
use crate::domain::time::UnixMicros;

const SETTINGS: &str = r#"
[[provider]]
id = "shoes"
kind = "wechat"
appid = "wx0123456789"
secret = "secret"
callback_token = "token"
aes_key = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFG"
"#;
const NOW: i64 = 1_767_225_600;

fn settings(more: &str) -> config::Wechat {
    let text = format!("{SETTINGS}{more}");
    let loaded = config::parse(Some((std::path::Path::new("test"), &text)), &[]).unwrap();
    let config::Link::Wechat(link) = &loaded.settings.providers[0].link else { panic!("wechat") };
    link.clone()
}

fn account(more: &str) -> Wechat {
    Wechat::new(settings(more), true, Arc::new(Alone), &Clock::system())
}

fn job() -> Handover {
    let template = Template {
        name: "order".into(),
        version: 1,
        variables: vec![],
        bodies: vec![],
        providers: vec![],
        stored_at: UnixMicros(0),
    };
    let at = |appid: &str, openid: &str| At { appid: appid.into(), openid: openid.into() };
    let wechat = vec![at("wx9", "o-other"), at("wx0123456789", "o-1")];
    let (name, signature) = ("order".into(), "".into());
    Handover {
        job: "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11".parse().unwrap(),
        attempt: 2,
        kind: Kind::Template,
        class: Class::Notification,
        recipient: Arc::new(Recipient { wechat, ..Recipient::default() }),
        sender: "".into(),
        content: Content::Template { name, version: 1, locale: "".into(), signature, plan: Arc::default() },
        params: vec![("thing1".into(), "新鞋".into()), ("character_string2".into(), "A42".into())],
        template: Some(Filled {
            template: Arc::new(template),
            locale: "".into(),
            text: "".into(),
            id: Some("tpl-1".into()),
        }),
        validity: Duration::from_secs(60),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

fn asked(account: &Wechat) -> (String, Value) {
    let moment = Moment { now: UnixMicros(0), nonce: uuid::Uuid::nil() };
    let request = account.request(&[job()], moment).unwrap();
    (request.uri().to_string(), serde_json::from_slice(request.body()).unwrap())
}

#[test]
fn each_way_asks_what_its_documentation_says() {
    let data = json!({"thing1": {"value": "新鞋"}, "character_string2": {"value": "A42"}});
    let plain = json!({"touser": "o-1", "template_id": "tpl-1", "data": data});
    let mut template = plain.clone();
    // The same at every attempt, so that a resend is none.
    template["client_msg_id"] = "0198c9d67f3a7c44a0de6d2d3f0c2b11".into();
    assert_eq!(asked(&account("")), ("/cgi-bin/message/template/send".into(), template));
    let subscribe = account("messages = \"subscribe\"\n");
    assert_eq!(asked(&subscribe), ("/cgi-bin/message/subscribe/bizsend".into(), plain.clone()));
    let mini = account("messages = \"mini_program\"\nendpoint = \"https://example.com/wx\"\n");
    assert_eq!(asked(&mini), ("/wx/cgi-bin/message/subscribe/send".into(), plain));
}

#[test]
fn what_cannot_go_is_refused_before_anything_is_asked() {
    let refused = |change: fn(&mut Handover)| {
        let mut job = job();
        change(&mut job);
        account("").check(&job).map_err(|answer| match answer {
            Answer::Refused { code } => code.to_string(),
            other => format!("{other:?}"),
        })
    };
    assert_eq!(refused(|_| {}), Ok(()));
    assert_eq!(refused(|job| job.content = Content::Text("hi".into())), Err("not_a_template".into()));
    assert_eq!(refused(|job| job.class = Class::Marketing), Err("marketing".into()));
    assert_eq!(refused(|job| job.template = None), Err("template_not_here".into()));
    assert_eq!(refused(|job| job.recipient = Arc::default()), Err("no_openid".into()));
    let mut marketing = job();
    marketing.class = Class::Marketing;
    assert_eq!(account("messages = \"mini_program\"\n").check(&marketing), Ok(()));
}

#[track_caller]
fn means(body: &str, expected: Meaning) {
    let said = answer(StatusCode::OK, "application/json", body.to_owned());
    assert_eq!(account("").read(&[job()], &said), expected, "{body}");
}

#[test]
fn codes_mean_what_they_say() {
    let taken = |ids: &[&str]| {
        let message_ids: Vec<_> = ids.iter().map(|&id| id.into()).collect();
        Meaning::All(Answer::Taken { receipt_expected: !message_ids.is_empty(), message_ids, segments: 1 })
    };
    means(r#"{"errcode":0,"errmsg":"ok","msgid":200228332}"#, taken(&["200228332"]));
    means(r#"{"errcode":0,"errmsg":"ok","msgid":"200228332"}"#, taken(&["200228332"]));
    means(r#"{"errcode":0,"errmsg":"ok"}"#, taken(&[]));
    // The attempt before was taken, and its answer lost.
    means(r#"{"errcode":45065,"errmsg":"clientmsgid exist"}"#, taken(&[]));
    for code in [40_001, 40_014, 42_001] {
        means(&format!(r#"{{"errcode":{code}}}"#), Meaning::NotLetIn);
    }
    let day = Opens::NextDay { ahead: Duration::from_secs(8 * 3_600) };
    means(r#"{"errcode":45009}"#, Meaning::All(Answer::Closed { code: "45009".into(), opens: day }));
    means(r#"{"errcode":45011}"#, Meaning::All(Answer::Throttled { retry_after: None }));
    means(r#"{"errcode":-1}"#, Meaning::All(not_sent("-1")));
    let later = Answer::NotSent { code: "45066".into(), retry_after: Some(Duration::from_secs(60)) };
    means(r#"{"errcode":45066}"#, Meaning::All(later));
    let minute = Opens::After(Duration::from_secs(60));
    means(r#"{"errcode":40164}"#, Meaning::All(Answer::Closed { code: "40164".into(), opens: minute }));
    for code in ["40003", "43004", "43019", "43101", "47003", "12345"] {
        means(&format!(r#"{{"errcode":{code}}}"#), Meaning::All(refused(code)));
    }
    means("<html>", Meaning::All(Answer::NoAnswer));
}

fn crypt(appid: &str) -> Crypt {
    Crypt::new(settings("").callbacks.unwrap(), appid)
}

/// Reads an event, signed now.
fn event(inner: &str) -> Result<Vec<News>, Refused> {
    read(&crypt("wx0123456789"), NOW, &format!("<xml><MsgType>event</MsgType>{inner}</xml>"))
}

fn read(crypt: &Crypt, signed_at: i64, said: &str) -> Result<Vec<News>, Refused> {
    let encrypted = crypt.seal(said.as_bytes(), [1; 16]);
    let at = signed_at.to_string();
    let target =
        format!("/callback/shoes?timestamp={at}&nonce=n&msg_signature={}", crypt.sign(&at, "n", Some(&encrypted)));
    let body = Bytes::from(format!("<xml><Encrypt><![CDATA[{encrypted}]]></Encrypt></xml>"));
    desk()
        .read(&Call { token: "", target: &target, headers: &HeaderMap::new(), body: &body }, UnixMicros::from_secs(NOW))
}

fn desk() -> Desk {
    let account = settings("tenant = \"acme\"\n");
    Desk::new("shoes".parse().unwrap(), &account, account.callbacks.clone().unwrap())
}

#[test]
fn what_became_of_a_message_is_a_receipt() {
    let receipt = |status: &str| {
        let news = event(&format!(
            "<Event><![CDATA[TEMPLATESENDJOBFINISH]]></Event><MsgID>200163836</MsgID><Status><![CDATA[{status}]]></Status>"
        ));
        news.map(|mut news| match news.pop() {
            Some(News::Receipt(receipt)) => (receipt.report, receipt.code.to_string(), receipt.message_id.to_string()),
            other => panic!("{other:?}"),
        })
    };
    let id = || "200163836".to_owned();
    assert_eq!(receipt("success"), Ok((Report::Final(Fate::Delivered), String::new(), id())));
    for block in ["failed:user block", "failed: user block"] {
        assert_eq!(receipt(block), Ok((Report::Final(Fate::Undelivered), "user block".into(), id())));
    }
    assert_eq!(receipt("failed: system failed"), Ok((Report::Final(Fate::Undelivered), "system failed".into(), id())));
    assert_eq!(receipt("maybe"), Err(Refused::Unreadable));
    assert_eq!(event("<Event>TEMPLATESENDJOBFINISH</Event><Status>success</Status>"), Err(Refused::Unreadable));
    assert_eq!(event("<Event>SCAN</Event>"), Ok(vec![]));
}

fn signals(what: &str, inner: &str) -> Vec<(Told, String, uuid::Uuid)> {
    let said = format!(
        "<FromUserName><![CDATA[o-1]]></FromUserName><CreateTime>123456789</CreateTime><Event><![CDATA[{what}]]></Event>{inner}"
    );
    let signal = |news| match news {
        News::Signal(signal) => {
            assert_eq!((signal.tenant.as_str(), &*signal.to), ("acme", "wx0123456789"));
            assert_eq!(&*signal.recipient.wechat[0].openid, "o-1");
            let details: Vec<_> = signal.details.iter().map(|(name, value)| format!("{name}={value}")).collect();
            (signal.told, details.join(" "), signal.id)
        }
        other => panic!("{other:?}"),
    };
    event(&said).unwrap().into_iter().map(signal).collect()
}

#[test]
fn what_users_do_is_a_signal_with_an_id_of_its_own() {
    let told = |what, inner| {
        let said: Vec<_> = signals(what, inner).into_iter().map(|(told, details, _)| (told, details)).collect();
        assert_eq!(signals(what, inner), signals(what, inner), "told twice, it is the same");
        said
    };
    let scene = "<EventKey><![CDATA[qrscene_123]]></EventKey>";
    assert_eq!(told("subscribe", scene), [(Told::Subscribed, "scene=123".into())]);
    assert_eq!(told("subscribe", ""), [(Told::Subscribed, String::new())]);
    assert_eq!(told("unsubscribe", "<EventKey><![CDATA[]]></EventKey>"), [(Told::Unsubscribed, String::new())]);
    let place = "<Latitude>23.137466</Latitude><Longitude>113.352425</Longitude><Precision>119.4</Precision>";
    let at = "latitude=23.137466 longitude=113.352425 precision=119.4".to_owned();
    assert_eq!(told("LOCATION", place), [(Told::Location, at)]);
    let said = |list: &str, items: &[(&str, &str)]| {
        let item = |(id, status): &(&str, &str)| {
            format!("<List><TemplateId>{id}</TemplateId><SubscribeStatusString>{status}</SubscribeStatusString></List>")
        };
        format!("<{list}>{}</{list}>", items.iter().map(item).collect::<String>())
    };
    let popup = said("SubscribeMsgPopupEvent", &[("tpl-1", "accept"), ("tpl-2", "reject")]);
    let both = [
        (Told::PopupAccepted, "template_id=tpl-1 by=popup said_at=123456789".to_owned()),
        (Told::PopupRejected, "template_id=tpl-2 by=popup said_at=123456789".to_owned()),
    ];
    assert_eq!(told("subscribe_msg_popup_event", &popup), both);
    let ids: std::collections::BTreeSet<_> =
        signals("subscribe_msg_popup_event", &popup).into_iter().map(|(.., id)| id).collect();
    assert_eq!(ids.len(), 2);
    let change = said("SubscribeMsgChangeEvent", &[("tpl-1", "reject")]);
    let one = [(Told::PopupRejected, "template_id=tpl-1 by=settings said_at=123456789".to_owned())];
    assert_eq!(told("subscribe_msg_change_event", &change), one);
    let odd = said("SubscribeMsgPopupEvent", &[("tpl-1", "maybe")]);
    let odd = format!("<FromUserName>o</FromUserName><Event>subscribe_msg_popup_event</Event>{odd}");
    assert_eq!(event(&odd), Err(Refused::Unreadable));
    assert_eq!(event("<Event>subscribe</Event>"), Err(Refused::Unreadable), "of nobody");
}

#[test]
fn what_is_not_this_accounts_or_not_now_says_nothing() {
    let wx = crypt("wx0123456789");
    let said = "<xml><MsgType>event</MsgType></xml>";
    assert_eq!(read(&wx, NOW, said), Ok(vec![]));
    assert_eq!(read(&crypt("wx9"), NOW, said), Err(Refused::Signature));
    for late in [-601, 601] {
        assert_eq!(read(&wx, NOW + late, said), Err(Refused::Stale));
    }
    assert_eq!(read(&wx, NOW, "<xml>"), Err(Refused::Unreadable));
    assert_eq!(read(&wx, NOW, "<xml><A/></xml>"), Err(Refused::Unreadable));
    let bomb = "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;'>]><xml><MsgType>&b;</MsgType></xml>";
    assert_eq!(read(&wx, NOW, bomb), Err(Refused::Unreadable));
    assert_eq!(read(&wx, NOW, &format!("<xml>{}</xml>", "<a/>".repeat(2_000))), Err(Refused::Unreadable));
    assert_eq!(read(&wx, NOW, &"<a>".repeat(100_000)), Err(Refused::Unreadable));
}

#[test]
fn a_greeting_is_answered_with_its_own_word_if_it_is_signed() {
    let at = NOW.to_string();
    let greet = |signature: &str| {
        let target =
            format!("/callback/shoes?signature={signature}&timestamp={at}&nonce=n&echostr=5838479218127813673");
        let call = Call { token: "", target: &target, headers: &HeaderMap::new(), body: &Bytes::new() };
        desk().greet(&call, UnixMicros::from_secs(NOW)).unwrap().map(Response::into_body)
    };
    assert_eq!(greet(&crypt("").sign(&at, "n", None)), Ok(Bytes::from("5838479218127813673")));
    assert_eq!(greet("00"), Err(Refused::Signature));
}
