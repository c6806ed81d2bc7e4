//! Tencent Cloud SMS against its simulator, and both against Tencent's own library.

use postrider::channel::sms::tencent::signature::Signed;
use postrider::channel::sms::tencent::{Tencent, callback::Desk};
use postrider::channel::{Answer, Handover, News};
use postrider::config::Link;
use postrider::domain::time::UnixMicros;
use postrider::simulator::{Behaviour, Fared, Vendor, tencent};

use super::service::{Lost, every_job_has_its_outcome};
use crate::support::cloud::{Rig, ask_python, callback_server, each_code_means, provider, quick, script, short, words};
use crate::support::route::handover;

const TOKEN: &str = "a-secret-in-the-path";

fn settings(endpoint: &str, secret: &str) -> String {
    format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"tencent-sms\"\nendpoint = \"{endpoint}\"\nsecret_id = \"AKIDz8krb\"\n\
         secret_key = \"{secret}\"\napp_id = \"1400000000\"\nsign_name = \"晨星\"\ntemplate = \"449739\"\n\
         callback_token = \"{TOKEN}\"\nresponse_timeout = \"3s\"\n"
    )
}

fn vendor(callback: &str) -> Box<dyn Vendor> {
    Box::new(tencent::Tencent {
        secret_id: "AKIDz8krb".into(),
        secret_key: "geheim".into(),
        app_id: "1400000000".into(),
        callback: Some(format!("{callback}/{TOKEN}")),
    })
}

async fn start(behaviour: Behaviour, secret: &str) -> Rig {
    let (server, url) = callback_server().await;
    Rig::start(vendor(&format!("{url}/callback/cloud")), behaviour, server, |address| {
        let settings = provider(&settings(&format!("http://{address}"), secret));
        let Link::Tencent(link) = &settings.providers[0].link else { panic!("tencent") };
        let desk = Desk::new("cloud".parse().unwrap(), link.callback_token.clone().unwrap());
        (Box::new(Tencent::new(link.clone(), true)), Box::new(desk))
    })
    .await
}

#[tokio::test]
async fn each_number_of_a_request_has_its_own_answer_and_receipt() {
    let behaviour = Behaviour { throttled: 0.1, refused: 0.2, ..quick() };
    let mut rig = start(behaviour, "geheim").await;
    let jobs: Vec<Handover> = (1..=300).map(|number| handover(number, "9折")).collect();
    let answers = rig.submit(jobs).await;
    let messages = rig.simulator.messages();
    assert_eq!(messages.len(), 300);
    for (number, answer) in (1..=300).zip(&answers) {
        let to = format!("+49151{number:07}");
        let (message, fared) = messages.iter().find(|(message, _)| message.to == to).unwrap();
        match (fared, answer) {
            (Fared::Taken(_), Answer::Taken { message_ids, .. }) => assert_eq!(*message_ids[0], message.id),
            (Fared::Throttled, Answer::Throttled { .. }) => {}
            (Fared::Refused, Answer::Refused { code }) => assert_eq!(&**code, "PhoneNumberInBlacklist"),
            other => panic!("{to}: {other:?}"),
        }
    }
    let taken = messages.iter().filter(|(_, fared)| matches!(fared, Fared::Taken(_))).count();
    let news = rig.news_until_thanked(taken as u64).await;
    assert!(news.iter().all(|news| matches!(news, News::Receipt(_))));
    assert_eq!(news.len(), taken);
    rig.simulator.write("+8613800000001", "晨星", "T");
    let News::Reply(reply) = rig.news().await else { panic!("not a reply") };
    assert_eq!((&*reply.from, &*reply.text), ("+8613800000001", "T"));
    rig.finish().await;
}

#[tokio::test]
async fn a_wrong_secret_costs_no_job_its_chance() {
    let rig = start(quick(), "another").await;
    let answers = rig.submit(vec![handover(1, "hi"), handover(2, "hi")]).await;
    assert_eq!(words(&answers), ["not_sent", "not_sent"]);
    rig.finish().await;
}

#[tokio::test]
async fn every_job_of_a_service_has_its_outcome() {
    // Small requests, so that some answers are lost and most are not.
    let small = |endpoint: &str| settings(endpoint, "geheim") + "batch_max = 3\n";
    every_job_has_its_outcome(vendor, small, Lost::Unknown).await;
}

/// Tencent's own library signs as we do, and sends through the simulator.
#[tokio::test]
async fn tencents_library_agrees() {
    let rig = start(quick(), "geheim").await;
    let headers = [
        ("content-type", "application/json; charset=utf-8"),
        ("host", "sms.tencentcloudapi.com"),
        ("x-tc-action", "sendsms"),
    ];
    let body = "{\"SignName\": \"晨星\"}";
    let signed =
        Signed { service: "sms", headers: &headers, body: body.as_bytes(), at: UnixMicros::from_secs(1_767_225_600) };
    let asked = serde_json::json!({
        "id": "AKIDz8krb", "secret": "geheim", "app": "1400000000", "sign": "晨星",
        "api": rig.simulator.address().to_string(), "body": body, "at": 1_767_225_600, "headers": headers,
    });
    let said = ask_python("tencent", &asked).await;
    assert_eq!(said["signature"], signed.sign("geheim").1);
    assert_eq!(said["codes"], serde_json::json!(["Ok", "Ok"]));
    assert_eq!((&said["wrong"], &said["counted"]), (&"AuthFailure.SignatureFailure".into(), &0.into()));
    let messages = rig.simulator.messages();
    assert_eq!((messages.len(), &*messages[1].0.to), (2, "+8613800000002"));
    rig.finish().await;
}

#[tokio::test]
async fn each_error_means_what_tencent_says_of_a_number_or_of_the_request() {
    let rig = start(quick(), "geheim").await;
    let codes = [
        ("InvalidParameterValue.IncorrectPhoneNumber", "refused IncorrectPhoneNumber"),
        ("LimitExceeded.PhoneNumberThirtySecondLimit", "not sent PhoneNumberThirtySecondLimit 30s"),
        ("LimitExceeded.PhoneNumberDailyLimit", "not sent PhoneNumberDailyLimit 86400s"),
        ("LimitExceeded.AppDailyLimit", "closed AppDailyLimit"),
        ("FailedOperation.InsufficientBalanceInSmsPackage", "closed InsufficientBalanceInSmsPackage"),
        ("AuthFailure.SecretIdNotFound", "closed SecretIdNotFound"),
        ("RequestLimitExceeded", "throttled"),
        ("InternalError", "no answer"),
    ];
    let to = |number| format!("+49151{number:07}");
    each_code_means(&rig, &codes, to, |number| handover(number, "hi")).await;

    let sent = |word: &'static str, other: &'static str| {
        (0..10).map(move |number| if number == 7 { word } else { other }).collect::<Vec<_>>()
    };
    let jobs = || (0..10).map(|number| handover(number, "hi")).collect();
    rig.simulator.follow(script(&[(to(7), "FailedOperation.PhoneNumberInBlacklist")]));
    assert_eq!(short(&rig.submit(jobs()).await), sent("refused PhoneNumberInBlacklist", "taken"));
    rig.simulator.follow(script(&[(to(7), "RequestLimitExceeded")]));
    assert_eq!(short(&rig.submit(jobs()).await), sent("throttled", "throttled"));
    rig.finish().await;
}
