//! The SMPP route against an SMSC that we did not write.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use postrider::channel::sms::smpp::ids::{IdForm, IdForms};
use postrider::channel::sms::smpp::settings::{Backoff, Settings, Tls};
use postrider::channel::{Answer, Channel, News};
use postrider::domain::event::{Fate, Report};
use postrider::telemetry::metrics::LinkEvent;
use tokio::sync::mpsc;

use crate::support::proxy::{Direction, Proxy};
use crate::support::route::{PATIENCE, Rig, handover, settings};
use crate::support::smsc::Smsc;

fn ids_of(answer: &Answer) -> Vec<&str> {
    match answer {
        Answer::Taken { message_ids, .. } => message_ids.iter().map(|id| &**id).collect(),
        other => panic!("not taken: {other:?}"),
    }
}

fn sorted(mut ids: Vec<&str>) -> Vec<&str> {
    ids.sort_unstable();
    ids
}

fn taken(answer: &Answer) -> bool {
    matches!(answer, Answer::Taken { .. })
}

#[tokio::test]
async fn a_job_goes_out_and_its_receipt_comes_back() {
    let smsc = Smsc::start(&["--password", "secret", "--system-id", "postrider"]);
    let mut rig = Rig::start(settings(smsc.port())).await;
    let answers = rig.submit(vec![handover(1, "hello {name} €")]).await;
    let expected = Answer::Taken { message_ids: vec!["00000001".into()], segments: 1, receipt_expected: true };
    assert_eq!(answers, [expected]);
    let submit = smsc.wait_for("submit", 1).await.remove(0);
    assert_eq!(submit["to"], "491510000001");
    assert_eq!(submit["from"], "10690");
    assert_eq!(submit["text"], "hello {name} €");
    assert!(submit["reference"].is_u64());
    let News::Receipt(receipt) = rig.news().await else { panic!("not a receipt") };
    assert_eq!((&*receipt.message_id, receipt.report), ("00000001", Report::Final(Fate::Delivered)));
    assert_eq!(smsc.wait_for("deliver_resp", 1).await[0]["status"], 0);
    rig.finish().await;
    assert_eq!(smsc.wait_for("unbind", 1).await[0]["by"], "esme");
}

#[tokio::test]
async fn throttles_cost_nothing_and_refusals_say_why() {
    let smsc = Smsc::start(&["--throttle-every", "3", "--refuse", "0005=0x0B", "--receipts", "none"]);
    let rig = Rig::start(settings(smsc.port())).await;
    let answers = rig.submit((1..=6).map(|number| handover(number, "hi")).collect()).await;
    let throttled = Answer::Throttled { retry_after: None };
    assert!(taken(&answers[0]) && taken(&answers[1]) && taken(&answers[3]));
    assert_eq!((&answers[2], &answers[5]), (&throttled, &throttled));
    assert_eq!(answers[4], Answer::Refused { code: "ESME_RINVDSTADR".into() });
    rig.finish().await;
}

#[tokio::test]
async fn ids_compare_the_same_in_answers_and_receipts() {
    let smsc = Smsc::start(&["--ids", "hex-decimal", "--first-id", "171", "--receipts", "text"]);
    let ids = IdForms { answer: IdForm::Hex, receipt: IdForm::Decimal };
    let mut rig = Rig::start(Settings { ids, ..settings(smsc.port()) }).await;
    let answers = rig.submit(vec![handover(1, "hi")]).await;
    assert_eq!(ids_of(&answers[0]), ["171"]);
    let News::Receipt(receipt) = rig.news().await else { panic!("not a receipt") };
    assert_eq!(&*receipt.message_id, "171");
    rig.finish().await;
}

#[tokio::test]
async fn receipts_come_early_doubled_and_with_bad_news() {
    let smsc = Smsc::start(&["--receipt-early", "--receipt-double", "--state", "0002=UNDELIV"]);
    let mut rig = Rig::start(settings(smsc.port())).await;
    let answers = rig.submit(vec![handover(1, "hi"), handover(2, "hi")]).await;
    let mut said = Vec::new();
    for _ in 0..4 {
        let News::Receipt(receipt) = rig.news().await else { panic!("not a receipt") };
        said.push((receipt.message_id, receipt.report, receipt.code));
    }
    let delivered = (ids_of(&answers[0])[0].into(), Report::Final(Fate::Delivered), "".into());
    let undelivered = (ids_of(&answers[1])[0].into(), Report::Final(Fate::Undelivered), "UNDELIV:034".into());
    assert_eq!(said, [delivered.clone(), delivered, undelivered.clone(), undelivered]);
    rig.finish().await;
}

#[tokio::test]
async fn long_texts_go_in_segments_on_one_bind() {
    let smsc = Smsc::start(&["--throttle-every", "4"]);
    let mut rig = Rig::start(Settings { binds: NonZeroU32::new(2).unwrap(), ..settings(smsc.port()) }).await;
    rig.until(|smpp| smpp.health().window == 200).await;
    let text = format!("{}😀{}", "好".repeat(66), "退订回T".repeat(20));
    let long = handover(1, &text);
    assert_eq!(rig.smpp.cost(&long), 3);
    let answers = rig.submit(vec![long, handover(2, "x")]).await;
    assert_eq!(ids_of(&answers[0]).len(), 3);
    // The fourth submit was throttled, whichever it was; a segment of the long text is written again a second later.
    let submits = smsc.wait_for("submit", 4).await;
    let segments: Vec<_> =
        submits.iter().filter(|submit| submit["part"].is_object() && submit["status"] == 0).collect();
    assert_eq!(segments.len(), 3);
    assert!(segments.iter().all(|segment| segment["bind"] == segments[0]["bind"] && segment["coding"] == 8));
    assert!(segments.iter().all(|segment| segment["part"]["ref"] == segments[0]["part"]["ref"]));
    let mut parts: Vec<_> = segments.iter().map(|segment| (segment["part"]["number"].as_u64(), segment)).collect();
    parts.sort_by_key(|(number, _)| *number);
    let whole: String = parts.iter().map(|(_, segment)| segment["text"].as_str().unwrap()).collect();
    assert_eq!(whole, text);
    let mut reported = Vec::new();
    for _ in 0..3 {
        let News::Receipt(receipt) = rig.news().await else { panic!("not a receipt") };
        reported.push(receipt.message_id);
    }
    reported.sort();
    assert_eq!(reported.iter().map(|id| &**id).collect::<Vec<_>>(), sorted(ids_of(&answers[0])));
    rig.finish().await;
}

#[tokio::test]
async fn a_segment_refused_after_others_were_taken_leaves_nobody_knowing() {
    let smsc = Smsc::start(&["--refuse-every", "2=0x45"]);
    let rig = Rig::start(settings(smsc.port())).await;
    let answers = rig.submit(vec![handover(1, &"a".repeat(200))]).await;
    assert_eq!(answers, [Answer::NoAnswer]);
    rig.until(|smpp| smpp.noted(LinkEvent::TornJob) == 1).await;
    rig.finish().await;
}

#[tokio::test]
async fn a_throttled_segment_follows_those_that_were_taken() {
    let smsc = Smsc::start(&["--throttle-every", "2"]);
    let rig = Rig::start(settings(smsc.port())).await;
    let answers = rig.submit(vec![handover(1, &"a".repeat(200))]).await;
    assert_eq!(ids_of(&answers[0]), ["00000001", "00000002"]);
    let numbers: Vec<_> =
        smsc.wait_for("submit", 3).await.iter().map(|submit| submit["part"]["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 2]);
    rig.finish().await;
}

#[tokio::test]
async fn replies_come_whole_and_are_answered_when_durable() {
    let smsc = Smsc::start(&["--mo", "0001=STOP", "--receipts", "none", "--retry", "50"]);
    let mut rig = Rig::start(settings(smsc.port())).await;
    rig.submit(vec![handover(1, "hi")]).await;
    // Not durable: the SMSC is asked to say it again, and does.
    drop(rig.clock.timeout(PATIENCE, rig.inbox.recv()).await.expect("news").unwrap());
    let News::Reply(reply) = rig.news().await else { panic!("not a reply") };
    assert_eq!((&*reply.from, &*reply.to, &*reply.text), ("491510000001", "10690", "STOP"));
    let answered: Vec<_> =
        smsc.wait_for("deliver_resp", 2).await.iter().map(|event| event["status"].as_u64().unwrap()).collect();
    assert_eq!(answered, [0x64, 0]);
    smsc.command("long 4917 10690 请不要再发短信给我了谢谢，退订");
    let News::Reply(reply) = rig.news().await else { panic!("not a reply") };
    assert_eq!(&*reply.text, "请不要再发短信给我了谢谢，退订");
    rig.finish().await;
}

#[tokio::test]
async fn silence_is_no_answer_and_a_late_answer_is_nobodys() {
    let smsc = Smsc::start(&["--mute", "0001", "--slow", "0002=700", "--receipts", "none"]);
    let rig = Rig::start(Settings { response_timeout: Duration::from_millis(400), ..settings(smsc.port()) }).await;
    let answers = rig.submit(vec![handover(1, "hi"), handover(2, "hi"), handover(3, "hi")]).await;
    assert_eq!(answers[..2], [Answer::NoAnswer, Answer::NoAnswer]);
    assert!(taken(&answers[2]));
    assert_eq!(rig.smpp.health().in_flight, 0);
    rig.until(|smpp| smpp.noted(LinkEvent::StrayAnswer) == 1).await;
    assert!(taken(&rig.submit(vec![handover(4, "hi")]).await[0]));
    rig.finish().await;
}

#[tokio::test]
async fn what_waits_for_the_window_was_not_sent() {
    let smsc = Smsc::start(&["--mute", "0001"]);
    let two = NonZeroU32::new(2).unwrap();
    let timeout = Duration::from_millis(600);
    let rig = Rig::start(Settings { window: two, response_timeout: timeout, ..settings(smsc.port()) }).await;
    let answers = rig.submit(vec![handover(10_001, "hi"), handover(20_001, "hi"), handover(3, "hi")]).await;
    assert_eq!(answers[2], Answer::Throttled { retry_after: None }, "more than the window was asked for");
    assert_eq!(answers[..2], [Answer::NoAnswer, Answer::NoAnswer]);
    rig.finish().await;
}

#[tokio::test]
async fn a_bind_comes_back_after_an_unbind_and_after_a_cut() {
    let smsc = Smsc::start(&["--unbind-after", "2", "--receipts", "none"]);
    let rig = Rig::start(settings(smsc.port())).await;
    rig.submit(vec![handover(1, "hi"), handover(2, "hi")]).await;
    rig.until(|smpp| smpp.noted(LinkEvent::Bound) == 2).await;
    smsc.command("close");
    rig.until(|smpp| smpp.noted(LinkEvent::Bound) == 3 && smpp.health().up).await;
    assert!(taken(&rig.submit(vec![handover(3, "hi")]).await[0]));
    rig.finish().await;
}

#[tokio::test]
async fn a_cut_leaves_nothing_unsaid() {
    let smsc = Smsc::start(&["--close-after", "50", "--receipts", "none"]);
    let rig = Rig::start(settings(smsc.port())).await;
    let answers = rig.submit((1..=100).map(|number| handover(number, "hi")).collect()).await;
    let sent = smsc.wait_for("submit", 50).await.len();
    let unknown = answers.iter().filter(|answer| **answer == Answer::NoAnswer).count();
    let known = answers.iter().filter(|answer| taken(answer)).count();
    // Whatever the SMSC has seen is taken or in doubt, never "not sent".
    assert!(known + unknown >= sent, "{known} taken, {unknown} unknown, {sent} seen");
    rig.finish().await;
}

#[tokio::test]
async fn refused_binds_are_not_hammered() {
    let smsc = Smsc::start(&["--password", "other"]);
    let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(60) };
    let rig = Rig::start_unbound(Settings { backoff, ..settings(smsc.port()) });
    rig.until(|smpp| smpp.noted(LinkEvent::BindFailed) == 1).await;
    let answers = rig.submit(vec![handover(1, "hi")]).await;
    assert_eq!(answers, [Answer::NotSent { code: "not_connected".into(), retry_after: None }]);
    rig.clock.pause(Duration::from_millis(300)).await;
    assert_eq!(rig.smpp.noted(LinkEvent::BindFailed), 1, "the first pause after a refusal is at least 400 ms");
    rig.until(|smpp| smpp.noted(LinkEvent::BindFailed) == 2).await;
    rig.finish().await;
}

#[tokio::test]
async fn an_orderly_end_waits_for_the_answers() {
    let smsc = Smsc::start(&["--latency", "300", "--receipts", "none"]);
    let rig = Rig::start(settings(smsc.port())).await;
    let (sender, answers) = mpsc::unbounded_channel();
    rig.smpp.submit((1..=10).map(|number| handover(number, "hi")).collect(), sender);
    smsc.wait_for("submit", 10).await;
    let smpp = Arc::clone(&rig.smpp);
    assert_eq!(rig.tasks.finish(&rig.clock, PATIENCE).await, 0);
    assert!(rig.answers(answers, 10).await.iter().all(taken));
    assert_eq!(smsc.wait_for("unbind", 1).await[0]["by"], "esme");
    let (sender, answers) = mpsc::unbounded_channel();
    smpp.submit(vec![handover(11, "hi")], sender);
    assert_eq!(rig.answers(answers, 1).await, [Answer::NotSent { code: "stopping".into(), retry_after: None }]);
}

#[tokio::test]
async fn a_cut_mid_window_never_turns_a_hand_over_into_not_sent() {
    let smsc = Smsc::start(&["--receipts", "none"]);
    let proxy = Proxy::to(smsc.port());
    let rig = Rig::start(Settings { window: NonZeroU32::new(1_000).unwrap(), ..settings(proxy.port()) }).await;
    for round in 0..10_u64 {
        let before = rig.smpp.noted(LinkEvent::Bound);
        // Somewhere inside the hand-overs, or inside the answers.
        match round % 2 {
            0 => proxy.cut_after(Direction::ToServer, 3_001 + 1_777 * round as u32),
            _ => proxy.cut_after(Direction::ToClient, 501 + 377 * round as u32),
        }
        let numbers: Vec<_> = (1..=300).map(|number| round * 1_000 + number).collect();
        let answers = rig.submit(numbers.iter().map(|&number| handover(number, "hi")).collect()).await;
        let not_sent = |answer: &Answer| matches!(answer, Answer::NotSent { .. });
        assert!(answers.iter().any(taken) || answers.contains(&Answer::NoAnswer));
        rig.until(|smpp| smpp.noted(LinkEvent::Bound) > before && smpp.health().up).await;
        // What came over the old connection was said before the new bind.
        smsc.wait_for("bind", before as usize + 1).await;
        let seen: Vec<String> =
            smsc.events("submit").iter().map(|submit| submit["to"].as_str().unwrap().to_owned()).collect();
        for (number, answer) in numbers.iter().zip(&answers).filter(|(_, answer)| not_sent(answer)) {
            assert!(!seen.contains(&format!("49151{number:07}")), "round {round}: {answer:?}, yet the SMSC has it");
        }
    }
    rig.finish().await;
}

#[tokio::test]
async fn links_are_encrypted_when_asked_and_checked() {
    let pki = tempfile::tempdir().unwrap();
    let script = r#"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=test-ca \
            -keyout ca.key -out ca.pem
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=smsc.test -keyout smsc.key -out smsc.csr
        printf 'subjectAltName=DNS:smsc.test\nbasicConstraints=CA:FALSE\n' > ext
        openssl x509 -req -in smsc.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 -extfile ext -out smsc.pem
    "#;
    let made = std::process::Command::new("sh").args(["-ec", script]).current_dir(pki.path()).output().unwrap();
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    let file = |name: &str| pki.path().join(name).to_str().unwrap().to_owned();
    let smsc = Smsc::start(&["--tls-key", &file("smsc.key"), "--tls-cert", &file("smsc.pem")]);
    let tls = Some(Tls::new("smsc.test", Some(&pki.path().join("ca.pem"))).unwrap());
    let mut rig = Rig::start(Settings { tls, ..settings(smsc.port()) }).await;
    let answers = rig.submit((1..=200).map(|number| handover(number, &"好".repeat(100))).collect()).await;
    assert!(answers.iter().take(50).all(taken), "a window of 100 holds 50 texts of two segments");
    assert!(matches!(rig.news().await, News::Receipt(_)));
    rig.finish().await;

    let stranger = Some(Tls::new("other.test", Some(&pki.path().join("ca.pem"))).unwrap());
    let rig = Rig::start_unbound(Settings { tls: stranger, ..settings(smsc.port()) });
    rig.until(|smpp| smpp.noted(LinkEvent::BindFailed) > 0).await;
    assert!(!rig.smpp.health().up);
    rig.finish().await;
}
