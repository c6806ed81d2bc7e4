//! Requests as Twilio documents them, and what its answers and callbacks mean.

use std::sync::Arc;

use super::callback::Desk;
use super::*;
use crate::channel::News;
use crate::channel::callback::{Call, Callbacks, Refused};
use crate::channel::http::{HeaderMap, answer};
use crate::domain::event::{Fate, Report};
use crate::domain::ids::JobId;
use crate::domain::job::{Class, Kind};
use crate::domain::recipient::Recipient;
use crate::domain::time::UnixMicros;

const SETTINGS: &str = r#"
[receive]
public_url = "https://hooks.example.com"
[[provider]]
id = "cloud"
kind = "twilio"
account_sid = "AC0123"
auth_token = "12345"
sender = "+15005550006"
"#;
const JOB: &str = "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11";
const CALLBACK: &str = "https://hooks.example.com/callback/cloud";

fn twilio() -> Twilio {
    let loaded = config::parse(Some((std::path::Path::new("test"), SETTINGS)), &[]).unwrap();
    let config::Link::Twilio(link) = &loaded.settings.providers[0].link else { panic!("twilio") };
    Twilio::new(link, Some(CALLBACK))
}

fn job(sender: &str, text: &str) -> Handover {
    Handover {
        job: JOB.parse().unwrap(),
        attempt: 1,
        kind: Kind::Sms,
        class: Class::Marketing,
        recipient: Arc::new(Recipient { phone: Some("+4915112345678".parse().unwrap()), ..Recipient::default() }),
        sender: sender.into(),
        content: Content::Text(text.into()),
        params: Vec::new(),
        template: None,
        validity: Duration::from_secs(86_400),
        expires_at: UnixMicros::MAX,
        extension: None,
        call: None,
    }
}

fn form(job: Handover) -> Vec<(String, String)> {
    let moment = Moment { now: UnixMicros::from_secs(1), nonce: uuid::Uuid::nil() };
    let request = twilio().request(&[job], moment).unwrap();
    assert_eq!(request.uri(), "/2010-04-01/Accounts/AC0123/Messages.json");
    assert_eq!(request.headers()[header::AUTHORIZATION], "Basic QUMwMTIzOjEyMzQ1");
    form_urlencoded::parse(request.body()).into_owned().collect()
}

#[test]
fn a_job_is_a_form() {
    let callback = format!("{CALLBACK}?job={JOB}");
    let expected = [
        ("To", "+4915112345678"),
        ("From", "+15005550006"),
        ("Body", "50 % & more: 你好"),
        ("ValidityPeriod", "36000"),
        ("StatusCallback", &*callback),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(form(job("", "50 % & more: 你好")), expected);
}

#[test]
fn a_signatures_number_is_where_it_comes_from() {
    let own = Handover { extension: Some("+15005550007".into()), ..job("Acme", "hi") };
    assert_eq!(form(own)[1], ("From".into(), "+15005550007".into()));
}

#[test]
fn a_messaging_service_stands_for_a_sender() {
    let service = "MG0123456789abcdef0123456789abcdef";
    assert_eq!(form(job(service, "hi"))[1], ("MessagingServiceSid".into(), service.into()));
    assert_eq!(form(job("MGM", "hi"))[1], ("From".into(), "MGM".into()));
}

#[test]
fn what_cannot_be_sent_is_refused_before_it_is() {
    let twilio = twilio();
    assert_eq!(twilio.check(&job("", "hi")), Ok(()));
    assert_eq!(twilio.check(&job("", &"x".repeat(1_601))), Err(refused("text_length")));
    assert_eq!(twilio.check(&Handover { recipient: Arc::default(), ..job("", "hi") }), Err(refused("no_phone")));
}

#[track_caller]
fn means(status: u16, body: &str, expected: Answer) {
    let answer = answer(StatusCode::from_u16(status).unwrap(), "application/json", body.to_owned());
    assert_eq!(twilio().read(&[job("", "hi")], &answer), Meaning::All(expected), "{status} {body}");
}

#[test]
fn answers_mean_what_is_documented() {
    let taken = Answer::Taken { message_ids: vec!["SM1".into()], segments: 2, receipt_expected: true };
    means(201, r#"{"sid": "SM1", "status": "queued", "error_code": null, "num_segments": "2"}"#, taken);
    let taken = Answer::Taken { message_ids: vec!["SM1".into()], segments: 1, receipt_expected: true };
    means(201, r#"{"sid": "SM1", "status": "accepted", "num_segments": "0"}"#, taken);
    means(201, r#"{"sid": "SM1", "status": "failed", "error_code": 30007}"#, refused("30007"));
    means(429, r#"{"code": 20429, "status": 429}"#, Answer::Throttled { retry_after: None });
    means(400, r#"{"code": 21611, "status": 400}"#, Answer::Throttled { retry_after: None });
    means(400, r#"{"code": 21610, "status": 400}"#, refused("21610"));
    means(400, r#"{"code": 21211, "status": 400}"#, refused("21211"));
    means(401, r#"{"code": 20003, "status": 401}"#, closed("20003"));
    means(404, r#"{"code": 20404, "status": 404}"#, closed("20404"));
    means(404, "<html>nginx</html>", not_sent("http_404"));
    // Nobody knows what became of these.
    means(500, r#"{"code": 20500, "status": 500}"#, Answer::NoAnswer);
    means(502, "<html>bad gateway</html>", Answer::NoAnswer);
    means(201, "cut o", Answer::NoAnswer);
    means(201, "{}", Answer::NoAnswer);
}

fn call(target: &str, form: &str) -> Result<Vec<News>, Refused> {
    let signature = signature::sign("12345", &format!("https://hooks.example.com{target}"), form.as_bytes());
    call_signed(target, form, &signature)
}

fn call_signed(target: &str, form: &str, signature: &str) -> Result<Vec<News>, Refused> {
    let desk = Desk::new("cloud".parse().unwrap(), "https://hooks.example.com", config::Secret::new("12345"));
    let mut headers = HeaderMap::new();
    headers.insert(signature::HEADER, signature.parse().unwrap());
    let body = Bytes::from(form.to_owned());
    desk.read(&Call { token: "", target, headers: &headers, body: &body }, UnixMicros::from_secs(1))
}

#[test]
fn a_receipt_finds_its_job_by_the_url_or_its_message() {
    let target = format!("/callback/cloud?job={JOB}");
    let form = "MessageSid=SM1&MessageStatus=undelivered&ErrorCode=30003&SmsSid=SM1&SmsStatus=undelivered";
    let news = call(&target, form).unwrap();
    let [News::Receipt(receipt)] = &news[..] else { panic!("a receipt") };
    assert_eq!((receipt.job, &*receipt.message_id), (JOB.parse::<JobId>().ok(), ""));
    assert_eq!((receipt.report, &*receipt.code), (Report::Final(Fate::Undelivered), "30003"));
    for (status, report) in [
        ("queued", Report::Pending),
        ("sent", Report::Pending),
        ("delivered", Report::Final(Fate::Delivered)),
        ("failed", Report::Final(Fate::Undelivered)),
        ("something_new", Report::Pending),
    ] {
        let news = call("/callback/cloud", &format!("MessageSid=SM1&MessageStatus={status}")).unwrap();
        let [News::Receipt(receipt)] = &news[..] else { panic!("a receipt") };
        assert_eq!((receipt.job, &*receipt.message_id, receipt.report), (None, "SM1", report));
    }
}

#[test]
fn a_message_from_a_recipient_is_a_reply() {
    let news =
        call("/callback/cloud", "From=%2B4915112345678&To=%2B15005550006&Body=Stop+%E2%80%A6&SmsStatus=received");
    let Ok([News::Reply(reply)]) = news.as_deref() else { panic!("a reply") };
    assert_eq!((&*reply.from, &*reply.to, &*reply.text), ("+4915112345678", "+15005550006", "Stop …"));
}

#[test]
fn what_twilio_did_not_sign_is_refused() {
    let form = "MessageSid=SM1&MessageStatus=delivered";
    assert_eq!(call_signed("/callback/cloud", form, "AAAA"), Err(Refused::Signature));
    let other = signature::sign("12345", "https://hooks.example.com/callback/cloud", b"MessageSid=SM2");
    assert_eq!(call_signed("/callback/cloud", form, &other), Err(Refused::Signature));
    assert_eq!(call("/callback/cloud?job=7", form), Err(Refused::Unreadable));
    assert_eq!(call("/callback/cloud", "MessageStatus=delivered"), Err(Refused::Unreadable));
    assert_eq!(call("/callback/cloud", "From=x&To=y"), Err(Refused::Unreadable));
}
