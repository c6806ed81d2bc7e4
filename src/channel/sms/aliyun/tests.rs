//! What answers and callbacks mean, and how jobs share a request.

use std::sync::Arc;

use super::callback::Desk;
use super::*;
use crate::channel::callback::{Call, Callbacks, Refused};
use crate::channel::http::{HeaderMap, StatusCode, answer};
use crate::channel::{Filled, News};
use crate::domain::event::{Fate, Report};
use crate::domain::job::{Class, Kind};
use crate::domain::recipient::Recipient;
use crate::domain::template::Template;
use crate::domain::time::UnixMicros;

const TOKEN: &str = "a-secret-in-the-path";
const SETTINGS: &str = r#"
[[provider]]
id = "cloud"
kind = "aliyun-sms"
access_key_id = "id"
access_key_secret = "secret"
sign_name = "晨星"
template = "SMS_1"
callback_token = "a-secret-in-the-path"
"#;

fn aliyun() -> Aliyun {
    let loaded = config::parse(Some((std::path::Path::new("test"), SETTINGS)), &[]).unwrap();
    let config::Link::Aliyun(link) = &loaded.settings.providers[0].link else { panic!("aliyun") };
    Aliyun::new(link.clone(), true)
}

fn job(number: &str) -> Handover {
    Handover {
        job: "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11".parse().unwrap(),
        attempt: 1,
        kind: Kind::Sms,
        class: Class::Marketing,
        recipient: Arc::new(Recipient { phone: Some(number.parse().unwrap()), ..Recipient::default() }),
        sender: "".into(),
        content: Content::Text("会员日 \"9折\"".into()),
        params: Vec::new(),
        template: None,
        validity: Duration::from_secs(60),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

/// The same under a stored template that has this id here.
fn under(id: &str, job: Handover) -> Handover {
    let template = Template {
        name: "order".into(),
        version: 1,
        variables: vec![],
        bodies: vec![],
        providers: vec![],
        stored_at: UnixMicros(0),
    };
    let (locale, text) = ("".into(), "".into());
    let filled = Filled { template: Arc::new(template), locale, text, id: Some(id.into()) };
    let params = vec![("order".into(), "A42".into()), ("shop".into(), "Pudong".into())];
    Handover { template: Some(filled), params, ..job }
}

#[test]
fn a_stored_template_goes_under_its_own_code_with_its_variables() {
    let (aliyun, plain) = (aliyun(), job("+8613800000001"));
    let stored = under("SMS_7", job("+8613800000002"));
    let (_, query, _) = aliyun.parameters(std::slice::from_ref(&stored));
    let of = |name: &str| query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!(of("TemplateCode"), Some("SMS_7"));
    assert_eq!(of("TemplateParam"), Some(r#"{"order":"A42","shop":"Pudong"}"#));
    let other = under("SMS_8", job("+8613800000003"));
    let joins = |one: &Handover, another: &Handover| aliyun.joins(std::slice::from_ref(one), another);
    assert!(!joins(&stored, &plain) && !joins(&stored, &other));
    assert!(joins(&stored, &under("SMS_7", job("+8613800000003"))));
}

#[test]
fn a_signatures_code_goes_with_its_jobs() {
    let aliyun = aliyun();
    let own = |number: &str| Handover { extension: Some("01".into()), ..job(number) };
    let jobs = [own("+8613800000001"), own("+8613800000002")];
    let of = |pairs: &[(String, String)], name: &str| {
        pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    };
    let (_, query, _) = aliyun.parameters(&jobs[..1]);
    assert_eq!(of(&query, "SmsUpExtendCode").as_deref(), Some("01"));
    assert_eq!(of(&aliyun.parameters(&[job("+8613800000001")]).1, "SmsUpExtendCode"), None);
    let (_, _, body) = aliyun.parameters(&jobs);
    let body: Vec<_> = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    assert_eq!(of(&body, "SmsUpExtendCodeJson").as_deref(), Some(r#"["01","01"]"#));
    let joins = |one: &Handover, other: &Handover| aliyun.joins(std::slice::from_ref(one), other);
    assert!(joins(&jobs[0], &jobs[1]) && !joins(&jobs[0], &job("+8613800000002")));
}

#[track_caller]
fn means(jobs: &[Handover], status: u16, body: &str, expected: Meaning) {
    let answer = answer(StatusCode::from_u16(status).unwrap(), "application/json", body.to_owned());
    assert_eq!(aliyun().read(jobs, &answer), expected, "{status} {body}");
}

#[test]
fn answers_mean_what_is_documented() {
    let later = |code: &str, secs| {
        Meaning::All(Answer::NotSent { code: code.into(), retry_after: Some(Duration::from_secs(secs)) })
    };
    let (one, two) = ([job("+8613800000001")], [job("+8613800000001"), job("+8613800000002")]);
    let code = |code: &str| format!(r#"{{"Code": "{code}", "Message": "m"}}"#);
    means(&one, 200, &code("isv.MOBILE_NUMBER_ILLEGAL"), Meaning::All(refused("isv.MOBILE_NUMBER_ILLEGAL")));
    means(&two, 200, &code("isv.MOBILE_NUMBER_ILLEGAL"), Meaning::Alone);
    means(&two, 200, &code("isv.BUSINESS_LIMIT_CONTROL"), Meaning::Alone);
    let full = r#"{"Code": "isv.BUSINESS_LIMIT_CONTROL", "Message": "触发小时级流控Permits:5"}"#;
    means(&one, 200, full, later("isv.BUSINESS_LIMIT_CONTROL", 3_600));
    for account in ["isv.AMOUNT_NOT_ENOUGH", "isv.OUT_OF_SERVICE", "SignatureDoesNotMatch"] {
        means(&two, 200, &code(account), Meaning::All(closed(account)));
    }
    let until = |code: &str, opens| Meaning::All(Answer::Closed { code: code.into(), opens });
    means(&two, 200, &code("isv.DAY_LIMIT_CONTROL"), until("isv.DAY_LIMIT_CONTROL", Opens::NextDay { ahead: CHINA }));
    let month = Opens::NextMonth { ahead: CHINA };
    means(&one, 200, &code("isv.MONTH_LIMIT_CONTROL"), until("isv.MONTH_LIMIT_CONTROL", month));
    means(&two, 400, &code("Throttling.User"), Meaning::All(Answer::Throttled { retry_after: None }));
    means(&one, 200, &code("isp.SYSTEM_ERROR"), Meaning::All(Answer::NoAnswer));
    means(&one, 200, r#"{"Code": "OK"}"#, Meaning::All(Answer::NoAnswer));
    means(&one, 503, "<html>", Meaning::All(Answer::NoAnswer));
}

#[test]
fn receipts_of_a_batch_are_told_apart() {
    let (aliyun, jobs) = (aliyun(), [job("+8613800000001"), job("+4915112345678")]);
    let ok = answer(StatusCode::OK, "application/json", r#"{"Code": "OK", "BizId": "9^0"}"#);
    let Meaning::Each(each) = aliyun.read(&jobs, &ok) else { panic!("each") };
    let ids: Vec<_> = each
        .iter()
        .map(|answer| match answer {
            Answer::Taken { message_ids, .. } => message_ids[0].clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    for (number, id) in [("13800000001", &ids[0]), ("8613800000001", &ids[0]), ("4915112345678", &ids[1])] {
        let body = format!(r#"[{{"phone_number": "{number}", "success": true, "biz_id": "9^0", "out_id": ""}}]"#);
        let news = call(TOKEN, &body).unwrap();
        let [News::Receipt(receipt)] = &news[..] else { panic!("a receipt") };
        assert_eq!((&receipt.message_id, receipt.report), (id, Report::Final(Fate::Delivered)));
    }
    assert!(!ids[0].contains("138"), "no number in an id");
    assert!(aliyun.joins(&jobs[..1], &jobs[1]) && !aliyun.joins(&jobs[..1], &jobs[0]));
}

fn call(token: &str, body: &str) -> Result<Vec<News>, Refused> {
    let desk = Desk::new("cloud".parse().unwrap(), config::Secret::new(TOKEN));
    let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
    desk.read(&Call { token, target: "/callback/cloud", headers: &headers, body: &body }, UnixMicros::from_secs(1))
}

#[test]
fn callbacks_read_as_documented() {
    let reply = r#"[{"phone_number": "13800000001", "content": "TD", "dest_code": "10690001", "sequence_id": 1}]"#;
    let news = call(TOKEN, reply).unwrap();
    let [News::Reply(reply)] = &news[..] else { panic!("a reply") };
    assert_eq!((&*reply.from, &*reply.to, &*reply.text), ("+8613800000001", "10690001", "TD"));
    let alone = r#"[{"phone_number": "1", "success": false, "err_code": "MK:0001", "biz_id": "9",
                     "out_id": "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11"}]"#;
    let news = call(TOKEN, alone).unwrap();
    let [News::Receipt(receipt)] = &news[..] else { panic!("a receipt") };
    assert_eq!((receipt.job, &*receipt.code), (Some(job("+8613800000001").job), "MK:0001"));
    assert_eq!(call("another", alone), Err(Refused::Signature));
    assert_eq!(call("", "[]"), Err(Refused::Signature));
    assert_eq!(call(TOKEN, "{"), Err(Refused::Unreadable));
    assert_eq!(call(TOKEN, r#"[{"phone_number": "1"}]"#), Err(Refused::Unreadable));
}

#[test]
fn a_text_is_as_many_segments_as_it_is_billed_for_its_signature_included() {
    let text = |text: String| Handover { content: Content::Text(text.into()), ..job("+8613800000001") };
    // Four characters of signature: 【晨星】.
    for (characters, segments) in [(1, 1), (66, 1), (67, 2), (130, 2), (131, 3)] {
        assert_eq!(aliyun().segments(&text("a".repeat(characters))), segments, "{characters} characters");
    }
    assert_eq!(aliyun().segments(&Handover { sender: "长安大剧院".into(), ..text("a".repeat(66)) }), 2);
}
