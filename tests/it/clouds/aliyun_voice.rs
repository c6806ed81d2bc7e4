//! Aliyun voice against its simulator, and the simulator against Aliyun's own library.

use std::sync::Arc;

use postrider::channel::call::aliyun::Aliyun;
use postrider::channel::call::aliyun::callback::Desk;
use postrider::channel::{Answer, Filled, Handover, News};
use postrider::config::Link;
use postrider::domain::call::CallResult;
use postrider::domain::event::{Report, State};
use postrider::domain::job::{Content, Kind};
use postrider::domain::template::{Approval, AtProvider, Body, Template};
use postrider::domain::time::UnixMicros;
use postrider::simulator::{Behaviour, Fared, Receipts, Vendor, aliyun, aliyun_voice};

use crate::support::cloud::{Rig, ask_python, callback_server, provider, quick, words};
use crate::support::route;

const TOKEN: &str = "a-secret-in-the-path";

fn settings(endpoint: &str, secret: &str, more: &str) -> String {
    format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"aliyun-voice\"\nendpoint = \"{endpoint}\"\naccess_key_id = \"LTAI5t\"\n\
         access_key_secret = \"{secret}\"\ncallback_token = \"{TOKEN}\"\nresponse_timeout = \"3s\"\n{more}"
    )
}

fn vendor(callback: &str) -> Box<dyn Vendor> {
    Box::new(aliyun_voice::AliyunVoice(aliyun::Aliyun {
        access_key_id: "LTAI5t".into(),
        access_key_secret: "geheim".into(),
        callback: Some(format!("{callback}/{TOKEN}")),
        nonces: aliyun::Nonces::default(),
    }))
}

async fn start(behaviour: Behaviour, secret: &str, more: &str) -> Rig {
    let (server, url) = callback_server().await;
    Rig::start(vendor(&format!("{url}/callback/cloud")), behaviour, server, |address| {
        let settings = provider(&settings(&format!("http://{address}"), secret, more));
        let Link::AliyunVoice(link) = &settings.providers[0].link else { panic!("aliyun voice") };
        let desk = Desk::new("cloud".parse().unwrap(), link.callback_token.clone());
        (Box::new(Aliyun::new((**link).clone())), Box::new(desk))
    })
    .await
}

/// Returns a call to a number that says a stored template, with an id at the cloud or without.
fn call(number: u64, id: Option<&str>) -> Handover {
    let at = id.map(|id| AtProvider {
        provider: "cloud".parse().unwrap(),
        template_id: id.into(),
        approval: Approval::Approved,
    });
    let template = Arc::new(Template {
        name: "order".into(),
        version: 1,
        variables: vec![],
        bodies: vec![Body { call_text: "您的订单已发货".into(), ..Body::default() }],
        providers: at.into_iter().collect(),
        stored_at: UnixMicros(0),
    });
    let text = "您的订单已发货".into();
    let filled = Filled { template, locale: "".into(), text, id: id.map(Into::into) };
    let content = Content::Template {
        name: "order".into(),
        version: 1,
        locale: "".into(),
        signature: "".into(),
        plan: Arc::default(),
    };
    Handover {
        kind: Kind::Call,
        content,
        template: Some(filled),
        params: vec![("order".into(), "A42".into())],
        sender: "".into(),
        ..route::handover(number, "")
    }
}

#[tokio::test]
async fn a_call_goes_out_and_its_reports_come_back() {
    let mut rig =
        start(quick(), "geheim", "show_number = \"02085550100\"\nplay_times = 2\ntemplate = \"TTS_2\"\n").await;
    let answers = rig.submit(vec![call(1, Some("TTS_1"))]).await;
    let [Answer::Taken { message_ids, segments: 1, receipt_expected: true }] = &answers[..] else {
        panic!("not taken: {answers:?}")
    };
    let said = rig.simulator.messages();
    let (message, fared) = &said[0];
    assert_eq!((&*message.text, &*message.from), (r#"{"order":"A42"}"#, "02085550100"));
    assert!(matches!(fared, Fared::Taken(_)) && message.id == *message_ids[0]);
    let News::Receipt(rings) = rig.news().await else { panic!("not a receipt") };
    assert_eq!((&rings.message_id, rings.report), (&message_ids[0], Report::Progress(State::Ringing)));
    let News::CallReceipt(ended, report) = rig.news().await else { panic!("not how a call went") };
    assert_eq!((&ended.message_id, ended.report), (&message_ids[0], Report::Called(CallResult::Completed)));
    assert_eq!((&*report.digits, report.talk.as_secs(), &*report.hung_up_by), ("1", 9, "us"));
    // Without an id of its own, a template's text goes through the account's.
    assert_eq!(words(&rig.submit(vec![call(2, None)]).await), ["taken"]);
    assert_eq!(rig.simulator.messages()[1].0.text, r#"{"text":"您的订单已发货"}"#);
    rig.finish().await;
}

#[tokio::test]
async fn a_robots_call_says_where_its_recording_is() {
    let mut rig = start(quick(), "geheim", "smart = true\nrecord = true\n").await;
    assert_eq!(words(&rig.submit(vec![call(1, Some("TTS_1"))]).await), ["taken"]);
    let News::Receipt(_rings) = rig.news().await else { panic!("not a receipt") };
    let News::CallReceipt(_ended, report) = rig.news().await else { panic!("not how a call went") };
    assert_eq!(&*report.recording, "");
    let News::CallReceipt(receipt, report) = rig.news().await else { panic!("not where a recording is") };
    assert_eq!(receipt.report, Report::Recorded);
    let id = &rig.simulator.messages()[0].0.id;
    assert_eq!(
        (&*receipt.message_id, &*report.recording),
        (&**id, &*format!("http://record.oss.example/{id}.mp3?Expires=1"))
    );
    rig.finish().await;
}

#[tokio::test]
async fn each_result_is_told_by_its_word() {
    let receipts = Receipts { undelivered: 1.0, ..quick().receipts.unwrap() };
    let mut rig = start(Behaviour { receipts: Some(receipts), ..quick() }, "geheim", "smart = true\n").await;
    for (number, expected) in
        [(3, CallResult::Busy), (4, CallResult::NoAnswer), (5, CallResult::InvalidNumber), (6, CallResult::Unreachable)]
    {
        assert_eq!(words(&rig.submit(vec![call(number, Some("TTS_1"))]).await), ["taken"]);
        let News::Receipt(_rings) = rig.news().await else { panic!("not a receipt") };
        let News::CallReceipt(receipt, report) = rig.news().await else { panic!("not how a call went") };
        assert_eq!((receipt.report, report.result), (Report::Called(expected), expected));
    }
    rig.finish().await;
}

#[tokio::test]
async fn what_cannot_go_is_refused_before_it_is_sent() {
    let rig = start(quick(), "geheim", "").await;
    let plain = Handover { template: None, ..call(1, None) };
    let long = Handover { params: vec![("order".into(), "x".repeat(300).into())], ..call(2, Some("TTS_1")) };
    let answers = rig.submit(vec![plain, call(3, None), long]).await;
    let refused = |code: &str| Answer::Refused { code: code.into() };
    let expected = ["not_a_template", "no_template", "text_length"].map(refused);
    assert_eq!(answers, expected);
    assert!(rig.simulator.messages().is_empty());
    rig.finish().await;
}

#[tokio::test]
async fn a_wrong_secret_costs_no_call_its_chance() {
    let rig = start(quick(), "another", "").await;
    assert_eq!(words(&rig.submit(vec![call(1, Some("TTS_1"))]).await), ["not_sent"]);
    rig.finish().await;
}

/// Aliyun's own library calls through the simulator.
#[tokio::test]
async fn aliyuns_library_agrees() {
    let rig = start(quick(), "geheim", "").await;
    let api = rig.simulator.address().to_string();
    let said = ask_python("aliyun_voice", &serde_json::json!({"key": "LTAI5t", "secret": "geheim", "api": api})).await;
    let messages = rig.simulator.messages();
    assert_eq!((&said["one"]["Code"], &said["smart"]["Code"]), (&"OK".into(), &"OK".into()), "{said}");
    assert_eq!(said["one"]["CallId"], messages[0].0.id.as_str());
    assert!(messages[1].0.id.starts_with("000000000117"), "to be recorded");
    assert_eq!((&*messages[0].0.text, &*messages[1].0.to), (r#"{"text": "你好 & + ~"}"#, "13800000002"));
    assert_eq!(said["wrong"], "SignatureDoesNotMatch");
    rig.finish().await;
}
