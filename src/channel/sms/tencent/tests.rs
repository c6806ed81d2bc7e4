//! What answers and callbacks mean, and which jobs share a request.

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
kind = "tencent-sms"
secret_id = "id"
secret_key = "secret"
app_id = "1400000000"
sign_name = "晨星"
template = "449739"
callback_token = "a-secret-in-the-path"
"#;

fn tencent(more: &str) -> Tencent {
    let text = format!("{SETTINGS}{more}");
    let loaded = config::parse(Some((std::path::Path::new("test"), &text)), &[]).unwrap();
    let config::Link::Tencent(link) = &loaded.settings.providers[0].link else { panic!("tencent") };
    Tencent::new(link.clone(), true)
}

fn job(number: &str, text: &str) -> Handover {
    Handover {
        job: "0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11".parse().unwrap(),
        attempt: 1,
        kind: Kind::Sms,
        class: Class::Marketing,
        recipient: Arc::new(Recipient { phone: Some(number.parse().unwrap()), ..Recipient::default() }),
        sender: "".into(),
        content: Content::Text(text.into()),
        params: vec![("code".into(), "1234".into())],
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
fn a_stored_template_goes_under_its_own_number_with_its_variables_in_order() {
    let tencent = tencent("parameters = [\"code\"]\n");
    let stored = under("77", job("+8613800000001", "a"));
    assert_eq!((tencent.template(&stored), tencent.parameters(&stored)), ("77", Some(vec!["A42", "Pudong"])));
    let joins = |other: &Handover| tencent.joins(std::slice::from_ref(&stored), other);
    assert!(joins(&under("77", job("+8613800000002", "b"))));
    assert!(!joins(&under("78", job("+8613800000002", "a"))) && !joins(&job("+8613800000002", "a")));
}

#[test]
fn each_number_has_its_own_answer() {
    let jobs = [job("+8613800000001", "a"), job("+8613800000002", "a"), job("+8613800000003", "a")];
    let body = r#"{"Response": {"SendStatusSet": [
        {"SerialNo": "", "PhoneNumber": "+8613800000002", "Fee": 0, "Code": "LimitExceeded.PhoneNumberOneHourLimit"},
        {"SerialNo": "7:1", "PhoneNumber": "+8613800000001", "Fee": 2, "Code": "Ok"}]}}"#;
    let answer = answer(StatusCode::OK, "application/json", body);
    let expected = vec![
        Answer::Taken { message_ids: vec!["7:1".into()], segments: 2, receipt_expected: true },
        Answer::NotSent { code: "PhoneNumberOneHourLimit".into(), retry_after: Some(Duration::from_secs(3_600)) },
        Answer::NoAnswer,
    ];
    assert_eq!(tencent("").read(&jobs, &answer), Meaning::Each(expected));
}

#[test]
fn errors_of_a_request_mean_what_is_documented() {
    let (one, two) = ([job("+8613800000001", "a")], [job("+8613800000001", "a"), job("+8613800000002", "a")]);
    let means = |jobs: &[Handover], code: &str| {
        let body = format!(r#"{{"Response": {{"Error": {{"Code": "{code}", "Message": "m"}}}}}}"#);
        tencent("").read(jobs, &answer(StatusCode::OK, "application/json", body))
    };
    assert_eq!(means(&two, "AuthFailure.SignatureFailure"), Meaning::All(closed("SignatureFailure")));
    let arrears = means(&two, "UnauthorizedOperation.ServiceSuspendDueToArrears");
    assert_eq!(arrears, Meaning::All(closed("ServiceSuspendDueToArrears")));
    let day = Answer::Closed { code: "AppDailyLimit".into(), opens: Opens::NextDay { ahead: CHINA } };
    assert_eq!(means(&one, "LimitExceeded.AppDailyLimit"), Meaning::All(day));
    let country = means(&one, "LimitExceeded.AppMainlandChinaDailyLimit");
    assert_eq!(country, Meaning::All(not_sent("AppMainlandChinaDailyLimit")), "numbers elsewhere go on");
    assert_eq!(means(&two, "RequestLimitExceeded"), Meaning::All(Answer::Throttled { retry_after: None }));
    assert_eq!(means(&two, "InvalidParameterValue.IncorrectPhoneNumber"), Meaning::Alone);
    let wrong = means(&one, "InvalidParameterValue.IncorrectPhoneNumber");
    assert_eq!(wrong, Meaning::All(refused("IncorrectPhoneNumber")));
    assert_eq!(means(&one, "InternalError.Timeout"), Meaning::All(Answer::NoAnswer));
}

#[test]
fn only_what_is_alike_shares_a_request() {
    let (tencent, first) = (tencent(""), job("+8613800000001", "a"));
    let joins = |other: &Handover| tencent.joins(std::slice::from_ref(&first), other);
    assert!(joins(&job("+8613800000002", "a")));
    assert!(!joins(&job("+8613800000002", "b")), "another text");
    assert!(!joins(&job("+4915112345678", "a")), "another country");
    assert!(!joins(&first), "the same number");
    let own = Handover { extension: Some("01".into()), ..job("+8613800000002", "a") };
    assert!(!joins(&own), "another number to write back to");
    let moment = Moment { now: UnixMicros::from_secs(1), nonce: uuid::Uuid::nil() };
    let code = |job: Handover| {
        let request = tencent.request(&[job], moment).unwrap();
        serde_json::from_slice::<Value>(request.body()).unwrap()["ExtendCode"].clone()
    };
    assert_eq!((code(own), code(first.clone())), ("01".into(), Value::Null));
    assert!(!joins(&Handover { sender: "other".into(), ..job("+8613800000002", "a") }), "another signature");
}

#[test]
fn parameters_come_from_the_job_where_they_are_named() {
    let tencent = tencent("parameters = [\"code\"]\n");
    assert_eq!(tencent.parameters(&job("+8613800000001", "a")), Some(vec!["1234"]));
    let without = Handover { params: Vec::new(), ..job("+8613800000001", "a") };
    assert_eq!(tencent.check(&without), Err(refused("parameter_missing")));
}

#[test]
fn callbacks_read_as_documented() {
    let desk = Desk::new("cloud".parse().unwrap(), config::Secret::new(TOKEN));
    let call = |token, body: &str| {
        let (headers, body) = (HeaderMap::new(), Bytes::from(body.to_owned()));
        desk.read(&Call { token, target: "/callback/cloud", headers: &headers, body: &body }, UnixMicros::from_secs(1))
    };
    let receipts = r#"[{"user_receive_time": "t", "nationcode": "86", "mobile": "13800000001", "report_status": "FAIL",
                        "errmsg": "MK:0001", "description": "d", "sid": "7:1"}]"#;
    let news = call(TOKEN, receipts).unwrap();
    let [News::Receipt(receipt)] = &news[..] else { panic!("a receipt") };
    assert_eq!((&*receipt.message_id, receipt.report), ("7:1", Report::Final(Fate::Undelivered)));
    let reply = r#"{"extend": "01", "mobile": "13800000001", "nationcode": "86", "sign": "s", "text": "T", "time": 1}"#;
    let news = call(TOKEN, reply).unwrap();
    let [News::Reply(reply)] = &news[..] else { panic!("a reply") };
    assert_eq!((&*reply.from, &*reply.text), ("+8613800000001", "T"));
    assert_eq!(call("another", receipts), Err(Refused::Signature));
    assert_eq!(call(TOKEN, "[{}]"), Err(Refused::Unreadable));
}
