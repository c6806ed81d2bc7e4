//! A cloud that the settings describe, against one that nobody has.

use postrider::channel::sms::custom::{Custom, Desk};
use postrider::channel::{Answer, News};
use postrider::config::Link;
use postrider::domain::event::{Fate, Report};
use postrider::simulator::{Behaviour, Fared, Vendor, plain};

use super::service::{Lost, every_job_has_its_outcome};
use crate::support::cloud::{Rig, callback_server, each_code_means, provider, quick, words};
use crate::support::route::handover;

/// The provider of the README, at `endpoint`.
fn settings(endpoint: &str) -> String {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once("id = \"my-cloud\"").expect("a block for a provider that settings describe");
    let (block, _) = rest.split_once("```").unwrap();
    let block = block
        .replace("https://api.example.com", endpoint)
        .replace("secret_file = \"/run/secrets/my-cloud\"", "secret = \"geheim\"")
        .replace(
            "callback_token_file = \"/run/secrets/my-cloud-callbacks\"",
            "callback_token = \"a-secret-in-the-path\"",
        );
    format!("[[provider]]\nid = \"cloud\"{block}\nresponse_timeout = \"3s\"\n")
}

fn vendor(callback: &str) -> Box<dyn Vendor> {
    Box::new(plain::Plain { secret: "geheim".into(), callback: Some(format!("{callback}/a-secret-in-the-path")) })
}

async fn start(behaviour: Behaviour) -> Rig {
    let (server, url) = callback_server().await;
    Rig::start(vendor(&format!("{url}/callback/cloud")), behaviour, server, |address| {
        let settings = provider(&settings(&format!("http://{address}")));
        let Link::Custom(link) = &settings.providers[0].link else { panic!("custom") };
        let desk = Desk::new("cloud".parse().unwrap(), link.callbacks.clone().unwrap());
        (Box::new(Custom::new((**link).clone(), None, true)), Box::new(desk))
    })
    .await
}

#[tokio::test]
async fn a_job_goes_out_and_its_receipt_comes_back() {
    let mut rig = start(quick()).await;
    let job = handover(1, "\"quoted\", {braced} and 你好\n");
    let answers = rig.submit(vec![job.clone()]).await;
    let [Answer::Taken { message_ids, segments: 1, receipt_expected: true }] = &answers[..] else {
        panic!("{answers:?}")
    };
    let (message, _) = rig.simulator.messages().remove(0);
    assert_eq!((&*message.to, &*message.from), ("+491510000001", "10690"));
    assert_eq!((&*message.text, &*message.id), ("\"quoted\", {braced} and 你好\n", &*message_ids[0]));
    let News::Receipt(receipt) = rig.news().await else { panic!("not a receipt") };
    assert_eq!((receipt.job, receipt.report), (Some(job.job), Report::Final(Fate::Delivered)));
    rig.simulator.write("+491510000001", "10690", "STOP");
    let News::Reply(reply) = rig.news().await else { panic!("not a reply") };
    assert_eq!((&*reply.from, &*reply.to, &*reply.text), ("+491510000001", "10690", "STOP"));
    rig.finish().await;
}

#[tokio::test]
async fn answers_are_told_apart() {
    let behaviour = Behaviour { throttled: 0.2, refused: 0.2, not_sent: 0.1, unanswered: 0.2, ..quick() };
    let rig = start(behaviour).await;
    let answers = rig.submit((1..=100).map(|number| handover(number, "hi")).collect()).await;
    let messages = rig.simulator.messages();
    assert_eq!(messages.len(), 100);
    for (number, answer) in (1..=100).zip(&answers) {
        let to = format!("+49151{number:07}");
        let (_, fared) = messages.iter().find(|(message, _)| message.to == to).unwrap();
        match (fared, answer) {
            (Fared::Taken(_), Answer::Taken { .. } | Answer::NoAnswer) => {}
            (Fared::Throttled, Answer::Throttled { .. }) | (Fared::Failed, Answer::NoAnswer) => {}
            (Fared::Refused, Answer::Refused { code }) => assert_eq!(&**code, "blocked"),
            other => panic!("{to}: {other:?}"),
        }
    }
    assert!(words(&answers).contains(&"no_answer"));
    rig.finish().await;
}

#[tokio::test]
async fn every_job_of_a_service_has_its_outcome() {
    every_job_has_its_outcome(vendor, settings, Lost::Found).await;
}

#[test]
fn what_can_never_work_is_found_when_the_settings_are_checked() {
    let good = settings("http://127.0.0.1:1");
    let refused = |from: &str, to: &str, expected: &str| {
        assert!(good.contains(from), "{from}");
        let text = good.replace(from, to);
        let error = postrider::config::parse(Some((std::path::Path::new("test"), &text)), &[]).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error} does not say {expected}");
    };
    refused("{{ text }}", "{{ txt }}", "provider[cloud].body`: knows no `txt`; there is to, digits, text");
    refused("{{ text }}", "{{ text", "provider[cloud].body`");
    refused("{{ text }}", "{{ text|shout }}", "unknown filter");
    refused("body.error", "body.error +", "provider[cloud].code`");
    refused("item.status == \"delivered\"", "itm.status", "knows no `itm`; there is body, query, item");
    refused("a-secret-in-the-path", "short", "16 characters");
    refused("callback_job = \"item.ref\"", "", "provider[cloud].callback_job`");
    refused("http://127.0.0.1:1", "http://example.com", "plain http is for loopback only");
}

#[tokio::test]
async fn each_error_means_what_the_settings_say() {
    let rig = start(quick()).await;
    let codes = [
        ("422:no_such_number", "refused no_such_number"),
        ("400", "refused scripted"),
        ("429:slow_down", "throttled"),
        ("500", "no answer"),
        ("418", "no answer"),
    ];
    each_code_means(&rig, &codes, |number| format!("+49151{number:07}"), |number| handover(number, "hi")).await;
    rig.finish().await;
}
