//! The SMPP route against a second SMSC that we did not write: PyPI smpp34.

use postrider::channel::sms::smpp::settings::Settings;
use postrider::channel::{Answer, Channel as _, News};
use postrider::domain::event::{Fate, Report};
use serde_json::{Value, json};

use crate::support::route::{Rig, handover, settings};
use crate::support::smsc::Smsc;

fn ids_of(answer: &Answer) -> Vec<String> {
    match answer {
        Answer::Taken { message_ids, .. } => message_ids.iter().map(ToString::to_string).collect(),
        other => panic!("not taken: {other:?}"),
    }
}

/// Returns the receipts that come next, by id.
async fn receipts(rig: &mut Rig, count: usize) -> Vec<(String, Report)> {
    let mut receipts = Vec::new();
    for _ in 0..count {
        let News::Receipt(receipt) = rig.news().await else { panic!("not a receipt") };
        receipts.push((receipt.message_id.to_string(), receipt.report));
    }
    receipts.sort_by(|a, b| a.0.cmp(&b.0));
    receipts
}

#[tokio::test]
async fn texts_go_out_and_their_receipts_come_back() {
    let smsc = Smsc::start_smpp34();
    let mut rig = Rig::start(settings(smsc.port())).await;
    assert_eq!(smsc.wait_for("bind", 1).await[0]["system_id"], "postrider");
    let answers = rig.submit([1, 5, 6, 7].map(|number| handover(number, "hello")).to_vec()).await;
    let refused = Answer::Refused { code: "ESME_RINVDSTADR".into() };
    assert_eq!((&answers[1], &answers[2]), (&refused, &Answer::Throttled { retry_after: None }));
    let submits = smsc.wait_for("submit", 4).await;
    let first = submits.iter().find(|submit| submit["to"] == "491510000001").unwrap();
    assert_eq!((&first["from"], &first["text"], &first["coding"]), (&json!("10690"), &json!("hello"), &json!(0)));
    assert!(first["reference"].is_u64(), "{first}");
    let mut expected = vec![
        (ids_of(&answers[0]).remove(0), Report::Final(Fate::Delivered)),
        (ids_of(&answers[3]).remove(0), Report::Final(Fate::Undelivered)),
    ];
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(receipts(&mut rig, 2).await, expected);
    let thanked = smsc.wait_for("deliver_resp", 2).await;
    assert!(thanked.iter().all(|answer| answer["status"] == 0), "{thanked:?}");
    rig.finish().await;
    smsc.wait_for("unbind", 1).await;
}

#[tokio::test]
async fn long_texts_come_together_again() {
    let smsc = Smsc::start_smpp34();
    let mut rig = Rig::start(Settings { binds: 2.try_into().unwrap(), ..settings(smsc.port()) }).await;
    rig.until(|smpp| smpp.health().window == 200).await;
    let text = format!("{}😀{}", "好".repeat(66), "退订回T".repeat(20));
    let answers = rig.submit(vec![handover(1, &text)]).await;
    let mut parts: Vec<Value> = smsc.wait_for("submit", 3).await;
    parts.sort_by_key(|submit| submit["part"][2].as_u64());
    let shown: Vec<_> = parts.iter().map(|submit| (&submit["part"][1], &submit["coding"], &submit["esm"])).collect();
    assert!(shown.iter().all(|shown| *shown == (&json!(3), &json!(8), &json!(0x40))), "{shown:?}");
    assert!(parts.iter().all(|submit| submit["part"][0] == parts[0]["part"][0]), "one reference");
    assert_eq!(parts.iter().map(|submit| submit["text"].as_str().unwrap()).collect::<String>(), text);
    let mut ids = ids_of(&answers[0]);
    ids.sort();
    let reported: Vec<_> = receipts(&mut rig, 3).await.into_iter().map(|(id, _)| id).collect();
    assert_eq!(reported, ids);
    rig.finish().await;
}

#[tokio::test]
async fn recipients_write_back() {
    let smsc = Smsc::start_smpp34();
    let mut rig = Rig::start(settings(smsc.port())).await;
    smsc.wait_for("bind", 1).await;
    smsc.command("mo 491510000001 10690 退订 STOP");
    let News::Reply(reply) = rig.news().await else { panic!("not a reply") };
    assert_eq!((&*reply.from, &*reply.to, &*reply.text), ("491510000001", "10690", "退订 STOP"));
    assert_eq!(smsc.wait_for("deliver_resp", 1).await[0]["status"], 0);
    rig.finish().await;
}
