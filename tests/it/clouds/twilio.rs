//! Twilio against its simulator.

use std::time::Duration;

use postrider::channel::sms::twilio::callback::Desk;
use postrider::channel::sms::twilio::{Twilio, signature};
use postrider::channel::{Answer, Channel, News};
use postrider::config::{Link, Settings};
use postrider::domain::event::{Fate, Report};
use postrider::simulator::{Behaviour, Fared, Receipts, Replies, twilio};

use super::service::{Lost, every_job_has_its_outcome};
use crate::support::cloud::{Rig, ask_python, callback_server, each_code_means, provider, quick, words};
use crate::support::route::handover;

const ACCOUNT: &str = "AC00112233445566778899aabbccddeeff";
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn settings(endpoint: &str, public_url: &str) -> std::sync::Arc<Settings> {
    provider(&format!(
        "[receive]\npublic_url = \"{public_url}\"\n[[provider]]\nid = \"cloud\"\nkind = \"twilio\"\n\
         endpoint = \"{endpoint}\"\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{TOKEN}\"\nsender = \"+15005550006\"\n"
    ))
}

async fn start(behaviour: Behaviour, token: &str) -> Rig {
    let (server, url) = callback_server().await;
    let inbound = Some(format!("{url}/callback/cloud"));
    let vendor = twilio::Twilio { account_sid: ACCOUNT.into(), auth_token: token.into(), inbound };
    Rig::start(Box::new(vendor), behaviour, server, |address| {
        let settings = settings(&format!("http://{address}"), &url);
        let Link::Twilio(link) = &settings.providers[0].link else { panic!("twilio") };
        let callback = format!("{url}/callback/cloud");
        let desk = Desk::new("cloud".parse().unwrap(), &url, link.auth_token.clone());
        (Box::new(Twilio::new(link, Some(&callback))), Box::new(desk))
    })
    .await
}

#[tokio::test]
async fn a_job_goes_out_and_its_receipt_comes_back() {
    let mut rig = start(quick(), TOKEN).await;
    let job = handover(1, "hello {name} €");
    let answers = rig.submit(vec![job.clone()]).await;
    let [Answer::Taken { message_ids, segments: 1, receipt_expected: true }] = &answers[..] else {
        panic!("not taken: {answers:?}")
    };
    let messages = rig.simulator.messages();
    let [(message, Fared::Taken(Fate::Delivered))] = &messages[..] else { panic!("{messages:?}") };
    assert_eq!((&*message.to, &*message.from, &*message.text), ("+491510000001", "10690", "hello {name} €"));
    assert_eq!(message.id, *message_ids[0]);
    let News::Receipt(receipt) = rig.news().await else { panic!("not a receipt") };
    assert_eq!((receipt.job, receipt.report), (Some(job.job), Report::Final(Fate::Delivered)));
    rig.thanked(1).await;
    rig.finish().await;
}

#[tokio::test]
async fn throttles_refusals_and_lost_answers_are_told_apart() {
    let behaviour = Behaviour { throttled: 0.2, refused: 0.2, not_sent: 0.1, unanswered: 0.2, ..quick() };
    let rig = start(behaviour, TOKEN).await;
    let answers = rig.submit((1..=200).map(|number| handover(number, "hi")).collect()).await;
    let messages = rig.simulator.messages();
    assert_eq!(messages.len(), 200, "nothing is sent twice");
    for (number, answer) in (1..=200).zip(&answers) {
        let to = format!("+49151{number:07}");
        let (_, fared) = messages.iter().find(|(message, _)| message.to == to).unwrap();
        let expected = match (fared, answer) {
            (Fared::Taken(_), Answer::NoAnswer) => "no_answer",
            (Fared::Taken(_), _) => "taken",
            (Fared::Throttled, _) => "throttled",
            (Fared::Refused | Fared::Error(_), _) => "refused",
            // An error of the server's own says nothing.
            (Fared::Failed, _) => "no_answer",
        };
        assert_eq!(words(std::slice::from_ref(answer)), [expected], "{fared:?}");
    }
    for word in ["taken", "throttled", "refused", "no_answer"] {
        assert!(words(&answers).contains(&word), "{word}");
    }
    let slow = answers.iter().find(|answer| matches!(answer, Answer::Throttled { .. }));
    assert_eq!(slow, Some(&Answer::Throttled { retry_after: Some(Duration::from_secs(1)) }));
    assert_eq!(rig.cloud.health().in_flight, 0);
    rig.finish().await;
}

#[tokio::test]
async fn receipts_come_late_doubled_and_before_the_answer() {
    let receipts = Receipts { after: Duration::from_millis(20), doubled: 1.0, early: 0.5, ..Receipts::default() };
    let behaviour = Behaviour { latency: Duration::from_millis(60), receipts: Some(receipts), ..quick() };
    let mut rig = start(behaviour, TOKEN).await;
    let answers = rig.submit((1..=20).map(|number| handover(number, "hi")).collect()).await;
    assert_eq!(words(&answers), vec!["taken"; 20]);
    let news = rig.news_until_thanked(40).await;
    let job = |news: &News| match news {
        News::Receipt(receipt) => receipt.job.unwrap(),
        other => panic!("not a receipt: {other:?}"),
    };
    let jobs: std::collections::BTreeSet<_> = news.iter().map(job).collect();
    // Doubles that are equal byte for byte are thanked for and not taken again, once the first is durable.
    assert!(jobs.len() == 20 && news.len() <= 40, "{} {}", jobs.len(), news.len());
    rig.finish().await;
}

#[tokio::test]
async fn recipients_write_back() {
    let replies = Replies { stop: 1.0, other: 0.0, after: Duration::from_millis(10) };
    let mut rig = start(Behaviour { receipts: None, replies, ..quick() }, TOKEN).await;
    rig.submit(vec![handover(1, "hi")]).await;
    let News::Reply(reply) = rig.news().await else { panic!("not a reply") };
    assert_eq!((&*reply.from, &*reply.to), ("+491510000001", "10690"));
    // What is not durable is said again.
    rig.simulator.write("+491510000002", "+15005550006", "STOP");
    drop(rig.inbound().await);
    let News::Reply(again) = rig.news().await else { panic!("not a reply") };
    assert_eq!(&*again.text, "STOP");
    rig.finish().await;
}

#[tokio::test]
async fn a_wrong_token_costs_no_job_its_chance() {
    let rig = start(quick(), "another").await;
    let answers = rig.submit(vec![handover(1, "hi")]).await;
    assert!(matches!(&answers[..], [Answer::Closed { code, .. }] if **code == *"20003"), "{answers:?}");
    rig.finish().await;
}

#[tokio::test]
async fn where_nobody_listens_nothing_is_sent_and_the_cloud_is_down() {
    let rig = start(quick(), TOKEN).await;
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let settings = settings(&format!("http://{closed}"), "http://127.0.0.1:1");
    let Link::Twilio(link) = &settings.providers[0].link else { panic!("twilio") };
    let cloud = rig.second(&format!("http://{closed}"), Box::new(Twilio::new(link, None)));
    assert!(cloud.health().up);
    let answers = rig.submit_to(&cloud, vec![handover(1, "hi")]).await;
    assert_eq!(answers, [Answer::NotSent { code: "no_connection".into(), retry_after: None }]);
    assert!(!cloud.health().up);
    rig.finish().await;
}

#[test]
fn the_documented_signature_is_ours() {
    let url = "https://mycompany.com/myapp.php?foo=1&bar=2";
    let form = "CallSid=CA1234567890ABCDE&Caller=%2B14158675309&Digits=1234&From=%2B14158675309&To=%2B18005551212";
    assert!(signature::verify("12345", url, form.as_bytes(), "RSOYDt4T1cUTdK1PDd93/VVr8B8="));
}

#[tokio::test]
async fn every_job_of_a_service_has_its_outcome() {
    let vendor = |callback: &str| {
        let inbound = Some(callback.to_owned());
        Box::new(twilio::Twilio { account_sid: ACCOUNT.into(), auth_token: TOKEN.into(), inbound }) as _
    };
    let provider = |endpoint: &str| {
        format!(
            "[[provider]]\nid = \"cloud\"\nkind = \"twilio\"\nendpoint = \"{endpoint}\"\naccount_sid = \"{ACCOUNT}\"\n\
             auth_token = \"{TOKEN}\"\nsender = \"+15005550006\"\nresponse_timeout = \"3s\"\n"
        )
    };
    every_job_has_its_outcome(vendor, provider, Lost::Found).await;
}

/// Twilio's own library signs what we verify, verifies what we sign, and sends through the simulator.
#[tokio::test]
async fn twilios_library_agrees() {
    let rig = start(quick(), TOKEN).await;
    let url = "https://hooks.example.com:8443/callback/cloud?job=0198c9d6-7f3a-7c44-a0de-6d2d3f0c2b11";
    let form = "Body=%E4%BD%A0%E5%A5%BD+%26+%2B&From=%2B4915112345678&To=10690&Empty=";
    let simulator = format!("http://{}", rig.simulator.address());
    let asked = serde_json::json!({
        "account": ACCOUNT, "token": TOKEN, "url": url, "form": form, "api": simulator,
        "signature": signature::sign(TOKEN, url, form.as_bytes()),
        "to": "+4915112345678", "from": "+15005550006", "text": "from the library",
    });
    let said = ask_python("twilio", &asked).await;
    assert_eq!(said["valid"], true, "the library takes our signature");
    let theirs = said["signature"].as_str().unwrap();
    assert!(signature::verify(TOKEN, url, form.as_bytes(), theirs), "we take the library's");
    let (message, _) = rig.simulator.messages().remove(0);
    assert_eq!((&*message.to, &*message.text), ("+4915112345678", "from the library"));
    assert_eq!((&said["sid"], &said["status"]), (&message.id.into(), &"queued".into()));
    assert_eq!((&said["wrong_token"], &said["account"]), (&401.into(), &"active".into()));
    rig.finish().await;
}

#[tokio::test]
async fn each_error_means_what_twilio_says() {
    let rig = start(quick(), TOKEN).await;
    let codes = [
        ("21211", "refused 21211"),
        ("21610", "refused 21610"),
        ("30006", "refused 30006"),
        ("20429", "throttled 1s"),
        ("14107", "throttled"),
        ("20003", "closed 20003"),
        ("20005", "closed 20005"),
        ("20503", "no answer"),
    ];
    each_code_means(&rig, &codes, |number| format!("+49151{number:07}"), |number| handover(number, "hi")).await;
    rig.finish().await;
}
