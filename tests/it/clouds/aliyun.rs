//! Aliyun SMS against its simulator, and both against Aliyun's own library.

use postrider::channel::digest::sha256;
use postrider::channel::sms::aliyun::signature::Signed;
use postrider::channel::sms::aliyun::{Aliyun, callback::Desk};
use postrider::channel::{Answer, Handover, News};
use postrider::config::Link;
use postrider::domain::event::{Fate, Report};
use postrider::simulator::{Behaviour, Fared, Vendor, aliyun};

use super::service::{Lost, every_job_has_its_outcome};
use crate::support::cloud::{Rig, ask_python, callback_server, each_code_means, provider, quick, script, short, words};
use crate::support::route::handover;

const TOKEN: &str = "a-secret-in-the-path";

fn settings(endpoint: &str, secret: &str) -> String {
    format!(
        "[[provider]]\nid = \"cloud\"\nkind = \"aliyun-sms\"\nendpoint = \"{endpoint}\"\naccess_key_id = \"LTAI5t\"\n\
         access_key_secret = \"{secret}\"\nsign_name = \"晨星\"\ntemplate = \"SMS_154950909\"\n\
         callback_token = \"{TOKEN}\"\nresponse_timeout = \"3s\"\n"
    )
}

fn vendor(callback: &str) -> Box<dyn Vendor> {
    Box::new(aliyun::Aliyun {
        access_key_id: "LTAI5t".into(),
        access_key_secret: "geheim".into(),
        callback: Some(format!("{callback}/{TOKEN}")),
        nonces: aliyun::Nonces::default(),
    })
}

async fn start(behaviour: Behaviour, secret: &str) -> Rig {
    let (server, url) = callback_server().await;
    Rig::start(vendor(&format!("{url}/callback/cloud")), behaviour, server, |address| {
        let settings = provider(&settings(&format!("http://{address}"), secret));
        let Link::Aliyun(link) = &settings.providers[0].link else { panic!("aliyun") };
        let desk = Desk::new("cloud".parse().unwrap(), link.callback_token.clone().unwrap());
        (Box::new(Aliyun::new(link.clone(), true)), Box::new(desk))
    })
    .await
}

#[tokio::test]
async fn a_batch_goes_out_and_each_receipt_finds_its_job() {
    let mut rig = start(quick(), "geheim").await;
    let jobs: Vec<Handover> = (1..=150).map(|number| handover(number, "9折 & \"more\"")).collect();
    let answers = rig.submit(jobs).await;
    assert_eq!(words(&answers), vec!["taken"; 150]);
    let messages = rig.simulator.messages();
    let requests: std::collections::BTreeSet<_> = messages.iter().map(|(message, _)| &message.id).collect();
    assert!((2..=4).contains(&requests.len()), "{} requests", requests.len());
    let (message, fared) = &messages[0];
    assert_eq!((&*message.from, &*message.text), ("10690", r#"{"text":"9折 & \"more\""}"#));
    assert_eq!(*fared, Fared::Taken(Fate::Delivered));
    let mut expected: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Taken { message_ids, .. } => message_ids[0].clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    let mut found: Vec<_> = rig
        .news_until_thanked(150)
        .await
        .into_iter()
        .map(|news| match news {
            News::Receipt(receipt) => receipt.message_id,
            other => panic!("not a receipt: {other:?}"),
        })
        .collect();
    expected.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expected);
    rig.finish().await;
}

#[tokio::test]
async fn a_job_alone_carries_its_reference() {
    let mut rig = start(Behaviour { unanswered: 1.0, ..quick() }, "geheim").await;
    let job = handover(1, "hi");
    assert_eq!(rig.submit(vec![job.clone()]).await, [Answer::NoAnswer]);
    let News::Receipt(receipt) = rig.news().await else { panic!("not a receipt") };
    assert_eq!((receipt.job, receipt.report), (Some(job.job), Report::Final(Fate::Delivered)));
    rig.simulator.write("13800000001", "10690001", "TD");
    let News::Reply(reply) = rig.news().await else { panic!("not a reply") };
    assert_eq!((&*reply.from, &*reply.text), ("+8613800000001", "TD"));
    rig.finish().await;
}

#[tokio::test]
async fn a_batch_that_is_refused_for_one_goes_again_job_by_job() {
    // Whether a request is refused is drawn from its first number, so alone most are taken.
    let rig = start(Behaviour { refused: 0.5, ..quick() }, "geheim").await;
    let mut refused = 0;
    for first in (0..10).map(|batch| batch * 10) {
        let answers = rig.submit((first..first + 10).map(|number| handover(number, "hi")).collect()).await;
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Taken { .. } | Answer::Refused { .. })));
        refused += answers.iter().filter(|answer| matches!(answer, Answer::Refused { .. })).count();
    }
    let messages = rig.simulator.messages();
    let taken = messages.iter().filter(|(_, fared)| matches!(fared, Fared::Taken(_))).count();
    assert_eq!(taken, 100 - refused, "each is taken once or refused");
    assert!(refused > 0 && messages.len() > 100, "{refused} refused of {}", messages.len());
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
    // Many small batches, so that some are throttled and some lost.
    let small = |endpoint: &str| settings(endpoint, "geheim") + "batch_max = 3\n";
    every_job_has_its_outcome(vendor, small, Lost::Unknown).await;
}

/// Aliyun's own library signs what we verify, signs as we do, and sends through the simulator.
#[tokio::test]
async fn aliyuns_library_agrees() {
    let rig = start(quick(), "geheim").await;
    let query = [("PhoneNumbers", "13800000001"), ("TemplateParam", "{\"text\":\"你好 & + * ~\"}"), ("OutId", "x/y")];
    let query = query.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let body_hash = sha256(b"a=b");
    let headers = [
        ("content-type", "application/x-www-form-urlencoded"),
        ("host", "dysmsapi.aliyuncs.com"),
        ("x-acs-action", "SendSms"),
        ("x-acs-content-sha256", &*body_hash),
        ("x-acs-date", "2026-01-01T08:00:00Z"),
        ("x-acs-signature-nonce", "5a7ec8b1"),
        ("x-acs-version", "2017-05-25"),
    ];
    let signed = Signed { method: "POST", path: "/", query: &query, headers: &headers, body_hash: &body_hash };
    let asked = serde_json::json!({
        "key": "LTAI5t", "secret": "geheim", "api": rig.simulator.address().to_string(), "body_hash": body_hash,
        "query": query.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
        "headers": headers.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
    });
    let said = ask_python("aliyun", &asked).await;
    assert_eq!(said["authorization"], signed.authorization("LTAI5t", "geheim"));
    assert_eq!((&said["one"]["Code"], &said["batch"]["Code"]), (&"OK".into(), &"OK".into()));
    assert_eq!((&said["signs"]["Code"], &said["signs"]["TotalCount"]), (&"OK".into(), &0.into()));
    assert_eq!(said["wrong"], "SignatureDoesNotMatch");
    let messages = rig.simulator.messages();
    assert_eq!(messages.len(), 3);
    assert_eq!((&*messages[0].0.to, &*messages[2].0.to), ("13800000001", "13800000003"));
    rig.finish().await;
}

#[tokio::test]
async fn each_error_means_what_aliyun_says_and_of_a_batch_only_whom_it_is_about() {
    let rig = start(quick(), "geheim").await;
    let codes = [
        ("isv.MOBILE_NUMBER_ILLEGAL", "refused isv.MOBILE_NUMBER_ILLEGAL"),
        ("isv.BLACK_KEY_CONTROL_LIMIT", "refused isv.BLACK_KEY_CONTROL_LIMIT"),
        ("isv.BUSINESS_LIMIT_CONTROL", "not sent isv.BUSINESS_LIMIT_CONTROL 86400s"),
        ("isv.AMOUNT_NOT_ENOUGH", "closed isv.AMOUNT_NOT_ENOUGH"),
        ("isv.DAY_LIMIT_CONTROL", "closed isv.DAY_LIMIT_CONTROL"),
        ("SignatureDoesNotMatch", "closed SignatureDoesNotMatch"),
        ("Throttling.User", "throttled"),
        ("isp.SYSTEM_ERROR", "no answer"),
        ("ServiceUnavailable", "no answer"),
    ];
    let to = |number| format!("+49151{number:07}");
    each_code_means(&rig, &codes, to, |number| handover(number, "hi")).await;

    rig.simulator.follow(script(&[(to(7), "isv.MOBILE_NUMBER_ILLEGAL")]));
    let answers = rig.submit((0..10).map(|number| handover(number, "hi")).collect()).await;
    let expected = (0..10).map(|number| if number == 7 { "refused isv.MOBILE_NUMBER_ILLEGAL" } else { "taken" });
    assert_eq!(short(&answers), expected.collect::<Vec<_>>());
    rig.finish().await;
}
